/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio_user/internal.h"

#include "base/fd.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

enum { DRAIN_MAX = 64 };                /* commands in a row before the loop gets its turn */

int vfu_caller_init(struct vfu_caller *caller, int fd, unsigned timeout_ms)
{
    /* The socket's own time-outs make a call two system calls: send and receive. */
    struct timeval tv = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };

    *caller = (struct vfu_caller){ .fd = fd, .timeout_ms = timeout_ms };
    int r = fd_set_nonblock(fd, false);
    if (r < 0)
        return r;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv) < 0)
        return -errno;
    return vfu_input_init(&caller->in);
}

void vfu_caller_fini(struct vfu_caller *caller)
{
    vfu_input_fini(&caller->in);
    if (caller->fd >= 0)
        close(caller->fd);
    caller->fd = -1;
}

void vfu_caller_kill(struct vfu_caller *caller, int code, const char *fmt, ...)
{
    va_list ap;

    if (caller->dead)
        return;
    va_start(ap, fmt);
    vsnprintf(caller->reason.text, sizeof caller->reason.text, fmt, ap);
    va_end(ap);
    caller->reason.code = code;
    caller->dead = true;
    shutdown(caller->fd, SHUT_RDWR);    /* the peer and whoever watches the socket shall know */
}

static int send_whole(struct vfu_caller *caller, const struct iovec *parts, int nparts,
                      const int *fds, unsigned nfds, unsigned command)
{
    size_t size = 0;
    for (int i = 0; i < nparts; i++)
        size += parts[i].iov_len;

    ssize_t n = vfu_send(caller->fd, 0, parts, nparts, fds, nfds);
    if (n == (ssize_t)size)
        return 0;
    if (n >= 0 || n == -EAGAIN)
        vfu_caller_kill(caller, -ETIMEDOUT, "the peer does not take a %s",
                        vfu_command_name(command));
    else
        vfu_caller_kill(caller, n, "cannot send a %s to the peer: %s", vfu_command_name(command),
                        strerror(-n));
    return caller->reason.code;
}

/* Receives until a message is whole, or deadline_ns. 0 or the dead caller's reason. */
static int receive(struct vfu_caller *caller, uint64_t deadline_ns, unsigned command,
                   struct vfu_msg *ret_msg)
{
    struct error err;
    bool first = true;

    for (;;) {
        int r = vfu_input_next(&caller->in, ret_msg, &err);
        if (r > 0)
            return 0;
        ssize_t n = r;
        if (r == 0) {
            if (!first) {               /* a peer that drips bytes gets no more time for it */
                uint64_t now = clock_now_ns();
                struct pollfd p = { .fd = caller->fd, .events = POLLIN };
                if (now >= deadline_ns ||
                    poll(&p, 1, (deadline_ns - now + 999999) / 1000000) == 0) {
                    n = -EAGAIN;
                    goto dead;
                }
            }
            first = false;
            n = vfu_input_fill(&caller->in, caller->fd, 0, &err);
            if (n > 0)
                continue;
        }
    dead:
        if (n == -EPROTO || n == -ENOMEM)
            vfu_caller_kill(caller, -EPROTO, "%s", err.text);
        else if (n == 0)
            vfu_caller_kill(caller, -EPIPE, "the peer closed the channel");
        else if (n == -EAGAIN)
            vfu_caller_kill(caller, -ETIMEDOUT, "no answer to %s within %u ms",
                            vfu_command_name(command), caller->timeout_ms);
        else
            vfu_caller_kill(caller, n, "cannot receive from the peer: %s", strerror(-n));
        return caller->reason.code;
    }
}

/* A command came where a reply may come as well. */
static bool take_command(struct vfu_caller *caller, struct vfu_msg *msg)
{
    if ((msg->h.flags & VFU_TYPE_MASK) != VFU_TYPE_COMMAND)
        return false;
    if (caller->on_command)
        caller->on_command(caller->opaque, msg);
    else
        vfu_caller_kill(caller, -EPROTO, "the peer sent a command (%s) where it must not",
                        vfu_command_name(msg->h.command));
    vfu_msg_close_fds(msg);
    return true;
}

static int check_reply(struct vfu_caller *caller, const struct vfu_question *q, uint16_t id,
                       const struct vfu_msg *msg)
{
    if (msg->h.id != id || msg->h.command != q->command) {
        vfu_caller_kill(caller, -EPROTO, "the answer to %s number %u is to %s number %u",
                        vfu_command_name(q->command), id, vfu_command_name(msg->h.command),
                        msg->h.id);
        return caller->reason.code;
    }
    if (msg->h.flags & VFU_ERROR)
        return msg->h.error && msg->h.error < 4096 ? -(int)msg->h.error : -EINVAL;
    if (msg->h.len < q->reply_min || msg->h.len > q->reply_max) {
        vfu_caller_kill(caller, -EPROTO, "the answer to %s has %u bytes; %zu to %zu are possible",
                        vfu_command_name(q->command), msg->h.len, q->reply_min, q->reply_max);
        return caller->reason.code;
    }
    return 0;
}

int vfu_caller_ask(struct vfu_caller *caller, const struct vfu_question *q,
                   struct vfu_msg *ret_reply)
{
    struct vfu_wire_header wire;
    struct vfu_header h = { .id = caller->next_id++, .command = q->command,
                            .flags = q->posted ? VFU_NO_REPLY : 0 };
    struct iovec parts[1 + ARRAY_SIZE(q->parts)] = { VFU_PART(&wire, sizeof wire) };

    ret_reply->nfds = 0;
    if (caller->dead)
        return caller->reason.code;
    for (int i = 0; i < q->nparts; i++) {
        parts[1 + i] = q->parts[i];
        h.len += q->parts[i].iov_len;
    }
    vfu_header_encode(&h, &wire);
    int r = send_whole(caller, parts, 1 + q->nparts, q->fds, q->nfds, q->command);
    if (r < 0 || q->posted)
        return r;

    uint64_t deadline = clock_now_ns() + caller->timeout_ms * 1000000ull;
    do {
        r = receive(caller, deadline, q->command, ret_reply);
        if (r == 0 && clock_now_ns() > deadline)
            vfu_caller_kill(caller, -ETIMEDOUT, "no answer to %s within %u ms",
                            vfu_command_name(q->command), caller->timeout_ms);
        if (caller->dead) {
            vfu_msg_close_fds(ret_reply);
            return caller->reason.code;
        }
    } while (take_command(caller, ret_reply));

    r = check_reply(caller, q, h.id, ret_reply);
    if (r < 0)
        vfu_msg_close_fds(ret_reply);
    return r;
}

void vfu_caller_drain(struct vfu_caller *caller)
{
    struct vfu_msg msg;
    struct error err;

    for (int i = 0; i < DRAIN_MAX && !caller->dead; i++) {
        int r = vfu_input_next(&caller->in, &msg, &err);
        ssize_t n = r;
        if (r == 0) {
            n = vfu_input_fill(&caller->in, caller->fd, MSG_DONTWAIT, &err);
            if (n == -EAGAIN)
                return;
            if (n > 0)
                continue;
        }
        if (r > 0 && take_command(caller, &msg))
            continue;
        if (r > 0) {
            vfu_msg_close_fds(&msg);
            vfu_caller_kill(caller, -EPROTO, "the peer answered what was not asked");
        } else if (n == 0) {
            vfu_caller_kill(caller, -EPIPE, "the peer closed the channel");
        } else if (n == -EPROTO || n == -ENOMEM) {
            vfu_caller_kill(caller, -EPROTO, "%s", err.text);
        } else {
            vfu_caller_kill(caller, n, "cannot receive from the peer: %s", strerror(-n));
        }
    }
}

void vfu_caller_reply(struct vfu_caller *caller, const struct vfu_header *request, int error,
                      const struct iovec *parts, int nparts)
{
    struct vfu_wire_header wire;
    struct vfu_header h = { .id = request->id, .command = request->command,
                            .flags = VFU_TYPE_REPLY | (error ? VFU_ERROR : 0), .error = error };
    struct iovec all[3] = { VFU_PART(&wire, sizeof wire) };
    int n = 1;

    if (request->flags & VFU_NO_REPLY)
        return;
    for (int i = 0; i < nparts && !error; i++) {
        all[n++] = parts[i];
        h.len += parts[i].iov_len;
    }
    vfu_header_encode(&h, &wire);
    if (send_whole(caller, all, n, NULL, 0, request->command) < 0)
        return;
}
