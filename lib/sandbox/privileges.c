/* SPDX-License-Identifier: Apache-2.0 */
/* Ids, capabilities and limits. See capabilities(7), setrlimit(2), prctl(2). */
#include "sandbox/internal.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

enum {
    DEVICE_FDS = 1024, CPU_FDS = 4096, CONTROL_FDS = 8192,  /* RLIMIT_NOFILE */
    JANITOR_FDS = 4,
    THREADS_MAX = 64,                                       /* RLIMIT_NPROC, own user namespace */
};

static int caps_read(struct __user_cap_data_struct caps[2])
{
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    return syscall(SYS_capget, &head, caps) < 0 ? -errno : 0;
}

bool have_capability(unsigned cap)
{
    struct __user_cap_data_struct caps[2];
    return caps_read(caps) == 0 && (caps[cap / 32].effective >> (cap % 32) & 1);
}

/* Lowers soft and hard limit to at most value. */
static int lower_limit(int which, rlim_t value)
{
    struct rlimit limit;

    if (getrlimit(which, &limit) < 0)
        return -errno;
    limit.rlim_max = MIN(limit.rlim_max, value);
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(which, &limit) < 0 ? -errno : 0;
}

int step_limits(const struct sandbox_config *config, bool own_user_ns, char *reason)
{
    static const rlim_t default_fds[] = {
        [SANDBOX_DEVICE] = DEVICE_FDS, [SANDBOX_CPU] = CPU_FDS, [SANDBOX_CONTROL] = CONTROL_FDS,
        [SANDBOX_JANITOR] = JANITOR_FDS,
    };
    rlim_t fds = config->max_fds ? config->max_fds : default_fds[config->role];

    int r = lower_limit(RLIMIT_NOFILE, fds);
    if (r < 0)
        return refuse(reason, r, "cannot limit the number of descriptors");
    if (config->role == SANDBOX_CONTROL)
        return 0;               /* children may want cores, and many processes */

    r = lower_limit(RLIMIT_CORE, 0);
    if (r < 0)
        return refuse(reason, r, "cannot forbid core files");
    /* Elsewhere the limit would count what the same user runs outside too. */
    if (own_user_ns && config->role == SANDBOX_DEVICE)
        r = lower_limit(RLIMIT_NPROC, THREADS_MAX);
    if (r < 0)
        return refuse(reason, r, "cannot limit the number of threads");
    return 0;
}

/* Makes effective what is permitted. */
static int caps_raise(void)
{
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct caps[2];

    int r = caps_read(caps);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < 2; i++)
        caps[i].effective = caps[i].permitted;
    return syscall(SYS_capset, &head, caps) < 0 ? -errno : 0;
}

int step_user_id(const struct sandbox_config *config, char *reason)
{
    /* The step that empties the bounding set comes next and still needs capabilities. */
    prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
    if (setgroups(0, NULL) < 0)
        return refuse(reason, -errno, "cannot give up supplementary groups");
    if (config->has_gid && setresgid(config->gid, config->gid, config->gid) < 0)
        return refuse(reason, -errno, "cannot take group id %u", config->gid);
    if (config->has_uid && setresuid(config->uid, config->uid, config->uid) < 0)
        return refuse(reason, -errno, "cannot take user id %u", config->uid);
    prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
    int r = caps_raise();
    if (r < 0)
        return refuse(reason, r, "cannot keep capabilities for the next step");
    return 0;
}

/* Empties the bounding set but for keep. -EPERM without CAP_SETPCAP. */
static int drop_bounding(uint64_t keep)
{
    for (unsigned cap = 0; cap < 64; cap++) {
        if (keep >> cap & 1)
            continue;
        int there = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
        if (there < 0)
            return 0;           /* past the last one that this kernel knows */
        if (there && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return -errno;
    }
    return 0;
}

int step_capabilities(uint64_t keep, char *reason)
{
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct caps[2];

    int bounding = drop_bounding(keep);
    int r = caps_read(caps);
    if (r < 0)
        return refuse(reason, r, "cannot read capabilities");

    /* A user id of 0 shall mean nothing any more. Needs CAP_SETPCAP; without, there is little to
     * lose, and no-new-privs stands behind it. */
    if (!keep)
        prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
              SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
              SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED, 0, 0, 0);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);

    for (unsigned i = 0; i < 2; i++) {
        caps[i].permitted &= keep >> (32 * i);
        caps[i].effective &= keep >> (32 * i);
        caps[i].inheritable = 0;
    }
    if (syscall(SYS_capset, &head, caps) < 0)
        return refuse(reason, -errno, "cannot give up capabilities");
    /* Who has none and keeps some for children (the control process) has lost nothing. */
    if (bounding < 0 && !keep)
        return refuse(reason, bounding, "held none, but cannot empty the bounding set");
    return 0;
}

int step_dumpable(char *reason)
{
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return refuse(reason, -errno, "cannot become non-dumpable");
    return 0;
}

int step_no_new_privs(char *reason)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return refuse(reason, -errno, "the kernel knows no such thing");
    return 0;
}
