/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs inside the guest: reads or writes a disk past the page cache for some seconds, with a
 * number of requests in flight, and prints how much it did. Static, so that it runs anywhere.
 *
 *   diskload DEVICE read|write seq|rand BLOCK_BYTES SECONDS IN_FLIGHT
 *
 * Output: "requests bytes seconds". Each request in flight has a thread of its own; a sequential
 * run gives every thread its own stretch of the disk. Writes destroy what is on it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/fs.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 64, ALIGN = 4096 };

struct job {
    int fd;
    bool write, random;
    size_t block;
    uint64_t first, blocks;         /* the stretch of this thread, in blocks */
    double end;                     /* when to stop, in seconds of now() */
    uint64_t done;                  /* requests */
    int failed;
    uint64_t seed;
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* xorshift64: cheap, repeatable. */
static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void *run(void *arg)
{
    struct job *job = arg;
    void *buf;
    uint64_t at = 0;

    if (posix_memalign(&buf, ALIGN, job->block) != 0) {
        job->failed = 1;
        return NULL;
    }
    memset(buf, 0x5a, job->block);
    while (now() < job->end) {
        uint64_t block = job->first + (job->random ? next_random(&job->seed) : at++) % job->blocks;
        off_t off = (off_t)(block * job->block);
        ssize_t n = job->write ? pwrite(job->fd, buf, job->block, off)
                               : pread(job->fd, buf, job->block, off);
        if (n != (ssize_t)job->block) {
            job->failed = 1;
            break;
        }
        job->done++;
    }
    free(buf);
    return NULL;
}

int main(int argc, char **argv)
{
    static struct job jobs[THREADS_MAX];
    static pthread_t threads[THREADS_MAX];

    if (argc != 7) {
        fprintf(stderr, "usage: diskload DEVICE read|write seq|rand BLOCK SECONDS IN_FLIGHT\n");
        return 2;
    }
    bool write = strcmp(argv[2], "write") == 0;
    size_t block = strtoul(argv[4], NULL, 10);
    double seconds = strtod(argv[5], NULL);
    unsigned count = (unsigned)strtoul(argv[6], NULL, 10);
    int fd = open(argv[1], O_DIRECT | O_CLOEXEC | (write ? O_RDWR : O_RDONLY));
    uint64_t size = 0;
    if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size) < 0) {
        perror(argv[1]);
        return 1;
    }
    if (block == 0 || block % 512 != 0 || count == 0 || count > THREADS_MAX ||
        size / block < count) {
        fprintf(stderr, "diskload: these numbers do not fit a disk of %" PRIu64 " bytes\n", size);
        return 2;
    }

    double begin = now();
    for (unsigned i = 0; i < count; i++) {
        bool random = strcmp(argv[3], "rand") == 0;
        uint64_t share = size / block / count;
        jobs[i] = (struct job){ .fd = fd, .write = write, .random = random, .block = block,
                                .first = random ? 0 : share * i,
                                .blocks = random ? size / block : share,
                                .end = begin + seconds, .seed = 88172645463325252u + i * 77 };
        if (pthread_create(&threads[i], NULL, run, &jobs[i]) != 0) {
            perror("thread");
            return 1;
        }
    }
    uint64_t done = 0;
    int failed = 0;
    for (unsigned i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        done += jobs[i].done;
        failed |= jobs[i].failed;
    }
    printf("%" PRIu64 " %" PRIu64 " %.6f\n", done, done * block, now() - begin);
    return failed;
}
