/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside lib/scsi: bus.c (who sits where), request.c (the life of a command), spc.c (commands of
 * every target, SPC-4), mode.c (mode pages), rw.c and unmap.c (block commands, SBC-3), disk.c
 * (scsi-hd), cdrom.c (scsi-cd, MMC-6).
 */
#ifndef SCSI_INTERNAL_H
#define SCSI_INTERNAL_H

#include "base/bytes.h"
#include "base/log.h"
#include "block/block.h"
#include "scsi/opcodes.h"
#include "scsi/scsi.h"

enum { REQUESTS_PER_TARGET = 256, SENSE_FIXED_BYTES = 18, BUFFERS_KEPT = 16,
       WRITE_SAME_MAX_BYTES = 1 << 30 };

/* Sense key, additional sense code and qualifier: SPC-4, 4.5. */
struct scsi_sense { uint8_t key, asc, ascq; };

#define SENSE(name, k, a, q) static const struct scsi_sense SENSE_##name __attribute__((unused)) = { k, a, q };
SENSE(NONE, 0x0, 0x00, 0x00)
SENSE(NO_MEDIUM, 0x2, 0x3a, 0x00)
SENSE(READ_ERROR, 0x3, 0x11, 0x00)
SENSE(WRITE_ERROR, 0x3, 0x0c, 0x00)
SENSE(MISCOMPARE, 0xe, 0x1d, 0x00)
SENSE(SPACE_ALLOCATION, 0x7, 0x27, 0x07)
SENSE(WRITE_PROTECTED, 0x7, 0x27, 0x00)
SENSE(TARGET_FAILURE, 0x4, 0x44, 0x00)
SENSE(INVALID_OPCODE, 0x5, 0x20, 0x00)
SENSE(LBA_OUT_OF_RANGE, 0x5, 0x21, 0x00)
SENSE(INVALID_FIELD, 0x5, 0x24, 0x00)
SENSE(LUN_NOT_SUPPORTED, 0x5, 0x25, 0x00)
SENSE(INVALID_PARAM_FIELD, 0x5, 0x26, 0x00)
SENSE(PARAM_LENGTH, 0x5, 0x1a, 0x00)
SENSE(SAVING_NOT_SUPPORTED, 0x5, 0x39, 0x00)
SENSE(REMOVAL_PREVENTED, 0x5, 0x53, 0x02)
SENSE(ILLEGAL_MODE_FOR_TRACK, 0x5, 0x64, 0x00)
#undef SENSE

/* Unit attentions in the order in which they are reported. */
enum scsi_ua { UA_POWER_ON, UA_BUS_RESET, UA_DEVICE_RESET, UA_MEDIUM_CHANGED, UA_CAPACITY_CHANGED,
               UA_COUNT };

enum request_phase {
    REQ_FREE,
    REQ_NEW,            /* made, not started */
    REQ_BUSY,           /* the target works: back-end I/O in flight or remembered in io */
    REQ_DATA,           /* the adapter moves buf */
    REQ_DONE,           /* complete() or cancelled() has been called */
};

/* Back-end work: what is in flight, or to be done at resume. */
enum request_io { IO_NONE, IO_READ, IO_WRITE, IO_FLUSH, IO_VERIFY, IO_DISCARD, IO_WRITE_ZEROES,
                  IO_WRITE_SAME, IO_START, IO_CONTINUE, IO_COUNT };

struct scsi_request {
    struct scsi_target *target;
    void *hba;
    uint32_t refs, index;
    uint32_t lun, tag;
    uint8_t cdb[SCSI_CDB_MAX];
    const struct scsi_command *cmd;     /* NULL: no such command */
    uint8_t phase;                      /* enum request_phase */
    uint8_t io;                         /* enum request_io */
    uint8_t last_io;                    /* what the request waits for while BUSY, for errors */
    bool wrong_lun;                     /* addressed to a unit that is not there */
    bool cancelled;
    bool to_target;
    bool nested;                        /* inside a callback of this request */

    uint64_t announced;                 /* bytes the CDB says will be moved */
    uint64_t moved;                     /* of them, done */
    uint64_t lba, blocks;               /* of the medium; blocks counts down as work is done */
    uint32_t unmap_at;                  /* next descriptor of UNMAP, WRITE SAME progress */

    void *buf;                          /* SCSI_CHUNK_BYTES, or NULL */
    uint32_t buf_len;                   /* used: bytes offered or wanted in this data phase */
    uint8_t status;
    uint8_t sense[SENSE_FIXED_BYTES];
    uint32_t sense_len;

    struct block_request block;
    struct iovec iov;
    void *compare;                      /* second buffer of VERIFY */
};

struct scsi_command {
    uint8_t opcode;
    uint8_t flags;
    const char *name;
    /* Reads the CDB: sets announced, lba, blocks. Returns false after scsi_fail_early(). */
    bool (*decode)(struct scsi_request *req);
    /* Does it: ends with scsi_reply(), scsi_want(), scsi_io() or scsi_finish()/scsi_fail(). */
    void (*run)(struct scsi_request *req);
    /* TO_TARGET: buf_len bytes have arrived at buf. */
    void (*received)(struct scsi_request *req);
};

enum {
    CMD_NO_MEDIUM_OK = 1,       /* works without a medium */
    CMD_UA_OK = 2,              /* does not report a pending unit attention: SAM-5, 5.14 */
    CMD_ANY_LUN = 4,            /* answered for absent units too */
    CMD_WRITES = 8,             /* refused on a read-only medium */
    CMD_TO_TARGET = 16,
};

struct scsi_target_ops {
    const struct scsi_command *commands;        /* tried before those of every target */
    const unsigned *count;
    size_t (*inquiry_vpd)(struct scsi_target *t, uint8_t page, uint8_t *buf);  /* 0: no such page */
    const uint8_t *vpd_pages;                   /* supported ones, ascending, 0-terminated after page 0 */
    size_t (*mode_page)(struct scsi_target *t, uint8_t page, uint8_t control, uint8_t *buf);
    const uint8_t *mode_pages;                  /* ascending, 0-terminated */
    /* New values of a page, already checked against the changeable ones. May be NULL. */
    void (*mode_select)(struct scsi_target *t, uint8_t page, const uint8_t *body);
};

/* The base class's part of a target. */
struct scsi_target {
    struct object *obj;
    struct scsi_bus *sbus;
    const struct scsi_target_ops *ops;
    uint32_t channel;
    int32_t scsi_id, lun;               /* properties; -1: chosen at plug */

    uint8_t type;                       /* peripheral device type */
    bool removable;
    struct block *block;                /* NULL: no drive, or no medium */
    bool medium;                        /* there is one, and the tray is closed */
    bool tray_open, locked, started;
    uint32_t block_bytes;
    uint64_t block_count;
    char *drive, *serial, *vendor, *product, *version, *device_id;
    uint64_t wwn, port_wwn;
    uint16_t port_index;
    bool share_rw, dpofua;
    int write_cache, rerror, werror;    /* properties, see disk.c */
    uint64_t logical_block_size, physical_block_size, min_io_size, opt_io_size;
    uint64_t discard_granularity, max_unmap_size, max_io_size;
    uint16_t rotation_rate;
    uint8_t scsi_version;

    uint8_t wce;                        /* mode page 8, current value */
    uint8_t ua[UA_COUNT];               /* pending unit attentions */
    bool paused;
    uint32_t requests_used;             /* highest index in use + 1 */
    struct scsi_request requests[REQUESTS_PER_TARGET];
};

struct scsi_bus {
    struct bus bus;
    struct object *adapter;
    struct scsi_bus_config config;
};

struct scsi_target *scsi_target_of(struct object *obj);

/* request.c: for commands. */
void *scsi_buffer(struct scsi_request *req);            /* NULL: out of memory, and req has failed */
void scsi_reply(struct scsi_request *req, size_t len);  /* the first len bytes of buf, cut to announced */
void scsi_want(struct scsi_request *req, size_t len);   /* len <= SCSI_CHUNK_BYTES bytes into buf */
void scsi_finish(struct scsi_request *req, enum scsi_status status);
void scsi_fail(struct scsi_request *req, struct scsi_sense sense);
void scsi_fail_field(struct scsi_request *req, struct scsi_sense sense, unsigned byte);
void scsi_fail_lba(struct scsi_request *req, struct scsi_sense sense, uint64_t lba);
void scsi_io(struct scsi_request *req, enum request_io io);     /* starts, or remembers while paused */
void scsi_raise_ua(struct scsi_target *t, enum scsi_ua ua);
bool scsi_take_ua(struct scsi_target *t, struct scsi_sense *ret_sense);
void scsi_request_reinit(struct scsi_request *req);
void scsi_targets_abort(struct scsi_target *t);
const struct scsi_command *scsi_command_find(const struct scsi_target *t, uint8_t opcode);

/* rw.c */
void scsi_io_done(struct scsi_request *req, enum request_io io, int result);
void scsi_io_submit(struct scsi_request *req, enum request_io io);
extern const struct scsi_command sbc_commands[];
extern const unsigned sbc_command_count;
bool scsi_rw_decode(struct scsi_request *req);
void scsi_read_run(struct scsi_request *req);
bool scsi_lba_range_ok(struct scsi_request *req);

/* unmap.c */
bool scsi_unmap_decode(struct scsi_request *req);
void scsi_unmap_run(struct scsi_request *req);
void scsi_unmap_received(struct scsi_request *req);
void scsi_unmap_step(struct scsi_request *req);
bool scsi_write_same_decode(struct scsi_request *req);
void scsi_write_same_run(struct scsi_request *req);
void scsi_write_same_received(struct scsi_request *req);
void scsi_write_same_step(struct scsi_request *req);

/* spc.c, mode.c */
extern const struct scsi_command spc_commands[];
extern const unsigned spc_command_count;
bool scsi_mode_sense_decode(struct scsi_request *req);
void scsi_mode_sense_run(struct scsi_request *req);
bool scsi_mode_select_decode(struct scsi_request *req);
void scsi_mode_select_run(struct scsi_request *req);
void scsi_mode_select_received(struct scsi_request *req);
size_t scsi_put_text(uint8_t *at, size_t width, const char *text);
bool scsi_decode_none(struct scsi_request *req);
bool scsi_decode_alloc16(struct scsi_request *req);     /* allocation length in bytes 7–8 */
size_t scsi_mode_caching(struct scsi_target *t, uint8_t control, uint8_t *buf);

/* disk.c */
int scsi_target_attach(struct scsi_target *t, bool writable, struct error *err) MUST_CHECK;
void scsi_target_unrealize(struct object *obj);

#endif
