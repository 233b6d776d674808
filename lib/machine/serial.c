/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 16550A UART (PC16550D data sheet) on an ISA port. Bytes pass as fast as the character device
 * takes them: the divisor, word length, parity and stop bits are remembered and mean nothing.
 *
 * The transmitter FIFO fills only while the character device has no room, and THRE stays clear as
 * long as something is in it. Not modelled: the gate that OUT2 is on a PC's board.
 */
#include "machine/internal.h"

#include <string.h>

enum { FIFO = 16, TIMEOUT_NS = 350 * 1000 };        /* four characters at 115200 */
enum { RBR = 0, IER = 1, IIR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };
enum { IER_RDA = 1, IER_THRE = 2, IER_RLS = 4, IER_MS = 8 };
enum { IIR_MS = 0x0, IIR_NONE = 0x1, IIR_THRE = 0x2, IIR_RDA = 0x4, IIR_RLS = 0x6, IIR_TIMEOUT = 0xc,
       IIR_FIFO = 0xc0 };
enum { FCR_ENABLE = 0x01, FCR_CLEAR_RX = 0x02, FCR_CLEAR_TX = 0x04, FCR_KEPT = 0xc9 };
enum { LCR_DLAB = 0x80 };
enum { MCR_DTR = 0x01, MCR_RTS = 0x02, MCR_OUT1 = 0x04, MCR_OUT2 = 0x08, MCR_LOOP = 0x10 };
enum { LSR_DR = 0x01, LSR_OE = 0x02, LSR_BI = 0x10, LSR_THRE = 0x20, LSR_TEMT = 0x40,
       LSR_ERRORS = LSR_OE | LSR_BI };
enum { MSR_TERI = 0x04, MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80 };

struct serial {
    struct object *obj;
    struct machine *machine;
    struct chardev *chr;
    struct mem_region *ports;
    struct timer *timeout;
    uint32_t index;             /* 0: COM1 */

    uint8_t dll, dlm, ier, fcr, lcr, mcr, lsr, msr, scr;
    uint8_t rx[FIFO], tx[FIFO];
    uint8_t rx_start, rx_len, tx_len;
    bool thre_pending, timeout_pending;
};

static const uint16_t bases[MACHINE_SERIALS] = { 0x3f8, 0x2f8, 0x3e8, 0x2e8 };
static const uint8_t irqs[MACHINE_SERIALS] = { 4, 3, 4, 3 };

static unsigned fifo_size(const struct serial *s) { return s->fcr & FCR_ENABLE ? FIFO : 1; }

static unsigned trigger(const struct serial *s)
{
    static const uint8_t levels[4] = { 1, 4, 8, 14 };
    return s->fcr & FCR_ENABLE ? levels[s->fcr >> 6] : 1;
}

/* ---- interrupts ---- */

static uint8_t pending(const struct serial *s)
{
    if ((s->ier & IER_RLS) && (s->lsr & LSR_ERRORS))
        return IIR_RLS;
    if ((s->ier & IER_RDA) && s->rx_len >= trigger(s))
        return IIR_RDA;
    if ((s->ier & IER_RDA) && s->timeout_pending)
        return IIR_TIMEOUT;
    if ((s->ier & IER_THRE) && s->thre_pending)
        return IIR_THRE;
    if ((s->ier & IER_MS) && (s->msr & 0x0f))
        return IIR_MS;
    return IIR_NONE;
}

static void update_irq(struct serial *s)
{
    machine_isa_irq(s->machine, irqs[s->index], s->index, pending(s) != IIR_NONE);
}

/* Something was put into or taken out of the receiver FIFO: the time starts anew. */
static void restart_timeout(struct serial *s)
{
    s->timeout_pending = false;
    if (!s->timeout)
        return;
    if (s->rx_len && (s->fcr & FCR_ENABLE))
        timer_arm_after(s->timeout, TIMEOUT_NS);
    else
        timer_disarm(s->timeout);
}

static void on_timeout(void *opaque)
{
    struct serial *s = opaque;

    s->timeout_pending = s->rx_len > 0;
    update_irq(s);
}

/* ---- receiver ---- */

static void receive_byte(struct serial *s, uint8_t c)
{
    if (s->rx_len >= fifo_size(s)) {
        s->lsr |= LSR_OE;
        if (fifo_size(s) == 1)
            s->rx[s->rx_start] = c;     /* without FIFO the newer byte stays */
    } else {
        s->rx[(s->rx_start + s->rx_len++) % FIFO] = c;
    }
    s->lsr |= LSR_DR;
    restart_timeout(s);
}

static uint8_t take_byte(struct serial *s)
{
    uint8_t c = s->rx[s->rx_start];

    if (!s->rx_len)
        return 0;
    s->rx_start = (s->rx_start + 1) % FIFO;
    if (--s->rx_len == 0)
        s->lsr &= ~LSR_DR;
    restart_timeout(s);
    return c;
}

static void clear_rx(struct serial *s)
{
    s->rx_start = s->rx_len = 0;
    s->lsr &= ~(LSR_DR | LSR_BI);
    restart_timeout(s);
}

static size_t serial_can_read(void *opaque)
{
    const struct serial *s = opaque;
    return s->mcr & MCR_LOOP ? 0 : fifo_size(s) - MIN(s->rx_len, fifo_size(s));
}

static void serial_read(void *opaque, const uint8_t *data, size_t len)
{
    struct serial *s = opaque;

    for (size_t i = 0; i < len; i++)
        receive_byte(s, data[i]);
    update_irq(s);
}

static void accept_input(struct serial *s)
{
    if (s->chr && serial_can_read(s))
        chardev_accept_input(s->chr);
}

/* ---- transmitter ---- */

static void transmit(struct serial *s)
{
    if (s->tx_len) {
        size_t n = s->chr ? chardev_write(s->chr, s->tx, s->tx_len) : s->tx_len;
        memmove(s->tx, s->tx + n, s->tx_len - n);
        s->tx_len -= n;
    }
    if (s->tx_len == 0 && !(s->lsr & LSR_THRE)) {
        s->lsr |= LSR_THRE | LSR_TEMT;
        s->thre_pending = true;
    }
}

static void send_byte(struct serial *s, uint8_t c)
{
    s->thre_pending = false;
    if (s->mcr & MCR_LOOP) {
        receive_byte(s, c);
        s->thre_pending = true;
        return;
    }
    s->lsr &= ~(LSR_THRE | LSR_TEMT);
    if (s->tx_len < fifo_size(s))
        s->tx[s->tx_len++] = c;
    else
        s->tx[s->tx_len - 1] = c;       /* overwritten, as the data sheet has it */
    transmit(s);
}

static void serial_writable(void *opaque)
{
    struct serial *s = opaque;

    transmit(s);
    update_irq(s);
}

static void serial_event(void *opaque, enum chardev_event event)
{
    struct serial *s = opaque;

    if (event != CHARDEV_BREAK || (s->mcr & MCR_LOOP))
        return;
    receive_byte(s, 0);
    s->lsr |= LSR_BI;
    update_irq(s);
}

static const struct chardev_handler handler = {
    .can_read = serial_can_read, .read = serial_read, .writable = serial_writable,
    .event = serial_event,
};

/* ---- modem lines ---- */

static void update_modem(struct serial *s)
{
    uint8_t lines = MSR_CTS | MSR_DSR | MSR_DCD;

    if (s->mcr & MCR_LOOP)
        lines = (s->mcr & MCR_RTS ? MSR_CTS : 0) | (s->mcr & MCR_DTR ? MSR_DSR : 0) |
                (s->mcr & MCR_OUT1 ? MSR_RI : 0) | (s->mcr & MCR_OUT2 ? MSR_DCD : 0);
    uint8_t changed = (lines ^ s->msr) & 0xf0;
    uint8_t delta = changed >> 4;
    /* The ring indicator tells of its trailing edge alone. */
    if ((changed & MSR_RI) && (lines & MSR_RI))
        delta &= ~MSR_TERI;
    s->msr = lines | (s->msr & 0x0f) | delta;
}

/* ---- registers ---- */

static uint64_t serial_port_read(void *opaque, uint64_t off, unsigned len)
{
    struct serial *s = opaque;
    uint8_t val;

    switch (off) {
    case RBR:
        if (s->lcr & LCR_DLAB)
            return s->dll;
        val = take_byte(s);
        update_irq(s);
        accept_input(s);
        return val;
    case IER:
        return s->lcr & LCR_DLAB ? s->dlm : s->ier;
    case IIR:
        val = pending(s);
        if (val == IIR_THRE) {
            s->thre_pending = false;
            update_irq(s);
        }
        return val | (s->fcr & FCR_ENABLE ? IIR_FIFO : 0);
    case LCR:
        return s->lcr;
    case MCR:
        return s->mcr;
    case LSR:
        val = s->lsr;
        s->lsr &= ~LSR_ERRORS;
        update_irq(s);
        return val;
    case MSR:
        val = s->msr;
        s->msr &= 0xf0;
        update_irq(s);
        return val;
    default:
        return s->scr;
    }
}

static void fcr_write(struct serial *s, uint8_t val)
{
    bool toggled = (val ^ s->fcr) & FCR_ENABLE;

    if ((val & FCR_CLEAR_RX) || toggled)
        clear_rx(s);
    if ((val & FCR_CLEAR_TX) || toggled) {
        s->tx_len = 0;
        transmit(s);
    }
    s->fcr = val & FCR_ENABLE ? val & FCR_KEPT : 0;
    restart_timeout(s);
}

static void serial_port_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
    struct serial *s = opaque;

    switch (off) {
    case RBR:
        if (s->lcr & LCR_DLAB)
            s->dll = val;
        else
            send_byte(s, val);
        break;
    case IER:
        if (s->lcr & LCR_DLAB) {
            s->dlm = val;
            break;
        }
        if ((val & ~s->ier & IER_THRE) && (s->lsr & LSR_THRE))
            s->thre_pending = true;
        s->ier = val & 0x0f;
        break;
    case IIR:
        fcr_write(s, val);
        accept_input(s);
        break;
    case LCR:
        s->lcr = val;
        break;
    case MCR:
        s->mcr = val & 0x1f;
        update_modem(s);
        accept_input(s);
        break;
    case SCR:
        s->scr = val;
        break;
    default:            /* LSR and MSR: for the factory */
        break;
    }
    update_irq(s);
}

static const struct mem_ops port_ops = {
    .read = serial_port_read, .write = serial_port_write, .widths = ACCESS_8,
};

/* ---- life ---- */

static void serial_reset(struct object *obj)
{
    struct serial *s = object_self(obj);

    s->dll = 1;
    s->dlm = s->ier = s->fcr = s->lcr = s->mcr = s->scr = 0;
    s->rx_start = s->rx_len = s->tx_len = 0;
    s->lsr = LSR_THRE | LSR_TEMT;
    s->msr = MSR_CTS | MSR_DSR | MSR_DCD;
    s->thre_pending = false;
    restart_timeout(s);
    update_irq(s);
    accept_input(s);
}

static int serial_realize(struct object *obj, struct error *err)
{
    struct serial *s = object_self(obj);

    s->obj = obj;
    s->machine = machine_of(obj);
    s->chr = s->machine->serials[s->index];
    int r = machine_ports_add(s->machine, "serial", bases[s->index], 8, &port_ops, s, &s->ports, err);
    if (r == 0 && obj->tree->loop && timer_new(obj->tree->loop, on_timeout, s, &s->timeout) < 0)
        r = error_oom(err);
    if (r < 0)
        return r;
    serial_reset(obj);
    if (s->chr)
        chardev_attach(s->chr, &handler, s);
    return 0;
}

static void serial_unrealize(struct object *obj)
{
    struct serial *s = object_self(obj);

    if (s->chr)
        chardev_attach(s->chr, NULL, NULL);
    machine_ports_del(&s->ports);
    timer_free(s->timeout);
    s->timeout = NULL;
}

static int serial_post_load(struct object *obj, struct error *err)
{
    struct serial *s = object_self(obj);
    bool timed_out = s->timeout_pending && s->rx_len;

    restart_timeout(s);
    s->timeout_pending = timed_out;
    transmit(s);
    update_irq(s);
    accept_input(s);
    return 0;
}

const struct object_class serial_class = {
    .name = "isa-serial", .summary = "16550A UART", .internal = true, .size = sizeof(struct serial),
    .props = (const struct prop[]){
        PROP_UINT("index", struct serial, index, 0, MACHINE_SERIALS - 1, 0, "0: COM1, 3: COM4"),
        PROP_END },
    .state_version = 1,
    .state = (const struct state_field[]){
        STATE_U8(struct serial, dll), STATE_U8(struct serial, dlm),
        STATE_U8_MAX(struct serial, ier, 0x0f), STATE_U8(struct serial, fcr),
        STATE_U8(struct serial, lcr), STATE_U8_MAX(struct serial, mcr, 0x1f),
        STATE_U8(struct serial, lsr), STATE_U8(struct serial, msr), STATE_U8(struct serial, scr),
        STATE_BYTES(struct serial, rx), STATE_BYTES(struct serial, tx),
        STATE_U8_MAX(struct serial, rx_start, FIFO - 1), STATE_U8_MAX(struct serial, rx_len, FIFO),
        STATE_U8_MAX(struct serial, tx_len, FIFO), STATE_BOOL(struct serial, thre_pending),
        STATE_BOOL(struct serial, timeout_pending), STATE_END },
    .realize = serial_realize, .unrealize = serial_unrealize, .reset = serial_reset,
    .post_load = serial_post_load,
};
