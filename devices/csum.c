/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checksum engine: the guest gives an address and a length, the device leaves the sum of those
 * bytes and sends MSI-X message 0. The registers are in csum.h. This is the device to copy when
 * writing another one.
 */
#include "devices/csum.h"

#include "base/log.h"

#include <errno.h>
#include <inttypes.h>

struct csum { uint32_t addr_lo, addr_hi, len, sum, status; };

static int csum_run(struct pci_device *pdev, struct csum *c)
{
    uint64_t addr = (uint64_t)c->addr_hi << 32 | c->addr_lo;
    uint32_t sum = 0;
    uint8_t buf[512];

    if (c->len > CSUM_MAX)
        return -ERANGE;
    for (uint32_t n, done = 0; done < c->len; done += n) {
        n = MIN(c->len - done, sizeof buf);
        if (pci_dma_read(pdev, addr + done, buf, n) < 0)    /* refuses what is not RAM */
            return -EFAULT;
        for (uint32_t i = 0; i < n; i++)
            sum += buf[i];
    }
    c->sum = sum;
    return 0;
}

static uint64_t csum_read(struct pci_device *pdev, unsigned bar, uint64_t off, unsigned len)
{
    const struct csum *c = pci_device_self(pdev);

    switch (off) {
    case CSUM_ADDR_LO: return c->addr_lo;
    case CSUM_ADDR_HI: return c->addr_hi;
    case CSUM_LEN:     return c->len;
    case CSUM_SUM:     return c->sum;
    case CSUM_STATUS:  return c->status;
    default:           return UINT64_MAX;
    }
}

static void csum_write(struct pci_device *pdev, unsigned bar, uint64_t off, unsigned len,
                       uint64_t val)
{
    struct csum *c = pci_device_self(pdev);

    switch (off) {
    case CSUM_ADDR_LO: c->addr_lo = val; break;
    case CSUM_ADDR_HI: c->addr_hi = val; break;
    case CSUM_LEN:     c->len = val; break;
    case CSUM_START:
        c->status = csum_run(pdev, c) < 0 ? CSUM_FAILED : CSUM_DONE;
        pci_irq_pulse(pdev, 0);
        break;
    default:
        log_guest(pci_device_name(pdev), "write to 0x%" PRIx64 ", where no register is", off);
    }
}

static void csum_reset(struct pci_device *pdev)
{
    *(struct csum *)pci_device_self(pdev) = (struct csum){ 0 };
}

const struct pci_device_class csum_class = {
    .base = {
        .name = "csum", .summary = "checksum engine, the example device",
        .parent = &pci_device_base, .size = sizeof(struct csum), .state_version = 1,
        .state = (const struct state_field[]){      /* one list, used to save and to load */
            STATE_U32(struct csum, addr_lo), STATE_U32(struct csum, addr_hi),
            STATE_U32(struct csum, len), STATE_U32(struct csum, sum),
            STATE_U32_MAX(struct csum, status, CSUM_FAILED), STATE_END },
    },
    .pci = { .vendor = 0x1af4, .device = 0x10f0, .class = 0xff0000, .msix_vectors = 1 },
    .bars = { [0] = { .size = 4096, .access = ACCESS_32 } },
    .ops = &(const struct pci_device_ops){ .bar_read = csum_read, .bar_write = csum_write,
                                           .reset = csum_reset },
};
