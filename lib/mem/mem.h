/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory regions, address spaces, listeners (row C3), and device DMA (row D2).
 *
 * A region is RAM from a descriptor, I/O with callbacks, a container, or an alias. Regions are put
 * into containers at offsets; where they overlap the higher priority wins, and the later added among
 * equals. An address space is a container looked at as a whole: flattened into sorted ranges for
 * dispatch, anew after each change. Listeners hear the difference between two flattenings.
 *
 * Changes: loop thread or under the lock. Dispatch and DMA: any thread (a flat view is immutable and
 * counted).
 */
#ifndef MEM_MEM_H
#define MEM_MEM_H

#include "base/bytes.h"
#include "base/error.h"
#include "base/list.h"

#include <pthread.h>

struct mem_region;
struct address_space;

struct mem_ops {
    /* off is inside the region, len a width that `widths` allows, never across the end.
     * Reads give the value in the low len bytes. */
    uint64_t (*read)(void *opaque, uint64_t off, unsigned len);
    void (*write)(void *opaque, uint64_t off, unsigned len, uint64_t val);
    unsigned widths;        /* sum of allowed 1, 2, 4, 8; 0: all. Others are split or, if smaller
                             * than the smallest, read all ones and are dropped */
    bool unlocked;          /* called without the lock, from any thread (proxies) */
};

/* Regions are counted; the creator holds one reference. Names are copied. NULL: out of memory. */
struct mem_region *mem_container_new(const char *name, uint64_t size);
struct mem_region *mem_io_new(const char *name, uint64_t size, const struct mem_ops *ops,
                              void *opaque);
struct mem_region *mem_alias_new(const char *name, struct mem_region *target, uint64_t off,
                                 uint64_t size);
/* Maps [off, off + size) of fd shared; fd is duplicated. readonly: guest and devices cannot write. */
int mem_ram_new(const char *name, int fd, uint64_t off, uint64_t size, bool readonly,
                struct mem_region **ret_region, struct error *err) MUST_CHECK;
struct mem_region *mem_region_get(struct mem_region *region);
void mem_region_put(struct mem_region *region);         /* NULL allowed */
/* Somebody besides the caller holds it: a container, a view in use, a dma_map. */
bool mem_region_busy(const struct mem_region *region);

/* What `opaque` lives in stays until the region has gone, from every view: release(held) is called
 * then, from any thread, maybe under the lock. For regions that are called without the lock. */
void mem_region_hold(struct mem_region *region, void (*release)(void *held), void *held);

/* Tells the region that its opaque goes away: from here on I/O reads all ones. Waits for nobody:
 * call under the lock. */
void mem_region_orphan(struct mem_region *region);

void mem_add(struct mem_region *container, uint64_t off, struct mem_region *child, int priority);
void mem_del(struct mem_region *child);                 /* not in a container: does nothing */
bool mem_is_added(const struct mem_region *region);

const char *mem_name(const struct mem_region *region);
uint64_t mem_size(const struct mem_region *region);
bool mem_is_ram(const struct mem_region *region);
bool mem_is_readonly(const struct mem_region *region);
void *mem_ram_host(const struct mem_region *region);    /* start of the mapping */
int mem_ram_fd(const struct mem_region *region);        /* borrowed */
uint64_t mem_ram_fd_offset(const struct mem_region *region);

/* Between begin and commit changes are gathered; flattening and listeners run at the last commit.
 * Nests. A single change outside is a transaction of its own. */
void mem_begin(void);
void mem_commit(void);

/* ---- address spaces ---- */

int address_space_new(const char *name, struct mem_region *root, struct address_space **ret_as)
    MUST_CHECK;
void address_space_free(struct address_space *as);      /* NULL allowed */
void address_space_set_lock(struct address_space *as, pthread_mutex_t *lock);

/*
 * An access as a CPU makes it: RAM is copied, I/O is called (under the lock unless the region is
 * unlocked), a hole reads all ones. len 1 to 8 for I/O (longer ones are split). Returns false if any
 * part met a hole.
 */
bool address_space_read(struct address_space *as, gpa_t addr, void *buf, size_t len);
bool address_space_write(struct address_space *as, gpa_t addr, const void *buf, size_t len);

/* One range of a flat view, as listeners see it. */
struct mem_section {
    struct mem_region *region;      /* RAM or I/O, aliases resolved */
    uint64_t offset;                /* in region */
    gpa_t addr;
    uint64_t size;
    bool readonly;
};

struct mem_listener {
    void (*add)(struct mem_listener *l, const struct mem_section *s);
    void (*del)(struct mem_listener *l, const struct mem_section *s);
    void (*commit)(struct mem_listener *l);     /* after the last add and del; may be NULL */
    struct list link;
};
/* Hears `add` for all that is there, then changes; removal hears `del` for all. Deletions come
 * before additions. */
void address_space_listen(struct address_space *as, struct mem_listener *l);
void address_space_unlisten(struct address_space *as, struct mem_listener *l);

/* ---- what device models use: RAM only ---- */

/* 0, or -EFAULT when any byte is not RAM (or is read-only, for writes): then nothing, or a part
 * before the hole, was moved. */
int dma_read(struct address_space *as, gpa_t addr, void *buf, size_t len) MUST_CHECK;
int dma_write(struct address_space *as, gpa_t addr, const void *buf, size_t len) MUST_CHECK;
int dma_fill(struct address_space *as, gpa_t addr, uint8_t byte, size_t len) MUST_CHECK;

/*
 * Direct access to payload: *len shrinks to what is contiguous. The mapping stays valid until
 * dma_unmap, whatever happens to the address space. NULL if addr is not RAM.
 */
struct dma_mapping { struct mem_region *region; gpa_t addr; size_t len; bool write; };
void *dma_map(struct address_space *as, gpa_t addr, size_t *len, bool write,
              struct dma_mapping *ret_map);
void dma_unmap(struct dma_mapping *map);

#endif
