/* SPDX-License-Identifier: Apache-2.0 */
/* One question to several processes at once. One that dies meanwhile is simply left out. */
#include "vm.h"

#include <errno.h>

struct gathering {
    gather_fn *take;
    void (*done)(void *opaque, const struct error *err);
    void *opaque;
    unsigned pending;           /* questions without answer, and one while asking */
    bool failed;
    struct error err;           /* the first refusal */
};

struct question {
    struct gathering *g;
    struct child *child;
};

static void finish_one(struct gathering *g)
{
    if (--g->pending)
        return;
    g->done(g->opaque, g->failed ? &g->err : NULL);
    free(g);
}

static void on_answer(void *opaque, json_t *answer, struct primary_fds *in, const struct error *err)
{
    struct question *q = opaque;
    struct gathering *g = q->g;

    if (!err) {
        g->take(g->opaque, q->child, answer);
    } else if (err->code != -EPIPE && !g->failed) {
        g->failed = true;
        g->err = *err;
    }
    free(q);
    finish_one(g);
}

static void ask(struct gathering *g, struct child *child, const char *command, json_t *args)
{
    struct question *q = malloc(sizeof *q);

    if (!q)
        return;
    *q = (struct question){ g, child };
    g->pending++;
    if (primary_request(child->primary, command, args, NULL, 0, on_answer, q) < 0) {
        free(q);
        g->pending--;
    }
}

int gather(struct vm *vm, bool (*who)(const struct child *child), const char *command,
           json_t *args, gather_fn *take, void (*done)(void *opaque, const struct error *err),
           void *opaque)
{
    struct gathering *g = calloc(1, sizeof *g);

    if (!g)
        return -ENOMEM;
    *g = (struct gathering){ .take = take, .done = done, .opaque = opaque, .pending = 1 };
    list_for_each(struct child, c, &vm->children, link)
        if (c->primary && (!who || who(c)))
            ask(g, c, command, args);
    finish_one(g);
    return 0;
}
