/* SPDX-License-Identifier: Apache-2.0 */
/* I/O instructions (5.4) and register instructions (5.5). Initiator role only. */
#include "devices/lsi53c895a/lsi.h"

enum { IO_RELATIVE = 0x04000000, IO_TABLE = 0x02000000, IO_ATN = 0x01000000,
       FLAG_CARRY = 0x400, FLAG_TARGET = 0x200, FLAG_ACK = 0x40, FLAG_ATN = 0x08 };

static void jump_alternate(struct lsi *s, uint32_t op)
{
    uint32_t to = lsi_reg32(s, DSPS);
    lsi_jump(s, op & IO_RELATIVE ? lsi_reg32(s, DSP) + lsi_sext24(to) : to);
}

static enum lsi_step select_target(struct lsi *s, uint32_t op)
{
    unsigned id = op >> 16 & 15;

    if (s->selecting)
        return STEP_WAIT;
    if (!s->arbitrated && s->conn.nexus == NEXUS_NONE)
        lsi_reselect(s);                            /* arbitration lost to a target */
    if (s->conn.nexus != NEXUS_NONE) {
        if (!s->reselected)
            return STEP_WAIT;                       /* the bus is ours and not free */
        jump_alternate(s, op);
        return STEP_NEXT;
    }
    if (op & IO_TABLE) {
        uint8_t entry[4];                           /* reserved, SXFER, id, SCNTL3 */
        if (lsi_mem_read(s, lsi_reg32(s, DRS), lsi_reg32(s, DSA) + lsi_sext24(op), entry, 4) < 0)
            return lsi_bus_fault(s);
        s->reg[SXFER] = entry[1];
        id = entry[2] & 15;
        s->reg[SCNTL3] = entry[3];
    }
    s->reg[SDID] = id;
    s->reg[SSTAT0] |= SSTAT0_WOA;
    s->reg[SCNTL1] &= ~SCNTL1_IARB;
    s->arbitrated = false;
    if (!lsi_select(s, id, op & IO_ATN)) {
        s->selecting = true;                        /* SCRIPTS go on until they need the target */
        lsi_select_timeout_start(s);
    }
    return STEP_NEXT;
}

static enum lsi_step wait_reselect(struct lsi *s, uint32_t op)
{
    if (s->selecting)
        return STEP_WAIT;
    if (s->conn.nexus != NEXUS_NONE || lsi_reselect(s)) {
        s->reselected = false;
        return STEP_NEXT;
    }
    if (s->istat0 & ISTAT0_SIGP) {
        jump_alternate(s, op);
        return STEP_NEXT;
    }
    return STEP_WAIT;
}

static enum lsi_step set_flags(struct lsi *s, uint32_t op)
{
    if (op & FLAG_CARRY)
        s->carry = true;
    if (op & FLAG_TARGET)
        s->reg[SCNTL0] |= SCNTL0_TRG;
    if (op & FLAG_ATN)
        s->reg[SOCL] |= BUS_ATN;
    return STEP_NEXT;
}

static enum lsi_step clear_flags(struct lsi *s, uint32_t op)
{
    if (op & FLAG_CARRY)
        s->carry = false;
    if (op & FLAG_TARGET)
        s->reg[SCNTL0] &= ~SCNTL0_TRG;
    if (op & FLAG_ATN)
        s->reg[SOCL] &= ~BUS_ATN;
    if ((op & FLAG_ACK) && s->conn.ack) {
        s->conn.ack = false;
        lsi_next_phase(s);
    }
    return STEP_NEXT;
}

enum lsi_step lsi_exec_io(struct lsi *s)
{
    uint32_t op = lsi_reg32(s, DBC);
    unsigned code = op >> 27 & 7;

    if ((s->reg[SCNTL0] & SCNTL0_TRG) && code < 3)
        return lsi_illegal(s);                      /* the target role is not modelled */
    if ((op & IO_ATN) && code != 0)
        return lsi_illegal(s);
    switch (code) {
    case 0: return select_target(s, op);
    case 1: return s->selecting || s->conn.nexus != NEXUS_NONE ? STEP_WAIT : STEP_NEXT;
    case 2: return wait_reselect(s, op);
    case 3: return set_flags(s, op);
    default: return clear_flags(s, op);
    }
}

/* The operators of table 5.3. */
static uint8_t compute(struct lsi *s, unsigned operator, uint8_t v, uint8_t data)
{
    unsigned sum;

    switch (operator) {
    case 0: return data;
    case 1:
        sum = v << 1 | s->carry;
        s->carry = sum >> 8;
        return sum;
    case 2: return v | data;
    case 3: return v ^ data;
    case 4: return v & data;
    case 5:
        sum = v | s->carry << 8;
        s->carry = v & 1;
        return sum >> 1;
    case 6:
        sum = v + data;
        s->carry = sum >> 8;
        return sum;
    default:
        sum = v + data + s->carry;
        s->carry = sum >> 8;
        return sum;
    }
}

enum lsi_step lsi_exec_register(struct lsi *s)
{
    uint32_t op = lsi_reg32(s, DBC);
    unsigned r = (op >> 16 & 0x7f) | (op & 0x80), code = op >> 27 & 7, operator = op >> 24 & 7;
    uint8_t data = op & 0x00800000 ? s->reg[SFBR] : op >> 8;
    uint8_t from = 0;

    if (code == 5)                                  /* SFBR to register */
        from = s->reg[SFBR];
    else if (operator != 0)
        from = lsi_reg_read(s, r);
    uint8_t v = compute(s, operator, from, data);
    if (code == 6)                                  /* register to SFBR */
        s->reg[SFBR] = v;
    else
        lsi_reg_write(s, r, v, true);
    return STEP_NEXT;
}
