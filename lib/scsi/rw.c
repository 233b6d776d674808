/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands that move blocks: READ, WRITE, VERIFY, SYNCHRONIZE CACHE. SBC-3, chapter 5. A transfer
 * goes in pieces of SCSI_CHUNK_BYTES; lba and blocks say what is left.
 */
#include "scsi/internal.h"

#include <errno.h>
#include <string.h>

static bool is(const struct scsi_request *req, uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
    uint8_t op = req->cdb[0];
    return op == a || op == b || op == c || (d && op == d);
}

/* LBA and transfer length, wherever the group of the opcode puts them. */
static void decode_range(struct scsi_request *req)
{
    const uint8_t *cdb = req->cdb;

    switch (scsi_cdb_length(cdb[0])) {
    case 6:
        req->lba = be32_load(cdb) & 0x1fffff;
        req->blocks = cdb[4] ? cdb[4] : 256;
        break;
    case 10:
        req->lba = be32_load(cdb + 2);
        req->blocks = be16_load(cdb + 7);
        break;
    case 12:
        req->lba = be32_load(cdb + 2);
        req->blocks = be32_load(cdb + 6);
        break;
    default:
        req->lba = be64_load(cdb + 2);
        req->blocks = be32_load(cdb + 10);
    }
}

/* Sets sense and returns false when [lba, lba + blocks) is not on the medium. */
bool scsi_lba_range_ok(struct scsi_request *req)
{
    struct scsi_target *t = req->target;

    if (!t->medium || range_inside(req->lba, req->blocks, t->block_count))
        return true;
    /* As scsi_fail_lba, but the command has not begun. */
    req->sense[0] = 0x70;
    if (req->lba <= UINT32_MAX) {
        req->sense[0] |= 0x80;
        be32_store(req->sense + 3, req->lba);
    }
    req->sense[2] = SENSE_LBA_OUT_OF_RANGE.key;
    req->sense[7] = SENSE_FIXED_BYTES - 8;
    req->sense[12] = SENSE_LBA_OUT_OF_RANGE.asc;
    req->sense_len = SENSE_FIXED_BYTES;
    return false;
}

bool scsi_rw_decode(struct scsi_request *req)
{
    decode_range(req);
    /* RDPROTECT, WRPROTECT: we offer no protection information. */
    if (scsi_cdb_length(req->cdb[0]) > 6 && req->cdb[1] & 0xe0)
        return false;
    if (!scsi_lba_range_ok(req))
        return false;
    req->announced = req->blocks * req->target->block_bytes;
    return true;
}

static bool fua(const struct scsi_request *req)
{
    return (scsi_cdb_length(req->cdb[0]) > 6 && req->cdb[1] & 0x08) ||
           is(req, WRITE_VERIFY_10, WRITE_VERIFY_12, WRITE_VERIFY_16, 0);
}

void scsi_read_run(struct scsi_request *req)
{
    if (!req->blocks)
        scsi_finish(req, SCSI_GOOD);
    else if (scsi_buffer(req))
        scsi_io(req, IO_READ);
}

/* Bytes of the next piece. */
static size_t piece(const struct scsi_request *req)
{
    return MIN(req->blocks * req->target->block_bytes, (uint64_t)SCSI_CHUNK_BYTES);
}

static void write_run(struct scsi_request *req)
{
    if (!req->blocks)
        scsi_finish(req, SCSI_GOOD);
    else
        scsi_want(req, piece(req));
}

static void write_received(struct scsi_request *req) { scsi_io(req, IO_WRITE); }

/* ---- VERIFY: BYTCHK 0 reads the medium, 1 compares it with the initiator's data ---- */

static bool verify_decode(struct scsi_request *req)
{
    unsigned bytchk = req->cdb[1] >> 1 & 3;

    decode_range(req);
    if (req->cdb[1] & 0xe0 || bytchk > 1 || !scsi_lba_range_ok(req))
        return false;
    req->announced = bytchk ? req->blocks * req->target->block_bytes : 0;
    return true;
}

static bool make_compare(struct scsi_request *req)
{
    if (!req->compare)
        req->compare = aligned_alloc(4096, SCSI_CHUNK_BYTES);
    if (!req->compare)
        scsi_fail(req, SENSE_TARGET_FAILURE);
    return req->compare;
}

static void verify_run(struct scsi_request *req)
{
    if (!req->blocks)
        scsi_finish(req, SCSI_GOOD);
    else if (req->announced)
        scsi_want(req, piece(req));
    else
        scsi_io(req, IO_VERIFY);
}

static void verify_received(struct scsi_request *req) { scsi_io(req, IO_VERIFY); }

/* ---- SYNCHRONIZE CACHE ---- */

static bool sync_decode(struct scsi_request *req)
{
    decode_range(req);
    bool ok = scsi_lba_range_ok(req);
    req->blocks = 0;
    return ok;
}

static void sync_run(struct scsi_request *req) { scsi_io(req, IO_FLUSH); }

/* ---- the back-end ---- */

/* The back-end's failure in SCSI's words. */
static void fail_io(struct scsi_request *req, enum request_io io, int result)
{
    bool writing = io != IO_READ && io != IO_VERIFY;

    log_often(object_name(req->target->obj), "%s of LBA %llu failed: %s",
              req->cmd ? req->cmd->name : "command", (unsigned long long)req->lba,
              strerror(-result));
    switch (result) {
    case -ENOMEDIUM:
        scsi_fail(req, SENSE_NO_MEDIUM);
        break;
    case -ENOSPC:
    case -EDQUOT:
        scsi_fail(req, SENSE_SPACE_ALLOCATION);
        break;
    case -EROFS:
    case -EPERM:
        scsi_fail(req, SENSE_WRITE_PROTECTED);
        break;
    case -ENOMEM:
        scsi_fail(req, SENSE_TARGET_FAILURE);
        break;
    default:
        scsi_fail_lba(req, writing ? SENSE_WRITE_ERROR : SENSE_READ_ERROR, req->lba);
    }
}

static bool error_ignored(const struct scsi_request *req, enum request_io io)
{
    const struct scsi_target *t = req->target;
    return (io == IO_READ || io == IO_VERIFY ? t->rerror : t->werror) == 2;
}

void scsi_io_submit(struct scsi_request *req, enum request_io io)
{
    struct scsi_target *t = req->target;
    uint64_t offset = req->lba * t->block_bytes;
    size_t n = piece(req);

    if (!t->block) {
        req->io = IO_NONE;
        scsi_fail(req, SENSE_NO_MEDIUM);
        return;
    }
    switch (io) {
    case IO_READ:
        if (!n || !scsi_buffer(req)) {
            if (req->phase == REQ_BUSY)
                scsi_finish(req, SCSI_GOOD);
            return;
        }
        req->iov = (struct iovec){ req->buf, n };
        scsi_request_reinit(req);
        block_read(t->block, &req->block, offset, &req->iov, 1);
        return;
    case IO_VERIFY:
        if (!make_compare(req))
            return;
        if (req->announced)
            n = MIN(n, (size_t)req->buf_len);
        req->iov = (struct iovec){ req->compare, n };
        scsi_request_reinit(req);
        block_read(t->block, &req->block, offset, &req->iov, 1);
        return;
    case IO_WRITE:
        req->iov = (struct iovec){ req->buf, MIN(n, (size_t)req->buf_len) };
        scsi_request_reinit(req);
        block_write(t->block, &req->block, offset, &req->iov, 1, fua(req));
        return;
    case IO_FLUSH:
        scsi_request_reinit(req);
        block_flush(t->block, &req->block);
        return;
    case IO_DISCARD:
        scsi_unmap_step(req);
        return;
    case IO_WRITE_ZEROES:
    case IO_WRITE_SAME:
        scsi_write_same_step(req);
        return;
    default:
        scsi_fail(req, SENSE_TARGET_FAILURE);
    }
}

static void advance(struct scsi_request *req, uint64_t bytes)
{
    uint64_t n = MIN(bytes / req->target->block_bytes, req->blocks);
    req->lba += n;
    req->blocks -= n;
}

static void verify_done(struct scsi_request *req)
{
    size_t n = req->iov.iov_len;

    if (req->announced) {
        const uint8_t *want = req->buf, *have = req->compare;
        size_t i = 0;
        while (i < n && want[i] == have[i])
            i++;
        if (i < n) {
            scsi_fail_lba(req, SENSE_MISCOMPARE, i);    /* INFORMATION: offset of the first byte */
            return;
        }
    }
    advance(req, n);
    verify_run(req);
}

void scsi_io_done(struct scsi_request *req, enum request_io io, int result)
{
    if (result < 0 && !(error_ignored(req, io) && result != -ENOMEM)) {
        fail_io(req, io, result);
        return;
    }
    if (result < 0 && io == IO_READ)
        memset(req->buf, 0, req->iov.iov_len);
    switch (io) {
    case IO_READ: {
        size_t n = req->iov.iov_len;
        advance(req, n);
        scsi_reply(req, n);
        return;
    }
    case IO_WRITE:
        advance(req, req->iov.iov_len);
        write_run(req);
        return;
    case IO_VERIFY:
        verify_done(req);
        return;
    case IO_DISCARD:
        scsi_unmap_step(req);
        return;
    case IO_WRITE_ZEROES:
    case IO_WRITE_SAME:
        scsi_write_same_step(req);
        return;
    default:
        scsi_finish(req, SCSI_GOOD);
    }
}

/* ---- small ones ---- */

static bool capacity10_decode(struct scsi_request *req)
{
    if (!(req->cdb[8] & 1) && be32_load(req->cdb + 2))     /* PMI 0 wants LBA 0 */
        return false;
    req->announced = 8;
    return true;
}

static void capacity10_run(struct scsi_request *req)
{
    uint8_t *buf = scsi_buffer(req);
    if (!buf)
        return;
    uint64_t last = req->target->block_count - 1;
    be32_store(buf, MIN(last, (uint64_t)UINT32_MAX));
    be32_store(buf + 4, req->target->block_bytes);
    scsi_reply(req, 8);
}

static bool action_in_decode(struct scsi_request *req)
{
    unsigned action = req->cdb[1] & 0x1f;
    req->announced = be32_load(req->cdb + 10);
    if (action == SAI_GET_LBA_STATUS) {
        req->lba = be64_load(req->cdb + 2);
        return scsi_lba_range_ok(req);
    }
    return action == SAI_READ_CAPACITY_16;
}

/* log2 of physical blocks in logical ones. */
static unsigned physical_exponent(const struct scsi_target *t)
{
    unsigned e = 0;
    while (e < 15 && t->block_bytes << (e + 1) <= t->physical_block_size)
        e++;
    return e;
}

static void action_in_run(struct scsi_request *req)
{
    struct scsi_target *t = req->target;
    uint8_t *buf = scsi_buffer(req);

    if (!buf)
        return;
    memset(buf, 0, 32);
    if ((req->cdb[1] & 0x1f) == SAI_GET_LBA_STATUS) {
        /* One descriptor: from here to the end, mapped (SBC-3, 5.4.2). */
        be32_store(buf, 20);
        be64_store(buf + 8, req->lba);
        be32_store(buf + 16, MIN(t->block_count - MIN(req->lba, t->block_count),
                                 (uint64_t)UINT32_MAX));
        scsi_reply(req, 24);
        return;
    }
    be64_store(buf, t->block_count - 1);
    be32_store(buf + 8, t->block_bytes);
    buf[13] = physical_exponent(t);
    if (t->discard_granularity)
        buf[14] = 0x80;             /* LBPME: logical blocks can be unmapped */
    scsi_reply(req, 32);
}

static void good_run(struct scsi_request *req) { scsi_finish(req, SCSI_GOOD); }

static bool seek_decode(struct scsi_request *req)
{
    req->lba = be32_load(req->cdb + 2);
    req->blocks = 0;
    return scsi_lba_range_ok(req);
}

static bool refuse_decode(struct scsi_request *req) { return false; }

#define RW(op, n, f, decode_, run_, received_) { op, f, n, decode_, run_, received_ }

const struct scsi_command sbc_commands[] = {
    RW(READ_6, "READ(6)", 0, scsi_rw_decode, scsi_read_run, NULL),
    RW(READ_10, "READ(10)", 0, scsi_rw_decode, scsi_read_run, NULL),
    RW(READ_12, "READ(12)", 0, scsi_rw_decode, scsi_read_run, NULL),
    RW(READ_16, "READ(16)", 0, scsi_rw_decode, scsi_read_run, NULL),
    RW(WRITE_6, "WRITE(6)", CMD_TO_TARGET | CMD_WRITES, scsi_rw_decode, write_run, write_received),
    RW(WRITE_10, "WRITE(10)", CMD_TO_TARGET | CMD_WRITES, scsi_rw_decode, write_run,
       write_received),
    RW(WRITE_12, "WRITE(12)", CMD_TO_TARGET | CMD_WRITES, scsi_rw_decode, write_run,
       write_received),
    RW(WRITE_16, "WRITE(16)", CMD_TO_TARGET | CMD_WRITES, scsi_rw_decode, write_run,
       write_received),
    RW(WRITE_VERIFY_10, "WRITE AND VERIFY(10)", CMD_TO_TARGET | CMD_WRITES, scsi_rw_decode,
       write_run, write_received),
    RW(WRITE_VERIFY_12, "WRITE AND VERIFY(12)", CMD_TO_TARGET | CMD_WRITES, scsi_rw_decode,
       write_run, write_received),
    RW(WRITE_VERIFY_16, "WRITE AND VERIFY(16)", CMD_TO_TARGET | CMD_WRITES, scsi_rw_decode,
       write_run, write_received),
    RW(VERIFY_10, "VERIFY(10)", CMD_TO_TARGET, verify_decode, verify_run, verify_received),
    RW(VERIFY_12, "VERIFY(12)", CMD_TO_TARGET, verify_decode, verify_run, verify_received),
    RW(VERIFY_16, "VERIFY(16)", CMD_TO_TARGET, verify_decode, verify_run, verify_received),
    RW(SYNCHRONIZE_CACHE_10, "SYNCHRONIZE CACHE(10)", 0, sync_decode, sync_run, NULL),
    RW(SYNCHRONIZE_CACHE_16, "SYNCHRONIZE CACHE(16)", 0, sync_decode, sync_run, NULL),
    RW(READ_CAPACITY_10, "READ CAPACITY(10)", 0, capacity10_decode, capacity10_run, NULL),
    RW(SERVICE_ACTION_IN_16, "SERVICE ACTION IN(16)", 0, action_in_decode, action_in_run, NULL),
    RW(SEEK_10, "SEEK(10)", 0, seek_decode, good_run, NULL),
    RW(SEEK_6, "SEEK(6)", 0, scsi_decode_none, good_run, NULL),
    RW(REZERO_UNIT, "REZERO UNIT", 0, scsi_decode_none, good_run, NULL),
    RW(FORMAT_UNIT, "FORMAT UNIT", 0, refuse_decode, good_run, NULL),
    RW(UNMAP, "UNMAP", CMD_TO_TARGET | CMD_WRITES, scsi_unmap_decode, scsi_unmap_run,
       scsi_unmap_received),
    RW(WRITE_SAME_10, "WRITE SAME(10)", CMD_TO_TARGET | CMD_WRITES, scsi_write_same_decode,
       scsi_write_same_run, scsi_write_same_received),
    RW(WRITE_SAME_16, "WRITE SAME(16)", CMD_TO_TARGET | CMD_WRITES, scsi_write_same_decode,
       scsi_write_same_run, scsi_write_same_received),
};
const unsigned sbc_command_count = ARRAY_SIZE(sbc_commands);
