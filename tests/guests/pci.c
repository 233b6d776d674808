/* SPDX-License-Identifier: Apache-2.0 */
/* PCI configuration by ports, and BARs. PCI Local Bus 3.0, chapter 6. */
#include "guest.h"

enum { CONFIG_ADDRESS = 0xcf8, CONFIG_DATA = 0xcfc };

static void select(struct pci d, unsigned off)
{
    out32(CONFIG_ADDRESS, 1u << 31 | d.bus << 16 | d.devfn << 8 | (off & 0xfc));
}

uint32_t pci_read(struct pci d, unsigned off, unsigned len)
{
    select(d, off);
    switch (len) {
    case 1: return in8(CONFIG_DATA + (off & 3));
    case 2: return in16(CONFIG_DATA + (off & 2));
    default: return in32(CONFIG_DATA);
    }
}

void pci_write(struct pci d, unsigned off, unsigned len, uint32_t v)
{
    select(d, off);
    switch (len) {
    case 1: out8(CONFIG_DATA + (off & 3), v); break;
    case 2: out16(CONFIG_DATA + (off & 2), v); break;
    default: out32(CONFIG_DATA, v);
    }
}

bool pci_find(uint16_t vendor, uint16_t device, struct pci *ret)
{
    for (unsigned devfn = 0; devfn < 256; devfn++) {
        struct pci d = { 0, devfn };
        if (pci_read(d, 0, 4) == ((uint32_t)device << 16 | vendor)) {
            *ret = d;
            return true;
        }
    }
    return false;
}

uint64_t pci_map_bar(struct pci d, unsigned bar, uint64_t *ret_size)
{
    static uint32_t next_memory = 0xe0000000;
    static uint32_t next_port = 0xc000;
    unsigned off = 0x10 + bar * 4;
    uint32_t low = pci_read(d, off, 4);

    pci_write(d, 4, 2, pci_read(d, 4, 2) & ~7);
    pci_write(d, off, 4, 0xffffffff);
    uint32_t mask = pci_read(d, off, 4);
    if (mask == 0)
        return 0;
    bool io = low & 1;
    uint32_t size = io ? (~(mask & ~3u) + 1) & 0xffff : ~(mask & ~15u) + 1;
    uint32_t *next = io ? &next_port : &next_memory;
    uint32_t at = (*next + size - 1) & ~(size - 1);
    *next = at + size;
    pci_write(d, off, 4, at);
    if (!io && (low & 6) == 4)
        pci_write(d, off + 4, 4, 0);
    pci_write(d, 4, 2, pci_read(d, 4, 2) | 7);
    if (ret_size)
        *ret_size = size;
    return at;
}

unsigned pci_capability(struct pci d, uint8_t id)
{
    if (!(pci_read(d, 6, 2) & 0x10))
        return 0;
    for (unsigned at = pci_read(d, 0x34, 1), n = 0; at >= 0x40 && n < 48;
         at = pci_read(d, at + 1, 1), n++)
        if (pci_read(d, at, 1) == id)
            return at;
    return 0;
}
