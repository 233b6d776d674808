/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device-save and device-load: the state of all devices in a memory file (rows I3, J2). The file
 * that comes in was written by somebody else: its size is checked, and it is copied before it is
 * read.
 */
#include "device/service.h"

#include "base/fd.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { STATE_MAX_BYTES = 64 << 20 };

int command_device_save(struct service *service, json_t *args, struct primary_fds *in,
                        struct primary_fds *out, json_t **ret_value, struct error *err)
{
    struct state_buf buf = { .len = 0 };

    if (!service->paused)
        return error_set(err, -EINVAL, "devices are saved only while they are stopped");
    int r = objects_save(&service->tree, &buf, err);
    AUTO_FD int fd = -1;
    if (r == 0) {
        fd = memfd_create("device-state", MFD_CLOEXEC);
        r = fd < 0 ? -errno : fd_write_all(fd, buf.data, buf.len);
        if (r < 0)
            error_set(err, r, "cannot store the state of the devices");
    }
    state_buf_fini(&buf);
    if (r < 0)
        return r;
    out->fds[out->count++] = TAKE_FD(fd);
    *ret_value = json_pack("{s:i}", "fd", 0);
    return 0;
}

/* Reads it whole, from its beginning. */
static int read_state(int fd, uint8_t **ret_data, size_t *ret_len, struct error *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > STATE_MAX_BYTES)
        return error_set(err, -EINVAL, "this is no file with saved state");
    AUTO_FREE uint8_t *data = malloc(st.st_size ? st.st_size : 1);
    if (!data)
        return error_oom(err);
    int r = lseek(fd, 0, SEEK_SET) < 0 ? -errno : fd_read_all(fd, data, st.st_size);
    if (r < 0)
        return error_set(err, r, "cannot read the saved state");
    *ret_data = TAKE_PTR(data);
    *ret_len = st.st_size;
    return 0;
}

int command_device_load(struct service *service, json_t *args, struct primary_fds *in,
                        struct primary_fds *out, json_t **ret_value, struct error *err)
{
    AUTO_FREE uint8_t *data = NULL;
    size_t len = 0;

    if (!in->count)
        return error_set(err, -EINVAL, "the descriptor of the saved state is missing");
    if (!service->paused)
        return error_set(err, -EINVAL, "devices are loaded only while they are stopped");
    int r = read_state(in->fds[0], &data, &len, err);
    return r < 0 ? r : objects_load(&service->tree, data, len, err);
}
