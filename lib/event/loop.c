/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epoll for descriptors, the wait's own time-out for timers (no timerfd: arming one costs no
 * system call), an eventfd to wake the sleeper for tasks scheduled by other threads.
 */
#include "event/loop.h"

#include "base/fd.h"
#include "base/list.h"

#include <errno.h>
#include <stdatomic.h>
#include <time.h>

enum { EVENTS_PER_WAIT = 32 };

struct watch {
    struct loop *loop;
    int fd;
    uint32_t events;
    watch_fn *cb;
    void *opaque;
    bool dead;              /* freed by a callback while a batch of events still names it */
    struct list link;       /* in loop->watches or loop->graveyard */
};

struct timer {
    struct loop *loop;
    timer_fn *cb;
    void *opaque;
    uint64_t when_ns;
    struct list link;       /* in loop->timers, soonest first; unlinked when disarmed */
};

struct task {
    struct loop *loop;
    task_fn *cb;
    void *opaque;
    struct list link;       /* in loop->tasks, under task_lock */
};

struct signal_watch {
    struct loop *loop;
    int fd;
    signal_fn *cb;
    void *opaque;
    struct watch *watch;
    struct list link;
};

struct loop {
    int epoll_fd;
    int wake_fd;
    struct watch *wake_watch;
    pthread_mutex_t *lock;          /* the user's, may be NULL */
    struct list watches, graveyard, timers, signals;
    pthread_mutex_t task_lock;
    struct list tasks;              /* GUARDED_BY(task_lock) */
    atomic_bool sleeping;           /* a wake-up is needed to be noticed */
    atomic_bool quit;
    atomic_int status;
    unsigned depth;                 /* nested loop_turn */
};

uint64_t clock_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + ts.tv_nsec;
}

static void wake(struct loop *loop)
{
    if (atomic_load(&loop->sleeping))
        eventfd_signal(loop->wake_fd);
}

static void on_wake(void *opaque, uint32_t events)
{
    struct loop *loop = opaque;
    eventfd_clear(loop->wake_fd);
}

int loop_new(struct loop **ret_loop, struct error *err)
{
    struct loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return error_oom(err);

    list_init(&loop->watches);
    list_init(&loop->graveyard);
    list_init(&loop->timers);
    list_init(&loop->signals);
    list_init(&loop->tasks);
    pthread_mutex_init(&loop->task_lock, NULL);
    loop->wake_fd = -1;

    int r;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        r = error_set(err, -errno, "cannot make an epoll descriptor");
        goto fail;
    }
    r = loop->wake_fd = eventfd_new();
    if (r >= 0)
        r = watch_new(loop, loop->wake_fd, EPOLLIN, on_wake, loop, &loop->wake_watch);
    if (r < 0) {
        error_set(err, r, "cannot make the event loop's wake-up descriptor");
        goto fail;
    }
    *ret_loop = loop;
    return 0;

fail:
    loop_free(loop);
    return r;
}

static void bury(struct loop *loop)
{
    list_for_each(struct watch, w, &loop->graveyard, link) {
        list_del(&w->link);
        free(w);
    }
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    list_for_each(struct signal_watch, s, &loop->signals, link) {
        watch_free(s->watch);
        close(s->fd);
        free(s);
    }
    watch_free(loop->wake_watch);
    bury(loop);
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    if (loop->epoll_fd >= 0)
        close(loop->epoll_fd);
    pthread_mutex_destroy(&loop->task_lock);
    free(loop);
}

void loop_set_lock(struct loop *loop, pthread_mutex_t *lock) { loop->lock = lock; }

int watch_new(struct loop *loop, int fd, uint32_t events, watch_fn *cb, void *opaque,
              struct watch **ret_watch)
{
    struct watch *w = calloc(1, sizeof *w);
    if (!w)
        return -ENOMEM;
    *w = (struct watch){ .loop = loop, .fd = fd, .events = events, .cb = cb, .opaque = opaque };

    struct epoll_event ev = { .events = events, .data.ptr = w };
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0) {
        int r = -errno;
        free(w);
        return r;
    }
    list_add_tail(&loop->watches, &w->link);
    *ret_watch = w;
    return 0;
}

void watch_set_events(struct watch *w, uint32_t events)
{
    if (w->events == events)
        return;
    w->events = events;
    struct epoll_event ev = { .events = events, .data.ptr = w };
    epoll_ctl(w->loop->epoll_fd, EPOLL_CTL_MOD, w->fd, &ev);
}

void watch_free(struct watch *w)
{
    if (!w)
        return;
    struct loop *loop = w->loop;
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
    list_del(&w->link);
    w->dead = true;
    list_add_tail(&loop->graveyard, &w->link);
    /* While the loop sleeps, or waits for its lock, its batch of events may still name w. */
    if (loop->depth == 0 && !atomic_load(&loop->sleeping))
        bury(loop);
}

int timer_new(struct loop *loop, timer_fn *cb, void *opaque, struct timer **ret_timer)
{
    struct timer *t = calloc(1, sizeof *t);
    if (!t)
        return -ENOMEM;
    *t = (struct timer){ .loop = loop, .cb = cb, .opaque = opaque };
    *ret_timer = t;
    return 0;
}

void timer_arm_at(struct timer *t, uint64_t when_ns)
{
    struct list *at;

    list_del(&t->link);
    t->when_ns = when_ns;
    for (at = t->loop->timers.next; at != &t->loop->timers; at = at->next)
        if (list_entry(at, struct timer, link)->when_ns > when_ns)
            break;
    list_add_tail(at, &t->link);
    wake(t->loop);          /* a vCPU thread may arm while the loop sleeps */
}

void timer_arm_after(struct timer *t, uint64_t delay_ns)
{
    uint64_t when;
    if (ckd_add(&when, clock_now_ns(), delay_ns))
        when = UINT64_MAX;
    timer_arm_at(t, when);
}

void timer_disarm(struct timer *t) { list_del(&t->link); }
bool timer_armed(const struct timer *t) { return list_linked(&t->link); }
uint64_t timer_when_ns(const struct timer *t) { return t->when_ns; }

void timer_free(struct timer *t)
{
    if (!t)
        return;
    timer_disarm(t);
    free(t);
}

int task_new(struct loop *loop, task_fn *cb, void *opaque, struct task **ret_task)
{
    struct task *t = calloc(1, sizeof *t);
    if (!t)
        return -ENOMEM;
    *t = (struct task){ .loop = loop, .cb = cb, .opaque = opaque };
    *ret_task = t;
    return 0;
}

void task_schedule(struct task *t)
{
    struct loop *loop = t->loop;

    pthread_mutex_lock(&loop->task_lock);
    bool first = !list_linked(&t->link);
    if (first)
        list_add_tail(&loop->tasks, &t->link);
    pthread_mutex_unlock(&loop->task_lock);
    if (first)
        wake(loop);
}

void task_cancel(struct task *t)
{
    pthread_mutex_lock(&t->loop->task_lock);
    list_del(&t->link);
    pthread_mutex_unlock(&t->loop->task_lock);
}

void task_free(struct task *t)
{
    if (!t)
        return;
    task_cancel(t);
    free(t);
}

static void on_signal(void *opaque, uint32_t events)
{
    struct signal_watch *s = opaque;
    struct signalfd_siginfo info;

    if (read(s->fd, &info, sizeof info) == sizeof info)
        s->cb(s->opaque, &info);
}

int loop_on_signal(struct loop *loop, int signo, signal_fn *cb, void *opaque)
{
    sigset_t set;

    struct signal_watch *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    *s = (struct signal_watch){ .loop = loop, .cb = cb, .opaque = opaque };

    sigemptyset(&set);
    sigaddset(&set, signo);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    s->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    int r = s->fd < 0 ? -errno : watch_new(loop, s->fd, EPOLLIN, on_signal, s, &s->watch);
    if (r < 0) {
        if (s->fd >= 0)
            close(s->fd);
        free(s);
        return r;
    }
    list_add_tail(&loop->signals, &s->link);
    return 0;
}

/* Runs the tasks that were there at the start; one that schedules itself waits a turn. */
static int run_tasks(struct loop *loop)
{
    int ran = 0;
    struct list batch;

    list_init(&batch);
    pthread_mutex_lock(&loop->task_lock);
    if (!list_empty(&loop->tasks)) {
        batch = loop->tasks;
        batch.next->prev = batch.prev->next = &batch;
        list_init(&loop->tasks);
    }
    while (!list_empty(&batch)) {
        struct task *t = list_first(&batch, struct task, link);
        list_del(&t->link);
        pthread_mutex_unlock(&loop->task_lock);
        t->cb(t->opaque);
        ran++;
        pthread_mutex_lock(&loop->task_lock);
    }
    pthread_mutex_unlock(&loop->task_lock);
    return ran;
}

static int run_timers(struct loop *loop)
{
    int ran = 0;
    uint64_t now;

    if (list_empty(&loop->timers))
        return 0;
    now = clock_now_ns();
    while (!list_empty(&loop->timers)) {
        struct timer *t = list_first(&loop->timers, struct timer, link);
        if (t->when_ns > now)
            break;
        list_del(&t->link);
        t->cb(t->opaque);
        ran++;
    }
    return ran;
}

static int wait_ms(struct loop *loop, int timeout_ms)
{
    bool has_task;

    pthread_mutex_lock(&loop->task_lock);
    has_task = !list_empty(&loop->tasks);
    pthread_mutex_unlock(&loop->task_lock);
    if (has_task || atomic_load(&loop->quit))
        return 0;
    if (!list_empty(&loop->timers)) {
        uint64_t when = list_first(&loop->timers, struct timer, link)->when_ns;
        uint64_t now = clock_now_ns();
        uint64_t ms = when <= now ? 0 : (when - now + 999999) / 1000000;
        if (timeout_ms < 0 || ms < (uint64_t)timeout_ms)
            timeout_ms = MIN(ms, (uint64_t)INT32_MAX);
    }
    return timeout_ms;
}

int loop_turn(struct loop *loop, int timeout_ms)
{
    struct epoll_event events[EVENTS_PER_WAIT];
    int ran = 0;

    /* From here on whoever schedules also wakes; so look for work after saying so. */
    atomic_store(&loop->sleeping, true);
    timeout_ms = wait_ms(loop, timeout_ms);
    if (loop->lock)
        pthread_mutex_unlock(loop->lock);
    int n = epoll_wait(loop->epoll_fd, events, ARRAY_SIZE(events), timeout_ms);
    if (loop->lock)
        pthread_mutex_lock(loop->lock);
    atomic_store(&loop->sleeping, false);

    loop->depth++;
    for (int i = 0; i < n; i++) {
        struct watch *w = events[i].data.ptr;
        if (w->dead)
            continue;
        w->cb(w->opaque, events[i].events);
        ran += w != loop->wake_watch;
    }
    ran += run_timers(loop);
    ran += run_tasks(loop);
    if (--loop->depth == 0)
        bury(loop);
    return ran;
}

int loop_run(struct loop *loop)
{
    if (loop->lock)
        pthread_mutex_lock(loop->lock);
    while (!atomic_load(&loop->quit))
        loop_turn(loop, -1);
    if (loop->lock)
        pthread_mutex_unlock(loop->lock);
    atomic_store(&loop->quit, false);
    return atomic_load(&loop->status);
}

void loop_quit(struct loop *loop, int status)
{
    atomic_store(&loop->status, status);
    atomic_store(&loop->quit, true);
    wake(loop);
}
