/* SPDX-License-Identifier: Apache-2.0 */
#include "common/queries.h"

#include <errno.h>
#include <string.h>

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static json_t *find_node(const json_t *nodes, const char *name)
{
    json_t *node;
    size_t i;

    json_array_foreach(nodes, i, node) {
        const char *node_name = text_of(node, "node-name");
        if (name && node_name && strcmp(node_name, name) == 0)
            return node;
    }
    return NULL;
}

int query_block(struct obj_tree *tree, struct block_graph *graph, json_t **ret, struct error *err)
{
    json_t *nodes = block_graph_query(graph), *list = json_array();

    list_for_each(struct object, obj, &tree->objects, link) {
        json_t *drive;
        if (object_get_prop(obj, "drive", &drive, NULL) < 0)
            continue;
        json_t *item = json_pack("{s:s, s:s, s:s, s:b, s:b}", "device", "", "qdev", obj->id, "type",
                                 "unknown", "removable", strcmp(obj->class->name, "scsi-cd") == 0,
                                 "locked", 0);
        json_t *node = find_node(nodes, json_string_value(drive));
        if (node)
            json_object_set(item, "inserted", node);
        json_array_append_new(list, item);
        json_decref(drive);
    }
    json_decref(nodes);
    *ret = list;
    return list ? 0 : error_oom(err);
}

int query_properties(struct obj_tree *tree, const char *class_name, json_t **ret,
                     struct error *err)
{
    const struct object_class *cls = class_name ? class_find(tree, class_name) : NULL;

    if (!cls || cls->internal)
        return error_set(err, -ENODEV, "there is no device '%.80s'", class_name ? class_name : "");
    *ret = class_list_props(cls);
    return *ret ? 0 : error_oom(err);
}

/* *ret_obj is NULL for the place where they all lie. */
static int object_at(struct obj_tree *tree, const char *path, struct object **ret_obj,
                     struct error *err)
{
    static const char dir[] = "/machine/peripheral";

    *ret_obj = NULL;
    if (!path)
        return error_set(err, -EINVAL, "a path is wanted");
    if (strncmp(path, dir, sizeof dir - 1) == 0)
        path += sizeof dir - 1;
    if (*path == '/')
        path++;
    if (!*path || strcmp(path, "machine") == 0)
        return 0;
    *ret_obj = object_find(tree, path);
    return *ret_obj ? 0 : error_set(err, -ENODEV, "there is no object '%.80s'", path);
}

int query_qom_list(struct obj_tree *tree, const char *path, json_t **ret, struct error *err)
{
    struct object *obj;

    int r = object_at(tree, path, &obj, err);
    if (r < 0)
        return r;
    if (obj) {
        *ret = class_list_props(obj->class);
        return *ret ? 0 : error_oom(err);
    }
    *ret = json_array();
    list_for_each(struct object, o, &tree->objects, link)
        json_array_append_new(*ret, json_pack("{s:s, s:o}", "name", o->id, "type",
                                              json_sprintf("child<%s>", o->class->name)));
    return *ret ? 0 : error_oom(err);
}

int query_qom_get(struct obj_tree *tree, const char *path, const char *property, json_t **ret,
                  struct error *err)
{
    struct object *obj;

    int r = object_at(tree, path, &obj, err);
    if (r < 0)
        return r;
    if (!obj || !property)
        return error_set(err, -EINVAL, "a path to a device and a property are wanted");
    return object_get_prop(obj, property, ret, err);
}
