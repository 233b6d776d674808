/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Character devices: where the bytes of a serial port go to and come from.
 *
 * Two halves. Whoever may open things (the control process) calls chardev_open, which turns
 * options into descriptors and a short JSON description; whoever has the port (a process that can open
 * nothing) makes a chardev of both. Output never blocks: it goes into a bounded buffer, and what a
 * slow reader leaves no room for is the writer's to keep.
 *
 * Loop thread, or under the lock.
 */
#ifndef CHARDEV_CHARDEV_H
#define CHARDEV_CHARDEV_H

#include "base/error.h"
#include "event/loop.h"

#include <jansson.h>

enum { CHARDEV_FDS_MAX = 2, CHARDEV_BUFFER = 64 * 1024 };

/* ---- control's half (open.c) ---- */

/*
 * options: {"backend": "null"}, {"backend": "stdio", "mux": bool?, "signal": bool?},
 * {"backend": "file", "path", "append"?}, {"backend": "pty"},
 * {"backend": "socket", "path", "server"?, "wait"?} (unix). Booleans may be on/off.
 * "id" is allowed and ignored. wait (default on for servers) waits here for the first client.
 *
 * *ret_desc: {"kind": "null" | "stream" | "server", "in": i?, "out": i?, "listen": i?, "keep": i?,
 * "mux": bool, "lossy": bool?, "name": where it is, for people}; the numbers are indices into ret_fds,
 * of which there may be none. The descriptors are the caller's. The path of a listening socket stays
 * until chardev_forget. stdio leaves the terminal as it is: see terminal_raw.
 */
int chardev_open(const json_t *options, json_t **ret_desc, int ret_fds[CHARDEV_FDS_MAX],
                 unsigned *ret_nfds, struct error *err) MUST_CHECK;

/* The same description with `first` added to each index: for a message that carries more. */
json_t *chardev_desc_rebase(const json_t *desc, unsigned first);

/* At the end: removes the socket path that chardev_open made. */
void chardev_forget(const json_t *options);

/* Puts the terminal on fd into raw mode, if it is one; signals: Ctrl-C still does what it does.
 * terminal_restore, also run at exit, undoes it; safe in a signal handler. One terminal. */
int terminal_raw(int fd, bool signals);
void terminal_restore(void);

/* ---- the port's half (chardev.c) ---- */

struct chardev;

enum chardev_event {
    CHARDEV_OPENED,             /* a client is there */
    CHARDEV_CLOSED,             /* it left */
    CHARDEV_BREAK,              /* Ctrl-A b */
};

struct chardev_handler {
    size_t (*can_read)(void *opaque);           /* bytes that may be given to read now */
    void (*read)(void *opaque, const uint8_t *data, size_t len);
    void (*writable)(void *opaque);             /* there is room again after a short write; or NULL */
    void (*event)(void *opaque, enum chardev_event event);      /* or NULL */
};

/*
 * desc and fds as chardev_open gave them (indices into fds[0..nfds)), but not trusted. Descriptors
 * are duplicated. id is for messages; copied.
 */
int chardev_new(struct loop *loop, const char *id, const json_t *desc, const int *fds, unsigned nfds,
                struct chardev **ret_chardev, struct error *err) MUST_CHECK;
void chardev_free(struct chardev *chr);         /* NULL allowed; tries to write what is left */

/* One user at a time; NULL takes it away. Input waits meanwhile. */
void chardev_attach(struct chardev *chr, const struct chardev_handler *handler, void *opaque);
/* The user's can_read went up from 0. */
void chardev_accept_input(struct chardev *chr);

/* Takes up to len bytes; returns how many. With nobody connected everything is taken and dropped. */
size_t chardev_write(struct chardev *chr, const uint8_t *data, size_t len);
/* Bytes that chardev_write would take now. */
size_t chardev_room(const struct chardev *chr);

bool chardev_connected(const struct chardev *chr);
const char *chardev_name(const struct chardev *chr);

/* Ctrl-A x, when desc says "mux": the person wants to leave. */
void chardev_on_quit(struct chardev *chr, void (*quit)(void *opaque), void *opaque);

#endif
