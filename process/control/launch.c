/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The start. First all processes, which get ready side by side; meanwhile control opens what they
 * need. Then each is told what to hold, one request after the other in each process but all
 * processes at once; and when every device process has its devices, the CPU process gets its own
 * devices and proxies, in the order of the command line, since that decides their slots.
 *
 * Whatever fails first ends the start; vm_free then removes what there is.
 */
#include "vm.h"

#include "base/log.h"
#include "block/block.h"
#include "common/door.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* ---- processes ---- */

static int spawn_one(struct vm *vm, enum child_role role, const char *id, int place,
                     const char *binary, const char *const *names, const char *folder,
                     const char *sandbox, struct error *err)
{
    char *found = NULL;
    int r = binary ? 0 : program_find(names[0], folder, &found, err);

    /* disk-proc is another name of bulkhead-dev, which need not be there as a file. */
    if (r == -ENOENT && names[1])
        r = program_find(names[1], folder, &found, err);
    if (r == 0)
        r = child_spawn(vm, role, id, place, binary ? binary : found, names[0], sandbox, err);
    free(found);
    return r;
}

static int spawn_all(struct vm *vm, struct error *err)
{
    const struct config *c = vm->config;
    static const char *const cpu[] = { "bulkhead-cpu", NULL };
    static const char *const disk[] = { "disk-proc", "bulkhead-dev", NULL };
    static const char *const plain[] = { "bulkhead-dev", NULL };

    int r = spawn_one(vm, CHILD_CPU, "cpu", IN_CPU_PROCESS, c->cpu_binary, cpu, "cpu", c->sandbox,
                      err);
    for (unsigned i = 0; r == 0 && i < c->nprocesses; i++) {
        const struct process_config *p = &c->processes[i];
        r = spawn_one(vm, CHILD_DEVICE, p->id, i, p->binary, p->has_blocks ? disk : plain, "device",
                      p->sandbox ? p->sandbox : c->sandbox, err);
        if (r < 0)
            error_prefix(err, "%s", p->label);
    }
    return r;
}

/* ---- block nodes ---- */

static void close_all(int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
}

static int give_node(struct vm *vm, const struct node_config *n, struct error *err)
{
    int fds[PRIMARY_FDS_MAX];
    unsigned count = 0;
    json_t *options;

    struct child *child = child_at(vm, n->place);
    if (!child)
        return error_set(err, -EINVAL, "its process has ended");
    int r = block_options_open_files(n->options, fds, ARRAY_SIZE(fds), &count, &options, err);
    if (r == 0) {
        r = child_step(child, n->label, "blockdev-add", options, fds, count);
        if (r < 0)
            error_set(err, r, "cannot hand it over");
    }
    close_all(fds, count);
    return r;
}

static int give_nodes(struct vm *vm, struct error *err)
{
    for (unsigned i = 0; i < vm->config->nnodes; i++) {
        int r = give_node(vm, &vm->config->nodes[i], err);
        if (r < 0) {
            error_prefix(err, "%s", vm->config->nodes[i].label);
            return r;
        }
    }
    return 0;
}

/* ---- the machine ---- */

/* Adds path's descriptor to the message; key and key-name to args. */
static int add_file(json_t *args, const char *key, const char *path, int *fds, unsigned *count,
                    struct error *err)
{
    char option[32], name[32];

    if (!path)
        return 0;
    snprintf(option, sizeof option, "-%s", key);
    snprintf(name, sizeof name, "%s-name", key);
    int r = file_open(option, path, &fds[*count], err);
    if (r < 0)
        return r;
    json_object_set_new(args, key, json_integer(*count));
    json_t *text = json_string(path);
    json_object_set_new(args, name, text ? text : json_string(key));
    (*count)++;
    return 0;
}

static int add_memory(struct vm *vm, json_t *args, int *fds, unsigned *count, struct error *err)
{
    const struct config *c = vm->config;
    struct object_config *o = c->memory_backend ? config_find_object(c, c->memory_backend) : NULL;
    json_t *backend = o ? json_copy(o->options) : json_object();
    const char *path = json_string_value(json_object_get(backend, "mem-path"));
    char *path_copy = strdup(path ? path : c->mem_path ? c->mem_path : "");

    json_object_del(backend, "mem-path");
    json_object_del(backend, "size");
    json_object_set_new(backend, "share", json_true());
    if (c->mem_prealloc)
        json_object_set_new(backend, "prealloc", json_true());
    json_object_set_new(args, "memory-backend", backend);
    if (!path_copy)
        return error_oom(err);
    int r = 0;
    if (*path_copy) {
        r = memory_open(o ? o->label : "-mem-path", path_copy, c->memory_bytes, &fds[*count], err);
        if (r == 0)
            json_object_set_new(backend, "fd", json_integer((*count)++));
    }
    free(path_copy);
    return r;
}

static int give_machine(struct vm *vm, struct error *err)
{
    const struct config *c = vm->config;
    int fds[PRIMARY_FDS_MAX];
    unsigned count = 0;
    json_t *serials;

    json_t *args = json_pack("{s:s*, s:I, s:{s:i, s:i, s:i, s:i}, s:s, s:{s:s}, s:s*, s:s}",
        "name", c->name, "memory", (json_int_t)c->memory_bytes, "smp", "cpus", c->smp.cpus,
        "sockets", c->smp.sockets, "cores", c->smp.cores, "threads", c->smp.threads,
        "cpu", c->cpu_model, "machine", "type", "bulkhead", "append", c->append,
        "on-reboot", c->reboot_shuts_down ? "shutdown" : "reset");
    if (!args)
        return error_set(err, -EINVAL, "-name or -append: the text is not UTF-8");

    int r = add_file(args, "kernel", c->kernel, fds, &count, err);
    if (r == 0)
        r = add_file(args, "initrd", c->initrd, fds, &count, err);
    if (r == 0)
        r = add_memory(vm, args, fds, &count, err);
    if (r == 0)
        r = serials_open(vm, fds, ARRAY_SIZE(fds), &count, &serials, err);
    if (r == 0)
        json_object_set_new(args, "serial", serials);
    if (r == 0) {
        r = child_step(vm->cpu, NULL, "machine-init", json_incref(args), fds, count);
        if (r < 0)
            error_set(err, r, "cannot ask the CPU process for a machine");
    }
    close_all(fds, count);
    json_decref(args);
    return r;
}

/* ---- devices ---- */

/* Channels, per device of the configuration; -1: none. */
struct channels { int fds[CONFIG_LIST_MAX]; };

/* In its device process, with its channel if the guest is to see it. */
static int give_remote_device(struct vm *vm, const struct device_config *d, int *ret_channel,
                              struct error *err)
{
    struct child *child = child_at(vm, d->place);

    if (!child)
        return error_set(err, -EINVAL, "%s: its process has ended", d->label);
    int r = child_step(child, d->label, "device_add", json_deep_copy(d->options), NULL, 0);
    if (r < 0)
        return error_set(err, r, "%s: cannot ask for it", d->label);
    return d->proxy ? device_channel_open(vm, d, child, ret_channel, err) : 0;
}

/* Row A7: a device process that runs already. */
static int connect_device(struct vm *vm, const struct device_config *d, int *ret_channel,
                          struct error *err)
{
    struct child *child;
    int fd;

    int r = primary_socket_open(d->socket, &fd, err);
    if (r == 0)
        r = child_connect(vm, d->id, fd, &child, err);
    if (r < 0) {
        error_prefix(err, "%s", d->label);
        return r;
    }
    return device_channel_open(vm, d, child, ret_channel, err);
}

static int give_remote_devices(struct vm *vm, struct channels *channels, struct error *err)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < vm->config->ndevices; i++) {
        const struct device_config *d = &vm->config->devices[i];
        if (d->socket)
            r = connect_device(vm, d, &channels->fds[i], err);
        else if (d->place >= 0)
            r = give_remote_device(vm, d, &channels->fds[i], err);
    }
    return r;
}

/* The CPU process's part: devices of its own, and proxies. */
static int give_local_devices(struct vm *vm, struct channels *channels, struct error *err)
{
    for (unsigned i = 0; i < vm->config->ndevices; i++) {
        const struct device_config *d = &vm->config->devices[i];
        int *channel = &channels->fds[i];

        if (d->place >= 0 && !d->proxy)
            continue;
        json_t *args = json_deep_copy(d->proxy ? d->proxy : d->options);
        if (*channel >= 0)
            json_object_set_new(args, "channel-fd", json_integer(0));
        int r = vm->cpu ? child_step(vm->cpu, d->label, "device_add", args, channel, *channel >= 0)
                        : -ESRCH;
        if (r < 0)
            return error_set(err, r, "%s: cannot ask for it", d->label);
        if (*channel >= 0) {
            close(*channel);
            *channel = -1;
        }
    }
    return 0;
}

/* ---- all of it ---- */

static bool all_idle(const struct vm *vm)
{
    list_for_each(struct child, c, &vm->children, link)
        if (!child_idle(c))
            return false;
    return true;
}

/* Until every process has answered all. The user may have lost patience meanwhile. */
static int wait_for_answers(struct vm *vm, struct error *err)
{
    while (!vm->start_failed && vm->phase == VM_STARTING && !all_idle(vm))
        loop_turn(vm->loop, -1);
    if (vm->start_failed) {
        *err = vm->err;
        return err->code < 0 ? err->code : -EINVAL;
    }
    return vm->phase == VM_STARTING ? 0 : -ECANCELED;
}

static int open_monitors(struct vm *vm, struct error *err)
{
    bool wait = false;

    monitor_hold(vm->monitor, true);
    for (unsigned i = 0; i < vm->config->nmonitors; i++) {
        const struct monitor_spec *spec = &vm->config->monitors[i];
        int r = monitor_open(vm->monitor, spec, err);
        if (r < 0) {
            error_prefix(err, "-qmp");
            return r;
        }
        wait |= spec->server && spec->wait;
        if (spec->server && spec->wait)
            log_info("-qmp unix:%s: waiting for a client", spec->path);
    }
    while (wait && !monitor_connected(vm->monitor) && vm->phase == VM_STARTING)
        loop_turn(vm->loop, -1);
    return vm->phase == VM_STARTING ? 0 : -ECANCELED;
}

/* Everything is open: what strangers say is read behind the closed door. */
static int close_door(struct vm *vm, struct error *err)
{
    struct door_option option = { 0 };
    struct sandbox_config sandbox = { .role = SANDBOX_CONTROL, .name = "bulkhead" };

    int r = vm->config->sandbox ? door_option_parse(vm->config->sandbox, &option, err) : 0;
    option.has_uid = option.has_gid = false;        /* those are for the other processes */
    return r < 0 ? r : door_close(&option, &sandbox, false, &vm->sandbox, err);
}

static int launch(struct vm *vm, struct channels *channels, struct error *err)
{
    const struct config *c = vm->config;

    int r = open_monitors(vm, err);
    if (r == 0 && c->pidfile) {
        r = pidfile_write(c->pidfile, err);
        vm->pidfile = r == 0 ? strdup(c->pidfile) : NULL;
    }
    if (r == 0)
        r = spawn_all(vm, err);
    if (r == 0)
        r = give_machine(vm, err);
    if (r == 0)
        r = give_nodes(vm, err);
    if (r == 0)
        r = give_remote_devices(vm, channels, err);
    if (r == 0)
        r = close_door(vm, err);
    if (r == 0)
        r = wait_for_answers(vm, err);
    if (r == 0)
        r = give_local_devices(vm, channels, err);
    if (r == 0)
        r = wait_for_answers(vm, err);
    if (r == 0 && !c->stopped)
        r = child_step(vm->cpu, NULL, "cont", NULL, NULL, 0);
    if (r == 0)
        r = wait_for_answers(vm, err);
    return r;
}

/* A device without rid= brings its images into the process of the CPUs. The user shall know. */
static void tell_local_images(const struct vm *vm)
{
    for (unsigned i = 0; i < vm->config->nnodes; i++)
        if (vm->config->nodes[i].place == IN_CPU_PROCESS)
            log_info("%s: the CPU process holds this image, since its device has no rid=",
                     vm->config->nodes[i].label);
}

int vm_launch(struct vm *vm, struct error *err)
{
    struct channels *channels = malloc(sizeof *channels);

    if (!channels)
        return error_oom(err);
    for (unsigned i = 0; i < ARRAY_SIZE(channels->fds); i++)
        channels->fds[i] = -1;
    err->text[0] = 0;
    int r = launch(vm, channels, err);
    for (unsigned i = 0; i < ARRAY_SIZE(channels->fds); i++)
        if (channels->fds[i] >= 0)
            close(channels->fds[i]);
    free(channels);
    if (r == 0) {
        vm->phase = VM_UP;
        monitor_hold(vm->monitor, false);
        tell_local_images(vm);
    }
    return r;
}
