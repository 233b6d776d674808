/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Boot loaders. A kernel file is one of three: a Linux bzImage (64-bit boot protocol, 2.12 and newer),
 * an ELF file with a PVH note, or a multiboot (version 1) image. It is read from a descriptor into
 * guest RAM, together with an initrd and what its protocol passes to a kernel.
 *
 * The files are hostile: every field is checked against the file and against RAM before it is used.
 */
#ifndef MACHINE_BOOT_H
#define MACHINE_BOOT_H

#include "machine/machine.h"

struct boot_request {
    struct address_space *memory;
    uint64_t ram_below;             /* bytes of RAM from address 0 on; all is loaded into these */
    int kernel_fd, initrd_fd;       /* regular files; -1: none */
    const char *kernel_name, *initrd_name, *cmdline;
    uint64_t rsdp;
    struct e820_entry e820[MACHINE_E820_MAX];
    unsigned e820_count;
};

/* Loads and tells how processor 0 starts. err: in the user's words. */
int boot_load(const struct boot_request *request, struct machine_start *ret_start,
              struct error *err) MUST_CHECK;

#endif
