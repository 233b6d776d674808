/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linux bzImage by the 64-bit boot protocol (Documentation/arch/x86/boot.rst, 2.12 and newer): the
 * protected-mode part is loaded where the kernel prefers, boot_params is filled from the setup header,
 * and the processor enters 0x200 bytes into it in long mode.
 */
#include "machine/boot_internal.h"

#include <errno.h>
#include <string.h>

/* In the file and in boot_params alike. */
enum { HDR_START = 0x1f1, HDR_SETUP_SECTS = 0x1f1, HDR_SYSSIZE = 0x1f4, HDR_VID_MODE = 0x1fa,
       HDR_BOOT_FLAG = 0x1fe, HDR_JUMP_LEN = 0x201, HDR_MAGIC = 0x202, HDR_VERSION = 0x206,
       HDR_TYPE_OF_LOADER = 0x210, HDR_LOADFLAGS = 0x211, HDR_CODE32_START = 0x214,
       HDR_RAMDISK_IMAGE = 0x218, HDR_RAMDISK_SIZE = 0x21c, HDR_CMD_LINE_PTR = 0x228,
       HDR_INITRD_ADDR_MAX = 0x22c, HDR_KERNEL_ALIGNMENT = 0x230, HDR_RELOCATABLE = 0x234,
       HDR_XLOADFLAGS = 0x236, HDR_CMDLINE_SIZE = 0x238, HDR_PREF_ADDRESS = 0x258,
       HDR_INIT_SIZE = 0x260, HDR_MIN_END = 0x264, HDR_MAX_END = 0x290 };
/* In boot_params alone. */
enum { BP_ACPI_RSDP = 0x070, BP_ALT_MEM_K = 0x1e0, BP_E820_ENTRIES = 0x1e8, BP_E820_TABLE = 0x2d0,
       BP_SIZE = 4096 };
enum { BOOT_FLAG = 0xaa55, LOADER_UNKNOWN = 0xff, LOADED_HIGH = 0x01, CAN_USE_HEAP = 0x80,
       XLF_KERNEL_64 = 0x01, VID_MODE_NORMAL = 0xffff, ENTRY_64 = 0x200, E820_ENTRY_SIZE = 20 };
#define HDR_MAGIC_VALUE 0x53726448u     /* "HdrS" */

bool boot_is_bzimage(const struct boot_image *image)
{
    return image->head_len >= HDR_VERSION + 2 &&
           le16_load(image->head + HDR_BOOT_FLAG) == BOOT_FLAG &&
           le32_load(image->head + HDR_MAGIC) == HDR_MAGIC_VALUE;
}

static int check(const struct boot_image *image, struct error *err)
{
    const uint8_t *h = image->head;
    const char *name = image->request->kernel_name;
    unsigned version = le16_load(h + HDR_VERSION);

    if (version < 0x020c)
        return error_set(err, -EINVAL, "kernel '%s' is too old: boot protocol %u.%02u, 2.12 is needed",
                         name, version >> 8, version & 0xff);
    if (image->head_len < HDR_MAX_END)
        return error_set(err, -EINVAL, "kernel '%s' is cut short", name);
    if (!(h[HDR_LOADFLAGS] & LOADED_HIGH))
        return error_set(err, -EINVAL, "kernel '%s' is a zImage, a bzImage is needed", name);
    if (!(le16_load(h + HDR_XLOADFLAGS) & XLF_KERNEL_64))
        return error_set(err, -EINVAL, "kernel '%s' is not a 64-bit kernel", name);
    return 0;
}

/* Where it goes: where it prefers to be, or, if it may be moved, where there is room. */
static int choose_address(const struct boot_image *image, uint64_t mem_len, uint64_t *ret_addr,
                          struct error *err)
{
    const uint8_t *h = image->head;
    uint64_t addr = le64_load(h + HDR_PREF_ADDRESS);
    uint64_t alignment = le32_load(h + HDR_KERNEL_ALIGNMENT);
    uint64_t ram = image->request->ram_below;

    if (addr < KERNEL_MIN || !range_inside(addr, mem_len, ram)) {
        if (!h[HDR_RELOCATABLE] || !is_power_of_two(alignment))
            return error_set(err, -EINVAL, "kernel '%s' does not fit in memory",
                             image->request->kernel_name);
        addr = align_up(KERNEL_MIN, alignment);
    }
    if (!range_inside(addr, mem_len, ram))
        return error_set(err, -EINVAL, "kernel '%s' does not fit in memory: it needs %llu MiB",
                         image->request->kernel_name, (unsigned long long)((addr + mem_len) >> 20) + 1);
    *ret_addr = addr;
    return 0;
}

static int put_params(const struct boot_image *image, uint64_t addr, struct error *err)
{
    const struct boot_request *q = image->request;
    uint8_t bp[BP_SIZE] = { 0 };
    unsigned end = HDR_MAGIC + image->head[HDR_JUMP_LEN];

    end = MIN(MAX(end, (unsigned)HDR_MIN_END), (unsigned)HDR_MAX_END);
    memcpy(bp + HDR_START, image->head + HDR_START, end - HDR_START);
    bp[HDR_TYPE_OF_LOADER] = LOADER_UNKNOWN;
    bp[HDR_LOADFLAGS] &= ~CAN_USE_HEAP;
    le16_store(bp + HDR_VID_MODE, VID_MODE_NORMAL);
    le32_store(bp + HDR_CODE32_START, addr);
    le32_store(bp + HDR_RAMDISK_IMAGE, image->initrd);
    le32_store(bp + HDR_RAMDISK_SIZE, image->initrd_size);
    le32_store(bp + HDR_CMD_LINE_PTR, BOOT_CMDLINE);
    le64_store(bp + BP_ACPI_RSDP, q->rsdp);
    le32_store(bp + BP_ALT_MEM_K, (q->ram_below - KERNEL_MIN) / 1024);
    for (unsigned i = 0; i < q->e820_count; i++) {
        uint8_t *e = bp + BP_E820_TABLE + i * E820_ENTRY_SIZE;
        le64_store(e, q->e820[i].addr);
        le64_store(e + 8, q->e820[i].size);
        le32_store(e + 16, q->e820[i].type);
    }
    bp[BP_E820_ENTRIES] = q->e820_count;
    return boot_put(image, BOOT_PARAMS, bp, sizeof bp, err);
}

int boot_bzimage(struct boot_image *image, struct machine_start *ret_start, struct error *err)
{
    const uint8_t *h = image->head;
    int r = check(image, err);
    if (r < 0)
        return r;

    unsigned sectors = h[HDR_SETUP_SECTS] ? h[HDR_SETUP_SECTS] : 4;
    uint64_t off = (sectors + 1) * 512ull;
    if (off + ENTRY_64 >= image->size)
        return error_set(err, -EINVAL, "kernel '%s' is cut short", image->request->kernel_name);
    uint64_t len = image->size - off;
    if (len < le32_load(h + HDR_SYSSIZE) * 16ull)
        return error_set(err, -EINVAL, "kernel '%s' is cut short", image->request->kernel_name);

    uint64_t addr, mem_len = MAX(len, (uint64_t)le32_load(h + HDR_INIT_SIZE));
    r = choose_address(image, mem_len, &addr, err);
    if (r == 0)
        r = boot_load_segment(image, off, len, addr, len, err);
    if (r < 0)
        return r;
    image->end = addr + mem_len;
    r = boot_load_initrd(image, le32_load(h + HDR_INITRD_ADDR_MAX) + 1ull, err);
    if (r == 0)
        r = boot_put_cmdline(image, "", le32_load(h + HDR_CMDLINE_SIZE), err);
    if (r == 0)
        r = put_params(image, addr, err);
    if (r == 0)
        r = boot_start_long(image, addr + ENTRY_64, ret_start, err);
    if (r == 0)
        ret_start->rsi = BOOT_PARAMS;
    return r;
}
