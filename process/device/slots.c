/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A slot holds one PCI device, on a bus of its own behind an endpoint, and hands clients to the
 * endpoint: connected sockets from the primary channel or the command line, or a listening socket
 * on which one client after the other is taken.
 */
#include "device/service.h"

#include "base/fd.h"
#include "base/log.h"
#include "remote/endpoint.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

struct slot {
    struct list link;               /* first: service_fini frees the first of the list */
    struct service *service;
    struct endpoint *endpoint;
    struct object *obj;             /* the device */
    int listener;                   /* -1: none */
    struct watch *watch;            /* on listener; asleep while a client is there */
};

/* Somebody is there, or may come. */
static bool has_clients(const struct slot *slot)
{
    return slot->watch || endpoint_has_client(slot->endpoint);
}

static void end_if_forsaken(struct service *service, int status)
{
    if (!service->clients_only || service->keep_running)
        return;
    list_for_each(struct slot, slot, &service->slots, link)
        if (has_clients(slot))
            return;
    loop_quit(service->loop, status);
}

static void on_client_gone(void *opaque, const char *reason)
{
    struct slot *slot = opaque;

    if (reason) {
        log_warn("%s: the client's channel is over: %s", object_name(slot->obj), reason);
        service_event(slot->service, "DEVICE_ERROR",
                      json_pack("{s:s, s:s}", "device", slot->obj->id, "reason", reason));
    }
    if (slot->watch)
        watch_set_events(slot->watch, EPOLLIN);
    end_if_forsaken(slot->service, reason ? 1 : 0);
}

/* Where it lies on the bus of the machine is the machine's business; here it has its own. */
static json_t *place(const json_t *description, const char *bus_name)
{
    json_t *copy = json_copy((json_t *)description);

    json_object_del(copy, "addr");
    if (json_object_set_new(copy, "bus", json_string(bus_name)) < 0) {
        json_decref(copy);
        return NULL;
    }
    return copy;
}

static int make_device(struct slot *slot, const json_t *description, struct error *err)
{
    struct service *service = slot->service;
    char bus_name[32];

    snprintf(bus_name, sizeof bus_name, "channel.%u", service->next_slot++);
    struct endpoint_config config = {
        .tree = &service->tree, .bus_name = bus_name, .client_gone = on_client_gone, .opaque = slot,
    };
    int r = endpoint_new(&config, &slot->endpoint, err);
    if (r < 0)
        return r;
    json_t *device = place(description, bus_name);
    r = device ? object_create(&service->tree, device, &slot->obj, err) : error_oom(err);
    json_decref(device);
    return r;
}

int slot_new(struct service *service, const json_t *description, struct error *err)
{
    struct slot *slot = calloc(1, sizeof *slot);

    if (!slot)
        return error_oom(err);
    slot->service = service;
    slot->listener = -1;
    list_add_tail(&service->slots, &slot->link);
    int r = make_device(slot, description, err);
    if (r < 0)
        slot_free(slot);
    return r;
}

void slot_free(struct slot *slot)
{
    if (!slot)
        return;
    watch_free(slot->watch);
    if (slot->listener >= 0)
        close(slot->listener);
    if (slot->endpoint)
        endpoint_detach(slot->endpoint);
    object_destroy(slot->obj);
    endpoint_free(slot->endpoint);
    list_del(&slot->link);
    free(slot);
}

int slot_find(struct service *service, const char *id, struct slot **ret_slot, struct error *err)
{
    list_for_each(struct slot, slot, &service->slots, link) {
        if (!id && slot->link.next != &service->slots)
            return error_set(err, -EINVAL, "there are several devices: which one is wanted");
        if (!id || strcmp(slot->obj->id, id) == 0) {
            *ret_slot = slot;
            return 0;
        }
    }
    if (!id)
        return error_set(err, -EINVAL, "there is no PCI device to serve; -device adds one");
    if (object_find(&service->tree, id))
        return error_set(err, -EINVAL, "'%.80s' is not a PCI device: it has no channel", id);
    return error_set(err, -ENODEV, "there is no device '%.80s'", id);
}

int slot_attach(struct slot *slot, int fd, struct error *err)
{
    int type;
    socklen_t len = sizeof type;

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM) {
        close(fd);
        return error_set(err, -EINVAL, "a client needs a connected stream socket");
    }
    return endpoint_attach(slot->endpoint, fd, err);
}

static void on_connection(void *opaque, uint32_t events)
{
    struct slot *slot = opaque;
    struct error err;

    int fd = accept4(slot->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;                     /* it has gone again, or none of ours is left */
    if (slot_attach(slot, fd, &err) < 0) {
        log_warn("%s: %s", object_name(slot->obj), err.text);
        return;
    }
    watch_set_events(slot->watch, 0);
}

int slot_listen(struct slot *slot, int fd, struct error *err)
{
    if (slot->watch) {
        close(fd);
        return error_set(err, -EBUSY, "the device is served elsewhere already");
    }
    int r = fd_set_nonblock(fd, true);
    if (r == 0)
        r = watch_new(slot->service->loop, fd, EPOLLIN, on_connection, slot, &slot->watch);
    if (r < 0) {
        close(fd);
        return error_set(err, r, "cannot wait for clients");
    }
    slot->listener = fd;
    return 0;
}
