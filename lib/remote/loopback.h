/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests: one PCI device behind an endpoint in a second thread, and this thread as its vfio-user
 * client over a real socket. The second thread has its own loop and object tree; the tests' thread
 * uses none of that, so nothing is shared but the socket, the eventfds and the memory.
 *
 * Register accesses are complete when they return. Interrupts arrive asynchronously: ask with a
 * time-out. Functions are for the thread that made the loopback.
 */
#ifndef REMOTE_LOOPBACK_H
#define REMOTE_LOOPBACK_H

#include "pci/pci.h"

struct loopback;

struct loopback_config {
    const struct object_class *const *classes;  /* as for obj_tree_init */
    const json_t *description;          /* of the device, without "bus"; borrowed */
    /* Further set-up and its undoing on the second thread, before and after there is a device
     * (back-ends into tree->services, say). A device's children are made with loopback_run. NULL
     * allowed. */
    int  (*setup)(void *opaque, struct obj_tree *tree, struct error *err);
    void (*teardown)(void *opaque, struct obj_tree *tree);
    void *opaque;
    uint64_t ram_size;                  /* bytes of memory at address 0; page multiple */
    int ram_fd;                         /* borrowed memfd of that size; -1: one is made */
};

int loopback_new(const struct loopback_config *config, struct loopback **ret_loopback,
                 struct error *err) MUST_CHECK;
void loopback_free(struct loopback *loopback);          /* NULL allowed */

uint32_t loopback_config_read(struct loopback *lb, unsigned off, unsigned len);
void loopback_config_write(struct loopback *lb, unsigned off, unsigned len, uint32_t val);
/* All ones on failure. len 1 to 8. */
uint64_t loopback_bar_read(struct loopback *lb, unsigned bar, uint64_t off, unsigned len);
void loopback_bar_write(struct loopback *lb, unsigned bar, uint64_t off, unsigned len,
                        uint64_t val);

uint8_t *loopback_ram(struct loopback *lb);             /* the same bytes the device sees */

/*
 * The INTx line as the client sees it: unmasks, and says whether the device (still) asserts it.
 * Waits up to timeout_ms for it to be asserted. A line that was lowered is seen low at once.
 */
bool loopback_intx(struct loopback *lb, int timeout_ms);
/* Messages seen on MSI-X (or MSI) vector since the last call; waits up to timeout_ms for one. */
unsigned loopback_messages(struct loopback *lb, unsigned vector, int timeout_ms);

void loopback_reset(struct loopback *lb);
/* Leaves and comes back, as a restarted client does. The device keeps its state. */
void loopback_reconnect(struct loopback *lb);

/* Runs fn on the second thread, between the device's callbacks, and waits for it. */
typedef void loopback_fn(void *opaque, struct obj_tree *tree, struct pci_device *pdev);
void loopback_run(struct loopback *lb, loopback_fn *fn, void *opaque);

#endif
