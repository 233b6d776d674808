/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of a QMP client, cut into pieces by the input itself, given to a monitor that has
 * immediate, slow and failing commands. Slow ones are answered between pieces.
 */
#include "monitor/monitor.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

static struct monitor_call *waiting;

static int run_echo(void *opaque, struct monitor_call *call, json_t *args, json_t **ret_value,
                    struct error *err)
{
    *ret_value = json_incref(args);
    return 0;
}

static int run_fail(void *opaque, struct monitor_call *call, json_t *args, json_t **ret_value,
                    struct error *err)
{
    return error_set(err, -ENODEV, "Device '%.50s' not found",
                     json_string_value(json_object_get(args, "id")));
}

static int run_slow(void *opaque, struct monitor_call *call, json_t *args, json_t **ret_value,
                    struct error *err)
{
    waiting = call;
    return -EINPROGRESS;
}

static const struct monitor_command commands[] = {
    { "echo", run_echo, NULL, true },
    { "fail", run_fail, (const struct monitor_arg[]){ { "id", MONITOR_STR },
      { "n", MONITOR_INT, true }, { "b", MONITOR_BOOL, true }, { NULL } } },
    { "slow", run_slow },
    { NULL },
};
static const struct monitor_config config = { .package = "fuzz", .commands = commands };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char hello[] = "{\"execute\":\"qmp_capabilities\"}";
    static char sink[65536];
    struct loop *loop;
    struct monitor *monitor;
    struct error err;
    int fds[2];

    if (loop_new(&loop, &err) < 0 || monitor_new(loop, &config, &monitor, &err) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0 ||
        monitor_attach(monitor, fds[0], fds[0], &err) < 0)
        abort();
    bool negotiate = size && (data[0] & 1);
    if (negotiate && send(fds[1], hello, strlen(hello), MSG_DONTWAIT) < 0)
        abort();
    while (size > 0) {
        size_t piece = MIN((size_t)data[0] + 1, --size);
        data++;
        if (send(fds[1], data, piece, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            break;
        data += piece;
        size -= piece;
        while (loop_turn(loop, 0) > 0)
            ;
        if (waiting)
            monitor_reply(TAKE_PTR(waiting), NULL, NULL);
        monitor_event(monitor, "E", NULL);
        while (recv(fds[1], sink, sizeof sink, MSG_DONTWAIT) > 0)
            ;
    }
    close(fds[1]);
    while (loop_turn(loop, 0) > 0)
        ;
    monitor_free(monitor);
    if (waiting)
        monitor_reply(TAKE_PTR(waiting), NULL, NULL);
    loop_free(loop);
    return 0;
}
