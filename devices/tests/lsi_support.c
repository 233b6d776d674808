/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/tests/lsi_support.h"

#include <string.h>

/* Where things lie in a command's slot, from its DSA. */
enum { SLOT_BYTES = 0x80, T_SELECT = 0x00, T_MSGOUT = 0x08, T_CDB = 0x10, T_DATA = 0x18,
       T_STATUS = 0x20, T_MSGIN = 0x28, B_MSGOUT = 0x30, B_CDB = 0x40, B_STATUS = 0x50,
       B_MSGIN = 0x54 };
/* Why the driver's SCRIPTS stop. */
enum { V_DONE = 0x100, V_DISCONNECTED, V_RESELECTED, V_MESSAGE, V_DATA, V_PHASE, V_IDLE, V_SAVE,
       V_SENT };
enum { MSG_BUF = TABLES - 16 };

struct script script_at(struct bench *b, uint32_t addr) { return (struct script){ b, addr }; }

void lsi_prepare(struct bench *b)
{
    wr8(b, SCID, SCID_RRE | 7);
    wr8(b, RESPID0, 0x80);
    wr8(b, DIEN, 0x7d);
    wr8(b, SIEN0, SIST_MA | SIST_SGE | SIST_UDC | SIST_RST | SIST_PAR);
    wr8(b, SIEN1, (SIST_STO | SIST_GEN | SIST_HTH) >> 8);
}

struct stop lsi_wait(struct bench *b)
{
    struct stop s = { 0 };

    if (!bench_irq(b, WAIT_MS))
        fail_msg("no interrupt; ISTAT0 %02x ISTAT1 %02x DSP %08x DCMD %08x SBCL %02x",
                 rd8(b, ISTAT0), rd8(b, ISTAT1), rd32(b, DSP), rd32(b, DBC), rd8(b, SBCL));
    s.istat = rd8(b, ISTAT0);
    s.sist = rd8(b, SIST0);
    s.sist |= rd8(b, SIST1) << 8;
    s.dstat = rd8(b, DSTAT);
    s.vector = rd32(b, DSPS);
    return s;
}

struct stop lsi_run(struct bench *b, uint32_t addr)
{
    wr32(b, DSP, addr ? addr : rd32(b, DSP));
    return lsi_wait(b);
}

/* ---- the driver's SCRIPTS ---- */

/* JUMP whose target is not known yet: patched later. */
static uint32_t later(struct script *s, uint32_t op) { return put(s, op, 0); }
static void here(struct script *s, uint32_t at)
{
    le32_store(bench_ram(s->b) + at + 4, s->at);
}

static void leave(struct script *s, uint32_t vector)
{
    REG_REG(s, SCNTL2, OP_AND, 0x7f);
    CLEAR(s, ACK | ATN);
    WAIT_DISCONNECT(s);
    INT(s, TRUE_IF, vector);
}

void driver_init(struct driver *d, struct bench *b)
{
    struct script s = script_at(b, CODE);

    *d = (struct driver){ .b = b };
    lsi_prepare(b);
    d->start = s.at;
    uint32_t alt = later(&s, 0x43000000 | T_SELECT);
    INT(&s, WHEN | PHASE(PHASE_MESSAGE_OUT), V_PHASE);
    MOVE_TABLE(&s, PHASE_MESSAGE_OUT, T_MSGOUT);

    d->dispatch = s.at;
    uint32_t msgin = later(&s, 0x80000000 | TRUE_IF | WHEN | PHASE(PHASE_MESSAGE_IN));
    uint32_t command = later(&s, 0x80000000 | TRUE_IF | IF | PHASE(PHASE_COMMAND));
    uint32_t datain = later(&s, 0x80000000 | TRUE_IF | IF | PHASE(PHASE_DATA_IN));
    uint32_t dataout = later(&s, 0x80000000 | TRUE_IF | IF | PHASE(PHASE_DATA_OUT));
    uint32_t status = later(&s, 0x80000000 | TRUE_IF | IF | PHASE(PHASE_STATUS));
    INT(&s, TRUE_IF, V_PHASE);

    here(&s, command);
    MOVE_TABLE(&s, PHASE_COMMAND, T_CDB);
    JUMP(&s, TRUE_IF, d->dispatch);
    /* The driver fills in the kind of move: plain or chained. */
    here(&s, datain);
    here(&s, dataout);
    INT(&s, TRUE_IF, V_DATA);
    here(&s, status);
    MOVE_TABLE(&s, PHASE_STATUS, T_STATUS);
    JUMP(&s, TRUE_IF, d->dispatch);

    here(&s, msgin);
    MOVE(&s, PHASE_MESSAGE_IN, 1, MSG_BUF);
    uint32_t complete = later(&s, 0x80000000 | TRUE_IF | DATA_IS | MSG_COMMAND_COMPLETE);
    uint32_t disc = later(&s, 0x80000000 | TRUE_IF | DATA_IS | MSG_DISCONNECT);
    INT(&s, TRUE_IF | DATA_IS | MSG_SAVE_DATA_POINTER, V_SAVE);
    INT(&s, TRUE_IF, V_MESSAGE);
    here(&s, complete);
    leave(&s, V_DONE);
    here(&s, disc);
    leave(&s, V_DISCONNECTED);

    here(&s, alt);
    d->wait = s.at;
    uint32_t sigp = later(&s, 0x50000000);
    INT(&s, WHEN | PHASE(PHASE_MESSAGE_IN), V_PHASE);
    MOVE(&s, PHASE_MESSAGE_IN, 1, MSG_BUF);
    CLEAR(&s, ACK);
    INT(&s, WHEN | PHASE(PHASE_MESSAGE_IN), V_RESELECTED);
    REG_REG(&s, SCRATCHA, OP_LOAD, 1);
    MOVE(&s, PHASE_MESSAGE_IN, 2, MSG_BUF + 1);
    CLEAR(&s, ACK);
    INT(&s, TRUE_IF, V_RESELECTED);
    here(&s, sigp);
    INT(&s, TRUE_IF, V_IDLE);
}

static void entry(uint8_t *slot, unsigned at, uint32_t count, uint32_t addr)
{
    le32_store(slot + at, count);
    le32_store(slot + at + 4, addr);
}

static unsigned put_identify(uint8_t *m, unsigned lun, int tag, bool disconnect)
{
    m[0] = MSG_IDENTIFY | lun | (disconnect ? MSG_IDENTIFY_DISCONNECT : 0);
    if (tag < 0)
        return 1;
    m[1] = MSG_SIMPLE_TAG;
    m[2] = tag;
    return 3;
}

static struct command *find(struct driver *d, unsigned id, unsigned lun, int tag)
{
    for (unsigned i = 0; i < d->count; i++) {
        struct command *c = d->commands[i];
        if (!c->done && c->disconnected && c->id == id && c->lun == lun && c->tag == tag)
            return c;
    }
    fail_msg("target %u lun %u reselected with tag %d, which it has not", id, lun, tag);
    return NULL;
}

/* The next segment of c, by a single block move assembled on the spot. */
static uint32_t data_move(struct driver *d, struct command *c)
{
    struct script s = script_at(d->b, CODE + 0x800);
    unsigned phase = rd8(d->b, SSTAT1) & 7;
    uint32_t left = c->len - c->moved, n = c->segment ? MIN(left, c->segment) : left;

    if (n == 0)
        fail_msg("target %u wants to move more than %u bytes", c->id, c->len);
    put(&s, (c->chained ? CHMOV_OP(phase) : MOVE_OP(phase)) | n, c->data + c->moved);
    JUMP(&s, TRUE_IF, d->dispatch);
    c->moved += n;
    return CODE + 0x800;
}

static uint32_t continue_after_ack(struct driver *d)
{
    struct script s = script_at(d->b, CODE + 0x840);
    CLEAR(&s, ACK);
    JUMP(&s, TRUE_IF, d->dispatch);
    return CODE + 0x840;
}

static struct command *reselected(struct driver *d)
{
    const uint8_t *m = bench_ram(d->b) + MSG_BUF;
    bool tagged = rd8(d->b, SCRATCHA);

    CHECK_EQ(rd8(d->b, SSID) & 0x80, 0x80);
    CHECK_EQ(m[0] & 0x80, 0x80);
    if (tagged)
        CHECK_EQ(m[1], MSG_SIMPLE_TAG);
    struct command *c = find(d, rd8(d->b, SSID) & 15, m[0] & 7, tagged ? m[2] : -1);
    c->disconnected = false;
    wr32(d->b, DSA, c->dsa);
    wr8(d->b, SCRATCHA, 0);
    return c;
}

/* Runs from addr on behalf of c (NULL: whoever comes) until somebody is done or leaves. */
static void serve(struct driver *d, uint32_t addr, struct command *c, bool stop_when_left)
{
    for (;;) {
        struct stop s = lsi_run(d->b, addr);

        d->sist = s.sist;
        if ((s.sist & SIST_MA) && c) {      /* the residue stays to be moved; go where it leads */
            c->moved -= rd32(d->b, DBC) & 0xffffff;
            addr = d->dispatch;
            continue;
        }
        if (s.sist) {
            if (c)
                c->done = true;
            return;
        }
        CHECK_EQ(s.dstat & 0x7f, DSTAT_SIR);
        switch (s.vector) {
        case V_DONE:
            assert_non_null(c);
            c->done = true;
            c->status = bench_ram(d->b)[c->dsa + B_STATUS];
            return;
        case V_DISCONNECTED:
            assert_non_null(c);
            c->disconnected = true;
            c->disconnects++;
            if (stop_when_left)
                return;
            c = NULL;
            addr = d->wait;
            break;
        case V_RESELECTED:
            c = reselected(d);
            addr = d->dispatch;
            break;
        case V_SAVE:
            c->saved_pointers = true;
            addr = continue_after_ack(d);
            break;
        case V_MESSAGE:
            if (d->message_count < sizeof d->messages)
                d->messages[d->message_count++] = bench_ram(d->b)[MSG_BUF];
            addr = continue_after_ack(d);
            break;
        case V_DATA:
            assert_non_null(c);
            addr = data_move(d, c);
            break;
        default:
            fail_msg("driver stopped with %x, phase %u", s.vector, rd8(d->b, SSTAT1) & 7);
        }
    }
}

void driver_start(struct driver *d, struct command *c)
{
    assert_true(d->count < DRIVER_COMMANDS);
    c->dsa = TABLES + d->count * SLOT_BYTES;
    d->commands[d->count++] = c;
    c->done = c->disconnected = false;
    c->moved = 0;
    c->status = -1;

    uint8_t *slot = bench_ram(d->b) + c->dsa;
    memset(slot, 0, SLOT_BYTES);
    slot[T_SELECT + 2] = c->id;
    slot[T_SELECT + 3] = rd8(d->b, SCNTL3);
    entry(slot, T_MSGOUT, put_identify(slot + B_MSGOUT, c->lun, c->tag, c->disconnect),
          c->dsa + B_MSGOUT);
    memcpy(slot + B_CDB, c->cdb, c->cdb_len);
    entry(slot, T_CDB, c->cdb_len, c->dsa + B_CDB);
    entry(slot, T_STATUS, 1, c->dsa + B_STATUS);
    wr32(d->b, DSA, c->dsa);
    for (;;) {
        /* A target that comes back first is served, then it is this one's turn. */
        wr32(d->b, DSA, c->dsa);
        serve(d, d->start, c, true);
        if (c->done || c->disconnected)
            return;
    }
}

static bool all_done(const struct driver *d)
{
    for (unsigned i = 0; i < d->count; i++)
        if (!d->commands[i]->done)
            return false;
    return true;
}

void driver_finish(struct driver *d)
{
    while (!all_done(d))
        serve(d, d->wait, NULL, false);
    d->count = 0;
}

int driver_do(struct driver *d, struct command *c)
{
    driver_start(d, c);
    driver_finish(d);
    return c->status;
}

void driver_clear_attention(struct driver *d, unsigned id, unsigned lun)
{
    static const uint8_t ready[6] = { 0 }, sense[6] = { 0x03, 0, 0, 0, 18 };

    for (int i = 0; i < 4; i++) {
        struct command r = { .id = id, .lun = lun, .tag = -1, .cdb = ready, .cdb_len = 6 };
        struct command q = { .id = id, .lun = lun, .tag = -1, .cdb = sense, .cdb_len = 6,
                             .data = DATA, .len = 18 };
        if (driver_do(d, &r) == 0)
            return;
        CHECK_EQ(r.status, 2);
        CHECK_EQ(driver_do(d, &q), 0);
    }
    fail_msg("target %u lun %u does not become ready", id, lun);
}

struct stop driver_send(struct driver *d, unsigned id, unsigned lun, int tag, const uint8_t *msg,
                        unsigned len)
{
    struct script s = script_at(d->b, CODE + 0xa00);
    uint8_t *m = bench_ram(d->b) + MSG_BUF - 32;
    unsigned n = put_identify(m, lun, tag, true);

    memcpy(m + n, msg, len);
    SELECT_ATN(&s, id, d->wait);
    INT(&s, WHEN | PHASE(PHASE_MESSAGE_OUT), V_PHASE);
    REG_REG(&s, SCNTL2, OP_AND, 0x7f);
    MOVE(&s, PHASE_MESSAGE_OUT, n + len, MSG_BUF - 32);
    CLEAR(&s, ACK | ATN);
    WAIT_DISCONNECT(&s);
    INT(&s, TRUE_IF, V_SENT);
    return lsi_run(d->b, CODE + 0xa00);
}
