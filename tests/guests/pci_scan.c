/* SPDX-License-Identifier: Apache-2.0 */
/* Lists bus 0 by ports, and checks that the memory-mapped way (MCFG) shows the same. */
#include "guest.h"

static void check_ecam(struct pci d, uint64_t ecam)
{
    for (unsigned off = 0; off < 256; off += 4)
        EXPECT_EQ(read32(ecam + d.devfn * 4096 + off), pci_read(d, off, 4));
    EXPECT_EQ(read16(ecam + d.devfn * 4096 + 2), pci_read(d, 2, 2));
    EXPECT_EQ(read8(ecam + d.devfn * 4096 + 11), pci_read(d, 11, 1));
}

static void show_bars(struct pci d)
{
    unsigned count = (pci_read(d, 14, 1) & 0x7f) ? 0 : 6;

    for (unsigned i = 0; i < count; i++) {
        uint32_t low = pci_read(d, 0x10 + i * 4, 4);
        uint64_t size = 0, at = pci_map_bar(d, i, &size);
        if (!at)
            continue;
        print("  bar %u %s size 0x%lx\n", i, low & 1 ? "io" : "memory", size);
        if (!(low & 1) && (low & 6) == 4)
            i++;
    }
}

int guest_main(void)
{
    const uint8_t *mcfg = acpi_table("MCFG");
    uint64_t ecam = 0;
    unsigned found = 0;

    EXPECT(mcfg);
    memcpy(&ecam, mcfg + 44, 8);
    print("ecam 0x%lx\n", ecam);
    for (unsigned devfn = 0; devfn < 256; devfn++) {
        struct pci d = { 0, devfn };
        uint32_t id = pci_read(d, 0, 4);
        if (id == 0xffffffff) {
            EXPECT_EQ(read32(ecam + devfn * 4096), 0xffffffff);
            continue;
        }
        found++;
        print("%02x.%u %04x:%04x class %06x\n", devfn >> 3, devfn & 7, id & 0xffff, id >> 16,
              pci_read(d, 8, 4) >> 8);
        check_ecam(d, ecam);
        show_bars(d);
    }
    print("found %u\n", found);
    return found ? 0 : 1;
}
