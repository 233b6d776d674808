/* SPDX-License-Identifier: Apache-2.0 */
#include "remote/irqs.h"

#include "base/fd.h"

#include <errno.h>

static void drop(int *fd, struct watch **watch)
{
    if (watch) {
        watch_free(*watch);
        *watch = NULL;
    }
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* ---- INTx ---- */

static void intx_fire(struct irqs *q)
{
    if (q->level && !q->masked && q->intx_fd >= 0) {
        q->masked = true;
        eventfd_signal(q->intx_fd);
    }
}

void irqs_level(struct irqs *q, bool level)
{
    q->level = level;
    intx_fire(q);
}

static void intx_unmask(struct irqs *q)
{
    q->masked = false;
    intx_fire(q);
}

static void on_unmask(void *opaque, uint32_t events)
{
    struct irqs *q = opaque;

    if (eventfd_clear(q->unmask_fd))
        intx_unmask(q);
    else if (events & (EPOLLHUP | EPOLLERR))
        drop(&q->unmask_fd, &q->unmask_watch);
}

static void on_mask(void *opaque, uint32_t events)
{
    struct irqs *q = opaque;

    if (eventfd_clear(q->mask_fd))
        q->masked = true;
    else if (events & (EPOLLHUP | EPOLLERR))
        drop(&q->mask_fd, &q->mask_watch);
}

static int listen_on(struct irqs *q, int *fd, watch_fn *fn, int *to, struct watch **watch)
{
    drop(to, watch);
    if (!fd)
        return 0;
    int r = fd_set_nonblock(*fd, true);
    if (r == 0)
        r = watch_new(q->loop, *fd, EPOLLIN, fn, q, watch);
    if (r == 0)
        *to = TAKE_FD(*fd);
    return r;
}

static void intx_unwire(struct irqs *q)
{
    drop(&q->intx_fd, NULL);
    drop(&q->mask_fd, &q->mask_watch);
    drop(&q->unmask_fd, &q->unmask_watch);
    q->masked = false;
}

static int intx_trigger(struct irqs *q, const struct vfu_irq_set *set, int *fds)
{
    if (set->data == VFU_SET_DATA_NONE && set->count == 0) {
        intx_unwire(q);
    } else if (set->data == VFU_SET_DATA_EVENTFD && set->count) {
        drop(&q->intx_fd, NULL);
        q->masked = false;
        if (fds) {
            int r = fd_set_nonblock(fds[0], true);
            if (r < 0)
                return r;
            q->intx_fd = TAKE_FD(fds[0]);
        }
        intx_fire(q);
    } else if (set->count && (set->data == VFU_SET_DATA_NONE || set->bools[0])) {
        if (q->intx_fd >= 0)
            eventfd_signal(q->intx_fd);
    }
    return 0;
}

static int intx_set(struct irqs *q, const struct vfu_irq_set *set, int *fds)
{
    bool now = set->count && (set->data == VFU_SET_DATA_NONE ||
                              (set->data == VFU_SET_DATA_BOOL && set->bools[0]));

    if (set->action == VFU_SET_TRIGGER)
        return intx_trigger(q, set, fds);
    if (set->data == VFU_SET_DATA_EVENTFD) {
        if (set->count == 0)
            return -EINVAL;
        return set->action == VFU_SET_MASK
            ? listen_on(q, fds, on_mask, &q->mask_fd, &q->mask_watch)
            : listen_on(q, fds, on_unmask, &q->unmask_fd, &q->unmask_watch);
    }
    if (now && set->action == VFU_SET_MASK)
        q->masked = true;
    else if (now)
        intx_unmask(q);
    return 0;
}

/* ---- vectors ---- */

static void fire(struct irq_vectors *v, unsigned i)
{
    if (v->fds[i] >= 0) {
        v->pending[i] = false;
        eventfd_signal(v->fds[i]);
    } else {
        v->pending[i] = true;
    }
}

void irqs_message(struct irqs *q, unsigned index, unsigned vector)
{
    struct irq_vectors *v = index == VFU_MSIX ? &q->msix : &q->msi;

    if (vector < v->count)
        fire(v, vector);
}

static void vectors_unwire(struct irq_vectors *v)
{
    for (unsigned i = 0; i < v->count; i++)
        drop(&v->fds[i], NULL);
}

static int vectors_set(struct irq_vectors *v, const struct vfu_irq_set *set, int *fds)
{
    if (set->action != VFU_SET_TRIGGER)
        return -EINVAL;                     /* its information does not say "maskable" */
    if (set->data == VFU_SET_DATA_NONE && set->count == 0) {
        vectors_unwire(v);
        for (unsigned i = 0; i < v->count; i++)
            v->pending[i] = false;
        return 0;
    }
    for (unsigned i = 0; i < set->count; i++) {
        unsigned at = set->start + i;
        if (set->data == VFU_SET_DATA_EVENTFD) {
            drop(&v->fds[at], NULL);
            if (!fds)
                continue;
            int r = fd_set_nonblock(fds[i], true);
            if (r < 0)
                return r;
            v->fds[at] = TAKE_FD(fds[i]);
            if (v->pending[at])
                fire(v, at);
        } else if ((set->data == VFU_SET_DATA_NONE || set->bools[i]) && v->fds[at] >= 0) {
            eventfd_signal(v->fds[at]);
        }
    }
    return 0;
}

int irqs_set(struct irqs *q, const struct vfu_irq_set *set, int *fds)
{
    switch (set->index) {
    case VFU_INTX: return intx_set(q, set, fds);
    case VFU_MSI:  return vectors_set(&q->msi, set, fds);
    case VFU_MSIX: return vectors_set(&q->msix, set, fds);
    default:       return 0;                /* an empty range of what the device lacks */
    }
}

/* ---- life ---- */

int irqs_init(struct irqs *q, struct loop *loop)
{
    *q = (struct irqs){ .loop = loop, .intx_fd = -1, .mask_fd = -1, .unmask_fd = -1 };
    return 0;
}

static int vectors_resize(struct irq_vectors *v, unsigned count)
{
    if (v->count == count)
        return 0;
    vectors_unwire(v);
    free(v->fds);
    free(v->pending);
    *v = (struct irq_vectors){ count, calloc(MAX(count, 1u), sizeof(int)),
                               calloc(MAX(count, 1u), sizeof(bool)) };
    if (!v->fds || !v->pending) {
        v->count = 0;
        return -ENOMEM;
    }
    for (unsigned i = 0; i < count; i++)
        v->fds[i] = -1;
    return 0;
}

int irqs_resize(struct irqs *q, unsigned msi, unsigned msix)
{
    int r = vectors_resize(&q->msi, msi);
    return r < 0 ? r : vectors_resize(&q->msix, msix);
}

void irqs_unwire(struct irqs *q)
{
    intx_unwire(q);
    vectors_unwire(&q->msi);
    vectors_unwire(&q->msix);
}

void irqs_fini(struct irqs *q)
{
    irqs_unwire(q);
    free(q->msi.fds);
    free(q->msi.pending);
    free(q->msix.fds);
    free(q->msix.pending);
    *q = (struct irqs){ .intx_fd = -1, .mask_fd = -1, .unmask_fd = -1 };
}
