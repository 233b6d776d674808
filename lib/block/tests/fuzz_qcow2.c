/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile qcow2 images, in a memory file. The first bytes of the input say what is read and written;
 * the rest is the image, or changes to a sound one that is made here. Whatever it says: no crash,
 * no endless loop, no memory out of proportion, and every request is answered.
 */
#include "base/bytes.h"
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

enum { DATA_CLUSTERS = 8, IMAGE_CLUSTERS = 5 + DATA_CLUSTERS, IMAGE_MAX = IMAGE_CLUSTERS << 12 };

/* Header, refcount table and block, L1, L2, data: a cluster each but for the last. */
static size_t sound_image(uint8_t *image, uint8_t shape)
{
    unsigned bits = 9 + (shape & 3), order = shape & 4 ? 4 : shape >> 4 & 7;
    uint64_t cluster = 1ull << bits;
    bool old = shape & 8 && order == 4;

    memset(image, 0, IMAGE_MAX);
    be32_store(image, 0x514649fb);
    be32_store(image + 4, old ? 2 : 3);
    be32_store(image + 20, bits);
    be64_store(image + 24, cluster * cluster / 8);      /* what one L2 table covers */
    be32_store(image + 36, 1);
    be64_store(image + 40, 3 * cluster);
    be64_store(image + 48, cluster);
    be32_store(image + 56, 1);
    if (!old) {
        be32_store(image + 96, order);
        be32_store(image + 100, 104);
    }
    be64_store(image + cluster, 2 * cluster);
    uint8_t *counts = image + 2 * cluster, *l2 = image + 4 * cluster;
    for (unsigned i = 0; i < IMAGE_CLUSTERS; i++) {
        unsigned at = i << order;
        if (order < 3)
            counts[at / 8] |= 1 << at % 8;
        else
            counts[(at >> 3) + (1u << order) / 8 - 1] = 1;
    }
    be64_store(image + 3 * cluster, 1ull << 63 | 4 * cluster);
    for (unsigned i = 0; i < DATA_CLUSTERS; i++) {
        memset(image + (5 + i) * cluster, 'a' + i, cluster);
        be64_store(l2 + i * 16, (i % 3 ? 1ull << 63 : 0) | (5 + i) * cluster | (i == 4));
    }
    /* A compressed one: a stored block, "aa…", in data cluster 7. */
    uint8_t *deflated = image + (5 + 7) * cluster;
    deflated[0] = 1;
    deflated[1] = (cluster - 100) & 0xff;
    deflated[2] = (cluster - 100) >> 8;
    deflated[3] = ~deflated[1];
    deflated[4] = ~deflated[2];
    be64_store(l2 + 7 * 16, 1ull << 62 | 1ull << (62 - (bits - 8)) | (5 + 7) * cluster);
    return IMAGE_CLUSTERS * cluster;
}

/* Each change: where (two bytes), what kind, a value. */
static void change_image(uint8_t *image, size_t size, const uint8_t *data, size_t len)
{
    for (; len >= 4; data += 4, len -= 4) {
        size_t at = le16_load(data) % (size - 8);
        size_t entry = at & ~(size_t)7;
        switch (data[2] & 3) {
        case 0: image[at] = data[3]; break;
        case 1: be64_store(image + entry, 1ull << 63 | (uint64_t)data[3] << (9 + (data[2] >> 6)));
                break;
        case 2: image[entry] ^= data[3]; break;
        case 3: image[entry + 7] ^= data[3]; break;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t made[IMAGE_MAX];
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
    if (ops[3] & 2) {
        size_t made_size = sound_image(made, ops[7]);
        change_image(made, made_size, image, image_size);
        image = made;
        image_size = made_size;
    }

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
