/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flattening: regions are visited highest priority first, and each takes what is still free of its
 * window. Addresses are kept as inclusive ends, so that 2^64 fits.
 */
#include "mem/flat.h"

#include <errno.h>
#include <string.h>

enum { FLAT_DEPTH_MAX = 32, FLAT_RANGES_MAX = 65536 };

struct builder {
    struct mem_section *ranges;
    unsigned count, cap;
    bool failed;
};

static void insert(struct builder *b, unsigned at, const struct mem_section *s)
{
    if (b->count == b->cap) {
        unsigned cap = b->cap ? b->cap * 2 : 32;
        struct mem_section *bigger = cap > FLAT_RANGES_MAX ? NULL
            : realloc(b->ranges, cap * sizeof *bigger);
        if (!bigger) {
            b->failed = true;
            return;
        }
        b->ranges = bigger;
        b->cap = cap;
    }
    memmove(b->ranges + at + 1, b->ranges + at, (b->count - at) * sizeof *b->ranges);
    b->ranges[at] = *s;
    b->count++;
}

/* Gives region the parts of [first, last] nobody has yet. offset is the one at first. */
static void claim(struct builder *b, struct mem_region *region, uint64_t offset, gpa_t first,
                  gpa_t last, bool readonly)
{
    unsigned i = 0;

    while (!b->failed) {
        while (i < b->count && b->ranges[i].addr + (b->ranges[i].size - 1) < first)
            i++;
        gpa_t end = last;
        if (i < b->count && b->ranges[i].addr <= last) {
            if (b->ranges[i].addr <= first) {       /* taken: go on behind it */
                gpa_t next = b->ranges[i].addr + b->ranges[i].size;
                if (next == 0 || next > last)
                    return;
                offset += next - first;
                first = next;
                continue;
            }
            end = b->ranges[i].addr - 1;
        }
        struct mem_section s = { region, offset, first, end - first + 1, readonly };
        insert(b, i, &s);
        if (end == last)
            return;
        offset += end + 1 - first;
        first = end + 1;
    }
}

/* region's offset `skip` lies at address first; only [first, last] is looked at. */
static void flatten(struct builder *b, struct mem_region *region, uint64_t skip, gpa_t first,
                    gpa_t last, unsigned depth)
{
    if (depth > FLAT_DEPTH_MAX || skip >= region->size)
        return;
    if (last - first > region->size - skip - 1)
        last = first + (region->size - skip - 1);

    switch (region->kind) {
    case MEM_RAM:
    case MEM_IO:
        claim(b, region, skip, first, last, region->readonly);
        return;
    case MEM_ALIAS:
        flatten(b, region->target, region->target_off + skip, first, last, depth + 1);
        return;
    case MEM_CONTAINER:
        break;
    }
    list_for_each(struct mem_region, child, &region->children, link) {
        uint64_t begin = MAX(child->off, skip);         /* offsets in region */
        uint64_t window_end = skip + (last - first);
        if (child->size == 0 || child->off > window_end)
            continue;
        uint64_t child_last = child->size - 1 > UINT64_MAX - child->off
            ? UINT64_MAX : child->off + (child->size - 1);
        if (child_last < begin)
            continue;
        flatten(b, child, begin - child->off, first + (begin - skip),
                first + (MIN(child_last, window_end) - skip), depth + 1);
    }
}

struct flat *flat_build(struct mem_region *root)
{
    struct builder b = { 0 };

    if (root->size)
        flatten(&b, root, 0, 0, root->size - 1, 0);
    struct flat *flat = b.failed ? NULL
        : malloc(sizeof *flat + b.count * sizeof flat->ranges[0]);
    if (flat) {
        atomic_init(&flat->refs, 1);
        flat->count = b.count;
        if (b.count)
            memcpy(flat->ranges, b.ranges, b.count * sizeof flat->ranges[0]);
        for (unsigned i = 0; i < b.count; i++)
            mem_region_get(flat->ranges[i].region);
    }
    free(b.ranges);
    return flat;
}

void flat_put(struct flat *flat)
{
    if (!flat || atomic_fetch_sub(&flat->refs, 1) != 1)
        return;
    for (unsigned i = 0; i < flat->count; i++)
        mem_region_put(flat->ranges[i].region);
    free(flat);
}

const struct mem_section *flat_find(const struct flat *flat, gpa_t addr, gpa_t *ret_gap_end)
{
    unsigned lo = 0, hi = flat->count;

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        const struct mem_section *s = &flat->ranges[mid];
        if (addr < s->addr)
            hi = mid;
        else if (addr - s->addr >= s->size)
            lo = mid + 1;
        else
            return s;
    }
    *ret_gap_end = lo < flat->count ? flat->ranges[lo].addr : UINT64_MAX;
    return NULL;
}

bool section_equal(const struct mem_section *a, const struct mem_section *b)
{
    return a->region == b->region && a->offset == b->offset && a->addr == b->addr &&
           a->size == b->size && a->readonly == b->readonly;
}
