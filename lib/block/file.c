/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver "file" (also "host_device"): a regular file or block device. Transfers and flushes
 * go to io_uring where there is one; the rest, and what io_uring cannot do, to helper threads.
 *
 * With cache.direct the host wants offset, length and memory aligned. A request that is not goes
 * through an aligned copy; a write that covers blocks in part reads them first, alone on the node.
 */
#include "block/internal.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

enum { DIRECT_ALIGN_MAX = 4096, BOUNCE_MAX = 1024 * 1024, ZERO_CHUNK = 64 * 1024 };

struct file {
    int fd;
    bool is_device;
    bool ring;                  /* transfers go to io_uring */
    uint32_t align;             /* of direct I/O; 1 if none */
    unsigned writes;            /* in flight */
    bool alone;                 /* a write in parts of blocks is in flight */
    struct bio *held, **held_tail;      /* wait for the others, or for the one */
};

/* ---- Blocking; any thread ----------------------------------------------------------------- */

static bool aligned(const struct file *f, uint64_t offset, uint64_t len, const void *mem)
{
    return ((offset | len | (uintptr_t)mem) & (f->align - 1)) == 0;
}

/* A transfer through an aligned copy, in pieces; reads first what a write covers in part. */
static int bounce(const struct file *f, bool write, uint64_t offset, uint64_t len,
                  void (*copy)(void *opaque, uint64_t at, void *buf, uint64_t len), void *opaque,
                  bool fua)
{
    uint64_t room = MIN((uint64_t)BOUNCE_MAX, align_up(len, f->align) + f->align);
    char *buf = NULL;
    int r = 0;

    if (posix_memalign((void **)&buf, DIRECT_ALIGN_MAX, room))
        return -ENOMEM;
    for (uint64_t done = 0; done < len && r == 0;) {
        uint64_t start = align_down(offset + done, f->align);
        uint64_t head = offset + done - start;
        uint64_t n = MIN(len - done, room - head);
        uint64_t whole = align_up(head + n, f->align);
        if (!write || head || whole != head + n)
            r = fd_pread_zero(f->fd, buf, whole, start);
        if (r == 0) {
            copy(opaque, done, buf + head, n);
            if (write)
                r = fd_pwrite_full(f->fd, buf, whole, start, fua);
        }
        done += n;
    }
    free(buf);
    return r;
}

static void copy_to_mem(void *opaque, uint64_t at, void *buf, uint64_t len)
{
    memcpy((char *)opaque + at, buf, len);
}

static void copy_from_mem(void *opaque, uint64_t at, void *buf, uint64_t len)
{
    memcpy(buf, (const char *)opaque + at, len);
}

static void copy_to_bio(void *opaque, uint64_t at, void *buf, uint64_t len)
{
    struct bio *bio = opaque;
    iov_from_buf(bio->iov, bio->niov, bio->skip + at, buf, len);
}

static void copy_from_bio(void *opaque, uint64_t at, void *buf, uint64_t len)
{
    struct bio *bio = opaque;
    iov_to_buf(bio->iov, bio->niov, bio->skip + at, buf, len);
}

static int file_pread(struct block_node *node, uint64_t offset, void *buf, uint64_t len)
{
    struct file *f = node->self;

    if (aligned(f, offset, len, buf))
        return fd_pread_zero(f->fd, buf, len, offset);
    return bounce(f, false, offset, len, copy_to_mem, buf, false);
}

static int file_pwrite(struct block_node *node, uint64_t offset, const void *buf, uint64_t len,
                       bool fua)
{
    struct file *f = node->self;

    fua = fua && !node->no_flush;
    if (aligned(f, offset, len, buf))
        return fd_pwrite_full(f->fd, buf, len, offset, fua);
    return bounce(f, true, offset, len, copy_from_mem, (void *)buf, fua);
}

static int file_sync(struct block_node *node)
{
    struct file *f = node->self;
    return !node->no_flush && fdatasync(f->fd) < 0 ? -errno : 0;
}

static int write_zeros(struct block_node *node, uint64_t offset, uint64_t len)
{
    static const char zeros[ZERO_CHUNK] __attribute__((aligned(4096)));
    int r = 0;

    while (len && r == 0) {
        uint64_t n = MIN(len, (uint64_t)ZERO_CHUNK);
        r = file_pwrite(node, offset, zeros, n, false);
        offset += n;
        len -= n;
    }
    return r;
}

static int fallocate_retry(int fd, int mode, uint64_t offset, uint64_t len)
{
    while (fallocate(fd, mode, offset, len) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

static bool not_supported(int r)
{
    return r == -EOPNOTSUPP || r == -ENOTTY || r == -ENOSYS || r == -EINVAL || r == -EPERM;
}

static int file_zeroes(struct block_node *node, uint64_t offset, uint64_t len, bool unmap)
{
    struct file *f = node->self;
    int r;

    /* Both work on block devices too, as zeroing with and without unmapping. */
    if (unmap) {
        r = fallocate_retry(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, len);
        if (!not_supported(r))
            return r;
    }
    r = fallocate_retry(f->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, len);
    return not_supported(r) ? write_zeros(node, offset, len) : r;
}

/* A hint: that the host does not know it is no failure. */
static int file_discard(struct block_node *node, uint64_t offset, uint64_t len)
{
    struct file *f = node->self;
    int r;

    if (f->is_device) {
        uint64_t range[2] = { align_up(offset, 512), 0 };
        uint64_t end = align_down(offset + len, 512);
        if (end <= range[0])
            return 0;
        range[1] = end - range[0];
        r = ioctl(f->fd, BLKDISCARD, range) < 0 ? -errno : 0;
    } else {
        r = fallocate_retry(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, len);
    }
    return not_supported(r) ? 0 : r;
}

static int file_truncate(struct block_node *node, uint64_t size)
{
    struct file *f = node->self;

    if (f->is_device)
        return -ENOTSUP;
    return ftruncate(f->fd, size) < 0 ? -errno : 0;
}

static int file_length(struct block_node *node, uint64_t *ret_size)
{
    struct file *f = node->self;
    return fd_size(f->fd, ret_size);
}

static int transfer(struct file *f, struct bio *bio)
{
    while (bio->moved < bio->len) {
        uint64_t covered;
        int n = iov_slice(bio->iov, bio->niov, bio->skip + bio->moved, bio->len - bio->moved,
                          bio->parts, BIO_PARTS, &covered);
        ssize_t r = bio->op == BIO_READ
            ? preadv(f->fd, bio->parts, n, bio->offset + bio->moved)
            : pwritev2(f->fd, bio->parts, n, bio->offset + bio->moved,
                       bio->flags & BIO_FUA ? RWF_DSYNC : 0);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        if (r == 0 && bio->op == BIO_WRITE)
            return -EIO;
        if (r == 0) {
            iov_fill_zero(bio->iov, bio->niov, bio->skip + bio->moved, bio->len - bio->moved);
            return 0;
        }
        bio->moved += r;
    }
    return 0;
}

static bool bio_aligned(const struct file *f, const struct bio *bio)
{
    if (f->align == 1)
        return true;
    if ((bio->offset | bio->len | bio->skip) & (f->align - 1))
        return false;
    for (int i = 0; i < bio->niov; i++)
        if (((uintptr_t)bio->iov[i].iov_base | bio->iov[i].iov_len) & (f->align - 1))
            return false;
    return true;
}

static void run_blocking(struct job *job)
{
    struct bio *bio = container_of(job, struct bio, job);
    struct block_node *node = bio->node;
    struct file *f = node->self;
    int r = 0;

    switch (bio->op) {
    case BIO_READ:
        r = bio_aligned(f, bio) ? transfer(f, bio)
                                : bounce(f, false, bio->offset, bio->len, copy_to_bio, bio, false);
        break;
    case BIO_WRITE:
        r = bio_aligned(f, bio) ? transfer(f, bio)
                                : bounce(f, true, bio->offset, bio->len, copy_from_bio, bio,
                                         bio->flags & BIO_FUA);
        break;
    case BIO_FLUSH:
        r = file_sync(node);
        break;
    case BIO_DISCARD:
        r = file_discard(node, bio->offset, bio->len);
        break;
    case BIO_ZEROES:
        r = file_zeroes(node, bio->offset, bio->len, bio->flags & BIO_UNMAP);
        if (r == 0 && bio->flags & BIO_FUA)
            r = file_sync(node);
        break;
    }
    bio->result = r;
}

/* ---- Loop thread -------------------------------------------------------------------------- */

static bool covers_parts_of_blocks(const struct file *f, const struct bio *bio)
{
    return (bio->op == BIO_WRITE || bio->op == BIO_ZEROES) &&
           ((bio->offset | bio->len) & (f->align - 1));
}

static void start(struct block_node *node, struct bio *bio);

/* Starts those held back, in order, as far as they go. */
static void release_held(struct block_node *node)
{
    struct file *f = node->self;

    while (f->held && !f->alone) {
        struct bio *bio = f->held;
        if (covers_parts_of_blocks(f, bio) && f->writes)
            return;
        f->held = bio->next;
        if (!f->held)
            f->held_tail = &f->held;
        start(node, bio);
    }
}

/* A direct write or zeroing has ended. */
static void on_counted_done(struct bio *inner, int result)
{
    struct bio *bio = inner->opaque;
    struct block_node *node = bio->node;
    struct file *f = node->self;

    bio_put(node->graph, inner);
    f->writes--;
    f->alone = false;
    release_held(node);
    bio->done(bio, result);
}

static void job_done(struct job *job)
{
    struct bio *bio = container_of(job, struct bio, job);
    bio->done(bio, bio->result);
}

static void hand_over(struct file *f, struct bio *bio)
{
    bio->fd = f->fd;
    if (f->ring && bio->op <= BIO_FLUSH && bio_aligned(f, bio)) {
        uring_submit_bio(bio->node->graph->ring, bio);
        return;
    }
    bio->job.run = run_blocking;
    bio->job.done = job_done;
    pool_run(bio->node->graph->pool, &bio->job);
}

static void start(struct block_node *node, struct bio *bio)
{
    struct file *f = node->self;

    if (f->align == 1 || (bio->op != BIO_WRITE && bio->op != BIO_ZEROES)) {
        hand_over(f, bio);
        return;
    }
    struct bio *inner = bio_get(node->graph);
    if (!inner) {
        bio_finish(bio, -ENOMEM);
        return;
    }
    *inner = (struct bio){ .op = bio->op, .flags = bio->flags, .offset = bio->offset,
                           .len = bio->len, .iov = bio->iov, .niov = bio->niov,
                           .skip = bio->skip, .done = on_counted_done, .opaque = bio,
                           .node = node };
    f->writes++;
    f->alone = covers_parts_of_blocks(f, bio);
    hand_over(f, inner);
}

static void file_submit(struct block_node *node, struct bio *bio)
{
    struct file *f = node->self;

    if (f->align > 1 && (bio->op == BIO_WRITE || bio->op == BIO_ZEROES) &&
        (f->held || f->alone || (f->writes && covers_parts_of_blocks(f, bio)))) {
        bio->next = NULL;
        *f->held_tail = bio;
        f->held_tail = &bio->next;
        return;
    }
    start(node, bio);
}

/* ---- Opening ------------------------------------------------------------------------------ */

/* The least alignment that direct reads are content with. */
static uint32_t probe_align(int fd)
{
    AUTO_FREE char *buf = NULL;

    if (posix_memalign((void **)&buf, DIRECT_ALIGN_MAX, 2 * DIRECT_ALIGN_MAX))
        return DIRECT_ALIGN_MAX;
    for (uint32_t align = 512; align < DIRECT_ALIGN_MAX; align *= 2)
        if (pread(fd, buf + align, align, align) == (ssize_t)align)
            return align;
    return DIRECT_ALIGN_MAX;
}

static int take_given(struct block_node *node, const struct file_options *o,
                      struct block_fds *fds, int *ret_fd, struct error *err)
{
    if (!fds || (unsigned)o->fd_index >= fds->count || fds->fds[o->fd_index] < 0)
        return error_set(err, -EINVAL, "block node '%s': no descriptor %d came with its options",
                         node->name, o->fd_index);
    int fd = fds->fds[o->fd_index];
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return error_set(err, -errno, "block node '%s': descriptor %d", node->name, o->fd_index);
    if ((flags & O_ACCMODE) == O_WRONLY || flags & O_PATH)
        return error_set(err, -EINVAL, "block node '%s': its descriptor cannot be read",
                         node->name);
    if ((flags & O_ACCMODE) == O_RDONLY && !node->read_only) {
        if (!node->auto_read_only)
            return error_set(err, -EACCES, "block node '%s': its descriptor is read-only",
                             node->name);
        node->read_only = true;
    }
    node->direct = flags & O_DIRECT;
    *ret_fd = TAKE_FD(fds->fds[o->fd_index]);
    return 0;
}

static int choose_engine(struct block_node *node, enum block_aio aio, struct error *err)
{
    struct block_graph *graph = node->graph;
    struct file *f = node->self;

    if (aio == BLOCK_AIO_IO_URING && !graph->ring)
        return error_set(err, -ENOTSUP, "block node '%s': option 'aio=io_uring'", node->name);
    f->ring = graph->ring && aio != BLOCK_AIO_THREADS;
    return 0;
}

static int file_open(struct block_node *node, struct opts *opts, struct block_fds *fds,
                     struct error *err)
{
    struct file_options o = { .read_only = node->read_only, .direct = node->direct,
                              .auto_read_only = node->auto_read_only,
                              .host_device = node->host_device };
    struct stat st;

    struct file *f = calloc(1, sizeof *f);
    if (!f)
        return error_oom(err);
    node->self = f;
    f->fd = -1;
    f->align = 1;
    f->held_tail = &f->held;

    int r = file_options_take(opts, &o, err);
    node->filename = o.filename;
    if (r < 0 || (r = choose_engine(node, o.aio, err)) < 0)
        return r;
    if (o.fd_index >= 0) {
        if ((r = take_given(node, &o, fds, &f->fd, err)) < 0)
            return r;
    } else {
        r = file_open_locked(&o, &node->read_only, err);
        if (r < 0)
            return r;
        f->fd = r;
    }
    if (fstat(f->fd, &st) < 0 || (r = fd_size(f->fd, &node->size)) < 0)
        return error_set(err, r < 0 ? r : -errno, "disk image '%s' has no size", node->filename);
    f->is_device = S_ISBLK(st.st_mode);
    if (node->host_device && !f->is_device)
        return error_set(err, -EINVAL, "'%s' is not a block device", node->filename);
    if (node->direct)
        node->align = f->align = probe_align(f->fd);
    return 0;
}

static void file_close(struct block_node *node)
{
    struct file *f = node->self;

    if (f->fd >= 0)
        close(f->fd);
    free(f);
}

static void file_query(struct block_node *node, json_t *obj)
{
    struct file *f = node->self;
    struct stat st;

    if (fstat(f->fd, &st) == 0)
        json_object_set_new(obj, "actual-size", json_integer((json_int_t)st.st_blocks * 512));
}

const struct node_ops file_ops = {
    .name = "file",
    .open = file_open, .close = file_close, .submit = file_submit,
    .pread = file_pread, .pwrite = file_pwrite, .sync = file_sync, .zeroes = file_zeroes,
    .discard = file_discard, .truncate = file_truncate, .length = file_length,
    .query = file_query,
};
