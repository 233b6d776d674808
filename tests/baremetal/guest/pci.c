/* SPDX-License-Identifier: Apache-2.0 */
/* PCI bus 0 by configuration mechanism 1; addresses are given out here, there is no firmware. */
#include "rt.h"

static uint32_t select(unsigned devfn, unsigned off)
{
    return 0x80000000u | devfn << 8 | (off & ~3u);
}

uint32_t pci_read(unsigned devfn, unsigned off, unsigned len)
{
    outl(0xcf8, select(devfn, off));
    switch (len) {
    case 1: return inb(0xcfc + (off & 3));
    case 2: return inw(0xcfc + (off & 2));
    default: return inl(0xcfc);
    }
}

void pci_write(unsigned devfn, unsigned off, unsigned len, uint32_t v)
{
    outl(0xcf8, select(devfn, off));
    switch (len) {
    case 1: outb(0xcfc + (off & 3), v); break;
    case 2: outw(0xcfc + (off & 2), v); break;
    default: outl(0xcfc, v);
    }
}

int pci_find(uint16_t vendor, uint16_t device)
{
    for (unsigned devfn = 0; devfn < 256; devfn++)
        if (pci_read(devfn, 0, 4) == (vendor | (uint32_t)device << 16))
            return devfn;
    return -1;
}

uint64_t pci_assign(unsigned devfn, unsigned bar)
{
    static uint32_t next_mem = 0xd0000000, next_io = 0xc000;
    unsigned off = 0x10 + 4 * bar;

    pci_write(devfn, off, 4, 0xffffffff);
    uint32_t v = pci_read(devfn, off, 4);
    if (!v || v == 0xffffffff)
        return 0;
    if (v & 1) {
        uint32_t size = ~(v & ~3u) + 1;
        next_io = (next_io + size - 1) & ~(size - 1);
        pci_write(devfn, off, 4, next_io);
        next_io += size;
        return next_io - size;
    }
    uint32_t size = ~(v & ~15u) + 1;
    next_mem = (next_mem + size - 1) & ~(size - 1);
    pci_write(devfn, off, 4, next_mem);
    if ((v & 6) == 4)
        pci_write(devfn, off + 4, 4, 0);
    next_mem += size;
    return next_mem - size;
}

void pci_enable(unsigned devfn) { pci_write(devfn, 4, 2, 7); }

unsigned pci_capability(unsigned devfn, uint8_t id)
{
    if (!(pci_read(devfn, 6, 2) & 0x10))
        return 0;
    unsigned at = pci_read(devfn, 0x34, 1);
    for (int n = 0; at >= 0x40 && n < 48; n++, at = pci_read(devfn, at + 1, 1))
        if (pci_read(devfn, at, 1) == id)
            return at;
    return 0;
}
