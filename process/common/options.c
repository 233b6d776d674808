/* SPDX-License-Identifier: Apache-2.0 */
#include "common/options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { OPTIONS_MAX = 64, HELP_COLUMN = 26 };

/* name may end in "=value". */
static bool is_named(const char *name, const char *text, size_t len)
{
    return name && strlen(name) == len && strncmp(name, text, len) == 0;
}

static const struct option_spec *find(const struct option_spec *specs, const char *text, size_t len)
{
    for (; specs->name; specs++)
        if (is_named(specs->name, text, len) || is_named(specs->alias, text, len))
            return specs;
    return NULL;
}

/* Puts "-device value: " in front, unless the text names the option already. */
static int blame(const struct option_spec *spec, const char *value, int r, struct error *err)
{
    size_t len = strlen(spec->name);

    if (err->text[0] == '-' && strncmp(err->text + 1, spec->name, len) == 0)
        return r;
    if (value)
        error_prefix(err, "-%s %.120s", spec->name, value);
    else
        error_prefix(err, "-%s", spec->name);
    return r;
}

/* One argument that begins with a dash. *i moves past a value that was used. */
static int take_option(const struct option_spec *specs, int argc, char *const argv[], int *i,
                       uint64_t *seen, void *opaque, struct error *err)
{
    const char *text = argv[*i] + (argv[*i][1] == '-' ? 2 : 1);
    const char *equals = strncmp(argv[*i], "--", 2) == 0 ? strchr(text, '=') : NULL;
    size_t len = equals ? (size_t)(equals - text) : strlen(text);
    const struct option_spec *spec = find(specs, text, len);
    const char *value = equals ? equals + 1 : NULL;

    if (!spec)
        return error_set(err, -EINVAL, "unknown option '%.80s'; -help lists all", argv[*i]);
    if (!spec->arg && value)
        return error_set(err, -EINVAL, "-%s takes no value", spec->name);
    if (spec->arg && !value) {
        if (*i + 1 >= argc)
            return error_set(err, -EINVAL, "-%s needs a value: -%s %s", spec->name, spec->name,
                             spec->arg);
        value = argv[++*i];
    }

    uint64_t bit = UINT64_C(1) << ((spec - specs) % OPTIONS_MAX);
    if (spec->once && *seen & bit)
        return error_set(err, -EINVAL, "-%s is given twice", spec->name);
    *seen |= bit;

    err->text[0] = '\0';
    int r = spec->take(opaque, value, err);
    return r < 0 ? blame(spec, value, r, err) : 0;
}

int options_parse(const struct option_spec *specs, int argc, char *const argv[],
                  option_positional_fn *positional, void *opaque, struct error *err)
{
    unsigned index = 0;
    uint64_t seen = 0;
    bool options_ended = false;

    for (int i = 1; i < argc; i++) {
        int r;
        if (!options_ended && strcmp(argv[i], "--") == 0) {
            options_ended = true;
            continue;
        }
        if (!options_ended && argv[i][0] == '-' && argv[i][1])
            r = take_option(specs, argc, argv, &i, &seen, opaque, err);
        else if (positional)
            r = positional(opaque, index++, argv[i], err);
        else
            r = error_set(err, -EINVAL, "'%.80s' is no option", argv[i]);
        if (r < 0)
            return r;
    }
    return 0;
}

static void print_option(const struct option_spec *spec)
{
    int n = printf("  -%s%s%s", spec->name, spec->arg ? " " : "", spec->arg ? spec->arg : "");

    if (n >= HELP_COLUMN) {
        printf("\n");
        n = 0;
    }
    for (const char *line = spec->help; *line; n = 0) {
        size_t len = strcspn(line, "\n");
        printf("%*s%.*s\n", HELP_COLUMN - n, "", (int)len, line);
        line += len + (line[len] == '\n');
    }
}

void options_help(const char *usage, const struct option_spec *specs)
{
    printf("%s\n", usage);
    for (; specs->name; specs++)
        if (specs->help)
            print_option(specs);
}
