/* SPDX-License-Identifier: Apache-2.0 */
/* MODE SENSE and MODE SELECT, 6 and 10: SPC-4, 6.9 to 6.12. */
#include "scsi/internal.h"

#include <string.h>

static bool is_six(const struct scsi_request *req)
{
    return req->cdb[0] == MODE_SENSE_6 || req->cdb[0] == MODE_SELECT_6;
}

/* Caching page, 08h (SBC-3, 6.4.5). control: 0 current, 1 changeable, 2 default. */
size_t scsi_mode_caching(struct scsi_target *t, uint8_t control, uint8_t *buf)
{
    buf[0] = 0x08;
    buf[1] = 0x12;
    if (control == 1 ? t->block && !block_read_only(t->block) : t->wce)
        buf[2] = 0x04;
    return 20;
}

bool scsi_mode_sense_decode(struct scsi_request *req)
{
    req->announced = is_six(req) ? req->cdb[4] : be16_load(req->cdb + 7);
    if (req->cdb[2] >> 6 != 3)
        return true;
    /* Saved values: nothing is saved. The sense is its own. */
    req->sense[0] = 0x70;
    req->sense[2] = SENSE_SAVING_NOT_SUPPORTED.key;
    req->sense[7] = SENSE_FIXED_BYTES - 8;
    req->sense[12] = SENSE_SAVING_NOT_SUPPORTED.asc;
    req->sense_len = SENSE_FIXED_BYTES;
    return false;
}

static size_t put_pages(struct scsi_target *t, uint8_t page, uint8_t control, uint8_t *buf)
{
    size_t len = 0;

    for (const uint8_t *p = t->ops->mode_pages; *p; p++)
        if (page == 0x3f || page == *p)
            len += t->ops->mode_page(t, *p, control, buf + len);
    return len;
}

void scsi_mode_sense_run(struct scsi_request *req)
{
    struct scsi_target *t = req->target;
    bool six = is_six(req), dbd = req->cdb[1] & 8, llbaa = !six && req->cdb[1] & 0x10;
    uint8_t page = req->cdb[2] & 0x3f, control = req->cdb[2] >> 6, subpage = req->cdb[3];
    uint8_t *buf = scsi_buffer(req);
    size_t head = six ? 4 : 8, len = head, descriptor = 0;

    if (!buf)
        return;
    memset(buf, 0, 512);
    if (!dbd && t->type == TYPE_DISK) {
        uint8_t *d = buf + len;
        descriptor = llbaa ? 16 : 8;
        if (llbaa) {
            be64_store(d, t->block_count);
            be32_store(d + 12, t->block_bytes);
        } else {
            be32_store(d, MIN(t->block_count, (uint64_t)UINT32_MAX));
            if (t->block_count > 0xffffff && six)
                be32_store(d, 0xffffff);
            be32_store(d + 4, t->block_bytes & 0xffffff);
        }
        len += descriptor;
    }
    size_t pages = subpage == 0 || subpage == 0xff ? put_pages(t, page, control, buf + len) : 0;
    if (!pages) {
        scsi_fail_field(req, SENSE_INVALID_FIELD, subpage && subpage != 0xff ? 3 : 2);
        return;
    }
    len += pages;

    uint8_t specific = (t->block && block_read_only(t->block) ? 0x80 : 0) | (t->dpofua ? 0x10 : 0);
    if (t->type == TYPE_CDROM)
        specific = 0;
    if (six) {
        buf[0] = len - 1;
        buf[2] = specific;
        buf[3] = descriptor;
    } else {
        be16_store(buf, len - 2);
        buf[3] = specific;
        buf[4] = llbaa && descriptor;
        be16_store(buf + 6, descriptor);
    }
    scsi_reply(req, len);
}

bool scsi_mode_select_decode(struct scsi_request *req)
{
    req->announced = is_six(req) ? req->cdb[4] : be16_load(req->cdb + 7);
    return (req->cdb[1] & 0x10) && !(req->cdb[1] & 1);     /* PF set; SP: nothing can be saved */
}

void scsi_mode_select_run(struct scsi_request *req)
{
    if (req->announced)
        scsi_want(req, MIN(req->announced, (uint64_t)SCSI_CHUNK_BYTES));
    else
        scsi_finish(req, SCSI_GOOD);
}

/* One page is accepted when it differs from the current values in changeable bits only. */
static bool page_ok(struct scsi_target *t, uint8_t page, const uint8_t *body, size_t len)
{
    uint8_t now[256] = { 0 }, can[256] = { 0 };
    size_t have = t->ops->mode_page(t, page, 0, now);

    t->ops->mode_page(t, page, 1, can);
    if (have != len + 2)
        return false;
    for (size_t i = 0; i < len; i++)
        if ((now[i + 2] ^ body[i]) & ~can[i + 2])
            return false;
    return true;
}

static bool page_known(struct scsi_target *t, uint8_t page)
{
    for (const uint8_t *p = t->ops->mode_pages; *p; p++)
        if (*p == page)
            return true;
    return false;
}

/* Walks the pages; 0, or the offset of what is wrong. */
static size_t select_pages(struct scsi_target *t, const uint8_t *buf, size_t at, size_t end,
                           bool apply)
{
    while (at < end) {
        uint8_t page = buf[at] & 0x3f;
        size_t len = at + 1 < end ? buf[at + 1] : 0;
        if ((buf[at] & 0x40) || !page_known(t, page))
            return at;
        if (end - at < 2 || len > end - at - 2 || !page_ok(t, page, buf + at + 2, len))
            return at + 1;
        if (apply && t->ops->mode_select)
            t->ops->mode_select(t, page, buf + at + 2);
        at += 2 + len;
    }
    return 0;
}

void scsi_mode_select_received(struct scsi_request *req)
{
    struct scsi_target *t = req->target;
    bool six = is_six(req);
    const uint8_t *buf = req->buf;
    size_t head = six ? 4 : 8, end = req->buf_len;

    if (end < head) {
        scsi_fail(req, SENSE_PARAM_LENGTH);
        return;
    }
    size_t descriptor = six ? buf[3] : be16_load(buf + 6);
    if (descriptor > end - head) {
        scsi_fail(req, SENSE_PARAM_LENGTH);
        return;
    }
    if (descriptor == 8 && t->type == TYPE_DISK) {
        uint32_t bytes = be32_load(buf + head + 4) & 0xffffff;
        if (bytes != t->block_bytes) {          /* the block length is fixed */
            scsi_fail_field(req, SENSE_INVALID_PARAM_FIELD, head + 5);
            return;
        }
    }
    size_t wrong = select_pages(t, buf, head + descriptor, end, false);
    if (wrong) {
        scsi_fail_field(req, SENSE_INVALID_PARAM_FIELD, wrong);
        return;
    }
    select_pages(t, buf, head + descriptor, end, true);
    scsi_finish(req, SCSI_GOOD);
}
