/* SPDX-License-Identifier: Apache-2.0 */
/* The machine put together: RAM and its map, platform devices, interrupt lines, power-on. */
#include "machine/internal.h"
#include "machine/boot.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

enum { PHYS_BITS_DEFAULT = 39 };
#define MMIO64_ALIGN (32ull << 30)
#define RAM_MIN (2ull << 20)

const struct object_class *const machine_classes[] = {
    &acpi_pm_class, &cmos_class, &debug_exit_class, &host_bridge_class.base, &legacy_class,
    &pvpanic_class, &serial_class, NULL,
};

struct machine *machine_of_tree(const struct obj_tree *tree)
{
    return tree->services[SERVICE_MACHINE];
}

struct machine *machine_of(const struct object *obj) { return machine_of_tree(obj->tree); }

struct address_space *machine_memory(struct machine *m) { return m->memory_as; }
struct address_space *machine_io(struct machine *m) { return m->io_as; }
struct mem_region *machine_memory_region(struct machine *m) { return m->memory; }
struct mem_region *machine_io_region(struct machine *m) { return m->io; }
struct mem_region *machine_ram(struct machine *m) { return m->ram; }
struct pci_bus *machine_pci_bus(struct machine *m) { return m->pci; }
struct obj_tree *machine_tree(struct machine *m) { return m->tree; }
unsigned machine_cpus(const struct machine *m) { return m->cpus; }
const struct machine_map *machine_map(const struct machine *m) { return &m->map; }
const struct machine_start *machine_start_state(const struct machine *m) { return &m->start; }

void machine_set_irqfd(struct machine *m, const struct irqfd_ops *ops, void *opaque)
{
    pci_bus_set_irqfd(m->pci, ops, opaque);
}

void machine_powerdown(struct machine *m) { acpi_pm_power_button(m->pm); }

uint64_t machine_clock_ns(const struct machine *m)
{
    return m->ops->clock_ns ? m->ops->clock_ns(m->opaque) : clock_now_ns();
}

int64_t machine_wall_ns(const struct machine *m)
{
    struct timespec ts;

    if (m->ops->wall_ns)
        return m->ops->wall_ns(m->opaque);
    clock_gettime(CLOCK_REALTIME, &ts);
    return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

/* ---- interrupt lines ---- */

void machine_isa_irq(struct machine *m, unsigned irq, unsigned source, bool level)
{
    uint32_t before = m->isa_asserted[irq];
    uint32_t now = level ? before | 1u << source : before & ~(1u << source);

    m->isa_asserted[irq] = now;
    if (!before != !now)
        m->ops->set_irq(m->opaque, irq, now != 0);
}

void machine_set_pic_mode(struct machine *m, bool pic_mode)
{
    m->pic_mode = pic_mode;
    for (unsigned i = 0; i < GSI_PCI_COUNT; i++)
        machine_isa_irq(m, IRQ_PCI_PIC + i % 2, 16 + i, pic_mode && m->pci_sources[i]);
}

static void on_intx(void *opaque, struct pci_device *pdev, unsigned pin, bool level)
{
    struct machine *m = opaque;
    unsigned devfn = pci_device_devfn(pdev), line = pci_host_gsi(devfn, pin) - GSI_PCI;
    uint8_t bit = 1u << (pin & 3);

    if (level == !!(m->pci_asserted[devfn] & bit))
        return;
    m->pci_asserted[devfn] ^= bit;
    bool was = m->pci_sources[line] != 0;
    m->pci_sources[line] += level ? 1 : -1;
    bool is = m->pci_sources[line] != 0;
    if (was == is)
        return;
    m->ops->set_irq(m->opaque, GSI_PCI + line, is);
    if (m->pic_mode)
        machine_isa_irq(m, IRQ_PCI_PIC + line % 2, 16 + line, is);
}

static void on_msi(void *opaque, struct pci_device *pdev, unsigned vector, uint64_t addr,
                   uint32_t data)
{
    struct machine *m = opaque;
    m->ops->signal_msi(m->opaque, addr, data);
}

static unsigned on_gsi(void *opaque, unsigned devfn, unsigned pin)
{
    return pci_host_gsi(devfn, pin);
}

static const struct pci_bus_ops pci_ops = { .intx = on_intx, .msi = on_msi, .gsi = on_gsi };

/* ---- ports ---- */

int machine_ports_add(struct machine *m, const char *name, unsigned base, unsigned size,
                      const struct mem_ops *ops, void *opaque, struct mem_region **ret_region,
                      struct error *err)
{
    struct mem_region *region = mem_io_new(name, size, ops, opaque);

    if (!region)
        return error_oom(err);
    mem_add(m->io, base, region, 0);
    *ret_region = region;
    return 0;
}

void machine_ports_del(struct mem_region **region)
{
    if (!*region)
        return;
    mem_del(*region);
    mem_region_orphan(*region);
    mem_region_put(*region);
    *region = NULL;
}

/* ---- memory ---- */

static int check_config(const struct machine_config *c, struct error *err)
{
    if (c->cpus < 1 || c->cpus > MACHINE_CPUS_MAX)
        return error_set(err, -EINVAL, "a machine has 1 to %d processors", MACHINE_CPUS_MAX);
    if (c->ram_bytes < RAM_MIN || c->ram_bytes % 4096)
        return error_set(err, -EINVAL, "memory must be a multiple of 4 KiB and at least 2 MiB");
    if (c->phys_bits && (c->phys_bits < 32 || c->phys_bits > 52))
        return error_set(err, -EINVAL, "no processor has %u bits of physical address", c->phys_bits);
    return 0;
}

static int make_map(struct machine_map *map, const struct machine_config *c, struct error *err)
{
    uint64_t limit = 1ull << (c->phys_bits ? c->phys_bits : PHYS_BITS_DEFAULT);

    map->ram_below = MIN(c->ram_bytes, PCI_HOLE_START);
    map->ram_above = c->ram_bytes - map->ram_below;
    map->ecam = PCI_HOLE_START;
    map->ecam_size = ECAM_SIZE;
    map->mmio32 = MMIO32_START;
    map->mmio32_size = IOAPIC_ADDR - MMIO32_START;
    if (map->ram_above > limit - MIN(limit, FOUR_GIB))
        return error_set(err, -EINVAL, "%llu MiB of memory are more than the processor can address",
                         (unsigned long long)(c->ram_bytes >> 20));
    map->mmio64 = align_up(MAX(FOUR_GIB + map->ram_above, MMIO64_ALIGN), MMIO64_ALIGN);
    map->mmio64_size = range_inside(map->mmio64, MMIO64_ALIGN, limit) ? MMIO64_ALIGN : 0;
    if (!map->mmio64_size)
        map->mmio64 = 0;
    return 0;
}

static int make_memory(struct machine *m, const struct machine_config *c, struct error *err)
{
    m->memory = mem_container_new("memory", UINT64_MAX);
    m->io = mem_container_new("io", 0x10000);
    m->pci_memory = mem_container_new("pci-memory", UINT64_MAX);
    m->pci_io = mem_container_new("pci-io", 0x10000);
    if (!m->memory || !m->io || !m->pci_memory || !m->pci_io)
        return error_oom(err);
    int r = mem_ram_new("ram", c->ram_fd, 0, c->ram_bytes, false, &m->ram, err);
    if (r < 0)
        return r;
    m->ram_low = mem_alias_new("ram-low", m->ram, 0, m->map.ram_below);
    if (m->map.ram_above)
        m->ram_high = mem_alias_new("ram-high", m->ram, m->map.ram_below, m->map.ram_above);
    if (!m->ram_low || (m->map.ram_above && !m->ram_high))
        return error_oom(err);

    mem_begin();
    mem_add(m->memory, 0, m->ram_low, 0);
    if (m->ram_high)
        mem_add(m->memory, FOUR_GIB, m->ram_high, 0);
    /* Below everything else: a BAR that the guest puts on top of RAM is not seen. */
    mem_add(m->memory, 0, m->pci_memory, -1);
    mem_add(m->io, 0, m->pci_io, -1);
    mem_commit();
    if (address_space_new("memory", m->memory, &m->memory_as) < 0 ||
        address_space_new("io", m->io, &m->io_as) < 0)
        return error_oom(err);
    address_space_set_lock(m->memory_as, m->tree->lock);
    address_space_set_lock(m->io_as, m->tree->lock);
    return 0;
}

unsigned machine_e820(const struct machine *m, struct e820_entry *e)
{
    unsigned n = 0;

    e[n++] = (struct e820_entry){ 0, LOW_RAM_END, E820_RAM };
    e[n++] = (struct e820_entry){ LOW_RAM_END, HIGH_START - LOW_RAM_END, E820_RESERVED };
    e[n++] = (struct e820_entry){ HIGH_START, m->map.ram_below - HIGH_START, E820_RAM };
    e[n++] = (struct e820_entry){ m->map.ecam, m->map.ecam_size, E820_RESERVED };
    e[n++] = (struct e820_entry){ 0xfeffc000, 0x4000, E820_RESERVED };  /* KVM's own pages */
    if (m->map.ram_above)
        e[n++] = (struct e820_entry){ FOUR_GIB, m->map.ram_above, E820_RAM };
    return n;
}

/* ---- life ---- */

static int create(struct machine *m, json_t *description, struct object **ret_obj,
                  struct error *err)
{
    struct object *obj;

    if (!description)
        return error_oom(err);
    int r = object_create(m->tree, description, &obj, err);
    json_decref(description);
    if (r == 0 && ret_obj)
        *ret_obj = obj;
    return r;
}

static int make_devices(struct machine *m, struct error *err)
{
    int r = create(m, json_pack("{s:s, s:s, s:s, s:s}", "driver", host_bridge_class.base.name, "id",
                                "host-bridge", "bus", "pci.0", "addr", "0"), NULL, err);
    if (r == 0)
        r = create(m, json_pack("{s:s, s:s}", "driver", acpi_pm_class.name, "id", "acpi-pm"), &m->pm,
                   err);
    if (r == 0)
        r = create(m, json_pack("{s:s, s:s}", "driver", cmos_class.name, "id", "rtc"), NULL, err);
    if (r == 0)
        r = create(m, json_pack("{s:s, s:s}", "driver", legacy_class.name, "id", "legacy"), NULL,
                   err);
    for (unsigned i = 0; i < MACHINE_SERIALS && r == 0; i++) {
        char id[] = "com1";
        id[3] += i;
        if (m->serials[i])
            r = create(m, json_pack("{s:s, s:s, s:i}", "driver", serial_class.name, "id", id, "index",
                                    i), NULL, err);
    }
    return r;
}

static int take_file(int fd, const char *name, int *ret_fd, char **ret_name, struct error *err)
{
    if (fd < 0)
        return 0;
    *ret_name = strdup(name ? name : "?");
    if (!*ret_name)
        return error_oom(err);
    *ret_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return *ret_fd < 0 ? error_set(err, -errno, "cannot take over '%s'", *ret_name) : 0;
}

static int machine_setup(struct machine *m, const struct machine_config *c, struct error *err)
{
    int r = check_config(c, err);

    if (r == 0)
        r = make_map(&m->map, c, err);
    if (r == 0)
        r = take_file(c->kernel_fd, c->kernel_name, &m->kernel_fd, &m->kernel_name, err);
    if (r == 0)
        r = take_file(c->initrd_fd, c->initrd_name, &m->initrd_fd, &m->initrd_name, err);
    if (r < 0)
        return r;
    m->apic_ids = calloc(c->cpus, sizeof *m->apic_ids);
    if (!m->apic_ids)
        return error_oom(err);
    for (unsigned i = 0; i < c->cpus; i++)
        m->apic_ids[i] = c->apic_ids ? c->apic_ids[i] : i;
    m->cmdline = strdup(c->cmdline ? c->cmdline : "");
    if (!m->cmdline)
        return error_oom(err);
    r = make_memory(m, c, err);
    if (r < 0)
        return r;
    struct pci_bus_config pci = {
        .name = "pci.0", .ops = &pci_ops, .opaque = m, .mem = m->pci_memory, .io = m->pci_io,
        .dma = m->memory_as, .express = true,
    };
    r = pci_bus_new(m->tree, &pci, &m->pci, err);
    return r < 0 ? r : make_devices(m, err);
}

int machine_new(struct obj_tree *tree, const struct machine_config *c, struct machine **ret_machine,
                struct error *err)
{
    struct machine *m = calloc(1, sizeof *m);

    if (!m)
        return error_oom(err);
    m->tree = tree;
    m->ops = c->ops;
    m->opaque = c->opaque;
    m->cpus = c->cpus;
    m->kernel_fd = m->initrd_fd = -1;
    m->pic_mode = true;
    memcpy(m->serials, c->serials, sizeof m->serials);
    tree->services[SERVICE_MACHINE] = m;
    int r = machine_setup(m, c, err);
    if (r < 0) {
        obj_tree_fini(tree);
        machine_free(m);
        return r;
    }
    *ret_machine = m;
    return 0;
}

void machine_free(struct machine *m)
{
    if (!m)
        return;
    pci_bus_free(m->pci);
    address_space_free(m->memory_as);
    address_space_free(m->io_as);
    struct mem_region *regions[] = { m->ram_low, m->ram_high, m->ram, m->pci_memory, m->pci_io,
                                     m->memory, m->io };
    for (unsigned i = 0; i < ARRAY_SIZE(regions); i++)
        mem_region_put(regions[i]);
    if (m->kernel_fd >= 0)
        close(m->kernel_fd);
    if (m->initrd_fd >= 0)
        close(m->initrd_fd);
    free(m->kernel_name);
    free(m->initrd_name);
    free(m->cmdline);
    free(m->apic_ids);
    m->tree->services[SERVICE_MACHINE] = NULL;
    free(m);
}

int machine_reset(struct machine *m, struct error *err)
{
    struct boot_request request = {
        .memory = m->memory_as, .ram_below = m->map.ram_below,
        .kernel_fd = m->kernel_fd, .kernel_name = m->kernel_name,
        .initrd_fd = m->initrd_fd, .initrd_name = m->initrd_name, .cmdline = m->cmdline,
    };

    objects_reset(m->tree);
    machine_set_pic_mode(m, true);
    int r = acpi_tables_write(m, &request.rsdp);
    if (r < 0)
        return error_set(err, r, "the ACPI tables do not fit");
    request.e820_count = machine_e820(m, request.e820);
    return boot_load(&request, &m->start, err);
}
