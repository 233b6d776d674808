/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is left of the AT: the keyboard controller (8042) without a keyboard, whose use is its reset
 * line; system control ports A (0x92) and B (0x61); the port of power-on codes (0x80), where a write
 * is a short delay. A20 is always open.
 */
#include "machine/internal.h"

enum { I8042_OBF = 0x01, I8042_SYS = 0x04, I8042_COMMAND = 0x08, I8042_UNLOCKED = 0x10 };
enum { CMD_READ_CTR = 0x20, CMD_WRITE_CTR = 0x60, CMD_AUX_OFF = 0xa7, CMD_AUX_TEST = 0xa9,
       CMD_SELF_TEST = 0xaa, CMD_KBD_TEST = 0xab, CMD_READ_OUTPUT = 0xd0, CMD_WRITE_OUTPUT = 0xd1,
       CMD_PULSE = 0xf0 };
enum { OUTPUT_RESET = 0x01, OUTPUT_A20 = 0x02, A_FAST_RESET = 0x01, A_A20 = 0x02 };
enum { B_GATE = 0x01, B_KEPT = 0x03, B_REFRESH = 0x10, B_TIMER2 = 0x20 };

struct legacy {
    struct machine *machine;
    struct mem_region *i8042, *i8042_command, *port_a, *port_b, *post;
    uint8_t ctr, out, command;          /* command: the one that waits for its data; 0: none */
    bool out_full, last_was_command;
    uint8_t a, b, post_code;
};

static void reset_machine(struct legacy *l) { l->machine->ops->request_reset(l->machine->opaque); }

/* ---- keyboard controller ---- */

static void answer(struct legacy *l, uint8_t val)
{
    l->out = val;
    l->out_full = true;
}

static uint64_t data_read(void *opaque, uint64_t off, unsigned len)
{
    struct legacy *l = opaque;

    l->out_full = false;
    return l->out;
}

static void data_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
    struct legacy *l = opaque;
    uint8_t command = l->command;

    l->command = 0;
    l->last_was_command = false;
    if (command == CMD_WRITE_CTR)
        l->ctr = val;
    else if (command == CMD_WRITE_OUTPUT && !(val & OUTPUT_RESET))
        reset_machine(l);
    /* Anything else is for the keyboard, which is not there and does not answer. */
}

static uint64_t status_read(void *opaque, uint64_t off, unsigned len)
{
    const struct legacy *l = opaque;
    return I8042_SYS | I8042_UNLOCKED | (l->out_full ? I8042_OBF : 0) |
           (l->last_was_command ? I8042_COMMAND : 0);
}

static void command_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
    struct legacy *l = opaque;

    l->command = 0;
    l->last_was_command = true;
    switch (val) {
    case CMD_READ_CTR:
        answer(l, l->ctr);
        break;
    case CMD_WRITE_CTR:
    case CMD_WRITE_OUTPUT:
        l->command = val;
        break;
    case CMD_SELF_TEST:
        answer(l, 0x55);
        break;
    case CMD_KBD_TEST:
        answer(l, 0x00);
        break;
    case CMD_AUX_TEST:
        answer(l, 0xff);                /* no mouse */
        break;
    case CMD_READ_OUTPUT:
        answer(l, OUTPUT_RESET | OUTPUT_A20);
        break;
    default:
        if ((val & 0xf0) == CMD_PULSE && !(val & OUTPUT_RESET))
            reset_machine(l);
        break;
    }
}

static const struct mem_ops data_ops = { .read = data_read, .write = data_write, .widths = 1 };
static const struct mem_ops command_ops = { .read = status_read, .write = command_write, .widths = 1 };

/* ---- system control ports ---- */

static uint64_t a_read(void *opaque, uint64_t off, unsigned len)
{
    return ((struct legacy *)opaque)->a | A_A20;
}

static void a_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
    struct legacy *l = opaque;
    bool up = (val & A_FAST_RESET) && !(l->a & A_FAST_RESET);

    l->a = val;
    if (up)
        reset_machine(l);
}

/* For hypervisors that do not have port 0x61 beside their PIT: whoever waits for refresh cycles or for
 * the timer's output sees them go on. */
static uint64_t b_read(void *opaque, uint64_t off, unsigned len)
{
    struct legacy *l = opaque;

    l->b ^= B_REFRESH;
    return l->b | (l->b & B_GATE ? B_TIMER2 : 0);
}

static void b_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
    struct legacy *l = opaque;
    l->b = (l->b & ~B_KEPT) | (val & B_KEPT);
}

static uint64_t post_read(void *opaque, uint64_t off, unsigned len)
{
    return ((struct legacy *)opaque)->post_code;
}

static void post_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
    ((struct legacy *)opaque)->post_code = val;
}

static const struct mem_ops a_ops = { .read = a_read, .write = a_write, .widths = 1 };
static const struct mem_ops b_ops = { .read = b_read, .write = b_write, .widths = 1 };
static const struct mem_ops post_ops = { .read = post_read, .write = post_write, .widths = 1 };

/* ---- life ---- */

static void legacy_reset(struct object *obj)
{
    struct legacy *l = object_self(obj);

    l->ctr = l->out = l->command = l->a = l->b = l->post_code = 0;
    l->out_full = l->last_was_command = false;
}

static int legacy_realize(struct object *obj, struct error *err)
{
    struct legacy *l = object_self(obj);
    struct machine *m = l->machine = machine_of(obj);
    int r = machine_ports_add(m, "i8042", 0x60, 1, &data_ops, l, &l->i8042, err);

    if (r == 0)
        r = machine_ports_add(m, "i8042-command", 0x64, 1, &command_ops, l, &l->i8042_command, err);
    if (r == 0)
        r = machine_ports_add(m, "port92", 0x92, 1, &a_ops, l, &l->port_a, err);
    if (r == 0)
        r = machine_ports_add(m, "port61", 0x61, 1, &b_ops, l, &l->port_b, err);
    if (r == 0)
        r = machine_ports_add(m, "port80", 0x80, 1, &post_ops, l, &l->post, err);
    return r;
}

static void legacy_unrealize(struct object *obj)
{
    struct legacy *l = object_self(obj);

    machine_ports_del(&l->i8042);
    machine_ports_del(&l->i8042_command);
    machine_ports_del(&l->port_a);
    machine_ports_del(&l->port_b);
    machine_ports_del(&l->post);
}

const struct object_class legacy_class = {
    .name = "legacy-ports", .summary = "keyboard controller, system control ports", .internal = true,
    .size = sizeof(struct legacy), .state_version = 1,
    .state = (const struct state_field[]){
        STATE_U8(struct legacy, ctr), STATE_U8(struct legacy, out), STATE_U8(struct legacy, command),
        STATE_BOOL(struct legacy, out_full), STATE_BOOL(struct legacy, last_was_command),
        STATE_U8(struct legacy, a), STATE_U8(struct legacy, b), STATE_U8(struct legacy, post_code),
        STATE_END },
    .realize = legacy_realize, .unrealize = legacy_unrealize, .reset = legacy_reset,
};
