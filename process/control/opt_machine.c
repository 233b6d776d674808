/* SPDX-License-Identifier: Apache-2.0 */
/* Options about the machine as a whole: memory, processors, machine, names. */
#include "internal.h"

#include "obj/prop.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

enum { MIB = 1 << 20, MEMORY_MIN_MIB = 8, MEMORY_MAX_MIB = 4 << 20, PAGE_BYTES = 4096 };

static int memory_size(const char *text, uint64_t unit, uint64_t *ret_bytes, struct error *err)
{
    uint64_t bytes;

    int r = size_parse(text, unit, &bytes);
    if (r == -EINVAL)
        return error_set(err, -EINVAL, "'%.80s' is not a size, such as 512M or 2G", text);
    if (r < 0 || bytes < (uint64_t)MEMORY_MIN_MIB * MIB || bytes > (uint64_t)MEMORY_MAX_MIB * MIB)
        return error_set(err, -EINVAL, "the size must be from 8M to 4T");
    *ret_bytes = (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    return 0;
}

int opt_memory(void *opaque, const char *arg, struct error *err)
{
    struct config *c = opaque;
    json_t *o;
    const char *size;

    int r = text_parse(arg, "size", &o, err);
    if (r < 0)
        return r;
    r = options_known(o, (const char *const[]){ "size", NULL }, err);
    if (r == 0)
        r = options_string(o, "size", &size, err);
    if (r == 0)
        r = size ? memory_size(size, MIB, &c->memory_bytes, err)
                 : error_set(err, -EINVAL, "'size' is missing");
    json_decref(o);
    return r;
}

static int take_count(json_t *o, const char *key, unsigned *ret, struct error *err)
{
    uint64_t v;
    json_t *value = json_object_get(o, key);

    if (!value)
        return 0;
    int r = value_to_uint(value, key, 1, CONFIG_CPUS_MAX, &v, err);
    if (r == 0)
        *ret = v;
    return r;
}

/* What was not said follows from the rest: cores first, then threads, then sockets, as QEMU 6.2 and
 * later do it. */
static int complete_smp(struct config *c, unsigned max_cpus, struct error *err)
{
    unsigned cpus = c->smp.cpus ? c->smp.cpus : max_cpus;
    unsigned sockets = c->smp.sockets, cores = c->smp.cores, threads = c->smp.threads;

    if (cpus == 0)
        cpus = MAX(sockets, 1u) * MAX(cores, 1u) * MAX(threads, 1u);
    if (cores == 0) {
        sockets = MAX(sockets, 1u);
        threads = MAX(threads, 1u);
        cores = cpus / (sockets * threads);
    } else if (sockets == 0) {
        threads = MAX(threads, 1u);
        sockets = cpus / (cores * threads);
    } else if (threads == 0) {
        threads = cpus / (cores * sockets);
    }
    if (cpus > CONFIG_CPUS_MAX)
        return error_set(err, -EINVAL, "at most %d CPUs are possible", CONFIG_CPUS_MAX);
    if (sockets * cores * threads != cpus)
        return error_set(err, -EINVAL, "%u CPUs cannot be %u sockets of %u cores of %u threads",
                         cpus, sockets, cores, threads);
    if (max_cpus && max_cpus != cpus)
        return error_set(err, -EINVAL, "'maxcpus' must equal 'cpus', since CPUs cannot be added "
                                       "later");
    c->smp.cpus = cpus;
    c->smp.sockets = sockets;
    c->smp.cores = cores;
    c->smp.threads = threads;
    return 0;
}

int opt_smp(void *opaque, const char *arg, struct error *err)
{
    struct config *c = opaque;
    static const char *const known[] = { "cpus", "sockets", "cores", "threads", "maxcpus", NULL };
    unsigned max_cpus = 0;
    json_t *o;

    int r = text_parse(arg, "cpus", &o, err);
    if (r < 0)
        return r;
    memset(&c->smp, 0, sizeof c->smp);
    r = options_known(o, known, err);
    if (r == 0)
        r = take_count(o, "cpus", &c->smp.cpus, err);
    if (r == 0)
        r = take_count(o, "sockets", &c->smp.sockets, err);
    if (r == 0)
        r = take_count(o, "cores", &c->smp.cores, err);
    if (r == 0)
        r = take_count(o, "threads", &c->smp.threads, err);
    if (r == 0)
        r = take_count(o, "maxcpus", &max_cpus, err);
    if (r == 0)
        r = complete_smp(c, max_cpus, err);
    json_decref(o);
    return r;
}

static int one_of(const char *value, const char *what, const char *const *names,
                  const char *all, struct error *err)
{
    for (; *names; names++)
        if (!strcmp(*names, value))
            return 0;
    return error_set(err, -EINVAL, "there is no %s '%.80s' here, only %s", what, value, all);
}

int opt_accel(void *opaque, const char *arg, struct error *err)
{
    return one_of(arg, "accelerator", (const char *const[]){ "kvm", NULL }, "kvm", err);
}

int opt_machine(void *opaque, const char *arg, struct error *err)
{
    struct config *c = opaque;
    static const char *const known[] = { "type", "accel", "memory-backend", "kernel-irqchip",
                                         NULL };
    const char *type = NULL, *accel = NULL, *irqchip = NULL;
    json_t *o;

    int r = text_parse(arg, "type", &o, err);
    if (r < 0)
        return r;
    r = options_known(o, known, err);
    if (r == 0)
        r = options_string(o, "type", &type, err);
    if (r == 0 && type)
        r = one_of(type, "machine", (const char *const[]){ "bulkhead", "q35", "pc", NULL },
                   "bulkhead (also by the names q35 and pc)", err);
    if (r == 0)
        r = options_string(o, "accel", &accel, err);
    if (r == 0 && accel)
        r = opt_accel(c, accel, err);
    if (r == 0)
        r = options_string(o, "kernel-irqchip", &irqchip, err);
    if (r == 0 && irqchip)
        r = one_of(irqchip, "interrupt chip setting", (const char *const[]){ "on", NULL }, "on",
                   err);
    if (r == 0)
        r = options_take(o, "memory-backend", false, &c->memory_backend, err);
    json_decref(o);
    return r;
}

int opt_cpu(void *opaque, const char *arg, struct error *err)
{
    struct config *c = opaque;
    int r = one_of(arg, "CPU model", (const char *const[]){ "host", "max", NULL }, "host and max",
                   err);
    return r < 0 ? r : set_copy(&c->cpu_model, arg, err);
}

static int check_memory_object(json_t *o, const char *type, struct error *err)
{
    static const char *const memfd[] = { "size", "share", "hugetlb", "hugetlbsize", "prealloc",
                                         NULL };
    static const char *const file[] = { "size", "share", "mem-path", "prealloc", NULL };
    bool is_file = !strcmp(type, "memory-backend-file"), b;
    json_t *size = json_object_get(o, "size");
    const char *const *known = is_file ? file : memfd;
    const char *path = NULL;
    uint64_t v;

    int r = options_known(o, known, err);
    if (r == 0 && !size)
        r = error_set(err, -EINVAL, "'size' is missing");
    if (r == 0)
        r = value_to_size(size, "size", (uint64_t)MEMORY_MIN_MIB * MIB,
                          (uint64_t)MEMORY_MAX_MIB * MIB, &v, err);
    if (r == 0 && v % PAGE_BYTES)
        r = error_set(err, -EINVAL, "'size' must be a multiple of 4k");
    if (r == 0)
        json_object_set_new(o, "size", json_integer(v));
    for (const char *const *k = known; r == 0 && *k; k++) {
        json_t *value = json_object_get(o, *k);
        if (!value || !strcmp(*k, "size") || !strcmp(*k, "mem-path") || !strcmp(*k, "hugetlbsize"))
            continue;
        r = value_to_bool(value, *k, &b, err);
        if (r == 0)
            json_object_set_new(o, *k, json_boolean(b));
    }
    if (r == 0 && json_is_false(json_object_get(o, "share")))
        r = error_set(err, -EINVAL, "'share' must be on: device processes reach the memory too");
    json_t *huge = json_object_get(o, "hugetlbsize");
    if (r == 0 && huge) {
        r = value_to_size(huge, "hugetlbsize", 2 * MIB, 1024 * MIB, &v, err);
        if (r == 0 && v != 2 * MIB && v != 1024 * MIB)
            r = error_set(err, -EINVAL, "'hugetlbsize' must be 2M or 1G");
        if (r == 0 && !json_is_true(json_object_get(o, "hugetlb")))
            r = error_set(err, -EINVAL, "'hugetlbsize' needs hugetlb=on");
        if (r == 0)
            json_object_set_new(o, "hugetlbsize", json_integer(v));
    }
    if (r == 0 && is_file)
        r = options_string(o, "mem-path", &path, err);
    if (r == 0 && is_file && (!path || !*path))
        r = error_set(err, -EINVAL, "'mem-path' is missing");
    return r;
}

int opt_object(void *opaque, const char *arg, struct error *err)
{
    struct config *c = opaque;
    static const char *const types[] = { "memory-backend-memfd", "memory-backend-file",
                                         "memory-backend-ram", NULL };
    AUTO_FREE char *type = NULL;

    struct object_config *obj = add_object(c, "object", arg);
    if (!obj)
        return error_set(err, -E2BIG, "no room for another object");
    int r = text_parse(arg, "qom-type", &obj->options, err);
    if (r == 0)
        r = options_take(obj->options, "qom-type", true, &type, err);
    if (r == 0)
        r = one_of(type, "object", types, "memory-backend-memfd, memory-backend-file and "
                   "memory-backend-ram", err);
    char *id = NULL;
    if (r == 0)
        r = options_take(obj->options, "id", true, &id, err);
    if (r == 0)
        r = id_check(id, err);
    if (r == 0 && config_find_object(c, id))
        r = error_set(err, -EINVAL, "the id '%s' is used twice", id);
    obj->id = id;
    return r < 0 ? r : check_memory_object(obj->options, type, err);
}

int opt_mem_path(void *opaque, const char *arg, struct error *err)
{
    struct config *c = opaque;
    if (!*arg)
        return error_set(err, -EINVAL, "the path is empty");
    return set_copy(&c->mem_path, arg, err);
}

int opt_name(void *opaque, const char *arg, struct error *err)
{
    struct config *c = opaque;
    static const char *const known[] = { "guest", "process", "debug-threads", NULL };
    json_t *o;

    int r = text_parse(arg, "guest", &o, err);
    if (r < 0)
        return r;
    r = options_known(o, known, err);
    if (r == 0)
        r = options_take(o, "guest", true, &c->name, err);
    json_decref(o);
    return r;
}

int opt_uuid(void *opaque, const char *arg, struct error *err)
{
    struct config *c = opaque;
    bool good = strlen(arg) == 36;

    for (int i = 0; good && i < 36; i++)
        good = i == 8 || i == 13 || i == 18 || i == 23 ? arg[i] == '-'
                                                       : isxdigit((unsigned char)arg[i]);
    if (!good)
        return error_set(err, -EINVAL, "this is not a UUID");
    return set_copy(&c->uuid, arg, err);
}

/* One of two words, as -action has them; on is the second. */
static int take_choice(json_t *o, const char *key, const char *off, const char *on, bool *ret,
                       struct error *err)
{
    const char *value;

    int r = options_string(o, key, &value, err);
    if (r < 0 || !value)
        return r;
    if (strcmp(value, off) && strcmp(value, on))
        return error_set(err, -EINVAL, "'%s' must be %s or %s", key, off, on);
    *ret = !strcmp(value, on);
    return 0;
}

int opt_action(void *opaque, const char *arg, struct error *err)
{
    struct config *c = opaque;
    json_t *o;

    int r = text_parse(arg, NULL, &o, err);
    if (r < 0)
        return r;
    r = options_known(o, (const char *const[]){ "reboot", "shutdown", "panic", NULL }, err);
    if (r == 0)
        r = take_choice(o, "reboot", "reset", "shutdown", &c->reboot_shuts_down, err);
    if (r == 0)
        r = take_choice(o, "shutdown", "poweroff", "pause", &c->shutdown_pauses, err);
    if (r == 0)
        r = take_choice(o, "panic", "none", "shutdown", &c->panic_shuts_down, err);
    json_decref(o);
    return r;
}
