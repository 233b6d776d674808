/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of the LSI53C895A model: what its files share. Three parts talk through this struct:
 * the chip (registers, interrupts, timers), its SCRIPTS processor, and the targets' side of the
 * SCSI bus, which decides on phases as a disk's own controller would.
 *
 * Loop thread or under the machine's lock, all of it.
 */
#ifndef LSI53C895A_LSI_H
#define LSI53C895A_LSI_H

#include "base/bytes.h"
#include "base/log.h"
#include "devices/lsi53c895a/regs.h"
#include "pci/device.h"
#include "scsi/scsi.h"

enum {
    LSI_REGS = 0x100, LSI_RAM_BYTES = 8192, LSI_TARGETS = 16, LSI_LUNS = 8, LSI_HOST_ID = 7,
    LSI_TASKS = 256,            /* commands the targets of one bus hold, all together */
    LSI_NO_TAG = 0x100,         /* tags are 0 to 0xff */
    LSI_NO_TASK = 0xffff,
    LSI_MSG_MAX = 16,
    LSI_BUDGET_INLINE = 512,    /* work units at once inside a register write */
    LSI_BUDGET_TURN = 8192,     /* work units per turn of the event loop */
    LSI_COST_SHIFT = 8,         /* 256 bytes moved cost as much as one instruction */
};

/* A command that a target holds. */
enum lsi_task_state {
    TASK_FREE,
    TASK_BUSY,                  /* the target works on it, nothing to move */
    TASK_DATA,                  /* a piece of data lies ready or is wanted */
    TASK_DONE,                  /* only its status is left */
    TASK_DYING,                 /* being cancelled, waits for cancelled() */
    TASK_STATE_MAX = TASK_DYING
};

struct lsi_task {
    struct lsi *s;
    struct scsi_request *req;   /* NULL once done */
    uint8_t *buf;               /* the piece; NULL between load and the target's resume */
    uint32_t len, pos;          /* of the piece, bytes */
    uint32_t index;             /* names the request in saved state */
    uint32_t order;             /* of becoming ready: reselections are first come, first served */
    uint16_t tag;
    uint8_t state, dir;
    uint8_t target, lun;
    uint8_t status;
    bool may_disconnect, moved, odd, padded;
    bool connected;
};

/* What the targets' end of the bus does. */
enum lsi_nexus { NEXUS_NONE, NEXUS_SELECTED, NEXUS_COMMAND, NEXUS_TASK, NEXUS_STATUS,
                 NEXUS_LEAVING, NEXUS_MAX = NEXUS_LEAVING };

struct lsi_conn {
    uint8_t nexus;              /* enum lsi_nexus */
    uint8_t phase;
    bool req;                   /* the target asks for a byte in this phase */
    bool ack;                   /* initiator keeps ACK after the last byte of MESSAGE IN */
    uint8_t target, lun;
    uint16_t tag;
    bool may_disconnect;
    uint16_t task;              /* LSI_NO_TASK: none */
    uint8_t status;
    uint8_t in[LSI_MSG_MAX];    /* target to initiator */
    uint32_t in_len, in_pos;
    uint8_t out[LSI_MSG_MAX];   /* initiator to target, a message not yet whole */
    uint32_t out_len;
    uint8_t cdb[SCSI_CDB_MAX];
    uint32_t cdb_len;
};

struct lsi_sense { uint8_t len, data[SCSI_SENSE_MAX]; };

/* What is agreed between initiator and a target. */
struct lsi_target { bool wide; uint8_t period, offset; struct lsi_sense sense[LSI_LUNS]; };

/* How far the instruction in DCMD, DBC, DSPS has come. */
enum lsi_run { RUN_HALTED, RUN_FETCH, RUN_EXECUTE, RUN_MAX = RUN_EXECUTE };

struct lsi {
    struct pci_device *pdev;
    struct scsi_bus *bus;
    struct task *task;                              /* carries SCRIPTS on */
    struct timer *select_timer, *gen_timer, *hth_timer;
    bool paused;
    bool running;                                   /* lsi_continue is on the stack */
    bool kicked;                                    /* … and what it waits for may have come */
    bool loaded;                                    /* requests are to be found again at resume */

    uint8_t reg[LSI_REGS];      /* those without a field of their own */
    uint8_t ram[LSI_RAM_BYTES];
    uint8_t istat0, istat1;
    uint8_t dstat, dstat_stacked;
    uint16_t sist, sist_stacked;

    uint8_t run;                /* enum lsi_run */
    bool carry;
    uint32_t insn_addr;         /* of the instruction in hand */
    uint32_t insn_third;        /* its third dword, where it has one */
    bool moving;                /* a block move has been set up */
    uint8_t move_top;           /* … whose table entry or opcode has this top byte */
    uint32_t move_entry;        /* … and lies here */
    bool selecting;             /* arbitration won, target not (yet) there */
    bool reselected;            /* connected by a target, WAIT RESELECT not yet seen */
    bool arbitrated;            /* IARB: the next SELECT wins at once */
    bool sodl_full;

    struct lsi_conn conn;
    uint32_t tasks_used;        /* what of tasks is saved: up to the last that is not free */
    struct lsi_task tasks[LSI_TASKS];
    struct lsi_target targets[LSI_TARGETS];
    uint32_t next_order;
    uint64_t select_left_ns, gen_left_ns, hth_left_ns;  /* saved time-outs; 0: not running */
};

static inline uint32_t lsi_reg32(const struct lsi *s, unsigned r) { return le32_load(s->reg + r); }
static inline void lsi_set32(struct lsi *s, unsigned r, uint32_t v) { le32_store(s->reg + r, v); }

/* DBC is 24 bits, DCMD lies above it. */
static inline uint32_t lsi_dbc(const struct lsi *s) { return lsi_reg32(s, DBC) & 0xffffff; }
static inline void lsi_set_dbc(struct lsi *s, uint32_t v)
{
    lsi_set32(s, DBC, (lsi_reg32(s, DBC) & 0xff000000) | (v & 0xffffff));
}

/* A 24-bit displacement. */
static inline uint32_t lsi_sext24(uint32_t v)
{
    return (v & 0xffffff) | (v & 0x800000 ? 0xff000000 : 0);
}

/* registers.c. script: the SCRIPTS processor's own access, which does not restart it. */
uint8_t lsi_reg_read(struct lsi *s, unsigned r);
void lsi_reg_write(struct lsi *s, unsigned r, uint8_t v, bool script);
void lsi_reset_registers(struct lsi *s);
/* SCRIPTS' view of memory: the chip's own RAM and registers without going over the bus, else DMA.
 * 0 or a negative errno. high: the upper 32 bits of the address. */
int lsi_mem_read(struct lsi *s, uint32_t high, uint32_t low, void *buf, uint32_t len) MUST_CHECK;
int lsi_mem_write(struct lsi *s, uint32_t high, uint32_t low, const void *buf, uint32_t len)
    MUST_CHECK;

/* irq.c */
void lsi_irq_update(struct lsi *s);
void lsi_scsi_interrupt(struct lsi *s, uint16_t bits);      /* stops SCRIPTS if fatal */
void lsi_dma_interrupt(struct lsi *s, uint8_t bits);        /* always fatal */
uint8_t lsi_read_dstat(struct lsi *s);
uint8_t lsi_read_sist(struct lsi *s, bool high);
uint8_t lsi_read_istat0(const struct lsi *s);

/* script.c */
enum lsi_step { STEP_NEXT, STEP_WAIT, STEP_AGAIN, STEP_HALT };
void lsi_start(struct lsi *s);                  /* at DSP */
void lsi_continue(struct lsi *s, unsigned budget);
void lsi_kick(struct lsi *s);                   /* something it may wait for has happened */
void lsi_halt(struct lsi *s);
void lsi_task_cb(void *opaque);
void lsi_jump(struct lsi *s, uint32_t addr);
enum lsi_step lsi_illegal(struct lsi *s);
enum lsi_step lsi_bus_fault(struct lsi *s);

/* Instruction groups: script_io.c, script_memory.c, script_move.c */
enum lsi_step lsi_exec_io(struct lsi *s);
enum lsi_step lsi_exec_register(struct lsi *s);
enum lsi_step lsi_exec_memory_move(struct lsi *s, unsigned *cost);
enum lsi_step lsi_exec_load_store(struct lsi *s);
enum lsi_step lsi_exec_block_move(struct lsi *s, unsigned *cost);

/* target.c: the other end of the bus. */
bool lsi_select(struct lsi *s, unsigned id, bool atn);      /* false: nobody there */
bool lsi_reselect(struct lsi *s);                           /* true: a target has come back */
bool lsi_reselect_wanted(struct lsi *s);
void lsi_next_phase(struct lsi *s);
void lsi_bus_free(struct lsi *s);
void lsi_drop_connection(struct lsi *s);        /* initiator vanished: the task dies with it */
void lsi_message_in(struct lsi *s, const uint8_t *msg, unsigned len);
uint8_t lsi_target_give(struct lsi *s);         /* a byte of MESSAGE IN or STATUS */
void lsi_target_take(struct lsi *s, uint8_t byte);          /* of MESSAGE OUT or COMMAND */
bool lsi_is_wide(const struct lsi *s);

/* message.c */
void lsi_message_byte(struct lsi *s, uint8_t byte);

/* queue.c */
extern const struct scsi_host_ops lsi_host_ops;
struct lsi_task *lsi_task_at(struct lsi *s, unsigned i);    /* NULL for LSI_NO_TASK */
void lsi_command(struct lsi *s);                /* the CDB in conn is whole */
void lsi_piece_moved(struct lsi *s, struct lsi_task *t);    /* at its end: continue the request */
void lsi_task_free(struct lsi *s, struct lsi_task *t);
void lsi_cancel_tasks(struct lsi *s, int target, int lun, int tag);     /* -1: every */
void lsi_bus_reset(struct lsi *s);
void lsi_adopt_requests(struct lsi *s);         /* after loading */

/* timer.c */
int lsi_timers_new(struct lsi *s) MUST_CHECK;
void lsi_timers_free(struct lsi *s);
void lsi_timers_stop(struct lsi *s);
void lsi_timers_pause(struct lsi *s);
void lsi_timers_resume(struct lsi *s);
void lsi_select_timeout_start(struct lsi *s);
void lsi_select_timeout_stop(struct lsi *s);
void lsi_gen_written(struct lsi *s);
void lsi_hth_start(struct lsi *s);              /* waiting for the target */
void lsi_hth_stop(struct lsi *s);


#endif
