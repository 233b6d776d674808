/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client's bytes and descriptors into the server. The input is a sequence of records: a byte
 * that says how many descriptors go along (low 5 bits) and whether the bytes are sent as they are
 * or behind a header that is right (high bit), two bytes of length, the bytes.
 */
#include "raw.h"
#include "vfio_user/server.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct vfu_server *server;
static uint8_t memory[4096];
static int sample_fd = -1;
static uint64_t mapped, in_use;

static void region_info(void *opaque, unsigned index, struct vfu_region_info *info)
{
    if (index > 2 && index != VFU_CONFIG)
        return;
    info->size = index == VFU_CONFIG ? 256 : sizeof memory;
    info->flags = VFU_REGION_READABLE | VFU_REGION_WRITABLE;
    if (index == 2) {
        info->flags |= VFU_REGION_MMAP;
        info->nareas = 2;
        info->areas[0] = info->areas[1] = (struct vfu_area){ 0, 4096 };
        info->fd = sample_fd;
    }
}

static void irq_info(void *opaque, unsigned index, struct vfu_irq_info *info)
{
    *info = (struct vfu_irq_info){ 1, index == VFU_MSIX ? 20 : 1 };
}

static int region_read(void *opaque, unsigned index, uint64_t off, void *buf, size_t len)
{
    if (!range_inside(off, len, index == VFU_CONFIG ? 256 : sizeof memory))
        abort();
    memcpy(buf, memory + off, len);
    return 0;
}

static int region_write(void *opaque, unsigned index, uint64_t off, const void *buf, size_t len)
{
    if (!range_inside(off, len, index == VFU_CONFIG ? 256 : sizeof memory))
        abort();
    memcpy(memory + off, buf, len);
    return 0;
}

static int dma_map(void *opaque, const struct vfu_dma_map *map, int *fd)
{
    if (map->size == 0 || map->addr + (map->size - 1) < map->addr)
        abort();
    mapped++;
    if (*fd >= 0 && (map->addr & 0x1000))
        close(TAKE_FD(*fd));
    return 0;
}

static bool dma_unmap(void *opaque, uint64_t addr, uint64_t size)
{
    mapped--;
    in_use += addr >> 13 & 1;
    return !(addr >> 13 & 1);
}

static int set_irqs(void *opaque, const struct vfu_irq_set *set, int *fds)
{
    uint32_t sum = 0;

    if (!range_inside(set->start, set->count, 20))
        abort();
    for (uint32_t i = 0; i < set->count; i++) {
        if (fds && fcntl(fds[i], F_GETFD) < 0)
            abort();
        if (set->data == VFU_SET_DATA_BOOL)
            sum += set->bools[i];
    }
    return sum == 77 ? -EBUSY : 0;
}

static void reset(void *opaque) { }

static void gone(void *opaque, const char *reason)
{
    vfu_server_free(server);
    server = NULL;
}

static const struct vfu_server_ops ops = {
    region_info, irq_info, region_read, region_write, dma_map, dma_unmap, set_irqs, reset, gone,
};

static void drain(int fd)
{
    static uint8_t buf[65536];
    char control[CMSG_SPACE(32 * sizeof(int))];
    struct iovec part = { buf, sizeof buf };

    for (;;) {
        struct msghdr mh = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = sizeof control };
        if (recvmsg(fd, &mh, MSG_DONTWAIT) <= 0)
            return;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c))
            for (size_t at = CMSG_LEN(0); at + sizeof(int) <= c->cmsg_len; at += sizeof(int))
                close(*(int *)((char *)c + at));
    }
}

static void send_record(int fd, const uint8_t *bytes, size_t len, unsigned nfds, bool framed)
{
    static uint8_t buf[70000];
    int fds[32];
    char control[CMSG_SPACE(32 * sizeof(int))] = { 0 };
    size_t n = 0;

    if (framed && len >= 3) {               /* command, flags, then the body */
        vfu_header_encode(&(struct vfu_header){ .id = 1, .command = bytes[0],
                          .flags = bytes[1] & 0x30, .len = len - 2 }, (void *)buf);
        n = sizeof(struct vfu_wire_header);
        bytes += 2;
        len -= 2;
    }
    memcpy(buf + n, bytes, len);
    n += len;
    for (unsigned i = 0; i < nfds; i++)
        fds[i] = sample_fd;

    struct iovec part = { buf, n };
    struct msghdr mh = { .msg_iov = &part, .msg_iovlen = 1 };
    if (nfds) {
        mh.msg_control = control;
        mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
    }
    if (sendmsg(fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        drain(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct loop *loop;
    int sv[2];

    if (!loop && loop_new(&loop, NULL) < 0)
        abort();
    if (sample_fd < 0)
        sample_fd = memfd_new("fuzz", 1 << 20, 0);
    raw_pair(sv);
    int first = dup(0);                     /* the lowest free number, to find leaks by */
    close(first);

    struct vfu_server_config config = { .loop = loop, .fd = sv[0], .device_id = "d", .ops = &ops };
    if (vfu_server_new(&config, &server, NULL) < 0)
        abort();
    if (size && data[0] != 0xff)
        raw_send(sv[1], VFU_VERSION, 0, "\0\0\0\0", 4, NULL, 0);
    while (size >= 3 && server) {
        size_t len = data[1] | (data[2] & 0x3f) << 8;
        len = MIN(len, size - 3);
        if (len)
            send_record(sv[1], data + 3, len, data[0] & 0x1f, data[0] & 0x80);
        data += 3 + len;
        size -= 3 + len;
        while (loop_turn(loop, 0) > 0)
            ;
        for (; in_use && server; in_use--)
            vfu_server_unmapped(server);
        while (loop_turn(loop, 0) > 0)
            ;
        drain(sv[1]);
    }
    in_use = 0;
    drain(sv[1]);
    close(sv[1]);
    while (loop_turn(loop, 0) > 0)
        ;
    if (server || mapped)
        abort();                            /* a client that is gone must be noticed */
    int last = dup(0);
    close(last);
    if (last > first)
        abort();                            /* a descriptor leaked */
    return 0;
}
