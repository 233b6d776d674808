/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupts: the interval timer through the I/O APIC, and the local APIC's timer; the ACPI timer
 * goes forward. */
#include "guest.h"

enum { PIT_VECTOR = 0x30, LAPIC_VECTOR = 0x31, PIT_HZ = 1193182, TICKS = 20 };

static volatile unsigned pit_ticks, lapic_ticks;

static void count(void *opaque) { (*(volatile unsigned *)opaque)++; }

/* The line that ISA interrupt 0 arrives at, from MADT's overrides. */
static unsigned timer_gsi(void)
{
    const uint8_t *madt = acpi_table("APIC");

    for (uint32_t at = 44, end = read32((uint64_t)madt + 4); at + 1 < end && madt[at + 1];
         at += madt[at + 1])
        if (madt[at] == 2 && madt[at + 3] == 0)
            return read32((uint64_t)madt + at + 4);
    return 0;
}

int guest_main(void)
{
    uint32_t before = acpi_timer();
    delay_us(2000);
    uint32_t passed = (acpi_timer() - before) & 0xffffff;
    EXPECT(passed >= 2000 * 3579 / 1000 - 10);

    unsigned gsi = timer_gsi();
    print("timer at line %u\n", gsi);
    irq_handler(PIT_VECTOR, count, (void *)&pit_ticks);
    ioapic_route(gsi, PIT_VECTOR, false, false);
    out8(0x43, 0x34);                           /* channel 0, rate generator */
    out8(0x40, (PIT_HZ / 100) & 0xff);
    out8(0x40, (PIT_HZ / 100) >> 8);
    EXPECT(wait_count(&pit_ticks, TICKS, 10000));
    print("pit ticks %u\n", TICKS);
    ioapic_route(gsi, PIT_VECTOR, false, true);

    irq_handler(LAPIC_VECTOR, count, (void *)&lapic_ticks);
    write32(LAPIC + LAPIC_TIMER_DIVIDE, 0xb);
    write32(LAPIC + LAPIC_TIMER, LAPIC_VECTOR | 0x20000);
    write32(LAPIC + LAPIC_TIMER_INITIAL, 10000000);
    EXPECT(wait_count(&lapic_ticks, 3, 10000));
    write32(LAPIC + LAPIC_TIMER_INITIAL, 0);
    print("lapic ticks 3\n");
    return 0;
}
