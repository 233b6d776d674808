/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader of a node's options. Values may be JSON's own types or the text a command line
 * gives; what nobody takes is an unknown option.
 */
#include "block/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { NESTING_MAX = 16 };

/* Puts value at a dotted key of obj. Steals value. */
static int put_dotted(json_t *obj, const char *key, json_t *value, struct error *err)
{
    const char *rest = key, *dot;

    while ((dot = strchr(rest, '.'))) {
        char part[128];
        if (dot == rest || (size_t)(dot - rest) >= sizeof part)
            goto bad;
        memcpy(part, rest, dot - rest);
        part[dot - rest] = 0;
        json_t *inner = json_object_get(obj, part);
        if (!inner) {
            inner = json_object();
            if (json_object_set_new(obj, part, inner) < 0) {
                json_decref(value);
                return error_oom(err);
            }
        }
        if (!json_is_object(inner))
            goto bad;
        obj = inner;
        rest = dot + 1;
    }
    if (!*rest || json_object_get(obj, rest))
        goto bad;
    if (json_object_set_new(obj, rest, value) < 0)
        return error_oom(err);
    return 0;

bad:
    json_decref(value);
    return error_set(err, -EINVAL, "option '%s' contradicts another one", key);
}

static json_t *expand(const json_t *options, unsigned depth, struct error *err)
{
    const char *key;
    json_t *value;

    if (!json_is_object(options)) {
        error_set(err, -EINVAL, "a block node's options must be an object");
        return NULL;
    }
    if (depth >= NESTING_MAX) {
        error_set(err, -EINVAL, "block nodes are nested too deeply");
        return NULL;
    }
    json_t *out = json_object();
    if (!out) {
        error_oom(err);
        return NULL;
    }
    /* Objects first, so that "cache": {…} and "cache.direct" meet whatever their order. */
    json_object_foreach((json_t *)options, key, value) {
        if (!json_is_object(value))
            continue;
        json_t *inner = expand(value, depth + 1, err);
        if (!inner || put_dotted(out, key, inner, err) < 0)
            goto fail;
    }
    json_object_foreach((json_t *)options, key, value) {
        if (json_is_object(value))
            continue;
        if (put_dotted(out, key, json_deep_copy(value), err) < 0)
            goto fail;
    }
    return out;

fail:
    json_decref(out);
    return NULL;
}

int opts_init(struct opts *opts, const json_t *options, struct error *err)
{
    struct error why = { .code = -EINVAL };

    *opts = (struct opts){ .obj = expand(options, 0, &why) };
    if (!opts->obj) {
        if (err)
            *err = why;
        return why.code;
    }
    const char *name = json_string_value(json_object_get(opts->obj, "node-name"));
    snprintf(opts->name, sizeof opts->name, "%s", name ? name : "");
    return 0;
}

void opts_fini(struct opts *opts)
{
    json_decref(opts->obj);
    opts->obj = NULL;
}

static int bad_value(const struct opts *opts, const char *key, const char *want,
                     struct error *err)
{
    return error_set(err, -EINVAL, "block node '%s': option '%s' must be %s", opts->name, key,
                     want);
}

json_t *opts_take(struct opts *opts, const char *key)
{
    json_t *value = json_object_get(opts->obj, key);

    json_incref(value);
    json_object_del(opts->obj, key);
    return value;
}

static bool text_is(const char *text, const char *a, const char *b, const char *c)
{
    return !strcmp(text, a) || !strcmp(text, b) || !strcmp(text, c);
}

int opts_bool(struct opts *opts, const char *key, bool *value, struct error *err)
{
    json_t *v = opts_take(opts, key);
    const char *text = json_string_value(v);
    int r = 1;

    if (!v)
        return 0;
    if (json_is_boolean(v))
        *value = json_is_true(v);
    else if (text && text_is(text, "on", "true", "yes"))
        *value = true;
    else if (text && text_is(text, "off", "false", "no"))
        *value = false;
    else
        r = bad_value(opts, key, "'on' or 'off'", err);
    json_decref(v);
    return r;
}

static bool size_of_text(const char *text, uint64_t *ret_size)
{
    static const char units[] = "kmgt";
    char *end;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno)
        return false;
    if (*end) {
        const char *unit = strchr(units, *end | 0x20);
        if (!unit || end[1])
            return false;
        unsigned shift = 10 * (unsigned)(unit - units + 1);
        if (v > UINT64_MAX >> shift)
            return false;
        v <<= shift;
    }
    *ret_size = v;
    return true;
}

int opts_size(struct opts *opts, const char *key, uint64_t *value, struct error *err)
{
    json_t *v = opts_take(opts, key);
    const char *text = json_string_value(v);
    int r = 1;

    if (!v)
        return 0;
    if (json_is_integer(v) && json_integer_value(v) >= 0)
        *value = json_integer_value(v);
    else if (!text || !size_of_text(text, value))
        r = bad_value(opts, key, "a number of bytes", err);
    json_decref(v);
    return r;
}

int opts_text(struct opts *opts, const char *key, char **ret_text, struct error *err)
{
    json_t *v = opts_take(opts, key);
    int r = 1;

    if (!v)
        return 0;
    if (!json_is_string(v) || json_string_length(v) != strlen(json_string_value(v)))
        r = bad_value(opts, key, "text", err);
    else if (!(*ret_text = strdup(json_string_value(v))))
        r = error_oom(err);
    json_decref(v);
    return r;
}

int opts_choice(struct opts *opts, const char *key, const char *const *choices, int *value,
                struct error *err)
{
    json_t *v = opts_take(opts, key);
    char want[128] = "one of";

    if (!v)
        return 0;
    /* JSON's booleans stand for on and off where these are among the choices. */
    const char *text = json_is_boolean(v) ? json_is_true(v) ? "on" : "off"
                                          : json_string_value(v);
    for (int i = 0; choices[i]; i++) {
        if (text && !strcmp(text, choices[i])) {
            *value = i;
            json_decref(v);
            return 1;
        }
        size_t used = strlen(want);
        snprintf(want + used, sizeof want - used, "%s '%s'", i ? "," : "", choices[i]);
    }
    json_decref(v);
    return bad_value(opts, key, want, err);
}

int opts_common(struct opts *opts, struct inherit *common, struct error *err)
{
    static const char *const discards[] = { "ignore", "off", "unmap", "on", NULL };
    int r, discard = common->discard ? 2 : 0;

    if ((r = opts_bool(opts, "read-only", &common->read_only, err)) < 0 ||
        (r = opts_bool(opts, "auto-read-only", &common->auto_read_only, err)) < 0 ||
        (r = opts_choice(opts, "discard", discards, &discard, err)) < 0)
        return r;
    common->discard = discard >= 2;

    json_t *cache = opts_take(opts, "cache");
    if (!cache)
        return 0;
    if (!json_is_object(cache)) {
        json_decref(cache);
        return bad_value(opts, "cache", "an object with 'direct' and 'no-flush'", err);
    }
    struct opts inner = { .obj = cache };
    snprintf(inner.name, sizeof inner.name, "%s", opts->name);
    if ((r = opts_bool(&inner, "direct", &common->direct, err)) >= 0 &&
        (r = opts_bool(&inner, "no-flush", &common->no_flush, err)) >= 0)
        r = opts_finish(&inner, err);
    opts_fini(&inner);
    return r < 0 ? r : 0;
}

int opts_finish(struct opts *opts, struct error *err)
{
    const char *key = json_object_iter_key(json_object_iter(opts->obj));

    if (!key)
        return 0;
    return error_set(err, -EINVAL, "block node '%s': unknown option '%s'", opts->name, key);
}
