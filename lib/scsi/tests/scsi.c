/* SPDX-License-Identifier: Apache-2.0 */
/* Each test runs twice: straight through, and with save and load at every step. */
#include "base/test.h"

#include "fake.h"

static const char *const one_disk[] = { "scsi-hd,id=d0,drive=x,serial=S1,wwn=0x5000c50015ea71ac", NULL };
static const char *const disk_and_cd[] = {
    "scsi-hd,id=d0,drive=x,scsi-id=0", "scsi-hd,id=d1,drive=y,scsi-id=0,lun=3,removable=on",
    "scsi-cd,id=c0,drive=z,scsi-id=2", "scsi-cd,id=c1,scsi-id=3", NULL };

struct reply { enum scsi_status status; uint8_t key, asc, ascq; size_t len, residual; uint8_t data[XFER_MAX]; };
static struct reply re;

static const struct reply *to(struct world *w, unsigned target, unsigned lun, const uint8_t *cdb,
                              size_t len, const void *out, size_t out_len)
{
    struct command *c = command_new(w, target, lun, cdb, len, out, out_len);
    CHECK(c->req);
    command_run(w, c);
    CHECK(c->done);
    re.status = c->status;
    re.len = c->len;
    re.residual = c->residual;
    memcpy(re.data, c->data, c->len);
    re.key = c->status == SCSI_CHECK_CONDITION ? c->sense[2] & 0xf : 0;
    re.asc = c->status == SCSI_CHECK_CONDITION ? c->sense[12] : 0;
    re.ascq = c->status == SCSI_CHECK_CONDITION ? c->sense[13] : 0;
    command_free(w, c);
    return &re;
}

#define DO(w, ...) to(w, 0, 0, (const uint8_t[]){ __VA_ARGS__ }, \
                      sizeof (const uint8_t[]){ __VA_ARGS__ }, NULL, 0)
#define SEND(w, out, n, ...) to(w, 0, 0, (const uint8_t[]){ __VA_ARGS__ }, \
                                sizeof (const uint8_t[]){ __VA_ARGS__ }, out, n)
#define AT(w, t, l, ...) to(w, t, l, (const uint8_t[]){ __VA_ARGS__ }, \
                            sizeof (const uint8_t[]){ __VA_ARGS__ }, NULL, 0)
#define CHECK_SENSE(k, a, q) do { CHECK_EQ(re.status, SCSI_CHECK_CONDITION); \
    CHECK_EQ(re.key, k); CHECK_EQ(re.asc, a); CHECK_EQ(re.ascq, q); } while (0)

#define TWICE(name)                                                                 \
    static void name##_body(struct world *w);                                       \
    TEST(name) { struct world w; world_begin(&w, one_disk, false); name##_body(&w); world_end(&w); } \
    TEST(name##_with_save_and_load) { struct world w; world_begin(&w, one_disk, true); name##_body(&w); \
        world_end(&w); }                                                            \
    static void name##_body(struct world *w)

TWICE(first_command_reports_power_on_once)
{
    DO(w, TEST_UNIT_READY, 0, 0, 0, 0, 0);
    CHECK_SENSE(0x6, 0x29, 0x00);
    DO(w, TEST_UNIT_READY, 0, 0, 0, 0, 0);
    CHECK_EQ(re.status, SCSI_GOOD);
}

TWICE(inquiry_does_not_consume_the_unit_attention)
{
    DO(w, INQUIRY, 0, 0, 0, 96, 0);
    CHECK_EQ(re.status, SCSI_GOOD);
    CHECK_EQ(re.len, 96);
    CHECK_EQ(re.data[0], 0);
    CHECK_MEM(re.data + 8, "BULKHEADDISK            0.1 ", 28);
    CHECK(re.data[7] & 2);
    DO(w, INQUIRY, 0, 0, 0, 36, 0);
    CHECK_EQ(re.len, 36);
    DO(w, INQUIRY, 0, 0, 0, 255, 0);
    CHECK_EQ(re.residual, 255 - 96);
    DO(w, REQUEST_SENSE, 0, 0, 0, 18, 0);
    CHECK_EQ(re.data[2], 6);
    CHECK_EQ(re.data[12], 0x29);
    DO(w, TEST_UNIT_READY, 0, 0, 0, 0, 0);
    CHECK_EQ(re.status, SCSI_GOOD);
    DO(w, INQUIRY, 0, 5, 0, 36, 0);             /* page code without EVPD */
    CHECK_SENSE(0x5, 0x24, 0x00);
}

TWICE(vpd_pages_name_the_disk)
{
    DO(w, INQUIRY, 1, 0x00, 0, 64, 0);
    CHECK_MEM(re.data, "\x00\x00\x00\x06\x00\x80\x83\xb0\xb1\xb2", 10);
    DO(w, INQUIRY, 1, 0x80, 0, 64, 0);
    CHECK_MEM(re.data, "\x00\x80\x00\x02S1", 6);
    DO(w, INQUIRY, 1, 0x83, 0, 128, 0);
    CHECK_MEM(re.data + 4, "\x02\x01\x00\x0a" "BULKHEADS1", 14);
    CHECK_MEM(re.data + 18, "\x01\x03\x00\x08\x50\x00\xc5\x00\x15\xea\x71\xac", 12);
    DO(w, INQUIRY, 1, 0xb0, 0, 64, 0);
    CHECK_EQ(re.len, 64);
    CHECK_EQ(be32_load(re.data + 28), 8);       /* granularity: 4 KiB */
    DO(w, INQUIRY, 1, 0xc0, 0, 64, 0);
    CHECK_SENSE(0x5, 0x24, 0x00);
}

TWICE(capacity_is_told_in_both_sizes)
{
    AT(w, 0, 0, TEST_UNIT_READY, 0, 0, 0, 0, 0);
    DO(w, READ_CAPACITY_10, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    CHECK_EQ(be32_load(re.data), FAKE_BYTES / 512 - 1);
    CHECK_EQ(be32_load(re.data + 4), 512);
    DO(w, SERVICE_ACTION_IN_16, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0);
    CHECK_EQ(be64_load(re.data), FAKE_BYTES / 512 - 1);
    CHECK_EQ(re.data[14], 0x80);
    DO(w, SERVICE_ACTION_IN_16, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0);
    CHECK_SENSE(0x5, 0x24, 0x00);
}

static void fill(uint8_t *p, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++, seed = seed * 1103515245 + 12345)
        p[i] = seed >> 16;
}

TWICE(data_written_is_data_read_across_chunks)
{
    static uint8_t out[400 * 1024];
    fill(out, sizeof out, 1);
    DO(w, TEST_UNIT_READY, 0, 0, 0, 0, 0);
    SEND(w, out, sizeof out, WRITE_10, 0, 0, 0, 0, 5, 0, 800 >> 8, 800 & 255, 0);
    CHECK_EQ(re.status, SCSI_GOOD);
    CHECK_EQ(re.residual, 0);
    CHECK_MEM(fake.disk + 5 * 512, out, sizeof out);
    DO(w, READ_16, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 800 >> 8, 800 & 255, 0, 0);
    CHECK_EQ(re.len, sizeof out);
    CHECK_MEM(re.data, out, sizeof out);
    DO(w, READ_6, 0, 0, 5, 0, 0);               /* 0 means 256 */
    CHECK_EQ(re.len, 256 * 512);
    DO(w, READ_12, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0);
    CHECK_EQ(re.status, SCSI_GOOD);
    CHECK_EQ(re.len, 0);
    SEND(w, out, 512, WRITE_10, 8, 0, 0, 0, 5, 0, 0, 1, 0);
    CHECK_EQ(fake.fuas, 1);
    DO(w, SYNCHRONIZE_CACHE_10, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    CHECK_EQ(fake.flushes, 1);
}

TWICE(ranges_past_the_end_are_refused)
{
    uint32_t blocks = FAKE_BYTES / 512;
    DO(w, TEST_UNIT_READY, 0, 0, 0, 0, 0);
    DO(w, READ_10, 0, 0, 0, (blocks - 1) >> 8, (blocks - 1) & 255, 0, 0, 2, 0);
    CHECK_SENSE(0x5, 0x21, 0x00);
    DO(w, READ_10, 0, 0, 0, (blocks - 1) >> 8, (blocks - 1) & 255, 0, 0, 1, 0);
    CHECK_EQ(re.status, SCSI_GOOD);
    DO(w, READ_16, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 2, 0, 0);
    CHECK_SENSE(0x5, 0x21, 0x00);
    DO(w, WRITE_16, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0);
    CHECK_SENSE(0x5, 0x21, 0x00);
    DO(w, READ_10, 0x20, 0, 0, 0, 0, 0, 0, 1, 0);       /* protection information */
    CHECK_SENSE(0x5, 0x24, 0x00);
    DO(w, 0xff, 0, 0, 0, 0, 0);
    CHECK_SENSE(0x5, 0x20, 0x00);
    DO(w, READ_10, 0, 0);                               /* cut short */
    CHECK_SENSE(0x5, 0x20, 0x00);
}

TWICE(a_failing_back_end_becomes_sense_data)
{
    static const struct { int error; uint8_t key, asc, ascq; } table[] = {
        { -EIO, 0x3, 0x11, 0 }, { -ENOMEM, 0x4, 0x44, 0 }, { -ENOMEDIUM, 0x2, 0x3a, 0 },
    };
    DO(w, TEST_UNIT_READY, 0, 0, 0, 0, 0);
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        fake.fail_next = table[i].error;
        DO(w, READ_10, 0, 0, 0, 0, 9, 0, 0, 1, 0);
        CHECK_SENSE(table[i].key, table[i].asc, table[i].ascq);
        CHECK_EQ(re.residual, 512);
    }
    fake.fail_next = -ENOSPC;
    SEND(w, fake.disk, 512, WRITE_10, 0, 0, 0, 0, 9, 0, 0, 1, 0);
    CHECK_SENSE(0x7, 0x27, 0x07);
    fake.fail_next = -EIO;
    DO(w, SYNCHRONIZE_CACHE_10, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    CHECK_SENSE(0x3, 0x0c, 0x00);
}

TWICE(verify_reads_or_compares)
{
    uint8_t out[1024];
    fill(fake.disk, 4096, 3);
    memcpy(out, fake.disk, sizeof out);
    DO(w, TEST_UNIT_READY, 0, 0, 0, 0, 0);
    DO(w, VERIFY_10, 0, 0, 0, 0, 0, 0, 0, 2, 0);
    CHECK_EQ(re.status, SCSI_GOOD);
    SEND(w, out, sizeof out, VERIFY_10, 2, 0, 0, 0, 0, 0, 0, 2, 0);
    CHECK_EQ(re.status, SCSI_GOOD);
    out[600] ^= 1;
    SEND(w, out, sizeof out, VERIFY_10, 2, 0, 0, 0, 0, 0, 0, 2, 0);
    CHECK_SENSE(0xe, 0x1d, 0x00);
}

TWICE(unmap_and_write_same_change_only_what_they_name)
{
    uint8_t list[8 + 32] = { 0 }, pattern[512];
    memset(fake.disk, 0xaa, sizeof fake.disk);
    DO(w, TEST_UNIT_READY, 0, 0, 0, 0, 0);
    be16_store(list, 38);
    be16_store(list + 2, 32);
    be64_store(list + 8, 8);
    be32_store(list + 16, 8);
    be64_store(list + 24, 100);
    be32_store(list + 32, 4);
    SEND(w, list, sizeof list, UNMAP, 0, 0, 0, 0, 0, 0, 0, sizeof list, 0);
    CHECK_EQ(re.status, SCSI_GOOD);
    CHECK_EQ(fake.discards, 2);
    CHECK_EQ(fake.disk[8 * 512 - 1], 0xaa);
    CHECK_EQ(fake.disk[8 * 512], 0);
    CHECK_EQ(fake.disk[16 * 512], 0xaa);
    CHECK_EQ(fake.disk[103 * 512], 0);
    be64_store(list + 8, FAKE_BYTES / 512);
    SEND(w, list, sizeof list, UNMAP, 0, 0, 0, 0, 0, 0, 0, sizeof list, 0);
    CHECK_SENSE(0x5, 0x21, 0x00);
    CHECK_EQ(fake.discards, 2);                 /* all or nothing was checked first */

    fill(pattern, sizeof pattern, 7);
    SEND(w, pattern, 512, WRITE_SAME_10, 0, 0, 0, 1, 0, 0, 700 >> 8, 700 & 255, 0);
    CHECK_EQ(re.status, SCSI_GOOD);
    CHECK_MEM(fake.disk + 256 * 512, pattern, 512);
    CHECK_MEM(fake.disk + 955 * 512, pattern, 512);
    CHECK_EQ(fake.disk[956 * 512], 0xaa);
    DO(w, WRITE_SAME_16, 0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0);    /* NDOB */
    CHECK_EQ(re.status, SCSI_GOOD);
    CHECK_EQ(fake.disk[3 * 512], 0);
    CHECK_EQ(fake.disk[4 * 512], 0xaa);
    DO(w, WRITE_SAME_16, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    CHECK_SENSE(0x5, 0x24, 0x00);
}

TWICE(mode_pages_tell_and_change_the_write_cache)
{
    DO(w, TEST_UNIT_READY, 0, 0, 0, 0, 0);
    DO(w, MODE_SENSE_6, 8, 0x08, 0, 255, 0);
    CHECK_EQ(re.len, 24);
    CHECK_EQ(re.data[4], 8);
    CHECK_EQ(re.data[6], 4);                    /* WCE */
    uint8_t select[24];
    memcpy(select, re.data, 24);
    select[0] = 0;
    select[6] = 0;
    SEND(w, select, 24, MODE_SELECT_6, 0x10, 0, 0, 24, 0);
    CHECK_EQ(re.status, SCSI_GOOD);
    DO(w, MODE_SENSE_6, 8, 0x08, 0, 255, 0);
    CHECK_EQ(re.data[6], 0);
    select[7] = 1;                              /* not changeable */
    SEND(w, select, 24, MODE_SELECT_6, 0x10, 0, 0, 24, 0);
    CHECK_SENSE(0x5, 0x26, 0x00);
    DO(w, MODE_SENSE_10, 0, 0x3f, 0, 0, 0, 0, 1, 0, 0);
    CHECK_EQ(be16_load(re.data) + 2, re.len);
    CHECK_EQ(be16_load(re.data + 6), 8);
    CHECK_EQ(be32_load(re.data + 8), FAKE_BYTES / 512);
    DO(w, MODE_SENSE_6, 0, 0xc8, 0, 255, 0);
    CHECK_SENSE(0x5, 0x39, 0x00);
    DO(w, MODE_SENSE_6, 0, 0x1c, 0, 255, 0);
    CHECK_SENSE(0x5, 0x24, 0x00);
    SEND(w, select, 3, MODE_SELECT_6, 0x10, 0, 0, 3, 0);
    CHECK_SENSE(0x5, 0x1a, 0x00);
}

static void with_cd(bool checkpoints)
{
    struct world w;
    world_begin(&w, disk_and_cd, checkpoints);
    AT(&w, 0, 0, REPORT_LUNS, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0);
    CHECK_EQ(be32_load(re.data), 16);
    CHECK_EQ(re.data[8 + 1], 0);
    CHECK_EQ(re.data[16 + 1], 3);
    AT(&w, 0, 5, INQUIRY, 0, 0, 0, 36, 0);
    CHECK_EQ(re.data[0], 0x7f);
    AT(&w, 0, 5, TEST_UNIT_READY, 0, 0, 0, 0, 0);
    CHECK_SENSE(0x5, 0x25, 0x00);
    bool exact;
    CHECK(!scsi_find(w.hba->bus, 9, 0, &exact));

    /* Eject and load of a removable disk. */
    AT(&w, 0, 3, TEST_UNIT_READY, 0, 0, 0, 0, 0);
    AT(&w, 0, 3, PREVENT_ALLOW, 0, 0, 0, 1, 0);
    AT(&w, 0, 3, START_STOP_UNIT, 0, 0, 0, 2, 0);
    CHECK_SENSE(0x5, 0x53, 0x02);
    AT(&w, 0, 3, PREVENT_ALLOW, 0, 0, 0, 0, 0);
    AT(&w, 0, 3, START_STOP_UNIT, 0, 0, 0, 2, 0);
    CHECK_EQ(re.status, SCSI_GOOD);
    AT(&w, 0, 3, READ_10, 0, 0, 0, 0, 0, 0, 0, 1, 0);
    CHECK_SENSE(0x2, 0x3a, 0x00);
    AT(&w, 0, 3, START_STOP_UNIT, 0, 0, 0, 3, 0);
    AT(&w, 0, 3, TEST_UNIT_READY, 0, 0, 0, 0, 0);
    CHECK_SENSE(0x6, 0x28, 0x00);

    AT(&w, 2, 0, TEST_UNIT_READY, 0, 0, 0, 0, 0);
    AT(&w, 2, 0, INQUIRY, 0, 0, 0, 36, 0);
    CHECK_EQ(re.data[0], 5);
    AT(&w, 2, 0, READ_CAPACITY_10, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    CHECK_EQ(be32_load(re.data), FAKE_BYTES / 2048 - 1);
    CHECK_EQ(be32_load(re.data + 4), 2048);
    AT(&w, 2, 0, READ_TOC, 0, 0, 0, 0, 0, 0, 0, 100, 0);
    CHECK_EQ(re.len, 20);
    CHECK_EQ(re.data[14], 0xaa);
    CHECK_EQ(be32_load(re.data + 16), FAKE_BYTES / 2048);
    AT(&w, 2, 0, WRITE_10, 0, 0, 0, 0, 0, 0, 0, 1, 0);
    CHECK_SENSE(0x5, 0x20, 0x00);
    AT(&w, 2, 0, READ_CD, 0, 0, 0, 0, 1, 0, 0, 2, 0x10, 0, 0);
    CHECK_EQ(re.len, 4096);
    AT(&w, 2, 0, GET_CONFIGURATION, 0, 0, 0, 0, 0, 0, 1, 0, 0);
    CHECK_EQ(be16_load(re.data + 6), 8);        /* CD-ROM profile */
    AT(&w, 3, 0, TEST_UNIT_READY, 0, 0, 0, 0, 0);
    AT(&w, 3, 0, TEST_UNIT_READY, 0, 0, 0, 0, 0);
    CHECK_SENSE(0x2, 0x3a, 0x00);
    world_end(&w);
}
TEST(luns_ejection_and_cdrom) { with_cd(false); }
TEST(luns_ejection_and_cdrom_with_save_and_load) { with_cd(true); }

TEST(read_only_disk_refuses_writes_with_data_protect)
{
    struct world w;
    world_begin(&w, (const char *const[]){ NULL }, false);
    fake.read_only = true;
    w.devices = one_disk;
    obj_tree_fini(&w.tree);
    world_build(&w);
    DO(&w, TEST_UNIT_READY, 0, 0, 0, 0, 0);
    SEND(&w, fake.disk, 512, WRITE_10, 0, 0, 0, 0, 0, 0, 0, 1, 0);
    CHECK_SENSE(0x7, 0x27, 0x00);
    DO(&w, MODE_SENSE_6, 0, 0x3f, 0, 255, 0);
    CHECK_EQ(re.data[2] & 0x80, 0x80);
    world_end(&w);
}

TEST(cancel_and_reset_end_a_command_at_every_stage)
{
    static const uint8_t read[10] = { READ_10, 0, 0, 0, 0, 0, 0, 3, 0, 0 };
    for (int stage = 0; stage < 8; stage++)
        for (int reset = 0; reset < 2; reset++) {
            struct world w;
            world_begin(&w, one_disk, false);
            DO(&w, TEST_UNIT_READY, 0, 0, 0, 0, 0);
            struct command *c = command_new(&w, 0, 0, read, sizeof read, NULL, 0);
            if (stage)
                scsi_start(c->req);
            for (int i = 1; i < stage && !c->done; i++)
                command_step(&w, c);
            bool finished = c->done;
            if (reset)
                scsi_bus_reset(w.hba->bus);
            else
                scsi_cancel(c->req);
            while (!c->done && fake_step()) {}
            CHECK(c->done);
            CHECK_EQ(c->was_cancelled, !finished);
            command_free(&w, c);
            DO(&w, TEST_UNIT_READY, 0, 0, 0, 0, 0);
            if (reset)
                CHECK_SENSE(0x6, 0x29, 0x02);
            else
                CHECK_EQ(re.status, SCSI_GOOD);
            world_end(&w);
        }
}

TEST(many_commands_are_in_flight_and_one_more_is_too_many)
{
    static const uint8_t read[10] = { READ_10, 0, 0, 0, 0, 0, 0, 0, 1, 0 };
    struct world w;
    struct command *c[257];

    world_begin(&w, one_disk, false);
    DO(&w, TEST_UNIT_READY, 0, 0, 0, 0, 0);
    for (int i = 0; i < 257; i++)
        c[i] = command_new(&w, 0, 0, read, sizeof read, NULL, 0);
    CHECK(!c[256]->req);
    for (int i = 0; i < 256; i++)
        scsi_start(c[i]->req);
    CHECK_EQ(world_checkpoint(&w), 0);
    for (int i = 0; i < 256; i++)
        while (!c[i]->done)
            CHECK(command_step(&w, c[i]));
    for (int i = 0; i < 256; i++)
        CHECK_EQ(c[i]->status, SCSI_GOOD);
    world_end(&w);
}

TEST(addresses_are_claimed_once_and_errors_say_by_whom)
{
    static const struct { const char *text, *part; } bad[] = {
        { "scsi-hd,drive=x,scsi-id=0", "is taken by 'd0'" },
        { "scsi-hd,drive=x,scsi-id=7", "host adapter's own" },
        { "scsi-hd,drive=x,scsi-id=16", "'scsi-id' must be from 0 to 15" },
        { "scsi-hd,drive=x,lun=8", "'lun' must be from 0 to 7" },
        { "scsi-hd,drive=x,channel=1", "channel 0 only" },
        { "scsi-hd", "'drive' is missing" },
        { "scsi-hd,drive=x,serial=0123456789012345678901234567890123456", "longer than 36" },
        { "scsi-hd,drive=x,logical_block_size=1000", "power of two" },
        { "scsi-hd,drive=x,physical_block_size=256", "'physical_block_size'" },
        { "scsi-hd,drive=x,write-cache=maybe", "one of auto, on, off" },
        { "scsi-cd,drive=x,logical_block_size=512", "blocks of 2048" },
    };
    struct world w;
    struct object *obj;
    struct error err;

    world_begin(&w, one_disk, false);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        CHECK(world_add(&w, bad[i].text, &obj, &err) < 0);
        CHECK_HAS(err.text, bad[i].part);
    }
    for (int i = 0; i < 14; i++)
        CHECK_EQ(world_add(&w, "scsi-cd", &obj, &err), 0);
    CHECK(world_add(&w, "scsi-cd", &obj, &err) < 0);
    CHECK_HAS(err.text, "every SCSI bus is full");
    world_end(&w);
}

TEST_MAIN
