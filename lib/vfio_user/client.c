/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio_user/client.h"

#include "vfio_user/internal.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>

enum { BODY_MAX = 32768 };              /* some servers read a request's body at one go */

struct vfu_client {
    struct loop *loop;
    const struct vfu_client_ops *ops;
    void *opaque;
    pthread_mutex_t lock;               /* of caller; held while a call waits */
    struct vfu_caller caller;
    struct vfu_caps server;
    struct vfu_port twin;               /* fd -1: none */
    struct watch *watch;                /* sees the end, and commands if there is no twin */
    struct task *tell;                  /* calls failed on the loop thread */
    atomic_bool failed;
    bool told;
    pthread_mutex_t reason_lock;
    char reason[512];                   /* GUARDED_BY(reason_lock) */
};

/* ---- failure ---- */

static void set_failed(struct vfu_client *c, const char *reason)
{
    pthread_mutex_lock(&c->reason_lock);
    if (!c->reason[0])
        snprintf(c->reason, sizeof c->reason, "%s", reason);
    pthread_mutex_unlock(&c->reason_lock);
    if (!atomic_exchange(&c->failed, true))
        task_schedule(c->tell);
}

static void on_tell(void *opaque)
{
    struct vfu_client *c = opaque;
    char reason[sizeof c->reason];

    watch_free(c->watch);
    c->watch = NULL;
    if (c->told)
        return;
    c->told = true;
    pthread_mutex_lock(&c->reason_lock);
    memcpy(reason, c->reason, sizeof reason);
    pthread_mutex_unlock(&c->reason_lock);
    if (c->ops->failed)
        c->ops->failed(c->opaque, reason);
}

void vfu_client_fail(struct vfu_client *c, const char *reason)
{
    set_failed(c, reason);
    shutdown(c->caller.fd, SHUT_RDWR);      /* wakes who waits for an answer */
}

bool vfu_client_alive(const struct vfu_client *c) { return !atomic_load(&c->failed); }

const struct vfu_caps *vfu_client_server(const struct vfu_client *c) { return &c->server; }

/* ---- what the server asks ---- */

typedef void reply_fn(void *to, const struct vfu_header *request, int error,
                      const struct iovec *parts, int nparts);

/* false: the message is none, and err says why. */
static bool serve_dma(struct vfu_client *c, const struct vfu_msg *msg, reply_fn *reply, void *to,
                      struct error *err)
{
    bool is_write = msg->h.command == VFU_DMA_WRITE;
    struct vfu_wire_dma w;
    AUTO_FREE void *buf = NULL;
    uint64_t addr;
    uint32_t count;
    int r;

    if (!is_write && msg->h.command != VFU_DMA_READ) {
        reply(to, &msg->h, ENOSYS, NULL, 0);
        return true;
    }
    if (vfu_dma_access_decode(msg->body, msg->h.len, is_write, &addr, &count, err) < 0)
        return false;
    memcpy(&w, msg->body, sizeof w);
    if (is_write) {
        r = !count ? 0 : c->ops->dma_write
              ? c->ops->dma_write(c->opaque, addr, msg->body + sizeof w, count) : -ENOTSUP;
    } else {
        buf = calloc(1, count + 1);
        r = !buf ? -ENOMEM : !count ? 0
              : c->ops->dma_read ? c->ops->dma_read(c->opaque, addr, buf, count) : -ENOTSUP;
    }
    struct iovec parts[] = { VFU_PART(&w, sizeof w), VFU_PART(buf, count) };
    reply(to, &msg->h, -r, parts, is_write ? 1 : 2);
    return true;
}

static void reply_on_twin(void *to, const struct vfu_header *request, int error,
                          const struct iovec *parts, int nparts)
{
    vfu_port_reply(to, request, error, parts, nparts, -1);
}

static void on_twin_message(void *opaque, struct vfu_msg *msg)
{
    struct vfu_client *c = opaque;
    struct error err;

    if (!serve_dma(c, msg, reply_on_twin, &c->twin, &err))
        vfu_port_end(&c->twin, err.text);
}

static void on_twin_end(void *opaque, const char *reason)
{
    struct vfu_client *c = opaque;

    vfu_client_fail(c, reason ? reason : "the peer closed the channel");
    vfu_port_fini(&c->twin);
}

static void reply_on_main(void *to, const struct vfu_header *request, int error,
                          const struct iovec *parts, int nparts)
{
    vfu_caller_reply(to, request, error, parts, nparts);
}

static void on_main_command(void *opaque, struct vfu_msg *msg)
{
    struct vfu_client *c = opaque;
    struct error err;

    if (!serve_dma(c, msg, reply_on_main, &c->caller, &err))
        vfu_caller_kill(&c->caller, -EPROTO, "%s", err.text);
}

/* The socket ended; or, watched only without a twin, it may hold a command. */
static void on_event(void *opaque, uint32_t events)
{
    struct vfu_client *c = opaque;

    if (pthread_mutex_trylock(&c->lock) != 0)
        return;                             /* who is in a call takes it, or sees the end */
    /* Dead already: a shutdown of ours is what woke us, and the reason is there. */
    if (!c->caller.dead && (events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)))
        vfu_caller_kill(&c->caller, -EPIPE, "the peer closed the channel");
    else
        vfu_caller_drain(&c->caller);
    if (c->caller.dead)
        set_failed(c, c->caller.reason.text);
    pthread_mutex_unlock(&c->lock);
}

/* ---- calls ---- */

/* Holds the lock when it returns 0, for the reply lies in the input: finish() afterwards. */
static int start(struct vfu_client *c, const struct vfu_question *q, struct vfu_msg *ret_reply)
{
    if (atomic_load_explicit(&c->failed, memory_order_relaxed))
        return -EPIPE;
    pthread_mutex_lock(&c->lock);
    int r = vfu_caller_ask(&c->caller, q, ret_reply);
    if (r < 0) {
        bool dead = c->caller.dead;
        pthread_mutex_unlock(&c->lock);
        if (dead)
            set_failed(c, c->caller.reason.text);
    }
    return r;
}

static void finish(struct vfu_client *c, struct vfu_msg *reply)
{
    bool dead = false;

    /* What was read along with the reply no event will announce. */
    if (!vfu_input_empty(&c->caller.in)) {
        vfu_caller_drain(&c->caller);
        dead = c->caller.dead;
    }
    pthread_mutex_unlock(&c->lock);
    if (dead)
        set_failed(c, c->caller.reason.text);
    if (reply->nfds)
        vfu_msg_close_fds(reply);
}

int vfu_client_explain(struct vfu_client *c, int r, const char *what, struct error *err)
{
    if (vfu_client_alive(c))
        return error_set(err, r, "%s", what);
    pthread_mutex_lock(&c->reason_lock);
    error_set(err, -EINVAL, "the device process's channel failed: %s", c->reason);
    pthread_mutex_unlock(&c->reason_lock);
    return r;
}

/* The peer refused, or the connection failed: says which. */
static int explain(struct vfu_client *c, int r, unsigned command, struct error *err)
{
    char what[80];

    snprintf(what, sizeof what, "the device process refuses %s", vfu_command_name(command));
    return vfu_client_explain(c, r, what, err);
}

/* The server said something that cannot be: it is not to be trusted any further. */
static int lied(struct vfu_client *c, struct error *err)
{
    vfu_client_fail(c, err->text);
    return explain(c, -EPROTO, 0, err);
}

static int simple(struct vfu_client *c, struct vfu_question *q, void *body, size_t len,
                  struct error *err)
{
    struct vfu_msg reply;

    if (body)
        q->parts[q->nparts++] = VFU_PART(body, len);
    int r = start(c, q, &reply);
    if (r < 0)
        return explain(c, r, q->command, err);
    if (body && q->reply_min == len)
        memcpy(body, reply.body, len);
    finish(c, &reply);
    return 0;
}

int vfu_client_device_info(struct vfu_client *c, struct vfu_device_info *ret_info,
                           struct error *err)
{
    struct vfu_wire_device_info w = { .argsz = le32_of(sizeof w) };
    struct vfu_question q = { .command = VFU_DEVICE_GET_INFO, .reply_min = sizeof w,
                              .reply_max = sizeof w };

    int r = simple(c, &q, &w, sizeof w, err);
    if (r < 0)
        return r;
    struct vfu_device_info info = { le32_get(w.flags), le32_get(w.num_regions),
                                    le32_get(w.num_irqs) };
    if (info.regions > VFU_REGIONS_MAX || info.irqs > VFU_IRQS_MAX) {
        error_set(err, -EPROTO, "the device has %u regions and %u interrupt indices",
                  info.regions, info.irqs);
        return lied(c, err);
    }
    *ret_info = info;
    return 0;
}

/* One question with room for argsz bytes of answer. */
static int region_info(struct vfu_client *c, unsigned index, uint32_t argsz,
                       struct vfu_region_info *ret_info, uint32_t *ret_argsz, struct error *err)
{
    struct vfu_wire_region_info w = { .argsz = le32_of(argsz), .index = le32_of(index) };
    struct vfu_question q = { .command = VFU_DEVICE_GET_REGION_INFO, .reply_min = sizeof w,
                              .reply_max = argsz, .nparts = 1,
                              .parts = { VFU_PART(&w, sizeof w) } };
    struct vfu_msg reply;

    int r = start(c, &q, &reply);
    if (r < 0)
        return explain(c, r, q.command, err);
    r = vfu_region_info_decode(reply.body, reply.h.len, index, ret_info, ret_argsz, err);
    if (r == 0 && reply.nfds && (ret_info->flags & VFU_REGION_MMAP))
        ret_info->fd = TAKE_FD(reply.fds[0]);   /* others repeat it, or are nonsense */
    finish(c, &reply);
    return r < 0 ? lied(c, err) : 0;
}

int vfu_client_region_info(struct vfu_client *c, unsigned index, struct vfu_region_info *ret_info,
                           struct error *err)
{
    struct vfu_region_info info;
    uint32_t first = sizeof(struct vfu_wire_region_info), argsz;

    int r = region_info(c, index, first, &info, &argsz, err);
    if (r == 0 && argsz > first) {
        if (info.fd >= 0)
            close(info.fd);
        if (argsz > BODY_MAX) {
            error_set(err, -EPROTO, "the answer about region %u would have %u bytes", index,
                      argsz);
            return lied(c, err);
        }
        uint32_t again;
        r = region_info(c, index, argsz, &info, &again, err);
    }
    if (r < 0)
        return r;
    if (info.fd < 0)
        info.flags &= ~VFU_REGION_MMAP;
    *ret_info = info;
    return 0;
}

int vfu_client_irq_info(struct vfu_client *c, unsigned index, struct vfu_irq_info *ret_info,
                        struct error *err)
{
    struct vfu_wire_irq_info w = { .argsz = le32_of(sizeof w), .index = le32_of(index) };
    struct vfu_question q = { .command = VFU_DEVICE_GET_IRQ_INFO, .reply_min = sizeof w,
                              .reply_max = sizeof w };

    int r = simple(c, &q, &w, sizeof w, err);
    if (r < 0)
        return r;
    struct vfu_irq_info info = { le32_get(w.flags), le32_get(w.count) };
    if (le32_get(w.index) != index || info.count > VFU_VECTORS_MAX) {
        error_set(err, -EPROTO, "asked about interrupt index %u, told of %u interrupts of %u",
                  index, info.count, le32_get(w.index));
        return lied(c, err);
    }
    *ret_info = info;
    return 0;
}

int vfu_client_set_irqs(struct vfu_client *c, const struct vfu_irq_set *set, const int *fds,
                        struct error *err)
{
    uint32_t at = 0, most = MIN(c->server.max_msg_fds, (unsigned)VFU_FDS_MAX);

    most = MAX(most, 1u);
    do {
        uint32_t n = fds ? MIN(set->count - at, most) : set->count;
        size_t data = set->data == VFU_SET_DATA_BOOL ? n : 0;
        struct vfu_wire_irq_set w = {
            le32_of(sizeof w + data), le32_of(set->data | set->action), le32_of(set->index),
            le32_of(set->start + at), le32_of(n),
        };
        struct vfu_question q = { .command = VFU_DEVICE_SET_IRQS, .nparts = data ? 2 : 1,
                                  .parts = { VFU_PART(&w, sizeof w), VFU_PART(set->bools, data) },
                                  .fds = fds ? fds + at : NULL, .nfds = fds ? n : 0 };
        int r = simple(c, &q, NULL, 0, err);
        if (r < 0)
            return r;
        at += n;
    } while (at < set->count);
    return 0;
}

int vfu_client_dma_map(struct vfu_client *c, const struct vfu_dma_map *map, int fd,
                       struct error *err)
{
    struct vfu_wire_dma_map w = { le32_of(sizeof w), le32_of(map->flags), le64_of(map->offset),
                                  le64_of(map->addr), le64_of(map->size) };
    struct vfu_question q = { .command = VFU_DMA_MAP, .fds = &fd, .nfds = fd >= 0 };

    return simple(c, &q, &w, sizeof w, err);
}

int vfu_client_dma_unmap(struct vfu_client *c, uint64_t addr, uint64_t size, struct error *err)
{
    struct vfu_wire_dma_unmap w = { le32_of(sizeof w), le32_of(0), le64_of(addr), le64_of(size) };
    struct vfu_question q = { .command = VFU_DMA_UNMAP, .reply_max = sizeof w };

    return simple(c, &q, &w, sizeof w, err);
}

int vfu_client_reset(struct vfu_client *c, struct error *err)
{
    struct vfu_question q = { .command = VFU_DEVICE_RESET };
    return simple(c, &q, NULL, 0, err);
}

/* ---- accesses ---- */

static uint32_t piece(const struct vfu_client *c, size_t len)
{
    size_t most = MIN(c->server.max_data, (uint32_t)BODY_MAX);
    return MIN(len, most);
}

int vfu_client_read(struct vfu_client *c, unsigned region, uint64_t off, void *buf, size_t len)
{
    uint8_t *to = buf;

    while (len) {
        uint32_t n = piece(c, len);
        struct vfu_wire_access w = { le64_of(off), le32_of(region), le32_of(n) };
        struct vfu_question q = { .command = VFU_REGION_READ, .nparts = 1,
                                  .parts = { VFU_PART(&w, sizeof w) }, .reply_min = sizeof w,
                                  .reply_max = sizeof w + n };
        struct vfu_msg reply;

        int r = start(c, &q, &reply);
        if (r < 0)
            return r;
        uint32_t got = le32_load(reply.body + offsetof(struct vfu_wire_access, count));
        bool whole = got == n && reply.h.len == sizeof w + n;
        if (whole)
            memcpy(to, reply.body + sizeof w, n);
        finish(c, &reply);
        if (!whole)
            return -EIO;
        off += n;
        to += n;
        len -= n;
    }
    return 0;
}

int vfu_client_write(struct vfu_client *c, unsigned region, uint64_t off, const void *buf,
                     size_t len, bool posted)
{
    const uint8_t *from = buf;

    while (len) {
        uint32_t n = piece(c, len);
        struct vfu_wire_access w = { le64_of(off), le32_of(region), le32_of(n) };
        struct vfu_question q = { .command = VFU_REGION_WRITE, .posted = posted, .nparts = 2,
                                  .parts = { VFU_PART(&w, sizeof w), VFU_PART(from, n) },
                                  .reply_max = sizeof w };
        struct vfu_msg reply;

        int r = start(c, &q, &reply);
        if (r < 0)
            return r;
        finish(c, &reply);
        off += n;
        from += n;
        len -= n;
    }
    return 0;
}

/* ---- set-up ---- */

static int twin_open(struct vfu_client *c, struct vfu_msg *reply, struct error *err)
{
    unsigned i = c->server.twin_index;

    if (!c->server.twin_socket)
        return 0;
    if (i >= reply->nfds)
        return error_set(err, -EPROTO, "VERSION promises a twin socket and has none");
    c->twin.on_message = on_twin_message;
    c->twin.on_end = on_twin_end;
    c->twin.opaque = c;
    int r = vfu_port_init(&c->twin, c->loop, TAKE_FD(reply->fds[i]));
    return r < 0 ? error_set(err, r, "cannot use the server's twin socket") : 0;
}

static int agree(struct vfu_client *c, struct error *err)
{
    struct vfu_caps ours = { .max_msg_fds = VFU_FDS_MAX, .max_data = VFU_DATA_MAX,
                             .max_dma_maps = 65535, .pgsizes = 4096, .write_multiple = false,
                             .twin_socket = true, .bulkhead = 1 };
    struct vfu_wire_version w = { le16_of(VFU_MAJOR), le16_of(VFU_MINOR) };
    char text[512];
    struct vfu_msg reply;

    int len = vfu_version_text(&ours, false, text, sizeof text);
    if (len < 0)
        return error_oom(err);
    struct vfu_question q = { .command = VFU_VERSION, .nparts = 2,
                              .parts = { VFU_PART(&w, sizeof w), VFU_PART(text, len) },
                              .reply_min = sizeof w, .reply_max = sizeof w + VFU_JSON_MAX };
    int r = start(c, &q, &reply);
    if (r < 0)
        return explain(c, r, VFU_VERSION, err);
    r = vfu_version_decode(reply.body, reply.h.len, true, &c->server, err);
    if (r == 0 && c->server.minor > VFU_MINOR)
        r = error_set(err, -EPROTO, "the server answers minor version %u to our %d",
                      c->server.minor, VFU_MINOR);
    if (r == 0)
        r = twin_open(c, &reply, err);
    finish(c, &reply);
    return r;
}

static int init(struct vfu_client *c, const struct vfu_client_config *config, struct error *err)
{
    unsigned timeout_ms = config->timeout_ms ? config->timeout_ms : VFU_TIMEOUT_MS;

    int r = vfu_caller_init(&c->caller, config->fd, timeout_ms);
    if (r == 0)
        r = task_new(c->loop, on_tell, c, &c->tell);
    if (r < 0)
        return error_set(err, r, "cannot use the device process's connection");
    c->caller.on_command = on_main_command;
    c->caller.opaque = c;

    r = agree(c, err);
    if (r < 0)
        return r;
    /* Replies are read by who waits for them; only without a twin may other things come. */
    bool twin = c->twin.fd >= 0;
    if (twin)
        c->caller.on_command = NULL;
    r = watch_new(c->loop, c->caller.fd, EPOLLRDHUP | (twin ? 0 : EPOLLIN), on_event, c,
                  &c->watch);
    return r < 0 ? error_set(err, r, "cannot watch the device process's connection") : 0;
}

int vfu_client_new(const struct vfu_client_config *config, struct vfu_client **ret_client,
                   struct error *err)
{
    struct vfu_client *c = calloc(1, sizeof *c);
    if (!c) {
        close(config->fd);
        return error_oom(err);
    }
    c->loop = config->loop;
    c->ops = config->ops;
    c->opaque = config->opaque;
    c->twin.fd = -1;
    pthread_mutex_init(&c->lock, NULL);
    pthread_mutex_init(&c->reason_lock, NULL);

    int r = init(c, config, err);
    if (r < 0) {
        vfu_client_free(c);
        return r;
    }
    *ret_client = c;
    return 0;
}

void vfu_client_free(struct vfu_client *c)
{
    if (!c)
        return;
    watch_free(c->watch);
    task_free(c->tell);
    vfu_port_fini(&c->twin);
    vfu_caller_fini(&c->caller);
    pthread_mutex_destroy(&c->lock);
    pthread_mutex_destroy(&c->reason_lock);
    free(c);
}
