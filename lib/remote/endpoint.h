/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The far half of the border (rows A8, B2, D1, F1): shows one PCI device of this process to a
 * vfio-user client. The device sits alone on a private bus; its configuration space and BARs are
 * the client's regions, its interrupts the client's eventfds, and its DMA reaches the memory that
 * the client has mapped, nothing else. The device does not know.
 *
 * A client may leave and another come: the device keeps its state, memory and eventfds are dropped.
 * Loop thread.
 */
#ifndef REMOTE_ENDPOINT_H
#define REMOTE_ENDPOINT_H

#include "pci/pci.h"

struct endpoint;

struct endpoint_config {
    struct obj_tree *tree;
    const char *bus_name;           /* of the private bus; unique in the tree */
    /* The client left (reason NULL) or broke the protocol, and is gone already. From inside,
     * endpoint_attach may be called, endpoint_free may not. NULL allowed. */
    void (*client_gone)(void *opaque, const char *reason);
    void *opaque;
};

/* Makes the bus; put the device there, with "bus": bus_name in its description. */
int endpoint_new(const struct endpoint_config *config, struct endpoint **ret_endpoint,
                 struct error *err) MUST_CHECK;
/* After its device was destroyed. A client is cut off. NULL allowed. */
void endpoint_free(struct endpoint *endpoint);

/* A connected stream socket on which a client speaks vfio-user; taken, also on failure. -EBUSY
 * while there is another client, -ENODEV while there is no device. */
int endpoint_attach(struct endpoint *endpoint, int fd, struct error *err) MUST_CHECK;
/* Cuts the client off; client_gone is not called. */
void endpoint_detach(struct endpoint *endpoint);
bool endpoint_has_client(const struct endpoint *endpoint);

struct pci_device *endpoint_device(const struct endpoint *endpoint);    /* NULL: none */
struct bus *endpoint_bus(const struct endpoint *endpoint);

#endif
