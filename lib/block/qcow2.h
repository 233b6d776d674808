/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside qcow2 (QEMU's docs/interop/qcow2.txt, versions 2 and 3). Metadata are written through:
 * when a write completes, the file maps it, so that a process killed at any moment loses nothing
 * it has acknowledged. What loss of power could turn into corruption is on stable storage in
 * this order:
 *
 *   refcount of a cluster  <  the cluster is handed out, so  <  an L2 or L1 entry for it
 *   data copied from a shared cluster  <  the L2 entry that replaces it
 *   content of a new L2 table  <  its L1 entry
 *   removal of an L2 entry  <  the refcount falls, so  <  the cluster is handed out again
 *
 * The guest's own data and their L2 entries become stable by its flushes, as on any disk with a
 * write cache.
 *
 * Refcounts are raised for many clusters at a time, ahead of their use, which makes the first
 * of these cheap; a crash leaves the unused ones as leaks, never as corruption.
 *
 * Two sides. The loop thread owns L1, the cache of L2 tables, and the clusters in reserve. The
 * refcounts (struct refcounts) belong to whichever job is running, at most one per image, on a
 * helper thread. They share nothing and meet only when a job starts and ends.
 */
#ifndef BLOCK_QCOW2_H
#define BLOCK_QCOW2_H

#include "block/internal.h"

#include "base/bytes.h"

#define QCOW2_COPIED      (1ull << 63)          /* refcount is exactly one */
#define QCOW2_COMPRESSED  (1ull << 62)
#define QCOW2_ZERO        1ull                  /* L2, version 3 */
#define QCOW2_OFFSET      0x00fffffffffffe00ull
/* Host offsets past this do not fit an entry. */
#define QCOW2_HOST_MAX    (1ull << 56)

enum {
    QCOW2_L1_MAX_BYTES = 32 * 1024 * 1024,
    QCOW2_REFTABLE_MAX_BYTES = 8 * 1024 * 1024,
    QCOW2_SLICE_MAX_BYTES = 4096,
    QCOW2_SPARE_MAX = 16,
};

/* Host clusters in a row. fresh: never written, so they read as zeros. */
struct q2_range {
    uint64_t host;              /* bytes */
    uint64_t count;             /* clusters */
    bool fresh;
};

struct q2_ranges {
    struct q2_range *at;
    size_t n, cap;
    uint64_t clusters;
};

/* Moves all of a list to another head, which need not be initialised. */
static inline void list_take_all(struct list *from, struct list *to)
{
    list_init(to);
    if (list_empty(from))
        return;
    *to = *from;
    to->next->prev = to->prev->next = to;
    list_init(from);
}

/* ---- qcow2_refcount.c: blocking, in jobs and at opening and closing ---------------------- */

enum { RC_CACHE = 4 };

struct rc_block {
    uint64_t index;             /* in the table; UINT64_MAX: empty */
    uint8_t *buf;
    uint64_t used;              /* when, for replacement */
    uint64_t dirty_from, dirty_to;      /* bytes; equal: clean */
};

struct refcounts {
    struct block_node *file;
    unsigned cluster_bits, order;       /* 1 << order bits each */
    uint64_t table_offset, entries;
    uint64_t *table;
    uint64_t l1_offset, l1_bytes;       /* never to be handed out */
    struct rc_block cache[RC_CACHE];
    uint64_t clock;
    uint64_t hint;                      /* no cluster before this one is known to be free */
    bool growable;                      /* the file, on demand */
};

int refcounts_open(struct refcounts *rc, struct error *err);
void refcounts_close(struct refcounts *rc);
/* Raises up to want free clusters to a refcount of one, on stable storage when it returns. Gets
 * at least one or fails; -ENOSPC, -EFBIG, -EIO. ranges has room for QCOW2_SPARE_MAX. */
int refcounts_reserve(struct refcounts *rc, uint64_t want, struct q2_range *ranges,
                      unsigned *ret_n, uint64_t *ret_file_end);
/* Lowers each cluster's refcount by one; discards from the file what has come to zero. */
int refcounts_release(struct refcounts *rc, const struct q2_range *ranges, size_t n,
                      bool discard);

/* ---- The image, loop thread --------------------------------------------------------------- */

struct q2_req;

enum q2_change { CHANGE_MAP, CHANGE_CLEAR, CHANGE_ZERO };

/* A part of an L2 table, in the file's byte order. */
struct q2_slice {
    uint64_t index;             /* guest cluster number >> slice_bits */
    be64 *entries;
    bool loading, writing;
    bool stale;                 /* a write failed: the file must be asked again */
    struct list waiters;        /* q2_req.wait_link: for the loading */
    struct list pending;        /* q2_req.wait_link: changes for the next write */
    struct list committing;     /* …and those in the write under way */
    struct q2_ranges old;       /* mapped before those changes */
    uint64_t dirty_from, dirty_to;      /* bytes */
    struct iovec iov;
    struct list lru;
    struct q2_slice *hash_next;
};

enum { Q2_HASH = 256 };

struct qcow2 {
    struct block_node *node, *file;
    unsigned version;
    unsigned cluster_bits, l2_bits, slice_bits;     /* of a count of bytes, entries, entries */
    uint64_t cluster_size;
    uint64_t file_end;          /* bytes; what lies past it is no valid host offset */
    uint64_t l1_offset, l1_entries;
    uint64_t *l1;               /* host byte order */
    bool broken;                /* something invalid was found, and said */

    struct q2_slice *hash[Q2_HASH];
    struct list lru;            /* of slices, latest first */
    unsigned slices, slices_max;

    struct {                    /* the new L2 table under way, one at a time */
        bool busy;
        struct job job;
        uint64_t l1_index, old_entry, host;
        bool fresh;
        int result;
        uint8_t sector[512];
        uint64_t sector_offset, sector_len;
    } make;
    struct list make_waiters;   /* q2_req.wait_link */

    struct q2_range spare[QCOW2_SPARE_MAX];         /* refcount one, not mapped */
    unsigned spare_n;
    uint64_t spare_clusters, next_batch;
    struct list space_waiters;  /* q2_req.wait_link */
    struct q2_ranges frees, retiring;
    bool free_soon;
    unsigned phase, retire_phase, inflight[2];

    bool rc_busy;               /* rc belongs to the job */
    struct refcounts rc;
    struct {
        struct job job;
        bool reserve;
        uint64_t want, file_end;
        struct q2_range got[QCOW2_SPARE_MAX];
        unsigned got_n;
        struct q2_ranges release;
        int result;
    } rc_job;

    uint8_t *inflated;          /* the compressed cluster read last, or NULL */
    uint64_t inflated_entry;    /* its L2 entry */

    struct list changes;        /* q2_req.change_link: mappings being changed */
    struct q2_req *free_reqs;
    unsigned inflight_reqs;
};

/* A guest request on its way through the image, step by step. */
struct q2_req {
    struct qcow2 *q;
    struct bio *bio;
    uint64_t pos;               /* bytes of bio that are done */
    uint64_t n;                 /* bytes of the step under way */
    unsigned phase;
    bool flushing;
    struct list wait_link;
    struct q2_req *next;        /* in free_reqs */

    /* The change of the mapping under way: guest clusters first … first + count - 1. */
    struct list change_link;
    struct list waiters;        /* q2_req.wait_link: for its end */
    enum q2_change change;
    uint64_t first, count;
    uint64_t host;
    bool fresh;
    uint64_t head_old, tail_old;        /* L2 entries of the first and the last cluster */
    uint64_t head, tail;                /* bytes to be filled in before and after the data */
    uint64_t file_end;                  /* for the job */
    uint8_t *inflated;                  /* by the job */
    struct job job;
    int job_result;
};

/* qcow2_table.c */
enum { SLICE_READY, SLICE_WAIT, SLICE_NONE };
/* The slice with the entry of a guest cluster: READY, WAIT (req will be stepped again), NONE (no
 * L2 table there: all unallocated), or an error. */
int slice_get(struct qcow2 *q, struct q2_req *req, uint64_t cluster, struct q2_slice **ret_slice);
uint64_t slice_entry(const struct qcow2 *q, const struct q2_slice *slice, uint64_t cluster);
/* Writes req's change into the slice; req_change_done follows. */
void slice_change(struct qcow2 *q, struct q2_slice *slice, struct q2_req *req);
void slices_free(struct qcow2 *q);
/* Is the L2 table of this cluster there and ours alone? If not, makes one: false, and req will be
 * stepped again. */
bool table_writable(struct qcow2 *q, struct q2_req *req, uint64_t cluster);

/* qcow2_space.c */
int ranges_add(struct q2_ranges *ranges, uint64_t host, uint64_t count, unsigned cluster_bits);
void ranges_fini(struct q2_ranges *ranges);
/* Takes up to want clusters in a row from the reserve. Returns how many; 0: req waits. */
uint64_t space_take(struct qcow2 *q, struct q2_req *req, uint64_t want, uint64_t *ret_host,
                    bool *ret_fresh);
/* The clusters have left the mapping, and the file says so. */
void space_give_back(struct qcow2 *q, uint64_t host, uint64_t count);
void space_give_back_entry(struct qcow2 *q, struct q2_ranges *to, uint64_t entry);
void space_kick(struct qcow2 *q);
void space_close(struct qcow2 *q);

/* qcow2_io.c */
void req_step(struct q2_req *req);
void req_end(struct q2_req *req, int result);
void req_change_done(struct q2_req *req, int result);
void req_wake_all(struct list *waiters);
void req_fail_all(struct list *waiters, int result);
void qcow2_submit(struct block_node *node, struct bio *bio);

/* qcow2_compressed.c */
/* Where the data of a compressed cluster lie: a byte offset, and their length up to the end of
 * their last sector. */
void q2_compressed_place(const struct qcow2 *q, uint64_t entry, uint64_t *ret_offset,
                         uint64_t *ret_len);
/* Blocking; any thread. -EIO when what is there is no cluster. */
int q2_read_compressed(const struct qcow2 *q, uint64_t entry, uint64_t file_end, void *cluster);
/* Reads the request's next n bytes from the cluster; true: the next step may follow. */
bool q2_compressed_step(struct q2_req *req, uint64_t entry);
/* A compressed cluster has left the mapping. */
void q2_forget_inflated(struct qcow2 *q);

/* A host offset from the image: of a whole cluster, aligned, in the file, not the header. */
bool q2_host_ok(const struct qcow2 *q, uint64_t offset);
/* Says once that the image is broken; returns -EIO. */
int q2_broken(struct qcow2 *q, const char *what, uint64_t where);

#endif
