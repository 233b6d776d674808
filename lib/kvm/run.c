/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vCPU threads. A thread runs the guest until it is asked out: whoever asks sets vm->paused, then
 * sends the kick signal. The thread looks at vm->paused before it enters the guest; a signal that
 * arrives after that look sets immediate_exit, which KVM_RUN obeys, or interrupts KVM_RUN itself; so
 * no kick is lost.
 *
 * Before a thread parks it enters KVM once more with immediate_exit set: the kernel finishes the
 * access of the last exit only at the next entry, and registers set in between would be hurt.
 */
#include "kvm/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

enum { FINISH_MAX = 1024 };

static __thread struct kvm_run *this_run;

static void on_kick(int signo)
{
    if (this_run)
        this_run->immediate_exit = 1;
}

static void trouble(struct vcpu *cpu, enum vm_trouble what, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void trouble(struct vcpu *cpu, enum vm_trouble what, const char *fmt, ...)
{
    struct vm *vm = cpu->vm;
    va_list ap;

    pthread_mutex_lock(&vm->park_lock);
    cpu->broken = cpu->trouble_new = true;
    cpu->trouble = what;
    va_start(ap, fmt);
    vsnprintf(cpu->text, sizeof cpu->text, fmt, ap);
    va_end(ap);
    pthread_mutex_unlock(&vm->park_lock);
    task_schedule(vm->trouble_task);
}

static uint64_t where(struct vcpu *cpu)
{
    struct kvm_regs regs = { 0 };
    kvm_call(cpu->fd, KVM_GET_REGS, &regs);
    return regs.rip;
}

static void do_port(struct vcpu *cpu)
{
    struct kvm_run *run = cpu->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;

    for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
        if (run->io.direction == KVM_EXIT_IO_IN)
            address_space_read(cpu->vm->io, run->io.port, data, run->io.size);
        else
            address_space_write(cpu->vm->io, run->io.port, data, run->io.size);
    }
}

static void do_mmio(struct vcpu *cpu)
{
    struct kvm_run *run = cpu->run;
    size_t len = MIN((size_t)run->mmio.len, sizeof run->mmio.data);

    if (run->mmio.is_write)
        address_space_write(cpu->vm->memory, run->mmio.phys_addr, run->mmio.data, len);
    else
        address_space_read(cpu->vm->memory, run->mmio.phys_addr, run->mmio.data, len);
}

static void do_system_event(struct vcpu *cpu)
{
    switch (cpu->run->system_event.type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN:
        trouble(cpu, VM_ASKED_SHUTDOWN, "CPU %u asked for power-off", cpu->index);
        break;
    case KVM_SYSTEM_EVENT_RESET:
        trouble(cpu, VM_ASKED_RESET, "CPU %u asked for a reset", cpu->index);
        break;
    default:
        trouble(cpu, VM_CRASHED, "CPU %u says that the guest crashed", cpu->index);
    }
}

static void do_internal_error(struct vcpu *cpu)
{
    const struct kvm_run *run = cpu->run;
    char bytes[3 * 15 + 1] = "";

    if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION) {
        trouble(cpu, VM_INTERNAL_ERROR, "KVM cannot run CPU %u at 0x%" PRIx64
                ": internal error %u", cpu->index, where(cpu), run->internal.suberror);
        return;
    }
    if (run->emulation_failure.ndata >= 3 &&
        (run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
        for (unsigned i = 0; i < MIN(run->emulation_failure.insn_size, 15u); i++)
            snprintf(bytes + 3 * i, 4, " %02x", run->emulation_failure.insn_bytes[i]);
    trouble(cpu, VM_INTERNAL_ERROR, "KVM cannot emulate CPU %u's instruction at 0x%" PRIx64 "%s%s",
            cpu->index, where(cpu), *bytes ? ":" : "", bytes);
}

static void on_exit_reason(struct vcpu *cpu)
{
    const struct kvm_run *run = cpu->run;

    cpu->access_open = false;
    atomic_fetch_add_explicit(&cpu->exits, 1, memory_order_relaxed);
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        cpu->access_open = true;
        do_port(cpu);
        break;
    case KVM_EXIT_MMIO:
        cpu->access_open = true;
        do_mmio(cpu);
        break;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        break;
    case KVM_EXIT_SHUTDOWN:
        trouble(cpu, VM_TRIPLE_FAULT, "CPU %u met a triple fault", cpu->index);
        break;
    case KVM_EXIT_SYSTEM_EVENT:
        do_system_event(cpu);
        break;
    case KVM_EXIT_INTERNAL_ERROR:
        do_internal_error(cpu);
        break;
    case KVM_EXIT_FAIL_ENTRY:
        trouble(cpu, VM_INTERNAL_ERROR, "KVM cannot enter CPU %u: hardware reason 0x%" PRIx64,
                cpu->index, (uint64_t)run->fail_entry.hardware_entry_failure_reason);
        break;
    default:
        trouble(cpu, VM_INTERNAL_ERROR, "KVM left CPU %u at 0x%" PRIx64 " for the unknown reason %u",
                cpu->index, where(cpu), run->exit_reason);
    }
}

/* Once into the guest and out. False when it cannot go on, for trouble or because it was asked out. */
static bool enter_guest(struct vcpu *cpu)
{
    if (ioctl(cpu->fd, KVM_RUN, 0) == 0) {
        on_exit_reason(cpu);
        return true;
    }
    switch (errno) {
    case EINTR:
        cpu->access_open = false;
        return false;
    case EAGAIN:            /* woken while it waited for INIT or SIPI */
        return true;
    case EFAULT:
        trouble(cpu, VM_INTERNAL_ERROR, "the host gives CPU %u no memory for the guest's address at "
                "0x%" PRIx64, cpu->index, where(cpu));
        return false;
    default:
        trouble(cpu, VM_INTERNAL_ERROR, "KVM does not run CPU %u: %s", cpu->index, strerror(errno));
        return false;
    }
}

/* A long access is several exits; the kernel says EINTR when the instruction is through. */
static void finish_access(struct vcpu *cpu)
{
    for (int i = 0; cpu->access_open && i < FINISH_MAX; i++) {
        cpu->run->immediate_exit = 1;
        if (!enter_guest(cpu))
            break;
    }
    cpu->access_open = false;
}

/* Waits until it may run. False: the thread shall end. */
static bool park(struct vcpu *cpu)
{
    struct vm *vm = cpu->vm;

    finish_access(cpu);
    pthread_mutex_lock(&vm->park_lock);
    vm->parked++;
    if (vm->parked == vm->cpu_count && vm->paused && !vm->told) {
        vm->told = true;
        task_schedule(vm->paused_task);
    }
    while ((vm->paused || cpu->broken) && !vm->quit)
        pthread_cond_wait(&vm->park_changed, &vm->park_lock);
    vm->parked--;
    bool go_on = !vm->quit;
    pthread_mutex_unlock(&vm->park_lock);
    return go_on;
}

static void *thread_main(void *opaque)
{
    struct vcpu *cpu = opaque;
    struct vm *vm = cpu->vm;
    char name[16];
    sigset_t mask;

    snprintf(name, sizeof name, "vcpu%u", cpu->index);
    pthread_setname_np(pthread_self(), name);
    atomic_store(&cpu->tid, gettid());
    this_run = cpu->run;
    /* SIGSYS stays open: a forbidden system call shall be able to say so. */
    sigfillset(&mask);
    sigdelset(&mask, KICK_SIGNAL);
    sigdelset(&mask, SIGSYS);
    sigdelset(&mask, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);

    for (;;) {
        cpu->run->immediate_exit = 0;
        atomic_signal_fence(memory_order_seq_cst);
        if (atomic_load(&vm->paused) || atomic_load(&cpu->broken)) {
            if (!park(cpu))
                return NULL;
            continue;
        }
        enter_guest(cpu);
    }
}

int threads_start(struct vm *vm, struct error *err)
{
    struct sigaction action = { .sa_handler = on_kick };
    sigset_t all, before;
    int r = 0;

    sigemptyset(&action.sa_mask);
    if (sigaction(KICK_SIGNAL, &action, NULL) < 0)
        return error_set(err, -errno, "cannot handle the signal that stops CPUs");
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (unsigned i = 0; i < vm->cpu_count && r == 0; i++) {
        r = -pthread_create(&vm->cpus[i].thread, NULL, thread_main, &vm->cpus[i]);
        vm->cpus[i].has_thread = r == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r < 0 ? error_set(err, r, "cannot make a thread for each CPU") : 0;
}

void threads_kick(struct vm *vm)
{
    for (unsigned i = 0; i < vm->cpu_count; i++)
        if (vm->cpus[i].has_thread)
            pthread_kill(vm->cpus[i].thread, KICK_SIGNAL);
}

void threads_join(struct vm *vm)
{
    pthread_mutex_lock(&vm->park_lock);
    vm->paused = true;
    vm->quit = true;
    pthread_cond_broadcast(&vm->park_changed);
    pthread_mutex_unlock(&vm->park_lock);
    threads_kick(vm);
    for (unsigned i = 0; i < vm->cpu_count; i++)
        if (vm->cpus[i].has_thread) {
            pthread_join(vm->cpus[i].thread, NULL);
            vm->cpus[i].has_thread = false;
        }
}
