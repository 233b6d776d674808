/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client end of one vfio-user connection: what a proxy holds of a device in another process,
 * ours or a stranger's (libvfio-user, SPDK, QEMU's x-vfio-user-server). The server is not
 * trusted: whatever it sends or fails to send, a call returns within the time-out.
 *
 * One request is in flight at a time, under the client's own lock, which is held while waiting;
 * take no lock inside the operations that a thread may hold while it calls. A server that breaks
 * the protocol, dies or misses the time-out has failed for good: the call that notices and all
 * later ones return at once, and `failed` is called once, on the loop thread.
 */
#ifndef VFIO_USER_CLIENT_H
#define VFIO_USER_CLIENT_H

#include "event/loop.h"
#include "vfio_user/proto.h"

struct vfu_client;

struct vfu_client_ops {
    /* The connection has failed; once, loop thread. The client stays until it is freed. */
    void (*failed)(void *opaque, const char *reason);
    /* The device asks for guest memory by message: 0 or negative errno, count <= VFU_DATA_MAX.
     * Loop thread; or, when the server has no twin socket, a thread that is in a call. NULL:
     * refused. */
    int (*dma_read)(void *opaque, uint64_t addr, void *buf, size_t len);
    int (*dma_write)(void *opaque, uint64_t addr, const void *buf, size_t len);
};

struct vfu_client_config {
    struct loop *loop;
    int fd;                         /* a connected stream socket; taken, also on failure */
    unsigned timeout_ms;            /* 0: VFU_TIMEOUT_MS */
    const struct vfu_client_ops *ops;
    void *opaque;
};

/* Loop thread. Agrees on the version with the server, which takes up to the time-out. */
int vfu_client_new(const struct vfu_client_config *config, struct vfu_client **ret_client,
                   struct error *err) MUST_CHECK;
/* Loop thread, when no other thread is in a call or will make one. NULL allowed. */
void vfu_client_free(struct vfu_client *client);

/* Any thread. */
bool vfu_client_alive(const struct vfu_client *client);
/* Ends the connection from our side; calls in progress return. Any thread. */
void vfu_client_fail(struct vfu_client *client, const char *reason);
/* For who got r < 0 from an access: sets err to "what", and why, and returns r. Any thread. */
int vfu_client_explain(struct vfu_client *client, int r, const char *what, struct error *err);
/* What the server said of itself; constant. */
const struct vfu_caps *vfu_client_server(const struct vfu_client *client);

/* ---- set-up, loop thread; err says what the server refused or did wrong ---- */

struct vfu_device_info { uint32_t flags; unsigned regions, irqs; };
int vfu_client_device_info(struct vfu_client *client, struct vfu_device_info *ret_info,
                           struct error *err) MUST_CHECK;
/* ret_info->fd is the caller's to close (-1: none). Sizes are as the server says. */
int vfu_client_region_info(struct vfu_client *client, unsigned index,
                           struct vfu_region_info *ret_info, struct error *err) MUST_CHECK;
int vfu_client_irq_info(struct vfu_client *client, unsigned index, struct vfu_irq_info *ret_info,
                        struct error *err) MUST_CHECK;
/* fds (borrowed): set->count of them with VFU_SET_DATA_EVENTFD, or NULL to unwire. More than the
 * server takes at a time are sent in several messages. Any thread. */
int vfu_client_set_irqs(struct vfu_client *client, const struct vfu_irq_set *set, const int *fds,
                        struct error *err) MUST_CHECK;
/* fd (borrowed) -1: the server cannot reach the range itself. Any thread. */
int vfu_client_dma_map(struct vfu_client *client, const struct vfu_dma_map *map, int fd,
                       struct error *err) MUST_CHECK;
int vfu_client_dma_unmap(struct vfu_client *client, uint64_t addr, uint64_t size,
                         struct error *err) MUST_CHECK;
int vfu_client_reset(struct vfu_client *client, struct error *err) MUST_CHECK;

/* ---- accesses, any thread ---- */

/* len up to 1 MiB (split as the server wants). On failure buf is undefined. */
int vfu_client_read(struct vfu_client *client, unsigned region, uint64_t off, void *buf,
                    size_t len) MUST_CHECK;
/* posted: does not wait, so a refusal is not heard of; order is kept with what follows. */
int vfu_client_write(struct vfu_client *client, unsigned region, uint64_t off, const void *buf,
                     size_t len, bool posted) MUST_CHECK;

#endif
