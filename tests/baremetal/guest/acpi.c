/* SPDX-License-Identifier: Apache-2.0 */
/* Finds and checks ACPI tables (ACPI 6.4, chapter 5). */
#include "rt.h"

static uint8_t sum(const uint8_t *p, size_t n)
{
    uint8_t s = 0;
    while (n--)
        s += *p++;
    return s;
}

static uint32_t u32(const uint8_t *p) { return *(const uint32_t *)p; }
static uint64_t u64(const uint8_t *p) { return *(const uint64_t *)p; }

static const uint8_t *rsdp(void)
{
    if (boot.rsdp)
        return (const uint8_t *)boot.rsdp;
    for (uint64_t a = 0xe0000; a < 0x100000; a += 16)
        if (!memcmp((const void *)a, "RSD PTR ", 8) && !sum((const uint8_t *)a, 20))
            return (const uint8_t *)a;
    finish("no RSDP");
}

static const uint8_t *checked(uint64_t addr)
{
    const uint8_t *t = (const uint8_t *)addr;
    if (sum(t, u32(t + 4)))
        finish("a table's checksum is wrong");
    return t;
}

const uint8_t *acpi_table(const char *signature)
{
    const uint8_t *r = rsdp();
    if (sum(r, 20) || (r[15] >= 2 && sum(r, 36)))
        finish("the RSDP's checksum is wrong");

    bool wide = r[15] >= 2;             /* XSDT; else the RSDT of ACPI 1.0 */
    const uint8_t *root = checked(wide ? u64(r + 24) : u32(r + 16));
    for (const uint8_t *e = root + 36; e < root + u32(root + 4); e += wide ? 8 : 4) {
        const uint8_t *t = checked(wide ? u64(e) : u32(e));
        if (!memcmp(t, signature, 4))
            return t;
    }
    return NULL;
}

/* The next structure of a type in the MADT after at (NULL: the first). */
static const uint8_t *madt_next(const uint8_t *at, uint8_t type)
{
    const uint8_t *madt = acpi_table("APIC");
    if (!madt)
        finish("no MADT");
    for (at = at ? at + at[1] : madt + 44; at < madt + u32(madt + 4) && at[1]; at += at[1])
        if (at[0] == type)
            return at;
    return NULL;
}

unsigned acpi_cpus(uint8_t ids[64])
{
    unsigned n = 0;
    for (const uint8_t *e = NULL; (e = madt_next(e, 0));)
        if ((u32(e + 4) & 1) && n < 64)
            ids[n++] = e[3];
    return n;
}

uint64_t acpi_ioapic(void)
{
    const uint8_t *e = madt_next(NULL, 1);
    return e ? u32(e + 4) : 0;
}

uint64_t acpi_ecam(void)
{
    const uint8_t *mcfg = acpi_table("MCFG");
    return mcfg ? u64(mcfg + 44) : 0;
}

static const uint8_t *fadt(void)
{
    const uint8_t *t = acpi_table("FACP");
    if (!t)
        finish("no FADT");
    return t;
}

uint16_t acpi_pm1a_cnt(void) { return u32(fadt() + 64); }
uint16_t acpi_pm_timer(void) { return u32(fadt() + 76); }

/* \_S5 in the DSDT: Name (_S5, Package { SLP_TYPa, … }). */
bool acpi_s5(uint8_t *ret_type)
{
    const uint8_t *f = fadt();
    const uint8_t *dsdt = checked(u32(f + 4) >= 148 && u64(f + 140) ? u64(f + 140) : u32(f + 40));

    for (const uint8_t *p = dsdt + 36; p < dsdt + u32(dsdt + 4) - 8; p++)
        if (!memcmp(p, "_S5_", 4) && p[4] == 0x12) {
            p += 7;                     /* package, length (one byte), elements */
            *ret_type = *p == 0x0a ? p[1] : *p;
            return true;
        }
    return false;
}

void acpi_poweroff(void)
{
    uint8_t type;
    if (acpi_s5(&type))
        outw(acpi_pm1a_cnt(), 1 << 13 | type << 10);
}

/* The FADT's reset register: generic address at 116, value at 128. */
void acpi_reset(void)
{
    const uint8_t *f = fadt();
    if (f[116] == 1)
        outb(u64(f + 120), f[128]);
    else
        write8(u64(f + 120), f[128]);
}
