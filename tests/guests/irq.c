/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupts: the descriptor table, local APIC, I/O APIC, and the start of other CPUs. */
#include "guest.h"

enum { TRAMPOLINE = 0x8000, VECTORS = 256 };

struct gate { uint16_t lo, selector, attr, mid; uint32_t hi, zero; };

extern const char trap_entries[], ap_trampoline[], ap_trampoline_end[];
extern volatile uint32_t ap_next;

static struct gate idt[VECTORS] __attribute__((aligned(16)));
static struct { irq_fn *fn; void *opaque; } handlers[VECTORS];
static bool lapic_is_on;

void guest_trap(uint64_t vector, uint64_t code, uint64_t rip);
void guest_trap(uint64_t vector, uint64_t code, uint64_t rip)
{
    if (vector >= 32 && handlers[vector].fn) {
        handlers[vector].fn(handlers[vector].opaque);
        write32(LAPIC + LAPIC_EOI, 0);
        return;
    }
    if (vector == 255)                  /* spurious */
        return;
    uint64_t cr2;
    __asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
    fail("vector %lu, code 0x%lx, at 0x%lx, cr2 0x%lx", vector, code, rip, cr2);
}

void idt_load(void)
{
    struct __attribute__((packed)) { uint16_t limit; uint64_t base; } pointer = {
        sizeof idt - 1, (uint64_t)idt,
    };

    for (unsigned i = 0; i < VECTORS; i++) {
        uint64_t at = (uint64_t)trap_entries + i * 16;
        idt[i] = (struct gate){ at, 0x08, 0x8e00, at >> 16, at >> 32, 0 };
    }
    __asm__ volatile("lidt %0" :: "m"(pointer));
}

static void lapic_on(void)
{
    if (lapic_is_on)
        return;
    lapic_is_on = true;
    out8(0x21, 0xff);
    out8(0xa1, 0xff);
    write32(LAPIC + LAPIC_SPURIOUS, 0x1ff);
}

uint32_t lapic_id(void) { return read32(LAPIC + LAPIC_ID) >> 24; }

void irq_handler(unsigned vector, irq_fn *fn, void *opaque)
{
    lapic_on();
    handlers[vector].fn = fn;
    handlers[vector].opaque = opaque;
}

void ioapic_route(unsigned gsi, unsigned vector, bool level, bool masked)
{
    lapic_on();
    write32(IOAPIC, 0x10 + gsi * 2 + 1);
    write32(IOAPIC + 0x10, lapic_id() << 24);
    write32(IOAPIC, 0x10 + gsi * 2);
    write32(IOAPIC + 0x10, vector | (level ? 0xa000 : 0) | (masked ? 0x10000 : 0));
}

bool wait_count(volatile unsigned *count, unsigned n, unsigned timeout_ms)
{
    uint32_t last = acpi_timer();
    uint64_t left = (uint64_t)timeout_ms * 3580;

    irq_on();
    while (*count < n && left) {
        uint32_t now = acpi_timer(), step = (now - last) & 0xffffff;
        left -= step > left ? left : step;
        last = now;
    }
    irq_off();
    return *count >= n;
}

static void send_ipi(uint32_t apic_id, uint32_t command)
{
    write32(LAPIC + LAPIC_ICR_HI, apic_id << 24);
    write32(LAPIC + LAPIC_ICR_LO, command);
    while (read32(LAPIC + LAPIC_ICR_LO) & 0x1000)
        relax();
}

unsigned smp_start(void)
{
    const uint8_t *madt = acpi_table("APIC");
    unsigned cpus = 1;

    if (!madt)
        fail("there is no MADT");
    lapic_on();
    memcpy((void *)TRAMPOLINE, ap_trampoline, ap_trampoline_end - ap_trampoline);
    for (uint32_t at = 44, end = read32((uint64_t)madt + 4); at + 1 < end && madt[at + 1];
         at += madt[at + 1]) {
        if (madt[at] != 0 || !(madt[at + 4] & 1) || madt[at + 3] == lapic_id())
            continue;
        cpus++;
        send_ipi(madt[at + 3], 0x4500);                         /* INIT */
        delay_us(1000);
        send_ipi(madt[at + 3], 0x4600 | TRAMPOLINE >> 12);      /* SIPI */
        delay_us(200);
        for (unsigned ms = 0; ap_next < cpus; ms++) {
            if (ms == 20)
                send_ipi(madt[at + 3], 0x4600 | TRAMPOLINE >> 12);
            if (ms == 5000)
                fail("CPU with APIC id %u does not start", madt[at + 3]);
            delay_us(1000);
        }
    }
    return cpus;
}
