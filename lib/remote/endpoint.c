/* SPDX-License-Identifier: Apache-2.0 */
#include "remote/endpoint.h"

#include "remote/irqs.h"
#include "remote/sigbus.h"
#include "vfio_user/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

enum { DRAIN_LOOK_NS = 500000 };

struct dma_ram {                        /* a range the client mapped with a descriptor */
    gpa_t addr;
    struct mem_region *region;
    bool guarded;                       /* its file could shrink: touching it may fault */
    bool owed;                          /* unmapped, in use, and the client waits for its end */
    struct list link;                   /* in ep->rams, or, when unmapped but in use, draining */
};

struct endpoint {
    struct obj_tree *tree;
    struct pci_bus *bus;
    unsigned devfn;
    struct mem_region *dma_root;
    struct address_space *dma;
    struct list rams, draining;
    struct timer *drain_timer;
    struct irqs irqs;
    struct vfu_server *server;          /* NULL: no client */
    void (*client_gone)(void *opaque, const char *reason);
    void *opaque;
};

/* ---- the device's bus ---- */

static void on_intx(void *opaque, struct pci_device *pdev, unsigned pin, bool level)
{
    struct endpoint *ep = opaque;
    irqs_level(&ep->irqs, level);
}

static void on_message(void *opaque, struct pci_device *pdev, unsigned vector, uint64_t addr,
                       uint32_t data)
{
    struct endpoint *ep = opaque;
    irqs_message(&ep->irqs, pci_msix_enabled(pdev) ? VFU_MSIX : VFU_MSI, vector);
}

static const struct pci_bus_ops bus_ops = {
    .intx = on_intx, .msi = on_message, .vectors_only = true,
};

struct bus *endpoint_bus(const struct endpoint *ep) { return pci_bus_as_bus(ep->bus); }

/* The device may be destroyed while a client is there, so it is looked up each time. */
struct pci_device *endpoint_device(const struct endpoint *ep)
{
    return pci_bus_device(ep->bus, ep->devfn);
}

static bool find_device(struct endpoint *ep)
{
    for (unsigned devfn = 0; devfn < 256; devfn++) {
        struct pci_device *pdev = pci_bus_device(ep->bus, devfn);
        if (pdev && pci_device_object(pdev)->realized) {
            ep->devfn = devfn;
            return true;
        }
    }
    return false;
}

/* ---- regions ---- */

static void region_info(void *opaque, unsigned index, struct vfu_region_info *info)
{
    struct pci_device *pdev = endpoint_device(opaque);

    if (!pdev)
        return;
    if (index <= VFU_BAR5)
        info->size = pci_bar_info(pdev, index)->size;
    else if (index == VFU_CONFIG)
        info->size = pci_config_size(pdev);
    if (info->size)
        info->flags = VFU_REGION_READABLE | VFU_REGION_WRITABLE;
}

/* The widest naturally aligned access, of at most four bytes, that begins at off. */
static unsigned config_width(uint64_t off, size_t len)
{
    unsigned w = 4;
    while (w > len || off % w)
        w /= 2;
    return w;
}

static void config_access(struct endpoint *ep, uint64_t off, uint8_t *buf, size_t len, bool write)
{
    while (len) {
        unsigned w = config_width(off, len);
        if (write)
            pci_config_access_write(ep->bus, 0, ep->devfn, off, w, le_load(buf, w));
        else
            le_store(buf, w, pci_config_access_read(ep->bus, 0, ep->devfn, off, w));
        off += w;
        buf += w;
        len -= w;
    }
}

static int region_read(void *opaque, unsigned index, uint64_t off, void *buf, size_t len)
{
    struct endpoint *ep = opaque;

    if (index == VFU_CONFIG)
        config_access(ep, off, buf, len, false);
    else
        pci_bar_read(endpoint_device(ep), index, off, buf, len);
    return 0;
}

static int region_write(void *opaque, unsigned index, uint64_t off, const void *buf, size_t len)
{
    struct endpoint *ep = opaque;

    if (index == VFU_CONFIG)
        config_access(ep, off, (uint8_t *)buf, len, true);      /* only read from */
    else
        pci_bar_write(endpoint_device(ep), index, off, buf, len);
    return 0;
}

/* ---- interrupts ---- */

static unsigned msi_offered(struct pci_device *pdev)
{
    unsigned cap = pci_find_capability(pdev, PCI_CAP_ID_MSI);
    uint16_t flags = cap ? le16_load(pci_config(pdev) + cap + PCI_MSI_FLAGS) : 0;
    unsigned log2 = MIN((flags & PCI_MSI_FLAGS_QMASK) >> 1, 5);

    return cap ? 1u << log2 : 0;
}

static void irq_info(void *opaque, unsigned index, struct vfu_irq_info *info)
{
    struct endpoint *ep = opaque;
    struct pci_device *pdev = endpoint_device(ep);

    if (!pdev)
        return;
    if (index == VFU_INTX && pci_config(pdev)[PCI_INTERRUPT_PIN])
        *info = (struct vfu_irq_info){
            VFU_IRQ_EVENTFD | VFU_IRQ_MASKABLE | VFU_IRQ_AUTOMASKED, 1 };
    else if (index == VFU_MSI)
        *info = (struct vfu_irq_info){ VFU_IRQ_EVENTFD, ep->irqs.msi.count };
    else if (index == VFU_MSIX)
        *info = (struct vfu_irq_info){ VFU_IRQ_EVENTFD, ep->irqs.msix.count };
}

static int set_irqs(void *opaque, const struct vfu_irq_set *set, int *fds)
{
    struct endpoint *ep = opaque;
    return irqs_set(&ep->irqs, set, fds);
}

/* ---- memory ---- */

/* True when nobody can make the file smaller any more. */
static bool cannot_shrink(int fd)
{
    int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & F_SEAL_SHRINK);
}

/* A range without a descriptor is remembered by the server alone: the device's DMA there fails. */
static int map_range(void *opaque, const struct vfu_dma_map *map, int *fd)
{
    struct endpoint *ep = opaque;
    char name[32];

    if (*fd < 0 || !(map->flags & VFU_DMA_READABLE))
        return 0;
    struct dma_ram *ram = calloc(1, sizeof *ram);
    if (!ram)
        return -ENOMEM;
    snprintf(name, sizeof name, "dma-%llx", (unsigned long long)map->addr);
    int r = mem_ram_new(name, *fd, map->offset, map->size, !(map->flags & VFU_DMA_WRITABLE),
                        &ram->region, NULL);
    if (r == 0 && !cannot_shrink(*fd)) {
        r = sigbus_guard(mem_ram_host(ram->region), map->size);
        ram->guarded = r == 0;
    }
    if (r < 0) {
        mem_region_put(ram->region);
        free(ram);
        return r;
    }
    ram->addr = map->addr;
    list_add_tail(&ep->rams, &ram->link);
    mem_add(ep->dma_root, map->addr, ram->region, 0);
    return 0;
}

static void ram_free(struct dma_ram *ram)
{
    list_del(&ram->link);
    if (ram->guarded)
        sigbus_unguard(mem_ram_host(ram->region));
    mem_region_put(ram->region);
    free(ram);
}

/* Requests to back-ends hold what they transfer to or from; they are not many, nor slow. */
static void on_drain(void *opaque)
{
    struct endpoint *ep = opaque;

    list_for_each(struct dma_ram, ram, &ep->draining, link) {
        if (mem_region_busy(ram->region))
            continue;
        bool owed = ram->owed;
        ram_free(ram);
        if (owed)
            vfu_server_unmapped(ep->server);
    }
    if (!list_empty(&ep->draining))
        timer_arm_after(ep->drain_timer, DRAIN_LOOK_NS);
}

static bool unmap_range(void *opaque, uint64_t addr, uint64_t size)
{
    struct endpoint *ep = opaque;

    list_for_each(struct dma_ram, ram, &ep->rams, link) {
        if (ram->addr != addr)
            continue;
        mem_del(ram->region);
        if (!mem_region_busy(ram->region)) {
            ram_free(ram);
            return true;
        }
        list_del(&ram->link);
        list_add_tail(&ep->draining, &ram->link);
        ram->owed = true;
        timer_arm_after(ep->drain_timer, DRAIN_LOOK_NS);
        return false;
    }
    return true;                        /* it came without a descriptor */
}

/* ---- reset ---- */

static bool hangs_off(const struct object *obj, const struct object *top)
{
    while (obj && obj != top)
        obj = obj->bus ? obj->bus->owner : NULL;
    return obj != NULL;
}

/* The device, then what is plugged into it. */
static void reset(void *opaque)
{
    struct endpoint *ep = opaque;
    struct pci_device *pdev = endpoint_device(ep);

    list_for_each(struct object, obj, &ep->tree->objects, link) {
        const struct object_class *cls = obj->class;
        while (cls && !cls->reset)
            cls = cls->parent;
        if (pdev && cls && obj->realized && hangs_off(obj, pci_device_object(pdev)))
            cls->reset(obj);
    }
}

/* ---- clients ---- */

static void drop_client(struct endpoint *ep)
{
    vfu_server_free(TAKE_PTR(ep->server));      /* unmaps what is mapped */
    list_for_each(struct dma_ram, ram, &ep->draining, link)
        ram->owed = false;
    irqs_unwire(&ep->irqs);
}

static void gone(void *opaque, const char *reason)
{
    struct endpoint *ep = opaque;
    char text[sizeof ((struct error *)0)->text];

    if (reason)
        snprintf(text, sizeof text, "%s", reason);
    drop_client(ep);
    if (ep->client_gone)
        ep->client_gone(ep->opaque, reason ? text : NULL);
}

static const struct vfu_server_ops server_ops = {
    region_info, irq_info, region_read, region_write, map_range, unmap_range, set_irqs, reset, gone,
};

bool endpoint_has_client(const struct endpoint *ep) { return ep->server != NULL; }
void endpoint_detach(struct endpoint *ep) { drop_client(ep); }

int endpoint_attach(struct endpoint *ep, int fd, struct error *err)
{
    int r = 0;

    if (ep->server)
        r = error_set(err, -EBUSY, "the device has a client already");
    else if (!find_device(ep))
        r = error_set(err, -ENODEV, "there is no device for the client");
    else if (irqs_resize(&ep->irqs, msi_offered(endpoint_device(ep)),
                         pci_msix_vectors(endpoint_device(ep))) < 0)
        r = error_oom(err);
    if (r < 0) {
        close(fd);
        return r;
    }
    struct vfu_server_config config = {
        .loop = ep->tree->loop, .fd = fd, .ops = &server_ops, .opaque = ep,
        .device_id = pci_device_name(endpoint_device(ep)),
    };
    return vfu_server_new(&config, &ep->server, err);
}

/* ---- life ---- */

int endpoint_new(const struct endpoint_config *config, struct endpoint **ret_endpoint,
                 struct error *err)
{
    struct endpoint *ep = calloc(1, sizeof *ep);
    if (!ep)
        return error_oom(err);
    ep->tree = config->tree;
    ep->client_gone = config->client_gone;
    ep->opaque = config->opaque;
    list_init(&ep->rams);
    list_init(&ep->draining);
    int r = irqs_init(&ep->irqs, ep->tree->loop);
    if (r == 0)
        r = timer_new(ep->tree->loop, on_drain, ep, &ep->drain_timer);

    ep->dma_root = mem_container_new(config->bus_name, UINT64_MAX);
    if (r < 0 || !ep->dma_root || address_space_new(config->bus_name, ep->dma_root, &ep->dma) < 0) {
        endpoint_free(ep);
        return error_oom(err);
    }
    struct pci_bus_config bus = {
        .name = config->bus_name, .ops = &bus_ops, .opaque = ep, .dma = ep->dma, .express = true,
    };
    r = pci_bus_new(ep->tree, &bus, &ep->bus, err);
    if (r < 0) {
        endpoint_free(ep);
        return r;
    }
    *ret_endpoint = ep;
    return 0;
}

void endpoint_free(struct endpoint *ep)
{
    if (!ep)
        return;
    drop_client(ep);
    list_for_each(struct dma_ram, ram, &ep->draining, link)
        ram_free(ram);
    timer_free(ep->drain_timer);
    irqs_fini(&ep->irqs);
    pci_bus_free(ep->bus);
    address_space_free(ep->dma);
    mem_region_put(ep->dma_root);
    free(ep);
}
