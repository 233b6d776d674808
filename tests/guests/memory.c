/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RAM as the memory map says: a pattern at each 64 MiB, below and above 4 GiB, then looked at again.
 * What is beyond the map reads all ones.
 */
#include "guest.h"

enum { STEP = 64 << 20, SPACES = 60 };          /* GiB mapped besides the first four */

struct memory_entry { uint64_t addr, size; uint32_t type, reserved; };
struct pvh_memory { uint32_t magic, version, flags, modules; uint64_t modlist, cmdline, rsdp, memmap;
                    uint32_t entries, reserved; };

static uint64_t directories[SPACES][512] __attribute__((aligned(4096)));

static void map_high(void)
{
    uint64_t cr3, *root, *pointers;

    __asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
    root = (uint64_t *)cr3;
    pointers = (uint64_t *)(root[0] & ~0xfffull);
    for (unsigned g = 0; g < SPACES; g++) {
        for (unsigned i = 0; i < 512; i++)
            directories[g][i] = ((uint64_t)(g + 4) << 30) + ((uint64_t)i << 21) + 0x83;
        pointers[g + 4] = (uint64_t)directories[g] | 3;
    }
    __asm__ volatile("mov %0, %%cr3" :: "r"(cr3) : "memory");
}

static void walk(const struct memory_entry *map, unsigned entries, bool write)
{
    for (unsigned i = 0; i < entries; i++) {
        if (map[i].type != 1 || map[i].addr < 0x100000)
            continue;
        uint64_t from = (map[i].addr + STEP - 1) & ~(uint64_t)(STEP - 1);
        for (uint64_t at = from; at + 8 <= map[i].addr + map[i].size; at += STEP) {
            if (at < 32 << 20)
                continue;                       /* where this program is */
            if (write)
                *(volatile uint64_t *)at = at ^ 0x5a5a5a5a5a5a5a5a;
            else
                EXPECT_EQ(*(volatile uint64_t *)at, at ^ 0x5a5a5a5a5a5a5a5a);
        }
    }
}

int guest_main(void)
{
    const struct pvh_memory *info = (const void *)(uint64_t)guest_boot_info;
    uint64_t ram = 0;

    if (info->magic != 0x336ec578)
        fail("not started by PVH");
    const struct memory_entry *map = (const void *)info->memmap;
    map_high();
    for (unsigned i = 0; i < info->entries; i++) {
        print("memory 0x%lx size 0x%lx type %u\n", map[i].addr, map[i].size, map[i].type);
        if (map[i].type == 1)
            ram += map[i].size;
    }
    print("ram %lu KiB\n", ram / 1024);
    walk(map, info->entries, true);
    walk(map, info->entries, false);
    EXPECT_EQ(read32(0xbffffff0 + 0x0ff00000), 0xffffffff);
    return 0;
}
