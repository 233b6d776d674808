/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ends in the way that how= says: poweroff, cf9, acpi, keyboard, triple, halt. After a reset it is
 * there again, and counts its lives in RAM, which a reset leaves alone.
 */
#include "guest.h"

enum { LIVES = 0x70000, MAGIC = 0x6c697665, LIVES_MAX = 3 };

static void acpi_reset(void)
{
    uint64_t fadt = (uint64_t)acpi_table("FACP");

    EXPECT(read32(fadt + 112) & 1 << 10);       /* RESET_REG_SUP */
    EXPECT_EQ(read8(fadt + 116), 1);            /* in I/O space */
    out8(read32(fadt + 120), read8(fadt + 128));
}

static void triple_fault(void)
{
    struct __attribute__((packed)) { uint16_t limit; uint64_t base; } none = { 0, 0 };

    __asm__ volatile("lidt %0; ud2" :: "m"(none));
}

int guest_main(void)
{
    if (read32(LIVES) != MAGIC) {
        write32(LIVES, MAGIC);
        write32(LIVES + 4, 0);
    }
    unsigned life = read32(LIVES + 4) + 1;
    write32(LIVES + 4, life);
    print("life %u\n", life);

    if (option_is("how=", "poweroff"))
        acpi_power_off();
    else if (life == LIVES_MAX)
        return 0;
    else if (option_is("how=", "cf9"))
        out8(0xcf9, 0x06);
    else if (option_is("how=", "acpi"))
        acpi_reset();
    else if (option_is("how=", "keyboard"))
        out8(0x64, 0xfe);
    else if (option_is("how=", "triple"))
        triple_fault();
    else
        fail("how= is missing");
    /* The reset comes when this CPU is out of the guest: no further than the next instructions. */
    for (unsigned i = 0; i < 1000; i++)
        delay_us(1000);
    fail("still alive");
}
