/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest against the LSI53C895A: registers, SCRIPTS and tables in memory, commands by a
 * working program that the input may bend, back-end errors, disks that go and come, save and load
 * of true and of changed state. The block layer is replaced by memory that answers when told to.
 */
#include "base/bytes.h"
#include "base/fd.h"
#include "base/log.h"
#include "block/block.h"
#include "devices/all.h"
#include "devices/lsi53c895a/regs.h"
#include "obj/keyval.h"
#include "pci/pci.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum { RAM_BYTES = 1 << 18, DISK_BYTES = 1 << 19, QUEUE = 1024, STEPS = 300,
       RELOADS = 3 /* per input: they take long */ };
enum { CODE = 0x1000, RESELECT = 0x1200, TABLE = 0x2000, BUFFER = 0x4000 };
#define BAR(n) (0xe0000000u + (n) * 0x10000u)

/* ---- the back-end ---- */

struct block { int unused; };
static uint8_t disk[DISK_BYTES];
static struct block_request *queue[QUEUE];
static unsigned queued;

static void enqueue(struct block_request *r, uint64_t off, const struct iovec *iov, int op)
{
    r->offset = off;
    r->iov = iov;
    r->len = iov ? iov->iov_len : 0;
    r->op = op;
    if (queued == QUEUE)
        abort();                        /* more than the disks can hold at once */
    queue[queued++] = r;
}

static bool step(int result)
{
    if (!queued)
        return false;
    struct block_request *r = queue[0];
    memmove(queue, queue + 1, --queued * sizeof queue[0]);
    if (result == 0 && !range_inside(r->offset, r->len, DISK_BYTES))
        result = -EINVAL;
    if (result == 0 && r->op == 'r')
        memcpy(r->iov->iov_base, disk + r->offset, r->len);
    if (result == 0 && r->op == 'w')
        memcpy(disk + r->offset, r->iov->iov_base, r->len);
    r->done(r, result);
    return true;
}

void block_read(struct block *b, struct block_request *r, uint64_t off, const struct iovec *iov,
                int niov) { enqueue(r, off, iov, 'r'); }
void block_write(struct block *b, struct block_request *r, uint64_t off, const struct iovec *iov,
                 int niov, bool fua) { enqueue(r, off, iov, 'w'); }
void block_flush(struct block *b, struct block_request *r) { enqueue(r, 0, NULL, 'f'); }
void block_discard(struct block *b, struct block_request *r, uint64_t off, uint64_t len)
{
    enqueue(r, 0, NULL, 'd');
}
void block_write_zeroes(struct block *b, struct block_request *r, uint64_t off, uint64_t len,
                        bool may_unmap) { enqueue(r, 0, NULL, 'z'); }
void block_drain(struct block *b) { while (step(0)) {} }
int block_attach(struct block_graph *g, const char *node, bool writable, const char *user,
                 struct block **ret, struct error *err)
{
    static struct block b;
    *ret = &b;
    return 0;
}
void block_detach(struct block *b) { block_drain(b); }
uint64_t block_size(const struct block *b) { return DISK_BYTES; }
bool block_read_only(const struct block *b) { return false; }
unsigned block_alignment(const struct block *b) { return 1; }
bool block_write_cache(const struct block *b) { return true; }
void block_set_write_cache(struct block *b, bool on) {}

/* ---- the world ---- */

struct world {
    struct obj_tree tree;
    struct pci_bus *bus;
    struct pci_device *pdev;
};

static struct loop *loop;
static uint8_t *ram;
static struct mem_region *mem, *io;
static struct address_space *mem_as;

static void on_intx(void *opaque, struct pci_device *pdev, unsigned pin, bool level) {}
static const struct pci_bus_ops bus_ops = { .intx = on_intx };

static struct object *add(struct world *w, const char *text)
{
    struct error err;
    struct object *obj = NULL;
    json_t *d;

    if (keyval_parse(text, "driver", "-device", &d, &err) < 0)
        abort();
    if (object_create(&w->tree, d, &obj, &err) < 0)
        obj = NULL;
    json_decref(d);
    return obj;
}

static void add_disk(struct world *w, unsigned n)
{
    static const char *const text[] = { "scsi-hd,id=h0,drive=a,scsi-id=0",
        "scsi-cd,id=h1,drive=b,scsi-id=2", "scsi-hd,id=h2,drive=c,scsi-id=2,lun=5" };
    add(w, text[n]);
}

static void program_bars(struct world *w)
{
    for (unsigned i = 1; i < 3; i++)
        pci_config_access_write(w->bus, 0, 0, PCI_BASE_ADDRESS_0 + 4 * i, 4, BAR(i));
    pci_config_access_write(w->bus, 0, 0, PCI_COMMAND, 2,
                            PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static void build(struct world *w)
{
    struct error err;
    struct pci_bus_config config = { "pci.0", &bus_ops, w, mem, io, mem_as, false };

    obj_tree_init(&w->tree, loop, device_classes);
    w->tree.services[SERVICE_BLOCK] = &disk;
    if (pci_bus_new(&w->tree, &config, &w->bus, &err) < 0)
        abort();
    w->pdev = pci_device_of(add(w, "lsi53c895a,id=l"));
    for (unsigned n = 0; n < 3; n++)
        add_disk(w, n);
    objects_reset(&w->tree);
    program_bars(w);
}

static void wreck(struct world *w)
{
    obj_tree_fini(&w->tree);
    pci_bus_free(w->bus);
}

/* Saved, changed in `changes` places, loaded into fresh objects, which take the old ones' place if
 * they took the state. */
static void reload(struct world *w, const uint8_t *changes, unsigned count)
{
    struct state_buf buf = { 0 };
    struct error err;

    objects_pause(&w->tree);
    if (objects_save(&w->tree, &buf, &err) < 0)
        abort();
    for (unsigned i = 0; i < count; i++)
        buf.data[(changes[3 * i] << 8 | changes[3 * i + 1]) * (buf.len / 65536 + 1) % buf.len] =
            changes[3 * i + 2];
    wreck(w);
    build(w);
    objects_pause(&w->tree);
    int r = objects_load(&w->tree, buf.data, buf.len, &err);
    if (r < 0 && count == 0)
        abort();                        /* what was saved must load */
    if (r < 0) {
        wreck(w);
        build(w);
    } else {
        objects_resume(&w->tree);
    }
    state_buf_fini(&buf);
}

/* ---- a driver that works ---- */

static void code(uint32_t at, const uint32_t *w, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        le32_store(ram + at + 4 * i, w[i]);
}

static void write_driver(void)
{
    enum { DISPATCH = CODE + 0x18, LEAVE = CODE + 0xc8 };
    static const uint32_t main_code[] = {
        0x43000000, RESELECT,                                   /* select with ATN by DSA + 0 */
        0x1e000000, 8,                                          /* message out by DSA + 8 */
        0x80080000, DISPATCH,
        0x870b0000, CODE + 0xa0, 0x820a0000, CODE + 0x60,       /* message in? command? */
        0x810a0000, CODE + 0x70, 0x800a0000, CODE + 0x80,       /* data in? out? */
        0x830a0000, CODE + 0x90, 0x860a0000, CODE + 0x08,       /* status? message out? */
        0x98080000, 1, 0x98080000, 2, 0x98080000, 3,
        0x1a000000, 16, 0x80080000, DISPATCH,                   /* 0x60 */
        0x11000000, 24, 0x80080000, DISPATCH,                   /* 0x70, chained */
        0x10000000, 24, 0x80080000, DISPATCH,                   /* 0x80, chained */
        0x1b000000, 32, 0x80080000, DISPATCH,                   /* 0x90 */
        0x0f000001, BUFFER - 16, 0x800c0004, LEAVE, 0x800c0000, LEAVE,  /* 0xa0 */
        0x60000040, 0, 0x80080000, DISPATCH,
        0x7c027f00, 0, 0x60000048, 0, 0x48000000, 0, 0x98080000, 4,     /* LEAVE */
    };
    static const uint32_t reselect_code[] = {
        0x50000000, RESELECT + 0x38, 0x0f000001, BUFFER - 16, 0x60000040, 0,
        0x87030000, DISPATCH,                                   /* no tag */
        0x0f000002, BUFFER - 15, 0x60000040, 0, 0x80080000, DISPATCH, 0x98080000, 9,
    };
    code(CODE, main_code, sizeof main_code / 4);
    code(RESELECT, reselect_code, sizeof reselect_code / 4);
}

/* ---- the input ---- */

struct input { const uint8_t *at, *end; unsigned reloads; };

static uint8_t next(struct input *in) { return in->at < in->end ? *in->at++ : 0; }
static uint32_t next16(struct input *in) { uint32_t v = next(in); return v << 8 | next(in); }
static uint32_t next32(struct input *in) { uint32_t v = next16(in); return v << 16 | next16(in); }

static void reg_write(struct world *w, unsigned r, uint32_t v, unsigned len)
{
    pci_bar_write(w->pdev, 1, r, &v, len);
}

static void run_command(struct world *w, struct input *in)
{
    uint8_t *t = ram + TABLE;
    unsigned msg_len = 1 + next(in) % 10, cdb_len = next(in) % 17;

    t[2] = next(in) & 7;
    t[3] = next(in) & 0x0f;
    le32_store(t + 8, msg_len);
    le32_store(t + 12, TABLE + 64);
    for (unsigned i = 0; i < msg_len; i++)
        t[64 + i] = next(in);
    le32_store(t + 16, cdb_len);
    le32_store(t + 20, TABLE + 96);
    for (unsigned i = 0; i < cdb_len; i++)
        t[96 + i] = next(in);
    le32_store(t + 24, next(in) | next(in) << 9);
    le32_store(t + 28, BUFFER + next(in));
    le32_store(t + 32, 1);
    le32_store(t + 36, TABLE + 128);
    reg_write(w, DSA, TABLE, 4);
    reg_write(w, SCID, SCID_RRE | 7, 1);
    reg_write(w, RESPID0, 0x80, 1);
    reg_write(w, DSP, CODE, 4);
}

static void some_step(struct world *w, struct input *in)
{
    static const uint32_t entries[] = { CODE, CODE + 0x18, RESELECT, CODE + 0x60, CODE + 0xc8,
                                        BAR(2), BAR(1), 0 };
    uint32_t v, where;

    unsigned kind = next(in) % 32;

    switch (kind < 16 ? kind : kind % 9) {
    case 0: reg_write(w, next(in), next(in), 1); break;
    case 1: reg_write(w, next(in) & 0xfc, next32(in), 4); break;
    case 2: pci_bar_read(w->pdev, 1, next(in), &v, 1); break;
    case 3:
        where = next16(in);
        le32_store(ram + (where & 0xfffc), next32(in));
        break;
    case 4: run_command(w, in); break;
    case 5: reg_write(w, DSP, entries[next(in) & 7], 4); break;
    case 6: loop_turn(loop, 0); break;
    case 7: step(next(in) & 3 ? 0 : -(next(in) % 40)); break;
    case 8:
        v = next32(in);
        pci_bar_write(w->pdev, 2, next16(in) & 0x1ffc, &v, 4);
        break;
    case 9:
        if (in->reloads++ < RELOADS)
            reload(w, NULL, 0);
        break;
    case 10: {
        uint8_t changes[24];
        unsigned n = next(in) % 8;
        for (unsigned i = 0; i < 3 * n; i++)
            changes[i] = next(in);
        if (in->reloads++ < RELOADS)
            reload(w, changes, n);
        break;
    }
    case 11: pci_config_access_write(w->bus, 0, 0, next(in) & 0x3c, 4, next32(in)); break;
    case 12: {
        unsigned n = next(in) % 3;
        char id[3] = { 'h', '0' + n };
        struct object *obj = object_find(&w->tree, id);
        if (obj)
            object_destroy(obj);
        else
            add_disk(w, n);
        break;
    }
    case 13:
        objects_pause(&w->tree);
        reg_write(w, next(in), next(in), 1);
        objects_resume(&w->tree);
        break;
    case 14:
        if (next(in) & 1)
            objects_reset(&w->tree);
        else
            pci_bar_read(w->pdev, 0, SIST0, &v, 2), pci_bar_read(w->pdev, 0, DSTAT, &v, 1);
        break;
    case 15:
        while (step(0)) {}
        loop_turn(loop, 0);
        break;
    }
}

static void set_up(void)
{
    struct error err;
    struct mem_region *region;
    int fd = memfd_new("ram", RAM_BYTES, 0);

    log_init("fuzz", LOG_ERROR);
    ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    mem = mem_container_new("mem", UINT64_MAX);
    io = mem_container_new("io", 0x10000);
    if (ram == MAP_FAILED || loop_new(&loop, &err) < 0 ||
        mem_ram_new("ram", fd, 0, RAM_BYTES, false, &region, &err) < 0 ||
        address_space_new("mem", mem, &mem_as) < 0)
        abort();
    mem_add(mem, 0, region, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, data + size, 0 };
    static struct world w;

    if (!loop) {
        set_up();
        build(&w);
    }
    memset(ram, 0, 0x10000);
    write_driver();
    for (int i = 0; i < STEPS && in.at < in.end; i++)
        some_step(&w, &in);

    /* One world for all inputs, brought back to where it was: building it takes long. */
    static const char *const ids[] = { "h0", "h1", "h2" };
    for (unsigned n = 0; n < 3; n++)
        if (!object_find(&w.tree, ids[n]))
            add_disk(&w, n);
    objects_reset(&w.tree);
    if (queued)
        abort();                        /* a reset leaves nothing in flight */
    while (loop_turn(loop, 0)) {}
    program_bars(&w);
    return 0;
}
