/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the monitor share: clients (client.c), dispatch (monitor.c), ports (port.c). */
#ifndef MONITOR_INTERNAL_H
#define MONITOR_INTERNAL_H

#include "base/list.h"
#include "monitor/json_stream.h"
#include "monitor/monitor.h"

enum {
    CLIENT_READ_BYTES = 4096,
    CLIENT_OUT_SOFT = 64 * 1024,        /* no further command is run until the client reads */
    CLIENT_OUT_MAX = 4 * 1024 * 1024,   /* a client this far behind with events is dropped */
};

struct port;

struct client {
    struct monitor *monitor;
    struct port *port;                  /* NULL: attached */
    int in_fd, out_fd;                  /* may be equal */
    bool is_socket, negotiated, at_eof, dead;
    struct watch *in_watch, *out_watch; /* out_watch only if the descriptors differ */
    struct task *task;                  /* goes on with what is buffered; reads unpollable files */
    bool unpollable;
    struct json_stream in;
    char *out;
    size_t out_len, out_sent, out_cap;
    struct monitor_call *call;          /* in progress, or NULL */
    struct list link;
};

struct port {
    struct monitor *monitor;
    int fd;
    char path[104];                     /* to be removed; "" if not ours */
    struct watch *watch;
    struct client *client;
    struct list link;
};

struct monitor_call {
    struct client *client;              /* NULL: it has gone */
    json_t *id;
};

struct monitor {
    struct loop *loop;
    const struct monitor_config *config;
    struct list clients, ports;
    bool on_hold;
};

/* monitor.c */
json_t *monitor_greeting(const struct monitor *m);
/* Runs one message; the answer is sent, or client->call is set. */
void monitor_dispatch(struct client *client, json_t *message);
void monitor_send_error(struct client *client, const char *class, const char *desc, json_t *id);
json_t *monitor_schema(const struct monitor *m);                        /* schema.c */

/* client.c. message is borrowed. */
int client_new(struct monitor *m, struct port *port, int in_fd, int out_fd, struct error *err);
void client_free(struct client *client);
void client_send(struct client *client, const json_t *message);
void client_go_on(struct client *client);               /* after a call was answered */

/* port.c */
void port_client_gone(struct port *port);
void port_free(struct port *port);

#endif
