/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UNMAP (SBC-3, 5.28) and WRITE SAME (5.42). Both take their parameters into the buffer first and
 * then work through them step by step; unmap_at counts the steps.
 */
#include "scsi/internal.h"

#include <string.h>

enum { UNMAP_HEADER = 8, UNMAP_DESCRIPTOR = 16, UNMAP_DESCRIPTORS_MAX = 256 };

bool scsi_unmap_decode(struct scsi_request *req)
{
    req->announced = be16_load(req->cdb + 7);
    if (req->cdb[1] & 1)                        /* ANCHOR */
        return false;
    return req->target->discard_granularity != 0;
}

void scsi_unmap_run(struct scsi_request *req)
{
    if (!req->announced)
        scsi_finish(req, SCSI_GOOD);
    else
        scsi_want(req, MIN(req->announced, (uint64_t)SCSI_CHUNK_BYTES));
}

/* The n-th descriptor; false past the last. */
static bool descriptor(const struct scsi_request *req, uint32_t n, uint64_t *ret_lba,
                       uint32_t *ret_blocks)
{
    const uint8_t *buf = req->buf;
    uint32_t data = be16_load(buf + 2), at = UNMAP_HEADER + n * UNMAP_DESCRIPTOR;

    if (at + UNMAP_DESCRIPTOR > MIN(UNMAP_HEADER + data, req->buf_len))
        return false;
    *ret_lba = be64_load(buf + at);
    *ret_blocks = be32_load(buf + at + 8);
    return true;
}

void scsi_unmap_received(struct scsi_request *req)
{
    struct scsi_target *t = req->target;
    uint64_t lba, total = 0, max = t->max_unmap_size / t->block_bytes;
    uint32_t blocks, n = 0;

    if (req->buf_len < UNMAP_HEADER) {
        scsi_fail(req, SENSE_PARAM_LENGTH);
        return;
    }
    for (; descriptor(req, n, &lba, &blocks); n++) {
        total += blocks;
        if (n >= UNMAP_DESCRIPTORS_MAX || total > max) {
            scsi_fail(req, SENSE_INVALID_PARAM_FIELD);
            return;
        }
        if (!range_inside(lba, blocks, t->block_count)) {
            scsi_fail_lba(req, SENSE_LBA_OUT_OF_RANGE, lba);
            return;
        }
    }
    req->unmap_at = 0;
    scsi_io(req, IO_DISCARD);
}

void scsi_unmap_step(struct scsi_request *req)
{
    struct scsi_target *t = req->target;
    uint64_t lba;
    uint32_t blocks;

    if (t->paused) {                            /* the step before this one ended in the pause */
        req->io = IO_DISCARD;
        return;
    }
    while (req->buf_len >= UNMAP_HEADER && descriptor(req, req->unmap_at, &lba, &blocks)) {
        req->unmap_at++;
        if (!blocks || !range_inside(lba, blocks, t->block_count))
            continue;
        req->lba = lba;                         /* for the sense data */
        req->io = IO_DISCARD;
        scsi_request_reinit(req);
        block_discard(t->block, &req->block, lba * t->block_bytes,
                      (uint64_t)blocks * t->block_bytes);
        return;
    }
    req->io = IO_NONE;
    scsi_finish(req, SCSI_GOOD);
}

/* ---- WRITE SAME ---- */

enum { WS_NDOB = 0x01, WS_UNMAP = 0x08, WS_ANCHOR = 0x10 };

bool scsi_write_same_decode(struct scsi_request *req)
{
    struct scsi_target *t = req->target;
    bool wide = req->cdb[0] == WRITE_SAME_16, ndob = wide && req->cdb[1] & WS_NDOB;

    req->lba = wide ? be64_load(req->cdb + 2) : be32_load(req->cdb + 2);
    req->blocks = wide ? be32_load(req->cdb + 10) : be16_load(req->cdb + 7);
    /* WSNZ is set in our block limits page: zero does not mean "to the end". */
    if (req->cdb[1] & (0xe0 | WS_ANCHOR | (wide ? 0 : WS_NDOB)) || !req->blocks)
        return false;
    if (req->blocks > WRITE_SAME_MAX_BYTES / t->block_bytes)
        return false;
    if (!scsi_lba_range_ok(req))
        return false;
    req->announced = ndob ? 0 : t->block_bytes;
    return true;
}

static bool all_zero(const uint8_t *p, size_t n) { return !p[0] && !memcmp(p, p + 1, n - 1); }

void scsi_write_same_run(struct scsi_request *req)
{
    if (req->announced)
        scsi_want(req, req->announced);
    else
        scsi_io(req, IO_WRITE_ZEROES);
}

void scsi_write_same_received(struct scsi_request *req)
{
    struct scsi_target *t = req->target;
    uint8_t *buf = req->buf;

    if (all_zero(buf, t->block_bytes)) {
        scsi_io(req, IO_WRITE_ZEROES);
        return;
    }
    size_t copies = MIN(req->blocks, (uint64_t)(SCSI_CHUNK_BYTES / t->block_bytes));
    for (size_t i = 1; i < copies; i++)
        memcpy(buf + i * t->block_bytes, buf, t->block_bytes);
    req->buf_len = copies * t->block_bytes;
    scsi_io(req, IO_WRITE_SAME);
}

/* unmap_at: blocks already sent to the back-end. */
void scsi_write_same_step(struct scsi_request *req)
{
    struct scsi_target *t = req->target;
    bool zeroes = !req->announced || all_zero(req->buf, t->block_bytes);
    uint64_t left = req->blocks - MIN((uint64_t)req->unmap_at, req->blocks);
    uint64_t offset = (req->lba + req->unmap_at) * t->block_bytes;

    if (t->paused) {
        req->io = IO_WRITE_SAME;
        return;
    }
    if (!left) {
        req->io = IO_NONE;
        scsi_finish(req, SCSI_GOOD);
        return;
    }
    req->io = IO_WRITE_SAME;
    if (zeroes) {
        req->unmap_at = req->blocks;
        scsi_request_reinit(req);
        block_write_zeroes(t->block, &req->block, offset, left * t->block_bytes,
                           req->cdb[1] & WS_UNMAP);
        return;
    }
    uint64_t n = MIN(left, (uint64_t)req->buf_len / t->block_bytes);
    if (!n) {                                   /* a loaded buffer that is too short */
        scsi_fail(req, SENSE_TARGET_FAILURE);
        return;
    }
    req->unmap_at += n;
    req->iov = (struct iovec){ req->buf, n * t->block_bytes };
    scsi_request_reinit(req);
    block_write(t->block, &req->block, offset, &req->iov, 1, false);
}
