/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For the tests of the LSI53C895A: an assembler of SCRIPTS, and a driver small enough to read that
 * selects targets, sends commands with tags and follows disconnections. Spec: Technical Manual, 5.
 */
#ifndef DEVICES_TESTS_LSI_SUPPORT_H
#define DEVICES_TESTS_LSI_SUPPORT_H

#include "devices/lsi53c895a/regs.h"
#include "devices/tests/bench.h"

/* ---- the assembler: dwords to a place in memory ---- */

struct script { struct bench *b; uint32_t at; };

static inline void put32(struct script *s, uint32_t v)
{
    le32_store(bench_ram(s->b) + s->at, v);
    s->at += 4;
}

static inline uint32_t put(struct script *s, uint32_t first, uint32_t second)
{
    uint32_t at = s->at;
    put32(s, first);
    put32(s, second);
    return at;
}

enum { TRUE_IF = 0x00080000, WHEN = 0x00030000, IF = 0x00020000, DATA_IS = 0x00040000,
       CARRY = 0x00200000, RELATIVE = 0x00800000 };

/* Block moves. */
#define MOVE_OP(phase) (0x08000000u | (uint32_t)(phase) << 24)
#define CHMOV_OP(phase) ((uint32_t)(phase) << 24)
#define MOVE(s, phase, n, addr) put(s, MOVE_OP(phase) | (n), addr)
#define CHMOV(s, phase, n, addr) put(s, CHMOV_OP(phase) | (n), addr)
#define MOVE_INDIRECT(s, phase, n, addr) put(s, MOVE_OP(phase) | 0x20000000 | (n), addr)
#define MOVE_TABLE(s, phase, off) put(s, MOVE_OP(phase) | 0x10000000, off)
/* I/O. */
#define SELECT_ATN(s, id, alt) put(s, 0x41000000 | (uint32_t)(id) << 16, alt)
#define SELECT_PLAIN(s, id, alt) put(s, 0x40000000 | (uint32_t)(id) << 16, alt)
#define SELECT_TABLE(s, off, alt) put(s, 0x43000000 | ((off) & 0xffffff), alt)
#define WAIT_DISCONNECT(s) put(s, 0x48000000, 0)
#define WAIT_RESELECT(s, alt) put(s, 0x50000000, alt)
#define SET(s, flags) put(s, 0x58000000 | (flags), 0)
#define CLEAR(s, flags) put(s, 0x60000000 | (flags), 0)
enum { ACK = 0x40, ATN = 0x08, SET_CARRY = 0x400 };
/* Registers: reg = SFBR op data, SFBR = reg op data, reg = reg op data. */
enum { OP_LOAD, OP_SHL, OP_OR, OP_XOR, OP_AND, OP_SHR, OP_ADD, OP_ADDC };
#define REG_OP(code, reg, op, data) ((uint32_t)(code) << 27 | 0x40000000u | (uint32_t)(op) << 24 | \
    ((uint32_t)(reg) & 0x7f) << 16 | ((reg) & 0x80) | ((uint32_t)(data) & 0xff) << 8)
#define SFBR_REG(s, reg, op, data) put(s, REG_OP(5, reg, op, data), 0)
#define REG_SFBR(s, reg, op, data) put(s, REG_OP(6, reg, op, data), 0)
#define REG_REG(s, reg, op, data) put(s, REG_OP(7, reg, op, data), 0)
#define USE_SFBR 0x00800000u
/* Transfer control; cond is TRUE_IF or 0 with WHEN, IF, DATA_IS, CARRY, and PHASE() or data. */
#define PHASE(p) ((uint32_t)(p) << 24)
#define JUMP(s, cond, to) put(s, 0x80000000 | (cond), to)
#define CALL(s, cond, to) put(s, 0x88000000 | (cond), to)
#define RETURN(s, cond) put(s, 0x90000000 | (cond), 0)
#define INT(s, cond, vector) put(s, 0x98000000 | (cond), vector)
#define INTFLY(s) put(s, 0x98180000, 0)
/* Memory. */
#define MEMORY_MOVE(s, n, from, to) (put(s, 0xc0000000 | (n), from), put32(s, to))
#define LOAD(s, reg, n, addr) put(s, 0xe1000000 | (uint32_t)(reg) << 16 | (n), addr)
#define STORE(s, reg, n, addr) put(s, 0xe0000000 | (uint32_t)(reg) << 16 | (n), addr)
#define LOAD_DSA(s, reg, n, off) put(s, 0xf1000000 | (uint32_t)(reg) << 16 | (n), off)
#define STORE_DSA(s, reg, n, off) put(s, 0xf0000000 | (uint32_t)(reg) << 16 | (n), off)

/* ---- the chip ---- */

enum { WAIT_MS = 10000, CODE = 0x1000, TABLES = 0x4000, DATA = 0x100000 };

static inline uint32_t rd32(struct bench *b, unsigned r) { return bench_read32(b, 1, r); }
static inline uint8_t rd8(struct bench *b, unsigned r) { return bench_read8(b, 1, r); }
static inline void wr32(struct bench *b, unsigned r, uint32_t v) { bench_write32(b, 1, r, v); }
static inline void wr8(struct bench *b, unsigned r, uint8_t v) { bench_write8(b, 1, r, v); }

/* What stopped SCRIPTS. */
struct stop { uint8_t istat, dstat; uint16_t sist; uint32_t vector; };

/* Every interrupt enabled, reselection answered. */
void lsi_prepare(struct bench *b);
/* Starts at addr (0: where it is) and waits for the interrupt. */
struct stop lsi_run(struct bench *b, uint32_t addr);
struct stop lsi_wait(struct bench *b);
/* That must be the INT instruction with this vector. */
#define RUN_TO(b, addr, want) do { struct stop s_ = lsi_run(b, addr); CHECK_EQ(s_.sist, 0);  \
    CHECK_EQ(s_.dstat & 0x7f, DSTAT_SIR); CHECK_EQ(s_.vector, want); } while (0)

struct script script_at(struct bench *b, uint32_t addr);

/* ---- the driver ---- */

/* A command as the driver sees it, with a slot of memory for what the chip is to find. */
struct command {
    unsigned id, lun;
    int tag;                    /* -1: untagged */
    bool disconnect;
    const uint8_t *cdb;
    unsigned cdb_len;
    uint32_t data, len;         /* address and bytes to move */
    uint32_t segment;           /* bytes per block move; 0: all at once */
    bool chained;
    /* The driver's: */
    uint32_t dsa, moved;
    bool done, disconnected, saved_pointers;
    int status;
    unsigned disconnects;
};

enum { DRIVER_COMMANDS = 64 };
struct driver {
    struct bench *b;
    uint32_t start, dispatch, wait;
    struct command *commands[DRIVER_COMMANDS];
    unsigned count;
    uint8_t messages[16];       /* that the driver has no use for, in order */
    unsigned message_count;
    uint16_t sist;              /* an interrupt that ended the last command */
};

void driver_init(struct driver *d, struct bench *b);
/* Sends it and goes on until it is done or (with disconnect) has left the bus. */
void driver_start(struct driver *d, struct command *c);
/* Serves reselections until every command that was started is done. */
void driver_finish(struct driver *d);
/* One command from start to end; its status. */
int driver_do(struct driver *d, struct command *c);
/* TEST UNIT READY and REQUEST SENSE until the unit has no more to say. */
void driver_clear_attention(struct driver *d, unsigned id, unsigned lun);
/* A message instead of a command: IDENTIFY (and tag, unless -1), then msg. */
struct stop driver_send(struct driver *d, unsigned id, unsigned lun, int tag, const uint8_t *msg,
                        unsigned len);

#endif
