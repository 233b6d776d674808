/* SPDX-License-Identifier: Apache-2.0 */
/* What the three boot protocols share: files, segments, initrd, and the states processors start in. */
#include "machine/boot_internal.h"

#include "base/fd.h"

#include <errno.h>
#include <string.h>

/* ---- files ---- */

static int read_at(int fd, uint64_t off, void *buf, size_t len, const char *name, struct error *err)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(off + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(err, -errno, "cannot read '%s'", name);
        if (n == 0)
            return error_set(err, -EINVAL, "'%s' ends too early", name);
        done += n;
    }
    return 0;
}

int boot_file_read(const struct boot_image *image, uint64_t off, void *buf, size_t len,
                   struct error *err)
{
    const struct boot_request *q = image->request;

    if (!range_inside(off, len, image->size))
        return error_set(err, -EINVAL, "kernel '%s' is cut short", q->kernel_name);
    return read_at(q->kernel_fd, off, buf, len, q->kernel_name, err);
}

/* From the file straight into RAM. */
static int file_to_guest(const struct boot_request *q, int fd, const char *name, uint64_t off,
                         uint64_t len, uint64_t addr, struct error *err)
{
    int r = 0;

    while (len && r == 0) {
        struct dma_mapping map;
        size_t n = MIN(len, (uint64_t)1 << 30);
        void *host = dma_map(q->memory, addr, &n, true, &map);
        if (!host)
            return error_set(err, -EINVAL, "'%s' does not fit in memory", name);
        r = read_at(fd, off, host, n, name, err);
        dma_unmap(&map);
        off += n;
        addr += n;
        len -= n;
    }
    return r;
}

int boot_load_segment(struct boot_image *image, uint64_t off, uint64_t len, uint64_t addr,
                      uint64_t mem_len, struct error *err)
{
    const struct boot_request *q = image->request;

    if (len > mem_len)
        return error_set(err, -EINVAL, "kernel '%s' has a segment longer than its memory",
                         q->kernel_name);
    if (!range_inside(off, len, image->size))
        return error_set(err, -EINVAL, "kernel '%s' is cut short", q->kernel_name);
    if (mem_len == 0)
        return 0;
    if (addr < KERNEL_MIN)
        return error_set(err, -EINVAL, "kernel '%s' wants to be loaded below 1 MiB", q->kernel_name);
    if (!range_inside(addr, mem_len, q->ram_below))
        return error_set(err, -EINVAL, "kernel '%s' does not fit in memory", q->kernel_name);
    int r = file_to_guest(q, q->kernel_fd, q->kernel_name, off, len, addr, err);
    if (r == 0 && dma_fill(q->memory, addr + len, 0, mem_len - len) < 0)
        r = error_set(err, -EINVAL, "kernel '%s' does not fit in memory", q->kernel_name);
    image->end = MAX(image->end, addr + mem_len);
    return r;
}

int boot_put(const struct boot_image *image, uint64_t addr, const void *data, size_t len,
             struct error *err)
{
    return dma_write(image->request->memory, addr, data, len) < 0
               ? error_set(err, -EINVAL, "the boot structures do not fit in memory") : 0;
}

int boot_put_cmdline(const struct boot_image *image, const char *prefix, uint64_t max,
                     struct error *err)
{
    const char *text = image->request->cmdline ? image->request->cmdline : "";
    size_t before = strlen(prefix), len = strlen(text);

    max = MIN(max, (uint64_t)BOOT_CMDLINE_MAX - 1);
    if (before + len > max)
        return error_set(err, -EINVAL, "the kernel command line (-append) is longer than the %llu "
                         "bytes that this kernel takes", (unsigned long long)max);
    int r = boot_put(image, BOOT_CMDLINE, prefix, before, err);
    return r < 0 ? r : boot_put(image, BOOT_CMDLINE + before, text, len + 1, err);
}

int boot_load_initrd(struct boot_image *image, uint64_t limit, struct error *err)
{
    const struct boot_request *q = image->request;
    uint64_t size;

    if (q->initrd_fd < 0)
        return 0;
    int r = fd_size(q->initrd_fd, &size);
    if (r < 0)
        return error_set(err, r, "initrd '%s' has no size", q->initrd_name);
    limit = align_down(MIN(limit, q->ram_below), 4096);
    uint64_t start = align_up(image->end, 4096);
    if (size == 0)
        return error_set(err, -EINVAL, "initrd '%s' is empty", q->initrd_name);
    if (start > limit || size > limit - start)
        return error_set(err, -EINVAL, "initrd '%s' does not fit in memory", q->initrd_name);
    image->initrd = align_down(limit - size, 4096);
    image->initrd_size = size;
    return file_to_guest(q, q->initrd_fd, q->initrd_name, 0, size, image->initrd, err);
}

/* ---- start states ---- */

enum { SEG_CODE = 0xb, SEG_DATA = 0x3, SEG_TSS32_BUSY = 0xb };
enum { CR0_PE = 1, CR0_ET = 0x10 };
#define CR0_PG 0x80000000ull
enum { CR4_PAE = 0x20, EFER_LME = 0x100, EFER_LMA = 0x400 };
enum { PTE_PRESENT = 1, PTE_WRITE = 2, PTE_LARGE = 0x80 };

static uint64_t descriptor(const struct machine_segment *s)
{
    uint64_t limit = s->g ? s->limit >> 12 : s->limit;

    return (limit & 0xffff) | (s->base & 0xffffff) << 16 | (uint64_t)s->type << 40 |
           (uint64_t)s->s << 44 | (uint64_t)s->dpl << 45 | (uint64_t)s->present << 47 |
           (limit >> 16 & 0xf) << 48 | (uint64_t)s->l << 53 | (uint64_t)s->db << 54 |
           (uint64_t)s->g << 55 | (s->base >> 24 & 0xff) << 56;
}

/* Flat segments, a task register, and a GDT in memory that says the same. */
static int start_segments(const struct boot_image *image, bool long_mode, struct machine_start *s,
                          struct error *err)
{
    s->cs = (struct machine_segment){ .selector = BOOT_CS, .limit = UINT32_MAX, .type = SEG_CODE,
                                      .present = 1, .s = 1, .g = 1, .l = long_mode, .db = !long_mode };
    s->ds = (struct machine_segment){ .selector = BOOT_DS, .limit = UINT32_MAX, .type = SEG_DATA,
                                      .present = 1, .s = 1, .g = 1, .db = 1 };
    s->tr = (struct machine_segment){ .selector = BOOT_TR, .limit = 0x67, .type = SEG_TSS32_BUSY,
                                      .present = 1 };
    le64 gdt[6] = { [BOOT_CS / 8] = le64_of(descriptor(&s->cs)),
                    [BOOT_DS / 8] = le64_of(descriptor(&s->ds)),
                    [BOOT_TR / 8] = le64_of(descriptor(&s->tr)) };    /* 16 bytes in long mode */
    s->gdt_base = BOOT_GDT;
    s->gdt_limit = sizeof gdt - 1;
    s->rflags = 2;
    return boot_put(image, BOOT_GDT, gdt, sizeof gdt, err);
}

/* The first 4 GiB mapped to themselves in pages of 2 MiB. */
static int identity_map(const struct boot_image *image, struct error *err)
{
    le64 table[512] = { le64_of(BOOT_PDPT | PTE_PRESENT | PTE_WRITE) };
    int r = boot_put(image, BOOT_PML4, table, sizeof table, err);

    for (unsigned i = 0; i < 4; i++)
        table[i] = le64_of((BOOT_PD + i * 4096u) | PTE_PRESENT | PTE_WRITE);
    if (r == 0)
        r = boot_put(image, BOOT_PDPT, table, sizeof table, err);
    for (unsigned i = 0; i < 4 && r == 0; i++) {
        for (unsigned j = 0; j < 512; j++)
            table[j] = le64_of((i * 512ull + j) << 21 | PTE_PRESENT | PTE_WRITE | PTE_LARGE);
        r = boot_put(image, BOOT_PD + i * 4096, table, sizeof table, err);
    }
    return r;
}

int boot_start_long(const struct boot_image *image, uint64_t rip, struct machine_start *s,
                    struct error *err)
{
    *s = (struct machine_start){ .long_mode = true, .rip = rip, .rsp = BOOT_STACK };
    s->cr0 = CR0_PE | CR0_ET | CR0_PG;
    s->cr3 = BOOT_PML4;
    s->cr4 = CR4_PAE;
    s->efer = EFER_LME | EFER_LMA;
    int r = identity_map(image, err);
    return r < 0 ? r : start_segments(image, true, s, err);
}

int boot_start_flat(const struct boot_image *image, uint32_t eip, struct machine_start *s,
                    struct error *err)
{
    *s = (struct machine_start){ .rip = eip, .rsp = BOOT_STACK };
    s->cr0 = CR0_PE | CR0_ET;
    return start_segments(image, false, s, err);
}

/* ---- which protocol ---- */

static int load(struct boot_image *image, struct machine_start *ret_start, struct error *err)
{
    struct elf_image elf = { 0 };
    int r;

    if (boot_is_bzimage(image))
        return boot_bzimage(image, ret_start, err);
    int header = boot_find_multiboot(image);
    if (boot_is_elf(image)) {
        r = boot_elf_inspect(image, &elf, err);
        if (r < 0)
            return r;
    }
    if (elf.has_pvh)
        return boot_pvh(image, &elf, ret_start, err);
    if (header >= 0)
        return boot_multiboot(image, header, ret_start, err);
    return error_set(err, -EINVAL, "kernel '%s' is not a bzImage, an ELF file with a PVH note, or a "
                     "multiboot image", image->request->kernel_name);
}

int boot_load(const struct boot_request *q, struct machine_start *ret_start, struct error *err)
{
    struct boot_image image = { .request = q };

    if (q->kernel_fd < 0)
        return error_set(err, -EINVAL, "there is nothing to boot: -kernel is missing");
    int r = fd_size(q->kernel_fd, &image.size);
    if (r < 0)
        return error_set(err, r, "kernel '%s' has no size", q->kernel_name);
    image.head_len = MIN(image.size, (uint64_t)BOOT_HEAD);
    r = boot_file_read(&image, 0, image.head, image.head_len, err);
    return r < 0 ? r : load(&image, ret_start, err);
}
