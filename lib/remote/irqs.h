/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device's interrupts as eventfds of its client (vfio-user SET_IRQS). INTx is level-triggered
 * over an edge: when the line rises the eventfd is signalled and the line counts as masked until
 * the client unmasks it, by a message or by an eventfd; if it is high then, it is signalled again.
 * A vector raised while nothing is wired stays pending until something is. Loop thread.
 */
#ifndef REMOTE_IRQS_H
#define REMOTE_IRQS_H

#include "event/loop.h"
#include "vfio_user/proto.h"

struct irq_vectors { unsigned count; int *fds; bool *pending; };

struct irqs {
    struct loop *loop;
    bool level;                     /* what the device drives */
    bool masked;
    int intx_fd;                    /* -1: not wired */
    int mask_fd, unmask_fd;
    struct watch *mask_watch, *unmask_watch;
    struct irq_vectors msi, msix;
};

int irqs_init(struct irqs *irqs, struct loop *loop) MUST_CHECK;
void irqs_fini(struct irqs *irqs);
/* How many vectors the device has. -ENOMEM. */
int irqs_resize(struct irqs *irqs, unsigned msi, unsigned msix) MUST_CHECK;
/* The client is gone: closes its eventfds. What is pending stays. */
void irqs_unwire(struct irqs *irqs);

/* set's range was checked against the counts; fds as in struct vfu_server_ops. */
int irqs_set(struct irqs *irqs, const struct vfu_irq_set *set, int *fds);

void irqs_level(struct irqs *irqs, bool level);
void irqs_message(struct irqs *irqs, unsigned index, unsigned vector);

#endif
