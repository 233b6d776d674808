/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel file made of the input, loaded into 32 MiB of RAM. Half of the inputs are laid over a right
 * image, so that checks behind the first are reached: the first byte says which, then come a position and
 * bytes, again and again.
 */
#include "images.h"

#include "base/fd.h"

#include <stdlib.h>

enum { RAM = 32 << 20 };

static struct address_space *memory(void)
{
    static struct address_space *as;
    struct mem_region *root, *ram;
    struct error err;

    if (as)
        return as;
    root = mem_container_new("root", UINT64_MAX);
    if (mem_ram_new("ram", memfd_new("ram", RAM, 0), 0, RAM, false, &ram, &err) < 0)
        abort();
    mem_add(root, 0, ram, 0);
    if (address_space_new("fuzz", root, &as) < 0)
        abort();
    return as;
}

static size_t overlay(uint8_t *image, size_t len, const uint8_t *data, size_t size)
{
    while (size >= 4) {
        size_t at = le16_load(data) % IMAGE_MAX, n = MIN((size_t)data[2] % 9, size - 3);
        n = MIN(n, IMAGE_MAX - at);
        if (data[2] & 0x80)
            len = at;                   /* or the file ends here */
        memcpy(image + at, data + 3, n);
        data += 3 + n;
        size -= 3 + n;
    }
    return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t image[IMAGE_MAX];
    static int kernel = -1, initrd = -1;
    struct machine_start start;
    struct error err;
    size_t len;

    if (size < 1)
        return 0;
    if (kernel < 0) {
        kernel = memfd_new("kernel", IMAGE_MAX, 0);
        initrd = memfd_new("initrd", 5000, 0);
    }
    switch (data[0] % 8) {
    case 0: len = overlay(image, make_bzimage(image), data + 1, size - 1); break;
    case 1: len = overlay(image, make_elf64(image, true), data + 1, size - 1); break;
    case 2: len = overlay(image, make_multiboot_elf32(image), data + 1, size - 1); break;
    case 3: len = overlay(image, make_multiboot_flat(image), data + 1, size - 1); break;
    default:
        len = MIN(size - 1, (size_t)IMAGE_MAX);
        memcpy(image, data + 1, len);
    }
    /* memfd_new seals against shrinking, so the end is made by a descriptor that is replaced. */
    close(kernel);
    kernel = memfd_new("kernel", len, 0);
    if (kernel < 0 || pwrite(kernel, image, len, 0) != (ssize_t)len)
        abort();

    struct boot_request q = {
        .memory = memory(), .ram_below = RAM, .kernel_fd = kernel, .kernel_name = "k",
        .initrd_fd = data[0] & 0x80 ? initrd : -1, .initrd_name = "i", .cmdline = "console=ttyS0",
        .rsdp = 0xe0000, .e820 = { { 0, RAM, E820_RAM } }, .e820_count = 1,
    };
    if (boot_load(&q, &start, &err) == 0 && (start.rip < KERNEL_MIN || start.rip >= RAM))
        abort();
    return 0;
}
