/* SPDX-License-Identifier: Apache-2.0 */
#include "remote/proxy_internal.h"

#include "ipc/primary.h"

#include <errno.h>
#include <string.h>

struct channel_source {
    char *spec;
    struct primary *primary;
    unsigned refs;
    struct list link;
};

static struct list sources = { &sources, &sources };        /* loop thread */

/* Its end shows as the end of the channels; nothing to do. */
static const struct primary_ops no_ops = { NULL };

void channel_source_put(struct channel_source *s)
{
    if (!s || --s->refs)
        return;
    list_del(&s->link);
    primary_free(s->primary);
    free(s->spec);
    free(s);
}

static int source_get(struct loop *loop, const char *spec, struct channel_source **ret_source,
                      struct error *err)
{
    int fd;

    list_for_each(struct channel_source, s, &sources, link) {
        if (strcmp(s->spec, spec) != 0)
            continue;
        s->refs++;
        *ret_source = s;
        return 0;
    }
    struct channel_source *s = calloc(1, sizeof *s);
    if (!s)
        return error_oom(err);
    s->refs = 1;
    s->spec = strdup(spec);
    list_add_tail(&sources, &s->link);
    int r = s->spec ? primary_socket_open(spec, &fd, err) : error_oom(err);
    if (r == 0)
        r = primary_new(loop, fd, &no_ops, NULL, &s->primary, err);
    if (r < 0) {
        channel_source_put(s);
        return r;
    }
    *ret_source = s;
    return 0;
}

int channel_open(struct loop *loop, const char *spec, const char *id, int timeout_ms,
                 struct channel_source **ret_source, int *ret_fd, struct error *err)
{
    struct channel_source *s;
    struct primary_fds fds = { .count = 0 };
    json_t *answer = NULL;

    int r = source_get(loop, spec, &s, err);
    if (r < 0)
        return r;
    json_t *args = json_pack("{s:s}", "device", id);
    r = args ? primary_call(s->primary, "channel-open", args, NULL, 0, timeout_ms, &answer, &fds,
                            err)
             : error_oom(err);
    json_decref(args);
    json_decref(answer);
    if (r == 0 && (fds.count == 0 || fds.fds[0] < 0))
        r = error_set(err, -EINVAL, "the device process gives no channel for '%s'", id);
    for (unsigned i = r == 0 ? 1 : 0; i < fds.count; i++)
        if (fds.fds[i] >= 0)
            close(fds.fds[i]);
    if (r < 0) {
        channel_source_put(s);
        return r;
    }
    *ret_source = s;
    *ret_fd = fds.fds[0];
    return 0;
}
