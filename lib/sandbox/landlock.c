/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Landlock, denying all that the running kernel's version of it knows: every access to files by
 * name, TCP bind and connect (ABI 4), abstract sockets and signals to processes outside (ABI 6).
 * See landlock(7). Own definitions: the headers of the build are older than kernels it runs on.
 */
#include "sandbox/internal.h"

#include <errno.h>
#include <sys/syscall.h>

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_restrict_self 446
#endif

struct ruleset_attr { uint64_t fs, net, scoped; };      /* later fields: not set here */

enum {
    CREATE_RULESET_VERSION = 1,
    FS_ABI1 = 0x1fff, FS_REFER = 1 << 13, FS_TRUNCATE = 1 << 14, FS_IOCTL_DEV = 1 << 15,
    NET_BIND_CONNECT = 3, SCOPE_ABSTRACT_UNIX_SIGNAL = 3,
};

/* Fills attr for the ABI and returns how much of it that kernel understands. */
static size_t deny_all(long abi, struct ruleset_attr *attr)
{
    *attr = (struct ruleset_attr){ .fs = FS_ABI1 };
    if (abi >= 2)
        attr->fs |= FS_REFER;
    if (abi >= 3)
        attr->fs |= FS_TRUNCATE;
    if (abi >= 5)
        attr->fs |= FS_IOCTL_DEV;
    if (abi >= 4)
        attr->net = NET_BIND_CONNECT;
    if (abi >= 6)
        attr->scoped = SCOPE_ABSTRACT_UNIX_SIGNAL;
    return abi >= 6 ? sizeof *attr : abi >= 4 ? offsetof(struct ruleset_attr, scoped)
                                              : offsetof(struct ruleset_attr, net);
}

int step_landlock(char *reason)
{
    struct ruleset_attr attr;

    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);
    if (abi < 0)
        return refuse(reason, -errno, "the kernel has no Landlock, or it is switched off");

    size_t size = deny_all(abi, &attr);
    AUTO_FD int fd = syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    if (fd < 0)
        return refuse(reason, -errno, "cannot make a ruleset");
    if (syscall(SYS_landlock_restrict_self, fd, 0) < 0)
        return refuse(reason, -errno, "cannot enforce the ruleset");
    return 0;
}
