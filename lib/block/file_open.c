/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening image files: by the process that uses them, or on its behalf by one that may open
 * what the other may not (block_options_open_files).
 */
#include "block/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

int file_options_take(struct opts *opts, struct file_options *o, struct error *err)
{
    static const char *const lockings[] = { "auto", "on", "off", NULL };
    static const char *const aios[] = { "auto", "io_uring", "threads", NULL };
    int locking = 0, aio = 0, r;
    uint64_t fd_index = UINT64_MAX;

    o->fd_index = -1;
    if ((r = opts_text(opts, "filename", &o->filename, err)) < 0 ||
        (r = opts_size(opts, "fd", &fd_index, err)) < 0 ||
        (r = opts_choice(opts, "locking", lockings, &locking, err)) < 0 ||
        (r = opts_choice(opts, "aio", aios, &aio, err)) < 0)
        return r;
    if (!o->filename || !*o->filename)
        return error_set(err, -EINVAL, "block node '%s' needs the option 'filename'", opts->name);
    if (fd_index != UINT64_MAX) {
        if (fd_index > INT16_MAX)
            return error_set(err, -EINVAL, "block node '%s': option 'fd' is no descriptor's "
                             "index", opts->name);
        o->fd_index = fd_index;
    }
    o->locking = locking != 2;
    o->locking_must = locking == 1;
    o->aio = aio;
    return 0;
}

static int check_kind(int fd, bool host_device, const char *filename, struct error *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return error_set(err, -errno, "cannot look at disk image '%s'", filename);
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return error_set(err, -EINVAL, "disk image '%s' is neither a file nor a block device",
                         filename);
    if (host_device && !S_ISBLK(st.st_mode))
        return error_set(err, -EINVAL, "'%s' is not a block device", filename);
    return 0;
}

/* A process that was killed may hold its locks for some moments yet, while the kernel takes down
 * its io_uring; until then writes of its may still arrive. */
static int lock_patiently(int fd, bool writer, const char *filename, struct error *err)
{
    enum { TRIES = 10, PAUSE_US = 20000 };
    int r = 0;

    for (int i = 0; i < TRIES; i++) {
        if (i)
            usleep(PAUSE_US);
        r = file_lock(fd, writer, filename, err);
        if (r != -EAGAIN)
            break;
    }
    return r;
}

int file_open_locked(const struct file_options *o, bool *ret_read_only, struct error *err)
{
    /* O_NONBLOCK: a FIFO by that name must not hold us; it means nothing to what we accept. */
    int flags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (o->direct ? O_DIRECT : 0);
    bool read_only = o->read_only;

    AUTO_FD int fd = open(o->filename, flags | (read_only ? O_RDONLY : O_RDWR));
    if (fd < 0 && !read_only && o->auto_read_only &&
        (errno == EACCES || errno == EPERM || errno == EROFS)) {
        read_only = true;
        fd = open(o->filename, flags | O_RDONLY);
    }
    if (fd < 0 && errno == EINVAL && o->direct)
        return error_set(err, -EINVAL, "cannot open disk image '%s': its file system does not "
                         "know cache.direct", o->filename);
    if (fd < 0)
        return error_set(err, -errno, "cannot open disk image '%s'%s", o->filename,
                         read_only ? "" : " for writing");
    int r = check_kind(fd, o->host_device, o->filename, err);
    if (r < 0)
        return r;
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) < 0)
        return error_set(err, -errno, "cannot open disk image '%s'", o->filename);
    if (o->locking && (r = lock_patiently(fd, !read_only, o->filename, err)) < 0) {
        /* A file system without locks is no reason not to run, unless locks were asked for. */
        if (r == -EAGAIN || o->locking_must)
            return r;
    }
    *ret_read_only = read_only;
    return TAKE_FD(fd);
}

struct opening {
    int *fds;
    unsigned cap;
    unsigned *count;
    unsigned first;         /* those before are not ours to close */
};

/* node is the copy that will be returned. */
static int open_files_in(struct opening *to, json_t *node, struct inherit common,
                         struct error *err)
{
    struct file_options o = { 0 };
    struct opts opts;
    const char *key;
    json_t *inner;
    bool read_only;

    int r = opts_init(&opts, node, err);
    if (r < 0)
        return r;
    if ((r = opts_common(&opts, &common, err)) < 0)
        goto out;
    common.nested = true;
    json_object_foreach(node, key, inner) {
        if ((!strcmp(key, "file") || !strcmp(key, "backing")) && json_is_object(inner) &&
            (r = open_files_in(to, inner, common, err)) < 0)
            goto out;
    }
    const char *driver = json_string_value(json_object_get(node, "driver"));
    bool host_device = driver && !strcmp(driver, "host_device");
    if (!driver || (!host_device && strcmp(driver, "file")))
        goto out;

    if ((r = file_options_take(&opts, &o, err)) < 0)
        goto out;
    if (o.fd_index >= 0) {
        r = error_set(err, -EINVAL, "block node '%s': option 'fd' is not for users", opts.name);
        goto out;
    }
    if (*to->count >= to->cap) {
        r = error_set(err, -EINVAL, "too many disk images at once, %u at most", to->cap);
        goto out;
    }
    o.host_device = host_device;
    o.read_only = common.read_only;
    o.auto_read_only = common.auto_read_only;
    o.direct = common.direct;
    r = file_open_locked(&o, &read_only, err);
    if (r < 0)
        goto out;
    to->fds[*to->count] = r;
    r = json_object_set_new(node, "fd", json_integer(*to->count)) < 0 ? error_oom(err) : 0;
    ++*to->count;

out:
    free(o.filename);
    opts_fini(&opts);
    return r;
}

int block_options_open_files(const json_t *options, int *fds, unsigned cap, unsigned *count,
                             json_t **ret_options, struct error *err)
{
    struct opening to = { .fds = fds, .cap = cap, .count = count, .first = *count };
    struct opts opts;

    int r = opts_init(&opts, options, err);     /* for its copy with the dots expanded */
    if (r < 0)
        return r;
    r = open_files_in(&to, opts.obj, (struct inherit){ 0 }, err);
    if (r < 0) {
        while (*count > to.first)
            close(fds[--*count]);
        opts_fini(&opts);
        return r;
    }
    *ret_options = opts.obj;
    return 0;
}
