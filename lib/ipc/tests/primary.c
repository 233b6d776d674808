/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "base/fd.h"
#include "ipc/primary.h"
#include "ipc/socket.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

struct end { struct primary *p; char event[32], reason[128]; bool closed; int got_fds; };

static int on_request(void *opaque, const char *name, json_t *args, struct primary_fds *in,
                      json_int_t id, json_t **ret_answer, struct primary_fds *out,
                      struct error *err)
{
    struct end *e = opaque;

    e->got_fds = in->count;
    if (!strcmp(name, "echo")) {
        *ret_answer = json_incref(args);
        return 0;
    }
    if (!strcmp(name, "swap")) {            /* the descriptor goes back */
        out->fds[out->count++] = in->fds[0];
        in->fds[0] = -1;
        *ret_answer = json_pack("{s:i}", "fd", 0);
        return 0;
    }
    return error_set(err, -EINVAL, "there is no command '%s'", name);
}

static void on_event(void *opaque, const char *name, json_t *data)
{
    struct end *e = opaque;
    snprintf(e->event, sizeof e->event, "%s", name);
}

static void on_closed(void *opaque, const char *reason)
{
    struct end *e = opaque;
    e->closed = true;
    snprintf(e->reason, sizeof e->reason, "%s", reason ? reason : "");
    primary_free(e->p);
    e->p = NULL;
}

static const struct primary_ops ops = { on_request, on_event, on_closed };

static int count_fds(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static json_t *last_answer;
static char last_error[128];
static unsigned last_fds;
static void on_answer(void *opaque, json_t *answer, struct primary_fds *in, const struct error *err)
{
    json_decref(last_answer);
    last_answer = json_incref(answer);
    snprintf(last_error, sizeof last_error, "%s", err ? err->text : "");
    last_fds = in->count;
    ++*(int *)opaque;
}

static void pump(struct loop *loop)
{
    for (int i = 0; i < 20; i++)
        loop_turn(loop, 0);
}

TEST(requests_events_and_descriptors_cross_and_nothing_leaks)
{
    int before = count_fds(), answers = 0, pair[2];
    struct loop *loop;
    struct end a = { 0 }, b = { 0 };
    struct error err;

    CHECK_EQ(loop_new(&loop, &err), 0);
    CHECK_EQ(primary_pair(pair), 0);
    CHECK_EQ(primary_new(loop, pair[0], &ops, &a, &a.p, &err), 0);
    CHECK_EQ(primary_new(loop, pair[1], &ops, &b, &b.p, &err), 0);

    json_t *args = json_pack("{s:i}", "x", 5);
    CHECK_EQ(primary_request(a.p, "echo", args, NULL, 0, on_answer, &answers), 0);
    pump(loop);
    CHECK_EQ(answers, 1);
    CHECK(json_equal(last_answer, args));

    int fd = eventfd_new();
    CHECK_EQ(primary_request(a.p, "swap", args, &fd, 1, on_answer, &answers), 0);
    pump(loop);
    CHECK_EQ(answers, 2);
    CHECK_EQ(b.got_fds, 1);
    CHECK_EQ(last_fds, 1);          /* not taken by on_answer, so closed for us */

    CHECK_EQ(primary_request(a.p, "what", NULL, &fd, 1, on_answer, &answers), 0);
    pump(loop);
    CHECK_STR(last_error, "there is no command 'what'");
    close(fd);

    CHECK_EQ(primary_event(b.p, "HELLO", NULL), 0);
    pump(loop);
    CHECK_STR(a.event, "HELLO");

    CHECK_EQ(primary_request(a.p, "echo", args, NULL, 0, on_answer, &answers), 0);
    primary_free(b.p);
    pump(loop);
    CHECK_EQ(answers, 4);
    CHECK_STR(last_error, "the other process closed the channel");
    CHECK(a.closed);
    CHECK_STR(a.reason, "");
    json_decref(args);
    json_decref(last_answer);
    last_answer = NULL;
    loop_free(loop);
    CHECK_EQ(count_fds(), before);
}

TEST(messages_pile_up_without_loss_when_the_peer_is_slow)
{
    int answers = 0, pair[2];
    struct loop *loop;
    struct end a = { 0 }, b = { 0 };
    struct error err;
    char big[60000];

    memset(big, 'x', sizeof big);
    CHECK_EQ(loop_new(&loop, &err), 0);
    CHECK_EQ(primary_pair(pair), 0);
    CHECK_EQ(primary_new(loop, pair[0], &ops, &a, &a.p, &err), 0);
    json_t *args = json_pack("{s:s%}", "x", big, sizeof big);
    for (int i = 0; i < 40; i++)
        CHECK_EQ(primary_request(a.p, "echo", args, NULL, 0, on_answer, &answers), 0);
    CHECK_EQ(primary_new(loop, pair[1], &ops, &b, &b.p, &err), 0);
    for (int i = 0; i < 1000 && answers < 40; i++)
        loop_turn(loop, 10);
    CHECK_EQ(answers, 40);
    CHECK(json_equal(last_answer, args));
    json_decref(args);
    json_decref(last_answer);
    last_answer = NULL;
    primary_free(a.p);
    primary_free(b.p);
    loop_free(loop);
}

TEST(a_bad_message_ends_the_channel_and_says_why)
{
    static const struct { const char *text, *reason; } bad[] = {
        { "hello", "no JSON object" },
        { "[]", "no JSON object" },
        { "{}", "no request, answer or event" },
        { "{\"execute\":\"echo\"}", "without an id" },
        { "{\"execute\":\"echo\",\"id\":1,\"arguments\":3}", "no object" },
        { "{\"return\":{},\"id\":77}", "answer to no question" },
        { "{\"id\":1,\"id\":1,\"return\":{}}", "no JSON object" },
    };
    int before = count_fds();

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        int pair[2];
        struct loop *loop;
        struct end a = { 0 };
        struct error err;
        CHECK_EQ(loop_new(&loop, &err), 0);
        CHECK_EQ(primary_pair(pair), 0);
        CHECK_EQ(primary_new(loop, pair[0], &ops, &a, &a.p, &err), 0);
        struct iovec iov = { (void *)bad[i].text, strlen(bad[i].text) };
        int fd = eventfd_new();
        CHECK_EQ(socket_send(pair[1], &iov, 1, &fd, 1, 0), strlen(bad[i].text));
        close(fd);
        pump(loop);
        CHECK(a.closed);
        CHECK_HAS(a.reason, bad[i].reason);
        close(pair[1]);
        loop_free(loop);
    }
    CHECK_EQ(count_fds(), before);
}

TEST(a_call_gives_up_on_a_peer_that_does_not_answer)
{
    int pair[2];
    struct loop *loop;
    struct end a = { 0 };
    struct error err;

    CHECK_EQ(loop_new(&loop, &err), 0);
    CHECK_EQ(primary_pair(pair), 0);
    CHECK_EQ(primary_new(loop, pair[0], &ops, &a, &a.p, &err), 0);
    CHECK(primary_call(a.p, "echo", NULL, NULL, 0, 30, NULL, NULL, &err) < 0);
    CHECK_HAS(err.text, "did not answer 'echo' within 30 ms");
    close(pair[1]);
    pump(loop);
    CHECK(a.closed);
    loop_free(loop);
}

TEST(a_wrong_socket_argument_is_explained)
{
    struct error err;
    int fd;
    CHECK(primary_socket_open("0x3", &fd, &err) < 0);
    CHECK_HAS(err.text, "neither a descriptor number nor unix:PATH");
    CHECK(primary_socket_open("999", &fd, &err) < 0);
    CHECK_HAS(err.text, "descriptor 999 cannot be the primary channel");
    CHECK(primary_socket_open("unix:/nonexistent/x", &fd, &err) < 0);
    CHECK_HAS(err.text, "cannot connect to '/nonexistent/x'");
}

TEST_MAIN
