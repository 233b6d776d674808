/* SPDX-License-Identifier: Apache-2.0 */
/* The order of the steps and the report on them. */
#include "sandbox/internal.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char *const step_names[SANDBOX_STEP_COUNT] = {
    [SANDBOX_STEP_USER_NS] = "user-namespace",
    [SANDBOX_STEP_PID_NS] = "pid-namespace",
    [SANDBOX_STEP_LIMITS] = "limits",
    [SANDBOX_STEP_IPC_NS] = "ipc-namespace",
    [SANDBOX_STEP_UTS_NS] = "uts-namespace",
    [SANDBOX_STEP_NETWORK] = "network",
    [SANDBOX_STEP_MOUNTS] = "mounts",
    [SANDBOX_STEP_USER_ID] = "user-id",
    [SANDBOX_STEP_CAPABILITIES] = "capabilities",
    [SANDBOX_STEP_DUMPABLE] = "dumpable",
    [SANDBOX_STEP_NO_NEW_PRIVS] = "no-new-privs",
    [SANDBOX_STEP_LANDLOCK] = "landlock",
    [SANDBOX_STEP_SECCOMP] = "seccomp",
};

enum {
    /* For who has to stay outside. */
    OUTSIDE_STEPS = SANDBOX_BIT(SANDBOX_STEP_LIMITS) | SANDBOX_BIT(SANDBOX_STEP_CAPABILITIES) |
                    SANDBOX_BIT(SANDBOX_STEP_DUMPABLE) | SANDBOX_BIT(SANDBOX_STEP_NO_NEW_PRIVS) |
                    SANDBOX_BIT(SANDBOX_STEP_SECCOMP),
    NEED_ADMIN = SANDBOX_BIT(SANDBOX_STEP_IPC_NS) | SANDBOX_BIT(SANDBOX_STEP_UTS_NS) |
                 SANDBOX_BIT(SANDBOX_STEP_NETWORK) | SANDBOX_BIT(SANDBOX_STEP_MOUNTS),
};

/* What the control process keeps, if it has it: to open images and taps, and to give to children,
 * which close their own doors. */
#define CAP_BIT(cap) (UINT64_C(1) << (cap))
#define CONTROL_CAPS (CAP_BIT(CAP_SYS_ADMIN) | CAP_BIT(CAP_SETUID) | CAP_BIT(CAP_SETGID) | \
                      CAP_BIT(CAP_SETPCAP) | CAP_BIT(CAP_KILL) | CAP_BIT(CAP_DAC_OVERRIDE) | \
                      CAP_BIT(CAP_DAC_READ_SEARCH) | CAP_BIT(CAP_FOWNER) | CAP_BIT(CAP_CHOWN) | \
                      CAP_BIT(CAP_IPC_LOCK) | CAP_BIT(CAP_NET_ADMIN))

const char *sandbox_step_name(enum sandbox_step step) { return step_names[step]; }

const char *sandbox_state_name(enum sandbox_state state)
{
    return state == SANDBOX_DONE ? "done" : state == SANDBOX_REFUSED ? "refused" : "off";
}

bool sandbox_step_essential(enum sandbox_step step)
{
    return step == SANDBOX_STEP_MOUNTS || step == SANDBOX_STEP_NETWORK ||
           step == SANDBOX_STEP_CAPABILITIES || step == SANDBOX_STEP_NO_NEW_PRIVS ||
           step == SANDBOX_STEP_SECCOMP;
}

int refuse(char *reason, int code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(reason, REASON_MAX, fmt, ap);
    va_end(ap);
    if (n >= 0 && n < REASON_MAX)
        snprintf(reason + n, REASON_MAX - n, ": %s", strerror(-code));
    return code;
}

static int step_pid_ns(char *reason)
{
    if (getpid() == 1)
        return 0;
    snprintf(reason, REASON_MAX, "only who starts the process can give it one");
    return -EPERM;
}

static uint64_t caps_kept(enum sandbox_role role)
{
    return role == SANDBOX_CONTROL ? CONTROL_CAPS
         : role == SANDBOX_JANITOR ? CAP_BIT(CAP_DAC_OVERRIDE) : 0;
}

static int take(enum sandbox_step step, const struct sandbox_config *config,
                struct sandbox_report *report)
{
    char *reason = report->steps[step].reason;
    bool own_user_ns = report->steps[SANDBOX_STEP_USER_NS].state == SANDBOX_DONE;

    switch (step) {
    case SANDBOX_STEP_USER_NS: return step_user_ns(reason);
    case SANDBOX_STEP_PID_NS: return step_pid_ns(reason);
    case SANDBOX_STEP_LIMITS: return step_limits(config, own_user_ns, reason);
    case SANDBOX_STEP_IPC_NS: return step_unshare(CLONE_NEWIPC, reason);
    case SANDBOX_STEP_UTS_NS: return step_unshare(CLONE_NEWUTS, reason);
    case SANDBOX_STEP_NETWORK: return step_unshare(CLONE_NEWNET, reason);
    case SANDBOX_STEP_MOUNTS: return step_mounts(reason);
    case SANDBOX_STEP_USER_ID: return step_user_id(config, reason);
    case SANDBOX_STEP_CAPABILITIES:
        return step_capabilities(caps_kept(config->role), reason);
    case SANDBOX_STEP_DUMPABLE: return step_dumpable(reason);
    case SANDBOX_STEP_NO_NEW_PRIVS: return step_no_new_privs(reason);
    case SANDBOX_STEP_LANDLOCK: return step_landlock(reason);
    case SANDBOX_STEP_SECCOMP:
        return step_seccomp(config, report->policy, sizeof report->policy, reason);
    case SANDBOX_STEP_COUNT: break;
    }
    return -EINVAL;
}

/* Steps that make no sense for this process, beside those the user switched off. */
static uint32_t steps_off(const struct sandbox_config *config)
{
    uint32_t off = config->off;

    if (config->role == SANDBOX_CONTROL || config->role == SANDBOX_JANITOR)
        off |= ~(uint32_t)OUTSIDE_STEPS;
    if (!config->has_uid && !config->has_gid)
        off |= SANDBOX_BIT(SANDBOX_STEP_USER_ID);
    if ((off & NEED_ADMIN) == NEED_ADMIN || have_capability(CAP_SYS_ADMIN))
        off |= SANDBOX_BIT(SANDBOX_STEP_USER_NS);
    return off;
}

/* Threads of this process; 1 where /proc is not there to ask. */
static unsigned thread_count(void)
{
    struct stat st;
    return stat("/proc/self/task", &st) < 0 || st.st_nlink < 3 ? 1 : st.st_nlink - 2;
}

int sandbox_enter(const struct sandbox_config *config, struct sandbox_report *report,
                  struct error *err)
{
    *report = (struct sandbox_report){ .policy = "" };
    if (config->role > SANDBOX_JANITOR || config->backends >= SANDBOX_BACKENDS)
        return error_set(err, -EINVAL, "no such sandbox");
    if (thread_count() > 1)
        return error_set(err, -EBUSY, "cannot close the sandbox around running threads");

    uint32_t off = steps_off(config);
    for (enum sandbox_step step = 0; step < SANDBOX_STEP_COUNT; step++) {
        if (off & SANDBOX_BIT(step))
            continue;
        int r = take(step, config, report);
        report->steps[step].state = r < 0 ? SANDBOX_REFUSED : SANDBOX_DONE;
        report->steps[step].code = r;
    }
    return 0;
}
