/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three time-outs: selection, general purpose (STIME1) and handshake-to-handshake (STIME0).
 *
 * The general purpose timer runs at the speed of the SCSI clock as SCNTL3 and STEST1 set it up,
 * since drivers use it to measure that clock: an external 40 MHz. The selection time-out does not
 * take the 250 ms of the standard: on this bus an absent target is known to be absent.
 */
#include "devices/lsi53c895a/lsi.h"

#include <inttypes.h>

enum { SELECT_TIMEOUT_NS = 100 * 1000, CLOCK_KHZ = 40000, NOMINAL_CORE_KHZ = 25000,
       SHORTEST_NS = 125 * 1000 };

/* SCLK per core clock, doubled: SCNTL3.CCF. */
static const uint8_t clock_divisor_x2[8] = { 6, 2, 3, 4, 6, 8, 12, 16 };

/* value: 1 (125 us) to 15 (2 s) at the nominal core clock; 0: off. */
static uint64_t timeout_ns(const struct lsi *s, unsigned value, bool scaled)
{
    uint64_t sclk_khz = s->reg[STEST1] & STEST1_QSEL ? 4 * CLOCK_KHZ : CLOCK_KHZ;
    uint64_t divisor_x2 = clock_divisor_x2[s->reg[SCNTL3] & SCNTL3_CCF];

    if (!value)
        return 0;
    uint64_t ns = (uint64_t)SHORTEST_NS << (value - 1) << (scaled ? 4 : 0);
    return ns * NOMINAL_CORE_KHZ / 2 * divisor_x2 / sclk_khz;
}

static void on_select_timeout(void *opaque)
{
    struct lsi *s = opaque;

    if (!s->selecting)
        return;
    s->selecting = false;
    s->reg[SOCL] &= ~BUS_ATN;
    lsi_scsi_interrupt(s, SIST_STO);
}

static void on_gen(void *opaque) { lsi_scsi_interrupt(opaque, SIST_GEN); }
static void on_hth(void *opaque) { lsi_scsi_interrupt(opaque, SIST_HTH); }

int lsi_timers_new(struct lsi *s)
{
    struct loop *loop = pci_device_loop(s->pdev);
    int r = timer_new(loop, on_select_timeout, s, &s->select_timer);

    if (r == 0)
        r = timer_new(loop, on_gen, s, &s->gen_timer);
    if (r == 0)
        r = timer_new(loop, on_hth, s, &s->hth_timer);
    return r;
}

void lsi_timers_free(struct lsi *s)
{
    timer_free(s->select_timer);
    timer_free(s->gen_timer);
    timer_free(s->hth_timer);
    s->select_timer = s->gen_timer = s->hth_timer = NULL;
}

/* Starts timer, or while paused remembers what is to run. 0: stops it. */
static void run_for(struct lsi *s, struct timer *timer, uint64_t *left_ns, uint64_t ns)
{
    if (s->paused)
        *left_ns = ns;
    else if (ns)
        timer_arm_after(timer, ns);
    else
        timer_disarm(timer);
}

void lsi_select_timeout_start(struct lsi *s)
{
    run_for(s, s->select_timer, &s->select_left_ns, SELECT_TIMEOUT_NS);
}

void lsi_select_timeout_stop(struct lsi *s)
{
    run_for(s, s->select_timer, &s->select_left_ns, 0);
}

void lsi_gen_written(struct lsi *s)
{
    uint8_t v = s->reg[STIME1];
    run_for(s, s->gen_timer, &s->gen_left_ns, timeout_ns(s, v & 15, v & STIME1_GENSF));
}

void lsi_hth_start(struct lsi *s)
{
    uint64_t ns = timeout_ns(s, s->reg[STIME0] >> 4, s->reg[STIME1] & STIME1_HTHSF);

    if (ns && !timer_armed(s->hth_timer))
        run_for(s, s->hth_timer, &s->hth_left_ns, ns);
}

void lsi_hth_stop(struct lsi *s) { run_for(s, s->hth_timer, &s->hth_left_ns, 0); }

void lsi_timers_stop(struct lsi *s)
{
    run_for(s, s->select_timer, &s->select_left_ns, 0);
    run_for(s, s->gen_timer, &s->gen_left_ns, 0);
    run_for(s, s->hth_timer, &s->hth_left_ns, 0);
}

static uint64_t stop_and_tell(struct timer *timer)
{
    uint64_t now = clock_now_ns(), when;

    if (!timer_armed(timer))
        return 0;
    when = timer_when_ns(timer);
    timer_disarm(timer);
    return when > now ? when - now : 1;
}

void lsi_timers_pause(struct lsi *s)
{
    s->select_left_ns = stop_and_tell(s->select_timer);
    s->gen_left_ns = stop_and_tell(s->gen_timer);
    s->hth_left_ns = stop_and_tell(s->hth_timer);
}

static void go_on(struct timer *timer, uint64_t *left_ns)
{
    if (*left_ns)
        timer_arm_after(timer, *left_ns);
    *left_ns = 0;
}

void lsi_timers_resume(struct lsi *s)
{
    go_on(s->select_timer, &s->select_left_ns);
    go_on(s->gen_timer, &s->gen_left_ns);
    go_on(s->hth_timer, &s->hth_left_ns);
}
