/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fixed ACPI registers (ACPI 6.4, 4.8.3): PM1a events with the power button, PM1a control with
 * sleep state S5, the PM timer; and a byte of our own, written by the DSDT's _PIC, that says whether
 * the guest uses PIC or IOAPIC. ACPI mode is always on.
 *
 * Not modelled: the timer's carry interrupt (TMR_STS), sleep states other than S5.
 */
#include "machine/internal.h"

#include "base/log.h"

enum { TIMER_HZ = 3579545, NS_PER_S = 1000000000 };
enum { STS_PWRBTN = 0x0100, EN_ALLOWED = 0x0521 /* RTC, power button, global lock, timer */ };
enum { CNT_SCI_EN = 0x0001, CNT_KEPT = 0x1c03, CNT_SLP_TYP = 0x1c00, CNT_SLP_EN = 0x2000,
       SLP_TYP_S5 = 0 };

struct acpi_pm {
    struct machine *machine;
    struct mem_region *ports;
    uint16_t sts, en, cnt;
    uint8_t irq_mode;           /* as _PIC has it: 0 PIC, 1 IOAPIC */
};

static void update_irq(struct acpi_pm *pm)
{
    machine_isa_irq(pm->machine, IRQ_SCI, 0, pm->sts & pm->en);
}

void acpi_pm_power_button(struct object *obj)
{
    struct acpi_pm *pm = object_self(obj);

    pm->sts |= STS_PWRBTN;
    update_irq(pm);
}

static uint32_t timer_now(const struct acpi_pm *pm)
{
    return (unsigned __int128)machine_clock_ns(pm->machine) * TIMER_HZ / NS_PER_S;
}

static uint64_t pm_read(void *opaque, uint64_t off, unsigned len)
{
    struct acpi_pm *pm = opaque;
    uint8_t bytes[PM_SIZE] = { 0 };

    le16_store(bytes + PM1_EVT - PM_BASE, pm->sts);
    le16_store(bytes + PM1_EVT - PM_BASE + 2, pm->en);
    le16_store(bytes + PM1_CNT - PM_BASE, pm->cnt | CNT_SCI_EN);
    le32_store(bytes + PM_TMR - PM_BASE, timer_now(pm));
    bytes[PM_IRQ_MODE - PM_BASE] = pm->irq_mode;
    return le_load(bytes + off, len);
}

static void cnt_write(struct acpi_pm *pm, uint16_t val)
{
    pm->cnt = val & CNT_KEPT;
    if (!(val & CNT_SLP_EN))
        return;
    if ((val & CNT_SLP_TYP) == SLP_TYP_S5 << 10)
        pm->machine->ops->request_shutdown(pm->machine->opaque, MACHINE_SHUTDOWN_POWEROFF, 0);
    else
        log_guest("acpi-pm", "asks for a sleep state that there is not (SLP_TYP %u)",
                  (val & CNT_SLP_TYP) >> 10);
}

/* One byte of the event registers; sts clears where a 1 is written. */
static void evt_write(struct acpi_pm *pm, unsigned at, uint8_t val)
{
    unsigned shift = at % 2 * 8;

    if (at < 2)
        pm->sts &= ~(val << shift);
    else
        pm->en = (pm->en & ~(0xff << shift)) | ((val << shift) & EN_ALLOWED);
}

static void pm_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
    struct acpi_pm *pm = opaque;

    if (off < PM1_CNT - PM_BASE) {
        for (unsigned i = 0; i < len; i++)
            evt_write(pm, off + i, val >> 8 * i);
        update_irq(pm);
    } else if (off == PM1_CNT - PM_BASE && len >= 2) {
        cnt_write(pm, val);
    } else if (off == PM1_CNT - PM_BASE) {
        cnt_write(pm, (pm->cnt & 0xff00) | val);
    } else if (off == PM1_CNT - PM_BASE + 1) {
        cnt_write(pm, (pm->cnt & 0xff) | val << 8);
    } else if (off == PM_IRQ_MODE - PM_BASE) {
        pm->irq_mode = val & 1;
        machine_set_pic_mode(pm->machine, !pm->irq_mode);
    }
}

static const struct mem_ops port_ops = {
    .read = pm_read, .write = pm_write, .widths = ACCESS_8 | ACCESS_16 | ACCESS_32,
};

static void pm_reset(struct object *obj)
{
    struct acpi_pm *pm = object_self(obj);

    pm->sts = pm->en = pm->cnt = 0;
    pm->irq_mode = 0;
    update_irq(pm);
}

static int pm_realize(struct object *obj, struct error *err)
{
    struct acpi_pm *pm = object_self(obj);

    pm->machine = machine_of(obj);
    return machine_ports_add(pm->machine, "acpi-pm", PM_BASE, PM_SIZE, &port_ops, pm, &pm->ports, err);
}

static void pm_unrealize(struct object *obj)
{
    machine_ports_del(&((struct acpi_pm *)object_self(obj))->ports);
}

static int pm_post_load(struct object *obj, struct error *err)
{
    struct acpi_pm *pm = object_self(obj);

    pm->en &= EN_ALLOWED;
    pm->cnt &= CNT_KEPT;
    machine_set_pic_mode(pm->machine, !pm->irq_mode);
    update_irq(pm);
    return 0;
}

const struct object_class acpi_pm_class = {
    .name = "acpi-pm", .summary = "ACPI power management registers", .internal = true,
    .size = sizeof(struct acpi_pm), .state_version = 1,
    .state = (const struct state_field[]){
        STATE_U16(struct acpi_pm, sts), STATE_U16(struct acpi_pm, en), STATE_U16(struct acpi_pm, cnt),
        STATE_U8_MAX(struct acpi_pm, irq_mode, 1), STATE_END },
    .realize = pm_realize, .unrealize = pm_unrealize, .reset = pm_reset, .post_load = pm_post_load,
};
