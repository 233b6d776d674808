/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The register file, byte by byte: what has an effect when read or written, and which bits stick.
 * Technical Manual, chapter 4. Wider accesses are runs of bytes, lowest first.
 *
 * Not modelled: low-level mode (driving SCSI signals and arbitration by hand through SCNTL0, SOCL
 * and SODL), the target role, parity (which never fails here), and the serial EEPROM at GPIO 0
 * and 1, whose lines read as pulled up: no chip answers.
 */
#include "devices/lsi53c895a/lsi.h"

#include <string.h>

enum { CHIP_REVISION = 0, GPIO_PINS = 0x1f };

/* Bits that keep what is written, for registers whose writing does nothing more. The others are
 * read only, or have a case of their own in lsi_reg_write. */
static const uint8_t sticky[LSI_REGS] = {
    [SCNTL0] = 0xdb, [SCNTL3] = 0xff, [SCID] = 0x6f, [SXFER] = 0xff, [SDID] = 0x0f,
    [GPREG] = GPIO_PINS, [SFBR] = 0xff, [SOCL] = BUS_ATN, [DSA ... DSA + 3] = 0xff,
    [MBOX0] = 0xff, [MBOX1] = 0xff, [CTEST0] = 0xff, [TEMP ... TEMP + 3] = 0xff,
    [CTEST2] = CTEST2_PCICIE, [CTEST3] = 0x03, [DFIFO] = 0xff, [CTEST4] = 0xff, [CTEST5] = 0x3b,
    [CTEST6] = 0xff,
    [DBC ... DBC + 3] = 0xff, [DNAD ... DNAD + 3] = 0xff, [DSP ... DSP + 3] = 0xff,
    [DSPS ... DSPS + 3] = 0xff, [SCRATCHA ... SCRATCHA + 3] = 0xff, [DMODE] = 0xff, [DIEN] = 0x7d,
    [SBR] = 0xff, [DCNTL] = 0xbb, [SIEN0] = 0xff, [SIEN1] = 0x17, [SLPAR] = 0xff,
    [SWIDE] = 0xff, [MACNTL] = 0x0f, [GPCNTL] = 0xff, [STIME0] = 0xff, [STIME1] = 0x7f,
    [RESPID0] = 0xff, [RESPID1] = 0xff, [STEST1] = 0xcc, [STEST2] = 0xbf, [STEST3] = 0xfd,
    [SODL] = 0xff, [SODL + 1] = 0xff, [CCNTL0] = 0xf3, [CCNTL1] = 0xcf,
    [SCRATCHB ... SCRATCHB + 3] = 0xff, [SCRATCHC ... DBMS + 3] = 0xff,
    [DNAD64 ... DNAD64 + 3] = 0xff, [PMJAD1 ... IA + 3] = 0xff, [CSBC ... CSBC + 3] = 0xff,
};

void lsi_reset_registers(struct lsi *s)
{
    memset(s->reg, 0, sizeof s->reg);
    s->reg[SCNTL0] = 0xc0;
    s->reg[GPCNTL] = 0x0f;
    s->istat0 = s->istat1 = 0;
    s->dstat = s->dstat_stacked = 0;
    s->sist = s->sist_stacked = 0;
    s->carry = s->moving = s->selecting = s->arbitrated = s->reselected = s->sodl_full = false;
    s->run = RUN_HALTED;
    lsi_timers_stop(s);
    lsi_irq_update(s);
}

static uint8_t bus_lines(const struct lsi *s)
{
    const struct lsi_conn *c = &s->conn;

    if (c->nexus == NEXUS_NONE)
        return 0;
    return BUS_BSY | (c->req ? BUS_REQ : 0) | (c->ack ? BUS_ACK : 0) | (s->reg[SOCL] & BUS_ATN) |
           c->phase;
}

/* CTEST2.PCICIE lets SCRIPTS find out where the chip itself is mapped. */
static uint8_t scratch_or_bar(const struct lsi *s, unsigned r)
{
    unsigned bar = r < DMODE ? 1 : 2;

    if (!(s->reg[CTEST2] & CTEST2_PCICIE))
        return s->reg[r];
    return pci_bar_address(s->pdev, bar) >> 8 * (r & 3);
}

uint8_t lsi_reg_read(struct lsi *s, unsigned r)
{
    uint8_t v = s->reg[r];

    switch (r) {
    case SCNTL1: return v | (s->conn.nexus != NEXUS_NONE ? SCNTL1_CON : 0);
    case SCNTL2: return v | (s->sodl_full ? SCNTL2_WSS : 0);
    case GPREG: return (v & ~s->reg[GPCNTL] & GPIO_PINS) | (s->reg[GPCNTL] & GPIO_PINS);
    case SOCL: return (v & BUS_ATN) | (s->conn.ack ? BUS_ACK : 0);
    case SBCL: return bus_lines(s);
    case DSTAT: return lsi_read_dstat(s);
    case SSTAT0: return v | (s->reg[SCNTL1] & SCNTL1_RST ? SSTAT0_RST : 0);
    case SSTAT1: return s->conn.phase;
    case ISTAT0: return lsi_read_istat0(s);
    case ISTAT1: return s->istat1 | (s->run != RUN_HALTED ? ISTAT1_SRUN : 0);
    case CTEST1: return 0xf0;                       /* the DMA FIFO is empty */
    case CTEST2:
        v |= s->istat0 & ISTAT0_SIGP ? CTEST2_SIGP : 0;
        s->istat0 &= ~ISTAT0_SIGP;
        return v | 0x01;
    case CTEST3: return v | CHIP_REVISION << 4;
    case SIST0: return lsi_read_sist(s, false);
    case SIST1: return lsi_read_sist(s, true);
    case STEST0: return 0x03 | s->reg[SCID] << 4;
    case STEST4: return STEST4_LVD | (s->reg[STEST1] & STEST1_QEN ? STEST4_LOCK : 0);
    case SCRATCHA ... SCRATCHA + 3:
    case SCRATCHB ... SCRATCHB + 3:
        return scratch_or_bar(s, r);
    default: return v;
    }
}

static void scntl1_written(struct lsi *s, uint8_t v)
{
    bool was_reset = s->reg[SCNTL1] & SCNTL1_RST;

    s->reg[SCNTL1] = v & 0xef;
    if (!was_reset && (v & SCNTL1_RST)) {
        lsi_bus_reset(s);
        lsi_scsi_interrupt(s, SIST_RST);
    }
}

static void istat0_written(struct lsi *s, uint8_t v)
{
    uint8_t keep = ISTAT0_ABRT | ISTAT0_SRST | ISTAT0_SIGP | ISTAT0_SEM;
    uint8_t rose = v & ~s->istat0;

    if (rose & ISTAT0_SRST) {
        lsi_drop_connection(s);
        lsi_reset_registers(s);
        rose = 0;
    }
    s->istat0 = (v & keep) | (s->istat0 & ISTAT0_INTF & ~v);
    if (rose & ISTAT0_ABRT)
        lsi_dma_interrupt(s, DSTAT_ABRT);
    lsi_irq_update(s);
    if (rose & ISTAT0_SIGP)
        lsi_kick(s);
}

void lsi_reg_write(struct lsi *s, unsigned r, uint8_t v, bool script)
{
    if ((s->istat0 & ISTAT0_SRST) && r != ISTAT0)
        return;                                     /* held in reset */
    switch (r) {
    case SCNTL1: scntl1_written(s, v); return;
    case SCNTL2:
        if (v & SCNTL2_WSS)
            s->sodl_full = false;
        s->reg[SCNTL2] = (v & 0xf6 & ~SCNTL2_WSS) | (s->reg[SCNTL2] & SCNTL2_WSR & ~v);
        return;
    case ISTAT0: istat0_written(s, v); return;
    case ISTAT1:
        s->istat1 = v & ISTAT1_SI;
        lsi_irq_update(s);
        return;
    }

    s->reg[r] = (s->reg[r] & ~sticky[r]) | (v & sticky[r]);
    switch (r) {
    case DIEN:
    case SIEN0:
    case SIEN1:
        lsi_irq_update(s);
        break;
    case STIME1:
        lsi_gen_written(s);
        break;
    case DSP + 3:                                   /* the last byte starts it */
        if (!script && !(s->reg[DMODE] & DMODE_MAN))
            lsi_start(s);
        break;
    case DCNTL:
        lsi_irq_update(s);
        if (!script && (v & DCNTL_STD) && s->run == RUN_HALTED)
            lsi_start(s);
        break;
    }
}

/* ---- memory as SCRIPTS see it ---- */

/* Offset into BAR `bar` if [low, low + len) lies in it and is decoded; else -1. */
static int own_offset(const struct lsi *s, unsigned bar, uint32_t high, uint32_t low, uint32_t len)
{
    uint64_t base = pci_bar_address(s->pdev, bar), size = pci_bar_info(s->pdev, bar)->size;

    if (high || base > UINT32_MAX || low < base || !range_inside(low - base, len, size))
        return -1;
    return low - base;
}

static uint64_t dma_address(const struct lsi *s, uint32_t high, uint32_t low)
{
    return (s->reg[CCNTL1] & CCNTL1_DDAC ? 0 : (uint64_t)high << 32) | low;
}

int lsi_mem_read(struct lsi *s, uint32_t high, uint32_t low, void *buf, uint32_t len)
{
    uint8_t *out = buf;
    int at = own_offset(s, 2, high, low, len);

    if (at >= 0) {
        memcpy(buf, s->ram + at, len);
        return 0;
    }
    at = own_offset(s, 1, high, low, len);
    if (at < 0)
        return pci_dma_read(s->pdev, dma_address(s, high, low), buf, len);
    for (uint32_t i = 0; i < len; i++)
        out[i] = lsi_reg_read(s, (at + i) % LSI_REGS);
    return 0;
}

int lsi_mem_write(struct lsi *s, uint32_t high, uint32_t low, const void *buf, uint32_t len)
{
    const uint8_t *in = buf;
    int at = own_offset(s, 2, high, low, len);

    if (at >= 0) {
        memcpy(s->ram + at, buf, len);
        return 0;
    }
    at = own_offset(s, 1, high, low, len);
    if (at < 0)
        return pci_dma_write(s->pdev, dma_address(s, high, low), buf, len);
    for (uint32_t i = 0; i < len; i++)
        lsi_reg_write(s, (at + i) % LSI_REGS, in[i], true);
    return 0;
}
