/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI seen from outside the devices: buses, who carries interrupts, how configuration accesses
 * arrive. The machine makes a root bus on its address spaces; an endpoint makes a private one.
 */
#ifndef PCI_PCI_H
#define PCI_PCI_H

#include "irq/irqfd.h"
#include "pci/device.h"
#include "pci/regs.h"

struct pci_bus_ops {
    /* The device's INTx pin (0: INTA) changed its level. */
    void (*intx)(void *opaque, struct pci_device *pdev, unsigned pin, bool level);
    /* A message: addr and data as the guest programmed them. */
    void (*msi)(void *opaque, struct pci_device *pdev, unsigned vector, uint64_t addr,
                uint32_t data);
    /*
     * The other side owns the MSI and MSI-X tables (vfio-user): the device's own masks and enables
     * are not looked at, `msi` is called for each vector raised, with addr and data 0.
     */
    bool vectors_only;
    /* Line to which (slot, pin) is wired; for irqfds. NULL with no irqfds. */
    unsigned (*gsi)(void *opaque, unsigned devfn, unsigned pin);
};

struct pci_bus_config {
    const char *name;               /* "pci.0" */
    const struct pci_bus_ops *ops;
    void *opaque;
    struct mem_region *mem, *io;    /* containers that BARs are put into; NULL: BARs are not mapped */
    struct address_space *dma;      /* what devices on it reach */
    bool express;                   /* 4 KiB configuration spaces are visible */
};

int pci_bus_new(struct obj_tree *tree, const struct pci_bus_config *config,
                struct pci_bus **ret_bus, struct error *err) MUST_CHECK;
void pci_bus_free(struct pci_bus *bus);
void pci_bus_set_irqfd(struct pci_bus *bus, const struct irqfd_ops *ops, void *opaque);
const struct irqfd_ops *pci_bus_irqfd(struct pci_bus *bus, void **ret_opaque);   /* NULL: none */
struct bus *pci_bus_as_bus(struct pci_bus *bus);

/*
 * A configuration access of 1, 2 or 4 bytes, not across a dword, from any thread WITHOUT the lock:
 * takes it for devices that want it, and calls proxies without. bus_nr 0 is this bus. No device:
 * all ones.
 */
uint32_t pci_config_access_read(struct pci_bus *bus, unsigned bus_nr, unsigned devfn, unsigned off,
                                unsigned len);
void pci_config_access_write(struct pci_bus *bus, unsigned bus_nr, unsigned devfn, unsigned off,
                             unsigned len, uint32_t val);

struct pci_device *pci_bus_device(struct pci_bus *bus, unsigned devfn);     /* NULL: none */
struct pci_bus *pci_device_bus(struct pci_device *pdev);
unsigned pci_device_devfn(struct pci_device *pdev);
/* The line its interrupt pin is wired to; false if it has no pin or the bus cannot say. */
bool pci_device_gsi(struct pci_device *pdev, unsigned *ret_gsi);
/* The address space its DMA goes to. An endpoint gives each device its own. */
struct address_space *pci_device_dma(struct pci_device *pdev);

/* MSI-X and MSI as the guest programmed them, for whoever binds vectors to irqfds. vector's message;
 * false if masked or disabled. */
bool pci_msix_message(struct pci_device *pdev, unsigned vector, uint64_t *ret_addr,
                      uint32_t *ret_data);
bool pci_msi_message(struct pci_device *pdev, unsigned vector, uint64_t *ret_addr,
                     uint32_t *ret_data);
unsigned pci_msix_vectors(struct pci_device *pdev);
unsigned pci_msi_vectors(struct pci_device *pdev);      /* enabled by the guest (MME), or 0 */
void pci_msix_set_pending(struct pci_device *pdev, unsigned vector, bool pending);

/* Tells when enable bits, masks or messages changed (under the lock). One per device. */
typedef void pci_vectors_changed_fn(void *opaque, struct pci_device *pdev);
void pci_on_vectors_changed(struct pci_device *pdev, pci_vectors_changed_fn *fn, void *opaque);

/* Adds MSI-X with the table inside a BAR at table_off and the pending bits at pba_off (what a remote
 * device says of itself). The layer answers for these ranges, above whatever the BAR holds. */
int pci_msix_init(struct pci_device *pdev, unsigned cap_off, unsigned vectors, unsigned table_bar,
                  uint32_t table_off, unsigned pba_bar, uint32_t pba_off, struct error *err)
    MUST_CHECK;
int pci_msi_init(struct pci_device *pdev, unsigned cap_off, struct error *err) MUST_CHECK;

json_t *pci_bus_query(struct pci_bus *bus);             /* query-pci's "devices" */

#endif
