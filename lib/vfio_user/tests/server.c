/* SPDX-License-Identifier: Apache-2.0 */
/* The server end against a client that is nothing but bytes. */
#include "base/test.h"

#include "base/fd.h"
#include "raw.h"
#include "vfio_user/server.h"

#include <errno.h>

struct device {                 /* what the server shows, and what reached it */
    struct vfu_server *server;
    uint8_t config[256], bar[4096];
    uint64_t mapped[64][2];
    unsigned nmapped, maps, unmaps, resets, set_irqs, gone;
    struct vfu_irq_set last_set;
    unsigned last_nfds;
    bool mmap_bar, in_use;
    int bar_fd;
    int call_back;              /* during a register read: 1 reads guest memory, 2 writes it */
    int call_back_result;
    uint8_t call_back_data[8];
    char reason[512];
};

static void region_info(void *opaque, unsigned index, struct vfu_region_info *info)
{
    struct device *d = opaque;

    if (index == VFU_CONFIG)
        info->size = sizeof d->config;
    else if (index == 1)
        info->size = sizeof d->bar;
    else
        return;
    info->flags = VFU_REGION_READABLE | VFU_REGION_WRITABLE;
    if (index == 1 && d->mmap_bar) {
        info->flags |= VFU_REGION_MMAP;
        info->nareas = 1;
        info->areas[0] = (struct vfu_area){ 1024, 2048 };
        info->fd = d->bar_fd;
    }
}

static void irq_info(void *opaque, unsigned index, struct vfu_irq_info *info)
{
    if (index == VFU_INTX)
        *info = (struct vfu_irq_info){ 7, 1 };
    if (index == VFU_MSIX)
        *info = (struct vfu_irq_info){ VFU_IRQ_EVENTFD, 32 };
}

static uint8_t *bytes(struct device *d, unsigned index)
{
    return index == VFU_CONFIG ? d->config : d->bar;
}

static int region_read(void *opaque, unsigned index, uint64_t off, void *buf, size_t len)
{
    struct device *d = opaque;

    if (d->call_back == 1)
        d->call_back_result = vfu_server_dma_read(d->server, 0x1000, d->call_back_data, 8);
    if (d->call_back == 2)
        d->call_back_result = vfu_server_dma_write(d->server, 0x1000, "01234567", 8);
    memcpy(buf, bytes(d, index) + off, len);
    return 0;
}

static int region_write(void *opaque, unsigned index, uint64_t off, const void *buf, size_t len)
{
    memcpy(bytes(opaque, index) + off, buf, len);
    return 0;
}

static int dma_map(void *opaque, const struct vfu_dma_map *map, int *fd)
{
    struct device *d = opaque;

    if (map->addr == 0xbad000)
        return -EACCES;
    d->maps++;
    if (*fd >= 0)
        close(TAKE_FD(*fd));
    return 0;
}

static bool dma_unmap(void *opaque, uint64_t addr, uint64_t size)
{
    struct device *d = opaque;
    d->unmaps++;
    return !d->in_use;
}

static int set_irqs(void *opaque, const struct vfu_irq_set *set, int *fds)
{
    struct device *d = opaque;

    d->set_irqs++;
    d->last_set = *set;
    d->last_nfds = 0;
    for (unsigned i = 0; fds && i < set->count; i++)
        d->last_nfds += fds[i] >= 0;
    return 0;
}

static void reset(void *opaque) { ((struct device *)opaque)->resets++; }

static void gone(void *opaque, const char *reason)
{
    struct device *d = opaque;

    d->gone++;
    snprintf(d->reason, sizeof d->reason, "%s", reason ? reason : "");
    vfu_server_free(d->server);
    d->server = NULL;
}

static const struct vfu_server_ops ops = {
    region_info, irq_info, region_read, region_write, dma_map, dma_unmap, set_irqs, reset, gone,
};

struct setup {
    struct loop *loop;
    struct device d;
    int fd;                     /* the raw client's end */
    unsigned fds_before;
};

static void open_raw(struct setup *t)
{
    memset(t, 0, sizeof *t);
    t->fds_before = count_fds();
    CHECK_EQ(loop_new(&t->loop, NULL), 0);
    int sv[2];
    raw_pair(sv);
    struct vfu_server_config config = { .loop = t->loop, .fd = sv[0], .device_id = "dev0",
                                        .ops = &ops, .opaque = &t->d, .timeout_ms = 300 };
    CHECK_EQ(vfu_server_new(&config, &t->d.server, NULL), 0);
    t->fd = sv[1];
    t->d.bar_fd = -1;
}

static void turn(struct setup *t)
{
    while (loop_turn(t->loop, 0) > 0)
        ;
}

/* One request, its reply; returns the payload's length, -1 if nothing came. */
static int ask(struct setup *t, unsigned command, const void *body, size_t len, struct reply *r)
{
    raw_send(t->fd, command, 0, body, len, NULL, 0);
    turn(t);
    return raw_recv(t->fd, r);
}

static void hello(struct setup *t)
{
    struct reply r;
    CHECK(ask(t, VFU_VERSION, "\0\0\0\0{}", 7, &r) > 4);
    CHECK_EQ(r.flags, VFU_TYPE_REPLY);
}

static void open_setup(struct setup *t)
{
    open_raw(t);
    hello(t);
}

/* Closes the client's end; the server must be gone, and every descriptor with it. */
static void close_setup(struct setup *t)
{
    if (t->fd >= 0)
        close(t->fd);
    turn(t);
    CHECK_EQ(t->d.gone, 1);
    CHECK_EQ(t->d.maps, t->d.unmaps);
    loop_free(t->loop);
    CHECK_EQ(count_fds(), t->fds_before);
}

/* The message ends the connection, and the reason says `why`. */
static void check_ended(struct setup *t, const char *why)
{
    turn(t);
    CHECK_EQ(t->d.gone, 1);
    CHECK_HAS(t->d.reason, why);
    close_setup(t);
}

static void ends(const void *bytes_, size_t len, const char *why)
{
    struct setup t;
    open_setup(&t);
    CHECK_EQ(write(t.fd, bytes_, len), len);
    check_ended(&t, why);
}

static void body_ends(unsigned command, const void *body, size_t len, const char *why)
{
    struct setup t;
    open_setup(&t);
    raw_send(t.fd, command, 0, body, len, NULL, 0);
    check_ended(&t, why);
}

static void refused(struct setup *t, unsigned command, const void *body, size_t len, int error)
{
    struct reply r;
    CHECK_EQ(ask(t, command, body, len, &r), 0);
    CHECK_EQ(r.flags, VFU_TYPE_REPLY | VFU_ERROR);
    CHECK_EQ(r.error, error);
    CHECK_EQ(r.command, command);
}

/* ---- VERSION ---- */

TEST(version_answers_the_lower_minor_and_fits_qemu)
{
    static const struct { uint16_t asked, answered; } minors[] = { {0, 0}, {1, 1}, {2, 2}, {9, 2} };
    for (unsigned i = 0; i < ARRAY_SIZE(minors); i++) {
        struct setup t;
        struct reply r;
        uint8_t body[64] = { 0 };

        open_raw(&t);
        le16_store(body + 2, minors[i].asked);
        strcpy((char *)body + 4, "{\"capabilities\":{\"max_msg_fds\":16}}");
        int n = ask(&t, VFU_VERSION, body, 5 + strlen((char *)body + 4), &r);
        CHECK(n > 4 && n + 16 <= 214);
        CHECK_EQ(le16_load(r.body), 0);
        CHECK_EQ(le16_load(r.body + 2), minors[i].answered);
        CHECK_EQ(r.body[n - 1], 0);
        CHECK_EQ(r.nfds, 0);

        struct vfu_caps caps;
        CHECK_EQ(vfu_version_decode(r.body, n, true, &caps, NULL), 0);
        CHECK(caps.max_msg_fds == 16 && caps.max_dma_maps >= 32 && caps.max_dma_maps <= 65535);
        CHECK_EQ(caps.pgsizes, 4096);
        CHECK(!caps.write_multiple && !caps.twin_socket && !caps.bulkhead);
        close_setup(&t);
    }
}

TEST(version_of_four_bytes_is_enough)
{
    struct setup t;
    struct reply r;
    open_raw(&t);
    CHECK(ask(&t, VFU_VERSION, "\0\0\0\0", 4, &r) > 4);
    CHECK_EQ(r.flags, VFU_TYPE_REPLY);
    close_setup(&t);
}

TEST(version_gives_a_twin_socket_and_the_device_id_to_who_asks)
{
    struct setup t;
    struct reply r;
    struct vfu_caps caps;
    static const char body[] = "\0\0\2\0{\"capabilities\":{\"max_msg_fds\":8,\"twin_socket\":"
                               "{\"supported\":true},\"bulkhead\":{\"version\":1}}}";
    open_raw(&t);
    int n = ask(&t, VFU_VERSION, body, sizeof body, &r);
    CHECK_EQ(vfu_version_decode(r.body, n, true, &caps, NULL), 0);
    CHECK(caps.twin_socket);
    CHECK_EQ(r.nfds, 1);
    CHECK_EQ(caps.twin_index, 0);
    CHECK_STR(caps.device_id, "dev0");
    raw_close_fds(&r);
    close_setup(&t);
}

TEST(bad_versions_are_refused_and_end_the_connection)
{
    static const struct { const char *body; size_t len; const char *why; } bad[] = {
        { "\0\0", 2, "body of 2" },
        { "\1\0\0\0", 4, "version 1.0" },
        { "\0\0\0\0{}", 6, "NUL" },
        { "\0\0\0\0{", 6, "no JSON" },
        { "\0\0\0\0[]", 7, "no object" },
        { "\0\0\0\0{\"capabilities\":3}", 23, "no object" },
        { "\0\0\0\0{\"capabilities\":{\"max_msg_fds\":-1}}", 40, "max_msg_fds" },
        { "\0\0\0\0{\"capabilities\":{\"max_msg_fds\":2000}}", 42, "max_msg_fds" },
        { "\0\0\0\0{\"capabilities\":{\"pgsizes\":\"x\"}}", 37, "pgsizes" },
        { "\0\0\0\0{\"capabilities\":{\"max_data_xfer_size\":0}}", 46, "max_data_xfer_size" },
    };
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        struct setup t;
        struct reply r;
        open_raw(&t);
        CHECK_EQ(ask(&t, VFU_VERSION, bad[i].body, bad[i].len, &r), 0);
        CHECK_EQ(r.error, EINVAL);
        check_ended(&t, bad[i].why);
    }
}

TEST(second_version_ends_the_connection)
{
    body_ends(VFU_VERSION, "\0\0\0\0", 4, "second VERSION");
}

TEST(nothing_is_served_before_version)
{
    struct setup t;
    open_raw(&t);
    raw_send(t.fd, VFU_DEVICE_RESET, 0, NULL, 0, NULL, 0);
    check_ended(&t, "before VERSION");
    CHECK_EQ(t.d.resets, 0);
}

/* ---- framing ---- */

TEST(a_message_may_arrive_byte_by_byte)
{
    struct setup t;
    struct reply r;
    struct raw m;

    open_setup(&t);
    t.d.config[4] = 0xa5;
    raw_make(&m, VFU_REGION_READ, 0, &(struct vfu_wire_access){ le64_of(4), le32_of(VFU_CONFIG),
                                                                le32_of(1) }, 16);
    for (size_t i = 0; i < m.len; i++) {
        CHECK_EQ(write(t.fd, m.bytes + i, 1), 1);
        turn(&t);
    }
    CHECK_EQ(raw_recv(t.fd, &r), 17);
    CHECK_EQ(r.body[16], 0xa5);
    close_setup(&t);
}

TEST(many_messages_in_one_write_are_answered_in_order)
{
    struct setup t;
    struct reply r;
    uint8_t all[64 * 32];

    open_setup(&t);
    for (unsigned i = 0; i < 64; i++) {
        struct raw m;
        t.d.bar[i] = i;
        raw_make(&m, VFU_REGION_READ, 0, &(struct vfu_wire_access){ le64_of(i), le32_of(1),
                                                                    le32_of(1) }, 16);
        m.bytes[0] = i;
        memcpy(all + i * 32, m.bytes, 32);
    }
    CHECK_EQ(write(t.fd, all, sizeof all), sizeof all);
    turn(&t);
    for (unsigned i = 0; i < 64; i++) {
        CHECK_EQ(raw_recv(t.fd, &r), 17);
        CHECK_EQ(r.id, i);
        CHECK_EQ(r.body[16], i);
    }
    close_setup(&t);
}

TEST(impossible_headers_end_the_connection)
{
    ends("\1\0\15\0\17\0\0\0\0\0\0\0\0\0\0\0", 16, "15 bytes");
    ends("\1\0\15\0\0\0\0\0\0\0\0\0\0\0\0\0", 16, "0 bytes");
    ends("\1\0\15\0\0\0\0\177\0\0\0\0\0\0\0\0", 16, "bytes; 16 to");
    ends("\1\0\15\0\20\0\0\0\2\0\0\0\0\0\0\0", 16, "neither command nor reply");
    ends("\1\0\15\0\20\0\0\0\1\0\0\0\0\0\0\0", 16, "not asked");
}

TEST(bodies_that_are_too_short_end_the_connection)
{
    static const struct { unsigned command, least; } commands[] = {
        { VFU_DMA_MAP, 32 }, { VFU_DMA_UNMAP, 24 }, { VFU_DEVICE_GET_INFO, 16 },
        { VFU_DEVICE_GET_REGION_INFO, 32 }, { VFU_DEVICE_GET_REGION_IO_FDS, 16 },
        { VFU_DEVICE_GET_IRQ_INFO, 16 }, { VFU_DEVICE_SET_IRQS, 20 }, { VFU_REGION_READ, 16 },
        { VFU_REGION_WRITE, 16 }, { VFU_REGION_WRITE_MULTI, 8 },
    };
    uint8_t zero[32] = { 0 };
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
        body_ends(commands[i].command, zero, commands[i].least - 1,
                  vfu_command_name(commands[i].command));
        body_ends(commands[i].command, zero, 0, vfu_command_name(commands[i].command));
    }
}

TEST(a_client_that_leaves_in_mid_message_is_told_apart)
{
    struct setup t;
    open_setup(&t);
    CHECK_EQ(write(t.fd, "\1\0\15\0\20", 5), 5);
    turn(&t);
    close(t.fd);
    t.fd = -1;
    check_ended(&t, "middle of a message");

    open_setup(&t);
    close_setup(&t);
    CHECK_STR(t.d.reason, "");
}

TEST(unknown_commands_are_refused_and_no_more)
{
    struct setup t;
    struct reply r;

    open_setup(&t);
    refused(&t, 14, "abcd", 4, ENOSYS);
    refused(&t, 77, NULL, 0, ENOSYS);
    refused(&t, 65535, NULL, 0, ENOSYS);
    refused(&t, VFU_DMA_READ, "0123456789abcdef", 16, ENOSYS);
    refused(&t, VFU_DEVICE_FEATURE, "01234567", 8, EINVAL);
    CHECK_EQ(ask(&t, VFU_DEVICE_RESET, NULL, 0, &r), 0);
    CHECK_EQ(r.error, 0);
    close_setup(&t);
}

TEST(no_reply_is_honoured_for_every_command)
{
    struct setup t;
    struct reply r;
    uint8_t zero[64] = { 0 };

    open_setup(&t);
    for (unsigned c = VFU_DMA_UNMAP; c <= VFU_DEVICE_FEATURE + 4; c++)
        if (c != VFU_REGION_WRITE)              /* its zeros would contradict its length */
            raw_send(t.fd, c, VFU_NO_REPLY, zero, sizeof zero, NULL, 0);
    raw_send(t.fd, VFU_REGION_WRITE, VFU_NO_REPLY,
             "\10\0\0\0\0\0\0\0\7\0\0\0\4\0\0\0abcd", 20, NULL, 0);
    CHECK_EQ(ask(&t, VFU_DEVICE_RESET, NULL, 0, &r), 0);
    CHECK_EQ(r.command, VFU_DEVICE_RESET);      /* the only one */
    CHECK_EQ(t.d.resets, 2);
    CHECK_MEM(t.d.config + 8, "abcd", 4);
    CHECK_EQ(raw_recv(t.fd, &r), -1);
    close_setup(&t);
}

TEST(a_client_that_does_not_read_is_not_read_from)
{
    struct setup t;
    struct raw m;
    struct reply r;
    uint64_t sent = 0, got = 0;

    open_setup(&t);
    fd_set_nonblock(t.fd, true);
    raw_make(&m, VFU_REGION_READ, 0, &(struct vfu_wire_access){ le64_of(0), le32_of(1),
                                                                le32_of(4096) }, 16);
    for (int i = 0; i < 100000; i++) {          /* stops when both socket buffers are full */
        if (write(t.fd, m.bytes, m.len) != (ssize_t)m.len) {
            turn(&t);
            if (write(t.fd, m.bytes, m.len) != (ssize_t)m.len)
                break;
        }
        sent++;
    }
    CHECK(sent < 100000);
    CHECK_EQ(t.d.gone, 0);
    while (got < sent) {                        /* nothing was lost */
        turn(&t);
        int n = raw_recv(t.fd, &r);
        if (n < 0)
            break;
        CHECK_EQ(n, 16 + 4096);
        got++;
    }
    CHECK_EQ(got, sent);
    close_setup(&t);
}

TEST(a_client_that_closes_with_an_answer_stuck_is_let_go)
{
    struct setup t;
    struct raw m;

    open_setup(&t);
    fd_set_nonblock(t.fd, true);
    raw_make(&m, VFU_REGION_READ, 0, &(struct vfu_wire_access){ le64_of(0), le32_of(1),
                                                                le32_of(4096) }, 16);
    for (int i = 0; i < 1000; i++) {
        ssize_t n = write(t.fd, m.bytes, m.len);
        if (n < 0)
            break;
        turn(&t);
    }
    close_setup(&t);
}

/* ---- descriptors ---- */

TEST(unexpected_descriptors_are_closed)
{
    struct setup t;
    struct reply r;
    int fds[3] = { 0, 1, 2 };

    open_setup(&t);
    unsigned before = count_fds();
    raw_send(t.fd, VFU_DEVICE_RESET, 0, NULL, 0, fds, 3);
    turn(&t);
    CHECK_EQ(raw_recv(t.fd, &r), 0);
    raw_send(t.fd, 77, 0, NULL, 0, fds, 3);
    turn(&t);
    CHECK_EQ(raw_recv(t.fd, &r), 0);
    CHECK_EQ(count_fds(), before);
    close_setup(&t);
}

TEST(more_descriptors_than_allowed_end_the_connection)
{
    struct setup t;
    int fds[20] = { 0 };

    open_setup(&t);
    raw_send(t.fd, VFU_DEVICE_RESET, 0, NULL, 0, fds, 17);
    check_ended(&t, "descriptors");

    open_setup(&t);                             /* gathered over the parts of one message */
    raw_write_fds(t.fd, "\1\0\15\0", 4, fds, 10);
    turn(&t);
    raw_write_fds(t.fd, "\20\0\0\0", 4, fds, 10);
    turn(&t);
    raw_write_fds(t.fd, "\0\0\0\0\0\0\0\0", 8, fds, 1);
    check_ended(&t, "descriptors");
}

TEST(descriptors_go_with_their_message_not_with_its_neighbours)
{
    struct setup t;
    struct reply r;
    int fd = eventfd_new();
    struct raw m;

    open_setup(&t);
    /* A request, then one with a descriptor, then another: all unread when the server wakes. */
    raw_send(t.fd, VFU_DEVICE_RESET, 0, NULL, 0, NULL, 0);
    raw_make(&m, VFU_DEVICE_SET_IRQS, 0, &(struct vfu_wire_irq_set){ le32_of(20), le32_of(0x24),
             le32_of(VFU_INTX), le32_of(0), le32_of(1) }, 20);
    raw_write_fds(t.fd, m.bytes, m.len, &fd, 1);
    raw_send(t.fd, VFU_DEVICE_RESET, 0, NULL, 0, NULL, 0);
    turn(&t);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(raw_recv(t.fd, &r), 0);
        CHECK_EQ(r.error, 0);
    }
    CHECK_EQ(t.d.last_nfds, 1);
    close_setup(&t);
    close(fd);
}

TEST(a_descriptor_on_the_first_byte_of_a_split_header_arrives)
{
    struct setup t;
    struct reply r;
    struct raw m;
    int fd = eventfd_new();

    open_setup(&t);
    raw_make(&m, VFU_DEVICE_SET_IRQS, 0, &(struct vfu_wire_irq_set){ le32_of(20), le32_of(0x24),
             le32_of(VFU_INTX), le32_of(0), le32_of(1) }, 20);
    raw_write_fds(t.fd, m.bytes, 1, &fd, 1);
    turn(&t);
    CHECK_EQ(write(t.fd, m.bytes + 1, m.len - 1), m.len - 1);
    turn(&t);
    CHECK_EQ(raw_recv(t.fd, &r), 0);
    CHECK_EQ(r.error, 0);
    CHECK_EQ(t.d.last_nfds, 1);
    close_setup(&t);
    close(fd);
}

/* ---- DMA ---- */

static int map(struct setup *t, uint64_t addr, uint64_t size, uint64_t off, uint32_t flags, int fd)
{
    struct vfu_wire_dma_map w = { le32_of(32), le32_of(flags), le64_of(off), le64_of(addr),
                                  le64_of(size) };
    struct reply r;

    raw_send(t->fd, VFU_DMA_MAP, 0, &w, sizeof w, &fd, fd >= 0);
    turn(t);
    CHECK_EQ(raw_recv(t->fd, &r), 0);
    return r.error;
}

static int unmap(struct setup *t, uint64_t addr, uint64_t size, uint32_t flags)
{
    struct vfu_wire_dma_unmap w = { le32_of(24), le32_of(flags), le64_of(addr), le64_of(size) };
    struct reply r;

    int n = ask(t, VFU_DMA_UNMAP, &w, sizeof w, &r);
    CHECK_EQ(n, r.error ? 0 : 24);
    return r.error;
}

TEST(dma_ranges_are_mapped_repeated_and_unmapped_exactly)
{
    struct setup t;
    int mem = memfd_new("t", 1 << 20, 0), other = memfd_new("u", 1 << 20, 0);

    open_setup(&t);
    CHECK_EQ(map(&t, 0x10000, 0x4000, 0, 3, mem), 0);
    CHECK_EQ(map(&t, 0x10000, 0x4000, 0, 3, mem), 0);           /* the same again */
    CHECK_EQ(t.d.maps, 1);
    CHECK_EQ(map(&t, 0x10000, 0x4000, 0x1000, 3, mem), EEXIST);
    CHECK_EQ(map(&t, 0x10000, 0x4000, 0, 3, other), EEXIST);
    CHECK_EQ(map(&t, 0x13000, 0x4000, 0, 3, mem), EEXIST);
    CHECK_EQ(map(&t, 0xf000, 0x1001, 0, 3, mem), EEXIST);
    CHECK_EQ(map(&t, 0xc000, 0x10000, 0, 3, mem), EEXIST);
    CHECK_EQ(map(&t, 0x14000, 0x1000, 0, 1, -1), 0);            /* no descriptor: tolerated */
    CHECK_EQ(map(&t, 0xf000, 0x1000, 0, 3, -1), 0);
    CHECK_EQ(unmap(&t, 0x10000, 0x1000, 0), ENOENT);
    CHECK_EQ(unmap(&t, 0x11000, 0x1000, 0), ENOENT);
    CHECK_EQ(unmap(&t, 0x90000, 0x1000, 0), ENOENT);
    CHECK_EQ(unmap(&t, 0x10000, 0x4000, 0), 0);
    CHECK_EQ(unmap(&t, 0x10000, 0x4000, 0), ENOENT);
    CHECK_EQ(unmap(&t, 0, 0, VFU_UNMAP_ALL), 0);
    CHECK_EQ(t.d.unmaps, 3);
    CHECK_EQ(map(&t, 0x10000, 0x4000, 0, 3, mem), 0);           /* left for the disconnection */
    CHECK_EQ(map(&t, 0xbad000, 0x1000, 0, 3, mem), EACCES);
    close_setup(&t);
    close(mem);
    close(other);
}

TEST(unmap_is_answered_when_nothing_uses_the_range_any_more)
{
    struct setup t;
    struct reply r;
    struct vfu_wire_dma_unmap w = { le32_of(24), le32_of(VFU_UNMAP_ALL), le64_of(0), le64_of(0) };

    open_setup(&t);
    CHECK_EQ(map(&t, 0x1000, 0x1000, 0, 3, -1), 0);
    CHECK_EQ(map(&t, 0x3000, 0x1000, 0, 3, -1), 0);
    t.d.in_use = true;
    raw_send(t.fd, VFU_DMA_UNMAP, 0, &w, sizeof w, NULL, 0);
    raw_send(t.fd, VFU_DEVICE_RESET, 0, NULL, 0, NULL, 0);
    turn(&t);
    vfu_server_unmapped(t.d.server);
    turn(&t);
    CHECK_EQ(raw_recv(t.fd, &r), -1);
    CHECK_EQ(t.d.resets, 0);                            /* in order: it waits too */
    vfu_server_unmapped(t.d.server);
    turn(&t);
    CHECK_EQ(raw_recv(t.fd, &r), 24);
    CHECK_EQ(r.command, VFU_DMA_UNMAP);
    CHECK_EQ(raw_recv(t.fd, &r), 0);
    CHECK_EQ(r.command, VFU_DEVICE_RESET);

    CHECK_EQ(map(&t, 0x1000, 0x1000, 0, 3, -1), 0);
    raw_send(t.fd, VFU_DMA_UNMAP, 0, &w, sizeof w, NULL, 0);
    turn(&t);
    close(t.fd);                                        /* and who does not wait, goes */
    t.fd = -1;
    turn(&t);
    close_setup(&t);
}

TEST(dma_requests_that_make_no_sense_are_refused)
{
    struct setup t;
    int mem = memfd_new("t", 1 << 20, 0);

    open_setup(&t);
    CHECK_EQ(map(&t, 0x1000, 0, 0, 3, -1), EINVAL);
    CHECK_EQ(map(&t, UINT64_MAX - 0xfff, 0x2000, 0, 3, -1), EINVAL);
    CHECK_EQ(map(&t, 0, 0x2000, UINT64_MAX - 0xfff, 3, mem), EINVAL);
    CHECK_EQ(map(&t, 0, 0x2000, 0, 0x13, -1), EINVAL);
    CHECK_EQ(map(&t, 0, 0x2000, 0, 7, -1), EINVAL);
    CHECK_EQ(unmap(&t, 0, 0, 0), EINVAL);
    CHECK_EQ(unmap(&t, 0, 0x1000, VFU_UNMAP_ALL), EINVAL);
    CHECK_EQ(unmap(&t, 0, 0x1000, 1), EINVAL);
    CHECK_EQ(unmap(&t, UINT64_MAX, 2, 0), EINVAL);
    refused(&t, VFU_DMA_MAP, "\37\0\0\0\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\20\0\0\0\0\0\0",
            32, EINVAL);                                        /* argsz 31 */
    CHECK_EQ(t.d.maps, 0);
    close_setup(&t);
    close(mem);
}

TEST(dma_map_with_two_descriptors_ends_the_connection)
{
    struct setup t;
    struct vfu_wire_dma_map w = { le32_of(32), le32_of(3), le64_of(0), le64_of(0), le64_of(4096) };
    int fds[2] = { 0, 1 };

    open_setup(&t);
    raw_send(t.fd, VFU_DMA_MAP, 0, &w, sizeof w, fds, 2);
    check_ended(&t, "2 descriptors");
}

TEST(many_dma_ranges_fit_and_stay_sorted)
{
    struct setup t;

    open_setup(&t);
    for (uint64_t i = 0; i < 200; i++)
        CHECK_EQ(map(&t, (i * 37 % 200) * 0x2000, 0x1000, 0, 3, -1), 0);
    CHECK_EQ(map(&t, 0x2800, 0x100, 0, 3, -1), EEXIST);
    CHECK_EQ(map(&t, 0x3000, 0x1000, 0, 3, -1), 0);
    for (uint64_t i = 0; i < 200; i++)
        CHECK_EQ(unmap(&t, i * 0x2000, 0x1000, 0), 0);
    close_setup(&t);
}

/* ---- information ---- */

TEST(device_info_says_pci_and_resettable)
{
    struct setup t;
    struct reply r;

    open_setup(&t);
    CHECK_EQ(ask(&t, VFU_DEVICE_GET_INFO, "\40\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16, &r), 16);
    CHECK_EQ(le32_load(r.body), 16);
    CHECK_EQ(le32_load(r.body + 4), 3);
    CHECK_EQ(le32_load(r.body + 8), 9);
    CHECK_EQ(le32_load(r.body + 12), 5);
    refused(&t, VFU_DEVICE_GET_INFO, "\17\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16, EINVAL);
    close_setup(&t);
}

TEST(region_info_is_complete_only_when_there_is_room)
{
    struct setup t;
    struct reply r;
    struct vfu_wire_region_info w = { .argsz = le32_of(32), .index = le32_of(1) };

    open_setup(&t);
    for (uint32_t i = 0; i < VFU_PCI_REGIONS; i++) {    /* none may fail */
        w.index = le32_of(i);
        CHECK_EQ(ask(&t, VFU_DEVICE_GET_REGION_INFO, &w, sizeof w, &r), 32);
        CHECK_EQ(le32_load(r.body), 32);
        CHECK_EQ(le32_load(r.body + 8), i);
        CHECK_EQ(le64_load(r.body + 16), i == 1 ? 4096 : i == VFU_CONFIG ? 256 : 0);
    }
    w.index = le32_of(9);
    refused(&t, VFU_DEVICE_GET_REGION_INFO, &w, sizeof w, EINVAL);

    t.d.mmap_bar = true;
    t.d.bar_fd = memfd_new("bar", 4096, 0);
    w.index = le32_of(1);
    CHECK_EQ(ask(&t, VFU_DEVICE_GET_REGION_INFO, &w, sizeof w, &r), 32);
    CHECK_EQ(le32_load(r.body), 64);
    CHECK_EQ(le32_load(r.body + 4), 7);                 /* no caps flag yet */
    CHECK_EQ(r.nfds, 0);
    w.argsz = le32_of(64);
    CHECK_EQ(ask(&t, VFU_DEVICE_GET_REGION_INFO, &w, sizeof w, &r), 64);
    CHECK_EQ(le32_load(r.body + 4), 15);
    CHECK_EQ(r.nfds, 1);
    struct vfu_region_info info;
    uint32_t argsz;
    CHECK_EQ(vfu_region_info_decode(r.body, 64, 1, &info, &argsz, NULL), 0);
    CHECK_EQ(info.nareas, 1);
    CHECK_EQ(info.areas[0].offset, 1024);
    CHECK_EQ(info.areas[0].size, 2048);
    raw_close_fds(&r);
    close(t.d.bar_fd);

    uint8_t longer[48] = { 0 };                         /* SPDK's request */
    t.d.mmap_bar = false;
    w.argsz = le32_of(48);
    memcpy(longer, &w, sizeof w);
    CHECK_EQ(ask(&t, VFU_DEVICE_GET_REGION_INFO, longer, sizeof longer, &r), 32);
    close_setup(&t);
}

TEST(region_io_fds_is_an_empty_list)
{
    struct setup t;
    struct reply r;

    open_setup(&t);
    CHECK_EQ(ask(&t, VFU_DEVICE_GET_REGION_IO_FDS, "\20\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0", 16, &r), 16);
    CHECK_EQ(le32_load(r.body), 16);
    CHECK_EQ(le32_load(r.body + 12), 0);
    refused(&t, VFU_DEVICE_GET_REGION_IO_FDS, "\20\0\0\0\0\0\0\0\377\0\0\0\0\0\0\0", 16, EINVAL);
    close_setup(&t);
}

/* ---- interrupts ---- */

static int set(struct setup *t, uint32_t flags, uint32_t index, uint32_t start, uint32_t count,
               unsigned nfds)
{
    struct vfu_wire_irq_set w = { le32_of(20), le32_of(flags), le32_of(index), le32_of(start),
                                  le32_of(count) };
    int fds[VFU_FDS_MAX] = { 0 };
    struct reply r;

    raw_send(t->fd, VFU_DEVICE_SET_IRQS, 0, &w, sizeof w, fds, nfds);
    turn(t);
    CHECK_EQ(raw_recv(t->fd, &r), 0);
    return r.error;
}

TEST(set_irqs_reaches_the_device_checked)
{
    struct setup t;
    struct reply r;

    open_setup(&t);
    CHECK_EQ(ask(&t, VFU_DEVICE_GET_IRQ_INFO, "\20\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16, &r), 16);
    CHECK_EQ(le32_load(r.body + 4), 7);
    CHECK_EQ(le32_load(r.body + 12), 1);
    refused(&t, VFU_DEVICE_GET_IRQ_INFO, "\20\0\0\0\0\0\0\0\5\0\0\0\0\0\0\0", 16, EINVAL);

    CHECK_EQ(set(&t, 0x24, VFU_MSIX, 0, 16, 16), 0);
    CHECK_EQ(t.d.last_nfds, 16);
    CHECK_EQ(set(&t, 0x24, VFU_MSIX, 0, 32, 0), 0);
    CHECK_EQ(set(&t, 0x21, VFU_MSIX, 0, 0, 0), 0);
    CHECK_EQ(set(&t, 0x09, VFU_INTX, 0, 1, 0), 0);
    CHECK_EQ(set(&t, 0x14, VFU_INTX, 0, 1, 1), 0);
    CHECK_EQ(t.d.set_irqs, 5);

    CHECK_EQ(set(&t, 0x24, VFU_MSIX, 1, 32, 0), EINVAL);
    CHECK_EQ(set(&t, 0x24, VFU_MSIX, UINT32_MAX, 2, 2), EINVAL);
    CHECK_EQ(set(&t, 0x24, VFU_ERR, 0, 1, 0), EINVAL);
    CHECK_EQ(set(&t, 0x24, 5, 0, 0, 0), EINVAL);
    CHECK_EQ(set(&t, 0x25, VFU_MSIX, 0, 1, 0), EINVAL);
    CHECK_EQ(set(&t, 0x34, VFU_MSIX, 0, 1, 0), EINVAL);
    CHECK_EQ(set(&t, 0x04, VFU_MSIX, 0, 1, 0), EINVAL);
    CHECK_EQ(set(&t, 0x124, VFU_MSIX, 0, 1, 0), EINVAL);
    CHECK_EQ(t.d.set_irqs, 5);
    CHECK_EQ(set(&t, 0x21, VFU_ERR, 0, 0, 0), 0);       /* disable of nothing: harmless */
    close_setup(&t);
}

TEST(set_irqs_that_contradicts_itself_ends_the_connection)
{
    static const struct { uint32_t flags, count; unsigned nfds; } bad[] = {
        { 0x24, 2, 1 }, { 0x24, 1, 2 }, { 0x21, 1, 1 }, { 0x22, 4, 0 },
    };
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        struct setup t;
        struct vfu_wire_irq_set w = { le32_of(20), le32_of(bad[i].flags), le32_of(VFU_MSIX),
                                      le32_of(0), le32_of(bad[i].count) };
        int fds[2] = { 0, 1 };
        open_setup(&t);
        raw_send(t.fd, VFU_DEVICE_SET_IRQS, 0, &w, sizeof w, fds, bad[i].nfds);
        check_ended(&t, "SET_IRQS");
        CHECK_EQ(t.d.set_irqs, 0);
    }
}

/* ---- accesses ---- */

static int read_error(struct setup *t, uint32_t region, uint64_t off, uint32_t count)
{
    struct vfu_wire_access w = { le64_of(off), le32_of(region), le32_of(count) };
    struct reply r;

    int n = ask(t, VFU_REGION_READ, &w, sizeof w, &r);
    CHECK_EQ(n, r.error ? 0 : (int)(16 + count));
    return r.error;
}

TEST(reads_stay_inside_the_region)
{
    struct setup t;

    open_setup(&t);
    CHECK_EQ(read_error(&t, VFU_CONFIG, 0, 256), 0);
    CHECK_EQ(read_error(&t, VFU_CONFIG, 0, 0), 0);
    CHECK_EQ(read_error(&t, 1, 4095, 1), 0);
    CHECK_EQ(read_error(&t, 1, 0, 4096), 0);
    CHECK_EQ(read_error(&t, 1, 4095, 2), EINVAL);
    CHECK_EQ(read_error(&t, 1, UINT64_MAX, 1), EINVAL);
    CHECK_EQ(read_error(&t, 1, UINT64_MAX - 1, 4), EINVAL);
    CHECK_EQ(read_error(&t, 1, 0, UINT32_MAX), EINVAL);
    CHECK_EQ(read_error(&t, 0, 0, 1), EINVAL);
    CHECK_EQ(read_error(&t, 9, 0, 1), EINVAL);
    CHECK_EQ(read_error(&t, UINT32_MAX, 0, 1), EINVAL);
    close_setup(&t);
}

TEST(writes_echo_the_struct_and_stay_inside_the_region)
{
    struct setup t;
    struct reply r;

    open_setup(&t);
    CHECK_EQ(ask(&t, VFU_REGION_WRITE, "\374\17\0\0\0\0\0\0\1\0\0\0\4\0\0\0wxyz", 20, &r), 16);
    CHECK_EQ(le32_load(r.body + 12), 4);
    CHECK_MEM(t.d.bar + 4092, "wxyz", 4);
    refused(&t, VFU_REGION_WRITE, "\375\17\0\0\0\0\0\0\1\0\0\0\4\0\0\0wxyz", 20, EINVAL);
    refused(&t, VFU_REGION_WRITE, "\377\377\377\377\377\377\377\377\1\0\0\0\4\0\0\0wxyz", 20,
            EINVAL);
    close_setup(&t);
    body_ends(VFU_REGION_WRITE, "\0\0\0\0\0\0\0\0\1\0\0\0\5\0\0\0wxyz", 20, "5 bytes has 4");
    body_ends(VFU_REGION_WRITE, "\0\0\0\0\0\0\0\0\1\0\0\0\3\0\0\0wxyz", 20, "3 bytes has 4");
}

TEST(write_multi_writes_in_order_and_counts)
{
    struct setup t;
    struct reply r;
    struct { le64 n; struct vfu_wire_write_multi w[3]; } m = { le64_of(3), {
        { le64_of(0), le32_of(1), le32_of(4), "abcd" }, { le64_of(2), le32_of(1), le32_of(2), "XY" },
        { le64_of(8), le32_of(1), le32_of(8), "12345678" } } };

    open_setup(&t);
    CHECK_EQ(ask(&t, VFU_REGION_WRITE_MULTI, &m, sizeof m, &r), 8);
    CHECK_EQ(le64_load(r.body), 3);
    CHECK_MEM(t.d.bar, "abXY", 4);
    CHECK_MEM(t.d.bar + 8, "12345678", 8);
    m.w[1].offset = le64_of(4096);
    refused(&t, VFU_REGION_WRITE_MULTI, &m, sizeof m, EINVAL);
    close_setup(&t);

    m.w[1].count = le32_of(9);
    m.w[1].offset = le64_of(0);
    body_ends(VFU_REGION_WRITE_MULTI, &m, sizeof m, "9 bytes");
    m.n = le64_of(4);
    body_ends(VFU_REGION_WRITE_MULTI, &m, sizeof m, "4 writes");
    m.n = le64_of(0x0aaaaaaaaaaaaaabull);       /* times 24 it wraps to 8 */
    body_ends(VFU_REGION_WRITE_MULTI, &m, sizeof m, "writes");
}

/* ---- memory by message ---- */

TEST(requests_that_come_while_waiting_for_memory_are_served_after)
{
    struct setup t;
    struct reply r;
    uint8_t read_reply[24] = { 0 };

    open_setup(&t);
    t.d.call_back = 1;
    t.d.config[0] = 0x77;
    raw_send(t.fd, VFU_REGION_READ, 0, "\0\0\0\0\0\0\0\0\7\0\0\0\1\0\0\0", 16, NULL, 0);
    /* Before its answers stands a request of another thread of the client. */
    raw_send(t.fd, VFU_DEVICE_RESET, 0, NULL, 0, NULL, 0);
    raw_send_id(t.fd, 0, VFU_DMA_WRITE, VFU_TYPE_REPLY, read_reply, 16);
    le64_store(read_reply, 0x1000);
    le64_store(read_reply + 8, 8);
    memcpy(read_reply + 16, "memory!!", 8);
    raw_send_id(t.fd, 1, VFU_DMA_READ, VFU_TYPE_REPLY, read_reply, 24);
    turn(&t);
    CHECK_EQ(t.d.call_back_result, 0);
    CHECK_MEM(t.d.call_back_data, "memory!!", 8);
    CHECK_EQ(raw_recv(t.fd, &r), 16);
    CHECK_EQ(r.command, VFU_DMA_WRITE);         /* the probe */
    CHECK_EQ(raw_recv(t.fd, &r), 16);
    CHECK_EQ(r.command, VFU_DMA_READ);
    CHECK_EQ(raw_recv(t.fd, &r), 17);
    CHECK_EQ(r.body[16], 0x77);
    CHECK_EQ(raw_recv(t.fd, &r), 0);
    CHECK_EQ(r.command, VFU_DEVICE_RESET);
    CHECK_EQ(t.d.resets, 1);
    t.d.call_back = 0;
    close_setup(&t);
}

TEST(qemu_10_gets_memory_messages_in_its_own_layout)
{
    static const char read_register[] = "\0\0\0\0\0\0\0\0\7\0\0\0\1\0\0\0";
    struct setup t;
    struct reply r;
    uint8_t body[24] = { 0 };

    open_setup(&t);
    t.d.call_back = 1;
    raw_send(t.fd, VFU_REGION_READ, 0, read_register, 16, NULL, 0);
    raw_send_id(t.fd, 0, VFU_DMA_WRITE, VFU_TYPE_REPLY, NULL, 0);   /* what tells it */
    le64_store(body, 0x1000);
    le32_store(body + 8, 8);
    memcpy(body + 12, "old data", 8);
    raw_send_id(t.fd, 1, VFU_DMA_READ, VFU_TYPE_REPLY, body, 24);
    turn(&t);
    CHECK_EQ(t.d.call_back_result, 0);
    CHECK_MEM(t.d.call_back_data, "old data", 8);
    CHECK_EQ(raw_recv(t.fd, &r), 16);
    CHECK_EQ(le64_load(r.body + 8), 0);                             /* the probe writes nothing */
    CHECK_EQ(raw_recv(t.fd, &r), 16);
    CHECK_EQ(le32_load(r.body + 8), 8);
    CHECK_EQ(raw_recv(t.fd, &r), 17);

    t.d.call_back = 2;
    raw_send(t.fd, VFU_REGION_READ, 0, read_register, 16, NULL, 0);
    raw_send_id(t.fd, 2, VFU_DMA_WRITE, VFU_TYPE_REPLY, NULL, 0);
    turn(&t);
    CHECK_EQ(t.d.call_back_result, 0);
    CHECK_EQ(raw_recv(t.fd, &r), 24);
    CHECK_EQ(le64_load(r.body), 0x1000);
    CHECK_EQ(le32_load(r.body + 8), 8);
    CHECK_MEM(r.body + 12, "01234567\0\0\0\0", 12);
    CHECK_EQ(raw_recv(t.fd, &r), 17);
    t.d.call_back = 0;
    close_setup(&t);
}

TEST(memory_by_message_from_a_silent_client_times_out)
{
    struct setup t;

    open_setup(&t);
    t.d.call_back = 1;
    raw_send(t.fd, VFU_REGION_READ, 0, "\0\0\0\0\0\0\0\0\7\0\0\0\1\0\0\0", 16, NULL, 0);
    turn(&t);
    CHECK_EQ(t.d.call_back_result, -ETIMEDOUT);
    check_ended(&t, "request for memory");
}

TEST_MAIN
