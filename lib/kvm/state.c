/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU's registers: taken once at power-on, put back at every reset, and then, for the first CPU,
 * the state in which a boot loader hands over.
 */
#include "kvm/internal.h"

#include <errno.h>
#include <string.h>

enum { SEG_LDT = 2, RFLAGS_1 = 1 << 1 };

/* Model-specific registers whose writing does more than put back a value. */
static bool msr_left_alone(uint32_t index)
{
    switch (index) {
    case 0x10:              /* IA32_TIME_STAMP_COUNTER: goes on, the same on all CPUs */
    case 0x3b:              /* IA32_TSC_ADJUST: moves it */
    case 0x8b:              /* microcode revision */
    case 0x6e0:             /* IA32_TSC_DEADLINE: the local APIC's timer, which is reset itself */
        return true;
    default:
        return false;
    }
}

static int msrs_take(struct vcpu *cpu, const struct kvm_msr_list *list)
{
    struct kvm_msrs *all = calloc(1, sizeof *all + list->nmsrs * sizeof all->entries[0]);

    AUTO_FREE struct kvm_msrs *one = calloc(1, sizeof *one + sizeof one->entries[0]);
    if (!all || !one) {
        free(all);
        return -ENOMEM;
    }
    one->nmsrs = 1;
    for (unsigned i = 0; i < list->nmsrs; i++) {
        one->entries[0] = (struct kvm_msr_entry){ .index = list->indices[i] };
        /* One by one: the kernel lists some that this CPU's CPUID does not have. */
        if (!msr_left_alone(list->indices[i]) && kvm_call(cpu->fd, KVM_GET_MSRS, one) == 1)
            all->entries[all->nmsrs++] = one->entries[0];
    }
    cpu->power_on.msrs = all;
    return 0;
}

/* KVM stops at the first it refuses and says how many it took: go on behind that one. */
static int msrs_restore(struct vcpu *cpu)
{
    const struct kvm_msrs *all = cpu->power_on.msrs;
    AUTO_FREE struct kvm_msrs *rest = calloc(1, sizeof *rest + all->nmsrs * sizeof rest->entries[0]);

    if (!rest)
        return -ENOMEM;
    for (unsigned done = 0; done < all->nmsrs;) {
        rest->nmsrs = all->nmsrs - done;
        memcpy(rest->entries, all->entries + done, rest->nmsrs * sizeof rest->entries[0]);
        int r = kvm_call(cpu->fd, KVM_SET_MSRS, rest);
        if (r < 0)
            return r;
        done += MIN((unsigned)r + 1, rest->nmsrs);
    }
    return 0;
}

int vcpu_snapshot_take(struct vcpu *cpu, const struct kvm_msr_list *list)
{
    struct vcpu_snapshot *s = &cpu->power_on;
    int r;

    if ((r = kvm_call(cpu->fd, KVM_GET_REGS, &s->regs)) < 0 ||
        (r = kvm_call(cpu->fd, KVM_GET_SREGS, &s->sregs)) < 0 ||
        (r = kvm_call(cpu->fd, KVM_GET_FPU, &s->fpu)) < 0 ||
        (r = kvm_call(cpu->fd, KVM_GET_LAPIC, &s->lapic)) < 0 ||
        (r = kvm_call(cpu->fd, KVM_GET_MP_STATE, &s->mp_state)) < 0)
        return r;
    s->has_xcrs = kvm_call(cpu->fd, KVM_GET_XCRS, &s->xcrs) == 0;
    s->has_events = kvm_call(cpu->fd, KVM_GET_VCPU_EVENTS, &s->events) == 0;
    s->has_debugregs = kvm_call(cpu->fd, KVM_GET_DEBUGREGS, &s->debugregs) == 0;
    /* A flag says that a part is valid when set: a reset sets all of it. */
    s->events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;

    if (cpu->vm->xsave_size) {
        s->xsave = calloc(1, cpu->vm->xsave_size);
        if (!s->xsave)
            return -ENOMEM;
        if (kvm_call(cpu->fd, cpu->vm->xsave_size > (int)sizeof(struct kvm_xsave) ?
                     KVM_GET_XSAVE2 : KVM_GET_XSAVE, s->xsave) < 0) {
            free(s->xsave);
            s->xsave = NULL;
        }
    }
    return msrs_take(cpu, list);
}

void vcpu_snapshot_fini(struct vcpu_snapshot *s)
{
    free(s->xsave);
    free(s->msrs);
}

static struct kvm_segment segment(const struct vcpu_segment *s)
{
    return (struct kvm_segment){
        .base = s->base, .limit = s->limit, .selector = s->selector, .type = s->type,
        .present = s->present, .dpl = s->dpl, .db = s->db, .s = s->s, .l = s->l, .g = s->g,
    };
}

/* The boot loader's state on top of the power-on state. */
static void start_apply(const struct vcpu_start *start, struct kvm_sregs *s, struct kvm_regs *r)
{
    s->cs = segment(&start->cs);
    s->ds = s->es = s->fs = s->gs = s->ss = segment(&start->ds);
    s->tr = segment(&start->tr);
    s->ldt = (struct kvm_segment){ .type = SEG_LDT, .unusable = 1 };
    s->gdt = (struct kvm_dtable){ .base = start->gdt_base, .limit = start->gdt_limit };
    s->idt = (struct kvm_dtable){ .base = start->idt_base, .limit = start->idt_limit };
    s->cr0 = start->cr0;
    s->cr3 = start->cr3;
    s->cr4 = start->cr4;
    s->efer = start->efer;
    *r = (struct kvm_regs){
        .rip = start->rip, .rsp = start->rsp, .rax = start->rax, .rbx = start->rbx,
        .rcx = start->rcx, .rdx = start->rdx, .rsi = start->rsi, .rdi = start->rdi,
        .rbp = start->rbp, .rflags = start->rflags | RFLAGS_1,
    };
}

int vcpu_restore(struct vcpu *cpu, const struct vcpu_start *start)
{
    struct vcpu_snapshot *p = &cpu->power_on;
    struct kvm_sregs sregs = p->sregs;
    struct kvm_regs regs = p->regs;
    int r;

    if (cpu->index == 0 && start)
        start_apply(start, &sregs, &regs);

    /* First runnable: KVM refuses some state of a CPU that waits for SIPI. */
    if ((r = kvm_call(cpu->fd, KVM_SET_MP_STATE, &(struct kvm_mp_state){ KVM_MP_STATE_RUNNABLE })) < 0)
        return r;
    if (p->has_xcrs && (r = kvm_call(cpu->fd, KVM_SET_XCRS, &p->xcrs)) < 0)
        return r;
    if (p->has_events && (r = kvm_call(cpu->fd, KVM_SET_VCPU_EVENTS, &p->events)) < 0)
        return r;
    if ((r = kvm_call(cpu->fd, KVM_SET_SREGS, &sregs)) < 0)
        return r;
    if (p->xsave)
        r = kvm_call(cpu->fd, KVM_SET_XSAVE, p->xsave);
    else
        r = kvm_call(cpu->fd, KVM_SET_FPU, &p->fpu);
    if (r < 0 || (r = kvm_call(cpu->fd, KVM_SET_REGS, &regs)) < 0 || (r = msrs_restore(cpu)) < 0)
        return r;
    /* After APIC_BASE, which says in which form the id lies. */
    if ((r = kvm_call(cpu->fd, KVM_SET_LAPIC, &p->lapic)) < 0)
        return r;
    if (p->has_debugregs && (r = kvm_call(cpu->fd, KVM_SET_DEBUGREGS, &p->debugregs)) < 0)
        return r;
    return kvm_call(cpu->fd, KVM_SET_MP_STATE, &p->mp_state);
}
