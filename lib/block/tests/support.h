/* SPDX-License-Identifier: Apache-2.0 */
/* For the block tests: a graph in a temporary folder, requests one waits for, QEMU's tools. */
#ifndef BLOCK_TESTS_SUPPORT_H
#define BLOCK_TESTS_SUPPORT_H

#include "base/test.h"

#include "block/block.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

struct env {
    struct loop *loop;
    struct block_graph *graph;
    char dir[64];
};

struct wait {
    struct block_request req;
    bool done;
    int result;
};

static inline void on_wait_done(struct block_request *req, int result)
{
    struct wait *w = container_of(req, struct wait, req);
    w->done = true;
    w->result = result;
}

static inline void env_init(struct env *e, enum block_aio aio)
{
    struct error err = { 0 };
    const char *tmp = getenv("TMPDIR");

    snprintf(e->dir, sizeof e->dir, "%s/block-test-XXXXXX", tmp && strlen(tmp) < 32 ? tmp : "/tmp");
    CHECK(mkdtemp(e->dir) != NULL);
    CHECK_EQ(loop_new(&e->loop, &err), 0);
    CHECK_EQ(block_graph_new(e->loop, aio, &e->graph, &err), 0);
}

/* Runs a shell command in the folder; returns its exit status. */
__attribute__((format(printf, 2, 3)))
static inline int sh(const struct env *e, const char *fmt, ...)
{
    char cmd[2048], text[4096];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(cmd, sizeof cmd, fmt, ap);
    va_end(ap);
    snprintf(text, sizeof text, "cd %s && ( %s ) >out.txt 2>&1", e->dir, cmd);
    int status = system(text);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* What the last command printed. */
static inline const char *sh_output(const struct env *e)
{
    static char buf[8192];
    char path[128];

    snprintf(path, sizeof path, "%s/out.txt", e->dir);
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, buf, sizeof buf - 1);
    buf[n > 0 ? n : 0] = 0;
    close(fd);
    return buf;
}

static inline void env_fini(struct env *e)
{
    char cmd[128];

    block_graph_free(e->graph);
    loop_free(e->loop);
    snprintf(cmd, sizeof cmd, "rm -rf %s", e->dir);
    CHECK_EQ(system(cmd), 0);
}

/* Options as JSON text with ' for " and %s for a path inside the folder. */
__attribute__((format(printf, 3, 4)))
static inline int add(struct env *e, struct error *err, const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (char *p = text; *p; p++)
        if (*p == '\'')
            *p = '"';
    json_t *options = json_loads(text, 0, NULL);
    CHECK(options != NULL);
    int r = block_node_add(e->graph, options, NULL, err);
    json_decref(options);
    return r;
}

static inline void make_file(const struct env *e, const char *name, uint64_t size)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s", e->dir, name);
    int fd = open(path, O_CREAT | O_RDWR | O_TRUNC, 0600);
    CHECK(fd >= 0);
    CHECK_EQ(ftruncate(fd, size), 0);
    close(fd);
}

static inline struct block *attach(struct env *e, const char *node, bool writable)
{
    struct error err = { 0 };
    struct block *b = NULL;

    if (block_attach(e->graph, node, writable, "test", &b, &err) < 0)
        fail_msg("%s", err.text);
    return b;
}

static inline int wait_for(struct env *e, struct wait *w)
{
    while (!w->done)
        loop_turn(e->loop, 1000);
    return w->result;
}

static inline int do_read(struct env *e, struct block *b, uint64_t off, void *buf, size_t len)
{
    struct wait w = { .req.done = on_wait_done };
    struct iovec iov = { buf, len };
    block_read(b, &w.req, off, &iov, 1);
    CHECK(!w.done);
    return wait_for(e, &w);
}

static inline int do_write(struct env *e, struct block *b, uint64_t off, const void *buf,
                           size_t len, bool fua)
{
    struct wait w = { .req.done = on_wait_done };
    struct iovec iov = { (void *)buf, len };
    block_write(b, &w.req, off, &iov, 1, fua);
    CHECK(!w.done);
    return wait_for(e, &w);
}

static inline int do_flush(struct env *e, struct block *b)
{
    struct wait w = { .req.done = on_wait_done };
    block_flush(b, &w.req);
    return wait_for(e, &w);
}

static inline int do_discard(struct env *e, struct block *b, uint64_t off, uint64_t len)
{
    struct wait w = { .req.done = on_wait_done };
    block_discard(b, &w.req, off, len);
    return wait_for(e, &w);
}

static inline int do_zeroes(struct env *e, struct block *b, uint64_t off, uint64_t len, bool unmap)
{
    struct wait w = { .req.done = on_wait_done };
    block_write_zeroes(b, &w.req, off, len, unmap);
    return wait_for(e, &w);
}

static inline void fill_random(unsigned *seed, void *buf, size_t len)
{
    uint8_t *p = buf;
    uint32_t x = *seed * 2654435761u + 1;

    for (size_t i = 0; i < len; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        p[i] = x;
    }
    *seed = x;
}

#endif
