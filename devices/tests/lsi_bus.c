/* SPDX-License-Identifier: Apache-2.0 */
/* The LSI53C895A with disks on its bus: phases, messages, disconnection, tags, errors. */
#include "devices/tests/lsi_support.h"

#include <string.h>

enum { DISK_BYTES = 4 << 20, BLOCK = 512 };

static struct bench *with_disks(struct driver *d)
{
    struct bench *b = bench_new(&(struct bench_config){
        .device = "lsi53c895a",
        .children = { "scsi-hd,drive=d0,scsi-id=0,lun=0", "scsi-hd,drive=d1,scsi-id=5,lun=0",
                      "scsi-hd,drive=d2,scsi-id=5,lun=3" },
        .disk_bytes = { DISK_BYTES, DISK_BYTES, DISK_BYTES } });

    for (unsigned disk = 0; disk < 3; disk++) {
        uint8_t sector[BLOCK];
        for (unsigned lba = 0; lba < DISK_BYTES / BLOCK; lba++) {
            for (unsigned i = 0; i < BLOCK; i++)
                sector[i] = lba * 3 + i + disk * 101 + (lba >> 8);
            CHECK_EQ(pwrite(bench_disk_fd(b, disk), sector, BLOCK, (off_t)lba * BLOCK), BLOCK);
        }
    }
    driver_init(d, b);
    driver_clear_attention(d, 0, 0);
    driver_clear_attention(d, 5, 0);
    driver_clear_attention(d, 5, 3);
    return b;
}

struct rw { struct command c; uint8_t cdb[10]; };

static void rw10(struct rw *r, bool write, unsigned id, int tag, uint32_t lba, uint16_t blocks,
                 uint32_t data)
{
    *r = (struct rw){ .c = { .id = id, .tag = tag, .disconnect = true, .cdb = r->cdb,
                             .cdb_len = 10, .data = data, .len = blocks * BLOCK } };
    r->cdb[0] = write ? 0x2a : 0x28;
    be32_store(r->cdb + 2, lba);
    be16_store(r->cdb + 7, blocks);
}

static void check_disk(struct bench *b, unsigned disk, uint32_t lba, unsigned blocks,
                       uint32_t data)
{
    uint8_t sector[BLOCK];

    for (unsigned i = 0; i < blocks; i++) {
        CHECK_EQ(pread(bench_disk_fd(b, disk), sector, BLOCK, (off_t)(lba + i) * BLOCK), BLOCK);
        CHECK_MEM(bench_ram(b) + data + i * BLOCK, sector, BLOCK);
    }
}

BENCH_TEST(inquiry_goes_through_every_phase)
{
    static const uint8_t inquiry[6] = { 0x12, 0, 0, 0, 36 };
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    struct command c = { .tag = -1, .cdb = inquiry, .cdb_len = 6, .data = DATA, .len = 36 };

    CHECK_EQ(driver_do(&d, &c), 0);
    CHECK_EQ(bench_ram(b)[DATA], 0);                        /* a disk, and there */
    CHECK_EQ(c.disconnects, 0);
    CHECK_EQ(rd8(b, SCNTL1) & SCNTL1_CON, 0);
    CHECK_EQ(rd8(b, SIDL), MSG_COMMAND_COMPLETE);
    CHECK_EQ(rd32(b, CSBC) >= 36, 1);
}

BENCH_TEST(check_condition_keeps_its_sense_for_request_sense)
{
    static const uint8_t bad[6] = { 0x1f }, sense[6] = { 0x03, 0, 0, 0, 18 };
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    struct command c = { .tag = -1, .cdb = bad, .cdb_len = 6 };
    struct command q = { .tag = -1, .cdb = sense, .cdb_len = 6, .data = DATA, .len = 18 };

    CHECK_EQ(driver_do(&d, &c), 2);
    CHECK_EQ(driver_do(&d, &q), 0);
    CHECK_EQ(bench_ram(b)[DATA] & 0x7f, 0x70);
    CHECK_EQ(bench_ram(b)[DATA + 2] & 15, 5);
    CHECK_EQ(bench_ram(b)[DATA + 12], 0x20);
    CHECK_EQ(driver_do(&d, &q), 0);                         /* told once */
    CHECK_EQ(bench_ram(b)[DATA + 2] & 15, 0);
}

BENCH_TEST(absent_luns_are_answered_by_the_target)
{
    static const uint8_t inquiry[6] = { 0x12, 0, 0, 0, 36 }, ready[6] = { 0 };
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    struct command c = { .id = 5, .lun = 1, .tag = -1, .cdb = inquiry, .cdb_len = 6, .data = DATA,
                         .len = 36 };
    struct command r = { .id = 5, .lun = 1, .tag = -1, .cdb = ready, .cdb_len = 6 };

    CHECK_EQ(driver_do(&d, &c), 0);
    CHECK_EQ(bench_ram(b)[DATA], 0x7f);
    CHECK_EQ(driver_do(&d, &r), 2);
}

BENCH_TEST(reads_disconnect_and_come_back)
{
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    struct rw r;

    rw10(&r, false, 0, -1, 100, 16, DATA);
    CHECK_EQ(driver_do(&d, &r.c), 0);
    CHECK_EQ(r.c.moved, 16 * BLOCK);
    CHECK_EQ(r.c.disconnects, 1);
    check_disk(b, 0, 100, 16, DATA);
}

BENCH_TEST(reads_without_the_privilege_stay_connected)
{
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    struct rw r;

    rw10(&r, false, 0, -1, 7, 300, DATA);
    r.c.disconnect = false;
    r.c.segment = 10000;
    CHECK_EQ(driver_do(&d, &r.c), 0);
    CHECK_EQ(r.c.disconnects, 0);
    check_disk(b, 0, 7, 300, DATA);
}

BENCH_TEST(large_transfers_disconnect_between_block_moves)
{
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    struct rw r;

    rw10(&r, false, 5, 9, 1000, 1024, DATA);                /* four pieces of the disk's */
    r.c.segment = 64 * 1024;
    CHECK_EQ(driver_do(&d, &r.c), 0);
    CHECK_EQ(r.c.moved, 1024 * BLOCK);
    CHECK(r.c.disconnects >= 1);
    check_disk(b, 1, 1000, 1024, DATA);

    rw10(&r, false, 5, 9, 1000, 1024, DATA);
    r.c.segment = 100 * 1000;                               /* across the pieces' ends */
    CHECK_EQ(driver_do(&d, &r.c), 0);
    check_disk(b, 1, 1000, 1024, DATA);
}

BENCH_TEST(writes_reach_the_disk)
{
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    struct rw r;

    for (unsigned i = 0; i < 600 * BLOCK; i++)
        bench_ram(b)[DATA + i] = i * 13 + (i >> 9);
    rw10(&r, true, 0, 3, 50, 600, DATA);
    r.c.segment = 12345;
    CHECK_EQ(driver_do(&d, &r.c), 0);
    CHECK_EQ(r.c.moved, 600 * BLOCK);
    check_disk(b, 0, 50, 600, DATA);
}

BENCH_TEST(many_tagged_commands_at_once)
{
    enum { N = 32 };
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    struct rw r[N];

    for (unsigned i = 0; i < N; i++) {
        rw10(&r[i], i % 4 == 3, i % 3 ? 5 : 0, i, 2000 + i * 40, 8 + i, DATA + i * 0x10000);
        if (i % 4 == 3)
            memset(bench_ram(b) + DATA + i * 0x10000, i, r[i].c.len);
        driver_start(&d, &r[i].c);
    }
    driver_finish(&d);
    for (unsigned i = 0; i < N; i++) {
        CHECK_EQ(r[i].c.status, 0);
        CHECK_EQ(r[i].c.moved, r[i].c.len);
        check_disk(b, i % 3 ? 1 : 0, 2000 + i * 40, 8 + i, DATA + i * 0x10000);
    }
}

BENCH_TEST(two_commands_of_one_name_end_both)
{
    static const uint8_t sense[6] = { 0x03, 0, 0, 0, 18 };
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    struct rw r[2];

    /* The second is sent before the first can come back: targets are not asked for meanwhile. */
    wr8(b, SCID, 7);
    rw10(&r[0], false, 0, 4, 0, 8, DATA);
    rw10(&r[1], false, 0, 4, 8, 8, DATA);
    driver_start(&d, &r[0].c);
    CHECK(r[0].c.disconnected);
    driver_start(&d, &r[1].c);
    CHECK_EQ(r[1].c.status, 2);
    d.count = 0;
    wr8(b, SCID, SCID_RRE | 7);
    struct command q = { .tag = -1, .cdb = sense, .cdb_len = 6, .data = DATA, .len = 18 };
    CHECK_EQ(driver_do(&d, &q), 0);
    CHECK_EQ(bench_ram(b)[DATA + 2] & 15, 0x0b);
    CHECK_EQ(bench_ram(b)[DATA + 12], 0x4e);
    rw10(&r[0], false, 0, 4, 100, 8, DATA);                 /* and life goes on */
    CHECK_EQ(driver_do(&d, &r[0].c), 0);
    check_disk(b, 0, 100, 8, DATA);
}

BENCH_TEST(wide_and_synchronous_transfer_are_negotiated)
{
    static const struct { uint8_t ask[8], len, answer[8]; } cases[] = {
        { { 1, 2, EXT_WDTR, 1 }, 4, { 1, 2, EXT_WDTR, 1 } },
        { { 1, 2, EXT_WDTR, 2 }, 4, { 1, 2, EXT_WDTR, 1 } },
        { { 1, 3, EXT_SDTR, 10, 31 }, 5, { 1, 3, EXT_SDTR, 10, 31 } },
        { { 1, 3, EXT_SDTR, 9, 62 }, 5, { 1, 3, EXT_SDTR, 10, 31 } },
        { { 1, 6, EXT_PPR, 9, 0, 62, 1, 2 }, 8, { 1, 6, EXT_PPR, 10, 0, 31, 1, 0 } },
        { { 1, 2, 0x7f, 0 }, 4, { MSG_REJECT } },
    };
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        uint32_t out = DATA, in = DATA + 64;
        unsigned answer = cases[i].answer[0] == MSG_REJECT ? 1 : cases[i].len;
        struct script s = script_at(b, CODE + 0xc00);

        bench_ram(b)[out] = MSG_IDENTIFY;
        memcpy(bench_ram(b) + out + 1, cases[i].ask, cases[i].len);
        SELECT_ATN(&s, 0, CODE);
        MOVE(&s, PHASE_MESSAGE_OUT, 1 + cases[i].len, out);
        MOVE(&s, PHASE_MESSAGE_IN, answer, in);
        CLEAR(&s, ACK);
        INT(&s, TRUE_IF | WHEN | PHASE(PHASE_COMMAND), 1);
        INT(&s, TRUE_IF, 2);
        RUN_TO(b, CODE + 0xc00, 1);
        CHECK_MEM(bench_ram(b) + in, cases[i].answer, answer);
        wr8(b, SCNTL1, SCNTL1_RST);
        CHECK_EQ(lsi_wait(b).sist, SIST_RST);
        wr8(b, SCNTL1, 0);
    }
}

/* IDENTIFY and WDTR before a command, as a driver does. */
static void go_wide(struct driver *d, unsigned id)
{
    struct bench *b = d->b;
    struct script s = script_at(b, CODE + 0xc00);
    static const uint8_t msg[] = { MSG_IDENTIFY, 1, 2, EXT_WDTR, 1 };

    memcpy(bench_ram(b) + DATA, msg, sizeof msg);
    memset(bench_ram(b) + DATA + 16, 0, 6);
    SELECT_ATN(&s, id, CODE);
    MOVE(&s, PHASE_MESSAGE_OUT, sizeof msg, DATA);
    MOVE(&s, PHASE_MESSAGE_IN, 4, DATA + 32);
    CLEAR(&s, ACK);
    MOVE(&s, PHASE_COMMAND, 6, DATA + 16);                  /* TEST UNIT READY */
    MOVE(&s, PHASE_STATUS, 1, DATA + 40);
    MOVE(&s, PHASE_MESSAGE_IN, 1, DATA + 41);
    REG_REG(&s, SCNTL2, OP_AND, 0x7f);
    CLEAR(&s, ACK);
    WAIT_DISCONNECT(&s);
    INT(&s, TRUE_IF, 1);
    RUN_TO(b, CODE + 0xc00, 1);
    wr8(b, SCNTL3, SCNTL3_EWS);
}

BENCH_TEST(chained_moves_carry_odd_bytes_on_a_wide_bus)
{
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    struct rw r;

    go_wide(&d, 0);
    for (unsigned segment = 1; segment <= 4097; segment += 1365) {
        rw10(&r, false, 0, 1, 64, 20, DATA);
        r.c.chained = true;
        r.c.segment = segment == 1 ? 333 : segment;         /* odd ones among them */
        CHECK_EQ(driver_do(&d, &r.c), 0);
        CHECK_EQ(r.c.moved, 20 * BLOCK);
        check_disk(b, 0, 64, 20, DATA);
        CHECK_EQ(rd8(b, SCNTL2) & (SCNTL2_WSR | SCNTL2_WSS), 0);

        for (unsigned i = 0; i < 20 * BLOCK; i++)
            bench_ram(b)[DATA + i] = i * segment + 1;
        rw10(&r, true, 0, 1, 512, 20, DATA);
        r.c.chained = true;
        r.c.segment = segment == 1 ? 333 : segment;
        CHECK_EQ(driver_do(&d, &r.c), 0);
        check_disk(b, 0, 512, 20, DATA);
        CHECK_EQ(rd8(b, SCNTL2) & (SCNTL2_WSR | SCNTL2_WSS), 0);
    }
}

BENCH_TEST(odd_lengths_on_a_wide_bus_end_with_ignore_wide_residue)
{
    static const uint8_t inquiry[6] = { 0x12, 0, 0, 0, 35 };
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    struct command c = { .tag = -1, .cdb = inquiry, .cdb_len = 6, .data = DATA, .len = 35,
                         .chained = true };

    go_wide(&d, 0);
    bench_ram(b)[DATA + 35] = 0xee;
    CHECK_EQ(driver_do(&d, &c), 0);
    CHECK_EQ(d.message_count, 2);
    CHECK_EQ(d.messages[0], MSG_IGNORE_WIDE_RESIDUE);
    CHECK_EQ(d.messages[1], 1);
    CHECK_EQ(bench_ram(b)[DATA + 35], 0xee);                /* the pad stayed in SWIDE */

    c.len = 36;                                             /* room for the whole word */
    CHECK_EQ(driver_do(&d, &c), 0);
    CHECK_EQ(c.moved, 36);
    CHECK_EQ(bench_ram(b)[DATA + 35], 0);
    CHECK_EQ(d.message_count, 4);
}

BENCH_TEST(phase_mismatch_interrupts_with_the_residue)
{
    static const uint8_t inquiry[6] = { 0x12, 0, 0, 0, 36 };
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    struct command c = { .tag = -1, .cdb = inquiry, .cdb_len = 6, .data = DATA, .len = 200 };

    driver_start(&d, &c);
    CHECK_EQ(c.status, 0);
    CHECK_EQ(c.moved, 36);
    CHECK_EQ(rd32(b, RBC), MOVE_OP(PHASE_DATA_IN) | (200 - 36));
    CHECK_EQ(rd32(b, UA), DATA + 36);
    CHECK_EQ(rd32(b, IA), CODE + 0x800);
    CHECK_EQ(rd32(b, ESA), CODE + 0x800);
    CHECK_EQ(rd32(b, SBC) & 0xffffff, 1);                   /* of the last move: the message */
}

BENCH_TEST(phase_mismatch_jumps_where_the_driver_wants)
{
    static const uint8_t inquiry[6] = { 0x12, 0, 0, 0, 36 };
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);

    for (unsigned pmjctl = 0; pmjctl < 2; pmjctl++) {
        struct script s = script_at(b, CODE + 0xc00);
        bench_ram(b)[DATA] = MSG_IDENTIFY;
        memcpy(bench_ram(b) + DATA + 16, inquiry, 6);
        le32_store(bench_ram(b) + DATA + 32, 100);
        le32_store(bench_ram(b) + DATA + 36, DATA + 0x100);
        wr32(b, DSA, DATA);
        SELECT_ATN(&s, 0, CODE);
        MOVE(&s, PHASE_MESSAGE_OUT, 1, DATA);
        MOVE(&s, PHASE_COMMAND, 6, DATA + 16);
        uint32_t move = MOVE_TABLE(&s, PHASE_DATA_IN, 32);
        INT(&s, TRUE_IF, 1);
        struct script j = script_at(b, CODE + 0xd00);
        INT(&j, TRUE_IF, 11);
        INT(&j, TRUE_IF, 12);
        wr32(b, PMJAD1, CODE + 0xd00);
        wr32(b, PMJAD2, CODE + 0xd08);
        wr8(b, CCNTL0, CCNTL0_ENPMJ | (pmjctl ? CCNTL0_PMJCTL : 0));
        RUN_TO(b, CODE + 0xc00, pmjctl ? 12 : 11);
        CHECK_EQ(rd32(b, RBC), 64);
        CHECK_EQ(rd32(b, UA), DATA + 0x100 + 36);
        CHECK_EQ(rd32(b, IA), move);
        CHECK_EQ(rd32(b, ESA), DATA + 32);
        wr8(b, SCNTL1, SCNTL1_RST);
        CHECK_EQ(lsi_wait(b).sist, SIST_RST);
        wr8(b, SCNTL1, 0);
    }
}

BENCH_TEST(addresses_of_block_moves_direct_indirect_and_long)
{
    static const uint8_t inquiry[6] = { 0x12, 0, 0, 0, 36 };
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);

    for (unsigned mode = 0; mode < 4; mode++) {
        struct script s = script_at(b, CODE + 0xc00);
        uint8_t *ram = bench_ram(b);
        memset(ram + DATA, 0, 0x1000);
        ram[DATA] = MSG_IDENTIFY;
        memcpy(ram + DATA + 16, inquiry, 6);
        le32_store(ram + DATA + 32, 36);
        le32_store(ram + DATA + 36, DATA + 0x100);
        le32_store(ram + DATA + 40, DATA + 0x100);
        wr32(b, DSA, DATA + 0x40);
        wr8(b, CCNTL1, mode == 2 ? CCNTL1_EN64DBMV : mode == 3 ? CCNTL1_EN64TIBMV : 0);
        wr32(b, SCRATCHC, 0);
        SELECT_ATN(&s, 0, CODE);
        wr32(b, SBMS, 0);
        if (mode == 2) {
            MOVE(&s, PHASE_MESSAGE_OUT, 1, DATA), put32(&s, 0);
            MOVE(&s, PHASE_COMMAND, 6, DATA + 16), put32(&s, 0);
            MOVE(&s, PHASE_DATA_IN, 36, DATA + 0x100), put32(&s, 0);
        } else {
            MOVE(&s, PHASE_MESSAGE_OUT, 1, DATA);
            MOVE(&s, PHASE_COMMAND, 6, DATA + 16);
            if (mode == 0)
                MOVE(&s, PHASE_DATA_IN, 36, DATA + 0x100);
            else if (mode == 1)
                MOVE_INDIRECT(&s, PHASE_DATA_IN, 36, DATA + 40);
            else
                MOVE_TABLE(&s, PHASE_DATA_IN, (uint32_t)-32);
        }
        INT(&s, TRUE_IF, 1);
        RUN_TO(b, CODE + 0xc00, 1);
        CHECK(ram[DATA + 0x100 + 4] >= 31);                 /* INQUIRY: additional length */
        wr8(b, CCNTL1, 0);
        wr8(b, SCNTL1, SCNTL1_RST);
        CHECK_EQ(lsi_wait(b).sist, SIST_RST);
        wr8(b, SCNTL1, 0);
    }
}

BENCH_TEST(aborted_commands_never_come_back)
{
    static const uint8_t abort[] = { MSG_ABORT }, abort_tag[] = { MSG_ABORT_TAG },
                         clear[] = { MSG_CLEAR_QUEUE };
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    struct rw r[4];

    for (unsigned how = 0; how < 3; how++) {
        wr8(b, SCID, 7);                                    /* nobody comes back yet */
        for (unsigned i = 0; i < 4; i++) {
            rw10(&r[i], false, i == 3 ? 0 : 5, i, i * 8, 8, DATA + i * 0x4000);
            driver_start(&d, &r[i].c);
            CHECK(r[i].c.disconnected);
        }
        struct stop s = how == 0 ? driver_send(&d, 5, 0, -1, abort, 1) :
                        how == 1 ? driver_send(&d, 5, 0, 1, abort_tag, 1)
                                 : driver_send(&d, 5, 0, -1, clear, 1);
        CHECK_EQ(s.sist, 0);
        CHECK_EQ(s.dstat & 0x7f, DSTAT_SIR);
        r[1].c.done = true;
        if (how != 1)
            r[0].c.done = r[2].c.done = true;
        wr8(b, SCID, SCID_RRE | 7);
        driver_finish(&d);                                  /* fails if an aborted one returns */
        CHECK_EQ(r[3].c.status, 0);
        check_disk(b, 0, 24, 8, DATA + 3 * 0x4000);
        if (how == 1)
            check_disk(b, 1, 16, 8, DATA + 2 * 0x4000);
        bench_idle(b, 2);
        rw10(&r[0], false, 5, 0, 77, 2, DATA);
        CHECK_EQ(driver_do(&d, &r[0].c), 0);
    }
}

BENCH_TEST(bus_device_reset_clears_the_target_and_leaves_a_unit_attention)
{
    static const uint8_t reset[] = { MSG_BUS_DEVICE_RESET }, ready[6] = { 0 };
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    struct command c = { .id = 5, .lun = 3, .tag = -1, .cdb = ready, .cdb_len = 6 };
    struct rw r;

    wr8(b, SCID, 7);
    rw10(&r, false, 5, 1, 0, 8, DATA);
    driver_start(&d, &r.c);
    struct stop s = driver_send(&d, 5, 0, -1, reset, 1);
    CHECK_EQ(s.sist, 0);
    d.count = 0;
    wr8(b, SCID, SCID_RRE | 7);
    CHECK_EQ(driver_do(&d, &c), 2);
    driver_clear_attention(&d, 5, 3);
    driver_clear_attention(&d, 5, 0);
    CHECK_EQ(rd8(b, ISTAT0), 0);
}

BENCH_TEST(bus_reset_ends_everything)
{
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    struct rw r[8];

    wr8(b, SCID, 7);
    for (unsigned i = 0; i < 8; i++) {
        rw10(&r[i], i & 1, i & 2 ? 5 : 0, i, i * 100, 64, DATA + i * 0x10000);
        driver_start(&d, &r[i].c);
    }
    wr8(b, SCNTL1, SCNTL1_RST);
    CHECK_EQ(lsi_wait(b).sist, SIST_RST);
    wr8(b, SCNTL1, 0);
    d.count = 0;
    wr8(b, SCID, SCID_RRE | 7);
    driver_clear_attention(&d, 0, 0);
    driver_clear_attention(&d, 5, 0);
    rw10(&r[0], false, 0, 5, 3, 4, DATA);
    CHECK_EQ(driver_do(&d, &r[0].c), 0);
    check_disk(b, 0, 3, 4, DATA);
}

BENCH_TEST(reset_of_the_machine_starts_afresh)
{
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    struct rw r;

    wr8(b, SCID, 7);
    rw10(&r, false, 0, 1, 0, 256, DATA);
    driver_start(&d, &r.c);
    bench_reset(b);
    CHECK_EQ(rd8(b, SCID), 0);
    CHECK_EQ(rd8(b, ISTAT0), 0);
    driver_init(&d, b);
    driver_clear_attention(&d, 0, 0);
    rw10(&r, false, 0, 1, 9, 3, DATA);
    CHECK_EQ(driver_do(&d, &r.c), 0);
    check_disk(b, 0, 9, 3, DATA);
}

BENCH_TEST(leaving_without_warning_is_an_unexpected_disconnect)
{
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    struct script s = script_at(b, CODE + 0xc00);

    bench_ram(b)[DATA] = MSG_IDENTIFY;
    bench_ram(b)[DATA + 1] = MSG_ABORT;
    SELECT_ATN(&s, 0, CODE);
    MOVE(&s, PHASE_MESSAGE_OUT, 2, DATA);                   /* SDU is still set */
    INT(&s, TRUE_IF | WHEN | PHASE(PHASE_MESSAGE_IN), 1);
    struct stop stop = lsi_run(b, CODE + 0xc00);
    CHECK_EQ(stop.sist, SIST_UDC);
    CHECK_EQ(stop.dstat & 0x7f, 0);
}

BENCH_TEST(attention_makes_the_target_ask_for_a_message)
{
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    struct script s = script_at(b, CODE + 0xc00);

    bench_ram(b)[DATA] = MSG_IDENTIFY;
    bench_ram(b)[DATA + 1] = 0x15;                          /* no such message */
    bench_ram(b)[DATA + 2] = MSG_NOP;
    memset(bench_ram(b) + DATA + 16, 0, 6);
    SELECT_ATN(&s, 0, CODE);
    MOVE(&s, PHASE_MESSAGE_OUT, 2, DATA);
    MOVE(&s, PHASE_MESSAGE_IN, 1, DATA + 8);
    SET(&s, ATN);
    CLEAR(&s, ACK);
    INT(&s, WHEN | PHASE(PHASE_MESSAGE_OUT), 1);
    MOVE(&s, PHASE_MESSAGE_OUT, 1, DATA + 2);
    INT(&s, WHEN | PHASE(PHASE_COMMAND), 2);
    MOVE(&s, PHASE_COMMAND, 6, DATA + 16);
    MOVE(&s, PHASE_STATUS, 1, DATA + 9);
    INT(&s, TRUE_IF, 3);
    RUN_TO(b, CODE + 0xc00, 3);
    CHECK_EQ(bench_ram(b)[DATA + 8], MSG_REJECT);
    CHECK_EQ(bench_ram(b)[DATA + 9], 0);
    CHECK_EQ(rd8(b, SBCL) & BUS_BSY, BUS_BSY);
}

BENCH_TEST(reselection_wins_over_selection)
{
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    struct rw r;

    rw10(&r, false, 0, 6, 0, 8, DATA);
    wr8(b, SCID, 7);
    driver_start(&d, &r.c);
    CHECK(r.c.disconnected);
    bench_idle(b, 20);                                      /* the disk has answered by now */
    wr8(b, SCID, SCID_RRE | 7);
    struct script s = script_at(b, CODE + 0xc00);
    SELECT_ATN(&s, 5, CODE + 0xd00);
    INT(&s, TRUE_IF, 1);
    struct script alt = script_at(b, CODE + 0xd00);
    WAIT_RESELECT(&alt, CODE + 0xc00);
    MOVE(&alt, PHASE_MESSAGE_IN, 1, DATA + 0x8000);
    CLEAR(&alt, ACK);
    MOVE(&alt, PHASE_MESSAGE_IN, 2, DATA + 0x8001);
    INT(&alt, TRUE_IF, 2);
    RUN_TO(b, CODE + 0xc00, 2);
    CHECK_EQ(rd8(b, SSID), 0x80);
    CHECK_EQ(bench_ram(b)[DATA + 0x8000], MSG_IDENTIFY);
    CHECK_EQ(bench_ram(b)[DATA + 0x8002], 6);
    CHECK_EQ(rd8(b, SIDL), 6);
}

BENCH_TEST(handshake_timer_tells_of_a_silent_bus)
{
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    struct script s = script_at(b, CODE + 0xc00);

    bench_ram(b)[DATA] = MSG_IDENTIFY;
    bench_ram(b)[DATA + 1] = 0x15;
    SELECT_ATN(&s, 0, CODE);
    MOVE(&s, PHASE_MESSAGE_OUT, 2, DATA);
    MOVE(&s, PHASE_MESSAGE_IN, 1, DATA + 8);                /* and ACK is never cleared */
    INT(&s, TRUE_IF | WHEN | PHASE(PHASE_COMMAND), 1);
    INT(&s, TRUE_IF, 2);
    wr8(b, STIME0, 0x10);
    struct stop stop = lsi_run(b, CODE + 0xc00);
    CHECK_EQ(stop.sist, SIST_HTH);
    CHECK_EQ(rd8(b, ISTAT1) & ISTAT1_SRUN, ISTAT1_SRUN);    /* not fatal: it still waits */
    CHECK_EQ(rd8(b, SBCL) & (BUS_ACK | BUS_BSY), BUS_ACK | BUS_BSY);
}

TEST_MAIN
