/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static int address(const char *path, struct sockaddr_un *ret, struct error *err)
{
    *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof ret->sun_path || !*path)
        return error_set(err, -EINVAL, "socket path '%.120s' is empty or longer than %zu bytes", path,
                         sizeof ret->sun_path - 1);
    strcpy(ret->sun_path, path);
    return 0;
}

int socket_connect(const char *path, int type, int *ret_fd, struct error *err)
{
    struct sockaddr_un sun;

    int r = address(path, &sun, err);
    if (r < 0)
        return r;
    AUTO_FD int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set(err, -errno, "cannot make a socket");
    if (connect(fd, (struct sockaddr *)&sun, sizeof sun) < 0)
        return error_set(err, -errno, "cannot connect to '%s'", path);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* Removes a socket file that nobody listens on. */
static int clear_stale(const struct sockaddr_un *sun, int type, struct error *err)
{
    struct stat st;

    if (lstat(sun->sun_path, &st) < 0)
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return error_set(err, -EEXIST, "cannot listen on '%s', which is not a socket",
                         sun->sun_path);
    AUTO_FD int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set(err, -errno, "cannot make a socket");
    if (connect(fd, (const struct sockaddr *)sun, sizeof *sun) == 0 || errno != ECONNREFUSED)
        return error_set(err, -EADDRINUSE, "cannot listen on '%s'", sun->sun_path);
    unlink(sun->sun_path);
    return 0;
}

int socket_listen(const char *path, int type, int *ret_fd, struct error *err)
{
    struct sockaddr_un sun;

    int r = address(path, &sun, err);
    if (r == 0)
        r = clear_stale(&sun, type, err);
    if (r < 0)
        return r;
    AUTO_FD int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set(err, -errno, "cannot make a socket");
    if (bind(fd, (struct sockaddr *)&sun, sizeof sun) < 0)
        return error_set(err, -errno, "cannot listen on '%s'", path);
    if (listen(fd, 4) < 0) {
        r = error_set(err, -errno, "cannot listen on '%s'", path);
        unlink(path);
        return r;
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}

union fd_control {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int) * SOCKET_FDS_MAX)];
};

ssize_t socket_send(int fd, const struct iovec *iov, int niov, const int *fds, unsigned nfds,
                    int flags)
{
    union fd_control control;
    struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = niov };

    if (nfds > SOCKET_FDS_MAX)
        return -EINVAL;
    if (nfds) {
        memset(&control, 0, sizeof control);
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
    }
    ssize_t n;
    do
        n = sendmsg(fd, &msg, flags | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

ssize_t socket_recv(int fd, void *buf, size_t len, int *fds, unsigned *ret_nfds, int flags)
{
    union fd_control control;
    struct iovec iov = { buf, len };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                          .msg_controllen = sizeof control };
    unsigned count = 0;
    ssize_t n;

    *ret_nfds = 0;
    do
        n = recvmsg(fd, &msg, flags | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        unsigned got = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (unsigned i = 0; i < got; i++) {
            int one;
            memcpy(&one, CMSG_DATA(c) + i * sizeof one, sizeof one);
            if (count < SOCKET_FDS_MAX)
                fds[count++] = one;
            else
                close(one);
        }
    }
    if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        while (count)
            close(fds[--count]);
        return -EMSGSIZE;
    }
    *ret_nfds = count;
    return n;
}
