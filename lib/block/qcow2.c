/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The format qcow2, versions 2 and 3, as QEMU's docs/interop/qcow2.txt has it: opening and closing.
 * Every number in the header is checked here before it is used; the tables are checked entry by
 * entry when they are.
 *
 * Not supported, and refused: backing files, encryption, external data files, extended L2
 * entries, compression other than zlib. Snapshots inside the image are kept, not made.
 */
#include "block/qcow2.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { MAGIC = 0x514649fb, HEADER_V2_BYTES = 72, HEADER_V3_BYTES = 104 };
enum { SLICES_DEFAULT_BYTES = 4 * 1024 * 1024, SLICES_MIN = 16 };
enum { BATCH_FIRST = 8 };     /* clusters reserved at first; then twice as many each time */

enum {
    INCOMPAT_DIRTY = 1 << 0, INCOMPAT_CORRUPT = 1 << 1, INCOMPAT_DATA_FILE = 1 << 2,
    INCOMPAT_COMPRESSION = 1 << 3, INCOMPAT_EXTENDED_L2 = 1 << 4,
};

struct header {
    be32 magic, version;
    be64 backing_file_offset;
    be32 backing_file_size, cluster_bits;
    be64 size;
    be32 crypt_method, l1_size;
    be64 l1_table_offset, refcount_table_offset;
    be32 refcount_table_clusters, nb_snapshots;
    be64 snapshots_offset;
    /* Version 3 */
    be64 incompatible_features, compatible_features, autoclear_features;
    be32 refcount_order, header_length;
};
_Static_assert(sizeof(struct header) == HEADER_V3_BYTES, "the header's layout");

#define REFUSE(...) error_set(err, -ENOTSUP, __VA_ARGS__)
#define INVALID(...) error_set(err, -EINVAL, __VA_ARGS__)

/* The name the image itself gives an incompatible feature we do not know. */
static void feature_name(struct block_node *file, uint64_t from, uint64_t cluster_size,
                         unsigned bit, char *name, size_t cap)
{
    enum { EXT_END = 0, EXT_FEATURE_NAMES = 0x6803f857 };
    uint8_t head[8], entry[48];

    snprintf(name, cap, "incompatible feature %u", bit);
    for (int ext = 0; ext < 32 && range_inside(from, 8, cluster_size); ext++) {
        if (file->ops->pread(file, from, head, 8) < 0)
            return;
        uint32_t type = be32_load(head), len = be32_load(head + 4);
        from += 8;
        if (type == EXT_END || !range_inside(from, len, cluster_size))
            return;
        for (uint32_t at = 0; type == EXT_FEATURE_NAMES && at + 48 <= len; at += 48) {
            if (file->ops->pread(file, from + at, entry, 48) < 0)
                return;
            if (entry[0] == 0 && entry[1] == bit) {
                snprintf(name, cap, "incompatible feature %u, '%.46s'", bit, entry + 2);
                for (char *p = name; *p; p++)
                    if (*p < ' ' || *p > '~')
                        *p = '?';
                return;
            }
        }
        from += align_up(len, 8);
    }
}

static int check_features(struct block_node *node, struct block_node *file,
                          const struct header *h, struct error *err)
{
    uint64_t bits = be64_get(h->incompatible_features);
    uint64_t known = INCOMPAT_DIRTY | INCOMPAT_CORRUPT;
    char name[96];

    if (bits & INCOMPAT_DATA_FILE)
        return REFUSE("the image keeps its data in another file");
    if (bits & INCOMPAT_EXTENDED_L2)
        return REFUSE("the image has extended L2 entries");
    if (bits & INCOMPAT_COMPRESSION)
        return REFUSE("the image is compressed with something other than zlib");
    if (bits & ~known) {
        feature_name(file, be32_get(h->header_length), 1ull << be32_get(h->cluster_bits),
                     __builtin_ctzll(bits & ~known), name, sizeof name);
        return REFUSE("the image uses %s", name);
    }
    if (bits && !node->read_only && node->auto_read_only)
        node->read_only = true;
    if (bits & INCOMPAT_CORRUPT && !node->read_only)
        return error_set(err, -EROFS, "the image is marked corrupt: open it read-only, or repair "
                         "it with 'qemu-img check -r all'");
    if (bits & INCOMPAT_DIRTY && !node->read_only)
        return error_set(err, -EROFS, "the image was not closed and its refcounts are out of "
                         "date: open it read-only, or repair it with 'qemu-img check -r all'");
    return 0;
}

/* Reads and checks the header as far as it says what kind of image this is. */
static int read_header(struct block_node *node, struct header *h, struct error *err)
{
    struct block_node *file = node->child;
    int r = file->ops->pread(file, 0, h, sizeof *h);

    if (r < 0)
        return error_set(err, r, "cannot read the image's header");
    if (be32_get(h->magic) != MAGIC)
        return INVALID("this is not a qcow2 image");
    uint32_t version = be32_get(h->version), cluster_bits = be32_get(h->cluster_bits);
    if (version != 2 && version != 3)
        return REFUSE("qcow2 version %u", version);
    if (cluster_bits < 9 || cluster_bits > 21)
        return INVALID("the image's cluster size of 2^%u bytes is not between 512 and 2 MiB",
                       cluster_bits);
    if (version == 2) {
        h->incompatible_features = h->compatible_features = h->autoclear_features = be64_of(0);
        h->refcount_order = be32_of(4);
        h->header_length = be32_of(HEADER_V2_BYTES);
    }
    uint32_t length = be32_get(h->header_length);
    if (version == 3 && (length < HEADER_V3_BYTES || length > 1u << cluster_bits))
        return INVALID("the image's header has an impossible length of %u", length);
    if ((r = check_features(node, file, h, err)) < 0)
        return r;
    if (be32_get(h->refcount_order) > 6)
        return INVALID("the image's refcounts have 2^%u bits", be32_get(h->refcount_order));
    if (be64_get(h->backing_file_offset))
        return REFUSE("the image has a backing file");
    if (be32_get(h->crypt_method))
        return REFUSE("the image is encrypted");
    return 0;
}

static int read_l1(struct qcow2 *q, const struct header *h, struct error *err)
{
    uint64_t entries = be32_get(h->l1_size), bytes = entries * 8;
    unsigned l2_coverage_bits = q->cluster_bits + q->l2_bits;
    uint64_t size = q->node->size;

    /* So that sums of an offset and a cluster, and their signed kin, have room. */
    if (size > INT64_MAX - (1ull << l2_coverage_bits))
        return INVALID("the image's virtual size is impossible");
    uint64_t need = (size + (1ull << l2_coverage_bits) - 1) >> l2_coverage_bits;
    if (bytes > QCOW2_L1_MAX_BYTES || need > entries)
        return INVALID("the image's L1 table has %llu entries, which does not suit its size",
                       (unsigned long long)entries);
    q->l1_offset = be64_get(h->l1_table_offset);
    q->l1_entries = entries;
    if (entries == 0)
        return 0;
    if (!q2_host_ok(q, q->l1_offset) ||
        !range_inside(q->l1_offset, bytes, align_up(q->file_end, q->cluster_size)))
        return INVALID("the image's L1 table is not in the file");

    q->l1 = malloc(bytes);
    if (!q->l1)
        return error_oom(err);
    int r = q->file->ops->pread(q->file, q->l1_offset, q->l1, bytes);
    if (r < 0)
        return error_set(err, r, "cannot read the image's L1 table");
    for (uint64_t i = 0; i < entries; i++)
        q->l1[i] = be64_load(&q->l1[i]);
    return 0;
}

/* What an older program may not know about is void once we write. */
static int clear_autoclear(struct qcow2 *q, const struct header *h, struct error *err)
{
    be64 zero = be64_of(0);

    if (!be64_get(h->autoclear_features))
        return 0;
    int r = q->file->ops->pwrite(q->file, offsetof(struct header, autoclear_features), &zero,
                                 sizeof zero, true);
    return r < 0 ? error_set(err, r, "cannot write the image's header") : 0;
}

static int open_for_writing(struct qcow2 *q, const struct header *h, struct error *err)
{
    struct refcounts *rc = &q->rc;

    if (q->file->align > 1 && q->cluster_size < q->file->align)
        return INVALID("cache.direct needs clusters of %u bytes or more here", q->file->align);
    *rc = (struct refcounts){
        .file = q->file, .cluster_bits = q->cluster_bits,
        .order = be32_get(h->refcount_order),
        .table_offset = be64_get(h->refcount_table_offset),
        .entries = ((uint64_t)be32_get(h->refcount_table_clusters) << q->cluster_bits) / 8,
        .l1_offset = q->l1_offset, .l1_bytes = q->l1_entries * 8,
        .growable = q->file->ops->truncate(q->file, q->file_end) == 0,
    };
    int r = refcounts_open(rc, err);
    if (r < 0)
        return r;
    q->next_batch = BATCH_FIRST;
    return clear_autoclear(q, h, err);
}

static int take_options(struct qcow2 *q, struct opts *opts, struct error *err)
{
    uint64_t cache = SLICES_DEFAULT_BYTES;
    bool lazy = false;
    int r;

    if ((r = opts_size(opts, "l2-cache-size", &cache, err)) < 0 ||
        (r = opts_bool(opts, "lazy-refcounts", &lazy, err)) < 0)
        return r;
    if (lazy)
        return REFUSE("option 'lazy-refcounts=on'");
    q->slices_max = MAX((uint64_t)SLICES_MIN,
                        MIN(cache, (uint64_t)1 << 30) / (8ull << q->slice_bits));
    return 0;
}

static int open_image(struct qcow2 *q, struct opts *opts, struct error *err)
{
    struct block_node *node = q->node;
    struct header h;

    int r = read_header(node, &h, err);
    if (r < 0)
        return r;
    q->version = be32_get(h.version);
    q->cluster_bits = be32_get(h.cluster_bits);
    q->cluster_size = 1ull << q->cluster_bits;
    q->l2_bits = q->cluster_bits - 3;
    q->slice_bits = MIN(q->l2_bits, (unsigned)__builtin_ctz(QCOW2_SLICE_MAX_BYTES / 8));
    node->size = be64_get(h.size);
    node->align = q->file->align;
    if ((r = q->file->ops->length(q->file, &q->file_end)) < 0)
        return error_set(err, r, "the image has no size");
    if ((r = take_options(q, opts, err)) < 0 || (r = read_l1(q, &h, err)) < 0)
        return r;
    return node->read_only ? 0 : open_for_writing(q, &h, err);
}

static int qcow2_open(struct block_node *node, struct opts *opts, struct block_fds *fds,
                      struct error *err)
{
    struct qcow2 *q = calloc(1, sizeof *q);
    if (!q)
        return error_oom(err);
    node->self = q;
    q->node = node;
    q->file = node->child;
    list_init(&q->lru);
    list_init(&q->make_waiters);
    list_init(&q->space_waiters);
    list_init(&q->changes);

    int r = open_image(q, opts, err);
    if (r < 0)
        error_prefix(err, "image '%s'", node->filename ? node->filename : node->name);
    return r;
}

static void qcow2_close(struct block_node *node)
{
    struct qcow2 *q = node->self;

    if (q->next_batch)          /* was open for writing */
        space_close(q);
    slices_free(q);
    refcounts_close(&q->rc);
    ranges_fini(&q->frees);
    ranges_fini(&q->retiring);
    ranges_fini(&q->rc_job.release);
    while (q->free_reqs) {
        struct q2_req *req = q->free_reqs;
        q->free_reqs = req->next;
        free(req);
    }
    free(q->inflated);
    free(q->l1);
    free(q);
}

static void qcow2_query(struct block_node *node, json_t *obj)
{
    struct qcow2 *q = node->self;

    json_object_set_new(obj, "cluster-size", json_integer((json_int_t)q->cluster_size));
    json_object_set_new(obj, "format-specific",
                        json_pack("{s:s, s:{s:s, s:b, s:i, s:b}}", "type", "qcow2", "data",
                                  "compat", q->version == 2 ? "0.10" : "1.1",
                                  "lazy-refcounts", 0, "refcount-bits", 1 << q->rc.order,
                                  "corrupt", q->broken));
}

const struct node_ops qcow2_ops = {
    .name = "qcow2", .format = true,
    .open = qcow2_open, .close = qcow2_close, .submit = qcow2_submit, .query = qcow2_query,
};
