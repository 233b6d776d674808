/* SPDX-License-Identifier: Apache-2.0 */
/* The serial port interrupts when its transmitter is empty, and speaks to itself in loopback. */
#include "guest.h"

enum { COM1 = 0x3f8, LINE = 4, VECTOR = 0x44 };

static volatile unsigned irqs;

static void on_irq(void *opaque)
{
    irqs++;
    in8(COM1 + 2);                              /* IIR: acknowledges the empty transmitter */
}

int guest_main(void)
{
    irq_handler(VECTOR, on_irq, NULL);
    ioapic_route(LINE, VECTOR, false, false);
    out8(COM1 + 4, 0x0b);                       /* OUT2 lets the interrupt out */
    out8(COM1 + 1, 2);
    for (unsigned i = 1; i <= 5; i++) {
        unsigned before = irqs;
        out8(COM1, '.');
        if (!wait_count(&irqs, before + 1, 5000))
            fail("byte %u: no interrupt", i);
    }
    out8(COM1 + 1, 0);
    print("\n");

    out8(COM1 + 4, 0x10);                       /* loopback: nothing goes out */
    for (unsigned c = 'a'; c < 'e'; c++) {
        out8(COM1, c);
        for (unsigned ms = 0; !(in8(COM1 + 5) & 1); ms++) {
            EXPECT(ms < 1000);
            delay_us(1000);
        }
        EXPECT_EQ(in8(COM1), c);
    }
    out8(COM1 + 4, 0);
    print("loopback\n");
    return 0;
}
