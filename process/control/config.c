/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration's lists and look-ups, and helpers for the options' parsers. */
#include "config.h"

#include "internal.h"
#include "obj/keyval.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- lists ---- */

/* Room for one more element; list is a pointer to the list's pointer. */
static void *grow(void *list, unsigned *count, size_t size)
{
    void *old, *grown;

    memcpy(&old, list, sizeof old);
    if (*count >= CONFIG_LIST_MAX)
        return NULL;
    grown = realloc(old, (*count + 1) * size);
    if (!grown)
        return NULL;
    memcpy(list, &grown, sizeof grown);
    void *element = (char *)grown + *count * size;
    memset(element, 0, size);
    return element;
}

#define DEFINE_ADD(type, list)                                                              \
    struct type##_config *add_##type(struct config *config, const char *option,             \
                                     const char *arg)                                       \
    {                                                                                       \
        struct type##_config *e = grow(&config->list, &config->n##list, sizeof *e);         \
        if (!e)                                                                             \
            return NULL;                                                                    \
        config->n##list++;                                                                  \
        if (asprintf(&e->label, "-%s %.100s", option, arg) < 0)                             \
            e->label = NULL;                                                                \
        return e->label ? e : NULL;                                                         \
    }

DEFINE_ADD(process, processes)
DEFINE_ADD(device, devices)
DEFINE_ADD(node, nodes)
DEFINE_ADD(chardev, chardevs)
DEFINE_ADD(object, objects)

static void free_lists(struct config *c)
{
    for (unsigned i = 0; i < c->nprocesses; i++) {
        struct process_config *p = &c->processes[i];
        free(p->label);
        free(p->id);
        free(p->binary);
        free(p->sandbox);
        free(p->blockdev);
    }
    for (unsigned i = 0; i < c->ndevices; i++) {
        struct device_config *d = &c->devices[i];
        free(d->label);
        json_decref(d->options);
        json_decref(d->proxy);
        free(d->id);
        free(d->rid);
        free(d->socket);
    }
    for (unsigned i = 0; i < c->nnodes; i++) {
        free(c->nodes[i].label);
        json_decref(c->nodes[i].options);
    }
    for (unsigned i = 0; i < c->nchardevs; i++) {
        free(c->chardevs[i].label);
        free(c->chardevs[i].id);
        json_decref(c->chardevs[i].options);
    }
    for (unsigned i = 0; i < c->nobjects; i++) {
        free(c->objects[i].label);
        free(c->objects[i].id);
        json_decref(c->objects[i].options);
    }
    free(c->processes);
    free(c->devices);
    free(c->nodes);
    free(c->chardevs);
    free(c->objects);
}

void config_free(struct config *c)
{
    if (!c)
        return;
    free_lists(c);
    free(c->help_class);
    free(c->name);
    free(c->uuid);
    free(c->pidfile);
    free(c->sandbox);
    free(c->cpu_binary);
    free(c->cpu_model);
    free(c->memory_backend);
    free(c->mem_path);
    free(c->kernel);
    free(c->initrd);
    free(c->append);
    free(c);
}

/* ---- look-ups ---- */

struct process_config *config_process(const struct config *c, int place)
{
    return place >= 0 && (unsigned)place < c->nprocesses ? &c->processes[place] : NULL;
}

const char *config_place_name(const struct config *c, int place)
{
    const struct process_config *p = config_process(c, place);
    return p ? p->id : "the CPU process";
}

int config_find_process(const struct config *c, const char *id)
{
    for (unsigned i = 0; i < c->nprocesses; i++)
        if (c->processes[i].id && !strcmp(c->processes[i].id, id))
            return i;
    return -1;
}

struct device_config *config_find_device(const struct config *c, const char *id)
{
    for (unsigned i = 0; i < c->ndevices; i++)
        if (c->devices[i].id && !strcmp(c->devices[i].id, id))
            return &c->devices[i];
    return NULL;
}

struct object_config *config_find_object(const struct config *c, const char *id)
{
    for (unsigned i = 0; i < c->nobjects; i++)
        if (c->objects[i].id && !strcmp(c->objects[i].id, id))
            return &c->objects[i];
    return NULL;
}

static bool has_node(json_t *options, const char *name, int depth)
{
    const char *key;
    json_t *value;

    const char *own = json_string_value(json_object_get(options, "node-name"));
    if (own && !strcmp(own, name))
        return true;
    json_object_foreach(options, key, value)
        if (json_is_object(value) && depth > 0 && has_node(value, name, depth - 1))
            return true;
    return false;
}

int config_find_node(const struct config *c, const char *name)
{
    enum { DEPTH_MAX = 32 };

    for (unsigned i = 0; i < c->nnodes; i++)
        if (has_node(c->nodes[i].options, name, DEPTH_MAX))
            return i;
    return -1;
}

/* ---- for the options' parsers ---- */

int text_parse(const char *text, const char *implied_key, json_t **ret_options,
                  struct error *err)
{
    int r = keyval_parse(text, implied_key, "", ret_options, err);
    if (r < 0 && !strncmp(err->text, ": ", 2))
        memmove(err->text, err->text + 2, strlen(err->text + 2) + 1);
    return r;
}

int options_known(json_t *options, const char *const *names, struct error *err)
{
    const char *key;
    json_t *value;

    json_object_foreach(options, key, value) {
        const char *const *n = names;
        while (*n && strcmp(*n, key))
            n++;
        if (!*n)
            return error_set(err, -EINVAL, "unknown option '%.80s'", key);
    }
    return 0;
}

int options_string(json_t *options, const char *key, const char **ret, struct error *err)
{
    json_t *v = json_object_get(options, key);

    if (v && !json_is_string(v))
        return error_set(err, -EINVAL, "'%s' must be a string", key);
    if (v && strlen(json_string_value(v)) != json_string_length(v))
        return error_set(err, -EINVAL, "'%s' has a zero byte in it", key);
    *ret = json_string_value(v);
    return 0;
}

int options_take(json_t *options, const char *key, bool needed, char **ret, struct error *err)
{
    const char *text;

    int r = options_string(options, key, &text, err);
    if (r < 0)
        return r;
    if (!text || !*text)
        return needed ? error_set(err, -EINVAL, "'%s' is missing", key)
             : text ? error_set(err, -EINVAL, "'%s' is empty", key) : 0;
    r = set_copy(ret, text, err);
    json_object_del(options, key);
    return r;
}

int id_check(const char *id, struct error *err)
{
    bool good = isalpha((unsigned char)id[0]) && strlen(id) < 128;

    for (const char *p = id; *p; p++)
        good &= isalnum((unsigned char)*p) || strchr("-._", *p);
    return good ? 0 : error_set(err, -EINVAL,
        "'%.80s' is not an id: a letter, then letters, digits, '-', '.' and '_'", id);
}

int set_copy(char **field, const char *value, struct error *err)
{
    char *copy = strdup(value);
    if (!copy)
        return error_oom(err);
    free(*field);
    *field = copy;
    return 0;
}
