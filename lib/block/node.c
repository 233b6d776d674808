/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes: made from options, found by name, described to QMP, taken away again. */
#include "block/internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct node_ops *const drivers[] = { &file_ops, &raw_ops, &qcow2_ops };

static const struct node_ops *driver_find(const char *name)
{
    if (!strcmp(name, "host_device"))
        name = "file";
    for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
        if (!strcmp(drivers[i]->name, name))
            return drivers[i];
    return NULL;
}

struct block_node *node_find(struct block_graph *graph, const char *name)
{
    list_for_each(struct block_node, node, &graph->nodes, link)
        if (!strcmp(node->name, name))
            return node;
    return NULL;
}

/* Closes and frees a node in whatever state its making left it, and what it owns. */
static void node_free(struct block_node *node)
{
    if (!node)
        return;
    struct block_node *child = node->child;
    if (node->self)
        node->ops->close(node);
    list_del(&node->link);
    free(node->filename);
    if (child && --child->parents == 0 && node->child_owned)
        node_free(child);
    free(node);
}

static bool name_ok(const char *name)
{
    size_t len = strlen(name);

    if (len == 0 || len >= NODE_NAME_MAX || !isalpha((unsigned char)name[0]))
        return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("-._", name[i]))
            return false;
    return true;
}

static int take_name(struct block_graph *graph, struct opts *opts, bool nested,
                     char ret_name[NODE_NAME_MAX], struct error *err)
{
    AUTO_FREE char *name = NULL;
    int r = opts_text(opts, "node-name", &name, err);

    if (r < 0)
        return r;
    if (!name && !nested)
        return error_set(err, -EINVAL, "a block node needs the option 'node-name'");
    if (!name) {
        snprintf(ret_name, NODE_NAME_MAX, "#block%03u", graph->next_anonymous++);
        return 0;
    }
    if (!name_ok(name))
        return error_set(err, -EINVAL,
                         "node name '%s' is not a letter followed by letters, digits, '-', '.' "
                         "or '_', 63 at most", name);
    if (node_find(graph, name))
        return error_set(err, -EEXIST, "block node '%s'", name);
    snprintf(ret_name, NODE_NAME_MAX, "%s", name);
    return 0;
}

static int node_build(struct block_graph *graph, struct opts *opts, struct inherit common,
                      struct block_fds *fds, struct block_node **ret_node, struct error *err);

/* The node under a format: named, or described in place. */
static int open_child(struct block_node *node, struct opts *opts, const struct inherit *common,
                      struct block_fds *fds, struct error *err)
{
    json_t *file = opts_take(opts, "file");
    const char *name = json_string_value(file);
    struct block_node *child = NULL;
    int r = 0;

    if (name) {
        child = node_find(node->graph, name);
        if (!child || !child->opened)       /* itself, or what it is to be inside of */
            r = error_set(err, -ENOENT, "block node '%s': there is no node '%s' for its option "
                          "'file'", node->name, name);
        else if (child->parents || child->has_writer)
            r = error_set(err, -EBUSY, "block node '%s': node '%s' already has a user",
                          node->name, name);
    } else if (json_is_object(file)) {
        struct inherit inner = *common;
        struct opts child_opts;
        inner.nested = true;
        inner.discard = true;
        r = opts_init(&child_opts, file, err);
        if (r >= 0) {
            r = node_build(node->graph, &child_opts, inner, fds, &child, err);
            opts_fini(&child_opts);
        }
        node->child_owned = r >= 0;
    } else {
        r = error_set(err, -EINVAL, "block node '%s': option 'file' must name or describe a node",
                      node->name);
    }
    json_decref(file);
    if (r < 0)
        return r;

    child->parents++;
    node->child = child;
    if (!child->ops->pread)
        return error_set(err, -ENOTSUP, "block node '%s': a format on top of the format '%s'",
                         node->name, child->ops->name);
    if (child->filename && !(node->filename = strdup(child->filename)))
        return error_oom(err);
    if (child->read_only && !node->read_only) {
        if (!node->auto_read_only && !child->auto_read_only)
            return error_set(err, -EACCES, "block node '%s': node '%s' is read-only and this one "
                             "is not", node->name, child->name);
        node->read_only = true;
    }
    return 0;
}

static int node_open(struct block_node *node, struct opts *opts, struct inherit common,
                     struct block_fds *fds, struct error *err)
{
    static const char *const detects[] = { "off", "on", "unmap", NULL };
    int detect = DETECT_OFF, r;

    if ((r = opts_common(opts, &common, err)) < 0 ||
        (r = opts_choice(opts, "detect-zeroes", detects, &detect, err)) < 0)
        return r;
    if (detect == DETECT_UNMAP && !common.discard)
        return error_set(err, -EINVAL, "block node '%s': option 'detect-zeroes=unmap' needs "
                         "'discard=unmap'", node->name);
    node->detect_zeroes = detect;
    node->read_only = common.read_only;
    node->auto_read_only = common.auto_read_only;
    node->direct = common.direct;
    node->no_flush = common.no_flush;
    node->discard = common.discard;
    node->align = 1;
    if (node->ops->format && (r = open_child(node, opts, &common, fds, err)) < 0)
        return r;
    if ((r = node->ops->open(node, opts, fds, err)) < 0)
        return r;
    return opts_finish(opts, err);
}

static int node_build(struct block_graph *graph, struct opts *opts, struct inherit common,
                      struct block_fds *fds, struct block_node **ret_node, struct error *err)
{
    AUTO_FREE char *driver = NULL;
    char name[NODE_NAME_MAX];
    int r;

    if ((r = take_name(graph, opts, common.nested, name, err)) < 0)
        return r;
    snprintf(opts->name, sizeof opts->name, "%s", name);
    if ((r = opts_text(opts, "driver", &driver, err)) < 0)
        return r;
    if (!driver)
        return error_set(err, -EINVAL, "block node '%s' needs the option 'driver'", name);
    const struct node_ops *ops = driver_find(driver);
    if (!ops)
        return error_set(err, -EINVAL, "block node '%s': there is no block driver '%s'", name,
                         driver);

    struct block_node *node = calloc(1, sizeof *node);
    if (!node)
        return error_oom(err);
    node->graph = graph;
    node->ops = ops;
    node->owned = common.nested;
    node->host_device = !strcmp(driver, "host_device");
    snprintf(node->name, sizeof node->name, "%s", name);
    list_add_tail(&graph->nodes, &node->link);
    r = node_open(node, opts, common, fds, err);
    if (r < 0) {
        node_free(node);
        return r;
    }
    node->opened = true;
    *ret_node = node;
    return 0;
}

int block_node_add(struct block_graph *graph, const json_t *options, struct block_fds *fds,
                   struct error *err)
{
    struct block_node *node;
    struct opts opts;

    int r = opts_init(&opts, options, err);
    if (r < 0)
        return r;
    r = node_build(graph, &opts, (struct inherit){ 0 }, fds, &node, err);
    opts_fini(&opts);
    return r < 0 ? r : 0;
}

int block_node_del(struct block_graph *graph, const char *node_name, struct error *err)
{
    struct block_node *node = node_find(graph, node_name);

    if (!node)
        return error_set(err, -ENOENT, "block node '%s'", node_name);
    if (node->owned)
        return error_set(err, -EBUSY, "block node '%s' is part of another node", node_name);
    if (node->users || node->parents)
        return error_set(err, -EBUSY, "block node '%s' is in use", node_name);
    node_free(node);
    return 0;
}

void graph_drop_all(struct block_graph *graph)
{
    bool any = true;

    while (any) {
        any = false;
        list_for_each(struct block_node, node, &graph->nodes, link) {
            if (node->parents)
                continue;
            node_free(node);
            any = true;
            break;      /* its children went with it: the cursor is stale */
        }
    }
}

void node_submit(struct block_node *node, struct bio *bio)
{
    bio->node = node;
    if (bio->op == BIO_WRITE && node->detect_zeroes &&
        iov_is_zero(bio->iov, bio->niov, bio->skip, bio->len)) {
        bio->op = BIO_ZEROES;
        if (node->detect_zeroes == DETECT_UNMAP)
            bio->flags |= BIO_UNMAP;
    }
    if (!node->discard)
        bio->flags &= ~BIO_UNMAP;
    if (node->no_flush) {
        bio->flags &= ~BIO_FUA;
        if (bio->op == BIO_FLUSH && node->ops != &qcow2_ops) {     /* which tidies up, too */
            bio_finish(bio, 0);
            return;
        }
    }
    if (bio->op == BIO_DISCARD && !node->discard) {
        bio_finish(bio, 0);
        return;
    }
    if (node->read_only && bio->op != BIO_READ && bio->op != BIO_FLUSH) {
        bio_finish(bio, -EROFS);
        return;
    }
    node->ops->submit(node, bio);
}

static json_t *describe(struct block_node *node)
{
    static const char *const detects[] = { "off", "on", "unmap" };
    const char *filename = node->filename ? node->filename : "";

    json_t *obj = json_pack("{s:s, s:s, s:s, s:b, s:s, s:{s:b, s:b, s:b}, s:b}",
                            "node-name", node->name, "drv", node->ops->name, "file", filename,
                            "ro", node->read_only,
                            "detect_zeroes", detects[node->detect_zeroes],
                            "cache", "writeback", true, "direct", node->direct,
                            "no-flush", node->no_flush,
                            "encrypted", false);
    json_t *image = json_pack("{s:s, s:s, s:I}", "filename", filename, "format",
                              node->ops->name, "virtual-size", (json_int_t)node->size);
    if (node->ops->query)
        node->ops->query(node, image);
    json_object_set_new(obj, "image", image);
    return obj;
}

json_t *block_graph_query(struct block_graph *graph)
{
    json_t *all = json_array();

    list_for_each(struct block_node, node, &graph->nodes, link)
        json_array_append_new(all, describe(node));
    return all;
}
