/* SPDX-License-Identifier: Apache-2.0 */
/* A peer that sends anything, with any number of descriptors. Messages are cut at 0x00 bytes. */
#include "base/fd.h"
#include "base/log.h"
#include "ipc/primary.h"
#include "ipc/socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

static struct primary *channel;

static int on_request(void *opaque, const char *name, json_t *args, struct primary_fds *in,
                      json_int_t id, json_t **ret_answer, struct primary_fds *out,
                      struct error *err)
{
    if (name[0] == 'e') {
        *ret_answer = json_incref(args);
        return 0;
    }
    if (name[0] == 'f' && in->count) {
        out->fds[out->count++] = in->fds[0];
        in->fds[0] = -1;
        return 0;
    }
    return name[0] == 'l' ? -EINPROGRESS : error_set(err, -EINVAL, "no '%s'", name);
}

static void on_closed(void *opaque, const char *reason)
{
    primary_free(channel);
    channel = NULL;
}

static void on_answer(void *opaque, json_t *answer, struct primary_fds *in, const struct error *err)
{
    ++*(unsigned *)opaque;
}

static const struct primary_ops ops = { .request = on_request, .closed = on_closed };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct loop *loop;
    struct error err;
    int pair[2];
    unsigned answers = 0;

    if (loop_new(&loop, &err) < 0 || primary_pair(pair) < 0 ||
        primary_new(loop, pair[0], &ops, NULL, &channel, &err) < 0 ||
        primary_request(channel, "x", NULL, NULL, 0, on_answer, &answers) < 0)
        abort();
    int fds[3] = { eventfd_new(), eventfd_new(), eventfd_new() };
    while (size && channel) {
        size_t len = strnlen((const char *)data, size);
        struct iovec iov = { (void *)data, len };
        socket_send(pair[1], &iov, 1, fds, len % 4, MSG_DONTWAIT);
        loop_turn(loop, 0);
        len = len < size ? len + 1 : len;
        data += len;
        size -= len;
    }
    loop_turn(loop, 0);
    close(pair[1]);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    for (int i = 0; i < 10 && channel; i++)
        loop_turn(loop, 0);
    if (channel || answers != 1)        /* each request ends exactly once */
        abort();
    loop_free(loop);
    return 0;
}
