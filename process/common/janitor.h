/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removes the socket files of a process that cannot do it itself any more: they lie outside the
 * closed door. A small process of its own, with the right to do that and little else; it ends with
 * the process it cleans up after, however that one ends. A file that has been replaced since is
 * left alone.
 */
#ifndef COMMON_JANITOR_H
#define COMMON_JANITOR_H

#include "base/error.h"

#include <sys/stat.h>

enum { JANITOR_FILES_MAX = 40 };

struct janitor {
    struct {
        const char *path;
        dev_t dev;
        ino_t ino;
        struct timespec made;
    } files[JANITOR_FILES_MAX];
    unsigned count;
    int fd;                     /* of the process: a socket to the janitor; -1: not started */
};

void janitor_init(struct janitor *janitor);
/* path, which has just been made, is to be removed at the end. The text stays the caller's and must
 * live as long as janitor. */
void janitor_add(struct janitor *janitor, const char *path);
/* Starts the process, if there is something to do. One thread; before the door closes. */
int janitor_start(struct janitor *janitor, struct error *err) MUST_CHECK;
/* Files are gone when this returns: removed by the janitor, or here if it was not started. */
void janitor_finish(struct janitor *janitor);

#endif
