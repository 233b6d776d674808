/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a proxy. */
#ifndef REMOTE_PROXY_INTERNAL_H
#define REMOTE_PROXY_INTERNAL_H

#include "remote/proxy.h"
#include "vfio_user/client.h"

#include <stdatomic.h>

struct proxy;

struct proxy_vector {
    struct proxy *proxy;
    unsigned index;                 /* VFU_MSI or VFU_MSIX */
    unsigned number;
    int fd;                         /* signalled by the device */
    struct watch *watch;            /* on fd, while it is not bound */
    bool bound;                     /* delivered by the hypervisor, as `route` */
    unsigned route;
    uint64_t addr;
    uint32_t data;
};

struct proxy_vectors { struct proxy_vector *all; unsigned count; };

struct proxy {
    char *socket;                   /* properties */
    int32_t channel_fd;
    uint32_t timeout_ms;

    struct pci_device *pdev;
    struct vfu_client *client;      /* NULL before realize and after unrealize */
    struct channel_source *source;  /* the primary channel it came over; may be NULL */
    unsigned config_size;           /* bytes of it that exist, at most 256 */
    bool near[PCI_CONFIG_SIZE];     /* bytes that are answered here */
    atomic_uint users;              /* threads inside an access; counted before `live` is read */
    atomic_bool live;               /* client may be used by them */

    struct mem_listener listener;
    bool listening;

    /* interrupts, proxy_irq.c */
    unsigned mode;                  /* which index the device is told to use; under mode_lock */
    pthread_mutex_t mode_lock;
    bool automasked;                /* the server masks INTx itself when it fires */
    int intx_fd, unmask_fd;         /* -1: the device has none */
    struct watch *intx_watch;
    bool intx_bound;
    unsigned gsi;
    atomic_bool intx_high;          /* raised by us, not by the hypervisor */
    struct proxy_vectors msi, msix;
};

static inline void proxy_lock(struct proxy *p)
{
    pthread_mutex_t *lock = pci_device_object(p->pdev)->tree->lock;
    if (lock)
        pthread_mutex_lock(lock);
}

static inline void proxy_unlock(struct proxy *p)
{
    pthread_mutex_t *lock = pci_device_object(p->pdev)->tree->lock;
    if (lock)
        pthread_mutex_unlock(lock);
}

/* ---- proxy_irq.c ---- */

/* After the capabilities have been found: eventfds, the first wiring. Loop thread. */
int proxy_irq_init(struct proxy *p, struct error *err) MUST_CHECK;
void proxy_irq_fini(struct proxy *p);
/* The channel failed: nothing is signalled any more. Under the lock. */
void proxy_irq_failed(struct proxy *p);
/* The device has been reset: whatever line was up is down, on both sides. Under the lock. */
void proxy_irq_reset(struct proxy *p);
/* The guest may have changed from one kind of interrupt to another: the device is told. WITHOUT the
 * lock, but for reset, which may wait. */
void proxy_irq_follow(struct proxy *p);
/* The guest has touched the device: a line that we raised is lowered, and comes back if the device
 * still means it. WITHOUT the lock. */
void proxy_irq_touched(struct proxy *p);

/* ---- proxy_ram.c ---- */

void proxy_ram_init(struct proxy *p);
void proxy_ram_fini(struct proxy *p);

/* ---- proxy_channel.c ---- */

struct channel_source;
/* A channel for the device `id`, asked for over the primary channel `spec`, which is shared by all
 * that name it and closed with the last. */
int channel_open(struct loop *loop, const char *spec, const char *id, int timeout_ms,
                 struct channel_source **ret_source, int *ret_fd, struct error *err) MUST_CHECK;
void channel_source_put(struct channel_source *source);     /* NULL allowed */

#endif
