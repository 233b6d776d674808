/* SPDX-License-Identifier: Apache-2.0 */
/* machine-init: from control's description to a machine that waits for "cont". */
#include "cpu/cpu.h"

#include "base/fd.h"
#include "obj/prop.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define MEMORY_MAX (UINT64_C(1) << 46)

/* ---- reading the description ---- */

static int take_fd(struct primary_fds *in, const json_t *index, const char *what, int *ret_fd,
                   struct error *err)
{
    json_int_t i = json_is_integer(index) ? json_integer_value(index) : -1;

    if (i < 0 || i >= in->count || in->fds[i] < 0)
        return error_set(err, -EINVAL, "'%s' names no descriptor of this message", what);
    *ret_fd = TAKE_FD(in->fds[i]);
    return 0;
}

/* An integer member; when there is none, *ret stays. */
static int get_uint(const json_t *args, const char *key, uint64_t min, uint64_t max, uint64_t *ret,
                    struct error *err)
{
    const json_t *value = json_object_get(args, key);
    return value ? value_to_uint(value, key, min, max, ret, err) : 0;
}

static int get_bool(const json_t *args, const char *key, bool *ret, struct error *err)
{
    const json_t *value = json_object_get(args, key);
    return value ? value_to_bool(value, key, ret, err) : 0;
}

static int get_topology(const json_t *smp, struct vm_topology *ret, struct error *err)
{
    uint64_t cpus = 1, sockets = 1, cores, threads = 1;

    int r = get_uint(smp, "cpus", 1, VM_CPUS_MAX, &cpus, err);
    cores = cpus;
    if (r == 0)
        r = get_uint(smp, "sockets", 1, VM_CPUS_MAX, &sockets, err);
    if (r == 0)
        r = get_uint(smp, "cores", 1, VM_CPUS_MAX, &cores, err);
    if (r == 0)
        r = get_uint(smp, "threads", 1, VM_CPUS_MAX, &threads, err);
    *ret = (struct vm_topology){ cpus, sockets, cores, threads };
    return r;
}

/* ---- guest memory (row D1) ---- */

/* Shared: device processes map the same descriptor. */
static int memory_open(const json_t *args, struct primary_fds *in, uint64_t size, int *ret_fd,
                       struct error *err)
{
    const json_t *backend = json_object_get(args, "memory-backend");
    bool hugetlb = false, prealloc = false;
    uint64_t page = 0;

    int r = get_bool(backend, "hugetlb", &hugetlb, err);
    if (r == 0)
        r = get_bool(backend, "prealloc", &prealloc, err);
    if (r == 0)
        r = get_uint(backend, "hugetlbsize", 0, MEMORY_MAX, &page, err);
    if (r < 0)
        return r;
    if (page && (!is_power_of_two(page) || size % page))
        return error_set(err, -EINVAL, "the memory is no multiple of its huge pages");

    int fd = -1;
    if (json_object_get(backend, "fd")) {
        r = take_fd(in, json_object_get(backend, "fd"), "memory-backend.fd", &fd, err);
        if (r < 0)
            return r;
    } else {
        unsigned flags = hugetlb ? MFD_HUGETLB : 0;
        if (hugetlb && page)
            flags |= (unsigned)__builtin_ctzll(page) << MFD_HUGE_SHIFT;
        fd = memfd_new("guest-ram", size, flags);
        if (fd < 0)
            return error_set(err, fd, "cannot make %" PRIu64 " MiB of guest memory%s", size / MIB,
                             hugetlb ? " from huge pages (does the host have any of this size?)" : "");
    }
    if (prealloc && fallocate(fd, 0, 0, size) < 0) {
        r = error_set(err, -errno, "cannot allocate %" PRIu64 " MiB of guest memory now", size / MIB);
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

/* ---- serial ports ---- */

static void on_quit_key(void *opaque) { cpu_event(opaque, "QUIT_REQUESTED", NULL); }

static int serials_init(struct cpu *cpu, const json_t *list, const struct primary_fds *in,
                        struct error *err)
{
    if (json_array_size(list) > MACHINE_SERIALS)
        return error_set(err, -EINVAL, "there are %d serial ports at most", MACHINE_SERIALS);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *desc = json_array_get(list, i);
        char id[16];

        if (json_is_null(desc))
            continue;
        snprintf(id, sizeof id, "serial%zu", i);
        int r = chardev_new(cpu->loop, id, desc, in->fds, in->count, &cpu->serials[i], err);
        if (r < 0)
            return r;
        chardev_on_quit(cpu->serials[i], on_quit_key, cpu);
    }
    return 0;
}

/* ---- all of it ---- */

static int vm_make(struct cpu *cpu, const struct vm_topology *topology, struct error *err)
{
    struct vm_config config = {
        .kvm_fd = cpu->kvm_fd, .topology = *topology, .loop = cpu->loop, .ops = &run_vm_ops,
        .opaque = cpu,
    };

    if (cpu->kvm_fd < 0) {
        *err = cpu->kvm_error;
        return err->code;
    }
    return vm_new(&config, &cpu->vm, err);
}

static int machine_make(struct cpu *cpu, const json_t *args, struct primary_fds *in,
                        const struct vm_topology *topology, uint64_t memory, struct error *err)
{
    AUTO_FD int ram = -1;
    AUTO_FD int kernel = -1;
    AUTO_FD int initrd = -1;
    int r = 0;

    if (json_object_get(args, "kernel"))
        r = take_fd(in, json_object_get(args, "kernel"), "kernel", &kernel, err);
    if (r == 0 && json_object_get(args, "initrd"))
        r = take_fd(in, json_object_get(args, "initrd"), "initrd", &initrd, err);
    if (r == 0)
        r = memory_open(args, in, memory, &ram, err);
    if (r < 0)
        return r;

    uint32_t apic_ids[VM_CPUS_MAX];
    for (unsigned i = 0; i < topology->cpus; i++)
        apic_ids[i] = vm_topology_apic_id(topology, i);
    struct machine_config config = {
        .ops = &run_machine_ops, .opaque = cpu, .cpus = topology->cpus, .apic_ids = apic_ids,
        .phys_bits = vm_phys_bits(cpu->vm), .ram_fd = ram, .ram_bytes = memory, .kernel_fd = kernel,
        .initrd_fd = initrd,
        .kernel_name = json_string_value(json_object_get(args, "kernel-name")),
        .initrd_name = json_string_value(json_object_get(args, "initrd-name")),
        .cmdline = json_string_value(json_object_get(args, "append")),
    };
    memcpy(config.serials, cpu->serials, sizeof config.serials);
    return machine_new(&cpu->tree, &config, &cpu->machine, err);
}

int machine_init(struct cpu *cpu, json_t *args, struct primary_fds *in, struct error *err)
{
    const char *on_reboot = json_string_value(json_object_get(args, "on-reboot"));
    struct vm_topology topology;
    uint64_t memory = 128 * MIB;

    if (cpu->machine)
        return error_set(err, -EBUSY, "there is a machine already");
    int r = get_uint(args, "memory", 1, MEMORY_MAX, &memory, err);
    if (r == 0)
        r = get_topology(json_object_get(args, "smp"), &topology, err);
    if (r == 0)
        r = vm_make(cpu, &topology, err);
    if (r == 0)
        r = serials_init(cpu, json_object_get(args, "serial"), in, err);
    if (r == 0)
        r = machine_make(cpu, args, in, &topology, memory, err);
    if (r == 0) {
        address_space_set_lock(machine_memory(cpu->machine), &cpu->lock);
        address_space_set_lock(machine_io(cpu->machine), &cpu->lock);
        machine_set_irqfd(cpu->machine, &vm_irqfd_ops, cpu->vm);
        vm_map(cpu->vm, machine_memory(cpu->machine), machine_io(cpu->machine));
        cpu->run.reboot_shuts_down = on_reboot && strcmp(on_reboot, "shutdown") == 0;
        r = run_power_on(cpu, err);
    }
    if (r == 0)
        r = vm_start(cpu->vm, err);
    if (r < 0)
        machine_fini(cpu);
    return r;
}

void machine_fini(struct cpu *cpu)
{
    vm_quiesce(cpu->vm);
    obj_tree_fini(&cpu->tree);
    vm_free(TAKE_PTR(cpu->vm));
    machine_free(TAKE_PTR(cpu->machine));
    for (unsigned i = 0; i < MACHINE_SERIALS; i++)
        chardev_free(TAKE_PTR(cpu->serials[i]));
}
