/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Multiboot, version 0.6.96 of its specification: a header in the first 8 KiB, loading by the ELF
 * headers or by the addresses in the header ("a.out kludge"), entry in 32-bit protected mode with
 * EAX the magic number and EBX the information structure. Passed on: memory sizes and map, command
 * line (kernel's name first, as GRUB and QEMU have it), the initrd as module, the loader's name.
 *
 * Not done: video modes (a header that asks is served without), drives, symbols, the APM table.
 */
#include "machine/boot_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MB_HEADER_MAGIC 0x1badb002u
#define MB_LOADED_MAGIC 0x2badb002u
enum { MB_PAGE_ALIGN = 0x1, MB_MEMORY_INFO = 0x2, MB_VIDEO_MODE = 0x4, MB_REQUIRED = 0xffff,
       MB_ADDRESSES = 0x10000 };
enum { INFO_MEMORY = 0x1, INFO_CMDLINE = 0x4, INFO_MODS = 0x8, INFO_MMAP = 0x40,
       INFO_LOADER_NAME = 0x200 };

struct mb_header { le32 magic, flags, checksum, header_addr, load_addr, load_end, bss_end, entry; };
struct mb_info {
    le32 flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4],
        mmap_length, mmap_addr, drives_length, drives_addr, config_table, loader_name, apm_table;
};
struct mb_module { le32 start, end, string, reserved; };
struct mb_mmap { le32 size; le64 addr, len; le32 type; };

/* At BOOT_INFO, in this order. */
struct mb_block {
    struct mb_info info;
    struct mb_module module;
    struct mb_mmap mmap[MACHINE_E820_MAX];
    char loader[16];
};
_Static_assert(sizeof(struct mb_block) <= BOOT_INFO_SIZE, "the multiboot structures fit");
_Static_assert(sizeof(struct mb_mmap) == 24, "packed");

int boot_find_multiboot(const struct boot_image *image)
{
    for (size_t off = 0; off + 12 <= image->head_len; off += 4) {
        const uint8_t *p = image->head + off;
        if (le32_load(p) == MB_HEADER_MAGIC &&
            le32_load(p) + le32_load(p + 4) + le32_load(p + 8) == 0)
            return off;
    }
    return -ENOENT;
}

/* By the addresses in the header. Where the file starts to be loaded follows from where the header
 * lies in the file and in memory. */
static int load_by_addresses(struct boot_image *image, unsigned off, uint32_t *ret_entry,
                             struct error *err)
{
    const char *name = image->request->kernel_name;
    struct mb_header h;

    if (!range_inside(off, sizeof h, image->head_len))
        return error_set(err, -EINVAL, "kernel '%s' is cut short", name);
    memcpy(&h, image->head + off, sizeof h);
    uint64_t header = le32_get(h.header_addr), start = le32_get(h.load_addr);
    uint64_t end = le32_get(h.load_end), bss = le32_get(h.bss_end);

    if (start > header || header - start > off)
        return error_set(err, -EINVAL, "kernel '%s' has a multiboot header at an address that cannot be",
                         name);
    uint64_t from = off - (header - start);
    if (end == 0)
        end = start + (image->size - from);
    if (bss == 0)
        bss = end;
    if (end < start || bss < end)
        return error_set(err, -EINVAL, "kernel '%s' has multiboot addresses out of order", name);
    *ret_entry = le32_get(h.entry);
    return boot_load_segment(image, from, end - start, start, bss - start, err);
}

static int load_kernel(struct boot_image *image, unsigned off, uint32_t flags, uint32_t *ret_entry,
                       struct error *err)
{
    struct elf_image elf;
    const char *name = image->request->kernel_name;

    if (flags & MB_ADDRESSES)
        return load_by_addresses(image, off, ret_entry, err);
    if (!boot_is_elf(image))
        return error_set(err, -EINVAL, "kernel '%s' has a multiboot header without addresses and is no "
                         "ELF file", name);
    int r = boot_elf_inspect(image, &elf, err);
    if (r == 0)
        r = boot_elf_load(image, err);
    if (r == 0 && elf.entry > UINT32_MAX)
        r = error_set(err, -EINVAL, "kernel '%s' has its entry above 4 GiB", name);
    *ret_entry = elf.entry;
    return r;
}

static int put_info(const struct boot_image *image, struct error *err)
{
    const struct boot_request *q = image->request;
    struct mb_block b = {
        .info = {
            .flags = le32_of(INFO_MEMORY | INFO_CMDLINE | INFO_MMAP | INFO_LOADER_NAME | INFO_MODS),
            .mem_lower = le32_of(640), .mem_upper = le32_of((q->ram_below - KERNEL_MIN) / 1024),
            .cmdline = le32_of(BOOT_CMDLINE), .mods_count = le32_of(image->initrd_size != 0),
            .mods_addr = le32_of(BOOT_INFO + offsetof(struct mb_block, module)),
            .mmap_length = le32_of(q->e820_count * sizeof(struct mb_mmap)),
            .mmap_addr = le32_of(BOOT_INFO + offsetof(struct mb_block, mmap)),
            .loader_name = le32_of(BOOT_INFO + offsetof(struct mb_block, loader)) },
        .module = { .start = le32_of(image->initrd), .end = le32_of(image->initrd + image->initrd_size),
                    .string = le32_of(BOOT_INFO + offsetof(struct mb_block, loader)) },
        .loader = "bulkhead",
    };
    for (unsigned i = 0; i < q->e820_count; i++)
        b.mmap[i] = (struct mb_mmap){ le32_of(sizeof(struct mb_mmap) - 4), le64_of(q->e820[i].addr),
                                      le64_of(q->e820[i].size), le32_of(q->e820[i].type) };
    return boot_put(image, BOOT_INFO, &b, sizeof b, err);
}

int boot_multiboot(struct boot_image *image, unsigned off, struct machine_start *ret_start,
                   struct error *err)
{
    uint32_t flags = le32_load(image->head + off + 4), entry = 0;
    const char *name = image->request->kernel_name, *slash = strrchr(name, '/');
    char prefix[256];

    if (flags & MB_REQUIRED & ~(MB_PAGE_ALIGN | MB_MEMORY_INFO | MB_VIDEO_MODE))
        return error_set(err, -EINVAL, "kernel '%s' wants multiboot features that are not there", name);
    int r = load_kernel(image, off, flags, &entry, err);
    if (r == 0 && (entry < KERNEL_MIN || entry >= image->end))
        r = error_set(err, -EINVAL, "kernel '%s' has its entry outside of what it loads", name);
    if (r == 0)
        r = boot_load_initrd(image, UINT32_MAX, err);
    snprintf(prefix, sizeof prefix, "%.250s ", slash ? slash + 1 : name);
    if (r == 0)
        r = boot_put_cmdline(image, prefix, UINT64_MAX, err);
    if (r == 0)
        r = put_info(image, err);
    if (r == 0)
        r = boot_start_flat(image, entry, ret_start, err);
    if (r == 0) {
        ret_start->rax = MB_LOADED_MAGIC;
        ret_start->rbx = BOOT_INFO;
    }
    return r;
}
