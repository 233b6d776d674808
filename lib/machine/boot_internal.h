/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MACHINE_BOOT_INTERNAL_H
#define MACHINE_BOOT_INTERNAL_H

#include "machine/boot.h"

/* What the loaders put below 640 KiB. */
enum {
    BOOT_GDT = 0x500, BOOT_INFO = 0x6000, BOOT_INFO_SIZE = 0x1000, BOOT_PARAMS = 0x7000,
    BOOT_STACK = 0x9000, BOOT_PML4 = 0x9000, BOOT_PDPT = 0xa000, BOOT_PD = 0xb000 /* four pages */,
    BOOT_CMDLINE = 0x20000, BOOT_CMDLINE_MAX = 0x10000,
};
enum { BOOT_CS = 0x10, BOOT_DS = 0x18, BOOT_TR = 0x20, KERNEL_MIN = 0x100000 };

/* The beginning of the file, read once: what is checked is what is used. */
enum { BOOT_HEAD = 8192 };

struct boot_image {
    const struct boot_request *request;
    uint64_t size;                  /* of the file */
    uint8_t head[BOOT_HEAD];
    size_t head_len;
    uint64_t end;                   /* where the kernel ends in memory */
    uint64_t initrd, initrd_size;   /* 0: none */
};

/* [off, off + len) of the kernel file; -EINVAL with words when it ends before. */
int boot_file_read(const struct boot_image *image, uint64_t off, void *buf, size_t len,
                   struct error *err) MUST_CHECK;
/* The same into guest memory at addr, which must lie between KERNEL_MIN and the end of low RAM. mem_len
 * may be longer than len: the rest is cleared. Remembers the highest end. */
int boot_load_segment(struct boot_image *image, uint64_t off, uint64_t len, uint64_t addr,
                      uint64_t mem_len, struct error *err) MUST_CHECK;
/* Small structures. */
int boot_put(const struct boot_image *image, uint64_t addr, const void *data, size_t len,
             struct error *err) MUST_CHECK;
/* prefix (may be "") and command line at BOOT_CMDLINE; max: bytes without the final zero. */
int boot_put_cmdline(const struct boot_image *image, const char *prefix, uint64_t max,
                     struct error *err) MUST_CHECK;
/* The initrd, if there is one, as high as it goes below limit and above the kernel. */
int boot_load_initrd(struct boot_image *image, uint64_t limit, struct error *err) MUST_CHECK;

int boot_start_long(const struct boot_image *image, uint64_t rip, struct machine_start *ret_start,
                    struct error *err) MUST_CHECK;
int boot_start_flat(const struct boot_image *image, uint32_t eip, struct machine_start *ret_start,
                    struct error *err) MUST_CHECK;

bool boot_is_bzimage(const struct boot_image *image);
int boot_bzimage(struct boot_image *image, struct machine_start *ret_start, struct error *err)
    MUST_CHECK;

struct elf_image {
    uint64_t entry;
    bool has_pvh;
    uint64_t pvh_entry;
};
bool boot_is_elf(const struct boot_image *image);
/* Headers and notes, nothing loaded. */
int boot_elf_inspect(const struct boot_image *image, struct elf_image *ret_elf, struct error *err)
    MUST_CHECK;
int boot_elf_load(struct boot_image *image, struct error *err) MUST_CHECK;
int boot_pvh(struct boot_image *image, const struct elf_image *elf, struct machine_start *ret_start,
             struct error *err) MUST_CHECK;

/* Offset of the multiboot header in image->head, or negative. */
int boot_find_multiboot(const struct boot_image *image);
int boot_multiboot(struct boot_image *image, unsigned header_off, struct machine_start *ret_start,
                   struct error *err) MUST_CHECK;

#endif
