/* SPDX-License-Identifier: Apache-2.0 */
/* A PCI bus: who sits where, and how configuration accesses find their function. */
#include "pci/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct bus *pci_bus_as_bus(struct pci_bus *bus) { return &bus->bus; }

struct pci_device *pci_bus_device(struct pci_bus *bus, unsigned devfn)
{
    return devfn < ARRAY_SIZE(bus->devices) ? bus->devices[devfn] : NULL;
}

void pci_bus_set_irqfd(struct pci_bus *bus, const struct irqfd_ops *ops, void *opaque)
{
    bus->irqfd = ops;
    bus->irqfd_opaque = opaque;
}

const struct irqfd_ops *pci_bus_irqfd(struct pci_bus *bus, void **ret_opaque)
{
    *ret_opaque = bus->irqfd_opaque;
    return bus->irqfd;
}

/* ---- slots ---- */

static int parse_addr(const char *text, unsigned *ret_devfn, struct error *err)
{
    unsigned slot, func = 0;
    char rest;
    int n = sscanf(text, "%x.%x%c", &slot, &func, &rest);

    if (n < 1 || n > 2 || (n == 1 && strchr(text, '.')) || slot > 31 || func > 7)
        return error_set(err, -EINVAL, "'addr' must be slot[.function] in hexadecimal, from 0 to "
                         "1f.7");
    *ret_devfn = PCI_DEVFN(slot, func);
    return 0;
}

static bool slot_free(const struct pci_bus *bus, unsigned slot)
{
    for (unsigned func = 0; func < 8; func++)
        if (bus->devices[PCI_DEVFN(slot, func)])
            return false;
    return true;
}

static bool bus_full(struct bus *b)
{
    struct pci_bus *bus = container_of(b, struct pci_bus, bus);

    for (unsigned slot = 0; slot < 32; slot++)
        if (slot_free(bus, slot))
            return false;
    return true;
}

static int bus_plug(struct bus *b, struct object *child, struct error *err)
{
    struct pci_bus *bus = container_of(b, struct pci_bus, bus);
    struct pci_device *pdev = pci_device_of(child);
    unsigned devfn = 0;

    if (pdev->addr_prop) {
        int r = parse_addr(pdev->addr_prop, &devfn, err);
        if (r < 0)
            return r;
        struct pci_device *there = bus->devices[devfn];
        struct pci_device *first = bus->devices[PCI_DEVFN(PCI_SLOT(devfn), 0)];
        if (there)
            return error_set(err, -EBUSY, "slot %x.%x of bus '%s' is taken by '%s'",
                             PCI_SLOT(devfn), PCI_FUNC(devfn), b->name, there->obj->id);
        if (PCI_FUNC(devfn) && first && !first->multifunction)
            return error_set(err, -EINVAL, "function 0 of slot %x ('%s') has no multifunction=on",
                             PCI_SLOT(devfn), first->obj->id);
    } else {
        unsigned slot = 0;
        while (slot < 32 && !slot_free(bus, slot))
            slot++;
        if (slot == 32)
            return error_set(err, -EBUSY, "bus '%s' is full", b->name);
        devfn = PCI_DEVFN(slot, 0);
    }
    pdev->bus = bus;
    pdev->devfn = devfn;
    bus->devices[devfn] = pdev;
    return 0;
}

static void bus_unplug(struct bus *b, struct object *child)
{
    struct pci_bus *bus = container_of(b, struct pci_bus, bus);
    bus->devices[pci_device_of(child)->devfn] = NULL;
}

static const struct bus_ops pci_bus_ops_table = {
    .plug = bus_plug, .unplug = bus_unplug, .full = bus_full,
};

int pci_bus_new(struct obj_tree *tree, const struct pci_bus_config *config,
                struct pci_bus **ret_bus, struct error *err)
{
    struct pci_bus *bus = calloc(1, sizeof *bus);
    if (!bus)
        return error_oom(err);
    bus->config = *config;
    bus->tree = tree;
    if (bus_init(&bus->bus, tree, "PCI", config->name, NULL, &pci_bus_ops_table) < 0) {
        free(bus);
        return error_oom(err);
    }
    *ret_bus = bus;
    return 0;
}

void pci_bus_free(struct pci_bus *bus)
{
    if (!bus)
        return;
    bus_fini(&bus->bus);
    free(bus);
}

/* ---- configuration accesses ---- */

static void lock(struct pci_bus *bus)
{
    if (bus->tree->lock)
        pthread_mutex_lock(bus->tree->lock);
}

static void unlock(struct pci_bus *bus)
{
    if (bus->tree->lock)
        pthread_mutex_unlock(bus->tree->lock);
}

/* The function, with a reference and under the lock; or NULL, and not under the lock. */
static struct pci_device *enter(struct pci_bus *bus, unsigned bus_nr, unsigned devfn, unsigned off,
                                unsigned len)
{
    if (bus_nr != 0 || devfn >= ARRAY_SIZE(bus->devices))
        return NULL;
    lock(bus);
    struct pci_device *pdev = bus->devices[devfn];
    if (!pdev || !pdev->obj->realized || !range_inside(off, len, pci_config_size(pdev))) {
        unlock(bus);
        return NULL;
    }
    object_get(pdev->obj);
    if (pdev->cls->unlocked_config)
        unlock(bus);
    return pdev;
}

static void leave(struct pci_bus *bus, struct pci_device *pdev)
{
    if (pdev->cls->unlocked_config)
        lock(bus);
    object_put(pdev->obj);
    unlock(bus);
}

uint32_t pci_config_access_read(struct pci_bus *bus, unsigned bus_nr, unsigned devfn, unsigned off,
                                unsigned len)
{
    struct pci_device *pdev = enter(bus, bus_nr, devfn, off, len);
    if (!pdev)
        return UINT32_MAX;
    uint32_t val = pdev->cls->ops->config_read ? pdev->cls->ops->config_read(pdev, off, len)
                                               : pci_config_read_default(pdev, off, len);
    leave(bus, pdev);
    return val;
}

void pci_config_access_write(struct pci_bus *bus, unsigned bus_nr, unsigned devfn, unsigned off,
                             unsigned len, uint32_t val)
{
    struct pci_device *pdev = enter(bus, bus_nr, devfn, off, len);
    if (!pdev)
        return;
    if (pdev->cls->ops->config_write)
        pdev->cls->ops->config_write(pdev, off, len, val);
    else
        pci_config_write_default(pdev, off, len, val);
    leave(bus, pdev);
}

/* ---- query-pci ---- */

static json_t *query_bars(struct pci_device *pdev)
{
    json_t *regions = json_array();

    for (unsigned i = 0; i < PCI_BARS; i++) {
        const struct pci_bar *b = &pdev->bars[i];
        if (!b->outer)
            continue;
        json_t *region = json_pack("{s:i, s:s, s:I, s:I}", "bar", i, "type",
            b->info.flags & PCI_BAR_IO ? "io" : "memory", "address", (json_int_t)b->addr, "size",
            (json_int_t)b->info.size);
        if (!(b->info.flags & PCI_BAR_IO)) {
            json_object_set_new(region, "mem_type_64", json_boolean(b->info.flags & PCI_BAR_64));
            json_object_set_new(region, "prefetch", json_boolean(b->info.flags & PCI_BAR_PREFETCH));
        }
        json_array_append_new(regions, region);
    }
    return regions;
}

json_t *pci_bus_query(struct pci_bus *bus)
{
    json_t *devices = json_array();

    for (unsigned devfn = 0; devfn < ARRAY_SIZE(bus->devices); devfn++) {
        struct pci_device *pdev = bus->devices[devfn];
        if (!pdev)
            continue;
        const uint8_t *c = pdev->config;
        json_array_append_new(devices, json_pack(
            "{s:i, s:i, s:i, s:s, s:{s:i}, s:{s:i, s:i}, s:i, s:i, s:o}", "bus", 0, "slot",
            PCI_SLOT(devfn), "function", PCI_FUNC(devfn), "qdev_id", pdev->obj->id, "class_info",
            "class", le16_load(c + PCI_CLASS_DEVICE), "id", "vendor", le16_load(c + PCI_VENDOR_ID),
            "device", le16_load(c + PCI_DEVICE_ID), "irq", c[PCI_INTERRUPT_LINE], "irq_pin",
            c[PCI_INTERRUPT_PIN], "regions", query_bars(pdev)));
    }
    return devices;
}
