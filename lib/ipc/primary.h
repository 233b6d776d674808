/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary channel (row B1): control process ↔ device process, and control ↔ CPU process. JSON
 * messages with descriptors, over a SOCK_SEQPACKET unix socket, so that a message arrives whole or
 * not at all and a bad one cannot put the others out of step.
 *
 *   request   {"execute": NAME, "arguments": {…}, "id": N}        descriptors: by index in arguments
 *   answer    {"return": {…}, "id": N}  or  {"error": {"class": "GenericError", "desc": TEXT}, "id": N}
 *   event     {"event": NAME, "data": {…}}                        no answer
 *
 * Both ends may request. A message is at most PRIMARY_MESSAGE_MAX bytes with PRIMARY_FDS_MAX
 * descriptors; a larger one, bad JSON, or a wrong shape ends the channel. Loop thread.
 *
 * Commands a device process serves (arguments → return):
 *   blockdev-add     {…BlockdevOptions, "fd": index…} + fds
 *   blockdev-del     {"node-name"}
 *   device_add       {"driver", "id", …}
 *   device_del       {"id"}
 *   channel-open     {"device": id} + 1 fd (connected stream socket): serve vfio-user for it there.
 *                    Without a descriptor: makes the socket pair and returns {"fd": 0} + 1 fd
 *   device-list-properties, qom-list, qom-get, query-block, query-named-block-nodes, query-status
 *   device-reset     {"id"}
 *   device-save      {} → {"fd": 0} + 1 fd (memfd with the state of all devices); device must be stopped
 *   device-load      {} + 1 fd
 *   stop, cont       pause and resume all devices
 *   sandbox-info     {} → {"steps": [{"step", "done", "reason"}]}
 *   quit
 * Events a device process sends: DEVICE_ERROR {"device", "reason"}, BLOCK_IO_ERROR, READY {}.
 *
 * Commands the CPU process serves besides device_add, device_del, blockdev-add and the queries:
 *   machine-init     {"memory", "smp": {"cpus",…}, "machine": …, "kernel": fd index, "initrd", "append",
 *                     "serial": [chardev…], …}   then  cont, stop, system_reset, system_powerdown, quit
 * Events of the CPU process: RESET, SHUTDOWN {"guest", "reason"}, STOP, RESUME, GUEST_PANICKED,
 *   CHANNEL_FAILED {"device", "reason"}.
 */
#ifndef IPC_PRIMARY_H
#define IPC_PRIMARY_H

#include "base/error.h"
#include "event/loop.h"

#include <jansson.h>

enum { PRIMARY_MESSAGE_MAX = 192 * 1024, PRIMARY_FDS_MAX = 32 };

struct primary;

/* Descriptors that came with a message. A handler takes what it wants (leaving -1); the rest is
 * closed after it returns. */
struct primary_fds { int fds[PRIMARY_FDS_MAX]; unsigned count; };

struct primary_ops {
    /*
     * A request. Returns 0 and sets *ret_answer (new reference; NULL: {}), and may put descriptors
     * to send along into out (they are closed after sending); or fails with err for the peer.
     * -EINPROGRESS: the answer comes later, by primary_answer with this id.
     */
    int  (*request)(void *opaque, const char *name, json_t *args, struct primary_fds *in,
                    json_int_t id, json_t **ret_answer, struct primary_fds *out, struct error *err);
    void (*event)(void *opaque, const char *name, json_t *data);
    /* Once: the peer closed (reason NULL) or broke the protocol. The channel may be freed here. */
    void (*closed)(void *opaque, const char *reason);
};

/* Takes fd. */
int primary_new(struct loop *loop, int fd, const struct primary_ops *ops, void *opaque,
                struct primary **ret_primary, struct error *err) MUST_CHECK;
void primary_free(struct primary *primary);             /* NULL allowed */

/* fds are sent (duplicated by the kernel), and stay the caller's. cb is called exactly once: with
 * the answer and its descriptors, or with an error when the peer said so or the channel closed (then
 * err->code is -EPIPE).
 * args is borrowed; NULL: {}. */
typedef void primary_answer_fn(void *opaque, json_t *answer, struct primary_fds *in,
                               const struct error *err);
int primary_request(struct primary *primary, const char *name, json_t *args, const int *fds,
                    unsigned nfds, primary_answer_fn *cb, void *opaque) MUST_CHECK;
/* The same, waiting at most timeout_ms while serving only this channel; other messages of the peer are
 * handled. For start-up. */
int primary_call(struct primary *primary, const char *name, json_t *args, const int *fds,
                 unsigned nfds, int timeout_ms, json_t **ret_answer, struct primary_fds *ret_fds,
                 struct error *err) MUST_CHECK;
int primary_answer(struct primary *primary, json_int_t id, json_t *answer, const int *fds,
                   unsigned nfds, const struct error *err);
int primary_event(struct primary *primary, const char *name, json_t *data);

/* A connected pair, close-on-exec. */
int primary_pair(int fds[2]) MUST_CHECK;
/* "3" (inherited), "unix:PATH" (connect), "unix:PATH,server" (listen and take the first). SEQPACKET. */
int primary_socket_open(const char *spec, int *ret_fd, struct error *err) MUST_CHECK;

#endif
