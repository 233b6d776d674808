/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever control, or who took its place, sends over the primary channel: lines "NAME JSON", each
 * a request with a memory file attached. What follows a line "--" is that file: a disk image, or
 * saved state. Block requests go to threads, for making a ring each time would take all the time.
 */
#include "device/service.h"

#include "base/log.h"

#include <string.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINES_MAX = 24, LINE_MAX_BYTES = 4096 };

struct blob { const uint8_t *data; size_t len; };

static void close_all(struct primary_fds *fds)
{
    for (unsigned i = 0; i < fds->count; i++)
        if (fds->fds[i] >= 0)
            close(fds->fds[i]);
}

static void request(struct service *service, char *line, struct blob file)
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
    (void)!write(in.fds[0], file.data, file.len);
    (void)!device_primary_ops.request(service, line, args, &in, 1, &answer, &out, &err);
    close_all(&in);
    close_all(&out);
    json_decref(answer);
    json_decref(args);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char line[LINE_MAX_BYTES];
    struct blob file = { data, 0 };
    struct service service;
    struct error err;

    const uint8_t *mark = memmem(data, size, "\n--\n", 4);
    if (mark) {
        file = (struct blob){ mark + 4, size - (mark + 4 - data) };
        size = mark - data;
    }
    log_init("fuzz", LOG_ERROR);
    if (service_init(&service, "fuzz", BLOCK_AIO_THREADS, &err) == 0) {
        for (unsigned n = 0; size && n < LINES_MAX; n++) {
            const uint8_t *end = memchr(data, '\n', size);
            size_t len = end ? (size_t)(end - data) : size;
            size_t used = MIN(len, sizeof line - 1);
            memcpy(line, data, used);
            line[used] = '\0';
            request(&service, line, file);
            loop_turn(service.loop, 0);
            data += len + (end != NULL);
            size -= len + (end != NULL);
        }
    }
    service_fini(&service);
    return 0;
}
