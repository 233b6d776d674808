/* SPDX-License-Identifier: Apache-2.0 */
/*
 * L1 and L2. L2 tables are cached in slices of at most 4 KiB, always as they are in the file but
 * for the changes being written: those that come while a slice is on its way to the file wait
 * and go together in the next write.
 */
#include "block/qcow2.h"

#include <errno.h>
#include <string.h>

static uint64_t slice_bytes(const struct qcow2 *q) { return 8ull << q->slice_bits; }

static struct q2_slice **bucket(struct qcow2 *q, uint64_t index)
{
    return &q->hash[index * 0x9e3779b97f4a7c15ull >> 56];
}

static struct q2_slice *slice_find(struct qcow2 *q, uint64_t index)
{
    struct q2_slice *s = *bucket(q, index);

    while (s && s->index != index)
        s = s->hash_next;
    return s;
}

static bool slice_busy(const struct q2_slice *s)
{
    return s->loading || s->writing || !list_empty(&s->pending) || !list_empty(&s->waiters);
}

static void slice_drop(struct qcow2 *q, struct q2_slice *s)
{
    struct q2_slice **at = bucket(q, s->index);

    while (*at != s)
        at = &(*at)->hash_next;
    *at = s->hash_next;
    list_del(&s->lru);
    q->slices--;
    ranges_fini(&s->old);
    free(s->entries);
    free(s);
}

void slices_free(struct qcow2 *q)
{
    list_for_each(struct q2_slice, s, &q->lru, lru)
        slice_drop(q, s);
}

/* The least recently used that nobody waits for; the cache grows past its bound while all are
 * busy, that is by less than there are requests. */
static void evict(struct qcow2 *q)
{
    for (struct list *at = q->lru.prev; at != &q->lru && q->slices >= q->slices_max;) {
        struct q2_slice *s = list_entry(at, struct q2_slice, lru);
        at = at->prev;
        if (!slice_busy(s))
            slice_drop(q, s);
    }
}

static struct q2_slice *slice_new(struct qcow2 *q, uint64_t index)
{
    evict(q);
    struct q2_slice *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    if (posix_memalign((void **)&s->entries, 4096, slice_bytes(q))) {
        free(s);
        return NULL;
    }
    s->index = index;
    list_init(&s->waiters);
    list_init(&s->pending);
    list_init(&s->committing);
    s->hash_next = *bucket(q, index);
    *bucket(q, index) = s;
    list_add_head(&q->lru, &s->lru);
    q->slices++;
    return s;
}

/* Where the slice lies in the file; 0: its table's place is invalid or there is none. */
static uint64_t slice_offset(const struct qcow2 *q, uint64_t index)
{
    uint64_t cluster = index << q->slice_bits;
    uint64_t table = q->l1[cluster >> q->l2_bits] & QCOW2_OFFSET;

    if (!q2_host_ok(q, table))
        return 0;
    return table + (cluster & ((1ull << q->l2_bits) - 1)) * 8;
}

/* ---- Loading ------------------------------------------------------------------------------ */

static void on_loaded(struct bio *bio, int result)
{
    struct qcow2 *q = bio->opaque;
    struct q2_slice *s = container_of(bio->iov, struct q2_slice, iov);
    struct list waiters;

    bio_put(q->node->graph, bio);
    s->loading = false;
    s->stale = result < 0;
    list_take_all(&s->waiters, &waiters);
    if (result < 0)
        req_fail_all(&waiters, result);
    else
        req_wake_all(&waiters);
}

static int start_loading(struct qcow2 *q, struct q2_slice *s, uint64_t offset)
{
    struct bio *bio = bio_get(q->node->graph);

    if (!bio)
        return -ENOMEM;
    s->loading = true;
    s->iov = (struct iovec){ s->entries, slice_bytes(q) };
    bio->op = BIO_READ;
    bio->offset = offset;
    bio->len = slice_bytes(q);
    bio->iov = &s->iov;
    bio->niov = 1;
    bio->done = on_loaded;
    bio->opaque = q;
    node_submit(q->file, bio);
    return 0;
}

int slice_get(struct qcow2 *q, struct q2_req *req, uint64_t cluster, struct q2_slice **ret_slice)
{
    uint64_t l1_index = cluster >> q->l2_bits, index = cluster >> q->slice_bits;

    if (!(q->l1[l1_index] & QCOW2_OFFSET))
        return SLICE_NONE;
    struct q2_slice *s = slice_find(q, index);
    if (s && !s->loading && !s->stale) {
        if (q->lru.next != &s->lru) {
            list_del(&s->lru);
            list_add_head(&q->lru, &s->lru);
        }
        *ret_slice = s;
        return SLICE_READY;
    }
    if (!s || !s->loading) {
        uint64_t offset = slice_offset(q, index);
        if (!offset)
            return q2_broken(q, "L1 entry", l1_index);
        if (!s && !(s = slice_new(q, index)))
            return -ENOMEM;
        int r = s->writing ? 0 : start_loading(q, s, offset);
        if (r < 0) {
            s->stale = true;
            return r;
        }
    }
    list_add_tail(&s->waiters, &req->wait_link);
    return SLICE_WAIT;
}

uint64_t slice_entry(const struct qcow2 *q, const struct q2_slice *s, uint64_t cluster)
{
    return be64_get(s->entries[cluster & ((1ull << q->slice_bits) - 1)]);
}

/* ---- Changing ----------------------------------------------------------------------------- */

static uint64_t changed_entry(const struct qcow2 *q, const struct q2_req *req, uint64_t i,
                              uint64_t old)
{
    switch (req->change) {
    case CHANGE_MAP:
        return (req->host + (i << q->cluster_bits)) | QCOW2_COPIED;
    case CHANGE_ZERO:
        if (!(old & QCOW2_OFFSET) && !(old & QCOW2_COMPRESSED))
            return old;         /* reads as zeros as it is */
        if (old & QCOW2_COPIED)
            return old | QCOW2_ZERO;
        return QCOW2_ZERO;
    case CHANGE_CLEAR:
    default:
        return 0;
    }
}

/* Stores one request's change; notes what was mapped there before. */
static void apply(struct qcow2 *q, struct q2_slice *s, struct q2_req *req)
{
    uint64_t first = req->first & ((1ull << q->slice_bits) - 1);

    for (uint64_t i = 0; i < req->count; i++) {
        uint64_t old = be64_get(s->entries[first + i]);
        uint64_t new = changed_entry(q, req, i, old);
        if ((old ^ new) & QCOW2_OFFSET || old & QCOW2_COMPRESSED)
            space_give_back_entry(q, &s->old, old);
        s->entries[first + i] = be64_of(new);
    }
    uint64_t from = first * 8, to = (first + req->count) * 8;
    if (s->dirty_from == s->dirty_to) {
        s->dirty_from = from;
        s->dirty_to = to;
    } else {
        s->dirty_from = MIN(s->dirty_from, from);
        s->dirty_to = MAX(s->dirty_to, to);
    }
}

static void end_changes(struct list *changes, int result)
{
    while (!list_empty(changes)) {
        struct q2_req *req = list_first(changes, struct q2_req, wait_link);
        list_del(&req->wait_link);
        req_change_done(req, result);
    }
}

static void slice_write(struct qcow2 *q, struct q2_slice *s);

/* The slice has been written, or could not be. It is "writing" up to the end of this, so that it
 * stays in the cache whatever the completions do. */
static void written(struct qcow2 *q, struct q2_slice *s, int result)
{
    s->dirty_from = s->dirty_to = 0;
    s->stale = result < 0;
    /* After a failure nobody knows what the file says: what was mapped stays counted. */
    for (size_t i = 0; i < s->old.n && result == 0; i++)
        space_give_back(q, s->old.at[i].host, s->old.at[i].count);
    s->old.n = s->old.clusters = 0;
    end_changes(&s->committing, result);
    if (result < 0)
        end_changes(&s->pending, result);
    s->writing = false;
    if (!list_empty(&s->pending))
        slice_write(q, s);
    else if (s->stale)
        req_wake_all(&s->waiters);      /* the first of them starts to load it */
}

static void on_written(struct bio *bio, int result)
{
    struct qcow2 *q = bio->opaque;
    struct q2_slice *s = container_of(bio->iov, struct q2_slice, iov);

    bio_put(q->node->graph, bio);
    written(q, s, result);
}

static void slice_write(struct qcow2 *q, struct q2_slice *s)
{
    uint64_t unit = MIN(MAX((uint64_t)512, (uint64_t)q->file->align), slice_bytes(q));

    while (!list_empty(&s->pending)) {
        struct q2_req *req = list_first(&s->pending, struct q2_req, wait_link);
        list_del(&req->wait_link);
        list_add_tail(&s->committing, &req->wait_link);
        apply(q, s, req);
    }
    s->writing = true;
    uint64_t from = align_down(s->dirty_from, unit);
    uint64_t offset = slice_offset(q, s->index);
    struct bio *bio = bio_get(q->node->graph);
    if (!bio) {
        written(q, s, -ENOMEM);
        return;
    }
    if (!offset) {
        bio_put(q->node->graph, bio);
        written(q, s, -EIO);
        return;
    }
    s->iov = (struct iovec){ (char *)s->entries + from, align_up(s->dirty_to, unit) - from };
    bio->op = BIO_WRITE;
    bio->offset = offset + from;
    bio->len = s->iov.iov_len;
    bio->iov = &s->iov;
    bio->niov = 1;
    bio->done = on_written;
    bio->opaque = q;
    node_submit(q->file, bio);
}

void slice_change(struct qcow2 *q, struct q2_slice *s, struct q2_req *req)
{
    list_add_tail(&s->pending, &req->wait_link);
    if (!s->writing)
        slice_write(q, s);
}

/* ---- New L2 tables ------------------------------------------------------------------------ */

static int copy_table(struct qcow2 *q)
{
    uint64_t from = q->make.old_entry & QCOW2_OFFSET;
    AUTO_FREE void *buf = NULL;

    if (posix_memalign(&buf, 4096, MAX(q->cluster_size, (uint64_t)4096)))
        return -ENOMEM;
    int r = q->file->ops->pread(q->file, from, buf, q->cluster_size);
    if (r == 0)
        r = q->file->ops->pwrite(q->file, q->make.host, buf, q->cluster_size, true);
    return r;
}

/* Helper thread. Nothing in make changes while it is busy. */
static void run_make(struct job *job)
{
    struct qcow2 *q = container_of(job, struct qcow2, make.job);
    int r = 0;

    if (q->make.old_entry & QCOW2_OFFSET) {
        r = copy_table(q);
    } else if (!q->make.fresh) {
        r = q->file->ops->zeroes(q->file, q->make.host, q->cluster_size, false);
        if (r == 0)
            r = q->file->ops->sync(q->file);
    }
    if (r == 0)
        r = q->file->ops->pwrite(q->file, q->make.sector_offset, q->make.sector,
                                 q->make.sector_len, true);
    q->make.result = r;
}

static void make_done(struct job *job)
{
    struct qcow2 *q = container_of(job, struct qcow2, make.job);

    q->make.busy = false;
    if (q->make.result == 0) {
        q->l1[q->make.l1_index] = q->make.host | QCOW2_COPIED;
        if (q->make.old_entry & QCOW2_OFFSET)
            space_give_back(q, q->make.old_entry & QCOW2_OFFSET, 1);
        req_wake_all(&q->make_waiters);
    } else {
        req_fail_all(&q->make_waiters, q->make.result);
    }
}

bool table_writable(struct qcow2 *q, struct q2_req *req, uint64_t cluster)
{
    uint64_t l1_index = cluster >> q->l2_bits, entry = q->l1[l1_index];

    if (entry & QCOW2_COPIED && entry & QCOW2_OFFSET)
        return true;
    if (q->make.busy) {
        list_add_tail(&q->make_waiters, &req->wait_link);
        return false;
    }
    if (entry & QCOW2_OFFSET && !q2_host_ok(q, entry & QCOW2_OFFSET)) {
        req_end(req, q2_broken(q, "L1 entry", l1_index));
        return false;
    }
    if (!space_take(q, req, 1, &q->make.host, &q->make.fresh))
        return false;
    q->make.busy = true;
    q->make.l1_index = l1_index;
    q->make.old_entry = entry;

    uint64_t per_sector = sizeof q->make.sector / 8;
    uint64_t first = align_down(l1_index, per_sector);
    uint64_t n = MIN(per_sector, q->l1_entries - first);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t e = first + i == l1_index ? q->make.host | QCOW2_COPIED : q->l1[first + i];
        be64_store(q->make.sector + i * 8, e);
    }
    q->make.sector_offset = q->l1_offset + first * 8;
    q->make.sector_len = n * 8;
    q->make.job.run = run_make;
    q->make.job.done = make_done;
    list_add_tail(&q->make_waiters, &req->wait_link);
    pool_run(q->node->graph->pool, &q->make.job);
    return false;
}
