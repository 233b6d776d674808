/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server's bytes and descriptors into the client. Everything the server will ever say lies in
 * the socket before the client asks; ids are sequential, so a script can be right. The input: two
 * bytes of length, then a record each: command, flags, number of descriptors, body.
 */
#include "raw.h"
#include "vfio_user/client.h"

#include "base/fd.h"

#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int dma_read(void *opaque, uint64_t addr, void *buf, size_t len)
{
    memset(buf, 1, len);
    return addr & 1 ? -EFAULT : 0;
}

static int dma_write(void *opaque, uint64_t addr, const void *buf, size_t len)
{
    const uint8_t *p = buf;
    return len && p[len - 1] == 7 ? -EFAULT : 0;
}

static const struct vfu_client_ops ops = { NULL, dma_read, dma_write };

static void script(int fd, const uint8_t *data, size_t size, int sample)
{
    uint16_t id = 0;
    int fds[16];
    static const char version[] = "\0\0\0\0{\"capabilities\":{\"max_msg_fds\":3}}";

    for (int i = 0; i < 16; i++)
        fds[i] = sample;
    if (size && data[0] & 1)                /* half of all inputs get past VERSION at once */
        raw_send_id(fd, id++, VFU_VERSION, VFU_TYPE_REPLY, version, sizeof version);
    if (size) {
        data++;
        size--;
    }
    while (size >= 5) {
        size_t len = data[0] | (data[1] & 7) << 8;
        len = MIN(len, size - 5);
        struct raw m;
        raw_make(&m, data[2], data[3], data + 5, len);
        bool reply = (data[3] & VFU_TYPE_MASK) == VFU_TYPE_REPLY;
        le16_store(m.bytes, reply ? id++ : 3);
        le32_store(m.bytes + 12, data[3]);
        if (data[4] & 0x80)
            raw_write_fds(fd, data + 5, len, fds, len ? data[4] & 0xf : 0);
        else
            raw_write_fds(fd, m.bytes, m.len, fds, data[4] & 0xf);
        data += 5 + len;
        size -= 5 + len;
    }
    shutdown(fd, SHUT_WR);                  /* so that nothing waits for its time-out */
}

static void talk(struct vfu_client *c, int sample)
{
    struct vfu_device_info device;
    struct vfu_region_info region;
    struct vfu_irq_info irq;
    struct vfu_irq_set set = { .index = VFU_MSIX, .count = 5, .data = VFU_SET_DATA_EVENTFD,
                               .action = VFU_SET_TRIGGER };
    struct vfu_dma_map map = { .size = 4096, .flags = 3 };
    int fds[5] = { sample, sample, sample, sample, sample };
    uint8_t buf[300];
    int r;

    r = vfu_client_device_info(c, &device, NULL);
    for (unsigned i = 0; i < 3; i++) {
        if (vfu_client_region_info(c, i, &region, NULL) == 0) {
            for (unsigned k = 0; k < region.nareas; k++)
                if (!range_inside(region.areas[k].offset, region.areas[k].size, region.size))
                    abort();
            if (region.fd >= 0)
                close(region.fd);
        }
    }
    r |= vfu_client_irq_info(c, VFU_MSIX, &irq, NULL);
    r |= vfu_client_set_irqs(c, &set, fds, NULL);
    r |= vfu_client_dma_map(c, &map, sample, NULL);
    r |= vfu_client_read(c, 7, 0, buf, sizeof buf);
    r |= vfu_client_write(c, 0, 0, buf, 4, true);
    r |= vfu_client_write(c, 0, 0, buf, 4, false);
    r |= vfu_client_dma_unmap(c, 0, 4096, NULL);
    if (r == 1)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct loop *loop;
    static int sample = -1;
    struct vfu_client *c;
    int sv[2];

    if (size > 16384)
        return 0;
    if (!loop && loop_new(&loop, NULL) < 0)
        abort();
    if (sample < 0)
        sample = memfd_new("fuzz", 4096, 0);
    raw_pair(sv);
    int first = dup(0);
    close(first);
    int big = 1 << 20;
    setsockopt(sv[1], SOL_SOCKET, SO_SNDBUF, &big, sizeof big);
    script(sv[1], data, size, sample);

    struct vfu_client_config config = { .loop = loop, .fd = sv[0], .timeout_ms = 100, .ops = &ops };
    if (vfu_client_new(&config, &c, NULL) == 0) {
        loop_turn(loop, 0);
        talk(c, sample);
        loop_turn(loop, 0);
        vfu_client_free(c);
    }
    close(sv[1]);
    int last = dup(0);
    close(last);
    if (last > first)
        abort();                            /* a descriptor leaked */
    return 0;
}
