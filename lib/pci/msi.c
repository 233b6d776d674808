/* SPDX-License-Identifier: Apache-2.0 */
/* MSI and MSI-X: capabilities, table, pending bits, delivery. PCI Local Bus 3.0, 6.8. */
#include "pci/internal.h"

#include <errno.h>
#include <string.h>

void pci_on_vectors_changed(struct pci_device *pdev, pci_vectors_changed_fn *fn, void *opaque)
{
    pdev->changed = fn;
    pdev->changed_opaque = opaque;
}

void pci_vectors_changed(struct pci_device *pdev)
{
    if (pdev->changed)
        pdev->changed(pdev->changed_opaque, pdev);
}

static bool vectors_only(struct pci_device *pdev) { return pdev->bus->config.ops->vectors_only; }

static void send(struct pci_device *pdev, unsigned vector, uint64_t addr, uint32_t data)
{
    if (pdev->bus->config.ops->msi)
        pdev->bus->config.ops->msi(pdev->bus->config.opaque, pdev, vector, addr, data);
}

/* ---- MSI ---- */

static uint16_t msi_flags(struct pci_device *pdev)
{
    return pdev->msi_cap ? le16_load(pdev->config + pdev->msi_cap + PCI_MSI_FLAGS) : 0;
}

bool pci_msi_enabled(struct pci_device *pdev) { return msi_flags(pdev) & PCI_MSI_FLAGS_ENABLE; }

unsigned pci_msi_vectors(struct pci_device *pdev)
{
    uint16_t flags = msi_flags(pdev);
    unsigned wanted = (flags & PCI_MSI_FLAGS_QSIZE) >> 4, offered = (flags & PCI_MSI_FLAGS_QMASK) >> 1;

    return flags & PCI_MSI_FLAGS_ENABLE ? 1u << MIN(MIN(wanted, offered), 5u) : 0;
}

/* Mask and pending bits, each 32 bits; 0 where the device has none. */
static unsigned msi_mask_off(struct pci_device *pdev)
{
    uint16_t flags = msi_flags(pdev);
    if (!(flags & PCI_MSI_FLAGS_MASKBIT))
        return 0;
    return pdev->msi_cap + (flags & PCI_MSI_FLAGS_64BIT ? PCI_MSI_MASK_64 : PCI_MSI_MASK_32);
}

int pci_msi_init(struct pci_device *pdev, unsigned cap, struct error *err)
{
    uint16_t flags = le16_load(pdev->config + cap + PCI_MSI_FLAGS);
    bool wide = flags & PCI_MSI_FLAGS_64BIT, masks = flags & PCI_MSI_FLAGS_MASKBIT;
    unsigned len = 10 + 4 * wide + 10 * masks;
    uint8_t *w = pdev->wmask + cap;

    if (cap < 0x40 || cap + len > PCI_CONFIG_SIZE)
        return error_set(err, -EINVAL, "its MSI capability does not fit at 0x%x", cap);
    pdev->msi_cap = cap;
    le16_store(w + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
    le32_store(w + PCI_MSI_ADDRESS_LO, ~3u);
    if (wide)
        le32_store(w + PCI_MSI_ADDRESS_HI, ~0u);
    le16_store(w + (wide ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32), 0xffff);
    if (masks) {
        unsigned vectors = 1u << MIN((flags & PCI_MSI_FLAGS_QMASK) >> 1, 5);
        le32_store(w + (wide ? PCI_MSI_MASK_64 : PCI_MSI_MASK_32),
                   vectors == 32 ? ~0u : (1u << vectors) - 1);
    }
    return 0;
}

bool pci_msi_message(struct pci_device *pdev, unsigned vector, uint64_t *ret_addr,
                     uint32_t *ret_data)
{
    unsigned count = pci_msi_vectors(pdev), mask = msi_mask_off(pdev);
    const uint8_t *cap = pdev->config + pdev->msi_cap;
    bool wide = msi_flags(pdev) & PCI_MSI_FLAGS_64BIT;

    if (vector >= count || (mask && le32_load(pdev->config + mask) >> vector & 1))
        return false;
    uint32_t data = le16_load(cap + (wide ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32));
    *ret_data = (data & ~(count - 1)) | vector;
    *ret_addr = le32_load(cap + PCI_MSI_ADDRESS_LO) |
                (wide ? (uint64_t)le32_load(cap + PCI_MSI_ADDRESS_HI) << 32 : 0);
    return true;
}

static void msi_raise(struct pci_device *pdev, unsigned vector)
{
    unsigned mask = msi_mask_off(pdev);
    uint64_t addr;
    uint32_t data;

    vector = MIN(vector, pci_msi_vectors(pdev) - 1);    /* fewer granted than asked: the last */
    if (pci_msi_message(pdev, vector, &addr, &data))
        send(pdev, vector, addr, data);
    else if (mask)
        le32_store(pdev->config + mask + 4, le32_load(pdev->config + mask + 4) | 1u << vector);
}

static void msi_deliver_pending(struct pci_device *pdev)
{
    unsigned mask = msi_mask_off(pdev);
    uint64_t addr;
    uint32_t data;

    for (unsigned v = 0; mask && v < pci_msi_vectors(pdev); v++) {
        uint8_t *pending = pdev->config + mask + 4;
        if (!(le32_load(pending) >> v & 1) || !pci_msi_message(pdev, v, &addr, &data))
            continue;
        le32_store(pending, le32_load(pending) & ~(1u << v));
        send(pdev, v, addr, data);
    }
}

/* ---- MSI-X ---- */

static uint16_t msix_flags(struct pci_device *pdev)
{
    return pdev->msix.cap ? le16_load(pdev->config + pdev->msix.cap + PCI_MSIX_FLAGS) : 0;
}

bool pci_msix_enabled(struct pci_device *pdev) { return msix_flags(pdev) & PCI_MSIX_FLAGS_ENABLE; }
unsigned pci_msix_vectors(struct pci_device *pdev) { return pdev->msix.vectors; }

bool pci_msix_message(struct pci_device *pdev, unsigned vector, uint64_t *ret_addr,
                      uint32_t *ret_data)
{
    uint16_t flags = msix_flags(pdev);

    if (vector >= pdev->msix.vectors || !(flags & PCI_MSIX_FLAGS_ENABLE) ||
        (flags & PCI_MSIX_FLAGS_MASKALL))
        return false;
    const uint8_t *e = pdev->msix.table + vector * PCI_MSIX_ENTRY_SIZE;
    if (le32_load(e + PCI_MSIX_ENTRY_CTRL) & PCI_MSIX_ENTRY_CTRL_MASKBIT)
        return false;
    *ret_addr = le64_load(e + PCI_MSIX_ENTRY_ADDR_LO);
    *ret_data = le32_load(e + PCI_MSIX_ENTRY_DATA);
    return true;
}

void pci_msix_set_pending(struct pci_device *pdev, unsigned vector, bool pending)
{
    if (vector >= pdev->msix.vectors)
        return;
    uint8_t bit = 1u << vector % 8, *at = &pdev->msix.pba[vector / 8];
    *at = pending ? *at | bit : *at & ~bit;
}

static void msix_deliver_pending(struct pci_device *pdev)
{
    uint64_t addr;
    uint32_t data;

    for (unsigned v = 0; v < pdev->msix.vectors; v++) {
        if (!pdev->msix.pba[v / 8]) {
            v |= 7;
            continue;
        }
        if (!(pdev->msix.pba[v / 8] >> v % 8 & 1) || !pci_msix_message(pdev, v, &addr, &data))
            continue;
        pci_msix_set_pending(pdev, v, false);
        send(pdev, v, addr, data);
    }
}

static uint64_t table_read(void *opaque, uint64_t off, unsigned len)
{
    struct pci_device *pdev = opaque;
    return le_load(pdev->msix.table + off, len);
}

static void table_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
    struct pci_device *pdev = opaque;

    for (; len; len -= 4, off += 4, val >>= 32) {
        bool ctrl = off % PCI_MSIX_ENTRY_SIZE == PCI_MSIX_ENTRY_CTRL;
        le32_store(pdev->msix.table + off,
                   ctrl ? val & PCI_MSIX_ENTRY_CTRL_MASKBIT : (uint32_t)val);
    }
    pci_vectors_changed(pdev);
    msix_deliver_pending(pdev);
}

static uint64_t pba_read(void *opaque, uint64_t off, unsigned len)
{
    struct pci_device *pdev = opaque;
    return le_load(pdev->msix.pba + off, len);
}

static void pba_write(void *opaque, uint64_t off, unsigned len, uint64_t val) {}

static const struct mem_ops table_ops = { table_read, table_write, ACCESS_32 | ACCESS_64 };
static const struct mem_ops pba_ops = { pba_read, pba_write, ACCESS_32 | ACCESS_64 };

static bool inside_bar(struct pci_device *pdev, unsigned bar, uint64_t off, uint64_t len)
{
    return bar < PCI_BARS && pdev->bars[bar].outer && off % 8 == 0 &&
           range_inside(off, len, pdev->bars[bar].info.size);
}

int pci_msix_init(struct pci_device *pdev, unsigned cap, unsigned vectors, unsigned table_bar,
                  uint32_t table_off, unsigned pba_bar, uint32_t pba_off, struct error *err)
{
    struct pci_msix *x = &pdev->msix;
    uint32_t table_len = vectors * PCI_MSIX_ENTRY_SIZE, pba_len = (vectors + 63) / 64 * 8;

    if (vectors == 0 || vectors > 2048 || cap < 0x40 ||
        cap + PCI_CAP_MSIX_SIZEOF > PCI_CONFIG_SIZE ||
        !inside_bar(pdev, table_bar, table_off, table_len) ||
        !inside_bar(pdev, pba_bar, pba_off, pba_len) ||
        (table_bar == pba_bar && ranges_overlap(table_off, table_len, pba_off, pba_len)))
        return error_set(err, -EINVAL, "its MSI-X table of %u vectors does not fit into its BARs",
                         vectors);

    x->table = calloc(1, table_len);
    x->pba = calloc(1, pba_len);
    x->table_region = mem_io_new("msix-table", table_len, &table_ops, pdev);
    x->pba_region = mem_io_new("msix-pba", pba_len, &pba_ops, pdev);
    if (!x->table || !x->pba || !x->table_region || !x->pba_region)
        return error_oom(err);
    x->cap = cap;
    x->vectors = vectors;
    x->table_len = table_len;
    x->pba_len = pba_len;

    uint8_t *c = pdev->config + cap;
    le16_store(c + PCI_MSIX_FLAGS, vectors - 1);
    le32_store(c + PCI_MSIX_TABLE, table_off | table_bar);
    le32_store(c + PCI_MSIX_PBA, pba_off | pba_bar);
    le16_store(pdev->wmask + cap + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
    mem_add(pdev->bars[table_bar].outer, table_off, x->table_region, 1);
    mem_add(pdev->bars[pba_bar].outer, pba_off, x->pba_region, 1);
    pci_msix_reset(pdev);
    return 0;
}

void pci_msix_reset(struct pci_device *pdev)
{
    struct pci_msix *x = &pdev->msix;

    if (!x->cap)
        return;
    memset(x->table, 0, x->table_len);
    memset(x->pba, 0, x->pba_len);
    for (unsigned v = 0; v < x->vectors; v++)
        x->table[v * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_CTRL] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

void pci_msix_fini(struct pci_device *pdev)
{
    struct pci_msix *x = &pdev->msix;

    if (x->table_region) {
        mem_region_orphan(x->table_region);
        mem_del(x->table_region);
        mem_region_put(x->table_region);
    }
    if (x->pba_region) {
        mem_region_orphan(x->pba_region);
        mem_del(x->pba_region);
        mem_region_put(x->pba_region);
    }
    free(x->table);
    free(x->pba);
    *x = (struct pci_msix){ 0 };
}

int pci_msix_post_load(struct pci_device *pdev, struct error *err)
{
    struct pci_msix *x = &pdev->msix;
    uint32_t vectors = x->vectors;

    if (x->table_len == vectors * PCI_MSIX_ENTRY_SIZE && x->pba_len == (vectors + 63) / 64 * 8)
        return 0;

    /* Whoever reads the tables relies on their lengths: put them right before failing. */
    free(x->table);
    free(x->pba);
    x->table_len = vectors * PCI_MSIX_ENTRY_SIZE;
    x->pba_len = (vectors + 63) / 64 * 8;
    x->table = calloc(1, MAX(x->table_len, 1u));
    x->pba = calloc(1, MAX(x->pba_len, 1u));
    return error_set(err, -EINVAL, "saved state: an MSI-X table of the wrong size");
}

/* ---- both ---- */

void pci_msi_config_written(struct pci_device *pdev, unsigned off, unsigned len)
{
    if (pdev->msi_cap && ranges_overlap(off, len, pdev->msi_cap, 24)) {
        pci_vectors_changed(pdev);
        msi_deliver_pending(pdev);
    }
    if (pdev->msix.cap && ranges_overlap(off, len, pdev->msix.cap, PCI_CAP_MSIX_SIZEOF)) {
        pci_vectors_changed(pdev);
        msix_deliver_pending(pdev);
    }
}

bool pci_irq_pulse(struct pci_device *pdev, unsigned vector)
{
    uint64_t addr;
    uint32_t data;

    if (pci_msix_enabled(pdev)) {
        if (vectors_only(pdev))
            send(pdev, vector, 0, 0);
        else if (pci_msix_message(pdev, vector, &addr, &data))
            send(pdev, vector, addr, data);
        else
            pci_msix_set_pending(pdev, vector, true);
        return true;
    }
    if (pci_msi_enabled(pdev)) {
        if (vectors_only(pdev))
            send(pdev, MIN(vector, pci_msi_vectors(pdev) - 1), 0, 0);
        else
            msi_raise(pdev, vector);
        return true;
    }
    return false;
}
