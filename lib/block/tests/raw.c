/* SPDX-License-Identifier: Apache-2.0 */
/* file and raw: transfers by both engines, direct I/O, options, locks against QEMU's tools. */
#include "block/tests/support.h"

#include <signal.h>

enum { MIB = 1024 * 1024 };

/* Many requests at once, of odd sizes and in several pieces, checked against a plain buffer. */
static void mixed_io(enum block_aio aio, const char *more)
{
    enum { SIZE = 4 * MIB, ROUNDS = 40, DEPTH = 16, SLOT = SIZE / DEPTH };
    struct env e;
    struct error err = { 0 };
    uint8_t *model = calloc(1, SIZE), *data = malloc(SIZE);
    unsigned seed = 7;

    env_init(&e, aio);
    make_file(&e, "a.img", SIZE);
    CHECK_EQ(add(&e, &err, "{'driver':'raw','node-name':'d','file':{'driver':'file',"
                           "'filename':'%s/a.img'%s}}", e.dir, more), 0);
    struct block *b = attach(&e, "d", true);
    CHECK_EQ(block_size(b), SIZE);

    for (int round = 0; round < ROUNDS; round++) {
        struct wait w[DEPTH] = { 0 };
        struct iovec iov[DEPTH][40];
        for (int i = 0; i < DEPTH; i++) {
            uint64_t off = (uint64_t)i * SLOT + rand() % (SLOT / 2), len = 1 + rand() % (SLOT / 2);
            if (round % 2) {
                off &= ~511ull;
                len = (len + 511) & ~511ull;
            }
            int pieces = 1 + rand() % 40;
            bool write = rand() % 2;
            if (write)
                fill_random(&seed, data + off, len);
            else
                memset(data + off, 0xee, len);
            uint64_t at = 0;
            for (int p = 0; p < pieces; p++) {
                uint64_t n = p == pieces - 1 ? len - at : (len - at) / 3;
                iov[i][p] = (struct iovec){ data + off + at, n };
                at += n;
            }
            w[i].req.done = on_wait_done;
            if (write) {
                memcpy(model + off, data + off, len);
                block_write(b, &w[i].req, off, iov[i], pieces, rand() % 4 == 0);
            } else {
                block_read(b, &w[i].req, off, iov[i], pieces);
            }
        }
        for (int i = 0; i < DEPTH; i++) {
            CHECK_EQ(wait_for(&e, &w[i]), 0);
            CHECK_MEM(data + w[i].req.offset, model + w[i].req.offset, w[i].req.len);
        }
    }
    CHECK_EQ(do_flush(&e, b), 0);
    CHECK_EQ(do_read(&e, b, 0, data, SIZE), 0);
    CHECK_MEM(data, model, SIZE);
    block_detach(b);
    env_fini(&e);
    free(model);
    free(data);
}

TEST(io_uring_transfers_what_was_asked) { mixed_io(BLOCK_AIO_IO_URING, ""); }
TEST(threads_transfer_what_was_asked) { mixed_io(BLOCK_AIO_THREADS, ""); }
TEST(a_node_may_choose_threads) { mixed_io(BLOCK_AIO_IO_URING, ",'aio':'threads'"); }
TEST(direct_io_copes_with_any_alignment)
{
    mixed_io(BLOCK_AIO_IO_URING, ",'cache':{'direct':true}");
}
TEST(direct_io_by_threads_copes_with_any_alignment)
{
    mixed_io(BLOCK_AIO_THREADS, ",'cache.direct':'on'");
}

TEST(ranges_outside_the_disk_fail)
{
    struct env e;
    struct error err = { 0 };
    char buf[1024];

    env_init(&e, BLOCK_AIO_AUTO);
    make_file(&e, "a.img", 4096);
    CHECK_EQ(add(&e, &err, "{'driver':'file','node-name':'d','filename':'%s/a.img'}", e.dir), 0);
    struct block *b = attach(&e, "d", true);
    CHECK_EQ(do_read(&e, b, 3584, buf, 512), 0);
    CHECK_EQ(do_read(&e, b, 3584, buf, 513), -EINVAL);
    CHECK_EQ(do_write(&e, b, UINT64_MAX - 100, buf, 512, false), -EINVAL);
    CHECK_EQ(do_discard(&e, b, 0, UINT64_MAX), -EINVAL);
    CHECK_EQ(do_read(&e, b, 4096, buf, 0), 0);
    block_detach(b);
    env_fini(&e);
}

TEST(drain_completes_without_the_loop)
{
    struct env e;
    struct error err = { 0 };
    static char buf[8][4096];
    struct wait w[8] = { 0 };
    struct iovec iov[8];

    for (int aio = BLOCK_AIO_IO_URING; aio <= BLOCK_AIO_THREADS; aio++) {
        env_init(&e, aio);
        make_file(&e, "a.img", MIB);
        CHECK_EQ(add(&e, &err, "{'driver':'file','node-name':'d','filename':'%s/a.img'}", e.dir),
                 0);
        struct block *b = attach(&e, "d", true);
        for (int i = 0; i < 8; i++) {
            w[i] = (struct wait){ .req.done = on_wait_done };
            iov[i] = (struct iovec){ buf[i], sizeof buf[i] };
            block_write(b, &w[i].req, i * 4096, &iov[i], 1, i & 1);
            CHECK(!w[i].done);
        }
        block_drain(b);
        for (int i = 0; i < 8; i++)
            CHECK(w[i].done && w[i].result == 0);
        block_detach(b);
        env_fini(&e);
    }
}

struct nested {
    struct block_request req;
    struct block *other;
    struct wait *others;
    bool done;
};

static void drain_the_other(struct block_request *req, int result)
{
    struct nested *n = container_of(req, struct nested, req);

    CHECK_EQ(result, 0);
    block_drain(n->other);
    for (int i = 0; i < 4; i++)
        CHECK(n->others[i].done);
    n->done = true;
}

TEST(a_completion_may_drain_another_disk)
{
    struct env e;
    struct error err = { 0 };
    static char buf[5][4096];

    for (int aio = BLOCK_AIO_IO_URING; aio <= BLOCK_AIO_THREADS; aio++) {
        struct wait w[4] = { 0 };
        struct iovec iov[5];
        env_init(&e, aio);
        make_file(&e, "a.img", MIB);
        make_file(&e, "b.img", MIB);
        for (int i = 0; i < 2; i++)
            CHECK_EQ(add(&e, &err, "{'driver':'file','node-name':'%c','filename':'%s/%c.img'}",
                         'a' + i, e.dir, 'a' + i), 0);
        struct block *a = attach(&e, "a", true), *b = attach(&e, "b", true);
        struct nested n = { .req.done = drain_the_other, .other = b, .others = w };
        for (int i = 0; i < 5; i++)
            iov[i] = (struct iovec){ buf[i], sizeof buf[i] };
        block_write(a, &n.req, 0, &iov[4], 1, false);
        for (int i = 0; i < 4; i++) {
            w[i].req.done = on_wait_done;
            if (i & 1)
                block_write_zeroes(b, &w[i].req, i * 4096, 4096, false);
            else
                block_write(b, &w[i].req, i * 4096, &iov[i], 1, true);
        }
        while (!n.done)
            loop_turn(e.loop, 1000);
        block_detach(a);
        block_detach(b);
        env_fini(&e);
    }
}

TEST(discard_and_zeroes_leave_zeros)
{
    struct env e;
    struct error err = { 0 };
    static uint8_t buf[MIB], zero[MIB];
    struct stat st;
    char path[128];

    env_init(&e, BLOCK_AIO_AUTO);
    make_file(&e, "a.img", MIB);
    CHECK_EQ(add(&e, &err, "{'driver':'raw','node-name':'d','discard':'unmap','file':{'driver':"
                           "'file','filename':'%s/a.img'}}", e.dir), 0);
    struct block *b = attach(&e, "d", true);
    memset(buf, 0x5a, sizeof buf);
    CHECK_EQ(do_write(&e, b, 0, buf, sizeof buf, true), 0);
    CHECK_EQ(do_zeroes(&e, b, 1000, 5000, false), 0);
    CHECK_EQ(do_zeroes(&e, b, 65536, 65536, true), 0);
    CHECK_EQ(do_discard(&e, b, 524288, 524288), 0);
    CHECK_EQ(do_read(&e, b, 0, buf, sizeof buf), 0);
    CHECK_EQ(buf[999], 0x5a);
    CHECK_MEM(buf + 1000, zero, 5000);
    CHECK_EQ(buf[6000], 0x5a);
    CHECK_MEM(buf + 65536, zero, 65536);
    CHECK_MEM(buf + 524288, zero, 524288);
    snprintf(path, sizeof path, "%s/a.img", e.dir);
    CHECK_EQ(stat(path, &st), 0);
    CHECK_EQ(st.st_size, MIB);
    CHECK(st.st_blocks * 512 <= MIB / 2);
    block_detach(b);
    env_fini(&e);
}

TEST(discard_is_ignored_unless_asked_for)
{
    struct env e;
    struct error err = { 0 };
    uint8_t buf[4096], want[4096];

    env_init(&e, BLOCK_AIO_AUTO);
    make_file(&e, "a.img", 65536);
    CHECK_EQ(add(&e, &err, "{'driver':'file','node-name':'d','filename':'%s/a.img'}", e.dir), 0);
    struct block *b = attach(&e, "d", true);
    memset(want, 0x11, sizeof want);
    CHECK_EQ(do_write(&e, b, 0, want, sizeof want, false), 0);
    CHECK_EQ(do_discard(&e, b, 0, 4096), 0);
    CHECK_EQ(do_read(&e, b, 0, buf, sizeof buf), 0);
    CHECK_MEM(buf, want, sizeof buf);
    block_detach(b);
    env_fini(&e);
}

TEST(raw_shows_a_window_of_its_file)
{
    struct env e;
    struct error err = { 0 };
    char buf[512];

    env_init(&e, BLOCK_AIO_AUTO);
    make_file(&e, "a.img", 65536);
    CHECK_EQ(add(&e, &err, "{'driver':'file','node-name':'f','filename':'%s/a.img'}", e.dir), 0);
    CHECK_EQ(add(&e, &err, "{'driver':'raw','node-name':'d','file':'f','offset':'4k',"
                           "'size':8192}"), 0);
    struct block *b = attach(&e, "d", true);
    CHECK_EQ(block_size(b), 8192);
    memset(buf, 'x', sizeof buf);
    CHECK_EQ(do_write(&e, b, 7680, buf, 512, false), 0);
    CHECK_EQ(do_write(&e, b, 7681, buf, 512, false), -EINVAL);
    CHECK_EQ(block_node_del(e.graph, "f", &err), -EBUSY);
    CHECK_EQ(block_node_del(e.graph, "d", &err), -EBUSY);
    block_detach(b);
    CHECK_EQ(block_node_del(e.graph, "d", &err), 0);
    b = attach(&e, "f", false);
    CHECK_EQ(do_read(&e, b, 4096 + 7680, buf, 512), 0);
    CHECK_EQ(buf[511], 'x');
    CHECK_EQ(do_write(&e, b, 0, buf, 512, false), -EROFS);
    block_detach(b);
    CHECK_EQ(block_node_del(e.graph, "f", &err), 0);
    CHECK_EQ(block_node_del(e.graph, "f", &err), -ENOENT);
    env_fini(&e);
}

static void refuse(struct env *e, const char *options, const char *why)
{
    struct error err = { 0 };

    CHECK(add(e, &err, options, e->dir) < 0);
    if (!strstr(err.text, why))
        fail_msg("'%s' does not say '%s'", err.text, why);
    json_t *all = block_graph_query(e->graph);
    CHECK_EQ(json_array_size(all), 0);
    json_decref(all);
}

TEST(bad_options_are_named)
{
    struct env e;

    env_init(&e, BLOCK_AIO_AUTO);
    make_file(&e, "a.img", 65536);
    refuse(&e, "{'driver':'file','filename':'%s/a.img'}", "'node-name'");
    refuse(&e, "{'driver':'file','node-name':'1','filename':'%s/a.img'}", "node name '1'");
    refuse(&e, "{'node-name':'d','filename':'%s/a.img'}", "'driver'");
    refuse(&e, "{'driver':'vmdk','node-name':'d','file':'%s'}", "no block driver 'vmdk'");
    refuse(&e, "{'driver':'file','node-name':'d','x':'%s'}", "'filename'");
    refuse(&e, "{'driver':'file','node-name':'d','filename':'%s/none'}", "none");
    refuse(&e, "{'driver':'file','node-name':'d','filename':'%s/none'}", "No such file");
    refuse(&e, "{'driver':'file','node-name':'d','filename':'%s/a.img','colour':1}",
           "unknown option 'colour'");
    refuse(&e, "{'driver':'file','node-name':'d','filename':'%s/a.img','read-only':3}",
           "'read-only'");
    refuse(&e, "{'driver':'file','node-name':'d','filename':'%s/a.img','cache':{'dir':true}}",
           "unknown option 'dir'");
    refuse(&e, "{'driver':'file','node-name':'d','filename':'%s/a.img','discard':'maybe'}",
           "'discard'");
    refuse(&e, "{'driver':'file','node-name':'d','filename':'%s/a.img','aio':'native'}", "'aio'");
    refuse(&e, "{'driver':'file','node-name':'d','filename':'%s/a.img','fd':0}", "descriptor");
    refuse(&e, "{'driver':'file','node-name':'d','filename':'/dev/null','serial':'%s'}",
           "neither a file nor");
    refuse(&e, "{'driver':'host_device','node-name':'d','filename':'%s/a.img'}",
           "not a block device");
    refuse(&e, "{'driver':'raw','node-name':'d','file':'%s'}", "there is no node");
    refuse(&e, "{'driver':'raw','node-name':'d','size':'9x','file':{'driver':'file','filename':"
               "'%s/a.img'}}", "'size'");
    refuse(&e, "{'driver':'raw','node-name':'d','size':'1M','file':{'driver':'file','filename':"
               "'%s/a.img'}}", "'size'");
    refuse(&e, "{'driver':'raw','node-name':'d','file':{'driver':'file','read-only':true,"
               "'filename':'%s/a.img'}}", "read-only");
    env_fini(&e);
}

TEST(nodes_are_described)
{
    struct env e;
    struct error err = { 0 };
    const char *name, *drv, *filename;
    int ro, direct;
    json_int_t size;

    env_init(&e, BLOCK_AIO_AUTO);
    make_file(&e, "a.img", MIB);
    CHECK_EQ(add(&e, &err, "{'driver':'raw','node-name':'d','read-only':'on','cache.direct':true,"
                           "'file':{'driver':'file','filename':'%s/a.img'}}", e.dir), 0);
    json_t *all = block_graph_query(e.graph);
    CHECK_EQ(json_array_size(all), 2);
    for (size_t i = 0; i < 2; i++) {
        CHECK_EQ(json_unpack(json_array_get(all, i), "{s:s, s:s, s:s, s:b, s:{s:b}, s:{s:I}}",
                             "node-name", &name, "drv", &drv, "file", &filename, "ro", &ro,
                             "cache", "direct", &direct, "image", "virtual-size", &size), 0);
        CHECK_STR(drv, i ? "file" : "raw");
        CHECK_HAS(filename, "a.img");
        CHECK(ro && direct && size == MIB);
        CHECK(i || !strcmp(name, "d"));
    }
    /* The nested node has a name of its own, and goes with the one around it. */
    CHECK_EQ(block_node_del(e.graph, name, &err), -EBUSY);
    CHECK_EQ(block_node_del(e.graph, "d", &err), 0);
    json_decref(all);
    all = block_graph_query(e.graph);
    CHECK_EQ(json_array_size(all), 0);
    json_decref(all);
    env_fini(&e);
}

TEST(one_writer_at_a_time)
{
    struct env e;
    struct error err = { 0 };
    struct block *other = NULL;

    env_init(&e, BLOCK_AIO_AUTO);
    make_file(&e, "a.img", 65536);
    CHECK_EQ(add(&e, &err, "{'driver':'file','node-name':'d','filename':'%s/a.img'}", e.dir), 0);
    struct block *b = attach(&e, "d", true);
    CHECK_EQ(block_attach(e.graph, "d", true, "second", &other, &err), -EBUSY);
    CHECK_HAS(err.text, "second");
    CHECK_EQ(add(&e, &err, "{'driver':'file','node-name':'again','filename':'%s/a.img'}", e.dir),
             -EAGAIN);
    CHECK_HAS(err.text, "in use by another process: cannot get a write lock");
    CHECK_EQ(add(&e, &err, "{'driver':'file','node-name':'again','filename':'%s/a.img',"
                           "'locking':'off'}", e.dir), 0);
    block_detach(b);
    env_fini(&e);
}

TEST(qemu_keeps_off_our_image_and_we_off_its)
{
    struct env e;
    struct error err = { 0 };

    env_init(&e, BLOCK_AIO_AUTO);
    CHECK_EQ(sh(&e, "qemu-img create -f qcow2 a.img 1M"), 0);
    CHECK_EQ(add(&e, &err, "{'driver':'file','node-name':'w','filename':'%s/a.img'}", e.dir), 0);
    CHECK_NE(sh(&e, "qemu-io -f qcow2 -c 'write 0 512' a.img"), 0);
    CHECK_HAS(sh_output(&e), "lock");
    CHECK_EQ(block_node_del(e.graph, "w", &err), 0);
    CHECK_EQ(sh(&e, "qemu-io -f qcow2 -c 'write 0 512' a.img"), 0);

    /* Readers share, with QEMU and among ourselves; a writer is kept out. */
    CHECK_EQ(add(&e, &err, "{'driver':'file','node-name':'r1','read-only':true,"
                           "'filename':'%s/a.img'}", e.dir), 0);
    CHECK_EQ(add(&e, &err, "{'driver':'file','node-name':'r2','read-only':true,"
                           "'filename':'%s/a.img'}", e.dir), 0);
    CHECK_EQ(sh(&e, "qemu-img info -f qcow2 a.img"), 0);
    CHECK_EQ(sh(&e, "qemu-io -r -f qcow2 -c 'read 0 512' a.img"), 0);
    CHECK_NE(sh(&e, "qemu-io -f qcow2 -c 'write 0 512' a.img"), 0);
    CHECK_EQ(block_node_del(e.graph, "r1", &err), 0);
    CHECK_EQ(block_node_del(e.graph, "r2", &err), 0);

    /* qemu-io holds it while it sleeps. */
    CHECK_EQ(sh(&e, "s=$(stat -c %%s a.img); (qemu-io -f qcow2 -c 'write 512k 64k' -c 'sleep 60000' "
                    "a.img & echo $! >pid); for i in $(seq 400); do "
                    "[ $(stat -c %%s a.img) -gt $s ] && exit 0; sleep 0.05; done; exit 1"), 0);
    CHECK_EQ(add(&e, &err, "{'driver':'file','node-name':'w','filename':'%s/a.img'}", e.dir),
             -EAGAIN);
    CHECK_EQ(add(&e, &err, "{'driver':'file','node-name':'w','read-only':'on',"
                           "'filename':'%s/a.img'}", e.dir), -EAGAIN);
    CHECK_HAS(err.text, "cannot get a");
    CHECK_EQ(sh(&e, "kill $(cat pid)"), 0);
    env_fini(&e);
}

TEST(files_can_be_opened_by_another_process)
{
    struct env e;
    struct error err = { 0 };
    int fds[4];
    unsigned count = 0;
    json_t *with_fds = NULL;
    char path[128];

    env_init(&e, BLOCK_AIO_AUTO);
    make_file(&e, "a.img", MIB);
    snprintf(path, sizeof path, "%s/a.img", e.dir);
    json_t *options = json_pack("{s:s, s:s, s:{s:s, s:s}, s:s}", "driver", "raw", "node-name",
                                "d", "file", "driver", "file", "filename", path, "read-only",
                                "off");
    CHECK_EQ(block_options_open_files(options, fds, 4, &count, &with_fds, &err), 0);
    CHECK_EQ(count, 1);
    CHECK_EQ(json_integer_value(json_object_get(json_object_get(with_fds, "file"), "fd")), 0);
    /* The lock came with the descriptor. */
    CHECK_NE(sh(&e, "qemu-io -f raw -c 'write 0 512' a.img"), 0);

    struct block_fds given = { fds, count };
    CHECK_EQ(block_node_add(e.graph, with_fds, &given, &err), 0);
    CHECK_EQ(fds[0], -1);
    struct block *b = attach(&e, "d", true);
    CHECK_EQ(do_write(&e, b, 100, "hello", 5, false), 0);
    block_detach(b);
    CHECK_EQ(block_node_del(e.graph, "d", &err), 0);
    /* A descriptor is taken once. */
    CHECK_EQ(block_node_add(e.graph, with_fds, &given, &err), -EINVAL);

    /* Nothing stays open after a failure. */
    count = 0;
    json_t *bad = json_pack("{s:s, s:s, s:s, s:{s:s, s:s}}", "driver", "file", "node-name", "d",
                            "filename", "/nonexistent/x", "file", "driver", "file", "filename",
                            path);
    CHECK_EQ(block_options_open_files(bad, fds, 4, &count, &with_fds, &err), -ENOENT);
    CHECK_EQ(count, 0);
    CHECK_EQ(sh(&e, "qemu-io -f raw -c 'write 0 512' a.img"), 0);
    CHECK_EQ(block_options_open_files(options, fds, 0, &count, &options, &err), -EINVAL);
    json_decref(bad);
    json_decref(options);
    json_decref(with_fds);
    env_fini(&e);
}

TEST_MAIN
