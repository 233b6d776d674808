/* SPDX-License-Identifier: Apache-2.0 */
/* What control can say (ipc/primary.h). Its messages are checked like anybody's. */
#include "cpu/cpu.h"

#include "base/log.h"
#include "common/door.h"
#include "common/queries.h"

#include <errno.h>
#include <string.h>

struct call {
    struct cpu *cpu;
    json_t *args;
    struct primary_fds *in, *out;
    json_int_t id;
    json_t **ret;               /* the answer; stays NULL for {} */
};

static const char *text_of(const json_t *args, const char *key)
{
    return json_string_value(json_object_get(args, key));
}

static int need_machine(const struct cpu *cpu, struct error *err)
{
    return cpu->machine ? 0 : error_set(err, -EINVAL, "there is no machine yet ('machine-init')");
}

/* ---- building ---- */

static int run_machine_init(struct call *call, struct error *err)
{
    return machine_init(call->cpu, call->args, call->in, err);
}

/* A proxy gets its channel as a descriptor: the index becomes its number, which the object takes. */
static int run_device_add(struct call *call, struct error *err)
{
    struct primary_fds *in = call->in;
    struct object *obj;

    int r = need_machine(call->cpu, err);
    if (r < 0)
        return r;
    json_t *description = json_copy(call->args);
    if (!description)
        return error_oom(err);
    const json_t *channel = json_object_get(description, "channel-fd");
    if (channel) {
        json_int_t i = json_is_integer(channel) ? json_integer_value(channel) : -1;
        if (i < 0 || i >= in->count || in->fds[i] < 0) {
            json_decref(description);
            return error_set(err, -EINVAL, "'channel-fd' names no descriptor of this message");
        }
        json_object_set_new(description, "channel-fd", json_integer(in->fds[i]));
    }
    r = object_create(&call->cpu->tree, description, &obj, err);
    json_decref(description);
    return r;
}

static int run_device_del(struct call *call, struct error *err)
{
    const char *id = text_of(call->args, "id");
    struct object *obj = object_find(&call->cpu->tree, id);

    if (!obj || obj->class->internal)
        return error_set(err, -ENODEV, "there is no device '%.80s'", id);
    object_destroy(obj);
    return 0;
}

static int run_blockdev_add(struct call *call, struct error *err)
{
    struct block_fds fds = { call->in->fds, call->in->count };
    return block_node_add(call->cpu->graph, call->args, &fds, err);
}

static int run_blockdev_del(struct call *call, struct error *err)
{
    return block_node_del(call->cpu->graph, text_of(call->args, "node-name"), err);
}

/* ---- running ---- */

static int run_cmd_stop(struct call *call, struct error *err)
{
    int r = need_machine(call->cpu, err);
    return r < 0 ? r : run_stop(call->cpu, call->id, err);
}

static int run_cmd_cont(struct call *call, struct error *err)
{
    int r = need_machine(call->cpu, err);
    return r < 0 ? r : run_cont(call->cpu, err);
}

static int run_cmd_reset(struct call *call, struct error *err)
{
    int r = need_machine(call->cpu, err);
    return r < 0 ? r : run_system_reset(call->cpu, call->id, err);
}

static int run_powerdown(struct call *call, struct error *err)
{
    int r = need_machine(call->cpu, err);

    if (r == 0)
        machine_powerdown(call->cpu->machine);
    return r;
}

static int run_quit(struct call *call, struct error *err)
{
    loop_quit(call->cpu->loop, 0);
    return 0;
}

/* ---- asking ---- */

static int run_query_status(struct call *call, struct error *err)
{
    *call->ret = json_pack("{s:s, s:b, s:b}", "status", run_status_name(call->cpu), "running",
                           call->cpu->run.status == RUN_RUNNING, "singlestep", 0);
    return 0;
}

static int run_query_kvm(struct call *call, struct error *err)
{
    *call->ret = json_pack("{s:b, s:b}", "enabled", call->cpu->vm != NULL, "present",
                           call->cpu->kvm_fd >= 0);
    return 0;
}

static int run_query_cpus(struct call *call, struct error *err)
{
    struct vm *vm = call->cpu->vm;
    json_t *list = json_array();
    struct vm_topology t;

    for (unsigned i = 0; vm && i < vm_cpus(vm); i++) {
        vm_topology(vm, &t);
        json_array_append_new(list, json_pack(
            "{s:i, s:i, s:{s:i, s:i, s:i}, s:o, s:s}", "cpu-index", i, "thread-id",
            vm_thread_id(vm, i), "props", "socket-id", i / t.threads / t.cores, "core-id",
            i / t.threads % t.cores, "thread-id", i % t.threads, "qom-path",
            json_sprintf("/machine/unattached/cpu[%u]", i), "target", "x86_64"));
    }
    *call->ret = list;
    return 0;
}

/* Ours: how often each CPU left the kernel for an access. */
static int run_query_exits(struct call *call, struct error *err)
{
    struct vm *vm = call->cpu->vm;
    json_t *list = json_array();

    for (unsigned i = 0; vm && i < vm_cpus(vm); i++)
        json_array_append_new(list, json_integer(vm_exits(vm, i)));
    *call->ret = json_pack("{s:o}", "exits", list);
    return 0;
}

static int run_query_pci(struct call *call, struct error *err)
{
    int r = need_machine(call->cpu, err);

    if (r == 0)
        *call->ret = json_pack("[{s:i, s:o}]", "bus", 0, "devices",
                               pci_bus_query(machine_pci_bus(call->cpu->machine)));
    return r;
}

static int run_query_nodes(struct call *call, struct error *err)
{
    *call->ret = block_graph_query(call->cpu->graph);
    return *call->ret ? 0 : error_oom(err);
}

static int run_query_block(struct call *call, struct error *err)
{
    return query_block(&call->cpu->tree, call->cpu->graph, call->ret, err);
}

static int run_list_properties(struct call *call, struct error *err)
{
    return query_properties(&call->cpu->tree, text_of(call->args, "typename"), call->ret, err);
}

static int run_list_types(struct call *call, struct error *err)
{
    json_t *list = json_array();

    for (const struct object_class **c = call->cpu->classes; *c; c++)
        if (!(*c)->internal)
            json_array_append_new(list, json_pack("{s:s, s:b, s:s*, s:s*}", "name", (*c)->name,
                                  "abstract", (*c)->abstract, "parent", (*c)->parent ?
                                  (*c)->parent->name : NULL, "summary", (*c)->summary));
    *call->ret = list;
    return 0;
}

static int run_qom_list(struct call *call, struct error *err)
{
    return query_qom_list(&call->cpu->tree, text_of(call->args, "path"), call->ret, err);
}

static int run_qom_get(struct call *call, struct error *err)
{
    return query_qom_get(&call->cpu->tree, text_of(call->args, "path"),
                         text_of(call->args, "property"), call->ret, err);
}

static int run_sandbox_info(struct call *call, struct error *err)
{
    *call->ret = door_report_json(&call->cpu->sandbox);
    return *call->ret ? 0 : error_oom(err);
}

/* ---- the table ---- */

static const struct {
    const char *name;
    int (*run)(struct call *call, struct error *err);
    const char *texts[2];           /* members that must be there, as texts */
} commands[] = {
    { "blockdev-add", run_blockdev_add, { "driver" } },
    { "blockdev-del", run_blockdev_del, { "node-name" } },
    { "cont", run_cmd_cont },
    { "device-list-properties", run_list_properties, { "typename" } },
    { "device_add", run_device_add, { "driver" } },
    { "device_del", run_device_del, { "id" } },
    { "machine-init", run_machine_init },
    { "qom-get", run_qom_get, { "path", "property" } },
    { "qom-list", run_qom_list, { "path" } },
    { "qom-list-types", run_list_types },
    { "query-block", run_query_block },
    { "query-cpus-fast", run_query_cpus },
    { "query-exits", run_query_exits },
    { "query-kvm", run_query_kvm },
    { "query-named-block-nodes", run_query_nodes },
    { "query-pci", run_query_pci },
    { "query-status", run_query_status },
    { "quit", run_quit },
    { "sandbox-info", run_sandbox_info },
    { "stop", run_cmd_stop },
    { "system_powerdown", run_powerdown },
    { "system_reset", run_cmd_reset },
};

static int on_request(void *opaque, const char *name, json_t *args, struct primary_fds *in,
                      json_int_t id, json_t **ret_answer, struct primary_fds *out,
                      struct error *err)
{
    struct call call = { opaque, args, in, out, id, ret_answer };

    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (strcmp(commands[i].name, name))
            continue;
        for (size_t t = 0; t < ARRAY_SIZE(commands[i].texts) && commands[i].texts[t]; t++)
            if (!text_of(args, commands[i].texts[t]))
                return error_set(err, -EINVAL, "the argument '%s' is missing or no text",
                                 commands[i].texts[t]);
        return commands[i].run(&call, err);
    }
    return error_set(err, -EINVAL, "there is no command '%.80s'", name);
}

static void on_closed(void *opaque, const char *reason)
{
    struct cpu *cpu = opaque;

    if (reason)
        log_error("the primary channel is over: the other process sent %s", reason);
    primary_free(TAKE_PTR(cpu->primary));
    cpu->run.waiter_count = 0;
    if (!cpu->keep_running)
        loop_quit(cpu->loop, reason ? 1 : 0);
}

const struct primary_ops cpu_primary_ops = { .request = on_request, .closed = on_closed };
