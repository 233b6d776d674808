/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages from the initiator, as a target takes them: byte by byte, acted upon when whole.
 * SCSI-2 6.6, SPI-2 11. What a target does not know it answers with MESSAGE REJECT.
 */
#include "devices/lsi53c895a/lsi.h"

enum { PERIOD_ULTRA2 = 10 /* 25 ns */, OFFSET_MAX = 31, WIDTH_MAX = 1 };

/* Bytes a message that starts like this has; 0: cannot be said yet. */
static unsigned message_len(const struct lsi_conn *c)
{
    uint8_t first = c->out[0];

    if (first == MSG_EXTENDED)
        return c->out_len < 2 ? 0 : 2 + (c->out[1] ? c->out[1] : 256);
    return first >= 0x20 && first < 0x30 ? 2 : 1;
}

static void reject(struct lsi *s)
{
    static const uint8_t msg = MSG_REJECT;
    lsi_message_in(s, &msg, 1);
}

/* Synchronous parameters both can: never faster than Ultra2, never deeper than the chip. */
static void agree_sync(struct lsi *s, uint8_t *period, uint8_t *offset)
{
    struct lsi_target *t = &s->targets[s->conn.target];

    *period = MAX(*period, PERIOD_ULTRA2);
    *offset = MIN(*offset, OFFSET_MAX);
    t->period = *offset ? *period : 0;
    t->offset = *offset;
}

static void extended(struct lsi *s)
{
    struct lsi_conn *c = &s->conn;
    struct lsi_target *t = &s->targets[c->target];
    uint8_t *m = c->out, len = m[1];

    if (len == 2 && m[2] == EXT_WDTR) {
        m[3] = MIN(m[3], WIDTH_MAX);
        t->wide = m[3];
        t->period = t->offset = 0;                  /* a new width ends synchronous transfer */
    } else if (len == 3 && m[2] == EXT_SDTR) {
        agree_sync(s, &m[3], &m[4]);
    } else if (len == 6 && m[2] == EXT_PPR) {
        agree_sync(s, &m[3], &m[5]);
        m[4] = 0;
        m[6] = MIN(m[6], WIDTH_MAX);
        m[7] = 0;                                   /* no double transition on an Ultra2 bus */
        t->wide = m[6];
    } else {
        reject(s);
        return;
    }
    lsi_message_in(s, m, 2 + len);
}

/* Ends tasks and leaves the bus, as the message asks; no status follows. */
static void abort_tasks(struct lsi *s, int lun, int tag)
{
    lsi_cancel_tasks(s, s->conn.target, lun, tag);
    s->conn.task = LSI_NO_TASK;
    s->conn.in_len = s->conn.in_pos = 0;
    s->conn.nexus = NEXUS_LEAVING;
}

static void reset_target(struct lsi *s)
{
    struct lsi_conn *c = &s->conn;
    bool exact;

    abort_tasks(s, -1, -1);
    s->targets[c->target] = (struct lsi_target){ 0 };
    for (unsigned lun = 0; lun < LSI_LUNS; lun++) {
        struct scsi_target *unit = scsi_find(s->bus, c->target, lun, &exact);
        if (unit && exact)
            scsi_target_reset(unit);
    }
}

static void reset_unit(struct lsi *s)
{
    struct lsi_conn *c = &s->conn;
    bool exact;
    struct scsi_target *unit = scsi_find(s->bus, c->target, c->lun, &exact);

    abort_tasks(s, c->lun, -1);
    s->targets[c->target].sense[c->lun].len = 0;
    if (unit && exact)
        scsi_target_reset(unit);
}

static void identify(struct lsi *s, uint8_t m)
{
    struct lsi_conn *c = &s->conn;

    if (c->nexus != NEXUS_SELECTED && c->nexus != NEXUS_COMMAND && (m & (LSI_LUNS - 1)) != c->lun) {
        abort_tasks(s, c->lun, c->tag);             /* another unit in mid-command: SCSI-2 6.6.7 */
        return;
    }
    c->lun = m & (LSI_LUNS - 1);
    c->may_disconnect = m & MSG_IDENTIFY_DISCONNECT;
}

static void act(struct lsi *s)
{
    struct lsi_conn *c = &s->conn;
    uint8_t m = c->out[0];

    switch (m) {
    case MSG_EXTENDED:
        extended(s);
        return;
    case MSG_INITIATOR_DETECTED_ERROR:
    case MSG_REJECT:
    case MSG_NOP:
    case MSG_PARITY_ERROR:
        return;
    case MSG_ABORT:
    case MSG_CLEAR_QUEUE:
        abort_tasks(s, c->lun, -1);
        return;
    case MSG_ABORT_TAG:
        abort_tasks(s, c->lun, c->tag);
        return;
    case MSG_BUS_DEVICE_RESET:
        reset_target(s);
        return;
    case MSG_LOGICAL_UNIT_RESET:
        reset_unit(s);
        return;
    case MSG_SIMPLE_TAG:
    case MSG_HEAD_TAG:
    case MSG_ORDERED_TAG:
        if (c->nexus == NEXUS_SELECTED || c->nexus == NEXUS_COMMAND)
            c->tag = c->out[1];
        return;
    default:
        if (m & MSG_IDENTIFY)
            identify(s, m);
        else
            reject(s);
    }
}

void lsi_message_byte(struct lsi *s, uint8_t byte)
{
    struct lsi_conn *c = &s->conn;

    if (c->nexus == NEXUS_LEAVING && c->in_pos == c->in_len)
        return;                                     /* nobody listens any more */
    if (c->out_len < LSI_MSG_MAX)
        c->out[c->out_len++] = byte;
    unsigned len = message_len(c);
    if (len > LSI_MSG_MAX) {
        reject(s);
        c->out_len = 0;
    } else if (len && c->out_len >= len) {
        act(s);
        s->conn.out_len = 0;
    }
}
