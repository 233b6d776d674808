/* SPDX-License-Identifier: Apache-2.0 */
#include "device/service.h"

#include "base/log.h"
#include "devices/all.h"
#include "pci/device.h"

#include <errno.h>
#include <string.h>

int service_init(struct service *service, const char *name, enum block_aio aio, struct error *err)
{
    *service = (struct service){ .name = name, .backends = SANDBOX_BLOCK };
    list_init(&service->slots);
    int r = loop_new(&service->loop, err);
    if (r < 0)
        return r;
    r = obj_tree_init(&service->tree, service->loop, device_classes);
    if (r < 0)
        return error_set(err, r, "cannot prepare the tree of devices");
    r = block_graph_new(service->loop, aio, &service->graph, err);
    service->tree.services[SERVICE_BLOCK] = service->graph;
    return r;
}

void service_fini(struct service *service)
{
    if (!service->loop)
        return;
    monitor_free(service->monitor);
    primary_free(service->primary);
    while (!list_empty(&service->slots))
        slot_free((struct slot *)service->slots.next);
    if (service->tree.loop)
        obj_tree_fini(&service->tree);
    block_graph_free(service->graph);
    loop_free(service->loop);
}

/* ---- block nodes ---- */

/* The first object in options, however deep, that names a file without a descriptor. */
static const char *unopened_file(const json_t *options)
{
    const char *filename = json_string_value(json_object_get(options, "filename"));
    const char *key;
    json_t *value;

    if (filename && !json_object_get(options, "fd"))
        return filename;
    json_object_foreach((json_t *)options, key, value) {
        const char *found = json_is_object(value) ? unopened_file(value) : NULL;
        if (found)
            return found;
        if (strstr(key, ".filename") && json_is_string(value))
            return json_string_value(value);
    }
    return NULL;
}

int service_blockdev_add(struct service *service, const json_t *options, struct block_fds *fds,
                         struct error *err)
{
    const char *filename = unopened_file(options);

    if (!(service->backends & SANDBOX_BLOCK))
        return error_set(err, -EINVAL, "this process was started for other back-ends than disk "
                         "images (-kind)");
    if (filename)
        return error_set(err, -EINVAL, "cannot open '%.200s': this process can open nothing, and "
                         "no descriptor came with the description", filename);
    return block_node_add(service->graph, options, fds, err);
}

/* ---- devices ---- */

static bool is_pci(const struct service *service, const json_t *description)
{
    const char *driver = json_string_value(json_object_get(description, "driver"));
    const struct object_class *cls = driver ? class_find(&service->tree, driver) : NULL;
    return cls && class_is(cls, &pci_device_base);
}

int service_device_add(struct service *service, const json_t *description, struct error *err)
{
    struct object *obj;

    if (is_pci(service, description))
        return slot_new(service, description, err);
    return object_create(&service->tree, description, &obj, err);
}

int service_device_del(struct service *service, const char *id, struct error *err)
{
    struct object *obj = object_find(&service->tree, id);
    struct slot *slot;

    if (!obj)
        return error_set(err, -ENODEV, "there is no device '%.80s'", id);
    if (class_is(obj->class, &pci_device_base)) {
        int r = slot_find(service, id, &slot, err);
        if (r == 0)
            slot_free(slot);
        return r;
    }
    object_destroy(obj);
    return 0;
}

static bool is_below(const struct object *obj, const struct object *top)
{
    while (obj && obj != top)
        obj = obj->parent;
    return obj;
}

static void reset_object(struct object *obj)
{
    for (const struct object_class *c = obj->class; c; c = c->parent)
        if (c->reset) {
            c->reset(obj);
            return;
        }
}

int service_reset(struct service *service, const char *id, struct error *err)
{
    struct object *top = id ? object_find(&service->tree, id) : NULL;

    if (id && !top)
        return error_set(err, -ENODEV, "there is no device '%.80s'", id);
    list_for_each(struct object, obj, &service->tree.objects, link)
        if (obj->realized && (!top || is_below(obj, top)))
            reset_object(obj);
    return 0;
}

void service_pause(struct service *service)
{
    if (service->paused)
        return;
    service->paused = true;
    objects_pause(&service->tree);
    service_event(service, "STOP", NULL);
}

void service_resume(struct service *service)
{
    if (!service->paused)
        return;
    service->paused = false;
    objects_resume(&service->tree);
    service_event(service, "RESUME", NULL);
}

void service_event(struct service *service, const char *name, json_t *data)
{
    if (service->primary)
        (void)!primary_event(service->primary, name, data);
    if (service->monitor)
        monitor_event(service->monitor, name, json_incref(data));
    json_decref(data);
}
