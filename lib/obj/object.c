/* SPDX-License-Identifier: Apache-2.0 */
/* Classes, instances, the tree, properties. Saving and the walks over all objects: tree.c. */
#include "obj/object.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { CHAIN_MAX = 8, ID_MAX = 128, PART_ALIGN = _Alignof(max_align_t) };

bool class_is(const struct object_class *cls, const struct object_class *base)
{
    for (; cls; cls = cls->parent)
        if (cls == base)
            return true;
    return false;
}

const struct object_class *class_find(const struct obj_tree *tree, const char *name)
{
    for (const struct object_class *const *c = tree->classes; *c; c++)
        if (!strcmp((*c)->name, name))
            return *c;
    return NULL;
}

/* Bytes of all parts up to and including cls. */
static size_t parts_size(const struct object_class *cls)
{
    return cls ? parts_size(cls->parent) + align_up(cls->size, PART_ALIGN) : 0;
}

void *object_part(struct object *obj, const struct object_class *cls)
{
    return (char *)obj->parts + parts_size(cls->parent);
}

void *object_self(struct object *obj) { return object_part(obj, obj->class); }
const char *object_name(const struct object *obj) { return obj->id; }

/* The chain, base first. Returns its length. */
static int chain_of(const struct object_class *cls, const struct object_class *chain[CHAIN_MAX])
{
    int n = 0;
    for (const struct object_class *c = cls; c; c = c->parent)
        n++;
    assert(n <= CHAIN_MAX);
    for (int i = n - 1; cls; cls = cls->parent)
        chain[i--] = cls;
    return n;
}

/* The entry of the most derived class that has one. */
#define INHERITED(obj, entry) ({                                            \
    const struct object_class *c_ = (obj)->class;                           \
    while (c_ && !c_->entry)                                                \
        c_ = c_->parent;                                                    \
    c_ ? c_->entry : NULL; })

int obj_tree_init(struct obj_tree *tree, struct loop *loop,
                  const struct object_class *const *classes)
{
    *tree = (struct obj_tree){ .loop = loop, .classes = classes };
    list_init(&tree->objects);
    list_init(&tree->buses);
    return 0;
}

void obj_tree_fini(struct obj_tree *tree)
{
    while (!list_empty(&tree->objects))
        object_destroy(list_entry(tree->objects.prev, struct object, link));
}

struct object *object_find(struct obj_tree *tree, const char *id)
{
    list_for_each(struct object, obj, &tree->objects, link)
        if (!strcmp(obj->id, id))
            return obj;
    return NULL;
}

struct object *object_get(struct object *obj)
{
    atomic_fetch_add(&obj->refs, 1);
    return obj;
}

static void object_free(struct object *obj)
{
    const struct object_class *chain[CHAIN_MAX];

    for (int i = chain_of(obj->class, chain) - 1; i >= 0; i--) {
        void *part = object_part(obj, chain[i]);
        if (chain[i]->fini)
            chain[i]->fini(obj, part);
        for (const struct prop *p = chain[i]->props; p && p->name; p++)
            prop_clear(p, part);
    }
    json_decref(obj->description);
    free(obj->id);
    free(obj);
}

void object_put(struct object *obj)
{
    if (obj && atomic_fetch_sub(&obj->refs, 1) == 1)
        object_free(obj);
}

static int object_new(struct obj_tree *tree, const struct object_class *cls, const char *id,
                      struct object **ret_obj)
{
    const struct object_class *chain[CHAIN_MAX];
    int n = chain_of(cls, chain);
    char made_up[32];

    struct object *obj = calloc(1, sizeof *obj + parts_size(cls));
    if (!obj)
        return -ENOMEM;
    obj->class = cls;
    obj->tree = tree;
    atomic_init(&obj->refs, 1);
    list_init(&obj->buses);
    obj->has_user_id = id != NULL;
    if (!id) {
        snprintf(made_up, sizeof made_up, "#device[%u]", tree->next_anonymous++);
        id = made_up;
    }
    obj->id = strdup(id);
    bool ok = obj->id != NULL;
    for (int i = 0; i < n; i++) {
        void *part = object_part(obj, chain[i]);
        for (const struct prop *p = chain[i]->props; p && p->name; p++)
            ok &= prop_set_default(p, part) == 0;
        if (chain[i]->init)
            chain[i]->init(obj, part);
    }
    if (!ok) {
        object_free(obj);
        return -ENOMEM;
    }
    *ret_obj = obj;
    return 0;
}

static const struct prop *find_prop(struct object *obj, const char *name, void **ret_part)
{
    for (const struct object_class *c = obj->class; c; c = c->parent)
        for (const struct prop *p = c->props; p && p->name; p++)
            if (!strcmp(p->name, name)) {
                *ret_part = object_part(obj, c);
                return p;
            }
    return NULL;
}

int object_set(struct object *obj, const char *name, const json_t *value, struct error *err)
{
    void *part;
    const struct prop *p = find_prop(obj, name, &part);

    if (!p)
        return error_set(err, -EINVAL, "'%s' has no property '%s'", obj->class->name, name);
    if (obj->realized)
        return error_set(err, -EINVAL, "'%s' of '%s' cannot be changed any more", name, obj->id);
    return prop_set(p, part, value, err);
}

int object_get_prop(struct object *obj, const char *name, json_t **ret_value, struct error *err)
{
    void *part;
    const struct prop *p;

    if (!strcmp(name, "type"))
        *ret_value = json_string(obj->class->name);
    else if (!strcmp(name, "realized"))
        *ret_value = json_boolean(obj->realized);
    else if ((p = find_prop(obj, name, &part)))
        *ret_value = prop_get(p, part);
    else
        return error_set(err, -ENOENT, "'%s' has no property '%s'", obj->class->name, name);
    return *ret_value ? 0 : error_oom(err);
}

json_t *class_list_props(const struct object_class *cls)
{
    json_t *list = json_array();
    for (const struct object_class *c = cls; c; c = c->parent)
        for (const struct prop *p = c->props; p && p->name; p++)
            json_array_append_new(list, prop_describe(p));
    return list;
}

/* QEMU's rule: a letter, then letters, digits, '-', '.', '_'. */
static bool id_valid(const char *id)
{
    if (!isalpha((unsigned char)id[0]) || strlen(id) >= ID_MAX)
        return false;
    for (; *id; id++)
        if (!isalnum((unsigned char)*id) && !strchr("-._", *id))
            return false;
    return true;
}

/* ---- buses ---- */

int bus_init(struct bus *bus, struct obj_tree *tree, const char *type, const char *name,
             struct object *owner, const struct bus_ops *ops)
{
    char made_up[ID_MAX + 16];
    unsigned n = 0;

    if (!name) {
        for (struct list *l = owner->buses.next; l != &owner->buses; l = l->next)
            n++;
        snprintf(made_up, sizeof made_up, "%s.%u", owner->id, n);
        name = made_up;
    }
    *bus = (struct bus){ .type = type, .owner = owner, .ops = ops, .tree = tree };
    list_init(&bus->children);
    bus->name = strdup(name);
    if (!bus->name)
        return -ENOMEM;
    if (owner)
        list_add_tail(&owner->buses, &bus->link);
    list_add_tail(&tree->buses, &bus->tree_link);
    return 0;
}

void bus_fini(struct bus *bus)
{
    if (!bus->name)
        return;
    while (!list_empty(&bus->children))
        object_destroy(list_entry(bus->children.prev, struct object, bus_link));
    list_del(&bus->link);
    list_del(&bus->tree_link);
    free(bus->name);
    bus->name = NULL;
}

struct bus *bus_find(struct obj_tree *tree, const char *name)
{
    list_for_each(struct bus, bus, &tree->buses, tree_link)
        if (!strcmp(bus->name, name))
            return bus;
    return NULL;
}

static const char *bus_type_of(const struct object_class *cls)
{
    while (cls && !cls->bus_type)
        cls = cls->parent;
    return cls ? cls->bus_type : NULL;
}

/* The bus named, or the first of the right type that has room. */
static int choose_bus(struct obj_tree *tree, const char *type, const char *name,
                      struct bus **ret_bus, struct error *err)
{
    if (name) {
        struct bus *bus = bus_find(tree, name);
        if (!bus) {
            /* "lsi0" alone means its first bus, as with QEMU. */
            struct object *owner = object_find(tree, name);
            if (owner && !list_empty(&owner->buses))
                bus = list_first(&owner->buses, struct bus, link);
        }
        if (!bus)
            return error_set(err, -EINVAL, "there is no bus '%s'", name);
        if (strcmp(bus->type, type))
            return error_set(err, -EINVAL, "bus '%s' is a %s bus, a %s bus is wanted", name,
                             bus->type, type);
        *ret_bus = bus;
        return 0;
    }
    bool any = false;
    list_for_each(struct bus, bus, &tree->buses, tree_link) {
        if (strcmp(bus->type, type))
            continue;
        any = true;
        if (!bus->ops->full || !bus->ops->full(bus)) {
            *ret_bus = bus;
            return 0;
        }
    }
    return any ? error_set(err, -EINVAL, "every %s bus is full", type)
               : error_set(err, -EINVAL, "there is no %s bus to plug it into", type);
}

static int plug(struct object *obj, const char *bus_name, struct error *err)
{
    const char *type = bus_type_of(obj->class);
    struct bus *bus;

    if (!type)
        return bus_name ? error_set(err, -EINVAL, "'%s' does not plug into a bus",
                                    obj->class->name) : 0;
    int r = choose_bus(obj->tree, type, bus_name, &bus, err);
    if (r == 0 && bus->ops->plug)
        r = bus->ops->plug(bus, obj, err);
    if (r < 0)
        return r;
    obj->bus = bus;
    obj->parent = bus->owner;
    list_add_tail(&bus->children, &obj->bus_link);
    return 0;
}

/* ---- life ---- */

static int set_props(struct object *obj, const json_t *description, struct error *err)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)description, key, value) {
        if (!strcmp(key, "driver") || !strcmp(key, "id") || !strcmp(key, "bus"))
            continue;
        int r = object_set(obj, key, value, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int string_member(const json_t *description, const char *key, const char **ret,
                         struct error *err)
{
    json_t *v = json_object_get(description, key);

    if (v && !json_is_string(v))
        return error_set(err, -EINVAL, "'%s' must be a string", key);
    *ret = json_string_value(v);
    return 0;
}

static int create_named(struct obj_tree *tree, const struct object_class *cls, const char *id,
                        const char *bus_name, const json_t *description, struct object **ret_obj,
                        struct error *err)
{
    struct object *obj;
    int r = object_new(tree, cls, id, &obj);

    if (r < 0)
        return error_oom(err);
    obj->description = json_deep_copy(description);
    r = set_props(obj, description, err);
    if (r < 0) {
        object_put(obj);
        return r;
    }
    list_add_tail(&tree->objects, &obj->link);
    r = plug(obj, bus_name, err);
    if (r == 0) {
        int (*realize)(struct object *, struct error *) = INHERITED(obj, realize);
        r = realize ? realize(obj, err) : 0;
        obj->realized = r == 0;
        if (r < 0) {
            void (*unrealize)(struct object *) = INHERITED(obj, unrealize);
            if (unrealize)
                unrealize(obj);
        }
    }
    if (r < 0) {
        object_destroy(obj);
        return r;
    }
    *ret_obj = obj;
    return 0;
}

int object_create(struct obj_tree *tree, const json_t *description, struct object **ret_obj,
                  struct error *err)
{
    const char *driver = NULL, *id = NULL, *bus_name = NULL;

    if (!json_is_object(description))
        return error_set(err, -EINVAL, "a device is described by a JSON object");
    int r = string_member(description, "driver", &driver, err);
    if (r == 0)
        r = string_member(description, "id", &id, err);
    if (r == 0)
        r = string_member(description, "bus", &bus_name, err);
    if (r < 0)
        return r;
    if (!driver)
        return error_set(err, -EINVAL, "'driver' is missing");
    if (id && !id_valid(id))
        return error_set(err, -EINVAL, "'%.80s' cannot be an id: a letter, then letters, digits, "
                         "'-', '.' and '_' are allowed", id);
    if (id && object_find(tree, id))
        return error_set(err, -EINVAL, "the id '%s' is in use", id);

    const struct object_class *cls = class_find(tree, driver);
    if (!cls)
        return error_set(err, -EINVAL, "there is no device '%.80s'", driver);
    if (cls->abstract)
        return error_set(err, -EINVAL, "'%s' is a family of devices, not a device", driver);

    r = create_named(tree, cls, id, bus_name, description, ret_obj, err);
    if (r < 0 && id)
        error_prefix(err, "%s '%s'", driver, id);
    else if (r < 0)
        error_prefix(err, "%s", driver);
    return r;
}

void object_destroy(struct object *obj)
{
    if (!obj)
        return;
    while (!list_empty(&obj->buses)) {
        struct bus *bus = list_first(&obj->buses, struct bus, link);
        if (list_empty(&bus->children))
            break;
        object_destroy(list_entry(bus->children.prev, struct object, bus_link));
    }
    if (obj->realized) {
        void (*unrealize)(struct object *) = INHERITED(obj, unrealize);
        obj->realized = false;
        if (unrealize)
            unrealize(obj);
    }
    if (obj->bus) {
        list_del(&obj->bus_link);
        if (obj->bus->ops->unplug)
            obj->bus->ops->unplug(obj->bus, obj);
        obj->bus = NULL;
    }
    list_del(&obj->link);
    object_put(obj);
}
