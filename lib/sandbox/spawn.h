/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The launcher's half: starting a program in a pid namespace of its own, with the descriptors it is
 * given by name and no others. Everything else the program does itself (sandbox.h).
 */
#ifndef SANDBOX_SPAWN_H
#define SANDBOX_SPAWN_H

#include "base/error.h"

#include <sys/types.h>

enum { SPAWN_FDS_MAX = 64 };

struct spawn_fd { int fd, as; };        /* fd here becomes `as` there; as ≥ 0, no two alike */

struct spawn {
    const char *path;                   /* of the program; not searched for in PATH */
    char *const *argv;
    char *const *envp;                  /* NULL: {"PATH=…"} alone */
    const struct spawn_fd *fds;         /* 0, 1 and 2 are inherited unless they are listed */
    unsigned nfds;
    bool pid_namespace;                 /* try; without the right to, it starts without */
    bool new_session;                   /* setsid: keys on the terminal (Ctrl-C) do not reach it */
    int death_signal;                   /* sent to it when this thread ends; 0: none */
};

/*
 * Starts it. Signal mask empty and handlers at their defaults there. On success *ret_pid (as this
 * process sees it) is to be waited for, and *ret_pidfd (close-on-exec, readable when it has ended)
 * to be closed; *ret_refused is 0, or the negative errno for which the pid namespace was not made.
 * A program that cannot be executed is an error here, not a dead child. Any thread.
 */
int sandbox_spawn(const struct spawn *spawn, pid_t *ret_pid, int *ret_pidfd, int *ret_refused,
                  struct error *err) MUST_CHECK;

#endif
