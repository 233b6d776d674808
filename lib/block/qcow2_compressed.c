/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compressed clusters (zlib's raw deflate with a window of 4 KiB): read, never written. The one
 * that was read last is kept, since guests read a cluster in pieces.
 */
#include "block/qcow2.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>

enum { WINDOW_BITS = 12 };

void q2_compressed_place(const struct qcow2 *q, uint64_t entry, uint64_t *ret_offset,
                         uint64_t *ret_len)
{
    unsigned x = 62 - (q->cluster_bits - 8);
    uint64_t offset = entry & ((1ull << x) - 1);
    uint64_t sectors = ((entry & ~(QCOW2_COPIED | QCOW2_COMPRESSED)) >> x) + 1;

    *ret_offset = offset;
    *ret_len = sectors * 512 - (offset & 511);
}

static int inflate_cluster(const struct qcow2 *q, void *in, uint64_t in_len, void *out)
{
    z_stream z = { .next_in = in, .avail_in = in_len,
                   .next_out = out, .avail_out = q->cluster_size };

    if (inflateInit2(&z, -WINDOW_BITS) != Z_OK)
        return -ENOMEM;
    int r = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    /* The stream's length is known to the sector only; all that counts is a full cluster. */
    return (r == Z_STREAM_END || r == Z_BUF_ERROR) && z.avail_out == 0 ? 0 : -EIO;
}

int q2_read_compressed(const struct qcow2 *q, uint64_t entry, uint64_t file_end, void *cluster)
{
    uint64_t offset, len;

    q2_compressed_place(q, entry, &offset, &len);
    if (offset < q->cluster_size || offset >= file_end)
        return -EIO;
    AUTO_FREE void *in = malloc(len);       /* at most two clusters */
    if (!in)
        return -ENOMEM;
    int r = q->file->ops->pread(q->file, offset, in, len);
    return r < 0 ? r : inflate_cluster(q, in, len, cluster);
}

/* The request's next n bytes, out of a cluster that has been inflated. */
static void copy_out(struct q2_req *req, const uint8_t *cluster)
{
    struct bio *bio = req->bio;
    uint64_t in_cluster = (bio->offset + req->pos) & (req->q->cluster_size - 1);

    iov_from_buf(bio->iov, bio->niov, bio->skip + req->pos, cluster + in_cluster, req->n);
    req->pos += req->n;
}

static void run_inflate(struct job *job)
{
    struct q2_req *req = container_of(job, struct q2_req, job);

    req->job_result = q2_read_compressed(req->q, req->head_old, req->file_end, req->inflated);
}

static void inflate_done(struct job *job)
{
    struct q2_req *req = container_of(job, struct q2_req, job);
    struct qcow2 *q = req->q;

    if (req->job_result < 0) {
        free(TAKE_PTR(req->inflated));
        req_end(req, req->job_result == -EIO
                         ? q2_broken(q, "compressed data at", req->head_old & QCOW2_OFFSET)
                         : req->job_result);
        return;
    }
    copy_out(req, req->inflated);
    free(q->inflated);
    q->inflated = TAKE_PTR(req->inflated);
    q->inflated_entry = req->head_old;
    req_step(req);
}

bool q2_compressed_step(struct q2_req *req, uint64_t entry)
{
    struct qcow2 *q = req->q;

    if (q->inflated && q->inflated_entry == entry) {
        copy_out(req, q->inflated);
        return true;
    }
    req->inflated = malloc(q->cluster_size);
    if (!req->inflated) {
        req_end(req, -ENOMEM);
        return false;
    }
    req->head_old = entry;
    req->file_end = q->file_end;
    req->job.run = run_inflate;
    req->job.done = inflate_done;
    pool_run(q->node->graph->pool, &req->job);
    return false;
}

void q2_forget_inflated(struct qcow2 *q)
{
    free(TAKE_PTR(q->inflated));
}
