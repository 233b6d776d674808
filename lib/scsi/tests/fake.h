/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A world for SCSI tests: the block layer replaced by memory whose requests end when the test says
 * so, and an adapter that drives one command at a time or several. With `checkpoints` on, each step
 * of a command is followed by pause, save, load into fresh objects, resume.
 */
#ifndef SCSI_TESTS_FAKE_H
#define SCSI_TESTS_FAKE_H

#include "base/bytes.h"
#include "base/log.h"
#include "block/block.h"
#include "obj/keyval.h"
#include "scsi/opcodes.h"
#include "scsi/scsi.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { FAKE_BYTES = 1 << 20, FAKE_QUEUE = 512, XFER_MAX = 1 << 19 };

struct block { char name[16]; bool read_only, cache; };

static struct fake {
    uint8_t disk[FAKE_BYTES];
    struct block_request *queue[FAKE_QUEUE];
    unsigned queued, flushes, discards, zeroes, fuas;
    int fail_next;              /* result of the next request, once */
    bool read_only;
} fake;

static void fake_queue(struct block *b, struct block_request *r, uint64_t off, uint64_t len,
                       const struct iovec *iov, int op)
{
    r->block = b;
    r->offset = off;
    r->len = len;
    r->iov = iov;
    r->op = op;
    if (fake.queued < FAKE_QUEUE)
        fake.queue[fake.queued++] = r;
}

void block_read(struct block *b, struct block_request *r, uint64_t off, const struct iovec *iov,
                int niov)
{
    fake_queue(b, r, off, iov->iov_len, iov, 'r');
}
void block_write(struct block *b, struct block_request *r, uint64_t off, const struct iovec *iov,
                 int niov, bool fua)
{
    fake.fuas += fua;
    fake_queue(b, r, off, iov->iov_len, iov, 'w');
}
void block_flush(struct block *b, struct block_request *r) { fake_queue(b, r, 0, 0, NULL, 'f'); }
void block_discard(struct block *b, struct block_request *r, uint64_t off, uint64_t len)
{
    fake_queue(b, r, off, len, NULL, 'd');
}
void block_write_zeroes(struct block *b, struct block_request *r, uint64_t off, uint64_t len,
                        bool may_unmap)
{
    fake_queue(b, r, off, len, NULL, 'z');
}

static int fake_do(struct block_request *r)
{
    if (fake.fail_next)
        return fake.fail_next;
    if (!range_inside(r->offset, r->len, FAKE_BYTES))
        return -EINVAL;
    switch (r->op) {
    case 'r': memcpy(r->iov->iov_base, fake.disk + r->offset, r->len); break;
    case 'w': memcpy(fake.disk + r->offset, r->iov->iov_base, r->len); break;
    case 'f': fake.flushes++; break;
    case 'd': fake.discards++; memset(fake.disk + r->offset, 0, r->len); break;
    case 'z': fake.zeroes++; memset(fake.disk + r->offset, 0, r->len); break;
    }
    return 0;
}

/* Ends the oldest request. */
static bool fake_step(void)
{
    if (!fake.queued)
        return false;
    struct block_request *r = fake.queue[0];
    memmove(fake.queue, fake.queue + 1, --fake.queued * sizeof fake.queue[0]);
    int result = fake_do(r);
    fake.fail_next = 0;
    r->done(r, result);
    return true;
}

void block_drain(struct block *b)
{
    while (fake_step()) {}
}

int block_attach(struct block_graph *g, const char *node, bool writable, const char *user,
                 struct block **ret, struct error *err)
{
    if (writable && fake.read_only)
        return error_set(err, -EROFS, "node '%s' is read-only", node);
    struct block *b = calloc(1, sizeof *b);
    snprintf(b->name, sizeof b->name, "%s", node);
    b->read_only = fake.read_only || !writable;
    b->cache = true;
    *ret = b;
    return 0;
}
void block_detach(struct block *b)
{
    if (b)
        block_drain(b);
    free(b);
}
uint64_t block_size(const struct block *b) { return FAKE_BYTES; }
bool block_read_only(const struct block *b) { return b->read_only; }
unsigned block_alignment(const struct block *b) { return 1; }
bool block_write_cache(const struct block *b) { return b->cache; }
void block_set_write_cache(struct block *b, bool on) { b->cache = on; }

/* ---- the adapter ---- */

struct command {
    struct scsi_request *req;
    int index;
    unsigned target, lun;
    uint8_t *data;
    size_t len, cap;            /* data moved, room */
    bool moving, done, was_cancelled;
    enum scsi_status status;
    size_t residual;
    uint8_t sense[SCSI_SENSE_MAX];
};

struct hba { struct scsi_bus *bus; };

static void hba_data(struct scsi_request *req, uint8_t *buf, size_t len)
{
    struct command *c = scsi_request_hba(req);
    c->moving = true;
}

static void hba_complete(struct scsi_request *req, enum scsi_status status, size_t residual)
{
    struct command *c = scsi_request_hba(req);
    c->done = true;
    c->status = status;
    c->residual = residual;
    scsi_sense(req, c->sense);
}

static void hba_cancelled(struct scsi_request *req)
{
    struct command *c = scsi_request_hba(req);
    c->done = c->was_cancelled = true;
}

static const struct scsi_host_ops hba_ops = { hba_data, hba_complete, hba_cancelled, NULL };

static int hba_realize(struct object *obj, struct error *err)
{
    struct hba *hba = object_self(obj);
    struct scsi_bus_config config = { &hba_ops, 15, 7, 7, true };
    return scsi_bus_new(obj, &config, &hba->bus, err);
}
static void hba_unrealize(struct object *obj)
{
    struct hba *hba = object_self(obj);
    scsi_bus_free(TAKE_PTR(hba->bus));
}
static const struct object_class hba_class = {
    .name = "test-hba", .size = sizeof(struct hba), .realize = hba_realize,
    .unrealize = hba_unrealize,
};
static const struct object_class *const fake_classes[] = {
    &scsi_cd_class, &scsi_device_base, &scsi_hd_class, &hba_class, NULL };

struct world {
    struct obj_tree tree;
    struct hba *hba;
    const char *const *devices;     /* NULL-terminated -device texts */
    bool checkpoints;
    struct command *commands[FAKE_QUEUE];
    unsigned count;
};

static int world_add(struct world *w, const char *text, struct object **ret, struct error *err)
{
    json_t *d;
    if (keyval_parse(text, "driver", "-device", &d, err) < 0)
        abort();
    int r = object_create(&w->tree, d, ret, err);
    json_decref(d);
    return r;
}

static void world_build(struct world *w)
{
    static int token;
    struct object *obj;
    struct error err;

    obj_tree_init(&w->tree, NULL, fake_classes);
    w->tree.services[SERVICE_BLOCK] = &token;
    if (world_add(w, "test-hba,id=h0", &obj, &err) < 0)
        abort();
    w->hba = object_self(obj);
    for (const char *const *d = w->devices; *d; d++)
        if (world_add(w, *d, &obj, &err) < 0) {
            fprintf(stderr, "%s\n", err.text);
            abort();
        }
}

/* Pause, save, load into fresh objects, resume. */
static int world_checkpoint(struct world *w)
{
    struct state_buf buf = { 0 };
    struct error err;
    bool ok = true;

    objects_pause(&w->tree);
    if (objects_save(&w->tree, &buf, &err) < 0)
        abort();
    for (unsigned i = 0; i < w->count; i++) {
        struct command *c = w->commands[i];
        c->index = scsi_request_index(c->req);
        if (c->req)
            scsi_request_set_hba(c->req, c);
    }
    /* The old world's commands must not touch ours when it ends. */
    struct command scrap = { 0 };
    for (unsigned i = 0; i < w->count; i++)
        if (w->commands[i]->req)
            scsi_request_set_hba(w->commands[i]->req, &scrap);
    obj_tree_fini(&w->tree);
    world_build(w);
    objects_pause(&w->tree);
    int r = objects_load(&w->tree, buf.data, buf.len, &err);
    if (r < 0)
        fprintf(stderr, "load: %s\n", err.text);
    for (unsigned i = 0; i < w->count; i++) {
        struct command *c = w->commands[i];
        bool exact;
        struct scsi_target *t = scsi_find(w->hba->bus, c->target, c->lun, &exact);
        if (!c->req)
            continue;
        c->req = scsi_request_by_index(t, c->index);
        ok &= c->req != NULL;
        if (c->req)
            scsi_request_set_hba(c->req, c);
    }
    objects_resume(&w->tree);
    state_buf_fini(&buf);
    return ok ? r : -EINVAL;
}

static struct command *command_new(struct world *w, unsigned target, unsigned lun,
                                   const uint8_t *cdb, size_t len, const void *out, size_t out_len)
{
    bool exact;
    struct scsi_target *t = scsi_find(w->hba->bus, target, lun, &exact);
    struct command *c = calloc(1, sizeof *c);

    c->cap = XFER_MAX;
    c->data = calloc(1, c->cap);
    c->target = target;
    c->lun = lun;
    if (out_len)
        memcpy(c->data, out, MIN(out_len, c->cap));
    if (t)
        c->req = scsi_request_new(t, lun, 1, cdb, len, c);
    w->commands[w->count++] = c;
    return c;
}

/* Moves what is to be moved and ends one back-end request. False when nothing can happen. */
static bool command_step(struct world *w, struct command *c)
{
    if (c->moving) {
        size_t len;
        uint8_t *buf = scsi_request_data(c->req, &len);
        c->moving = false;
        if (!buf)
            return false;
        size_t n = MIN(len, c->cap - c->len);
        if (scsi_request_dir(c->req) == SCSI_TO_TARGET)
            memcpy(buf, c->data + c->len, n);
        else
            memcpy(c->data + c->len, buf, n);
        c->len += n;
        scsi_continue(c->req);
        return true;
    }
    return fake_step();
}

static inline void command_run(struct world *w, struct command *c)
{
    scsi_start(c->req);
    for (int i = 0; i < 10000 && !c->done; i++) {
        if (w->checkpoints && world_checkpoint(w) < 0)
            abort();
        if (!c->done && !command_step(w, c))
            break;
    }
}

static void command_free(struct world *w, struct command *c)
{
    for (unsigned i = 0; i < w->count; i++)
        if (w->commands[i] == c)
            w->commands[i--] = w->commands[--w->count];
    scsi_request_put(c->req);
    free(c->data);
    free(c);
}

static inline void world_begin(struct world *w, const char *const *devices, bool checkpoints)
{
    *w = (struct world){ .devices = devices, .checkpoints = checkpoints };
    memset(&fake, 0, sizeof fake);
    world_build(w);
}

static inline void world_end(struct world *w)
{
    while (w->count) {
        struct command *c = w->commands[0];
        if (c->req && !c->done) {
            scsi_cancel(c->req);
            while (!c->done && fake_step()) {}
        }
        command_free(w, c);
    }
    obj_tree_fini(&w->tree);
}

#endif
