/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Namespaces: user, ipc, uts, network by unshare, and a mount namespace whose root is an empty
 * directory that cannot be written. See user_namespaces(7), mount_namespaces(7), pivot_root(2).
 */
#include "sandbox/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>

static int write_text(const char *path, const char *text)
{
    AUTO_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static int write_map(const char *path, unsigned id)
{
    char line[48];

    snprintf(line, sizeof line, "%u %u 1\n", id, id);
    return write_text(path, line);
}

static int write_maps(unsigned uid, unsigned gid)
{
    int r = write_map("/proc/self/uid_map", uid);
    if (r < 0)
        return r;
    /* An unprivileged writer of gid_map has to give up setgroups first (Linux 3.19). */
    r = write_text("/proc/self/setgroups", "deny");
    if (r < 0 && r != -ENOENT)
        return r;
    return write_map("/proc/self/gid_map", gid);
}

int step_user_ns(char *reason)
{
    unsigned uid = geteuid(), gid = getegid();

    if (unshare(CLONE_NEWUSER) < 0)
        return refuse(reason, -errno, "the host allows no user namespace here");

    /* Without a map everything below works all the same; the process only looks like nobody. */
    int r = write_maps(uid, gid);
    if (r < 0)
        snprintf(reason, REASON_MAX, "without an id map: %s", strerror(-r));
    return 0;
}

int step_unshare(int flag, char *reason)
{
    if (unshare(flag) < 0)
        return refuse(reason, -errno, "the host allows no such namespace here");
    return 0;
}

int step_mounts(char *reason)
{
    /* A mount point is wanted for a moment only; which directory it is does not matter. */
    static const char *const places[] = { "/tmp", "/proc", "/dev", "/run", "/mnt" };
    const char *place = NULL;

    if (unshare(CLONE_NEWNS) < 0)
        return refuse(reason, -errno, "the host allows no mount namespace here");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return refuse(reason, -errno, "cannot make mounts private");

    for (size_t i = 0; i < ARRAY_SIZE(places) && !place; i++)
        if (mount("none", places[i], "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY,
                  "size=4k,nr_inodes=1,mode=555") == 0)
            place = places[i];
    if (!place)
        return refuse(reason, -errno, "cannot mount an empty directory");

    /* With both arguments the same the old root ends up on top of the new one, to be detached. */
    if (chdir(place) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
        return refuse(reason, -errno, "cannot change the root directory");
    if (umount2(".", MNT_DETACH) < 0)
        return refuse(reason, -errno, "cannot let go of the old root directory");
    if (chdir("/") < 0)
        return refuse(reason, -errno, "cannot enter the empty root directory");
    return 0;
}
