/* SPDX-License-Identifier: Apache-2.0 */
#include "remote/proxy.h"

#include "base/log.h"
#include "remote/proxy_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { HEADER_TYPE_MASK = 0x7f, UNREALIZE_WAIT_US = 1000 };

bool proxy_alive(struct pci_device *pdev)
{
    struct proxy *p = pci_device_self(pdev);
    return p->client && vfu_client_alive(p->client);
}

/* ---- accesses, on vCPU threads without the lock ---- */

/* False once the proxy is being removed, or does not work yet. To be left in any case. */
static bool enter(struct proxy *p)
{
    atomic_fetch_add(&p->users, 1);
    return atomic_load(&p->live);
}

static void leave(struct proxy *p) { atomic_fetch_sub(&p->users, 1); }

/*
 * What the registers of a lost device read as. All ones, as on a bus where nobody answers; but no
 * cause for an interrupt as long as the guest uses INTx: its handler may be under way and run until
 * the device shows none (Linux's sym53c8xx does, with interrupts off and a lock held), and there is
 * no other way to end it.
 */
static uint64_t lost_value(struct pci_device *pdev)
{
    return pci_msi_enabled(pdev) || pci_msix_enabled(pdev) ? UINT64_MAX : 0;
}

static uint64_t proxy_bar_read(struct pci_device *pdev, unsigned bar, uint64_t off, unsigned len)
{
    struct proxy *p = pci_device_self(pdev);
    uint64_t val = UINT64_MAX;
    uint8_t buf[8];

    if (enter(p)) {
        if (vfu_client_read(p->client, bar, off, buf, len) == 0)
            val = le_load(buf, len);
        else if (!vfu_client_alive(p->client))
            val = lost_value(pdev);
        proxy_irq_touched(p);
    }
    leave(p);
    return val;
}

static void proxy_bar_write(struct pci_device *pdev, unsigned bar, uint64_t off, unsigned len,
                            uint64_t val)
{
    struct proxy *p = pci_device_self(pdev);
    bool posted = !(pci_bar_info(pdev, bar)->flags & PCI_BAR_IO);   /* as on a bus */
    uint8_t buf[8];

    le_store(buf, 8, val);
    if (enter(p) && vfu_client_write(p->client, bar, off, buf, len, posted) == 0)
        proxy_irq_touched(p);
    leave(p);
}

/* How many of the len bytes at off are answered here. */
static unsigned count_near(const struct proxy *p, unsigned off, unsigned len)
{
    unsigned n = 0;
    for (unsigned i = 0; i < len; i++)
        n += p->near[off + i];
    return n;
}

static uint32_t config_read(struct proxy *p, unsigned off, unsigned len)
{
    unsigned near = count_near(p, off, len);
    uint8_t buf[4];

    if (!vfu_client_alive(p->client))
        return UINT32_MAX;
    memset(buf, 0xff, sizeof buf);
    if (near < len && range_inside(off, len, p->config_size) &&
        vfu_client_read(p->client, VFU_CONFIG, off, buf, len) < 0)
        return UINT32_MAX;
    if (near) {
        proxy_lock(p);
        for (unsigned i = 0; i < len; i++)
            if (p->near[off + i])
                buf[i] = pci_config(p->pdev)[off + i];
        proxy_unlock(p);
    }
    return le_load(buf, len);
}

static uint32_t proxy_config_read(struct pci_device *pdev, unsigned off, unsigned len)
{
    struct proxy *p = pci_device_self(pdev);

    uint32_t val = enter(p) ? config_read(p, off, len) : UINT32_MAX;
    leave(p);
    return val;
}

/* The device first, so that nothing is mapped here that it does not decode yet. */
static void config_write(struct proxy *p, unsigned off, unsigned len, uint32_t val)
{
    uint8_t buf[4];

    le_store(buf, 4, val);
    if (range_inside(off, len, p->config_size) &&
        vfu_client_write(p->client, VFU_CONFIG, off, buf, len, false) < 0 &&
        !vfu_client_alive(p->client))
        return;
    proxy_lock(p);
    pci_config_write_default(p->pdev, off, len, val);
    proxy_unlock(p);
    proxy_irq_follow(p);
    proxy_irq_touched(p);
}

static void proxy_config_write(struct pci_device *pdev, unsigned off, unsigned len, uint32_t val)
{
    struct proxy *p = pci_device_self(pdev);

    if (enter(p) && vfu_client_alive(p->client))
        config_write(p, off, len, val);
    leave(p);
}

/* ---- failure ---- */

static void on_failed(void *opaque, const char *reason)
{
    struct proxy *p = opaque;
    struct proxy_owner *owner = pci_device_object(p->pdev)->tree->services[SERVICE_REMOTE];

    if (!atomic_load(&p->live))         /* being removed; or made, and then realize says it */
        return;
    log_error("device '%s' has failed: %s", pci_device_name(p->pdev), reason);
    proxy_irq_failed(p);
    if (owner && owner->failed)
        owner->failed(owner->opaque, p->pdev, reason);
}

/* Devices that get no memory by descriptor ask by message. Loop thread, or a vCPU's in a call. */
static int on_dma_read(void *opaque, uint64_t addr, void *buf, size_t len)
{
    struct proxy *p = opaque;
    return pci_dma_read(p->pdev, addr, buf, len);
}

static int on_dma_write(void *opaque, uint64_t addr, const void *buf, size_t len)
{
    struct proxy *p = opaque;
    return pci_dma_write(p->pdev, addr, buf, len);
}

static const struct vfu_client_ops client_ops = { on_failed, on_dma_read, on_dma_write };

/* ---- realize ---- */

static int connect_channel(struct proxy *p, struct error *err)
{
    struct loop *loop = pci_device_loop(p->pdev);
    const char *id = pci_device_name(p->pdev);
    int fd = -1, r;

    if (p->socket && p->channel_fd >= 0)
        return error_set(err, -EINVAL, "'socket' and 'channel-fd' exclude each other");
    if (!p->socket && p->channel_fd < 0)
        return error_set(err, -EINVAL, "'socket' is missing: the primary channel of the device "
                         "process");
    if (p->socket) {
        r = channel_open(loop, p->socket, id, p->timeout_ms, &p->source, &fd, err);
        if (r < 0)
            return r;
    } else {
        fd = fcntl(p->channel_fd, F_DUPFD_CLOEXEC, 0);
        if (fd < 0)
            return error_set(err, -errno, "'channel-fd' is no descriptor");
    }
    struct vfu_client_config config = { .loop = loop, .fd = fd, .timeout_ms = p->timeout_ms,
                                        .ops = &client_ops, .opaque = p };
    r = vfu_client_new(&config, &p->client, err);
    if (r < 0)
        return r;
    const struct vfu_caps *server = vfu_client_server(p->client);
    if (server->bulkhead && server->device_id[0] && strcmp(server->device_id, id) != 0)
        return error_set(err, -EINVAL, "the channel leads to device '%s'", server->device_id);
    return 0;
}

static int region_size(struct proxy *p, unsigned index, uint64_t *ret_size, struct error *err)
{
    struct vfu_region_info info;

    int r = vfu_client_region_info(p->client, index, &info, err);
    if (r < 0)
        return r;
    if (info.fd >= 0)
        close(info.fd);
    *ret_size = info.size;
    return 0;
}

/* A fresh device's configuration space, as ours begins with. */
static int take_config(struct proxy *p, struct error *err)
{
    struct vfu_device_info info;
    uint8_t *config = pci_config(p->pdev), header_type = config[PCI_HEADER_TYPE];
    uint8_t snapshot[PCI_CONFIG_SIZE];
    uint64_t size;

    int r = vfu_client_device_info(p->client, &info, err);
    if (r < 0)
        return r;
    if (!(info.flags & VFU_DEVICE_PCI) || info.regions <= VFU_CONFIG || info.irqs <= VFU_MSIX)
        return error_set(err, -EINVAL, "it is no PCI device");
    if ((info.flags & VFU_DEVICE_RESETTABLE) && (r = vfu_client_reset(p->client, err)) < 0)
        return r;
    r = region_size(p, VFU_CONFIG, &size, err);
    if (r < 0)
        return r;
    if (size < 64)
        return error_set(err, -EINVAL, "its configuration space has %llu bytes",
                         (unsigned long long)size);
    p->config_size = MIN(size, (uint64_t)PCI_CONFIG_SIZE);
    r = vfu_client_read(p->client, VFU_CONFIG, 0, snapshot, p->config_size);
    if (r < 0)
        return vfu_client_explain(p->client, r, "its configuration space cannot be read", err);
    if (snapshot[PCI_HEADER_TYPE] & HEADER_TYPE_MASK)
        return error_set(err, -EINVAL, "it has header type %u; only endpoints can be remote",
                         snapshot[PCI_HEADER_TYPE] & HEADER_TYPE_MASK);
    memcpy(config, snapshot, p->config_size);
    config[PCI_HEADER_TYPE] = header_type;
    le32_store(config + PCI_ROM_ADDRESS, 0);
    le16_store(config + PCI_COMMAND, 0);
    return 0;
}

static int make_bars(struct proxy *p, struct error *err)
{
    uint8_t *regs = pci_config(p->pdev) + PCI_BASE_ADDRESS_0;
    uint8_t as_read[4 * PCI_BARS];

    memcpy(as_read, regs, sizeof as_read);
    memset(regs, 0, sizeof as_read);
    for (unsigned i = 0; i < PCI_BARS; i++) {
        uint8_t type = as_read[4 * i];
        struct pci_bar_info bar = { .unlocked = true };

        int r = region_size(p, i, &bar.size, err);
        if (r < 0)
            return r;
        if (bar.size == 0)
            continue;
        if (type & PCI_BASE_ADDRESS_SPACE_IO)
            bar.flags = PCI_BAR_IO;
        else
            bar.flags = (type & PCI_BASE_ADDRESS_MEM_TYPE_64 ? PCI_BAR_64 : 0) |
                        (type & PCI_BASE_ADDRESS_MEM_PREFETCH ? PCI_BAR_PREFETCH : 0);
        r = pci_bar_set(p->pdev, i, &bar, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int take_msix(struct proxy *p, unsigned cap, struct error *err)
{
    const uint8_t *c = pci_config(p->pdev) + cap;
    uint32_t table = le32_load(c + PCI_MSIX_TABLE), pba = le32_load(c + PCI_MSIX_PBA);
    unsigned vectors = (le16_load(c + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_QSIZE) + 1;
    struct vfu_irq_info info;

    int r = vfu_client_irq_info(p->client, VFU_MSIX, &info, err);
    if (r < 0)
        return r;
    if (info.count < vectors)
        return error_set(err, -EINVAL, "its MSI-X table has %u vectors and it signals %u", vectors,
                         info.count);
    return pci_msix_init(p->pdev, cap, MIN(vectors, (unsigned)PROXY_VECTORS_MAX), table & 7,
                         table & ~7u, pba & 7, pba & ~7u, err);
}

static void mark_near(struct proxy *p, unsigned off, unsigned len)
{
    for (unsigned i = off; i < off + len && i < PCI_CONFIG_SIZE; i++)
        p->near[i] = true;
}

static int take_capabilities(struct proxy *p, struct error *err)
{
    unsigned msi = pci_find_capability(p->pdev, PCI_CAP_ID_MSI);
    unsigned msix = pci_find_capability(p->pdev, PCI_CAP_ID_MSIX);
    int r = 0;

    mark_near(p, PCI_HEADER_TYPE, 1);
    mark_near(p, PCI_BASE_ADDRESS_0, 4 * PCI_BARS);
    mark_near(p, PCI_ROM_ADDRESS, 4);
    if (msi) {
        uint16_t flags = le16_load(pci_config(p->pdev) + msi + PCI_MSI_FLAGS);
        r = pci_msi_init(p->pdev, msi, err);
        /* Behind flags, address and data; the link to the next capability is the device's too. */
        mark_near(p, msi, 10 + (flags & PCI_MSI_FLAGS_64BIT ? 4 : 0) +
                              (flags & PCI_MSI_FLAGS_MASKBIT ? 10 : 0));
    }
    if (r == 0 && msix) {
        r = take_msix(p, msix, err);
        mark_near(p, msix, PCI_CAP_MSIX_SIZEOF);
    }
    return r;
}

static int proxy_realize(struct pci_device *pdev, struct error *err)
{
    struct proxy *p = pci_device_self(pdev);

    int r = connect_channel(p, err);
    if (r == 0)
        r = take_config(p, err);
    if (r == 0)
        r = make_bars(p, err);
    if (r == 0)
        r = take_capabilities(p, err);
    if (r == 0)
        r = proxy_irq_init(p, err);
    if (r < 0)
        return r;
    proxy_ram_init(p);
    if (!vfu_client_alive(p->client))
        return vfu_client_explain(p->client, -EPIPE, "", err);
    atomic_store(&p->live, true);
    return 0;
}

static void proxy_unrealize(struct pci_device *pdev)
{
    struct proxy *p = pci_device_self(pdev);

    atomic_store(&p->live, false);
    if (p->client) {
        proxy_ram_fini(p);
        vfu_client_fail(p->client, "the device is removed");
        while (atomic_load(&p->users)) {        /* who waits for an answer returns now */
            proxy_unlock(p);
            usleep(UNREALIZE_WAIT_US);
            proxy_lock(p);
        }
        proxy_irq_fini(p);
        vfu_client_free(TAKE_PTR(p->client));
    }
    channel_source_put(TAKE_PTR(p->source));
}

static void proxy_reset(struct pci_device *pdev)
{
    struct proxy *p = pci_device_self(pdev);
    struct error err;

    if (!p->client || !vfu_client_alive(p->client))
        return;
    proxy_irq_follow(p);
    if (vfu_client_reset(p->client, &err) < 0 && vfu_client_alive(p->client))
        log_warn("device '%s': %s", pci_device_name(pdev), err.text);
    proxy_irq_reset(p);
}

static int proxy_post_load(struct pci_device *pdev, struct error *err)
{
    proxy_irq_follow(pci_device_self(pdev));
    return 0;
}

static void proxy_init(struct object *obj, void *part)
{
    struct proxy *p = part;

    p->pdev = pci_device_of(obj);
    p->intx_fd = p->unmask_fd = -1;
    pthread_mutex_init(&p->mode_lock, NULL);
}

static void proxy_fini(struct object *obj, void *part)
{
    struct proxy *p = part;

    pthread_mutex_destroy(&p->mode_lock);
}

const struct pci_device_class proxy_class = {
    .base = { .name = "pci-proxy-dev", .summary = "any PCI device that another process emulates",
              .parent = &pci_device_base, .size = sizeof(struct proxy),
              .init = proxy_init, .fini = proxy_fini,
              .props = (const struct prop[]){
                  PROP_STRING("socket", struct proxy, socket, NULL,
                              "primary channel of the device process: a descriptor or unix:PATH"),
                  PROP_INT("channel-fd", struct proxy, channel_fd, -1, INT32_MAX, -1,
                           "a connected vfio-user channel"),
                  PROP_UINT("timeout", struct proxy, timeout_ms, 1, 600000, VFU_TIMEOUT_MS,
                            "milliseconds after which a silent device counts as failed"),
                  PROP_END } },
    .ops = &(const struct pci_device_ops){
        .realize = proxy_realize, .unrealize = proxy_unrealize, .reset = proxy_reset,
        .post_load = proxy_post_load, .bar_read = proxy_bar_read, .bar_write = proxy_bar_write,
        .config_read = proxy_config_read, .config_write = proxy_config_write },
    .unlocked_config = true,
};
