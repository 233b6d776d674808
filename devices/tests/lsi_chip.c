/* SPDX-License-Identifier: Apache-2.0 */
/* The LSI53C895A with nobody on its bus: registers, interrupts, timers, SCRIPTS instructions. */
#include "devices/tests/lsi_support.h"

#include <string.h>

static struct bench *chip(void)
{
    struct bench *b = bench_new(&(struct bench_config){ .device = "lsi53c895a" });
    lsi_prepare(b);
    return b;
}

BENCH_TEST(configuration_space_names_the_chip)
{
    AUTO_BENCH struct bench *b = chip();

    CHECK_EQ(bench_config_read(b, PCI_VENDOR_ID, 4), 0x00121000);
    CHECK_EQ(bench_config_read(b, PCI_CLASS_DEVICE, 2), 0x0100);
    CHECK_EQ(bench_config_read(b, PCI_INTERRUPT_PIN, 1), 1);
    bench_config_write(b, PCI_BASE_ADDRESS_0, 4, ~0u);
    bench_config_write(b, PCI_BASE_ADDRESS_0 + 4, 4, ~0u);
    bench_config_write(b, PCI_BASE_ADDRESS_0 + 8, 4, ~0u);
    CHECK_EQ(bench_config_read(b, PCI_BASE_ADDRESS_0, 4), 0xffffff01);
    CHECK_EQ(bench_config_read(b, PCI_BASE_ADDRESS_0 + 4, 4), 0xfffffc00);
    CHECK_EQ(bench_config_read(b, PCI_BASE_ADDRESS_0 + 8, 4), 0xffffe000);
}

BENCH_TEST(registers_have_their_reset_values_and_keep_what_is_written)
{
    AUTO_BENCH struct bench *b = chip();

    CHECK_EQ(rd8(b, SCNTL0), 0xc0);
    CHECK_EQ(rd8(b, DSTAT), DSTAT_DFE);
    CHECK_EQ(rd8(b, CTEST1), 0xf0);
    CHECK_EQ(rd8(b, ISTAT0), 0);
    CHECK_EQ(rd8(b, SSTAT0), 0);
    wr32(b, SCRATCHA, 0x12345678);
    wr32(b, SCRATCHC + 0x3c, 0xdeadbeef);
    wr32(b, DSA, 0xcafe0000);
    bench_checkpoint(b);
    CHECK_EQ(rd32(b, SCRATCHA), 0x12345678);
    CHECK_EQ(rd8(b, SCRATCHA + 1), 0x56);
    CHECK_EQ(rd32(b, SCRATCHC + 0x3c), 0xdeadbeef);
    CHECK_EQ(rd32(b, DSA), 0xcafe0000);
    CHECK_EQ(bench_read32(b, 0, DSA), 0xcafe0000);          /* the same through I/O */
    wr8(b, SSTAT0, 0xff);                                   /* read only */
    CHECK_EQ(rd8(b, SSTAT0), 0);

    bench_write32(b, 2, 0x1ffc, 0x55aa55aa);
    bench_checkpoint(b);
    CHECK_EQ(bench_read32(b, 2, 0x1ffc), 0x55aa55aa);

    wr8(b, ISTAT0, ISTAT0_SRST);
    wr8(b, ISTAT0, 0);
    CHECK_EQ(rd32(b, SCRATCHA), 0);
    CHECK_EQ(rd32(b, DSA), 0);
    CHECK_EQ(bench_read32(b, 2, 0x1ffc), 0x55aa55aa);
}

BENCH_TEST(clock_locks_and_no_eeprom_answers)
{
    AUTO_BENCH struct bench *b = chip();

    CHECK_EQ(rd8(b, STEST4), STEST4_LVD);
    wr8(b, STEST1, STEST1_QEN);
    CHECK_EQ(rd8(b, STEST4), STEST4_LVD | STEST4_LOCK);
    wr8(b, GPCNTL, 0x1d);                                   /* GPIO 1 drives, GPIO 0 listens */
    wr8(b, GPREG, 0x02);
    CHECK_EQ(rd8(b, GPREG) & 3, 3);
    wr8(b, GPREG, 0x00);
    CHECK_EQ(rd8(b, GPREG) & 3, 1);
}

BENCH_TEST(general_purpose_timer_runs_at_the_scsi_clock)
{
    AUTO_BENCH struct bench *b = chip();

    wr8(b, SCNTL3, 4);                                      /* 40 MHz / 3 */
    wr8(b, STIME1, 6);                                      /* 4 ms at 25 MHz: 7.5 ms */
    uint64_t start = clock_now_ns();
    struct stop s = lsi_wait(b);
    uint64_t us = (clock_now_ns() - start) / 1000;
    CHECK_EQ(s.sist, SIST_GEN);
    CHECK_EQ(s.istat & 3, ISTAT0_SIP);
    CHECK(us >= 7400);
    wr8(b, STIME1, 15);
    wr8(b, STIME1, 0);                                      /* called off */
    bench_idle(b, 5);
    CHECK_EQ(rd8(b, SIST1), 0);
}

BENCH_TEST(masked_conditions_show_where_the_manual_says)
{
    AUTO_BENCH struct bench *b = chip();

    /* Not fatal, masked: SIST alone. */
    wr8(b, SIEN1, 0);
    wr8(b, SCNTL3, 1);
    wr8(b, STIME1, 1);
    bench_idle(b, 5);
    CHECK_EQ(rd8(b, ISTAT0), 0);
    CHECK(!bench_irq(b, 0));
    wr8(b, SIEN1, SIST_GEN >> 8);
    CHECK_EQ(rd8(b, ISTAT0), ISTAT0_SIP);
    CHECK(bench_irq(b, WAIT_MS));
    CHECK_EQ(rd8(b, SIST1), SIST_GEN >> 8);
    CHECK_EQ(rd8(b, ISTAT0), 0);

    /* Fatal, masked: ISTAT, but not the pin. */
    wr8(b, DIEN, 0);
    wr8(b, ISTAT0, ISTAT0_ABRT);
    CHECK_EQ(rd8(b, ISTAT0), ISTAT0_ABRT | ISTAT0_DIP);
    CHECK(!bench_irq(b, 0));
    wr8(b, ISTAT0, 0);
    CHECK_EQ(rd8(b, DSTAT), DSTAT_DFE | DSTAT_ABRT);
    CHECK_EQ(rd8(b, DSTAT), DSTAT_DFE);
}

BENCH_TEST(interrupt_pin_can_be_switched_off)
{
    AUTO_BENCH struct bench *b = chip();
    struct script s = script_at(b, CODE);

    INTFLY(&s);
    INT(&s, TRUE_IF, 7);
    wr8(b, ISTAT1, ISTAT1_SI);
    wr32(b, DSP, CODE);
    bench_idle(b, 2);
    CHECK(!bench_irq(b, 0));
    CHECK_EQ(rd8(b, ISTAT0), ISTAT0_INTF | ISTAT0_DIP);
    wr8(b, ISTAT1, 0);
    CHECK(bench_irq(b, WAIT_MS));
    CHECK_EQ(rd8(b, DSTAT), DSTAT_DFE | DSTAT_SIR);
    CHECK(bench_irq(b, WAIT_MS));                           /* INTF is still there */
    wr8(b, ISTAT0, ISTAT0_INTF);
    CHECK(!bench_irq(b, 0));
    CHECK_EQ(rd8(b, ISTAT0), 0);
}

BENCH_TEST(bus_reset_interrupts_and_the_lines_are_quiet)
{
    AUTO_BENCH struct bench *b = chip();

    wr8(b, SCNTL1, SCNTL1_RST);
    struct stop s = lsi_wait(b);
    CHECK_EQ(s.sist, SIST_RST);
    CHECK_EQ(rd8(b, SSTAT0) & 3, SSTAT0_RST);
    CHECK_EQ(rd8(b, SSTAT2) & 1, 0);
    CHECK_EQ(rd8(b, SBCL), 0);
    CHECK_EQ(bench_read(b, 1, SBDL, 2), 0);
    wr8(b, SCNTL1, 0);
    CHECK_EQ(rd8(b, SSTAT0) & 3, 0);
}

BENCH_TEST(conditions_stack_until_the_first_is_read)
{
    AUTO_BENCH struct bench *b = chip();

    wr8(b, SCNTL1, SCNTL1_RST);
    wr8(b, SCNTL1, 0);
    wr8(b, SCNTL3, 1);
    wr8(b, STIME1, 1);
    bench_idle(b, 5);
    CHECK_EQ(rd8(b, SIST0), SIST_RST);                      /* alone: GEN waits behind */
    CHECK_EQ(rd8(b, SIST1), SIST_GEN >> 8);
    CHECK_EQ(rd8(b, ISTAT0), 0);
}

/* ---- SCRIPTS ---- */

BENCH_TEST(int_stops_and_tells_its_vector)
{
    AUTO_BENCH struct bench *b = chip();
    struct script s = script_at(b, CODE);

    INT(&s, TRUE_IF, 0xabcd1234);
    RUN_TO(b, CODE, 0xabcd1234);
    CHECK_EQ(rd32(b, DSP), CODE + 8);
    CHECK_EQ(rd8(b, ISTAT1), 0);
}

BENCH_TEST(jumps_follow_data_mask_carry_and_distance)
{
    AUTO_BENCH struct bench *b = chip();
    struct script s = script_at(b, CODE);

    REG_SFBR(&s, GPREG, OP_LOAD, 0x5a);
    INT(&s, DATA_IS | 0x5a, 1);                             /* not if equal */
    INT(&s, TRUE_IF | DATA_IS | 0x5b, 2);
    INT(&s, TRUE_IF | DATA_IS | 0x0f00 | 0x60, 3);          /* 0x5. is not 0x6. */
    JUMP(&s, RELATIVE | TRUE_IF | DATA_IS | 0x0f00 | 0x55, 8);
    INT(&s, TRUE_IF, 4);
    put(&s, 0x80000000, 0);                                 /* never: a no-operation */
    CLEAR(&s, SET_CARRY);
    INT(&s, TRUE_IF | CARRY, 5);
    SET(&s, SET_CARRY);
    INT(&s, CARRY, 6);
    uint32_t sub = s.at + 16;
    CALL(&s, TRUE_IF, sub);
    INT(&s, TRUE_IF, 7);                                    /* back here */
    CHECK_EQ(s.at, sub);
    RETURN(&s, TRUE_IF | CARRY);
    INT(&s, TRUE_IF, 8);
    RUN_TO(b, CODE, 7);
    CHECK_EQ(rd32(b, TEMP), sub - 8);
}

BENCH_TEST(register_operations_compute_with_carry)
{
    static const struct { uint8_t op, carry, in, data, out, carry_out; } cases[] = {
        { OP_LOAD, 0, 0x11, 0x22, 0x22, 0 }, { OP_OR, 1, 0x0f, 0xf0, 0xff, 1 },
        { OP_XOR, 0, 0xff, 0x0f, 0xf0, 0 }, { OP_AND, 0, 0xfc, 0x3f, 0x3c, 0 },
        { OP_SHL, 0, 0x81, 0, 0x02, 1 }, { OP_SHL, 1, 0x01, 0, 0x03, 0 },
        { OP_SHR, 0, 0x81, 0, 0x40, 1 }, { OP_SHR, 1, 0x02, 0, 0x81, 0 },
        { OP_ADD, 1, 0xff, 0x01, 0x00, 1 }, { OP_ADD, 1, 0x01, 0x01, 0x02, 0 },
        { OP_ADDC, 1, 0xff, 0x00, 0x00, 1 }, { OP_ADDC, 0, 0x10, 0x20, 0x30, 0 },
    };
    AUTO_BENCH struct bench *b = chip();

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        for (unsigned code = 5; code <= 7; code++) {
            struct script s = script_at(b, CODE);
            unsigned from = code == 5 ? SFBR : SCRATCHB + 1, to = code == 6 ? SFBR : SCRATCHB + 1;
            (cases[i].carry ? SET(&s, SET_CARRY) : CLEAR(&s, SET_CARRY));
            put(&s, REG_OP(code, SCRATCHB + 1, cases[i].op, cases[i].data), 0);
            INT(&s, TRUE_IF | CARRY, 1);
            INT(&s, TRUE_IF, 0);
            wr8(b, from, cases[i].in);
            RUN_TO(b, CODE, cases[i].carry_out);
            CHECK_EQ(rd8(b, to), cases[i].out);
        }
    }
}

BENCH_TEST(register_operations_take_sfbr_as_data_and_reach_high_registers)
{
    AUTO_BENCH struct bench *b = chip();
    struct script s = script_at(b, CODE);

    REG_SFBR(&s, GPREG, OP_LOAD, 0x21);
    put(&s, REG_OP(7, PMJAD1, OP_ADD, 0) | USE_SFBR, 0);
    INT(&s, TRUE_IF, 1);
    wr32(b, PMJAD1, 0x1000);
    RUN_TO(b, CODE, 1);
    CHECK_EQ(rd32(b, PMJAD1), 0x1021);
}

BENCH_TEST(load_store_and_memory_move_reach_memory)
{
    AUTO_BENCH struct bench *b = chip();
    struct script s = script_at(b, CODE);

    LOAD(&s, SCRATCHA, 4, DATA);
    STORE(&s, SCRATCHA + 1, 2, DATA + 0x101);
    STORE_DSA(&s, SCRATCHA, 4, 0xfffffff0);                 /* DSA - 16 */
    LOAD_DSA(&s, SCRATCHB, 1, 0x20);
    MEMORY_MOVE(&s, 100000, DATA, DATA + 0x20000);
    INT(&s, TRUE_IF, 1);
    for (unsigned i = 0; i < 100000; i++)
        bench_ram(b)[DATA + i] = i * 7;
    wr32(b, DSA, DATA + 0x40000);
    bench_ram(b)[DATA + 0x40020] = 0x99;
    RUN_TO(b, CODE, 1);
    CHECK_EQ(rd32(b, SCRATCHA), 0x150e0700);
    CHECK_EQ(bench_ram(b)[DATA + 0x40000 - 15], 0x07);
    CHECK_EQ(rd8(b, SCRATCHB), 0x99);
    CHECK_EQ(bench_ram(b)[DATA + 0x20101], 0x07);           /* stored before, moved along */
    bench_ram(b)[DATA + 0x20101] = bench_ram(b)[DATA + 0x101];
    CHECK_MEM(bench_ram(b) + DATA, bench_ram(b) + DATA + 0x20000, 100000);
}

BENCH_TEST(scripts_run_in_their_own_ram_and_reach_their_own_registers)
{
    AUTO_BENCH struct bench *b = chip();
    uint32_t ram = BENCH_MMIO + 2 * BENCH_BAR_STRIDE, regs = BENCH_MMIO + BENCH_BAR_STRIDE;
    const uint32_t code[] = {
        0xc0000004, regs + SCRATCHA, ram + 0x100,           /* register to SCRIPTS RAM */
        0xe1000000 | SCRATCHB << 16 | 4, ram + 0x100,       /* and back by a load */
        0xc0000004, ram + 0x100, regs + DSA,
        0x98080000, 0x77,
    };

    for (unsigned i = 0; i < ARRAY_SIZE(code); i++)
        bench_write32(b, 2, 4 * i, code[i]);
    wr32(b, SCRATCHA, 0x87654321);
    RUN_TO(b, ram, 0x77);
    CHECK_EQ(rd32(b, SCRATCHB), 0x87654321);
    CHECK_EQ(rd32(b, DSA), 0x87654321);
    CHECK_EQ(bench_read32(b, 2, 0x100), 0x87654321);
    wr8(b, CTEST2, CTEST2_PCICIE);
    CHECK_EQ(rd32(b, SCRATCHA), regs);
    CHECK_EQ(rd32(b, SCRATCHB), ram);
}

BENCH_TEST(upper_address_bits_come_from_the_selectors)
{
    AUTO_BENCH struct bench *b = chip();
    struct script s = script_at(b, CODE);

    LOAD(&s, SCRATCHA, 4, DATA);
    INT(&s, TRUE_IF, 1);
    wr32(b, MMRS, 1);
    struct stop stop = lsi_run(b, CODE);                    /* there is no memory that high */
    CHECK_EQ(stop.dstat & 0x7f, DSTAT_BF);
    wr8(b, CCNTL1, CCNTL1_DDAC);                            /* upper bits are not put out */
    RUN_TO(b, CODE, 1);
    wr8(b, CCNTL1, 0);
    wr32(b, SFS, 1);
    stop = lsi_run(b, CODE);
    CHECK_EQ(stop.dstat & 0x7f, DSTAT_BF);

    struct script j = script_at(b, CODE + 0x100);
    wr32(b, SFS, 0);
    put(&j, 0x80480000, CODE + 0x200);                      /* 64-bit jump */
    put32(&j, 9);
    stop = lsi_run(b, CODE + 0x100);
    CHECK_EQ(stop.dstat & 0x7f, DSTAT_BF);
    CHECK_EQ(rd32(b, SFS), 9);
}

BENCH_TEST(illegal_instructions_stop_with_iid)
{
    static const uint32_t bad[][2] = {
        { 0x08000000, DATA }, { 0x38000001, DATA },         /* no bytes; two addressing modes */
        { 0xa0000000, 0 }, { 0xe0340000, DATA }, { 0xe0340005, DATA }, { 0xe0350004, DATA },
        { 0xc0000000, DATA }, { 0x49000000, 0 }, { 0x5a000000 | 1 << 24, 0 },
    };
    AUTO_BENCH struct bench *b = chip();

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        struct script s = script_at(b, CODE);
        put(&s, bad[i][0], bad[i][1]);
        INT(&s, TRUE_IF, 1);
        struct stop stop = lsi_run(b, CODE);
        CHECK_EQ(stop.dstat & 0x7f, DSTAT_IID);
    }
}

BENCH_TEST(memory_that_is_not_there_is_a_bus_fault)
{
    AUTO_BENCH struct bench *b = chip();
    struct script s = script_at(b, CODE);

    struct stop stop = lsi_run(b, 0x70000000);
    CHECK_EQ(stop.dstat & 0x7f, DSTAT_BF);
    MEMORY_MOVE(&s, 16, 0x70000000, DATA);
    stop = lsi_run(b, CODE);
    CHECK_EQ(stop.dstat & 0x7f, DSTAT_BF);
    bench_config_write(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
    stop = lsi_run(b, CODE);
    CHECK_EQ(stop.dstat & 0x7f, DSTAT_BF);
}

BENCH_TEST(single_step_and_manual_start)
{
    AUTO_BENCH struct bench *b = chip();
    struct script s = script_at(b, CODE);

    REG_REG(&s, SCRATCHA, OP_ADD, 1);
    REG_REG(&s, SCRATCHA, OP_ADD, 1);
    INT(&s, TRUE_IF, 3);
    wr8(b, DMODE, DMODE_MAN);
    wr32(b, DSP, CODE);
    bench_idle(b, 1);
    CHECK_EQ(rd8(b, SCRATCHA), 0);
    wr8(b, DCNTL, DCNTL_SSM | DCNTL_STD);
    struct stop stop = lsi_wait(b);
    CHECK_EQ(stop.dstat & 0x7f, DSTAT_SSI);
    CHECK_EQ(rd8(b, SCRATCHA), 1);
    wr8(b, DCNTL, DCNTL_STD);                               /* go on */
    stop = lsi_wait(b);
    CHECK_EQ(stop.dstat & 0x7f, DSTAT_SIR);
    CHECK_EQ(rd8(b, SCRATCHA), 2);
}

BENCH_TEST(endless_scripts_leave_the_loop_alive_and_can_be_aborted)
{
    AUTO_BENCH struct bench *b = chip();
    struct script s = script_at(b, CODE);

    REG_REG(&s, SCRATCHA, OP_ADD, 1);
    REG_REG(&s, SCRATCHA + 1, OP_ADDC, 0);
    REG_REG(&s, SCRATCHA + 2, OP_ADDC, 0);
    JUMP(&s, TRUE_IF, CODE);
    wr32(b, DSP, CODE);
    bench_idle(b, 5);
    CHECK_EQ(rd8(b, ISTAT1) & ISTAT1_SRUN, ISTAT1_SRUN);
    CHECK(rd32(b, SCRATCHA) > 100);
    wr8(b, ISTAT0, ISTAT0_ABRT);
    CHECK(bench_irq(b, WAIT_MS));
    wr8(b, ISTAT0, 0);
    CHECK_EQ(rd8(b, DSTAT) & 0x7f, DSTAT_ABRT);
    CHECK_EQ(rd8(b, ISTAT1) & ISTAT1_SRUN, 0);
}

BENCH_TEST(sigp_ends_the_wait_for_reselection)
{
    AUTO_BENCH struct bench *b = chip();
    struct script s = script_at(b, CODE);

    WAIT_RESELECT(&s, CODE + 0x100);
    INT(&s, TRUE_IF, 1);
    struct script alt = script_at(b, CODE + 0x100);
    REG_SFBR(&alt, CTEST2, OP_OR, 0);                       /* reading it clears SIGP */
    INT(&alt, TRUE_IF, 2);
    wr32(b, DSP, CODE);
    bench_idle(b, 2);
    CHECK_EQ(rd8(b, ISTAT1), ISTAT1_SRUN);
    wr8(b, ISTAT0, ISTAT0_SIGP);
    struct stop stop = lsi_wait(b);
    CHECK_EQ(stop.vector, 2);
    CHECK_EQ(rd8(b, SFBR) & CTEST2_SIGP, CTEST2_SIGP);
    CHECK_EQ(rd8(b, ISTAT0), 0);
}

BENCH_TEST(selecting_nobody_times_out_where_the_target_is_needed)
{
    AUTO_BENCH struct bench *b = chip();
    struct script s = script_at(b, CODE);

    SELECT_ATN(&s, 3, CODE + 0x100);
    REG_REG(&s, SCRATCHA, OP_ADD, 1);                       /* goes on meanwhile */
    INT(&s, WHEN | PHASE(PHASE_MESSAGE_OUT), 1);
    INT(&s, TRUE_IF, 2);
    struct stop stop = lsi_run(b, CODE);
    CHECK_EQ(stop.sist, SIST_STO);
    CHECK_EQ(stop.dstat & 0x7f, 0);
    CHECK_EQ(rd8(b, SCRATCHA), 1);
    CHECK_EQ(rd32(b, DSP), CODE + 24);
    CHECK_EQ(rd8(b, ISTAT0), 0);
    CHECK_EQ(rd8(b, SDID), 3);
}

BENCH_TEST(handshake_timer_is_quiet_while_nobody_is_connected)
{
    AUTO_BENCH struct bench *b = chip();

    wr8(b, SCNTL3, 1);
    wr8(b, STIME0, 0x10);
    struct script s = script_at(b, CODE);
    WAIT_RESELECT(&s, CODE);
    wr32(b, DSP, CODE);
    bench_idle(b, 5);
    CHECK_EQ(rd8(b, SIST1), 0);
}

TEST_MAIN
