/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both ends are made of: input, which cuts a stream into messages; port, which answers
 * messages on an event loop; caller, which asks and waits.
 */
#ifndef VFIO_USER_INTERNAL_H
#define VFIO_USER_INTERNAL_H

#include "base/list.h"
#include "event/loop.h"
#include "vfio_user/proto.h"

#include <sys/uio.h>

/* ---- input ---- */

struct vfu_msg {
    struct vfu_header h;
    const uint8_t *body;            /* h.len bytes, until the input is used again */
    int fds[VFU_FDS_MAX];           /* whoever keeps one leaves -1 (TAKE_FD) */
    unsigned nfds;
};
void vfu_msg_close_fds(struct vfu_msg *msg);

/*
 * Bytes and descriptors as they came. A descriptor belongs to the message that holds the last
 * byte of the read it came with: Linux ends a read after the data that descriptors were sent
 * with, and who sends descriptors sends one message at a time.
 */
struct vfu_input {
    uint8_t *buf;
    size_t cap, start, end;         /* [start, end) is unread */
    struct { int fd; size_t at; } fds[2 * VFU_FDS_MAX];
    unsigned nfds;
};
int vfu_input_init(struct vfu_input *in) MUST_CHECK;
void vfu_input_fini(struct vfu_input *in);
/* One recvmsg. Bytes read; 0: the stream ended; -EAGAIN and other errno; -EPROTO with a text. */
ssize_t vfu_input_fill(struct vfu_input *in, int fd, int flags, struct error *err) MUST_CHECK;
/* 1: the next message, whose descriptors are now the caller's; 0: more bytes are needed;
 * -EPROTO, -ENOMEM: no way on. */
int vfu_input_next(struct vfu_input *in, struct vfu_msg *ret_msg, struct error *err) MUST_CHECK;
static inline bool vfu_input_empty(const struct vfu_input *in) { return in->start == in->end; }

/* One sendmsg (and, if the socket blocks, more until all is out). Bytes sent or -errno, where
 * -EAGAIN means none. */
ssize_t vfu_send(int fd, int flags, const struct iovec *parts, int nparts, const int *fds,
                 unsigned nfds) MUST_CHECK;

/* ---- port ---- */

/*
 * The answering end of a socket, on the loop, never blocking. While an answer cannot be sent
 * nothing more is read, so a slow peer holds one answer of ours and no more.
 */
struct vfu_port {
    struct loop *loop;
    int fd;
    struct watch *watch;
    struct vfu_input in;
    uint8_t *out;                   /* rest of an answer */
    size_t out_len, out_done;
    int out_fd;                     /* goes with the first byte; -1: none */
    bool ended, in_message, ending;
    bool stalled;                   /* an answer is owed: nothing more is taken until it is given */
    struct error end_reason;
    struct list pending;            /* commands that came while we waited for a reply */
    unsigned npending;
    struct task *resume;
    struct vfu_input held;          /* the outer message's bytes, during a nested call */
    bool has_held;
    uint16_t next_id;               /* of commands of ours */

    /* msg's descriptors are closed afterwards, those that were not taken. */
    void (*on_message)(void *opaque, struct vfu_msg *msg);
    /* The stream is over, by the peer (reason NULL) or for a reason. The last call; the port may
     * be finished from inside. */
    void (*on_end)(void *opaque, const char *reason);
    void *opaque;
};
/* Takes fd, also when it fails. */
int vfu_port_init(struct vfu_port *port, struct loop *loop, int fd) MUST_CHECK;
void vfu_port_fini(struct vfu_port *port);
/* error 0: reply with these parts; otherwise a header with the error. Silent when the request
 * wants no reply. fd (-1: none) is borrowed. */
void vfu_port_reply(struct vfu_port *port, const struct vfu_header *request, int error,
                    const struct iovec *parts, int nparts, int fd);
/* While true no message is taken; who set it gives the answer he owes and clears it. */
void vfu_port_stall(struct vfu_port *port, bool stalled);
/* After the current message, on_end(reason) is called. */
void vfu_port_end(struct vfu_port *port, const char *reason);
/* Sends a command on the same socket and waits for its reply, queueing commands that come
 * first. Returns 0 with *ret_msg (to be closed), or -errno. */
int vfu_port_call(struct vfu_port *port, unsigned command, const struct iovec *parts, int nparts,
                  unsigned timeout_ms, struct vfu_msg *ret_msg);

/* ---- caller ---- */

/* The asking end of a blocking socket: one question at a time, the lock is the user's. */
struct vfu_caller {
    int fd;
    struct vfu_input in;
    uint16_t next_id;
    unsigned timeout_ms;
    bool dead;
    struct error reason;            /* why dead */
    /* A command from the peer on this socket; NULL: the peer must not. */
    void (*on_command)(void *opaque, struct vfu_msg *msg);
    void *opaque;
};
/* Takes fd, also when it fails. */
int vfu_caller_init(struct vfu_caller *caller, int fd, unsigned timeout_ms) MUST_CHECK;
void vfu_caller_fini(struct vfu_caller *caller);

struct vfu_question {
    unsigned command;
    bool posted;                    /* no reply wanted */
    struct iovec parts[3];
    int nparts;
    const int *fds;                 /* borrowed */
    unsigned nfds;
    size_t reply_min, reply_max;    /* bytes of payload a good reply may have */
};
/*
 * 0: *ret_reply, whose body is good until the next call and whose descriptors the caller closes.
 * -errno as the peer's error reply says; or the caller is dead (see reason) and stays so.
 */
int vfu_caller_ask(struct vfu_caller *caller, const struct vfu_question *q,
                   struct vfu_msg *ret_reply) MUST_CHECK;
/* What has come unasked: commands are handed on, anything else kills. Does not block. */
void vfu_caller_drain(struct vfu_caller *caller);
/* Answers a command that came through on_command. */
void vfu_caller_reply(struct vfu_caller *caller, const struct vfu_header *request, int error,
                      const struct iovec *parts, int nparts);
void vfu_caller_kill(struct vfu_caller *caller, int code, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

#define VFU_PART(p, n) ((struct iovec){ .iov_base = (void *)(p), .iov_len = (n) })

#endif
