/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests. Each goes through its range step by step: look up, do as many clusters as lie in a
 * row, go on. req_step is called again whenever what it waited for has happened; it looks
 * everything up anew, since it may have changed.
 *
 * Writes and changes of the mapping (new clusters, discards, zeroes) on the same cluster go one
 * after the other; all else runs side by side. A write to clusters that are there and a read
 * allocate nothing and wait for nothing but the file.
 */
#include "block/qcow2.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>

enum { ZERO_BYTES = 65536, ZERO_PARTS = 32 };

/* Zeros to write from: up to a whole cluster of the largest size. */
static char zero_data[ZERO_BYTES] __attribute__((aligned(4096)));
static struct iovec zero_iov[ZERO_PARTS];

bool q2_host_ok(const struct qcow2 *q, uint64_t offset)
{
    return offset >= q->cluster_size && (offset & (q->cluster_size - 1)) == 0 &&
           range_inside(offset, q->cluster_size, align_up(q->file_end, q->cluster_size));
}

int q2_broken(struct qcow2 *q, const char *what, uint64_t where)
{
    if (!q->broken)
        log_error("image '%s' is broken: %s %llu is invalid; 'qemu-img check' tells more",
                  q->node->filename, what, (unsigned long long)where);
    q->broken = true;
    return -EIO;
}

/* ---- Waiting ------------------------------------------------------------------------------ */

void req_wake_all(struct list *waiters)
{
    struct list batch;

    list_take_all(waiters, &batch);     /* who waits again goes into the emptied list */
    while (!list_empty(&batch)) {
        struct q2_req *req = list_first(&batch, struct q2_req, wait_link);
        list_del(&req->wait_link);
        req_step(req);
    }
}

void req_fail_all(struct list *waiters, int result)
{
    while (!list_empty(waiters)) {
        struct q2_req *req = list_first(waiters, struct q2_req, wait_link);
        list_del(&req->wait_link);
        req_end(req, result);
    }
}

/* ---- Beginning and end -------------------------------------------------------------------- */

static struct q2_req *req_get(struct qcow2 *q)
{
    struct q2_req *req = q->free_reqs;

    if (req)
        q->free_reqs = req->next;
    else if (!(req = malloc(sizeof *req)))
        return NULL;
    memset(req, 0, sizeof *req);
    req->q = q;
    list_init(&req->waiters);
    return req;
}

static void on_flushed(struct bio *bio, int result)
{
    struct q2_req *req = bio->opaque;

    bio_put(req->q->node->graph, bio);
    req_end(req, result);
}

/* Everything written so far to stable storage, then the end. */
static void req_flush(struct q2_req *req)
{
    struct qcow2 *q = req->q;
    struct bio *bio = q->node->no_flush ? NULL : bio_get(q->node->graph);

    req->flushing = true;
    if (!bio) {
        req_end(req, q->node->no_flush ? 0 : -ENOMEM);
        return;
    }
    bio->op = BIO_FLUSH;
    bio->done = on_flushed;
    bio->opaque = req;
    node_submit(q->file, bio);
}

void req_end(struct q2_req *req, int result)
{
    struct qcow2 *q = req->q;
    struct bio *bio = req->bio;

    if (list_linked(&req->change_link)) {
        list_del(&req->change_link);
        req_wake_all(&req->waiters);
    }
    if (result == 0 && bio->flags & BIO_FUA && !req->flushing) {
        req_flush(req);
        return;
    }
    q->inflight[req->phase]--;
    q->free_soon |= bio->op == BIO_FLUSH;
    req->next = q->free_reqs;
    q->free_reqs = req;
    bio_finish(bio, result);
    space_kick(q);
}

/* ---- Transfers on the file ---------------------------------------------------------------- */

static void on_transferred(struct bio *bio, int result)
{
    struct q2_req *req = bio->opaque;

    bio_put(req->q->node->graph, bio);
    if (result < 0) {
        req_end(req, result);
        return;
    }
    req->pos += req->n;
    req_step(req);
}

/* The request's next req->n bytes, at a place in the file. */
static void transfer(struct q2_req *req, uint64_t host_offset,
                     void (*done)(struct bio *bio, int result))
{
    struct qcow2 *q = req->q;
    struct bio *up = req->bio, *bio = bio_get(q->node->graph);

    if (!bio) {
        req_end(req, -ENOMEM);
        return;
    }
    bio->op = up->op == BIO_READ ? BIO_READ : BIO_WRITE;
    bio->offset = host_offset;
    bio->len = req->n;
    if (up->op == BIO_ZEROES) {
        bio->iov = zero_iov;
        bio->niov = ZERO_PARTS;
    } else {
        bio->iov = up->iov;
        bio->niov = up->niov;
        bio->skip = up->skip + req->pos;
    }
    bio->done = done;
    bio->opaque = req;
    node_submit(q->file, bio);
}

/* ---- Looking at the mapping --------------------------------------------------------------- */

static uint64_t cluster_of(const struct qcow2 *q, uint64_t offset)
{
    return offset >> q->cluster_bits;
}

static uint64_t in_cluster(const struct qcow2 *q, uint64_t offset)
{
    return offset & (q->cluster_size - 1);
}

/* Clusters from this one to the end of its slice. */
static uint64_t left_in_slice(const struct qcow2 *q, uint64_t cluster)
{
    return (1ull << q->slice_bits) - (cluster & ((1ull << q->slice_bits) - 1));
}

static bool reads_zero(uint64_t entry)
{
    return !(entry & QCOW2_COMPRESSED) && (entry & QCOW2_ZERO || !(entry & QCOW2_OFFSET));
}

/* Data that no snapshot shares. */
static bool is_ours(uint64_t entry)
{
    return entry & QCOW2_COPIED && !(entry & (QCOW2_COMPRESSED | QCOW2_ZERO)) &&
           entry & QCOW2_OFFSET;
}

static bool bad_entry(struct q2_req *req, uint64_t cluster, uint64_t entry)
{
    struct qcow2 *q = req->q;

    /* An offset that goes with the zero flag is only ever given back, and checked then. */
    if (reads_zero(entry) || entry & QCOW2_COMPRESSED || q2_host_ok(q, entry & QCOW2_OFFSET))
        return false;
    req_end(req, q2_broken(q, "the L2 entry of cluster", cluster));
    return true;
}

/*
 * How many bytes, from the request's position on and at most up to limit, are mapped like the
 * first: all ours (or for reading, all data) in a row in the file, or all zeros.
 */
static uint64_t run_length(struct q2_req *req, struct q2_slice *slice, uint64_t limit,
                           bool must_be_ours)
{
    struct qcow2 *q = req->q;
    uint64_t offset = req->bio->offset + req->pos, cluster = cluster_of(q, offset);
    uint64_t first = slice_entry(q, slice, cluster);
    uint64_t clusters = 1, most = left_in_slice(q, cluster);
    uint64_t bytes = q->cluster_size - in_cluster(q, offset);

    while (bytes < limit && clusters < most) {
        uint64_t e = slice_entry(q, slice, cluster + clusters);
        if (e & QCOW2_COMPRESSED || reads_zero(e) != reads_zero(first))
            break;
        if (!reads_zero(e) &&
            ((e & QCOW2_OFFSET) != (first & QCOW2_OFFSET) + (clusters << q->cluster_bits) ||
             !q2_host_ok(q, e & QCOW2_OFFSET) || (must_be_ours && !is_ours(e))))
            break;
        clusters++;
        bytes += q->cluster_size;
    }
    return MIN(bytes, limit);
}

/* The change under way that touches one of these clusters. */
static struct q2_req *change_at(struct qcow2 *q, uint64_t first, uint64_t count)
{
    list_for_each(struct q2_req, c, &q->changes, change_link)
        if (ranges_overlap(c->first, c->count, first, count))
            return c;
    return NULL;
}

static bool wait_for_change(struct q2_req *req, uint64_t first, uint64_t count)
{
    struct q2_req *change = change_at(req->q, first, count);

    if (!change)
        return false;
    list_add_tail(&change->waiters, &req->wait_link);
    return true;
}

/* The slice at the request's position; false when the request waits or has ended. *ret_slice is
 * NULL where no L2 table is. */
static bool get_slice(struct q2_req *req, uint64_t cluster, struct q2_slice **ret_slice)
{
    int r = slice_get(req->q, req, cluster, ret_slice);

    if (r == SLICE_NONE)
        *ret_slice = NULL;
    else if (r < 0)
        req_end(req, r);
    return r == SLICE_READY || r == SLICE_NONE;
}

/* Bytes from the position to where the L2 table of its cluster ends, or the request. */
static uint64_t left_in_table(const struct q2_req *req)
{
    const struct qcow2 *q = req->q;
    uint64_t offset = req->bio->offset + req->pos;
    uint64_t coverage = 1ull << (q->l2_bits + q->cluster_bits);

    return MIN(req->bio->len - req->pos, coverage - (offset & (coverage - 1)));
}

/* ---- Reading ------------------------------------------------------------------------------ */

/* One step. True when the next may follow at once. */
static bool read_step(struct q2_req *req)
{
    struct qcow2 *q = req->q;
    struct bio *bio = req->bio;
    uint64_t offset = bio->offset + req->pos, cluster = cluster_of(q, offset);
    struct q2_slice *slice;

    if (!get_slice(req, cluster, &slice))
        return false;
    uint64_t entry = slice ? slice_entry(q, slice, cluster) : 0;
    if (bad_entry(req, cluster, entry))
        return false;
    req->n = slice ? run_length(req, slice, bio->len - req->pos, false) : left_in_table(req);
    if (reads_zero(entry)) {
        iov_fill_zero(bio->iov, bio->niov, bio->skip + req->pos, req->n);
        req->pos += req->n;
        return true;
    }
    if (entry & QCOW2_COMPRESSED) {
        req->n = MIN(bio->len - req->pos, q->cluster_size - in_cluster(q, offset));
        return q2_compressed_step(req, entry);
    }
    transfer(req, (entry & QCOW2_OFFSET) + in_cluster(q, offset), on_transferred);
    return false;
}

/* ---- Changing the mapping ----------------------------------------------------------------- */

static void begin_change(struct q2_req *req, enum q2_change change, uint64_t first,
                         uint64_t count)
{
    req->change = change;
    req->first = first;
    req->count = count;
    list_add_tail(&req->q->changes, &req->change_link);
}

void req_change_done(struct q2_req *req, int result)
{
    struct list waiters;

    if (result < 0) {
        req_end(req, result);
        return;
    }
    list_del(&req->change_link);
    list_take_all(&req->waiters, &waiters);
    req->pos += req->n;
    req_step(req);
    req_wake_all(&waiters);
}

/* The data are in the new clusters: enter these in L2. */
static void link_clusters(struct q2_req *req)
{
    struct q2_slice *slice;
    int r = slice_get(req->q, req, req->first, &slice);

    if (r == SLICE_READY)
        slice_change(req->q, slice, req);
    else if (r != SLICE_WAIT)
        req_end(req, r < 0 ? r : -EIO);
}

static void on_data_written(struct bio *bio, int result)
{
    struct q2_req *req = bio->opaque;

    bio_put(req->q->node->graph, bio);
    if (result < 0) {
        space_give_back(req->q, req->host, req->count);
        req_end(req, result);
        return;
    }
    link_clusters(req);
}

static void write_data(struct q2_req *req)
{
    uint64_t offset = req->bio->offset + req->pos;
    transfer(req, req->host + in_cluster(req->q, offset), on_data_written);
}

/* Fills part of a new cluster from what was mapped there. Stable when it returns: once L2 says
 * otherwise, the old is gone. Helper thread. */
static int fill_part(struct qcow2 *q, uint64_t file_end, uint64_t old, uint64_t new_offset,
                     uint64_t part_offset, uint64_t len)
{
    AUTO_FREE void *buf = NULL;
    uint8_t *part;
    int r = 0;

    if (len == 0)
        return 0;
    if (posix_memalign(&buf, 4096, align_up(q->cluster_size, 4096)))
        return -ENOMEM;
    part = (uint8_t *)buf + part_offset;
    if (reads_zero(old))
        memset(part, 0, len);
    else if (old & QCOW2_COMPRESSED)
        r = q2_read_compressed(q, old, file_end, buf);
    else
        r = q->file->ops->pread(q->file, (old & QCOW2_OFFSET) + part_offset, part, len);
    return r < 0 ? r : q->file->ops->pwrite(q->file, new_offset + part_offset, part, len, true);
}

static void run_fill(struct job *job)
{
    struct q2_req *req = container_of(job, struct q2_req, job);
    struct qcow2 *q = req->q;
    uint64_t last = req->host + ((req->count - 1) << q->cluster_bits);

    int r = fill_part(q, req->file_end, req->head_old, req->host, 0, req->head);
    if (r == 0)
        r = fill_part(q, req->file_end, req->tail_old, last, q->cluster_size - req->tail,
                      req->tail);
    req->job_result = r;
}

static void fill_done(struct job *job)
{
    struct q2_req *req = container_of(job, struct q2_req, job);

    if (req->job_result < 0) {
        space_give_back(req->q, req->host, req->count);
        req_end(req, req->job_result);
        return;
    }
    write_data(req);
}

/* Clusters from the position on that need a new place, at most up to limit bytes further on. */
static uint64_t count_to_map(struct q2_req *req, struct q2_slice *slice, uint64_t limit)
{
    struct qcow2 *q = req->q;
    uint64_t offset = req->bio->offset + req->pos, cluster = cluster_of(q, offset);
    uint64_t want = cluster_of(q, in_cluster(q, offset) + limit - 1) + 1;
    uint64_t most = MIN(want, left_in_slice(q, cluster)), n = 1;

    while (n < most && !is_ours(slice_entry(q, slice, cluster + n)) &&
           !change_at(q, cluster + n, 1))
        n++;
    return n;
}

/* Can what was mapped by this entry be read? Compressed data are checked when they are. */
static bool source_ok(const struct qcow2 *q, uint64_t entry)
{
    return reads_zero(entry) || entry & QCOW2_COMPRESSED ||
           q2_host_ok(q, entry & QCOW2_OFFSET);
}

static void map_new(struct q2_req *req, struct q2_slice *slice, uint64_t limit)
{
    struct qcow2 *q = req->q;
    uint64_t offset = req->bio->offset + req->pos, cluster = cluster_of(q, offset);

    uint64_t count = space_take(q, req, count_to_map(req, slice, limit), &req->host, &req->fresh);
    if (!count)
        return;
    req->n = MIN(limit, (count << q->cluster_bits) - in_cluster(q, offset));
    req->head = in_cluster(q, offset);
    req->tail = (count << q->cluster_bits) - req->head - req->n;
    req->head_old = slice_entry(q, slice, cluster);
    req->tail_old = slice_entry(q, slice, cluster + count - 1);
    begin_change(req, CHANGE_MAP, cluster, count);

    /* A fresh cluster is full of zeros already. */
    if (req->fresh && reads_zero(req->head_old))
        req->head = 0;
    if (req->fresh && reads_zero(req->tail_old))
        req->tail = 0;
    if ((req->head && !source_ok(q, req->head_old)) ||
        (req->tail && !source_ok(q, req->tail_old))) {
        space_give_back(q, req->host, count);
        req_end(req, q2_broken(q, "the L2 entry of cluster", cluster));
        return;
    }
    if (!req->head && !req->tail) {
        write_data(req);
        return;
    }
    req->file_end = q->file_end;
    req->job.run = run_fill;
    req->job.done = fill_done;
    pool_run(q->node->graph->pool, &req->job);
}

/* Writes up to limit bytes. Nothing more happens here after that. */
static void write_some(struct q2_req *req, uint64_t limit)
{
    struct qcow2 *q = req->q;
    uint64_t offset = req->bio->offset + req->pos, cluster = cluster_of(q, offset);
    struct q2_slice *slice;

    if (!list_empty(&q->changes) && wait_for_change(req, cluster, 1))
        return;
    if (!table_writable(q, req, cluster) || !get_slice(req, cluster, &slice))
        return;
    if (!slice) {
        req_end(req, -EIO);
        return;
    }
    uint64_t entry = slice_entry(q, slice, cluster);
    if (bad_entry(req, cluster, entry))
        return;
    if (!is_ours(entry)) {
        map_new(req, slice, limit);
        return;
    }
    req->n = run_length(req, slice, limit, true);
    if (!list_empty(&q->changes)) {
        /* Stop before a cluster that is being changed. */
        uint64_t room = q->cluster_size - in_cluster(q, offset), n = 1;
        while (room < req->n && !change_at(q, cluster + n, 1)) {
            room += q->cluster_size;
            n++;
        }
        req->n = MIN(req->n, room);
    }
    transfer(req, (entry & QCOW2_OFFSET) + in_cluster(q, offset), on_transferred);
}

/* ---- Discards and zeroes ------------------------------------------------------------------ */

/* Whole clusters, at most up to the end of the slice. True: the next step may follow. */
static bool unmap_some(struct q2_req *req, uint64_t clusters, enum q2_change change)
{
    struct qcow2 *q = req->q;
    uint64_t first = cluster_of(q, req->bio->offset + req->pos);
    uint64_t count = MIN(clusters, left_in_slice(q, first)), mapped = 0;
    struct q2_slice *slice;

    if (wait_for_change(req, first, count) || !get_slice(req, first, &slice))
        return false;
    uint64_t rest = req->bio->len - req->pos;
    if (!slice) {
        req->pos += MIN(left_in_table(req), rest);
        return true;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint64_t e = slice_entry(q, slice, first + i);
        mapped += change == CHANGE_ZERO ? !reads_zero(e) : e != 0;
    }
    req->n = MIN(count << q->cluster_bits, rest);
    if (!mapped) {
        req->pos += req->n;
        return true;
    }
    if (!table_writable(q, req, first))
        return false;
    begin_change(req, change, first, count);
    slice_change(q, slice, req);
    return false;
}

/* Does the range reach the end of its last cluster, or of the disk? */
static uint64_t whole_clusters(const struct q2_req *req)
{
    const struct qcow2 *q = req->q;
    uint64_t offset = req->bio->offset + req->pos, left = req->bio->len - req->pos;

    if (in_cluster(q, offset))
        return 0;
    if (offset + left == q->node->size)
        left = align_up(left, q->cluster_size);
    return left >> q->cluster_bits;
}

static bool discard_step(struct q2_req *req)
{
    struct qcow2 *q = req->q;
    uint64_t offset = req->bio->offset + req->pos, left = req->bio->len - req->pos;
    uint64_t clusters = whole_clusters(req);

    if (clusters)
        return unmap_some(req, clusters, CHANGE_CLEAR);
    /* Parts of clusters stay as they are. */
    req->pos += MIN(left, q->cluster_size - in_cluster(q, offset));
    return true;
}

static bool zeroes_step(struct q2_req *req)
{
    struct qcow2 *q = req->q;
    struct bio *bio = req->bio;
    uint64_t offset = bio->offset + req->pos, cluster = cluster_of(q, offset);
    uint64_t clusters = whole_clusters(req);
    struct q2_slice *slice;

    if (clusters) {
        /* Version 2 has no zero flag; what is not mapped reads as zeros too. */
        bool clear = q->version < 3 || bio->flags & BIO_UNMAP;
        return unmap_some(req, clusters, clear ? CHANGE_CLEAR : CHANGE_ZERO);
    }
    uint64_t n = MIN(bio->len - req->pos, q->cluster_size - in_cluster(q, offset));
    if (wait_for_change(req, cluster, 1) || !get_slice(req, cluster, &slice))
        return false;
    if (!slice || reads_zero(slice_entry(q, slice, cluster))) {
        req->pos += n;
        return true;
    }
    write_some(req, n);
    return false;
}

/* ---- Stepping ----------------------------------------------------------------------------- */

void req_step(struct q2_req *req)
{
    struct bio *bio = req->bio;

    if (list_linked(&req->change_link)) {       /* it waited for the slice to link into */
        link_clusters(req);
        return;
    }
    while (req->pos < bio->len) {
        bool again = false;
        switch (bio->op) {
        case BIO_READ:    again = read_step(req); break;
        case BIO_WRITE:   write_some(req, bio->len - req->pos); break;
        case BIO_DISCARD: again = discard_step(req); break;
        case BIO_ZEROES:  again = zeroes_step(req); break;
        case BIO_FLUSH:   break;
        }
        if (!again)
            return;
    }
    req_end(req, 0);
}

void qcow2_submit(struct block_node *node, struct bio *bio)
{
    struct qcow2 *q = node->self;
    struct q2_req *req = req_get(q);

    if (!req) {
        bio_finish(bio, -ENOMEM);
        return;
    }
    req->bio = bio;
    req->phase = q->phase;
    q->inflight[req->phase]++;
    if (bio->op == BIO_FLUSH)
        req_flush(req);
    else
        req_step(req);
}

__attribute__((constructor)) static void init_zero_iov(void)
{
    for (int i = 0; i < ZERO_PARTS; i++)
        zero_iov[i] = (struct iovec){ zero_data, sizeof zero_data };
}
