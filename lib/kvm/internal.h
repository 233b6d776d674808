/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KVM_INTERNAL_H
#define KVM_INTERNAL_H

#include "kvm/kvm.h"

#include <linux/kvm.h>
#include <signal.h>
#include <stdatomic.h>

/* Takes a vCPU out of the guest. Blocked everywhere but in vCPU threads. */
enum { KICK_SIGNAL = SIGUSR1 };

/* What KVM holds for a vCPU, as it was at power-on. */
struct vcpu_snapshot {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_fpu fpu;
    struct kvm_xcrs xcrs;
    struct kvm_lapic_state lapic;
    struct kvm_vcpu_events events;
    struct kvm_debugregs debugregs;
    struct kvm_mp_state mp_state;
    struct kvm_msrs *msrs;
    void *xsave;                    /* NULL: the host has none, fpu counts */
    bool has_xcrs, has_events, has_debugregs;
};

struct vcpu {
    struct vm *vm;
    unsigned index;
    uint32_t apic_id;
    int fd;
    struct kvm_run *run;
    struct vcpu_snapshot power_on;

    pthread_t thread;
    bool has_thread;
    atomic_int tid;
    atomic_uint_least64_t exits;
    bool access_open;               /* vCPU thread: the last exit's access is not yet finished */

    atomic_bool broken;             /* stays out until reset; written under vm->park_lock */
    /* GUARDED_BY(vm->park_lock) */
    bool trouble_new;               /* not yet told */
    enum vm_trouble trouble;
    char text[256];
};

struct memory_slot { gpa_t addr; uint64_t size; struct mem_region *region; };

struct vm {
    int fd;
    int xsave_size;                 /* bytes; 0: none */
    bool has_readonly;
    size_t run_size;
    unsigned phys_bits;
    struct vm_topology topology;
    struct loop *loop;
    const struct vm_ops *ops;
    void *opaque;
    struct address_space *memory, *io;

    unsigned cpu_count;
    struct vcpu *cpus;

    pthread_mutex_t park_lock;
    pthread_cond_t park_changed;
    atomic_bool paused;             /* written under park_lock */
    bool quit;                      /* GUARDED_BY(park_lock) */
    bool told;                      /* `paused` is on its way or was called */
    unsigned parked;                /* GUARDED_BY(park_lock) */
    struct task *paused_task, *trouble_task;
    struct kvm_clock_data clock;
    bool clock_saved;

    struct mem_listener listener;
    struct memory_slot *slots;      /* size 0: free */
    unsigned slot_count, slots_max;

    struct kvm_irq_routing *routing;
    unsigned routing_cap, routing_max;
    struct kvm_irqchip chips[3];    /* both PICs and the I/O APIC at power-on */
    struct kvm_pit_state2 pit;
};

/* ioctl that returns a negative errno and goes on after a signal. */
int kvm_call(int fd, unsigned long request, void *arg);

void memory_init(struct vm *vm);
void memory_fini(struct vm *vm);

int irq_init(struct vm *vm, struct error *err) MUST_CHECK;
int irq_reset(struct vm *vm);
void irq_fini(struct vm *vm);

/* What the guest's CPUID shows: supported, made ready for one CPU. cap is the room in entries. */
int cpuid_supported(int kvm_fd, struct kvm_cpuid2 **ret_cpuid, unsigned *ret_cap);
void cpuid_set(struct kvm_cpuid2 *cpuid, unsigned cap, const struct vm_topology *topology,
               uint32_t apic_id, bool tsc_deadline);
unsigned cpuid_phys_bits(const struct kvm_cpuid2 *cpuid);

int vcpu_snapshot_take(struct vcpu *cpu, const struct kvm_msr_list *msrs);
void vcpu_snapshot_fini(struct vcpu_snapshot *snapshot);
int vcpu_restore(struct vcpu *cpu, const struct vcpu_start *start);

int threads_start(struct vm *vm, struct error *err) MUST_CHECK;
void threads_join(struct vm *vm);
void threads_kick(struct vm *vm);

#endif
