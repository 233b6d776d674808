/* SPDX-License-Identifier: Apache-2.0 */
/* What can be judged only when the whole command line is known, and the defaults. */
#include "internal.h"

#include <errno.h>
#include <string.h>

enum { DEFAULT_MEMORY_MIB = 128 };

static int check_kernel(struct config *c, struct error *err)
{
    if (!c->kernel && c->initrd)
        return error_set(err, -EINVAL, "-initrd needs -kernel");
    if (!c->kernel && c->append)
        return error_set(err, -EINVAL, "-append needs -kernel");
    if (!c->kernel)
        return error_set(err, -EINVAL, "-kernel is missing: there is no firmware that could boot "
                                       "from a disk");
    return 0;
}

static int check_memory(struct config *c, struct error *err)
{
    if (c->mem_path && c->memory_backend)
        return error_set(err, -EINVAL, "-mem-path and -machine memory-backend= exclude each other");
    if (c->memory_backend) {
        struct object_config *o = config_find_object(c, c->memory_backend);
        if (!o)
            return error_set(err, -EINVAL, "-machine: there is no -object '%s' for memory-backend",
                             c->memory_backend);
        uint64_t size = json_integer_value(json_object_get(o->options, "size"));
        if (c->memory_bytes && c->memory_bytes != size)
            return error_set(err, -EINVAL, "%s: its size differs from that of -m", o->label);
        c->memory_bytes = size;
    }
    if (!c->memory_bytes)
        c->memory_bytes = (uint64_t)DEFAULT_MEMORY_MIB << 20;
    return 0;
}

static int check_stdio(struct config *c, struct error *err)
{
    unsigned users = 0;

    for (unsigned i = 0; i < c->nmonitors; i++)
        users += c->monitors[i].is_stdio;
    for (unsigned i = 0; i < c->nchardevs; i++) {
        const char *backend = json_string_value(json_object_get(c->chardevs[i].options, "backend"));
        if (!c->chardevs[i].used)
            return error_set(err, -EINVAL, "%s: nothing uses this chardev", c->chardevs[i].label);
        users += !strcmp(backend, "stdio");
    }
    return users > 1 ? error_set(err, -EINVAL, "stdio can be used only once, by -qmp, -serial or "
                                               "-chardev") : 0;
}

static int set_defaults(struct config *c, struct error *err)
{
    int r = 0;

    if (c->nographic && c->nserials == 0 && !c->nodefaults)
        r = opt_serial(c, "mon:stdio", err);
    if (c->smp.cpus == 0)
        c->smp.cpus = c->smp.sockets = c->smp.cores = c->smp.threads = 1;
    if (r == 0 && !c->cpu_model)
        r = set_copy(&c->cpu_model, "max", err);
    if (r == 0 && !c->name)
        r = set_copy(&c->name, "vm", err);
    return r;
}

int config_check(struct config *c, struct error *err)
{
    int r = set_defaults(c, err);
    if (r == 0)
        r = check_kernel(c, err);
    if (r == 0)
        r = check_memory(c, err);
    if (r == 0)
        r = check_stdio(c, err);
    return r;
}
