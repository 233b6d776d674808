/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clone3 without sharing memory, so that the child may do what vfork forbids; between clone and
 * exec only system calls are made, for another thread may have held any lock. See clone(2).
 */
#include "sandbox/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "sandbox/internal.h"

/* What the child tells before it becomes the program, or dies. */
struct trouble { int code; enum { AT_MAP, AT_FDS, AT_EXEC } stage; };

struct maps { char uid[48], gid[48]; }; /* lines, formatted before the clone */

static int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = write(fd, text, strlen(text)) < 0 ? -errno : 0;
    close(fd);
    return r;
}

static int child_map_ids(const struct maps *maps)
{
    /* The launcher is not dumpable, and then its /proc files are root's. exec undoes this. */
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    int r = write_file("/proc/self/uid_map", maps->uid);
    if (r == 0)
        r = write_file("/proc/self/setgroups", "deny");
    return r < 0 ? r : write_file("/proc/self/gid_map", maps->gid);
}

/* Two passes, by numbers above all targets, since a target may be another one's source. */
static int child_place_fds(const struct spawn *spawn, int *pipe_fd)
{
    int above[SPAWN_FDS_MAX], first_free = 3;

    for (unsigned i = 0; i < spawn->nfds; i++)
        first_free = MAX(first_free, spawn->fds[i].as + 1);
    int moved = fcntl(*pipe_fd, F_DUPFD_CLOEXEC, first_free);
    if (moved < 0)
        return -errno;
    *pipe_fd = moved;
    for (unsigned i = 0; i < spawn->nfds; i++) {
        above[i] = fcntl(spawn->fds[i].fd, F_DUPFD_CLOEXEC, first_free);
        if (above[i] < 0)
            return -errno;
    }
    if (syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
        return -errno;
    for (unsigned i = 0; i < spawn->nfds; i++)
        if (dup2(above[i], spawn->fds[i].as) < 0)
            return -errno;
    return 0;
}

static void child_reset_signals(void)
{
    sigset_t none;

    for (int signo = 1; signo < NSIG; signo++)
        signal(signo, SIG_DFL);         /* fails for some; those cannot have been changed */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void child(const struct spawn *spawn, const struct maps *maps, int pipe_fd)
{
    static char *const empty[] = { (char *)"PATH=/usr/local/bin:/usr/bin:/bin", NULL };
    struct trouble trouble = { .stage = AT_MAP };

    child_reset_signals();
    trouble.code = maps ? child_map_ids(maps) : 0;
    if (trouble.code == 0) {
        trouble.stage = AT_FDS;
        trouble.code = child_place_fds(spawn, &pipe_fd);
    }
    if (trouble.code == 0) {
        if (spawn->new_session)
            setsid();
        if (spawn->death_signal)
            prctl(PR_SET_PDEATHSIG, spawn->death_signal);
        trouble.stage = AT_EXEC;
        execve(spawn->path, spawn->argv, spawn->envp ? spawn->envp : empty);
        trouble.code = -errno;
    }
    ssize_t r = write(pipe_fd, &trouble, sizeof trouble);
    (void)r;
    _exit(127);
}

/* One attempt, with flags (CLONE_NEW…). -errno with trouble->stage AT_MAP: try with fewer. */
static int attempt(const struct spawn *spawn, uint64_t flags, pid_t *ret_pid, int *ret_pidfd,
                   struct trouble *trouble)
{
    struct maps maps;
    int pipe_fds[2], pidfd = -1;

    *trouble = (struct trouble){ .stage = AT_MAP };
    snprintf(maps.uid, sizeof maps.uid, "%u %u 1\n", geteuid(), geteuid());
    snprintf(maps.gid, sizeof maps.gid, "%u %u 1\n", getegid(), getegid());
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return -errno;

    struct clone_args args = {
        .flags = flags | CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd, .exit_signal = SIGCHLD,
    };
    pid_t pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0)
        child(spawn, flags & CLONE_NEWUSER ? &maps : NULL, pipe_fds[1]);
    int r = pid < 0 ? -errno : 0;
    close(pipe_fds[1]);

    ssize_t n = 0;
    if (r == 0)
        do
            n = read(pipe_fds[0], trouble, sizeof *trouble);
        while (n < 0 && errno == EINTR);
    close(pipe_fds[0]);
    if (r < 0)
        return r;
    if (n == sizeof *trouble) {
        close(pidfd);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        return trouble->code;
    }
    *ret_pid = pid;
    *ret_pidfd = pidfd;
    return 0;
}

int sandbox_spawn(const struct spawn *spawn, pid_t *ret_pid, int *ret_pidfd, int *ret_refused,
                  struct error *err)
{
    struct trouble trouble;
    uint64_t flags = 0;

    if (spawn->nfds > SPAWN_FDS_MAX)
        return error_set(err, -EINVAL, "too many descriptors for '%s'", spawn->path);
    if (spawn->pid_namespace)
        flags = have_capability(CAP_SYS_ADMIN) ? CLONE_NEWPID : CLONE_NEWPID | CLONE_NEWUSER;

    *ret_refused = 0;
    int r = attempt(spawn, flags, ret_pid, ret_pidfd, &trouble);
    if (r < 0 && flags && trouble.stage == AT_MAP) {
        *ret_refused = r;
        r = attempt(spawn, 0, ret_pid, ret_pidfd, &trouble);
    }
    if (r < 0 && trouble.stage == AT_FDS)
        return error_set(err, r, "cannot hand descriptors to '%s'", spawn->path);
    if (r < 0)
        return error_set(err, r, "cannot start '%s'", spawn->path);
    return 0;
}
