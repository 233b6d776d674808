/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtual machine on Linux KVM, x86-64 (rows A2, C3, F1, F3, L1): vCPU threads, the interrupt
 * chips and the timer that live in the kernel, memory slots that follow an address space, eventfds
 * bound to lines and messages. It knows no device and no machine: accesses that leave the guest go to
 * two address spaces, and what a vCPU cannot go on after is told to the owner.
 *
 * Life: kvm_open, vm_new, vm_map, vm_reset, vm_start; then vm_resume and vm_pause as often as
 * wanted, and vm_reset while paused; vm_free. Loop thread, or under the machine's lock, unless said
 * otherwise.
 *
 * Spec: Documentation/virt/kvm/api.rst of Linux 6.1.
 */
#ifndef KVM_KVM_H
#define KVM_KVM_H

#include "event/loop.h"
#include "irq/irqfd.h"
#include "mem/mem.h"

#include <sys/types.h>

struct vm;

/* sockets * cores * threads is at least cpus; the last sockets may be partly or wholly empty. */
struct vm_topology { unsigned cpus, sockets, cores, threads; };

enum { VM_CPUS_MAX = 255, VM_GSI_PINS = 24 };

/* Why a vCPU cannot go on. */
enum vm_trouble {
    VM_TRIPLE_FAULT,        /* the CPU shut down; hardware would reset the machine */
    VM_ASKED_RESET,         /* by a hypervisor call of KVM's own */
    VM_ASKED_SHUTDOWN,
    VM_CRASHED,             /* the guest says that it crashed */
    VM_INTERNAL_ERROR,      /* KVM cannot run what the guest does */
};

/* Called on the loop thread. */
struct vm_ops {
    /* After vm_pause: every vCPU has left the guest, its last access is complete. */
    void (*paused)(void *opaque);
    /* This vCPU stays out of the guest until vm_reset; the others go on. text is one sentence. */
    void (*trouble)(void *opaque, unsigned cpu, enum vm_trouble trouble, const char *text);
};

struct vm_config {
    int kvm_fd;                     /* of kvm_open; borrowed during vm_new */
    struct vm_topology topology;
    struct loop *loop;
    const struct vm_ops *ops;
    void *opaque;
};

/* Opens /dev/kvm and looks for what is needed. The error says what to do. */
int kvm_open(int *ret_fd, struct error *err) MUST_CHECK;
/* The same for a descriptor that somebody else opened. */
int kvm_check(int kvm_fd, struct error *err) MUST_CHECK;
/* KVM_CAP_NR_VCPUS, KVM_CAP_MAX_VCPUS: how many are advised, and possible. */
unsigned kvm_cpus_advised(int kvm_fd);
unsigned kvm_cpus_max(int kvm_fd);

/* The VM with its interrupt chips, timer and vCPUs, in the power-on state, paused, without threads. */
int vm_new(const struct vm_config *config, struct vm **ret_vm, struct error *err) MUST_CHECK;
/* The way down: joins the vCPU threads, so not under the lock, and follows memory no more. Eventfds may
 * still be unbound after it. Both: NULL allowed. */
void vm_quiesce(struct vm *vm);
void vm_free(struct vm *vm);            /* quiesces first */

/* memory becomes slots and follows it; accesses to what is no slot go to memory and io. Once. */
void vm_map(struct vm *vm, struct address_space *memory, struct address_space *io);
/* Makes the threads. Afterwards the process may give up what it needed for that. */
int vm_start(struct vm *vm, struct error *err) MUST_CHECK;

/* Any thread under the lock; may be repeated. `paused` comes later, also if it was paused already,
 * and not if vm_resume is faster. */
void vm_pause(struct vm *vm);
void vm_resume(struct vm *vm);
bool vm_is_paused(struct vm *vm);       /* every vCPU is out and stays out */

/* How the first CPU starts, when not at the reset vector. The others wait for INIT and SIPI. */
struct vcpu_segment {
    uint64_t base;
    uint32_t limit;                 /* bytes */
    uint16_t selector;
    uint8_t type, present, dpl, db, s, l, g;
};
struct vcpu_start {
    uint64_t rip, rsp, rflags, rax, rbx, rcx, rdx, rsi, rdi, rbp;
    uint64_t cr0, cr3, cr4, efer;
    struct vcpu_segment cs, ds, tr; /* ds also for es, fs, gs, ss */
    uint64_t gdt_base, idt_base;
    uint16_t gdt_limit, idt_limit;
};

/* Everything in the kernel back to power-on, then the first CPU's start state (NULL: real mode at
 * f000:fff0). Paused, or before vm_start. */
int vm_reset(struct vm *vm, const struct vcpu_start *start, struct error *err) MUST_CHECK;

/* ---- interrupts: any thread under the lock ---- */

/* Pins 0 to 15 are the ISA lines (0 is wired to pin 2 of the I/O APIC, as PCs have it), 16 to 23 the
 * I/O APIC's own. */
void vm_irq_line(struct vm *vm, unsigned gsi, bool level);
void vm_msi(struct vm *vm, uint64_t addr, uint32_t data);
/* opaque is the struct vm. line_bind needs a resample_fd, or -1 for an edge. */
extern const struct irqfd_ops vm_irqfd_ops;

/*
 * A guest store of len bytes (0: any width) at addr signals fd in the kernel; with match, only a
 * store of that value. io: a port. on false takes it away. Negative errno.
 */
int vm_ioeventfd(struct vm *vm, bool io, gpa_t addr, unsigned len, const uint64_t *match, int fd,
                 bool on) MUST_CHECK;

/* ---- for queries ---- */

unsigned vm_cpus(const struct vm *vm);
void vm_topology(const struct vm *vm, struct vm_topology *ret_topology);
unsigned vm_phys_bits(const struct vm *vm);             /* of guest physical addresses */
pid_t vm_thread_id(const struct vm *vm, unsigned cpu);
uint64_t vm_exits(const struct vm *vm, unsigned cpu);   /* of accesses that left the kernel */
/* The APIC id of CPU number cpu: bit fields for thread, core, socket, each a power of two wide. */
uint32_t vm_topology_apic_id(const struct vm_topology *topology, unsigned cpu);

#endif
