/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI as far as guests need it: tables, the timer, power-off. ACPI 6.4, chapters 4 and 5. */
#include "guest.h"

uint64_t boot_rsdp;

static bool sum_is_zero(const uint8_t *p, uint32_t len)
{
    uint8_t sum = 0;

    while (len--)
        sum += *p++;
    return sum == 0;
}

static uint64_t find_rsdp(void)
{
    for (uint64_t at = 0xe0000; at < 0x100000; at += 16)
        if (memcmp((void *)at, "RSD PTR ", 8) == 0 && sum_is_zero((void *)at, 20))
            return at;
    return 0;
}

/* By the XSDT, or, from firmware of version 1, by the RSDT. */
const uint8_t *acpi_table(const char *signature)
{
    uint64_t rsdp = boot_rsdp ? boot_rsdp : find_rsdp();

    if (!rsdp || memcmp((void *)rsdp, "RSD PTR ", 8) || !sum_is_zero((void *)rsdp, 20))
        fail("no RSDP, or its checksum is wrong");
    bool extended = read8(rsdp + 15) >= 2;
    if (extended && !sum_is_zero((void *)rsdp, 36))
        fail("the second checksum of the RSDP is wrong");
    uint64_t root = extended ? *(uint64_t *)(rsdp + 24) : read32(rsdp + 16);
    uint32_t len = read32(root + 4), step = extended ? 8 : 4;
    if (memcmp((void *)root, extended ? "XSDT" : "RSDT", 4) || !sum_is_zero((void *)root, len))
        fail("the table of tables is wrong");
    for (uint32_t i = 36; i + step <= len; i += step) {
        uint64_t at = 0;
        memcpy(&at, (void *)(root + i), step);
        if (memcmp((void *)at, signature, 4))
            continue;
        if (!sum_is_zero((void *)at, read32(at + 4)))
            fail("the checksum of table %s is wrong", signature);
        return (const uint8_t *)at;
    }
    return NULL;
}

static uint64_t fadt(void)
{
    static uint64_t at;

    if (!at)
        at = (uint64_t)acpi_table("FACP");
    if (!at)
        fail("there is no FADT");
    return at;
}

uint32_t acpi_timer(void)
{
    static uint16_t port;

    if (!port)
        port = read32(fadt() + 76);
    return in32(port) & 0xffffff;
}

void delay_us(unsigned us)
{
    uint32_t start = acpi_timer(), ticks = (uint64_t)us * 3580 / 1000;

    while (((acpi_timer() - start) & 0xffffff) < ticks)
        relax();
}

/* \_S5's first element: the sleep type for power-off, as a byte constant in the DSDT's AML. */
static int s5_type(void)
{
    const uint8_t *dsdt = (const uint8_t *)(uint64_t)read32(fadt() + 40);
    uint32_t len = read32((uint64_t)dsdt + 4);

    for (uint32_t i = 36; i + 8 < len; i++) {
        if (memcmp(dsdt + i, "_S5_", 4) || dsdt[i + 4] != 0x12)
            continue;
        const uint8_t *p = dsdt + i + 5;
        p += 1 + (*p >> 6) + 1;                 /* package length, number of elements */
        return *p == 0x0a ? p[1] : *p <= 1 ? *p : -1;
    }
    return -1;
}

void acpi_power_off(void)
{
    int type = s5_type();
    uint16_t port = read32(fadt() + 64);        /* PM1a_CNT_BLK */

    if (type < 0 || !port)
        fail("the tables do not say how to power off");
    out16(port, type << 10 | 1 << 13);
}
