/* SPDX-License-Identifier: Apache-2.0 */
/* Address spaces: the current flat view, its listeners, CPU accesses, device DMA. */
#include "mem/flat.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>

struct address_space {
    char *name;
    struct mem_region *root;
    pthread_mutex_t *lock;          /* of the machine, for I/O callbacks; NULL: none */
    pthread_mutex_t view_lock;      /* for the moment of taking a reference */
    struct flat *view;              /* GUARDED_BY(view_lock) */
    struct list listeners;
    struct list link;               /* in all_spaces */
};

static struct list all_spaces = { &all_spaces, &all_spaces };

static struct flat *view_get(struct address_space *as)
{
    pthread_mutex_lock(&as->view_lock);
    struct flat *view = as->view;
    atomic_fetch_add(&view->refs, 1);
    pthread_mutex_unlock(&as->view_lock);
    return view;
}

int address_space_new(const char *name, struct mem_region *root, struct address_space **ret_as)
{
    struct address_space *as = calloc(1, sizeof *as);
    if (!as)
        return -ENOMEM;
    as->name = strdup(name);
    as->view = flat_build(root);
    if (!as->name || !as->view) {
        free(as->name);
        flat_put(as->view);
        free(as);
        return -ENOMEM;
    }
    as->root = mem_region_get(root);
    pthread_mutex_init(&as->view_lock, NULL);
    list_init(&as->listeners);
    list_add_tail(&all_spaces, &as->link);
    *ret_as = as;
    return 0;
}

void address_space_free(struct address_space *as)
{
    if (!as)
        return;
    while (!list_empty(&as->listeners))
        address_space_unlisten(as, list_first(&as->listeners, struct mem_listener, link));
    list_del(&as->link);
    flat_put(as->view);
    mem_region_put(as->root);
    pthread_mutex_destroy(&as->view_lock);
    free(as->name);
    free(as);
}

void address_space_set_lock(struct address_space *as, pthread_mutex_t *lock) { as->lock = lock; }

/* ---- listeners ---- */

/* Tells l about the ranges of `from` that are not in `other`. Both are sorted by address. */
static void tell_difference(struct mem_listener *l, const struct flat *from,
                            const struct flat *other,
                            void (*fn)(struct mem_listener *, const struct mem_section *))
{
    unsigned j = 0;

    for (unsigned i = 0; i < from->count; i++) {
        const struct mem_section *s = &from->ranges[i];
        while (j < other->count && other->ranges[j].addr < s->addr)
            j++;
        if (j == other->count || !section_equal(s, &other->ranges[j]))
            fn(l, s);
    }
}

static void space_update(struct address_space *as)
{
    struct flat *new = flat_build(as->root);
    if (!new) {
        log_error("out of memory while changing address space '%s'; the old map stays", as->name);
        return;
    }
    pthread_mutex_lock(&as->view_lock);
    struct flat *old = as->view;
    as->view = new;
    pthread_mutex_unlock(&as->view_lock);

    list_for_each(struct mem_listener, l, &as->listeners, link)
        if (l->del)
            tell_difference(l, old, new, l->del);
    list_for_each(struct mem_listener, l, &as->listeners, link) {
        if (l->add)
            tell_difference(l, new, old, l->add);
        if (l->commit)
            l->commit(l);
    }
    flat_put(old);
}

void address_spaces_update(void)
{
    list_for_each(struct address_space, as, &all_spaces, link)
        space_update(as);
}

void address_space_listen(struct address_space *as, struct mem_listener *l)
{
    list_add_tail(&as->listeners, &l->link);
    for (unsigned i = 0; l->add && i < as->view->count; i++)
        l->add(l, &as->view->ranges[i]);
    if (l->commit)
        l->commit(l);
}

void address_space_unlisten(struct address_space *as, struct mem_listener *l)
{
    list_del(&l->link);
    for (unsigned i = 0; l->del && i < as->view->count; i++)
        l->del(l, &as->view->ranges[i]);
    if (l->commit)
        l->commit(l);
}

/* ---- CPU accesses ---- */

/* The widest allowed access at off, for len bytes: naturally aligned, within [off, off + len). */
static unsigned access_width(const struct mem_ops *ops, uint64_t off, size_t len)
{
    unsigned widths = ops->widths ? ops->widths : 15;

    for (unsigned w = 8; w; w >>= 1)
        if ((widths & w) && w <= len && off % w == 0)
            return w;
    return 0;
}

/* One I/O access of at most 8 bytes inside a region. Returns the bytes dealt with. */
static unsigned io_access(struct address_space *as, const struct mem_section *s, uint64_t off,
                          uint8_t *buf, size_t len, bool write)
{
    struct mem_region *r = s->region;
    bool locked = as->lock && !r->ops->unlocked;

    if (locked)
        pthread_mutex_lock(as->lock);
    const struct mem_ops *ops = r->ops;         /* an orphaned region has others */
    unsigned width = access_width(ops, off, len);
    if (width == 0) {                           /* too narrow or misaligned for this device */
        width = 1;
        if (!write)
            *buf = 0xff;
    } else if (write) {
        ops->write(r->opaque, off, width, le_load(buf, width));
    } else {
        le_store(buf, width, ops->read(r->opaque, off, width));
    }
    if (locked)
        pthread_mutex_unlock(as->lock);
    return width;
}

static bool cpu_access(struct address_space *as, gpa_t addr, uint8_t *buf, size_t len, bool write)
{
    struct flat *view = view_get(as);
    bool whole = true;

    while (len) {
        gpa_t gap_end;
        const struct mem_section *s = flat_find(view, addr, &gap_end);
        size_t n;

        if (!s) {
            n = MIN((uint64_t)len, gap_end - addr ? gap_end - addr : 1);
            if (!write)
                memset(buf, 0xff, n);
            whole = false;
        } else {
            uint64_t in = addr - s->addr;
            n = MIN((uint64_t)len, s->size - in);
            if (s->region->kind == MEM_IO)
                n = io_access(as, s, s->offset + in, buf, MIN(n, (size_t)8), write);
            else if (!write)
                memcpy(buf, (char *)s->region->host + s->offset + in, n);
            else if (!s->readonly)
                memcpy((char *)s->region->host + s->offset + in, buf, n);
        }
        addr += n;
        buf += n;
        len -= n;
    }
    flat_put(view);
    return whole;
}

bool address_space_read(struct address_space *as, gpa_t addr, void *buf, size_t len)
{
    return cpu_access(as, addr, buf, len, false);
}

bool address_space_write(struct address_space *as, gpa_t addr, const void *buf, size_t len)
{
    return cpu_access(as, addr, (uint8_t *)buf, len, true);
}

/* ---- DMA ---- */

/* Host memory at addr, and how much of it lies in one piece; NULL if it is not (writable) RAM. */
static void *ram_at(const struct flat *view, gpa_t addr, bool write, uint64_t *ret_len,
                    struct mem_region **ret_region)
{
    gpa_t gap_end;
    const struct mem_section *s = flat_find(view, addr, &gap_end);

    if (!s || s->region->kind != MEM_RAM || (write && s->readonly))
        return NULL;
    *ret_len = s->size - (addr - s->addr);
    *ret_region = s->region;
    return (char *)s->region->host + s->offset + (addr - s->addr);
}

enum dma_op { DMA_READ, DMA_WRITE, DMA_FILL };

static int dma_rw(struct address_space *as, gpa_t addr, void *buf, size_t len, enum dma_op op)
{
    struct flat *view = view_get(as);
    struct mem_region *region;
    uint64_t piece;
    int r = 0;

    while (len) {
        void *host = ram_at(view, addr, op != DMA_READ, &piece, &region);
        if (!host) {
            r = -EFAULT;
            break;
        }
        size_t n = MIN((uint64_t)len, piece);
        if (op == DMA_READ)
            memcpy(buf, host, n);
        else if (op == DMA_WRITE)
            memcpy(host, buf, n);
        else
            memset(host, *(uint8_t *)buf, n);
        addr += n;
        if (op != DMA_FILL)
            buf = (char *)buf + n;
        len -= n;
    }
    flat_put(view);
    return r;
}

int dma_read(struct address_space *as, gpa_t addr, void *buf, size_t len)
{
    return dma_rw(as, addr, buf, len, DMA_READ);
}

int dma_write(struct address_space *as, gpa_t addr, const void *buf, size_t len)
{
    return dma_rw(as, addr, (void *)buf, len, DMA_WRITE);
}

int dma_fill(struct address_space *as, gpa_t addr, uint8_t byte, size_t len)
{
    return dma_rw(as, addr, &byte, len, DMA_FILL);
}

void *dma_map(struct address_space *as, gpa_t addr, size_t *len, bool write,
              struct dma_mapping *ret_map)
{
    struct flat *view = view_get(as);
    struct mem_region *region;
    uint64_t piece;

    void *host = ram_at(view, addr, write, &piece, &region);
    if (host) {
        *len = MIN((uint64_t)*len, piece);
        *ret_map = (struct dma_mapping){ mem_region_get(region), addr, *len, write };
    }
    flat_put(view);
    return host;
}

void dma_unmap(struct dma_mapping *map)
{
    mem_region_put(map->region);
    *map = (struct dma_mapping){ 0 };
}
