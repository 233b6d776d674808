/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PCI device as its author sees it (rows A8, C1–C4). Registers arrive, guest memory is reached by
 * address, interrupts are raised; which process this happens in is decided elsewhere.
 *
 * All device functions run on the loop thread or under the machine's lock: a device needs no locks.
 * PCI Local Bus 3.0, PCI Express Base 4.0 (configuration space only).
 */
#ifndef PCI_DEVICE_H
#define PCI_DEVICE_H

#include "mem/mem.h"
#include "obj/object.h"

struct pci_device;
struct pci_bus;

enum { PCI_BARS = 6, PCI_CONFIG_SIZE = 256, PCIE_CONFIG_SIZE = 4096 };

struct pci_device_ops {
    /* Properties are set, config space and BARs exist; claim resources. If it fails, unrealize is
     * called all the same. */
    int  (*realize)(struct pci_device *pdev, struct error *err);
    void (*unrealize)(struct pci_device *pdev);

    /* Back to the power-on state. Cannot fail, allocates nothing. Default: zero self's registers is
     * NOT done; write it. */
    void (*reset)(struct pci_device *pdev);

    /* After pause: no DMA, no interrupt, no back-end request in flight. Register accesses still
     * arrive and are remembered. resume undoes it. */
    void (*pause)(struct pci_device *pdev);
    void (*resume)(struct pci_device *pdev);

    /* State has been loaded: check what fields mean together, rebuild what is derived. */
    int  (*post_load)(struct pci_device *pdev, struct error *err);

    /* [off, off + len) lies inside the BAR and len is a width the BAR allows. */
    uint64_t (*bar_read)(struct pci_device *pdev, unsigned bar, uint64_t off, unsigned len);
    void (*bar_write)(struct pci_device *pdev, unsigned bar, uint64_t off, unsigned len,
                      uint64_t val);

    /* Instead of the default, for devices with registers of their own there and for the proxy; they
     * call pci_config_read_default and pci_config_write_default for the rest. */
    uint32_t (*config_read)(struct pci_device *pdev, unsigned off, unsigned len);
    void (*config_write)(struct pci_device *pdev, unsigned off, unsigned len, uint32_t val);
};

struct pci_ids {
    uint16_t vendor, device, subsys_vendor, subsys;
    uint32_t class;             /* 24 bits: base, sub, programming interface */
    uint8_t revision;
    uint8_t intx_pin;           /* 0: none, 1: INTA … 4: INTD */
    uint8_t min_gnt, max_lat;
    uint16_t msi_vectors;       /* 0: no MSI capability; a power of two up to 32 */
    uint16_t msix_vectors;      /* 0: no MSI-X capability; up to 2048 */
    uint8_t msix_bar;           /* 1-based, of its own; 0: the first unused one */
    bool express;               /* 4 KiB of configuration space, PCIe endpoint capability */
};

enum pci_bar_flags { PCI_BAR_IO = 1, PCI_BAR_64 = 2, PCI_BAR_PREFETCH = 4 };
enum { ACCESS_8 = 1, ACCESS_16 = 2, ACCESS_32 = 4, ACCESS_64 = 8, ACCESS_ALL = 15 };

struct pci_bar_info {
    uint64_t size;              /* bytes, a power of two; 0: no such BAR */
    unsigned flags;             /* enum pci_bar_flags */
    unsigned access;            /* widths the device wants to see, ACCESS_…; 0: all */
    bool unlocked;              /* bar_read and bar_write are called without the lock (proxy) */
};

/* A device class: `const struct pci_device_class csum_class = { .base = { .name = "csum", .parent =
 * &pci_device_base, .size = …, .props = …, .state = … }, .pci = …, .bars = …, .ops = … };` */
struct pci_device_class {
    struct object_class base;
    struct pci_ids pci;
    struct pci_bar_info bars[PCI_BARS];
    const struct pci_device_ops *ops;
    bool unlocked_config;       /* config_read and config_write are called without the lock */
};

/* The abstract class "pci-device": properties addr (slot[.function], hexadecimal) and
 * multifunction. */
extern const struct object_class pci_device_base;

void *pci_device_self(struct pci_device *pdev);         /* the device's own struct */
struct object *pci_device_object(struct pci_device *pdev);
struct pci_device *pci_device_of(struct object *obj);   /* obj is a pci-device */
const char *pci_device_name(struct pci_device *pdev);   /* its id */
struct loop *pci_device_loop(struct pci_device *pdev);

/* INTx level. Remembered while masked by COMMAND; MSI users do not call it. */
void pci_irq_set(struct pci_device *pdev, bool level);
bool pci_irq_level(struct pci_device *pdev);
/* One message: MSI-X vector if MSI-X is enabled, else MSI if enabled, else nothing happens and false
 * is returned. A masked vector stays pending. */
bool pci_irq_pulse(struct pci_device *pdev, unsigned vector);
bool pci_msi_enabled(struct pci_device *pdev);
bool pci_msix_enabled(struct pci_device *pdev);

/* DMA: nothing happens (-EPERM) while bus mastering is off; otherwise as in mem/mem.h. */
int pci_dma_read(struct pci_device *pdev, gpa_t addr, void *buf, size_t len) MUST_CHECK;
int pci_dma_write(struct pci_device *pdev, gpa_t addr, const void *buf, size_t len) MUST_CHECK;
void *pci_dma_map(struct pci_device *pdev, gpa_t addr, size_t *len, bool write,
                  struct dma_mapping *ret_map);

/* ---- configuration space ---- */

uint8_t *pci_config(struct pci_device *pdev);           /* the bytes, PCIE_CONFIG_SIZE of them */
/* Bits the guest may write, and bits a write of 1 clears. Bytes, same layout. */
uint8_t *pci_config_wmask(struct pci_device *pdev);
uint8_t *pci_config_w1c(struct pci_device *pdev);
unsigned pci_config_size(struct pci_device *pdev);
uint32_t pci_config_read_default(struct pci_device *pdev, unsigned off, unsigned len);
void pci_config_write_default(struct pci_device *pdev, unsigned off, unsigned len, uint32_t val);

/* Adds a capability to the chain; returns its offset, or -ENOSPC. */
int pci_add_capability(struct pci_device *pdev, uint8_t id, unsigned len);
unsigned pci_find_capability(struct pci_device *pdev, uint8_t id);   /* 0: none */

/* For classes whose BARs are known only at realize (the proxy, and devices with options). */
int pci_bar_set(struct pci_device *pdev, unsigned bar, const struct pci_bar_info *info,
                struct error *err) MUST_CHECK;
/* Instead of calls: a region of the class's own (RAM, container). Takes a reference. */
int pci_bar_set_region(struct pci_device *pdev, unsigned bar, unsigned flags,
                       struct mem_region *region, struct error *err) MUST_CHECK;
const struct pci_bar_info *pci_bar_info(struct pci_device *pdev, unsigned bar);
struct mem_region *pci_bar_region(struct pci_device *pdev, unsigned bar);
uint64_t pci_bar_address(struct pci_device *pdev, unsigned bar);    /* UINT64_MAX: not mapped */
/* An access to a BAR that does not come from an address space (the endpoint, tests). False if
 * [off, off + len) is not inside the BAR; reads then give all ones. */
bool pci_bar_read(struct pci_device *pdev, unsigned bar, uint64_t off, void *buf, size_t len);
bool pci_bar_write(struct pci_device *pdev, unsigned bar, uint64_t off, const void *buf, size_t len);

#endif
