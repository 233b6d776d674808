/* SPDX-License-Identifier: Apache-2.0 */
/* Unix sockets: messages with descriptors, paths that fit, listeners that clean up. */
#ifndef IPC_SOCKET_H
#define IPC_SOCKET_H

#include "base/error.h"

#include <sys/types.h>
#include <sys/uio.h>

enum { SOCKET_FDS_MAX = 32 };

/* type: SOCK_STREAM or SOCK_SEQPACKET; sockets are close-on-exec. listen replaces a stale socket
 * file (nobody answers there), and refuses one that is in use or that is no socket. */
int socket_connect(const char *path, int type, int *ret_fd, struct error *err) MUST_CHECK;
int socket_listen(const char *path, int type, int *ret_fd, struct error *err) MUST_CHECK;

/* One sendmsg with fds attached. Bytes sent or -errno; never SIGPIPE. */
ssize_t socket_send(int fd, const struct iovec *iov, int niov, const int *fds, unsigned nfds,
                    int flags);
/*
 * One recvmsg. fds (room for SOCKET_FDS_MAX) are close-on-exec and the caller's. Returns bytes, 0 at
 * the end, -errno; -EMSGSIZE if data or descriptors were cut off (what came is closed).
 */
ssize_t socket_recv(int fd, void *buf, size_t len, int *fds, unsigned *ret_nfds, int flags);

#endif
