/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QMP, the JSON monitor, in QEMU's names and shapes (qmp-spec of QEMU's interoperability
 * documentation): greeting, negotiation, commands, errors with a class, "id" echoed, events with a
 * time. Out-of-band execution is not offered. A program gives a table of commands; the monitor
 * checks arguments, keeps order, and adds qmp_capabilities, query-commands, query-qmp-schema.
 *
 * A client's commands run one after the other: while one is unanswered, later ones wait unread.
 * Clients are not trusted: everything is bounded, and one that does not read is dropped.
 *
 * Loop thread.
 */
#ifndef MONITOR_MONITOR_H
#define MONITOR_MONITOR_H

#include "base/error.h"
#include "event/loop.h"

#include <jansson.h>

struct monitor;
struct monitor_call;        /* a command that is being executed */

enum monitor_type { MONITOR_STR, MONITOR_INT, MONITOR_BOOL, MONITOR_OBJECT, MONITOR_LIST,
                    MONITOR_ANY };

struct monitor_arg {
    const char *name;
    enum monitor_type type;
    bool optional;
};

/*
 * args have been checked: those required are there, of the right type, and no others (unless
 * any_args). Returns 0 and may set *ret_value (new reference; NULL means {}), or a negative errno
 * with err; or -EINPROGRESS, and then monitor_reply is called once, later.
 * -ENODEV makes the error's class DeviceNotFound, everything else GenericError.
 */
typedef int monitor_fn(void *opaque, struct monitor_call *call, json_t *args, json_t **ret_value,
                       struct error *err);

struct monitor_command {
    const char *name;
    monitor_fn *run;
    const struct monitor_arg *args;     /* up to one whose name is NULL; NULL: none */
    bool any_args;                      /* further arguments are the handler's to check */
};

struct monitor_config {
    unsigned major, minor, micro;       /* the program's version */
    const char *package;                /* its name, for "package" */
    const struct monitor_command *commands;     /* up to one whose name is NULL */
    const char *const *events;          /* names, NULL-terminated, for query-qmp-schema */
    void *opaque;
};

/* config and what it points to must outlive the monitor. */
int monitor_new(struct loop *loop, const struct monitor_config *config,
                struct monitor **ret_monitor, struct error *err) MUST_CHECK;
/* Closes all; what is still queued is sent if that needs no waiting. Removes socket files. */
void monitor_free(struct monitor *monitor);             /* NULL allowed */

/* The answer of a command that was left in progress: value (taken; NULL: {}), or err if not NULL.
 * Nothing happens if the client has gone. call is gone afterwards. */
void monitor_reply(struct monitor_call *call, json_t *value, const struct error *err);
/* To every client that has negotiated. data is taken; NULL: none. */
void monitor_event(struct monitor *monitor, const char *name, json_t *data);

/* {"qemu": {"major", …}, "package"}: what query-version answers. */
json_t *monitor_version(const struct monitor *monitor);

/* ---- where clients come from ---- */

struct monitor_spec {       /* of -qmp: "unix:PATH[,server[=on|off]][,wait=on|off|,nowait]", "stdio" */
    bool is_stdio, server, wait;
    char path[104];
};

int monitor_spec_parse(const char *text, struct monitor_spec *ret_spec, struct error *err)
    MUST_CHECK;

/* A server takes one client at a time, and the next when that one has gone. A socket file that
 * nobody listens on is replaced. */
int monitor_open(struct monitor *monitor, const struct monitor_spec *spec, struct error *err)
    MUST_CHECK;
/* A client on descriptors that are open already (they may be the same); takes both. */
int monitor_attach(struct monitor *monitor, int in_fd, int out_fd, struct error *err) MUST_CHECK;

/* While on hold clients can connect and are greeted, but what they say waits. */
void monitor_hold(struct monitor *monitor, bool hold);

/* Some client is connected. */
bool monitor_connected(const struct monitor *monitor);

#endif
