/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MACHINE_INTERNAL_H
#define MACHINE_INTERNAL_H

#include "machine/machine.h"

/* Addresses that do not vary. */
enum {
    LOW_RAM_END = 0x9fc00, ACPI_START = 0xe0000, ACPI_END = 0x100000, HIGH_START = 0x100000,
};
#define PCI_HOLE_START 0xb0000000ull
#define ECAM_SIZE      0x10000000ull
#define MMIO32_START   0xc0000000ull
#define IOAPIC_ADDR    0xfec00000ull
#define LAPIC_ADDR     0xfee00000ull
#define FOUR_GIB       0x100000000ull

enum {
    PM_BASE = 0x600, PM1_EVT = 0x600, PM1_CNT = 0x604, PM_TMR = 0x608, PM_IRQ_MODE = 0x610,
    PM_SIZE = 0x30, RESET_PORT = 0xcf9, RESET_VALUE = 0x06,
};
enum { IRQ_SCI = 9, IRQ_RTC = 8, GSI_PCI = 16, GSI_PCI_COUNT = 8, IRQ_PCI_PIC = 10 };

struct machine {
    struct obj_tree *tree;
    const struct machine_ops *ops;
    void *opaque;
    unsigned cpus;
    uint32_t *apic_ids;                     /* cpus of them */
    struct machine_map map;

    struct mem_region *memory, *io;
    struct mem_region *ram, *ram_low, *ram_high;
    struct mem_region *pci_memory, *pci_io;
    struct address_space *memory_as, *io_as;
    struct pci_bus *pci;

    uint32_t isa_asserted[GSI_PCI];         /* per line, a bit for each source */
    uint8_t pci_asserted[256];              /* per devfn, a bit for each pin */
    unsigned pci_sources[GSI_PCI_COUNT];    /* asserted pins wired to each PCI line */
    bool pic_mode;                          /* PCI lines also reach the PIC */
    struct object *pm;                      /* the ACPI registers */
    struct chardev *serials[MACHINE_SERIALS];

    int kernel_fd, initrd_fd;
    char *kernel_name, *initrd_name, *cmdline;
    struct machine_start start;
};

struct machine *machine_of(const struct object *obj);
struct machine *machine_of_tree(const struct obj_tree *tree);

/* An ISA line is asserted while any source asserts it; source is a number below 32. */
void machine_isa_irq(struct machine *machine, unsigned irq, unsigned source, bool level);
/* The guest's operating system chose the IOAPIC, or went back to the PIC. */
void machine_set_pic_mode(struct machine *machine, bool pic_mode);
uint64_t machine_clock_ns(const struct machine *machine);
int64_t machine_wall_ns(const struct machine *machine);

/* A region of ports; *ret_region is the device's to give back with machine_ports_del. */
int machine_ports_add(struct machine *machine, const char *name, unsigned base, unsigned size,
                      const struct mem_ops *ops, void *opaque, struct mem_region **ret_region,
                      struct error *err) MUST_CHECK;
void machine_ports_del(struct mem_region **region);

/* pci_host.c */
unsigned pci_host_gsi(unsigned devfn, unsigned pin);

/* acpi_pm.c */
void acpi_pm_power_button(struct object *pm);

/* acpi_tables.c: writes the tables into RAM. Returns where the RSDP is. */
int acpi_tables_write(struct machine *machine, uint64_t *ret_rsdp) MUST_CHECK;
/* The tables as one image that starts at ACPI_START; for the writer and its tests. */
int acpi_tables_build(const struct machine *machine, uint8_t *image, size_t size,
                      uint64_t *ret_rsdp) MUST_CHECK;

extern const struct object_class serial_class, cmos_class, legacy_class, acpi_pm_class;
extern const struct object_class debug_exit_class, pvpanic_class;
extern const struct pci_device_class host_bridge_class;

#endif
