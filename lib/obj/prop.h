/* SPDX-License-Identifier: Apache-2.0 */
/* Typed properties: what a class lets the user set, where it goes, and within which bounds. */
#ifndef OBJ_PROP_H
#define OBJ_PROP_H

#include "base/error.h"

#include <jansson.h>

enum prop_type {
    PROP_T_BOOL,        /* bool; on/off/yes/no/true/false */
    PROP_T_UINT,        /* uint8_t … uint64_t by size; decimal or 0x… */
    PROP_T_INT,         /* int32_t or int64_t by size */
    PROP_T_SIZE,        /* uint64_t bytes; 4k, 1M, 2G */
    PROP_T_STRING,      /* char *, owned by the object */
    PROP_T_ENUM,        /* int: index into names */
};

struct prop {
    const char *name, *help;
    enum prop_type type;
    size_t offset, size;
    uint64_t min, max;          /* UINT and SIZE, inclusive; INT: as int64_t */
    uint64_t def;               /* number, bool or index; INT: as int64_t */
    const char *def_string;     /* STRING; NULL: NULL */
    const char *const *names;   /* ENUM, NULL-terminated */
};

#define PROP_FIELD_(s, f) .offset = offsetof(s, f), .size = sizeof(((s *)0)->f)
#define PROP_BOOL(n, s, f, d, h) \
    { .name = n, .type = PROP_T_BOOL, PROP_FIELD_(s, f), .def = d, .help = h }
#define PROP_UINT(n, s, f, lo, hi, d, h) \
    { .name = n, .type = PROP_T_UINT, PROP_FIELD_(s, f), .min = lo, .max = hi, .def = d, .help = h }
#define PROP_INT(n, s, f, lo, hi, d, h) \
    { .name = n, .type = PROP_T_INT, PROP_FIELD_(s, f), .min = (uint64_t)(int64_t)(lo), \
      .max = (uint64_t)(int64_t)(hi), .def = (uint64_t)(int64_t)(d), .help = h }
#define PROP_SIZE(n, s, f, lo, hi, d, h) \
    { .name = n, .type = PROP_T_SIZE, PROP_FIELD_(s, f), .min = lo, .max = hi, .def = d, .help = h }
#define PROP_STRING(n, s, f, d, h) \
    { .name = n, .type = PROP_T_STRING, PROP_FIELD_(s, f), .def_string = d, .help = h }
#define PROP_ENUM(n, s, f, list, d, h) \
    { .name = n, .type = PROP_T_ENUM, PROP_FIELD_(s, f), .names = list, .def = d, .help = h }
#define PROP_END { .name = NULL }

/* part is the struct the offsets are into. value may be a string, as on a command line.
 * The text of an error names the property, what was given and what is allowed. */
int prop_set(const struct prop *prop, void *part, const json_t *value, struct error *err) MUST_CHECK;
json_t *prop_get(const struct prop *prop, const void *part);
int prop_set_default(const struct prop *prop, void *part) MUST_CHECK;
void prop_clear(const struct prop *prop, void *part);       /* frees a string */
json_t *prop_describe(const struct prop *prop);     /* {"name","type","description","default-value"} */

/* The same conversions, for options outside objects. what names the option in messages. */
int value_to_uint(const json_t *value, const char *what, uint64_t min, uint64_t max,
                  uint64_t *ret, struct error *err) MUST_CHECK;
int value_to_size(const json_t *value, const char *what, uint64_t min, uint64_t max,
                  uint64_t *ret, struct error *err) MUST_CHECK;
int value_to_bool(const json_t *value, const char *what, bool *ret, struct error *err) MUST_CHECK;
/* "4k", "512M", "1.5G"; a bare number counts in units of `unit` bytes (1, or 1 MiB for -m). */
int size_parse(const char *text, uint64_t unit, uint64_t *ret) MUST_CHECK;

#endif
