/* SPDX-License-Identifier: Apache-2.0 */
#include "pc.h"

enum { COM1 = 0x3f8, THR = COM1, IER = COM1 + 1, IIR = COM1 + 2, LCR = COM1 + 3, MCR = COM1 + 4,
       LSR = COM1 + 5, MSR = COM1 + 6, SCR = COM1 + 7 };

TEST(characters_go_out_and_say_when_the_next_may_follow)
{
    struct pc pc;
    char buf[8];

    pc_begin(&pc);
    CHECK_EQ(inb(&pc, LSR), 0x60);
    outb(&pc, THR, 'H');
    outb(&pc, THR, 'i');
    CHECK_EQ(read(pc.peer, buf, sizeof buf), 2);
    CHECK_MEM(buf, "Hi", 2);
    CHECK_EQ(inb(&pc, IIR), 0x01);
    CHECK(!pc.irq[4]);

    outb(&pc, IER, 2);                      /* THRE is pending as soon as it is enabled */
    CHECK(pc.irq[4]);
    CHECK_EQ(inb(&pc, IIR), 0x02);          /* reading it takes it away */
    CHECK(!pc.irq[4]);
    CHECK_EQ(inb(&pc, IIR), 0x01);
    outb(&pc, THR, '!');
    CHECK(pc.irq[4]);
    pc_end(&pc);
}

TEST(the_divisor_hides_behind_dlab_and_scratch_remembers)
{
    struct pc pc;

    pc_begin(&pc);
    outb(&pc, LCR, 0x83);
    outb(&pc, THR, 0x0c);
    outb(&pc, IER, 0x01);
    CHECK_EQ(inb(&pc, THR), 0x0c);
    CHECK_EQ(inb(&pc, IER), 0x01);
    outb(&pc, LCR, 0x03);
    CHECK_EQ(inb(&pc, IER), 0);
    outb(&pc, SCR, 0xa5);
    pc_save_and_load(&pc);
    CHECK_EQ(inb(&pc, SCR), 0xa5);
    CHECK_EQ(inb(&pc, LCR), 0x03);
    outb(&pc, LCR, 0x83);
    CHECK_EQ(inb(&pc, THR), 0x0c);
    pc_end(&pc);
}

TEST(the_fifo_is_found_and_interrupts_at_its_trigger_or_after_a_pause)
{
    struct pc pc;

    pc_begin(&pc);
    CHECK_EQ(inb(&pc, IIR) & 0xc0, 0);
    outb(&pc, IIR, 0x41);                   /* enabled, trigger at 4 */
    CHECK_EQ(inb(&pc, IIR) & 0xc0, 0xc0);
    outb(&pc, IER, 1);
    CHECK_EQ(write(pc.peer, "abcde", 5), 5);
    turns(&pc, 3);
    CHECK(pc.irq[4]);
    CHECK_EQ(inb(&pc, IIR), 0xc4);
    CHECK_EQ(inb(&pc, THR), 'a');
    pc_save_and_load(&pc);
    CHECK(pc.irq[4]);
    CHECK_EQ(inb(&pc, THR), 'b');
    CHECK(!pc.irq[4]);                      /* three are below the trigger … */
    for (int i = 0; i < 50 && !pc.irq[4]; i++)
        turns(&pc, 1);
    CHECK(pc.irq[4]);                       /* … but do not lie there for ever */
    CHECK_EQ(inb(&pc, IIR), 0xcc);
    CHECK_EQ(inb(&pc, THR), 'c');
    CHECK(!pc.irq[4]);
    CHECK_EQ(inb(&pc, LSR) & 1, 1);
    CHECK_EQ(inb(&pc, THR), 'd');
    CHECK_EQ(inb(&pc, THR), 'e');
    CHECK_EQ(inb(&pc, LSR) & 1, 0);
    pc_end(&pc);
}

TEST(input_waits_outside_until_the_fifo_has_room)
{
    struct pc pc;
    char text[41], got[41] = { 0 };

    pc_begin(&pc);
    outb(&pc, IIR, 0x01);
    for (int i = 0; i < 40; i++)
        text[i] = 'A' + i;
    CHECK_EQ(write(pc.peer, text, 40), 40);
    for (int n = 0; n < 40;) {
        turns(&pc, 2);
        CHECK_EQ(inb(&pc, LSR) & 2, 0);     /* nothing was overrun */
        while (inb(&pc, LSR) & 1)
            got[n++] = inb(&pc, THR);
    }
    CHECK_MEM(got, text, 40);
    pc_end(&pc);
}

TEST(loopback_joins_transmitter_and_modem_lines_to_the_receiver)
{
    struct pc pc;
    char c;

    pc_begin(&pc);
    CHECK_EQ(inb(&pc, MSR) & 0xf0, 0xb0);
    outb(&pc, MCR, 0x1a);                   /* what drivers look for: RTS, OUT2 */
    CHECK_EQ(inb(&pc, MSR) & 0xf0, 0x90);
    CHECK_EQ(inb(&pc, MSR) & 0x0f, 0);      /* the changes were told once */
    outb(&pc, IER, 0x08);
    outb(&pc, MCR, 0x1b);                   /* DTR */
    CHECK(pc.irq[4]);
    CHECK_EQ(inb(&pc, IIR), 0x00);
    CHECK_EQ(inb(&pc, MSR), 0xb2);
    CHECK(!pc.irq[4]);
    outb(&pc, MCR, 0x1f);                   /* ring: only the end of it is an event */
    CHECK(!pc.irq[4]);
    outb(&pc, MCR, 0x1b);
    CHECK_EQ(inb(&pc, MSR), 0xb4);

    outb(&pc, IER, 0x04);
    outb(&pc, THR, 'x');
    CHECK_EQ(read(pc.peer, &c, 1), -1);
    CHECK_EQ(inb(&pc, LSR), 0x61);
    outb(&pc, THR, 'y');                    /* without FIFO this is one too many */
    CHECK(pc.irq[4]);
    CHECK_EQ(inb(&pc, IIR), 0x06);
    CHECK_EQ(inb(&pc, LSR), 0x63);
    CHECK(!pc.irq[4]);
    CHECK_EQ(inb(&pc, THR), 'y');
    outb(&pc, MCR, 0x0b);
    outb(&pc, THR, 'z');
    CHECK_EQ(read(pc.peer, &c, 1), 1);
    CHECK_EQ(c, 'z');
    pc_end(&pc);
}

TEST(a_reader_that_does_not_read_holds_the_transmitter_up_and_loses_nothing)
{
    struct pc pc;
    static uint8_t buf[65536];
    size_t sent = 0, got = 0;
    ssize_t n;

    pc_begin(&pc);
    outb(&pc, IIR, 0x01);
    while ((inb(&pc, LSR) & 0x20) && sent < 16 << 20) {
        outb(&pc, THR, sent % 251);
        sent++;
    }
    CHECK(sent < 16 << 20);
    CHECK_EQ(inb(&pc, LSR) & 0x60, 0);
    outb(&pc, IER, 2);
    CHECK(!pc.irq[4]);
    for (int idle = 0; idle < 5;) {
        n = read(pc.peer, buf, sizeof buf);
        if (n < 0) {
            idle++;
            turns(&pc, 1);
            continue;
        }
        for (ssize_t i = 0; i < n; i++)
            if (buf[i] != (got + i) % 251)
                fail_msg("byte %zu is wrong", got + i);
        got += n;
    }
    CHECK_EQ(got, sent);
    CHECK(pc.irq[4]);
    CHECK_EQ(inb(&pc, LSR) & 0x60, 0x60);
    pc_end(&pc);
}

TEST_MAIN
