/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PCI_INTERNAL_H
#define PCI_INTERNAL_H

#include "base/log.h"
#include "pci/pci.h"

struct pci_bar {
    struct pci_device *pdev;
    unsigned index;
    struct pci_bar_info info;
    struct mem_ops ops;
    struct mem_region *outer;       /* what is mapped: a container, so that tables can lie on top */
    struct mem_region *inner;       /* the device's own */
    struct address_space *as;       /* on outer, for accesses from elsewhere; made when needed */
    uint64_t addr;                  /* where it is mapped now; UINT64_MAX: nowhere */
};

struct pci_msix {
    unsigned cap, vectors;          /* cap 0: none */
    uint8_t *table, *pba;
    uint32_t table_len, pba_len;
    struct mem_region *table_region, *pba_region;
};

struct pci_device {
    struct object *obj;
    const struct pci_device_class *cls;
    struct pci_bus *bus;
    unsigned devfn;
    char *addr_prop;
    bool multifunction;

    uint8_t config[PCIE_CONFIG_SIZE];
    uint8_t wmask[PCIE_CONFIG_SIZE];
    uint8_t w1c[PCIE_CONFIG_SIZE];
    uint8_t initial[PCIE_CONFIG_SIZE];      /* config as realize left it: what reset goes back to */
    unsigned next_cap, last_cap;

    struct pci_bar bars[PCI_BARS];
    bool irq_level;                 /* what the device wants */
    bool irq_out;                   /* what the bus was told */
    unsigned msi_cap;               /* 0: none */
    struct pci_msix msix;
    pci_vectors_changed_fn *changed;
    void *changed_opaque;
};

struct pci_bus {
    struct bus bus;
    struct pci_bus_config config;
    char *name;
    struct obj_tree *tree;
    struct pci_device *devices[256];
    const struct irqfd_ops *irqfd;
    void *irqfd_opaque;
};

void pci_irq_update(struct pci_device *pdev);
void pci_bars_update(struct pci_device *pdev);
void pci_vectors_changed(struct pci_device *pdev);

void pci_msi_config_written(struct pci_device *pdev, unsigned off, unsigned len);
void pci_msix_reset(struct pci_device *pdev);
void pci_msix_fini(struct pci_device *pdev);
int pci_msix_post_load(struct pci_device *pdev, struct error *err);

#endif
