/* SPDX-License-Identifier: Apache-2.0 */
/* IDT, local APIC, IOAPIC, start of the other processors. Intel SDM volume 3, chapter 10. */
#include "rt.h"

enum { LAPIC = 0xfee00000, LAPIC_ID = 0x20, LAPIC_EOI = 0xb0, LAPIC_SVR = 0xf0,
       LAPIC_ICR = 0x300, LAPIC_ICR_HI = 0x310 };

volatile uint32_t irq_count[256];
void (*irq_handler[256])(void);

static struct { uint16_t lo, sel; uint8_t ist, type; uint16_t mid; uint32_t hi, zero; } idt[256];
extern const uint8_t isr_stubs[], ap_code[], ap_code_end[];
static volatile uint32_t cpus_up;

void lapic_write(unsigned reg, uint32_t v) { write32(LAPIC + reg, v); }
uint32_t lapic_read(unsigned reg) { return read32(LAPIC + reg); }

void isr(uint64_t vector, uint64_t error, uint64_t rip);

void isr(uint64_t vector, uint64_t error, uint64_t rip)
{
    if (vector < 32) {
        print("exception %lu error %lx at %lx\n", vector, error, rip);
        finish("exception");
    }
    irq_count[vector]++;
    if (irq_handler[vector])
        irq_handler[vector]();
    if (vector != 0xff)
        lapic_write(LAPIC_EOI, 0);
}

static void load_idt(void)
{
    struct __attribute__((packed)) { uint16_t limit; uint64_t base; } ptr = {
        sizeof idt - 1, (uint64_t)idt };
    __asm__ volatile("lidt %0" :: "m"(ptr));
}

void irq_init(void)
{
    for (unsigned v = 0; v < 256; v++) {
        uint64_t at = (uint64_t)isr_stubs + 16 * v;
        idt[v].lo = at;
        idt[v].sel = 8;
        idt[v].type = 0x8e;
        idt[v].mid = at >> 16;
        idt[v].hi = at >> 32;
    }
    load_idt();
    outb(0x21, 0xff);                   /* the old controllers are masked */
    outb(0xa1, 0xff);
    lapic_write(LAPIC_SVR, 0x1ff);
    irq_on();
}

void ioapic_route(unsigned pin, uint8_t vector, bool level_low)
{
    uint64_t base = acpi_ioapic();
    write32(base, 0x11 + 2 * pin);
    write32(base + 0x10, lapic_read(LAPIC_ID) & 0xff000000);
    write32(base, 0x10 + 2 * pin);
    write32(base + 0x10, vector | (level_low ? 0xa000 : 0));
}

bool irq_wait(uint8_t vector, uint32_t more_than)
{
    for (uint64_t i = 0; i < 20000000; i++) {
        if (irq_count[vector] > more_than)
            return true;
        cpu_relax();
    }
    return false;
}

void ap_main(uint32_t index);

void ap_main(uint32_t index)
{
    (void)index;
    __atomic_fetch_add(&cpus_up, 1, __ATOMIC_SEQ_CST);
}

static void delay(void)
{
    for (volatile int i = 0; i < 20000; i++) {}
}

unsigned smp_start(void)
{
    uint8_t ids[64];
    unsigned n = acpi_cpus(ids), self = lapic_read(LAPIC_ID) >> 24;

    memcpy((void *)0x8000, ap_code, ap_code_end - ap_code);
    cpus_up = 1;
    for (unsigned i = 0; i < n; i++) {
        if (ids[i] == self)
            continue;
        uint32_t want = cpus_up + 1;
        lapic_write(LAPIC_ICR_HI, (uint32_t)ids[i] << 24);
        lapic_write(LAPIC_ICR, 0x4500);                 /* INIT */
        delay();
        lapic_write(LAPIC_ICR_HI, (uint32_t)ids[i] << 24);
        lapic_write(LAPIC_ICR, 0x4608);                 /* start at 0x8000 */
        for (int t = 0; t < 20000000 && cpus_up < want; t++)
            cpu_relax();
    }
    return cpus_up;
}
