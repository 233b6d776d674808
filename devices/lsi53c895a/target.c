/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The targets' end of the SCSI bus: who is connected, which phase comes next, when a target
 * leaves and comes back. SCSI-2 chapter 6, SPI-2 chapter 10.
 *
 * A target that has to wait for its back-end disconnects if IDENTIFY allowed it to, at once after
 * the command or between two block moves; in the middle of a block move it keeps the bus.
 */
#include "devices/lsi53c895a/lsi.h"

#include <string.h>

bool lsi_is_wide(const struct lsi *s)
{
    return s->targets[s->conn.target].wide && (s->reg[SCNTL3] & SCNTL3_EWS);
}

static void ask(struct lsi *s, uint8_t phase)
{
    s->conn.phase = phase;
    s->conn.req = true;
    lsi_kick(s);
}

void lsi_message_in(struct lsi *s, const uint8_t *msg, unsigned len)
{
    struct lsi_conn *c = &s->conn;

    if (c->in_pos == c->in_len)
        c->in_pos = c->in_len = 0;
    if (len > LSI_MSG_MAX - c->in_len)
        return;                                     /* a flood of messages that want answers */
    memcpy(c->in + c->in_len, msg, len);
    c->in_len += len;
}

static void forget_connection(struct lsi *s)
{
    uint8_t phase = s->conn.phase;

    s->conn = (struct lsi_conn){ .phase = phase, .task = LSI_NO_TASK, .tag = LSI_NO_TAG };
    s->reg[SOCL] = 0;
    s->reg[SSTAT0] &= ~SSTAT0_WOA;
    s->reselected = false;
}

void lsi_bus_free(struct lsi *s)
{
    forget_connection(s);
    s->reg[SSTAT2] |= SSTAT2_LDSC;
    if (s->reg[SCNTL1] & SCNTL1_IARB) {
        s->reg[SCNTL1] &= ~SCNTL1_IARB;
        s->arbitrated = true;
    }
    if (s->reg[SCNTL2] & SCNTL2_SDU) {
        s->reg[SCNTL2] &= ~SCNTL2_SDU;
        lsi_scsi_interrupt(s, SIST_UDC);
    }
    lsi_kick(s);
}

void lsi_drop_connection(struct lsi *s)
{
    struct lsi_task *t = lsi_task_at(s, s->conn.task);

    if (t)
        lsi_cancel_tasks(s, t->target, t->lun, t->tag);
    forget_connection(s);
    lsi_select_timeout_stop(s);
    s->selecting = false;
}

bool lsi_select(struct lsi *s, unsigned id, bool atn)
{
    bool exact;

    if (id == (s->reg[SCID] & 15u) || !scsi_find(s->bus, id, 0, &exact))
        return false;
    forget_connection(s);
    s->conn.nexus = NEXUS_SELECTED;
    s->conn.target = id;
    s->reg[SCNTL2] |= SCNTL2_SDU;
    s->reg[SSTAT2] &= ~SSTAT2_LDSC;
    if (atn)
        s->reg[SOCL] |= BUS_ATN;
    lsi_next_phase(s);
    return true;
}

static bool answers_reselection(const struct lsi *s)
{
    unsigned respond = s->reg[RESPID0] | s->reg[RESPID1] << 8;

    return (s->reg[SCID] & SCID_RRE) && (respond >> (s->reg[SCID] & 15) & 1);
}

/* The task that has waited longest for the bus. */
static struct lsi_task *waiting_task(struct lsi *s)
{
    struct lsi_task *first = NULL;

    for (unsigned i = 0; i < LSI_TASKS; i++) {
        struct lsi_task *t = &s->tasks[i];
        bool ready = t->state == TASK_DONE || (t->state == TASK_DATA && t->buf);
        if (ready && !t->connected && (!first || (int32_t)(t->order - first->order) < 0))
            first = t;
    }
    return first;
}

bool lsi_reselect(struct lsi *s)
{
    struct lsi_task *t = answers_reselection(s) ? waiting_task(s) : NULL;

    if (!t || s->conn.nexus != NEXUS_NONE)
        return false;
    forget_connection(s);
    s->conn.nexus = NEXUS_TASK;
    s->conn.target = t->target;
    s->conn.lun = t->lun;
    s->conn.tag = t->tag;
    s->conn.may_disconnect = t->may_disconnect;
    s->conn.task = t - s->tasks;
    t->connected = true;
    uint8_t msg[] = { MSG_IDENTIFY | t->lun, MSG_SIMPLE_TAG, t->tag };
    lsi_message_in(s, msg, t->tag == LSI_NO_TAG ? 1 : 3);
    s->reselected = true;
    s->reg[SSID] = SSID_VAL | t->target;
    s->reg[SCNTL2] |= SCNTL2_SDU;
    s->reg[SSTAT2] &= ~SSTAT2_LDSC;
    lsi_next_phase(s);
    return true;
}

/* The target lets go of the bus and keeps the task. */
static void disconnect(struct lsi *s, struct lsi_task *t)
{
    static const uint8_t msg[] = { MSG_SAVE_DATA_POINTER, MSG_DISCONNECT };

    lsi_message_in(s, t->moved ? msg : msg + 1, t->moved ? 2 : 1);
    t->moved = false;
    t->connected = false;
    s->conn.task = LSI_NO_TASK;
    s->conn.nexus = NEXUS_LEAVING;
    ask(s, PHASE_MESSAGE_IN);
}

/* A block move of data has more to come. */
static bool in_mid_move(const struct lsi *s)
{
    return s->moving && lsi_dbc(s) && (s->reg[DCMD] & 7) <= PHASE_DATA_IN;
}

static void task_phase(struct lsi *s, struct lsi_task *t)
{
    static const uint8_t residue[] = { MSG_IGNORE_WIDE_RESIDUE, 1 };
    uint8_t data_phase = t->dir == SCSI_FROM_TARGET ? PHASE_DATA_IN : PHASE_DATA_OUT;

    switch (t->state) {
    case TASK_DATA:
        if (t->buf)
            ask(s, data_phase);
        break;
    case TASK_DONE:
        if (t->odd && lsi_is_wide(s)) {             /* half a word is still due */
            ask(s, data_phase);
        } else if (t->padded) {
            t->padded = false;
            lsi_message_in(s, residue, sizeof residue);
            ask(s, PHASE_MESSAGE_IN);
        } else {
            s->conn.status = t->status;
            s->conn.nexus = NEXUS_STATUS;
            lsi_task_free(s, t);
            ask(s, PHASE_STATUS);
        }
        break;
    case TASK_BUSY:
        if (s->conn.may_disconnect && !in_mid_move(s) && !t->odd)
            disconnect(s, t);
        break;
    default:
        s->conn.nexus = NEXUS_LEAVING;              /* it was cancelled under our feet */
        lsi_bus_free(s);
    }
}

void lsi_next_phase(struct lsi *s)
{
    struct lsi_conn *c = &s->conn;
    bool said_all = c->in_pos == c->in_len;
    struct lsi_task *t = lsi_task_at(s, c->task);

    c->req = false;
    if (c->nexus == NEXUS_NONE || c->ack)
        return;
    if (c->nexus == NEXUS_LEAVING && said_all) {
        lsi_bus_free(s);
        return;
    }
    if (s->reg[SOCL] & BUS_ATN) {
        ask(s, PHASE_MESSAGE_OUT);
        return;
    }
    if (!said_all) {
        ask(s, PHASE_MESSAGE_IN);
        return;
    }
    switch (c->nexus) {
    case NEXUS_SELECTED:
        c->nexus = NEXUS_COMMAND;
        ask(s, PHASE_COMMAND);
        break;
    case NEXUS_COMMAND:
        ask(s, PHASE_COMMAND);
        break;
    case NEXUS_STATUS:
        ask(s, PHASE_STATUS);
        break;
    default:
        if (t) {
            task_phase(s, t);
        } else {
            c->nexus = NEXUS_LEAVING;
            lsi_bus_free(s);
        }
    }
}

uint8_t lsi_target_give(struct lsi *s)
{
    static const uint8_t complete = MSG_COMMAND_COMPLETE;
    struct lsi_conn *c = &s->conn;

    if (c->phase == PHASE_STATUS) {
        c->nexus = NEXUS_LEAVING;
        lsi_message_in(s, &complete, 1);
        return c->status;
    }
    return c->in_pos < c->in_len ? c->in[c->in_pos++] : MSG_NOP;
}

/* Length by the group of the operation code (SPC-2 4.3.4); what has no fixed length is as long as
 * the initiator's block move. */
static bool cdb_whole(const struct lsi *s)
{
    static const uint8_t by_group[8] = { 6, 10, 10, 0, 16, 12, 0, 0 };
    unsigned len = by_group[s->conn.cdb[0] >> 5];

    return len ? s->conn.cdb_len >= len : s->conn.cdb_len == SCSI_CDB_MAX || lsi_dbc(s) == 0;
}

void lsi_target_take(struct lsi *s, uint8_t byte)
{
    struct lsi_conn *c = &s->conn;

    if (c->phase == PHASE_MESSAGE_OUT) {
        lsi_message_byte(s, byte);
        return;
    }
    if (c->nexus != NEXUS_COMMAND || c->cdb_len >= SCSI_CDB_MAX)
        return;
    c->cdb[c->cdb_len++] = byte;
    if (cdb_whole(s))
        lsi_command(s);
}
