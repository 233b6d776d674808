/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "base/fd.h"
#include "event/loop.h"

#include <pthread.h>

static struct loop *new_loop(void)
{
    struct loop *loop;
    CHECK_EQ(loop_new(&loop, NULL), 0);
    return loop;
}

static void count(void *opaque) { ++*(int *)opaque; }

TEST(timers_run_in_order_of_time)
{
    struct loop *loop = new_loop();
    struct timer *a, *b;
    int ran_a = 0, ran_b = 0;

    CHECK_EQ(timer_new(loop, count, &ran_a, &a), 0);
    CHECK_EQ(timer_new(loop, count, &ran_b, &b), 0);
    timer_arm_after(a, 60 * 1000000000ull);
    timer_arm_after(b, 1000000);
    CHECK_EQ(loop_turn(loop, 5000), 1);
    CHECK_EQ(ran_b, 1);
    CHECK_EQ(ran_a, 0);
    CHECK(timer_armed(a));
    timer_free(a);
    timer_free(b);
    loop_free(loop);
}

TEST(task_scheduled_twice_runs_once)
{
    struct loop *loop = new_loop();
    struct task *t;
    int ran = 0;

    CHECK_EQ(task_new(loop, count, &ran, &t), 0);
    task_schedule(t);
    task_schedule(t);
    loop_turn(loop, -1);
    CHECK_EQ(ran, 1);
    task_schedule(t);
    task_cancel(t);
    loop_turn(loop, 0);
    CHECK_EQ(ran, 1);
    task_free(t);
    loop_free(loop);
}

static void *schedule_later(void *opaque)
{
    usleep(20000);
    task_schedule(opaque);
    return NULL;
}

TEST(task_from_another_thread_wakes_the_sleeper)
{
    struct loop *loop = new_loop();
    struct task *t;
    int ran = 0;
    pthread_t thread;

    CHECK_EQ(task_new(loop, count, &ran, &t), 0);
    pthread_create(&thread, NULL, schedule_later, t);
    for (int i = 0; i < 100 && !ran; i++)
        loop_turn(loop, 5000);
    CHECK_EQ(ran, 1);
    pthread_join(thread, NULL);
    task_free(t);
    loop_free(loop);
}

struct pair { struct watch *own, *other; int ran; };

static void free_both(void *opaque, uint32_t events)
{
    struct pair *p = opaque;
    p->ran++;
    watch_free(p->own);
    watch_free(p->other);
}

TEST(watch_may_free_itself_and_another_one_due_in_the_same_turn)
{
    struct loop *loop = new_loop();
    AUTO_FD int fd1 = eventfd_new();
    AUTO_FD int fd2 = eventfd_new();
    struct pair p = { 0 };

    CHECK_EQ(watch_new(loop, fd1, EPOLLIN, free_both, &p, &p.own), 0);
    CHECK_EQ(watch_new(loop, fd2, EPOLLIN, free_both, &p, &p.other), 0);
    eventfd_signal(fd1);
    eventfd_signal(fd2);
    loop_turn(loop, 1000);
    loop_turn(loop, 0);
    CHECK_EQ(p.ran, 1);
    loop_free(loop);
}

static void quit_17(void *opaque, const struct signalfd_siginfo *info)
{
    loop_quit(opaque, info->ssi_signo == SIGUSR1 ? 17 : 1);
}

TEST(signal_becomes_a_callback)
{
    struct loop *loop = new_loop();
    CHECK_EQ(loop_on_signal(loop, SIGUSR1, quit_17, loop), 0);
    raise(SIGUSR1);
    CHECK_EQ(loop_run(loop), 17);
    loop_free(loop);
}

TEST_MAIN
