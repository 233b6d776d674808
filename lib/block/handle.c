/* SPDX-License-Identifier: Apache-2.0 */
/* A device's handle on a node: checks each request, counts it, and drains. */
#include "block/internal.h"

#include <errno.h>
#include <string.h>

struct block {
    struct block_graph *graph;
    struct block_node *node;
    bool writable;
    bool write_cache;
    unsigned inflight;
    char *user_id;
    struct list link;
};

int block_attach(struct block_graph *graph, const char *node_name, bool writable,
                 const char *user_id, struct block **ret_block, struct error *err)
{
    struct block_node *node = node_find(graph, node_name);

    if (!node)
        return error_set(err, -ENOENT, "block node '%s'", node_name);
    if (writable && node->read_only)
        return error_set(err, -EROFS, "'%s' cannot write to block node '%s'", user_id, node_name);
    if (writable && (node->has_writer || node->parents))
        return error_set(err, -EBUSY, "'%s' cannot write to block node '%s', which has a user",
                         user_id, node_name);

    struct block *block = calloc(1, sizeof *block);
    if (!block || !(block->user_id = strdup(user_id ? user_id : ""))) {
        free(block);
        return error_oom(err);
    }
    block->graph = graph;
    block->node = node;
    block->writable = writable;
    block->write_cache = true;
    node->users++;
    node->has_writer |= writable;
    list_add_tail(&graph->blocks, &block->link);
    *ret_block = block;
    return 0;
}

void block_detach(struct block *block)
{
    if (!block)
        return;
    block_drain(block);
    block->node->users--;
    if (block->writable)
        block->node->has_writer = false;
    list_del(&block->link);
    free(block->user_id);
    free(block);
}

uint64_t block_size(const struct block *block) { return block->node->size; }
bool block_read_only(const struct block *block) { return !block->writable; }
unsigned block_alignment(const struct block *block) { return block->node->align; }
bool block_write_cache(const struct block *block) { return block->write_cache; }
void block_set_write_cache(struct block *block, bool on) { block->write_cache = on; }

void block_request_done(struct block_request *req, int result)
{
    struct block *block = req->block;

    req->result = result;
    block->inflight--;
    req->done(req, result);     /* the handle may be gone after this */
}

static void on_done(struct bio *bio, int result)
{
    struct block_request *req = bio->opaque;

    bio_put(req->block->graph, bio);
    block_request_done(req, result);
}

static void fail_later(struct block_request *req, int result)
{
    struct block_graph *graph = req->block->graph;

    req->result = result;
    req->next = NULL;
    *graph->failed_tail = req;
    graph->failed_tail = &req->next;
    graph_schedule(graph);
}

static void start(struct block *block, struct block_request *req, enum bio_op op, unsigned flags,
                  uint64_t offset, uint64_t len, const struct iovec *iov, int niov)
{
    req->block = block;
    req->op = op;
    req->offset = offset;
    req->len = len;
    req->iov = iov;
    req->niov = niov;
    block->inflight++;
    if (!range_inside(offset, len, block->node->size)) {
        fail_later(req, -EINVAL);
        return;
    }
    if (!block->writable && op != BIO_READ && op != BIO_FLUSH) {
        fail_later(req, -EROFS);
        return;
    }
    struct bio *bio = bio_get(block->graph);
    if (!bio) {
        fail_later(req, -ENOMEM);
        return;
    }
    bio->op = op;
    bio->flags = flags;
    bio->offset = offset;
    bio->len = len;
    bio->iov = iov;
    bio->niov = niov;
    bio->done = on_done;
    bio->opaque = req;
    bio->node = block->node;
    if (len == 0 && op != BIO_FLUSH)
        bio_finish(bio, 0);
    else
        node_submit(block->node, bio);
}

void block_read(struct block *block, struct block_request *req, uint64_t offset,
                const struct iovec *iov, int niov)
{
    start(block, req, BIO_READ, 0, offset, iov_total(iov, niov), iov, niov);
}

void block_write(struct block *block, struct block_request *req, uint64_t offset,
                 const struct iovec *iov, int niov, bool fua)
{
    start(block, req, BIO_WRITE, fua || !block->write_cache ? BIO_FUA : 0, offset,
          iov_total(iov, niov), iov, niov);
}

void block_flush(struct block *block, struct block_request *req)
{
    start(block, req, BIO_FLUSH, 0, 0, 0, NULL, 0);
}

void block_discard(struct block *block, struct block_request *req, uint64_t offset, uint64_t len)
{
    start(block, req, BIO_DISCARD, 0, offset, len, NULL, 0);
}

void block_write_zeroes(struct block *block, struct block_request *req, uint64_t offset,
                        uint64_t len, bool may_unmap)
{
    start(block, req, BIO_ZEROES, (may_unmap ? BIO_UNMAP : 0) |
          (block->write_cache ? 0 : BIO_FUA), offset, len, NULL, 0);
}

void block_drain(struct block *block)
{
    while (block->inflight)
        graph_poll(block->graph, true);
}

void block_drain_all(struct block_graph *graph)
{
    bool any;

    do {
        any = false;
        list_for_each(struct block, block, &graph->blocks, link) {
            if (!block->inflight)
                continue;
            any = true;
            graph_poll(graph, true);
            break;      /* completions may have changed the list */
        }
    } while (any);
}
