/* SPDX-License-Identifier: Apache-2.0 */
/* The bus: who sits at which address. QEMU's properties channel, scsi-id, lun. */
#include "scsi/internal.h"

#include <errno.h>

struct scsi_target *scsi_target_of(struct object *obj)
{
    return object_part(obj, &scsi_device_base);
}

unsigned scsi_target_id(const struct scsi_target *t) { return t->scsi_id; }
unsigned scsi_target_lun(const struct scsi_target *t) { return t->lun; }
struct object *scsi_bus_adapter(struct scsi_bus *bus) { return bus->adapter; }

static struct scsi_target *exact(struct scsi_bus *bus, unsigned id, unsigned lun)
{
    list_for_each(struct object, obj, &bus->bus.children, bus_link) {
        struct scsi_target *t = scsi_target_of(obj);
        if ((unsigned)t->scsi_id == id && (unsigned)t->lun == lun)
            return t;
    }
    return NULL;
}

struct scsi_target *scsi_find(struct scsi_bus *bus, unsigned id, unsigned lun, bool *ret_exact)
{
    struct scsi_target *t = exact(bus, id, lun);

    *ret_exact = t && t->obj->realized;
    if (*ret_exact)
        return t;
    list_for_each(struct object, obj, &bus->bus.children, bus_link) {
        t = scsi_target_of(obj);
        if ((unsigned)t->scsi_id == id && obj->realized)
            return t;
    }
    return NULL;
}

static bool id_in_use(struct scsi_bus *bus, unsigned id)
{
    list_for_each(struct object, obj, &bus->bus.children, bus_link)
        if ((unsigned)scsi_target_of(obj)->scsi_id == id)
            return true;
    return id == bus->config.host_id;
}

static bool bus_full(struct bus *b)
{
    struct scsi_bus *bus = container_of(b, struct scsi_bus, bus);
    for (unsigned id = 0; id <= bus->config.max_target; id++)
        if (!id_in_use(bus, id))
            return false;
    return true;
}

static int bus_plug(struct bus *b, struct object *child, struct error *err)
{
    struct scsi_bus *bus = container_of(b, struct scsi_bus, bus);
    struct scsi_target *t = scsi_target_of(child);
    unsigned lun = t->lun < 0 ? 0 : t->lun;

    if (t->channel != 0)
        return error_set(err, -EINVAL, "bus '%s' has channel 0 only", b->name);
    if (lun > bus->config.max_lun)
        return error_set(err, -EINVAL, "'lun' must be from 0 to %u on bus '%s'",
                         bus->config.max_lun, b->name);
    if (t->scsi_id < 0) {
        unsigned id = 0;
        while (id <= bus->config.max_target && id_in_use(bus, id))
            id++;
        if (id > bus->config.max_target)
            return error_set(err, -EBUSY, "bus '%s' has no free SCSI id", b->name);
        t->scsi_id = id;
    }
    if ((unsigned)t->scsi_id > bus->config.max_target)
        return error_set(err, -EINVAL, "'scsi-id' must be from 0 to %u on bus '%s'",
                         bus->config.max_target, b->name);
    if ((unsigned)t->scsi_id == bus->config.host_id)
        return error_set(err, -EINVAL, "'scsi-id' %d is the host adapter's own", t->scsi_id);
    struct scsi_target *there = exact(bus, t->scsi_id, lun);
    if (there)
        return error_set(err, -EBUSY, "scsi-id %d, lun %u of bus '%s' is taken by '%s'",
                         t->scsi_id, lun, b->name, object_name(there->obj));
    t->lun = lun;
    t->sbus = bus;
    return 0;
}

static const struct bus_ops scsi_bus_ops = { .plug = bus_plug, .full = bus_full };

int scsi_bus_new(struct object *adapter, const struct scsi_bus_config *config,
                 struct scsi_bus **ret_bus, struct error *err)
{
    struct scsi_bus *bus = calloc(1, sizeof *bus);
    if (!bus)
        return error_oom(err);
    bus->adapter = adapter;
    bus->config = *config;
    if (bus_init(&bus->bus, adapter->tree, "SCSI", NULL, adapter, &scsi_bus_ops) < 0) {
        free(bus);
        return error_oom(err);
    }
    *ret_bus = bus;
    return 0;
}

void scsi_bus_free(struct scsi_bus *bus)
{
    if (!bus)
        return;
    bus_fini(&bus->bus);
    free(bus);
}

void scsi_bus_reset(struct scsi_bus *bus)
{
    list_for_each(struct object, obj, &bus->bus.children, bus_link) {
        struct scsi_target *t = scsi_target_of(obj);
        scsi_targets_abort(t);
        scsi_raise_ua(t, UA_BUS_RESET);
    }
}

void scsi_target_reset(struct scsi_target *t)
{
    scsi_targets_abort(t);
    scsi_raise_ua(t, UA_DEVICE_RESET);
}
