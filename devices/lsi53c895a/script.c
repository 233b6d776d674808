/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SCRIPTS processor: fetch, dispatch, transfer control. Technical Manual, chapter 5.
 *
 * It runs inside the register write that starts it, for a bounded number of steps, and then in
 * turns of the event loop, so that a program without end costs its own guest alone. The
 * instruction in hand lies in DCMD, DBC, DSPS and DNAD as in the chip; one that has to wait is
 * executed again from there.
 */
#include "devices/lsi53c895a/lsi.h"

#include <inttypes.h>

enum { OP_64BIT_JUMP = 0x00400000, TC_RELATIVE = 0x00800000, TC_CARRY = 0x00200000,
       TC_FLY = 0x00100000, TC_TRUE = 0x00080000, TC_DATA = 0x00040000, TC_PHASE = 0x00020000,
       TC_WAIT = 0x00010000 };

void lsi_jump(struct lsi *s, uint32_t addr) { lsi_set32(s, DSP, addr); }

void lsi_halt(struct lsi *s)
{
    s->run = RUN_HALTED;
    s->moving = false;
    lsi_hth_stop(s);
}

enum lsi_step lsi_illegal(struct lsi *s)
{
    log_guest(pci_device_name(s->pdev),
              "illegal SCRIPTS instruction 0x%08" PRIx32 " at 0x%08" PRIx32, lsi_reg32(s, DBC),
              s->insn_addr);
    lsi_dma_interrupt(s, DSTAT_IID);
    return STEP_HALT;
}

enum lsi_step lsi_bus_fault(struct lsi *s)
{
    log_guest(pci_device_name(s->pdev), "SCRIPTS at 0x%08" PRIx32 " reached no memory",
              s->insn_addr);
    lsi_dma_interrupt(s, DSTAT_BF);
    return STEP_HALT;
}

/* Memory moves, 64-bit jumps and, if enabled, direct block moves have a third dword. */
static bool has_third(const struct lsi *s, uint32_t op)
{
    switch (op >> 30) {
    case 0: return (s->reg[CCNTL1] & CCNTL1_EN64DBMV) && !(op & 0x30000000);
    case 2: return op & OP_64BIT_JUMP;
    case 3: return !(op & 0x20000000);
    default: return false;
    }
}

static bool fetch(struct lsi *s)
{
    uint32_t at = lsi_reg32(s, DSP), high = lsi_reg32(s, SFS);
    uint8_t w[8];

    s->insn_addr = at;
    if (lsi_mem_read(s, high, at, w, 8) < 0) {
        lsi_bus_fault(s);
        return false;
    }
    at += 8;
    lsi_set32(s, DBC, le32_load(w));                /* DCMD with it */
    lsi_set32(s, DSPS, le32_load(w + 4));
    lsi_set32(s, DNAD, le32_load(w + 4));
    if (has_third(s, le32_load(w))) {
        if (lsi_mem_read(s, high, at, w, 4) < 0) {
            lsi_bus_fault(s);
            return false;
        }
        at += 4;
        s->insn_third = le32_load(w);
        if (s->reg[DCMD] >> 6 == 3)
            lsi_set32(s, TEMP, s->insn_third);
    }
    lsi_set32(s, DSP, at);
    s->moving = false;
    s->run = RUN_EXECUTE;
    return true;
}

/* Jump, call, return, interrupt; each under a condition (5.6). */
static enum lsi_step transfer_control(struct lsi *s)
{
    uint32_t op = lsi_reg32(s, DBC), next = lsi_reg32(s, DSP), to = lsi_reg32(s, DSPS);
    bool holds = true;

    if ((op & TC_WAIT) && !s->conn.req)
        return STEP_WAIT;
    if (op & TC_CARRY) {
        holds = s->carry;
    } else {
        uint8_t mask = op >> 8, data = op;
        if (op & TC_PHASE)
            holds = s->conn.phase == (op >> 24 & 7);
        if (op & TC_DATA)
            holds = holds && !((s->reg[SFBR] ^ data) & ~mask);
    }
    bool taken = holds == !!(op & TC_TRUE);
    if (op & TC_RELATIVE)
        to = next + lsi_sext24(to);

    switch (op >> 27 & 7) {
    case 0:                                         /* JUMP */
    case 1:                                         /* CALL */
        if (!taken)
            return STEP_NEXT;
        if (op >> 27 & 7)
            lsi_set32(s, TEMP, next);
        if (op & OP_64BIT_JUMP)
            lsi_set32(s, SFS, s->insn_third);
        lsi_jump(s, to);
        return STEP_NEXT;
    case 2:                                         /* RETURN */
        if (taken)
            lsi_jump(s, lsi_reg32(s, TEMP));
        return STEP_NEXT;
    case 3:                                         /* INT, INTFLY */
        if (!taken)
            return STEP_NEXT;
        if (op & TC_FLY) {
            s->istat0 |= ISTAT0_INTF;
            lsi_irq_update(s);
            return STEP_NEXT;
        }
        lsi_dma_interrupt(s, DSTAT_SIR);
        return STEP_HALT;
    default:
        return lsi_illegal(s);
    }
}

static enum lsi_step execute(struct lsi *s, unsigned *cost)
{
    uint8_t cmd = s->reg[DCMD];

    switch (cmd >> 6) {
    case 0:
        return lsi_exec_block_move(s, cost);
    case 1:
        return (cmd >> 3 & 7) < 5 ? lsi_exec_io(s) : lsi_exec_register(s);
    case 2:
        return transfer_control(s);
    default:
        return cmd & 0x20 ? lsi_exec_load_store(s) : lsi_exec_memory_move(s, cost);
    }
}

void lsi_continue(struct lsi *s, unsigned budget)
{
    if (s->running || s->paused)
        return;
    s->running = true;
    while (s->run != RUN_HALTED) {
        unsigned cost = 1;

        if (budget == 0) {
            task_schedule(s->task);
            break;
        }
        if (s->run == RUN_FETCH && !fetch(s))
            break;
        s->kicked = false;
        enum lsi_step step = execute(s, &cost);
        if (s->run == RUN_HALTED)
            break;
        if (step == STEP_WAIT && !s->kicked) {
            if (s->conn.nexus != NEXUS_NONE)
                lsi_hth_start(s);
            break;
        }
        if (step == STEP_NEXT) {
            s->run = RUN_FETCH;
            lsi_hth_stop(s);
            if (s->reg[DCNTL] & DCNTL_SSM)
                lsi_dma_interrupt(s, DSTAT_SSI);
        }
        budget -= MIN(cost, budget);
    }
    s->running = false;
}

void lsi_task_cb(void *opaque) { lsi_continue(opaque, LSI_BUDGET_TURN); }

void lsi_start(struct lsi *s)
{
    s->run = RUN_FETCH;
    s->moving = false;
    lsi_continue(s, LSI_BUDGET_INLINE);
}

void lsi_kick(struct lsi *s)
{
    s->kicked = true;
    if (!s->running && !s->paused && s->run != RUN_HALTED)
        task_schedule(s->task);
}
