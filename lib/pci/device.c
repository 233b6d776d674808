/* SPDX-License-Identifier: Apache-2.0 */
/* A PCI function: configuration space, BARs, INTx. PCI Local Bus 3.0, chapter 6. */
#include "pci/internal.h"

#include <errno.h>
#include <string.h>

enum { FIRST_CAPABILITY = 0x40, PCIE_EXPRESS_CAP_SIZE = 0x3c };

struct pci_device *pci_device_of(struct object *obj) { return object_part(obj, &pci_device_base); }
struct object *pci_device_object(struct pci_device *pdev) { return pdev->obj; }
void *pci_device_self(struct pci_device *pdev) { return object_self(pdev->obj); }
const char *pci_device_name(struct pci_device *pdev) { return pdev->obj->id; }
struct loop *pci_device_loop(struct pci_device *pdev) { return pdev->obj->tree->loop; }
struct pci_bus *pci_device_bus(struct pci_device *pdev) { return pdev->bus; }
unsigned pci_device_devfn(struct pci_device *pdev) { return pdev->devfn; }
struct address_space *pci_device_dma(struct pci_device *pdev) { return pdev->bus->config.dma; }

bool pci_device_gsi(struct pci_device *pdev, unsigned *ret_gsi)
{
    const struct pci_bus_config *config = &pdev->bus->config;
    unsigned pin = pdev->config[PCI_INTERRUPT_PIN];

    if (!pin || !config->ops->gsi)
        return false;
    *ret_gsi = config->ops->gsi(config->opaque, pdev->devfn, pin - 1);
    return true;
}

uint8_t *pci_config(struct pci_device *pdev) { return pdev->config; }
uint8_t *pci_config_wmask(struct pci_device *pdev) { return pdev->wmask; }
uint8_t *pci_config_w1c(struct pci_device *pdev) { return pdev->w1c; }

unsigned pci_config_size(struct pci_device *pdev)
{
    return pdev->cls->pci.express ? PCIE_CONFIG_SIZE : PCI_CONFIG_SIZE;
}

/* ---- DMA ---- */

static bool may_master(struct pci_device *pdev)
{
    return pdev->config[PCI_COMMAND] & PCI_COMMAND_MASTER;
}

int pci_dma_read(struct pci_device *pdev, gpa_t addr, void *buf, size_t len)
{
    return may_master(pdev) ? dma_read(pdev->bus->config.dma, addr, buf, len) : -EPERM;
}

int pci_dma_write(struct pci_device *pdev, gpa_t addr, const void *buf, size_t len)
{
    return may_master(pdev) ? dma_write(pdev->bus->config.dma, addr, buf, len) : -EPERM;
}

void *pci_dma_map(struct pci_device *pdev, gpa_t addr, size_t *len, bool write,
                  struct dma_mapping *ret_map)
{
    return may_master(pdev) ? dma_map(pdev->bus->config.dma, addr, len, write, ret_map) : NULL;
}

/* ---- INTx ---- */

/* Brings status bit and line in step with what the device wants and COMMAND allows. */
void pci_irq_update(struct pci_device *pdev)
{
    unsigned pin = pdev->config[PCI_INTERRUPT_PIN];
    bool disabled = le16_load(pdev->config + PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE;
    bool out = pdev->irq_level && !disabled && pin;

    if (pdev->irq_level)
        pdev->config[PCI_STATUS] |= PCI_STATUS_INTERRUPT;
    else
        pdev->config[PCI_STATUS] &= ~PCI_STATUS_INTERRUPT;
    if (out == pdev->irq_out)
        return;
    pdev->irq_out = out;
    if (pdev->bus->config.ops->intx && pin)
        pdev->bus->config.ops->intx(pdev->bus->config.opaque, pdev, pin - 1, out);
}

void pci_irq_set(struct pci_device *pdev, bool level)
{
    if (pdev->irq_level == level)
        return;
    pdev->irq_level = level;
    pci_irq_update(pdev);
}

bool pci_irq_level(struct pci_device *pdev) { return pdev->irq_level; }

/* ---- BARs ---- */

static uint64_t bar_mem_read(void *opaque, uint64_t off, unsigned len)
{
    struct pci_bar *bar = opaque;
    return bar->pdev->cls->ops->bar_read(bar->pdev, bar->index, off, len);
}

static void bar_mem_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
    struct pci_bar *bar = opaque;
    bar->pdev->cls->ops->bar_write(bar->pdev, bar->index, off, len, val);
}

static unsigned bar_register(unsigned bar) { return PCI_BASE_ADDRESS_0 + 4 * bar; }

static int bar_check(struct pci_device *pdev, unsigned bar, uint64_t size, unsigned flags,
                     struct error *err)
{
    uint64_t max = flags & PCI_BAR_IO ? 0x10000 : flags & PCI_BAR_64 ? 1ull << 46 : 1ull << 31;

    if (bar >= PCI_BARS || ((flags & PCI_BAR_64) && bar == PCI_BARS - 1))
        return error_set(err, -EINVAL, "there is no BAR %u", bar);
    if (!is_power_of_two(size) || size < (flags & PCI_BAR_IO ? 4 : 16) || size > max)
        return error_set(err, -EINVAL, "BAR %u has the size 0x%llx, which is no power of two or "
                         "too large", bar, (unsigned long long)size);
    if (pdev->bars[bar].outer ||
        (bar > 0 && pdev->bars[bar - 1].outer && (pdev->bars[bar - 1].info.flags & PCI_BAR_64)) ||
        ((flags & PCI_BAR_64) && pdev->bars[bar + 1].outer))
        return error_set(err, -EINVAL, "BAR %u is taken", bar);
    return 0;
}

/* Registers and mapping; `inner` becomes the BAR's. */
static int bar_install(struct pci_device *pdev, unsigned bar, const struct pci_bar_info *info,
                       struct mem_region *inner, struct error *err)
{
    struct pci_bar *b = &pdev->bars[bar];
    uint8_t *config = pdev->config + bar_register(bar);
    uint8_t *wmask = pdev->wmask + bar_register(bar);
    uint64_t mask = ~(info->size - 1);

    b->outer = mem_container_new(pci_device_name(pdev), info->size);
    if (!b->outer)
        return error_oom(err);
    b->pdev = pdev;
    b->index = bar;
    b->info = *info;
    b->addr = UINT64_MAX;
    b->inner = mem_region_get(inner);
    mem_add(b->outer, 0, inner, 0);

    if (info->flags & PCI_BAR_IO) {
        config[0] = PCI_BASE_ADDRESS_SPACE_IO;
        le32_store(wmask, mask & ~3u);
        return 0;
    }
    config[0] = (info->flags & PCI_BAR_64 ? PCI_BASE_ADDRESS_MEM_TYPE_64 : 0) |
                (info->flags & PCI_BAR_PREFETCH ? PCI_BASE_ADDRESS_MEM_PREFETCH : 0);
    le32_store(wmask, mask & ~15u);
    if (info->flags & PCI_BAR_64)
        le32_store(wmask + 4, mask >> 32);
    return 0;
}

static void put_object(void *obj) { object_put(obj); }

int pci_bar_set(struct pci_device *pdev, unsigned bar, const struct pci_bar_info *info,
                struct error *err)
{
    int r = bar_check(pdev, bar, info->size, info->flags, err);
    if (r < 0)
        return r;

    struct pci_bar *b = &pdev->bars[bar];
    b->ops = (struct mem_ops){ bar_mem_read, bar_mem_write, info->access, info->unlocked };
    struct mem_region *inner = mem_io_new(pci_device_name(pdev), info->size, &b->ops, b);
    if (!inner)
        return error_oom(err);
    if (info->unlocked)             /* a call may begin just before the device is removed */
        mem_region_hold(inner, put_object, object_get(pdev->obj));
    r = bar_install(pdev, bar, info, inner, err);
    mem_region_put(inner);
    return r;
}

int pci_bar_set_region(struct pci_device *pdev, unsigned bar, unsigned flags,
                       struct mem_region *region, struct error *err)
{
    struct pci_bar_info info = { .size = mem_size(region), .flags = flags };
    int r = bar_check(pdev, bar, info.size, flags, err);
    return r < 0 ? r : bar_install(pdev, bar, &info, region, err);
}

const struct pci_bar_info *pci_bar_info(struct pci_device *pdev, unsigned bar)
{
    return &pdev->bars[bar].info;
}

struct mem_region *pci_bar_region(struct pci_device *pdev, unsigned bar)
{
    return bar < PCI_BARS ? pdev->bars[bar].outer : NULL;
}

uint64_t pci_bar_address(struct pci_device *pdev, unsigned bar) { return pdev->bars[bar].addr; }

/* Where the guest has programmed the BAR to; UINT64_MAX if it does not decode. */
static uint64_t programmed(struct pci_device *pdev, const struct pci_bar *b)
{
    const uint8_t *reg = pdev->config + bar_register(b->index);
    uint16_t command = le16_load(pdev->config + PCI_COMMAND);
    uint64_t addr, end;

    if (b->info.flags & PCI_BAR_IO) {
        addr = le32_load(reg) & ~3u;
        return (command & PCI_COMMAND_IO) && addr && addr + b->info.size <= 0x10000
            ? addr : UINT64_MAX;
    }
    addr = le32_load(reg) & ~15u;
    if (b->info.flags & PCI_BAR_64)
        addr |= (uint64_t)le32_load(reg + 4) << 32;
    if (!(command & PCI_COMMAND_MEMORY) || !addr || ckd_add(&end, addr, b->info.size))
        return UINT64_MAX;
    return addr;
}

void pci_bars_update(struct pci_device *pdev)
{
    mem_begin();
    for (unsigned i = 0; i < PCI_BARS; i++) {
        struct pci_bar *b = &pdev->bars[i];
        if (!b->outer)
            continue;
        uint64_t addr = programmed(pdev, b);
        struct mem_region *into = b->info.flags & PCI_BAR_IO ? pdev->bus->config.io
                                                             : pdev->bus->config.mem;
        if (addr == b->addr)
            continue;
        mem_del(b->outer);
        b->addr = addr;
        if (addr != UINT64_MAX && into)
            mem_add(into, addr, b->outer, 1);
    }
    mem_commit();
}

static bool bar_access(struct pci_device *pdev, unsigned bar, uint64_t off, void *buf, size_t len,
                       bool write)
{
    struct pci_bar *b = bar < PCI_BARS ? &pdev->bars[bar] : NULL;

    if (!b || !b->outer || !range_inside(off, len, b->info.size) ||
        (!b->as && address_space_new(pci_device_name(pdev), b->outer, &b->as) < 0)) {
        if (!write)
            memset(buf, 0xff, len);
        return false;
    }
    if (write)
        address_space_write(b->as, off, buf, len);
    else
        address_space_read(b->as, off, buf, len);
    return true;
}

bool pci_bar_read(struct pci_device *pdev, unsigned bar, uint64_t off, void *buf, size_t len)
{
    return bar_access(pdev, bar, off, buf, len, false);
}

bool pci_bar_write(struct pci_device *pdev, unsigned bar, uint64_t off, const void *buf, size_t len)
{
    return bar_access(pdev, bar, off, (void *)buf, len, true);
}

/* ---- configuration space ---- */

uint32_t pci_config_read_default(struct pci_device *pdev, unsigned off, unsigned len)
{
    if (!range_inside(off, len, pci_config_size(pdev)))
        return UINT32_MAX;
    return le_load(pdev->config + off, len);
}

void pci_config_write_default(struct pci_device *pdev, unsigned off, unsigned len, uint32_t val)
{
    if (!range_inside(off, len, pci_config_size(pdev)))
        return;
    for (unsigned i = 0; i < len; i++, val >>= 8) {
        uint8_t w = pdev->wmask[off + i], clear = pdev->w1c[off + i] & val;
        pdev->config[off + i] = ((pdev->config[off + i] & ~w) | (val & w)) & ~clear;
    }
    if (ranges_overlap(off, len, PCI_COMMAND, 2))
        pci_irq_update(pdev);
    if (ranges_overlap(off, len, PCI_COMMAND, 2) ||
        ranges_overlap(off, len, PCI_BASE_ADDRESS_0, 4 * PCI_BARS))
        pci_bars_update(pdev);
    pci_msi_config_written(pdev, off, len);
}

int pci_add_capability(struct pci_device *pdev, uint8_t id, unsigned len)
{
    unsigned at = pdev->next_cap;

    if (at + len > PCI_CONFIG_SIZE)
        return -ENOSPC;
    pdev->config[at] = id;
    pdev->config[at + 1] = 0;
    pdev->config[pdev->last_cap ? pdev->last_cap + 1 : PCI_CAPABILITY_LIST] = at;
    pdev->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
    pdev->last_cap = at;
    pdev->next_cap = align_up(at + len, 4);
    return at;
}

unsigned pci_find_capability(struct pci_device *pdev, uint8_t id)
{
    if (!(pdev->config[PCI_STATUS] & PCI_STATUS_CAP_LIST))
        return 0;
    unsigned at = pdev->config[PCI_CAPABILITY_LIST] & ~3u;
    for (int n = 0; at >= FIRST_CAPABILITY && n < 48; n++, at = pdev->config[at + 1] & ~3u)
        if (pdev->config[at] == id)
            return at;
    return 0;
}

/* PCI Express capability of an integrated endpoint (PCIe 4.0, 7.5.3): nothing to configure. */
static int add_express(struct pci_device *pdev)
{
    int cap = pci_add_capability(pdev, PCI_CAP_ID_EXP, PCIE_EXPRESS_CAP_SIZE);
    if (cap >= 0)
        le16_store(pdev->config + cap + 2, 2 | 9 << 4);    /* version 2, root complex integrated */
    return cap < 0 ? cap : 0;
}

static void header_init(struct pci_device *pdev)
{
    const struct pci_ids *ids = &pdev->cls->pci;
    uint8_t *c = pdev->config, *w = pdev->wmask;

    pdev->next_cap = FIRST_CAPABILITY;
    le16_store(c + PCI_VENDOR_ID, ids->vendor);
    le16_store(c + PCI_DEVICE_ID, ids->device);
    c[PCI_REVISION_ID] = ids->revision;
    c[PCI_CLASS_PROG] = ids->class;
    le16_store(c + PCI_CLASS_DEVICE, ids->class >> 8);
    le16_store(c + PCI_SUBSYSTEM_VENDOR_ID, ids->subsys_vendor);
    le16_store(c + PCI_SUBSYSTEM_ID, ids->subsys);
    c[PCI_HEADER_TYPE] = pdev->multifunction ? 0x80 : 0;
    c[PCI_INTERRUPT_PIN] = ids->intx_pin;
    c[PCI_MIN_GNT] = ids->min_gnt;
    c[PCI_MAX_LAT] = ids->max_lat;

    le16_store(w + PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
               PCI_COMMAND_INVALIDATE | PCI_COMMAND_PARITY | PCI_COMMAND_SERR |
               PCI_COMMAND_INTX_DISABLE);
    le16_store(pdev->w1c + PCI_STATUS, 0xf900);     /* the error bits */
    w[PCI_CACHE_LINE_SIZE] = 0xff;
    w[PCI_LATENCY_TIMER] = ids->express ? 0 : 0xf8;
    w[PCI_INTERRUPT_LINE] = 0xff;
}

static int first_unused_bar(struct pci_device *pdev)
{
    for (int i = 0; i < PCI_BARS; i++) {
        bool upper_half = i && (pdev->bars[i - 1].info.flags & PCI_BAR_64);
        if (!pdev->bars[i].outer && !upper_half)
            return i;
    }
    return -ENOSPC;
}

/* MSI-X of a device of ours: a BAR of its own, table in the lower half, pending bits in the upper. */
static int add_msix(struct pci_device *pdev, struct error *err)
{
    unsigned vectors = pdev->cls->pci.msix_vectors;
    uint64_t half = 4096;
    int bar = pdev->cls->pci.msix_bar ? pdev->cls->pci.msix_bar - 1 : first_unused_bar(pdev);

    while (half < vectors * (uint64_t)PCI_MSIX_ENTRY_SIZE)
        half *= 2;
    int cap = bar < 0 ? bar : pci_add_capability(pdev, PCI_CAP_ID_MSIX, PCI_CAP_MSIX_SIZEOF);
    if (cap < 0)
        return error_set(err, cap, "no room for MSI-X");
    struct mem_region *box = mem_container_new("msix", 2 * half);
    if (!box)
        return error_oom(err);
    int r = pci_bar_set_region(pdev, bar, 0, box, err);
    mem_region_put(box);
    return r < 0 ? r : pci_msix_init(pdev, cap, vectors, bar, 0, bar, half, err);
}

/* log2 of the number of messages, as the MSI capability counts. */
static unsigned msi_size_bits(unsigned vectors)
{
    unsigned bits = 0;
    while (1u << bits < vectors)
        bits++;
    return bits;
}

static int add_msi(struct pci_device *pdev, struct error *err)
{
    int cap = pci_add_capability(pdev, PCI_CAP_ID_MSI, 24);
    if (cap < 0)
        return error_set(err, cap, "no room for MSI");
    le16_store(pdev->config + cap + PCI_MSI_FLAGS, PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT |
               msi_size_bits(pdev->cls->pci.msi_vectors) << 1);
    return pci_msi_init(pdev, cap, err);
}

static int pci_realize(struct object *obj, struct error *err)
{
    struct pci_device *pdev = pci_device_of(obj);
    int r = 0;

    header_init(pdev);
    for (unsigned i = 0; r == 0 && i < PCI_BARS; i++)
        if (pdev->cls->bars[i].size)
            r = pci_bar_set(pdev, i, &pdev->cls->bars[i], err);
    if (r == 0 && pdev->cls->pci.express)
        r = add_express(pdev);
    if (r == 0 && pdev->cls->pci.msi_vectors)
        r = add_msi(pdev, err);
    if (r == 0 && pdev->cls->pci.msix_vectors)
        r = add_msix(pdev, err);
    if (r == 0 && pdev->cls->ops->realize)
        r = pdev->cls->ops->realize(pdev, err);
    if (r == 0)
        memcpy(pdev->initial, pdev->config, sizeof pdev->initial);
    return r;
}

static void pci_unrealize(struct object *obj)
{
    struct pci_device *pdev = pci_device_of(obj);

    pci_irq_set(pdev, false);
    if (pdev->cls->ops->unrealize)
        pdev->cls->ops->unrealize(pdev);
    mem_begin();
    pci_msix_fini(pdev);
    for (unsigned i = 0; i < PCI_BARS; i++) {
        struct pci_bar *b = &pdev->bars[i];
        if (!b->outer)
            continue;
        mem_del(b->outer);
        if (b->ops.read)
            mem_region_orphan(b->inner);
        address_space_free(b->as);
        mem_region_put(b->inner);
        mem_region_put(b->outer);
        b->outer = NULL;
    }
    mem_commit();
}

static void pci_reset(struct object *obj)
{
    struct pci_device *pdev = pci_device_of(obj);

    pci_irq_set(pdev, false);
    memcpy(pdev->config, pdev->initial, sizeof pdev->config);
    pci_msix_reset(pdev);
    pci_bars_update(pdev);
    pci_irq_update(pdev);
    if (pdev->cls->ops->reset)
        pdev->cls->ops->reset(pdev);
    pci_vectors_changed(pdev);
}

static void pci_pause(struct object *obj)
{
    struct pci_device *pdev = pci_device_of(obj);
    if (pdev->cls->ops->pause)
        pdev->cls->ops->pause(pdev);
}

static void pci_resume(struct object *obj)
{
    struct pci_device *pdev = pci_device_of(obj);
    if (pdev->cls->ops->resume)
        pdev->cls->ops->resume(pdev);
}

/* What the stream says about bits nobody can write is not believed. */
static int pci_post_load(struct object *obj, struct error *err)
{
    struct pci_device *pdev = pci_device_of(obj);

    for (unsigned i = 0; i < PCIE_CONFIG_SIZE; i++) {
        uint8_t w = pdev->wmask[i] | pdev->w1c[i];
        pdev->config[i] = (pdev->initial[i] & ~w) | (pdev->config[i] & w);
    }
    int r = pci_msix_post_load(pdev, err);
    if (r < 0)
        return r;
    pci_bars_update(pdev);
    pdev->irq_out = !pdev->irq_level;       /* the new bus has been told nothing */
    pci_irq_update(pdev);
    r = pdev->cls->ops->post_load ? pdev->cls->ops->post_load(pdev, err) : 0;
    pci_vectors_changed(pdev);
    return r;
}

static void pci_init(struct object *obj, void *part)
{
    struct pci_device *pdev = part;
    pdev->obj = obj;
    pdev->cls = container_of(obj->class, struct pci_device_class, base);
}

const struct object_class pci_device_base = {
    .name = "pci-device", .summary = "any PCI device", .abstract = true, .bus_type = "PCI",
    .size = sizeof(struct pci_device),
    .props = (const struct prop[]){
        PROP_STRING("addr", struct pci_device, addr_prop, NULL,
                    "slot[.function] on the bus, hexadecimal; by default the first free slot"),
        PROP_BOOL("multifunction", struct pci_device, multifunction, false,
                  "further functions share this slot"),
        PROP_END },
    .state_version = 1,
    .state = (const struct state_field[]){
        STATE_BYTES(struct pci_device, config), STATE_BOOL(struct pci_device, irq_level),
        STATE_BUFFER(struct pci_device, msix.table, msix.table_len, 2048 * PCI_MSIX_ENTRY_SIZE),
        STATE_BUFFER(struct pci_device, msix.pba, msix.pba_len, 256), STATE_END },
    .init = pci_init, .realize = pci_realize, .unrealize = pci_unrealize, .reset = pci_reset,
    .pause = pci_pause, .resume = pci_resume, .post_load = pci_post_load,
};
