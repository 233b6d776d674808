/* SPDX-License-Identifier: Apache-2.0 */
/* Control's half: options become open descriptors and a description of them. */
#include "chardev/chardev.h"

#include "base/fd.h"
#include "obj/prop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>

struct opened {
    int *fds;
    unsigned nfds;
    json_t *desc;
};

static int give(struct opened *o, int fd, const char *key, struct error *err)
{
    if (fd < 0)
        return error_set(err, fd, "cannot get a descriptor");
    o->fds[o->nfds] = fd;
    return json_object_set_new(o->desc, key, json_integer(o->nfds++)) < 0 ? error_oom(err) : 0;
}

static int get_bool(const json_t *options, const char *key, bool def, bool *ret, struct error *err)
{
    const json_t *v = json_object_get(options, key);

    *ret = def;
    return v ? value_to_bool(v, key, ret, err) : 0;
}

static int get_path(const json_t *options, const char **ret_path, struct error *err)
{
    const char *path = json_string_value(json_object_get(options, "path"));

    if (!path || !*path)
        return error_set(err, -EINVAL, "'path' is missing");
    *ret_path = path;
    return 0;
}

static int check_keys(const json_t *options, const char *const *allowed, struct error *err)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)options, key, value) {
        bool known = !strcmp(key, "backend") || !strcmp(key, "id");
        for (const char *const *a = allowed; *a && !known; a++)
            known = !strcmp(*a, key);
        if (!known)
            return error_set(err, -EINVAL, "this back-end has no option '%.80s'", key);
    }
    return 0;
}

/*
 * A descriptor for the same thing with flags of its own, so that making it non-blocking does not
 * change what the shell or our standard error sees. Regular files keep their position, sockets
 * cannot be opened again: these are duplicated.
 */
static int own_descriptor(int fd, int access)
{
    char path[32];
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) && !S_ISSOCK(st.st_mode)) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        int own = open(path, access | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        if (own >= 0)
            return own;
    }
    int dup_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return dup_fd < 0 ? -errno : dup_fd;
}

static int open_stdio(const json_t *options, struct opened *o, struct error *err)
{
    static const char *const keys[] = { "mux", "signal", NULL };
    bool mux, sig;
    int r = check_keys(options, keys, err);

    if (r == 0)
        r = get_bool(options, "mux", false, &mux, err);
    if (r == 0)
        r = get_bool(options, "signal", true, &sig, err);
    if (r == 0)
        r = give(o, own_descriptor(STDIN_FILENO, O_RDONLY), "in", err);
    if (r == 0)
        r = give(o, own_descriptor(STDOUT_FILENO, O_WRONLY), "out", err);
    if (r == 0 && mux)
        json_object_set_new(o->desc, "mux", json_true());
    return r;
}

static int open_file(const json_t *options, struct opened *o, struct error *err)
{
    static const char *const keys[] = { "path", "append", NULL };
    const char *path;
    bool append;
    int r = check_keys(options, keys, err);

    if (r == 0)
        r = get_path(options, &path, err);
    if (r == 0)
        r = get_bool(options, "append", false, &append, err);
    if (r < 0)
        return r;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | (append ? O_APPEND : O_TRUNC),
                  0666);
    if (fd < 0)
        return error_set(err, -errno, "cannot open '%s' for writing", path);
    json_object_set_new(o->desc, "name", json_string(path));
    return give(o, fd, "out", err);
}

static int open_pty(const json_t *options, struct opened *o, struct error *err)
{
    static const char *const keys[] = { NULL };
    char name[64];
    struct termios t;
    int r = check_keys(options, keys, err);

    if (r < 0)
        return r;
    AUTO_FD int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || grantpt(fd) < 0 || unlockpt(fd) < 0 || ptsname_r(fd, name, sizeof name) != 0)
        return error_set(err, -errno, "cannot make a pseudo-terminal");
    AUTO_FD int other = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (other < 0 || tcgetattr(other, &t) < 0)
        return error_set(err, -errno, "cannot open '%s'", name);
    cfmakeraw(&t);
    if (tcsetattr(other, TCSANOW, &t) < 0)
        return error_set(err, -errno, "cannot set up '%s'", name);

    json_object_set_new(o->desc, "name", json_string(name));
    json_object_set_new(o->desc, "lossy", json_true());
    r = give(o, TAKE_FD(fd), "in", err);
    if (r == 0)
        r = json_object_set_new(o->desc, "out", json_integer(o->nfds - 1)) < 0 ? error_oom(err) : 0;
    return r < 0 ? r : give(o, TAKE_FD(other), "keep", err);
}

/* A socket left behind by a run that was killed is replaced, one that answers is not. */
static int bind_path(int fd, const struct sockaddr_un *sa, struct error *err)
{
    if (bind(fd, (const struct sockaddr *)sa, sizeof *sa) == 0)
        return 0;
    if (errno != EADDRINUSE)
        return error_set(err, -errno, "cannot make the socket '%s'", sa->sun_path);

    struct stat st;
    AUTO_FD int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool stale = probe >= 0 && stat(sa->sun_path, &st) == 0 && S_ISSOCK(st.st_mode) &&
                 connect(probe, (const struct sockaddr *)sa, sizeof *sa) < 0 &&
                 errno == ECONNREFUSED;
    if (!stale)
        return error_set(err, -EADDRINUSE, "cannot make the socket '%s'", sa->sun_path);
    if (unlink(sa->sun_path) < 0 || bind(fd, (const struct sockaddr *)sa, sizeof *sa) < 0)
        return error_set(err, -errno, "cannot make the socket '%s'", sa->sun_path);
    return 0;
}

static int open_socket(const json_t *options, struct opened *o, struct error *err)
{
    static const char *const keys[] = { "path", "server", "wait", NULL };
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    const char *path;
    bool server, wait;
    int r = check_keys(options, keys, err);

    if (r == 0)
        r = get_path(options, &path, err);
    if (r == 0)
        r = get_bool(options, "server", false, &server, err);
    if (r == 0)
        r = get_bool(options, "wait", true, &wait, err);
    if (r < 0)
        return r;
    if (strlen(path) >= sizeof sa.sun_path)
        return error_set(err, -ENAMETOOLONG, "the socket path '%.80s…' is too long", path);
    strcpy(sa.sun_path, path);

    AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set(err, -errno, "cannot make a socket");
    json_object_set_new(o->desc, "name", json_string(path));
    if (!server) {
        if (connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0)
            return error_set(err, -errno, "cannot connect to '%s'", path);
        r = give(o, TAKE_FD(fd), "in", err);
        return r < 0 || json_object_set_new(o->desc, "out", json_integer(o->nfds - 1)) == 0
                   ? r : error_oom(err);
    }
    r = bind_path(fd, &sa, err);
    if (r < 0)
        return r;
    if (listen(fd, 1) < 0)
        return error_set(err, -errno, "cannot listen on '%s'", path);
    json_object_set_new(o->desc, "kind", json_string("server"));
    int listener = fd;
    r = give(o, TAKE_FD(fd), "listen", err);
    if (r < 0 || !wait)
        return r;
    int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0)
        return error_set(err, -errno, "nobody could connect to '%s'", path);
    r = give(o, client, "in", err);
    return r < 0 || json_object_set_new(o->desc, "out", json_integer(o->nfds - 1)) == 0
               ? r : error_oom(err);
}

static int open_null(const json_t *options, struct opened *o, struct error *err)
{
    static const char *const keys[] = { NULL };

    json_object_set_new(o->desc, "kind", json_string("null"));
    return check_keys(options, keys, err);
}

static const struct {
    const char *name;
    int (*open)(const json_t *options, struct opened *o, struct error *err);
} backends[] = {
    { "null", open_null }, { "stdio", open_stdio }, { "file", open_file }, { "pty", open_pty },
    { "socket", open_socket },
};

int chardev_open(const json_t *options, json_t **ret_desc, int ret_fds[CHARDEV_FDS_MAX],
                 unsigned *ret_nfds, struct error *err)
{
    const char *name = json_string_value(json_object_get(options, "backend"));
    struct opened o = { .fds = ret_fds };
    unsigned i = 0;

    if (!name)
        return error_set(err, -EINVAL, "the back-end is missing");
    while (i < ARRAY_SIZE(backends) && strcmp(backends[i].name, name))
        i++;
    if (i == ARRAY_SIZE(backends))
        return error_set(err, -EINVAL, "there is no character back-end '%.80s'", name);
    o.desc = json_pack("{s:s, s:b, s:s}", "kind", "stream", "mux", 0, "name", name);
    if (!o.desc)
        return error_oom(err);
    int r = backends[i].open(options, &o, err);
    if (r < 0) {
        while (o.nfds)
            close(o.fds[--o.nfds]);
        json_decref(o.desc);
        return r;
    }
    *ret_desc = o.desc;
    *ret_nfds = o.nfds;
    return 0;
}

json_t *chardev_desc_rebase(const json_t *desc, unsigned first)
{
    static const char *const keys[] = { "in", "out", "listen", "keep" };
    json_t *copy = json_deep_copy(desc);

    for (unsigned i = 0; copy && i < ARRAY_SIZE(keys); i++) {
        json_t *v = json_object_get(copy, keys[i]);
        if (v)
            json_integer_set(v, json_integer_value(v) + first);
    }
    return copy;
}

void chardev_forget(const json_t *options)
{
    const char *backend = json_string_value(json_object_get(options, "backend"));
    const char *path = json_string_value(json_object_get(options, "path"));
    bool server = false;
    struct error err;

    if (backend && path && !strcmp(backend, "socket") &&
        get_bool(options, "server", false, &server, &err) == 0 && server)
        unlink(path);
}
