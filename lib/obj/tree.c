/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is done to all objects: reset, pause, save, load. The saved form of a tree:
 *
 *   "BHST" le32 version 1, then per object: u8 1, u16 + id, u16 + class, u8 classes in the chain, per
 *   class: u32 state version, u32 length, fields; at the end u8 0.
 */
#include "obj/object.h"

#include <errno.h>
#include <string.h>

enum { TREE_MAGIC = 0x54534842, TREE_VERSION = 1, NAME_MAX_BYTES = 255 };

#define INHERITED(obj, entry) ({                                            \
    const struct object_class *c_ = (obj)->class;                           \
    while (c_ && !c_->entry)                                                \
        c_ = c_->parent;                                                    \
    c_ ? c_->entry : NULL; })

typedef void object_fn(struct object *);

static void call(struct object *obj, object_fn *fn)
{
    if (fn && obj->realized)
        fn(obj);
}

/* Parents are created before their children, so the order of creation is parents first. */
void objects_reset(struct obj_tree *tree)
{
    list_for_each(struct object, obj, &tree->objects, link)
        call(obj, INHERITED(obj, reset));
}

void objects_resume(struct obj_tree *tree)
{
    list_for_each(struct object, obj, &tree->objects, link)
        call(obj, INHERITED(obj, resume));
}

void objects_pause(struct obj_tree *tree)
{
    for (struct list *l = tree->objects.prev; l != &tree->objects; l = l->prev) {
        struct object *obj = list_entry(l, struct object, link);
        call(obj, INHERITED(obj, pause));
    }
}

static bool has_state(const struct object *obj)
{
    for (const struct object_class *c = obj->class; c; c = c->parent)
        if (c->state)
            return true;
    return false;
}

static void put_name(struct state_buf *buf, const char *name)
{
    size_t len = strnlen(name, NAME_MAX_BYTES);
    state_put_uint(buf, len, 2);
    state_put(buf, name, len);
}

static int take_name(struct state_reader *in, char name[NAME_MAX_BYTES + 1])
{
    uint64_t len;

    if (state_take_uint(in, 2, &len) < 0 || len > NAME_MAX_BYTES || state_take(in, name, len) < 0)
        return -EPROTO;
    name[len] = 0;
    return 0;
}

int objects_save(struct obj_tree *tree, struct state_buf *buf, struct error *err)
{
    state_put_uint(buf, TREE_MAGIC, 4);
    state_put_uint(buf, TREE_VERSION, 4);
    list_for_each(struct object, obj, &tree->objects, link) {
        if (!has_state(obj))
            continue;
        state_put_uint(buf, 1, 1);
        put_name(buf, obj->id);
        put_name(buf, obj->class->name);
        for (const struct object_class *c = obj->class; c; c = c->parent) {
            if (!c->state)
                continue;
            struct state_buf part = { 0 };
            state_save_fields(&part, c->state, object_part(obj, c));
            state_put_uint(buf, c->state_version, 4);
            state_put_uint(buf, part.len, 4);
            state_put(buf, part.data, part.len);
            buf->failed |= part.failed;
            state_buf_fini(&part);
        }
    }
    state_put_uint(buf, 0, 1);
    return buf->failed ? error_oom(err) : 0;
}

static int truncated(struct error *err)
{
    return error_set(err, -EINVAL, "saved state is cut short or no saved state");
}

static int load_object(struct state_reader *in, struct object *obj, struct error *err)
{
    for (const struct object_class *c = obj->class; c; c = c->parent) {
        uint64_t version, len;

        if (!c->state)
            continue;
        if (state_take_uint(in, 4, &version) < 0 || state_take_uint(in, 4, &len) < 0 ||
            len > (size_t)(in->end - in->at))
            return truncated(err);
        if (version > c->state_version)
            return error_set(err, -EINVAL, "saved state of '%s' has version %u, newer than %u",
                             obj->id, (unsigned)version, c->state_version);
        struct state_reader part = { in->at, in->at + len };
        int r = state_load_fields(&part, c->state, version, object_part(obj, c), err);
        if (r < 0)
            return r;
        if (part.at != part.end)
            return error_set(err, -EINVAL, "saved state of '%s' is too long", obj->id);
        in->at += len;
    }
    int (*post_load)(struct object *, struct error *) = INHERITED(obj, post_load);
    return post_load ? post_load(obj, err) : 0;
}

int objects_load(struct obj_tree *tree, const void *data, size_t len, struct error *err)
{
    struct state_reader in = { data, (const uint8_t *)data + len };
    char id[NAME_MAX_BYTES + 1], class[NAME_MAX_BYTES + 1];
    uint64_t magic, version, more;

    if (state_take_uint(&in, 4, &magic) < 0 || state_take_uint(&in, 4, &version) < 0 ||
        magic != TREE_MAGIC)
        return truncated(err);
    if (version != TREE_VERSION)
        return error_set(err, -EINVAL, "saved state has version %u, known is %u",
                         (unsigned)version, TREE_VERSION);
    for (;;) {
        if (state_take_uint(&in, 1, &more) < 0)
            return truncated(err);
        if (!more)
            return in.at == in.end ? 0 : error_set(err, -EINVAL, "saved state is too long");
        if (take_name(&in, id) < 0 || take_name(&in, class) < 0)
            return truncated(err);
        struct object *obj = object_find(tree, id);
        if (!obj || strcmp(obj->class->name, class))
            return error_set(err, -EINVAL, "saved state is for a %.80s '%.80s', which is not here",
                             class, id);
        int r = load_object(&in, obj, err);
        if (r < 0) {
            error_prefix(err, "%s", id);
            return r;
        }
    }
}

json_t *object_list(struct obj_tree *tree)
{
    json_t *list = json_array();
    list_for_each(struct object, obj, &tree->objects, link)
        json_array_append_new(list, json_pack("{s:s, s:s, s:s*}", "id", obj->id, "type",
                                              obj->class->name, "bus",
                                              obj->bus ? obj->bus->name : NULL));
    return list;
}
