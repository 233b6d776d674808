/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions to children for which somebody waits, one or several at once. A child that hangs keeps
 * nobody waiting for ever, and one that dies is left out.
 */
#include "vm.h"

#include <errno.h>

static const uint64_t answer_within_ns = UINT64_C(5) * 1000 * 1000 * 1000;

/* Lives until the child has answered or its channel is closed; cb is NULL once it was called. */
struct question {
    struct child *child;
    struct timer *timer;
    ask_fn *cb;
    void *opaque;
};

static void tell(struct question *q, json_t *answer, const struct error *err)
{
    ask_fn *cb = q->cb;

    q->cb = NULL;
    if (cb)
        cb(q->opaque, q->child, answer, err);
}

static void on_answer(void *opaque, json_t *answer, struct primary_fds *in, const struct error *err)
{
    struct question *q = opaque;

    tell(q, answer, err);
    timer_free(q->timer);
    free(q);
}

static void on_timeout(void *opaque)
{
    struct question *q = opaque;
    struct error err;
    char title[160];

    error_set(&err, -EINVAL, "%s does not answer", child_title(q->child, title, sizeof title));
    tell(q, NULL, &err);
}

int child_ask(struct child *child, const char *command, json_t *args, ask_fn *cb, void *opaque)
{
    struct question *q = calloc(1, sizeof *q);

    if (!q)
        return -ENOMEM;
    *q = (struct question){ .child = child, .cb = cb, .opaque = opaque };
    int r = timer_new(child->vm->loop, on_timeout, q, &q->timer);
    if (r == 0)
        r = child->primary ? primary_request(child->primary, command, args, NULL, 0, on_answer, q)
                           : -EPIPE;
    if (r < 0) {
        timer_free(q->timer);
        free(q);
        return r;
    }
    timer_arm_after(q->timer, answer_within_ns);
    return 0;
}

/* ---- several ---- */

struct gathering {
    gather_fn *take;
    void (*done)(void *opaque, const struct error *err);
    void *opaque;
    unsigned pending;           /* questions without answer, and one while asking */
    bool failed;
    struct error err;           /* the first refusal */
};

static void finish_one(struct gathering *g)
{
    if (--g->pending)
        return;
    g->done(g->opaque, g->failed ? &g->err : NULL);
    free(g);
}

static void on_gathered(void *opaque, const struct child *child, json_t *answer,
                        const struct error *err)
{
    struct gathering *g = opaque;

    if (!err) {
        g->take(g->opaque, child, answer);
    } else if (err->code != -EPIPE && !g->failed) {
        g->failed = true;
        g->err = *err;
    }
    finish_one(g);
}

int gather(struct vm *vm, bool (*who)(const struct child *child), const char *command,
           json_t *args, gather_fn *take, void (*done)(void *opaque, const struct error *err),
           void *opaque)
{
    struct gathering *g = calloc(1, sizeof *g);

    if (!g)
        return -ENOMEM;
    *g = (struct gathering){ .take = take, .done = done, .opaque = opaque, .pending = 1 };
    list_for_each(struct child, c, &vm->children, link) {
        if (!c->primary || (who && !who(c)))
            continue;
        g->pending++;
        if (child_ask(c, command, args, on_gathered, g) < 0)
            g->pending--;
    }
    finish_one(g);
    return 0;
}
