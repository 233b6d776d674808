/* SPDX-License-Identifier: Apache-2.0 */
/* Where clients come from: -qmp's text, listening sockets, connections, standard input. */
#include "monitor/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* ---- the text ---- */

static int on_off(const char *value, size_t len, bool *ret)
{
    bool on = len == 2 && !memcmp(value, "on", 2), off = len == 3 && !memcmp(value, "off", 3);

    *ret = on;
    return on || off ? 0 : -EINVAL;
}

static int spec_option(struct monitor_spec *spec, const char *at, size_t len, struct error *err)
{
    static const struct { const char *text; int server, wait; } plain[] = {
        { "server", 1, -1 }, { "nowait", -1, 0 }, { "wait", -1, 1 } };
    const char *eq = memchr(at, '=', len);
    size_t name = eq ? (size_t)(eq - at) : len;
    bool on;

    for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
        if (strlen(plain[i].text) != name || memcmp(plain[i].text, at, name))
            continue;
        if (eq && (plain[i].text[0] == 'n' || on_off(eq + 1, len - name - 1, &on) < 0))
            return error_set(err, -EINVAL, "'%.*s' must be on or off", (int)name, at);
        if (!eq)
            on = plain[i].server == 1 || plain[i].wait == 1;
        *(plain[i].server >= 0 ? &spec->server : &spec->wait) = on;
        return 0;
    }
    return error_set(err, -EINVAL, "unknown option '%.*s'", (int)MIN(name, (size_t)80), at);
}

int monitor_spec_parse(const char *text, struct monitor_spec *ret_spec, struct error *err)
{
    struct monitor_spec spec = { .wait = true };

    if (!strcmp(text, "stdio")) {
        *ret_spec = (struct monitor_spec){ .is_stdio = true };
        return 0;
    }
    if (strncmp(text, "unix:", 5))
        return error_set(err, -EINVAL, "'%.80s' is neither stdio nor unix:PATH[,server=on][,wait=off]",
                         text);
    text += 5;
    size_t len = strcspn(text, ",");
    if (len == 0)
        return error_set(err, -EINVAL, "the socket's path is missing");
    if (len >= sizeof spec.path)
        return error_set(err, -EINVAL, "the socket's path is longer than %zu bytes",
                         sizeof spec.path - 1);
    memcpy(spec.path, text, len);
    while (text[len] == ',') {
        text += len + 1;
        len = strcspn(text, ",");
        int r = spec_option(&spec, text, len, err);
        if (r < 0)
            return r;
    }
    if (!spec.server)
        spec.wait = false;
    *ret_spec = spec;
    return 0;
}

/* ---- sockets ---- */

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    return a;
}

static int connect_to(const char *path)
{
    struct sockaddr_un a = address_of(path);

    AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
        return -errno;
    return TAKE_FD(fd);
}

/* Removes a socket that nobody listens on any more. Anything else is left alone. */
static int remove_stale(const char *path, struct error *err)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return error_set(err, -EEXIST, "cannot listen on '%s'", path);
    int fd = connect_to(path);
    if (fd >= 0) {
        close(fd);
        return error_set(err, -EADDRINUSE, "cannot listen on '%s'", path);
    }
    if (fd == -ECONNREFUSED)
        unlink(path);
    return 0;
}

static int listen_on(const char *path, int *ret_fd, struct error *err)
{
    struct sockaddr_un a = address_of(path);

    int r = remove_stale(path, err);
    if (r < 0)
        return r;
    AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0)
        return error_set(err, -errno, "cannot listen on '%s'", path);
    if (listen(fd, 8) < 0) {
        r = error_set(err, -errno, "cannot listen on '%s'", path);
        unlink(path);
        return r;
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* One client at a time: the next stays in the kernel's queue. */
static void on_connection(void *opaque, uint32_t events)
{
    struct port *p = opaque;
    struct error err;

    if (p->client)
        return;
    int fd = accept4(p->fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0 && client_new(p->monitor, p, fd, fd, &err) == 0)
        watch_set_events(p->watch, 0);
}

void port_client_gone(struct port *p)
{
    p->client = NULL;
    if (p->watch)
        watch_set_events(p->watch, EPOLLIN);
}

void port_free(struct port *p)
{
    if (p->client)
        p->client->port = NULL;
    list_del(&p->link);
    watch_free(p->watch);
    if (p->fd >= 0)
        close(p->fd);
    if (p->path[0])
        unlink(p->path);
    free(p);
}

static int port_new(struct monitor *m, const struct monitor_spec *spec, struct error *err)
{
    struct port *p = calloc(1, sizeof *p);
    if (!p)
        return error_oom(err);
    p->monitor = m;
    p->fd = -1;
    list_add_tail(&m->ports, &p->link);

    int r = listen_on(spec->path, &p->fd, err);
    if (r == 0) {
        snprintf(p->path, sizeof p->path, "%s", spec->path);
        r = watch_new(m->loop, p->fd, EPOLLIN, on_connection, p, &p->watch);
        if (r < 0)
            error_set(err, r, "cannot watch '%s'", spec->path);
    }
    if (r < 0)
        port_free(p);
    return r;
}

int monitor_attach(struct monitor *m, int in_fd, int out_fd, struct error *err)
{
    return client_new(m, NULL, in_fd, out_fd, err);
}

int monitor_open(struct monitor *m, const struct monitor_spec *spec, struct error *err)
{
    if (spec->server)
        return port_new(m, spec, err);
    if (spec->is_stdio) {
        int in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
        int out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
        if (in < 0 || out < 0) {
            int r = -errno;
            if (in >= 0)
                close(in);
            return error_set(err, r, "cannot use standard input and output");
        }
        return monitor_attach(m, in, out, err);
    }
    int fd = connect_to(spec->path);
    if (fd < 0)
        return error_set(err, fd, "cannot connect to '%s'", spec->path);
    return monitor_attach(m, fd, fd, err);
}
