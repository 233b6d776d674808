/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PC: what stands around the processors. RAM and its map, PCI host bridge, platform devices,
 * ACPI tables, boot loaders. It knows no hypervisor; who has one gives it a table of functions and
 * asks it for address spaces, for the state processors start in, and for nothing else.
 *
 * In the hypervisor, not here: PIC, IOAPIC (24 pins, at 0xfec00000), local APICs, PIT.
 *
 * Guest physical memory (struct machine_map has the parts that vary):
 *
 *   0          .. 0x9fc00      RAM; boot structures of the loaders below 0x9fc00
 *   0xe0000    .. 0x100000     RAM, reserved: the ACPI tables
 *   0x100000   .. ram_below    RAM, at most up to 0xb0000000
 *   0xb0000000 .. 0xc0000000   ECAM: configuration space of PCI buses 0 to 255
 *   0xc0000000 .. 0xfec00000   BARs
 *   0xfec00000 .. 4 GiB        IOAPIC, local APIC, and pages that KVM wants (0xfeffc000 on)
 *   4 GiB      ..              the rest of RAM; then, from a multiple of 32 GiB on, 64-bit BARs
 *
 * Ports: 0x3f8/0x2f8/0x3e8/0x2e8 UARTs, 0x60/0x64 keyboard controller, 0x61, 0x70/0x71 CMOS, 0x80,
 * 0x92, 0xcf8-0xcff PCI configuration and reset (0xcf9), 0x600-0x62f ACPI, 0x1000-0xffff BARs.
 *
 * Interrupt lines are GSIs: 0-15 ISA (PIC and IOAPIC), 16-23 PCI, level-triggered, active low in the
 * IOAPIC as the tables say, GSI 9 the SCI. Levels are given as asserted or not.
 *
 * Loop thread, or any thread that holds the tree's lock, unless said otherwise.
 */
#ifndef MACHINE_MACHINE_H
#define MACHINE_MACHINE_H

#include "chardev/chardev.h"
#include "irq/irqfd.h"
#include "mem/mem.h"
#include "pci/pci.h"

enum { MACHINE_SERIALS = 4, MACHINE_CPUS_MAX = 255, MACHINE_GSIS = 24 };

struct machine;

enum machine_shutdown {
    MACHINE_SHUTDOWN_POWEROFF,      /* ACPI S5 */
    MACHINE_SHUTDOWN_DEBUG_EXIT,    /* isa-debug-exit; exit_code is the status of the program */
};

/*
 * What a hypervisor offers. Called under the lock, maybe on a vCPU thread: they take note and return;
 * machine_reset is not called from within them. None may be NULL but the last three.
 */
struct machine_ops {
    void (*set_irq)(void *opaque, unsigned gsi, bool level);
    void (*signal_msi)(void *opaque, uint64_t addr, uint32_t data);
    void (*request_shutdown)(void *opaque, enum machine_shutdown why, int exit_code);
    void (*request_reset)(void *opaque);            /* by the guest: 0xcf9, keyboard controller … */
    void (*guest_panicked)(void *opaque, bool crash_loaded);    /* pvpanic */
    uint64_t (*clock_ns)(void *opaque);             /* guest's monotonic clock; NULL: the host's */
    int64_t (*wall_ns)(void *opaque);               /* since 1970, UTC; NULL: the host's */
};

struct machine_config {
    const struct machine_ops *ops;
    void *opaque;
    unsigned cpus;                  /* 1 to MACHINE_CPUS_MAX */
    const uint32_t *apic_ids;       /* cpus of them, copied; NULL: 0 to cpus - 1 */
    unsigned phys_bits;             /* of guest physical addresses; 0: 39 */
    int ram_fd;                     /* ram_bytes of it, from offset 0; duplicated */
    uint64_t ram_bytes;             /* a multiple of 4 KiB, at least 2 MiB */

    /* What to boot: descriptors of regular files, read anew at each reset; duplicated. -1: none.
     * Names are for messages. */
    int kernel_fd, initrd_fd;
    const char *kernel_name, *initrd_name, *cmdline;

    struct chardev *serials[MACHINE_SERIALS];   /* borrowed; NULL: no such port. To outlive it */
};

/*
 * tree: loop and lock set, its table of classes holds machine_classes besides others. Sets
 * tree->services[SERVICE_MACHINE], makes bus "pci.0" with the host bridge at 0.0. Loads nothing:
 * machine_reset does. machine_free after obj_tree_fini.
 */
int machine_new(struct obj_tree *tree, const struct machine_config *config,
                struct machine **ret_machine, struct error *err) MUST_CHECK;
void machine_free(struct machine *machine);     /* NULL allowed */

/* Every class that this layer defines, internal ones included; NULL-terminated. For the user:
 * isa-debug-exit (iobase, iosize), pvpanic (ioport). */
extern const struct object_class *const machine_classes[];

/*
 * Power-on: resets every object of the tree, writes ACPI tables, kernel, initrd and boot structures
 * into RAM, and gets the start state. To be called before the first run too, with vCPUs stopped.
 * err: in words, if the kernel is none that can be booted, or does not fit.
 */
int machine_reset(struct machine *machine, struct error *err) MUST_CHECK;

/* The ACPI power button. What comes of it is the guest's affair. */
void machine_powerdown(struct machine *machine);

/* ---- how processor 0 starts (the others wait for INIT and SIPI) ---- */

struct machine_segment {            /* as KVM's kvm_segment */
    uint64_t base;
    uint32_t limit;                 /* bytes, already scaled */
    uint16_t selector;
    uint8_t type, present, dpl, db, s, l, g;
};

struct machine_start {
    bool long_mode;                 /* else 32-bit protected mode, paging off */
    uint64_t rip, rsp, rflags, rax, rbx, rcx, rdx, rsi, rdi, rbp;   /* the rest 0 */
    uint64_t cr0, cr3, cr4, efer;
    struct machine_segment cs, ds, tr;  /* ds for ds, es, fs, gs, ss; ldt: unusable */
    uint64_t gdt_base, idt_base;
    uint16_t gdt_limit, idt_limit;
};
/* Valid after machine_reset succeeded. */
const struct machine_start *machine_start_state(const struct machine *machine);

/* ---- what the hypervisor looks at ---- */

/* Memory and port accesses of guests are dispatched here, from any thread without the lock; RAM
 * slots follow the memory one's listeners. */
struct address_space *machine_memory(struct machine *machine);
struct address_space *machine_io(struct machine *machine);
struct mem_region *machine_memory_region(struct machine *machine);  /* the containers */
struct mem_region *machine_io_region(struct machine *machine);
struct mem_region *machine_ram(struct machine *machine);    /* the whole RAM, by offset in ram_fd */

struct pci_bus *machine_pci_bus(struct machine *machine);   /* pci.0 */
struct obj_tree *machine_tree(struct machine *machine);
unsigned machine_cpus(const struct machine *machine);

/* Once, after machine_new: interrupts from eventfds. Borrowed. */
void machine_set_irqfd(struct machine *machine, const struct irqfd_ops *ops, void *opaque);

struct machine_map {
    uint64_t ram_below, ram_above;      /* bytes of RAM from 0, and from 4 GiB on */
    uint64_t ecam, ecam_size;
    uint64_t mmio32, mmio32_size;
    uint64_t mmio64, mmio64_size;       /* 0: phys_bits leave no room */
};
const struct machine_map *machine_map(const struct machine *machine);

enum { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3, E820_NVS = 4 };
struct e820_entry { uint64_t addr, size; uint32_t type; };
enum { MACHINE_E820_MAX = 16 };
/* Sorted, without overlap. Returns the number written to entries[MACHINE_E820_MAX]. */
unsigned machine_e820(const struct machine *machine, struct e820_entry *entries);

#endif
