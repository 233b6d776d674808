/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of a device process, read into a struct and nothing else done (rows A5, A6). */
#ifndef DEVICE_OPTIONS_H
#define DEVICE_OPTIONS_H

#include "common/door.h"
#include "monitor/monitor.h"

#include <jansson.h>

enum { DEVICE_SERVERS_MAX = 32 };

/* -vfio-user, --socket-path, --fd: a device served to a client of its own. */
struct server_option {
    const char *device;         /* NULL: the only PCI device there is */
    char *path;                 /* to listen on; NULL: fd */
    int fd;                     /* inherited, connected or listening; -1: path */
};

struct device_options {
    bool help, version;
    char *device_help;          /* "-device help": "help"; "-device X,help": "X"; NULL */
    const char *channel;        /* the primary channel, first argument; NULL: none */
    const char *name;           /* NULL: the program's */
    json_t *blockdevs;          /* array of BlockdevOptions, as given */
    json_t *devices;            /* array of device descriptions */
    struct server_option servers[DEVICE_SERVERS_MAX];
    unsigned server_count;
    bool has_qmp;
    struct monitor_spec qmp;
    struct door_option door;
    bool has_backends;
    unsigned backends;          /* sum of enum sandbox_backend */
    bool keep_running;          /* when the primary channel closes */
    bool paused;                /* -S */
};

/* On failure options is to be freed all the same. */
int device_options_parse(int argc, char *const argv[], struct device_options *options,
                         struct error *err) MUST_CHECK;
void device_options_fini(struct device_options *options);
void device_options_help(const char *program);

#endif
