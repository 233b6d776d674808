/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that writes to a qcow2 image is killed at random moments. After each: the image has
 * no error but leaks, and everything that had been acknowledged is there.
 *
 * BLOCK_CRASH_ROUNDS in the environment: how many kills per image, instead of a few.
 */
#include "block/tests/support.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

enum { SLOTS = 96, SLOT_BYTES = 24 * 1024, DEPTH = 12, ROUNDS = 12 };
enum { SECTOR = 512 };
#define IMAGE_BYTES ((uint64_t)SLOTS * SLOT_BYTES)

/* A slot holds one number in each of its sectors, 0 for zeros; written by the child. */
struct ledger {
    atomic_uint acked[SLOTS], issued[SLOTS];
    atomic_uint requests;
};

struct writer {
    struct wait w;
    struct iovec iov;
    uint32_t *buf;
    unsigned slot, value;
    bool busy;
};

static void start_one(struct block *b, struct ledger *ledger, struct writer *wr, unsigned slot,
                      unsigned value)
{
    bool zero = rand() % 5 == 0;

    wr->slot = slot;
    wr->value = zero ? 0 : value;
    wr->busy = true;
    wr->w = (struct wait){ .req.done = on_wait_done };
    for (unsigned i = 0; i < SLOT_BYTES / 4; i++)
        wr->buf[i] = wr->value;
    wr->iov = (struct iovec){ wr->buf, SLOT_BYTES };
    atomic_store(&ledger->issued[slot], wr->value);
    if (zero)
        block_write_zeroes(b, &wr->w.req, (uint64_t)slot * SLOT_BYTES, SLOT_BYTES, rand() % 2);
    else
        block_write(b, &wr->w.req, (uint64_t)slot * SLOT_BYTES, &wr->iov, 1, rand() % 16 == 0);
}

static void child(struct env *dir, enum block_aio aio, struct ledger *ledger, unsigned seed,
                  unsigned base)
{
    struct writer wr[DEPTH] = { 0 };
    struct env e = *dir;
    struct error err = { 0 };
    bool taken[SLOTS] = { 0 };

    srand(seed);
    if (loop_new(&e.loop, &err) < 0 || block_graph_new(e.loop, aio, &e.graph, &err) < 0)
        _exit(3);
    if (add(&e, &err, "{'driver':'qcow2','node-name':'d','discard':'unmap','file':{'driver':"
                      "'file','filename':'%s/a.qcow2'}}", e.dir) < 0)
        _exit(4);
    struct block *b = attach(&e, "d", true);
    for (int i = 0; i < DEPTH; i++)
        wr[i].buf = malloc(SLOT_BYTES);
    /* What the last kill left half done is settled first; no kill comes before that is over. */
    for (unsigned s = 0; s < SLOTS; s++) {
        if (ledger->acked[s] == ledger->issued[s])
            continue;
        for (unsigned i = 0; i < SLOT_BYTES / 4; i++)
            wr[0].buf[i] = base;
        if (do_write(&e, b, (uint64_t)s * SLOT_BYTES, wr[0].buf, SLOT_BYTES, false) < 0)
            _exit(6);
        ledger->acked[s] = ledger->issued[s] = base;
    }
    for (unsigned value = base + 1;; value++) {
        for (int i = 0; i < DEPTH; i++) {
            if (wr[i].busy && wr[i].w.done) {
                if (wr[i].w.result < 0)
                    _exit(5);
                atomic_store(&ledger->acked[wr[i].slot], wr[i].value);
                atomic_fetch_add(&ledger->requests, 1);
                taken[wr[i].slot] = false;
                wr[i].busy = false;
            }
            unsigned slot = rand() % SLOTS;
            if (!wr[i].busy && !taken[slot]) {
                taken[slot] = true;
                start_one(b, ledger, &wr[i], slot, value);
            }
        }
        if (rand() % 64 == 0)
            do_flush(&e, b);
        loop_turn(e.loop, 1);
    }
}

static void verify(const struct env *e, struct ledger *ledger)
{
    static uint32_t data[IMAGE_BYTES / 4];
    char path[128];

    /* The kernel takes a dead process's ring down in the background; the file's lock, and with it
     * the certainty that no write is still on its way, ends with that. */
    int tries = 0, r;
    while ((r = sh(e, "qemu-img check a.qcow2")) == 1 && strstr(sh_output(e), "lock") &&
           ++tries < 100)
        usleep(20000);
    if (r != 0 && r != 3)       /* 3: leaks alone */
        fail_msg("check: %s", sh_output(e));
    if (sh(e, "qemu-img convert -f qcow2 -O raw a.qcow2 a.raw") != 0)
        fail_msg("convert: %s", sh_output(e));
    snprintf(path, sizeof path, "%s/a.raw", e->dir);
    int fd = open(path, O_RDONLY);
    CHECK_EQ(read(fd, data, sizeof data), sizeof data);
    close(fd);
    for (unsigned s = 0; s < SLOTS; s++) {
        unsigned acked = ledger->acked[s], issued = ledger->issued[s];
        for (unsigned i = 0; i < SLOT_BYTES / 4; i++) {
            uint32_t v = data[s * (SLOT_BYTES / 4) + i];
            if (v != acked && v != issued)
                fail_msg("slot %u byte %u holds %u, acknowledged was %u, under way %u", s, i * 4,
                         v, acked, issued);
        }
    }
}

static void kill_and_look(enum block_aio aio, const char *create, const char *snapshot)
{
    struct env e = { .dir = "" };
    const char *text = getenv("BLOCK_CRASH_ROUNDS");
    int rounds = text ? atoi(text) : ROUNDS;
    unsigned total = 0;

    struct ledger *ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(ledger != MAP_FAILED);
    snprintf(e.dir, sizeof e.dir, "/tmp/block-crash-XXXXXX");
    CHECK(mkdtemp(e.dir) != NULL);
    CHECK_EQ(sh(&e, "qemu-img create -f qcow2 %s a.qcow2 %llu", create,
                (unsigned long long)IMAGE_BYTES), 0);
    srand(1);
    for (int round = 0; round < rounds; round++) {
        if (round == rounds / 2 && *snapshot)
            CHECK_EQ(sh(&e, "%s", snapshot), 0);
        if (round % 8 == 7)     /* from an empty image again, so that much is allocated */
            CHECK_EQ(sh(&e, "qemu-img check -r leaks a.qcow2; qemu-io -c 'discard 0 %llu' a.qcow2",
                        (unsigned long long)IMAGE_BYTES), 0);
        for (unsigned s = 0; s < SLOTS && round % 8 == 7; s++)
            ledger->acked[s] = ledger->issued[s] = 0;
        ledger->requests = 0;
        unsigned seed = rand();
        pid_t pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            child(&e, aio, ledger, seed, (round + 1) * 1000000);
        }
        for (int i = 0; i < 5000 && !ledger->requests; i++)
            usleep(1000);
        CHECK(ledger->requests > 0);
        usleep(rand() % 25000);
        kill(pid, SIGKILL);
        int status;
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        CHECK(WIFSIGNALED(status));
        total += ledger->requests;
        verify(&e, ledger);
    }
    CHECK(total > 0);
    print_message("# %d kills, %u requests acknowledged\n", rounds, total);
    CHECK_EQ(sh(&e, "rm -rf %s", e.dir), 0);
    munmap(ledger, sizeof *ledger);
}

TEST(killed_writer_of_a_default_image_loses_nothing)
{
    kill_and_look(BLOCK_AIO_IO_URING, "", "");
}

TEST(killed_writer_by_threads_loses_nothing)
{
    kill_and_look(BLOCK_AIO_THREADS, "-o cluster_size=4k", "");
}

TEST(killed_writer_of_small_clusters_loses_nothing)
{
    kill_and_look(BLOCK_AIO_IO_URING, "-o cluster_size=512,refcount_bits=64", "");
}

TEST(killed_writer_over_a_snapshot_loses_nothing)
{
    kill_and_look(BLOCK_AIO_IO_URING, "-o cluster_size=4k",
                  "qemu-img check -r leaks a.qcow2; qemu-img snapshot -c s a.qcow2");
}

TEST_MAIN
