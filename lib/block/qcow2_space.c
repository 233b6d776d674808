/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Space in the file, the loop's side: a reserve of clusters whose refcounts are raised already,
 * filled ahead by a job; and clusters to be given back, whose refcounts another job lowers once
 * no request can still be using them.
 */
#include "block/qcow2.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>

enum { BATCH_MAX_BYTES = 16 * 1024 * 1024, BATCH_MIN = 4, BATCH_MAX = 512 };
enum { FREE_WHEN_RANGES = 256, FREE_WHEN_CLUSTERS = 1024 };

int ranges_add(struct q2_ranges *ranges, uint64_t host, uint64_t count, unsigned cluster_bits)
{
    struct q2_range *last = ranges->n ? &ranges->at[ranges->n - 1] : NULL;

    if (last && last->host + (last->count << cluster_bits) == host) {
        last->count += count;
        ranges->clusters += count;
        return 0;
    }
    if (ranges->n == ranges->cap) {
        size_t cap = MAX((size_t)16, ranges->cap * 2);
        struct q2_range *at = realloc(ranges->at, cap * sizeof *at);
        if (!at)
            return -ENOMEM;
        ranges->at = at;
        ranges->cap = cap;
    }
    ranges->at[ranges->n++] = (struct q2_range){ host, count, false };
    ranges->clusters += count;
    return 0;
}

void ranges_fini(struct q2_ranges *ranges)
{
    free(ranges->at);
    *ranges = (struct q2_ranges){ 0 };
}

/* Clusters whose refcounts are raised together: what a crash may leak, so not without bound. */
static uint64_t batch_limit(const struct qcow2 *q)
{
    uint64_t clusters = BATCH_MAX_BYTES >> q->cluster_bits;
    return MAX((uint64_t)BATCH_MIN, MIN(clusters, (uint64_t)BATCH_MAX));
}

/* ---- The job on the refcounts ------------------------------------------------------------- */

static void run_rc(struct job *job)
{
    struct qcow2 *q = container_of(job, struct qcow2, rc_job.job);

    if (q->rc_job.reserve) {
        q->rc_job.result = refcounts_reserve(&q->rc, q->rc_job.want, q->rc_job.got,
                                             &q->rc_job.got_n, &q->rc_job.file_end);
        return;
    }
    /* First the removal of the mappings must be stable. */
    q->rc_job.result = q->file->ops->sync(q->file);
    if (q->rc_job.result == 0)
        q->rc_job.result = refcounts_release(&q->rc, q->rc_job.release.at, q->rc_job.release.n,
                                             q->node->discard && q->file->discard);
}

static void take_reserved(struct qcow2 *q)
{
    for (unsigned i = 0; i < q->rc_job.got_n; i++) {
        struct q2_range r = q->rc_job.got[i];
        struct q2_range *last = q->spare_n ? &q->spare[q->spare_n - 1] : NULL;
        if (last && last->fresh == r.fresh &&
            last->host + (last->count << q->cluster_bits) == r.host) {
            last->count += r.count;
        } else if (q->spare_n < QCOW2_SPARE_MAX) {
            q->spare[q->spare_n++] = r;
        } else {
            space_give_back(q, r.host, r.count);
            continue;
        }
        q->spare_clusters += r.count;
    }
    q->file_end = MAX(q->file_end, q->rc_job.file_end);
    q->next_batch = MIN(q->next_batch * 2, batch_limit(q));
}

static void rc_done(struct job *job)
{
    struct qcow2 *q = container_of(job, struct qcow2, rc_job.job);
    int r = q->rc_job.result;

    q->rc_busy = false;
    if (!q->rc_job.reserve) {
        if (r < 0)
            log_warn("image '%s': cannot give back %llu clusters (%s); they are lost to it",
                     q->node->filename, (unsigned long long)q->rc_job.release.clusters,
                     strerror(-r));
        q->rc_job.release.n = q->rc_job.release.clusters = 0;
    } else if (r < 0) {
        req_fail_all(&q->space_waiters, r);
    } else {
        take_reserved(q);
        req_wake_all(&q->space_waiters);
    }
    space_kick(q);
}

static void start_job(struct qcow2 *q)
{
    q->rc_busy = true;
    q->rc_job.job.run = run_rc;
    q->rc_job.job.done = rc_done;
    pool_run(q->node->graph->pool, &q->rc_job.job);
}

static void start_reserve(struct qcow2 *q)
{
    q->rc_job.reserve = true;
    q->rc_job.want = q->next_batch;
    start_job(q);
}

/*
 * Clusters given back while requests were in flight may be read or written by these: they wait
 * until all that had begun by then have ended. Two phases tell the old requests from the new.
 */
static bool retire(struct qcow2 *q)
{
    if (!q->retiring.n && q->frees.n && q->inflight[!q->phase] == 0) {
        struct q2_ranges empty = q->retiring;
        q->retiring = q->frees;
        q->frees = empty;
        q->retire_phase = q->phase;
        q->phase = !q->phase;
    }
    if (!q->retiring.n || q->inflight[q->retire_phase])
        return false;
    struct q2_ranges empty = q->rc_job.release;
    q->rc_job.release = q->retiring;
    q->retiring = empty;
    q->rc_job.reserve = false;
    return true;
}

void space_kick(struct qcow2 *q)
{
    if (q->rc_busy || q->node->read_only)
        return;
    if (q->frees.n >= FREE_WHEN_RANGES || q->frees.clusters >= FREE_WHEN_CLUSTERS)
        q->free_soon = true;
    if (!list_empty(&q->space_waiters)) {
        start_reserve(q);
        return;
    }
    if (q->retiring.n || (q->free_soon && q->frees.n)) {
        if (retire(q))
            start_job(q);
        return;
    }
    q->free_soon = false;
}

/* ---- For requests ------------------------------------------------------------------------- */

uint64_t space_take(struct qcow2 *q, struct q2_req *req, uint64_t want, uint64_t *ret_host,
                    bool *ret_fresh)
{
    if (!q->spare_n) {
        list_add_tail(&q->space_waiters, &req->wait_link);
        space_kick(q);
        return 0;
    }
    struct q2_range *first = &q->spare[0];
    uint64_t n = MIN(want, first->count);
    *ret_host = first->host;
    *ret_fresh = first->fresh;
    first->host += n << q->cluster_bits;
    first->count -= n;
    q->spare_clusters -= n;
    if (!first->count) {
        q->spare_n--;
        memmove(first, first + 1, q->spare_n * sizeof *first);
    }
    /* Ahead of the need, so that nobody waits. */
    if (!q->rc_busy && q->spare_clusters < q->next_batch / 2)
        start_reserve(q);
    return n;
}

void space_give_back(struct qcow2 *q, uint64_t host, uint64_t count)
{
    if (ranges_add(&q->frees, host, count, q->cluster_bits) < 0)
        log_warn("image '%s': out of memory, %llu clusters are lost to it", q->node->filename,
                 (unsigned long long)count);
}

void space_give_back_entry(struct qcow2 *q, struct q2_ranges *to, uint64_t entry)
{
    uint64_t host = entry & QCOW2_OFFSET, count = 1;

    if (entry & QCOW2_COMPRESSED) {
        uint64_t offset, len;
        q2_compressed_place(q, entry, &offset, &len);
        host = align_down(offset, q->cluster_size);
        count = ((offset + len - 1) >> q->cluster_bits) - (host >> q->cluster_bits) + 1;
        q2_forget_inflated(q);
    }
    if (!host || !q2_host_ok(q, host))
        return;         /* nothing was mapped, or nothing that can be */
    if (ranges_add(to, host, count, q->cluster_bits) < 0)
        log_warn("image '%s': out of memory, %llu clusters are lost to it", q->node->filename,
                 (unsigned long long)count);
}

/* Blocks until all is given back, then trims the file to what is used. */
void space_close(struct qcow2 *q)
{
    uint64_t end = 0;

    while (q->rc_busy || q->make.busy)
        graph_poll(q->node->graph, true);
    if (q->node->read_only)
        return;
    for (unsigned i = 0; i < q->spare_n; i++) {
        struct q2_range r = q->spare[i];
        uint64_t r_end = r.host + (r.count << q->cluster_bits);
        if (r.fresh && r_end == q->file_end)
            end = r.host;
        space_give_back(q, r.host, r.count);
    }
    q->spare_n = 0;
    while (q->frees.n || q->retiring.n) {
        if (!retire(q))
            break;
        run_rc(&q->rc_job.job);
        rc_done(&q->rc_job.job);
        while (q->rc_busy)
            graph_poll(q->node->graph, true);
    }
    if (end)
        (void)q->file->ops->truncate(q->file, end);     /* only saves address space */
}
