/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio_user/proto.h"

#include <errno.h>

_Static_assert(sizeof(struct vfu_wire_header) == 16, "header");
_Static_assert(sizeof(struct vfu_wire_dma_map) == 32, "DMA_MAP");
_Static_assert(sizeof(struct vfu_wire_dma_unmap) == 24, "DMA_UNMAP");
_Static_assert(sizeof(struct vfu_wire_region_info) == 32, "GET_REGION_INFO");
_Static_assert(sizeof(struct vfu_wire_irq_set) == 20, "SET_IRQS");
_Static_assert(sizeof(struct vfu_wire_write_multi) == 24, "REGION_WRITE_MULTI");
_Static_assert(sizeof(struct vfu_wire_dma_old) == 12, "DMA_READ of QEMU 10");

const char *vfu_command_name(unsigned command)
{
    static const char *const names[] = {
        [VFU_VERSION] = "VERSION", [VFU_DMA_MAP] = "DMA_MAP", [VFU_DMA_UNMAP] = "DMA_UNMAP",
        [VFU_DEVICE_GET_INFO] = "DEVICE_GET_INFO",
        [VFU_DEVICE_GET_REGION_INFO] = "DEVICE_GET_REGION_INFO",
        [VFU_DEVICE_GET_REGION_IO_FDS] = "DEVICE_GET_REGION_IO_FDS",
        [VFU_DEVICE_GET_IRQ_INFO] = "DEVICE_GET_IRQ_INFO",
        [VFU_DEVICE_SET_IRQS] = "DEVICE_SET_IRQS", [VFU_REGION_READ] = "REGION_READ",
        [VFU_REGION_WRITE] = "REGION_WRITE", [VFU_DMA_READ] = "DMA_READ",
        [VFU_DMA_WRITE] = "DMA_WRITE", [VFU_DEVICE_RESET] = "DEVICE_RESET",
        [VFU_REGION_WRITE_MULTI] = "REGION_WRITE_MULTI",
        [VFU_DEVICE_FEATURE] = "DEVICE_FEATURE",
    };
    const char *name = command < ARRAY_SIZE(names) ? names[command] : NULL;
    return name ? name : "unknown command";
}

/* ---- header ---- */

void vfu_header_encode(const struct vfu_header *h, struct vfu_wire_header *ret)
{
    *ret = (struct vfu_wire_header){
        le16_of(h->id), le16_of(h->command), le32_of(sizeof *ret + h->len), le32_of(h->flags),
        le32_of(h->error),
    };
}

int vfu_header_decode(const void *p, struct vfu_header *ret, struct error *err)
{
    struct vfu_wire_header w;
    memcpy(&w, p, sizeof w);

    uint32_t size = le32_get(w.size), flags = le32_get(w.flags);
    if (size < sizeof w || size - sizeof w > VFU_PAYLOAD_MAX)
        return error_set(err, -EPROTO, "a message header says %u bytes; 16 to %zu are possible",
                         size, sizeof w + VFU_PAYLOAD_MAX);
    if ((flags & VFU_TYPE_MASK) > VFU_TYPE_REPLY)
        return error_set(err, -EPROTO, "a message is neither command nor reply (flags 0x%x)",
                         flags);

    *ret = (struct vfu_header){ le16_get(w.id), le16_get(w.command), flags, le32_get(w.error),
                                size - sizeof w };
    return 0;
}

/* ---- helpers of the decoders ---- */

/* Requests may be longer than their struct (SPDK's client), never shorter. */
static int take(const uint8_t *body, size_t len, unsigned command, void *w, size_t size,
                struct error *err)
{
    if (len < size)
        return error_set(err, -EPROTO, "%s with a body of %zu bytes; %zu are the least",
                         vfu_command_name(command), len, size);
    memcpy(w, body, size);
    return 0;
}

/* argsz is the room the sender has for what the command is about. */
static int check_argsz(uint32_t argsz, size_t least, unsigned command, struct error *err)
{
    if (argsz < least)
        return error_set(err, -EINVAL, "%s with argsz %u; %zu is the least",
                         vfu_command_name(command), argsz, least);
    return 0;
}

static int check_span(uint64_t start, uint64_t size, const char *what, struct error *err)
{
    uint64_t end;

    if (size == 0 || ckd_add(&end, start, size))
        return error_set(err, -EINVAL, "%s 0x%llx + 0x%llx is empty or wraps", what,
                         (unsigned long long)start, (unsigned long long)size);
    return 0;
}

/* ---- DMA ---- */

int vfu_dma_map_decode(const uint8_t *body, size_t len, unsigned nfds, struct vfu_dma_map *ret,
                       struct error *err)
{
    struct vfu_wire_dma_map w;
    uint32_t known = VFU_DMA_READABLE | VFU_DMA_WRITABLE | VFU_DMA_BY_MMAP | VFU_DMA_BY_FILE;

    int r = take(body, len, VFU_DMA_MAP, &w, sizeof w, err);
    if (r < 0)
        return r;
    if (nfds > 1)
        return error_set(err, -EPROTO, "DMA_MAP with %u descriptors; at most one has a meaning",
                         nfds);

    struct vfu_dma_map m = { .addr = le64_get(w.addr), .size = le64_get(w.size),
                             .offset = le64_get(w.offset), .flags = le32_get(w.flags) };
    r = check_argsz(le32_get(w.argsz), sizeof w, VFU_DMA_MAP, err);
    if (r == 0)
        r = check_span(m.addr, m.size, "DMA_MAP of", err);
    if (r == 0 && nfds)
        r = check_span(m.offset, m.size, "DMA_MAP's part of the descriptor", err);
    if (r < 0)
        return r;
    if (m.flags & ~known)
        return error_set(err, -EINVAL, "DMA_MAP with unknown flags 0x%x", m.flags);
    if ((m.flags & (VFU_DMA_BY_MMAP | VFU_DMA_BY_FILE)) && !nfds)
        return error_set(err, -EINVAL, "DMA_MAP asks for access by descriptor and has none");

    *ret = m;
    return 0;
}

int vfu_dma_unmap_decode(const uint8_t *body, size_t len, struct vfu_dma_unmap *ret,
                         struct error *err)
{
    struct vfu_wire_dma_unmap w;

    int r = take(body, len, VFU_DMA_UNMAP, &w, sizeof w, err);
    if (r == 0)
        r = check_argsz(le32_get(w.argsz), sizeof w, VFU_DMA_UNMAP, err);
    if (r < 0)
        return r;

    uint32_t flags = le32_get(w.flags);
    struct vfu_dma_unmap u = { le64_get(w.addr), le64_get(w.size), flags == VFU_UNMAP_ALL };
    if (flags & ~VFU_UNMAP_ALL)
        return error_set(err, -EINVAL, "DMA_UNMAP with unknown flags 0x%x", flags);
    if (u.all && (u.addr || u.size))
        return error_set(err, -EINVAL, "DMA_UNMAP of everything names a range as well");
    if (!u.all && (r = check_span(u.addr, u.size, "DMA_UNMAP of", err)) < 0)
        return r;

    *ret = u;
    return 0;
}

int vfu_dma_access_decode(const uint8_t *body, size_t len, bool is_write, uint64_t *ret_addr,
                          uint32_t *ret_count, struct error *err)
{
    struct vfu_wire_dma w;
    unsigned command = is_write ? VFU_DMA_WRITE : VFU_DMA_READ;

    int r = take(body, len, command, &w, sizeof w, err);
    if (r < 0)
        return r;

    uint64_t count = le64_get(w.count);
    if (count > VFU_DATA_MAX)
        return error_set(err, -EPROTO, "%s of %llu bytes; %d are the most",
                         vfu_command_name(command), (unsigned long long)count, VFU_DATA_MAX);
    if (len != sizeof w + (is_write ? count : 0))
        return error_set(err, -EPROTO, "%s of %llu bytes has a body of %zu",
                         vfu_command_name(command), (unsigned long long)count, len);

    *ret_addr = le64_get(w.addr);
    *ret_count = count;
    return 0;
}

/* ---- information ---- */

int vfu_info_decode(const uint8_t *body, size_t len, unsigned command, uint32_t *ret_argsz,
                    uint32_t *ret_index, struct error *err)
{
    struct vfu_wire_region_info w = { 0 };
    size_t size = command == VFU_DEVICE_GET_REGION_INFO ? sizeof w
                                                        : sizeof(struct vfu_wire_irq_info);

    int r = take(body, len, command, &w, size, err);
    if (r == 0)
        r = check_argsz(le32_get(w.argsz), size, command, err);
    if (r < 0)
        return r;

    *ret_argsz = le32_get(w.argsz);
    *ret_index = le32_get(w.index);
    return 0;
}

size_t vfu_region_info_encode(const struct vfu_region_info *info, unsigned index, uint32_t argsz,
                              uint8_t *buf)
{
    size_t full = sizeof(struct vfu_wire_region_info);
    bool caps = false;

    if (info->nareas) {
        full += sizeof(struct vfu_wire_sparse) + info->nareas * sizeof(struct vfu_wire_area);
        caps = argsz >= full;
    }
    struct vfu_wire_region_info w = {
        .argsz = le32_of(full), .index = le32_of(index),
        .flags = le32_of(info->flags | (caps ? VFU_REGION_CAPS : 0)),
        .cap_offset = le32_of(caps ? sizeof w : 0),
        .size = le64_of(info->size), .offset = le64_of(info->fd_offset),
    };
    memcpy(buf, &w, sizeof w);
    if (!caps)
        return sizeof w;

    struct vfu_wire_sparse s = { .id = le16_of(VFU_CAP_SPARSE_MMAP), .version = le16_of(1),
                                 .nr_areas = le32_of(info->nareas) };
    memcpy(buf + sizeof w, &s, sizeof s);
    for (unsigned i = 0; i < info->nareas; i++) {
        struct vfu_wire_area a = { le64_of(info->areas[i].offset), le64_of(info->areas[i].size) };
        memcpy(buf + sizeof w + sizeof s + i * sizeof a, &a, sizeof a);
    }
    return full;
}

static int areas_decode(const uint8_t *body, size_t len, size_t at, unsigned count,
                        struct vfu_region_info *info, struct error *err)
{
    if (count == 0 || count > VFU_AREAS_MAX ||
        !range_inside(at, (uint64_t)count * sizeof(struct vfu_wire_area), len))
        return error_set(err, -EPROTO, "a region's list of %u areas is empty or too long", count);

    for (unsigned i = 0; i < count; i++) {
        struct vfu_wire_area w;
        memcpy(&w, body + at + i * sizeof w, sizeof w);
        struct vfu_area a = { le64_get(w.offset), le64_get(w.size) };
        if (a.size == 0 || !range_inside(a.offset, a.size, info->size))
            return error_set(err, -EPROTO, "a region's area %u lies outside the region", i);
        info->areas[i] = a;
    }
    info->nareas = count;
    return 0;
}

int vfu_region_info_decode(const uint8_t *body, size_t len, unsigned index,
                           struct vfu_region_info *ret, uint32_t *ret_argsz, struct error *err)
{
    struct vfu_wire_region_info w;
    struct vfu_region_info info = { .fd = -1 };

    int r = take(body, len, VFU_DEVICE_GET_REGION_INFO, &w, sizeof w, err);
    if (r < 0)
        return r;
    uint32_t argsz = le32_get(w.argsz), flags = le32_get(w.flags), end;
    if (le32_get(w.index) != index)
        return error_set(err, -EPROTO, "asked about region %u, the answer is about region %u",
                         index, le32_get(w.index));
    if (argsz < sizeof w)
        return error_set(err, -EPROTO, "the answer about region %u has argsz %u", index, argsz);

    info.size = le64_get(w.size);
    info.fd_offset = le64_get(w.offset);
    info.flags = flags & (VFU_REGION_READABLE | VFU_REGION_WRITABLE | VFU_REGION_MMAP);
    uint64_t fd_end;
    if (ckd_add(&fd_end, info.fd_offset, info.size))
        return error_set(err, -EPROTO, "region %u wraps in its descriptor", index);

    /* A chain goes forward only, so it ends. */
    uint32_t at = flags & VFU_REGION_CAPS ? le32_get(w.cap_offset) : 0;
    for (end = sizeof w; at; ) {
        struct vfu_wire_sparse c;
        if (at < end || !range_inside(at, 8, len))
            return error_set(err, -EPROTO, "region %u's capabilities are no chain", index);
        memset(&c, 0, sizeof c);
        memcpy(&c, body + at, MIN(sizeof c, len - at));
        if (le16_get(c.id) == VFU_CAP_SPARSE_MMAP && le16_get(c.version) == 1) {
            if (!range_inside(at, sizeof c, len))
                return error_set(err, -EPROTO, "region %u's list of areas is cut off", index);
            r = areas_decode(body, len, at + sizeof c, le32_get(c.nr_areas), &info, err);
            if (r < 0)
                return r;
        }
        end = at + 8;
        at = le32_get(c.next);
    }
    *ret = info;
    *ret_argsz = argsz;
    return 0;
}

/* ---- interrupts ---- */

int vfu_irq_set_decode(const uint8_t *body, size_t len, unsigned nfds, struct vfu_irq_set *ret,
                       struct error *err)
{
    struct vfu_wire_irq_set w;
    uint32_t kinds = VFU_SET_DATA_NONE | VFU_SET_DATA_BOOL | VFU_SET_DATA_EVENTFD;
    uint32_t actions = VFU_SET_MASK | VFU_SET_UNMASK | VFU_SET_TRIGGER;

    int r = take(body, len, VFU_DEVICE_SET_IRQS, &w, sizeof w, err);
    if (r < 0)
        return r;
    uint32_t flags = le32_get(w.flags);
    struct vfu_irq_set s = { .index = le32_get(w.index), .start = le32_get(w.start),
                             .count = le32_get(w.count), .data = flags & kinds,
                             .action = flags & actions, .bools = body + sizeof w };

    r = check_argsz(le32_get(w.argsz), sizeof w, VFU_DEVICE_SET_IRQS, err);
    if (r < 0)
        return r;
    if ((flags & ~(kinds | actions)) || !is_power_of_two(s.data) || !is_power_of_two(s.action))
        return error_set(err, -EINVAL, "SET_IRQS with flags 0x%x", flags);
    if (s.index >= VFU_IRQS_MAX || !range_inside(s.start, s.count, VFU_VECTORS_MAX))
        return error_set(err, -EINVAL, "SET_IRQS for interrupts %u + %u of index %u", s.start,
                         s.count, s.index);
    if (s.data == VFU_SET_DATA_BOOL && len - sizeof w < s.count)
        return error_set(err, -EPROTO, "SET_IRQS for %u interrupts has %zu bytes of data",
                         s.count, len - sizeof w);
    if (s.data != VFU_SET_DATA_EVENTFD && nfds)
        return error_set(err, -EPROTO, "SET_IRQS with flags 0x%x has %u descriptors", flags, nfds);
    if (s.data == VFU_SET_DATA_EVENTFD && nfds && nfds != s.count)
        return error_set(err, -EPROTO, "SET_IRQS for %u interrupts has %u descriptors", s.count,
                         nfds);
    *ret = s;
    return 0;
}

/* ---- region access ---- */

int vfu_access_decode(const uint8_t *body, size_t len, bool is_write, struct vfu_access *ret,
                      struct error *err)
{
    struct vfu_wire_access w;
    unsigned command = is_write ? VFU_REGION_WRITE : VFU_REGION_READ;

    int r = take(body, len, command, &w, sizeof w, err);
    if (r < 0)
        return r;

    struct vfu_access a = { le64_get(w.offset), le32_get(w.region), le32_get(w.count) };
    if (is_write && a.count != len - sizeof w)
        return error_set(err, -EPROTO, "REGION_WRITE of %u bytes has %zu bytes of data", a.count,
                         len - sizeof w);
    if (a.count > VFU_DATA_MAX)
        return error_set(err, -EINVAL, "%s of %u bytes; %d are the most",
                         vfu_command_name(command), a.count, VFU_DATA_MAX);
    *ret = a;
    return 0;
}

int vfu_write_multi_decode(const uint8_t *body, size_t len, uint64_t *ret_count,
                           struct error *err)
{
    le64 count;

    int r = take(body, len, VFU_REGION_WRITE_MULTI, &count, sizeof count, err);
    if (r < 0)
        return r;
    uint64_t n = le64_get(count);
    if (n > (len - sizeof count) / sizeof(struct vfu_wire_write_multi))
        return error_set(err, -EPROTO, "REGION_WRITE_MULTI of %llu writes has a body of %zu bytes",
                         (unsigned long long)n, len);
    *ret_count = n;
    return 0;
}

int vfu_write_multi_entry(const uint8_t *body, uint64_t i, struct vfu_access *ret,
                          const uint8_t **ret_data, struct error *err)
{
    struct vfu_wire_write_multi w;
    const uint8_t *at = body + 8 + i * sizeof w;

    memcpy(&w, at, sizeof w);
    struct vfu_access a = { le64_get(w.offset), le32_get(w.region), le32_get(w.count) };
    if (a.count > sizeof w.data)
        return error_set(err, -EPROTO, "REGION_WRITE_MULTI with a write of %u bytes", a.count);
    *ret = a;
    *ret_data = at + offsetof(struct vfu_wire_write_multi, data);
    return 0;
}
