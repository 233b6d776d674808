/* SPDX-License-Identifier: Apache-2.0 */
/* Commands of every target: SPC-4, chapter 6. */
#include "scsi/internal.h"

#include <stdio.h>
#include <string.h>

bool scsi_decode_none(struct scsi_request *req) { return true; }

bool scsi_decode_alloc16(struct scsi_request *req)
{
    req->announced = be16_load(req->cdb + 7);
    return true;
}

static void good_run(struct scsi_request *req) { scsi_finish(req, SCSI_GOOD); }

/* Left-aligned, padded with blanks, as identification fields are. */
size_t scsi_put_text(uint8_t *at, size_t width, const char *text)
{
    size_t len = text ? MIN(strlen(text), width) : 0;
    memset(at, ' ', width);
    if (len)
        memcpy(at, text, len);
    return len;
}

/* ---- INQUIRY: 6.4 ---- */

static bool inquiry_decode(struct scsi_request *req)
{
    req->announced = be16_load(req->cdb + 3);
    return !(req->cdb[1] & 0xfe) && ((req->cdb[1] & 1) || !req->cdb[2]);
}

static size_t standard_inquiry(struct scsi_request *req, uint8_t *buf)
{
    struct scsi_target *t = req->target;

    memset(buf, 0, 96);
    buf[0] = req->wrong_lun ? TYPE_ABSENT : t->type;
    buf[1] = t->removable ? 0x80 : 0;
    buf[2] = t->scsi_version;
    buf[3] = 2 | 0x10;                          /* response format 2, HiSup */
    buf[4] = 96 - 5;
    buf[7] = 0x10 | (t->sbus->config.tagged ? 0x02 : 0);    /* Sync, CmdQue */
    if (t->sbus->config.max_target > 7)
        buf[7] |= 0x20;                         /* WBus16 */
    scsi_put_text(buf + 8, 8, t->vendor);
    scsi_put_text(buf + 16, 16, t->product);
    scsi_put_text(buf + 32, 4, t->version);
    buf[56] = 0x0c;                             /* clocking: both DT and ST */
    be16_store(buf + 58, 0x00a0);               /* SAM-5 */
    be16_store(buf + 60, 0x0460);               /* SPC-4 */
    be16_store(buf + 62, t->type == TYPE_CDROM ? 0x0440 : 0x04c0);  /* MMC-6, SBC-3 */
    return 96;
}

static size_t serial_page(struct scsi_target *t, uint8_t *buf)
{
    size_t len = t->serial ? MIN(strlen(t->serial), (size_t)36) : 0;
    memcpy(buf + 4, t->serial ? t->serial : "", len);
    return len ? 4 + len : 0;
}

/* Device identification: 7.8.6. */
static size_t identification_page(struct scsi_target *t, uint8_t *buf)
{
    const char *name = t->device_id ? t->device_id : t->serial ? t->serial : t->drive;
    uint8_t *at = buf + 4;

    if (name && *name) {                        /* T10 vendor identification */
        size_t len = MIN(strlen(name), (size_t)64);
        at[0] = 2;
        at[1] = 1;
        at[3] = 8 + len;
        scsi_put_text(at + 4, 8, t->vendor);
        memcpy(at + 12, name, len);
        at += 12 + len;
    }
    if (t->wwn) {                               /* NAA of the unit */
        at[0] = 1;
        at[1] = 3;
        at[3] = 8;
        be64_store(at + 4, t->wwn);
        at += 12;
    }
    if (t->port_wwn) {                          /* NAA of the port */
        at[0] = 0x61;
        at[1] = 0x93;
        at[3] = 8;
        be64_store(at + 4, t->port_wwn);
        at += 12;
    }
    if (t->port_index) {                        /* relative target port */
        at[0] = 0x61;
        at[1] = 0x94;
        at[3] = 4;
        be16_store(at + 6, t->port_index);
        at += 8;
    }
    return at - buf;
}

static void inquiry_run(struct scsi_request *req)
{
    struct scsi_target *t = req->target;
    uint8_t *buf = scsi_buffer(req), page = req->cdb[2];
    size_t len = 0;

    if (!buf)
        return;
    if (!(req->cdb[1] & 1)) {
        scsi_reply(req, standard_inquiry(req, buf));
        return;
    }
    memset(buf, 0, 1024);
    if (req->wrong_lun)
        len = 0;
    else if (page == 0x00) {
        len = 4;
        buf[len++] = 0x00;
        if (t->serial && *t->serial)
            buf[len++] = 0x80;
        buf[len++] = 0x83;
        for (const uint8_t *p = t->ops->vpd_pages; p && *p; p++)
            buf[len++] = *p;
    } else if (page == 0x80) {
        len = serial_page(t, buf);
    } else if (page == 0x83) {
        len = identification_page(t, buf);
    } else if (t->ops->inquiry_vpd) {
        len = t->ops->inquiry_vpd(t, page, buf);
    }
    if (!len) {
        scsi_fail_field(req, SENSE_INVALID_FIELD, 2);
        return;
    }
    buf[0] = t->type;
    buf[1] = page;
    be16_store(buf + 2, len - 4);
    scsi_reply(req, len);
}

/* ---- REQUEST SENSE: 6.29 ---- */

static bool request_sense_decode(struct scsi_request *req)
{
    req->announced = req->cdb[4];
    return !(req->cdb[1] & 1);                  /* DESC: fixed format only */
}

static void request_sense_run(struct scsi_request *req)
{
    struct scsi_sense sense = SENSE_NONE;
    uint8_t *buf = scsi_buffer(req);

    if (!buf)
        return;
    if (req->wrong_lun)
        sense = SENSE_LUN_NOT_SUPPORTED;
    else if (!scsi_take_ua(req->target, &sense) && req->target->removable && !req->target->medium)
        sense = SENSE_NO_MEDIUM;
    memset(buf, 0, SENSE_FIXED_BYTES);
    buf[0] = 0x70;
    buf[2] = sense.key;
    buf[7] = SENSE_FIXED_BYTES - 8;
    buf[12] = sense.asc;
    buf[13] = sense.ascq;
    scsi_reply(req, SENSE_FIXED_BYTES);
}

/* ---- REPORT LUNS: 6.33 ---- */

static bool report_luns_decode(struct scsi_request *req)
{
    req->announced = be32_load(req->cdb + 6);
    return req->cdb[2] <= 2 && req->announced >= 16;
}

static void report_luns_run(struct scsi_request *req)
{
    struct scsi_target *self = req->target;
    uint8_t *buf = scsi_buffer(req);
    size_t len = 8;

    if (!buf)
        return;
    memset(buf, 0, 8);
    for (unsigned lun = 0; req->cdb[2] != 1 && lun <= self->sbus->config.max_lun; lun++) {
        bool exact;
        if (!scsi_find(self->sbus, self->scsi_id, lun, &exact) || !exact ||
            len + 8 > SCSI_CHUNK_BYTES)
            continue;
        memset(buf + len, 0, 8);
        /* Peripheral addressing below 256, flat space above: SAM-5, 4.7. */
        be16_store(buf + len, lun < 256 ? lun : 0x4000 | lun);
        len += 8;
    }
    be32_store(buf, len - 8);
    scsi_reply(req, len);
}

/* ---- LOG SENSE: the list of supported pages, which is that list alone ---- */

static bool log_sense_decode(struct scsi_request *req)
{
    req->announced = be16_load(req->cdb + 7);
    return !(req->cdb[1] & 1) && (req->cdb[2] & 0x3f) == 0 && req->cdb[3] == 0;
}

static void log_sense_run(struct scsi_request *req)
{
    uint8_t *buf = scsi_buffer(req);
    if (!buf)
        return;
    memset(buf, 0, 5);
    be16_store(buf + 2, 1);
    scsi_reply(req, 5);
}

/* ---- REPORT SUPPORTED OPERATION CODES: 6.35 ---- */

static bool maintenance_in_decode(struct scsi_request *req)
{
    req->announced = be32_load(req->cdb + 6);
    return (req->cdb[1] & 0x1f) == MI_REPORT_SUPPORTED_OPCODES && (req->cdb[2] & 7) <= 1;
}

static size_t one_opcode(struct scsi_request *req, uint8_t *buf)
{
    const struct scsi_command *c = scsi_command_find(req->target, req->cdb[3]);
    unsigned len = c ? scsi_cdb_length(c->opcode) : 0;

    memset(buf, 0, 4 + SCSI_CDB_MAX);
    buf[1] = c ? 3 : 1;
    be16_store(buf + 2, len);
    if (c) {
        memset(buf + 4, 0xff, len);
        buf[4] = c->opcode;
    }
    return 4 + len;
}

static size_t list_opcodes(const struct scsi_command *c, unsigned count, uint8_t *at)
{
    uint8_t *begin = at;
    for (unsigned i = 0; i < count; i++, at += 8) {
        memset(at, 0, 8);
        at[0] = c[i].opcode;
        be16_store(at + 6, scsi_cdb_length(c[i].opcode));
    }
    return at - begin;
}

static void maintenance_in_run(struct scsi_request *req)
{
    struct scsi_target *t = req->target;
    uint8_t *buf = scsi_buffer(req);
    size_t len = 4;

    if (!buf)
        return;
    if ((req->cdb[2] & 7) == 1) {
        scsi_reply(req, one_opcode(req, buf));
        return;
    }
    len += list_opcodes(t->ops->commands, *t->ops->count, buf + len);
    len += list_opcodes(spc_commands, spc_command_count, buf + len);
    be32_store(buf, len - 4);
    scsi_reply(req, len);
}

/* ---- START STOP UNIT, PREVENT ALLOW: 6.2x, SBC-3 5.25 ---- */

static void start_stop_run(struct scsi_request *req)
{
    struct scsi_target *t = req->target;
    bool start = req->cdb[4] & 1, load_eject = req->cdb[4] & 2;

    if (req->cdb[4] & 0xf0) {                   /* power conditions: accepted, without meaning */
        scsi_finish(req, SCSI_GOOD);
        return;
    }
    if (load_eject && t->removable) {
        if (!start && t->locked && !t->tray_open) {
            scsi_fail(req, SENSE_REMOVAL_PREVENTED);
            return;
        }
        bool was = t->medium;
        t->tray_open = !start;
        t->medium = start && t->block;
        if (t->medium && !was)
            scsi_raise_ua(t, UA_MEDIUM_CHANGED);
    }
    t->started = start;
    scsi_finish(req, SCSI_GOOD);
}

static bool prevent_decode(struct scsi_request *req) { return req->target->removable; }

static void prevent_run(struct scsi_request *req)
{
    req->target->locked = req->cdb[4] & 1;
    scsi_finish(req, SCSI_GOOD);
}

static bool diagnostic_decode(struct scsi_request *req)
{
    /* The default self-test, and nothing with parameters. */
    return !be16_load(req->cdb + 3) && !(req->cdb[1] & 0xe0);
}

const struct scsi_command spc_commands[] = {
    { TEST_UNIT_READY, 0, "TEST UNIT READY", scsi_decode_none, good_run },
    { REQUEST_SENSE, CMD_NO_MEDIUM_OK | CMD_UA_OK | CMD_ANY_LUN, "REQUEST SENSE",
      request_sense_decode, request_sense_run },
    { INQUIRY, CMD_NO_MEDIUM_OK | CMD_UA_OK | CMD_ANY_LUN, "INQUIRY", inquiry_decode,
      inquiry_run },
    { MODE_SELECT_6, CMD_NO_MEDIUM_OK | CMD_TO_TARGET, "MODE SELECT(6)", scsi_mode_select_decode,
      scsi_mode_select_run, scsi_mode_select_received },
    { MODE_SELECT_10, CMD_NO_MEDIUM_OK | CMD_TO_TARGET, "MODE SELECT(10)", scsi_mode_select_decode,
      scsi_mode_select_run, scsi_mode_select_received },
    { MODE_SENSE_6, CMD_NO_MEDIUM_OK, "MODE SENSE(6)", scsi_mode_sense_decode,
      scsi_mode_sense_run },
    { MODE_SENSE_10, CMD_NO_MEDIUM_OK, "MODE SENSE(10)", scsi_mode_sense_decode,
      scsi_mode_sense_run },
    /* One initiator a bus: it always holds what it reserves. */
    { RESERVE_6, CMD_NO_MEDIUM_OK, "RESERVE(6)", scsi_decode_none, good_run },
    { RELEASE_6, CMD_NO_MEDIUM_OK, "RELEASE(6)", scsi_decode_none, good_run },
    { RESERVE_10, CMD_NO_MEDIUM_OK, "RESERVE(10)", scsi_decode_none, good_run },
    { RELEASE_10, CMD_NO_MEDIUM_OK, "RELEASE(10)", scsi_decode_none, good_run },
    { START_STOP_UNIT, CMD_NO_MEDIUM_OK, "START STOP UNIT", scsi_decode_none, start_stop_run },
    { SEND_DIAGNOSTIC, CMD_NO_MEDIUM_OK, "SEND DIAGNOSTIC", diagnostic_decode, good_run },
    { PREVENT_ALLOW, CMD_NO_MEDIUM_OK, "PREVENT ALLOW MEDIUM REMOVAL", prevent_decode,
      prevent_run },
    { LOG_SENSE, CMD_NO_MEDIUM_OK, "LOG SENSE", log_sense_decode, log_sense_run },
    { REPORT_LUNS, CMD_NO_MEDIUM_OK | CMD_UA_OK | CMD_ANY_LUN, "REPORT LUNS", report_luns_decode,
      report_luns_run },
    { MAINTENANCE_IN, CMD_NO_MEDIUM_OK, "MAINTENANCE IN", maintenance_in_decode,
      maintenance_in_run },
};
const unsigned spc_command_count = ARRAY_SIZE(spc_commands);
