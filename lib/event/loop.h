/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: one per process, on epoll. Descriptors, timers, tasks, signals, and work
 * posted from other threads, all run on the loop's own thread.
 *
 * In the CPU process callbacks and vCPU threads share device state; loop_set_lock names a
 * mutex that the loop holds whenever a callback runs and releases while it sleeps.
 *
 * Unless said otherwise functions are for the loop thread (or for a thread that holds the
 * loop's lock). Everything may be freed from inside its own callback.
 */
#ifndef EVENT_LOOP_H
#define EVENT_LOOP_H

#include "base/error.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

struct loop;
struct watch;
struct timer;
struct task;

int loop_new(struct loop **ret_loop, struct error *err);
void loop_free(struct loop *loop);
void loop_set_lock(struct loop *loop, pthread_mutex_t *lock);

/* Runs until loop_quit; returns the status given there. */
int loop_run(struct loop *loop);
void loop_quit(struct loop *loop, int status);          /* any thread */

/* One turn: waits at most timeout_ms (-1: for ever) and runs what is due. Returns the number
 * of callbacks run. For tests, and for waits that must go on serving. */
int loop_turn(struct loop *loop, int timeout_ms);

/* A descriptor. events: EPOLLIN, EPOLLOUT. cb gets what happened (with EPOLLHUP, EPOLLERR).
 * Level-triggered. The descriptor stays the caller's and must outlive the watch. */
typedef void watch_fn(void *opaque, uint32_t events);
int watch_new(struct loop *loop, int fd, uint32_t events, watch_fn *cb, void *opaque,
              struct watch **ret_watch) MUST_CHECK;
void watch_set_events(struct watch *watch, uint32_t events);
void watch_free(struct watch *watch);                   /* NULL allowed */

/* One-shot timer on CLOCK_MONOTONIC. */
typedef void timer_fn(void *opaque);
int timer_new(struct loop *loop, timer_fn *cb, void *opaque, struct timer **ret_timer) MUST_CHECK;
void timer_arm_at(struct timer *timer, uint64_t when_ns);
void timer_arm_after(struct timer *timer, uint64_t delay_ns);
void timer_disarm(struct timer *timer);
bool timer_armed(const struct timer *timer);
uint64_t timer_when_ns(const struct timer *timer);
void timer_free(struct timer *timer);                   /* NULL allowed */

uint64_t clock_now_ns(void);                            /* CLOCK_MONOTONIC, any thread */

/* Something to do soon, once, however often it was scheduled since it last ran. */
typedef void task_fn(void *opaque);
int task_new(struct loop *loop, task_fn *cb, void *opaque, struct task **ret_task) MUST_CHECK;
void task_schedule(struct task *task);                  /* any thread */
void task_cancel(struct task *task);
void task_free(struct task *task);                      /* NULL allowed */

/* A signal, delivered as a callback. Blocks it in the calling thread: call before threads
 * are made. Lives as long as the loop. */
typedef void signal_fn(void *opaque, const struct signalfd_siginfo *info);
int loop_on_signal(struct loop *loop, int signo, signal_fn *cb, void *opaque) MUST_CHECK;

#endif
