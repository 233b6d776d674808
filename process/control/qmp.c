/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor's commands. Most are questions that some child answers; control knows only what the
 * command line said and which processes live.
 */
#include "vm.h"

#include "common/start.h"

#include <errno.h>
#include <string.h>

static const char *text_of(json_t *args, const char *key)
{
    return json_string_value(json_object_get(args, key));
}

static int not_up(const struct vm *vm, struct error *err)
{
    return vm->phase == VM_UP && vm->cpu && vm->cpu->primary ? 0
        : error_set(err, -EINVAL, "the machine is ending");
}

/* ---- one child's answer, passed on ---- */

static void on_passed_answer(void *opaque, const struct child *child, json_t *answer,
                             const struct error *err)
{
    monitor_reply(opaque, json_incref(answer), err);
}

static int pass_to(struct child *child, struct monitor_call *call, const char *command,
                   json_t *args, struct error *err)
{
    if (!child || !child->primary)
        return error_set(err, -ENODEV, "the process of this device has ended");
    int r = child_ask(child, command, args, on_passed_answer, call);
    return r < 0 ? error_set(err, r, "cannot ask the process") : -EINPROGRESS;
}

#define PASS_TO_CPU(function, command)                                                          \
    static int function(void *opaque, struct monitor_call *call, json_t *args,                  \
                        json_t **ret_value, struct error *err)                                  \
    {                                                                                           \
        struct vm *vm = opaque;                                                                 \
        int r = not_up(vm, err);                                                                \
        return r < 0 ? r : pass_to(vm->cpu, call, command, args, err);                          \
    }

PASS_TO_CPU(run_query_status, "query-status")
PASS_TO_CPU(run_query_kvm, "query-kvm")
PASS_TO_CPU(run_query_pci, "query-pci")
PASS_TO_CPU(run_system_reset, "system_reset")
PASS_TO_CPU(run_qom_list_types, "qom-list-types")

static void on_cpus_answer(void *opaque, const struct child *child, json_t *answer,
                           const struct error *err)
{
    if (answer)
        threads_translate(child->pid, answer);
    monitor_reply(opaque, json_incref(answer), err);
}

static int run_query_cpus_fast(void *opaque, struct monitor_call *call, json_t *args,
                               json_t **ret_value, struct error *err)
{
    struct vm *vm = opaque;
    int r = not_up(vm, err);

    if (r < 0)
        return r;
    r = child_ask(vm->cpu, "query-cpus-fast", NULL, on_cpus_answer, call);
    return r < 0 ? error_set(err, r, "cannot ask the process") : -EINPROGRESS;
}

static int run_system_powerdown(void *opaque, struct monitor_call *call, json_t *args,
                                json_t **ret_value, struct error *err)
{
    struct vm *vm = opaque;
    int r = not_up(vm, err);

    if (r == 0)
        r = pass_to(vm->cpu, call, "system_powerdown", args, err);
    if (r == -EINPROGRESS)
        vm_event(vm, "POWERDOWN", NULL);
    return r;
}

/* ---- stop and cont: processors first when stopping, last when going on ---- */

struct switching {
    struct vm *vm;
    struct monitor_call *call;
    bool stop;
};

static bool holds_devices(const struct child *child) { return child->role != CHILD_CPU; }
static void ignore_answer(void *opaque, const struct child *child, json_t *answer) { }

static void switched(void *opaque, const struct error *err)
{
    struct switching *s = opaque;

    monitor_reply(s->call, NULL, err);
    free(s);
}

static void on_cpu_continued(void *opaque, const struct child *child, json_t *answer,
                             const struct error *err)
{
    switched(opaque, err);
}

static void on_devices_resumed(void *opaque, const struct error *err)
{
    struct switching *s = opaque;
    struct error gone;

    if (err) {
        switched(s, err);
    } else if (!s->vm->cpu || child_ask(s->vm->cpu, "cont", NULL, on_cpu_continued, s) < 0) {
        error_set(&gone, -EINVAL, "the CPU process has ended");
        switched(s, &gone);
    }
}

static void on_cpu_stopped(void *opaque, const struct child *child, json_t *answer,
                           const struct error *err)
{
    struct switching *s = opaque;
    struct error oom;

    if (err) {
        switched(s, err);
    } else if (gather(s->vm, holds_devices, "stop", NULL, ignore_answer, switched, s) < 0) {
        error_oom(&oom);
        switched(s, &oom);
    }
}

static int switch_run_state(struct vm *vm, struct monitor_call *call, bool stop, struct error *err)
{
    int r = not_up(vm, err);

    if (r < 0)
        return r;
    struct switching *s = malloc(sizeof *s);
    if (!s)
        return error_oom(err);
    *s = (struct switching){ vm, call, stop };
    if (stop)
        r = child_ask(vm->cpu, "stop", NULL, on_cpu_stopped, s);
    else
        r = gather(vm, holds_devices, "cont", NULL, ignore_answer, on_devices_resumed, s);
    if (r < 0) {
        free(s);
        return error_set(err, r, "cannot ask the processes");
    }
    return -EINPROGRESS;
}

static int run_stop(void *opaque, struct monitor_call *call, json_t *args, json_t **ret_value,
                    struct error *err)
{
    return switch_run_state(opaque, call, true, err);
}

static int run_cont(void *opaque, struct monitor_call *call, json_t *args, json_t **ret_value,
                    struct error *err)
{
    return switch_run_state(opaque, call, false, err);
}

static int run_quit(void *opaque, struct monitor_call *call, json_t *args, json_t **ret_value,
                    struct error *err)
{
    vm_shutdown(opaque, false, "host-qmp-quit", 0);
    return 0;
}

/* ---- what control knows itself ---- */

static int run_query_version(void *opaque, struct monitor_call *call, json_t *args,
                             json_t **ret_value, struct error *err)
{
    *ret_value = monitor_version(((struct vm *)opaque)->monitor);
    return 0;
}

static int run_query_name(void *opaque, struct monitor_call *call, json_t *args,
                          json_t **ret_value, struct error *err)
{
    struct vm *vm = opaque;
    *ret_value = json_pack("{s:s}", "name", vm->config->name);
    return 0;
}

static int run_query_uuid(void *opaque, struct monitor_call *call, json_t *args,
                          json_t **ret_value, struct error *err)
{
    struct vm *vm = opaque;
    *ret_value = json_pack("{s:s}", "UUID", vm->config->uuid ? vm->config->uuid
                                            : "00000000-0000-0000-0000-000000000000");
    return 0;
}

static int run_query_chardev(void *opaque, struct monitor_call *call, json_t *args,
                             json_t **ret_value, struct error *err)
{
    struct vm *vm = opaque;
    const char *id;
    json_t *where, *list = json_array();

    json_object_foreach(vm->chardev_names, id, where)
        json_array_append_new(list, json_pack("{s:s, s:O, s:b}", "label", id, "filename", where,
                                              "frontend-open", 1));
    *ret_value = list;
    return 0;
}

/* ---- several children's lists as one ---- */

struct merging {
    struct monitor_call *call;
    json_t *list;
};

static void merge_list(void *opaque, const struct child *child, json_t *answer)
{
    struct merging *m = opaque;

    if (json_is_array(answer))
        json_array_extend(m->list, answer);
}

static void merged(void *opaque, const struct error *err)
{
    struct merging *m = opaque;

    monitor_reply(m->call, err ? NULL : json_incref(m->list), err);
    json_decref(m->list);
    free(m);
}

static int merge_from(struct vm *vm, bool (*who)(const struct child *child), const char *command,
                      json_t *args, gather_fn *take, struct monitor_call *call, struct error *err)
{
    int r = not_up(vm, err);
    if (r < 0)
        return r;
    struct merging *m = malloc(sizeof *m);
    if (!m)
        return error_oom(err);
    *m = (struct merging){ call, json_array() };
    r = m->list ? gather(vm, who, command, args, take, merged, m) : -ENOMEM;
    if (r < 0) {
        json_decref(m->list);
        free(m);
        return error_oom(err);
    }
    return -EINPROGRESS;
}

static int run_query_block(void *opaque, struct monitor_call *call, json_t *args,
                           json_t **ret_value, struct error *err)
{
    return merge_from(opaque, NULL, "query-block", NULL, merge_list, call, err);
}

static int run_query_nodes(void *opaque, struct monitor_call *call, json_t *args,
                           json_t **ret_value, struct error *err)
{
    return merge_from(opaque, NULL, "query-named-block-nodes", NULL, merge_list, call, err);
}

/* ---- objects: where the path leads ---- */

/* The device's id when path is /machine/peripheral/ID or ID alone; NULL: it is a folder. */
static const char *path_device(const char *path)
{
    static const char folder[] = "/machine/peripheral";

    if (!strncmp(path, folder, sizeof folder - 1))
        path += sizeof folder - 1;
    while (*path == '/')
        path++;
    return *path && strcmp(path, "machine") ? path : NULL;
}

/* The process in which the device itself is, not its proxy. */
static struct child *device_home(struct vm *vm, const char *id)
{
    struct device_config *d = config_find_device(vm->config, id);

    if (d && d->socket)
        return child_find(vm, id);
    return d && d->place >= 0 ? child_at(vm, d->place) : vm->cpu;
}

/* Proxies and their devices have one name; it is listed once, as the device. */
static void merge_names(void *opaque, const struct child *child, json_t *answer)
{
    struct merging *m = opaque;
    json_t *item, *other;
    size_t i, j;

    json_array_foreach(answer, i, item) {
        const char *name = text_of(item, "name");
        bool proxy = text_of(item, "type") && strstr(text_of(item, "type"), "pci-proxy-dev");
        if (!name)
            continue;
        json_array_foreach(m->list, j, other)
            if (text_of(other, "name") && !strcmp(text_of(other, "name"), name))
                break;
        if (j == json_array_size(m->list))
            json_array_append(m->list, item);
        else if (!proxy)
            json_array_set(m->list, j, item);
    }
}

static int run_qom_list(void *opaque, struct monitor_call *call, json_t *args, json_t **ret_value,
                        struct error *err)
{
    struct vm *vm = opaque;
    const char *path = text_of(args, "path"), *id = path_device(path);

    if (!strcmp(path, "/") || !strcmp(path, "/machine") || !strcmp(path, "/machine/")) {
        *ret_value = json_pack("[{s:s, s:s}]", "name", !strcmp(path, "/") ? "machine" : "peripheral",
                               "type", "child<container>");
        return 0;
    }
    if (!id)
        return merge_from(vm, NULL, "qom-list", args, merge_names, call, err);
    int r = not_up(vm, err);
    return r < 0 ? r : pass_to(device_home(vm, id), call, "qom-list", args, err);
}

static int run_qom_get(void *opaque, struct monitor_call *call, json_t *args, json_t **ret_value,
                       struct error *err)
{
    struct vm *vm = opaque;
    const char *id = path_device(text_of(args, "path"));
    int r = not_up(vm, err);

    if (r < 0)
        return r;
    return pass_to(id ? device_home(vm, id) : vm->cpu, call, "qom-get", args, err);
}

PASS_TO_CPU(run_device_list_properties, "device-list-properties")

/* ---- processes ---- */

static json_t *devices_of(const struct vm *vm, const struct child *child)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < vm->config->ndevices; i++) {
        const struct device_config *d = &vm->config->devices[i];
        bool here = child->role == CHILD_EXTERNAL ? d->socket && !strcmp(d->id, child->id)
                                                  : !d->socket && d->place == child->place;
        if (here)
            json_array_append_new(list, json_pack("{s:s*, s:O}", "id", d->id, "driver",
                                                  json_object_get(d->options, "driver")));
    }
    return list;
}

static json_t *describe_child(const struct child *child)
{
    static const char *const roles[] = { "cpu", "device", "external" };
    bool alive = child->role == CHILD_EXTERNAL ? child->primary != NULL : child->pid > 0;
    json_t *item = json_pack("{s:s, s:s, s:s, s:o}", "id", child->id, "role", roles[child->role],
                             "state", alive ? "running" : child->failed ? "failed" : "ended",
                             "devices", devices_of(child->vm, child));
    if (child->last_pid)
        json_object_set_new(item, "pid", json_integer(child->last_pid));
    return item;
}

static void merge_sandbox(void *opaque, const struct child *child, json_t *answer)
{
    struct merging *m = opaque;
    json_t *item;
    size_t i;

    json_array_foreach(m->list, i, item)
        if (text_of(item, "id") && !strcmp(text_of(item, "id"), child->id))
            json_object_set(item, "sandbox", answer);
}

static int run_query_processes(void *opaque, struct monitor_call *call, json_t *args,
                               json_t **ret_value, struct error *err)
{
    struct vm *vm = opaque;
    int r = not_up(vm, err);
    if (r < 0)
        return r;
    struct merging *m = malloc(sizeof *m);
    if (!m)
        return error_oom(err);
    *m = (struct merging){ call, json_array() };
    json_array_append_new(m->list, json_pack("{s:s, s:s, s:s, s:i, s:[], s:o}", "id", "control",
                                             "role", "control", "state", "running", "pid",
                                             (int)getpid(), "devices", "sandbox",
                                             door_report_json(&vm->sandbox)));
    list_for_each(struct child, c, &vm->children, link)
        json_array_append_new(m->list, describe_child(c));
    r = gather(vm, NULL, "sandbox-info", NULL, merge_sandbox, merged, m);
    if (r < 0) {
        json_decref(m->list);
        free(m);
        return error_oom(err);
    }
    return -EINPROGRESS;
}

/* ---- the tables ---- */

#define ARGS(...) (const struct monitor_arg[]){ __VA_ARGS__, { .name = NULL } }

static const struct monitor_command commands[] = {
    { "cont", run_cont },
    { "device-list-properties", run_device_list_properties, ARGS({ "typename", MONITOR_STR }) },
    { "qom-get", run_qom_get, ARGS({ "path", MONITOR_STR }, { "property", MONITOR_STR }) },
    { "qom-list", run_qom_list, ARGS({ "path", MONITOR_STR }) },
    { "qom-list-types", run_qom_list_types, ARGS({ "implements", MONITOR_STR, true },
                                                 { "abstract", MONITOR_BOOL, true }) },
    { "query-block", run_query_block },
    { "query-chardev", run_query_chardev },
    { "query-cpus-fast", run_query_cpus_fast },
    { "query-kvm", run_query_kvm },
    { "query-name", run_query_name },
    { "query-named-block-nodes", run_query_nodes, ARGS({ "flat", MONITOR_BOOL, true }) },
    { "query-pci", run_query_pci },
    { "query-processes", run_query_processes },
    { "query-status", run_query_status },
    { "query-uuid", run_query_uuid },
    { "query-version", run_query_version },
    { "quit", run_quit },
    { "stop", run_stop },
    { "system_powerdown", run_system_powerdown },
    { "system_reset", run_system_reset },
    { NULL },
};

static const char *const events[] = {
    "BLOCK_IO_ERROR", "CHANNEL_FAILED", "DEVICE_ERROR", "GUEST_PANICKED", "POWERDOWN",
    "PROCESS_FAILED", "RESET", "RESUME", "SHUTDOWN", "STOP", NULL };

void qmp_config(struct vm *vm, struct monitor_config *config)
{
    *config = (struct monitor_config){ .package = "bulkhead", .commands = commands,
                                       .events = events, .opaque = vm };
    version_numbers(&config->major, &config->minor, &config->micro);
}
