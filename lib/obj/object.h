/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The object model (row C1). A class is a const table that names its parent; an instance is one
 * allocation that holds a part for each class of the chain, base first. Properties are typed and
 * come from -device or JSON; state tables say what is saved. Objects form a tree that QMP lists.
 *
 * Loop thread, or any thread that holds the tree's lock.
 */
#ifndef OBJ_OBJECT_H
#define OBJ_OBJECT_H

#include "base/error.h"
#include "base/list.h"
#include "event/loop.h"
#include "obj/prop.h"
#include "obj/state.h"

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>

struct object;
struct bus;

struct object_class {
    const char *name, *summary;
    const struct object_class *parent;  /* NULL: a root of the class hierarchy */
    bool abstract;                      /* cannot be created */
    bool internal;                      /* not for users: not listed, not by -device */
    const char *bus_type;               /* what it plugs into: "PCI", "SCSI"; inherited; NULL: nothing */
    size_t size;                        /* of this class's own part, zeroed at creation */
    const struct prop *props;           /* offsets are into this class's part; PROP_END */
    const struct state_field *state;    /* likewise; STATE_END */
    unsigned state_version;             /* written with the state; newer ones are refused */

    /* Called for each class of the chain that has it: init base first (after property defaults),
     * fini most derived first. */
    void (*init)(struct object *obj, void *part);
    void (*fini)(struct object *obj, void *part);

    /* Only the most derived class that has it is called; it calls up itself if it wants to.
     * If realize fails, unrealize is called all the same. */
    int  (*realize)(struct object *obj, struct error *err);
    void (*unrealize)(struct object *obj);
    void (*reset)(struct object *obj);          /* back to power-on; cannot fail */
    void (*pause)(struct object *obj);          /* no DMA, interrupt or request in flight after */
    void (*resume)(struct object *obj);
    int  (*post_load)(struct object *obj, struct error *err);  /* state arrived: check, rebuild */
};

struct object {
    const struct object_class *class;
    struct obj_tree *tree;
    char *id;                   /* user's, or made up ("#device[3]"); unique in the tree */
    bool has_user_id;
    bool realized;
    struct object *parent;      /* NULL: the tree's root list */
    struct bus *bus;            /* what it is plugged into; may be NULL */
    struct list buses;          /* struct bus, the ones it offers */
    struct list link;           /* in tree->objects, in order of creation */
    struct list bus_link;       /* in bus->children */
    atomic_uint refs;
    json_t *description;        /* the options it was made from, for queries */
    max_align_t parts[];
};

/* What objects of a process share. */
enum obj_service {
    SERVICE_BLOCK,              /* struct block_graph * */
    SERVICE_CHARDEV,            /* struct chardev_set * */
    SERVICE_NET,
    SERVICE_MACHINE,            /* the CPU process's machine */
    SERVICE_REMOTE,             /* struct proxy_owner *, remote/proxy.h */
    SERVICE_COUNT
};

struct obj_tree {
    struct loop *loop;
    pthread_mutex_t *lock;      /* held whenever device code runs; NULL: one thread only */
    const struct object_class *const *classes;  /* sorted by name, NULL-terminated */
    void *services[SERVICE_COUNT];
    struct list objects;        /* every object, in order of creation */
    struct list buses;          /* every bus, by tree_link */
    unsigned next_anonymous;
};

int obj_tree_init(struct obj_tree *tree, struct loop *loop,
                  const struct object_class *const *classes);
void obj_tree_fini(struct obj_tree *tree);      /* unrealizes and frees, last created first */

const struct object_class *class_find(const struct obj_tree *tree, const char *name);
bool class_is(const struct object_class *cls, const struct object_class *base);

/* The part of obj that belongs to cls, which must be in its chain. */
void *object_part(struct object *obj, const struct object_class *cls);
/* The part of the most derived class. */
void *object_self(struct object *obj);

/*
 * -device: description is {"driver": class, "id": …, "bus": …, property: value, …}; values may be
 * strings as a command line has them. Creates, sets properties, plugs, realizes. On failure
 * nothing is left and err names driver, id and property in the user's words.
 */
int object_create(struct obj_tree *tree, const json_t *description, struct object **ret_obj,
                  struct error *err) MUST_CHECK;
void object_destroy(struct object *obj);        /* unrealize, unplug, drop; NULL allowed */
struct object *object_get(struct object *obj);
void object_put(struct object *obj);            /* the last one frees */

struct object *object_find(struct obj_tree *tree, const char *id);
const char *object_name(const struct object *obj);      /* id, for messages */

int object_set(struct object *obj, const char *prop, const json_t *value, struct error *err)
    MUST_CHECK;
int object_get_prop(struct object *obj, const char *prop, json_t **ret_value, struct error *err)
    MUST_CHECK;
json_t *class_list_props(const struct object_class *cls);   /* device-list-properties */
json_t *object_list(struct obj_tree *tree);     /* [{"id", "type", "bus"}] */

/* All objects, parents before children. */
void objects_reset(struct obj_tree *tree);
void objects_pause(struct obj_tree *tree);      /* children first */
void objects_resume(struct obj_tree *tree);

/* Saves every object that has state (paused!) / loads it into a tree of the same objects. */
int objects_save(struct obj_tree *tree, struct state_buf *buf, struct error *err) MUST_CHECK;
int objects_load(struct obj_tree *tree, const void *data, size_t len, struct error *err) MUST_CHECK;

/* ---- buses ---- */

struct bus_ops {
    /* Takes the address property from the child and claims it; child is not yet realized. */
    int  (*plug)(struct bus *bus, struct object *child, struct error *err);
    void (*unplug)(struct bus *bus, struct object *child);
    bool (*full)(struct bus *bus);              /* NULL: never */
};

struct bus {
    const char *type;           /* "PCI", "SCSI" */
    char *name;                 /* "lsi0.0", "pci.0" */
    struct object *owner;       /* may be NULL for a machine's root bus */
    const struct bus_ops *ops;
    struct list children;       /* struct object by bus_link */
    struct list link;           /* in owner->buses */
    struct list tree_link;      /* in tree->buses */
    struct obj_tree *tree;
};

/* Embedded in the owner's struct. name NULL: "<owner id>.<n>". */
int bus_init(struct bus *bus, struct obj_tree *tree, const char *type, const char *name,
             struct object *owner, const struct bus_ops *ops);
void bus_fini(struct bus *bus);
struct bus *bus_find(struct obj_tree *tree, const char *name);

#endif
