/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the block layer: an I/O request as nodes pass it down (struct bio), the node drivers'
 * table, the engine underneath, and the reader of options. Loop thread unless said otherwise.
 */
#ifndef BLOCK_INTERNAL_H
#define BLOCK_INTERNAL_H

#include "block/block.h"

#include "base/list.h"

/* ---- Jobs: a blocking function on a helper thread --------------------------------------- */

struct job {
    void (*run)(struct job *job);       /* helper thread */
    void (*done)(struct job *job);      /* loop thread, later; the job may be freed there */
    struct job *next;
};

/* ---- Requests between nodes -------------------------------------------------------------- */

enum bio_op { BIO_READ, BIO_WRITE, BIO_FLUSH, BIO_DISCARD, BIO_ZEROES };
enum { BIO_FUA = 1, BIO_UNMAP = 2 };
enum { BIO_PARTS = 16 };

/*
 * Taken from the graph's pool by whoever needs one, filled in, handed to node_submit. done is
 * called on the loop thread, never from inside node_submit, and owns the bio again. The data
 * are bytes [skip, skip + len) of the iovec, which must outlive the request.
 */
struct bio {
    enum bio_op op;
    unsigned flags;
    uint64_t offset, len;
    const struct iovec *iov;
    int niov;
    size_t skip;
    void (*done)(struct bio *bio, int result);
    void *opaque;                       /* of whoever set done */
    struct block_node *node;
    /* Below: of the driver or the engine that holds it now. */
    int result;
    struct bio *next;
    struct bio *child;
    int fd;
    bool counted;
    uint64_t moved;                     /* bytes transferred so far */
    struct job job;
    struct iovec parts[BIO_PARTS];
};

struct bio *bio_get(struct block_graph *graph);         /* NULL: out of memory */
void bio_put(struct block_graph *graph, struct bio *bio);
/* Calls done from the loop's next turn, or from a drain. */
void bio_finish(struct bio *bio, int result);

/* Up to max iovecs for bytes [from, from + len) of an iovec; returns how many were filled and
 * through ret_len how many bytes they cover. Any thread. */
int iov_slice(const struct iovec *iov, int niov, uint64_t from, uint64_t len,
              struct iovec *out, int max, uint64_t *ret_len);
uint64_t iov_total(const struct iovec *iov, int niov);
void iov_fill_zero(const struct iovec *iov, int niov, uint64_t from, uint64_t len);
void iov_from_buf(const struct iovec *iov, int niov, uint64_t from, const void *buf, uint64_t len);
void iov_to_buf(const struct iovec *iov, int niov, uint64_t from, void *buf, uint64_t len);
bool iov_is_zero(const struct iovec *iov, int niov, uint64_t from, uint64_t len);

/* ---- The engine -------------------------------------------------------------------------- */

struct aio;
struct uring;
struct pool;

/* io_uring. -ENOSYS and the like when the host refuses. */
int uring_new(struct block_graph *graph, struct uring **ret_ring);
void uring_free(struct uring *ring);
int uring_fd(const struct uring *ring);
void uring_submit_bio(struct uring *ring, struct bio *bio);     /* READ, WRITE, FLUSH on bio->fd */
/* Submits what is queued, completes what is done. True: there is more to submit now. */
bool uring_kick(struct uring *ring);
bool uring_busy(const struct uring *ring);

/* Helper threads, started when there is work. */
int pool_new(struct loop *loop, struct pool **ret_pool);
void pool_free(struct pool *pool);
int pool_fd(const struct pool *pool);   /* readable when a job is done */
void pool_reap(struct pool *pool);
bool pool_busy(const struct pool *pool);
void pool_run(struct pool *pool, struct job *job);

/* Blocking transfers on descriptors, whole or failed; a read past the end gives zeros.
 * Any thread. */
int fd_pread_zero(int fd, void *buf, uint64_t len, uint64_t offset);
int fd_pwrite_full(int fd, const void *buf, uint64_t len, uint64_t offset, bool fua);

/* ---- Nodes ------------------------------------------------------------------------------- */

enum { NODE_NAME_MAX = 64 };

struct opts;

/* What a nested node takes over from the node around it, when its own options are silent. */
struct inherit {
    bool read_only, auto_read_only;
    bool direct, no_flush;
    bool discard;
    bool nested;
};

struct node_ops {
    const char *name;           /* of the driver */
    bool format;                /* has a child called "file" */

    /* Takes its options out of opts; node->child is there for a format. Sets node->size,
     * node->align and node->self. On failure close is called all the same. */
    int (*open)(struct block_node *node, struct opts *opts, struct block_fds *fds,
                struct error *err);
    /* Nothing is in flight. May block. */
    void (*close)(struct block_node *node);
    void (*submit)(struct block_node *node, struct bio *bio);

    /* Blocking, for jobs and for opening. Any thread. fua: stable when it returns. */
    int (*pread)(struct block_node *node, uint64_t offset, void *buf, uint64_t len);
    int (*pwrite)(struct block_node *node, uint64_t offset, const void *buf, uint64_t len,
                  bool fua);
    int (*sync)(struct block_node *node);
    int (*zeroes)(struct block_node *node, uint64_t offset, uint64_t len, bool unmap);
    int (*discard)(struct block_node *node, uint64_t offset, uint64_t len);
    /* Grows or shrinks what lies underneath; -ENOTSUP when it cannot. New bytes read zero. */
    int (*truncate)(struct block_node *node, uint64_t size);
    /* Size now, which truncate may have changed. */
    int (*length)(struct block_node *node, uint64_t *ret_size);
    /* Adds to what query-named-block-nodes says of the node. */
    void (*query)(struct block_node *node, json_t *obj);
};

enum detect_zeroes { DETECT_OFF, DETECT_ON, DETECT_UNMAP };

struct block_node {
    struct block_graph *graph;
    const struct node_ops *ops;
    void *self;
    char name[NODE_NAME_MAX];
    char *filename;             /* for messages; of a format node its child's */
    struct block_node *child;
    bool child_owned;           /* was described inside this node, goes with it */
    unsigned parents;           /* nodes above */
    unsigned users;             /* attached devices */
    bool has_writer;
    bool read_only;
    bool auto_read_only;
    bool direct, no_flush;
    bool discard;               /* pass discards on, else answer and forget them */
    bool host_device;           /* the driver "file" was asked for by this name */
    bool owned;                 /* described inside another node */
    bool opened;                /* may be used by others; false while it is being made */
    enum detect_zeroes detect_zeroes;
    uint64_t size;              /* bytes, as devices see it */
    uint32_t align;             /* of offset, length and memory; 1 if none */
    struct list link;
};

struct block_graph {
    struct loop *loop;
    struct uring *ring;         /* NULL: none */
    struct pool *pool;
    enum block_aio aio;
    struct watch *ring_watch, *pool_watch;
    struct task *task;
    struct list nodes, blocks;
    struct bio *free_bios;
    unsigned free_count;
    struct bio *finished, **finished_tail;
    struct block_request *failed, **failed_tail;
    unsigned next_anonymous;
};

void node_submit(struct block_node *node, struct bio *bio);
struct block_node *node_find(struct block_graph *graph, const char *name);

/* One step of everything the graph waits for: submits, completes. wait: sleep until something
 * happened, when nothing had. */
void graph_poll(struct block_graph *graph, bool wait);
void graph_schedule(struct block_graph *graph);
void graph_drop_all(struct block_graph *graph);         /* frees every node */
void block_request_done(struct block_request *req, int result);

extern const struct node_ops file_ops, raw_ops, qcow2_ops;

/* ---- file: what opening by options needs, also in the process that only opens ------------- */

struct file_options {
    char *filename;
    bool host_device;
    bool read_only, auto_read_only, direct, locking, locking_must;
    int fd_index;               /* -1: open by name */
    enum block_aio aio;
};

int file_options_take(struct opts *opts, struct file_options *ret_options, struct error *err);
/* Opens and locks. *ret_read_only: as it came out, after auto-read-only. Returns a descriptor. */
int file_open_locked(const struct file_options *options, bool *ret_read_only, struct error *err);

/* Takes QEMU's byte-range locks for a reader or a writer of the image. -EAGAIN: in use. */
int file_lock(int fd, bool writer, const char *filename, struct error *err);

/* ---- Options ----------------------------------------------------------------------------- */

/* A JSON object from which each taken option is removed, so that the rest is unknown. */
struct opts {
    json_t *obj;                /* our own copy */
    char name[NODE_NAME_MAX];   /* of the node, for messages */
};

/* A deep copy in which "a.b": x has become "a": {"b": x}. */
int opts_init(struct opts *opts, const json_t *options, struct error *err);
void opts_fini(struct opts *opts);
/* Strings "on"/"off"/"true"/"false"/"yes"/"no" count as booleans, decimal text (with a k, M, G or
 * T behind it) as numbers. The value is left alone when the option is absent. Returns 1 if it
 * was there, 0 if not. */
int opts_bool(struct opts *opts, const char *key, bool *value, struct error *err);
int opts_size(struct opts *opts, const char *key, uint64_t *value, struct error *err);
int opts_text(struct opts *opts, const char *key, char **ret_text, struct error *err);
int opts_choice(struct opts *opts, const char *key, const char *const *choices, int *value,
                struct error *err);         /* choices end with NULL; value is the index */
json_t *opts_take(struct opts *opts, const char *key);  /* new reference or NULL */
/* read-only, auto-read-only, cache.*, discard: on top of what was inherited. */
int opts_common(struct opts *opts, struct inherit *common, struct error *err);
/* Fails when an option is left that nobody took. */
int opts_finish(struct opts *opts, struct error *err);

#endif
