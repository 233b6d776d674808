/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which process each thing belongs to. A device goes where rid= says, or where the bus lives that
 * it plugs into, or into the CPU process. A block node goes where the device lives that uses it,
 * its children along with it. So nobody holds a descriptor that is of no use to it.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

/* Host adapters, and the prefix of what plugs into them when no bus= is given. */
static const struct { const char *adapter, *child; } adapters[] = {
    { "lsi53c895a", "scsi-" },
};

/* What of a remote device's options concerns the bus that its proxy sits on. */
static const char *const proxy_options[] = { "bus", "addr", "multifunction" };

static const char *driver_of(const struct device_config *d)
{
    return json_string_value(json_object_get(d->options, "driver"));
}

/* ---- block nodes ---- */

static int place_node(struct config *c, unsigned index, int place, struct error *err);

/* Places what the options refer to by name; only nodes above limit may be named. */
static int place_children(struct config *c, json_t *options, unsigned limit, int place,
                          struct error *err)
{
    static const char *const links[] = { "file", "backing", "data-file" };
    const char *key;
    json_t *value;

    for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
        const char *name = json_string_value(json_object_get(options, links[i]));
        if (!name)
            continue;
        int child = config_find_node(c, name);
        if (child < 0 || (unsigned)child >= limit)
            return error_set(err, -EINVAL, "there is no block node '%.80s' before this one", name);
        int r = place_node(c, child, place, err);
        if (r < 0)
            return r;
    }
    json_object_foreach(options, key, value)
        if (json_is_object(value)) {
            int r = place_children(c, value, limit, place, err);
            if (r < 0)
                return r;
        }
    return 0;
}

/* A node's children stand before it, so this ends. */
static int place_node(struct config *c, unsigned index, int place, struct error *err)
{
    struct node_config *n = &c->nodes[index];

    if (n->place == place)
        return 0;
    if (n->place != NOWHERE)
        return error_set(err, -EINVAL, "the block node '%.80s' cannot be in two processes, %s and %s",
                         json_string_value(json_object_get(n->options, "node-name")),
                         config_place_name(c, n->place), config_place_name(c, place));
    n->place = place;
    if (place >= 0)
        c->processes[place].has_blocks = true;
    return place_children(c, n->options, index, place, err);
}

static int place_named_node(struct config *c, const char *name, int place, struct error *err)
{
    int index = config_find_node(c, name);
    if (index < 0)
        return error_set(err, -EINVAL, "there is no block node '%.80s'", name);
    return place_node(c, index, place, err);
}

/* -process blockdev=a:b */
static int place_listed_nodes(struct config *c, int place, struct error *err)
{
    char name[128];

    for (const char *at = c->processes[place].blockdev; at && *at;) {
        size_t len = strcspn(at, ":");
        if (len == 0 || len >= sizeof name)
            return error_set(err, -EINVAL, "'blockdev' must be node names with colons between");
        memcpy(name, at, len);
        name[len] = 0;
        int r = place_named_node(c, name, place, err);
        if (r < 0)
            return r;
        at += len + (at[len] == ':');
    }
    return 0;
}

/*
 * Nodes that no device uses: to the only device process, so that they can be used later; without
 * one, to the CPU process. Where there are several the user must say. From the last to the first,
 * since a node takes along its children, which stand before it.
 */
static int place_unused_nodes(struct config *c, struct error *err)
{
    for (unsigned i = c->nnodes; i-- > 0;) {
        struct node_config *n = &c->nodes[i];

        if (n->place != NOWHERE)
            continue;
        int r = c->nprocesses > 1
            ? error_set(err, -EINVAL, "no device uses this block node: say with "
                        "-process id=…,blockdev=… which process it is for")
            : place_node(c, i, c->nprocesses ? 0 : IN_CPU_PROCESS, err);
        if (r < 0) {
            error_prefix(err, "%s", n->label);
            return r;
        }
    }
    return 0;
}

/* ---- devices ---- */

/* The device before this one that owns the bus, or NULL. */
static struct device_config *bus_owner(struct config *c, const struct device_config *d,
                                       const char *bus)
{
    const char *dot = strrchr(bus, '.');

    for (struct device_config *o = c->devices; dot && o < d; o++)
        if (o->id && strlen(o->id) == (size_t)(dot - bus) && !memcmp(o->id, bus, dot - bus))
            return o;
    return NULL;
}

/* The device that a child without bus= plugs into: the first adapter of its kind. */
static struct device_config *default_owner(struct config *c, const struct device_config *d)
{
    for (size_t i = 0; i < ARRAY_SIZE(adapters); i++) {
        if (strncmp(driver_of(d), adapters[i].child, strlen(adapters[i].child)))
            continue;
        for (struct device_config *o = c->devices; o < d; o++)
            if (!strcmp(driver_of(o), adapters[i].adapter))
                return o;
    }
    return NULL;
}

static int make_proxy(struct config *c, struct device_config *d, struct error *err)
{
    d->proxy = json_pack("{s:s, s:s}", "driver", "pci-proxy-dev", "id", d->id);
    if (!d->proxy)
        return error_oom(err);
    for (size_t i = 0; i < ARRAY_SIZE(proxy_options); i++) {
        json_t *v = json_object_get(d->options, proxy_options[i]);
        if (v)
            json_object_set(d->proxy, proxy_options[i], v);
        json_object_del(d->options, proxy_options[i]);
    }
    return 0;
}

/* An id for a remote device that was given none: the proxy and the device must share one. */
static int make_id(struct config *c, struct device_config *d, struct error *err)
{
    char id[200];

    snprintf(id, sizeof id, "%s-dev%u", d->rid, (unsigned)(d - c->devices));
    if (config_find_device(c, id))
        return error_set(err, -EINVAL, "'id' is missing");
    int r = set_copy(&d->id, id, err);
    if (r == 0)
        json_object_set_new(d->options, "id", json_string(id));
    return r;
}

static int place_device(struct config *c, struct device_config *d, struct error *err)
{
    const char *bus, *drive;
    int r = options_string(d->options, "bus", &bus, err);
    if (r == 0)
        r = options_string(d->options, "drive", &drive, err);
    if (r < 0)
        return r;

    int wanted = d->rid ? config_find_process(c, d->rid) : IN_CPU_PROCESS;
    if (d->rid && wanted < 0)
        return error_set(err, -EINVAL, "there is no -process '%.80s'", d->rid);
    struct device_config *owner = bus ? bus_owner(c, d, bus) : default_owner(c, d);
    if (owner && owner->socket)
        return error_set(err, -EINVAL, "a device on '%s' belongs on the command line of the process "
                         "that '%s' is in", bus ? bus : owner->id, owner->id);
    bool child = owner && owner->place >= 0;        /* of a device in a device process */
    if (child && d->rid && owner->place != wanted)
        return error_set(err, -EINVAL, "its bus is in %s, not in %s",
                         config_place_name(c, owner->place), d->rid);
    d->place = child ? owner->place : wanted;
    if (d->rid && !child) {
        r = d->id ? 0 : make_id(c, d, err);
        if (r == 0)
            r = make_proxy(c, d, err);
    }
    return r == 0 && drive ? place_named_node(c, drive, d->place, err) : r;
}

/* An adapter may stand behind the disk that is to be plugged into it by default; QEMU too creates
 * adapters of -device before the disks of -drive. So those are created last. */
static int order_devices(struct config *c, struct error *err)
{
    struct device_config *sorted = calloc(c->ndevices + 1, sizeof *sorted);
    unsigned n = 0;

    if (!sorted)
        return error_oom(err);
    for (int implied = 0; implied < 2; implied++)
        for (unsigned i = 0; i < c->ndevices; i++)
            if ((strncmp(c->devices[i].label, "-drive", 6) == 0) == implied)
                sorted[n++] = c->devices[i];
    free(c->devices);
    c->devices = sorted;
    return 0;
}

int config_place(struct config *c, struct error *err)
{
    int r = order_devices(c, err);

    for (unsigned i = 0; r == 0 && i < c->ndevices; i++) {
        r = place_device(c, &c->devices[i], err);
        if (r < 0)
            error_prefix(err, "%s", c->devices[i].label);
    }
    for (unsigned i = 0; r == 0 && i < c->nprocesses; i++) {
        r = place_listed_nodes(c, i, err);
        if (r < 0)
            error_prefix(err, "%s", c->processes[i].label);
    }
    return r < 0 ? r : place_unused_nodes(c, err);
}
