/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clock and battery-backed memory: an MC146818A (its data sheet), IRQ 8, ports 0x70 and 0x71, with
 * the century in byte 0x32 and the sizes of memory where PC firmware leaves them.
 *
 * The time is the host's plus an offset that the guest's writes change, so it does not drift and
 * nothing runs for it. Timers run only for interrupts that are enabled; flags that nobody enabled are
 * worked out when register C is read. Not modelled: daylight saving, the square wave, bit 7 of port
 * 0x70 (the NMI mask).
 */
#include "machine/internal.h"

#include <string.h>
#include <time.h>

enum { CMOS_SIZE = 128, NS_PER_S = 1000000000, UIP_NS = 244 * 1000 };
enum { SECONDS = 0, SECONDS_ALARM = 1, MINUTES = 2, MINUTES_ALARM = 3, HOURS = 4, HOURS_ALARM = 5,
       WEEKDAY = 6, DAY = 7, MONTH = 8, YEAR = 9, REG_A = 10, REG_B = 11, REG_C = 12, REG_D = 13,
       CENTURY = 0x32 };
enum { A_UIP = 0x80, A_DIVIDER = 0x70, A_RUNNING = 0x20, A_RATE = 0x0f };
enum { B_24H = 0x02, B_BINARY = 0x04, B_UIE = 0x10, B_AIE = 0x20, B_PIE = 0x40, B_SET = 0x80 };
enum { C_UF = 0x10, C_AF = 0x20, C_PF = 0x40, C_IRQF = 0x80 };
enum { D_VALID = 0x80, HOUR_PM = 0x80, ALARM_ANY = 0xc0 };
enum { SECONDS_PER_DAY = 86400 };

struct cmos {
    struct machine *machine;
    struct mem_region *ports;
    struct timer *second_timer;         /* update and alarm */
    struct timer *periodic_timer;
    uint8_t bytes[CMOS_SIZE];           /* time bytes are valid after refresh(), or while SET */
    uint8_t index;
    uint64_t offset_s;                  /* to the host's time; two's complement */
    uint64_t seen_s;                    /* seconds for which UF and AF were worked out */
    uint64_t periodic_from_ns;          /* up to here periods were counted */
};

/* ---- time ---- */

static int64_t now_s(const struct cmos *c)
{
    return machine_wall_ns(c->machine) / NS_PER_S + (int64_t)c->offset_s;
}

static uint8_t encode(const struct cmos *c, unsigned v)
{
    return c->bytes[REG_B] & B_BINARY ? v : v / 10 << 4 | v % 10;
}

static unsigned decode(const struct cmos *c, uint8_t v)
{
    return c->bytes[REG_B] & B_BINARY ? v : (v >> 4) * 10 + (v & 15);
}

static uint8_t encode_hour(const struct cmos *c, unsigned hour)
{
    if (c->bytes[REG_B] & B_24H)
        return encode(c, hour);
    return encode(c, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0);
}

static unsigned decode_hour(const struct cmos *c, uint8_t v)
{
    if (c->bytes[REG_B] & B_24H)
        return decode(c, v);
    return decode(c, v & 0x7f) % 12 + (v & HOUR_PM ? 12 : 0);
}

/* Puts the current time into the time bytes. */
static void refresh(struct cmos *c)
{
    struct tm tm;
    time_t t = now_s(c);

    if ((c->bytes[REG_B] & B_SET) || !gmtime_r(&t, &tm))
        return;
    c->bytes[SECONDS] = encode(c, tm.tm_sec);
    c->bytes[MINUTES] = encode(c, tm.tm_min);
    c->bytes[HOURS] = encode_hour(c, tm.tm_hour);
    c->bytes[WEEKDAY] = encode(c, tm.tm_wday + 1);
    c->bytes[DAY] = encode(c, tm.tm_mday);
    c->bytes[MONTH] = encode(c, tm.tm_mon + 1);
    c->bytes[YEAR] = encode(c, (unsigned)tm.tm_year % 100);
    c->bytes[CENTURY] = encode(c, (1900u + tm.tm_year) / 100 % 100);
}

/* The time bytes are the time now: whatever nonsense they are, timegm makes a date of it. */
static void adopt(struct cmos *c)
{
    struct tm tm = {
        .tm_sec = decode(c, c->bytes[SECONDS]), .tm_min = decode(c, c->bytes[MINUTES]),
        .tm_hour = decode_hour(c, c->bytes[HOURS]), .tm_mday = decode(c, c->bytes[DAY]),
        .tm_mon = (int)decode(c, c->bytes[MONTH]) - 1,
        .tm_year = (int)(decode(c, c->bytes[CENTURY]) * 100 + decode(c, c->bytes[YEAR])) - 1900,
    };
    c->offset_s = (uint64_t)timegm(&tm) - (uint64_t)(machine_wall_ns(c->machine) / NS_PER_S);
    c->seen_s = now_s(c);
}

/* ---- alarm and flags ---- */

static bool alarm_part(const struct cmos *c, uint8_t alarm, unsigned now, bool hour)
{
    return alarm >= ALARM_ANY || (hour ? decode_hour(c, alarm) : decode(c, alarm)) == now;
}

/* Seconds from t to the next alarm after it; 0: there is none. Steps by hours and minutes. */
static unsigned next_alarm(const struct cmos *c, int64_t t)
{
    unsigned start = (unsigned)(((t % SECONDS_PER_DAY) + SECONDS_PER_DAY) % SECONDS_PER_DAY);
    unsigned at = start + 1;

    while (at <= start + SECONDS_PER_DAY) {
        if (!alarm_part(c, c->bytes[HOURS_ALARM], at / 3600 % 24, true))
            at = (at / 3600 + 1) * 3600;
        else if (!alarm_part(c, c->bytes[MINUTES_ALARM], at / 60 % 60, false))
            at = (at / 60 + 1) * 60;
        else if (!alarm_part(c, c->bytes[SECONDS_ALARM], at % 60, false))
            at++;
        else
            return at - start;
    }
    return 0;
}

static uint64_t period_ns(const struct cmos *c)
{
    unsigned rate = c->bytes[REG_A] & A_RATE;

    if (rate == 0 || (c->bytes[REG_A] & A_DIVIDER) != A_RUNNING)
        return 0;
    if (rate <= 2)
        rate += 7;
    return ((uint64_t)NS_PER_S << (rate - 1)) / 32768;
}

/* Works out which flags have come up by now. */
static void update_flags(struct cmos *c)
{
    int64_t now = now_s(c), seen = c->seen_s;
    uint64_t period = period_ns(c), clock = machine_clock_ns(c->machine);

    if (now > seen && !(c->bytes[REG_B] & B_SET)) {
        c->bytes[REG_C] |= C_UF;
        unsigned alarm = next_alarm(c, seen);
        if (alarm && now - seen >= alarm)
            c->bytes[REG_C] |= C_AF;
    }
    c->seen_s = now;
    if (period && clock - c->periodic_from_ns >= period) {
        c->bytes[REG_C] |= C_PF;
        c->periodic_from_ns = clock - (clock - c->periodic_from_ns) % period;
    }
}

static void update_irq(struct cmos *c)
{
    bool on = c->bytes[REG_B] & c->bytes[REG_C] & (B_UIE | B_AIE | B_PIE);

    c->bytes[REG_C] = (c->bytes[REG_C] & ~C_IRQF) | (on ? C_IRQF : 0);
    machine_isa_irq(c->machine, IRQ_RTC, 0, on);
}

static void arm_timers(struct cmos *c)
{
    uint64_t period = period_ns(c);
    uint64_t into = machine_wall_ns(c->machine) % NS_PER_S;
    unsigned seconds = 0;

    if (!c->second_timer)
        return;
    if (!(c->bytes[REG_B] & B_SET)) {
        if (c->bytes[REG_B] & B_UIE)
            seconds = 1;
        else if (c->bytes[REG_B] & B_AIE)
            seconds = next_alarm(c, now_s(c));
    }
    if (seconds)
        timer_arm_after(c->second_timer, (uint64_t)seconds * NS_PER_S - into);
    else
        timer_disarm(c->second_timer);

    if (period && (c->bytes[REG_B] & B_PIE))
        timer_arm_after(c->periodic_timer,
                        period - (machine_clock_ns(c->machine) - c->periodic_from_ns) % period);
    else
        timer_disarm(c->periodic_timer);
}

static void on_timer(void *opaque)
{
    struct cmos *c = opaque;

    update_flags(c);
    update_irq(c);
    arm_timers(c);
}

/* ---- registers ---- */

static bool is_time(unsigned index)
{
    return index == CENTURY || (index <= YEAR && index != SECONDS_ALARM && index != MINUTES_ALARM &&
                                index != HOURS_ALARM);
}

static uint8_t read_byte(struct cmos *c, unsigned index)
{
    uint8_t val;

    switch (index) {
    case REG_A: {
        bool soon = machine_wall_ns(c->machine) % NS_PER_S >= NS_PER_S - UIP_NS;
        return c->bytes[REG_A] | (soon && !(c->bytes[REG_B] & B_SET) ? A_UIP : 0);
    }
    case REG_C:
        update_flags(c);
        update_irq(c);
        val = c->bytes[REG_C];
        c->bytes[REG_C] = 0;
        update_irq(c);
        return val;
    case REG_D:
        return D_VALID;
    default:
        if (is_time(index))
            refresh(c);
        return c->bytes[index];
    }
}

static void write_b(struct cmos *c, uint8_t val)
{
    uint8_t changed = val ^ c->bytes[REG_B];

    update_flags(c);
    if ((changed & B_SET) && (val & B_SET)) {
        refresh(c);                     /* what the bytes show while the clock stands */
        val &= ~B_UIE;
    }
    bool starts = (changed & B_SET) && !(val & B_SET);
    c->bytes[REG_B] = val;
    if (starts)
        adopt(c);
    update_irq(c);
    arm_timers(c);
}

static void write_byte(struct cmos *c, unsigned index, uint8_t val)
{
    switch (index) {
    case REG_A:
        update_flags(c);
        c->bytes[REG_A] = val & ~A_UIP;
        c->periodic_from_ns = machine_clock_ns(c->machine);
        arm_timers(c);
        break;
    case REG_B:
        write_b(c, val);
        break;
    case REG_C:
    case REG_D:
        break;
    default:
        if (index <= HOURS_ALARM && !is_time(index))
            update_flags(c);
        else if (is_time(index))
            refresh(c);
        c->bytes[index] = val;
        if (is_time(index) && !(c->bytes[REG_B] & B_SET))
            adopt(c);
        if (index <= YEAR)
            arm_timers(c);
    }
}

static uint64_t cmos_read(void *opaque, uint64_t off, unsigned len)
{
    struct cmos *c = opaque;
    return off == 0 ? 0xff : read_byte(c, c->index);
}

static void cmos_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
    struct cmos *c = opaque;

    if (off == 0)
        c->index = val & (CMOS_SIZE - 1);
    else
        write_byte(c, c->index, val);
}

static const struct mem_ops port_ops = {
    .read = cmos_read, .write = cmos_write, .widths = ACCESS_8,
};

/* ---- life ---- */

static void put16(struct cmos *c, unsigned at, uint64_t val)
{
    le16_store(c->bytes + at, MIN(val, (uint64_t)UINT16_MAX));
}

static void set_sizes(struct cmos *c)
{
    const struct machine_map *map = machine_map(c->machine);
    uint64_t extended_kib = (map->ram_below - HIGH_START) / 1024;

    put16(c, 0x15, 640);
    put16(c, 0x17, extended_kib);
    put16(c, 0x30, extended_kib);
    put16(c, 0x34, map->ram_below > (16 << 20) ? (map->ram_below - (16 << 20)) / 65536 : 0);
    uint64_t above = MIN(map->ram_above / 65536, (uint64_t)0xffffff);
    put16(c, 0x5b, above & 0xffff);
    c->bytes[0x5d] = above >> 16;
    c->bytes[0x5f] = machine_cpus(c->machine) - 1;
}

/* The chip has a battery: a reset clears the enables and flags, and leaves time and memory. */
static void cmos_reset(struct object *obj)
{
    struct cmos *c = object_self(obj);

    c->bytes[REG_B] &= ~(B_PIE | B_AIE | B_UIE);
    c->bytes[REG_C] = 0;
    c->index = 0;
    update_irq(c);
    arm_timers(c);
}

static int cmos_realize(struct object *obj, struct error *err)
{
    struct cmos *c = object_self(obj);
    struct loop *loop = obj->tree->loop;

    c->machine = machine_of(obj);
    c->bytes[REG_A] = A_RUNNING | 6;
    c->bytes[REG_B] = B_24H;
    c->seen_s = now_s(c);
    c->periodic_from_ns = machine_clock_ns(c->machine);
    set_sizes(c);
    if (loop && (timer_new(loop, on_timer, c, &c->second_timer) < 0 ||
                 timer_new(loop, on_timer, c, &c->periodic_timer) < 0))
        return error_oom(err);
    return machine_ports_add(c->machine, "rtc", 0x70, 2, &port_ops, c, &c->ports, err);
}

static void cmos_unrealize(struct object *obj)
{
    struct cmos *c = object_self(obj);

    machine_ports_del(&c->ports);
    timer_free(c->second_timer);
    timer_free(c->periodic_timer);
    c->second_timer = c->periodic_timer = NULL;
}

static int cmos_post_load(struct object *obj, struct error *err)
{
    struct cmos *c = object_self(obj);

    c->bytes[REG_A] &= ~A_UIP;
    c->periodic_from_ns = machine_clock_ns(c->machine);     /* the other host's clock was another */
    update_irq(c);
    arm_timers(c);
    return 0;
}

const struct object_class cmos_class = {
    .name = "mc146818rtc", .summary = "real-time clock and CMOS memory", .internal = true,
    .size = sizeof(struct cmos), .state_version = 1,
    .state = (const struct state_field[]){
        STATE_BYTES(struct cmos, bytes), STATE_U8_MAX(struct cmos, index, CMOS_SIZE - 1),
        STATE_U64(struct cmos, offset_s), STATE_U64(struct cmos, seen_s), STATE_END },
    .realize = cmos_realize, .unrealize = cmos_unrealize, .reset = cmos_reset,
    .post_load = cmos_post_load,
};
