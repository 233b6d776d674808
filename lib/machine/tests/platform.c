/* SPDX-License-Identifier: Apache-2.0 */
/* Clock, ACPI registers, keyboard controller, system control ports, isa-debug-exit, pvpanic. */
#include "pc.h"

static uint8_t cmos(struct pc *pc, unsigned index)
{
    outb(pc, 0x70, index);
    return inb(pc, 0x71);
}
static void cmos_set(struct pc *pc, unsigned index, uint8_t val)
{
    outb(pc, 0x70, index);
    outb(pc, 0x71, val);
}

TEST(the_clock_shows_the_host_time_in_every_format)
{
    struct pc pc;

    pc_begin(&pc);                          /* Tuesday 2023-11-14 22:13:20 */
    CHECK_EQ(cmos(&pc, 0), 0x20);
    CHECK_EQ(cmos(&pc, 2), 0x13);
    CHECK_EQ(cmos(&pc, 4), 0x22);
    CHECK_EQ(cmos(&pc, 6), 3);
    CHECK_EQ(cmos(&pc, 7), 0x14);
    CHECK_EQ(cmos(&pc, 8), 0x11);
    CHECK_EQ(cmos(&pc, 9), 0x23);
    CHECK_EQ(cmos(&pc, 0x32), 0x20);
    CHECK_EQ(cmos(&pc, 0xd), 0x80);
    cmos_set(&pc, 0xb, 0x04);               /* binary, 12 hours */
    CHECK_EQ(cmos(&pc, 4), 0x80 | 10);
    CHECK_EQ(cmos(&pc, 2), 13);
    pc.wall_ns += 2 * 3600 * SECOND_NS;
    CHECK_EQ(cmos(&pc, 4), 12);             /* midnight */
    CHECK_EQ(cmos(&pc, 7), 15);
    pc_end(&pc);
}

TEST(a_time_that_the_guest_sets_goes_on_from_there)
{
    struct pc pc;

    pc_begin(&pc);
    cmos_set(&pc, 0xb, 0x82);               /* SET */
    pc.wall_ns += 5 * SECOND_NS;
    CHECK_EQ(cmos(&pc, 0), 0x20);           /* it stands */
    cmos_set(&pc, 0, 0x58);
    cmos_set(&pc, 2, 0x59);
    cmos_set(&pc, 4, 0x23);
    cmos_set(&pc, 7, 0x28);
    cmos_set(&pc, 8, 0x02);
    cmos_set(&pc, 9, 0x24);
    cmos_set(&pc, 0xb, 0x02);
    pc.wall_ns += 2 * SECOND_NS;
    pc_save_and_load(&pc);
    CHECK_EQ(cmos(&pc, 0), 0x00);
    CHECK_EQ(cmos(&pc, 4), 0x00);
    CHECK_EQ(cmos(&pc, 7), 0x29);           /* a leap year */
    CHECK_EQ(cmos(&pc, 8), 0x02);
    objects_reset(&pc.tree);                /* it has a battery */
    CHECK_EQ(cmos(&pc, 7), 0x29);
    for (unsigned i = 0; i < 10; i++)       /* nonsense is a date as well */
        cmos_set(&pc, i, 0xff);
    cmos(&pc, 9);
    pc_end(&pc);
}

TEST(flags_come_up_by_themselves_and_go_when_read)
{
    struct pc pc;

    pc_begin(&pc);
    cmos(&pc, 0xc);
    CHECK_EQ(cmos(&pc, 0xc), 0);
    pc.wall_ns += SECOND_NS;
    CHECK_EQ(cmos(&pc, 0xc), 0x10);
    CHECK_EQ(cmos(&pc, 0xc), 0);
    cmos_set(&pc, 5, 0xff);                 /* any hour */
    cmos_set(&pc, 3, 0x15);
    cmos_set(&pc, 1, 0x00);
    pc.wall_ns += 98 * SECOND_NS;           /* 22:14:59 */
    CHECK_EQ(cmos(&pc, 0xc), 0x10);
    pc.wall_ns += SECOND_NS;
    CHECK_EQ(cmos(&pc, 0xc), 0x30);
    CHECK(!pc.irq[8]);
    pc.clock_ns += 976562;                  /* 1024 Hz */
    CHECK_EQ(cmos(&pc, 0xc), 0x40);
    CHECK_EQ(cmos(&pc, 0xa) & 0x80, 0);
    pc.wall_ns += SECOND_NS - 100000;
    CHECK_EQ(cmos(&pc, 0xa) & 0x80, 0x80);  /* update in progress */
    pc_end(&pc);
}

TEST(enabled_flags_interrupt)
{
    struct pc pc;

    pc_begin(&pc);
    cmos(&pc, 0xc);
    cmos_set(&pc, 0xb, 0x42);               /* periodic, 976 us */
    pc.clock_ns += 2 * 976563;
    turns(&pc, 10);
    CHECK(pc.irq[8]);
    CHECK_EQ(cmos(&pc, 0xc), 0xc0);
    CHECK(!pc.irq[8]);
    cmos_set(&pc, 0xb, 0x12);               /* update; half a millisecond before the next */
    pc.wall_ns += SECOND_NS - 500000;
    cmos_set(&pc, 0xb, 0x02);
    cmos_set(&pc, 0xb, 0x12);
    pc.wall_ns += 500000;
    for (int i = 0; i < 100 && !pc.irq[8]; i++)
        turns(&pc, 1);
    CHECK(pc.irq[8]);
    CHECK_EQ(cmos(&pc, 0xc) & 0x90, 0x90);
    CHECK(!pc.irq[8]);
    pc_end(&pc);
}

TEST(cmos_tells_the_sizes_of_memory)
{
    struct machine_config config = { .kernel_fd = -1, .initrd_fd = -1, .ram_bytes = 3ull << 30,
                                     .cpus = 4 };
    struct pc pc;

    pc_begin_with(&pc, &config, NULL);
    CHECK_EQ(cmos(&pc, 0x15) | cmos(&pc, 0x16) << 8, 640);
    CHECK_EQ(cmos(&pc, 0x34) | cmos(&pc, 0x35) << 8, (0xb0000000 - (16 << 20)) >> 16);
    CHECK_EQ(cmos(&pc, 0x5b) | cmos(&pc, 0x5c) << 8, 0x10000000 >> 16);
    CHECK_EQ(cmos(&pc, 0x5f), 3);
    pc_end(&pc);
}

TEST(the_power_button_raises_the_sci_until_it_is_acknowledged)
{
    struct pc pc;

    pc_begin(&pc);
    machine_powerdown(pc.machine);
    CHECK(!pc.irq[9]);
    out(&pc, 0x602, 2, 0x0100);
    CHECK(pc.irq[9]);
    pc_save_and_load(&pc);
    CHECK(pc.irq[9]);
    CHECK_EQ(in(&pc, 0x600, 2), 0x0100);
    out(&pc, 0x600, 2, 0x0001);
    CHECK(pc.irq[9]);
    out(&pc, 0x600, 2, 0x0100);
    CHECK(!pc.irq[9]);
    CHECK_EQ(in(&pc, 0x600, 4), 0x01000000);
    pc_end(&pc);
}

TEST(s5_ends_the_machine_and_other_sleep_states_do_not)
{
    struct pc pc;

    pc_begin(&pc);
    CHECK_EQ(in(&pc, 0x604, 2), 1);
    out(&pc, 0x604, 2, 0x2000 | 1 << 10);
    CHECK_EQ(pc.shutdowns, 0);
    out(&pc, 0x604, 2, 0x2001);
    CHECK_EQ(pc.shutdowns, 1);
    CHECK_EQ(pc.why, MACHINE_SHUTDOWN_POWEROFF);
    pc_end(&pc);
}

TEST(the_pm_timer_counts_at_its_frequency)
{
    struct pc pc;

    pc_begin(&pc);
    uint32_t before = in(&pc, 0x608, 4);
    pc.clock_ns += 2 * SECOND_NS;
    CHECK_EQ(in(&pc, 0x608, 4) - before, 2 * 3579545);
    pc.clock_ns = UINT64_MAX / 2;           /* after 292 years */
    before = in(&pc, 0x608, 4);
    pc.clock_ns += SECOND_NS;
    CHECK(in(&pc, 0x608, 4) - before - 3579545 + 1 <= 2);
    pc_end(&pc);
}

TEST(every_way_to_reset_is_noticed_once)
{
    struct pc pc;

    pc_begin(&pc);
    outb(&pc, 0x64, 0xfe);
    CHECK_EQ(pc.resets, 1);
    outb(&pc, 0x64, 0xd1);
    outb(&pc, 0x60, 0x02);
    CHECK_EQ(pc.resets, 2);
    outb(&pc, 0x60, 0x00);                  /* for the keyboard, not for the output port */
    outb(&pc, 0x64, 0xff);                  /* pulses nothing */
    CHECK_EQ(pc.resets, 2);
    outb(&pc, 0xcf9, 0x02);
    CHECK_EQ(pc.resets, 2);
    outb(&pc, 0xcf9, 0x06);
    outb(&pc, 0xcf9, 0x06);
    CHECK_EQ(pc.resets, 3);
    CHECK_EQ(inb(&pc, 0xcf9), 0x06);
    outb(&pc, 0x92, 0x02);
    CHECK_EQ(pc.resets, 3);
    outb(&pc, 0x92, 0x03);
    CHECK_EQ(pc.resets, 4);
    pc_end(&pc);
}

TEST(the_keyboard_controller_answers_and_has_no_keyboard)
{
    struct pc pc;

    pc_begin(&pc);
    CHECK_EQ(inb(&pc, 0x64) & 3, 0);
    outb(&pc, 0x64, 0xaa);
    pc_save_and_load(&pc);
    CHECK_EQ(inb(&pc, 0x64) & 1, 1);
    CHECK_EQ(inb(&pc, 0x60), 0x55);
    CHECK_EQ(inb(&pc, 0x64) & 1, 0);
    outb(&pc, 0x64, 0x60);
    outb(&pc, 0x60, 0x47);
    outb(&pc, 0x64, 0x20);
    CHECK_EQ(inb(&pc, 0x60), 0x47);
    outb(&pc, 0x60, 0xff);
    CHECK_EQ(inb(&pc, 0x64) & 1, 0);
    CHECK_NE(inb(&pc, 0x61) & 0x10, inb(&pc, 0x61) & 0x10);
    outb(&pc, 0x80, 0x42);
    CHECK_EQ(inb(&pc, 0x80), 0x42);
    CHECK_EQ(inb(&pc, 0x65), 0xff);
    pc_end(&pc);
}

TEST(debug_exit_and_pvpanic_report)
{
    struct pc pc;

    pc_begin(&pc);
    pc_add(&pc, "isa-debug-exit,iobase=0xf4,iosize=0x4");
    pc_add(&pc, "pvpanic");
    out(&pc, 0xf4, 4, 0x10);
    CHECK_EQ(pc.why, MACHINE_SHUTDOWN_DEBUG_EXIT);
    CHECK_EQ(pc.exit_code, 33);
    out(&pc, 0xf4, 1, 0);
    CHECK_EQ(pc.exit_code, 1);
    CHECK_EQ(inb(&pc, 0x505), 3);
    outb(&pc, 0x505, 1);
    outb(&pc, 0x505, 2);
    outb(&pc, 0x505, 4);
    CHECK_EQ(pc.panics, 1);
    CHECK_EQ(pc.crash_loads, 1);

    struct error err;
    struct object *obj;
    json_t *d = json_pack("{s:s, s:i, s:i}", "driver", "isa-debug-exit", "iobase", 0xfffe, "iosize", 4);
    CHECK(object_create(&pc.tree, d, &obj, &err) < 0);
    CHECK_HAS(err.text, "65536 ports");
    json_decref(d);
    pc_end(&pc);
}

TEST_MAIN
