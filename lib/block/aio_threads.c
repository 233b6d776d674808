/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Helper threads for what blocks and io_uring does not do, and for all I/O where the host has no
 * io_uring. A thread is started when a job finds none idle, up to a few; they have small stacks
 * and take no signals. A finished job goes back to the loop thread over an eventfd.
 */
#include "block/internal.h"

#include "base/fd.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/uio.h>

enum { THREADS_MAX = 8, STACK_BYTES = 128 * 1024 };

struct pool {
    int fd;                         /* eventfd: something is in done */
    unsigned busy;                  /* jobs given and not reaped; loop thread */
    pthread_mutex_t lock;
    pthread_cond_t work;
    pthread_t threads[THREADS_MAX];
    unsigned count, idle;           /* GUARDED_BY(lock) */
    bool stop;                      /* GUARDED_BY(lock) */
    struct job *todo, **todo_tail;  /* GUARDED_BY(lock) */
    struct job *done, **done_tail;  /* GUARDED_BY(lock) */
};

int fd_pread_zero(int fd, void *buf, uint64_t len, uint64_t offset)
{
    while (len) {
        ssize_t n = pread(fd, buf, len, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0) {
            memset(buf, 0, len);
            return 0;
        }
        buf = (char *)buf + n;
        len -= n;
        offset += n;
    }
    return 0;
}

int fd_pwrite_full(int fd, const void *buf, uint64_t len, uint64_t offset, bool fua)
{
    while (len) {
        struct iovec iov = { (void *)buf, len };
        ssize_t n = pwritev2(fd, &iov, 1, offset, fua ? RWF_DSYNC : 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO;
        buf = (const char *)buf + n;
        len -= n;
        offset += n;
    }
    return 0;
}

int pool_new(struct loop *loop, struct pool **ret_pool)
{
    struct pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return -ENOMEM;
    pool->fd = eventfd_new();
    if (pool->fd < 0) {
        int r = pool->fd;
        free(pool);
        return r;
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pool->todo_tail = &pool->todo;
    pool->done_tail = &pool->done;
    *ret_pool = pool;
    return 0;
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->count; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    close(pool->fd);
    free(pool);
}

int pool_fd(const struct pool *pool) { return pool->fd; }
bool pool_busy(const struct pool *pool) { return pool->busy > 0; }

static void finish(struct pool *pool, struct job *job)
{
    job->next = NULL;
    bool first = !pool->done;
    *pool->done_tail = job;
    pool->done_tail = &job->next;
    if (first)
        eventfd_signal(pool->fd);
}

static void *thread_main(void *opaque)
{
    struct pool *pool = opaque;

    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (!pool->todo && !pool->stop) {
            pool->idle++;
            pthread_cond_wait(&pool->work, &pool->lock);
            pool->idle--;
        }
        struct job *job = pool->todo;
        if (!job)
            break;
        pool->todo = job->next;
        if (!pool->todo)
            pool->todo_tail = &pool->todo;
        pthread_mutex_unlock(&pool->lock);
        job->run(job);
        pthread_mutex_lock(&pool->lock);
        finish(pool, job);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* With the lock held. A thread more, if the host lets us. */
static void start_thread(struct pool *pool)
{
    pthread_attr_t attr;
    sigset_t all, old;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, MAX((size_t)STACK_BYTES, (size_t)PTHREAD_STACK_MIN));
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (pthread_create(&pool->threads[pool->count], &attr, thread_main, pool) == 0)
        pool->count++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
}

void pool_run(struct pool *pool, struct job *job)
{
    unsigned waiting = 1;

    job->next = NULL;
    pool->busy++;
    pthread_mutex_lock(&pool->lock);
    for (struct job *j = pool->todo; j && waiting <= pool->idle; j = j->next)
        waiting++;
    if (waiting > pool->idle && pool->count < THREADS_MAX)
        start_thread(pool);
    if (pool->count == 0) {
        /* Threads are forbidden here: better slow than not at all. */
        pthread_mutex_unlock(&pool->lock);
        job->run(job);
        pthread_mutex_lock(&pool->lock);
        finish(pool, job);
    } else {
        *pool->todo_tail = job;
        pool->todo_tail = &job->next;
        pthread_cond_signal(&pool->work);
    }
    pthread_mutex_unlock(&pool->lock);
}

void pool_reap(struct pool *pool)
{
    if (!pool->busy)
        return;
    /* Looks even when not signalled: in a drain inside done, the outer call has cleared it. */
    eventfd_clear(pool->fd);
    for (;;) {
        pthread_mutex_lock(&pool->lock);
        struct job *job = pool->done;
        if (job) {
            pool->done = job->next;
            if (!pool->done)
                pool->done_tail = &pool->done;
        }
        pthread_mutex_unlock(&pool->lock);
        if (!job)
            return;
        pool->busy--;
        job->done(job);     /* may reap again, in a drain */
    }
}
