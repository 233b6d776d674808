/* SPDX-License-Identifier: Apache-2.0 */
/* The loaders: what right images become, and what wrong ones are called. */
#include "images.h"
#include "pc.h"

static uint8_t image[IMAGE_MAX];

struct boot {
    struct pc pc;
    struct error err;
    const struct machine_start *start;
    uint8_t *ram;
};

/* Boots the image; returns what machine_reset returned. */
static int boot(struct boot *b, size_t len, const void *initrd, size_t initrd_len, const char *cmdline,
                uint64_t ram_bytes)
{
    struct machine_config config = {
        .kernel_fd = file_of(image, len), .kernel_name = "/boot/vmlinuz",
        .initrd_fd = initrd_len ? file_of(initrd, initrd_len) : -1, .initrd_name = "initrd.img",
        .cmdline = cmdline, .ram_bytes = ram_bytes,
    };
    pc_begin_with(&b->pc, &config, NULL);
    close(config.kernel_fd);                /* it has its own */
    if (config.initrd_fd >= 0)
        close(config.initrd_fd);
    b->ram = mem_ram_host(machine_ram(b->pc.machine));
    memset(b->ram + 0x100000, 0xee, 0x500000);
    b->start = machine_start_state(b->pc.machine);
    b->err = (struct error){ 0 };
    return machine_reset(b->pc.machine, &b->err);
}

static void booted(struct boot *b, size_t len, const void *initrd, size_t initrd_len,
                   const char *cmdline)
{
    if (boot(b, len, initrd, initrd_len, cmdline, 0) < 0)
        fail_msg("%s", b->err.text);
}

/* The image, spoiled before, is refused with these words. */
static void refused(size_t len, const char *words)
{
    struct boot b;
    CHECK(boot(&b, len, NULL, 0, "", 0) < 0);
    if (!strstr(b.err.text, words))
        fail_msg("'%s' lacks '%s'", b.err.text, words);
    pc_end(&b.pc);
}

TEST(bzimage_is_entered_in_long_mode_with_boot_params)
{
    struct boot b;
    size_t len = make_bzimage(image);

    booted(&b, len, "initrd!", 7, "console=ttyS0");
    CHECK(b.start->long_mode);
    CHECK_EQ(b.start->rip, 0x1000200);
    CHECK_EQ(b.start->rsi, 0x7000);
    CHECK_MEM(b.ram + 0x1000000, image + BZ_PAYLOAD, BZ_BYTES);
    const uint8_t *bp = b.ram + 0x7000;
    CHECK_MEM(bp + 0x202, "HdrS", 4);
    CHECK_EQ(bp[0x210], 0xff);
    CHECK_STR((char *)b.ram + le32_load(bp + 0x228), "console=ttyS0");
    CHECK_EQ(le32_load(bp + 0x21c), 7);
    CHECK_MEM(b.ram + le32_load(bp + 0x218), "initrd!", 7);
    CHECK_EQ(le32_load(bp + 0x218), PC_RAM - 4096);
    CHECK_EQ(le64_load(bp + 0x70), ACPI_START);
    CHECK_MEM(b.ram + ACPI_START, "RSD PTR ", 8);
    CHECK(bp[0x1e8] >= 3);
    CHECK_EQ(le64_load(bp + 0x2d0 + 2 * 20), 0x100000);
    CHECK_EQ(le64_load(bp + 0x2d0 + 2 * 20 + 8), PC_RAM - 0x100000);

    /* The page tables map what is there to itself. */
    uint64_t pml4e = le64_load(b.ram + b.start->cr3), pdpte = le64_load(b.ram + (pml4e & ~0xfffull) + 24);
    uint64_t pde = le64_load(b.ram + (pdpte & ~0xfffull) + 511 * 8);
    CHECK_EQ(pde, 0xffe00083);
    /* And the GDT says the same as the registers. */
    CHECK_EQ(le64_load(b.ram + b.start->gdt_base + 0x10), 0x00af9b000000ffff);
    CHECK_EQ(le64_load(b.ram + b.start->gdt_base + 0x18), 0x00cf93000000ffff);
    pc_end(&b.pc);
}

TEST(a_reset_loads_everything_again)
{
    struct boot b;
    struct error err;
    size_t len = make_bzimage(image);

    booted(&b, len, "initrd!", 7, "quiet");
    memset(b.ram, 0xcc, PC_RAM);
    CHECK_EQ(machine_reset(b.pc.machine, &err), 0);
    CHECK_MEM(b.ram + 0x1000000, image + BZ_PAYLOAD, BZ_BYTES);
    CHECK_MEM(b.ram + PC_RAM - 4096, "initrd!", 7);
    CHECK_MEM(b.ram + ACPI_START, "RSD PTR ", 8);
    CHECK_STR((char *)b.ram + BOOT_CMDLINE, "quiet");
    pc_end(&b.pc);
}

TEST(bzimage_moves_when_its_place_is_not_there)
{
    struct boot b;
    size_t len = make_bzimage(image);

    CHECK_EQ(boot(&b, len, NULL, 0, NULL, 8 << 20), 0);
    CHECK_EQ(b.start->rip, 0x200200);
    pc_end(&b.pc);
    image[0x234] = 0;
    CHECK(boot(&b, len, NULL, 0, NULL, 8 << 20) < 0);
    CHECK_HAS(b.err.text, "does not fit in memory");
    pc_end(&b.pc);
}

TEST(bad_bzimages_are_refused_in_words)
{
    size_t len = make_bzimage(image);
    le16_store(image + 0x206, 0x0209);
    refused(len, "too old: boot protocol 2.09");
    make_bzimage(image);
    image[0x211] = 0;
    refused(len, "zImage");
    make_bzimage(image);
    image[0x236] = 0;
    refused(len, "not a 64-bit kernel");
    make_bzimage(image);
    refused(len - 32, "cut short");
    refused(0x220, "cut short");
    image[0x1f1] = 255;
    refused(len, "cut short");
    make_bzimage(image);
    le32_store(image + 0x260, 0xffffffff);
    refused(len, "does not fit in memory");
    make_bzimage(image);
    le64_store(image + 0x258, UINT64_MAX - 0x1000);
    le32_store(image + 0x230, 0);
    refused(len, "does not fit in memory");
}

TEST(a_command_line_or_initrd_that_is_too_long_is_told)
{
    struct boot b;
    static char text[3000];
    static uint8_t big[48 << 20];
    size_t len = make_bzimage(image);

    memset(text, 'x', sizeof text - 1);
    CHECK(boot(&b, len, NULL, 0, text, 0) < 0);
    CHECK_HAS(b.err.text, "longer than the 2047 bytes");
    pc_end(&b.pc);
    CHECK(boot(&b, len, big, sizeof big, "", 0) < 0);
    CHECK_HAS(b.err.text, "initrd 'initrd.img' does not fit in memory");
    pc_end(&b.pc);
    le32_store(image + 0x22c, 0x10fffff);       /* below this, and there is the kernel */
    CHECK(boot(&b, len, big, 4096, "", 0) < 0);
    CHECK_HAS(b.err.text, "initrd 'initrd.img' does not fit in memory");
    pc_end(&b.pc);
}

TEST(pvh_kernels_get_start_info_in_ebx)
{
    struct boot b;
    size_t len = make_elf64(image, true);

    booted(&b, len, "ramdisk", 7, "root=/dev/sda");
    CHECK(!b.start->long_mode);
    CHECK_EQ(b.start->rip, 0x200020);
    CHECK_EQ(b.start->cr0 & 0x80000001, 1);
    CHECK_MEM(b.ram + 0x200000, image + ELF_CODE, ELF_CODE_BYTES);
    for (unsigned i = 0; i < ELF_CODE_BYTES; i++)
        CHECK_EQ(b.ram[0x200000 + ELF_CODE_BYTES + i], 0);
    CHECK_EQ(b.ram[0x200000 + 2 * ELF_CODE_BYTES], 0xee);
    const uint8_t *info = b.ram + b.start->rbx;
    CHECK_EQ(le32_load(info), 0x336ec578);
    CHECK_EQ(le32_load(info + 4), 1);
    CHECK_EQ(le32_load(info + 12), 1);
    const uint8_t *module = b.ram + le64_load(info + 16);
    CHECK_MEM(b.ram + le64_load(module), "ramdisk", 7);
    CHECK_EQ(le64_load(module + 8), 7);
    CHECK_STR((char *)b.ram + le64_load(info + 24), "root=/dev/sda");
    CHECK_EQ(le64_load(info + 32), ACPI_START);
    const uint8_t *map = b.ram + le64_load(info + 40);
    CHECK(le32_load(info + 48) >= 3);
    CHECK_EQ(le64_load(map + 2 * 24), 0x100000);
    CHECK_EQ(le32_load(map + 2 * 24 + 16), E820_RAM);
    pc_end(&b.pc);
}

TEST(multiboot_kernels_get_their_structures)
{
    struct boot b;
    size_t len = make_multiboot_elf32(image);

    booted(&b, len, "module", 6, "a b");
    CHECK(!b.start->long_mode);
    CHECK_EQ(b.start->rax, 0x2badb002);
    CHECK_EQ(b.start->rip, 0x200010);
    CHECK_MEM(b.ram + 0x200000, image + ELF_CODE, ELF_CODE_BYTES);
    const uint8_t *info = b.ram + b.start->rbx;
    uint32_t flags = le32_load(info);
    CHECK_EQ(flags & 0x4d, 0x4d);
    CHECK_EQ(le32_load(info + 8), (PC_RAM >> 10) - 1024);
    CHECK_STR((char *)b.ram + le32_load(info + 16), "vmlinuz a b");
    CHECK_EQ(le32_load(info + 20), 1);
    const uint8_t *mod = b.ram + le32_load(info + 24);
    CHECK_MEM(b.ram + le32_load(mod), "module", 6);
    CHECK_EQ(le32_load(mod + 4) - le32_load(mod), 6);
    CHECK_EQ(le32_load(info + 44) % 24, 0);
    CHECK_EQ(le32_load(b.ram + le32_load(info + 48)), 20);
    pc_end(&b.pc);

    len = make_multiboot_flat(image);
    booted(&b, len, NULL, 0, "");
    CHECK_EQ(b.start->rip, 0x300040);
    CHECK_MEM(b.ram + 0x300000, image + 32, 0x200);
    CHECK_EQ(b.ram[0x300200], 0);
    CHECK_EQ(b.ram[0x3007ff], 0);
    CHECK_EQ(b.ram[0x300800], 0xee);
    pc_end(&b.pc);

    /* A 64-bit ELF file may be multiboot too; it starts in 32 bits all the same. */
    len = make_elf64(image, false);
    put_multiboot(image + ELF_CODE, 0);
    booted(&b, len, NULL, 0, "");
    CHECK_EQ(b.start->rip, 0x200010);
    CHECK_EQ(b.start->rax, 0x2badb002);
    pc_end(&b.pc);
}

TEST(bad_elf_files_are_refused_in_words)
{
    Elf64_Ehdr *e = (Elf64_Ehdr *)image;
    Elf64_Phdr *load = (Elf64_Phdr *)(image + sizeof *e);
    size_t len = make_elf64(image, false);

    refused(len, "not a bzImage, an ELF file with a PVH note, or a multiboot image");
    make_elf64(image, true);
    e->e_phoff = UINT64_MAX - 8;
    refused(len, "ends before its program headers");
    make_elf64(image, true);
    e->e_phnum = 0xffff;
    refused(len, "program headers that make no sense");
    make_elf64(image, true);
    e->e_machine = EM_AARCH64;
    refused(len, "no x86 executable");
    make_elf64(image, true);
    load->p_offset = UINT64_MAX - 16;
    refused(len, "cut short");
    make_elf64(image, true);
    load->p_paddr = 0x1000;
    refused(len, "below 1 MiB");
    make_elf64(image, true);
    load->p_paddr = UINT64_MAX - 0x100;
    refused(len, "does not fit in memory");
    make_elf64(image, true);
    load->p_memsz = UINT64_MAX;
    refused(len, "does not fit in memory");
    make_elf64(image, true);
    load->p_memsz = 16;
    refused(len, "longer than its memory");
    make_elf64(image, true);
    le32_store(image + ELF_NOTE + 36, 0x7c00);
    refused(len, "entry outside");
    make_elf64(image, true);
    le32_store(image + ELF_NOTE + 4, 0xfffffffd);       /* the first note reaches past the end */
    refused(len, "not a bzImage");
    refused(20, "ends inside its header");
}

TEST(bad_multiboot_headers_are_refused_in_words)
{
    size_t len = make_multiboot_flat(image);
    put_multiboot(image + 64, 0x10009);
    refused(len, "features that are not there");
    make_multiboot_flat(image);
    le32_store(image + 64 + 16, 0x300021);
    refused(len, "address that cannot be");
    make_multiboot_flat(image);
    le32_store(image + 64 + 16, 0x100000);
    refused(len, "address that cannot be");
    make_multiboot_flat(image);
    le32_store(image + 64 + 20, 0x2fffff);
    refused(len, "out of order");
    make_multiboot_flat(image);
    le32_store(image + 64 + 28, 0xffff0);
    refused(len, "entry outside");
    make_multiboot_flat(image);
    le32_store(image + 64 + 20, 0x300800);
    refused(len, "cut short");
    make_multiboot_flat(image);
    put_multiboot(image + 64, 3);
    refused(len, "without addresses");
    memset(image, 0, sizeof image);
    refused(len, "'/boot/vmlinuz' is not a bzImage");
    refused(0, "is not a bzImage");
}

TEST(without_a_kernel_there_is_nothing_to_boot)
{
    struct pc pc;
    struct error err;

    pc_begin(&pc);
    CHECK(machine_reset(pc.machine, &err) < 0);
    CHECK_HAS(err.text, "-kernel is missing");
    pc_end(&pc);
}

TEST_MAIN
