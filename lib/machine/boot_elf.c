/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ELF files (System V ABI, 32 and 64 bits, little-endian, x86) and the PVH start of them (Xen's
 * hvm_start_info.h, version 1): a note names a 32-bit entry, and EBX points to what a kernel wants to
 * know. Segments go to their physical addresses; sections and symbols are not looked at.
 */
#include "machine/boot_internal.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

enum { PHDRS_MAX = 64, NOTES_MAX = 64 * 1024, XEN_ELFNOTE_PHYS32_ENTRY = 18 };

/* A program header of either width. */
struct segment { uint32_t type; uint64_t off, paddr, filesz, memsz; };

struct headers {
    uint64_t entry;
    unsigned count;
    struct segment segments[PHDRS_MAX];
};

bool boot_is_elf(const struct boot_image *image)
{
    return image->head_len >= EI_NIDENT && !memcmp(image->head, ELFMAG, SELFMAG);
}

static int refuse(const struct boot_image *image, const char *why, struct error *err)
{
    return error_set(err, -EINVAL, "kernel '%s' is an ELF file %s", image->request->kernel_name, why);
}

static int read_segments(const struct boot_image *image, bool wide, uint64_t phoff,
                         unsigned phentsize, struct headers *h, struct error *err)
{
    size_t size = wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);

    if (phentsize != size || h->count == 0 || h->count > PHDRS_MAX)
        return refuse(image, "with program headers that make no sense", err);
    if (!range_inside(phoff, h->count * size, image->size))
        return refuse(image, "that ends before its program headers do", err);
    for (unsigned i = 0; i < h->count; i++) {
        union { Elf64_Phdr w; Elf32_Phdr n; } p;
        int r = boot_file_read(image, phoff + i * size, &p, size, err);
        if (r < 0)
            return r;
        h->segments[i] = wide
            ? (struct segment){ p.w.p_type, p.w.p_offset, p.w.p_paddr, p.w.p_filesz, p.w.p_memsz }
            : (struct segment){ p.n.p_type, p.n.p_offset, p.n.p_paddr, p.n.p_filesz, p.n.p_memsz };
    }
    return 0;
}

static int read_headers(const struct boot_image *image, struct headers *h, struct error *err)
{
    const unsigned char *ident = image->head;
    bool wide = ident[EI_CLASS] == ELFCLASS64;
    Elf64_Ehdr w;
    Elf32_Ehdr n;

    if ((!wide && ident[EI_CLASS] != ELFCLASS32) || ident[EI_DATA] != ELFDATA2LSB)
        return refuse(image, "of another kind of processor", err);
    if (image->head_len < (wide ? sizeof w : sizeof n))
        return refuse(image, "that ends inside its header", err);
    memcpy(&w, image->head, MIN(sizeof w, image->head_len));
    memcpy(&n, image->head, sizeof n);
    unsigned machine = wide ? w.e_machine : n.e_machine;
    if ((machine != EM_X86_64 && machine != EM_386) || (wide ? w.e_type : n.e_type) != ET_EXEC)
        return refuse(image, "but no x86 executable", err);
    h->entry = wide ? w.e_entry : n.e_entry;
    h->count = wide ? w.e_phnum : n.e_phnum;
    return read_segments(image, wide, wide ? w.e_phoff : n.e_phoff,
                         wide ? w.e_phentsize : n.e_phentsize, h, err);
}

/* Looks through one PT_NOTE for Xen's entry. A note: name size, description size, type, then name and
 * description, each padded to four bytes. */
static int find_pvh_note(const struct boot_image *image, const struct segment *s,
                         struct elf_image *elf, struct error *err)
{
    if (s->filesz > NOTES_MAX)
        return 0;
    AUTO_FREE uint8_t *notes = malloc(s->filesz + 1);
    if (!notes)
        return error_oom(err);
    int r = boot_file_read(image, s->off, notes, s->filesz, err);
    if (r < 0)
        return r;
    for (uint64_t at = 0; range_inside(at, 12, s->filesz);) {
        uint64_t namesz = le32_load(notes + at), descsz = le32_load(notes + at + 4);
        uint32_t type = le32_load(notes + at + 8);
        uint64_t name = at + 12, desc = name + align_up(namesz, 4);

        if (!range_inside(name, namesz, s->filesz) || !range_inside(desc, descsz, s->filesz))
            return 0;
        if (type == XEN_ELFNOTE_PHYS32_ENTRY && namesz == 4 && !memcmp(notes + name, "Xen", 4) &&
            (descsz == 4 || descsz == 8)) {
            elf->has_pvh = true;
            elf->pvh_entry = le_load(notes + desc, descsz);
            return 0;
        }
        at = desc + align_up(descsz, 4);
    }
    return 0;
}

int boot_elf_inspect(const struct boot_image *image, struct elf_image *ret_elf, struct error *err)
{
    struct headers h = { 0 };
    int r = read_headers(image, &h, err);

    *ret_elf = (struct elf_image){ .entry = h.entry };
    for (unsigned i = 0; i < h.count && r == 0 && !ret_elf->has_pvh; i++)
        if (h.segments[i].type == PT_NOTE)
            r = find_pvh_note(image, &h.segments[i], ret_elf, err);
    return r;
}

int boot_elf_load(struct boot_image *image, struct error *err)
{
    struct headers h = { 0 };
    int r = read_headers(image, &h, err);
    bool any = false;

    for (unsigned i = 0; i < h.count && r == 0; i++) {
        const struct segment *s = &h.segments[i];
        if (s->type != PT_LOAD)
            continue;
        any |= s->memsz > 0;
        r = boot_load_segment(image, s->off, s->filesz, s->paddr, s->memsz, err);
    }
    if (r == 0 && !any)
        r = refuse(image, "with nothing to load", err);
    return r;
}

/* ---- PVH ---- */

#define HVM_START_MAGIC 0x336ec578u
enum { HVM_START_VERSION = 1 };

struct hvm_start_info {
    le32 magic, version, flags, nr_modules;
    le64 modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
    le32 memmap_entries, reserved;
};
struct hvm_modlist_entry { le64 paddr, size, cmdline_paddr, reserved; };
struct hvm_memmap_entry { le64 addr, size; le32 type, reserved; };

/* At BOOT_INFO, in this order. */
struct pvh_info {
    struct hvm_start_info start;
    struct hvm_modlist_entry module;
    struct hvm_memmap_entry map[MACHINE_E820_MAX];
};
_Static_assert(sizeof(struct pvh_info) <= BOOT_INFO_SIZE, "the PVH structures fit");

int boot_pvh(struct boot_image *image, const struct elf_image *elf, struct machine_start *ret_start,
             struct error *err)
{
    const struct boot_request *q = image->request;
    int r = boot_elf_load(image, err);

    if (r == 0 && (elf->pvh_entry < KERNEL_MIN || elf->pvh_entry >= image->end))
        r = refuse(image, "with a PVH entry outside of what it loads", err);
    if (r == 0)
        r = boot_load_initrd(image, UINT32_MAX, err);
    if (r == 0)
        r = boot_put_cmdline(image, "", UINT64_MAX, err);
    if (r < 0)
        return r;
    struct pvh_info info = {
        .start = {
            .magic = le32_of(HVM_START_MAGIC), .version = le32_of(HVM_START_VERSION),
            .nr_modules = le32_of(image->initrd_size != 0),
            .modlist_paddr = le64_of(image->initrd_size
                                     ? BOOT_INFO + offsetof(struct pvh_info, module) : 0),
            .cmdline_paddr = le64_of(BOOT_CMDLINE), .rsdp_paddr = le64_of(q->rsdp),
            .memmap_paddr = le64_of(BOOT_INFO + offsetof(struct pvh_info, map)),
            .memmap_entries = le32_of(q->e820_count) },
        .module = { .paddr = le64_of(image->initrd), .size = le64_of(image->initrd_size) },
    };
    for (unsigned i = 0; i < q->e820_count; i++)
        info.map[i] = (struct hvm_memmap_entry){ le64_of(q->e820[i].addr), le64_of(q->e820[i].size),
                                                 le32_of(q->e820[i].type) };
    r = boot_put(image, BOOT_INFO, &info, sizeof info, err);
    if (r == 0)
        r = boot_start_flat(image, elf->pvh_entry, ret_start, err);
    if (r == 0)
        ret_start->rbx = BOOT_INFO;
    return r;
}
