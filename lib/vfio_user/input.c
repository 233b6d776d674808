/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio_user/internal.h"

#include <errno.h>
#include <sys/socket.h>

enum {
    INPUT_CAP = 8192,               /* all but the largest messages; grown for one, then shrunk */
    HEADER_SIZE = sizeof(struct vfu_wire_header),
};

void vfu_msg_close_fds(struct vfu_msg *msg)
{
    for (unsigned i = 0; i < msg->nfds; i++)
        if (msg->fds[i] >= 0)
            close(msg->fds[i]);
    msg->nfds = 0;
}

int vfu_input_init(struct vfu_input *in)
{
    *in = (struct vfu_input){ .buf = malloc(INPUT_CAP), .cap = INPUT_CAP };
    return in->buf ? 0 : -ENOMEM;
}

void vfu_input_fini(struct vfu_input *in)
{
    for (unsigned i = 0; i < in->nfds; i++)
        close(in->fds[i].fd);
    free(in->buf);
    *in = (struct vfu_input){ 0 };
}

/* Moves what is unread to the front, in a buffer that holds want bytes. */
static int make_room(struct vfu_input *in, size_t want)
{
    size_t cap = MAX(want, (size_t)INPUT_CAP), used = in->end - in->start;

    if (cap != in->cap && used <= cap) {
        uint8_t *buf = malloc(cap);
        if (!buf)
            return -ENOMEM;
        memcpy(buf, in->buf + in->start, used);
        free(in->buf);
        in->buf = buf;
        in->cap = cap;
    } else if (in->start) {
        memmove(in->buf, in->buf + in->start, used);
    }
    for (unsigned i = 0; i < in->nfds; i++)
        in->fds[i].at -= in->start;
    in->start = 0;
    in->end = used;
    return 0;
}

/* Takes the descriptors out of a received message; false if there were too many. */
static bool collect_fds(struct vfu_input *in, struct msghdr *mh, size_t at)
{
    bool fits = !(mh->msg_flags & MSG_CTRUNC);

    for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        unsigned n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (unsigned i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (in->nfds < ARRAY_SIZE(in->fds)) {
                in->fds[in->nfds].fd = fd;
                in->fds[in->nfds++].at = at;
            } else {
                close(fd);
                fits = false;
            }
        }
    }
    return fits;
}

ssize_t vfu_input_fill(struct vfu_input *in, int fd, int flags, struct error *err)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(VFU_FDS_MAX * sizeof(int))];
    } control;

    if (in->start == in->end && !in->nfds)
        in->start = in->end = 0;
    if (in->end == in->cap && make_room(in, in->cap) < 0)
        return error_oom(err);

    struct iovec part = VFU_PART(in->buf + in->end, in->cap - in->end);
    struct msghdr mh = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes };
    ssize_t n;
    do
        n = recvmsg(fd, &mh, flags | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    in->end += n;
    if ((mh.msg_controllen || (mh.msg_flags & MSG_CTRUNC)) && !collect_fds(in, &mh, in->end))
        return error_set(err, -EPROTO, "more than %d descriptors came with one message",
                         VFU_FDS_MAX);
    return n;
}

/* Moves the descriptors of the message that ends at `end` into msg. */
static int assign_fds(struct vfu_input *in, size_t end, struct vfu_msg *msg, struct error *err)
{
    unsigned n = 0, kept = 0;

    while (n < in->nfds && in->fds[n].at <= end)
        n++;
    if (n > VFU_FDS_MAX)
        return error_set(err, -EPROTO, "more than %d descriptors came with one message",
                         VFU_FDS_MAX);
    for (unsigned i = 0; i < n; i++)
        msg->fds[msg->nfds++] = in->fds[i].fd;
    for (unsigned i = n; i < in->nfds; i++)
        in->fds[kept++] = in->fds[i];
    in->nfds = kept;
    return 0;
}

int vfu_input_next(struct vfu_input *in, struct vfu_msg *ret_msg, struct error *err)
{
    size_t used = in->end - in->start;

    ret_msg->nfds = 0;
    if (used < HEADER_SIZE) {
        if (in->cap - in->start < HEADER_SIZE && make_room(in, HEADER_SIZE) < 0)
            return error_oom(err);
        return 0;
    }
    int r = vfu_header_decode(in->buf + in->start, &ret_msg->h, err);
    if (r < 0)
        return r;

    size_t size = HEADER_SIZE + ret_msg->h.len;
    if (used < size) {
        if (in->cap - in->start < size && make_room(in, size) < 0)
            return error_oom(err);
        return 0;
    }
    if (in->nfds && (r = assign_fds(in, in->start + size, ret_msg, err)) < 0)
        return r;
    ret_msg->body = in->buf + in->start + HEADER_SIZE;
    in->start += size;
    return 1;
}

ssize_t vfu_send(int fd, int flags, const struct iovec *parts, int nparts, const int *fds,
                 unsigned nfds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(VFU_FDS_MAX * sizeof(int))];
    } control;
    struct iovec iov[5];
    size_t done = 0;

    if ((size_t)nparts > ARRAY_SIZE(iov) || nfds > VFU_FDS_MAX)
        return -EINVAL;
    memcpy(iov, parts, nparts * sizeof *iov);

    struct msghdr mh = { .msg_iov = iov, .msg_iovlen = nparts };
    if (nfds) {
        mh.msg_control = memset(&control, 0, sizeof control);
        mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
    }
    for (;;) {
        ssize_t n = sendmsg(fd, &mh, flags | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return done ? (ssize_t)done : -errno;
        done += n;
        while (mh.msg_iovlen && (size_t)n >= mh.msg_iov->iov_len) {
            n -= mh.msg_iov->iov_len;
            mh.msg_iov++;
            mh.msg_iovlen--;
        }
        if (!mh.msg_iovlen)
            return done;
        mh.msg_iov->iov_base = (char *)mh.msg_iov->iov_base + n;
        mh.msg_iov->iov_len -= n;
        mh.msg_control = NULL;
        mh.msg_controllen = 0;
    }
}
