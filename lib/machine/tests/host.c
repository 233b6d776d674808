/* SPDX-License-Identifier: Apache-2.0 */
/* Memory map, configuration accesses, interrupt wiring. */
#include "pc.h"

static uint64_t toy_read(struct pci_device *pdev, unsigned bar, uint64_t off, unsigned len)
{
    return 0x1000 + off;
}
static void toy_write(struct pci_device *pdev, unsigned bar, uint64_t off, unsigned len, uint64_t val)
{
    if (off == 0)
        pci_irq_set(pdev, val);
    else
        pci_irq_pulse(pdev, 0);
}
static void toy_reset(struct pci_device *pdev) { pci_irq_set(pdev, false); }

static const struct pci_device_class toy_class = {
    .base = { .name = "toy", .parent = &pci_device_base },
    .pci = { .vendor = 0x1234, .device = 0x5678, .class = 0xff0000, .intx_pin = 1, .msi_vectors = 1 },
    .bars = { [0] = { .size = 0x1000 }, [1] = { .size = 0x100, .flags = PCI_BAR_IO } },
    .ops = &(const struct pci_device_ops){ .bar_read = toy_read, .bar_write = toy_write,
                                           .reset = toy_reset },
};
static const struct object_class *const classes[] = { &toy_class.base, NULL };

static void begin(struct pc *pc)
{
    struct machine_config config = { .kernel_fd = -1, .initrd_fd = -1 };
    pc_begin_with(pc, &config, classes);
}

static void config_set(struct pc *pc, unsigned slot, unsigned reg, unsigned len, uint32_t val)
{
    out(pc, 0xcf8, 4, 0x80000000 | slot << 11 | (reg & 0xfc));
    out(pc, 0xcfc + (reg & 3), len, val);
}
static uint32_t config_get(struct pc *pc, unsigned slot, unsigned reg, unsigned len)
{
    out(pc, 0xcf8, 4, 0x80000000 | slot << 11 | (reg & 0xfc));
    return in(pc, 0xcfc + (reg & 3), len);
}
static uint32_t ecam(struct pc *pc, unsigned slot, unsigned reg, unsigned len)
{
    uint32_t v = 0;
    address_space_read(pc->memory, 0xb0000000 + (slot << 15) + reg, &v, len);
    return v;
}

TEST(configuration_space_is_reached_by_ports_and_by_memory)
{
    struct pc pc;

    begin(&pc);
    pc_add(&pc, "toy,addr=3");
    CHECK_EQ(config_get(&pc, 0, 0, 4), 0x00081b36);
    CHECK_EQ(config_get(&pc, 0, 10, 2), 0x0600);
    CHECK_EQ(config_get(&pc, 3, 2, 2), 0x5678);
    CHECK_EQ(config_get(&pc, 3, 1, 1), 0x12);
    CHECK_EQ(config_get(&pc, 4, 0, 4), 0xffffffff);
    CHECK_EQ(ecam(&pc, 3, 0, 4), 0x56781234);
    CHECK_EQ(ecam(&pc, 3, 3, 1), 0x56);
    CHECK_EQ(ecam(&pc, 3, 0x100, 4), 0xffffffff);
    CHECK_EQ(ecam(&pc, 35, 0, 4), 0xffffffff);          /* bus 1 */
    config_set(&pc, 3, PCI_INTERRUPT_LINE, 1, 11);
    CHECK_EQ(ecam(&pc, 3, PCI_INTERRUPT_LINE, 1), 11);
    pc_save_and_load(&pc);
    CHECK_EQ(in(&pc, 0xcf8, 4), 0x8000183c);
    out(&pc, 0xcf8, 2, 0xffff);                         /* not a dword: nothing happens */
    CHECK_EQ(in(&pc, 0xcf8, 4), 0x8000183c);
    out(&pc, 0xcf8, 4, 0x1800);                         /* not enabled */
    CHECK_EQ(in(&pc, 0xcfc, 4), 0xffffffff);
    pc_end(&pc);
}

TEST(bars_appear_where_the_guest_puts_them_and_never_over_ram)
{
    struct pc pc;
    uint32_t v = 0;

    begin(&pc);
    pc_add(&pc, "toy,addr=3");
    config_set(&pc, 3, 0x10, 4, 0xc0000000);
    config_set(&pc, 3, 0x14, 4, 0x1000);
    config_set(&pc, 3, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
    CHECK(address_space_read(pc.memory, 0xc0000010, &v, 4));
    CHECK_EQ(v, 0x1010);
    CHECK_EQ(in(&pc, 0x1020, 4), 0x1020);
    config_set(&pc, 3, 0x10, 4, 0x200000);
    CHECK(address_space_read(pc.memory, 0x200010, &v, 4));
    CHECK_EQ(v, 0);
    config_set(&pc, 3, 0x14, 4, 0x300);                 /* over COM1: COM1 stays */
    CHECK_EQ(inb(&pc, 0x3fd), 0x60);
    pc_end(&pc);
}

TEST(shared_lines_are_up_while_anyone_holds_them)
{
    struct pc pc;

    begin(&pc);
    pc_add(&pc, "toy,addr=3");
    pc_add(&pc, "toy,addr=b");                          /* eight slots further: the same line */
    for (unsigned slot = 3; slot <= 0xb; slot += 8) {
        config_set(&pc, slot, 0x10, 4, 0xc0000000 + slot * 0x1000);
        config_set(&pc, slot, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    }
    uint32_t one = 1, zero = 0;
    address_space_write(pc.memory, 0xc0003000, &one, 4);
    CHECK(pc.irq[19]);
    CHECK(pc.irq[11]);                                  /* nobody has said IOAPIC yet */
    address_space_write(pc.memory, 0xc000b000, &one, 4);
    address_space_write(pc.memory, 0xc0003000, &zero, 4);
    CHECK(pc.irq[19]);
    outb(&pc, 0x610, 1);                                /* _PIC(1) */
    CHECK(!pc.irq[11]);
    CHECK(pc.irq[19]);
    address_space_write(pc.memory, 0xc000b000, &zero, 4);
    CHECK(!pc.irq[19]);
    address_space_write(pc.memory, 0xc000b000, &one, 4);
    CHECK(pc.irq[19] && !pc.irq[11]);
    outb(&pc, 0x610, 0);
    CHECK(pc.irq[11]);
    objects_reset(&pc.tree);
    CHECK(!pc.irq[19] && !pc.irq[11]);
    pc_end(&pc);
}

TEST(a_device_that_is_unplugged_lets_go_of_its_line)
{
    struct pc pc;
    uint32_t one = 1;

    begin(&pc);
    struct object *toy = pc_add(&pc, "toy,addr=3");
    config_set(&pc, 3, 0x10, 4, 0xc0000000);
    config_set(&pc, 3, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    address_space_write(pc.memory, 0xc0000000, &one, 4);
    CHECK(pc.irq[19]);
    object_destroy(toy);
    CHECK(!pc.irq[19]);
    pc_end(&pc);
}

TEST(messages_reach_the_hypervisor)
{
    struct pc pc;
    uint32_t v = 1;

    begin(&pc);
    struct object *toy = pc_add(&pc, "toy,addr=3");
    unsigned msi = pci_find_capability(pci_device_of(toy), PCI_CAP_ID_MSI);
    config_set(&pc, 3, 0x10, 4, 0xc0000000);
    config_set(&pc, 3, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    config_set(&pc, 3, msi + PCI_MSI_ADDRESS_LO, 4, 0xfee01000);
    config_set(&pc, 3, msi + PCI_MSI_DATA_64, 2, 0x41);
    config_set(&pc, 3, msi + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
    address_space_write(pc.memory, 0xc0000004, &v, 4);
    CHECK_EQ(pc.msis, 1);
    CHECK_EQ(pc.msi_addr, 0xfee01000);
    CHECK_EQ(pc.msi_data, 0x41);
    pc_end(&pc);
}

TEST(ram_goes_around_the_hole)
{
    struct machine_config config = { .kernel_fd = -1, .initrd_fd = -1, .ram_bytes = 5ull << 30 };
    struct pc pc;
    struct e820_entry e[MACHINE_E820_MAX];
    uint64_t sum = 0, last = 0, v = 0x1122334455667788;

    pc_begin_with(&pc, &config, NULL);
    const struct machine_map *map = machine_map(pc.machine);
    CHECK_EQ(map->ram_below, 0xb0000000);
    CHECK_EQ(map->ram_below + map->ram_above, 5ull << 30);
    CHECK_EQ(map->mmio64, 32ull << 30);
    CHECK_EQ(dma_write(pc.memory, (4ull << 30) - 0 + 8, &v, 8), 0);
    CHECK_EQ(*(uint64_t *)((char *)mem_ram_host(machine_ram(pc.machine)) + 0xb0000008), v);
    CHECK_EQ(dma_write(pc.memory, 0xb0000000 - 4, &v, 8), -EFAULT);
    unsigned n = machine_e820(pc.machine, e);
    for (unsigned i = 0; i < n; i++) {
        CHECK(e[i].addr >= last);
        last = e[i].addr + e[i].size;
        if (e[i].type == E820_RAM)
            sum += e[i].size;
    }
    CHECK_EQ(sum, (5ull << 30) - (HIGH_START - LOW_RAM_END));
    pc_end(&pc);
}

TEST(impossible_machines_are_refused)
{
    struct obj_tree tree;
    struct machine *m;
    struct error err;
    struct machine_config c = { .ops = &pc_ops, .cpus = 0, .ram_bytes = PC_RAM, .ram_fd = -1,
                                .kernel_fd = -1, .initrd_fd = -1 };

    obj_tree_init(&tree, NULL, machine_classes);
    CHECK(machine_new(&tree, &c, &m, &err) < 0);
    CHECK_HAS(err.text, "1 to 255 processors");
    c.cpus = 1;
    c.ram_bytes = 1 << 20;
    CHECK(machine_new(&tree, &c, &m, &err) < 0);
    CHECK_HAS(err.text, "at least 2 MiB");
    c.ram_bytes = 128ull << 30;
    c.phys_bits = 36;
    CHECK(machine_new(&tree, &c, &m, &err) < 0);
    CHECK_HAS(err.text, "more than the processor can address");
    CHECK(!tree.services[SERVICE_MACHINE]);
    obj_tree_fini(&tree);
}

TEST_MAIN
