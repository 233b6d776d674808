/* SPDX-License-Identifier: Apache-2.0 */
/* Client and server against each other, the server in a second thread. */
#include "base/test.h"

#include "base/fd.h"
#include "raw.h"
#include "vfio_user/client.h"
#include "vfio_user/server.h"

#include <errno.h>
#include <pthread.h>

enum { MEMORY = 3 << 20, BAR = 1 << 21 };

struct far {                    /* the server's thread */
    struct loop *loop;
    struct vfu_server *server;
    struct task *task;
    uint8_t *bar;
    int dma_result;
    bool dma_during_read;
};

struct setup {
    struct loop *loop;          /* the client's */
    struct vfu_client *c;
    struct far far;
    pthread_t thread;
    uint8_t *memory;
    unsigned fds_before, fd_maps;
    _Atomic bool dma_done;
};

static void region_info(void *opaque, unsigned index, struct vfu_region_info *info)
{
    if (index == 0) {
        info->size = BAR;
        info->flags = VFU_REGION_READABLE | VFU_REGION_WRITABLE;
    }
}

static void irq_info(void *opaque, unsigned index, struct vfu_irq_info *info) {}

/* What is written to address X of memory by message comes back rotated by one, and is larger than
 * what the peer takes at a time. */
static int round_trip(struct far *far, size_t len)
{
    uint8_t *buf = malloc(len);

    int r = vfu_server_dma_read(far->server, 64, buf, len);
    for (size_t i = 0; r == 0 && i < len; i++)
        buf[i]++;
    if (r == 0)
        r = vfu_server_dma_write(far->server, 64, buf, len);
    free(buf);
    return r;
}

static int region_read(void *opaque, unsigned index, uint64_t off, void *buf, size_t len)
{
    struct far *far = opaque;

    if (far->dma_during_read)
        far->dma_result = round_trip(far, 2 << 20);
    memcpy(buf, far->bar + off, len);
    return 0;
}

static int region_write(void *opaque, unsigned index, uint64_t off, const void *buf, size_t len)
{
    struct far *far = opaque;
    memcpy(far->bar + off, buf, len);
    return 0;
}

static int dma_map_nothing(void *opaque, const struct vfu_dma_map *map, int *fd) { return 0; }
static bool dma_unmap_nothing(void *opaque, uint64_t addr, uint64_t size) { return true; }
static int set_no_irqs(void *opaque, const struct vfu_irq_set *set, int *fds) { return 0; }
static void reset(void *opaque) {}

static void gone(void *opaque, const char *reason)
{
    struct far *far = opaque;
    vfu_server_free(TAKE_PTR(far->server));
    loop_quit(far->loop, reason ? 1 : 0);
}

static const struct vfu_server_ops server_ops = {
    region_info, irq_info, region_read, region_write, dma_map_nothing, dma_unmap_nothing,
    set_no_irqs, reset, gone,
};

static void *run(void *opaque)
{
    struct far *far = opaque;
    return (void *)(intptr_t)loop_run(far->loop);
}

static int mem_read(void *opaque, uint64_t addr, void *buf, size_t len)
{
    struct setup *t = opaque;
    if (!range_inside(addr, len, MEMORY))
        return -EFAULT;
    memcpy(buf, t->memory + addr, len);
    return 0;
}

static int mem_write(void *opaque, uint64_t addr, const void *buf, size_t len)
{
    struct setup *t = opaque;
    if (!range_inside(addr, len, MEMORY))
        return -EFAULT;
    memcpy(t->memory + addr, buf, len);
    return 0;
}

static const struct vfu_client_ops client_ops = { NULL, mem_read, mem_write };

static void open_both(struct setup *t)
{
    int sv[2];
    struct error err;

    memset(t, 0, sizeof *t);
    t->fds_before = count_fds();
    t->memory = malloc(MEMORY);
    t->far.bar = calloc(1, BAR);
    raw_pair(sv);
    CHECK_EQ(loop_new(&t->loop, &err), 0);
    CHECK_EQ(loop_new(&t->far.loop, &err), 0);
    struct vfu_server_config sc = { .loop = t->far.loop, .fd = sv[0], .device_id = "dev \"7\"",
                                    .ops = &server_ops, .opaque = &t->far };
    CHECK_EQ(vfu_server_new(&sc, &t->far.server, &err), 0);
    CHECK_EQ(pthread_create(&t->thread, NULL, run, &t->far), 0);
    struct vfu_client_config cc = { .loop = t->loop, .fd = sv[1], .ops = &client_ops,
                                    .opaque = t };
    CHECK_EQ(vfu_client_new(&cc, &t->c, &err), 0);
}

static void close_both(struct setup *t)
{
    void *status;

    vfu_client_free(t->c);
    pthread_join(t->thread, &status);
    CHECK_EQ((intptr_t)status, 0);
    loop_free(t->loop);
    loop_free(t->far.loop);
    free(t->memory);
    free(t->far.bar);
    CHECK_EQ(count_fds(), t->fds_before);
}

TEST(two_of_ours_agree_on_everything)
{
    struct setup t;

    open_both(&t);
    const struct vfu_caps *s = vfu_client_server(t.c);
    CHECK_EQ(s->minor, VFU_MINOR);
    CHECK_EQ(s->max_msg_fds, VFU_FDS_MAX);
    CHECK_EQ(s->bulkhead, 1);
    CHECK_STR(s->device_id, "dev \"7\"");
    CHECK(s->twin_socket);
    close_both(&t);
}

TEST(large_accesses_are_split_and_arrive_whole)
{
    struct setup t;
    uint8_t *a = malloc(BAR), *b = malloc(BAR);

    open_both(&t);
    for (size_t i = 0; i < BAR; i++)
        a[i] = i * 7 + (i >> 11);
    CHECK_EQ(vfu_client_write(t.c, 0, 0, a, BAR, false), 0);
    CHECK_EQ(vfu_client_read(t.c, 0, 0, b, BAR), 0);
    CHECK_MEM(a, b, BAR);
    CHECK_EQ(vfu_client_write(t.c, 0, 5, a, BAR - 5, true), 0);
    CHECK_EQ(vfu_client_read(t.c, 0, 5, b, BAR - 5), 0);
    CHECK_MEM(a, b, BAR - 5);
    CHECK_EQ(vfu_client_read(t.c, 0, BAR - 1, b, 2), -EINVAL);
    CHECK(vfu_client_alive(t.c));
    close_both(&t);
    free(a);
    free(b);
}

static void *read_one(void *opaque)
{
    struct setup *t = opaque;
    uint32_t v;
    int r = vfu_client_read(t->c, 0, 0, &v, 4);
    t->dma_done = true;
    return (void *)(intptr_t)r;
}

TEST(memory_goes_over_the_twin_socket_while_a_read_waits)
{
    struct setup t;
    pthread_t cpu;
    void *r;

    open_both(&t);
    for (size_t i = 0; i < MEMORY; i++)
        t.memory[i] = i * 3;
    t.far.dma_during_read = true;
    pthread_create(&cpu, NULL, read_one, &t);
    while (!t.dma_done)
        loop_turn(t.loop, 10);
    pthread_join(cpu, &r);
    CHECK(r == NULL);
    CHECK_EQ(t.far.dma_result, 0);
    for (size_t i = 0; i < MEMORY; i++)
        if (t.memory[i] != (uint8_t)(i * 3 + (i >= 64 && i < 64 + (2 << 20))))
            fail_msg("byte %zu", i);
    close_both(&t);
}

TEST(a_register_read_costs_microseconds)
{
    enum { N = 20000 };
    struct setup t;
    uint32_t v;

    open_both(&t);
    uint64_t before = clock_now_ns();
    for (int i = 0; i < N; i++)
        CHECK_EQ(vfu_client_read(t.c, 0, 0, &v, 4), 0);
    uint64_t read_ns = clock_now_ns() - before;
    before = clock_now_ns();
    for (int i = 0; i < N; i++)
        CHECK_EQ(vfu_client_write(t.c, 0, 0, &v, 4, true), 0);
    uint64_t posted_ns = clock_now_ns() - before;
    printf("# read %.1f us, posted write %.1f us\n", read_ns / 1e3 / N, posted_ns / 1e3 / N);
    CHECK(read_ns / N < 5000000);
    close_both(&t);
}

TEST_MAIN
