/* SPDX-License-Identifier: Apache-2.0 */
/* The flattened form of an address space: sorted, disjoint ranges; immutable and counted. */
#ifndef MEM_FLAT_H
#define MEM_FLAT_H

#include "mem/internal.h"

struct flat {
    atomic_uint refs;
    unsigned count;
    struct mem_section ranges[];    /* each holds a reference to its region */
};

struct flat *flat_build(struct mem_region *root);       /* NULL: out of memory */
void flat_put(struct flat *flat);
/* The range that holds addr, or NULL; *ret_gap_end then says where the hole ends. */
const struct mem_section *flat_find(const struct flat *flat, gpa_t addr, gpa_t *ret_gap_end);
bool section_equal(const struct mem_section *a, const struct mem_section *b);

#endif
