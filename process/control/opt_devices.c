/* SPDX-License-Identifier: Apache-2.0 */
/* -device, -process, -blockdev, and -drive, which is short for a -blockdev and perhaps a -device. */
#include "internal.h"

#include "common/door.h"
#include "obj/prop.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- -device ---- */

static bool wants_help(const char *word) { return !strcmp(word, "help") || !strcmp(word, "?"); }

/* "help", or "CLASS,help". */
static bool device_help(struct config *c, const char *arg)
{
    const char *comma = strrchr(arg, ',');

    if (wants_help(arg)) {
        c->action = ACTION_DEVICE_LIST;
        return true;
    }
    if (!comma || !wants_help(comma + 1) || strcspn(arg, ",") != (size_t)(comma - arg))
        return false;
    c->action = ACTION_DEVICE_PROPS;
    free(c->help_class);
    c->help_class = strndup(arg, comma - arg);
    return true;
}

/* Takes what is control's own out of d->options. */
static int device_own(struct config *c, struct device_config *d, struct error *err)
{
    const char *driver, *id = NULL;
    char *copy = NULL;

    int r = options_string(d->options, "driver", &driver, err);
    if (r == 0 && (!driver || !*driver))
        r = error_set(err, -EINVAL, "'driver' is missing");
    if (r == 0)
        r = options_string(d->options, "id", &id, err);
    if (r == 0 && id)
        r = id_check(id, err);
    if (r == 0 && id && config_find_device(c, id))
        r = error_set(err, -EINVAL, "the id '%s' is used twice", id);
    if (r == 0 && id)
        r = set_copy(&copy, id, err);
    d->id = copy;
    if (r == 0)
        r = options_take(d->options, "rid", false, &d->rid, err);
    if (r < 0 || strcmp(driver, "pci-proxy-dev"))
        return r;

    r = options_take(d->options, "socket", true, &d->socket, err);
    if (r == 0 && !d->id)
        r = error_set(err, -EINVAL, "'id' is missing: the device's id in the device process");
    if (r == 0 && d->rid)
        r = error_set(err, -EINVAL, "'rid' and a socket exclude each other");
    return r;
}

int opt_device(void *opaque, const char *arg, struct error *err)
{
    struct config *c = opaque;

    if (device_help(c, arg))
        return c->action == ACTION_DEVICE_PROPS && !c->help_class ? error_oom(err) : 0;
    struct device_config *d = add_device(c, "device", arg);
    if (!d)
        return error_set(err, -E2BIG, "no room for another device");
    d->place = IN_CPU_PROCESS;
    int r = text_parse(arg, "driver", &d->options, err);
    return r < 0 ? r : device_own(c, d, err);
}

/* ---- -process ---- */

/* sandbox=on, or sandbox.refused=warn and so on, as the text of the child's -sandbox. */
static int process_sandbox(json_t *o, char **ret_text, struct error *err)
{
    json_t *v = json_object_get(o, "sandbox"), *part;
    const char *key;
    char text[512] = "on";

    if (!json_is_object(v))
        return options_take(o, "sandbox", false, ret_text, err);
    json_object_foreach(v, key, part) {
        const char *value = json_string_value(part);
        size_t used = strlen(text);
        if (!value || strchr(value, ',') || strchr(key, ',') ||
            used + strlen(key) + strlen(value) + 3 > sizeof text)
            return error_set(err, -EINVAL, "bad value of 'sandbox.%.80s'", key);
        snprintf(text + used, sizeof text - used, ",%s=%s", key, value);
    }
    int r = set_copy(ret_text, text, err);
    json_object_del(o, "sandbox");
    return r;
}

int opt_process(void *opaque, const char *arg, struct error *err)
{
    struct config *c = opaque;
    struct door_option sandbox;
    char *id = NULL;
    json_t *o;

    struct process_config *p = add_process(c, "process", arg);
    if (!p)
        return error_set(err, -E2BIG, "no room for another process");
    int r = text_parse(arg, "id", &o, err);
    if (r < 0)
        return r;
    r = options_take(o, "id", true, &id, err);
    if (r == 0)
        r = id_check(id, err);
    if (r == 0 && config_find_process(c, id) >= 0)
        r = error_set(err, -EINVAL, "the id '%s' is used twice", id);
    p->id = id;
    if (r == 0)
        r = options_take(o, "binary", false, &p->binary, err);
    if (r == 0)
        r = options_take(o, "blockdev", false, &p->blockdev, err);
    if (r == 0)
        r = process_sandbox(o, &p->sandbox, err);
    if (r == 0 && p->sandbox)
        r = door_option_parse(p->sandbox, &sandbox, err);
    if (r == 0)
        r = options_known(o, (const char *const[]){ NULL }, err);
    json_decref(o);
    return r;
}

/* ---- -blockdev ---- */

/* Every node-name in this tree is good, and nobody else's; count: those of this name seen so far. */
static int check_names(struct config *c, json_t *options, bool needed, int depth, struct error *err)
{
    const char *key, *name;
    json_t *value;

    int r = options_string(options, "node-name", &name, err);
    if (r < 0)
        return r;
    if (!name && needed)
        return error_set(err, -EINVAL, "'node-name' is missing");
    if (name) {
        r = id_check(name, err);
        if (r < 0)
            return r;
        if (config_find_node(c, name) >= 0)
            return error_set(err, -EINVAL, "the node name '%s' is used twice", name);
    }
    if (depth == 0)
        return error_set(err, -EINVAL, "too deeply nested");
    json_object_foreach(options, key, value)
        if (json_is_object(value)) {
            r = check_names(c, value, false, depth - 1, err);
            if (r < 0)
                return r;
        }
    return 0;
}

/* Takes options. */
static int add_block_node(struct config *c, const char *option, const char *arg, json_t *options,
                          struct error *err)
{
    enum { DEPTH_MAX = 16 };
    const char *driver = NULL;

    int r = options_string(options, "driver", &driver, err);
    if (r == 0 && !driver)
        r = error_set(err, -EINVAL, "'driver' is missing");
    if (r == 0)
        r = check_names(c, options, true, DEPTH_MAX, err);
    struct node_config *n = r == 0 ? add_node(c, option, arg) : NULL;
    if (r == 0 && !n)
        r = error_set(err, -E2BIG, "no room for another block node");
    if (r < 0) {
        json_decref(options);
        return r;
    }
    n->options = options;
    n->place = NOWHERE;
    return 0;
}

int opt_blockdev(void *opaque, const char *arg, struct error *err)
{
    json_t *o;

    int r = text_parse(arg, "driver", &o, err);
    return r < 0 ? r : add_block_node(opaque, "blockdev", arg, o, err);
}

/* ---- -drive ---- */

struct drive {
    const char *interface, *file, *format, *id, *media, *cache, *discard, *aio, *zeroes;
    bool read_only;
    char made_up_id[24];
};

static int drive_word(const char *value, const char *key, const char *const *words,
                      struct error *err)
{
    if (!value)
        return 0;
    for (; *words; words++)
        if (!strcmp(value, *words))
            return 0;
    return error_set(err, -EINVAL, "'%s' cannot be '%.80s'", key, value);
}

static int drive_strings(json_t *o, struct drive *d, struct error *err)
{
    static const char *const interfaces[] = { "none", "scsi", NULL };
    static const char *const medias[] = { "disk", "cdrom", NULL };
    static const char *const caches[] = { "none", "writeback", "unsafe", NULL };
    static const char *const formats[] = { "raw", "qcow2", NULL };
    struct { const char *key, **value; const char *const *words; } table[] = {
        { "if", &d->interface, interfaces }, { "file", &d->file }, { "format", &d->format, formats },
        { "id", &d->id }, { "media", &d->media, medias }, { "cache", &d->cache, caches },
        { "discard", &d->discard }, { "aio", &d->aio }, { "detect-zeroes", &d->zeroes },
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        int r = options_string(o, table[i].key, table[i].value, err);
        if (r == 0 && table[i].words)
            r = drive_word(*table[i].value, table[i].key, table[i].words, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int drive_read(struct config *c, json_t *o, struct drive *d, struct error *err)
{
    static const char *const known[] = { "if", "file", "format", "id", "media", "cache", "discard",
                                         "aio", "detect-zeroes", "readonly", "read-only", NULL };
    const char *key = json_object_get(o, "read-only") ? "read-only" : "readonly";

    int r = options_known(o, known, err);
    if (r == 0)
        r = drive_strings(o, d, err);
    if (r < 0)
        return r;
    if (!d->file)
        return error_set(err, -EINVAL, "'file' is missing");
    d->read_only = d->media && !strcmp(d->media, "cdrom");
    if (json_object_get(o, key)) {
        r = value_to_bool(json_object_get(o, key), key, &d->read_only, err);
        if (r < 0)
            return r;
    }
    if (!d->format && d->media && !strcmp(d->media, "cdrom"))
        d->format = "raw";
    if (!d->format)
        return error_set(err, -EINVAL, "'format' is missing: say format=raw or format=qcow2, since "
                                       "an image is not asked what it is");
    if (!d->id) {
        snprintf(d->made_up_id, sizeof d->made_up_id, "drive%u", c->nnodes);
        d->id = d->made_up_id;
    }
    return 0;
}

static void set_text(json_t *o, const char *key, const char *value)
{
    if (value)
        json_object_set_new(o, key, json_string(value));
}

static json_t *drive_node(const struct drive *d)
{
    json_t *file = json_pack("{s:s, s:s}", "driver", "file", "filename", d->file);
    json_t *node = json_pack("{s:s, s:s}", "driver", d->format, "node-name", d->id);
    bool direct = d->cache && !strcmp(d->cache, "none");
    bool no_flush = d->cache && !strcmp(d->cache, "unsafe");

    json_t *both[] = { file, node };
    for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
        json_object_set_new(both[i], "read-only", json_boolean(d->read_only));
        set_text(both[i], "discard", d->discard);
        if (d->cache)
            json_object_set_new(both[i], "cache", json_pack("{s:b, s:b}", "direct", direct,
                                                            "no-flush", no_flush));
    }
    set_text(file, "aio", d->aio);
    set_text(node, "detect-zeroes", d->zeroes);
    json_object_set_new(node, "file", file);
    return node;
}

/* if=scsi: the disk that QEMU would make for it. */
static int drive_device(struct config *c, const struct drive *d, const char *arg, struct error *err)
{
    bool cdrom = d->media && !strcmp(d->media, "cdrom");

    if (!d->interface || !strcmp(d->interface, "none"))
        return 0;
    struct device_config *dev = add_device(c, "drive", arg);
    if (!dev)
        return error_set(err, -E2BIG, "no room for another device");
    dev->place = IN_CPU_PROCESS;
    dev->options = json_pack("{s:s, s:s}", "driver", cdrom ? "scsi-cd" : "scsi-hd", "drive", d->id);
    return dev->options ? 0 : error_oom(err);
}

int opt_drive(void *opaque, const char *arg, struct error *err)
{
    struct config *c = opaque;
    struct drive d = { 0 };
    json_t *o;

    int r = text_parse(arg, "file", &o, err);
    if (r < 0)
        return r;
    r = drive_read(c, o, &d, err);
    if (r == 0)
        r = add_block_node(c, "drive", arg, drive_node(&d), err);
    if (r == 0)
        r = drive_device(c, &d, arg, err);
    json_decref(o);
    return r;
}
