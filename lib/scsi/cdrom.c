/* SPDX-License-Identifier: Apache-2.0 */
/* scsi-cd: a CD/DVD-ROM drive with one data track. MMC-6. */
#include "scsi/internal.h"

#include <errno.h>
#include <string.h>

enum { CD_BLOCK = 2048, LEAD_OUT = 0xaa, CD_MAX_BLOCKS = 360000 };
enum { PROFILE_DVD_ROM = 0x10, PROFILE_CD_ROM = 0x08 };

static bool is_dvd(const struct scsi_target *t) { return t->block_count > CD_MAX_BLOCKS; }

/* Address of lba in minutes, seconds, frames: MMC-6, 4.2.3.8. */
static void put_address(uint8_t *at, uint64_t lba, bool msf)
{
    if (!msf) {
        be32_store(at, lba);
        return;
    }
    lba += 150;
    at[0] = 0;
    at[1] = MIN(lba / (75 * 60), (uint64_t)255);
    at[2] = lba / 75 % 60;
    at[3] = lba % 75;
}

/* ---- READ TOC/PMA/ATIP: 6.25 ---- */

static uint8_t *put_track(uint8_t *at, uint8_t track, uint64_t lba, bool msf)
{
    memset(at, 0, 8);
    at[1] = 0x14;                               /* data track, Q sub-channel: position */
    at[2] = track;
    put_address(at + 4, lba, msf);
    return at + 8;
}

static uint8_t *put_full(uint8_t *at, uint8_t point, uint8_t min, uint64_t lba)
{
    memset(at, 0, 11);
    at[0] = 1;
    at[1] = 0x14;
    at[3] = point;
    if (point >= 0xa0 && point < 0xa2) {
        at[8] = min;
    } else {
        uint8_t msf[4];
        put_address(msf, lba, true);
        memcpy(at + 8, msf + 1, 3);
    }
    return at + 11;
}

static void read_toc_run(struct scsi_request *req)
{
    struct scsi_target *t = req->target;
    bool msf = req->cdb[1] & 2;
    unsigned format = req->cdb[2] & 0xf ? req->cdb[2] & 0xf : req->cdb[9] >> 6;
    uint8_t *buf = scsi_buffer(req), *at = buf + 4;

    if (!buf)
        return;
    buf[2] = buf[3] = 1;
    switch (format) {
    case 0:
        if (req->cdb[6] > 1 && req->cdb[6] != LEAD_OUT) {
            scsi_fail_field(req, SENSE_INVALID_FIELD, 6);
            return;
        }
        if (req->cdb[6] <= 1)
            at = put_track(at, 1, 0, msf);
        at = put_track(at, LEAD_OUT, t->block_count, msf);
        break;
    case 1:                                     /* sessions: one */
        at = put_track(at, 1, 0, msf);
        break;
    case 2:                                     /* full TOC */
        at = put_full(at, 0xa0, 1, 0);
        at = put_full(at, 0xa1, 1, 0);
        at = put_full(at, 0xa2, 0, t->block_count);
        at = put_full(at, 1, 0, 0);
        break;
    default:
        scsi_fail_field(req, SENSE_INVALID_FIELD, 2);
        return;
    }
    be16_store(buf, at - buf - 2);
    scsi_reply(req, at - buf);
}

/* ---- GET CONFIGURATION: 6.6, features of 5.3 ---- */

static uint8_t *put_feature(uint8_t *at, uint16_t code, uint8_t flags, const uint8_t *data,
                            uint8_t len)
{
    be16_store(at, code);
    at[2] = flags;                              /* version, persistent 2, current 1 */
    at[3] = len;
    memcpy(at + 4, data, len);
    return at + 4 + len;
}

static void get_configuration_run(struct scsi_request *req)
{
    struct scsi_target *t = req->target;
    unsigned rt = req->cdb[1] & 3, start = be16_load(req->cdb + 2);
    bool dvd = t->medium && is_dvd(t), cd = t->medium && !is_dvd(t);
    const uint8_t profiles[] = { 0, PROFILE_DVD_ROM, dvd, 0, 0, PROFILE_CD_ROM, cd, 0 };
    const uint8_t core[] = { 0, 0, 0, 1, 0x01, 0, 0, 0 };           /* SCSI */
    const uint8_t morphing[] = { 0x02, 0, 0, 0 };
    const uint8_t removable[] = { 0x29, 0, 0, 0 };                  /* tray, eject, lock */
    const uint8_t readable[] = { 0, 0, CD_BLOCK >> 8, 0, 0, 1, 0, 0 };
    const uint8_t nothing[4] = { 0 };
    const struct { uint16_t code; uint8_t flags; const uint8_t *data; uint8_t len; } features[] = {
        { 0x0000, 0x03, profiles, sizeof profiles },
        { 0x0001, 0x0b, core, sizeof core },
        { 0x0002, 0x07, morphing, sizeof morphing },
        { 0x0003, 0x03, removable, sizeof removable },
        { 0x0010, t->medium, readable, sizeof readable },
        { 0x001e, 0x08 | cd, nothing, 4 },
        { 0x001f, dvd, nothing, 4 },
    };
    uint8_t *buf = scsi_buffer(req), *at = buf + 8;

    if (!buf)
        return;
    memset(buf, 0, 8);
    for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
        bool wanted = rt == 2 ? features[i].code == start
                              : features[i].code >= start && (rt == 0 || features[i].flags & 1);
        if (wanted)
            at = put_feature(at, features[i].code, features[i].flags, features[i].data,
                             features[i].len);
    }
    be32_store(buf, at - buf - 4);
    be16_store(buf + 6, dvd ? PROFILE_DVD_ROM : cd ? PROFILE_CD_ROM : 0);
    scsi_reply(req, at - buf);
}

/* ---- GET EVENT STATUS NOTIFICATION: 6.7, media class, polled ---- */

static bool event_decode(struct scsi_request *req)
{
    req->announced = be16_load(req->cdb + 7);
    return req->cdb[1] & 1;                     /* asynchronous notification is not offered */
}

static void event_run(struct scsi_request *req)
{
    struct scsi_target *t = req->target;
    uint8_t *buf = scsi_buffer(req);

    if (!buf)
        return;
    memset(buf, 0, 8);
    buf[3] = 0x10;                              /* supported: media */
    if (!(req->cdb[4] & 0x10)) {
        be16_store(buf, 2);
        buf[2] = 0x80;                          /* none of those asked for */
        scsi_reply(req, 4);
        return;
    }
    be16_store(buf, 6);
    buf[2] = 4;
    if (t->ua[UA_MEDIUM_CHANGED])
        buf[4] = 2;                             /* new media */
    buf[5] = (t->medium ? 2 : 0) | (t->tray_open ? 1 : 0);
    scsi_reply(req, 8);
}

/* ---- READ DISC INFORMATION, TRACK INFORMATION, MECHANISM STATUS, DVD STRUCTURE ---- */

static void disc_information_run(struct scsi_request *req)
{
    uint8_t *buf = scsi_buffer(req);
    if (!buf)
        return;
    memset(buf, 0, 34);
    be16_store(buf, 32);
    buf[2] = 0x0e;                              /* complete, last session complete */
    buf[3] = buf[4] = buf[5] = buf[6] = 1;
    buf[7] = 0x20;                              /* unrestricted use */
    memset(buf + 16, 0xff, 8);                  /* no further session can start */
    scsi_reply(req, 34);
}

static bool disc_information_decode(struct scsi_request *req)
{
    req->announced = be16_load(req->cdb + 7);
    return !(req->cdb[1] & 7);
}

static void track_information_run(struct scsi_request *req)
{
    struct scsi_target *t = req->target;
    uint8_t *buf = scsi_buffer(req);
    if (!buf)
        return;
    memset(buf, 0, 36);
    be16_store(buf, 34);
    buf[2] = buf[3] = 1;
    buf[5] = 4;
    buf[6] = 1;                                 /* data mode 1 */
    be32_store(buf + 24, t->block_count);
    scsi_reply(req, 36);
}

static bool mechanism_decode(struct scsi_request *req)
{
    req->announced = be16_load(req->cdb + 8);
    return true;
}

static void mechanism_run(struct scsi_request *req)
{
    uint8_t *buf = scsi_buffer(req);
    if (!buf)
        return;
    memset(buf, 0, 8);
    if (req->target->tray_open)
        buf[1] = 0x10;
    scsi_reply(req, 8);
}

static bool dvd_structure_decode(struct scsi_request *req)
{
    req->announced = be16_load(req->cdb + 8);
    return !(req->cdb[1] & 0xf) && req->cdb[6] == 0;
}

static void dvd_structure_run(struct scsi_request *req)
{
    struct scsi_target *t = req->target;
    uint8_t *buf = scsi_buffer(req);

    if (!buf)
        return;
    memset(buf, 0, 2052);
    if (!is_dvd(t)) {
        scsi_fail_field(req, SENSE_INVALID_FIELD, 7);
        return;
    }
    be16_store(buf, 2050);
    switch (req->cdb[7]) {
    case 0:                                     /* physical format: MMC-6, 6.22.3.2.1 */
        buf[4] = 0x01;                          /* DVD-ROM, version 1 */
        buf[5] = 0x0f;                          /* 120 mm, no maximum rate */
        buf[6] = 0x01;                          /* one layer, embossed */
        be32_store(buf + 8, 0x30000);
        be32_store(buf + 12, 0x30000 + t->block_count - 1);
        scsi_reply(req, 2052);
        return;
    case 1:                                     /* copyright: none */
        be16_store(buf, 6);
        scsi_reply(req, 8);
        return;
    default:
        scsi_fail_field(req, SENSE_INVALID_FIELD, 7);
    }
}

/* ---- READ CD: user data of mode 1 sectors, which is plain reading ---- */

static bool read_cd_decode(struct scsi_request *req)
{
    uint32_t blocks = be32_load(req->cdb + 5) & 0xffffff;   /* bytes 6 to 8 */
    unsigned what = req->cdb[9] & 0xf8, type = req->cdb[1] >> 2 & 7;

    req->lba = be32_load(req->cdb + 2);
    req->blocks = what ? blocks : 0;
    if ((what && what != 0x10) || (type && type != 2) || (req->cdb[9] & 0x06) ||
        (req->cdb[10] & 7))
        return false;
    if (!scsi_lba_range_ok(req))
        return false;
    req->announced = req->blocks * req->target->block_bytes;
    return true;
}

static bool read_capacities_decode(struct scsi_request *req)
{
    req->announced = be16_load(req->cdb + 7);
    return true;
}

static void read_capacities_run(struct scsi_request *req)
{
    struct scsi_target *t = req->target;
    uint8_t *buf = scsi_buffer(req);
    if (!buf)
        return;
    memset(buf, 0, 12);
    buf[3] = 8;
    be32_store(buf + 4, t->block_count);
    be32_store(buf + 8, t->block_bytes);
    buf[8] = t->medium ? 2 : 3;
    scsi_reply(req, 12);
}

static bool sub_channel_decode(struct scsi_request *req)
{
    req->announced = be16_load(req->cdb + 7);
    return !(req->cdb[2] & 0x40) || req->cdb[3] == 1;
}

static void sub_channel_run(struct scsi_request *req)
{
    uint8_t *buf = scsi_buffer(req);
    if (!buf)
        return;
    memset(buf, 0, 16);
    buf[1] = 0x15;                              /* no audio status */
    if (!(req->cdb[2] & 0x40)) {
        scsi_reply(req, 4);
        return;
    }
    buf[3] = 12;
    buf[4] = 1;
    buf[5] = 0x14;
    buf[6] = buf[7] = 1;
    scsi_reply(req, 16);
}

static void good_run(struct scsi_request *req) { scsi_finish(req, SCSI_GOOD); }

static bool capacity_decode(struct scsi_request *req)
{
    req->announced = 8;
    return true;
}

static void capacity_run(struct scsi_request *req)
{
    uint8_t *buf = scsi_buffer(req);
    if (!buf)
        return;
    be32_store(buf, req->target->block_count - 1);
    be32_store(buf + 4, req->target->block_bytes);
    scsi_reply(req, 8);
}

static bool sync_decode(struct scsi_request *req) { return true; }

static const struct scsi_command mmc_commands[] = {
    { READ_6, 0, "READ(6)", scsi_rw_decode, scsi_read_run },
    { READ_10, 0, "READ(10)", scsi_rw_decode, scsi_read_run },
    { READ_12, 0, "READ(12)", scsi_rw_decode, scsi_read_run },
    { READ_CAPACITY_10, 0, "READ CAPACITY(10)", capacity_decode, capacity_run },
    { READ_FORMAT_CAPACITIES, CMD_NO_MEDIUM_OK, "READ FORMAT CAPACITIES", read_capacities_decode,
      read_capacities_run },
    { READ_TOC, 0, "READ TOC", scsi_decode_alloc16, read_toc_run },
    { READ_SUB_CHANNEL, 0, "READ SUB-CHANNEL", sub_channel_decode, sub_channel_run },
    { GET_CONFIGURATION, CMD_NO_MEDIUM_OK | CMD_UA_OK, "GET CONFIGURATION", scsi_decode_alloc16,
      get_configuration_run },
    { GET_EVENT_STATUS, CMD_NO_MEDIUM_OK | CMD_UA_OK, "GET EVENT STATUS NOTIFICATION",
      event_decode, event_run },
    { READ_DISC_INFORMATION, 0, "READ DISC INFORMATION", disc_information_decode,
      disc_information_run },
    { READ_TRACK_INFORMATION, 0, "READ TRACK INFORMATION", scsi_decode_alloc16,
      track_information_run },
    { MECHANISM_STATUS, CMD_NO_MEDIUM_OK, "MECHANISM STATUS", mechanism_decode, mechanism_run },
    { READ_DVD_STRUCTURE, 0, "READ DVD STRUCTURE", dvd_structure_decode, dvd_structure_run },
    { READ_CD, 0, "READ CD", read_cd_decode, scsi_read_run },
    { SET_CD_SPEED, CMD_NO_MEDIUM_OK, "SET CD SPEED", scsi_decode_none, good_run },
    { SEEK_10, 0, "SEEK(10)", scsi_decode_none, good_run },
    { SYNCHRONIZE_CACHE_10, CMD_NO_MEDIUM_OK, "SYNCHRONIZE CACHE(10)", sync_decode, good_run },
};
static const unsigned mmc_command_count = ARRAY_SIZE(mmc_commands);

/* ---- mode pages: MMC-6, 7 ---- */

static size_t cd_mode_page(struct scsi_target *t, uint8_t page, uint8_t control, uint8_t *buf)
{
    bool values = control != 1;

    switch (page) {
    case 0x01:
        buf[0] = 0x01;
        buf[1] = 0x0a;
        if (values)
            buf[3] = 0x20;                      /* retries */
        return 12;
    case 0x0e:                                  /* audio control */
        buf[0] = 0x0e;
        buf[1] = 0x0e;
        if (values)
            buf[2] = 0x04;
        return 16;
    case 0x2a:                                  /* capabilities and mechanical status */
        buf[0] = 0x2a;
        buf[1] = 0x14;
        if (!values)
            return 22;
        buf[2] = 0x3b;                          /* reads CD-R, CD-RW, DVD-ROM, DVD-R, DVD-RAM */
        buf[4] = 0x70;                          /* mode 2 forms 1 and 2, multisession */
        buf[6] = 0x29 | (t->locked ? 2 : 0);    /* tray, eject, lock */
        be16_store(buf + 8, 50 * 176);
        be16_store(buf + 12, 2048);
        be16_store(buf + 14, 16 * 176);
        return 22;
    default:
        return 0;
    }
}

static const uint8_t cd_mode_pages[] = { 0x01, 0x0e, 0x2a, 0 };

static const struct scsi_target_ops cd_ops = {
    .commands = mmc_commands, .count = &mmc_command_count,
    .mode_page = cd_mode_page, .mode_pages = cd_mode_pages,
};

static int cd_realize(struct object *obj, struct error *err)
{
    struct scsi_target *t = scsi_target_of(obj);

    t->type = TYPE_CDROM;
    t->ops = &cd_ops;
    t->removable = true;
    t->block_bytes = CD_BLOCK;
    t->discard_granularity = 0;
    if (t->logical_block_size && t->logical_block_size != CD_BLOCK)
        return error_set(err, -EINVAL, "a CD-ROM has blocks of %u bytes", CD_BLOCK);
    int r = scsi_target_attach(t, false, err);
    if (r == 0)
        scsi_raise_ua(t, UA_POWER_ON);
    return r;
}

const struct object_class scsi_cd_class = {
    .name = "scsi-cd", .summary = "SCSI CD-ROM", .parent = &scsi_device_base,
    .realize = cd_realize, .unrealize = scsi_target_unrealize,
};
