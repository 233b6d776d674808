/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Closing the door (row K1): after a process has opened what it needs, it gives up every way to get
 * more. What the host refuses is not fatal here; it is reported step by step, and the program
 * decides.
 *
 * Order in a program: parse options; open descriptors, rings and listening sockets; sandbox_enter,
 * while there is one thread; only then read what strangers wrote (images, messages) and start
 * threads, which inherit everything.
 */
#ifndef SANDBOX_SANDBOX_H
#define SANDBOX_SANDBOX_H

#include "base/error.h"

#include <sys/types.h>

enum sandbox_role {
    SANDBOX_DEVICE,             /* serves devices: opens nothing, starts nothing */
    SANDBOX_CPU,                /* KVM and guest memory: opens nothing, starts nothing */
    SANDBOX_CONTROL,            /* opens files, starts processes: a short list of calls is denied */
    SANDBOX_JANITOR,            /* waits, and removes the socket files of another process */
};

/* Which back-ends the process holds: each widens the seccomp filter by one policy file. */
enum sandbox_backend {
    SANDBOX_NONE = 0, SANDBOX_BLOCK = 1, SANDBOX_NET = 2, SANDBOX_CHARDEV = 4, SANDBOX_BACKENDS = 8,
};

/* In the order in which they are taken. */
enum sandbox_step {
    SANDBOX_STEP_USER_NS,       /* only where the others need it: without CAP_SYS_ADMIN */
    SANDBOX_STEP_PID_NS,        /* made by the launcher (spawn.h): a process cannot move itself */
    SANDBOX_STEP_LIMITS,        /* core files, descriptors, threads in an own user namespace */
    SANDBOX_STEP_IPC_NS,
    SANDBOX_STEP_UTS_NS,
    SANDBOX_STEP_NETWORK,       /* a network namespace with nothing in it */
    SANDBOX_STEP_MOUNTS,        /* a mount namespace whose root is one empty read-only directory */
    SANDBOX_STEP_USER_ID,       /* when asked for: another uid and gid, no supplementary groups */
    SANDBOX_STEP_CAPABILITIES,  /* none: effective, permitted, inheritable, ambient, bounding */
    SANDBOX_STEP_DUMPABLE,      /* no core, no ptrace by equals */
    SANDBOX_STEP_NO_NEW_PRIVS,
    SANDBOX_STEP_LANDLOCK,      /* denies every file, TCP, and signals to others */
    SANDBOX_STEP_SECCOMP,
    SANDBOX_STEP_COUNT
};

enum sandbox_state {
    SANDBOX_OFF,                /* switched off by the user, or not for this role */
    SANDBOX_DONE,
    SANDBOX_REFUSED,            /* the host does not let us: reason says why */
};

struct sandbox_config {
    enum sandbox_role role;
    unsigned backends;          /* sum of enum sandbox_backend */
    const char *name;           /* for the message of a forbidden call; copied */
    uint32_t off;               /* bit per step (SANDBOX_BIT) that shall not be taken */
    bool has_uid, has_gid;
    uid_t uid;                  /* with has_uid; gid without has_gid is left alone */
    gid_t gid;
    unsigned max_fds;           /* RLIMIT_NOFILE; 0: the role's default */
};

#define SANDBOX_BIT(step) (UINT32_C(1) << (step))

struct sandbox_report {
    struct {
        enum sandbox_state state;
        int code;               /* negative errno when refused */
        char reason[96];        /* "" or why, in words */
    } steps[SANDBOX_STEP_COUNT];
    char policy[48];            /* "device+block" */
};

/*
 * Takes every step that is not off, for this process for good, and fills report. Goes on after a
 * refusal. Fails only on our own misuse: -EBUSY when the process has more than one thread, -EINVAL
 * for a configuration that cannot be.
 *
 * Afterwards a system call that the policy does not list ends the process: one line on standard
 * error names the call, its arguments, the thread and the policy's lines that nearly matched; the
 * process dies of SIGSYS. A thread that blocks SIGSYS dies without the line.
 *
 * SANDBOX_CONTROL takes LIMITS, CAPABILITIES (down to those its children start with), DUMPABLE,
 * NO_NEW_PRIVS and SECCOMP only. Its filter is inherited by what it starts. SANDBOX_JANITOR takes
 * the same, and keeps CAP_DAC_OVERRIDE if it has it.
 */
int sandbox_enter(const struct sandbox_config *config, struct sandbox_report *report,
                  struct error *err) MUST_CHECK;

/* "mounts", "seccomp", … as -sandbox, sandbox-info and messages have it. */
const char *sandbox_step_name(enum sandbox_step step);
/* "done", "refused", "off" */
const char *sandbox_state_name(enum sandbox_state state);

/* True for the steps without which a process that was taken over could reach the host: mounts,
 * network, capabilities, no-new-privs, seccomp. */
bool sandbox_step_essential(enum sandbox_step step);

#endif
