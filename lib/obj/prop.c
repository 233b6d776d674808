/* SPDX-License-Identifier: Apache-2.0 */
#include "obj/prop.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int parse_uint(const char *text, uint64_t *ret)
{
    char *end;

    if (!isdigit((unsigned char)text[0]))
        return -EINVAL;
    errno = 0;
    uint64_t v = strtoull(text, &end, text[0] == '0' && (text[1] | 0x20) == 'x' ? 16 : 10);
    if (errno || *end)
        return errno == ERANGE ? -ERANGE : -EINVAL;
    *ret = v;
    return 0;
}

static int parse_int(const char *text, int64_t *ret)
{
    uint64_t v;
    bool negative = text[0] == '-';

    int r = parse_uint(text + negative, &v);
    if (r < 0)
        return r;
    if (v > (uint64_t)INT64_MAX + negative)
        return -ERANGE;
    *ret = negative ? (int64_t)(0 - v) : (int64_t)v;
    return 0;
}

int size_parse(const char *text, uint64_t unit, uint64_t *ret)
{
    static const char suffixes[] = "bkmgtpe";
    char *end;

    if (!isdigit((unsigned char)text[0]))
        return -EINVAL;
    errno = 0;
    uint64_t whole = strtoull(text, &end, text[0] == '0' && (text[1] | 0x20) == 'x' ? 16 : 10);
    if (errno)
        return -ERANGE;

    /* A fraction, in millionths: enough for what people type, and exact for .5 and .25. */
    uint64_t millionths = 0;
    if (*end == '.') {
        uint64_t scale = 100000;
        for (end++; isdigit((unsigned char)*end); end++, scale /= 10)
            millionths += (*end - '0') * scale;
    }
    if (*end) {
        const char *s = strchr(suffixes, tolower((unsigned char)*end));
        if (!s || end[1])
            return -EINVAL;
        unit = 1ull << (10 * (s - suffixes));
    } else if (millionths && unit == 1) {
        return -EINVAL;
    }
    if (ckd_mul(&whole, whole, unit) ||
        ckd_add(&whole, whole, (uint64_t)((unsigned __int128)unit * millionths / 1000000)))
        return -ERANGE;
    *ret = whole;
    return 0;
}

static int out_of_range(struct error *err, const char *what, uint64_t min, uint64_t max)
{
    return error_set(err, -EINVAL, "'%s' must be from %" PRIu64 " to %" PRIu64, what, min, max);
}

int value_to_uint(const json_t *value, const char *what, uint64_t min, uint64_t max,
                  uint64_t *ret, struct error *err)
{
    uint64_t v;
    int r = -EINVAL;

    if (json_is_integer(value)) {
        r = json_integer_value(value) < 0 ? -ERANGE : 0;
        v = json_integer_value(value);
    } else if (json_is_string(value)) {
        r = parse_uint(json_string_value(value), &v);
        if (r < 0 && json_string_value(value)[0] == '-')
            r = -ERANGE;
    }
    if (r == -EINVAL)
        return error_set(err, -EINVAL, "'%s' must be a number", what);
    if (r < 0 || v < min || v > max)
        return out_of_range(err, what, min, max);
    *ret = v;
    return 0;
}

static int value_to_int(const json_t *value, const char *what, int64_t min, int64_t max,
                        int64_t *ret, struct error *err)
{
    int64_t v = 0;
    int r = -EINVAL;

    if (json_is_integer(value)) {
        v = json_integer_value(value);
        r = 0;
    } else if (json_is_string(value)) {
        r = parse_int(json_string_value(value), &v);
    }
    if (r == -EINVAL)
        return error_set(err, -EINVAL, "'%s' must be a number", what);
    if (r < 0 || v < min || v > max)
        return error_set(err, -EINVAL, "'%s' must be from %" PRId64 " to %" PRId64, what, min,
                         max);
    *ret = v;
    return 0;
}

int value_to_size(const json_t *value, const char *what, uint64_t min, uint64_t max,
                  uint64_t *ret, struct error *err)
{
    uint64_t v = 0;
    int r = -EINVAL;

    if (json_is_integer(value)) {
        r = json_integer_value(value) < 0 ? -ERANGE : 0;
        v = json_integer_value(value);
    } else if (json_is_string(value)) {
        r = size_parse(json_string_value(value), 1, &v);
    }
    if (r == -EINVAL)
        return error_set(err, -EINVAL, "'%s' must be a size, such as 4096, 64k or 2G", what);
    if (r < 0 || v < min || v > max)
        return out_of_range(err, what, min, max);
    *ret = v;
    return 0;
}

int value_to_bool(const json_t *value, const char *what, bool *ret, struct error *err)
{
    static const char *const words[] = { "off", "on", "no", "yes", "false", "true", "n", "y" };

    if (json_is_boolean(value)) {
        *ret = json_is_true(value);
        return 0;
    }
    for (size_t i = 0; json_is_string(value) && i < ARRAY_SIZE(words); i++)
        if (!strcmp(json_string_value(value), words[i])) {
            *ret = i & 1;
            return 0;
        }
    return error_set(err, -EINVAL, "'%s' must be on or off", what);
}

static void store(void *at, size_t size, uint64_t v)
{
    switch (size) {
    case 1: *(uint8_t *)at = v; break;
    case 2: *(uint16_t *)at = v; break;
    case 4: *(uint32_t *)at = v; break;
    case 8: *(uint64_t *)at = v; break;
    }
}

static uint64_t fetch(const void *at, size_t size)
{
    switch (size) {
    case 1: return *(const uint8_t *)at;
    case 2: return *(const uint16_t *)at;
    case 4: return *(const uint32_t *)at;
    default: return *(const uint64_t *)at;
    }
}

static int set_string(void *at, const char *text)
{
    char *copy = text ? strdup(text) : NULL;
    if (text && !copy)
        return -ENOMEM;
    free(*(char **)at);
    *(char **)at = copy;
    return 0;
}

static int set_enum(const struct prop *prop, void *at, const json_t *value, struct error *err)
{
    char all[256] = "";

    for (int i = 0; prop->names[i]; i++) {
        if (json_is_string(value) && !strcmp(json_string_value(value), prop->names[i])) {
            store(at, prop->size, i);
            return 0;
        }
        size_t used = strlen(all);
        snprintf(all + used, sizeof all - used, "%s%s", i ? ", " : "", prop->names[i]);
    }
    return error_set(err, -EINVAL, "'%s' must be one of %s", prop->name, all);
}

int prop_set(const struct prop *prop, void *part, const json_t *value, struct error *err)
{
    void *at = (char *)part + prop->offset;
    uint64_t u;
    int64_t i;
    bool b;
    int r;

    switch (prop->type) {
    case PROP_T_BOOL:
        r = value_to_bool(value, prop->name, &b, err);
        if (r == 0)
            store(at, prop->size, b);
        return r;
    case PROP_T_UINT:
        r = value_to_uint(value, prop->name, prop->min, prop->max, &u, err);
        if (r == 0)
            store(at, prop->size, u);
        return r;
    case PROP_T_INT:
        r = value_to_int(value, prop->name, prop->min, prop->max, &i, err);
        if (r == 0)
            store(at, prop->size, i);
        return r;
    case PROP_T_SIZE:
        r = value_to_size(value, prop->name, prop->min, prop->max, &u, err);
        if (r == 0)
            store(at, prop->size, u);
        return r;
    case PROP_T_STRING:
        if (!json_is_string(value))
            return error_set(err, -EINVAL, "'%s' must be a string", prop->name);
        return set_string(at, json_string_value(value)) < 0 ? error_oom(err) : 0;
    case PROP_T_ENUM:
        return set_enum(prop, at, value, err);
    }
    return -EINVAL;
}

/* Sign-extends what a PROP_T_INT of 4 bytes holds. */
static int64_t fetch_int(const void *at, size_t size)
{
    return size == 4 ? *(const int32_t *)at : (int64_t)fetch(at, size);
}

json_t *prop_get(const struct prop *prop, const void *part)
{
    const void *at = (const char *)part + prop->offset;

    switch (prop->type) {
    case PROP_T_BOOL:   return json_boolean(fetch(at, prop->size));
    case PROP_T_UINT:
    case PROP_T_SIZE:   return json_integer(fetch(at, prop->size));
    case PROP_T_INT:    return json_integer(fetch_int(at, prop->size));
    case PROP_T_STRING: return json_string(*(char *const *)at ? *(char *const *)at : "");
    case PROP_T_ENUM:   return json_string(prop->names[fetch(at, prop->size)]);
    }
    return NULL;
}

int prop_set_default(const struct prop *prop, void *part)
{
    void *at = (char *)part + prop->offset;

    if (prop->type == PROP_T_STRING)
        return set_string(at, prop->def_string);
    store(at, prop->size, prop->def);
    return 0;
}

void prop_clear(const struct prop *prop, void *part)
{
    if (prop->type == PROP_T_STRING)
        set_string((char *)part + prop->offset, NULL);
}

json_t *prop_describe(const struct prop *prop)
{
    static const char *const types[] = { "bool", "uint", "int", "size", "str", "enum" };
    char type[16];

    snprintf(type, sizeof type, "%s", types[prop->type]);
    if (prop->type == PROP_T_UINT || prop->type == PROP_T_INT)
        snprintf(type, sizeof type, "%s%zu", types[prop->type], prop->size * 8);
    json_t *d = json_pack("{s:s, s:s, s:s}", "name", prop->name, "type", type, "description",
                          prop->help ? prop->help : "");
    if (prop->type == PROP_T_STRING) {
        if (prop->def_string)
            json_object_set_new(d, "default-value", json_string(prop->def_string));
    } else if (prop->type == PROP_T_ENUM) {
        json_object_set_new(d, "default-value", json_string(prop->names[prop->def]));
    } else if (prop->type == PROP_T_BOOL) {
        json_object_set_new(d, "default-value", json_boolean(prop->def));
    } else {
        json_object_set_new(d, "default-value", json_integer(prop->def));
    }
    return d;
}
