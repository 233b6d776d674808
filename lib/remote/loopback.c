/* SPDX-License-Identifier: Apache-2.0 */
#include "remote/loopback.h"

#include "base/fd.h"
#include "remote/endpoint.h"
#include "vfio_user/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

enum { TIMEOUT_MS = 20000, BUS_NAME_MAX = 32 };     /* sanitizers are slow, machines are busy */

struct call {
    loopback_fn *fn;
    void *opaque;
    bool done;
};

struct loopback {
    struct loopback_config config;

    /* the tests' thread */
    struct loop *loop;
    struct vfu_client *client;
    int ram_fd;
    uint8_t *ram;
    int intx_fd, unmask_fd;
    unsigned vectors;
    unsigned index;                     /* VFU_MSIX or VFU_MSI */
    int *vector_fds;

    /* the second thread */
    pthread_t thread;
    struct loop *far_loop;
    struct obj_tree tree;
    struct endpoint *endpoint;
    struct object *device;
    bool has_tree, started;

    /* between them */
    struct task *task;                  /* on far_loop */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct call *call;                  /* GUARDED_BY(lock) */
    bool ready;                         /* GUARDED_BY(lock) */
    int result;
    struct error error;
};

/* ---- the second thread ---- */

static void on_call(void *opaque)
{
    struct loopback *lb = opaque;

    pthread_mutex_lock(&lb->lock);
    struct call *call = lb->call;
    pthread_mutex_unlock(&lb->lock);
    if (!call)
        return;
    call->fn(call->opaque, &lb->tree, endpoint_device(lb->endpoint));
    pthread_mutex_lock(&lb->lock);
    call->done = true;
    lb->call = NULL;
    pthread_cond_broadcast(&lb->changed);
    pthread_mutex_unlock(&lb->lock);
}

static int far_setup(struct loopback *lb, struct error *err)
{
    int r = loop_new(&lb->far_loop, err);
    if (r < 0)
        return r;
    if (task_new(lb->far_loop, on_call, lb, &lb->task) < 0 ||
        obj_tree_init(&lb->tree, lb->far_loop, lb->config.classes) < 0)
        return error_oom(err);
    lb->has_tree = true;
    if (lb->config.setup && (r = lb->config.setup(lb->config.opaque, &lb->tree, err)) < 0)
        return r;

    struct endpoint_config config = { .tree = &lb->tree, .bus_name = "loopback" };
    r = endpoint_new(&config, &lb->endpoint, err);
    if (r < 0)
        return r;
    json_t *description = json_deep_copy(lb->config.description);
    json_object_set_new(description, "bus", json_string("loopback"));
    r = object_create(&lb->tree, description, &lb->device, err);
    json_decref(description);
    return r;
}

static void far_teardown(struct loopback *lb)
{
    if (lb->endpoint)
        endpoint_detach(lb->endpoint);
    if (lb->has_tree)
        obj_tree_fini(&lb->tree);
    endpoint_free(lb->endpoint);
    if (lb->has_tree && lb->config.teardown)
        lb->config.teardown(lb->config.opaque, &lb->tree);
    task_free(lb->task);
    loop_free(lb->far_loop);
}

static void *far_main(void *opaque)
{
    struct loopback *lb = opaque;

    int r = far_setup(lb, &lb->error);
    pthread_mutex_lock(&lb->lock);
    lb->result = r;
    lb->ready = true;
    pthread_cond_broadcast(&lb->changed);
    pthread_mutex_unlock(&lb->lock);
    if (r >= 0)
        loop_run(lb->far_loop);
    far_teardown(lb);
    return NULL;
}

/* ---- the tests' thread ---- */

void loopback_run(struct loopback *lb, loopback_fn *fn, void *opaque)
{
    struct call call = { .fn = fn, .opaque = opaque };

    pthread_mutex_lock(&lb->lock);
    lb->call = &call;
    pthread_mutex_unlock(&lb->lock);
    task_schedule(lb->task);
    pthread_mutex_lock(&lb->lock);
    while (!call.done)
        pthread_cond_wait(&lb->changed, &lb->lock);
    pthread_mutex_unlock(&lb->lock);
}

struct attach { struct loopback *lb; int fd; int result; };

static void attach(void *opaque, struct obj_tree *tree, struct pci_device *pdev)
{
    struct attach *a = opaque;

    endpoint_detach(a->lb->endpoint);
    a->result = endpoint_attach(a->lb->endpoint, a->fd, &a->lb->error);
}

static int wire(struct loopback *lb, unsigned index, uint32_t action, unsigned count,
                const int *fds, struct error *err)
{
    struct vfu_irq_set set = { .index = index, .count = count, .data = VFU_SET_DATA_EVENTFD,
                               .action = action };
    return count ? vfu_client_set_irqs(lb->client, &set, fds, err) : 0;
}

static int open_eventfds(struct loopback *lb, struct error *err)
{
    struct vfu_irq_info info;

    lb->index = VFU_MSIX;
    int r = vfu_client_irq_info(lb->client, VFU_MSIX, &info, err);
    if (r == 0 && info.count == 0) {
        lb->index = VFU_MSI;
        r = vfu_client_irq_info(lb->client, VFU_MSI, &info, err);
    }
    if (r < 0)
        return r;
    lb->vector_fds = calloc(info.count + 1, sizeof(int));
    if (!lb->vector_fds)
        return error_oom(err);
    while (lb->vectors < info.count)
        lb->vector_fds[lb->vectors++] = eventfd_new();
    lb->intx_fd = eventfd_new();
    lb->unmask_fd = eventfd_new();
    return lb->intx_fd < 0 || lb->unmask_fd < 0 ? error_set(err, -EMFILE, "no eventfds") : 0;
}

static int connect_client(struct loopback *lb, struct error *err)
{
    int sv[2];
    struct vfu_irq_info intx;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
        return error_set(err, -errno, "cannot make a socket pair");
    struct attach a = { .lb = lb, .fd = sv[1] };
    loopback_run(lb, attach, &a);
    if (a.result < 0) {
        close(sv[0]);
        *err = lb->error;
        return a.result;
    }
    static const struct vfu_client_ops ops = { NULL };
    struct vfu_client_config config = { .loop = lb->loop, .fd = sv[0], .timeout_ms = TIMEOUT_MS,
                                        .ops = &ops };
    int r = vfu_client_new(&config, &lb->client, err);
    struct vfu_dma_map map = { .size = lb->config.ram_size,
                               .flags = VFU_DMA_READABLE | VFU_DMA_WRITABLE };
    if (r == 0 && map.size)
        r = vfu_client_dma_map(lb->client, &map, lb->ram_fd, err);
    if (r == 0 && !lb->vector_fds)
        r = open_eventfds(lb, err);
    if (r == 0)
        r = vfu_client_irq_info(lb->client, VFU_INTX, &intx, err);
    if (r == 0)
        r = wire(lb, VFU_INTX, VFU_SET_TRIGGER, intx.count, &lb->intx_fd, err);
    if (r == 0)
        r = wire(lb, VFU_INTX, VFU_SET_UNMASK, intx.count, &lb->unmask_fd, err);
    if (r == 0)
        r = wire(lb, lb->index, VFU_SET_TRIGGER, lb->vectors, lb->vector_fds, err);
    return r;
}

static int near_setup(struct loopback *lb, struct error *err)
{
    int r = loop_new(&lb->loop, err);
    if (r < 0)
        return r;
    lb->ram_fd = lb->config.ram_fd >= 0 ? dup(lb->config.ram_fd)
                                        : memfd_new("loopback", lb->config.ram_size, 0);
    if (lb->ram_fd < 0)
        return error_set(err, -EMFILE, "cannot make memory");
    if (lb->config.ram_size) {
        void *ram = mmap(NULL, lb->config.ram_size, PROT_READ | PROT_WRITE, MAP_SHARED,
                         lb->ram_fd, 0);
        if (ram == MAP_FAILED)
            return error_set(err, -errno, "cannot map memory");
        lb->ram = ram;
    }
    return connect_client(lb, err);
}

int loopback_new(const struct loopback_config *config, struct loopback **ret_loopback,
                 struct error *err)
{
    struct loopback *lb = calloc(1, sizeof *lb);
    if (!lb)
        return error_oom(err);
    lb->config = *config;
    lb->ram_fd = lb->intx_fd = lb->unmask_fd = -1;
    pthread_mutex_init(&lb->lock, NULL);
    pthread_cond_init(&lb->changed, NULL);

    int r = -pthread_create(&lb->thread, NULL, far_main, lb);
    if (r < 0) {
        free(lb);
        return error_set(err, r, "cannot start a thread");
    }
    pthread_mutex_lock(&lb->lock);
    while (!lb->ready)
        pthread_cond_wait(&lb->changed, &lb->lock);
    pthread_mutex_unlock(&lb->lock);
    lb->started = lb->result >= 0;
    r = lb->result;
    if (r < 0 && err)
        *err = lb->error;
    if (r >= 0)
        r = near_setup(lb, err);
    if (r < 0) {
        loopback_free(lb);
        return r;
    }
    *ret_loopback = lb;
    return 0;
}

static void quit(void *opaque, struct obj_tree *tree, struct pci_device *pdev)
{
    loop_quit(((struct loopback *)opaque)->far_loop, 0);
}

void loopback_free(struct loopback *lb)
{
    if (!lb)
        return;
    vfu_client_free(lb->client);
    if (lb->started)
        loopback_run(lb, quit, lb);         /* from inside: the loop goes with its thread */
    pthread_join(lb->thread, NULL);
    if (lb->ram)
        munmap(lb->ram, lb->config.ram_size);
    for (unsigned i = 0; i < lb->vectors; i++)
        close(lb->vector_fds[i]);
    free(lb->vector_fds);
    if (lb->ram_fd >= 0)
        close(lb->ram_fd);
    if (lb->intx_fd >= 0)
        close(lb->intx_fd);
    if (lb->unmask_fd >= 0)
        close(lb->unmask_fd);
    loop_free(lb->loop);
    pthread_mutex_destroy(&lb->lock);
    pthread_cond_destroy(&lb->changed);
    free(lb);
}

uint32_t loopback_config_read(struct loopback *lb, unsigned off, unsigned len)
{
    uint8_t buf[4];
    return len <= 4 && vfu_client_read(lb->client, VFU_CONFIG, off, buf, len) == 0
        ? le_load(buf, len) : UINT32_MAX;
}

void loopback_config_write(struct loopback *lb, unsigned off, unsigned len, uint32_t val)
{
    uint8_t buf[8];

    le_store(buf, 4, val);
    if (len > 4 || vfu_client_write(lb->client, VFU_CONFIG, off, buf, len, false) < 0)
        return;
}

uint64_t loopback_bar_read(struct loopback *lb, unsigned bar, uint64_t off, unsigned len)
{
    uint8_t buf[8];
    return len <= 8 && vfu_client_read(lb->client, bar, off, buf, len) == 0
        ? le_load(buf, len) : UINT64_MAX;
}

void loopback_bar_write(struct loopback *lb, unsigned bar, uint64_t off, unsigned len,
                        uint64_t val)
{
    uint8_t buf[8];

    le_store(buf, 8, val);
    if (len > 8 || vfu_client_write(lb->client, bar, off, buf, len, false) < 0)
        return;
}

uint8_t *loopback_ram(struct loopback *lb) { return lb->ram; }

static bool wait_readable(int fd, int timeout_ms)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    return poll(&p, 1, timeout_ms) > 0;
}

bool loopback_intx(struct loopback *lb, int timeout_ms)
{
    struct vfu_irq_set unmask = { .index = VFU_INTX, .count = 1, .data = VFU_SET_DATA_NONE,
                                  .action = VFU_SET_UNMASK };

    /* What was signalled before may be over; the answer to an unmask says what is. */
    eventfd_clear(lb->intx_fd);
    if (vfu_client_set_irqs(lb->client, &unmask, NULL, NULL) < 0)
        return false;
    return wait_readable(lb->intx_fd, timeout_ms);
}

unsigned loopback_messages(struct loopback *lb, unsigned vector, int timeout_ms)
{
    uint64_t count;

    if (vector >= lb->vectors || !wait_readable(lb->vector_fds[vector], timeout_ms) ||
        read(lb->vector_fds[vector], &count, sizeof count) != sizeof count)
        return 0;
    return count;
}

void loopback_reset(struct loopback *lb)
{
    if (vfu_client_reset(lb->client, NULL) < 0)
        return;
}

void loopback_reconnect(struct loopback *lb)
{
    struct error err;

    vfu_client_free(TAKE_PTR(lb->client));
    if (connect_client(lb, &err) < 0)
        fprintf(stderr, "loopback: cannot reconnect: %s\n", err.text);
}
