/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refused (error reply, the connection goes on): what a correct client may send to a server that
 * lacks something, and ranges or indices outside the device. Malformed (the connection ends):
 * lengths that contradict each other, a second VERSION, requests before VERSION.
 */
#include "vfio_user/server.h"

#include "vfio_user/internal.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum { SMALL_READ = 4096, OLD_LAYOUT_UNKNOWN = 0, OLD_LAYOUT, SPEC_LAYOUT };

struct dma_range {
    struct vfu_dma_map map;
    bool has_fd;
    dev_t dev;                      /* of the file, to know a repetition */
    ino_t ino;
};

struct vfu_server {
    struct vfu_port port;
    const struct vfu_server_ops *ops;
    void *opaque;
    char device_id[64];
    unsigned timeout_ms;
    bool has_version;
    struct vfu_caps client;
    struct vfu_caller twin;         /* fd -1: none */
    int dma_layout;
    struct dma_range *ranges;       /* sorted by address */
    unsigned nranges;
    unsigned unmapping;             /* ranges that are still in use */
    struct vfu_header unmap;        /* and the request that waits for them */
    struct vfu_wire_dma_unmap unmap_body;
};

/* A handler's verdict: 0 when it has replied, -EPROTO to end, else an error reply. */
typedef int handler(struct vfu_server *s, struct vfu_msg *msg, struct error *err);

static void reply(struct vfu_server *s, const struct vfu_msg *msg, const void *body, size_t len)
{
    struct iovec part = VFU_PART(body, len);
    vfu_port_reply(&s->port, &msg->h, 0, &part, len ? 1 : 0, -1);
}

/* ---- VERSION ---- */

static int twin_open(struct vfu_server *s, int *ret_client_fd)
{
    int sv[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
        return -errno;
    int r = vfu_caller_init(&s->twin, sv[0], s->timeout_ms);
    if (r < 0) {
        vfu_caller_fini(&s->twin);
        close(sv[1]);
        return r;
    }
    *ret_client_fd = sv[1];
    return 0;
}

static int do_version(struct vfu_server *s, struct vfu_msg *msg, struct error *err)
{
    AUTO_FD int twin_fd = -1;
    char text[512];

    if (s->has_version)
        return error_set(err, -EPROTO, "a second VERSION");
    int r = vfu_version_decode(msg->body, msg->h.len, false, &s->client, err);
    if (r < 0)
        return r;

    struct vfu_caps caps = { .minor = MIN(s->client.minor, VFU_MINOR), .max_msg_fds = VFU_FDS_MAX,
                             .max_data = VFU_DATA_MAX, .max_dma_maps = VFU_DMA_MAPS_MAX,
                             .pgsizes = 4096 };
    /* REGION_WRITE_MULTI is served but not offered: it makes QEMU send through a slower path. */
    if (s->client.twin_socket && s->client.max_msg_fds > 0)
        caps.twin_socket = twin_open(s, &twin_fd) == 0;
    if (s->client.bulkhead) {
        caps.bulkhead = 1;
        snprintf(caps.device_id, sizeof caps.device_id, "%s", s->device_id);
    }
    int len = vfu_version_text(&caps, true, text, sizeof text);
    if (len < 0)
        return error_set(err, -EPROTO, "cannot answer VERSION");

    struct vfu_wire_version w = { le16_of(VFU_MAJOR), le16_of(caps.minor) };
    struct iovec parts[] = { VFU_PART(&w, sizeof w), VFU_PART(text, len) };
    s->has_version = true;
    vfu_port_reply(&s->port, &msg->h, 0, parts, ARRAY_SIZE(parts), twin_fd);
    return 0;
}

/* ---- DMA table ---- */

/* Index of the first range that ends after addr. */
static unsigned range_find(const struct vfu_server *s, uint64_t addr)
{
    unsigned lo = 0, hi = s->nranges;

    while (lo < hi) {
        unsigned mid = lo + (hi - lo) / 2;
        if (s->ranges[mid].map.addr + (s->ranges[mid].map.size - 1) < addr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool same_range(const struct dma_range *a, const struct dma_range *b)
{
    return a->map.addr == b->map.addr && a->map.size == b->map.size &&
           a->map.flags == b->map.flags && a->has_fd == b->has_fd &&
           (!a->has_fd ||
            (a->map.offset == b->map.offset && a->dev == b->dev && a->ino == b->ino));
}

static int do_dma_map(struct vfu_server *s, struct vfu_msg *msg, struct error *err)
{
    struct dma_range range = { .has_fd = msg->nfds > 0 };
    struct stat st;
    int none = -1, *fd = msg->nfds ? &msg->fds[0] : &none;

    int r = vfu_dma_map_decode(msg->body, msg->h.len, msg->nfds, &range.map, err);
    if (r < 0)
        return r;
    if (range.has_fd) {
        if (fstat(*fd, &st) < 0)
            return error_set(err, -errno, "DMA_MAP's descriptor cannot be looked at");
        range.dev = st.st_dev;
        range.ino = st.st_ino;
    }
    unsigned at = range_find(s, range.map.addr);
    if (at < s->nranges &&
        ranges_overlap(s->ranges[at].map.addr, s->ranges[at].map.size, range.map.addr,
                       range.map.size)) {
        if (!same_range(&s->ranges[at], &range))
            return error_set(err, -EEXIST, "DMA_MAP overlaps what is mapped");
        reply(s, msg, NULL, 0);
        return 0;
    }
    if (s->nranges == VFU_DMA_MAPS_MAX)
        return error_set(err, -ENOSPC, "more than %d DMA ranges", VFU_DMA_MAPS_MAX);

    if ((s->nranges & (s->nranges - 1)) == 0) {         /* full at each power of two */
        struct dma_range *more = realloc(s->ranges, MAX(2 * s->nranges, 1u) * sizeof *more);
        if (!more)
            return error_oom(err);
        s->ranges = more;
    }
    r = s->ops->dma_map(s->opaque, &range.map, fd);
    if (r < 0)
        return error_set(err, r, "DMA_MAP was refused");
    memmove(s->ranges + at + 1, s->ranges + at, (s->nranges - at) * sizeof *s->ranges);
    s->ranges[at] = range;
    s->nranges++;
    reply(s, msg, NULL, 0);
    return 0;
}

static void unmap_all(struct vfu_server *s)
{
    while (s->nranges) {
        struct dma_range *r = &s->ranges[--s->nranges];
        s->unmapping += !s->ops->dma_unmap(s->opaque, r->map.addr, r->map.size);
    }
}

static int do_dma_unmap(struct vfu_server *s, struct vfu_msg *msg, struct error *err)
{
    struct vfu_dma_unmap u;

    int r = vfu_dma_unmap_decode(msg->body, msg->h.len, &u, err);
    if (r < 0)
        return r;
    if (u.all) {
        unmap_all(s);
    } else {
        unsigned at = range_find(s, u.addr);
        if (at == s->nranges || s->ranges[at].map.addr != u.addr ||
            s->ranges[at].map.size != u.size)
            return error_set(err, -ENOENT, "DMA_UNMAP of what was not mapped");
        memmove(s->ranges + at, s->ranges + at + 1, (--s->nranges - at) * sizeof *s->ranges);
        s->unmapping += !s->ops->dma_unmap(s->opaque, u.addr, u.size);
    }
    if (s->unmapping) {
        s->unmap = msg->h;
        memcpy(&s->unmap_body, msg->body, sizeof s->unmap_body);
        vfu_port_stall(&s->port, true);
    } else {
        reply(s, msg, msg->body, sizeof s->unmap_body);
    }
    return 0;
}

void vfu_server_unmapped(struct vfu_server *s)
{
    struct iovec part = VFU_PART(&s->unmap_body, sizeof s->unmap_body);

    if (s->unmapping == 0 || --s->unmapping)
        return;
    vfu_port_reply(&s->port, &s->unmap, 0, &part, 1, -1);
    vfu_port_stall(&s->port, false);
}

/* ---- information ---- */

static int do_device_info(struct vfu_server *s, struct vfu_msg *msg, struct error *err)
{
    uint32_t argsz, index;

    int r = vfu_info_decode(msg->body, msg->h.len, VFU_DEVICE_GET_INFO, &argsz, &index, err);
    if (r < 0)
        return r;
    struct vfu_wire_device_info w = {
        le32_of(sizeof w), le32_of(VFU_DEVICE_PCI | VFU_DEVICE_RESETTABLE),
        le32_of(VFU_PCI_REGIONS), le32_of(VFU_PCI_IRQS),
    };
    reply(s, msg, &w, sizeof w);
    return 0;
}

static void region_info(struct vfu_server *s, unsigned index, struct vfu_region_info *ret)
{
    ret->size = ret->fd_offset = 0;
    ret->flags = ret->nareas = 0;
    ret->fd = -1;
    s->ops->region_info(s->opaque, index, ret);
}

static int do_region_info(struct vfu_server *s, struct vfu_msg *msg, struct error *err)
{
    uint8_t buf[VFU_REGION_INFO_MAX];
    uint32_t argsz, index;
    struct vfu_region_info info;

    int r = vfu_info_decode(msg->body, msg->h.len, VFU_DEVICE_GET_REGION_INFO, &argsz, &index,
                            err);
    if (r < 0)
        return r;
    if (index >= VFU_PCI_REGIONS)
        return error_set(err, -EINVAL, "there is no region %u", index);

    region_info(s, index, &info);
    size_t len = vfu_region_info_encode(&info, index, argsz, buf);
    bool whole = le32_load(buf) == len;         /* else the client asks again */
    struct iovec part = VFU_PART(buf, len);
    vfu_port_reply(&s->port, &msg->h, 0, &part, 1, whole ? info.fd : -1);
    return 0;
}

static int do_io_fds(struct vfu_server *s, struct vfu_msg *msg, struct error *err)
{
    uint32_t argsz, index;

    int r = vfu_info_decode(msg->body, msg->h.len, VFU_DEVICE_GET_REGION_IO_FDS, &argsz, &index,
                            err);
    if (r < 0)
        return r;
    if (index >= VFU_PCI_REGIONS)
        return error_set(err, -EINVAL, "there is no region %u", index);
    struct vfu_wire_io_fds w = { .argsz = le32_of(sizeof w), .index = le32_of(index) };
    reply(s, msg, &w, sizeof w);
    return 0;
}

static struct vfu_irq_info irq_info(struct vfu_server *s, unsigned index)
{
    struct vfu_irq_info info = { 0 };
    s->ops->irq_info(s->opaque, index, &info);
    return info;
}

static int do_irq_info(struct vfu_server *s, struct vfu_msg *msg, struct error *err)
{
    uint32_t argsz, index;

    int r = vfu_info_decode(msg->body, msg->h.len, VFU_DEVICE_GET_IRQ_INFO, &argsz, &index, err);
    if (r < 0)
        return r;
    if (index >= VFU_PCI_IRQS)
        return error_set(err, -EINVAL, "there is no interrupt index %u", index);

    struct vfu_irq_info info = irq_info(s, index);
    struct vfu_wire_irq_info w = { le32_of(sizeof w), le32_of(info.flags), le32_of(index),
                                   le32_of(info.count) };
    reply(s, msg, &w, sizeof w);
    return 0;
}

static int do_set_irqs(struct vfu_server *s, struct vfu_msg *msg, struct error *err)
{
    struct vfu_irq_set set;

    int r = vfu_irq_set_decode(msg->body, msg->h.len, msg->nfds, &set, err);
    if (r < 0)
        return r;
    if (set.index >= VFU_PCI_IRQS)
        return error_set(err, -EINVAL, "there is no interrupt index %u", set.index);
    uint32_t count = irq_info(s, set.index).count;
    if (!range_inside(set.start, set.count, count))
        return error_set(err, -EINVAL, "interrupts %u + %u of index %u; there are %u", set.start,
                         set.count, set.index, count);
    r = s->ops->set_irqs(s->opaque, &set, msg->nfds ? msg->fds : NULL);
    if (r < 0)
        return error_set(err, r, "SET_IRQS was refused");
    reply(s, msg, NULL, 0);
    return 0;
}

/* ---- region access ---- */

static int check_access(struct vfu_server *s, const struct vfu_access *a, uint32_t right,
                        struct error *err)
{
    struct vfu_region_info info;

    if (a->region >= VFU_PCI_REGIONS)
        return error_set(err, -EINVAL, "there is no region %u", a->region);
    region_info(s, a->region, &info);
    if (!range_inside(a->offset, a->count, info.size))
        return error_set(err, -EINVAL, "0x%llx + %u lies outside region %u",
                         (unsigned long long)a->offset, a->count, a->region);
    if (!(info.flags & right))
        return error_set(err, -EPERM, "region %u does not allow that", a->region);
    return 0;
}

static int do_region_read(struct vfu_server *s, struct vfu_msg *msg, struct error *err)
{
    uint8_t small[SMALL_READ];
    AUTO_FREE uint8_t *large = NULL;
    struct vfu_access a;

    int r = vfu_access_decode(msg->body, msg->h.len, false, &a, err);
    if (r == 0)
        r = check_access(s, &a, VFU_REGION_READABLE, err);
    if (r < 0)
        return r;
    if (a.count > sizeof small && !(large = malloc(a.count)))
        return error_oom(err);

    uint8_t *data = large ? large : small;
    struct vfu_wire_access w;
    memcpy(&w, msg->body, sizeof w);
    if (a.count)
        r = s->ops->region_read(s->opaque, a.region, a.offset, data, a.count);
    if (r < 0)
        return error_set(err, r, "the read failed");
    struct iovec parts[] = { VFU_PART(&w, sizeof w), VFU_PART(data, a.count) };
    vfu_port_reply(&s->port, &msg->h, 0, parts, ARRAY_SIZE(parts), -1);
    return 0;
}

static int do_region_write(struct vfu_server *s, struct vfu_msg *msg, struct error *err)
{
    struct vfu_access a;
    struct vfu_wire_access w;

    int r = vfu_access_decode(msg->body, msg->h.len, true, &a, err);
    if (r == 0)
        r = check_access(s, &a, VFU_REGION_WRITABLE, err);
    if (r < 0)
        return r;
    memcpy(&w, msg->body, sizeof w);
    if (a.count)
        r = s->ops->region_write(s->opaque, a.region, a.offset, msg->body + sizeof w, a.count);
    if (r < 0)
        return error_set(err, r, "the write failed");
    reply(s, msg, &w, sizeof w);
    return 0;
}

/* Writes before one that is refused have happened; the reply, if any, is the refusal. */
static int do_write_multi(struct vfu_server *s, struct vfu_msg *msg, struct error *err)
{
    uint64_t count;

    int r = vfu_write_multi_decode(msg->body, msg->h.len, &count, err);
    for (uint64_t i = 0; r == 0 && i < count; i++) {
        struct vfu_access a;
        const uint8_t *data;

        r = vfu_write_multi_entry(msg->body, i, &a, &data, err);
        if (r == 0)
            r = check_access(s, &a, VFU_REGION_WRITABLE, err);
        if (r == 0 && a.count) {
            r = s->ops->region_write(s->opaque, a.region, a.offset, data, a.count);
            if (r < 0)
                error_set(err, r, "write %llu of many failed", (unsigned long long)i);
        }
    }
    if (r < 0)
        return r;
    le64 done = le64_of(count);
    reply(s, msg, &done, sizeof done);
    return 0;
}

static int do_reset(struct vfu_server *s, struct vfu_msg *msg, struct error *err)
{
    s->ops->reset(s->opaque);
    reply(s, msg, NULL, 0);
    return 0;
}

/* ---- dispatch ---- */

static const struct { handler *fn; unsigned max_fds; } handlers[] = {
    [VFU_VERSION] = { do_version, 0 },
    [VFU_DMA_MAP] = { do_dma_map, VFU_FDS_MAX },
    [VFU_DMA_UNMAP] = { do_dma_unmap, 0 },
    [VFU_DEVICE_GET_INFO] = { do_device_info, 0 },
    [VFU_DEVICE_GET_REGION_INFO] = { do_region_info, 0 },
    [VFU_DEVICE_GET_REGION_IO_FDS] = { do_io_fds, 0 },
    [VFU_DEVICE_GET_IRQ_INFO] = { do_irq_info, 0 },
    [VFU_DEVICE_SET_IRQS] = { do_set_irqs, VFU_FDS_MAX },
    [VFU_REGION_READ] = { do_region_read, 0 },
    [VFU_REGION_WRITE] = { do_region_write, 0 },
    [VFU_DEVICE_RESET] = { do_reset, 0 },
    [VFU_REGION_WRITE_MULTI] = { do_write_multi, 0 },
};

static void on_message(void *opaque, struct vfu_msg *msg)
{
    struct vfu_server *s = opaque;
    struct error err = { .text = "" };
    unsigned command = msg->h.command;
    int r;

    if (command >= ARRAY_SIZE(handlers) || !handlers[command].fn) {
        vfu_port_reply(&s->port, &msg->h, command == VFU_DEVICE_FEATURE ? EINVAL : ENOSYS, NULL,
                       0, -1);
        return;
    }
    if (!s->has_version && command != VFU_VERSION) {
        r = error_set(&err, -EPROTO, "%s before VERSION", vfu_command_name(command));
    } else {
        if (msg->nfds > handlers[command].max_fds)
            vfu_msg_close_fds(msg);
        r = handlers[command].fn(s, msg, &err);
    }
    if (r == 0)
        return;
    vfu_port_reply(&s->port, &msg->h, r == -EPROTO ? EINVAL : -r, NULL, 0, -1);
    if (r == -EPROTO)
        vfu_port_end(&s->port, err.text);
}

static void on_end(void *opaque, const char *reason)
{
    struct vfu_server *s = opaque;

    unmap_all(s);
    s->ops->gone(s->opaque, reason);
}

int vfu_server_new(const struct vfu_server_config *config, struct vfu_server **ret_server,
                   struct error *err)
{
    struct vfu_server *s = calloc(1, sizeof *s);
    if (!s) {
        close(config->fd);
        return error_oom(err);
    }
    s->ops = config->ops;
    s->opaque = config->opaque;
    s->timeout_ms = config->timeout_ms ? config->timeout_ms : VFU_TIMEOUT_MS;
    s->twin.fd = -1;
    snprintf(s->device_id, sizeof s->device_id, "%s", config->device_id ? config->device_id : "");
    s->port.on_message = on_message;
    s->port.on_end = on_end;
    s->port.opaque = s;
    int r = vfu_port_init(&s->port, config->loop, config->fd);
    if (r < 0) {
        free(s);
        return error_set(err, r, "cannot serve a client's connection");
    }
    *ret_server = s;
    return 0;
}

void vfu_server_free(struct vfu_server *s)
{
    if (!s)
        return;
    unmap_all(s);
    if (s->twin.fd >= 0)
        vfu_caller_fini(&s->twin);
    vfu_port_fini(&s->port);
    free(s->ranges);
    free(s);
}

const struct vfu_caps *vfu_server_client(const struct vfu_server *s)
{
    return s->has_version ? &s->client : NULL;
}

/* ---- DMA by message ---- */

static int ask(struct vfu_server *s, unsigned command, const struct iovec *parts, int nparts,
               size_t reply_min, size_t reply_max, struct vfu_msg *ret_msg)
{
    if (s->twin.fd >= 0) {
        struct vfu_question q = { .command = command, .nparts = nparts, .reply_min = reply_min,
                                  .reply_max = reply_max };
        memcpy(q.parts, parts, nparts * sizeof *parts);
        int r = vfu_caller_ask(&s->twin, &q, ret_msg);
        if (s->twin.dead)
            vfu_port_end(&s->port, s->twin.reason.text);
        return r;
    }
    int r = vfu_port_call(&s->port, command, parts, nparts, s->timeout_ms, ret_msg);
    if (r == 0 && (ret_msg->h.len < reply_min || ret_msg->h.len > reply_max)) {
        vfu_port_end(&s->port, "an answer to a request for memory has the wrong length");
        vfu_msg_close_fds(ret_msg);
        return -EPROTO;
    }
    return r;
}

/*
 * QEMU 10.1 and 10.2 lay these messages out differently. A write of nothing tells: the answer
 * is a bare header there, the struct again everywhere else.
 */
static int probe_layout(struct vfu_server *s)
{
    struct vfu_wire_dma w = { le64_of(0), le64_of(0) };
    struct iovec part = VFU_PART(&w, sizeof w);
    struct vfu_msg msg;

    if (s->dma_layout != OLD_LAYOUT_UNKNOWN)
        return 0;
    if (!s->has_version)
        return -EPERM;
    int r = ask(s, VFU_DMA_WRITE, &part, 1, 0, sizeof w, &msg);
    if (r == 0) {
        s->dma_layout = msg.h.len == 0 ? OLD_LAYOUT : SPEC_LAYOUT;
        vfu_msg_close_fds(&msg);
    } else if (!s->port.ending) {
        s->dma_layout = SPEC_LAYOUT;        /* refused, but understood */
        r = 0;
    }
    return r;
}

static int dma_piece(struct vfu_server *s, bool is_write, uint64_t addr, void *buf, uint32_t len)
{
    static const uint8_t pad[4];
    struct vfu_wire_dma w = { le64_of(addr), le64_of(len) };
    bool old = s->dma_layout == OLD_LAYOUT;
    /* The old layout's count is the low half of ours, its data four bytes earlier. */
    size_t head = old && is_write ? sizeof(struct vfu_wire_dma_old) : sizeof w;
    struct iovec parts[] = { VFU_PART(&w, head), VFU_PART(buf, len), VFU_PART(pad, sizeof pad) };
    size_t reply_len = is_write ? (old ? 0 : sizeof w) : sizeof w + len;
    struct vfu_msg msg;

    int r = ask(s, is_write ? VFU_DMA_WRITE : VFU_DMA_READ, parts,
                !is_write ? 1 : old ? 3 : 2, is_write ? 0 : reply_len, MAX(reply_len, sizeof w),
                &msg);
    if (r < 0)
        return r;
    if (!is_write) {
        size_t at = old ? sizeof(struct vfu_wire_dma_old) : sizeof w;
        if (le64_load(msg.body) != addr || le32_load(msg.body + 8) != len) {
            vfu_port_end(&s->port, "an answer to DMA_READ is about another address");
            r = -EPROTO;
        } else {
            memcpy(buf, msg.body + at, len);
        }
    }
    vfu_msg_close_fds(&msg);
    return r;
}

static int dma_transfer(struct vfu_server *s, bool is_write, uint64_t addr, void *buf, size_t len)
{
    uint8_t *at = buf;

    int r = probe_layout(s);
    while (r == 0 && len) {
        uint32_t n = MIN(len, (size_t)s->client.max_data);
        r = dma_piece(s, is_write, addr, at, n);
        addr += n;
        at += n;
        len -= n;
    }
    return r;
}

int vfu_server_dma_read(struct vfu_server *s, uint64_t addr, void *buf, size_t len)
{
    return dma_transfer(s, false, addr, buf, len);
}

int vfu_server_dma_write(struct vfu_server *s, uint64_t addr, const void *buf, size_t len)
{
    return dma_transfer(s, true, addr, (void *)buf, len);   /* only read from */
}
