/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCI Express host bridge: configuration space by ports (PCI Local Bus 3.0, 3.2.2.3.2) and by
 * memory (ECAM; PCI Express Base 4.0, 7.2.2), and the wiring of INTx to interrupt lines.
 *
 * Both ways in are unlocked: a proxy's configuration access waits for another process, and must not
 * do so with the machine's lock. What is left of a processor's access is what one function sees: at
 * most a dword, not across one.
 *
 * Not modelled: enhanced atomicity of 0xcf8 and 0xcfc. As in hardware, software has a lock for them.
 */
#include "machine/internal.h"

#include <string.h>

enum { CONFIG_ENABLE = 0x80000000u, PORT_ADDRESS = 0, PORT_RESET = 1, PORT_DATA = 4 };
enum { RESET_CPU = 0x04, RESET_KEPT = 0x0e };

/* The bridge as a device. Both registers are atomic: they are reached without the lock. */
struct pci_host {
    struct machine *machine;
    struct mem_region *ecam, *ports;
    uint32_t config_address;        /* 0xcf8 */
    uint8_t reset_control;          /* 0xcf9 */
};

/* Slots are spread over the eight lines so that neighbours do not share one. */
unsigned pci_host_gsi(unsigned devfn, unsigned pin)
{
    return GSI_PCI + (PCI_SLOT(devfn) + pin) % GSI_PCI_COUNT;
}

/* ---- 0xcf8, 0xcfc ---- */

static bool data_target(struct pci_host *host, uint64_t off, unsigned *ret_bus, unsigned *ret_devfn,
                        unsigned *ret_off)
{
    uint32_t address = __atomic_load_n(&host->config_address, __ATOMIC_RELAXED);

    if (!(address & CONFIG_ENABLE))
        return false;
    *ret_bus = address >> 16 & 0xff;
    *ret_devfn = address >> 8 & 0xff;
    *ret_off = (address & 0xfc) + off;
    return true;
}

/*
 * The address register answers to dwords alone; of the bytes in its place one is another register,
 * the reset control of chipsets that have PCI (bit 2, when it goes up: reset; bit 1: a hard one).
 */
static void reset_control_write(struct pci_host *host, uint8_t val)
{
    struct machine *m = host->machine;
    uint8_t before = __atomic_exchange_n(&host->reset_control, val & RESET_KEPT, __ATOMIC_RELAXED);

    if (!(val & RESET_CPU) || (before & RESET_CPU))
        return;
    if (m->tree->lock)
        pthread_mutex_lock(m->tree->lock);
    m->ops->request_reset(m->opaque);
    if (m->tree->lock)
        pthread_mutex_unlock(m->tree->lock);
}

static uint64_t address_read(void *opaque, uint64_t off, unsigned len)
{
    struct pci_host *host = opaque;

    if (len == 1)
        return off == PORT_RESET ? __atomic_load_n(&host->reset_control, __ATOMIC_RELAXED) : UINT64_MAX;
    return __atomic_load_n(&host->config_address, __ATOMIC_RELAXED);
}

static void address_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
    struct pci_host *host = opaque;

    if (len == 4)
        __atomic_store_n(&host->config_address, (uint32_t)val & ~0x7f000003u, __ATOMIC_RELAXED);
    else if (off == PORT_RESET)
        reset_control_write(host, val);
}

static uint64_t data_read(void *opaque, uint64_t off, unsigned len)
{
    struct pci_host *host = opaque;
    unsigned bus, devfn, reg;

    if (!data_target(host, off, &bus, &devfn, &reg))
        return UINT64_MAX;
    return pci_config_access_read(host->machine->pci, bus, devfn, reg, len);
}

static void data_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
    struct pci_host *host = opaque;
    unsigned bus, devfn, reg;

    if (data_target(host, off, &bus, &devfn, &reg))
        pci_config_access_write(host->machine->pci, bus, devfn, reg, len, val);
}

static const struct mem_ops address_ops = {
    .read = address_read, .write = address_write, .widths = ACCESS_8 | ACCESS_32, .unlocked = true,
};
static const struct mem_ops data_ops = {
    .read = data_read, .write = data_write, .widths = ACCESS_8 | ACCESS_16 | ACCESS_32,
    .unlocked = true,
};

/* ---- ECAM ---- */

static uint64_t ecam_read(void *opaque, uint64_t off, unsigned len)
{
    struct pci_host *host = opaque;
    return pci_config_access_read(host->machine->pci, off >> 20 & 0xff, off >> 12 & 0xff, off & 0xfff, len);
}

static void ecam_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
    struct pci_host *host = opaque;
    pci_config_access_write(host->machine->pci, off >> 20 & 0xff, off >> 12 & 0xff, off & 0xfff, len, val);
}

static const struct mem_ops ecam_ops = {
    .read = ecam_read, .write = ecam_write, .widths = ACCESS_8 | ACCESS_16 | ACCESS_32,
    .unlocked = true,
};

/* ---- the bridge itself ---- */

static int host_map(struct pci_host *host, struct error *err)
{
    struct machine *m = host->machine;
    struct mem_region *address = mem_io_new("pci-config-address", 4, &address_ops, host);
    struct mem_region *data = mem_io_new("pci-config-data", 4, &data_ops, host);
    int r = 0;

    host->ecam = mem_io_new("ecam", m->map.ecam_size, &ecam_ops, host);
    host->ports = mem_container_new("pci-config", 8);
    if (host->ecam && host->ports && address && data) {
        mem_begin();
        mem_add(m->memory, m->map.ecam, host->ecam, 0);
        mem_add(host->ports, PORT_ADDRESS, address, 0);
        mem_add(host->ports, PORT_DATA, data, 0);
        mem_add(m->io, 0xcf8, host->ports, 0);
        mem_commit();
    } else {
        r = error_oom(err);
    }
    mem_region_put(address);
    mem_region_put(data);
    return r;
}

static int host_realize(struct pci_device *pdev, struct error *err)
{
    struct pci_host *host = pci_device_self(pdev);

    host->machine = machine_of(pci_device_object(pdev));
    return host_map(host, err);
}

/* The processors have stopped for good by now. */
static void host_unrealize(struct pci_device *pdev)
{
    struct pci_host *host = pci_device_self(pdev);
    struct mem_region *regions[] = { host->ecam, host->ports };

    for (unsigned i = 0; i < ARRAY_SIZE(regions); i++)
        if (regions[i]) {
            mem_del(regions[i]);
            mem_region_put(regions[i]);
        }
    host->ecam = host->ports = NULL;
}

static void host_reset(struct pci_device *pdev)
{
    struct pci_host *host = pci_device_self(pdev);

    __atomic_store_n(&host->config_address, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&host->reset_control, 0, __ATOMIC_RELAXED);
}

const struct pci_device_class host_bridge_class = {
    .base = { .name = "pcie-host-bridge", .summary = "PCI Express host bridge", .internal = true,
              .parent = &pci_device_base, .size = sizeof(struct pci_host), .state_version = 1,
              .state = (const struct state_field[]){
                  STATE_U32(struct pci_host, config_address),
                  STATE_U8_MAX(struct pci_host, reset_control, RESET_KEPT), STATE_END } },
    .pci = { .vendor = 0x1b36, .device = 0x0008, .class = 0x060000 },
    .ops = &(const struct pci_device_ops){ .realize = host_realize, .unrealize = host_unrealize,
                                           .reset = host_reset },
};
