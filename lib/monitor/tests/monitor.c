/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "base/fd.h"
#include "monitor/monitor.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

struct fixture {
    struct loop *loop;
    struct monitor *monitor;
    struct monitor_call *waiting;
    unsigned ran;
};

static int run_echo(void *opaque, struct monitor_call *call, json_t *args, json_t **ret_value,
                    struct error *err)
{
    struct fixture *f = opaque;
    f->ran++;
    *ret_value = json_incref(args);
    return 0;
}

static int run_fail(void *opaque, struct monitor_call *call, json_t *args, json_t **ret_value,
                    struct error *err)
{
    if (json_object_get(args, "device"))
        return error_set(err, -ENODEV, "Device 'x' not found");
    return error_set(err, -EINVAL, "bytes \xc3");
}

static int run_slow(void *opaque, struct monitor_call *call, json_t *args, json_t **ret_value,
                    struct error *err)
{
    struct fixture *f = opaque;
    f->waiting = call;
    return -EINPROGRESS;
}

static const struct monitor_command commands[] = {
    { "echo", run_echo, (const struct monitor_arg[]){ { "text", MONITOR_STR },
      { "count", MONITOR_INT, true }, { NULL } } },
    { "fail", run_fail, (const struct monitor_arg[]){ { "device", MONITOR_STR, true }, { NULL } } },
    { "open", run_echo, NULL, true },
    { "slow", run_slow },
    { NULL },
};

static const struct monitor_config config = {
    .major = 1, .minor = 2, .micro = 3, .package = "test", .commands = commands,
    .events = (const char *const[]){ "HELLO", NULL },
};

static void fixture_init(struct fixture *f)
{
    static struct monitor_config c;     /* outlives the monitor */
    struct error err;

    *f = (struct fixture){ 0 };
    c = config;
    c.opaque = f;
    CHECK_EQ(loop_new(&f->loop, &err), 0);
    CHECK_EQ(monitor_new(f->loop, &c, &f->monitor, &err), 0);
}

static void fixture_fini(struct fixture *f)
{
    monitor_free(f->monitor);
    loop_free(f->loop);
}

static int connect_client(struct fixture *f)
{
    struct error err;
    int fds[2];

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    CHECK_EQ(monitor_attach(f->monitor, fds[0], fds[0], &err), 0);
    return fds[1];
}

static void turn(struct fixture *f)
{
    while (loop_turn(f->loop, 0) > 0)
        ;
}

static void say(struct fixture *f, int fd, const char *text)
{
    CHECK_EQ(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
    turn(f);
}

/* The next line from the monitor; "" when there is none, "EOF" at the end. */
static const char *hear(int fd)
{
    static char line[65536];
    size_t n = 0;

    while (n < sizeof line - 1) {
        ssize_t r = recv(fd, line + n, 1, MSG_DONTWAIT);
        if (r == 0 && n == 0)
            return "EOF";
        if (r <= 0)
            break;
        if (line[n++] == '\n')
            break;
    }
    line[n] = 0;
    return line;
}

static int connect_and_negotiate(struct fixture *f)
{
    int fd = connect_client(f);
    hear(fd);
    say(f, fd, "{\"execute\":\"qmp_capabilities\"}");
    CHECK_STR(hear(fd), "{\"return\": {}}\r\n");
    return fd;
}

TEST(greeting_then_negotiation_then_commands)
{
    struct fixture f;
    fixture_init(&f);
    int fd = connect_client(&f);

    CHECK_STR(hear(fd), "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 3, \"minor\": 2, "
                        "\"major\": 1}, \"package\": \"test\"}, \"capabilities\": []}}\r\n");
    say(&f, fd, "{\"execute\":\"echo\",\"arguments\":{\"text\":\"x\"}}\n");
    CHECK_HAS(hear(fd), "Expecting capabilities negotiation");
    CHECK_EQ(f.ran, 0);
    say(&f, fd, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}\n");
    CHECK_HAS(hear(fd), "GenericError");
    say(&f, fd, "{\"execute\":\"qmp_capabilities\",\"id\":\"i\"}\n");
    CHECK_STR(hear(fd), "{\"return\": {}, \"id\": \"i\"}\r\n");
    say(&f, fd, "{\"execute\":\"qmp_capabilities\"}\n");
    CHECK_HAS(hear(fd), "already complete");
    say(&f, fd, "{\"execute\":\"echo\",\"arguments\":{\"text\":\"x\"},\"id\":{\"n\":[1]}}\n");
    CHECK_STR(hear(fd), "{\"return\": {\"text\": \"x\"}, \"id\": {\"n\": [1]}}\r\n");
    close(fd);
    turn(&f);
    CHECK(!monitor_connected(f.monitor));
    fixture_fini(&f);
}

TEST(mistakes_are_answered_as_qemu_answers_them)
{
    static const char *const cases[][2] = {
        { "{\"execute\":\"nix\",\"id\":7}", "\"CommandNotFound\", \"desc\": \"The command nix has not" },
        { "{\"execute\":\"nix\",\"id\":7}", "\"id\": 7" },
        { "{}", "QMP input lacks member 'execute'" },
        { "[]", "QMP input must be a JSON object" },
        { "{\"execute\":1}", "QMP input member 'execute' must be a string" },
        { "{\"exec-oob\":\"x\"}", "QMP input member 'exec-oob' is unexpected" },
        { "{\"execute\":\"echo\",\"arguments\":3}", "member 'arguments' must be an object" },
        { "{\"execute\":\"echo\"}", "Parameter 'text' is missing" },
        { "{\"execute\":\"echo\",\"arguments\":{\"text\":1}}",
          "Invalid parameter type for 'text', expected: string" },
        { "{\"execute\":\"echo\",\"arguments\":{\"text\":\"\",\"more\":1}}",
          "Parameter 'more' is unexpected" },
        { "{\"execute\":\"fail\"}", "{\"error\": {\"class\": \"GenericError\", \"desc\": \"bytes ?\"}}" },
        { "{\"execute\":\"fail\",\"arguments\":{\"device\":\"x\"}}", "\"class\": \"DeviceNotFound\"" },
        { "}\n", "JSON parse error" },
    };
    struct fixture f;
    fixture_init(&f);
    int fd = connect_and_negotiate(&f);

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        say(&f, fd, cases[i][0]);
        CHECK_HAS(hear(fd), cases[i][1]);
        CHECK_STR(hear(fd), "");
    }
    CHECK_EQ(f.ran, 0);
    close(fd);
    fixture_fini(&f);
}

TEST(a_slow_command_holds_back_its_clients_next_one_but_no_other_client)
{
    struct fixture f;
    fixture_init(&f);
    int a = connect_and_negotiate(&f), b = connect_and_negotiate(&f);

    say(&f, a, "{\"execute\":\"slow\",\"id\":1}{\"execute\":\"open\",\"id\":2}");
    CHECK_STR(hear(a), "");
    say(&f, b, "{\"execute\":\"open\",\"arguments\":{\"any\":null}}");
    CHECK_STR(hear(b), "{\"return\": {\"any\": null}}\r\n");
    monitor_reply(f.waiting, json_integer(5), NULL);
    turn(&f);
    CHECK_STR(hear(a), "{\"return\": 5, \"id\": 1}\r\n");
    CHECK_STR(hear(a), "{\"return\": {}, \"id\": 2}\r\n");
    close(a);
    close(b);
    fixture_fini(&f);
}

TEST(the_answer_to_a_client_that_has_gone_is_dropped)
{
    struct fixture f;
    fixture_init(&f);
    int fd = connect_and_negotiate(&f);

    say(&f, fd, "{\"execute\":\"slow\"}");
    close(fd);
    turn(&f);
    CHECK(!monitor_connected(f.monitor));
    monitor_reply(f.waiting, NULL, NULL);
    fixture_fini(&f);
}

TEST(events_reach_clients_that_have_negotiated)
{
    struct fixture f;
    fixture_init(&f);
    int a = connect_and_negotiate(&f), b = connect_client(&f);
    hear(b);

    monitor_event(f.monitor, "HELLO", json_pack("{s:i}", "n", 1));
    monitor_event(f.monitor, "PLAIN", NULL);
    json_t *e = json_loads(hear(a), 0, NULL);
    CHECK_STR(json_string_value(json_object_get(e, "event")), "HELLO");
    CHECK_EQ(json_integer_value(json_object_get(json_object_get(e, "data"), "n")), 1);
    json_t *ts = json_object_get(e, "timestamp");
    CHECK(json_integer_value(json_object_get(ts, "seconds")) > 1600000000);
    CHECK(json_integer_value(json_object_get(ts, "microseconds")) < 1000000);
    json_decref(e);
    CHECK_HAS(hear(a), "PLAIN");
    CHECK_STR(hear(b), "");
    close(a);
    close(b);
    fixture_fini(&f);
}

TEST(a_client_that_does_not_read_is_dropped)
{
    struct fixture f;
    fixture_init(&f);
    int fd = connect_and_negotiate(&f);
    char big[65536];

    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    for (int i = 0; i < 200; i++)
        monitor_event(f.monitor, "HELLO", json_pack("{s:s}", "x", big));
    turn(&f);
    CHECK(!monitor_connected(f.monitor));
    close(fd);
    fixture_fini(&f);
}

TEST(no_command_is_run_while_the_client_is_behind_with_reading)
{
    struct fixture f;
    fixture_init(&f);
    int fd = connect_and_negotiate(&f);
    char text[512];

    snprintf(text, sizeof text, "{\"execute\":\"echo\",\"arguments\":{\"text\":\"%0300d\"}}\n", 1);
    int small = 4096;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    unsigned sent = 0;
    for (; sent < 100000; sent++) {
        if (send(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)strlen(text))
            break;
        turn(&f);
    }
    CHECK(sent < 100000);           /* the monitor stopped reading, so the socket filled */
    CHECK(monitor_connected(f.monitor));
    unsigned before = f.ran;
    for (unsigned i = 0; i < before; i++) {
        CHECK_HAS(hear(fd), "return");
        turn(&f);
    }
    CHECK(f.ran > before);          /* and went on when there was room */
    close(fd);
    fixture_fini(&f);
}

TEST(builtin_queries_list_commands_and_describe_them)
{
    struct fixture f;
    fixture_init(&f);
    int fd = connect_and_negotiate(&f);

    say(&f, fd, "{\"execute\":\"query-commands\"}");
    const char *list = hear(fd);
    CHECK_HAS(list, "{\"name\": \"slow\"}");
    CHECK_HAS(list, "{\"name\": \"query-commands\"}");

    say(&f, fd, "{\"execute\":\"query-qmp-schema\"}");
    json_t *answer = json_loads(hear(fd), 0, NULL), *schema = json_object_get(answer, "return");
    size_t i;
    json_t *e;
    const char *type = NULL;
    json_array_foreach(schema, i, e)
        if (!strcmp(json_string_value(json_object_get(e, "name")), "echo"))
            type = json_string_value(json_object_get(e, "arg-type"));
    CHECK(type != NULL);
    unsigned found = 0;
    json_array_foreach(schema, i, e) {
        const char *name = json_string_value(json_object_get(e, "name"));
        if (!strcmp(name, type)) {
            json_t *members = json_object_get(e, "members");
            CHECK_EQ(json_array_size(members), 2);
            CHECK(!json_object_get(json_array_get(members, 0), "default"));
            CHECK(json_is_null(json_object_get(json_array_get(members, 1), "default")));
            found++;
        }
        found += !strcmp(name, "HELLO");
    }
    CHECK_EQ(found, 2);
    json_decref(answer);
    close(fd);
    fixture_fini(&f);
}

TEST(commands_from_a_pipe_are_answered_though_its_writer_has_gone)
{
    struct fixture f;
    struct error err;
    int in[2], out[2];
    char text[1024] = "";
    static const char input[] = "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"slow\"}"
                                "{\"execute\":\"open\",\"id\":9}";

    fixture_init(&f);
    CHECK_EQ(pipe(in), 0);
    CHECK_EQ(pipe(out), 0);
    CHECK_EQ(write(in[1], input, strlen(input)), (ssize_t)strlen(input));
    close(in[1]);
    CHECK_EQ(monitor_attach(f.monitor, in[0], out[1], &err), 0);
    for (int i = 0; i < 50; i++)
        loop_turn(f.loop, 0);
    CHECK(monitor_connected(f.monitor));
    monitor_reply(f.waiting, NULL, NULL);
    turn(&f);
    CHECK(!monitor_connected(f.monitor));
    CHECK(read(out[0], text, sizeof text - 1) > 0);
    CHECK_HAS(text, "\"id\": 9");
    close(out[0]);
    fixture_fini(&f);
}

TEST(input_that_cannot_be_polled_is_read_all_the_same)
{
    struct fixture f;
    struct error err;
    int out[2];
    char text[1024] = "";

    fixture_init(&f);
    char path[] = "/tmp/bulkhead-test-XXXXXX";
    int in = mkstemp(path);
    CHECK(in >= 0);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(fd_write_all(in, "{\"execute\":\"qmp_capabilities\"}\n", 31), 0);
    CHECK_EQ(lseek(in, 0, SEEK_SET), 0);
    CHECK_EQ(pipe(out), 0);
    CHECK_EQ(monitor_attach(f.monitor, in, out[1], &err), 0);
    turn(&f);
    for (int i = 0; i < 10; i++)
        loop_turn(f.loop, 0);
    CHECK(!monitor_connected(f.monitor));
    CHECK(read(out[0], text, sizeof text - 1) > 0);
    CHECK_HAS(text, "{\"return\": {}}");
    close(out[0]);
    fixture_fini(&f);
}

TEST(on_hold_clients_are_greeted_and_their_commands_wait)
{
    struct fixture f;

    fixture_init(&f);
    monitor_hold(f.monitor, true);
    int fd = connect_client(&f);
    CHECK_HAS(hear(fd), "QMP");
    say(&f, fd, "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"open\",\"id\":4}");
    CHECK_STR(hear(fd), "");
    monitor_hold(f.monitor, false);
    turn(&f);
    CHECK_STR(hear(fd), "{\"return\": {}}\r\n");
    CHECK_HAS(hear(fd), "\"id\": 4");
    monitor_hold(f.monitor, true);
    close(fd);
    turn(&f);
    CHECK(!monitor_connected(f.monitor));           /* a client may leave all the same */
    fixture_fini(&f);
}

/* ---- specs and sockets ---- */

TEST(specs_are_qemus)
{
    struct monitor_spec s;
    struct error err;

    CHECK_EQ(monitor_spec_parse("unix:/a/b,server=on,wait=off", &s, &err), 0);
    CHECK(s.server && !s.wait && !s.is_stdio);
    CHECK_STR(s.path, "/a/b");
    CHECK_EQ(monitor_spec_parse("unix:x,server,nowait", &s, &err), 0);
    CHECK(s.server && !s.wait);
    CHECK_EQ(monitor_spec_parse("unix:x,server", &s, &err), 0);
    CHECK(s.server && s.wait);
    CHECK_EQ(monitor_spec_parse("unix:x", &s, &err), 0);
    CHECK(!s.server && !s.wait);
    CHECK_EQ(monitor_spec_parse("unix:x,server=off", &s, &err), 0);
    CHECK(!s.server);
    CHECK_EQ(monitor_spec_parse("stdio", &s, &err), 0);
    CHECK(s.is_stdio);
}

TEST(bad_specs_are_refused_with_a_reason)
{
    static const char *const cases[][2] = {
        { "", "neither" }, { "tcp:1", "neither" }, { "unix:", "path is missing" },
        { "unix:,server", "path is missing" }, { "unix:x,bogus=1", "unknown option 'bogus'" },
        { "unix:x,server=maybe", "'server' must be on or off" },
        { "unix:x,nowait=on", "'nowait' must be" }, { "unix:x,", "unknown option ''" },
    };
    struct monitor_spec s;
    struct error err;
    char text[256];

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CHECK_EQ(monitor_spec_parse(cases[i][0], &s, &err), -EINVAL);
        CHECK_HAS(err.text, cases[i][1]);
    }
    snprintf(text, sizeof text, "unix:%0104d", 1);
    CHECK_EQ(monitor_spec_parse(text, &s, &err), -EINVAL);
    CHECK_HAS(err.text, "longer than 103 bytes");
}

static int connect_path(const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_EQ(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

TEST(a_server_takes_one_client_after_the_other_and_removes_its_socket)
{
    struct fixture f;
    struct monitor_spec spec = { .server = true };
    struct error err;
    struct stat st;
    char dir[] = "/tmp/bulkhead-test-XXXXXX";

    fixture_init(&f);
    CHECK(mkdtemp(dir) != NULL);
    snprintf(spec.path, sizeof spec.path, "%s/qmp", dir);
    CHECK_EQ(monitor_open(f.monitor, &spec, &err), 0);
    int a = connect_path(spec.path), b = connect_path(spec.path);
    turn(&f);
    CHECK_HAS(hear(a), "QMP");
    CHECK_STR(hear(b), "");
    close(a);
    turn(&f);
    turn(&f);
    CHECK_HAS(hear(b), "QMP");

    struct monitor *second;
    CHECK_EQ(monitor_new(f.loop, &config, &second, &err), 0);
    CHECK_EQ(monitor_open(second, &spec, &err), -EADDRINUSE);   /* somebody listens there */
    monitor_free(second);
    CHECK_EQ(stat(spec.path, &st), 0);

    close(b);
    fixture_fini(&f);
    CHECK_EQ(stat(spec.path, &st), -1);
    CHECK_EQ(rmdir(dir), 0);
}

TEST(a_stale_socket_is_replaced_and_a_plain_file_is_not)
{
    struct fixture f;
    struct monitor_spec spec = { .server = true };
    struct error err;
    char dir[] = "/tmp/bulkhead-test-XXXXXX";

    fixture_init(&f);
    CHECK(mkdtemp(dir) != NULL);
    snprintf(spec.path, sizeof spec.path, "%s/qmp", dir);
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    memcpy(a.sun_path, spec.path, strlen(spec.path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_EQ(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    close(fd);
    CHECK_EQ(monitor_open(f.monitor, &spec, &err), 0);
    fixture_fini(&f);

    FILE *file = fopen(spec.path, "w");
    fputs("precious", file);
    fclose(file);
    fixture_init(&f);
    CHECK_EQ(monitor_open(f.monitor, &spec, &err), -EEXIST);
    fixture_fini(&f);
    CHECK_EQ(unlink(spec.path), 0);
    CHECK_EQ(rmdir(dir), 0);
}

TEST_MAIN
