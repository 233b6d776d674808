/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts: SIST0, SIST1 and DSTAT, stacked, cleared by reading (Technical Manual 2.2.16).
 *
 * A masked fatal condition still stops SCRIPTS and shows in ISTAT0, it just does not reach the
 * pin; a masked one that is not fatal shows in SIST alone. While SIP (DIP) is set further SCSI
 * (DMA) conditions queue up behind, and move forward when the first have been read.
 */
#include "devices/lsi53c895a/lsi.h"

static uint16_t sien(const struct lsi *s) { return s->reg[SIEN0] | s->reg[SIEN1] << 8; }

static bool sip(const struct lsi *s) { return s->sist & (uint16_t)(~SIST_NONFATAL | sien(s)); }

uint8_t lsi_read_istat0(const struct lsi *s)
{
    return s->istat0 | (s->conn.nexus != NEXUS_NONE ? ISTAT0_CON : 0) |
           (sip(s) ? ISTAT0_SIP : 0) | (s->dstat ? ISTAT0_DIP : 0);
}

void lsi_irq_update(struct lsi *s)
{
    bool wanted = (s->istat0 & ISTAT0_INTF) || (s->sist & sien(s)) || (s->dstat & s->reg[DIEN]);
    bool off = (s->istat1 & ISTAT1_SI) || (s->reg[DCNTL] & DCNTL_IRQD);

    pci_irq_set(s->pdev, wanted && !off);
}

void lsi_scsi_interrupt(struct lsi *s, uint16_t bits)
{
    if (sip(s))
        s->sist_stacked |= bits;
    else
        s->sist |= bits;
    if (bits & ~SIST_NONFATAL)
        lsi_halt(s);
    lsi_irq_update(s);
}

void lsi_dma_interrupt(struct lsi *s, uint8_t bits)
{
    if (s->dstat)
        s->dstat_stacked |= bits;
    else
        s->dstat = bits;
    lsi_halt(s);
    lsi_irq_update(s);
}

uint8_t lsi_read_dstat(struct lsi *s)
{
    uint8_t v = s->dstat | DSTAT_DFE;

    s->dstat = s->dstat_stacked;
    s->dstat_stacked = 0;
    if (s->istat0 & ISTAT0_ABRT)        /* as long as the bit stays set it goes on interrupting */
        s->dstat |= DSTAT_ABRT;
    lsi_irq_update(s);
    return v;
}

uint8_t lsi_read_sist(struct lsi *s, bool high)
{
    uint8_t v = high ? s->sist >> 8 : s->sist;

    s->sist &= high ? 0x00ff : 0xff00;
    if (!sip(s)) {
        s->sist |= s->sist_stacked;
        s->sist_stacked = 0;
    }
    lsi_irq_update(s);
    return v;
}
