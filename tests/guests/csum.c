/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives the checksum device (1af4:10f0): registers, DMA, bus mastering, the interrupt by MSI-X. It
 * cannot tell in which process the device lives. rounds= repeats; expect=gone: the device dies
 * meanwhile, reads are all ones, and this program goes on.
 */
#include "guest.h"

enum { ADDR_LO = 0, ADDR_HI = 4, LEN = 8, START = 12, SUM = 16, STATUS = 20, VECTOR = 0x40,
       STATUS_DONE = 1, STATUS_FAILED = 2, LEN_MAX = 65536 };

static uint8_t data[LEN_MAX];
static volatile unsigned irqs;

static void on_irq(void *opaque) { irqs++; }

static unsigned number(const char *text, unsigned otherwise)
{
    unsigned n = 0;

    if (!*text)
        return otherwise;
    while (*text >= '0' && *text <= '9')
        n = n * 10 + *text++ - '0';
    return n;
}

/* Message 0 to this CPU. */
static void set_message(struct pci d, uint64_t bar0)
{
    unsigned cap = pci_capability(d, 0x11);

    EXPECT(cap);
    uint32_t where = pci_read(d, cap + 4, 4);
    uint64_t base = (where & 7) == 0 ? bar0 : pci_map_bar(d, where & 7, NULL);
    uint64_t table = base + (where & ~7u);
    irq_handler(VECTOR, on_irq, NULL);
    write32(table, 0xfee00000 | lapic_id() << 12);
    write32(table + 4, 0);
    write32(table + 8, VECTOR);
    write32(table + 12, 0);
    pci_write(d, cap + 2, 2, 0x8000);
}

static uint32_t run(uint64_t bar, const void *at, uint32_t len)
{
    write32(bar + ADDR_LO, (uint64_t)at);
    write32(bar + ADDR_HI, (uint64_t)at >> 32);
    write32(bar + LEN, len);
    write32(bar + START, 1);
    return read32(bar + STATUS);
}

static int wait_until_gone(uint64_t bar)
{
    print("waiting\n");
    for (unsigned ms = 0; ms < 20000; ms++) {
        if (read32(bar + STATUS) == 0xffffffff && read32(bar + LEN) == 0xffffffff) {
            write32(bar + START, 1);
            print("the device is gone\n");
            return 0;
        }
        delay_us(1000);
    }
    fail("the device is still there");
}

int guest_main(void)
{
    struct pci d;
    uint64_t size;

    if (!pci_find(0x1af4, 0x10f0, &d))
        fail("there is no csum device");
    uint64_t bar = pci_map_bar(d, 0, &size);
    EXPECT_EQ(size, 4096);
    set_message(d, bar);

    unsigned rounds = number(guest_option("rounds="), 20);
    uint32_t x = 12345;
    for (unsigned i = 0; i < rounds; i++) {
        uint32_t len = i == 0 ? 4 * 512 + 3 : x % 2000, want = 0;
        for (uint32_t j = 0; j < len; j++) {
            x = x * 1103515245 + 12345;
            data[j] = x >> 16;
            want += data[j];
        }
        EXPECT_EQ(run(bar, data, len), STATUS_DONE);
        EXPECT_EQ(read32(bar + SUM), want);
        if (!wait_count(&irqs, i + 1, 5000))
            fail("round %u: no interrupt", i);
    }
    EXPECT_EQ(irqs, rounds);
    print("rounds %u interrupts %u\n", rounds, irqs);

    EXPECT_EQ(run(bar, data, LEN_MAX), STATUS_DONE);
    EXPECT_EQ(run(bar, data, LEN_MAX + 1), STATUS_FAILED);
    EXPECT_EQ(run(bar, (void *)0xb8000000, 16), STATUS_FAILED);         /* no RAM there */
    EXPECT_EQ(run(bar, (void *)0xfffffffffffffff0, 32), STATUS_FAILED);
    pci_write(d, 4, 2, 2);                                              /* no mastering */
    EXPECT_EQ(run(bar, data, 16), STATUS_FAILED);
    pci_write(d, 4, 2, 6);
    EXPECT_EQ(run(bar, data, 16), STATUS_DONE);
    pci_write(d, 4, 2, 0);                                              /* no memory decoding */
    EXPECT_EQ(read32(bar + STATUS), 0xffffffff);
    pci_write(d, 4, 2, 6);
    EXPECT_EQ(read32(bar + STATUS), STATUS_DONE);
    print("errors are errors\n");
    if (option_is("expect=", "gone"))
        return wait_until_gone(bar);
    return 0;
}
