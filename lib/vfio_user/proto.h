/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vfio-user protocol as it lies on the socket, and the one place that turns a peer's bytes
 * into structs of ours. A decoder returns
 *
 *     0          *ret is filled and may be trusted within the bounds said here
 *     -EPROTO    the message is not one: its sender loses the channel
 *     -EINVAL    a well-formed request for something that is refused: an error reply
 *
 * and in the last two cases err says what was wrong with which message.
 *
 * Specification: "vfio-user Protocol" as kept in QEMU 10.2, docs/interop/vfio-user.rst, with
 * minor version 2 as libvfio-user speaks it. The protocol is native-endian between processes of
 * one host; the hosts supported are little-endian. Any thread; nothing here keeps state.
 */
#ifndef VFIO_USER_PROTO_H
#define VFIO_USER_PROTO_H

#include "base/bytes.h"
#include "base/error.h"

enum {
    VFU_MAJOR = 0,
    VFU_MINOR = 2,                      /* the highest this code speaks */
    VFU_FDS_MAX = 16,                   /* descriptors in one message; QEMU accepts no higher */
    VFU_DATA_MAX = 1048576,             /* bytes in one region or DMA transfer */
    VFU_PAYLOAD_MAX = VFU_DATA_MAX + 4096,
    VFU_JSON_MAX = 4096,                /* VERSION's text, bytes with its NUL */
    VFU_DMA_MAPS_MAX = 4096,            /* what a server takes; far above any machine's table */
    VFU_AREAS_MAX = 16,                 /* sparse areas of one region */
    VFU_REGIONS_MAX = 100, VFU_IRQS_MAX = 50, VFU_VECTORS_MAX = 2048,
    VFU_TIMEOUT_MS = 5000,
};

enum vfu_command {
    VFU_VERSION = 1, VFU_DMA_MAP = 2, VFU_DMA_UNMAP = 3, VFU_DEVICE_GET_INFO = 4,
    VFU_DEVICE_GET_REGION_INFO = 5, VFU_DEVICE_GET_REGION_IO_FDS = 6, VFU_DEVICE_GET_IRQ_INFO = 7,
    VFU_DEVICE_SET_IRQS = 8, VFU_REGION_READ = 9, VFU_REGION_WRITE = 10, VFU_DMA_READ = 11,
    VFU_DMA_WRITE = 12, VFU_DEVICE_RESET = 13, VFU_REGION_WRITE_MULTI = 15,
    VFU_DEVICE_FEATURE = 16,
};

enum {                                  /* header flags */
    VFU_TYPE_MASK = 0x0f, VFU_TYPE_COMMAND = 0, VFU_TYPE_REPLY = 1,
    VFU_NO_REPLY = 0x10, VFU_ERROR = 0x20,
};
enum { VFU_DMA_READABLE = 1, VFU_DMA_WRITABLE = 2, VFU_DMA_BY_MMAP = 4, VFU_DMA_BY_FILE = 8 };
enum { VFU_UNMAP_ALL = 2 };
enum { VFU_DEVICE_RESETTABLE = 1, VFU_DEVICE_PCI = 2 };
enum { VFU_REGION_READABLE = 1, VFU_REGION_WRITABLE = 2, VFU_REGION_MMAP = 4, VFU_REGION_CAPS = 8 };
enum {                                  /* region indices of a PCI device */
    VFU_BAR0 = 0, VFU_BAR5 = 5, VFU_ROM = 6, VFU_CONFIG = 7, VFU_VGA = 8, VFU_PCI_REGIONS = 9,
};
enum {                                  /* interrupt indices of a PCI device */
    VFU_INTX = 0, VFU_MSI = 1, VFU_MSIX = 2, VFU_ERR = 3, VFU_REQ = 4, VFU_PCI_IRQS = 5,
};
enum { VFU_IRQ_EVENTFD = 1, VFU_IRQ_MASKABLE = 2, VFU_IRQ_AUTOMASKED = 4, VFU_IRQ_NORESIZE = 8 };
enum {                                  /* SET_IRQS: one kind of data, one action */
    VFU_SET_DATA_NONE = 0x01, VFU_SET_DATA_BOOL = 0x02, VFU_SET_DATA_EVENTFD = 0x04,
    VFU_SET_MASK = 0x08, VFU_SET_UNMASK = 0x10, VFU_SET_TRIGGER = 0x20,
};
enum { VFU_CAP_SPARSE_MMAP = 1 };

/* ---- as it lies on the wire ---- */

struct vfu_wire_header { le16 id, command; le32 size, flags, error; };
struct vfu_wire_version { le16 major, minor; };             /* then JSON, NUL */
struct vfu_wire_dma_map { le32 argsz, flags; le64 offset, addr, size; };
struct vfu_wire_dma_unmap { le32 argsz, flags; le64 addr, size; };
struct vfu_wire_device_info { le32 argsz, flags, num_regions, num_irqs; };
struct vfu_wire_region_info { le32 argsz, flags, index, cap_offset; le64 size, offset; };
struct vfu_wire_sparse { le16 id, version; le32 next, nr_areas, zero; };    /* then areas */
struct vfu_wire_area { le64 offset, size; };
struct vfu_wire_io_fds { le32 argsz, flags, index, count; };
struct vfu_wire_irq_info { le32 argsz, flags, index, count; };
struct vfu_wire_irq_set { le32 argsz, flags, index, start, count; };        /* then bools */
struct vfu_wire_access { le64 offset; le32 region, count; };                /* then data */
struct vfu_wire_write_multi { le64 offset; le32 region, count; uint8_t data[8]; };
struct vfu_wire_dma { le64 addr, count; };                                  /* then data */
/* DMA_READ and DMA_WRITE as QEMU 10.1 and 10.2 have them. */
struct vfu_wire_dma_old { le64 addr; le32 count; };

/* ---- as we use it ---- */

struct vfu_header {
    uint16_t id, command;
    uint32_t flags, error;
    uint32_t len;                       /* bytes of payload, at most VFU_PAYLOAD_MAX */
};

struct vfu_caps {                       /* what a VERSION says of its sender */
    uint16_t minor;
    unsigned max_msg_fds;               /* 0 to 1024 */
    uint32_t max_data;                  /* 1 to VFU_DATA_MAX: ours is the lower bound of both */
    unsigned max_dma_maps;
    uint64_t pgsizes;
    bool write_multiple;
    bool twin_socket;                   /* asked for, or given as descriptor twin_index */
    unsigned twin_index;
    unsigned bulkhead;                  /* version of our own extensions, 0: a stranger */
    char device_id[64];                 /* with bulkhead: id of the device that answers */
};

struct vfu_dma_map {
    uint64_t addr, size;                /* size > 0, end does not wrap */
    uint64_t offset;                    /* in the descriptor; offset + size does not wrap */
    uint32_t flags;
};
struct vfu_dma_unmap { uint64_t addr, size; bool all; };
struct vfu_area { uint64_t offset, size; };     /* in the region, not empty */
struct vfu_region_info {
    uint64_t size;                      /* 0: no such region */
    uint32_t flags;                     /* VFU_REGION_READABLE, _WRITABLE, _MMAP */
    uint64_t fd_offset;                 /* of the region in fd */
    int fd;                             /* -1 unless VFU_REGION_MMAP */
    unsigned nareas;                    /* 0 with _MMAP: the whole region */
    struct vfu_area areas[VFU_AREAS_MAX];
};
struct vfu_irq_info { uint32_t flags, count; };
struct vfu_irq_set {
    uint32_t index, start, count;
    uint32_t data, action;              /* exactly one bit of each kind */
    const uint8_t *bools;               /* count of them with VFU_SET_DATA_BOOL */
};
struct vfu_access { uint64_t offset; uint32_t region, count; };

void vfu_header_encode(const struct vfu_header *h, struct vfu_wire_header *ret);
/* p has VFU header size bytes. -EPROTO: a size no message can have, or an unknown type. */
int vfu_header_decode(const void *p, struct vfu_header *ret, struct error *err) MUST_CHECK;
const char *vfu_command_name(unsigned command);     /* "DMA_MAP"; "command 77" is "unknown" */

/*
 * VERSION's text. is_reply: members that only a server sends are looked at too. The text that
 * is made has its NUL, is at most cap bytes, and short enough for QEMU (under 190) unless
 * caps->bulkhead is set; returns its length with the NUL, or -errno.
 */
int vfu_version_decode(const uint8_t *body, size_t len, bool is_reply, struct vfu_caps *ret,
                       struct error *err) MUST_CHECK;
int vfu_version_text(const struct vfu_caps *caps, bool is_reply, char *buf, size_t cap) MUST_CHECK;

/* Requests that a server gets. body has len bytes, nfds descriptors came along. */
int vfu_dma_map_decode(const uint8_t *body, size_t len, unsigned nfds, struct vfu_dma_map *ret,
                       struct error *err) MUST_CHECK;
int vfu_dma_unmap_decode(const uint8_t *body, size_t len, struct vfu_dma_unmap *ret,
                         struct error *err) MUST_CHECK;
/* The four info requests share their first 16 bytes' shape: argsz @0, index @8. */
int vfu_info_decode(const uint8_t *body, size_t len, unsigned command, uint32_t *ret_argsz,
                    uint32_t *ret_index, struct error *err) MUST_CHECK;
int vfu_irq_set_decode(const uint8_t *body, size_t len, unsigned nfds, struct vfu_irq_set *ret,
                       struct error *err) MUST_CHECK;
/* count is at most VFU_DATA_MAX, and is what follows when is_write. */
int vfu_access_decode(const uint8_t *body, size_t len, bool is_write, struct vfu_access *ret,
                      struct error *err) MUST_CHECK;
int vfu_write_multi_decode(const uint8_t *body, size_t len, uint64_t *ret_count,
                           struct error *err) MUST_CHECK;
/* Entry i < the count decoded before; *ret_data points into body. */
int vfu_write_multi_entry(const uint8_t *body, uint64_t i, struct vfu_access *ret,
                          const uint8_t **ret_data, struct error *err) MUST_CHECK;

/* Requests that a client gets, and replies that it checks. */
int vfu_dma_access_decode(const uint8_t *body, size_t len, bool is_write, uint64_t *ret_addr,
                          uint32_t *ret_count, struct error *err) MUST_CHECK;
/* The reply to GET_REGION_INFO(index); fd is left -1. *ret_argsz: what the peer wants to say in
 * all; when it is more than len, ask again with that. */
int vfu_region_info_decode(const uint8_t *body, size_t len, unsigned index,
                           struct vfu_region_info *ret, uint32_t *ret_argsz, struct error *err)
    MUST_CHECK;
/* Bytes written (32, or more with caps if they fit into argsz); buf has room for
 * VFU_REGION_INFO_MAX. */
enum { VFU_REGION_INFO_MAX = 32 + 16 + 16 * VFU_AREAS_MAX };
size_t vfu_region_info_encode(const struct vfu_region_info *info, unsigned index, uint32_t argsz,
                              uint8_t *buf);

#endif
