/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command lines in QEMU's manner: -option value, --option value, --option=value. A program has a
 * table of options; help is made from it.
 */
#ifndef COMMON_OPTIONS_H
#define COMMON_OPTIONS_H

#include "base/error.h"

struct option_spec {
    const char *name;       /* "blockdev", without dashes */
    const char *alias;      /* another name for it; NULL */
    const char *arg;        /* what follows, as help shows it; NULL: nothing follows */
    const char *help;       /* may have several lines; NULL: not shown */
    bool once;              /* a second one is an error */
    /* value is NULL for an option without one; it lives as long as argv. */
    int (*take)(void *opaque, const char *value, struct error *err);
};

/*
 * Calls take for each option and positional (with its index, from 0) for what has no dash, in
 * order; "--" ends options. Stops at the first failure, whose text begins with the option. specs ends with
 * a NULL name. No side effects of its own.
 */
typedef int option_positional_fn(void *opaque, unsigned index, const char *value,
                                 struct error *err);
int options_parse(const struct option_spec *specs, int argc, char *const argv[],
                  option_positional_fn *positional, void *opaque, struct error *err) MUST_CHECK;

/* Prints usage (a line or more, as it is) and the options to standard output. */
void options_help(const char *usage, const struct option_spec *specs);

#endif
