/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/primary.h"

#include "base/fd.h"
#include "base/list.h"
#include "ipc/socket.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { QUEUE_MAX = 256, BATCH_MAX = 16 };

struct pending {                /* a request of ours that waits for its answer */
    json_int_t id;
    primary_answer_fn *cb;
    void *opaque;
    struct list link;
};

struct outgoing {               /* a message that did not fit into the socket */
    char *text;
    size_t len;
    int fds[PRIMARY_FDS_MAX];
    unsigned nfds;
    struct list link;
};

struct primary {
    struct loop *loop;
    int fd;
    const struct primary_ops *ops;
    void *opaque;
    struct watch *watch;
    struct task *close_task;    /* tells `closed` from a fresh stack */
    char *reason;
    bool dead;
    bool freed;                 /* primary_free was called from inside a callback */
    unsigned busy;
    json_int_t next_id;
    struct list pending, outgoing;
    unsigned outgoing_count;
    char *buf;
};

static void close_fds(int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static void fail_pending(struct primary *p, const char *why)
{
    while (!list_empty(&p->pending)) {
        struct pending *w = list_first(&p->pending, struct pending, link);
        struct error err;
        struct primary_fds none = { .count = 0 };
        error_set(&err, -EINVAL, "%s", why);
        err.code = -EPIPE;
        list_del(&w->link);
        w->cb(w->opaque, NULL, &none, &err);
        free(w);
    }
}

static void free_outgoing(struct primary *p, struct outgoing *o)
{
    close_fds(o->fds, o->nfds);
    list_del(&o->link);
    p->outgoing_count--;
    free(o->text);
    free(o);
}

static void finish(struct primary *p)
{
    list_for_each(struct outgoing, o, &p->outgoing, link)
        free_outgoing(p, o);
    free(p->reason);
    free(p->buf);
    free(p);
}

static void enter(struct primary *p) { p->busy++; }

/* The last one out frees what was freed meanwhile. Returns false if p is gone. */
static bool leave(struct primary *p)
{
    if (--p->busy == 0 && p->freed) {
        finish(p);
        return false;
    }
    return true;
}

/* The channel is over; reason NULL: the peer simply closed. */
static void end(struct primary *p, const char *reason)
{
    if (p->dead)
        return;
    p->dead = true;
    p->reason = reason ? strdup(reason) : NULL;
    watch_free(p->watch);
    p->watch = NULL;
    task_schedule(p->close_task);
}

static void on_close_task(void *opaque)
{
    struct primary *p = opaque;

    enter(p);
    fail_pending(p, "the other process closed the channel");
    if (!p->freed && p->ops->closed)
        p->ops->closed(p->opaque, p->reason);
    leave(p);
}

static int send_now(struct primary *p, const char *text, size_t len, const int *fds, unsigned nfds)
{
    struct iovec iov = { (void *)text, len };
    ssize_t n = socket_send(p->fd, &iov, 1, fds, nfds, MSG_DONTWAIT);
    return n < 0 ? n : 0;
}

static void update_events(struct primary *p)
{
    if (p->watch)
        watch_set_events(p->watch, EPOLLIN | (p->outgoing_count ? EPOLLOUT : 0));
}

static int queue_message(struct primary *p, char *text, size_t len, const int *fds, unsigned nfds)
{
    struct outgoing *o = calloc(1, sizeof *o);

    if (!o || p->outgoing_count >= QUEUE_MAX) {
        free(o);
        free(text);
        return -ENOBUFS;
    }
    *o = (struct outgoing){ .text = text, .len = len };
    for (; o->nfds < nfds; o->nfds++) {
        o->fds[o->nfds] = fcntl(fds[o->nfds], F_DUPFD_CLOEXEC, 0);
        if (o->fds[o->nfds] < 0) {
            int r = -errno;
            close_fds(o->fds, o->nfds);
            free(text);
            free(o);
            return r;
        }
    }
    list_add_tail(&p->outgoing, &o->link);
    p->outgoing_count++;
    update_events(p);
    return 0;
}

/* Consumes msg. */
static int send_json(struct primary *p, json_t *msg, const int *fds, unsigned nfds)
{
    if (!msg)
        return -ENOMEM;
    char *text = json_dumps(msg, JSON_COMPACT);
    json_decref(msg);
    if (!text)
        return -ENOMEM;

    size_t len = strlen(text);
    int r = p->dead ? -EPIPE : nfds > PRIMARY_FDS_MAX || len > PRIMARY_MESSAGE_MAX ? -EMSGSIZE : 0;
    if (r == 0 && p->outgoing_count)
        return queue_message(p, text, len, fds, nfds);
    if (r == 0)
        r = send_now(p, text, len, fds, nfds);
    if (r == -EAGAIN)
        return queue_message(p, text, len, fds, nfds);
    free(text);
    return r;
}

static void flush_outgoing(struct primary *p)
{
    while (!list_empty(&p->outgoing)) {
        struct outgoing *o = list_first(&p->outgoing, struct outgoing, link);
        int r = send_now(p, o->text, o->len, o->fds, o->nfds);
        if (r == -EAGAIN)
            break;
        free_outgoing(p, o);
        if (r < 0) {
            end(p, NULL);
            return;
        }
    }
    update_events(p);
}

int primary_request(struct primary *p, const char *name, json_t *args, const int *fds,
                    unsigned nfds, primary_answer_fn *cb, void *opaque)
{
    struct pending *w = calloc(1, sizeof *w);
    if (!w)
        return -ENOMEM;
    *w = (struct pending){ .id = ++p->next_id, .cb = cb, .opaque = opaque };

    json_t *msg = json_pack("{s:s, s:I}", "execute", name, "id", w->id);
    json_object_set_new(msg, "arguments", args ? json_incref(args) : json_object());
    int r = send_json(p, msg, fds, nfds);
    if (r < 0) {
        free(w);
        return r;
    }
    list_add_tail(&p->pending, &w->link);
    return 0;
}

int primary_answer(struct primary *p, json_int_t id, json_t *answer, const int *fds, unsigned nfds,
                   const struct error *err)
{
    json_t *msg = json_pack("{s:I}", "id", id);

    if (err) {
        /* jansson refuses text that is not UTF-8; a sentence with a hole beats none. */
        json_t *desc = json_string(err->text);
        json_object_set_new(msg, "error", json_pack("{s:s, s:o}", "class", "GenericError", "desc",
                            desc ? desc : json_string("the request failed")));
    } else {
        json_object_set_new(msg, "return", answer ? json_incref(answer) : json_object());
    }
    return send_json(p, msg, fds, nfds);
}

int primary_event(struct primary *p, const char *name, json_t *data)
{
    json_t *msg = json_pack("{s:s}", "event", name);
    json_object_set_new(msg, "data", data ? json_incref(data) : json_object());
    return send_json(p, msg, NULL, 0);
}

static void handle_request(struct primary *p, const char *name, json_t *msg,
                           struct primary_fds *in)
{
    json_t *id = json_object_get(msg, "id"), *args = json_object_get(msg, "arguments");
    AUTO_FREE struct primary_fds *out = calloc(1, sizeof *out);
    json_t *answer = NULL, *empty = NULL;
    struct error err;

    if (!json_is_integer(id) || (args && !json_is_object(args)) || !out) {
        end(p, "a request without an id, or with arguments that are no object");
        return;
    }
    if (!args)
        args = empty = json_object();
    int r = p->ops->request
        ? p->ops->request(p->opaque, name, args, in, json_integer_value(id), &answer, out, &err)
        : error_set(&err, -EINVAL, "there is no command '%.80s'", name);
    if (!p->dead && r != -EINPROGRESS) {
        int sent = primary_answer(p, json_integer_value(id), answer, out->fds, out->count,
                                  r < 0 ? &err : NULL);
        /* The kernel bounds what all processes of a user have on its way, so others can cause it. */
        if (sent == -EMSGSIZE || sent == -ETOOMANYREFS) {
            error_set(&err, -EINVAL, "the answer to '%.80s' %s", name, sent == -EMSGSIZE
                      ? "is too long" : "would put too many descriptors on their way");
            sent = primary_answer(p, json_integer_value(id), NULL, NULL, 0, &err);
        }
        if (sent < 0)
            end(p, sent == -EPIPE ? NULL : "it takes no answers");
    }
    close_fds(out->fds, out->count);
    json_decref(answer);
    json_decref(empty);
}

static void handle_answer(struct primary *p, json_t *msg, struct primary_fds *in)
{
    json_t *id = json_object_get(msg, "id"), *error = json_object_get(msg, "error");
    json_t *answer = json_object_get(msg, "return");
    const char *desc = json_string_value(json_object_get(error, "desc"));

    list_for_each(struct pending, w, &p->pending, link) {
        struct error err;
        if (!json_is_integer(id) || w->id != json_integer_value(id))
            continue;
        list_del(&w->link);
        if (!answer)
            error_set(&err, -EINVAL, "%s", desc ? desc : "the other process gave no answer");
        w->cb(w->opaque, answer, in, answer ? NULL : &err);
        free(w);
        return;
    }
    end(p, "an answer to no question");
}

static void handle_message(struct primary *p, size_t len, struct primary_fds *in)
{
    json_error_t jerr;
    json_t *msg = json_loadb(p->buf, len, JSON_REJECT_DUPLICATES, &jerr);
    const char *name;

    if (!json_is_object(msg)) {
        end(p, "a message that is no JSON object");
    } else if ((name = json_string_value(json_object_get(msg, "execute")))) {
        handle_request(p, name, msg, in);
    } else if ((name = json_string_value(json_object_get(msg, "event")))) {
        json_t *data = json_object_get(msg, "data");
        if (p->ops->event)
            p->ops->event(p->opaque, name, data);
    } else if (json_object_get(msg, "return") || json_object_get(msg, "error")) {
        handle_answer(p, msg, in);
    } else {
        end(p, "a message that is no request, answer or event");
    }
    json_decref(msg);
}

/* Takes one message. False when there is none, or no channel any more. */
static bool receive_one(struct primary *p)
{
    struct primary_fds in = { .count = 0 };
    _Static_assert((int)PRIMARY_FDS_MAX == (int)SOCKET_FDS_MAX, "one bound for both");

    ssize_t n = socket_recv(p->fd, p->buf, PRIMARY_MESSAGE_MAX, in.fds, &in.count, MSG_DONTWAIT);
    if (n == -EAGAIN)
        return false;
    if (n == -EMSGSIZE)
        end(p, "a message that is too long or brings too many descriptors");
    else if (n <= 0)
        end(p, NULL);
    else
        handle_message(p, n, &in);
    close_fds(in.fds, in.count);
    return !p->dead && !p->freed;
}

static void on_ready(void *opaque, uint32_t events)
{
    struct primary *p = opaque;

    enter(p);
    if (events & EPOLLOUT)
        flush_outgoing(p);
    for (int i = 0; i < BATCH_MAX && !p->dead && !p->freed; i++)
        if (!receive_one(p))
            break;
    leave(p);
}

int primary_new(struct loop *loop, int fd, const struct primary_ops *ops, void *opaque,
                struct primary **ret_primary, struct error *err)
{
    struct primary *p = calloc(1, sizeof *p);
    char *buf = malloc(PRIMARY_MESSAGE_MAX);

    if (!p || !buf) {
        free(p);
        free(buf);
        close(fd);
        return error_oom(err);
    }
    *p = (struct primary){ .loop = loop, .fd = fd, .ops = ops, .opaque = opaque, .buf = buf };
    list_init(&p->pending);
    list_init(&p->outgoing);
    int r = fd_set_nonblock(fd, true);
    if (r == 0)
        r = task_new(loop, on_close_task, p, &p->close_task);
    if (r == 0)
        r = watch_new(loop, fd, EPOLLIN, on_ready, p, &p->watch);
    if (r < 0) {
        primary_free(p);
        return error_set(err, r, "cannot use descriptor %d as a channel", fd);
    }
    *ret_primary = p;
    return 0;
}

void primary_free(struct primary *p)
{
    if (!p || p->freed)
        return;
    enter(p);
    p->freed = true;
    p->dead = true;
    watch_free(p->watch);
    task_free(p->close_task);
    close(p->fd);
    fail_pending(p, "the channel was closed");
    leave(p);
}

struct call { bool done; int status; json_t *answer; struct primary_fds *fds; struct error *err; };

static void on_call_answer(void *opaque, json_t *answer, struct primary_fds *in,
                           const struct error *err)
{
    struct call *call = opaque;

    call->done = true;
    if (err) {
        call->status = error_set(call->err, -EINVAL, "%s", err->text);
        return;
    }
    call->answer = json_incref(answer);
    if (call->fds) {
        *call->fds = *in;
        in->count = 0;
    }
}

int primary_call(struct primary *p, const char *name, json_t *args, const int *fds, unsigned nfds,
                 int timeout_ms, json_t **ret_answer, struct primary_fds *ret_fds,
                 struct error *err)
{
    struct call call = { .fds = ret_fds, .err = err };
    uint64_t until = clock_now_ns() + (uint64_t)timeout_ms * 1000000;

    if (ret_fds)
        ret_fds->count = 0;
    int r = primary_request(p, name, args, fds, nfds, on_call_answer, &call);
    if (r < 0)
        return error_set(err, r, "cannot ask the other process to '%s'", name);

    enter(p);
    while (!call.done && !p->dead) {
        uint64_t now = clock_now_ns();
        struct pollfd pfd = { p->fd, POLLIN | (p->outgoing_count ? POLLOUT : 0), 0 };
        if (now >= until)
            break;
        if (poll(&pfd, 1, (until - now) / 1000000 + 1) < 0 && errno != EINTR)
            break;
        if (pfd.revents & POLLOUT)
            flush_outgoing(p);
        if (pfd.revents & (POLLIN | POLLHUP | POLLERR))
            receive_one(p);
    }
    if (!call.done) {
        list_for_each(struct pending, w, &p->pending, link)
            if (w->opaque == &call) {
                list_del(&w->link);
                free(w);
            }
        call.status = p->dead
            ? error_set(err, -EINVAL, "the other process ended before it answered '%s'", name)
            : error_set(err, -EINVAL, "the other process did not answer '%s' within %d ms", name,
                        timeout_ms);
        if (!p->dead)
            end(p, "an answer came too late");     /* the answer may still come, to nobody */
    }
    leave(p);
    if (call.status == 0 && ret_answer)
        *ret_answer = call.answer;
    else
        json_decref(call.answer);
    return call.status;
}

int primary_pair(int fds[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0 ? -errno : 0;
}

/* An inherited descriptor, by its number. */
static int inherited(const char *spec, int *ret_fd, struct error *err)
{
    char *end_of_number;
    int type;
    socklen_t len = sizeof type;

    errno = 0;
    long n = strtol(spec, &end_of_number, 10);
    if (errno || *end_of_number || n < 0 || n > 1 << 20)
        return error_set(err, -EINVAL, "'%.80s' is neither a descriptor number nor unix:PATH", spec);
    if (getsockopt(n, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
        return error_set(err, -errno, "descriptor %ld cannot be the primary channel", n);
    if (type != SOCK_SEQPACKET)
        return error_set(err, -EINVAL, "descriptor %ld cannot be the primary channel: it is not a "
                         "SOCK_SEQPACKET socket", n);
    fd_set_cloexec(n, true);
    *ret_fd = n;
    return 0;
}

int primary_socket_open(const char *spec, int *ret_fd, struct error *err)
{
    static const char server[] = ",server";

    if (isdigit((unsigned char)spec[0]))
        return inherited(spec, ret_fd, err);
    if (strncmp(spec, "unix:", 5))
        return error_set(err, -EINVAL, "'%.80s' is neither a descriptor number nor unix:PATH", spec);
    spec += 5;

    const char *suffix = strstr(spec, server);
    if (!suffix || (suffix[sizeof server - 1] && strcmp(suffix, ",server=on")))
        return socket_connect(spec, SOCK_SEQPACKET, ret_fd, err);

    AUTO_FREE char *path = strndup(spec, suffix - spec);
    if (!path)
        return error_oom(err);
    AUTO_FD int listener = -1;
    int r = socket_listen(path, SOCK_SEQPACKET, &listener, err);
    if (r < 0)
        return r;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    r = fd < 0 ? error_set(err, -errno, "nobody connected to '%s'", path) : 0;
    unlink(path);
    if (r == 0)
        *ret_fd = fd;
    return r;
}
