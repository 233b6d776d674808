/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the guest runs. Whoever wants something that needs the vCPUs out of the guest (a stop, a
 * reset, the end) notes it in struct run and asks for a pause; what was noted is then done in one
 * place, on the loop, however many asked meanwhile.
 */
#include "cpu/cpu.h"

#include "base/log.h"

#include <errno.h>

static const char *const status_names[] = {
    [RUN_PRELAUNCH] = "prelaunch", [RUN_RUNNING] = "running", [RUN_PAUSED] = "paused",
    [RUN_SHUTDOWN] = "shutdown", [RUN_PANICKED] = "guest-panicked",
    [RUN_INTERNAL_ERROR] = "internal-error",
};

const char *run_status_name(const struct cpu *cpu) { return status_names[cpu->run.status]; }

void cpu_event(struct cpu *cpu, const char *name, json_t *data)
{
    if (cpu->primary)
        primary_event(cpu->primary, name, data);
    json_decref(data);
}

static struct vcpu_segment segment(const struct machine_segment *s)
{
    return (struct vcpu_segment){
        .base = s->base, .limit = s->limit, .selector = s->selector, .type = s->type,
        .present = s->present, .dpl = s->dpl, .db = s->db, .s = s->s, .l = s->l, .g = s->g,
    };
}

int run_power_on(struct cpu *cpu, struct error *err)
{
    int r = machine_reset(cpu->machine, err);

    if (r < 0)
        return r;
    const struct machine_start *m = machine_start_state(cpu->machine);
    const struct vcpu_start start = {
        .rip = m->rip, .rsp = m->rsp, .rflags = m->rflags, .rax = m->rax, .rbx = m->rbx,
        .rcx = m->rcx, .rdx = m->rdx, .rsi = m->rsi, .rdi = m->rdi, .rbp = m->rbp,
        .cr0 = m->cr0, .cr3 = m->cr3, .cr4 = m->cr4, .efer = m->efer,
        .cs = segment(&m->cs), .ds = segment(&m->ds), .tr = segment(&m->tr),
        .gdt_base = m->gdt_base, .gdt_limit = m->gdt_limit,
        .idt_base = m->idt_base, .idt_limit = m->idt_limit,
    };
    return vm_reset(cpu->vm, &start, err);
}

/* The vCPUs are out and stay out, in the given state. */
static void halt(struct cpu *cpu, enum run_status status)
{
    bool ran = cpu->run.status == RUN_RUNNING;

    cpu->run.status = status;
    if (!cpu->run.devices_paused)
        objects_pause(&cpu->tree);
    cpu->run.devices_paused = true;
    if (ran)
        cpu_event(cpu, "STOP", NULL);
}

static void do_shutdown(struct cpu *cpu)
{
    json_t *data = json_pack("{s:b, s:s}", "guest", 1, "reason", cpu->run.shutdown_reason);

    if (cpu->run.exit_code >= 0)
        json_object_set_new(data, "exit-code", json_integer(cpu->run.exit_code));
    cpu_event(cpu, "SHUTDOWN", data);
    halt(cpu, RUN_SHUTDOWN);
}

static void do_reset(struct cpu *cpu)
{
    struct run *run = &cpu->run;
    struct error err;

    if (run_power_on(cpu, &err) < 0) {
        log_error("the machine cannot be reset: %s", err.text);
        halt(cpu, RUN_INTERNAL_ERROR);
        return;
    }
    if (run->status != RUN_RUNNING && run->status != RUN_PRELAUNCH)
        run->status = RUN_PAUSED;
    cpu_event(cpu, "RESET", json_pack("{s:b, s:s}", "guest", run->reset_by_guest, "reason",
              run->reset_by_guest ? "guest-reset" : "host-qmp-system-reset"));
}

static void answer_waiters(struct cpu *cpu)
{
    for (unsigned i = 0; i < cpu->run.waiter_count && cpu->primary; i++)
        primary_answer(cpu->primary, cpu->run.waiters[i], NULL, NULL, 0, NULL);
    cpu->run.waiter_count = 0;
}

/* Every vCPU is out. */
static void on_paused(void *opaque)
{
    struct cpu *cpu = opaque;
    struct run *run = &cpu->run;

    if (run->reset && run->reset_by_guest && run->reboot_shuts_down && !run->shutdown) {
        run->shutdown = true;
        run->shutdown_reason = "guest-reset";
    }
    if (run->shutdown) {
        do_shutdown(cpu);
    } else if (run->reset) {
        do_reset(cpu);
        if (run->stop)
            halt(cpu, RUN_PAUSED);
    } else if (run->internal_error) {
        halt(cpu, RUN_INTERNAL_ERROR);
    } else if (run->panic) {
        halt(cpu, RUN_PANICKED);
        cpu_event(cpu, "GUEST_PANICKED", json_pack("{s:s}", "action", "pause"));
    } else if (run->stop) {
        halt(cpu, RUN_PAUSED);
    }
    run->stop = run->reset = run->shutdown = run->panic = run->internal_error = false;
    run->exit_code = -1;
    answer_waiters(cpu);
    if (run->status == RUN_RUNNING)
        vm_resume(cpu->vm);
}

static void ask_reset(struct cpu *cpu, bool by_guest)
{
    cpu->run.reset_by_guest = by_guest;
    cpu->run.reset = true;
    vm_pause(cpu->vm);
}

static void ask_shutdown(struct cpu *cpu, const char *reason, int exit_code)
{
    if (cpu->run.shutdown)
        return;                     /* the first reason counts */
    cpu->run.shutdown = true;
    cpu->run.shutdown_reason = reason;
    cpu->run.exit_code = exit_code;
    vm_pause(cpu->vm);
}

/* ---- what the vCPUs say ---- */

static void on_trouble(void *opaque, unsigned index, enum vm_trouble trouble, const char *text)
{
    struct cpu *cpu = opaque;

    switch (trouble) {
    case VM_TRIPLE_FAULT:           /* a PC's chipset answers it with a reset */
    case VM_ASKED_RESET:
        log_info("%s", text);
        ask_reset(cpu, true);
        break;
    case VM_ASKED_SHUTDOWN:
        ask_shutdown(cpu, "guest-shutdown", -1);
        break;
    case VM_CRASHED:
        log_warn("%s", text);
        cpu->run.panic = true;
        vm_pause(cpu->vm);
        break;
    case VM_INTERNAL_ERROR:
        log_error("the guest is stopped: %s", text);
        cpu->run.internal_error = true;
        vm_pause(cpu->vm);
        break;
    }
}

const struct vm_ops run_vm_ops = { .paused = on_paused, .trouble = on_trouble };

/* ---- what the machine says: any thread, under the lock ---- */

static void set_irq(void *opaque, unsigned gsi, bool level)
{
    vm_irq_line(((struct cpu *)opaque)->vm, gsi, level);
}

static void signal_msi(void *opaque, uint64_t addr, uint32_t data)
{
    vm_msi(((struct cpu *)opaque)->vm, addr, data);
}

static void request_shutdown(void *opaque, enum machine_shutdown why, int exit_code)
{
    ask_shutdown(opaque, "guest-shutdown", why == MACHINE_SHUTDOWN_DEBUG_EXIT ? exit_code : -1);
}

static void request_reset(void *opaque) { ask_reset(opaque, true); }

static void guest_panicked(void *opaque, bool crash_loaded)
{
    struct cpu *cpu = opaque;

    if (crash_loaded)               /* its crash kernel takes over; it goes on */
        return;
    cpu->run.panic = true;
    vm_pause(cpu->vm);
}

const struct machine_ops run_machine_ops = {
    .set_irq = set_irq, .signal_msi = signal_msi, .request_shutdown = request_shutdown,
    .request_reset = request_reset, .guest_panicked = guest_panicked,
};

/* ---- what control says ---- */

static int wait_for_pause(struct cpu *cpu, json_int_t id, struct error *err)
{
    struct run *run = &cpu->run;

    if (run->waiter_count == RUN_WAITERS_MAX)
        return error_set(err, -EBUSY, "too many requests wait for the guest to stop");
    run->waiters[run->waiter_count++] = id;
    vm_pause(cpu->vm);
    return -EINPROGRESS;
}

int run_stop(struct cpu *cpu, json_int_t id, struct error *err)
{
    if (cpu->run.status != RUN_RUNNING)
        return 0;
    int r = wait_for_pause(cpu, id, err);
    cpu->run.stop = r == -EINPROGRESS;
    return r;
}

int run_cont(struct cpu *cpu, struct error *err)
{
    struct run *run = &cpu->run;

    run->stop = false;              /* if one was on its way, on_paused goes on instead */
    if (run->status == RUN_RUNNING)
        return 0;
    if (run->status == RUN_SHUTDOWN || run->status == RUN_INTERNAL_ERROR)
        return error_set(err, -EINVAL, "the machine must be reset first ('system_reset')");
    if (run->devices_paused)
        objects_resume(&cpu->tree);
    run->devices_paused = false;
    run->status = RUN_RUNNING;
    cpu_event(cpu, "RESUME", NULL);
    if (run->reset || run->shutdown)
        return 0;                   /* on_paused is on its way */
    vm_resume(cpu->vm);
    return 0;
}

int run_system_reset(struct cpu *cpu, json_int_t id, struct error *err)
{
    int r = wait_for_pause(cpu, id, err);

    if (r == -EINPROGRESS) {
        cpu->run.reset = true;
        cpu->run.reset_by_guest = false;
    }
    return r;
}
