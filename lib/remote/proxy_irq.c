/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts of a proxy (rows F1, F3). The device signals eventfds, one for INTx and one for each
 * vector. Where the machine offers irqfds they are bound to the line or the message and no process
 * of ours is woken; else, and while a vector is masked, the loop watches them.
 *
 * Which of INTx, MSI and MSI-X is used the guest decides by configuration writes. The device is
 * told outside the machine's lock, one index at a time: some servers keep one table for all three.
 */
#include "remote/proxy_internal.h"

#include "base/fd.h"
#include "base/log.h"

#include <errno.h>

static const struct irqfd_ops *irqfd(struct proxy *p, void **ret_opaque)
{
    return pci_bus_irqfd(pci_device_bus(p->pdev), ret_opaque);
}

/* ---- INTx ---- */

static void on_intx(void *opaque, uint32_t events)
{
    struct proxy *p = opaque;

    if (!eventfd_clear(p->intx_fd))
        return;
    atomic_store(&p->intx_high, true);
    pci_irq_set(p->pdev, true);
}

void proxy_irq_touched(struct proxy *p)
{
    if (!atomic_load_explicit(&p->intx_high, memory_order_relaxed))
        return;
    proxy_lock(p);
    if (atomic_exchange(&p->intx_high, false)) {
        pci_irq_set(p->pdev, false);
        eventfd_signal(p->unmask_fd);
    }
    proxy_unlock(p);
}

static void intx_drop(struct proxy *p)
{
    void *opaque;
    const struct irqfd_ops *ops = irqfd(p, &opaque);

    if (p->intx_bound)
        ops->line_unbind(opaque, p->gsi, p->intx_fd);
    p->intx_bound = false;
    watch_free(p->intx_watch);
    p->intx_watch = NULL;
    if (atomic_exchange(&p->intx_high, false))
        pci_irq_set(p->pdev, false);
}

static void intx_take(struct proxy *p)
{
    void *opaque;
    const struct irqfd_ops *ops = irqfd(p, &opaque);

    if (p->intx_fd < 0 || p->intx_bound || p->intx_watch)
        return;
    if (ops && ops->line_bind && pci_device_gsi(p->pdev, &p->gsi) &&
        ops->line_bind(opaque, p->gsi, p->intx_fd, p->unmask_fd) == 0) {
        p->intx_bound = true;
        return;
    }
    if (watch_new(pci_device_loop(p->pdev), p->intx_fd, EPOLLIN, on_intx, p, &p->intx_watch) < 0)
        log_warn("device '%s': its interrupt cannot be watched", pci_device_name(p->pdev));
}

/* ---- vectors ---- */

static void on_vector(void *opaque, uint32_t events)
{
    struct proxy_vector *v = opaque;
    struct pci_device *pdev = v->proxy->pdev;
    bool msix = pci_msix_enabled(pdev);

    /* A masked vector becomes pending here; one that was left signalled by another mode is not. */
    if (eventfd_clear(v->fd) && (v->index == VFU_MSIX ? msix : !msix && pci_msi_enabled(pdev)))
        pci_irq_pulse(pdev, v->number);
}

static void vector_drop(struct proxy_vector *v)
{
    void *opaque;
    const struct irqfd_ops *ops = irqfd(v->proxy, &opaque);

    if (v->bound)
        ops->msi_unbind(opaque, v->route, v->fd);
    v->bound = false;
    watch_free(v->watch);
    v->watch = NULL;
}

static void vector_watch(struct proxy_vector *v)
{
    if (!v->watch && watch_new(pci_device_loop(v->proxy->pdev), v->fd, EPOLLIN, on_vector, v,
                               &v->watch) < 0)
        log_warn("device '%s': vector %u cannot be watched", pci_device_name(v->proxy->pdev),
                 v->number);
}

static void vector_update(struct proxy_vector *v)
{
    struct pci_device *pdev = v->proxy->pdev;
    void *opaque;
    const struct irqfd_ops *ops = irqfd(v->proxy, &opaque);
    uint64_t addr = 0;
    uint32_t data = 0;
    bool live = v->index == VFU_MSIX ? pci_msix_message(pdev, v->number, &addr, &data)
                                     : !pci_msix_enabled(pdev) &&
                                       pci_msi_message(pdev, v->number, &addr, &data);

    if (!ops || !ops->msi_bind) {
        vector_watch(v);
        return;
    }
    if (v->bound && live && (addr != v->addr || data != v->data) &&
        ops->msi_update(opaque, v->route, addr, data) < 0)
        vector_drop(v);
    if (v->bound && !live)
        vector_drop(v);
    if (!v->bound && live && ops->msi_bind(opaque, addr, data, v->fd, &v->route) == 0) {
        watch_free(v->watch);
        v->watch = NULL;
        v->bound = true;
    }
    v->addr = addr;
    v->data = data;
    if (!v->bound)
        vector_watch(v);
}

static void on_vectors_changed(void *opaque, struct pci_device *pdev)
{
    struct proxy *p = opaque;

    if (!p->client || !vfu_client_alive(p->client))
        return;
    for (unsigned i = 0; i < p->msi.count; i++)
        vector_update(&p->msi.all[i]);
    for (unsigned i = 0; i < p->msix.count; i++)
        vector_update(&p->msix.all[i]);
    /* With vectors in use the line is quiet; the device is told when the write has been made. */
    if (pci_msi_enabled(pdev) || pci_msix_enabled(pdev))
        intx_drop(p);
    else
        intx_take(p);
}

static int vectors_init(struct proxy *p, struct proxy_vectors *v, unsigned index, unsigned count,
                        struct error *err)
{
    v->all = calloc(MAX(count, 1u), sizeof *v->all);
    if (!v->all)
        return error_oom(err);
    for (; v->count < count; v->count++) {
        int fd = eventfd_new();
        if (fd < 0)
            return error_set(err, fd, "no descriptors for its %u interrupt vectors", count);
        v->all[v->count] = (struct proxy_vector){ .proxy = p, .index = index,
                                                  .number = v->count, .fd = fd };
    }
    return 0;
}

static void vectors_drop(struct proxy_vectors *v)
{
    for (unsigned i = 0; i < v->count; i++)
        vector_drop(&v->all[i]);
}

static void vectors_fini(struct proxy_vectors *v)
{
    vectors_drop(v);
    for (unsigned i = 0; i < v->count; i++)
        close(v->all[i].fd);
    free(v->all);
    *v = (struct proxy_vectors){ 0 };
}

/* ---- telling the device ---- */

static int set_fds(struct proxy *p, unsigned index, uint32_t action, const int *fds,
                   unsigned count, struct error *err)
{
    struct vfu_irq_set set = { .index = index, .count = count, .data = VFU_SET_DATA_EVENTFD,
                               .action = action };
    return vfu_client_set_irqs(p->client, &set, fds, err);
}

static int wire_intx(struct proxy *p, struct error *err)
{
    if (p->intx_fd < 0)
        return 0;
    int r = set_fds(p, VFU_INTX, VFU_SET_TRIGGER, &p->intx_fd, 1, err);
    /* Who does not mask by itself has no use for it, and may say so. */
    if (r == 0)
        r = set_fds(p, VFU_INTX, VFU_SET_UNMASK, &p->unmask_fd, 1, err);
    return p->automasked || !vfu_client_alive(p->client) ? r : 0;
}

static int wire_vectors(struct proxy *p, unsigned index, const struct proxy_vectors *v,
                        struct error *err)
{
    int fds[PROXY_VECTORS_MAX];

    for (unsigned i = 0; i < v->count; i++)
        fds[i] = v->all[i].fd;
    return v->count ? set_fds(p, index, VFU_SET_TRIGGER, fds, v->count, err) : 0;
}

static int disable(struct proxy *p, unsigned index, struct error *err)
{
    struct vfu_irq_set set = { .index = index, .data = VFU_SET_DATA_NONE,
                               .action = VFU_SET_TRIGGER };
    bool any = index == VFU_INTX ? p->intx_fd >= 0
                                 : (index == VFU_MSI ? p->msi.count : p->msix.count) > 0;
    return any ? vfu_client_set_irqs(p->client, &set, NULL, err) : 0;
}

static int wire(struct proxy *p, unsigned index, struct error *err)
{
    return index == VFU_INTX  ? wire_intx(p, err)
           : index == VFU_MSI ? wire_vectors(p, VFU_MSI, &p->msi, err)
                              : wire_vectors(p, VFU_MSIX, &p->msix, err);
}

void proxy_irq_follow(struct proxy *p)
{
    struct error err;
    int r = 0;

    pthread_mutex_lock(&p->mode_lock);
    /* Who comes here last sees what was written last. */
    unsigned mode = pci_msix_enabled(p->pdev) ? VFU_MSIX
                    : pci_msi_enabled(p->pdev) ? VFU_MSI : VFU_INTX;
    if (mode != p->mode && vfu_client_alive(p->client)) {
        r = disable(p, p->mode, &err);
        if (r == 0)
            r = wire(p, mode, &err);
        p->mode = mode;
    }
    pthread_mutex_unlock(&p->mode_lock);
    if (r < 0 && vfu_client_alive(p->client))
        log_warn("device '%s': %s", pci_device_name(p->pdev), err.text);
}

/* ---- life ---- */

static int intx_init(struct proxy *p, struct error *err)
{
    struct vfu_irq_info info;
    unsigned pin = pci_config(p->pdev)[PCI_INTERRUPT_PIN];

    if (pin == 0)
        return 0;
    if (pin > 4)
        return error_set(err, -EINVAL, "the device has interrupt pin %u", pin);
    int r = vfu_client_irq_info(p->client, VFU_INTX, &info, err);
    if (r < 0)
        return r;
    if (info.count == 0)
        return 0;
    p->automasked = info.flags & VFU_IRQ_AUTOMASKED;
    p->intx_fd = eventfd_new();
    p->unmask_fd = eventfd_new();
    return p->intx_fd < 0 || p->unmask_fd < 0
        ? error_set(err, -EMFILE, "no descriptors for its interrupt") : 0;
}

static unsigned msi_offered(struct proxy *p)
{
    unsigned cap = pci_find_capability(p->pdev, PCI_CAP_ID_MSI);
    unsigned log2 = cap ? (pci_config(p->pdev)[cap + PCI_MSI_FLAGS] & PCI_MSI_FLAGS_QMASK) >> 1 : 0;

    return cap ? 1u << MIN(log2, 5u) : 0;
}

int proxy_irq_init(struct proxy *p, struct error *err)
{
    int r = intx_init(p, err);
    if (r == 0)
        r = vectors_init(p, &p->msi, VFU_MSI, msi_offered(p), err);
    if (r == 0)
        r = vectors_init(p, &p->msix, VFU_MSIX, pci_msix_vectors(p->pdev), err);
    if (r == 0)
        r = wire_intx(p, err);
    if (r < 0)
        return r;
    p->mode = VFU_INTX;
    pci_on_vectors_changed(p->pdev, on_vectors_changed, p);
    on_vectors_changed(p, p->pdev);
    return 0;
}

void proxy_irq_failed(struct proxy *p)
{
    intx_drop(p);
    vectors_drop(&p->msi);
    vectors_drop(&p->msix);
}

void proxy_irq_reset(struct proxy *p)
{
    bool used = p->intx_bound || p->intx_watch;

    intx_drop(p);
    if (!used)
        return;
    eventfd_clear(p->intx_fd);
    intx_take(p);
    eventfd_signal(p->unmask_fd);       /* it may have been signalled before and masked since */
}

void proxy_irq_fini(struct proxy *p)
{
    pci_on_vectors_changed(p->pdev, NULL, NULL);
    intx_drop(p);
    vectors_fini(&p->msi);
    vectors_fini(&p->msix);
    if (p->intx_fd >= 0)
        close(p->intx_fd);
    if (p->unmask_fd >= 0)
        close(p->unmask_fd);
    p->intx_fd = p->unmask_fd = -1;
}
