/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stores and loads of all widths at addresses and ports that mean nothing, and at registers in
 * orders that make no sense, but not what ends the machine. The guest may hurt itself alone.
 */
#include "guest.h"

static uint32_t seed = 1;

static uint32_t next(void)
{
    seed = seed * 1664525 + 1013904223;
    return seed >> 8;
}

/* Reset, power and the exit device work as they should; this is not about them. */
static bool port_ends_machine(uint16_t port)
{
    return port == 0x64 || port == 0x92 || (port >= 0xcf8 && port <= 0xcff) ||
           (port >= 0x600 && port < 0x630) || (port >= 0xf4 && port < 0xf8) || (port & ~7) == 0x3f8 ||
           port == 0x505;
}

static void some_port(void)
{
    uint16_t port = next() % 3 ? next() & 0x7ff : next();

    for (uint16_t p = port; p < port + 4; p++)
        if (port_ends_machine(p))
            return;
    switch (next() % 6) {
    case 0: in8(port); break;
    case 1: in16(port); break;
    case 2: in32(port); break;
    case 3: out8(port, next()); break;
    case 4: out16(port, next()); break;
    default: out32(port, next());
    }
}

static void some_memory(void)
{
    static const uint32_t bases[] = { 0xb0000000, 0xc0000000, 0xe0000000, 0xfed00000, 0xfff00000 };
    uint32_t base = bases[next() % 5];
    volatile uint8_t *at = (volatile uint8_t *)(uint64_t)(base + (next() & 0xfffff));

    switch (next() % 6) {
    case 0: (void)*at; break;
    case 1: (void)*(volatile uint32_t *)at; break;
    case 2: (void)*(volatile uint64_t *)at; break;
    case 3: *at = next(); break;
    case 4: *(volatile uint32_t *)at = next(); break;
    default: *(volatile uint64_t *)at = next();
    }
}

static void some_config(void)
{
    struct pci d = { next() % 4 ? 0 : next(), next() };
    static const uint8_t widths[] = { 1, 2, 4 };
    unsigned len = widths[next() % 3], off = next() & 0xff & ~(len - 1);

    if (next() & 1)
        pci_read(d, off, len);
    else
        pci_write(d, off, len, next());
}

/* Every function but the host bridge: its BARs, then its configuration space. */
static void all_devices(void)
{
    for (unsigned devfn = 8; devfn < 256; devfn++) {
        struct pci d = { 0, devfn };
        if (pci_read(d, 0, 4) == 0xffffffff)
            continue;
        for (unsigned bar = 0; bar < 6; bar++) {
            bool io = pci_read(d, 0x10 + 4 * bar, 4) & 1;
            uint64_t size = 0, at = pci_map_bar(d, bar, &size);
            for (unsigned i = 0; at && i < 200; i++) {
                uint64_t where = at + (next() & (size - 1) & ~3ull);
                if (io)
                    out32(where, next());
                else
                    write32(where, next());
            }
        }
        for (unsigned i = 0; i < 200; i++)
            pci_write(d, next() & 0xfc, 4, next());
        print("nonsense to %x.%u\n", devfn >> 3, devfn & 7);
    }
}

int guest_main(void)
{
    all_devices();
    for (unsigned i = 0; i < 20000; i++)
        switch (next() % 3) {
        case 0: some_port(); break;
        case 1: some_memory(); break;
        default: some_config();
        }
    print("20000 pieces of nonsense\n");
    return 0;
}
