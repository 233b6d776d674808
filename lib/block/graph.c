/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The graph: its engine, its pool of requests, and the one step (graph_poll) by which both the
 * loop and a drain make everything go on.
 */
#include "block/internal.h"

#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

enum { POOL_KEEP = 256, FINISHED_PER_STEP = 256 };

struct bio *bio_get(struct block_graph *graph)
{
    struct bio *bio = graph->free_bios;

    if (bio) {
        graph->free_bios = bio->next;
        graph->free_count--;
    } else if (!(bio = malloc(sizeof *bio))) {
        return NULL;
    }
    memset(bio, 0, offsetof(struct bio, parts));
    return bio;
}

void bio_put(struct block_graph *graph, struct bio *bio)
{
    if (graph->free_count >= POOL_KEEP) {
        free(bio);
        return;
    }
    bio->next = graph->free_bios;
    graph->free_bios = bio;
    graph->free_count++;
}

void bio_finish(struct bio *bio, int result)
{
    struct block_graph *graph = bio->node->graph;

    bio->result = result;
    bio->next = NULL;
    *graph->finished_tail = bio;
    graph->finished_tail = &bio->next;
    graph_schedule(graph);
}

void graph_schedule(struct block_graph *graph) { task_schedule(graph->task); }

static bool run_finished(struct block_graph *graph)
{
    unsigned left = FINISHED_PER_STEP;
    bool any = false;
    struct bio *bio;
    struct block_request *req;

    while ((bio = graph->finished)) {
        if (!left--) {
            graph_schedule(graph);      /* they make new ones: others want a turn */
            return true;
        }
        graph->finished = bio->next;
        if (!graph->finished)
            graph->finished_tail = &graph->finished;
        bio->done(bio, bio->result);
        any = true;
    }
    while ((req = graph->failed)) {
        graph->failed = req->next;
        if (!graph->failed)
            graph->failed_tail = &graph->failed;
        block_request_done(req, req->result);
        any = true;
    }
    return any;
}

void graph_poll(struct block_graph *graph, bool wait)
{
    if (graph->ring)
        uring_kick(graph->ring);
    bool any = run_finished(graph);
    pool_reap(graph->pool);
    if (!wait || any)
        return;

    struct pollfd fds[2] = { { .fd = pool_fd(graph->pool), .events = POLLIN },
                             { .fd = graph->ring ? uring_fd(graph->ring) : -1,
                               .events = POLLIN } };
    /* What the last completions queued goes first; the poll then only waits for the rest. */
    if (graph->ring && uring_kick(graph->ring))
        return;
    if (graph->finished || graph->failed)
        return;
    if (pool_busy(graph->pool) || (graph->ring && uring_busy(graph->ring)))
        poll(fds, ARRAY_SIZE(fds), -1);
}

static void on_task(void *opaque) { graph_poll(opaque, false); }
static void on_ready(void *opaque, uint32_t events) { graph_poll(opaque, false); }

static int start_engine(struct block_graph *graph, struct error *err)
{
    int r = pool_new(graph->loop, &graph->pool);
    if (r < 0)
        return error_set(err, r, "cannot make the block layer's thread pool");
    r = watch_new(graph->loop, pool_fd(graph->pool), EPOLLIN, on_ready, graph,
                  &graph->pool_watch);
    if (r < 0)
        return error_set(err, r, "cannot watch the block layer's thread pool");

    if (graph->aio == BLOCK_AIO_THREADS)
        return 0;
    r = uring_new(graph, &graph->ring);
    if (r < 0 && graph->aio == BLOCK_AIO_AUTO) {
        log_debug("this host has no io_uring for us (%s), disks use threads", strerror(-r));
        return 0;
    }
    if (r < 0)
        return error_set(err, r, "cannot use io_uring");
    r = watch_new(graph->loop, uring_fd(graph->ring), EPOLLIN, on_ready, graph,
                  &graph->ring_watch);
    if (r < 0)
        return error_set(err, r, "cannot watch the io_uring");
    return 0;
}

int block_graph_new(struct loop *loop, enum block_aio aio, struct block_graph **ret_graph,
                    struct error *err)
{
    struct block_graph *graph = calloc(1, sizeof *graph);
    if (!graph)
        return error_oom(err);
    graph->loop = loop;
    graph->aio = aio;
    list_init(&graph->nodes);
    list_init(&graph->blocks);
    graph->finished_tail = &graph->finished;
    graph->failed_tail = &graph->failed;

    int r = task_new(loop, on_task, graph, &graph->task);
    if (r < 0)
        error_oom(err);
    else
        r = start_engine(graph, err);
    if (r < 0) {
        block_graph_free(graph);
        return r;
    }
    *ret_graph = graph;
    return 0;
}

void block_graph_free(struct block_graph *graph)
{
    if (!graph)
        return;
    graph_drop_all(graph);
    watch_free(graph->ring_watch);
    watch_free(graph->pool_watch);
    uring_free(graph->ring);
    pool_free(graph->pool);
    task_free(graph->task);
    while (graph->free_bios) {
        struct bio *bio = graph->free_bios;
        graph->free_bios = bio->next;
        free(bio);
    }
    free(graph);
}
