/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio_user/internal.h"

#include "base/fd.h"
#include "base/list.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

enum {
    PENDING_MAX = 256,              /* commands that may come while we wait for a reply */
    PENDING_BODY_MAX = 8192,        /* and the size of each */
};

struct pending { struct list link; struct vfu_msg msg; uint8_t body[]; };

void vfu_port_end(struct vfu_port *port, const char *reason)
{
    if (port->ending)
        return;
    port->ending = true;
    error_set(&port->end_reason, -EINVAL, "%s", reason);
    task_schedule(port->resume);
}

/* What could not be sent at once waits here; nothing is read meanwhile. */
static void stash(struct vfu_port *port, const struct iovec *parts, int nparts, size_t done,
                  size_t size, int fd)
{
    port->out = malloc(size - done);
    port->out_fd = fd >= 0 && done == 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (!port->out || (fd >= 0 && done == 0 && port->out_fd < 0)) {
        vfu_port_end(port, "out of memory or descriptors for an answer");
        return;
    }
    port->out_len = size - done;
    port->out_done = 0;

    uint8_t *to = port->out;
    for (int i = 0; i < nparts; i++) {
        size_t skip = MIN(done, parts[i].iov_len);
        memcpy(to, (const uint8_t *)parts[i].iov_base + skip, parts[i].iov_len - skip);
        to += parts[i].iov_len - skip;
        done -= skip;
    }
    watch_set_events(port->watch, EPOLLOUT);
}

void vfu_port_stall(struct vfu_port *port, bool stalled)
{
    port->stalled = stalled;
    if (port->watch && !port->out)
        watch_set_events(port->watch, stalled ? 0 : EPOLLIN);
    if (!stalled)
        task_schedule(port->resume);
}

static void drop_out(struct vfu_port *port)
{
    free(port->out);
    port->out = NULL;
    if (port->out_fd >= 0)
        close(port->out_fd);
    port->out_fd = -1;
}

/* True when nothing waits to be sent any more. */
static bool flush(struct vfu_port *port)
{
    if (!port->out)
        return true;
    struct iovec part = VFU_PART(port->out + port->out_done, port->out_len - port->out_done);
    ssize_t n = vfu_send(port->fd, MSG_DONTWAIT, &part, 1, &port->out_fd, port->out_fd >= 0);
    if (n == -EAGAIN)
        return false;
    if (n < 0) {
        vfu_port_end(port, "the peer cannot be sent to");
        return false;
    }
    if (port->out_fd >= 0) {
        close(port->out_fd);
        port->out_fd = -1;
    }
    port->out_done += n;
    if (port->out_done < port->out_len)
        return false;
    drop_out(port);
    watch_set_events(port->watch, port->stalled ? 0 : EPOLLIN);
    return true;
}

static void send_message(struct vfu_port *port, const struct vfu_header *head,
                         const struct iovec *parts, int nparts, int fd)
{
    struct vfu_wire_header wire;
    struct vfu_header h = *head;
    struct iovec all[5] = { VFU_PART(&wire, sizeof wire) };
    int n = 1;

    for (int i = 0; i < nparts; i++) {
        all[n++] = parts[i];
        h.len += parts[i].iov_len;
    }
    vfu_header_encode(&h, &wire);

    size_t size = sizeof wire + h.len;
    ssize_t sent = port->out ? -EAGAIN : vfu_send(port->fd, MSG_DONTWAIT, all, n, &fd, fd >= 0);
    if (port->out)                      /* two answers at once: only a nested call could */
        vfu_port_end(port, "the peer does not take answers");
    else if (sent == -EAGAIN)
        stash(port, all, n, 0, size, fd);
    else if (sent < 0)
        vfu_port_end(port, sent == -EPIPE || sent == -ECONNRESET ? "the peer went away"
                                                                 : "the peer cannot be sent to");
    else if ((size_t)sent < size)
        stash(port, all, n, sent, size, fd);
}

void vfu_port_reply(struct vfu_port *port, const struct vfu_header *request, int error,
                    const struct iovec *parts, int nparts, int fd)
{
    struct vfu_header h = { .id = request->id, .command = request->command,
                            .flags = VFU_TYPE_REPLY | (error ? VFU_ERROR : 0), .error = error };

    if (!(request->flags & VFU_NO_REPLY))
        send_message(port, &h, parts, error ? 0 : nparts, error ? -1 : fd);
}

/* Next in order: what was put aside during a nested call, then the stream. */
static int next_message(struct vfu_port *port, struct vfu_msg *ret_msg, struct pending **ret_kept,
                        struct error *err)
{
    *ret_kept = NULL;
    if (list_empty(&port->pending))
        return vfu_input_next(&port->in, ret_msg, err);

    struct pending *p = list_first(&port->pending, struct pending, link);
    list_del(&p->link);
    port->npending--;
    *ret_msg = p->msg;
    ret_msg->body = p->body;
    *ret_kept = p;
    return 1;
}

/* Answers what has arrived whole, until an answer gets stuck. */
static void dispatch(struct vfu_port *port)
{
    struct vfu_msg msg;
    struct pending *kept;
    struct error err;

    while (!port->ending && !port->out && !port->stalled) {
        int r = next_message(port, &msg, &kept, &err);
        if (r <= 0) {
            if (r < 0)
                vfu_port_end(port, err.text);
            return;
        }
        port->in_message = true;
        if ((msg.h.flags & VFU_TYPE_MASK) == VFU_TYPE_COMMAND)
            port->on_message(port->opaque, &msg);
        else
            vfu_port_end(port, "the peer answered what was not asked");
        port->in_message = false;
        vfu_msg_close_fds(&msg);
        free(kept);
        if (port->has_held) {
            vfu_input_fini(&port->held);
            port->has_held = false;
        }
    }
}

static void over(struct vfu_port *port, const char *reason)
{
    port->ended = true;
    watch_free(port->watch);
    port->watch = NULL;
    port->on_end(port->opaque, reason);
}

/* Runs on every event and when resumed; last use of port is over(). */
static void work(struct vfu_port *port, bool readable)
{
    struct error err;

    if (port->ended || port->in_message)
        return;
    if (!flush(port) && !port->ending)
        return;
    dispatch(port);
    if (readable && !port->ending && !port->out && !port->stalled) {
        ssize_t n = vfu_input_fill(&port->in, port->fd, MSG_DONTWAIT, &err);
        if (n > 0) {
            dispatch(port);
        } else if (n == 0 || n == -ECONNRESET) {
            if (vfu_input_empty(&port->in)) {
                over(port, NULL);
                return;
            }
            vfu_port_end(port, "the peer went away in the middle of a message");
        } else if (n == -EPROTO || n == -ENOMEM) {
            vfu_port_end(port, err.text);
        } else if (n != -EAGAIN) {
            vfu_port_end(port, "cannot receive from the peer");
        }
    }
    if (port->ending)
        over(port, port->end_reason.text);
}

static void on_event(void *opaque, uint32_t events)
{
    struct vfu_port *port = opaque;

    /* A peer that has closed takes no answers: one that is stuck or owed must not keep us. */
    if ((port->out || port->stalled) && (events & (EPOLLHUP | EPOLLERR)))
        vfu_port_end(port, "the peer went away");
    work(port, events & (EPOLLIN | EPOLLHUP | EPOLLERR));
}

static void on_resume(void *opaque) { work(opaque, false); }

int vfu_port_init(struct vfu_port *port, struct loop *loop, int fd)
{
    *port = (struct vfu_port){ .loop = loop, .fd = fd, .out_fd = -1,
                               .on_message = port->on_message, .on_end = port->on_end,
                               .opaque = port->opaque };
    list_init(&port->pending);
    int r = fd_set_nonblock(fd, true);
    if (r == 0)
        r = vfu_input_init(&port->in);
    if (r == 0)
        r = task_new(loop, on_resume, port, &port->resume);
    if (r == 0)
        r = watch_new(loop, fd, EPOLLIN, on_event, port, &port->watch);
    if (r < 0)
        vfu_port_fini(port);
    return r;
}

void vfu_port_fini(struct vfu_port *port)
{
    if (port->fd < 0)
        return;
    watch_free(port->watch);
    task_free(port->resume);
    drop_out(port);
    list_for_each(struct pending, p, &port->pending, link) {
        list_del(&p->link);
        vfu_msg_close_fds(&p->msg);
        free(p);
    }
    vfu_input_fini(&port->in);
    if (port->has_held)
        vfu_input_fini(&port->held);
    close(port->fd);
    *port = (struct vfu_port){ .fd = -1, .out_fd = -1, .ended = true };
}

/* ---- asking on the same socket ---- */

/* The message in hand points into the input; leave it there and go on with a copy of the rest. */
static int hold_input(struct vfu_port *port)
{
    struct vfu_input rest;

    if (!port->in_message || port->has_held)
        return 0;
    int r = vfu_input_init(&rest);
    if (r < 0)
        return r;
    size_t used = port->in.end - port->in.start;
    if (used > rest.cap) {              /* only behind one message larger than all others */
        vfu_input_fini(&rest);
        return -ENOBUFS;
    }
    memcpy(rest.buf, port->in.buf + port->in.start, used);
    rest.end = used;
    for (unsigned i = 0; i < port->in.nfds; i++) {
        rest.fds[i] = port->in.fds[i];
        rest.fds[i].at -= port->in.start;
    }
    rest.nfds = port->in.nfds;
    port->in.nfds = 0;
    port->held = port->in;
    port->has_held = true;
    port->in = rest;
    return 0;
}

/* A command that arrived first waits for its turn. */
static int put_aside(struct vfu_port *port, struct vfu_msg *msg)
{
    struct pending *p = NULL;

    if (port->npending < PENDING_MAX && msg->h.len <= PENDING_BODY_MAX)
        p = malloc(sizeof *p + msg->h.len);
    if (!p) {
        vfu_msg_close_fds(msg);
        return -ENOBUFS;
    }
    p->msg = *msg;
    memcpy(p->body, msg->body, msg->h.len);
    list_add_tail(&port->pending, &p->link);
    port->npending++;
    return 0;
}

static int await(struct vfu_port *port, short events, uint64_t deadline)
{
    for (;;) {
        uint64_t now = clock_now_ns();
        if (now >= deadline)
            return -ETIMEDOUT;
        struct pollfd p = { .fd = port->fd, .events = events };
        int r = poll(&p, 1, (deadline - now + 999999) / 1000000);
        if (r > 0)
            return 0;
        if (r < 0 && errno != EINTR)
            return -errno;
    }
}

static int call(struct vfu_port *port, unsigned command, const struct iovec *parts, int nparts,
                uint64_t deadline, struct vfu_msg *msg)
{
    struct vfu_header h = { .id = port->next_id++, .command = command };
    struct error err;
    int r = hold_input(port);

    while (r == 0 && !flush(port))
        r = port->ending ? -EPIPE : await(port, POLLOUT, deadline);
    if (r == 0)
        send_message(port, &h, parts, nparts, -1);
    while (r == 0 && !flush(port))
        r = port->ending ? -EPIPE : await(port, POLLOUT, deadline);
    while (r == 0) {
        if (port->ending)
            return -EPIPE;
        r = vfu_input_next(&port->in, msg, &err);
        if (r < 0)
            return r;
        if (r == 0) {
            r = await(port, POLLIN, deadline);
            if (r == 0) {
                ssize_t n = vfu_input_fill(&port->in, port->fd, MSG_DONTWAIT, &err);
                r = n > 0 || n == -EAGAIN ? 0 : n == 0 ? -EPIPE : n;
            }
        } else if ((msg->h.flags & VFU_TYPE_MASK) == VFU_TYPE_COMMAND) {
            r = put_aside(port, msg);
        } else if (msg->h.id == h.id && msg->h.command == command) {
            break;
        } else {
            vfu_msg_close_fds(msg);
            return -EPROTO;
        }
    }
    return r < 0 ? r : 0;
}

int vfu_port_call(struct vfu_port *port, unsigned command, const struct iovec *parts, int nparts,
                  unsigned timeout_ms, struct vfu_msg *ret_msg)
{
    if (port->ended || port->ending)
        return -EPIPE;
    ret_msg->nfds = 0;
    int r = call(port, command, parts, nparts, clock_now_ns() + timeout_ms * 1000000ull, ret_msg);
    if (r < 0) {
        vfu_port_end(port, "the peer does not answer a request for memory as it must");
        return r;
    }
    if (!list_empty(&port->pending) || !vfu_input_empty(&port->in))
        task_schedule(port->resume);
    if (ret_msg->h.flags & VFU_ERROR) {
        vfu_msg_close_fds(ret_msg);
        return ret_msg->h.error && ret_msg->h.error < 4096 ? -(int)ret_msg->h.error : -EINVAL;
    }
    return 0;
}
