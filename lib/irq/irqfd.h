/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts that arrive on an eventfd with no step through the event loop. The machine offers this
 * table when its hypervisor can (KVM irqfds and MSI routes); without it whoever has an eventfd
 * watches it in the loop and raises the interrupt itself.
 *
 * Called under the machine's lock. 0 or a negative errno; descriptors stay the caller's.
 */
#ifndef IRQ_IRQFD_H
#define IRQ_IRQFD_H

#include <stdint.h>

struct irqfd_ops {
    /* A level-triggered line: fd raises it; at the guest's end of interrupt the line is lowered and
     * resample_fd signalled, so that whoever still wants it raises it again. */
    int  (*line_bind)(void *opaque, unsigned gsi, int fd, int resample_fd);
    void (*line_unbind)(void *opaque, unsigned gsi, int fd);

    /* A message: *ret_route names it for the others. */
    int  (*msi_bind)(void *opaque, uint64_t addr, uint32_t data, int fd, unsigned *ret_route);
    int  (*msi_update)(void *opaque, unsigned route, uint64_t addr, uint32_t data);
    void (*msi_unbind)(void *opaque, unsigned route, int fd);
};

#endif
