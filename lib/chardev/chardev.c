/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The port's half of a character device: descriptors that are already open, a bounded buffer for
 * output, the Ctrl-A keys of a shared terminal. A listening socket serves one client at a time.
 */
#include "chardev/chardev.h"

#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { READ_CHUNK = 4096, CTRL_A = 1 };

struct chardev {
    struct loop *loop;
    char *name;
    int in_fd, out_fd, listen_fd;       /* -1: none */
    int keep_fd;                        /* a pty's other end, held so that the pty never hangs up */
    struct watch *in_watch, *out_watch, *listen_watch;
    struct task *file_task;             /* input from what epoll refuses: a regular file */
    bool lossy;                         /* what does not fit is dropped: nobody may be reading */
    bool duplex;                        /* one connection both ways: it ends as a whole */
    bool mux, escape;
    bool starved;                       /* a write was cut short; the user waits for writable */

    uint8_t *out;                       /* ring */
    size_t out_start, out_len;

    const struct chardev_handler *handler;
    void *opaque;
    void (*quit)(void *opaque);
    void *quit_opaque;
};

const char *chardev_name(const struct chardev *chr) { return chr->name; }
bool chardev_connected(const struct chardev *chr) { return chr->in_fd >= 0 || chr->out_fd >= 0; }

static void tell(struct chardev *chr, enum chardev_event event)
{
    if (chr->handler && chr->handler->event)
        chr->handler->event(chr->opaque, event);
}

/* ---- output ---- */

size_t chardev_room(const struct chardev *chr)
{
    return chr->out_fd < 0 || chr->lossy ? CHARDEV_BUFFER : CHARDEV_BUFFER - chr->out_len;
}

static ssize_t write_piece(struct chardev *chr)
{
    size_t n = MIN(chr->out_len, CHARDEV_BUFFER - chr->out_start);
    ssize_t done;

    do
        done = write(chr->out_fd, chr->out + chr->out_start, n);
    while (done < 0 && errno == EINTR);
    return done < 0 ? -errno : done;
}

/* Writes what can be written now. False when the other side is gone for good. */
static bool flush(struct chardev *chr)
{
    while (chr->out_len) {
        ssize_t n = write_piece(chr);
        if (n == -EAGAIN)
            break;
        if (n < 0) {
            chr->out_len = 0;
            return false;
        }
        chr->out_start = (chr->out_start + n) % CHARDEV_BUFFER;
        chr->out_len -= n;
    }
    if (chr->out_watch)
        watch_set_events(chr->out_watch, chr->out_len ? EPOLLOUT : 0);
    return true;
}

static void disconnect(struct chardev *chr);

static void on_writable(void *opaque, uint32_t events)
{
    struct chardev *chr = opaque;

    if (!flush(chr)) {
        disconnect(chr);
        return;
    }
    if (chr->out_len == 0 && (events & (EPOLLHUP | EPOLLERR))) {
        disconnect(chr);
        return;
    }
    if (chr->starved && chardev_room(chr)) {
        chr->starved = false;
        if (chr->handler && chr->handler->writable)
            chr->handler->writable(chr->opaque);
    }
}

size_t chardev_write(struct chardev *chr, const uint8_t *data, size_t len)
{
    if (chr->out_fd < 0)
        return len;
    size_t n = MIN(len, CHARDEV_BUFFER - chr->out_len);
    for (size_t i = 0; i < n; i++)
        chr->out[(chr->out_start + chr->out_len + i) % CHARDEV_BUFFER] = data[i];
    chr->out_len += n;
    /* The other side being gone is found by the watch too; the output is dropped here already. */
    flush(chr);
    if (chr->lossy)
        return len;
    chr->starved |= n < len;
    return n;
}

/* ---- input ---- */

/* Takes the Ctrl-A keys out of buf, in place. Returns how many bytes are left. */
static size_t filter_keys(struct chardev *chr, uint8_t *buf, size_t len)
{
    static const char help[] = "\r\nCtrl-A x  leave\r\nCtrl-A b  send a break\r\n"
                               "Ctrl-A Ctrl-A  send Ctrl-A\r\n";
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        uint8_t c = buf[i];
        if (!chr->escape) {
            if (c == CTRL_A)
                chr->escape = true;
            else
                buf[n++] = c;
            continue;
        }
        chr->escape = false;
        switch (c) {
        case CTRL_A:
            buf[n++] = c;
            break;
        case 'x':
            if (chr->quit)
                chr->quit(chr->quit_opaque);
            break;
        case 'b':
            tell(chr, CHARDEV_BREAK);
            break;
        case 'h':
        case '?':
            chardev_write(chr, (const uint8_t *)help, sizeof help - 1);
            break;
        default:
            break;
        }
    }
    return n;
}

static size_t wanted(struct chardev *chr)
{
    return chr->handler ? MIN(chr->handler->can_read(chr->opaque), (size_t)READ_CHUNK) : 0;
}

/* End of input. A file or terminal may still be written to; a socket is gone as a whole. */
static void end_of_input(struct chardev *chr)
{
    if (chr->duplex) {
        disconnect(chr);
        return;
    }
    watch_free(chr->in_watch);
    chr->in_watch = NULL;
    close(chr->in_fd);
    chr->in_fd = -1;
}

/* One read. False when there is nothing more to do now. */
static bool take_input(struct chardev *chr)
{
    uint8_t buf[READ_CHUNK];
    size_t max = chr->in_fd >= 0 ? wanted(chr) : 0;

    if (max == 0) {
        if (chr->in_watch)
            watch_set_events(chr->in_watch, 0);     /* until chardev_accept_input */
        return false;
    }
    ssize_t n = read(chr->in_fd, buf, max);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        end_of_input(chr);
        return false;
    }
    size_t left = chr->mux ? filter_keys(chr, buf, n) : (size_t)n;
    if (left && chr->handler)
        chr->handler->read(chr->opaque, buf, left);
    return true;
}

static void on_input(void *opaque, uint32_t events)
{
    struct chardev *chr = opaque;

    if ((events & (EPOLLHUP | EPOLLERR)) && !(events & EPOLLIN)) {
        end_of_input(chr);
        return;
    }
    take_input(chr);
}

static void on_file_input(void *opaque)
{
    struct chardev *chr = opaque;

    if (take_input(chr))
        task_schedule(chr->file_task);
}

void chardev_accept_input(struct chardev *chr)
{
    if (chr->in_watch)
        watch_set_events(chr->in_watch, EPOLLIN);
    else if (chr->file_task && chr->in_fd >= 0)
        task_schedule(chr->file_task);
}

void chardev_attach(struct chardev *chr, const struct chardev_handler *handler, void *opaque)
{
    chr->handler = handler;
    chr->opaque = opaque;
    chr->starved = false;
    if (handler)
        chardev_accept_input(chr);
}

void chardev_on_quit(struct chardev *chr, void (*quit)(void *opaque), void *opaque)
{
    chr->quit = quit;
    chr->quit_opaque = opaque;
}

/* ---- connection ---- */

static void drop_descriptors(struct chardev *chr)
{
    watch_free(chr->in_watch);
    watch_free(chr->out_watch);
    chr->in_watch = chr->out_watch = NULL;
    if (chr->out_fd >= 0)
        close(chr->out_fd);
    if (chr->in_fd >= 0)
        close(chr->in_fd);
    chr->in_fd = chr->out_fd = -1;
    chr->out_len = 0;
    chr->escape = false;
}

static void disconnect(struct chardev *chr)
{
    bool starved = chr->starved;

    drop_descriptors(chr);
    chr->starved = false;
    if (chr->listen_watch)
        watch_set_events(chr->listen_watch, EPOLLIN);
    if (starved && chr->handler && chr->handler->writable)
        chr->handler->writable(chr->opaque);
    tell(chr, CHARDEV_CLOSED);
}

/* Watches in_fd and out_fd: two descriptors even of one socket, since epoll takes each only once. */
static int connect_descriptors(struct chardev *chr)
{
    int r;

    if (chr->in_fd >= 0) {
        r = watch_new(chr->loop, chr->in_fd, chr->handler ? EPOLLIN : 0, on_input, chr,
                      &chr->in_watch);
        if (r == -EPERM)
            r = task_new(chr->loop, on_file_input, chr, &chr->file_task);
        if (r < 0)
            return r;
    }
    if (chr->out_fd >= 0) {
        r = watch_new(chr->loop, chr->out_fd, 0, on_writable, chr, &chr->out_watch);
        if (r < 0 && r != -EPERM)
            return r;
    }
    return 0;
}

static void on_client(void *opaque, uint32_t events)
{
    struct chardev *chr = opaque;

    if (chardev_connected(chr))
        return;
    int fd = accept4(chr->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    chr->in_fd = fd;
    chr->out_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (chr->out_fd < 0 || connect_descriptors(chr) < 0) {
        drop_descriptors(chr);
        return;
    }
    watch_set_events(chr->listen_watch, 0);
    tell(chr, CHARDEV_OPENED);
}

/* ---- life ---- */

/* A duplicate of the descriptor that desc's member names; -1 when there is no such member. */
static int take_index(const json_t *desc, const char *key, const int *fds, unsigned nfds,
                      int *ret_fd, struct error *err)
{
    const json_t *v = json_object_get(desc, key);

    *ret_fd = -1;
    if (!v)
        return 0;
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= nfds)
        return error_set(err, -EINVAL, "'%s' names a descriptor that is not there", key);
    *ret_fd = fcntl(fds[json_integer_value(v)], F_DUPFD_CLOEXEC, 3);
    return *ret_fd < 0 ? error_set(err, -errno, "cannot take over a descriptor") : 0;
}

static int chardev_setup(struct chardev *chr, const char *id, const json_t *desc, const int *fds,
                         unsigned nfds, struct error *err)
{
    const char *kind = json_string_value(json_object_get(desc, "kind"));

    if (!kind || (strcmp(kind, "null") && strcmp(kind, "stream") && strcmp(kind, "server")))
        return error_set(err, -EINVAL, "it is of no known kind");
    bool server = !strcmp(kind, "server");
    const json_t *in = json_object_get(desc, "in"), *out = json_object_get(desc, "out");
    chr->duplex = server || (in && out && json_equal(in, out));
    chr->mux = json_is_true(json_object_get(desc, "mux"));
    chr->lossy = json_is_true(json_object_get(desc, "lossy"));
    chr->name = strdup(id);
    chr->out = malloc(CHARDEV_BUFFER);
    if (!chr->name || !chr->out)
        return error_oom(err);

    int r = take_index(desc, "in", fds, nfds, &chr->in_fd, err);
    if (r == 0)
        r = take_index(desc, "out", fds, nfds, &chr->out_fd, err);
    if (r == 0)
        r = take_index(desc, "listen", fds, nfds, &chr->listen_fd, err);
    if (r == 0)
        r = take_index(desc, "keep", fds, nfds, &chr->keep_fd, err);
    if (r < 0)
        return r;
    if (server != (chr->listen_fd >= 0))
        return error_set(err, -EINVAL, "its descriptors do not fit its kind");

    int all[] = { chr->in_fd, chr->out_fd, chr->listen_fd };
    for (unsigned i = 0; i < ARRAY_SIZE(all) && r == 0; i++)
        if (all[i] >= 0)
            r = fd_set_nonblock(all[i], true);
    if (r == 0)
        r = connect_descriptors(chr);
    if (r == 0 && server)
        r = watch_new(chr->loop, chr->listen_fd, chr->in_fd < 0 ? EPOLLIN : 0, on_client, chr,
                      &chr->listen_watch);
    return r < 0 ? error_set(err, r, "cannot watch its descriptors") : 0;
}

int chardev_new(struct loop *loop, const char *id, const json_t *desc, const int *fds, unsigned nfds,
                struct chardev **ret_chardev, struct error *err)
{
    struct chardev *chr = calloc(1, sizeof *chr);

    if (!chr)
        return error_oom(err);
    chr->loop = loop;
    chr->in_fd = chr->out_fd = chr->listen_fd = chr->keep_fd = -1;
    int r = chardev_setup(chr, id, desc, fds, nfds, err);
    if (r < 0) {
        chardev_free(chr);
        error_prefix(err, "chardev '%s'", id);
        return r;
    }
    *ret_chardev = chr;
    return 0;
}

void chardev_free(struct chardev *chr)
{
    if (!chr)
        return;
    if (chr->out_fd >= 0)
        flush(chr);
    drop_descriptors(chr);
    watch_free(chr->listen_watch);
    task_free(chr->file_task);
    if (chr->listen_fd >= 0)
        close(chr->listen_fd);
    if (chr->keep_fd >= 0)
        close(chr->keep_fd);
    free(chr->out);
    free(chr->name);
    free(chr);
}
