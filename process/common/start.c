/* SPDX-License-Identifier: Apache-2.0 */
#include "common/start.h"

#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/syscall.h>

#ifdef __has_feature
#define BUILT_WITH_ASAN __has_feature(address_sanitizer)
#elif defined(__SANITIZE_ADDRESS__)
#define BUILT_WITH_ASAN 1
#else
#define BUILT_WITH_ASAN 0
#endif

#if BUILT_WITH_ASAN
/* At exit the leak checker wants to trace the process, which the closed door forbids. With
 * -sandbox off it can be switched on: ASAN_OPTIONS=detect_leaks=1. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }
#endif

/* A file opened later must not become standard output. */
static int fill_standard_fds(void)
{
    for (;;) {
        int fd = open("/dev/null", O_RDWR);
        if (fd < 0)
            return -errno;
        if (fd > STDERR_FILENO) {
            close(fd);
            return 0;
        }
    }
}

int start_process(const char *name, struct error *err)
{
    log_init(name, LOG_INFO);
    /* An arena per thread costs 64 MiB of address space and some of memory each; our threads hardly
     * allocate. Given a number, glibc does not ask the host for its CPUs either. */
    mallopt(M_ARENA_MAX, 1);
    signal(SIGPIPE, SIG_IGN);
    json_object_seed(0);

    int r = fill_standard_fds();
    return r < 0 ? error_set(err, r, "cannot open /dev/null") : 0;
}

static int close_between(unsigned first, unsigned last)
{
    return first > last || syscall(SYS_close_range, first, last, 0) == 0 ? 0 : -errno;
}

int start_close_strays(const int *keep, unsigned count, struct error *err)
{
    unsigned from = STDERR_FILENO + 1;
    int r = 0;

    for (;;) {                          /* the smallest kept one that has not been passed yet */
        int next = -1;
        for (unsigned i = 0; i < count; i++)
            if (keep[i] >= (int)from && (next < 0 || keep[i] < next))
                next = keep[i];
        if (next < 0)
            break;
        r = close_between(from, next - 1);
        if (r == 0)
            r = fd_set_cloexec(next, true);
        if (r < 0)
            return error_set(err, r, "cannot use descriptor %d", next);
        from = next + 1;
    }
    r = close_between(from, ~0U);
    return r < 0 ? error_set(err, r, "cannot close inherited descriptors") : 0;
}

int start_on_stop(struct loop *loop, signal_fn *cb, void *opaque, struct error *err)
{
    static const int signals[] = { SIGTERM, SIGINT, SIGHUP };

    for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
        int r = loop_on_signal(loop, signals[i], cb, opaque);
        if (r < 0)
            return error_set(err, r, "cannot listen for signal %d", signals[i]);
    }
    return 0;
}

const char *version_text(void) { return BULKHEAD_VERSION; }

void version_numbers(unsigned *major, unsigned *minor, unsigned *micro)
{
    *major = *minor = *micro = 0;
    (void)!sscanf(BULKHEAD_VERSION, "%u.%u.%u", major, minor, micro);
}
