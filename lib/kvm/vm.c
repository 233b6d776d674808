/* SPDX-License-Identifier: Apache-2.0 */
/* The VM as a whole: made, started, paused, reset, freed. */
#include "kvm/internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* Three pages and one that KVM uses on Intel hosts, between the local APIC and the end of the 32-bit
 * addresses, where no machine of ours has anything. */
#define TSS_ADDR          UINT64_C(0xfeffd000)
#define IDENTITY_MAP_ADDR UINT64_C(0xfeffc000)

static int extension(const struct vm *vm, int cap)
{
    return kvm_call(vm->fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)cap);
}

static int vcpu_init(struct vm *vm, unsigned index, const struct kvm_cpuid2 *supported, unsigned cap,
                     const struct kvm_msr_list *msrs, struct error *err)
{
    struct vcpu *cpu = &vm->cpus[index];

    cpu->vm = vm;
    cpu->index = index;
    cpu->apic_id = vm_topology_apic_id(&vm->topology, index);
    cpu->fd = kvm_call(vm->fd, KVM_CREATE_VCPU, (void *)(uintptr_t)cpu->apic_id);
    if (cpu->fd < 0)
        return error_set(err, cpu->fd, "KVM cannot make CPU %u", index);
    vm->cpu_count++;

    void *run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu->fd, 0);
    if (run == MAP_FAILED)
        return error_set(err, -errno, "cannot map the state of CPU %u", index);
    cpu->run = run;

    size_t size = sizeof *supported + cap * sizeof supported->entries[0];
    AUTO_FREE struct kvm_cpuid2 *cpuid = malloc(size);
    if (!cpuid)
        return error_oom(err);
    memcpy(cpuid, supported, size);
    cpuid_set(cpuid, cap, &vm->topology, cpu->apic_id, extension(vm, KVM_CAP_TSC_DEADLINE_TIMER) > 0);
    int r = kvm_call(cpu->fd, KVM_SET_CPUID2, cpuid);
    if (r < 0)
        return error_set(err, r, "KVM refuses the CPUID of CPU %u", index);
    r = vcpu_snapshot_take(cpu, msrs);
    return r < 0 ? error_set(err, r, "KVM does not tell the state of CPU %u", index) : 0;
}

static int msr_list(int kvm_fd, struct kvm_msr_list **ret_list)
{
    struct kvm_msr_list count = { .nmsrs = 0 };
    int r = kvm_call(kvm_fd, KVM_GET_MSR_INDEX_LIST, &count);

    if (r < 0 && r != -E2BIG)
        return r;
    AUTO_FREE struct kvm_msr_list *list = calloc(1, sizeof *list + count.nmsrs * sizeof(uint32_t));
    if (!list)
        return -ENOMEM;
    list->nmsrs = count.nmsrs;
    if (count.nmsrs && (r = kvm_call(kvm_fd, KVM_GET_MSR_INDEX_LIST, list)) < 0)
        return r;
    *ret_list = TAKE_PTR(list);
    return 0;
}

static int cpus_init(struct vm *vm, int kvm_fd, struct error *err)
{
    AUTO_FREE struct kvm_cpuid2 *supported = NULL;
    AUTO_FREE struct kvm_msr_list *msrs = NULL;
    unsigned cap;

    int r = kvm_call(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
    if (r < (int)sizeof(struct kvm_run))
        return error_set(err, r < 0 ? r : -EPROTO, "KVM does not tell the size of a CPU's state");
    vm->run_size = r;
    r = cpuid_supported(kvm_fd, &supported, &cap);
    if (r == 0)
        r = msr_list(kvm_fd, &msrs);
    if (r < 0)
        return error_set(err, r, "KVM does not tell what CPUs it supports");

    vm->phys_bits = cpuid_phys_bits(supported);
    vm->cpus = calloc(vm->topology.cpus, sizeof *vm->cpus);
    if (!vm->cpus)
        return error_oom(err);
    for (unsigned i = 0; i < vm->topology.cpus && r == 0; i++)
        r = vcpu_init(vm, i, supported, cap, msrs, err);
    return r;
}

static int topology_check(const struct vm_topology *t, int kvm_fd, struct error *err)
{
    unsigned max = kvm_cpus_max(kvm_fd);

    if (t->cpus == 0 || t->cpus > max)
        return error_set(err, -EINVAL, "this host's KVM runs 1 to %u CPUs, not %u", max, t->cpus);
    if (!t->sockets || !t->cores || !t->threads || t->cores > VM_CPUS_MAX ||
        t->threads > VM_CPUS_MAX || t->sockets > VM_CPUS_MAX ||
        t->sockets * t->cores * t->threads < t->cpus)
        return error_set(err, -EINVAL, "%u CPUs do not fit in %u sockets of %u cores with %u threads",
                         t->cpus, t->sockets, t->cores, t->threads);
    if (vm_topology_apic_id(t, t->cpus - 1) > VM_CPUS_MAX - 1)
        return error_set(err, -EINVAL, "with %u sockets, %u cores and %u threads the last CPU's number "
                         "is over %u; make cores and threads powers of two", t->sockets, t->cores,
                         t->threads, VM_CPUS_MAX - 1);
    return 0;
}

/* The guest's clock stands still while it is paused. */
static void on_paused(void *opaque)
{
    struct vm *vm = opaque;

    if (!vm_is_paused(vm))
        return;
    vm->clock_saved = kvm_call(vm->fd, KVM_GET_CLOCK, &vm->clock) == 0;
    vm->ops->paused(vm->opaque);
}

static void on_trouble(void *opaque)
{
    struct vm *vm = opaque;

    for (unsigned i = 0; i < vm->cpu_count; i++) {
        struct vcpu *cpu = &vm->cpus[i];
        char text[sizeof cpu->text];

        pthread_mutex_lock(&vm->park_lock);
        bool tell = cpu->trouble_new;
        enum vm_trouble trouble = cpu->trouble;
        cpu->trouble_new = false;
        memcpy(text, cpu->text, sizeof text);
        pthread_mutex_unlock(&vm->park_lock);
        if (tell)
            vm->ops->trouble(vm->opaque, i, trouble, text);
    }
}

static int vm_init(struct vm *vm, int kvm_fd, struct error *err)
{
    uint64_t identity = IDENTITY_MAP_ADDR;

    int r = topology_check(&vm->topology, kvm_fd, err);
    if (r < 0)
        return r;
    if (task_new(vm->loop, on_paused, vm, &vm->paused_task) < 0 ||
        task_new(vm->loop, on_trouble, vm, &vm->trouble_task) < 0)
        return error_oom(err);
    vm->fd = kvm_call(kvm_fd, KVM_CREATE_VM, NULL);
    if (vm->fd < 0)
        return error_set(err, vm->fd, "KVM cannot make a virtual machine");

    /* Only Intel hosts need them, and they must come before the first CPU. */
    kvm_call(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
    r = kvm_call(vm->fd, KVM_SET_TSS_ADDR, (void *)TSS_ADDR);
    if (r < 0)
        return error_set(err, r, "KVM refuses the address of its TSS");
    vm->xsave_size = extension(vm, KVM_CAP_XSAVE2);
    if (vm->xsave_size <= 0)
        vm->xsave_size = extension(vm, KVM_CAP_XSAVE) > 0 ? (int)sizeof(struct kvm_xsave) : 0;
    memory_init(vm);
    r = irq_init(vm, err);
    return r < 0 ? r : cpus_init(vm, kvm_fd, err);
}

int vm_new(const struct vm_config *config, struct vm **ret_vm, struct error *err)
{
    struct vm *vm = calloc(1, sizeof *vm);

    if (!vm)
        return error_oom(err);
    vm->fd = -1;
    vm->topology = config->topology;
    vm->loop = config->loop;
    vm->ops = config->ops;
    vm->opaque = config->opaque;
    atomic_init(&vm->paused, true);
    vm->told = true;
    pthread_mutex_init(&vm->park_lock, NULL);
    pthread_cond_init(&vm->park_changed, NULL);

    int r = vm_init(vm, config->kvm_fd, err);
    if (r < 0) {
        vm_free(vm);
        return r;
    }
    *ret_vm = vm;
    return 0;
}

void vm_quiesce(struct vm *vm)
{
    if (!vm)
        return;
    threads_join(vm);
    memory_fini(vm);
}

void vm_free(struct vm *vm)
{
    if (!vm)
        return;
    vm_quiesce(vm);
    for (unsigned i = 0; i < vm->cpu_count; i++) {
        if (vm->cpus[i].run)
            munmap(vm->cpus[i].run, vm->run_size);
        vcpu_snapshot_fini(&vm->cpus[i].power_on);
        close(vm->cpus[i].fd);
    }
    irq_fini(vm);
    if (vm->fd >= 0)
        close(vm->fd);
    task_free(vm->paused_task);
    task_free(vm->trouble_task);
    pthread_cond_destroy(&vm->park_changed);
    pthread_mutex_destroy(&vm->park_lock);
    free(vm->cpus);
    free(vm);
}

void vm_map(struct vm *vm, struct address_space *memory, struct address_space *io)
{
    vm->memory = memory;
    vm->io = io;
    address_space_listen(memory, &vm->listener);
}

int vm_start(struct vm *vm, struct error *err)
{
    assert(vm->memory);
    return threads_start(vm, err);
}

/* ---- pause and resume ---- */

bool vm_is_paused(struct vm *vm)
{
    pthread_mutex_lock(&vm->park_lock);
    bool paused = vm->paused && vm->parked == vm->cpu_count;
    pthread_mutex_unlock(&vm->park_lock);
    return paused;
}

void vm_pause(struct vm *vm)
{
    pthread_mutex_lock(&vm->park_lock);
    vm->paused = true;
    vm->told = vm->parked == vm->cpu_count;
    if (vm->told)
        task_schedule(vm->paused_task);
    pthread_mutex_unlock(&vm->park_lock);
    threads_kick(vm);
}

void vm_resume(struct vm *vm)
{
    if (vm->clock_saved) {
        vm->clock_saved = false;
        vm->clock.flags = 0;
        kvm_call(vm->fd, KVM_SET_CLOCK, &vm->clock);
        /* The guest's watchdog shall not bark. Refused while the guest has no such clock. */
        for (unsigned i = 0; i < vm->cpu_count; i++)
            kvm_call(vm->cpus[i].fd, KVM_KVMCLOCK_CTRL, NULL);
    }
    pthread_mutex_lock(&vm->park_lock);
    vm->paused = false;
    vm->told = false;
    pthread_cond_broadcast(&vm->park_changed);
    pthread_mutex_unlock(&vm->park_lock);
}

int vm_reset(struct vm *vm, const struct vcpu_start *start, struct error *err)
{
    assert(vm_is_paused(vm) || !vm->cpus[0].has_thread);

    int r = irq_reset(vm);
    if (r < 0)
        return error_set(err, r, "KVM does not reset the interrupt chips");
    for (unsigned i = 0; i < vm->cpu_count; i++) {
        r = vcpu_restore(&vm->cpus[i], start);
        if (r < 0)
            return error_set(err, r, "KVM does not reset CPU %u", i);
    }
    pthread_mutex_lock(&vm->park_lock);
    for (unsigned i = 0; i < vm->cpu_count; i++) {
        vm->cpus[i].broken = false;
        vm->cpus[i].trouble_new = false;
    }
    pthread_mutex_unlock(&vm->park_lock);
    return 0;
}

/* ---- queries ---- */

unsigned vm_phys_bits(const struct vm *vm) { return vm->phys_bits; }
void vm_topology(const struct vm *vm, struct vm_topology *ret) { *ret = vm->topology; }
unsigned vm_cpus(const struct vm *vm) { return vm->cpu_count; }
pid_t vm_thread_id(const struct vm *vm, unsigned cpu) { return atomic_load(&vm->cpus[cpu].tid); }
uint64_t vm_exits(const struct vm *vm, unsigned cpu) { return atomic_load(&vm->cpus[cpu].exits); }
