/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "base/fd.h"
#include "chardev/chardev.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

struct user {
    char text[8192];
    size_t len, room;
    int opened, closed, breaks, writable, quits;
};

static size_t can_read(void *opaque) { return ((struct user *)opaque)->room; }
static void got(void *opaque, const uint8_t *data, size_t len)
{
    struct user *u = opaque;
    CHECK(len <= u->room && u->len + len < sizeof u->text);
    memcpy(u->text + u->len, data, len);
    u->len += len;
}
static void on_room(void *opaque) { ((struct user *)opaque)->writable++; }
static void on_event(void *opaque, enum chardev_event event)
{
    struct user *u = opaque;
    u->opened += event == CHARDEV_OPENED;
    u->closed += event == CHARDEV_CLOSED;
    u->breaks += event == CHARDEV_BREAK;
}
static void on_quit(void *opaque) { ((struct user *)opaque)->quits++; }
static const struct chardev_handler handler = { can_read, got, on_room, on_event };

static struct loop *new_loop(void)
{
    struct loop *loop;
    struct error err;
    CHECK_EQ(loop_new(&loop, &err), 0);
    return loop;
}

static void turns(struct loop *loop)
{
    for (int i = 0; i < 20; i++)
        loop_turn(loop, 1);
}

static int open_text(const char *json, json_t **desc, int *fds, unsigned *nfds, struct error *err)
{
    json_t *options = json_loads(json, 0, NULL);
    CHECK(options);
    int r = chardev_open(options, desc, fds, nfds, err);
    json_decref(options);
    return r;
}

static struct chardev *stream_of(struct loop *loop, int fd, const char *json)
{
    struct chardev *chr;
    struct error err;
    json_t *desc = json_loads(json, 0, NULL);
    CHECK_EQ(chardev_new(loop, "t", desc, &fd, 1, &chr, &err), 0);
    json_decref(desc);
    return chr;
}

TEST(bytes_go_both_ways_and_wait_for_a_user_with_room)
{
    struct loop *loop = new_loop();
    struct user u = { .room = 0 };
    char buf[16];
    int sv[2];

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
    struct chardev *chr = stream_of(loop, sv[0], "{\"kind\":\"stream\",\"in\":0,\"out\":0}");
    CHECK_EQ(write(sv[1], "hello", 5), 5);
    chardev_attach(chr, &handler, &u);
    turns(loop);
    CHECK_EQ(u.len, 0);
    u.room = 2;                         /* a FIFO of two */
    chardev_accept_input(chr);
    turns(loop);
    CHECK_EQ(u.len, 5);
    CHECK_MEM(u.text, "hello", 5);
    CHECK_EQ(chardev_write(chr, (const uint8_t *)"abc", 3), 3);
    CHECK_EQ(read(sv[1], buf, sizeof buf), 3);
    CHECK_MEM(buf, "abc", 3);

    close(sv[1]);
    close(sv[0]);
    turns(loop);
    CHECK_EQ(u.closed, 1);
    CHECK(!chardev_connected(chr));
    CHECK_EQ(chardev_write(chr, (const uint8_t *)"abc", 3), 3);     /* dropped */
    chardev_free(chr);
    loop_free(loop);
}

TEST(output_is_bounded_and_arrives_whole_once_the_reader_reads)
{
    struct loop *loop = new_loop();
    struct user u = { .room = 1 };
    static uint8_t block[CHARDEV_BUFFER];
    size_t sent = 0, received = 0;
    uint8_t buf[4096];
    int p[2];

    CHECK_EQ(pipe2(p, O_NONBLOCK | O_CLOEXEC), 0);
    struct chardev *chr = stream_of(loop, p[1], "{\"kind\":\"stream\",\"out\":0}");
    chardev_attach(chr, &handler, &u);
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = i % 251;
    size_t n;
    while ((n = chardev_write(chr, block + sent % 251, 1000)) == 1000)
        sent += n;
    sent += n;
    CHECK(sent >= CHARDEV_BUFFER && sent <= CHARDEV_BUFFER + 1024 * 1024);
    CHECK_EQ(chardev_room(chr), 0);
    for (int idle = 0; idle < 3;) {
        ssize_t r = read(p[0], buf, sizeof buf);
        if (r < 0) {
            idle++;
            turns(loop);
            continue;
        }
        for (ssize_t i = 0; i < r; i++)
            CHECK_EQ(buf[i], (received + i) % 251);
        received += r;
    }
    CHECK_EQ(received, sent);
    CHECK(u.writable >= 1);
    CHECK_EQ(chardev_room(chr), CHARDEV_BUFFER);
    chardev_free(chr);
    close(p[0]);
    close(p[1]);
    loop_free(loop);
}

TEST(ctrl_a_keys_are_taken_out_of_a_shared_terminal)
{
    struct loop *loop = new_loop();
    struct user u = { .room = 100 };
    int sv[2];

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
    struct chardev *chr =
        stream_of(loop, sv[0], "{\"kind\":\"stream\",\"in\":0,\"out\":0,\"mux\":true}");
    chardev_on_quit(chr, on_quit, &u);
    chardev_attach(chr, &handler, &u);
    CHECK_EQ(write(sv[1], "a\001\001b\001bc\001", 8), 8);
    turns(loop);
    CHECK_EQ(write(sv[1], "xd", 2), 2);
    turns(loop);
    CHECK_EQ(u.len, 5);
    CHECK_MEM(u.text, "a\001bcd", 5);
    CHECK_EQ(u.breaks, 1);
    CHECK_EQ(u.quits, 1);
    chardev_free(chr);
    close(sv[0]);
    close(sv[1]);
    loop_free(loop);
}

TEST(a_listening_socket_serves_one_client_after_another)
{
    struct loop *loop = new_loop();
    struct user u = { .room = 100 };
    struct chardev *chr;
    struct error err;
    json_t *desc, *moved;
    int fds[CHARDEV_FDS_MAX], shifted[CHARDEV_FDS_MAX + 3] = { -1, -1, -1 };
    unsigned nfds;
    char path[] = "/tmp/chardev-test-XXXXXX", json[128];
    struct sockaddr_un sa = { .sun_family = AF_UNIX };

    CHECK(mkdtemp(path));
    snprintf(sa.sun_path, sizeof sa.sun_path, "%s/s", path);
    snprintf(json, sizeof json,
             "{\"backend\":\"socket\",\"path\":\"%s/s\",\"server\":\"on\",\"wait\":\"off\"}", path);
    CHECK_EQ(open_text(json, &desc, fds, &nfds, &err), 0);
    CHECK_EQ(nfds, 1);
    moved = chardev_desc_rebase(desc, 3);       /* as in a message with more descriptors */
    shifted[3] = fds[0];
    CHECK_EQ(chardev_new(loop, "t", moved, shifted, 4, &chr, &err), 0);
    chardev_attach(chr, &handler, &u);
    CHECK(!chardev_connected(chr));
    for (int i = 1; i <= 2; i++) {
        int c = socket(AF_UNIX, SOCK_STREAM, 0);
        CHECK_EQ(connect(c, (struct sockaddr *)&sa, sizeof sa), 0);
        CHECK_EQ(write(c, "hi", 2), 2);
        turns(loop);
        CHECK_EQ(u.opened, i);
        CHECK_EQ(u.len, 2 * i);
        close(c);
        turns(loop);
        CHECK_EQ(u.closed, i);
    }
    /* It answers, so nobody else may take the path. */
    json_t *desc2;
    int fds2[CHARDEV_FDS_MAX];
    CHECK_EQ(open_text(json, &desc2, fds2, &nfds, &err), -EADDRINUSE);
    chardev_free(chr);
    close(fds[0]);
    /* Now it does not: what a killed run left behind is replaced. */
    CHECK_EQ(open_text(json, &desc2, fds2, &nfds, &err), 0);
    close(fds2[0]);
    json_t *options = json_loads(json, 0, NULL);
    chardev_forget(options);
    CHECK_EQ(rmdir(path), 0);
    json_decref(options);
    json_decref(desc);
    json_decref(desc2);
    json_decref(moved);
    loop_free(loop);
}

TEST(a_pty_carries_bytes_and_a_file_is_written)
{
    struct loop *loop = new_loop();
    struct user u = { .room = 100 };
    struct chardev *chr;
    struct error err;
    json_t *desc;
    int fds[CHARDEV_FDS_MAX];
    unsigned nfds;
    char buf[8], path[] = "/tmp/chardev-test-XXXXXX", json[128];

    CHECK_EQ(open_text("{\"backend\":\"pty\"}", &desc, fds, &nfds, &err), 0);
    CHECK_EQ(chardev_new(loop, "t", desc, fds, nfds, &chr, &err), 0);
    chardev_attach(chr, &handler, &u);
    int tty = open(json_string_value(json_object_get(desc, "name")), O_RDWR | O_NOCTTY);
    CHECK(tty >= 0);
    CHECK_EQ(chardev_write(chr, (const uint8_t *)"x\ny", 3), 3);
    CHECK_EQ(read(tty, buf, sizeof buf), 3);
    CHECK_EQ(write(tty, "\r\3", 2), 2);
    turns(loop);
    CHECK_MEM(u.text, "\r\3", 2);
    close(tty);
    turns(loop);
    CHECK(chardev_connected(chr));
    chardev_free(chr);
    for (unsigned i = 0; i < nfds; i++)
        close(fds[i]);
    json_decref(desc);

    close(mkstemp(path));
    snprintf(json, sizeof json, "{\"backend\":\"file\",\"path\":\"%s\"}", path);
    CHECK_EQ(open_text(json, &desc, fds, &nfds, &err), 0);
    CHECK_EQ(chardev_new(loop, "t", desc, fds, nfds, &chr, &err), 0);
    CHECK_EQ(chardev_write(chr, (const uint8_t *)"log", 3), 3);
    chardev_free(chr);
    close(fds[0]);
    json_decref(desc);
    int fd = open(path, O_RDONLY);
    CHECK_EQ(read(fd, buf, sizeof buf), 3);
    CHECK_MEM(buf, "log", 3);
    close(fd);
    unlink(path);
    loop_free(loop);
}

TEST(mistakes_are_told_in_words)
{
    struct error err;
    json_t *desc;
    int fds[CHARDEV_FDS_MAX];
    unsigned nfds;

    CHECK(open_text("{\"backend\":\"tcp\"}", &desc, fds, &nfds, &err) < 0);
    CHECK_HAS(err.text, "no character back-end 'tcp'");
    CHECK(open_text("{\"backend\":\"file\"}", &desc, fds, &nfds, &err) < 0);
    CHECK_HAS(err.text, "'path' is missing");
    CHECK(open_text("{\"backend\":\"pty\",\"path\":\"x\"}", &desc, fds, &nfds, &err) < 0);
    CHECK_HAS(err.text, "no option 'path'");
    CHECK_EQ(open_text("{\"backend\":\"socket\",\"path\":\"/nowhere/s\"}", &desc, fds, &nfds, &err),
             -ENOENT);
    CHECK_HAS(err.text, "cannot connect to '/nowhere/s'");
}

TEST(a_description_from_outside_is_checked)
{
    static const char *const bad[] = {
        "{}", "{\"kind\":\"x\"}", "{\"kind\":\"stream\",\"in\":1}", "{\"kind\":\"stream\",\"in\":-1}",
        "{\"kind\":\"stream\",\"out\":\"0\"}", "{\"kind\":\"server\",\"in\":0}",
        "{\"kind\":\"stream\",\"listen\":0}", "[]",
    };
    struct loop *loop = new_loop();
    struct chardev *chr;
    struct error err;
    int p[2];

    CHECK_EQ(pipe(p), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        json_t *desc = json_loads(bad[i], 0, NULL);
        CHECK(chardev_new(loop, "t", desc, p, 1, &chr, &err) < 0);
        json_decref(desc);
    }
    close(p[0]);
    close(p[1]);
    loop_free(loop);
}

TEST_MAIN
