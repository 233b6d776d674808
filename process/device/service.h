/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device process serves: block nodes, devices, and the channels on which others reach the
 * devices. Loop thread.
 */
#ifndef DEVICE_SERVICE_H
#define DEVICE_SERVICE_H

#include "block/block.h"
#include "ipc/primary.h"
#include "monitor/monitor.h"
#include "obj/object.h"
#include "sandbox/sandbox.h"

struct slot;                    /* a PCI device with its private bus and its clients */

struct service {
    struct loop *loop;
    struct obj_tree tree;
    struct block_graph *graph;
    struct primary *primary;            /* NULL: not connected */
    struct monitor *monitor;            /* NULL: none */
    struct sandbox_report sandbox;
    struct list slots;
    unsigned next_slot;                 /* for the names of their buses */
    const char *name;
    unsigned backends;                  /* enum sandbox_backend: what the filter lets it use */
    bool paused;
    bool keep_running;
    bool clients_only;                  /* neither a primary channel nor a monitor, ever: it ends
                                         * with the last client that can come */
};

int service_init(struct service *service, const char *name, enum block_aio aio, struct error *err)
    MUST_CHECK;
void service_fini(struct service *service);

/* ---- service.c ---- */

/* fds: as struct block_fds. Refuses a description that names a file without a descriptor: this
 * process can open none. */
int service_blockdev_add(struct service *service, const json_t *options, struct block_fds *fds,
                         struct error *err) MUST_CHECK;
int service_device_add(struct service *service, const json_t *description, struct error *err)
    MUST_CHECK;
int service_device_del(struct service *service, const char *id, struct error *err) MUST_CHECK;
void service_pause(struct service *service);
void service_resume(struct service *service);
/* The device and what hangs off it; id NULL: all. */
int service_reset(struct service *service, const char *id, struct error *err) MUST_CHECK;

/* To control and to the monitor's clients. data is taken. */
void service_event(struct service *service, const char *name, json_t *data);

/* ---- slots.c ---- */

/* Creates the PCI device on a bus of its own. */
int slot_new(struct service *service, const json_t *description, struct error *err) MUST_CHECK;
void slot_free(struct slot *slot);
/* id NULL: the only one there is. Fails in words for "-vfio-user" and "channel-open". */
int slot_find(struct service *service, const char *id, struct slot **ret_slot, struct error *err)
    MUST_CHECK;
/* A connected stream socket on which a client speaks vfio-user; taken, also on failure. -EBUSY
 * while another client is there. */
int slot_attach(struct slot *slot, int fd, struct error *err) MUST_CHECK;
/* A listening stream socket (taken): one client at a time, the next when that one has gone. */
int slot_listen(struct slot *slot, int fd, struct error *err) MUST_CHECK;

/* ---- commands.c ---- */

/* What both the monitor and the primary channel offer (opaque: struct service, call may be NULL),
 * and what takes or gives descriptors, on the primary channel alone. */
extern const struct monitor_command device_commands[];
extern const struct primary_ops device_primary_ops;     /* opaque: struct service */

typedef int channel_fn(struct service *service, json_t *args, struct primary_fds *in,
                       struct primary_fds *out, json_t **ret_value, struct error *err);

/* The monitor, not yet connected to anybody. */
int service_monitor_new(struct service *service, struct error *err) MUST_CHECK;
/* Takes fd, a connected socket. */
int service_primary_new(struct service *service, int fd, struct error *err) MUST_CHECK;

/* ---- state.c ---- */

channel_fn command_device_save, command_device_load;

#endif
