/* SPDX-License-Identifier: Apache-2.0 */
/* A device with one of everything, for the tests of both halves of the border. */
#ifndef REMOTE_TESTS_TOY_H
#define REMOTE_TESTS_TOY_H

#include "pci/pci.h"

enum {                          /* BAR 0, and the first 32 bytes also BAR 1 (I/O) */
    TOY_SCRATCH = 0x00,         /* rw */
    TOY_LEVEL = 0x04,           /* rw  the INTx line */
    TOY_PULSE = 0x08,           /*  w  raise this vector */
    TOY_ADDR = 0x0c,            /* rw  where DMA goes */
    TOY_LOAD = 0x10,            /*  w  SCRATCH = memory at ADDR */
    TOY_STORE = 0x14,           /*  w  memory at ADDR = the value written */
    TOY_STATUS = 0x18,          /* r   result of the last DMA, 0 or a positive errno */
    TOY_HANG = 0x1c,            /*  w  sleep this many milliseconds */
    TOY_PATTERN = 0x100,        /* r   to the end: each dword holds its offset */
};

struct toy { uint32_t scratch, level, addr, status; };

static inline uint64_t toy_read(struct pci_device *pdev, unsigned bar, uint64_t off, unsigned len)
{
    const struct toy *t = pci_device_self(pdev);

    switch (off) {
    case TOY_SCRATCH: return t->scratch;
    case TOY_LEVEL:   return t->level;
    case TOY_ADDR:    return t->addr;
    case TOY_STATUS:  return t->status;
    default:          return off >= TOY_PATTERN ? off : UINT64_MAX;
    }
}

static inline void toy_write(struct pci_device *pdev, unsigned bar, uint64_t off, unsigned len,
                             uint64_t val)
{
    struct toy *t = pci_device_self(pdev);
    uint8_t buf[4];

    switch (off) {
    case TOY_SCRATCH: t->scratch = val; break;
    case TOY_LEVEL:
        t->level = val & 1;
        pci_irq_set(pdev, t->level);
        break;
    case TOY_PULSE:
        pci_irq_pulse(pdev, val);
        break;
    case TOY_ADDR: t->addr = val; break;
    case TOY_LOAD:
        t->status = -pci_dma_read(pdev, t->addr, buf, 4);
        if (!t->status)
            t->scratch = le32_load(buf);
        break;
    case TOY_STORE:
        le32_store(buf, val);
        t->status = -pci_dma_write(pdev, t->addr, buf, 4);
        break;
    case TOY_HANG:
        usleep(val * 1000);
        break;
    }
}

static inline void toy_reset(struct pci_device *pdev)
{
    *(struct toy *)pci_device_self(pdev) = (struct toy){ 0 };
}

static const struct pci_device_class toy_class = {
    .base = { .name = "toy", .parent = &pci_device_base, .size = sizeof(struct toy),
              .state = (const struct state_field[]){
                  STATE_U32(struct toy, scratch), STATE_U32_MAX(struct toy, level, 1),
                  STATE_U32(struct toy, addr), STATE_U32(struct toy, status), STATE_END } },
    .pci = { .vendor = 0x1234, .device = 0x5678, .class = 0xff0000, .revision = 3, .intx_pin = 1,
             .msi_vectors = 4, .msix_vectors = 5 },
    .bars = { [0] = { .size = 0x1000, .access = ACCESS_32 },
              [1] = { .size = 0x20, .flags = PCI_BAR_IO, .access = ACCESS_32 },
              [2] = { .size = 0x100000, .flags = PCI_BAR_64 | PCI_BAR_PREFETCH } },
    .ops = &(const struct pci_device_ops){ .bar_read = toy_read, .bar_write = toy_write,
                                           .reset = toy_reset },
};

#endif
