/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "base/fd.h"
#include "mem/mem.h"

#include <errno.h>
#include <string.h>

static struct mem_region *ram(const char *name, uint64_t size, bool readonly)
{
    struct mem_region *r;
    struct error err;
    AUTO_FD int fd = memfd_new(name, size, 0);
    CHECK_EQ(mem_ram_new(name, fd, 0, size, readonly, &r, &err), 0);
    return r;
}

struct io { uint64_t off, val; unsigned len, calls; };

static uint64_t io_read(void *opaque, uint64_t off, unsigned len)
{
    struct io *io = opaque;
    io->calls++;
    io->off = off;
    io->len = len;
    return 0x1122334455667788 + off;
}
static void io_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
    struct io *io = opaque;
    *io = (struct io){ off, val, len, io->calls + 1 };
}
static const struct mem_ops io_ops = { io_read, io_write };
static const struct mem_ops io32_ops = { io_read, io_write, .widths = 4 };

struct map { struct mem_listener l; char text[512]; };

static void on_add(struct mem_listener *l, const struct mem_section *s)
{
    struct map *m = container_of(l, struct map, l);
    size_t n = strlen(m->text);
    snprintf(m->text + n, sizeof m->text - n, "+%s@%llx+%llx/%llx ", mem_name(s->region),
             (long long)s->addr, (long long)s->size, (long long)s->offset);
}
static void on_del(struct mem_listener *l, const struct mem_section *s)
{
    struct map *m = container_of(l, struct map, l);
    size_t n = strlen(m->text);
    snprintf(m->text + n, sizeof m->text - n, "-%s@%llx ", mem_name(s->region),
             (long long)s->addr);
}

TEST(priority_decides_where_regions_overlap)
{
    struct mem_region *root = mem_container_new("root", UINT64_MAX);
    struct mem_region *a = ram("a", 0x4000, false);
    struct io io = { 0 };
    struct mem_region *hole = mem_io_new("io", 0x1000, &io_ops, &io);
    struct address_space *as;
    struct map map = { .l = { .add = on_add, .del = on_del } };

    CHECK_EQ(address_space_new("t", root, &as), 0);
    address_space_listen(as, &map.l);
    mem_add(root, 0x1000, a, 0);
    CHECK_STR(map.text, "+a@1000+4000/0 ");
    map.text[0] = 0;
    mem_add(root, 0x2000, hole, 1);
    CHECK_STR(map.text, "-a@1000 +a@1000+1000/0 +io@2000+1000/0 +a@3000+2000/2000 ");

    uint32_t v = 0xdeadbeef;
    CHECK(address_space_write(as, 0x1ffe, &v, 4));      /* RAM, then I/O */
    CHECK_EQ(io.val, 0xdead);
    CHECK_EQ(io.len, 2);
    CHECK_EQ(dma_read(as, 0x1ffc, &v, 4), 0);
    CHECK_EQ(v, 0xbeef0000);
    CHECK_EQ(dma_read(as, 0x1ffe, &v, 4), -EFAULT);     /* devices reach RAM only */
    CHECK(!address_space_read(as, 0xfff, &v, 4));       /* begins in a hole */
    CHECK_EQ(v & 0xff, 0xff);

    map.text[0] = 0;
    mem_del(hole);
    CHECK_STR(map.text, "-a@1000 -io@2000 -a@3000 +a@1000+4000/0 ");
    address_space_free(as);
    mem_region_put(hole);
    mem_region_put(a);
    mem_region_put(root);
}

TEST(aliases_show_a_window_and_containers_move_their_children)
{
    struct mem_region *root = mem_container_new("root", UINT64_MAX);
    struct mem_region *a = ram("a", 0x4000, false);
    struct mem_region *box = mem_container_new("box", 0x1800);
    struct mem_region *alias = mem_alias_new("alias", a, 0x1000, 0x2000);
    struct address_space *as;
    struct map map = { .l = { .add = on_add, .del = on_del } };

    CHECK_EQ(address_space_new("t", root, &as), 0);
    mem_begin();
    mem_add(box, 0x800, alias, 0);
    mem_add(root, 0xfffffffffffff000, box, 0);          /* clipped by box and by 2^64 */
    mem_commit();
    address_space_listen(as, &map.l);
    CHECK_STR(map.text, "+a@fffffffffffff800+7ff/1000 ");
    mem_begin();
    mem_del(box);
    mem_add(root, 0x8000, box, 0);
    mem_commit();
    CHECK_STR(map.text, "+a@fffffffffffff800+7ff/1000 -a@fffffffffffff800 +a@8800+1000/1000 ");
    CHECK_EQ(dma_fill(as, 0x8800, 0x5a, 0x1000), 0);
    CHECK_EQ(dma_fill(as, 0x8800, 0x5a, 0x1001), -EFAULT);
    CHECK_EQ(((uint8_t *)mem_ram_host(a))[0x1fff], 0x5a);
    CHECK_EQ(((uint8_t *)mem_ram_host(a))[0x2000], 0);
    address_space_free(as);
    mem_region_put(alias);
    mem_region_put(box);
    mem_region_put(a);
    mem_region_put(root);
}

TEST(io_gets_only_widths_it_allows_and_nothing_once_orphaned)
{
    struct mem_region *root = mem_container_new("root", 0x10000);
    struct io io = { 0 };
    struct mem_region *dev = mem_io_new("io", 0x100, &io32_ops, &io);
    struct address_space *as;
    uint64_t v = 0;

    CHECK_EQ(address_space_new("t", root, &as), 0);
    mem_add(root, 0, dev, 0);
    CHECK(address_space_read(as, 0, &v, 8));
    CHECK_EQ(io.calls, 2);
    CHECK_EQ(v, 0x5566778c55667788);
    v = 0;
    CHECK(address_space_read(as, 4, &v, 2));            /* too narrow */
    CHECK_EQ(v, 0xffff);
    CHECK_EQ(io.calls, 2);
    mem_region_orphan(dev);
    CHECK(address_space_read(as, 4, &v, 4));
    CHECK_EQ((uint32_t)v, 0xffffffff);
    CHECK_EQ(io.calls, 2);
    address_space_free(as);
    mem_region_put(dev);
    mem_region_put(root);
}

TEST(a_mapping_outlives_the_region_it_is_in)
{
    struct mem_region *root = mem_container_new("root", 0x10000);
    struct mem_region *a = ram("a", 0x2000, false), *rom = ram("rom", 0x1000, true);
    struct address_space *as;
    struct dma_mapping map;
    size_t len = 0x5000;

    CHECK_EQ(address_space_new("t", root, &as), 0);
    mem_add(root, 0x1000, a, 0);
    mem_add(root, 0x3000, rom, 0);
    CHECK(!dma_map(as, 0x3000, &len, true, &map));
    uint8_t *p = dma_map(as, 0x1800, &len, true, &map);
    CHECK(p);
    CHECK_EQ(len, 0x1800);
    mem_del(a);
    mem_region_put(a);
    memset(p, 1, len);                  /* still there */
    dma_unmap(&map);
    CHECK_EQ(dma_write(as, 0x3000, "x", 1), -EFAULT);
    address_space_free(as);
    mem_region_put(rom);
    mem_region_put(root);
}

TEST(memory_past_the_end_of_its_file_is_refused)
{
    struct mem_region *r;
    struct error err;
    AUTO_FD int fd = memfd_new("x", 8192, 0);
    CHECK(mem_ram_new("x", fd, 4096, 8192, false, &r, &err) < 0);
    CHECK_HAS(err.text, "past the end");
    CHECK(mem_ram_new("x", fd, UINT64_MAX - 4095, 8192, false, &r, &err) < 0);
    CHECK(mem_ram_new("x", fd, 1, 4096, false, &r, &err) < 0);
}

TEST_MAIN
