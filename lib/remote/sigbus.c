/* SPDX-License-Identifier: Apache-2.0 */
#include "remote/sigbus.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum { RANGES_MAX = 4096, PAGE = 4096 };

/* A free place has len 0. The handler reads len before and after addr: a place in the middle of a
 * change is of a range that nobody may touch yet, or any more. */
static struct { atomic_uintptr_t addr; atomic_size_t len; } ranges[RANGES_MAX];
static atomic_uint used;                /* places ever used */
static bool installed;

static bool guarded(uintptr_t at)
{
    for (unsigned i = 0; i < atomic_load(&used); i++) {
        size_t len = atomic_load(&ranges[i].len);
        uintptr_t addr = atomic_load(&ranges[i].addr);
        if (len && at >= addr && at - addr < len && atomic_load(&ranges[i].len) == len)
            return true;
    }
    return false;
}

static void on_sigbus(int signo, siginfo_t *info, void *context)
{
    uintptr_t at = (uintptr_t)info->si_addr;
    int saved = errno;

    if (info->si_code == BUS_ADRERR && guarded(at) &&
        mmap((void *)(at & ~(uintptr_t)(PAGE - 1)), PAGE, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED) {
        errno = saved;
        return;                         /* the access is made again */
    }
    signal(SIGBUS, SIG_DFL);            /* and then ends the process, as it should */
}

int sigbus_guard(void *addr, size_t len)
{
    if (!installed) {
        struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER };
        if (sigaction(SIGBUS, &sa, NULL) < 0)
            return -errno;
        installed = true;
    }
    for (unsigned i = 0; i < RANGES_MAX; i++) {
        if (atomic_load(&ranges[i].len))
            continue;
        atomic_store(&ranges[i].addr, (uintptr_t)addr);
        atomic_store(&ranges[i].len, len);
        if (i >= atomic_load(&used))
            atomic_store(&used, i + 1);
        return 0;
    }
    return -ENOSPC;
}

void sigbus_unguard(void *addr)
{
    for (unsigned i = 0; i < atomic_load(&used); i++)
        if (atomic_load(&ranges[i].len) && atomic_load(&ranges[i].addr) == (uintptr_t)addr) {
            atomic_store(&ranges[i].len, 0);
            return;
        }
}
