/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device process can be told, by control over the primary channel (ipc/primary.h) and by
 * anybody over its own monitor. Both are others: arguments are checked here, against the tables.
 */
#include "device/service.h"

#include "base/log.h"
#include "common/door.h"
#include "common/queries.h"
#include "common/start.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

static const char *text_of(json_t *args, const char *key)
{
    return json_string_value(json_object_get(args, key));
}

/* ---- both ---- */

static int run_device_add(void *opaque, struct monitor_call *call, json_t *args, json_t **ret_value,
                          struct error *err)
{
    return service_device_add(opaque, args, err);
}

static int run_device_del(void *opaque, struct monitor_call *call, json_t *args, json_t **ret_value,
                          struct error *err)
{
    const char *id = text_of(args, "id");
    int r = service_device_del(opaque, id, err);

    if (r == 0)
        service_event(opaque, "DEVICE_DELETED", json_pack("{s:s}", "device", id));
    return r;
}

static int run_blockdev_del(void *opaque, struct monitor_call *call, json_t *args,
                            json_t **ret_value, struct error *err)
{
    struct service *service = opaque;
    return block_node_del(service->graph, text_of(args, "node-name"), err);
}

static int run_device_reset(void *opaque, struct monitor_call *call, json_t *args,
                            json_t **ret_value, struct error *err)
{
    return service_reset(opaque, text_of(args, "id"), err);
}

static int run_stop(void *opaque, struct monitor_call *call, json_t *args, json_t **ret_value,
                    struct error *err)
{
    service_pause(opaque);
    return 0;
}

static int run_cont(void *opaque, struct monitor_call *call, json_t *args, json_t **ret_value,
                    struct error *err)
{
    service_resume(opaque);
    return 0;
}

static int run_quit(void *opaque, struct monitor_call *call, json_t *args, json_t **ret_value,
                    struct error *err)
{
    struct service *service = opaque;
    loop_quit(service->loop, 0);
    return 0;
}

static int run_query_status(void *opaque, struct monitor_call *call, json_t *args,
                            json_t **ret_value, struct error *err)
{
    struct service *service = opaque;
    *ret_value = json_pack("{s:s, s:b, s:b}", "status", service->paused ? "paused" : "running",
                           "running", !service->paused, "singlestep", 0);
    return 0;
}

static int run_query_name(void *opaque, struct monitor_call *call, json_t *args,
                          json_t **ret_value, struct error *err)
{
    *ret_value = json_pack("{s:s}", "name", ((struct service *)opaque)->name);
    return 0;
}

static int run_query_version(void *opaque, struct monitor_call *call, json_t *args,
                             json_t **ret_value, struct error *err)
{
    unsigned major, minor, micro;

    version_numbers(&major, &minor, &micro);
    *ret_value = json_pack("{s:{s:i, s:i, s:i}, s:s}", "qemu", "micro", micro, "minor", minor,
                           "major", major, "package", "bulkhead-dev");
    return 0;
}

static int run_query_nodes(void *opaque, struct monitor_call *call, json_t *args,
                           json_t **ret_value, struct error *err)
{
    *ret_value = block_graph_query(((struct service *)opaque)->graph);
    return *ret_value ? 0 : error_oom(err);
}

static int run_query_block(void *opaque, struct monitor_call *call, json_t *args,
                           json_t **ret_value, struct error *err)
{
    struct service *service = opaque;
    return query_block(&service->tree, service->graph, ret_value, err);
}

static int run_list_properties(void *opaque, struct monitor_call *call, json_t *args,
                               json_t **ret_value, struct error *err)
{
    struct service *service = opaque;
    return query_properties(&service->tree, text_of(args, "typename"), ret_value, err);
}

static int run_qom_list(void *opaque, struct monitor_call *call, json_t *args, json_t **ret_value,
                        struct error *err)
{
    struct service *service = opaque;
    return query_qom_list(&service->tree, text_of(args, "path"), ret_value, err);
}

static int run_qom_get(void *opaque, struct monitor_call *call, json_t *args, json_t **ret_value,
                       struct error *err)
{
    struct service *service = opaque;
    return query_qom_get(&service->tree, text_of(args, "path"), text_of(args, "property"),
                         ret_value, err);
}

static int run_sandbox_info(void *opaque, struct monitor_call *call, json_t *args,
                            json_t **ret_value, struct error *err)
{
    *ret_value = door_report_json(&((struct service *)opaque)->sandbox);
    return *ret_value ? 0 : error_oom(err);
}

#define ARGS(...) (const struct monitor_arg[]){ __VA_ARGS__, { .name = NULL } }

const struct monitor_command device_commands[] = {
    { "blockdev-del", run_blockdev_del, ARGS({ "node-name", MONITOR_STR, false }), false },
    { "cont", run_cont, NULL, false },
    { "device-list-properties", run_list_properties, ARGS({ "typename", MONITOR_STR, false }),
      false },
    { "device-reset", run_device_reset, ARGS({ "id", MONITOR_STR, true }), false },
    { "device_add", run_device_add, ARGS({ "driver", MONITOR_STR, false }), true },
    { "device_del", run_device_del, ARGS({ "id", MONITOR_STR, false }), false },
    { "qom-get", run_qom_get, ARGS({ "path", MONITOR_STR, false },
                                   { "property", MONITOR_STR, false }), false },
    { "qom-list", run_qom_list, ARGS({ "path", MONITOR_STR, false }), false },
    { "query-block", run_query_block, NULL, false },
    { "query-name", run_query_name, NULL, false },
    { "query-named-block-nodes", run_query_nodes, NULL, false },
    { "query-status", run_query_status, NULL, false },
    { "query-version", run_query_version, NULL, false },
    { "quit", run_quit, NULL, false },
    { "sandbox-info", run_sandbox_info, NULL, false },
    { "stop", run_stop, NULL, false },
    { .name = NULL },
};

/* ---- the primary channel alone ---- */

static int run_blockdev_add(struct service *service, json_t *args, struct primary_fds *in,
                            struct primary_fds *out, json_t **ret_value, struct error *err)
{
    struct block_fds fds = { in->fds, in->count };
    return service_blockdev_add(service, args, &fds, err);
}

static int run_channel_open(struct service *service, json_t *args, struct primary_fds *in,
                            struct primary_fds *out, json_t **ret_value, struct error *err)
{
    struct slot *slot;
    int pair[2];

    int r = slot_find(service, text_of(args, "device"), &slot, err);
    if (r < 0)
        return r;
    if (in->count)
        return slot_attach(slot, TAKE_FD(in->fds[0]), err);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return error_set(err, -errno, "cannot make a pair of sockets");
    r = slot_attach(slot, pair[0], err);
    if (r < 0) {
        close(pair[1]);
        return r;
    }
    out->fds[out->count++] = pair[1];
    *ret_value = json_pack("{s:i}", "fd", 0);
    return 0;
}

static const struct channel_command {
    const char *name;
    channel_fn *run;
    const struct monitor_arg *args;
    bool any_args;
} channel_commands[] = {
    { "blockdev-add", run_blockdev_add, ARGS({ "driver", MONITOR_STR, false }), true },
    { "channel-open", run_channel_open, ARGS({ "device", MONITOR_STR, false },
                                             { "fd", MONITOR_INT, true }), false },
    { "device-load", command_device_load, ARGS({ "fd", MONITOR_INT, true }), false },
    { "device-save", command_device_save, NULL, false },
};

static bool has_type(const json_t *value, enum monitor_type type)
{
    switch (type) {
    case MONITOR_STR: return json_is_string(value);
    case MONITOR_INT: return json_is_integer(value);
    case MONITOR_BOOL: return json_is_boolean(value);
    case MONITOR_OBJECT: return json_is_object(value);
    case MONITOR_LIST: return json_is_array(value);
    case MONITOR_ANY: break;
    }
    return true;
}

static const struct monitor_arg *find_arg(const struct monitor_arg *specs, const char *name)
{
    for (; specs && specs->name; specs++)
        if (strcmp(specs->name, name) == 0)
            return specs;
    return NULL;
}

static int check_args(const struct monitor_arg *specs, bool any, json_t *args, struct error *err)
{
    const char *key;
    json_t *value;

    for (const struct monitor_arg *spec = specs; spec && spec->name; spec++)
        if (!spec->optional && !json_object_get(args, spec->name))
            return error_set(err, -EINVAL, "the argument '%s' is missing", spec->name);
    json_object_foreach(args, key, value) {
        const struct monitor_arg *spec = find_arg(specs, key);
        if (!spec && !any)
            return error_set(err, -EINVAL, "there is no argument '%.80s'", key);
        if (spec && !has_type(value, spec->type))
            return error_set(err, -EINVAL, "the argument '%s' has the wrong type", key);
    }
    return 0;
}

static int on_request(void *opaque, const char *name, json_t *args, struct primary_fds *in,
                      json_int_t id, json_t **ret_answer, struct primary_fds *out,
                      struct error *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(channel_commands); i++) {
        const struct channel_command *command = &channel_commands[i];
        if (strcmp(command->name, name) == 0) {
            int r = check_args(command->args, command->any_args, args, err);
            return r < 0 ? r : command->run(opaque, args, in, out, ret_answer, err);
        }
    }
    for (const struct monitor_command *command = device_commands; command->name; command++)
        if (strcmp(command->name, name) == 0) {
            int r = check_args(command->args, command->any_args, args, err);
            return r < 0 ? r : command->run(opaque, NULL, args, ret_answer, err);
        }
    return error_set(err, -EINVAL, "there is no command '%.80s'", name);
}

static void on_closed(void *opaque, const char *reason)
{
    struct service *service = opaque;

    if (reason)
        log_error("the primary channel is over: the other process sent %s", reason);
    primary_free(TAKE_PTR(service->primary));
    if (!service->keep_running)
        loop_quit(service->loop, reason ? 1 : 0);
}

const struct primary_ops device_primary_ops = { .request = on_request, .closed = on_closed };

int service_primary_new(struct service *service, int fd, struct error *err)
{
    int r = primary_new(service->loop, fd, &device_primary_ops, service, &service->primary, err);
    return r < 0 ? r : primary_event(service->primary, "READY", NULL);
}

/* ---- the monitor ---- */

static const char *const events[] = {
    "DEVICE_DELETED", "DEVICE_ERROR", "RESUME", "STOP", NULL
};

int service_monitor_new(struct service *service, struct error *err)
{
    static struct monitor_config config = {
        .package = "bulkhead-dev", .commands = device_commands, .events = events,
    };

    version_numbers(&config.major, &config.minor, &config.micro);
    config.opaque = service;
    return monitor_new(service->loop, &config, &service->monitor, err);
}
