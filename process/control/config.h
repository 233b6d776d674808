/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the command line asks for. config_parse is pure: it looks at nothing but its arguments, so
 * that it can be fuzzed; files, sockets and processes come later (vm.h).
 */
#ifndef CONTROL_CONFIG_H
#define CONTROL_CONFIG_H

#include "base/error.h"
#include "monitor/monitor.h"

#include <jansson.h>

enum { CONFIG_SERIALS_MAX = 4, CONFIG_MONITORS_MAX = 8, CONFIG_LIST_MAX = 1024, CONFIG_CPUS_MAX = 240 };
enum { IN_CPU_PROCESS = -1, NOWHERE = -2 };     /* places besides indices into config->processes */

enum config_action { ACTION_RUN, ACTION_HELP, ACTION_VERSION, ACTION_DEVICE_LIST,
                     ACTION_DEVICE_PROPS };

struct process_config {         /* -process */
    char *label;                /* "-process id=disk0,…", for messages; likewise below */
    char *id;
    char *binary;               /* NULL: ours */
    char *sandbox;              /* the child's -sandbox; NULL: as the whole machine's */
    char *blockdev;             /* node names with colons between; NULL: none said */
    bool has_blocks;            /* some block node is placed here */
};

struct device_config {          /* -device, and what -drive implies */
    char *label;
    json_t *options;            /* for the process in which the device lives */
    json_t *proxy;              /* for the CPU process, when there is a proxy; else NULL */
    char *id;                   /* NULL: none */
    char *rid;                  /* as given, or NULL */
    char *socket;               /* of a pci-proxy-dev: the primary channel; else NULL */
    int place;                  /* index into processes, or IN_CPU_PROCESS */
};

struct node_config {            /* -blockdev, and what -drive implies */
    char *label;
    json_t *options;
    int place;                  /* NOWHERE while nobody asked for it */
};

struct chardev_config {         /* -chardev, and what -serial implies */
    char *label;
    char *id;
    json_t *options;            /* with "backend" */
    bool used;
};

struct object_config { char *label, *id; json_t *options; };

struct config {
    enum config_action action;
    char *help_class;           /* of ACTION_DEVICE_PROPS */

    char *name, *uuid, *pidfile, *sandbox, *cpu_binary;
    uint64_t memory_bytes;
    struct { unsigned cpus, sockets, cores, threads; } smp;
    char *cpu_model;            /* "host" or "max" */
    char *memory_backend;       /* id of an object; NULL: none */
    char *mem_path;
    bool mem_prealloc;
    char *kernel, *initrd, *append;
    bool stopped;               /* -S */
    bool reboot_shuts_down, shutdown_pauses, panic_shuts_down;
    bool nographic, nodefaults;

    struct monitor_spec monitors[CONFIG_MONITORS_MAX];
    unsigned nmonitors;
    int serials[CONFIG_SERIALS_MAX];    /* index into chardevs; -1: nothing there */
    unsigned nserials;

    struct process_config *processes;
    struct device_config *devices;
    struct node_config *nodes;
    struct chardev_config *chardevs;
    struct object_config *objects;
    unsigned nprocesses, ndevices, nnodes, nchardevs, nobjects;
};

/* argv[0] is skipped. err: one sentence with the option in front. */
int config_parse(int argc, const char *const *argv, struct config **ret_config,
                 struct error *err) MUST_CHECK;
void config_free(struct config *config);        /* NULL allowed */

/* What -h prints. */
void config_help(void);

/* NULL-safe look-ups. */
struct process_config *config_process(const struct config *config, int place);
const char *config_place_name(const struct config *config, int place);  /* "the CPU process" … */
int config_find_process(const struct config *config, const char *id);   /* index, or -1 */
struct device_config *config_find_device(const struct config *config, const char *id);
struct object_config *config_find_object(const struct config *config, const char *id);
/* The top-level node whose tree has a node of that name: index, or -1. */
int config_find_node(const struct config *config, const char *name);

#endif
