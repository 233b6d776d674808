/* SPDX-License-Identifier: Apache-2.0 */
#include "common/janitor.h"

#include "sandbox/sandbox.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

enum { JANITOR_FD = 3 };

void janitor_init(struct janitor *janitor) { *janitor = (struct janitor){ .fd = -1 }; }

void janitor_add(struct janitor *janitor, const char *path)
{
    struct stat st;

    if (janitor->count == JANITOR_FILES_MAX || lstat(path, &st) < 0)
        return;
    janitor->files[janitor->count].path = path;
    janitor->files[janitor->count].dev = st.st_dev;
    janitor->files[janitor->count].ino = st.st_ino;
    janitor->files[janitor->count].made = st.st_ctim;   /* numbers of files are used again */
    janitor->count++;
}

static void remove_files(const struct janitor *janitor)
{
    for (unsigned i = 0; i < janitor->count; i++) {
        struct stat st;
        if (lstat(janitor->files[i].path, &st) == 0 && st.st_dev == janitor->files[i].dev &&
            st.st_ino == janitor->files[i].ino &&
            st.st_ctim.tv_sec == janitor->files[i].made.tv_sec &&
            st.st_ctim.tv_nsec == janitor->files[i].made.tv_nsec)
            unlink(janitor->files[i].path);
    }
}

/* The janitor's whole life. It holds one end of a pair, and nobody writes into the other. */
static _Noreturn void work(const struct janitor *janitor, int fd)
{
    struct sandbox_config config = { .role = SANDBOX_JANITOR, .name = "socket-janitor" };
    struct sandbox_report report;
    struct error err;
    sigset_t all;
    char byte;

    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);     /* Ctrl-C is for the other one */
    prctl(PR_SET_NAME, "socket-janitor");
    if (dup2(fd, JANITOR_FD) < 0)
        _exit(1);
    close(0);
    close(1);
    close(2);                               /* who reads our output waits for the other one alone */
    syscall(SYS_close_range, JANITOR_FD + 1, ~0U, 0);
    if (sandbox_enter(&config, &report, &err) < 0)
        _exit(1);

    while (read(JANITOR_FD, &byte, 1) < 0 && errno == EINTR)
        ;
    remove_files(janitor);
    _exit(0);
}

int janitor_start(struct janitor *janitor, struct error *err)
{
    int pair[2];

    if (!janitor->count)
        return 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return error_set(err, -errno, "cannot make a pair of sockets");
    pid_t pid = fork();
    if (pid == 0)
        work(janitor, pair[1]);
    close(pair[1]);
    if (pid < 0) {
        int r = -errno;
        close(pair[0]);
        return error_set(err, r, "cannot start the process that removes sockets");
    }
    janitor->fd = pair[0];
    return 0;
}

void janitor_finish(struct janitor *janitor)
{
    char byte;

    if (janitor->fd < 0) {
        remove_files(janitor);
    } else {
        shutdown(janitor->fd, SHUT_WR);
        while (read(janitor->fd, &byte, 1) < 0 && errno == EINTR)
            ;
        close(janitor->fd);
    }
    janitor_init(janitor);
}
