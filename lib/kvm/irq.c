/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts: the two PICs, the I/O APIC and the timer in the kernel; the routing table, whose first
 * entries wire the pins and whose further ones are messages; eventfds bound to either.
 */
#include "kvm/internal.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>

static struct kvm_irq_routing_entry *route_add(struct vm *vm)
{
    if (vm->routing->nr == vm->routing_cap) {
        unsigned cap = MIN(vm->routing_cap * 2, vm->routing_max);
        if (cap == vm->routing_cap)
            return NULL;
        struct kvm_irq_routing *table = realloc(vm->routing, sizeof *table + cap *
                                                sizeof table->entries[0]);
        if (!table)
            return NULL;
        vm->routing = table;
        vm->routing_cap = cap;
    }
    struct kvm_irq_routing_entry *e = &vm->routing->entries[vm->routing->nr++];
    memset(e, 0, sizeof *e);
    return e;
}

static void wire_pin(struct vm *vm, unsigned gsi, unsigned chip, unsigned pin)
{
    struct kvm_irq_routing_entry *e = route_add(vm);    /* the table begins larger than this */

    e->gsi = gsi;
    e->type = KVM_IRQ_ROUTING_IRQCHIP;
    e->u.irqchip.irqchip = chip;
    e->u.irqchip.pin = pin;
}

static int routing_commit(struct vm *vm)
{
    return kvm_call(vm->fd, KVM_SET_GSI_ROUTING, vm->routing);
}

/* As in a PC: each ISA line goes to a PIC and to the I/O APIC; line 2 is the cascade; the timer's
 * line 0 arrives at pin 2 (MADT's interrupt source override says so to the guest). */
static int wire_pins(struct vm *vm)
{
    int max = kvm_call(vm->fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_IRQ_ROUTING);

    vm->routing_max = MIN(MAX(max, 64), 4096);
    vm->routing_cap = 64;
    vm->routing = calloc(1, sizeof *vm->routing + 64 * sizeof vm->routing->entries[0]);
    if (!vm->routing)
        return -ENOMEM;
    for (unsigned line = 0; line < 16; line++)
        if (line != 2)
            wire_pin(vm, line, line < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, line % 8);
    for (unsigned pin = 0; pin < VM_GSI_PINS; pin++)
        if (pin != 2)
            wire_pin(vm, pin, KVM_IRQCHIP_IOAPIC, pin == 0 ? 2 : pin);
    return routing_commit(vm);
}

int irq_init(struct vm *vm, struct error *err)
{
    struct kvm_pit_config pit = { .flags = 0 };

    int r = kvm_call(vm->fd, KVM_CREATE_IRQCHIP, NULL);
    if (r < 0)
        return error_set(err, r, "KVM cannot make the interrupt chips");
    r = kvm_call(vm->fd, KVM_CREATE_PIT2, &pit);
    if (r < 0)
        return error_set(err, r, "KVM cannot make the interval timer");
    r = wire_pins(vm);
    if (r < 0)
        return error_set(err, r, "KVM cannot wire the interrupt lines");

    for (unsigned i = 0; i < ARRAY_SIZE(vm->chips) && r == 0; i++) {
        vm->chips[i].chip_id = i;
        r = kvm_call(vm->fd, KVM_GET_IRQCHIP, &vm->chips[i]);
    }
    if (r == 0)
        r = kvm_call(vm->fd, KVM_GET_PIT2, &vm->pit);
    return r < 0 ? error_set(err, r, "KVM does not tell the state of its interrupt chips") : 0;
}

int irq_reset(struct vm *vm)
{
    int r = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(vm->chips) && r == 0; i++)
        r = kvm_call(vm->fd, KVM_SET_IRQCHIP, &vm->chips[i]);
    return r < 0 ? r : kvm_call(vm->fd, KVM_SET_PIT2, &vm->pit);
}

void irq_fini(struct vm *vm) { free(vm->routing); }

void vm_irq_line(struct vm *vm, unsigned gsi, bool level)
{
    struct kvm_irq_level line = { .irq = gsi, .level = level };

    if (gsi < VM_GSI_PINS)
        kvm_call(vm->fd, KVM_IRQ_LINE, &line);
}

void vm_msi(struct vm *vm, uint64_t addr, uint32_t data)
{
    struct kvm_msi msi = { .address_lo = addr, .address_hi = addr >> 32, .data = data };

    /* A message that names no CPU gets lost, as on a real bus. */
    kvm_call(vm->fd, KVM_SIGNAL_MSI, &msi);
}

/* ---- eventfds ---- */

static int irqfd_set(struct vm *vm, unsigned gsi, int fd, int resample_fd, bool on)
{
    struct kvm_irqfd irqfd = {
        .fd = fd, .gsi = gsi,
        .flags = !on ? KVM_IRQFD_FLAG_DEASSIGN : resample_fd >= 0 ? KVM_IRQFD_FLAG_RESAMPLE : 0,
        .resamplefd = resample_fd >= 0 ? resample_fd : 0,
    };
    return kvm_call(vm->fd, KVM_IRQFD, &irqfd);
}

static int line_bind(void *opaque, unsigned gsi, int fd, int resample_fd)
{
    return gsi < VM_GSI_PINS ? irqfd_set(opaque, gsi, fd, resample_fd, true) : -EINVAL;
}

static void line_unbind(void *opaque, unsigned gsi, int fd) { irqfd_set(opaque, gsi, fd, -1, false); }

static struct kvm_irq_routing_entry *route_find(struct vm *vm, unsigned gsi)
{
    for (unsigned i = 0; i < vm->routing->nr; i++) {
        struct kvm_irq_routing_entry *e = &vm->routing->entries[i];
        if (e->gsi == gsi && e->type == KVM_IRQ_ROUTING_MSI)
            return e;
    }
    return NULL;
}

static void route_del(struct vm *vm, struct kvm_irq_routing_entry *e)
{
    *e = vm->routing->entries[--vm->routing->nr];
}

static void route_set(struct kvm_irq_routing_entry *e, uint64_t addr, uint32_t data)
{
    e->type = KVM_IRQ_ROUTING_MSI;
    e->u.msi.address_lo = addr;
    e->u.msi.address_hi = addr >> 32;
    e->u.msi.data = data;
}

static int msi_bind(void *opaque, uint64_t addr, uint32_t data, int fd, unsigned *ret_route)
{
    struct vm *vm = opaque;
    unsigned gsi = VM_GSI_PINS;

    while (gsi < vm->routing_max && route_find(vm, gsi))
        gsi++;
    struct kvm_irq_routing_entry *e = gsi < vm->routing_max ? route_add(vm) : NULL;
    if (!e)
        return -ENOSPC;
    e->gsi = gsi;
    route_set(e, addr, data);
    int r = routing_commit(vm);
    if (r == 0)
        r = irqfd_set(vm, gsi, fd, -1, true);
    if (r < 0) {
        route_del(vm, e);
        routing_commit(vm);
        return r;
    }
    *ret_route = gsi;
    return 0;
}

static int msi_update(void *opaque, unsigned route, uint64_t addr, uint32_t data)
{
    struct vm *vm = opaque;
    struct kvm_irq_routing_entry *e = route_find(vm, route);

    if (!e)
        return -ENOENT;
    if (e->u.msi.address_lo == (uint32_t)addr && e->u.msi.address_hi == addr >> 32 &&
        e->u.msi.data == data)
        return 0;
    struct kvm_irq_routing_entry before = *e;
    route_set(e, addr, data);
    int r = routing_commit(vm);
    if (r < 0)
        *e = before;
    return r;
}

static void msi_unbind(void *opaque, unsigned route, int fd)
{
    struct vm *vm = opaque;
    struct kvm_irq_routing_entry *e = route_find(vm, route);

    irqfd_set(vm, route, fd, -1, false);
    if (e) {
        route_del(vm, e);
        routing_commit(vm);
    }
}

const struct irqfd_ops vm_irqfd_ops = {
    .line_bind = line_bind, .line_unbind = line_unbind,
    .msi_bind = msi_bind, .msi_update = msi_update, .msi_unbind = msi_unbind,
};

int vm_ioeventfd(struct vm *vm, bool io, gpa_t addr, unsigned len, const uint64_t *match, int fd,
                 bool on)
{
    struct kvm_ioeventfd e = {
        .addr = addr, .len = len, .fd = fd, .datamatch = match ? *match : 0,
        .flags = (io ? KVM_IOEVENTFD_FLAG_PIO : 0) | (match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0) |
                 (on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
    };
    return kvm_call(vm->fd, KVM_IOEVENTFD, &e);
}
