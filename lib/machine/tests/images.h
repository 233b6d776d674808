/* SPDX-License-Identifier: Apache-2.0 */
/* Small kernels of each kind, made in memory, right in every field until a test spoils one. */
#ifndef MACHINE_TESTS_IMAGES_H
#define MACHINE_TESTS_IMAGES_H

#include "machine/boot_internal.h"

#include <elf.h>
#include <string.h>

enum { IMAGE_MAX = 32768, BZ_PAYLOAD = 1024, BZ_BYTES = 4096, ELF_NOTE = 0x200, ELF_CODE = 0x1000,
       ELF_CODE_BYTES = 0x800 };

/* setup_sects 1, then 4 KiB of code that wants to lie at 16 MiB and needs 1 MiB. */
static inline size_t make_bzimage(uint8_t *p)
{
    memset(p, 0, IMAGE_MAX);
    p[0x1f1] = 1;
    le32_store(p + 0x1f4, BZ_BYTES / 16);
    le16_store(p + 0x1fe, 0xaa55);
    p[0x200] = 0xeb;
    p[0x201] = 0x66;
    memcpy(p + 0x202, "HdrS", 4);
    le16_store(p + 0x206, 0x020f);
    p[0x211] = 0x01;
    le32_store(p + 0x22c, 0x7fffffff);
    le32_store(p + 0x230, 0x200000);
    p[0x234] = 1;
    le16_store(p + 0x236, 0x0001);
    le32_store(p + 0x238, 2047);
    le64_store(p + 0x258, 0x1000000);
    le32_store(p + 0x260, 0x100000);
    for (unsigned i = 0; i < BZ_BYTES; i++)
        p[BZ_PAYLOAD + i] = i * 7;
    return BZ_PAYLOAD + BZ_BYTES;
}

/* One segment at 2 MiB with as much cleared memory behind it, and a PVH note if wanted. */
static inline size_t make_elf64(uint8_t *p, bool pvh)
{
    Elf64_Ehdr e = { .e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = 1, .e_entry = 0x200010,
                     .e_phoff = sizeof e, .e_ehsize = sizeof e, .e_phentsize = sizeof(Elf64_Phdr),
                     .e_phnum = 2 };
    Elf64_Phdr load = { .p_type = PT_LOAD, .p_offset = ELF_CODE, .p_vaddr = 0xffffffff80200000,
                        .p_paddr = 0x200000, .p_filesz = ELF_CODE_BYTES,
                        .p_memsz = 2 * ELF_CODE_BYTES };
    Elf64_Phdr note = { .p_type = pvh ? PT_NOTE : PT_NULL, .p_offset = ELF_NOTE, .p_filesz = 40 };

    memset(p, 0, IMAGE_MAX);
    memcpy(e.e_ident, ELFMAG "\2\1\1", 7);
    memcpy(p, &e, sizeof e);
    memcpy(p + sizeof e, &load, sizeof load);
    memcpy(p + sizeof e + sizeof load, &note, sizeof note);
    le32_store(p + ELF_NOTE, 4);            /* somebody else's note first */
    le32_store(p + ELF_NOTE + 4, 3);
    le32_store(p + ELF_NOTE + 8, 1);
    memcpy(p + ELF_NOTE + 12, "GNU\0abc", 8);
    le32_store(p + ELF_NOTE + 20, 4);
    le32_store(p + ELF_NOTE + 24, 4);
    le32_store(p + ELF_NOTE + 28, 18);
    memcpy(p + ELF_NOTE + 32, "Xen", 4);
    le32_store(p + ELF_NOTE + 36, 0x200020);
    for (unsigned i = 0; i < ELF_CODE_BYTES; i++)
        p[ELF_CODE + i] = i * 5 + 1;
    return ELF_CODE + ELF_CODE_BYTES;
}

static inline void put_multiboot(uint8_t *p, uint32_t flags)
{
    le32_store(p, 0x1badb002);
    le32_store(p + 4, flags);
    le32_store(p + 8, -(0x1badb002 + flags));
}

/* By ELF headers. */
static inline size_t make_multiboot_elf32(uint8_t *p)
{
    Elf32_Ehdr e = { .e_type = ET_EXEC, .e_machine = EM_386, .e_version = 1, .e_entry = 0x200010,
                     .e_phoff = sizeof e, .e_ehsize = sizeof e, .e_phentsize = sizeof(Elf32_Phdr),
                     .e_phnum = 1 };
    Elf32_Phdr load = { .p_type = PT_LOAD, .p_offset = ELF_CODE, .p_paddr = 0x200000,
                        .p_filesz = ELF_CODE_BYTES, .p_memsz = 2 * ELF_CODE_BYTES };

    memset(p, 0, IMAGE_MAX);
    memcpy(e.e_ident, ELFMAG "\1\1\1", 7);
    memcpy(p, &e, sizeof e);
    memcpy(p + sizeof e, &load, sizeof load);
    put_multiboot(p + ELF_CODE, 0x3);
    for (unsigned i = 16; i < ELF_CODE_BYTES; i++)
        p[ELF_CODE + i] = i * 3;
    return ELF_CODE + ELF_CODE_BYTES;
}

/* By the addresses in the header, which lies 64 bytes into the file: all is loaded from 32 on. */
static inline size_t make_multiboot_flat(uint8_t *p)
{
    memset(p, 0, IMAGE_MAX);
    for (unsigned i = 0; i < 0x400; i++)
        p[i] = i;
    put_multiboot(p + 64, 0x10003);
    le32_store(p + 64 + 12, 0x300020);      /* header */
    le32_store(p + 64 + 16, 0x300000);      /* load */
    le32_store(p + 64 + 20, 0x300200);      /* end of data */
    le32_store(p + 64 + 24, 0x300800);      /* end of cleared memory */
    le32_store(p + 64 + 28, 0x300040);      /* entry */
    return 0x400;
}

#endif
