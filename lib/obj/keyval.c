/* SPDX-License-Identifier: Apache-2.0 */
#include "obj/keyval.h"

#include <errno.h>
#include <string.h>

enum { TEXT_MAX = 1 << 20, DEPTH_MAX = 32, KEY_MAX = 128 };

/* Copies up to a comma that is not doubled. Returns where the next part starts, or NULL. */
static const char *take_value(const char *at, char *out)
{
    for (; *at; at++) {
        if (*at == ',') {
            if (at[1] != ',') {
                *out = 0;
                return at + 1;
            }
            at++;
        }
        *out++ = *at;
    }
    *out = 0;
    return NULL;
}

/* Finds or makes the object that the dots in front of the last part of key lead to. */
static int descend(json_t *root, const char *key, const char *what, json_t **ret_object,
                   const char **ret_last, struct error *err)
{
    char part[KEY_MAX];
    const char *dot;

    for (int depth = 0; (dot = strchr(key, '.')); key = dot + 1) {
        size_t len = dot - key;
        if (depth++ >= DEPTH_MAX || len == 0 || len >= sizeof part)
            return error_set(err, -EINVAL, "%s: bad option name '%.80s'", what, key);
        memcpy(part, key, len);
        part[len] = 0;
        json_t *next = json_object_get(root, part);
        if (!next) {
            next = json_object();
            if (!next || json_object_set_new(root, part, next) < 0)
                return error_set(err, -EINVAL, "%s: bad option name '%.80s'", what, key);
        } else if (!json_is_object(next)) {
            return error_set(err, -EINVAL, "%s: '%s' is given both as a value and with parts",
                             what, part);
        }
        root = next;
    }
    *ret_object = root;
    *ret_last = key;
    return 0;
}

static int set_value(json_t *root, const char *key, const char *value, const char *what,
                     struct error *err)
{
    json_t *object;
    const char *last;

    if (!*key || strlen(key) >= KEY_MAX)
        return error_set(err, -EINVAL, "%s: bad option name '%.80s'", what, key);
    int r = descend(root, key, what, &object, &last, err);
    if (r < 0)
        return r;
    if (!*last)
        return error_set(err, -EINVAL, "%s: bad option name '%.80s'", what, key);
    if (json_object_get(object, last))
        return error_set(err, -EINVAL, "%s: '%s' is given twice", what, key);
    json_t *v = json_string(value);
    if (!v || json_object_set_new(object, last, v) < 0)
        return error_set(err, -EINVAL, "%s: '%s' is not valid UTF-8", what, key);
    return 0;
}

static int parse_json(const char *text, const char *what, json_t **ret_object, struct error *err)
{
    json_error_t jerr;

    json_t *v = json_loads(text, JSON_REJECT_DUPLICATES, &jerr);
    if (!v)
        return error_set(err, -EINVAL, "%s: bad JSON at column %d: %s", what, jerr.column,
                         jerr.text);
    if (!json_is_object(v)) {
        json_decref(v);
        return error_set(err, -EINVAL, "%s: a JSON object is wanted", what);
    }
    *ret_object = v;
    return 0;
}

int keyval_parse(const char *text, const char *implied_key, const char *what,
                 json_t **ret_object, struct error *err)
{
    size_t len = strnlen(text, TEXT_MAX + 1);

    if (len > TEXT_MAX)
        return error_set(err, -EINVAL, "%s: the text is too long", what);
    if (text[0] == '{')
        return parse_json(text, what, ret_object, err);

    json_t *root = json_object();
    AUTO_FREE char *part = malloc(len + 1);
    int r = root && part ? 0 : error_oom(err);

    for (const char *at = text; r == 0 && at && *at;) {
        bool first = at == text;
        const char *eq = at + strcspn(at, "=,");

        if (*eq == '=' ) {
            char key[KEY_MAX];
            size_t key_len = eq - at;
            if (key_len >= sizeof key) {
                r = error_set(err, -EINVAL, "%s: bad option name '%.80s'", what, at);
                break;
            }
            memcpy(key, at, key_len);
            key[key_len] = 0;
            at = take_value(eq + 1, part);
            r = set_value(root, key, part, what, err);
        } else {
            at = take_value(at, part);
            if (first && implied_key)
                r = set_value(root, implied_key, part, what, err);
            else
                r = error_set(err, -EINVAL, "%s: '%.80s' is not of the form name=value", what,
                              part);
        }
    }
    if (r < 0) {
        json_decref(root);
        return r;
    }
    *ret_object = root;
    return 0;
}
