/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2 against a plain buffer as the model and QEMU's tools as the oracle. */
#include "block/tests/support.h"

#include <signal.h>
#include <sys/resource.h>

enum { KIB = 1024, MIB = 1024 * 1024 };

static const char *const open_options =
    "{'driver':'qcow2','node-name':'d','discard':'unmap','file':{'driver':'file',"
    "'filename':'%s/%s'%s}}";

static struct block *open_image(struct env *e, const char *name, const char *more)
{
    struct error err = { 0 };

    if (add(e, &err, open_options, e->dir, name, more) < 0)
        fail_msg("%s", err.text);
    return attach(e, "d", true);
}

static void close_image(struct env *e, struct block *b)
{
    struct error err = { 0 };

    block_detach(b);
    CHECK_EQ(block_node_del(e->graph, "d", &err), 0);
}

static void check_clean(const struct env *e, const char *name)
{
    if (sh(e, "qemu-img check %s", name) != 0)
        fail_msg("%s", sh_output(e));
}

/* The image as QEMU reads it is what the model says. */
static void check_content(const struct env *e, const char *name, const uint8_t *model, size_t size)
{
    uint8_t *data = malloc(size);
    char path[128];

    if (sh(e, "qemu-img convert -f qcow2 -O raw %s check.raw", name) != 0)
        fail_msg("%s", sh_output(e));
    snprintf(path, sizeof path, "%s/check.raw", e->dir);
    int fd = open(path, O_RDONLY);
    CHECK_EQ(read(fd, data, size), size);
    close(fd);
    for (size_t i = 0; i < size; i++)
        if (data[i] != model[i])
            fail_msg("byte %zu is %02x, not %02x", i, data[i], model[i]);
    free(data);
}

/*
 * Rounds of requests side by side on slots that do not overlap but share clusters, with every
 * operation; returns with the model up to date.
 */
static void random_rounds(struct env *e, struct block *b, uint8_t *model, uint8_t *data,
                          size_t size, int rounds, unsigned *seed)
{
    enum { DEPTH = 24 };
    size_t slot = size / DEPTH;

    for (int round = 0; round < rounds; round++) {
        struct wait w[DEPTH] = { 0 };
        struct iovec iov[DEPTH][3];
        int op[DEPTH];
        for (int i = 0; i < DEPTH; i++) {
            uint64_t off = i * slot + rand() % slot, room = (i + 1) * slot - off;
            uint64_t len = 1 + rand() % (rand() % 4 ? MIN(room, 20000ull) : room);
            if (rand() % 2) {
                off = MIN(align_up(off, 512), (i + 1) * slot);
                len = align_down(MIN(len, (i + 1) * slot - off), 512);
            }
            op[i] = rand() % 8;
            w[i].req.done = on_wait_done;
            iov[i][0] = (struct iovec){ data + off, len / 3 };
            iov[i][1] = (struct iovec){ data + off + len / 3, 0 };
            iov[i][2] = (struct iovec){ data + off + len / 3, len - len / 3 };
            switch (op[i]) {
            case 0: case 1: case 2:
                memset(data + off, 0xee, len);
                block_read(b, &w[i].req, off, iov[i], 3);
                break;
            case 3: case 4: case 5:
                fill_random(seed, data + off, len);
                memcpy(model + off, data + off, len);
                block_write(b, &w[i].req, off, iov[i], 3, rand() % 8 == 0);
                break;
            case 6:
                memset(model + off, 0, len);
                block_write_zeroes(b, &w[i].req, off, len, rand() % 2);
                break;
            case 7:
                if (rand() % 4 == 0)
                    block_flush(b, &w[i].req);
                else
                    block_discard(b, &w[i].req, off, len);
                break;
            }
        }
        for (int i = 0; i < DEPTH; i++) {
            CHECK_EQ(wait_for(e, &w[i]), 0);
            uint64_t off = w[i].req.offset, len = w[i].req.len;
            if (op[i] <= 2) {
                CHECK_MEM(data + off, model + off, len);
            } else if (op[i] == 7 && len) {
                /* Whole clusters are zeros now, the rest is as it was. */
                CHECK_EQ(do_read(e, b, off, data + off, len), 0);
                for (uint64_t k = off; k < off + len; k++)
                    CHECK(data[k] == model[k] || data[k] == 0);
                memcpy(model + off, data + off, len);
            }
        }
    }
}

static void against_model(enum block_aio aio, const char *create, size_t size, const char *more,
                          int rounds)
{
    struct env e;
    uint8_t *model = calloc(1, size), *data = malloc(size);
    unsigned seed = size;

    env_init(&e, aio);
    CHECK_EQ(sh(&e, "qemu-img create -f qcow2 %s a.qcow2 %zu", create, size), 0);
    for (int session = 0; session < 3; session++) {
        struct block *b = open_image(&e, "a.qcow2", more);
        CHECK_EQ(block_size(b), size);
        random_rounds(&e, b, model, data, size, rounds, &seed);
        close_image(&e, b);
        check_clean(&e, "a.qcow2");
        check_content(&e, "a.qcow2", model, size);
    }
    env_fini(&e);
    free(model);
    free(data);
}

TEST(default_image_keeps_what_was_written)
{
    against_model(BLOCK_AIO_IO_URING, "", 8 * MIB, "", 30);
}

TEST(default_image_keeps_what_was_written_by_threads)
{
    against_model(BLOCK_AIO_THREADS, "", 8 * MIB, "", 30);
}

TEST(odd_size_and_direct_io)
{
    against_model(BLOCK_AIO_IO_URING, "", 5 * MIB + 512, ",'cache.direct':'on'", 15);
}

TEST(version_2_image)
{
    against_model(BLOCK_AIO_IO_URING, "-o compat=0.10", 8 * MIB, "", 20);
}

TEST(smallest_clusters_and_widest_refcounts_make_tables_grow)
{
    against_model(BLOCK_AIO_IO_URING, "-o cluster_size=512,refcount_bits=64", 12 * MIB, "", 12);
}

TEST(small_clusters_and_narrow_refcounts)
{
    against_model(BLOCK_AIO_IO_URING, "-o cluster_size=4096,refcount_bits=1", 8 * MIB, "", 20);
    against_model(BLOCK_AIO_IO_URING, "-o cluster_size=1024,refcount_bits=4", 3 * MIB, "", 20);
}

TEST(largest_clusters)
{
    against_model(BLOCK_AIO_IO_URING, "-o cluster_size=2M,refcount_bits=32", 24 * MIB, "", 10);
}

TEST(preallocated_metadata)
{
    against_model(BLOCK_AIO_IO_URING, "-o preallocation=metadata", 8 * MIB, "", 10);
}

TEST(an_image_written_by_qemu_is_read)
{
    struct env e;
    struct error err = { 0 };
    uint8_t buf[64 * KIB], want[64 * KIB];

    env_init(&e, BLOCK_AIO_AUTO);
    CHECK_EQ(sh(&e, "qemu-img create -f qcow2 a.qcow2 1G && qemu-io -c 'write -P 17 0 64k' "
                    "-c 'write -P 34 700M 70k' -c 'write -z 700M 4k' -c 'write -P 51 1023M 1M' "
                    "-c 'write -z 1023M 64k' a.qcow2"), 0);
    CHECK_EQ(add(&e, &err, "{'driver':'qcow2','node-name':'d','read-only':true,'file':{'driver':"
                           "'file','filename':'%s/a.qcow2'}}", e.dir), 0);
    struct block *b = attach(&e, "d", false);
    CHECK_EQ(block_size(b), 1024ull * MIB);
    memset(want, 17, sizeof want);
    CHECK_EQ(do_read(&e, b, 0, buf, sizeof buf), 0);
    CHECK_MEM(buf, want, sizeof buf);
    CHECK_EQ(do_read(&e, b, 700 * MIB + 3 * KIB, buf, 2 * KIB), 0);
    memset(want, 0, KIB);
    memset(want + KIB, 34, KIB);
    CHECK_MEM(buf, want, 2 * KIB);
    CHECK_EQ(do_read(&e, b, 1023ull * MIB + 64 * KIB - 10, buf, 20), 0);
    CHECK_EQ(buf[9], 0);
    CHECK_EQ(buf[10], 51);
    CHECK_EQ(do_read(&e, b, 300 * MIB, buf, sizeof buf), 0);
    memset(want, 0, sizeof want);
    CHECK_MEM(buf, want, sizeof buf);
    CHECK_EQ(do_write(&e, b, 0, buf, 512, false), -EROFS);
    block_detach(b);
    env_fini(&e);
}

TEST(what_a_snapshot_holds_is_not_overwritten)
{
    enum { SIZE = 6 * MIB };
    struct env e;
    uint8_t *model = calloc(1, SIZE), *data = malloc(SIZE), *old = malloc(SIZE);
    unsigned seed = 3;

    env_init(&e, BLOCK_AIO_AUTO);
    CHECK_EQ(sh(&e, "qemu-img create -f qcow2 a.qcow2 %d", SIZE), 0);
    struct block *b = open_image(&e, "a.qcow2", "");
    random_rounds(&e, b, model, data, SIZE, 15, &seed);
    close_image(&e, b);
    memcpy(old, model, SIZE);
    CHECK_EQ(sh(&e, "qemu-img snapshot -c s1 a.qcow2"), 0);

    b = open_image(&e, "a.qcow2", "");
    random_rounds(&e, b, model, data, SIZE, 15, &seed);
    close_image(&e, b);
    check_clean(&e, "a.qcow2");
    check_content(&e, "a.qcow2", model, SIZE);
    CHECK_EQ(sh(&e, "qemu-img snapshot -a s1 a.qcow2"), 0);
    check_clean(&e, "a.qcow2");
    check_content(&e, "a.qcow2", old, SIZE);
    env_fini(&e);
    free(model);
    free(data);
    free(old);
}

TEST(compressed_clusters_are_read_and_replaced)
{
    enum { SIZE = 6 * MIB };
    struct env e;
    uint8_t *model = calloc(1, SIZE), *data = malloc(SIZE);
    unsigned seed = 3;
    char path[128];

    static const char *const shapes[] = { "", "-o cluster_size=4k", "-o cluster_size=2M",
                                          "-o cluster_size=512" };
    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
        env_init(&e, BLOCK_AIO_AUTO);
        /* Something that compresses: text-like, a little random. */
        for (size_t k = 0; k < SIZE; k++)
            model[k] = k % 70000 < 50000 ? "sphinx of black quartz"[(k / 3 + k % 7) % 22] : rand();
        snprintf(path, sizeof path, "%s/in.raw", e.dir);
        int fd = open(path, O_CREAT | O_WRONLY, 0600);
        CHECK_EQ(write(fd, model, SIZE), SIZE);
        close(fd);
        CHECK_EQ(sh(&e, "qemu-img convert -c -f raw -O qcow2 %s in.raw a.qcow2", shapes[i]), 0);
        struct block *b = open_image(&e, "a.qcow2", "");
        CHECK_EQ(do_read(&e, b, 0, data, SIZE), 0);
        CHECK_MEM(data, model, SIZE);
        random_rounds(&e, b, model, data, SIZE, 15, &seed);
        close_image(&e, b);
        check_clean(&e, "a.qcow2");
        check_content(&e, "a.qcow2", model, SIZE);
        env_fini(&e);
    }
    free(model);
    free(data);
}

TEST(discarded_clusters_are_used_again)
{
    struct env e;
    static uint8_t buf[4 * MIB];
    struct stat st;
    char path[128];

    env_init(&e, BLOCK_AIO_AUTO);
    CHECK_EQ(sh(&e, "qemu-img create -f qcow2 a.qcow2 1G"), 0);
    struct block *b = open_image(&e, "a.qcow2", "");
    memset(buf, 0x77, sizeof buf);
    for (uint64_t i = 0; i < 40; i++) {
        CHECK_EQ(do_write(&e, b, i * sizeof buf, buf, sizeof buf, false), 0);
        CHECK_EQ(do_flush(&e, b), 0);
        CHECK_EQ(do_discard(&e, b, i * sizeof buf, sizeof buf), 0);
        CHECK_EQ(do_flush(&e, b), 0);
    }
    close_image(&e, b);
    check_clean(&e, "a.qcow2");
    snprintf(path, sizeof path, "%s/a.qcow2", e.dir);
    CHECK_EQ(stat(path, &st), 0);
    CHECK(st.st_size < 64 * MIB);
    CHECK(st.st_blocks * 512 < 2 * MIB);
    env_fini(&e);
}

TEST(a_host_without_space_fails_requests_and_leaves_the_image_sound)
{
    enum { CHUNK = 64 * KIB, SIZE = 16 * MIB };
    struct env e;
    static uint8_t model[SIZE], buf[CHUNK];
    struct rlimit old, limit;
    unsigned failed = 0;

    env_init(&e, BLOCK_AIO_AUTO);
    CHECK_EQ(sh(&e, "qemu-img create -f qcow2 a.qcow2 %d", SIZE), 0);
    struct block *b = open_image(&e, "a.qcow2", "");
    signal(SIGXFSZ, SIG_IGN);
    CHECK_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
    limit = (struct rlimit){ 6 * MIB + 4096, old.rlim_max };
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    for (uint64_t off = 0; off < SIZE; off += CHUNK) {
        memset(buf, 1 + off / CHUNK % 200, CHUNK);
        int r = do_write(&e, b, off, buf, CHUNK, false);
        CHECK(r == 0 || r == -EFBIG);
        failed += r < 0;
        if (r == 0)
            memcpy(model + off, buf, CHUNK);
    }
    CHECK(failed > 0);
    CHECK(failed < SIZE / CHUNK);
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
    memset(buf, 0xff, CHUNK);
    memcpy(model + SIZE - CHUNK, buf, CHUNK);
    CHECK_EQ(do_write(&e, b, SIZE - CHUNK, buf, CHUNK, false), 0);
    close_image(&e, b);
    check_clean(&e, "a.qcow2");
    check_content(&e, "a.qcow2", model, SIZE);
    env_fini(&e);
}

TEST(an_idle_image_answers_a_drain_and_a_flush)
{
    struct env e;
    struct wait w = { .req.done = on_wait_done };

    env_init(&e, BLOCK_AIO_AUTO);
    CHECK_EQ(sh(&e, "qemu-img create -f qcow2 a.qcow2 1M"), 0);
    struct block *b = open_image(&e, "a.qcow2", ",'cache.no-flush':true");
    block_drain(b);
    block_drain_all(e.graph);
    block_flush(b, &w.req);
    block_drain(b);
    CHECK(w.done);
    CHECK_EQ(w.result, 0);
    /* Without a write cache each write is followed by a flush of its own. */
    block_set_write_cache(b, false);
    CHECK(!block_write_cache(b));
    CHECK_EQ(do_write(&e, b, 12345, "abc", 3, false), 0);
    close_image(&e, b);
    check_clean(&e, "a.qcow2");
    env_fini(&e);
}

/* A field of the header overwritten. */
static void poke(const struct env *e, uint64_t offset, uint64_t value, unsigned len)
{
    char path[128];
    uint8_t bytes[8];

    snprintf(path, sizeof path, "%s/a.qcow2", e->dir);
    for (unsigned i = 0; i < len; i++)
        bytes[i] = value >> (8 * (len - 1 - i));
    int fd = open(path, O_WRONLY);
    CHECK_EQ(pwrite(fd, bytes, len, offset), len);
    close(fd);
}

TEST(images_it_cannot_handle_are_refused_with_a_reason)
{
    static const struct { uint64_t offset, value; unsigned len; const char *why; } cases[] = {
        { 0, 0, 4, "not a qcow2 image" },
        { 4, 4, 4, "version 4" },
        { 8, 4096, 8, "backing file" },
        { 20, 8, 4, "cluster size" },
        { 20, 63, 4, "cluster size" },
        { 24, UINT64_MAX, 8, "virtual size" },
        { 24, 1ull << 50, 8, "L1 table" },
        { 32, 2, 4, "encrypted" },
        { 36, UINT32_MAX, 4, "L1 table" },
        { 36, 0, 4, "L1 table" },
        { 40, 1ull << 40, 8, "L1 table is not in the file" },
        { 40, 513, 8, "L1 table is not in the file" },
        { 48, 1ull << 60, 8, "refcount table" },
        { 56, UINT32_MAX, 4, "refcount table" },
        { 56, 0, 4, "refcount table" },
        { 72, 1, 8, "qemu-img check" },
        { 72, 2, 8, "corrupt" },
        { 72, 4, 8, "another file" },
        { 72, 8, 8, "compressed" },
        { 72, 16, 8, "extended L2" },
        { 72, 1ull << 40, 8, "incompatible feature 40" },
        { 96, 7, 4, "refcounts" },
        { 100, 8, 4, "header" },
    };
    struct env e;

    env_init(&e, BLOCK_AIO_AUTO);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct error err = { 0 };
        CHECK_EQ(sh(&e, "qemu-img create -f qcow2 a.qcow2 1G"), 0);
        poke(&e, cases[i].offset, cases[i].value, cases[i].len);
        CHECK(add(&e, &err, open_options, e.dir, "a.qcow2", "") < 0);
        if (!strstr(err.text, cases[i].why) || !strstr(err.text, "a.qcow2"))
            fail_msg("'%s' does not say '%s'", err.text, cases[i].why);
    }
    env_fini(&e);
}

TEST(a_dirty_image_opens_read_only)
{
    struct env e;
    struct error err = { 0 };

    env_init(&e, BLOCK_AIO_AUTO);
    CHECK_EQ(sh(&e, "qemu-img create -f qcow2 a.qcow2 1G"), 0);
    poke(&e, 72, 1, 8);
    CHECK_EQ(add(&e, &err, "{'driver':'qcow2','node-name':'d','auto-read-only':true,'file':"
                           "{'driver':'file','filename':'%s/a.qcow2'}}", e.dir), 0);
    struct block *b = NULL;
    CHECK_EQ(block_attach(e.graph, "d", true, "x", &b, &err), -EROFS);
    b = attach(&e, "d", false);
    char c;
    CHECK_EQ(do_read(&e, b, 0, &c, 1), 0);
    block_detach(b);
    env_fini(&e);
}

TEST(a_bad_l2_entry_fails_the_request_alone)
{
    struct env e;
    uint8_t buf[512];
    uint8_t be[8];
    char path[128];

    env_init(&e, BLOCK_AIO_AUTO);
    CHECK_EQ(sh(&e, "qemu-img create -f qcow2 a.qcow2 1G && "
                    "qemu-io -c 'write -P 1 0 128k' a.qcow2"), 0);
    /* Header at 0, refcount table and block, L1 at 3 clusters, L2 at the fourth. */
    snprintf(path, sizeof path, "%s/a.qcow2", e.dir);
    int fd = open(path, O_RDONLY);
    CHECK_EQ(pread(fd, be, 8, 3 * 65536), 8);
    close(fd);
    CHECK_EQ(be[5], 4);
    poke(&e, 4 * 65536, 1ull << 63 | 1ull << 50, 8);
    poke(&e, 4 * 65536 + 8, 1ull << 63 | 0x50200, 8);

    struct block *b = open_image(&e, "a.qcow2", "");
    CHECK_EQ(do_read(&e, b, 0, buf, 512), -EIO);
    CHECK_EQ(do_write(&e, b, 0, buf, 512, false), -EIO);
    CHECK_EQ(do_read(&e, b, 65536, buf, 512), -EIO);
    CHECK_EQ(do_read(&e, b, 131072, buf, 512), 0);
    CHECK_EQ(do_write(&e, b, 131072, buf, 512, false), 0);
    close_image(&e, b);
    env_fini(&e);
}

TEST(autoclear_bits_are_cleared_by_a_writer_alone)
{
    struct env e;
    struct error err = { 0 };
    char path[128];
    uint8_t bits[8];

    env_init(&e, BLOCK_AIO_AUTO);
    CHECK_EQ(sh(&e, "qemu-img create -f qcow2 a.qcow2 1M"), 0);
    poke(&e, 88, 4, 8);
    snprintf(path, sizeof path, "%s/a.qcow2", e.dir);
    CHECK_EQ(add(&e, &err, "{'driver':'qcow2','node-name':'d','read-only':true,'file':{'driver':"
                           "'file','filename':'%s/a.qcow2'}}", e.dir), 0);
    CHECK_EQ(block_node_del(e.graph, "d", &err), 0);
    int fd = open(path, O_RDONLY);
    CHECK_EQ(pread(fd, bits, 8, 88), 8);
    CHECK_EQ(bits[7], 4);
    close_image(&e, open_image(&e, "a.qcow2", ""));
    CHECK_EQ(pread(fd, bits, 8, 88), 8);
    CHECK_EQ(bits[7], 0);
    close(fd);
    env_fini(&e);
}

TEST_MAIN
