/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk images: a graph of named nodes (a file, a format on top of it), and a handle through
 * which a device uses one. Requests are asynchronous; their memory is the caller's, so that
 * none is allocated on the way. Loop thread only, completions included.
 *
 * Options are QEMU's BlockdevOptions (driver, node-name, read-only, auto-read-only, cache.direct,
 * cache.no-flush, discard, detect-zeroes, file, filename, aio, locking …), as a JSON object.
 */
#ifndef BLOCK_BLOCK_H
#define BLOCK_BLOCK_H

#include "base/error.h"
#include "event/loop.h"

#include <jansson.h>
#include <sys/uio.h>

struct block_graph;         /* all nodes of a process, and its I/O engine */
struct block_node;
struct block;               /* a device's handle on a node */

/* How a file: node gets its descriptor. The default opens and locks by name; a process that
 * may open nothing is given descriptors with the options instead ("fd": index into fds). */
struct block_fds {
    int *fds;               /* taken entries become -1 */
    unsigned count;
};

enum block_aio { BLOCK_AIO_AUTO, BLOCK_AIO_IO_URING, BLOCK_AIO_THREADS };

int block_graph_new(struct loop *loop, enum block_aio aio, struct block_graph **ret_graph,
                    struct error *err) MUST_CHECK;
void block_graph_free(struct block_graph *graph);

/* Adds a node (and the nodes described inside it), as QMP blockdev-add does. fds may be NULL.
 * Nothing is left behind on failure. */
int block_node_add(struct block_graph *graph, const json_t *options, struct block_fds *fds,
                   struct error *err) MUST_CHECK;
/* Fails with -EBUSY while a device or another node uses it. */
int block_node_del(struct block_graph *graph, const char *node_name, struct error *err) MUST_CHECK;
/* What `query-named-block-nodes` answers. New reference. */
json_t *block_graph_query(struct block_graph *graph);

/*
 * For the process that opens files on behalf of one that may not: resolves every "filename" in
 * options to an open, locked descriptor (mode as read-only says; locks as QEMU's), appends it to
 * fds (room for cap, *count in use) and puts "fd": index in the copy that is returned, which has
 * no dotted keys left. On failure nothing stays open. An image that is locked by somebody else is
 * waited for, 0.2 s at most: a user that was killed moments ago may not be quite gone. So close
 * one's own copies of a dead process's descriptors first; they hold its locks.
 */
int block_options_open_files(const json_t *options, int *fds, unsigned cap, unsigned *count,
                             json_t **ret_options, struct error *err) MUST_CHECK;

/* Opens a node for a device. writable: fails on a read-only node. One writer per node. */
int block_attach(struct block_graph *graph, const char *node_name, bool writable,
                 const char *user_id, struct block **ret_block, struct error *err) MUST_CHECK;
void block_detach(struct block *block);     /* drains first; NULL allowed */

uint64_t block_size(const struct block *block);         /* bytes; any number of them */
bool block_read_only(const struct block *block);
unsigned block_alignment(const struct block *block);    /* of offset, length and memory; 1 if none */
bool block_write_cache(const struct block *block);      /* false: every write is stable when done */
void block_set_write_cache(struct block *block, bool on);

/*
 * One request. The struct and the iovec stay the caller's and must not move until done is
 * called, once, on the loop thread, never from inside the call that started the request.
 * result: 0 or a negative errno (-ENOSPC, -EIO, …); transfers are whole or failed.
 * Ranges outside the disk fail with -EINVAL.
 */
struct block_request;
typedef void block_done_fn(struct block_request *req, int result);

struct block_request {
    block_done_fn *done;                /* set by the caller, with whatever embeds this */
    /* The rest belongs to the block layer. */
    struct block *block;
    uint64_t offset, len;
    const struct iovec *iov;
    int niov;
    int op;
    int result;
    struct block_request *next;
};

void block_read(struct block *block, struct block_request *req, uint64_t offset,
                const struct iovec *iov, int niov);
void block_write(struct block *block, struct block_request *req, uint64_t offset,
                 const struct iovec *iov, int niov, bool fua);
void block_flush(struct block *block, struct block_request *req);
void block_discard(struct block *block, struct block_request *req, uint64_t offset, uint64_t len);
void block_write_zeroes(struct block *block, struct block_request *req, uint64_t offset,
                        uint64_t len, bool may_unmap);

/* Waits, without running the rest of the loop, until no request of this handle is in flight;
 * their completions are called (others' too). May be called from inside a completion. */
void block_drain(struct block *block);
void block_drain_all(struct block_graph *graph);

#endif
