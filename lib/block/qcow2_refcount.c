/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refcounts: a table of blocks, each with the counts of many clusters. Blocking; see qcow2.h for
 * who may be here. A few blocks are cached and written back before each call returns.
 */
#include "block/qcow2.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>

enum { SCAN_BLOCKS = 8 };       /* read in one search for free clusters, before appending */

static uint64_t cluster_size(const struct refcounts *rc) { return 1ull << rc->cluster_bits; }

static uint64_t per_block(const struct refcounts *rc)
{
    return (cluster_size(rc) * 8) >> rc->order;
}

/* Counts of less than a byte stand in it from its lowest bit up; wider ones are big-endian. */
static uint64_t count_get(const struct refcounts *rc, const uint8_t *buf, uint64_t i)
{
    switch (rc->order) {
    case 3: return buf[i];
    case 4: return be16_load(buf + i * 2);
    case 5: return be32_load(buf + i * 4);
    case 6: return be64_load(buf + i * 8);
    default: {
        unsigned bits = 1u << rc->order, each = 8 / bits;
        return buf[i / each] >> (i % each * bits) & ((1u << bits) - 1);
    }
    }
}

static void count_put(const struct refcounts *rc, uint8_t *buf, uint64_t i, uint64_t v)
{
    switch (rc->order) {
    case 3: buf[i] = v; break;
    case 4: be16_store(buf + i * 2, v); break;
    case 5: be32_store(buf + i * 4, v); break;
    case 6: be64_store(buf + i * 8, v); break;
    default: {
        unsigned bits = 1u << rc->order, each = 8 / bits, shift = i % each * bits;
        uint8_t mask = ((1u << bits) - 1) << shift;
        buf[i / each] = (buf[i / each] & ~mask) | (v << shift & mask);
    }
    }
}

static int file_end(struct refcounts *rc, uint64_t *ret_end)
{
    return rc->file->ops->length(rc->file, ret_end);
}

/* Does [at, at + len) touch what we know to be in use, whatever a broken image counts? */
static bool is_own_metadata(const struct refcounts *rc, uint64_t at, uint64_t len)
{
    return at < cluster_size(rc) || ranges_overlap(at, len, rc->l1_offset, rc->l1_bytes) ||
           ranges_overlap(at, len, rc->table_offset, rc->entries * 8);
}

/* ---- The cache of blocks ------------------------------------------------------------------ */

static int block_write_back(struct refcounts *rc, struct rc_block *b, bool fua)
{
    if (b->dirty_from == b->dirty_to)
        return 0;
    uint64_t unit = MAX((uint64_t)512, (uint64_t)rc->file->align);
    uint64_t from = align_down(b->dirty_from, unit), to = align_up(b->dirty_to, unit);
    int r = rc->file->ops->pwrite(rc->file, rc->table[b->index] + from, b->buf + from,
                                  MIN(to, cluster_size(rc)) - from, fua);
    if (r == 0)
        b->dirty_from = b->dirty_to = 0;
    return r;
}

static int write_back_all(struct refcounts *rc, bool fua)
{
    int r = 0;

    for (int i = 0; i < RC_CACHE && r == 0; i++)
        r = block_write_back(rc, &rc->cache[i], fua);
    return r;
}

/* After an error: what is in memory may not be what is in the file. */
static void forget_all(struct refcounts *rc)
{
    for (int i = 0; i < RC_CACHE; i++) {
        rc->cache[i].index = UINT64_MAX;
        rc->cache[i].dirty_from = rc->cache[i].dirty_to = 0;
    }
}

static struct rc_block *cached(struct refcounts *rc, uint64_t index)
{
    for (int i = 0; i < RC_CACHE; i++) {
        if (rc->cache[i].index == index) {
            rc->cache[i].used = ++rc->clock;
            return &rc->cache[i];
        }
    }
    return NULL;
}

/* An empty place in the cache, with its memory. */
static int make_room(struct refcounts *rc, struct rc_block **ret_block)
{
    struct rc_block *oldest = &rc->cache[0];

    for (int i = 1; i < RC_CACHE; i++)
        if (rc->cache[i].used < oldest->used)
            oldest = &rc->cache[i];
    if (!oldest->buf && posix_memalign((void **)&oldest->buf, 4096,
                                       MAX(cluster_size(rc), (uint64_t)4096)))
        return -ENOMEM;
    int r = block_write_back(rc, oldest, true);
    if (r < 0)
        return r;
    oldest->index = UINT64_MAX;
    oldest->used = ++rc->clock;
    *ret_block = oldest;
    return 0;
}

/* The block must be there: table[index] is not zero. */
static int block_get(struct refcounts *rc, uint64_t index, struct rc_block **ret_block)
{
    struct rc_block *b = cached(rc, index);
    uint64_t end;
    int r;

    if (!b) {
        if ((r = file_end(rc, &end)) < 0)
            return r;
        uint64_t at = rc->table[index];
        if (at & (cluster_size(rc) - 1) ||
            !range_inside(at, cluster_size(rc), align_up(end, cluster_size(rc))))
            return -EIO;
        if ((r = make_room(rc, &b)) < 0)
            return r;
        if ((r = rc->file->ops->pread(rc->file, at, b->buf, cluster_size(rc))) < 0)
            return r;
        b->index = index;
    }
    *ret_block = b;
    return 0;
}

static void block_put(struct refcounts *rc, struct rc_block *b, uint64_t i, uint64_t v)
{
    uint64_t from = (i << rc->order) / 8, to = (((i + 1) << rc->order) + 7) / 8;

    count_put(rc, b->buf, i, v);
    if (b->dirty_from == b->dirty_to) {
        b->dirty_from = from;
        b->dirty_to = to;
    } else {
        b->dirty_from = MIN(b->dirty_from, from);
        b->dirty_to = MAX(b->dirty_to, to);
    }
}

/* ---- Growing ------------------------------------------------------------------------------ */

/* May the file have clusters up to end (bytes)? */
static int check_end(struct refcounts *rc, uint64_t end)
{
    uint64_t now;
    int r;

    if (end > QCOW2_HOST_MAX)
        return -EFBIG;
    if (rc->growable)
        return 0;
    if ((r = file_end(rc, &now)) < 0)
        return r;
    return end > now ? -ENOSPC : 0;
}

/* Makes a block for the counts around cluster, at that very cluster, which is free. */
static int add_block(struct refcounts *rc, uint64_t cluster)
{
    uint64_t index = cluster / per_block(rc), at = cluster << rc->cluster_bits;
    struct rc_block *b;
    be64 entry;
    int r;

    if ((r = check_end(rc, at + cluster_size(rc))) < 0 || (r = make_room(rc, &b)) < 0)
        return r;
    memset(b->buf, 0, cluster_size(rc));
    count_put(rc, b->buf, cluster % per_block(rc), 1);
    if ((r = rc->file->ops->pwrite(rc->file, at, b->buf, cluster_size(rc), true)) < 0)
        return r;
    entry = be64_of(at);
    r = rc->file->ops->pwrite(rc->file, rc->table_offset + index * 8, &entry, 8, true);
    if (r < 0)
        return r;
    rc->table[index] = at;
    b->index = index;
    return 0;
}

/* Writes the counts of [first, first + used) as one, in blocks of their own from the cluster at
 * onwards, and enters these in table. */
static int write_new_blocks(struct refcounts *rc, uint64_t *table, uint64_t first, uint64_t used,
                            uint64_t at)
{
    uint64_t per = per_block(rc), end = first + used;
    AUTO_FREE uint8_t *buf = NULL;
    int r = 0;

    if (posix_memalign((void **)&buf, 4096, MAX(cluster_size(rc), (uint64_t)4096)))
        return -ENOMEM;
    for (uint64_t index = first / per; index <= (end - 1) / per && r == 0; index++, at++) {
        memset(buf, 0, cluster_size(rc));
        for (uint64_t c = MAX(first, index * per); c < MIN(end, (index + 1) * per); c++)
            count_put(rc, buf, c - index * per, 1);
        table[index] = at << rc->cluster_bits;
        r = rc->file->ops->pwrite(rc->file, table[index], buf, cluster_size(rc), true);
    }
    return r;
}

static int write_table(struct refcounts *rc, const uint64_t *table, uint64_t entries,
                       uint64_t offset)
{
    AUTO_FREE be64 *buf = NULL;

    if (posix_memalign((void **)&buf, 4096, align_up(entries * 8, 4096)))
        return -ENOMEM;
    for (uint64_t i = 0; i < entries; i++)
        buf[i] = be64_of(table[i]);
    return rc->file->ops->pwrite(rc->file, offset, buf, entries * 8, true);
}

/* Moves the table to a larger place that starts at cluster, past all that the old one covers;
 * there is nothing. The table and the blocks that count it lie in one row. */
static int grow_table(struct refcounts *rc, uint64_t cluster)
{
    uint64_t per = per_block(rc), per_table_cluster = cluster_size(rc) / 8;
    uint64_t entries = align_up(cluster / per + 1 + rc->entries / 2, per_table_cluster);
    uint64_t table_clusters, blocks = 1, total;

    for (;;) {
        table_clusters = entries / per_table_cluster;
        total = table_clusters + blocks;
        uint64_t last = (cluster + total - 1) / per;
        if (last >= entries) {
            entries = align_up(last + 1, per_table_cluster);
            continue;
        }
        if (last - cluster / per + 1 <= blocks)
            break;
        blocks = last - cluster / per + 1;
    }
    if (entries * 8 > QCOW2_REFTABLE_MAX_BYTES)
        return -EFBIG;
    int r = check_end(rc, (cluster + total) << rc->cluster_bits);
    if (r < 0)
        return r;
    if (is_own_metadata(rc, cluster << rc->cluster_bits, total << rc->cluster_bits))
        return -EIO;

    uint64_t *table = calloc(entries, 8);
    if (!table)
        return -ENOMEM;
    memcpy(table, rc->table, rc->entries * 8);
    uint64_t offset = cluster << rc->cluster_bits;
    r = write_new_blocks(rc, table, cluster, total, cluster + table_clusters);
    if (r == 0)
        r = write_table(rc, table, entries, offset);
    if (r == 0) {
        struct { be64 offset; be32 clusters; } where = { be64_of(offset),
                                                         be32_of(table_clusters) };
        r = rc->file->ops->pwrite(rc->file, 48, &where, sizeof where, true);
    }
    if (r < 0) {
        free(table);
        return r;
    }
    struct q2_range old = { rc->table_offset, rc->entries / per_table_cluster, false };
    free(rc->table);
    rc->table = table;
    rc->entries = entries;
    rc->table_offset = offset;
    r = refcounts_release(rc, &old, 1, false);
    /* That wrote back counts which the caller counts on as stable. */
    return r < 0 ? r : rc->file->ops->sync(rc->file);
}

/* ---- Public ------------------------------------------------------------------------------- */

int refcounts_open(struct refcounts *rc, struct error *err)
{
    uint64_t bytes = rc->entries * 8, end;
    int r;

    for (int i = 0; i < RC_CACHE; i++)
        rc->cache[i].index = UINT64_MAX;
    if ((r = file_end(rc, &end)) < 0)
        return error_set(err, r, "the image has no size");
    if (bytes == 0 || bytes > QCOW2_REFTABLE_MAX_BYTES || rc->table_offset == 0 ||
        rc->table_offset & (cluster_size(rc) - 1) ||
        !range_inside(rc->table_offset, bytes, align_up(end, cluster_size(rc))))
        return error_set(err, -EINVAL, "the image's refcount table is not in the file");

    AUTO_FREE be64 *raw = malloc(bytes);
    rc->table = malloc(bytes);
    if (!raw || !rc->table)
        return error_oom(err);
    if ((r = rc->file->ops->pread(rc->file, rc->table_offset, raw, bytes)) < 0)
        return error_set(err, r, "cannot read the image's refcount table");
    for (uint64_t i = 0; i < rc->entries; i++)
        rc->table[i] = be64_get(raw[i]) & ~511ull;
    return 0;
}

void refcounts_close(struct refcounts *rc)
{
    for (int i = 0; i < RC_CACHE; i++)
        free(rc->cache[i].buf);
    free(rc->table);
    rc->table = NULL;
}

/* Adds a cluster to the row that ends before it, or a new row; false when there is no room. */
static bool add_to_rows(struct refcounts *rc, struct q2_range *ranges, unsigned *n,
                        uint64_t cluster, bool fresh)
{
    uint64_t at = cluster << rc->cluster_bits;
    struct q2_range *last = *n ? &ranges[*n - 1] : NULL;

    if (last && last->fresh == fresh && last->host + (last->count << rc->cluster_bits) == at) {
        last->count++;
        return true;
    }
    if (*n == QCOW2_SPARE_MAX)
        return false;
    ranges[(*n)++] = (struct q2_range){ at, 1, fresh };
    return true;
}

static int search(struct refcounts *rc, uint64_t want, uint64_t old_end, struct q2_range *ranges,
                  unsigned *n)
{
    uint64_t cluster = rc->hint, got = 0, per = per_block(rc);
    uint64_t end_cluster = align_up(old_end, cluster_size(rc)) >> rc->cluster_bits;
    uint64_t steps = 0, steps_max = (SCAN_BLOCKS + 4) * per;
    unsigned scanned = 0;

    while (got < want) {
        uint64_t index = cluster / per;
        struct rc_block *b;
        int r;

        /* A broken image may count what is not even there; a device's end is an end anyway. */
        if (rc->growable && ++steps > steps_max)
            return got ? 0 : -EIO;

        if ((r = check_end(rc, (cluster + 1) << rc->cluster_bits)) < 0)
            return got ? 0 : r;
        if (is_own_metadata(rc, cluster << rc->cluster_bits, cluster_size(rc))) {
            cluster++;
            continue;
        }
        if (index >= rc->entries || !rc->table[index]) {
            if (cluster < end_cluster && rc->growable) {
                /* Should be free; but append, lest a broken image overwrite itself. */
                cluster = end_cluster;
                continue;
            }
            r = index >= rc->entries ? grow_table(rc, cluster) : add_block(rc, cluster);
            if (r < 0)
                return got ? 0 : r;
            continue;
        }
        if (!cached(rc, index) && ++scanned > SCAN_BLOCKS && cluster < end_cluster &&
            rc->growable) {
            /* A long file without holes so far: append now, look further another time. */
            if (got)
                break;
            rc->hint = cluster;
            cluster = end_cluster;
            continue;
        }
        if ((r = block_get(rc, index, &b)) < 0)
            return r;
        if (count_get(rc, b->buf, cluster % per) == 0) {
            bool fresh = rc->growable && cluster >= end_cluster;
            if (!add_to_rows(rc, ranges, n, cluster, fresh))
                break;
            block_put(rc, b, cluster % per, 1);
            got++;
        }
        cluster++;
    }
    if (scanned <= SCAN_BLOCKS)
        rc->hint = cluster;
    return 0;
}

int refcounts_reserve(struct refcounts *rc, uint64_t want, struct q2_range *ranges,
                      unsigned *ret_n, uint64_t *ret_file_end)
{
    uint64_t old_end, end, hint = rc->hint;
    unsigned n = 0;

    int r = file_end(rc, &old_end);
    if (r == 0)
        r = search(rc, want, old_end, ranges, &n);
    if (r == 0 && (r = file_end(rc, &end)) == 0 && rc->growable) {
        uint64_t need = end;
        for (unsigned i = 0; i < n; i++)
            need = MAX(need, ranges[i].host + (ranges[i].count << rc->cluster_bits));
        if (need > end)
            r = rc->file->ops->truncate(rc->file, need);
        end = need;
    }
    if (r == 0)
        r = write_back_all(rc, true);
    if (r < 0) {
        forget_all(rc);
        rc->hint = hint;
        return r;
    }
    *ret_n = n;
    *ret_file_end = end;
    return 0;
}

int refcounts_release(struct refcounts *rc, const struct q2_range *ranges, size_t n,
                      bool discard)
{
    uint64_t per = per_block(rc), wrong = 0;
    int r = 0;

    for (size_t i = 0; i < n && r == 0; i++) {
        uint64_t first = ranges[i].host >> rc->cluster_bits, run = 0;
        for (uint64_t c = first; c <= first + ranges[i].count && r == 0; c++) {
            bool freed = false;
            if (c < first + ranges[i].count) {
                struct rc_block *b;
                uint64_t count = 0;
                if (c / per < rc->entries && rc->table[c / per]) {
                    if ((r = block_get(rc, c / per, &b)) < 0)
                        break;
                    count = count_get(rc, b->buf, c % per);
                }
                if (count)
                    block_put(rc, b, c % per, count - 1);
                wrong += count == 0;
                freed = count == 1;
            }
            if (freed) {
                rc->hint = MIN(rc->hint, c);
                run++;
            } else if (run) {
                /* Advice to the host; the image is as good without. */
                if (discard)
                    (void)rc->file->ops->discard(rc->file, (c - run) << rc->cluster_bits,
                                                 run << rc->cluster_bits);
                run = 0;
            }
        }
    }
    if (r == 0)
        r = write_back_all(rc, false);
    if (r < 0)
        forget_all(rc);
    if (wrong)
        log_warn("image '%s': %llu clusters were in use with a refcount of zero; "
                 "'qemu-img check' tells more", rc->file->filename, (unsigned long long)wrong);
    return r;
}
