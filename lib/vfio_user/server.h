/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server end of one vfio-user connection: what a device process shows to a client, ours or
 * a stranger's (QEMU 10.1 and later, cloud-hypervisor, SPDK, libvfio-user's). The client is not
 * trusted. A request that is refused gets an error reply; a message that is none ends the
 * connection, and `gone` is told what was wrong.
 *
 * Loop thread. The server never blocks on the client, but for vfu_server_dma_read and _write.
 */
#ifndef VFIO_USER_SERVER_H
#define VFIO_USER_SERVER_H

#include "event/loop.h"
#include "vfio_user/proto.h"

struct vfu_server;

/*
 * What the device's side answers. All ints: 0, or a negative errno that goes into the reply.
 * Regions and interrupts have a PCI device's indices; the server asks for the information each
 * time and checks accesses against it.
 */
struct vfu_server_ops {
    /* index < VFU_PCI_REGIONS. fd stays the device's. Fills what is not zero (fd is -1). */
    void (*region_info)(void *opaque, unsigned index, struct vfu_region_info *info);
    /* index < VFU_PCI_IRQS. */
    void (*irq_info)(void *opaque, unsigned index, struct vfu_irq_info *info);

    /* [off, off + len) lies inside the region; len is 1 to VFU_DATA_MAX, any width. */
    int (*region_read)(void *opaque, unsigned index, uint64_t off, void *buf, size_t len);
    int (*region_write)(void *opaque, unsigned index, uint64_t off, const void *buf, size_t len);

    /* A range that overlaps no other one. *fd is -1 when the client has no descriptor for it, and
     * is taken with TAKE_FD by who keeps it. Repeats of a range do not arrive here. */
    int (*dma_map)(void *opaque, const struct vfu_dma_map *map, int *fd);
    /* A range that was mapped; also for each that is left when the client goes. False: transfers
     * are in progress there. The client then has no answer, and is not listened to, until
     * vfu_server_unmapped has been called for it (unless the client has gone before). */
    bool (*dma_unmap)(void *opaque, uint64_t addr, uint64_t size);

    /* start + count lies inside the index's count (or is 0, 0). fds: one for each with
     * VFU_SET_DATA_EVENTFD, else NULL (nothing wired); taken with TAKE_FD. */
    int (*set_irqs)(void *opaque, const struct vfu_irq_set *set, int *fds);

    void (*reset)(void *opaque);

    /* The connection is over: drop eventfds, call vfu_server_free now or later (reason lives as
     * long as the server). reason is NULL
     * when the client left in order. Nothing is called any more after it. */
    void (*gone)(void *opaque, const char *reason);
};

struct vfu_server_config {
    struct loop *loop;
    int fd;                         /* a connected stream socket; taken, also on failure */
    const char *device_id;          /* told to a client of ours; NULL: "" */
    const struct vfu_server_ops *ops;
    void *opaque;
    unsigned timeout_ms;            /* for DMA by message; 0: VFU_TIMEOUT_MS */
};

int vfu_server_new(const struct vfu_server_config *config, struct vfu_server **ret_server,
                   struct error *err) MUST_CHECK;
/* Closes the connection; mapped ranges are told to dma_unmap, gone is not called. Not from
 * inside an operation other than gone. NULL allowed. */
void vfu_server_free(struct vfu_server *server);

/* Nothing uses a range any more for which dma_unmap gave false. Not from inside an operation. */
void vfu_server_unmapped(struct vfu_server *server);

/*
 * Guest memory by message, for ranges without a descriptor. Blocks for at most the time-out; on
 * the twin socket where the client has one, else between the client's own requests, which wait.
 * len is at most what the client takes at a time (split by this function). -EPERM before
 * VERSION; other errors as the client gave them.
 */
int vfu_server_dma_read(struct vfu_server *server, uint64_t addr, void *buf, size_t len)
    MUST_CHECK;
int vfu_server_dma_write(struct vfu_server *server, uint64_t addr, const void *buf, size_t len)
    MUST_CHECK;

/* What the client said of itself; NULL before VERSION. */
const struct vfu_caps *vfu_server_client(const struct vfu_server *server);

#endif
