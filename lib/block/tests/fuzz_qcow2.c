/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile qcow2 images. The first bytes of the input say what is read and written, the rest is
 * the image, in a memory file. Whatever it says: no crash, no endless loop, no memory out of
 * proportion, and every request is answered.
 */
#include "base/log.h"
#include "block/block.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { OPS = 12, OP_BYTES = 4, BUF_BYTES = 160 * 1024, SPARSE_BYTES = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loop *loop;
static struct block_graph *graph;
static unsigned answered;

static void on_done(struct block_request *req, int result)
{
    if (result > 0)
        abort();
    answered++;
}

static void set_up(void)
{
    struct error err;

    log_init("fuzz", LOG_ERROR);
    if (!freopen("/dev/null", "w", stdout) || loop_new(&loop, &err) < 0 ||
        block_graph_new(loop, BLOCK_AIO_AUTO, &graph, &err) < 0)
        abort();
}

static void run_op(struct block *b, const uint8_t *op, struct block_request *req,
                   struct iovec *iov, char *buf)
{
    uint64_t disk = block_size(b), len = 1 + (op[1] & 0x3f) * 509 + (op[1] >> 6) * 40000;
    /* From the front or the back of the disk, or spread over it. */
    uint64_t at = op[2] * 311ull + op[3] * 8000ull;
    uint64_t off = op[0] & 8 ? disk - at : op[0] & 16 ? disk / 256 * op[3] + at : at;

    if (op[0] & 32)
        len &= ~511ull;
    *iov = (struct iovec){ buf, len };
    req->done = on_done;
    switch (op[0] & 7) {
    case 0: case 1: block_read(b, req, off, iov, 1); break;
    case 2: case 3: block_write(b, req, off, iov, 1, op[0] & 64); break;
    case 4: block_flush(b, req); break;
    case 5: block_discard(b, req, off, len * (op[0] & 64 ? 100 : 1)); break;
    default: block_write_zeroes(b, req, off, len, op[0] & 64); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char buf[OPS][BUF_BYTES];
    struct block_request req[OPS] = { 0 };
    struct iovec iov[OPS];
    struct error err;
    struct block *b;

    if (!loop)
        set_up();
    if (size < OPS * OP_BYTES + 1)
        return 0;
    const uint8_t *ops = data, *image = data + OPS * OP_BYTES;
    size_t image_size = size - OPS * OP_BYTES;

    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0)
        abort();
    if (pwrite(fd, image, image_size, 0) != (ssize_t)image_size)
        abort();
    if (ops[3] & 1 && ftruncate(fd, image_size + SPARSE_BYTES) < 0)
        abort();
    struct block_fds fds = { &fd, 1 };
    json_t *options = json_pack("{s:s, s:s, s:s, s:{s:s, s:s, s:i}}", "driver", "qcow2",
                                "node-name", "d", "discard", "unmap", "file", "driver", "file",
                                "filename", "fuzz", "fd", 0);
    if (block_node_add(graph, options, &fds, &err) == 0) {
        if (block_attach(graph, "d", true, "fuzz", &b, &err) < 0)
            abort();
        answered = 0;
        for (int i = 0; i < OPS; i++) {
            run_op(b, ops + i * OP_BYTES, &req[i], &iov[i], buf[i]);
            if (i == OPS / 2)
                block_drain(b);
        }
        block_drain(b);
        if (answered != OPS)
            abort();
        block_detach(b);
        if (block_node_del(graph, "d", &err) < 0)
            abort();
    }
    json_decref(options);
    if (fd >= 0)
        close(fd);
    return 0;
}
