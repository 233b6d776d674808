/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two ports for guests that know they are guests. isa-debug-exit: a value written ends the machine
 * with the exit status (value << 1) | 1. pvpanic: a guest's kernel says that it panicked (bit 0) or
 * has loaded its crash kernel (bit 1); reading tells which of these are understood.
 */
#include "machine/internal.h"

#include <errno.h>

enum { PVPANIC_PANICKED = 1, PVPANIC_CRASH_LOADED = 2 };

struct debug_exit {
    struct machine *machine;
    struct mem_region *ports;
    uint32_t iobase, iosize;
};

static uint64_t exit_read(void *opaque, uint64_t off, unsigned len) { return 0; }

static void exit_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
    struct debug_exit *d = opaque;
    d->machine->ops->request_shutdown(d->machine->opaque, MACHINE_SHUTDOWN_DEBUG_EXIT,
                                      (int)((val << 1 | 1) & 0xff));
}

static const struct mem_ops exit_ops = {
    .read = exit_read, .write = exit_write, .widths = ACCESS_8 | ACCESS_16 | ACCESS_32,
};

static int exit_realize(struct object *obj, struct error *err)
{
    struct debug_exit *d = object_self(obj);

    d->machine = machine_of(obj);
    if (!d->machine)
        return error_set(err, -EINVAL, "it belongs into the CPU process");
    if (d->iobase + d->iosize > 0x10000)
        return error_set(err, -EINVAL, "there are only 65536 ports");
    return machine_ports_add(d->machine, "isa-debug-exit", d->iobase, d->iosize, &exit_ops, d,
                             &d->ports, err);
}

static void exit_unrealize(struct object *obj)
{
    machine_ports_del(&((struct debug_exit *)object_self(obj))->ports);
}

const struct object_class debug_exit_class = {
    .name = "isa-debug-exit", .summary = "a write to it ends the machine, with an exit status",
    .size = sizeof(struct debug_exit),
    .props = (const struct prop[]){
        PROP_UINT("iobase", struct debug_exit, iobase, 0, 0xffff, 0x501, "first port"),
        PROP_UINT("iosize", struct debug_exit, iosize, 1, 8, 2, "number of ports"), PROP_END },
    .realize = exit_realize, .unrealize = exit_unrealize,
};

struct pvpanic {
    struct machine *machine;
    struct mem_region *ports;
    uint16_t ioport;
};

static uint64_t panic_read(void *opaque, uint64_t off, unsigned len)
{
    return PVPANIC_PANICKED | PVPANIC_CRASH_LOADED;
}

static void panic_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
    struct pvpanic *p = opaque;

    if (p->machine->ops->guest_panicked && (val & (PVPANIC_PANICKED | PVPANIC_CRASH_LOADED)))
        p->machine->ops->guest_panicked(p->machine->opaque, !(val & PVPANIC_PANICKED));
}

static const struct mem_ops panic_ops = {
    .read = panic_read, .write = panic_write, .widths = ACCESS_8,
};

static int panic_realize(struct object *obj, struct error *err)
{
    struct pvpanic *p = object_self(obj);

    p->machine = machine_of(obj);
    if (!p->machine)
        return error_set(err, -EINVAL, "it belongs into the CPU process");
    return machine_ports_add(p->machine, "pvpanic", p->ioport, 1, &panic_ops, p, &p->ports, err);
}

static void panic_unrealize(struct object *obj)
{
    machine_ports_del(&((struct pvpanic *)object_self(obj))->ports);
}

const struct object_class pvpanic_class = {
    .name = "pvpanic", .summary = "the guest tells that its kernel panicked",
    .size = sizeof(struct pvpanic),
    .props = (const struct prop[]){
        PROP_UINT("ioport", struct pvpanic, ioport, 0, 0xffff, 0x505, "port"), PROP_END },
    .realize = panic_realize, .unrealize = panic_unrealize,
};
