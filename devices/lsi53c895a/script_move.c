/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block moves (5.3): bytes between memory and the SCSI bus in one phase, chained moves and their
 * odd bytes on a wide bus (2.2.18), and what happens when the target changes the phase (4.4).
 *
 * On a wide bus data goes in words. The odd byte at the end of a receive waits in SWIDE (WSR),
 * the odd byte at the end of a chained send in SODL (WSS). task->odd tells that the target's half
 * of a word has been moved and the other half has not.
 */
#include "devices/lsi53c895a/lsi.h"

enum { BM_INDIRECT = 0x20, BM_TABLE = 0x10, BM_MOVE = 0x08, SELECTORS = 22 };

static bool chained(const struct lsi *s) { return !(s->reg[DCMD] & BM_MOVE); }
static unsigned move_phase(const struct lsi *s) { return s->reg[DCMD] & 7; }

/* Upper address bits by the selector in a table entry: SCRATCHC to R, then MMRS to DBMS. */
static int selected_high(const struct lsi *s, unsigned selector, uint32_t *ret)
{
    if (selector >= SELECTORS)
        return -1;
    *ret = lsi_reg32(s, selector < 16 ? SCRATCHC + 4 * selector : MMRS + 4 * (selector - 16));
    return 0;
}

/* Count and address by the addressing mode. False: interrupted. */
static bool set_up(struct lsi *s)
{
    uint8_t mode = s->reg[DCMD] & (BM_INDIRECT | BM_TABLE), top = s->reg[DCMD], w[8];
    uint32_t count = lsi_dbc(s), addr = lsi_reg32(s, DSPS), high = lsi_reg32(s, SBMS);
    uint32_t entry = s->insn_addr;

    if (mode == BM_TABLE) {
        entry = lsi_reg32(s, DSA) + lsi_sext24(addr);
        if (lsi_mem_read(s, lsi_reg32(s, DRS), entry, w, 8) < 0) {
            lsi_bus_fault(s);
            return false;
        }
        count = le32_load(w) & 0xffffff;
        top = w[3];
        addr = le32_load(w + 4);
        if (s->reg[CCNTL1] & CCNTL1_EN64TIBMV) {
            if (s->reg[CCNTL1] & CCNTL1_64TIMOD)
                high = top;
            else if (selected_high(s, top & 0x1f, &high) < 0) {
                lsi_illegal(s);
                return false;
            }
        }
    } else if (mode == BM_INDIRECT) {
        if (lsi_mem_read(s, high, addr, w, 4) < 0) {
            lsi_bus_fault(s);
            return false;
        }
        addr = le32_load(w);
    } else if (mode == 0 && (s->reg[CCNTL1] & CCNTL1_EN64DBMV)) {
        high = s->insn_third;
        lsi_set32(s, DBMS, high);
    }
    if (count == 0 || mode == (BM_INDIRECT | BM_TABLE)) {
        lsi_illegal(s);
        return false;
    }
    lsi_set_dbc(s, count);
    lsi_set32(s, DNAD, addr);
    lsi_set32(s, DNAD64, high);
    lsi_set32(s, SBC, 0);
    s->move_top = top;
    s->move_entry = entry;
    if (chained(s))
        s->reg[SCNTL2] |= SCNTL2_CHM;
    else
        s->reg[SCNTL2] &= ~SCNTL2_CHM;
    s->moving = true;
    return true;
}

/* n bytes of the move are done. */
static void advance(struct lsi *s, uint32_t n)
{
    lsi_set_dbc(s, lsi_dbc(s) - n);
    lsi_set32(s, DNAD, lsi_reg32(s, DNAD) + n);
    lsi_set32(s, SBC, (lsi_reg32(s, SBC) + n) & 0xffffff);
    if (move_phase(s) <= PHASE_DATA_IN)
        lsi_set32(s, CSBC, lsi_reg32(s, CSBC) + n);
}

static int to_memory(struct lsi *s, const void *buf, uint32_t n)
{
    return lsi_mem_write(s, lsi_reg32(s, DNAD64), lsi_reg32(s, DNAD), buf, n);
}

static int from_memory(struct lsi *s, void *buf, uint32_t n)
{
    return lsi_mem_read(s, lsi_reg32(s, DNAD64), lsi_reg32(s, DNAD), buf, n);
}

/* What is left as drivers work it out from DFIFO and CTEST5: the FIFO is empty. */
static void settle_fifo(struct lsi *s)
{
    s->reg[DFIFO] = lsi_dbc(s);
    s->reg[CTEST5] = (s->reg[CTEST5] & ~3) | (lsi_dbc(s) >> 8 & 3);
}

static enum lsi_step finish(struct lsi *s)
{
    settle_fifo(s);
    s->moving = false;
    return STEP_NEXT;
}

static enum lsi_step mismatch(struct lsi *s)
{
    unsigned phase = move_phase(s);
    bool wsr = s->reg[SCNTL2] & SCNTL2_WSR, data = phase <= PHASE_DATA_IN;
    uint32_t left = lsi_dbc(s);

    if (phase == PHASE_DATA_IN && chained(s) && wsr && lsi_reg32(s, SBC) == 0)
        left--;                                     /* SWIDE's byte counts as received */
    lsi_set32(s, RBC, (uint32_t)s->move_top << 24 | (left & 0xffffff));
    lsi_set32(s, UA, lsi_reg32(s, DNAD));
    lsi_set32(s, IA, s->insn_addr);
    lsi_set32(s, ESA, s->move_entry);
    finish(s);
    if ((s->reg[CCNTL0] & CCNTL0_ENPMJ) && (data || (s->reg[CCNTL0] & CCNTL0_ENNDJ))) {
        bool second = s->reg[CCNTL0] & CCNTL0_PMJCTL ? phase & PHASE_IO : wsr;
        lsi_jump(s, lsi_reg32(s, second ? PMJAD2 : PMJAD1));
        return STEP_NEXT;
    }
    lsi_scsi_interrupt(s, SIST_MA);
    return STEP_HALT;
}

static struct lsi_task *current_task(struct lsi *s) { return lsi_task_at(s, s->conn.task); }

/* A piece of data lies there, as whenever a target asks; loaded state may claim otherwise. */
static bool has_piece(const struct lsi_task *t) { return t->state == TASK_DATA && t->buf; }

/* The second half of the last word, which the target does not fill or want. */
static void pad_word(struct lsi *s, struct lsi_task *t)
{
    t->odd = false;
    t->padded = t->dir == SCSI_FROM_TARGET;
    lsi_next_phase(s);
}

/* A receive that ended on an odd byte: the word's other byte goes to SWIDE. */
static enum lsi_step receive_residue(struct lsi *s, struct lsi_task *t)
{
    if (has_piece(t)) {
        s->reg[SWIDE] = t->buf[t->pos++];
        t->odd = false;
        lsi_piece_moved(s, t);
    } else if (t->state == TASK_DONE) {
        s->reg[SWIDE] = 0;
        pad_word(s, t);
    } else {
        return STEP_WAIT;
    }
    s->reg[SCNTL2] |= SCNTL2_WSR;
    return finish(s);
}

/* SWIDE's byte is the first of a chained receive; a plain one loses it. */
static int store_residue(struct lsi *s)
{
    if (!(s->reg[SCNTL2] & SCNTL2_WSR))
        return 0;
    if (chained(s)) {
        if (to_memory(s, &s->reg[SWIDE], 1) < 0)
            return -1;
        s->reg[SFBR] = s->reg[SWIDE];
        advance(s, 1);
    }
    s->reg[SCNTL2] &= ~SCNTL2_WSR;
    return 0;
}

static enum lsi_step data_in(struct lsi *s, unsigned *cost)
{
    bool wide = lsi_is_wide(s);

    s->sodl_full = false;
    if (chained(s) && (s->reg[SCNTL2] & SCNTL2_WSR) && lsi_dbc(s) == 1)     /* needs no bus */
        return store_residue(s) < 0 ? lsi_bus_fault(s) : finish(s);
    for (;;) {
        struct lsi_task *t = current_task(s);

        if (lsi_dbc(s) == 0)
            return wide && t && t->odd ? receive_residue(s, t) : finish(s);
        if (!s->conn.req)
            return STEP_WAIT;
        if (s->conn.phase != PHASE_DATA_IN || !t)
            return mismatch(s);
        if (store_residue(s) < 0)
            return lsi_bus_fault(s);
        if (t->state == TASK_DONE) {
            uint8_t zero = 0;
            if (to_memory(s, &zero, 1) < 0)
                return lsi_bus_fault(s);
            advance(s, 1);
            pad_word(s, t);
            continue;
        }
        if (!has_piece(t))
            return STEP_WAIT;
        uint32_t n = MIN(lsi_dbc(s), t->len - t->pos);
        if (n == 0)
            continue;                               /* SWIDE's byte was all */
        if (to_memory(s, t->buf + t->pos, n) < 0)
            return lsi_bus_fault(s);
        if (lsi_reg32(s, SBC) == 0)
            s->reg[SFBR] = t->buf[t->pos];
        s->reg[SIDL] = t->buf[t->pos + n - 1];
        t->pos += n;
        t->odd = wide && (t->odd ^ (n & 1));
        advance(s, n);
        *cost += n >> LSI_COST_SHIFT;
        lsi_piece_moved(s, t);
    }
}

/* A send that ended on an odd byte. */
static enum lsi_step send_residue(struct lsi *s, struct lsi_task *t)
{
    if (has_piece(t))
        t->buf[t->pos++] = 0;                       /* the word's other half, whatever it is */
    else if (t->state != TASK_DONE)
        return STEP_WAIT;
    t->odd = false;
    if (t->state == TASK_DATA)
        lsi_piece_moved(s, t);
    else
        lsi_next_phase(s);
    return finish(s);
}

static enum lsi_step data_out(struct lsi *s, unsigned *cost)
{
    bool wide = lsi_is_wide(s);

    s->reg[SCNTL2] &= ~SCNTL2_WSR;
    for (;;) {
        struct lsi_task *t = current_task(s);

        if (lsi_dbc(s) == 0)
            return wide && t && t->odd ? send_residue(s, t) : finish(s);
        if (!s->conn.req)
            return STEP_WAIT;
        if (s->conn.phase != PHASE_DATA_OUT || !t)
            return mismatch(s);
        if (t->state == TASK_DONE) {
            advance(s, 1);
            pad_word(s, t);
            continue;
        }
        if (!has_piece(t))
            return STEP_WAIT;
        uint32_t room = t->len - t->pos, n = MIN(lsi_dbc(s), room);
        if (s->sodl_full) {                         /* married with the first byte of this move */
            s->sodl_full = false;
            t->buf[t->pos++] = s->reg[SODL];
            t->odd = wide;
        } else if (wide && chained(s) && !t->odd && lsi_dbc(s) == 1) {
            if (from_memory(s, &s->reg[SODL], 1) < 0)
                return lsi_bus_fault(s);
            s->sodl_full = true;
            advance(s, 1);
            continue;
        } else {
            if (wide && chained(s) && (lsi_dbc(s) ^ t->odd) & 1 && n == lsi_dbc(s))
                n--;                                /* the last byte stays behind, see above */
            if (from_memory(s, t->buf + t->pos, n) < 0)
                return lsi_bus_fault(s);
            t->pos += n;
            t->odd = wide && (t->odd ^ (n & 1));
            advance(s, n);
            *cost += n >> LSI_COST_SHIFT;
        }
        lsi_piece_moved(s, t);
    }
}

static enum lsi_step bytes_in(struct lsi *s)
{
    unsigned phase = move_phase(s);

    for (;;) {
        if (lsi_dbc(s) == 0)
            return finish(s);
        if (!s->conn.req)
            return STEP_WAIT;
        if (s->conn.phase != phase)
            return mismatch(s);
        uint8_t byte = lsi_target_give(s);
        if (lsi_reg32(s, SBC) == 0)
            s->reg[SFBR] = byte;
        s->reg[SIDL] = byte;
        if (to_memory(s, &byte, 1) < 0)
            return lsi_bus_fault(s);
        advance(s, 1);
        if (phase == PHASE_MESSAGE_IN && lsi_dbc(s) == 0) {
            s->conn.ack = true;                     /* until SCRIPTS clear it */
            s->conn.req = false;
        } else {
            lsi_next_phase(s);
        }
    }
}

static enum lsi_step bytes_out(struct lsi *s)
{
    unsigned phase = move_phase(s);
    uint8_t byte;

    for (;;) {
        if (lsi_dbc(s) == 0)
            return finish(s);
        if (!s->conn.req)
            return STEP_WAIT;
        if (s->conn.phase != phase)
            return mismatch(s);
        if (from_memory(s, &byte, 1) < 0)
            return lsi_bus_fault(s);
        advance(s, 1);
        if (phase == PHASE_MESSAGE_OUT && lsi_dbc(s) == 0)
            s->reg[SOCL] &= ~BUS_ATN;               /* before the last byte is acknowledged */
        lsi_target_take(s, byte);
        lsi_next_phase(s);
    }
}

/* Phases 4 and 5 exist in instructions only: no target enters them. */
static enum lsi_step reserved_phase(struct lsi *s)
{
    return s->conn.req ? mismatch(s) : STEP_WAIT;
}

enum lsi_step lsi_exec_block_move(struct lsi *s, unsigned *cost)
{
    if (s->reg[SCNTL0] & SCNTL0_TRG)
        return lsi_illegal(s);                      /* the target role is not modelled */
    if (!s->moving && !set_up(s))
        return STEP_HALT;
    switch (move_phase(s)) {
    case PHASE_DATA_OUT: return data_out(s, cost);
    case PHASE_DATA_IN: return data_in(s, cost);
    case PHASE_COMMAND:
    case PHASE_MESSAGE_OUT: return bytes_out(s);
    case PHASE_STATUS:
    case PHASE_MESSAGE_IN: return bytes_in(s);
    default: return reserved_phase(s);
    }
}
