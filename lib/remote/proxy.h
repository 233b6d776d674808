/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The near half of the border (rows A7, C4, F1, F3): the class "pci-proxy-dev", which stands on the
 * CPU process's PCI bus for any device behind a vfio-user server, ours or a stranger's. It does not
 * know what the device is. Register accesses are forwarded, without the machine's lock; BARs,
 * COMMAND, MSI and MSI-X are understood here as well, so that the map and the interrupt routes
 * follow the guest; guest memory is given to the device as descriptors.
 *
 *   -device pci-proxy-dev,id=lsi0,socket=3      socket: the primary channel of the device process,
 *                                               a descriptor's number or unix:PATH
 *   channel-fd=N                                instead: a connected vfio-user channel, duplicated
 *   timeout=MS                                  after which the device counts as failed
 *
 * When the channel fails the device is gone for good: reads give all ones, writes vanish, interrupts
 * are lowered, the owner is told once, and the guest lives on.
 *
 * Not done: extended configuration space (offsets from 256 on), expansion ROMs, BARs mapped into
 * the guest. At most PROXY_VECTORS_MAX MSI-X vectors are shown to the guest.
 */
#ifndef REMOTE_PROXY_H
#define REMOTE_PROXY_H

#include "pci/pci.h"

enum { PROXY_VECTORS_MAX = 256 };

extern const struct pci_device_class proxy_class;

/* Who wants to know; SERVICE_REMOTE of the tree. Loop thread, under the lock. */
struct proxy_owner {
    void (*failed)(void *opaque, struct pci_device *pdev, const char *reason);
    void *opaque;
};
/* Borrowed. */
static inline void proxy_set_owner(struct obj_tree *tree, struct proxy_owner *owner)
{
    tree->services[SERVICE_REMOTE] = owner;
}

/* pdev is a proxy whose channel works. Any thread. */
bool proxy_alive(struct pci_device *pdev);

#endif
