/* SPDX-License-Identifier: Apache-2.0 */
/* A peer made of bytes, for the tests of both ends. */
#ifndef VFIO_USER_TESTS_RAW_H
#define VFIO_USER_TESTS_RAW_H

#include "vfio_user/proto.h"

#include <dirent.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct raw { uint8_t bytes[8192]; size_t len; };
struct reply {
    uint16_t id, command;
    uint32_t flags, error;
    uint8_t body[8192];
    int fds[VFU_FDS_MAX];
    unsigned nfds;
};

static inline unsigned count_fds(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static inline void raw_pair(int sv[2])
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
        abort();
}

static inline void raw_make(struct raw *m, unsigned command, uint32_t flags, const void *body,
                            size_t len)
{
    struct vfu_wire_header h;
    vfu_header_encode(&(struct vfu_header){ .id = 7, .command = command, .flags = flags,
                                            .len = len }, &h);
    memcpy(m->bytes, &h, sizeof h);
    if (len)
        memcpy(m->bytes + sizeof h, body, len);
    m->len = sizeof h + len;
}

static inline void raw_write_fds(int fd, const void *bytes, size_t len, const int *fds,
                                 unsigned nfds)
{
    char control[CMSG_SPACE(64 * sizeof(int))] = { 0 };
    struct iovec part = { (void *)bytes, len };
    struct msghdr mh = { .msg_iov = &part, .msg_iovlen = 1 };

    if (nfds) {
        mh.msg_control = control;
        mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
    }
    if (sendmsg(fd, &mh, MSG_NOSIGNAL) != (ssize_t)len)
        abort();
}

static inline void raw_send(int fd, unsigned command, uint32_t flags, const void *body,
                            size_t len, const int *fds, unsigned nfds)
{
    struct raw m;
    raw_make(&m, command, flags, body, len);
    raw_write_fds(fd, m.bytes, m.len, fds, nfds);
}

static inline void raw_send_id(int fd, uint16_t id, unsigned command, uint32_t flags,
                               const void *body, size_t len)
{
    struct raw m;
    raw_make(&m, command, flags, body, len);
    le16_store(m.bytes, id);
    raw_write_fds(fd, m.bytes, m.len, NULL, 0);
}

/* One message. Payload's length, or -1 when none is there (non-blocking) or the stream ended. */
static inline int raw_recv_flags(int fd, struct reply *r, int flags)
{
    char control[CMSG_SPACE(VFU_FDS_MAX * sizeof(int))];
    struct vfu_wire_header h;
    struct iovec part = { &h, sizeof h };
    struct msghdr mh = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
                         .msg_controllen = sizeof control };
    size_t len, done = 0;

    r->nfds = 0;
    if (recvmsg(fd, &mh, flags | MSG_CMSG_CLOEXEC) != sizeof h)
        return -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c)) {
        r->nfds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(r->fds, CMSG_DATA(c), r->nfds * sizeof(int));
    }
    r->id = le16_get(h.id);
    r->command = le16_get(h.command);
    r->flags = le32_get(h.flags);
    r->error = le32_get(h.error);
    len = le32_get(h.size) - sizeof h;
    while (done < len) {
        ssize_t n = recv(fd, r->body + done, len - done, flags);
        if (n <= 0)
            return -1;
        done += n;
    }
    return len;
}
static inline int raw_recv(int fd, struct reply *r) { return raw_recv_flags(fd, r, MSG_DONTWAIT); }

static inline void raw_close_fds(struct reply *r)
{
    for (unsigned i = 0; i < r->nfds; i++)
        close(r->fds[i]);
    r->nfds = 0;
}

#endif
