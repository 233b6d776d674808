/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_uring: one small ring per process. What is queued in one turn of the loop goes to the
 * kernel in one system call; what completed inside that call (page cache hits) is taken without
 * another. The ring is made with the graph, before a sandbox closes.
 */
#include "block/internal.h"

#include <errno.h>
#include <liburing.h>
#include <limits.h>

enum { ENTRIES = 128, ROUNDS_MAX = 8 };

struct uring {
    struct io_uring ring;
    struct block_graph *graph;
    unsigned inflight;                      /* queued or with the kernel */
    unsigned unsubmitted;
    struct bio *waiting, **waiting_tail;    /* the submission queue was full */
};

void uring_free(struct uring *u)
{
    if (!u)
        return;
    io_uring_queue_exit(&u->ring);
    free(u);
}

/*
 * A ring is a way around a system-call filter: what it does for a process, the filter never sees.
 * So ours does what we use and nothing more, for good (Linux 5.10; where the host cannot, it gets
 * no ring).
 */
static int restrict_ring(struct io_uring *ring)
{
    struct io_uring_restriction allowed[] = {
        { .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READV },
        { .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITEV },
        { .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FSYNC },
    };
    int r = io_uring_register(ring->ring_fd, IORING_REGISTER_RESTRICTIONS, allowed,
                              ARRAY_SIZE(allowed));
    return r < 0 ? r : io_uring_register(ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

int uring_new(struct block_graph *graph, struct uring **ret_ring)
{
    struct uring *u = calloc(1, sizeof *u);
    if (!u)
        return -ENOMEM;
    u->graph = graph;
    u->waiting_tail = &u->waiting;

    /* Completions need not interrupt us: we look after each submission and when woken. */
    int r = io_uring_queue_init(ENTRIES, &u->ring,
                                IORING_SETUP_COOP_TASKRUN | IORING_SETUP_R_DISABLED);
    if (r == -EINVAL)
        r = io_uring_queue_init(ENTRIES, &u->ring, IORING_SETUP_R_DISABLED);
    if (r < 0) {
        free(u);
        return r;
    }
    r = restrict_ring(&u->ring);
    if (r < 0) {
        uring_free(u);
        return r;
    }
    *ret_ring = u;
    return 0;
}

int uring_fd(const struct uring *u) { return u->ring.ring_fd; }
bool uring_busy(const struct uring *u) { return u->inflight > 0; }

/* Describes what is left of the request. */
static void prepare(struct io_uring_sqe *sqe, struct bio *bio)
{
    uint64_t left = bio->len - bio->moved, covered;
    const struct iovec *iov = bio->iov;
    int niov = bio->niov;

    if (bio->op == BIO_FLUSH) {
        io_uring_prep_fsync(sqe, bio->fd, IORING_FSYNC_DATASYNC);
        io_uring_sqe_set_data(sqe, bio);
        return;
    }
    /* A long vector goes as it is when it is exactly what is wanted; else, up to BIO_PARTS of
     * its pieces now and the rest when these are done. */
    if (niov <= BIO_PARTS || niov > IOV_MAX || bio->skip || bio->moved ||
        iov_total(iov, niov) != left) {
        niov = iov_slice(bio->iov, bio->niov, bio->skip + bio->moved, left, bio->parts,
                         BIO_PARTS, &covered);
        iov = bio->parts;
    }
    uint64_t offset = bio->offset + bio->moved;
    if (bio->op == BIO_READ)
        io_uring_prep_readv(sqe, bio->fd, iov, niov, offset);
    else
        io_uring_prep_writev(sqe, bio->fd, iov, niov, offset);
    if (bio->flags & BIO_FUA)
        sqe->rw_flags = RWF_DSYNC;
    io_uring_sqe_set_data(sqe, bio);
}

static void queue(struct uring *u, struct bio *bio)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

    if (sqe) {
        prepare(sqe, bio);
        u->unsubmitted++;
    } else {
        bio->next = NULL;
        *u->waiting_tail = bio;
        u->waiting_tail = &bio->next;
    }
    graph_schedule(u->graph);
}

void uring_submit_bio(struct uring *u, struct bio *bio)
{
    u->inflight++;
    queue(u, bio);
}

static void complete(struct uring *u, struct bio *bio, int res)
{
    if (res == -EINTR || res == -EAGAIN) {
        queue(u, bio);
        return;
    }
    if (res >= 0 && bio->op != BIO_FLUSH) {
        bio->moved += res;
        if (bio->moved < bio->len && res > 0) {
            queue(u, bio);
            return;
        }
        if (bio->moved < bio->len && bio->op == BIO_READ)   /* past the end of the file */
            iov_fill_zero(bio->iov, bio->niov, bio->skip + bio->moved, bio->len - bio->moved);
        res = bio->op == BIO_WRITE && bio->moved < bio->len ? -EIO : 0;
    }
    u->inflight--;
    bio->done(bio, res);
}

static void reap(struct uring *u)
{
    struct io_uring_cqe *cqe;

    /* One at a time: a completion may drain, and so come here again. */
    while (io_uring_peek_cqe(&u->ring, &cqe) == 0 && cqe) {
        struct bio *bio = io_uring_cqe_get_data(cqe);
        int res = cqe->res;
        io_uring_cqe_seen(&u->ring, cqe);
        complete(u, bio, res);
    }
}

static void take_waiting(struct uring *u)
{
    while (u->waiting) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
        if (!sqe)
            return;
        struct bio *bio = u->waiting;
        u->waiting = bio->next;
        if (!u->waiting)
            u->waiting_tail = &u->waiting;
        prepare(sqe, bio);
        u->unsubmitted++;
    }
}

bool uring_kick(struct uring *u)
{
    /* Completions queue new requests: a few rounds here, then the rest of the loop has a turn. */
    for (int round = 0; round < ROUNDS_MAX; round++) {
        take_waiting(u);
        if (u->unsubmitted) {
            int n = io_uring_submit(&u->ring);
            /* n <= 0: out of memory or too much in flight; after some completions, then. */
            u->unsubmitted -= n > 0 ? MIN((unsigned)n, u->unsubmitted) : 0;
        }
        reap(u);
        if (!u->unsubmitted && !u->waiting)
            return false;
    }
    graph_schedule(u->graph);
    return true;
}
