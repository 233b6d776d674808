/* SPDX-License-Identifier: Apache-2.0 */
/* Per-device channels: control makes the pair and gives each side its end; it keeps none. */
#include "vm.h"

#include <errno.h>
#include <sys/socket.h>

int device_channel_open(struct vm *vm, const struct device_config *d, struct child *server,
                        int *ret_fd, struct error *err)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return error_set(err, -errno, "%s: cannot make a channel", d->label);
    json_t *args = json_pack("{s:s, s:i}", "device", d->id, "fd", 0);
    int r = args ? child_step(server, d->label, "channel-open", args, &pair[1], 1) : -ENOMEM;
    close(pair[1]);
    if (r < 0) {
        close(pair[0]);
        return error_set(err, r, "%s: cannot ask for its channel", d->label);
    }
    *ret_fd = pair[0];
    return 0;
}
