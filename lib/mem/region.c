/* SPDX-License-Identifier: Apache-2.0 */
#include "mem/internal.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

static unsigned txn_depth;
static bool txn_dirty;

static struct mem_region *region_new(const char *name, enum mem_kind kind, uint64_t size)
{
    struct mem_region *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->kind = kind;
    r->size = size;
    r->fd = -1;
    atomic_init(&r->refs, 1);
    list_init(&r->children);
    r->name = strdup(name);
    if (!r->name) {
        free(r);
        return NULL;
    }
    return r;
}

struct mem_region *mem_container_new(const char *name, uint64_t size)
{
    return region_new(name, MEM_CONTAINER, size);
}

struct mem_region *mem_io_new(const char *name, uint64_t size, const struct mem_ops *ops,
                              void *opaque)
{
    struct mem_region *r = region_new(name, MEM_IO, size);
    if (r) {
        r->ops = ops;
        r->opaque = opaque;
    }
    return r;
}

struct mem_region *mem_alias_new(const char *name, struct mem_region *target, uint64_t off,
                                 uint64_t size)
{
    struct mem_region *r = region_new(name, MEM_ALIAS, size);
    if (r) {
        r->target = mem_region_get(target);
        r->target_off = off;
    }
    return r;
}

int mem_ram_new(const char *name, int fd, uint64_t off, uint64_t size, bool readonly,
                struct mem_region **ret_region, struct error *err)
{
    uint64_t file_size, end;

    if (size == 0 || size > SIZE_MAX || off % 4096 || ckd_add(&end, off, size))
        return error_set(err, -EINVAL, "memory '%s' has a size or offset that cannot be mapped",
                         name);
    /* A mapping past the end of the file would kill whoever touches it. */
    int r = fd_size(fd, &file_size);
    if (r == 0 && !range_inside(off, size, file_size))
        return error_set(err, -EINVAL, "memory '%s' reaches past the end of its file", name);

    struct mem_region *region = region_new(name, MEM_RAM, size);
    if (!region)
        return error_oom(err);
    region->readonly = readonly;
    region->fd_off = off;
    region->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    void *host = MAP_FAILED;
    if (region->fd >= 0)
        host = mmap(NULL, size, readonly ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED,
                    region->fd, off);
    if (host == MAP_FAILED) {
        r = error_set(err, -errno, "cannot map memory '%s'", name);
        mem_region_put(region);
        return r;
    }
    region->host = host;
    *ret_region = region;
    return 0;
}

struct mem_region *mem_region_get(struct mem_region *r)
{
    atomic_fetch_add(&r->refs, 1);
    return r;
}

void mem_region_put(struct mem_region *r)
{
    if (!r || atomic_fetch_sub(&r->refs, 1) != 1)
        return;
    /* Containers hold references to children, so a region in a container is never freed here. */
    while (!list_empty(&r->children))
        mem_del(list_first(&r->children, struct mem_region, link));
    if (r->host)
        munmap(r->host, r->size);
    if (r->fd >= 0)
        close(r->fd);
    mem_region_put(r->target);
    if (r->release)
        r->release(r->held);
    free(r->name);
    free(r);
}

void mem_region_hold(struct mem_region *r, void (*release)(void *held), void *held)
{
    r->release = release;
    r->held = held;
}

static uint64_t orphan_read(void *opaque, uint64_t off, unsigned len) { return UINT64_MAX; }
static void orphan_write(void *opaque, uint64_t off, unsigned len, uint64_t val) {}
static const struct mem_ops orphan_ops = { orphan_read, orphan_write };

void mem_region_orphan(struct mem_region *r) { r->ops = &orphan_ops; }

static void changed(void)
{
    txn_dirty = true;
    if (txn_depth == 0)
        mem_begin(), mem_commit();
}

void mem_begin(void) { txn_depth++; }

void mem_commit(void)
{
    if (txn_depth == 1 && txn_dirty) {
        txn_dirty = false;
        address_spaces_update();
    }
    txn_depth--;
}

void mem_add(struct mem_region *container, uint64_t off, struct mem_region *child, int priority)
{
    struct list *at;

    mem_region_get(child);
    child->container = container;
    child->off = off;
    child->priority = priority;
    /* Highest priority first; the later added first among equals. */
    for (at = container->children.next; at != &container->children; at = at->next)
        if (list_entry(at, struct mem_region, link)->priority <= priority)
            break;
    list_add_tail(at, &child->link);
    changed();
}

void mem_del(struct mem_region *child)
{
    if (!child->container)
        return;
    list_del(&child->link);
    child->container = NULL;
    changed();
    mem_region_put(child);
}

bool mem_region_busy(const struct mem_region *r) { return atomic_load(&r->refs) > 1; }
bool mem_is_added(const struct mem_region *r) { return r->container != NULL; }
const char *mem_name(const struct mem_region *r) { return r->name; }
uint64_t mem_size(const struct mem_region *r) { return r->size; }
bool mem_is_ram(const struct mem_region *r) { return r->kind == MEM_RAM; }
bool mem_is_readonly(const struct mem_region *r) { return r->readonly; }
void *mem_ram_host(const struct mem_region *r) { return r->host; }
int mem_ram_fd(const struct mem_region *r) { return r->fd; }
uint64_t mem_ram_fd_offset(const struct mem_region *r) { return r->fd_off; }
