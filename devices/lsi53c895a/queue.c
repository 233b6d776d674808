/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands that targets hold: from the CDB to the status, tagged or not, connected or not.
 *
 * Parallel SCSI knows no autosense: the sense data of a failed command stays here until the REQUEST
 * SENSE that the initiator sends next, or any other command to that unit (SCSI-2 7.6).
 */
#include "devices/lsi53c895a/lsi.h"

#include <string.h>

enum { OP_REQUEST_SENSE = 0x03, NO_INDEX = UINT32_MAX };

struct lsi_task *lsi_task_at(struct lsi *s, unsigned i)
{
    return i < LSI_TASKS ? &s->tasks[i] : NULL;
}

void lsi_task_free(struct lsi *s, struct lsi_task *t)
{
    if (s->conn.task == t - s->tasks)
        s->conn.task = LSI_NO_TASK;
    *t = (struct lsi_task){ .s = s, .tag = LSI_NO_TAG, .index = NO_INDEX };
}

/* A task can go on: at once if it has the bus, else by reselection. */
static void ready(struct lsi_task *t)
{
    struct lsi *s = t->s;

    t->order = s->next_order++;
    if (s->conn.task == t - s->tasks && s->conn.nexus == NEXUS_TASK && !s->conn.req)
        lsi_next_phase(s);
    lsi_kick(s);
}

static void on_data(struct scsi_request *req, uint8_t *buf, size_t len)
{
    struct lsi_task *t = scsi_request_hba(req);

    if (!t || (t->state != TASK_BUSY && t->state != TASK_DATA))
        return;
    if (t->state == TASK_BUSY)
        t->pos = 0;                                 /* else: the same piece again, after loading */
    t->buf = buf;
    t->len = MIN(len, (size_t)UINT32_MAX);
    t->pos = MIN(t->pos, t->len);
    t->dir = scsi_request_dir(req);
    t->state = TASK_DATA;
    ready(t);
}

static void keep_sense(struct lsi *s, struct lsi_task *t)
{
    struct lsi_sense *sense = &s->targets[t->target].sense[t->lun];
    sense->len = MIN(scsi_sense(t->req, sense->data), (size_t)SCSI_SENSE_MAX);
}

static void on_complete(struct scsi_request *req, enum scsi_status status, size_t residual)
{
    struct lsi_task *t = scsi_request_hba(req);

    if (!t || t->state == TASK_FREE || t->req != req)
        return;
    if (status == SCSI_CHECK_CONDITION)
        keep_sense(t->s, t);
    t->req = NULL;
    scsi_request_put(req);
    if (t->state == TASK_DYING) {
        lsi_task_free(t->s, t);
        return;
    }
    t->status = status;
    t->buf = NULL;
    t->state = TASK_DONE;
    ready(t);
}

static void on_cancelled(struct scsi_request *req)
{
    struct lsi_task *t = scsi_request_hba(req);

    if (!t || t->req != req)
        return;
    struct lsi *s = t->s;
    bool had_bus = s->conn.task == t - s->tasks;

    t->req = NULL;
    lsi_task_free(s, t);
    scsi_request_put(req);
    if (had_bus)
        lsi_next_phase(s);                          /* the target lets go of the bus */
}

static void on_changed(struct scsi_bus *bus, struct scsi_target *target) {}

const struct scsi_host_ops lsi_host_ops = {
    .data = on_data, .complete = on_complete, .cancelled = on_cancelled, .changed = on_changed,
};

void lsi_piece_moved(struct lsi *s, struct lsi_task *t)
{
    t->moved = true;
    if (t->pos >= t->len) {
        t->buf = NULL;
        if (t->req) {
            t->state = TASK_BUSY;
            scsi_continue(t->req);                  /* may call back before it returns */
        } else {
            t->state = TASK_DONE;                   /* sense data of our own */
            t->status = SCSI_GOOD;
        }
    }
    lsi_next_phase(s);
}

static void status_only(struct lsi *s, uint8_t status)
{
    s->conn.status = status;
    s->conn.nexus = NEXUS_STATUS;
}

/* REQUEST SENSE for what is kept here. */
static void give_sense(struct lsi *s, struct lsi_task *t, struct lsi_sense *sense)
{
    t->buf = sense->data;
    t->len = MIN(s->conn.cdb[4], sense->len);
    t->dir = SCSI_FROM_TARGET;
    t->state = t->len ? TASK_DATA : TASK_DONE;
    t->status = SCSI_GOOD;
    sense->len = 0;
}

static struct lsi_task *take_task(struct lsi *s)
{
    struct lsi_conn *c = &s->conn;

    for (unsigned i = 0; i < LSI_TASKS; i++) {
        struct lsi_task *t = &s->tasks[i];
        if (t->state != TASK_FREE)
            continue;
        *t = (struct lsi_task){ .s = s, .state = TASK_BUSY, .target = c->target, .lun = c->lun,
                                .tag = c->tag, .may_disconnect = c->may_disconnect,
                                .connected = true, .index = NO_INDEX };
        c->task = i;
        c->nexus = NEXUS_TASK;
        return t;
    }
    return NULL;
}

/* Two commands of one name: both end, the second with the reason (SAM-2 5.8.2). */
static bool overlapped(struct lsi *s)
{
    static const uint8_t sense[18] = { 0x70, 0, 0x0b, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x4e };
    struct lsi_conn *c = &s->conn;
    struct lsi_sense *keep = &s->targets[c->target].sense[c->lun];

    for (unsigned i = 0; i < LSI_TASKS; i++) {
        struct lsi_task *t = &s->tasks[i];
        if (t->state == TASK_FREE || t->state == TASK_DYING || t->target != c->target ||
            t->lun != c->lun || t->tag != c->tag)
            continue;
        lsi_cancel_tasks(s, c->target, c->lun, c->tag);
        memcpy(keep->data, sense, sizeof sense);
        keep->len = sizeof sense;
        status_only(s, SCSI_CHECK_CONDITION);
        return true;
    }
    return false;
}

void lsi_command(struct lsi *s)
{
    struct lsi_conn *c = &s->conn;
    struct lsi_sense *sense = &s->targets[c->target].sense[c->lun];
    bool exact;

    struct scsi_target *unit = scsi_find(s->bus, c->target, c->lun, &exact);
    if (!unit) {                                    /* unplugged since it was selected */
        c->nexus = NEXUS_LEAVING;
        return;
    }
    if (overlapped(s))
        return;
    struct lsi_task *t = take_task(s);
    if (!t) {
        status_only(s, SCSI_TASK_SET_FULL);
        return;
    }
    if (c->cdb[0] == OP_REQUEST_SENSE && sense->len) {
        give_sense(s, t, sense);
        return;
    }
    sense->len = 0;
    t->req = scsi_request_new(unit, c->lun, c->tag, c->cdb, c->cdb_len, t);
    if (!t->req) {
        lsi_task_free(s, t);
        status_only(s, SCSI_TASK_SET_FULL);
        return;
    }
    t->dir = scsi_request_dir(t->req);
    scsi_start(t->req);                             /* may call back before it returns */
}

void lsi_cancel_tasks(struct lsi *s, int target, int lun, int tag)
{
    for (unsigned i = 0; i < LSI_TASKS; i++) {
        struct lsi_task *t = &s->tasks[i];
        if (t->state == TASK_FREE || t->state == TASK_DYING ||
            (target >= 0 && t->target != target) || (lun >= 0 && t->lun != lun) ||
            (tag >= 0 && t->tag != tag))
            continue;
        if (s->conn.task == i)
            s->conn.task = LSI_NO_TASK;
        if (!t->req) {
            lsi_task_free(s, t);
            continue;
        }
        t->state = TASK_DYING;
        t->buf = NULL;
        scsi_cancel(t->req);
    }
}

void lsi_bus_reset(struct lsi *s)
{
    lsi_cancel_tasks(s, -1, -1, -1);
    lsi_drop_connection(s);
    memset(s->targets, 0, sizeof s->targets);
    s->arbitrated = false;
    scsi_bus_reset(s->bus);
}

/* What a loaded task has lost is offered again, or it ends so that the initiator tries again. */
static void adopt(struct lsi *s, struct lsi_task *t)
{
    struct lsi_sense *sense = &s->targets[t->target].sense[t->lun];
    bool exact;
    size_t len = 0;

    if (t->index == NO_INDEX && t->state == TASK_DATA && t->len <= sizeof sense->data) {
        t->buf = sense->data;
        return;
    }
    struct scsi_target *unit = scsi_find(s->bus, t->target, t->lun, &exact);
    struct scsi_request *req = unit && t->index != NO_INDEX
        ? scsi_request_by_index(unit, t->index) : NULL;
    if (req && !scsi_request_hba(req)) {
        t->req = req;
        scsi_request_set_hba(req, t);
        uint8_t *buf = scsi_request_data(req, &len);
        if (buf) {
            t->pos = t->state == TASK_DATA ? t->pos : 0;
            t->buf = buf;
            t->len = len;
            t->dir = scsi_request_dir(req);
            t->state = TASK_DATA;
            if (t->pos < t->len)
                return;
        } else if (t->state == TASK_BUSY) {
            return;
        }
        t->req = NULL;
        scsi_request_set_hba(req, NULL);
        scsi_cancel(req);
        scsi_request_put(req);
    }
    t->buf = NULL;
    t->state = TASK_DONE;
    t->status = SCSI_BUSY;
    t->odd = t->padded = false;
}

/* Finds the requests named in saved state. */
void lsi_adopt_requests(struct lsi *s)
{
    struct lsi_conn *c = &s->conn;

    for (unsigned i = 0; i < LSI_TASKS; i++) {
        struct lsi_task *t = &s->tasks[i];
        if ((t->state == TASK_DATA || t->state == TASK_BUSY) && !t->req)
            adopt(s, t);
    }
    if (c->nexus == NEXUS_TASK && c->in_pos == c->in_len && !c->ack &&
        !(c->req && c->phase == PHASE_MESSAGE_OUT))
        lsi_next_phase(s);
}
