/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a command: NEW → start → BUSY ⇄ DATA → DONE. Requests lie in their target, so that its
 * state table saves them; buffers come from a small pool.
 */
#include "scsi/internal.h"

#include <errno.h>
#include <malloc.h>
#include <string.h>

/* ---- buffers, aligned for direct I/O ---- */

static void *kept[BUFFERS_KEPT];
static unsigned kept_count;

static void *buffer_take(void)
{
    return kept_count ? kept[--kept_count] : aligned_alloc(4096, SCSI_CHUNK_BYTES);
}

/* What came with saved state is as long as it had to be, and not kept. */
static void buffer_give(void *buf)
{
    if (malloc_usable_size(buf) >= SCSI_CHUNK_BYTES && kept_count < BUFFERS_KEPT)
        kept[kept_count++] = buf;
    else
        free(buf);
}

/* A new buffer may hold another command's data, and a reply only fills what it means to. */
void *scsi_buffer(struct scsi_request *req)
{
    if (!req->buf) {
        req->buf = buffer_take();
        if (!req->buf)
            scsi_fail(req, SENSE_TARGET_FAILURE);
    }
    return req->buf;
}

/* ---- making and finding ---- */

const struct scsi_command *scsi_command_find(const struct scsi_target *t, uint8_t opcode)
{
    for (unsigned i = 0; i < *t->ops->count; i++)
        if (t->ops->commands[i].opcode == opcode)
            return &t->ops->commands[i];
    for (unsigned i = 0; i < spc_command_count; i++)
        if (spc_commands[i].opcode == opcode)
            return &spc_commands[i];
    return NULL;
}

static void set_sense(struct scsi_request *req, struct scsi_sense sense)
{
    memset(req->sense, 0, sizeof req->sense);
    req->sense[0] = 0x70;
    req->sense[2] = sense.key;
    req->sense[7] = SENSE_FIXED_BYTES - 8;
    req->sense[12] = sense.asc;
    req->sense[13] = sense.ascq;
    req->sense_len = SENSE_FIXED_BYTES;
    req->status = SCSI_CHECK_CONDITION;
}

static bool decode(struct scsi_request *req)
{
    struct scsi_target *t = req->target;

    req->cmd = scsi_command_find(t, req->cdb[0]);
    if (req->wrong_lun && !(req->cmd && req->cmd->flags & CMD_ANY_LUN)) {
        set_sense(req, SENSE_LUN_NOT_SUPPORTED);
        return false;
    }
    if (!req->cmd) {
        set_sense(req, SENSE_INVALID_OPCODE);
        return false;
    }
    req->to_target = req->cmd->flags & CMD_TO_TARGET;
    if (!req->cmd->decode(req)) {
        req->announced = req->blocks = 0;
        if (!req->sense_len)
            set_sense(req, SENSE_INVALID_FIELD);
        return false;
    }
    return true;
}

struct scsi_request *scsi_request_new(struct scsi_target *t, unsigned lun, uint32_t tag,
                                      const uint8_t *cdb, size_t cdb_len, void *hba)
{
    uint32_t i = 0;

    while (i < REQUESTS_PER_TARGET && t->requests[i].phase != REQ_FREE)
        i++;
    if (i == REQUESTS_PER_TARGET)
        return NULL;
    struct scsi_request *req = &t->requests[i];
    *req = (struct scsi_request){ .target = t, .hba = hba, .refs = 1, .index = i, .lun = lun,
                                  .tag = tag, .phase = REQ_NEW,
                                  .wrong_lun = lun != (unsigned)t->lun };
    t->requests_used = MAX(t->requests_used, i + 1);
    memcpy(req->cdb, cdb, MIN(cdb_len, (size_t)SCSI_CDB_MAX));

    unsigned need = cdb_len ? scsi_cdb_length(cdb[0]) : 1;
    if (cdb_len < need || (need == 0 && cdb_len == 0))
        set_sense(req, SENSE_INVALID_OPCODE);
    else
        decode(req);
    return req;
}

struct scsi_request *scsi_request_get(struct scsi_request *req)
{
    req->refs++;
    return req;
}

void scsi_request_put(struct scsi_request *req)
{
    if (!req || !req->refs || --req->refs)
        return;
    buffer_give(TAKE_PTR(req->buf));
    free(TAKE_PTR(req->compare));
    req->buf_len = 0;
    req->phase = REQ_FREE;

    struct scsi_target *t = req->target;
    while (t->requests_used && t->requests[t->requests_used - 1].phase == REQ_FREE)
        t->requests_used--;
}

enum scsi_dir scsi_request_dir(const struct scsi_request *req)
{
    return !req->announced ? SCSI_NO_DATA : req->to_target ? SCSI_TO_TARGET : SCSI_FROM_TARGET;
}

size_t scsi_request_len(const struct scsi_request *req) { return req->announced; }
void *scsi_request_hba(const struct scsi_request *req) { return req->hba; }
void scsi_request_set_hba(struct scsi_request *req, void *hba) { req->hba = hba; }
uint32_t scsi_request_tag(const struct scsi_request *req) { return req->tag; }
unsigned scsi_request_lun(const struct scsi_request *req) { return req->lun; }
struct scsi_target *scsi_request_target(const struct scsi_request *req) { return req->target; }
int scsi_request_index(const struct scsi_request *req) { return req ? (int)req->index : -1; }

struct scsi_request *scsi_request_by_index(struct scsi_target *t, unsigned index)
{
    return index < REQUESTS_PER_TARGET && t->requests[index].phase != REQ_FREE
        ? &t->requests[index] : NULL;
}

uint8_t *scsi_request_data(const struct scsi_request *req, size_t *ret_len)
{
    *ret_len = req->phase == REQ_DATA ? req->buf_len : 0;
    return req->phase == REQ_DATA ? req->buf : NULL;
}

size_t scsi_sense(const struct scsi_request *req, uint8_t buf[SCSI_SENSE_MAX])
{
    memcpy(buf, req->sense, req->sense_len);
    return req->sense_len;
}

/* ---- unit attentions: SAM-5, 5.14 ---- */

static const struct scsi_sense ua_sense[UA_COUNT] = {
    [UA_POWER_ON] = { 0x6, 0x29, 0x00 }, [UA_BUS_RESET] = { 0x6, 0x29, 0x02 },
    [UA_DEVICE_RESET] = { 0x6, 0x29, 0x03 }, [UA_MEDIUM_CHANGED] = { 0x6, 0x28, 0x00 },
    [UA_CAPACITY_CHANGED] = { 0x6, 0x2a, 0x09 },
};

void scsi_raise_ua(struct scsi_target *t, enum scsi_ua ua)
{
    /* One reset swallows the lesser ones: there is a single 29h to report. */
    if (ua <= UA_DEVICE_RESET)
        t->ua[UA_POWER_ON] = t->ua[UA_BUS_RESET] = t->ua[UA_DEVICE_RESET] = 0;
    t->ua[ua] = 1;
}

bool scsi_take_ua(struct scsi_target *t, struct scsi_sense *ret_sense)
{
    for (int i = 0; i < UA_COUNT; i++)
        if (t->ua[i]) {
            t->ua[i] = 0;
            *ret_sense = ua_sense[i];
            return true;
        }
    return false;
}

/* ---- running ---- */

void scsi_finish(struct scsi_request *req, enum scsi_status status)
{
    uint64_t residual = req->announced - MIN(req->moved, req->announced);

    req->phase = REQ_DONE;
    req->status = status;
    scsi_request_get(req);
    if (req->hba)
        req->target->sbus->config.ops->complete(req, status, residual);
    else
        scsi_request_put(req);                  /* loaded, and claimed by no adapter */
    scsi_request_put(req);
}

void scsi_fail(struct scsi_request *req, struct scsi_sense sense)
{
    set_sense(req, sense);
    scsi_finish(req, SCSI_CHECK_CONDITION);
}

/* Field pointer: SPC-4, 4.5.2.4.2. */
void scsi_fail_field(struct scsi_request *req, struct scsi_sense sense, unsigned byte)
{
    set_sense(req, sense);
    req->sense[15] = 0x80 | (sense.asc == SENSE_INVALID_FIELD.asc ? 0x40 : 0);
    req->sense[16] = byte >> 8;
    req->sense[17] = byte;
    scsi_finish(req, SCSI_CHECK_CONDITION);
}

void scsi_fail_lba(struct scsi_request *req, struct scsi_sense sense, uint64_t lba)
{
    set_sense(req, sense);
    if (lba <= UINT32_MAX) {
        req->sense[0] |= 0x80;
        be32_store(req->sense + 3, lba);
    }
    scsi_finish(req, SCSI_CHECK_CONDITION);
}

static void offer(struct scsi_request *req, size_t len)
{
    if (!req->hba) {
        scsi_finish(req, SCSI_TASK_ABORTED);
        return;
    }
    req->phase = REQ_DATA;
    req->buf_len = len;
    scsi_request_get(req);
    req->target->sbus->config.ops->data(req, req->buf, len);
    scsi_request_put(req);
}

void scsi_reply(struct scsi_request *req, size_t len)
{
    size_t n = MIN((uint64_t)len, req->announced);
    if (n)
        offer(req, n);
    else
        scsi_finish(req, SCSI_GOOD);
}

void scsi_want(struct scsi_request *req, size_t len)
{
    if (scsi_buffer(req))
        offer(req, len);
}

void scsi_io(struct scsi_request *req, enum request_io io)
{
    req->phase = REQ_BUSY;
    req->io = io;
    if (!req->target->paused)
        scsi_io_submit(req, io);
}

static void start(struct scsi_request *req)
{
    struct scsi_target *t = req->target;
    unsigned flags = req->cmd ? req->cmd->flags : 0;
    struct scsi_sense ua;

    if (!req->wrong_lun && !(flags & CMD_UA_OK) && scsi_take_ua(t, &ua))
        scsi_fail(req, ua);
    else if (req->sense_len)                    /* refused when it was decoded */
        scsi_finish(req, SCSI_CHECK_CONDITION);
    else if (!(flags & CMD_NO_MEDIUM_OK) && !t->medium)
        scsi_fail(req, SENSE_NO_MEDIUM);
    else if ((flags & CMD_WRITES) && (!t->block || block_read_only(t->block)))
        scsi_fail(req, SENSE_WRITE_PROTECTED);
    else
        req->cmd->run(req);
}

static void proceed(struct scsi_request *req)
{
    req->moved += req->buf_len;
    req->phase = REQ_BUSY;
    if (req->to_target)
        req->cmd->received(req);
    else if (req->blocks && req->cmd->run == scsi_read_run)
        scsi_io(req, IO_READ);
    else
        scsi_finish(req, SCSI_GOOD);
}

void scsi_start(struct scsi_request *req)
{
    if (req->phase != REQ_NEW)
        return;
    req->phase = REQ_BUSY;
    if (req->target->paused)
        req->io = IO_START;
    else
        start(req);
}

void scsi_continue(struct scsi_request *req)
{
    if (req->phase != REQ_DATA)
        return;
    req->phase = REQ_BUSY;
    if (req->target->paused)
        req->io = IO_CONTINUE;
    else
        proceed(req);
}

/* Back-end work is over: told by rw.c, which has looked at the result. */
static void tell_cancelled(struct scsi_request *req)
{
    req->phase = REQ_DONE;
    scsi_request_get(req);
    if (req->hba)
        req->target->sbus->config.ops->cancelled(req);
    else
        scsi_request_put(req);
    scsi_request_put(req);
}

void scsi_cancel(struct scsi_request *req)
{
    if (req->phase == REQ_DONE || req->phase == REQ_FREE || req->cancelled)
        return;
    req->cancelled = true;
    if (req->phase == REQ_BUSY && req->last_io != IO_NONE)
        return;                                 /* block_done below tells it */
    req->io = IO_NONE;
    tell_cancelled(req);
}

static void block_done(struct block_request *block, int result)
{
    struct scsi_request *req = container_of(block, struct scsi_request, block);
    enum request_io io = req->last_io;

    req->last_io = IO_NONE;
    req->io = IO_NONE;
    if (req->cancelled)
        tell_cancelled(req);
    else
        scsi_io_done(req, io, result);
    scsi_request_put(req);                      /* the back-end's reference */
}

/* rw.c calls this just before it hands req->block to the block layer. */
void scsi_request_reinit(struct scsi_request *req)
{
    req->last_io = req->io;
    req->block.done = block_done;
    scsi_request_get(req);
}

void scsi_targets_abort(struct scsi_target *t)
{
    for (unsigned i = 0; i < REQUESTS_PER_TARGET; i++) {
        struct scsi_request *req = &t->requests[i];
        if (req->phase == REQ_FREE)
            continue;
        if (!req->target) {                     /* came with a state that was refused half-way */
            req->target = t;
            req->refs = 1;
        }
        scsi_cancel(req);
    }
}

/* ---- pause, state ---- */

static void target_pause(struct object *obj)
{
    struct scsi_target *t = scsi_target_of(obj);
    t->paused = true;
    if (t->block)
        block_drain(t->block);
}

static void target_resume(struct object *obj)
{
    struct scsi_target *t = scsi_target_of(obj);

    t->paused = false;
    for (unsigned i = 0; i < REQUESTS_PER_TARGET; i++) {
        struct scsi_request *req = &t->requests[i];
        enum request_io io = req->io;
        if (req->phase != REQ_BUSY || io == IO_NONE || req->last_io != IO_NONE)
            continue;
        req->io = IO_NONE;
        if (io == IO_START)
            start(req);
        else if (io == IO_CONTINUE)
            proceed(req);
        else
            scsi_io(req, io);
    }
}

static void target_reset(struct object *obj)
{
    struct scsi_target *t = scsi_target_of(obj);

    scsi_targets_abort(t);
    if (t->block)
        block_drain(t->block);
    memset(t->ua, 0, sizeof t->ua);
    scsi_raise_ua(t, UA_POWER_ON);
    t->locked = false;
    t->started = true;
    if (t->tray_open) {
        t->tray_open = false;
        t->medium = t->block != NULL;
    }
}

static bool request_loaded_ok(struct scsi_target *t, struct scsi_request *req)
{
    void *loaded = req->buf;
    uint32_t len = req->buf_len;
    uint64_t announced = req->announced, blocks = req->blocks, lba = req->lba;
    uint64_t moved = req->moved;

    /* What was decoded from the CDB is decoded again, not believed. */
    req->target = t;
    req->last_io = IO_NONE;
    req->refs = 1;
    req->buf = NULL;
    req->compare = NULL;
    req->hba = NULL;
    req->wrong_lun = req->lun != (unsigned)t->lun;
    if (loaded || len) {
        if (scsi_buffer(req) && len <= SCSI_CHUNK_BYTES)
            memcpy(req->buf, loaded, len);
        free(loaded);
    }
    if (req->phase == REQ_FREE)
        return !req->buf;
    if (req->phase == REQ_DONE)
        return req->sense_len <= SENSE_FIXED_BYTES;
    uint32_t sense_len = req->sense_len;
    decode(req);
    if (req->sense_len && (req->phase == REQ_DATA || !sense_len))
        return false;
    if (announced != req->announced || moved > announced || blocks > req->blocks ||
        lba < req->lba || lba - req->lba > req->blocks || req->lba + req->blocks < lba + blocks)
        return false;
    req->lba = lba;
    req->blocks = blocks;
    req->moved = moved;
    if (req->phase == REQ_DATA && (!req->buf || !len || len > announced - moved))
        return false;
    if (req->phase != REQ_BUSY || req->io == IO_START)
        return true;
    if (req->io == IO_NONE || !req->cmd || req->sense_len)
        return false;
    return !req->to_target || !req->announced || req->buf;  /* what arrived is worked on in the buffer */
}

static int target_post_load(struct object *obj, struct error *err)
{
    struct scsi_target *t = scsi_target_of(obj);
    bool ok = true;

    t->medium = t->block && !t->tray_open;
    for (uint32_t i = 0; i < REQUESTS_PER_TARGET; i++) {
        struct scsi_request *req = &t->requests[i];
        if (i >= t->requests_used)
            req->phase = REQ_FREE;
        req->index = i;
        if (!request_loaded_ok(t, req)) {
            ok = false;
            buffer_give(TAKE_PTR(req->buf));
            req->phase = REQ_FREE;
        }
    }
    if (t->block)
        block_set_write_cache(t->block, t->wce);
    return ok ? 0 : error_set(err, -EINVAL, "saved state: a SCSI command that cannot be");
}

static const struct state_field request_state[] = {
    STATE_U32(struct scsi_request, lun), STATE_U32(struct scsi_request, tag),
    STATE_BYTES(struct scsi_request, cdb), STATE_U8_MAX(struct scsi_request, phase, REQ_DONE),
    STATE_U8_MAX(struct scsi_request, io, IO_COUNT - 1), STATE_BOOL(struct scsi_request, cancelled),
    STATE_U64(struct scsi_request, announced), STATE_U64(struct scsi_request, moved),
    STATE_U64(struct scsi_request, lba), STATE_U64(struct scsi_request, blocks),
    STATE_U32(struct scsi_request, unmap_at),
    STATE_BUFFER(struct scsi_request, buf, buf_len, SCSI_CHUNK_BYTES),
    STATE_U8(struct scsi_request, status), STATE_BYTES(struct scsi_request, sense),
    STATE_U32_MAX(struct scsi_request, sense_len, SENSE_FIXED_BYTES), STATE_END
};

static void target_init(struct object *obj, void *part)
{
    struct scsi_target *t = part;
    t->obj = obj;
    t->started = true;
}

static void target_fini(struct object *obj, void *part)
{
    struct scsi_target *t = part;
    for (unsigned i = 0; i < REQUESTS_PER_TARGET; i++) {
        free(t->requests[i].buf);
        free(t->requests[i].compare);
    }
}

static const char *const error_policies[] = { "auto", "report", "ignore", NULL };
static const char *const write_cache_policies[] = { "auto", "on", "off", NULL };

const struct object_class scsi_device_base = {
    .name = "scsi-device", .summary = "any SCSI target", .abstract = true, .bus_type = "SCSI",
    .size = sizeof(struct scsi_target),
    .props = (const struct prop[]){
        PROP_UINT("channel", struct scsi_target, channel, 0, 255, 0, "channel of the adapter"),
        PROP_INT("scsi-id", struct scsi_target, scsi_id, -1, 255, -1,
                 "target id on the bus; by default the first free one"),
        PROP_INT("lun", struct scsi_target, lun, -1, 16383, -1, "logical unit; by default 0"),
        PROP_STRING("drive", struct scsi_target, drive, NULL, "node that holds the data"),
        PROP_STRING("serial", struct scsi_target, serial, NULL, "serial number, up to 36 characters"),
        PROP_STRING("vendor", struct scsi_target, vendor, "BULKHEAD", "up to 8 characters"),
        PROP_STRING("product", struct scsi_target, product, NULL, "up to 16 characters"),
        PROP_STRING("ver", struct scsi_target, version, "0.1", "revision, up to 4 characters"),
        PROP_STRING("device_id", struct scsi_target, device_id, NULL,
                    "identification in VPD page 83h; by default the serial, or the drive"),
        PROP_UINT("wwn", struct scsi_target, wwn, 0, UINT64_MAX, 0, "NAA identifier of the unit"),
        PROP_UINT("port_wwn", struct scsi_target, port_wwn, 0, UINT64_MAX, 0,
                  "NAA identifier of the port"),
        PROP_UINT("port_index", struct scsi_target, port_index, 0, UINT16_MAX, 0,
                  "relative target port"),
        PROP_UINT("scsi_version", struct scsi_target, scsi_version, 2, 7, 5,
                  "version in INQUIRY; 5 is SPC-3"),
        PROP_BOOL("share-rw", struct scsi_target, share_rw, false, "others may write it too"),
        PROP_ENUM("rerror", struct scsi_target, rerror, error_policies, 0,
                  "what a failed read does; auto: report"),
        PROP_ENUM("werror", struct scsi_target, werror, error_policies, 0,
                  "what a failed write does; auto: report"),
        PROP_ENUM("write-cache", struct scsi_target, write_cache, write_cache_policies, 0,
                  "announce a volatile write cache; auto: as the node has it"),
        PROP_SIZE("logical_block_size", struct scsi_target, logical_block_size, 0, 32768, 0,
                  "bytes; by default 512, CD-ROM 2048"),
        PROP_SIZE("physical_block_size", struct scsi_target, physical_block_size, 0, 1 << 21, 0,
                  "bytes; by default the logical one"),
        PROP_SIZE("min_io_size", struct scsi_target, min_io_size, 0, 1 << 21, 0, "bytes"),
        PROP_SIZE("opt_io_size", struct scsi_target, opt_io_size, 0, 1ull << 31, 0, "bytes"),
        PROP_SIZE("discard_granularity", struct scsi_target, discard_granularity, 0, UINT32_MAX,
                  UINT32_MAX, "bytes; 0: no UNMAP; by default 4096"),
        PROP_SIZE("max_unmap_size", struct scsi_target, max_unmap_size, 0, 1ull << 40, 1ull << 30,
                  "longest UNMAP to advertise, in bytes"),
        PROP_SIZE("max_io_size", struct scsi_target, max_io_size, 0, 1ull << 31, 1ull << 30,
                  "longest transfer to advertise, in bytes"),
        PROP_END },
    .state_version = 1,
    .state = (const struct state_field[]){
        STATE_U8_MAX(struct scsi_target, wce, 1), STATE_BYTES(struct scsi_target, ua),
        STATE_BOOL(struct scsi_target, tray_open), STATE_BOOL(struct scsi_target, locked),
        STATE_BOOL(struct scsi_target, started),
        STATE_STRUCTS_USED(struct scsi_target, requests, requests_used, request_state),
        STATE_END },
    .init = target_init, .fini = target_fini, .reset = target_reset, .pause = target_pause,
    .resume = target_resume, .post_load = target_post_load,
};
