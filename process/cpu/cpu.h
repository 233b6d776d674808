/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CPU process (row A2): one virtual machine, told what to be and to do by control over the
 * primary channel. Everything here runs on the loop thread, which holds the machine's lock, unless
 * said otherwise.
 */
#ifndef CPU_CPU_H
#define CPU_CPU_H

#include "block/block.h"
#include "ipc/primary.h"
#include "kvm/kvm.h"
#include "machine/machine.h"
#include "remote/proxy.h"
#include "sandbox/sandbox.h"

enum run_status {
    RUN_PRELAUNCH, RUN_RUNNING, RUN_PAUSED, RUN_SHUTDOWN, RUN_PANICKED, RUN_INTERNAL_ERROR,
};

enum { RUN_WAITERS_MAX = 16 };

/* What is to be done as soon as every vCPU is out of the guest. Set under the lock, by vCPU threads
 * too. */
struct run {
    enum run_status status;
    bool devices_paused;
    bool stop, reset, shutdown, panic, internal_error;
    bool reset_by_guest;
    bool reboot_shuts_down;             /* a guest's reset ends as a shutdown */
    int exit_code;                      /* with shutdown, by isa-debug-exit; -1: none */
    const char *shutdown_reason;        /* of QEMU's ShutdownCause */
    json_int_t waiters[RUN_WAITERS_MAX];    /* requests to answer then */
    unsigned waiter_count;
};

struct cpu {
    struct loop *loop;
    pthread_mutex_t lock;               /* the machine's: device code runs under it */
    struct obj_tree tree;
    const struct object_class **classes;
    struct block_graph *graph;
    struct primary *primary;            /* NULL: control is gone */
    bool keep_running;                  /* when control goes */
    struct sandbox_report sandbox;
    int kvm_fd;                         /* -1: kvm_error says why not */
    struct error kvm_error;

    struct vm *vm;                      /* both NULL before machine-init */
    struct machine *machine;
    struct chardev *serials[MACHINE_SERIALS];
    struct proxy_owner proxy_owner;     /* told when a device's channel fails */
    struct run run;
};

/* The classes of devices/, lib/machine and lib/remote in one sorted table. -ENOMEM. */
int classes_collect(const struct object_class ***ret_classes) MUST_CHECK;

/* ---- machine.c ---- */

/* machine-init: takes the descriptors it needs from in. Once. Leaves nothing behind on failure. */
int machine_init(struct cpu *cpu, json_t *args, struct primary_fds *in, struct error *err) MUST_CHECK;
/* Not under the lock: waits for vCPU threads. */
void machine_fini(struct cpu *cpu);

/* ---- run.c ---- */

extern const struct vm_ops run_vm_ops;              /* opaque: struct cpu */
extern const struct machine_ops run_machine_ops;    /* opaque: struct cpu */

const char *run_status_name(const struct cpu *cpu);
/* Power-on: kernel loaded, devices and vCPUs reset. vCPUs are out. */
int run_power_on(struct cpu *cpu, struct error *err) MUST_CHECK;
/* -EINPROGRESS: request id is answered when it is done. */
int run_stop(struct cpu *cpu, json_int_t id, struct error *err) MUST_CHECK;
int run_cont(struct cpu *cpu, struct error *err) MUST_CHECK;
int run_system_reset(struct cpu *cpu, json_int_t id, struct error *err) MUST_CHECK;

/* To control. data is taken; NULL: {}. */
void cpu_event(struct cpu *cpu, const char *name, json_t *data);

/* ---- commands.c ---- */

extern const struct primary_ops cpu_primary_ops;    /* opaque: struct cpu */

#endif
