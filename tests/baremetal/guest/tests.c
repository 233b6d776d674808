/* SPDX-License-Identifier: Apache-2.0 */
#include "rt.h"

extern uint8_t image_end[];

static void test_hello(void)
{
    uint64_t ram = 0;

    print("booted by %s, command line '%s'\n", boot.how, boot.cmdline);
    for (unsigned i = 0; i < boot.entries; i++) {
        print("memory %lx+%lx type %u\n", boot.map[i].addr, boot.map[i].size, boot.map[i].type);
        if (boot.map[i].type == 1)
            ram += boot.map[i].size;
        if (i)
            EXPECT(boot.map[i].addr >= boot.map[i - 1].addr + boot.map[i - 1].size);
    }
    print("ram %lu KiB\n", ram / 1024);
    EXPECT(ram > 1 << 20);
}

static void test_smp(void)
{
    uint8_t ids[64];
    unsigned listed = acpi_cpus(ids), up;

    irq_init();
    up = smp_start();
    print("cpus listed %u, up %u\n", listed, up);
    EXPECT(listed == up);
}

static void test_pci(void)
{
    uint64_t ecam = acpi_ecam();

    EXPECT(ecam);
    for (unsigned devfn = 0; devfn < 256; devfn++) {
        uint32_t id = pci_read(devfn, 0, 4);
        EXPECT(id == read32(ecam + ((uint64_t)devfn << 12)));
        if (id == 0xffffffff)
            continue;
        print("pci %x.%u %x:%x class %x\n", devfn >> 3, devfn & 7, id & 0xffff, id >> 16,
              pci_read(devfn, 8, 4) >> 8);
        for (unsigned off = 0; off < 64; off += 4)
            EXPECT(pci_read(devfn, off, 4) == read32(ecam + ((uint64_t)devfn << 12) + off));
        EXPECT(pci_read(devfn, 1, 1) == (id >> 8 & 0xff));
        EXPECT(pci_read(devfn, 2, 2) == id >> 16);
        EXPECT(read16(ecam + ((uint64_t)devfn << 12) + 2) == id >> 16);
    }
    /* No such device: all ones, and nothing happens. */
    EXPECT(pci_read(0xff, 0, 2) == 0xffff);
    pci_write(0xff, 4, 2, 7);
    EXPECT(read32(ecam + (5ull << 20)) == 0xffffffff);
}

static void test_timer(void)
{
    irq_init();
    ioapic_route(2, 0x40, false);               /* ISA IRQ 0 is pin 2 */
    outb(0x43, 0x34);
    outb(0x40, 11932 & 255);                    /* 100 Hz */
    outb(0x40, 11932 >> 8);
    EXPECT(irq_wait(0x40, 3));
    print("pit ticks %u\n", irq_count[0x40]);

    lapic_write(0x3e0, 0xb);                    /* divide by 1 */
    lapic_write(0x320, 0x41 | 1 << 17);         /* periodic */
    lapic_write(0x380, 1000000);
    EXPECT(irq_wait(0x41, 3));
    print("lapic ticks %u\n", irq_count[0x41]);

    uint16_t pm = acpi_pm_timer();
    uint32_t a = inl(pm), b = a;
    for (int i = 0; i < 1000000 && b == a; i++)
        b = inl(pm);
    EXPECT(a != b);

    outb(0x70, 9);
    uint8_t year = inb(0x71);
    outb(0x70, 0x32);
    uint8_t century = inb(0x71);
    print("rtc century %x year %x\n", century, year);
    EXPECT(century == 0x20);
    EXPECT(year >= 0x24);
}

static void test_uart(void)
{
    irq_init();
    ioapic_route(4, 0x44, false);
    outb(0x3f8 + 4, 0x0b);                      /* OUT2 lets the interrupt out */
    outb(0x3f8 + 1, 2);
    for (int i = 0; i < 5; i++) {
        uint32_t before = irq_count[0x44];
        inb(0x3f8 + 2);
        outb(0x3f8, '.');
        EXPECT(irq_wait(0x44, before));
    }
    outb(0x3f8 + 1, 0);
    put("\n");
}

static void test_reset(void)
{
    const char *how = option("how", "cf9");

    print("reset by %s\n", how);
    if (same(how, "cf9")) {
        outb(0xcf9, 2);
        outb(0xcf9, 6);
    } else if (same(how, "acpi")) {
        acpi_reset();
    } else if (same(how, "kbd")) {
        outb(0x64, 0xfe);
    } else {
        struct __attribute__((packed)) { uint16_t limit; uint64_t base; } none = { 0, 0 };
        __asm__ volatile("lidt %0; int3" :: "m"(none));
    }
    for (volatile int i = 0; i < 100000000; i++) {}
    finish("still here");
}

/* The teaching device: devices/csum.c. */
enum { CSUM_ADDR_LO = 0x00, CSUM_ADDR_HI = 0x04, CSUM_LEN = 0x08, CSUM_START = 0x0c,
       CSUM_SUM = 0x10, CSUM_STATUS = 0x14 };

static void csum_msix(int devfn)
{
    unsigned cap = pci_capability(devfn, 0x11);
    EXPECT(cap);
    uint32_t table = pci_read(devfn, cap + 4, 4);
    uint64_t bar = pci_assign(devfn, table & 7);
    EXPECT(bar);
    pci_enable(devfn);
    uint64_t entry = bar + (table & ~7u);
    write32(entry, 0xfee00000);
    write32(entry + 4, 0);
    write32(entry + 8, 0x50);
    write32(entry + 12, 0);
    pci_write(devfn, cap + 2, 2, 0x8000);
}

static uint32_t csum_run(uint64_t bar, const void *data, uint32_t len)
{
    write32(bar + CSUM_ADDR_LO, (uint64_t)data);
    write32(bar + CSUM_ADDR_HI, (uint64_t)data >> 32);
    write32(bar + CSUM_LEN, len);
    write32(bar + CSUM_START, 1);
    return read32(bar + CSUM_STATUS);
}

static void test_csum(void)
{
    int devfn = pci_find(0x1af4, 0x10f0);
    uint8_t *data = image_end + 4096;
    uint32_t want = 0;

    EXPECT(devfn >= 0);
    irq_init();
    uint64_t bar = pci_assign(devfn, 0);
    EXPECT(bar);
    csum_msix(devfn);
    for (uint32_t i = 0; i < 5000; i++)
        want += data[i] = i * 7;

    EXPECT(csum_run(bar, data, 5000) == 1);
    EXPECT(read32(bar + CSUM_SUM) == want);
    print("csum %x\n", want);
    EXPECT(irq_wait(0x50, 0));
    unsigned rounds = 100;
    for (unsigned i = 0; i < rounds; i++) {
        uint32_t before = irq_count[0x50];
        EXPECT(csum_run(bar, data, i) == 1);
        EXPECT(irq_wait(0x50, before));
    }
    print("csum interrupts %u\n", irq_count[0x50]);
    EXPECT(csum_run(bar, (void *)0xfffff000, 5000) == 2);       /* no RAM there */
    EXPECT(csum_run(bar, data, 0x7fffffff) == 2);               /* too long */
    pci_write(devfn, 4, 2, 3);                                  /* bus mastering off */
    EXPECT(csum_run(bar, data, 5000) == 2);
}

static uint32_t noise(void)
{
    static uint32_t seed = 12345;
    return seed = seed * 1664525 + 1013904223;
}

/* Whatever this does harms this guest alone; that it lives on is luck, that the VMM does is not. */
static void test_hostile(void)
{
    for (unsigned devfn = 8; devfn < 256; devfn++) {
        if (pci_read(devfn, 0, 4) == 0xffffffff)
            continue;
        for (unsigned bar = 0; bar < 6; bar++) {
            uint64_t at = pci_assign(devfn, bar);
            bool io = pci_read(devfn, 0x10 + 4 * bar, 4) & 1;
            pci_write(devfn, 4, 2, 7);
            for (int i = 0; at && i < 200; i++) {
                uint32_t off = noise() >> 8 & 0xfc, v = noise();
                if (io)
                    outl(at + off, v);
                else
                    write32(at + off, v);
            }
        }
        for (int i = 0; i < 200; i++)
            pci_write(devfn, noise() >> 8 & 0xfc, 4, noise());
        print("noise to %x.%u\n", devfn >> 3, devfn & 7);
    }
}

static void test_spin(void)
{
    for (uint64_t n = 0;; n++)
        if (n % 5000000 == 0)
            print("spin %lu\n", n / 5000000);
}

static void test_poweroff(void)
{
    uint8_t type;
    EXPECT(acpi_s5(&type));
    print("power off by ACPI, type %u\n", type);
    acpi_poweroff();
    for (volatile int i = 0; i < 100000000; i++) {}
    finish("still here");
}

static const struct { const char *name; void (*run)(void); } tests[] = {
    { "hello", test_hello }, { "smp", test_smp }, { "pci", test_pci }, { "timer", test_timer },
    { "uart", test_uart }, { "reset", test_reset }, { "csum", test_csum },
    { "hostile", test_hostile }, { "spin", test_spin }, { "poweroff", test_poweroff },
};

void run_tests(void);

void run_tests(void)
{
    char name[64];
    const char *wanted = option("test", "hello");

    memcpy(name, wanted, strlen(wanted) + 1);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
        if (same(name, tests[i].name)) {
            tests[i].run();
            finish(NULL);
        }
    finish("no such test");
}
