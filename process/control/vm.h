/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine as the control process sees it: a set of child processes, each with a primary channel,
 * and the state in which the guest is. Loop thread.
 */
#ifndef CONTROL_VM_H
#define CONTROL_VM_H

#include "base/list.h"
#include "common/door.h"
#include "config.h"
#include "ipc/primary.h"

enum child_role { CHILD_CPU, CHILD_DEVICE, CHILD_EXTERNAL };    /* external: started by hand */

struct vm;
struct step;

struct child {
    struct vm *vm;
    enum child_role role;
    char *id;                   /* "cpu", the -process's, or of the device it serves */
    int place;                  /* IN_CPU_PROCESS, an index into config->processes, or NOWHERE */
    pid_t pid;                  /* 0: external, or it has ended */
    pid_t last_pid;             /* also afterwards */
    int pidfd;
    struct watch *watch;        /* of pidfd */
    struct timer *end_timer;    /* kills it when it lingers with its channel closed */
    struct primary *primary;    /* NULL: the channel is closed */
    uint64_t events_since_ns;   /* a second in which it sent so many events */
    unsigned events;
    struct list steps;          /* struct step, requests to make one after the other */
    bool asking;                /* the first step waits for its answer */
    bool quitting;              /* its end is expected */
    bool failed;                /* its end was not */
    struct list link;
};

enum vm_phase { VM_STARTING, VM_UP, VM_ENDING };

struct vm {
    struct loop *loop;
    const struct config *config;
    struct monitor *monitor;
    struct list children;       /* the CPU process first */
    struct child *cpu;          /* NULL: has ended */
    enum vm_phase phase;

    bool start_failed;          /* VM_STARTING: err says why; err.text may be empty when the child
                                 * that failed has told the user already */
    struct error err;
    int exit_status;
    uint64_t ending_since_ns;   /* VM_ENDING */
    struct timer *kill_timer;
    struct sandbox_report sandbox;
    char *pidfile;              /* to be removed; NULL: none */
    json_t *chardev_names;      /* {chardev id: where it is}, of those that are open */
    struct monitor_config qmp;
};

/* ---- vm.c ---- */

int vm_new(const struct config *config, struct vm **ret_vm, struct error *err) MUST_CHECK;
/* Kills what still runs, waits for it, removes what lies about. */
void vm_free(struct vm *vm);

/* Sends an event to the monitor's clients. data is taken; NULL: none. */
void vm_event(struct vm *vm, const char *name, json_t *data);
/* Everything ends in good order: the CPU process, then the others; then the loop ends with status. */
void vm_end(struct vm *vm, int status);
/* While starting: remembers the first failure and wakes the one who waits. */
void vm_start_failed(struct vm *vm, const struct error *err);
/* What SHUTDOWN events say, and -no-shutdown. reason: of QEMU's ShutdownCause. */
void vm_shutdown(struct vm *vm, bool guest, const char *reason, int status);

/* ---- child.c ---- */

/* argv0 is the program's name, path where it lies, sandbox its -sandbox (NULL: default). */
int child_spawn(struct vm *vm, enum child_role role, const char *id, int place, const char *path,
                const char *argv0, const char *sandbox, struct error *err) MUST_CHECK;
/* A process that somebody else started; takes fd, its primary channel. */
int child_connect(struct vm *vm, const char *id, int fd, struct child **ret_child,
                  struct error *err) MUST_CHECK;
/* Removes it; it has ended, or is external, or is killed here. */
void child_free(struct child *child);
void child_kill(struct child *child);
/* The living child at that place of the configuration, or NULL. */
struct child *child_at(struct vm *vm, int place);
struct child *child_find(struct vm *vm, const char *id);
/* "the CPU process", "process 'disk0'" */
const char *child_title(const struct child *child, char *buf, size_t size);

/* Asks it to do something as soon as what was asked before has been answered. A failure while
 * starting ends the start, with label (NULL: none) in front. args is taken; fds are duplicated. */
int child_step(struct child *child, const char *label, const char *command, json_t *args,
               const int *fds, unsigned nfds) MUST_CHECK;
bool child_idle(const struct child *child);

/* ---- files.c ---- */

/* The path of one of our programs: beside this one, in its place in the build folder, or installed. */
int program_find(const char *name, const char *folder, char **ret_path, struct error *err)
    MUST_CHECK;
int file_open(const char *option, const char *path, int *ret_fd, struct error *err) MUST_CHECK;
/* A file or a place on a file system that holds size bytes of guest memory. */
int memory_open(const char *label, const char *path, uint64_t size, int *ret_fd,
                struct error *err) MUST_CHECK;
int pidfile_write(const char *path, struct error *err) MUST_CHECK;

/* ---- chardevs.c ---- */

/* Opens the machine's serial ports: a description for machine-init, with the descriptors' indices
 * into fds. */
int serials_open(struct vm *vm, int *fds, unsigned cap, unsigned *count, json_t **ret_serials,
                 struct error *err) MUST_CHECK;
/* Socket paths go, the terminal is as it was. */
void serials_close(struct vm *vm);

/* ---- launch.c ---- */

/* All of the start, up to the running guest. On failure err.text may be empty: the user knows. */
int vm_launch(struct vm *vm, struct error *err) MUST_CHECK;

/* ---- connect.c ---- */

/* The channel of a device: one end to the process that has it, the other kept in *ret_fd. */
int device_channel_open(struct vm *vm, const struct device_config *d, struct child *server,
                        int *ret_fd, struct error *err) MUST_CHECK;

/* ---- qmp.c ---- */

void qmp_config(struct vm *vm, struct monitor_config *config);

/* ---- threads.c ---- */

/* Makes every "thread-id" in a list of objects, which process pid said, a number of this process's
 * namespace; what is no thread of it loses the member. */
void threads_translate(pid_t pid, json_t *list);

/* ---- help.c ---- */

/* Prints the devices there are, or the properties of one. */
int device_help(const char *class_name, struct error *err) MUST_CHECK;

/* ---- gather.c ---- */

/* cb is called once, with the answer, or an error if the child refuses, ends (-EPIPE), or takes too
 * long; not at all if this function fails. args is borrowed. */
typedef void ask_fn(void *opaque, const struct child *child, json_t *answer,
                    const struct error *err);
int child_ask(struct child *child, const char *command, json_t *args, ask_fn *cb, void *opaque)
    MUST_CHECK;

/* Takes the answer of each living process; one that dies meanwhile is left out. */
typedef void gather_fn(void *opaque, const struct child *child, json_t *answer);
/* The same question to every child for which `who` holds (NULL: all); each answer goes to take,
 * then done is called once. args is borrowed. */
int gather(struct vm *vm, bool (*who)(const struct child *child), const char *command,
           json_t *args, gather_fn *take, void (*done)(void *opaque, const struct error *err),
           void *opaque) MUST_CHECK;

#endif
