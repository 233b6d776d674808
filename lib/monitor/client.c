/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One client: bytes in, values out to the dispatcher, answers and events back. The descriptors may
 * be a terminal shared with a shell, so they are never made non-blocking: sockets are sent to with
 * MSG_DONTWAIT, others written to in pieces of PIPE_BUF when they say that they have room.
 *
 * A client is freed by its task or by its owner only, never in the middle of a dispatch: an end
 * that is noticed there sets `dead`, and the task buries it.
 */
#include "monitor/internal.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

static bool out_pending(const struct client *c) { return c->out_sent < c->out_len; }

/* May the next command be read? */
static bool may_read(const struct client *c)
{
    return !c->dead && !c->at_eof && !c->call && !c->monitor->on_hold &&
           c->out_len - c->out_sent < CLIENT_OUT_SOFT;
}

static void update_events(struct client *c)
{
    uint32_t in = may_read(c) && !c->unpollable ? EPOLLIN : 0;
    uint32_t out = out_pending(c) && !c->dead ? EPOLLOUT : 0;

    if (c->in_watch)
        watch_set_events(c->in_watch, c->in_fd == c->out_fd ? in | out : in);
    if (c->out_watch)
        watch_set_events(c->out_watch, out);
    bool finished = c->dead || (c->at_eof && !c->call && !out_pending(c));
    if (finished || (c->unpollable && may_read(c)))
        task_schedule(c->task);
}

static ssize_t write_some(struct client *c)
{
    const char *data = c->out + c->out_sent;
    size_t len = c->out_len - c->out_sent;

    if (c->is_socket)
        return send(c->out_fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    struct pollfd p = { .fd = c->out_fd, .events = POLLOUT };
    if (poll(&p, 1, 0) == 0) {
        errno = EAGAIN;
        return -1;
    }
    return write(c->out_fd, data, MIN(len, (size_t)PIPE_BUF));
}

static void flush(struct client *c)
{
    while (out_pending(c) && !c->dead) {
        ssize_t n = write_some(c);
        if (n > 0)
            c->out_sent += n;
        else if (n == 0 || (errno != EINTR && errno != EAGAIN))
            c->dead = true;
        else if (errno == EAGAIN)
            break;
    }
    if (!out_pending(c))
        c->out_len = c->out_sent = 0;
}

static int append(struct client *c, const char *text, size_t len)
{
    if (c->out_sent) {
        memmove(c->out, c->out + c->out_sent, c->out_len - c->out_sent);
        c->out_len -= c->out_sent;
        c->out_sent = 0;
    }
    if (len > CLIENT_OUT_MAX - MIN(c->out_len, (size_t)CLIENT_OUT_MAX))
        return -ENOBUFS;
    if (c->out_len + len > c->out_cap) {
        size_t cap = MAX(c->out_cap * 2, c->out_len + len);
        char *out = realloc(c->out, cap);
        if (!out)
            return -ENOMEM;
        c->out = out;
        c->out_cap = cap;
    }
    memcpy(c->out + c->out_len, text, len);
    c->out_len += len;
    return 0;
}

void client_send(struct client *c, const json_t *message)
{
    if (c->dead)
        return;
    AUTO_FREE char *text = json_dumps(message, 0);
    if (!text || append(c, text, strlen(text)) < 0 || append(c, "\r\n", 2) < 0)
        c->dead = true;
    flush(c);
    update_events(c);
}

/* Runs what is buffered until a command stays unanswered or the client is behind with reading. */
static void run_buffered(struct client *c)
{
    struct error err;
    json_t *message;

    while (!c->dead && !c->call && !c->monitor->on_hold &&
           c->out_len - c->out_sent < CLIENT_OUT_SOFT) {
        int r = json_stream_next(&c->in, &message, &err);
        if (r == 0)
            break;
        if (r < 0) {
            monitor_send_error(c, "GenericError", err.text, NULL);
            continue;
        }
        monitor_dispatch(c, message);
        json_decref(message);
    }
}

static void read_some(struct client *c)
{
    char buf[CLIENT_READ_BYTES];

    ssize_t n = c->is_socket ? recv(c->in_fd, buf, sizeof buf, MSG_DONTWAIT)
                             : read(c->in_fd, buf, sizeof buf);
    if (n > 0) {
        if (json_stream_feed(&c->in, buf, n) < 0)
            c->dead = true;
    } else if (n == 0) {
        c->at_eof = true;
    } else if (errno != EAGAIN && errno != EINTR) {
        c->dead = true;
    }
}

/* A pipe whose writer has gone reports that for ever; what it holds is read when its turn comes. */
static void stop_polling(struct client *c)
{
    watch_free(c->in_watch);
    c->in_watch = NULL;
    c->unpollable = true;
}

static void on_ready(void *opaque, uint32_t events)
{
    struct client *c = opaque;

    if (events & EPOLLOUT)
        flush(c);
    if ((events & (EPOLLIN | EPOLLHUP)) && may_read(c))
        read_some(c);
    else if ((events & EPOLLHUP) && c->in_fd != c->out_fd)
        stop_polling(c);
    else if (events & (EPOLLHUP | EPOLLERR))
        c->dead = true;
    run_buffered(c);
    update_events(c);
}

static void on_task(void *opaque)
{
    struct client *c = opaque;

    if (c->unpollable && may_read(c))
        read_some(c);
    run_buffered(c);
    if (c->dead || (c->at_eof && !c->call && !out_pending(c))) {
        client_free(c);
        return;
    }
    update_events(c);
}

void client_go_on(struct client *c) { task_schedule(c->task); }

static int watch_descriptors(struct client *c)
{
    int r = watch_new(c->monitor->loop, c->in_fd, EPOLLIN, on_ready, c, &c->in_watch);
    if (r == -EPERM) {              /* a regular file or /dev/null: always ready */
        c->unpollable = true;
        r = 0;
    }
    if (r == 0 && c->in_fd != c->out_fd) {
        r = watch_new(c->monitor->loop, c->out_fd, 0, on_ready, c, &c->out_watch);
        if (r == -EPERM)
            r = 0;
    }
    return r;
}

int client_new(struct monitor *m, struct port *port, int in_fd, int out_fd, struct error *err)
{
    struct stat st;

    struct client *c = calloc(1, sizeof *c);
    if (!c) {
        close(in_fd);
        if (out_fd != in_fd)
            close(out_fd);
        return error_oom(err);
    }
    c->monitor = m;
    c->port = port;
    c->in_fd = in_fd;
    c->out_fd = out_fd;
    c->is_socket = in_fd == out_fd && fstat(in_fd, &st) == 0 && S_ISSOCK(st.st_mode);
    list_add_tail(&m->clients, &c->link);

    int r = task_new(m->loop, on_task, c, &c->task);
    if (r == 0)
        r = watch_descriptors(c);
    if (r < 0) {
        client_free(c);
        return error_set(err, r, "cannot watch a monitor client");
    }
    if (port)
        port->client = c;
    json_t *greeting = monitor_greeting(m);
    client_send(c, greeting);
    json_decref(greeting);
    update_events(c);
    return 0;
}

void client_free(struct client *c)
{
    if (!c)
        return;
    if (!c->dead)
        flush(c);
    if (c->call)
        c->call->client = NULL;         /* monitor_reply frees it */
    list_del(&c->link);
    watch_free(c->in_watch);
    watch_free(c->out_watch);
    task_free(c->task);
    json_stream_fini(&c->in);
    free(c->out);
    close(c->in_fd);
    if (c->out_fd != c->in_fd)
        close(c->out_fd);
    if (c->port)
        port_client_gone(c->port);
    free(c);
}
