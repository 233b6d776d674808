/* SPDX-License-Identifier: Apache-2.0 */
/* -chardev, -serial, -qmp: where characters come from and go to. */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct chardev_config *find_chardev(const struct config *c, const char *id)
{
    for (unsigned i = 0; i < c->nchardevs; i++)
        if (c->chardevs[i].id && !strcmp(c->chardevs[i].id, id))
            return &c->chardevs[i];
    return NULL;
}

static int check_backend(json_t *options, struct error *err)
{
    static const char *const names[] = { "null", "stdio", "file", "pty", "socket", NULL };
    const char *backend;

    int r = options_string(options, "backend", &backend, err);
    if (r < 0)
        return r;
    if (!backend)
        return error_set(err, -EINVAL, "the back-end is missing");
    for (const char *const *n = names; *n; n++)
        if (!strcmp(*n, backend))
            return 0;
    return error_set(err, -EINVAL, "there is no character back-end '%.80s', only null, stdio, file, "
                                   "pty and socket", backend);
}

int opt_chardev(void *opaque, const char *arg, struct error *err)
{
    struct config *c = opaque;
    struct chardev_config *chr = add_chardev(c, "chardev", arg);
    char *id = NULL;

    if (!chr)
        return error_set(err, -E2BIG, "no room for another chardev");
    int r = text_parse(arg, "backend", &chr->options, err);
    if (r == 0)
        r = check_backend(chr->options, err);
    if (r == 0)
        r = options_take(chr->options, "id", true, &id, err);
    if (r == 0)
        r = id_check(id, err);
    if (r == 0 && find_chardev(c, id))
        r = error_set(err, -EINVAL, "the id '%s' is used twice", id);
    chr->id = id;
    return r;
}

/* "KIND:PATH[,more]" as options of the back-end. */
static int serial_path(const char *backend, const char *rest, json_t **ret_options,
                       struct error *err)
{
    int r = text_parse(rest, "path", ret_options, err);
    if (r == 0 && !json_object_get(*ret_options, "path"))
        r = error_set(err, -EINVAL, "the path is missing");
    if (r == 0)
        json_object_set_new(*ret_options, "backend", json_string(backend));
    return r;
}

static int serial_options(const char *arg, json_t **ret_options, struct error *err)
{
    if (!strcmp(arg, "stdio"))
        *ret_options = json_pack("{s:s}", "backend", "stdio");
    else if (!strcmp(arg, "mon:stdio"))
        *ret_options = json_pack("{s:s, s:s}", "backend", "stdio", "mux", "on");
    else if (!strcmp(arg, "pty"))
        *ret_options = json_pack("{s:s}", "backend", "pty");
    else if (!strcmp(arg, "null"))
        *ret_options = json_pack("{s:s}", "backend", "null");
    else if (!strncmp(arg, "file:", 5))
        return serial_path("file", arg + 5, ret_options, err);
    else if (!strncmp(arg, "unix:", 5))
        return serial_path("socket", arg + 5, ret_options, err);
    else
        return error_set(err, -EINVAL, "the serial port can be none, null, stdio, mon:stdio, pty, "
                                       "file:PATH, unix:PATH or chardev:ID");
    return *ret_options ? 0 : error_oom(err);
}

int opt_serial(void *opaque, const char *arg, struct error *err)
{
    struct config *c = opaque;
    char id[16];

    if (c->nserials == CONFIG_SERIALS_MAX)
        return error_set(err, -EINVAL, "there are only %d serial ports", CONFIG_SERIALS_MAX);
    int *slot = &c->serials[c->nserials];
    *slot = -1;
    if (!strncmp(arg, "chardev:", 8)) {
        struct chardev_config *chr = find_chardev(c, arg + 8);
        if (!chr)
            return error_set(err, -EINVAL, "there is no chardev '%.80s'", arg + 8);
        if (chr->used)
            return error_set(err, -EINVAL, "the chardev '%s' is in use already", chr->id);
        chr->used = true;
        *slot = chr - c->chardevs;
    } else if (strcmp(arg, "none")) {
        struct chardev_config *chr = add_chardev(c, "serial", arg);
        if (!chr)
            return error_set(err, -E2BIG, "no room for another chardev");
        int r = serial_options(arg, &chr->options, err);
        if (r < 0)
            return r;
        snprintf(id, sizeof id, "serial%u", c->nserials);
        if (find_chardev(c, id))
            return error_set(err, -EINVAL, "the id '%s' is taken by a -chardev", id);
        r = set_copy(&chr->id, id, err);
        if (r < 0)
            return r;
        chr->used = true;
        *slot = c->nchardevs - 1;
    }
    c->nserials++;
    return 0;
}

int opt_qmp(void *opaque, const char *arg, struct error *err)
{
    struct config *c = opaque;
    if (c->nmonitors == CONFIG_MONITORS_MAX)
        return error_set(err, -EINVAL, "there can be only %d monitors", CONFIG_MONITORS_MAX);
    struct monitor_spec *spec = &c->monitors[c->nmonitors];
    int r = monitor_spec_parse(arg, spec, err);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < c->nmonitors; i++)
        if (spec->server && c->monitors[i].server && !strcmp(spec->path, c->monitors[i].path))
            return error_set(err, -EINVAL, "the path is used twice");
    c->nmonitors++;
    return 0;
}
