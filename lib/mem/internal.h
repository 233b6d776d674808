/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MEM_INTERNAL_H
#define MEM_INTERNAL_H

#include "mem/mem.h"

#include <stdatomic.h>

enum mem_kind { MEM_CONTAINER, MEM_IO, MEM_RAM, MEM_ALIAS };

struct mem_region {
    char *name;
    enum mem_kind kind;
    uint64_t size;
    atomic_uint refs;

    struct mem_region *container;   /* where it is added; NULL: nowhere */
    uint64_t off;
    int priority;
    struct list link;               /* in container->children */
    struct list children;           /* highest priority first */

    const struct mem_ops *_Atomic ops;  /* MEM_IO; changes once, when orphaned */
    void *opaque;
    void (*release)(void *held);    /* NULL: nothing is held */
    void *held;
    struct mem_region *target;      /* MEM_ALIAS */
    uint64_t target_off;
    int fd;                         /* MEM_RAM */
    uint64_t fd_off;
    void *host;
    bool readonly;
};

/* Flattens every address space anew and tells its listeners. */
void address_spaces_update(void);

#endif
