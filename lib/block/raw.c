/* SPDX-License-Identifier: Apache-2.0 */
/* The format "raw": the file as it is, or a window of it ("offset", "size"). */
#include "block/internal.h"

#include <errno.h>

struct raw {
    uint64_t offset;
    bool window;            /* "size" was given: nothing lies past it */
};

static int raw_open(struct block_node *node, struct opts *opts, struct block_fds *fds,
                    struct error *err)
{
    uint64_t size = UINT64_MAX, file_size;
    int r;

    struct raw *raw = calloc(1, sizeof *raw);
    if (!raw)
        return error_oom(err);
    node->self = raw;
    if ((r = opts_size(opts, "offset", &raw->offset, err)) < 0 ||
        (r = opts_size(opts, "size", &size, err)) < 0)
        return r;
    raw->window = size != UINT64_MAX;
    if ((r = node->child->ops->length(node->child, &file_size)) < 0)
        return error_set(err, r, "block node '%s': its file has no size", node->name);
    if (raw->offset > file_size)
        return error_set(err, -EINVAL, "block node '%s': option 'offset' lies past the end of "
                         "the file, which has %llu bytes", node->name,
                         (unsigned long long)file_size);
    if (raw->window && size > file_size - raw->offset)
        return error_set(err, -EINVAL, "block node '%s': option 'size' reaches past the end of "
                         "the file, which has %llu bytes", node->name,
                         (unsigned long long)file_size);
    node->size = raw->window ? size : file_size - raw->offset;
    node->align = node->child->align;
    return 0;
}

static void raw_close(struct block_node *node) { free(node->self); }

static void on_child_done(struct bio *child, int result)
{
    struct bio *bio = child->opaque;

    bio_put(child->node->graph, child);
    bio->done(bio, result);
}

static void raw_submit(struct block_node *node, struct bio *bio)
{
    struct raw *raw = node->self;
    struct bio *child = bio_get(node->graph);

    if (!child) {
        bio_finish(bio, -ENOMEM);
        return;
    }
    child->op = bio->op;
    child->flags = bio->flags;
    child->offset = bio->offset + raw->offset;
    child->len = bio->len;
    child->iov = bio->iov;
    child->niov = bio->niov;
    child->skip = bio->skip;
    child->done = on_child_done;
    child->opaque = bio;
    node_submit(node->child, child);
}

static int raw_pread(struct block_node *node, uint64_t offset, void *buf, uint64_t len)
{
    struct raw *raw = node->self;
    return node->child->ops->pread(node->child, offset + raw->offset, buf, len);
}

static int raw_pwrite(struct block_node *node, uint64_t offset, const void *buf, uint64_t len,
                      bool fua)
{
    struct raw *raw = node->self;
    return node->child->ops->pwrite(node->child, offset + raw->offset, buf, len,
                                    fua && !node->no_flush);
}

static int raw_sync(struct block_node *node)
{
    return node->no_flush ? 0 : node->child->ops->sync(node->child);
}

static int raw_zeroes(struct block_node *node, uint64_t offset, uint64_t len, bool unmap)
{
    struct raw *raw = node->self;
    return node->child->ops->zeroes(node->child, offset + raw->offset, len,
                                    unmap && node->discard && node->child->discard);
}

static int raw_discard(struct block_node *node, uint64_t offset, uint64_t len)
{
    struct raw *raw = node->self;

    if (!node->discard || !node->child->discard)
        return 0;
    return node->child->ops->discard(node->child, offset + raw->offset, len);
}

static int raw_truncate(struct block_node *node, uint64_t size)
{
    struct raw *raw = node->self;

    if (raw->window)
        return -ENOTSUP;
    return node->child->ops->truncate(node->child, size + raw->offset);
}

static int raw_length(struct block_node *node, uint64_t *ret_size)
{
    struct raw *raw = node->self;
    int r;

    if (raw->window) {
        *ret_size = node->size;
        return 0;
    }
    if ((r = node->child->ops->length(node->child, ret_size)) < 0)
        return r;
    *ret_size -= MIN(raw->offset, *ret_size);
    return 0;
}

const struct node_ops raw_ops = {
    .name = "raw", .format = true,
    .open = raw_open, .close = raw_close, .submit = raw_submit,
    .pread = raw_pread, .pwrite = raw_pwrite, .sync = raw_sync, .zeroes = raw_zeroes,
    .discard = raw_discard, .truncate = raw_truncate, .length = raw_length,
};
