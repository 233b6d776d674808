/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LSI53C895A PCI to Ultra2 SCSI controller, for SCSI disks and CD-ROMs on its bus "<id>.0": the
 * class, its life and its saved state. LSI53C895A Technical Manual, version 2.2.
 *
 * BAR 0: registers, 256 bytes of I/O. BAR 1: the same in memory, 1 KiB. BAR 2: 8 KiB of SCRIPTS
 * RAM. README.md says what is in which file; registers.c and script_io.c what is not modelled.
 */
#include "devices/lsi53c895a/lsi53c895a.h"

#include "devices/lsi53c895a/lsi.h"

#include <errno.h>
#include <string.h>

enum { BAR_IO, BAR_REGISTERS, BAR_RAM, STATE_VERSION = 1 };

static uint64_t lsi_bar_read(struct pci_device *pdev, unsigned bar, uint64_t off, unsigned len)
{
    struct lsi *s = pci_device_self(pdev);
    uint64_t v = 0;

    if (bar == BAR_RAM)
        return le_load(s->ram + off, len);
    for (unsigned i = 0; i < len; i++)
        v |= (uint64_t)lsi_reg_read(s, (off + i) % LSI_REGS) << 8 * i;
    return v;
}

static void lsi_bar_write(struct pci_device *pdev, unsigned bar, uint64_t off, unsigned len,
                          uint64_t val)
{
    struct lsi *s = pci_device_self(pdev);

    if (bar == BAR_RAM) {
        le_store(s->ram + off, len, val);
        return;
    }
    for (unsigned i = 0; i < len; i++)
        lsi_reg_write(s, (off + i) % LSI_REGS, val >> 8 * i, false);
}

static void drop_everything(struct lsi *s)
{
    lsi_cancel_tasks(s, -1, -1, -1);
    lsi_drop_connection(s);
    task_cancel(s->task);
}

static void lsi_reset(struct pci_device *pdev)
{
    struct lsi *s = pci_device_self(pdev);

    drop_everything(s);
    memset(s->targets, 0, sizeof s->targets);
    memset(s->ram, 0, sizeof s->ram);
    lsi_reset_registers(s);
}

static int lsi_realize(struct pci_device *pdev, struct error *err)
{
    struct lsi *s = pci_device_self(pdev);
    static const struct scsi_bus_config config = {
        .ops = &lsi_host_ops, .max_target = LSI_TARGETS - 1, .max_lun = LSI_LUNS - 1,
        .host_id = LSI_HOST_ID, .tagged = true,
    };

    s->pdev = pdev;
    for (unsigned i = 0; i < LSI_TASKS; i++)
        lsi_task_free(s, &s->tasks[i]);
    s->conn = (struct lsi_conn){ .task = LSI_NO_TASK, .tag = LSI_NO_TAG };
    int r = task_new(pci_device_loop(pdev), lsi_task_cb, s, &s->task);
    if (r == 0)
        r = lsi_timers_new(s);
    if (r < 0)
        return error_oom(err);
    r = scsi_bus_new(pci_device_object(pdev), &config, &s->bus, err);
    if (r == 0)
        lsi_reset_registers(s);
    return r;
}

static void lsi_unrealize(struct pci_device *pdev)
{
    struct lsi *s = pci_device_self(pdev);

    if (s->bus) {
        drop_everything(s);
        scsi_bus_free(s->bus);
        s->bus = NULL;
    }
    task_free(s->task);
    lsi_timers_free(s);
    s->task = NULL;
}

static void lsi_pause(struct pci_device *pdev)
{
    struct lsi *s = pci_device_self(pdev);

    if (s->paused)
        return;
    lsi_timers_pause(s);
    s->paused = true;
    task_cancel(s->task);
    s->tasks_used = 0;
    for (unsigned i = 0; i < LSI_TASKS; i++) {
        struct lsi_task *t = &s->tasks[i];
        t->index = t->req ? (uint32_t)scsi_request_index(t->req) : UINT32_MAX;
        if (t->state != TASK_FREE)
            s->tasks_used = i + 1;
    }
}

static void lsi_resume(struct pci_device *pdev)
{
    struct lsi *s = pci_device_self(pdev);

    if (!s->paused && !s->loaded)
        return;
    s->paused = false;
    if (s->loaded)
        lsi_adopt_requests(s);
    s->loaded = false;
    lsi_timers_resume(s);
    if (s->run != RUN_HALTED)
        task_schedule(s->task);
}

/* Nothing that was loaded may lead out of an array, or to what is not there. */
static int lsi_post_load(struct pci_device *pdev, struct error *err)
{
    struct lsi *s = pci_device_self(pdev);
    struct lsi_conn *c = &s->conn;
    bool bad = false;

    for (unsigned i = 0; i < LSI_TASKS; i++) {
        struct lsi_task *t = &s->tasks[i];
        struct scsi_request *old = TAKE_PTR(t->req);

        t->s = s;
        t->buf = NULL;
        if (old) {                                  /* what this device did before is void */
            scsi_request_set_hba(old, NULL);
            scsi_cancel(old);
            scsi_request_put(old);
        }
        if (t->state == TASK_DYING || i >= s->tasks_used)
            lsi_task_free(s, t);
        bad |= t->pos > t->len || (t->state == TASK_DATA && t->pos == t->len);
        t->connected = c->task == i;
    }
    bad |= c->in_len > LSI_MSG_MAX || c->in_pos > c->in_len || c->out_len >= LSI_MSG_MAX ||
           c->cdb_len > SCSI_CDB_MAX;
    if (bad)
        return error_set(err, -EINVAL, "saved state: a SCSI command past its end");
    if (c->task != LSI_NO_TASK && (c->task >= LSI_TASKS || s->tasks[c->task].state == TASK_FREE))
        c->task = LSI_NO_TASK;
    s->loaded = true;
    s->reg[SCNTL0] &= ~SCNTL0_START;
    lsi_irq_update(s);
    return 0;
}

static const struct state_field task_state[] = {
    STATE_U32(struct lsi_task, len), STATE_U32(struct lsi_task, pos),
    STATE_U32(struct lsi_task, index), STATE_U32(struct lsi_task, order),
    STATE_U16_MAX(struct lsi_task, tag, LSI_NO_TAG),
    STATE_U8_MAX(struct lsi_task, state, TASK_STATE_MAX),
    STATE_U8_MAX(struct lsi_task, dir, SCSI_TO_TARGET),
    STATE_U8_MAX(struct lsi_task, target, LSI_TARGETS - 1),
    STATE_U8_MAX(struct lsi_task, lun, LSI_LUNS - 1), STATE_U8(struct lsi_task, status),
    STATE_BOOL(struct lsi_task, may_disconnect), STATE_BOOL(struct lsi_task, moved),
    STATE_BOOL(struct lsi_task, odd), STATE_BOOL(struct lsi_task, padded), STATE_END,
};

static const struct state_field conn_state[] = {
    STATE_U8_MAX(struct lsi_conn, nexus, NEXUS_MAX),
    STATE_U8_MAX(struct lsi_conn, phase, PHASE_MESSAGE_IN), STATE_BOOL(struct lsi_conn, req),
    STATE_BOOL(struct lsi_conn, ack), STATE_U8_MAX(struct lsi_conn, target, LSI_TARGETS - 1),
    STATE_U8_MAX(struct lsi_conn, lun, LSI_LUNS - 1),
    STATE_U16_MAX(struct lsi_conn, tag, LSI_NO_TAG), STATE_BOOL(struct lsi_conn, may_disconnect),
    STATE_U16(struct lsi_conn, task), STATE_U8(struct lsi_conn, status),
    STATE_BYTES(struct lsi_conn, in), STATE_U32(struct lsi_conn, in_len),
    STATE_U32(struct lsi_conn, in_pos), STATE_BYTES(struct lsi_conn, out),
    STATE_U32(struct lsi_conn, out_len), STATE_BYTES(struct lsi_conn, cdb),
    STATE_U32(struct lsi_conn, cdb_len), STATE_END,
};

static const struct state_field sense_state[] = {
    STATE_U8_MAX(struct lsi_sense, len, SCSI_SENSE_MAX), STATE_BYTES(struct lsi_sense, data),
    STATE_END,
};

static const struct state_field target_state[] = {
    STATE_BOOL(struct lsi_target, wide), STATE_U8(struct lsi_target, period),
    STATE_U8(struct lsi_target, offset), STATE_STRUCTS(struct lsi_target, sense, sense_state),
    STATE_END,
};

static const struct state_field lsi_state[] = {
    STATE_BYTES(struct lsi, reg), STATE_BYTES(struct lsi, ram), STATE_U8(struct lsi, istat0),
    STATE_U8(struct lsi, istat1), STATE_U8(struct lsi, dstat), STATE_U8(struct lsi, dstat_stacked),
    STATE_U16_MAX(struct lsi, sist, SIST_ALL), STATE_U16_MAX(struct lsi, sist_stacked, SIST_ALL),
    STATE_U8_MAX(struct lsi, run, RUN_MAX), STATE_BOOL(struct lsi, carry),
    STATE_U32(struct lsi, insn_addr), STATE_U32(struct lsi, insn_third),
    STATE_BOOL(struct lsi, moving), STATE_U8(struct lsi, move_top),
    STATE_U32(struct lsi, move_entry), STATE_BOOL(struct lsi, selecting),
    STATE_BOOL(struct lsi, reselected), STATE_BOOL(struct lsi, arbitrated),
    STATE_BOOL(struct lsi, sodl_full), STATE_STRUCT(struct lsi, conn, conn_state),
    STATE_STRUCTS_USED(struct lsi, tasks, tasks_used, task_state),
    STATE_STRUCTS(struct lsi, targets, target_state),
    STATE_U32(struct lsi, next_order), STATE_U64(struct lsi, select_left_ns),
    STATE_U64(struct lsi, gen_left_ns), STATE_U64(struct lsi, hth_left_ns), STATE_END,
};

const struct pci_device_class lsi53c895a_class = {
    .base = {
        .name = "lsi53c895a", .summary = "LSI53C895A SCSI controller", .parent = &pci_device_base,
        .size = sizeof(struct lsi), .state = lsi_state, .state_version = STATE_VERSION,
    },
    .pci = { .vendor = 0x1000, .device = 0x0012, .subsys_vendor = 0x1000, .subsys = 0x1000,
             .class = 0x010000, .intx_pin = 1, .min_gnt = 0x11, .max_lat = 0x40 },
    .bars = { [BAR_IO] = { .size = LSI_REGS, .flags = PCI_BAR_IO },
              [BAR_REGISTERS] = { .size = 1024 }, [BAR_RAM] = { .size = LSI_RAM_BYTES } },
    .ops = &(const struct pci_device_ops){
        .realize = lsi_realize, .unrealize = lsi_unrealize, .reset = lsi_reset,
        .pause = lsi_pause, .resume = lsi_resume, .post_load = lsi_post_load,
        .bar_read = lsi_bar_read, .bar_write = lsi_bar_write,
    },
};
