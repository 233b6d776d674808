/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever control, or who took its place, sends over the primary channel: lines "NAME JSON", each a
 * request with a memory file attached. Threads, for a ring each time would take all the time.
 */
#include "device/service.h"

#include "base/log.h"

#include <string.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINES_MAX = 24, LINE_MAX_BYTES = 4096, FILE_BYTES = 1 << 20 };

static void close_all(struct primary_fds *fds)
{
    for (unsigned i = 0; i < fds->count; i++)
        if (fds->fds[i] >= 0)
            close(fds->fds[i]);
}

static void request(struct service *service, char *line)
{
    struct primary_fds in = { .count = 1 }, out = { .count = 0 };
    char *space = strchr(line, ' ');
    json_t *answer = NULL;
    struct error err;

    if (space)
        *space = '\0';
    json_t *args = space ? json_loads(space + 1, JSON_REJECT_DUPLICATES, NULL) : json_object();
    if (!json_is_object(args)) {
        json_decref(args);
        return;
    }
    in.fds[0] = memfd_create("fuzz", MFD_CLOEXEC);
    (void)!ftruncate(in.fds[0], FILE_BYTES);
    (void)!device_primary_ops.request(service, line, args, &in, 1, &answer, &out, &err);
    close_all(&in);
    close_all(&out);
    json_decref(answer);
    json_decref(args);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char line[LINE_MAX_BYTES];
    struct service service;
    struct error err;

    log_init("fuzz", LOG_ERROR);
    if (service_init(&service, "fuzz", BLOCK_AIO_THREADS, &err) == 0) {
        for (unsigned n = 0; size && n < LINES_MAX; n++) {
            const uint8_t *end = memchr(data, '\n', size);
            size_t len = end ? (size_t)(end - data) : size;
            size_t used = MIN(len, sizeof line - 1);
            memcpy(line, data, used);
            line[used] = '\0';
            request(&service, line);
            loop_turn(service.loop, 0);
            data += len + (end != NULL);
            size -= len + (end != NULL);
        }
    }
    service_fini(&service);
    return 0;
}
