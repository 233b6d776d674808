/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables (ACPI 6.4, chapter 5), written below 1 MiB where systems without EFI look for them: RSDP,
 * RSDT and XSDT, FADT with FACS, MADT, MCFG (PCI Firmware 3.2, 4.1.2), and the DSDT, which iasl made
 * of dsdt.asl; what varies in it lies in a block beside the tables.
 */
#include "machine/internal.h"

#include "dsdt.hex"

#include <errno.h>
#include <string.h>

enum { RSDP_SIZE = 36, CONF_OFF = 0x40, FACS_OFF = 0x80, TABLES_OFF = 0xc0, HEADER = 36,
       FADT_SIZE = 268, TABLES_MAX = 4 };
enum { ADDRESS_MEMORY = 0, ADDRESS_IO = 1 };

struct builder {
    uint8_t *image;             /* what will lie at ACPI_START */
    size_t size, at;
    uint32_t tables[TABLES_MAX];    /* addresses of those that RSDT and XSDT list */
    unsigned count;
};

static uint8_t checksum(const uint8_t *p, size_t len)
{
    uint8_t sum = 0;
    while (len--)
        sum += *p++;
    return -sum;
}

/* Space for a table, cleared but for its header; NULL when there is none. */
static uint8_t *table_new(struct builder *b, const char *signature, unsigned revision, size_t len)
{
    b->at = align_up(b->at, 16);
    if (!range_inside(b->at, len, b->size))
        return NULL;
    uint8_t *t = b->image + b->at;
    b->at += len;
    memcpy(t, signature, 4);
    le32_store(t + 4, len);
    t[8] = revision;
    memcpy(t + 10, "BLKHD ", 6);
    memcpy(t + 16, "BULKHEAD", 8);
    le32_store(t + 24, 1);
    memcpy(t + 28, "BLKH", 4);
    le32_store(t + 32, 1);
    return t;
}

static uint32_t table_end(struct builder *b, uint8_t *t)
{
    t[9] = 0;
    t[9] = checksum(t, le32_load(t + 4));
    return ACPI_START + (uint32_t)(t - b->image);
}

static void list_table(struct builder *b, uint8_t *t) { b->tables[b->count++] = table_end(b, t); }

/* A generic address structure. */
static void put_address(uint8_t *p, unsigned space, unsigned bits, unsigned access, uint64_t address)
{
    p[0] = space;
    p[1] = bits;
    p[3] = access;              /* 1: byte, 2: word, 3: dword */
    le64_store(p + 4, address);
}

static void put_conf(const struct machine *m, struct builder *b)
{
    uint8_t *conf = b->image + CONF_OFF;
    uint32_t ports = 0;

    for (unsigned i = 0; i < MACHINE_SERIALS; i++)
        ports |= m->serials[i] ? 1u << i : 0;
    le64_store(conf, m->map.mmio64);
    le64_store(conf + 8, m->map.mmio64_size);
    le32_store(conf + 16, ports);
}

static int put_fadt(struct builder *b)
{
    enum { FACS_LEN = 64, WBINVD = 1, PROC_C1 = 4, SLP_BUTTON_NONE = 0x20, RTC_NOT_FIXED = 0x40,
           TMR_32 = 0x100, RESET_REG_SUP = 0x400, LEGACY_DEVICES = 1, NO_VGA = 4,
           CENTURY_BYTE = 0x32, NO_C_STATE = 0xfff };
    if (b->size - b->at < sizeof dsdt_aml_code + FADT_SIZE + 16)
        return -ENOSPC;
    uint8_t *facs = b->image + FACS_OFF;
    memcpy(facs, "FACS", 4);
    le32_store(facs + 4, FACS_LEN);
    facs[32] = 2;

    uint32_t dsdt = ACPI_START + b->at;
    memcpy(b->image + b->at, dsdt_aml_code, sizeof dsdt_aml_code);
    b->at += sizeof dsdt_aml_code;

    uint8_t *t = table_new(b, "FACP", 5, FADT_SIZE);
    if (!t)
        return -ENOSPC;
    le32_store(t + 36, ACPI_START + FACS_OFF);
    le32_store(t + 40, dsdt);
    le16_store(t + 46, IRQ_SCI);
    le32_store(t + 56, PM1_EVT);
    le32_store(t + 64, PM1_CNT);
    le32_store(t + 76, PM_TMR);
    t[88] = 4;                              /* lengths of the three */
    t[89] = 2;
    t[91] = 4;
    le16_store(t + 96, NO_C_STATE);
    le16_store(t + 98, NO_C_STATE);
    t[108] = CENTURY_BYTE;
    le16_store(t + 109, LEGACY_DEVICES | NO_VGA);       /* and no 8042 */
    le32_store(t + 112, WBINVD | PROC_C1 | SLP_BUTTON_NONE | RTC_NOT_FIXED | TMR_32 | RESET_REG_SUP);
    put_address(t + 116, ADDRESS_IO, 8, 1, RESET_PORT);
    t[128] = RESET_VALUE;
    le64_store(t + 140, dsdt);
    put_address(t + 148, ADDRESS_IO, 32, 2, PM1_EVT);
    put_address(t + 172, ADDRESS_IO, 16, 2, PM1_CNT);
    put_address(t + 208, ADDRESS_IO, 32, 3, PM_TMR);
    list_table(b, t);
    return 0;
}

/* ---- MADT ---- */

static uint8_t *put_cpu(uint8_t *p, unsigned uid, uint32_t apic_id)
{
    if (apic_id < 255 && uid < 255) {
        memcpy(p, (uint8_t[8]){ 0, 8, uid, apic_id, 1 }, 8);
        return p + 8;
    }
    memcpy(p, (uint8_t[16]){ 9, 16 }, 16);      /* local x2APIC */
    le32_store(p + 4, apic_id);
    le32_store(p + 8, 1);
    le32_store(p + 12, uid);
    return p + 16;
}

static uint8_t *put_override(uint8_t *p, unsigned irq, unsigned gsi, unsigned flags)
{
    memcpy(p, (uint8_t[10]){ 2, 10, 0, irq, gsi, 0, 0, 0, flags }, 10);
    return p + 10;
}

static int put_madt(const struct machine *m, struct builder *b)
{
    enum { PCAT_COMPAT = 1, LEVEL_HIGH = 0x0d };
    size_t at = b->at;
    uint8_t *t = table_new(b, "APIC", 4, HEADER + 8 + m->cpus * 16 + 64);
    if (!t)
        return -ENOSPC;

    le32_store(t + 36, LAPIC_ADDR);
    le32_store(t + 40, PCAT_COMPAT);
    uint8_t *p = t + HEADER + 8;
    for (unsigned i = 0; i < m->cpus; i++)
        p = put_cpu(p, i, m->apic_ids[i]);
    memcpy(p, (uint8_t[12]){ 1, 12 }, 12);          /* IOAPIC: id 0, GSI 0 on */
    le32_store(p + 4, IOAPIC_ADDR);
    p += 12;
    p = put_override(p, 0, 2, 0);
    p = put_override(p, IRQ_SCI, IRQ_SCI, LEVEL_HIGH);
    memcpy(p, (uint8_t[6]){ 4, 6, 0xff, 0, 0, 1 }, 6);      /* NMI at LINT1 of all */
    p += 6;
    le32_store(t + 4, p - t);
    b->at = align_up(at, 16) + (p - t);
    list_table(b, t);
    return 0;
}

static int put_mcfg(const struct machine *m, struct builder *b)
{
    uint8_t *t = table_new(b, "MCFG", 1, HEADER + 8 + 16);

    if (!t)
        return -ENOSPC;
    le64_store(t + 44, m->map.ecam);
    t[55] = (m->map.ecam_size >> 20) - 1;       /* buses 0 to this one */
    list_table(b, t);
    return 0;
}

/* ---- the roots ---- */

static int put_roots(struct builder *b)
{
    uint8_t *rsdt = table_new(b, "RSDT", 1, HEADER + b->count * 4);
    uint8_t *xsdt = table_new(b, "XSDT", 1, HEADER + b->count * 8);
    uint8_t *rsdp = b->image;

    if (!rsdt || !xsdt)
        return -ENOSPC;
    for (unsigned i = 0; i < b->count; i++) {
        le32_store(rsdt + HEADER + i * 4, b->tables[i]);
        le64_store(xsdt + HEADER + i * 8, b->tables[i]);
    }
    memcpy(rsdp, "RSD PTR ", 8);
    memcpy(rsdp + 9, "BLKHD ", 6);
    rsdp[15] = 2;
    le32_store(rsdp + 16, table_end(b, rsdt));
    le32_store(rsdp + 20, RSDP_SIZE);
    le64_store(rsdp + 24, table_end(b, xsdt));
    rsdp[8] = checksum(rsdp, 20);
    rsdp[32] = checksum(rsdp, RSDP_SIZE);
    return 0;
}

int acpi_tables_build(const struct machine *m, uint8_t *image, size_t size, uint64_t *ret_rsdp)
{
    struct builder b = { .image = image, .size = size, .at = TABLES_OFF };

    memset(image, 0, size);
    put_conf(m, &b);
    int r = put_fadt(&b);
    if (r == 0)
        r = put_madt(m, &b);
    if (r == 0)
        r = put_mcfg(m, &b);
    if (r == 0)
        r = put_roots(&b);
    if (r == 0)
        *ret_rsdp = ACPI_START;
    return r;
}

int acpi_tables_write(struct machine *m, uint64_t *ret_rsdp)
{
    size_t size = ACPI_END - ACPI_START;
    AUTO_FREE uint8_t *image = malloc(size);

    if (!image)
        return -ENOMEM;
    int r = acpi_tables_build(m, image, size, ret_rsdp);
    return r < 0 ? r : dma_write(m->memory_as, ACPI_START, image, size);
}
