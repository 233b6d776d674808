/* SPDX-License-Identifier: Apache-2.0 */
/* The tables: checksums, pointers, contents, and what iasl says when it takes them apart. */
#include "pc.h"

#include <stdio.h>
#include <sys/stat.h>

enum { SPACE = ACPI_END - ACPI_START };

static uint8_t sum(const uint8_t *p, size_t len)
{
    uint8_t s = 0;
    while (len--)
        s += *p++;
    return s;
}

static void build(struct pc *pc, const struct machine_config *c, uint8_t *image)
{
    struct machine_config config = *c;
    uint64_t rsdp;

    config.kernel_fd = config.initrd_fd = -1;
    pc_begin_with(pc, &config, NULL);
    CHECK_EQ(acpi_tables_write(pc->machine, &rsdp), 0);
    CHECK_EQ(rsdp, ACPI_START);
    CHECK_EQ(dma_read(pc->memory, ACPI_START, image, SPACE), 0);
}

static const uint8_t *at(const uint8_t *image, uint64_t addr)
{
    CHECK(addr >= ACPI_START && addr < ACPI_END);
    return image + (addr - ACPI_START);
}

/* By the XSDT, with the checksums on the way. */
static const uint8_t *find(const uint8_t *image, const char *signature)
{
    const uint8_t *xsdt = at(image, le64_load(image + 24));

    CHECK_MEM(image, "RSD PTR ", 8);
    CHECK_EQ(sum(image, 20), 0);
    CHECK_EQ(sum(image, 36), 0);
    CHECK_MEM(xsdt, "XSDT", 4);
    CHECK_EQ(sum(xsdt, le32_load(xsdt + 4)), 0);
    for (unsigned off = 36; off < le32_load(xsdt + 4); off += 8) {
        const uint8_t *t = at(image, le64_load(xsdt + off));
        CHECK_EQ(sum(t, le32_load(t + 4)), 0);
        if (!memcmp(t, signature, 4))
            return t;
    }
    fail_msg("there is no %s", signature);
    return NULL;
}

TEST(roots_agree_and_every_checksum_is_right)
{
    static uint8_t image[SPACE];
    struct pc pc;

    build(&pc, &(struct machine_config){ .cpus = 2 }, image);
    const uint8_t *rsdt = at(image, le32_load(image + 16)), *xsdt = at(image, le64_load(image + 24));
    CHECK_EQ(sum(rsdt, le32_load(rsdt + 4)), 0);
    unsigned n = (le32_load(rsdt + 4) - 36) / 4;
    CHECK_EQ(n, (le32_load(xsdt + 4) - 36) / 8);
    CHECK_EQ(n, 3);
    for (unsigned i = 0; i < n; i++)
        CHECK_EQ(le32_load(rsdt + 36 + i * 4), le64_load(xsdt + 36 + i * 8));
    const uint8_t *fadt = find(image, "FACP");
    const uint8_t *dsdt = at(image, le64_load(fadt + 140));
    CHECK_EQ(le32_load(fadt + 40), le64_load(fadt + 140));
    CHECK_MEM(dsdt, "DSDT", 4);
    CHECK_EQ(sum(dsdt, le32_load(dsdt + 4)), 0);
    const uint8_t *facs = at(image, le32_load(fadt + 36));
    CHECK_MEM(facs, "FACS", 4);
    CHECK_EQ((facs - image) % 64, 0);
    pc_end(&pc);
}

TEST(madt_lists_every_processor_by_its_apic_id)
{
    static const uint32_t ids[] = { 0, 1, 2, 4, 300 };
    static uint8_t image[SPACE];
    struct pc pc;
    unsigned cpus = 0, ioapics = 0, overrides = 0;

    build(&pc, &(struct machine_config){ .cpus = 5, .apic_ids = ids }, image);
    const uint8_t *t = find(image, "APIC"), *end = t + le32_load(t + 4);
    for (const uint8_t *p = t + 44; p < end; p += p[1]) {
        CHECK(p[1] >= 2 && p + p[1] <= end);
        if (p[0] == 0) {
            CHECK_EQ(p[2], cpus);
            CHECK_EQ(p[3], ids[cpus++]);
        } else if (p[0] == 9) {
            CHECK_EQ(le32_load(p + 4), ids[cpus++]);
        }
        ioapics += p[0] == 1;
        overrides += p[0] == 2;
    }
    CHECK_EQ(cpus, 5);
    CHECK_EQ(ioapics, 1);
    CHECK_EQ(overrides, 2);
    pc_end(&pc);
}

TEST(the_largest_machine_fits)
{
    static uint8_t image[SPACE];
    struct pc pc;

    build(&pc, &(struct machine_config){ .cpus = MACHINE_CPUS_MAX }, image);
    find(image, "MCFG");
    pc_end(&pc);
}

/* ---- iasl ---- */

static char dir[] = "/tmp/machine-acpi-XXXXXX";

static void put(const char *name, const uint8_t *data, size_t len)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    CHECK(f);
    CHECK_EQ(fwrite(data, 1, len, f), len);
    fclose(f);
}

/* Output of a command that must succeed. */
static void run(char *text, size_t size, const char *fmt, const char *name)
{
    char command[256];
    size_t n = 0, more;
    snprintf(command, sizeof command, fmt, dir, name);
    FILE *f = popen(command, "r");
    CHECK(f);
    while ((more = fread(text + n, 1, size - 1 - n, f)))
        n += more;
    text[n] = 0;
    if (pclose(f) != 0)
        fail_msg("%s: %s", command, text);
}

TEST(iasl_takes_every_table_apart_and_finds_nothing_wrong)
{
    static const char *const names[] = { "FACP", "APIC", "MCFG", "DSDT" };
    static uint8_t image[SPACE];
    static char text[1 << 18];
    struct pc pc;

    CHECK(mkdtemp(dir));
    build(&pc, &(struct machine_config){ .cpus = 8 }, image);
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        const uint8_t *t = strcmp(names[i], "DSDT") ? find(image, names[i])
                                                    : at(image, le64_load(find(image, "FACP") + 140));
        put(names[i], t, le32_load(t + 4));
        run(text, sizeof text, "cd %s && iasl -d %s 2>&1", names[i]);
        if (strstr(text, "Warning") || strstr(text, "Error") || strstr(text, "Invalid"))
            fail_msg("iasl -d %s: %s", names[i], text);
        run(text, sizeof text, "cd %s && cat %s.dsl", names[i]);
        if (strstr(text, "Invalid") || strstr(text, "Incorrect") || strstr(text, "Unknown"))
            fail_msg("%s: %s", names[i], text);
        /* And together again: the compiler checks what the disassembler lets pass. */
        run(text, sizeof text, "cd %s && iasl %s.dsl 2>&1", names[i]);
        CHECK_HAS(text, "0 Errors, 0 Warnings");
    }
    run(text, sizeof text, "rm -r %s%s", "");
    pc_end(&pc);
}

TEST(what_the_dsdt_reads_of_this_machine_is_there)
{
    static uint8_t image[SPACE];
    struct pc pc;

    build(&pc, &(struct machine_config){ .cpus = 1 }, image);
    CHECK_EQ(le64_load(image + 0x40), 32ull << 30);
    CHECK_EQ(le64_load(image + 0x48), 32ull << 30);
    CHECK_EQ(le32_load(image + 0x50), 1);
    pc_end(&pc);
    build(&pc, &(struct machine_config){ .cpus = 1, .phys_bits = 35 }, image);
    CHECK_EQ(le64_load(image + 0x48), 0);           /* no room for the 64-bit window */
    pc_end(&pc);
}

TEST_MAIN
