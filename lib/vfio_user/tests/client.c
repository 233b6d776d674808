/* SPDX-License-Identifier: Apache-2.0 */
/* The client end against a server that is nothing but a script of bytes, in a second thread. */
#include "base/test.h"

#include "base/fd.h"
#include "raw.h"
#include "vfio_user/client.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>

#define VERSION_REPLY "\0\0\2\0{\"capabilities\":{\"max_msg_fds\":8}}"

/* Long where an answer comes: the machine may be busy. Short where it must be waited for. */
enum { LONG_MS = 20000, SHORT_MS = 1000 };

/* The server's part: runs after it has answered VERSION; returning closes its end. */
typedef void script_fn(int fd);

struct setup {
    struct loop *loop;
    struct vfu_client *c;
    int server_fd;
    pthread_t thread;
    script_fn *script;
    unsigned fds_before, failed;
    char reason[512];
    uint8_t memory[4096];
};

static void failed(void *opaque, const char *reason)
{
    struct setup *t = opaque;
    t->failed++;
    snprintf(t->reason, sizeof t->reason, "%s", reason);
}

static int mem_read(void *opaque, uint64_t addr, void *buf, size_t len)
{
    struct setup *t = opaque;
    if (!range_inside(addr, len, sizeof t->memory))
        return -EFAULT;
    memcpy(buf, t->memory + addr, len);
    return 0;
}

static int mem_write(void *opaque, uint64_t addr, const void *buf, size_t len)
{
    struct setup *t = opaque;
    if (!range_inside(addr, len, sizeof t->memory))
        return -EFAULT;
    memcpy(t->memory + addr, buf, len);
    return 0;
}

static const struct vfu_client_ops ops = { failed, mem_read, mem_write };

static void answer_version(int fd)
{
    struct reply r;
    if (raw_recv_flags(fd, &r, 0) < 0 || r.command != VFU_VERSION)
        abort();
    raw_send_id(fd, r.id, VFU_VERSION, VFU_TYPE_REPLY, VERSION_REPLY, sizeof VERSION_REPLY);
}

static void *run_server(void *opaque)
{
    struct setup *t = opaque;
    t->script(t->server_fd);
    close(t->server_fd);
    return NULL;
}

static int open_client(struct setup *t, script_fn *script, unsigned timeout_ms,
                       struct error *err)
{
    int sv[2];

    memset(t, 0, sizeof *t);
    t->fds_before = count_fds();
    CHECK_EQ(loop_new(&t->loop, NULL), 0);
    raw_pair(sv);
    t->server_fd = sv[1];
    t->script = script;
    CHECK_EQ(pthread_create(&t->thread, NULL, run_server, t), 0);
    return vfu_client_new(&(struct vfu_client_config){ .loop = t->loop, .fd = sv[0],
                          .timeout_ms = timeout_ms, .ops = &ops, .opaque = t }, &t->c, err);
}

static void close_client(struct setup *t)
{
    vfu_client_free(t->c);
    pthread_join(t->thread, NULL);
    loop_free(t->loop);
    CHECK_EQ(count_fds(), t->fds_before);
}

static void start_for(struct setup *t, script_fn *script, unsigned timeout_ms)
{
    CHECK_EQ(open_client(t, script, timeout_ms, NULL), 0);
}
static void start(struct setup *t, script_fn *script) { start_for(t, script, LONG_MS); }

/* The connection failed because of `why`; told once; later calls fail at once. */
static void check_failed(struct setup *t, const char *why)
{
    uint8_t b;

    for (int i = 0; i < 500 && !t->failed; i++)
        loop_turn(t->loop, 20);
    CHECK_EQ(t->failed, 1);
    CHECK_HAS(t->reason, why);
    CHECK(!vfu_client_alive(t->c));
    uint64_t before = clock_now_ns();
    CHECK(vfu_client_read(t->c, 0, 0, &b, 1) < 0);
    CHECK(vfu_client_write(t->c, 0, 0, &b, 1, true) < 0);
    CHECK(clock_now_ns() - before < SHORT_MS * 1000000ull);
    loop_turn(t->loop, 0);
    CHECK_EQ(t->failed, 1);
    close_client(t);
}

static void wait_for_end(int fd)
{
    struct reply r;
    while (raw_recv_flags(fd, &r, 0) >= 0)
        raw_close_fds(&r);
}

/* ---- VERSION ---- */

static void refuse_version(int fd)
{
    struct reply r;
    raw_recv_flags(fd, &r, 0);
    raw_send_id(fd, r.id, VFU_VERSION, VFU_TYPE_REPLY | VFU_ERROR, NULL, 0);
}
static void version_too_high(int fd)
{
    struct reply r;
    raw_recv_flags(fd, &r, 0);
    raw_send_id(fd, r.id, VFU_VERSION, VFU_TYPE_REPLY, "\0\0\3\0", 4);
}
static void version_with_twin_that_is_not_there(int fd)
{
    struct reply r;
    static const char body[] = "\0\0\0\0{\"capabilities\":{\"twin_socket\":{\"supported\":true,"
                               "\"fd_index\":0}}}";
    raw_recv_flags(fd, &r, 0);
    raw_send_id(fd, r.id, VFU_VERSION, VFU_TYPE_REPLY, body, sizeof body);
    wait_for_end(fd);
}
static void version_of_four_bytes(int fd)
{
    struct reply r;
    raw_recv_flags(fd, &r, 0);
    raw_send_id(fd, r.id, VFU_VERSION, VFU_TYPE_REPLY, "\0\0\0\0", 4);
    wait_for_end(fd);
}
static void silence(int fd) { wait_for_end(fd); }
static void just_close(int fd) { }

TEST(version_failures_are_one_clear_sentence)
{
    static const struct { script_fn *script; const char *why; } bad[] = {
        { refuse_version, "refuses VERSION" }, { version_too_high, "minor version 3" },
        { version_with_twin_that_is_not_there, "twin socket" }, { silence, "within 1000 ms" },
        { just_close, "channel failed" },
    };
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        struct setup t;
        struct error err;
        CHECK(open_client(&t, bad[i].script, bad[i].script == silence ? SHORT_MS : LONG_MS,
                          &err) < 0);
        CHECK_HAS(err.text, bad[i].why);
        close_client(&t);
    }
}

TEST(version_reply_of_four_bytes_is_enough)
{
    struct setup t;
    start(&t, version_of_four_bytes);
    CHECK_EQ(vfu_client_server(t.c)->max_msg_fds, 1);
    close_client(&t);
}

/* ---- a good server ---- */

static void serve_reads(int fd)
{
    struct reply r;
    answer_version(fd);
    while (raw_recv_flags(fd, &r, 0) >= 0) {
        uint32_t n = le32_load(r.body + 12);
        if (r.command == VFU_REGION_READ) {
            memset(r.body + 16, 0x11 * (1 + le64_load(r.body) % 8), n);
            raw_send_id(fd, r.id, r.command, VFU_TYPE_REPLY, r.body, 16 + n);
        } else if (!(r.flags & VFU_NO_REPLY)) {
            raw_send_id(fd, r.id, r.command, VFU_TYPE_REPLY, r.body, 16);
        }
    }
}

TEST(reads_and_writes_arrive)
{
    struct setup t;
    uint8_t b[8];

    start(&t, serve_reads);
    CHECK_EQ(vfu_client_read(t.c, 1, 2, b, 8), 0);
    CHECK_MEM(b, "\x33\x33\x33\x33\x33\x33\x33\x33", 8);
    CHECK_EQ(vfu_client_write(t.c, 1, 2, b, 8, false), 0);
    CHECK_EQ(vfu_client_write(t.c, 1, 2, b, 8, true), 0);
    CHECK_EQ(vfu_client_read(t.c, 1, 3, b, 1), 0);
    CHECK_EQ(b[0], 0x44);
    CHECK_EQ(t.failed, 0);
    close_client(&t);
}

static void *read_many(void *opaque)
{
    struct setup *t = opaque;
    uint32_t v;
    for (int i = 0; i < 2000; i++)
        if (vfu_client_read(t->c, 1, i, &v, 4) < 0 || v != 0x11111111u * (1 + i % 8))
            return (void *)1;
    return NULL;
}

TEST(four_threads_share_a_client)
{
    struct setup t;
    pthread_t th[4];
    void *bad;

    start(&t, serve_reads);
    for (int i = 0; i < 4; i++)
        pthread_create(&th[i], NULL, read_many, &t);
    for (int i = 0; i < 4; i++) {
        pthread_join(th[i], &bad);
        CHECK(!bad);
    }
    close_client(&t);
}

static void drip(int fd)
{
    struct reply r;
    struct raw m;
    answer_version(fd);
    raw_recv_flags(fd, &r, 0);
    raw_make(&m, r.command, VFU_TYPE_REPLY, r.body, 16 + 4);
    le16_store(m.bytes, r.id);
    for (size_t i = 0; i < m.len; i++) {
        if (send(fd, m.bytes + i, 1, MSG_NOSIGNAL) != 1)
            return;
        usleep(1000);
    }
    wait_for_end(fd);
}

TEST(a_reply_may_arrive_byte_by_byte)
{
    struct setup t;
    uint32_t v;
    start(&t, drip);
    CHECK_EQ(vfu_client_read(t.c, 1, 0, &v, 4), 0);
    close_client(&t);
}

/* ---- refusals leave the connection alive ---- */

static void refuse_once_with_a_body(int fd)
{
    struct reply r;
    struct raw m;
    answer_version(fd);
    raw_recv_flags(fd, &r, 0);
    raw_make(&m, r.command, VFU_TYPE_REPLY | VFU_ERROR, r.body, 32);    /* as LVU may */
    le16_store(m.bytes, r.id);
    le32_store(m.bytes + 12, ENOSPC);
    raw_write_fds(fd, m.bytes, m.len, NULL, 0);
    raw_recv_flags(fd, &r, 0);
    raw_make(&m, r.command, VFU_TYPE_REPLY | VFU_ERROR, NULL, 0);       /* error 0 */
    le16_store(m.bytes, r.id);
    raw_write_fds(fd, m.bytes, m.len, NULL, 0);
    raw_recv_flags(fd, &r, 0);
    raw_send_id(fd, r.id, r.command, VFU_TYPE_REPLY, NULL, 0);
    wait_for_end(fd);
}

TEST(an_error_reply_fails_its_request_alone)
{
    struct setup t;
    struct error err;

    start(&t, refuse_once_with_a_body);
    CHECK_EQ(vfu_client_reset(t.c, &err), -ENOSPC);
    CHECK_HAS(err.text, "refuses DEVICE_RESET");
    CHECK_EQ(vfu_client_reset(t.c, &err), -EINVAL);
    CHECK_EQ(vfu_client_reset(t.c, &err), 0);
    CHECK(vfu_client_alive(t.c));
    close_client(&t);
}

static void short_read(int fd)
{
    struct reply r;
    answer_version(fd);
    raw_recv_flags(fd, &r, 0);
    le32_store(r.body + 12, 2);
    raw_send_id(fd, r.id, r.command, VFU_TYPE_REPLY, r.body, 16 + 2);
    wait_for_end(fd);
}

TEST(a_short_read_is_a_failed_access)
{
    struct setup t;
    uint32_t v;
    start(&t, short_read);
    CHECK_EQ(vfu_client_read(t.c, 1, 0, &v, 4), -EIO);
    CHECK(vfu_client_alive(t.c));
    close_client(&t);
}

/* ---- lies end the connection ---- */

static void wrong_id(int fd)
{
    struct reply r;
    answer_version(fd);
    raw_recv_flags(fd, &r, 0);
    raw_send_id(fd, r.id + 1, r.command, VFU_TYPE_REPLY, r.body, 20);
    wait_for_end(fd);
}
static void wrong_command(int fd)
{
    struct reply r;
    answer_version(fd);
    raw_recv_flags(fd, &r, 0);
    raw_send_id(fd, r.id, VFU_REGION_WRITE, VFU_TYPE_REPLY, r.body, 20);
    wait_for_end(fd);
}
static void too_long(int fd)
{
    struct reply r;
    answer_version(fd);
    raw_recv_flags(fd, &r, 0);
    raw_send_id(fd, r.id, r.command, VFU_TYPE_REPLY, r.body, 21);
    wait_for_end(fd);
}
static void too_short(int fd)
{
    struct reply r;
    answer_version(fd);
    raw_recv_flags(fd, &r, 0);
    raw_send_id(fd, r.id, r.command, VFU_TYPE_REPLY, r.body, 15);
    wait_for_end(fd);
}
static void garbage(int fd)
{
    answer_version(fd);
    struct reply r;
    raw_recv_flags(fd, &r, 0);
    raw_write_fds(fd, "SSH-2.0-OpenSSH_9.2p1 Debian\r\n", 30, NULL, 0);
    wait_for_end(fd);
}
static void never(int fd)
{
    answer_version(fd);
    wait_for_end(fd);
}
static void drip_for_ever(int fd)
{
    answer_version(fd);
    struct reply r;
    struct raw m;
    raw_recv_flags(fd, &r, 0);
    raw_make(&m, r.command, VFU_TYPE_REPLY, r.body, 20);
    le16_store(m.bytes, r.id);
    for (int i = 0; i < 36; i++) {
        if (send(fd, m.bytes + i, 1, MSG_NOSIGNAL) != 1)
            break;
        usleep(50000);
    }
}
static void half_and_die(int fd)
{
    answer_version(fd);
    struct reply r;
    raw_recv_flags(fd, &r, 0);
    raw_write_fds(fd, "\0\0\11\0\44\0", 6, NULL, 0);
}
static void die_at_once(int fd)
{
    answer_version(fd);
    struct reply r;
    raw_recv_flags(fd, &r, 0);
}

TEST(whatever_the_server_does_to_a_read_the_read_ends)
{
    static const struct { script_fn *script; const char *why; bool waits; } bad[] = {
        { wrong_id, "the answer to REGION_READ" }, { wrong_command, "is to REGION_WRITE" },
        { too_long, "21 bytes" }, { too_short, "15 bytes" }, { garbage, "message" },
        { never, "within 1000 ms", true }, { drip_for_ever, "within 1000 ms", true },
        { half_and_die, "closed" }, { die_at_once, "closed" },
    };
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        struct setup t;
        uint32_t v;
        start_for(&t, bad[i].script, bad[i].waits ? SHORT_MS : LONG_MS);
        uint64_t before = clock_now_ns();
        CHECK(vfu_client_read(t.c, 1, 0, &v, 4) < 0);
        CHECK(clock_now_ns() - before < 10000000000ull);
        check_failed(&t, bad[i].why);
    }
}

static void late_reply(int fd)
{
    struct reply r;
    answer_version(fd);
    raw_recv_flags(fd, &r, 0);
    usleep(SHORT_MS * 1300);
    struct raw m;
    raw_make(&m, r.command, VFU_TYPE_REPLY, r.body, 20);
    if (send(fd, m.bytes, m.len, MSG_NOSIGNAL) < 0)
        return;                                 /* as it should be: the connection is over */
    wait_for_end(fd);
}

TEST(a_reply_after_the_timeout_revives_nothing)
{
    struct setup t;
    uint32_t v;
    start_for(&t, late_reply, SHORT_MS);
    CHECK_EQ(vfu_client_read(t.c, 1, 0, &v, 4), -ETIMEDOUT);
    usleep(500000);
    check_failed(&t, "within 1000 ms");
}

static void die_later(int fd)
{
    answer_version(fd);
    usleep(50000);
}

TEST(a_death_is_noticed_while_nobody_calls)
{
    struct setup t;
    start(&t, die_later);
    check_failed(&t, "closed");
}

static void unasked_reply(int fd)
{
    answer_version(fd);
    raw_send_id(fd, 9, VFU_DEVICE_RESET, VFU_TYPE_REPLY, NULL, 0);
    wait_for_end(fd);
}

TEST(an_answer_to_nothing_ends_the_connection)
{
    struct setup t;
    start(&t, unasked_reply);
    check_failed(&t, "not asked");
}

TEST(the_owner_may_end_a_call_that_waits)
{
    struct setup t;
    pthread_t th;
    void *bad;

    start(&t, never);
    pthread_create(&th, NULL, read_many, &t);
    usleep(20000);
    vfu_client_fail(t.c, "enough of it");
    pthread_join(th, &bad);
    CHECK(bad);
    check_failed(&t, "enough of it");
}

static void no_reading(int fd)
{
    answer_version(fd);
    usleep(SHORT_MS * 3000);
}

TEST(posted_writes_to_a_server_that_does_not_read_end_in_time)
{
    struct setup t;
    uint32_t v = 0;
    int i;

    start_for(&t, no_reading, SHORT_MS);
    for (i = 0; i < 1000000; i++)
        if (vfu_client_write(t.c, 1, 0, &v, 4, true) < 0)
            break;
    CHECK(i < 1000000);
    check_failed(&t, "does not take");
}

static void fds_with_every_reply(int fd)
{
    struct reply r;
    int fds[5] = { 0, 1, 2, 0, 1 };
    struct raw m;

    answer_version(fd);
    while (raw_recv_flags(fd, &r, 0) >= 0) {
        raw_make(&m, r.command, VFU_TYPE_REPLY, NULL, 0);
        le16_store(m.bytes, r.id);
        raw_write_fds(fd, m.bytes, m.len, fds, 5);
    }
}

TEST(unexpected_descriptors_in_replies_are_closed)
{
    struct setup t;

    start(&t, fds_with_every_reply);
    for (int i = 0; i < 2000; i++)
        CHECK_EQ(vfu_client_reset(t.c, NULL), 0);
    close_client(&t);
}

/* ---- information ---- */

static struct vfu_wire_device_info info_reply;
static void serve_info(int fd)
{
    struct reply r;
    answer_version(fd);
    raw_recv_flags(fd, &r, 0);
    raw_send_id(fd, r.id, r.command, VFU_TYPE_REPLY, &info_reply, sizeof info_reply);
    wait_for_end(fd);
}

TEST(device_info_is_bounded)
{
    struct setup t;
    struct vfu_device_info info;
    struct error err;

    info_reply = (struct vfu_wire_device_info){ le32_of(16), le32_of(3), le32_of(9), le32_of(5) };
    start(&t, serve_info);
    CHECK_EQ(vfu_client_device_info(t.c, &info, &err), 0);
    CHECK(info.flags == 3 && info.regions == 9 && info.irqs == 5);
    close_client(&t);

    info_reply.num_regions = le32_of(1 << 30);
    start(&t, serve_info);
    CHECK_EQ(vfu_client_device_info(t.c, &info, &err), -EPROTO);
    check_failed(&t, "1073741824 regions");
}

static uint8_t region_reply[256];
static uint32_t region_argsz;
static bool region_sends_fds;
static void serve_region(int fd)
{
    struct reply r;
    answer_version(fd);
    while (raw_recv_flags(fd, &r, 0) >= 0) {
        uint32_t room = le32_load(r.body);
        struct raw m;
        int fds[3] = { 0, 0, 0 };
        raw_make(&m, r.command, VFU_TYPE_REPLY, region_reply, MIN(room, region_argsz));
        le16_store(m.bytes, r.id);
        raw_write_fds(fd, m.bytes, m.len, fds, region_sends_fds && room >= region_argsz ? 3 : 0);
    }
}

static void make_region(uint64_t size, uint32_t areas, uint64_t off, uint64_t len)
{
    struct vfu_wire_region_info w = { le32_of(64), le32_of(15), le32_of(2), le32_of(32),
                                      le64_of(size), le64_of(0) };
    struct vfu_wire_sparse s = { le16_of(1), le16_of(1), le32_of(0), le32_of(areas), le32_of(0) };
    struct vfu_wire_area a = { le64_of(off), le64_of(len) };

    memcpy(region_reply, &w, 32);
    memcpy(region_reply + 32, &s, 16);
    memcpy(region_reply + 48, &a, 16);
    region_argsz = 64;
    region_sends_fds = true;
}

TEST(region_info_is_asked_again_with_room_for_its_areas)
{
    struct setup t;
    struct vfu_region_info info;
    struct error err;

    make_region(8192, 1, 4096, 4096);
    start(&t, serve_region);
    CHECK_EQ(vfu_client_region_info(t.c, 2, &info, &err), -EPROTO);     /* caps outside 32 bytes */
    check_failed(&t, "no chain");

    make_region(8192, 1, 4096, 4096);
    le32_store(region_reply + 4, 7);
    le32_store(region_reply + 12, 0);
    start(&t, serve_region);
    CHECK_EQ(vfu_client_region_info(t.c, 2, &info, &err), 0);
    CHECK_EQ(info.nareas, 0);
    CHECK(info.fd >= 0);                        /* of three sent, one is kept */
    close(info.fd);
    close_client(&t);
}

TEST(region_answers_that_lie_are_found_out)
{
    struct vfu_region_info info;
    uint32_t argsz;
    struct error err;

    make_region(8192, 1, 4096, 4096);
    CHECK_EQ(vfu_region_info_decode(region_reply, 64, 2, &info, &argsz, &err), 0);
    CHECK_EQ(info.nareas, 1);
    CHECK_EQ(vfu_region_info_decode(region_reply, 64, 3, &info, &argsz, &err), -EPROTO);
    CHECK_EQ(vfu_region_info_decode(region_reply, 60, 2, &info, &argsz, &err), -EPROTO);
    CHECK_EQ(vfu_region_info_decode(region_reply, 40, 2, &info, &argsz, &err), -EPROTO);
    CHECK_EQ(vfu_region_info_decode(region_reply, 31, 2, &info, &argsz, &err), -EPROTO);

    make_region(8192, 1, 4097, 4096);
    CHECK_EQ(vfu_region_info_decode(region_reply, 64, 2, &info, &argsz, &err), -EPROTO);
    make_region(8192, 1, UINT64_MAX, 2);
    CHECK_EQ(vfu_region_info_decode(region_reply, 64, 2, &info, &argsz, &err), -EPROTO);
    make_region(8192, 0x10000001, 0, 4096);
    CHECK_EQ(vfu_region_info_decode(region_reply, 64, 2, &info, &argsz, &err), -EPROTO);
    make_region(8192, 0, 0, 0);
    CHECK_EQ(vfu_region_info_decode(region_reply, 64, 2, &info, &argsz, &err), -EPROTO);
    make_region(8192, 1, 0, 4096);
    le32_store(region_reply + 36, 32);          /* a chain in a circle */
    CHECK_EQ(vfu_region_info_decode(region_reply, 64, 2, &info, &argsz, &err), -EPROTO);
    make_region(8192, 1, 0, 4096);
    le32_store(region_reply + 12, 4);           /* the chain begins inside the struct */
    CHECK_EQ(vfu_region_info_decode(region_reply, 64, 2, &info, &argsz, &err), -EPROTO);
    make_region(UINT64_MAX, 1, 0, 4096);
    le64_store(region_reply + 24, 4096);        /* wraps in the descriptor */
    CHECK_EQ(vfu_region_info_decode(region_reply, 64, 2, &info, &argsz, &err), -EPROTO);
}

/* ---- what is sent ---- */

static unsigned set_irqs_messages, set_irqs_fds;
static void count_set_irqs(int fd)
{
    struct reply r;
    answer_version(fd);
    while (raw_recv_flags(fd, &r, 0) >= 0) {
        set_irqs_messages++;
        set_irqs_fds += r.nfds;
        if (r.command != VFU_DEVICE_SET_IRQS || r.nfds > 8 ||
            (r.nfds && r.nfds != le32_load(r.body + 16)))
            abort();
        raw_close_fds(&r);
        raw_send_id(fd, r.id, r.command, VFU_TYPE_REPLY, NULL, 0);
    }
}

TEST(eventfds_are_sent_as_many_at_a_time_as_the_server_takes)
{
    struct setup t;
    int fds[20] = { 0 };
    struct vfu_irq_set set = { .index = VFU_MSIX, .count = 20, .data = VFU_SET_DATA_EVENTFD,
                               .action = VFU_SET_TRIGGER };

    set_irqs_messages = set_irqs_fds = 0;
    start(&t, count_set_irqs);
    CHECK_EQ(vfu_client_set_irqs(t.c, &set, fds, NULL), 0);
    CHECK_EQ(set_irqs_messages, 3);
    CHECK_EQ(set_irqs_fds, 20);
    CHECK_EQ(vfu_client_set_irqs(t.c, &set, NULL, NULL), 0);
    CHECK_EQ(set_irqs_messages, 4);
    close_client(&t);
}

/* ---- memory by message ---- */

static void ask_memory(int fd)
{
    struct reply r;
    uint8_t body[64] = { 0 };

    answer_version(fd);
    raw_recv_flags(fd, &r, 0);                          /* a read; its reply comes last */
    struct reply q = r;
    le64_store(body, 16);
    le64_store(body + 8, 4);
    memcpy(body + 16, "data", 4);
    raw_send_id(fd, 500, VFU_DMA_WRITE, 0, body, 20);
    if (raw_recv_flags(fd, &r, 0) != 16 || r.id != 500 || r.flags != VFU_TYPE_REPLY)
        abort();
    raw_send_id(fd, 501, VFU_DMA_READ, 0, body, 16);
    if (raw_recv_flags(fd, &r, 0) != 20 || memcmp(r.body + 16, "data", 4) != 0)
        abort();
    le64_store(body, UINT64_MAX);
    raw_send_id(fd, 502, VFU_DMA_READ, 0, body, 16);
    if (raw_recv_flags(fd, &r, 0) != 0 || r.error != EFAULT)
        abort();
    raw_send_id(fd, 503, VFU_DEVICE_RESET, 0, NULL, 0);
    if (raw_recv_flags(fd, &r, 0) != 0 || r.error != ENOSYS)
        abort();
    raw_send_id(fd, q.id, q.command, VFU_TYPE_REPLY, q.body, 20);
    wait_for_end(fd);
}

TEST(memory_is_given_while_a_read_waits_on_the_same_socket)
{
    struct setup t;
    uint32_t v;

    start(&t, ask_memory);
    CHECK_EQ(vfu_client_read(t.c, 1, 0, &v, 4), 0);
    CHECK_MEM(t.memory + 16, "data", 4);
    close_client(&t);
}

static void ask_too_much(int fd)
{
    uint8_t body[16] = { 0 };
    answer_version(fd);
    le64_store(body + 8, UINT64_MAX);
    raw_send_id(fd, 1, VFU_DMA_READ, 0, body, 16);
    wait_for_end(fd);
}

TEST(a_request_for_too_much_memory_ends_the_connection)
{
    struct setup t;
    start(&t, ask_too_much);
    check_failed(&t, "DMA_READ of");
}

static int twin[2];
static bool twin_dies;
static void offer_twin(int fd)
{
    static const char body[] = "\0\0\2\0{\"capabilities\":{\"twin_socket\":{\"supported\":true,"
                               "\"fd_index\":0}}}";
    struct reply r;
    struct raw m;
    uint8_t dma[24] = { 0 };

    raw_pair(twin);
    raw_recv_flags(fd, &r, 0);
    raw_make(&m, VFU_VERSION, VFU_TYPE_REPLY, body, sizeof body);
    le16_store(m.bytes, r.id);
    raw_write_fds(fd, m.bytes, m.len, &twin[1], 1);
    close(twin[1]);
    if (twin_dies) {
        close(twin[0]);
        wait_for_end(fd);
        return;
    }
    le64_store(dma, 8);
    le64_store(dma + 8, 8);
    memcpy(dma + 16, "via twin", 8);
    raw_send_id(twin[0], 1, VFU_DMA_WRITE, 0, dma, 24);
    if (raw_recv_flags(twin[0], &r, 0) != 16)
        abort();
    raw_send_id(twin[0], 2, VFU_DMA_READ, 0, dma, 16);
    if (raw_recv_flags(twin[0], &r, 0) != 24 || memcmp(r.body + 16, "via twin", 8) != 0)
        abort();
    raw_send_id(twin[0], 3, VFU_DMA_READ, 0, dma, 12);          /* too short */
    if (raw_recv_flags(twin[0], &r, 0) >= 0)
        abort();
    close(twin[0]);
    wait_for_end(fd);
}

TEST(memory_is_given_on_the_twin_socket_and_lies_there_end_both)
{
    struct setup t;

    twin_dies = false;
    start(&t, offer_twin);
    check_failed(&t, "DMA_READ with a body of 12 bytes");
}

TEST(the_twin_sockets_end_is_the_channels_end)
{
    struct setup t;

    twin_dies = true;
    start(&t, offer_twin);
    check_failed(&t, "closed");
}

TEST_MAIN
