/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SCSI commands as they reach a disk through a real controller, in all of the bench's
 * ways. What each command means in detail is tested beside lib/scsi.
 */
#include "devices/tests/lsi_support.h"

#include <string.h>

enum { BLOCK = 512, DISK = 1 << 20 };

static struct bench *with_disks(struct driver *d)
{
    struct bench *b = bench_new(&(struct bench_config){
        .device = "lsi53c895a", .children = { "scsi-hd,drive=d0,scsi-id=0,serial=S1,removable=on" },
        .disk_bytes = { DISK } });

    driver_init(d, b);
    driver_clear_attention(d, 0, 0);
    return b;
}

/* One command; len bytes lie at DATA or go there. */
static int run(struct driver *d, const uint8_t *cdb, unsigned cdb_len, uint32_t len)
{
    struct command c = { .tag = 1, .disconnect = true, .cdb = cdb, .cdb_len = cdb_len,
                         .data = DATA, .len = len };
    return driver_do(d, &c);
}
#define RUN(d, len, ...) run(d, (const uint8_t[]){ __VA_ARGS__ }, \
                             sizeof (const uint8_t[]){ __VA_ARGS__ }, len)

/* Sense key and additional sense code of the command that just failed. */
static unsigned sense(struct driver *d)
{
    const uint8_t *buf = bench_ram(d->b) + DATA;
    CHECK_EQ(RUN(d, 18, 0x03, 0, 0, 0, 18, 0), 0);
    return (buf[2] & 15) << 8 | buf[12];
}

BENCH_TEST(the_disk_tells_who_and_how_large_it_is)
{
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    const uint8_t *buf = bench_ram(b) + DATA;

    CHECK_EQ(RUN(&d, 6, 0x12, 1, 0x80, 0, 6, 0), 0);
    CHECK_MEM(buf, "\x00\x80\x00\x02S1", 6);
    CHECK_EQ(RUN(&d, 64, 0x12, 1, 0xb0, 0, 64, 0), 0);
    CHECK_EQ(be16_load(buf + 2), 60);
    CHECK_EQ(RUN(&d, 8, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0);
    CHECK_EQ(be32_load(buf), DISK / BLOCK - 1);
    CHECK_EQ(RUN(&d, 32, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0), 0);
    CHECK_EQ(be64_load(buf), DISK / BLOCK - 1);
    CHECK_EQ(RUN(&d, 16, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0), 0);
    CHECK_EQ(be32_load(buf), 8);
}

BENCH_TEST(write_same_unmap_and_verify_work_on_the_medium)
{
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    uint8_t *buf = bench_ram(b) + DATA;

    memset(buf, 0x5a, BLOCK);
    CHECK_EQ(RUN(&d, BLOCK, 0x41, 0, 0, 0, 0, 8, 0, 0, 40, 0), 0);
    CHECK_EQ(RUN(&d, BLOCK, 0x2f, 2, 0, 0, 0, 47, 0, 0, 1, 0), 0);      /* compares equal */
    memset(buf, 0, 24);
    be16_store(buf, 22);
    be16_store(buf + 2, 16);
    be64_store(buf + 8, 16);
    be32_store(buf + 16, 8);
    CHECK_EQ(RUN(&d, 24, 0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0), 0);
    memset(buf, 0x77, 2 * BLOCK);
    CHECK_EQ(RUN(&d, 2 * BLOCK, 0x28, 0, 0, 0, 0, 15, 0, 0, 2, 0), 0);
    CHECK_EQ(buf[0], 0x5a);                         /* what an unmapped block reads is not said */
    memset(buf, 0, BLOCK);
    CHECK_EQ(RUN(&d, BLOCK, 0x41, 0, 0, 0, 0, 16, 0, 0, 8, 0), 0);
    CHECK_EQ(RUN(&d, 2 * BLOCK, 0x28, 0, 0, 0, 0, 15, 0, 0, 2, 0), 0);
    CHECK_EQ(buf[0], 0x5a);
    CHECK_EQ(buf[BLOCK], 0);
    CHECK_EQ(RUN(&d, 0, 0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0);
}

BENCH_TEST(mode_pages_change_what_may_change)
{
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);
    uint8_t *buf = bench_ram(b) + DATA;

    CHECK_EQ(RUN(&d, 24, 0x1a, 8, 0x08, 0, 24, 0), 0);
    uint8_t before = buf[6];
    buf[0] = 0;
    buf[6] ^= 4;
    CHECK_EQ(RUN(&d, 24, 0x15, 0x10, 0, 0, 24, 0), 0);
    CHECK_EQ(RUN(&d, 24, 0x1a, 8, 0x08, 0, 24, 0), 0);
    CHECK_EQ(buf[6], before ^ 4);
    buf[0] = 0;
    buf[7] = 1;                                     /* may not */
    CHECK_EQ(RUN(&d, 24, 0x15, 0x10, 0, 0, 24, 0), 2);
    CHECK_EQ(sense(&d), 0x526);
}

BENCH_TEST(what_cannot_be_is_refused_with_its_reason)
{
    struct driver d;
    AUTO_BENCH struct bench *b = with_disks(&d);

    (void)b;
    CHECK_EQ(RUN(&d, BLOCK, 0x28, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0), 2);
    CHECK_EQ(sense(&d), 0x521);
    CHECK_EQ(RUN(&d, 0, 0xff, 0, 0, 0, 0, 0), 2);
    CHECK_EQ(sense(&d), 0x520);
    CHECK_EQ(RUN(&d, 0, 0x1e, 0, 0, 0, 1, 0), 0);
    CHECK_EQ(RUN(&d, 0, 0x1b, 0, 0, 0, 2, 0), 2);   /* locked in */
    CHECK_EQ(sense(&d), 0x553);
    CHECK_EQ(RUN(&d, 0, 0x1e, 0, 0, 0, 0, 0), 0);
    CHECK_EQ(RUN(&d, 0, 0x1b, 0, 0, 0, 2, 0), 0);
    CHECK_EQ(RUN(&d, 0, 0x00, 0, 0, 0, 0, 0), 2);
    CHECK_EQ(sense(&d), 0x23a);
}

TEST_MAIN
