/* SPDX-License-Identifier: Apache-2.0 */
/* Serial ports: what they are connected to is opened here and handed to the CPU process. */
#include "vm.h"

#include "base/log.h"
#include "chardev/chardev.h"
#include "obj/prop.h"

#include <errno.h>
#include <string.h>

/* Keys go to the guest one by one. With mux even Ctrl-C does, since Ctrl-A x ends the machine. */
static void prepare_terminal(const json_t *options)
{
    bool mux = false;
    json_t *value = json_object_get(options, "mux");

    if (value && value_to_bool(value, "mux", &mux, NULL) < 0)
        mux = false;
    terminal_raw(STDIN_FILENO, !mux);
}

static int open_one(struct vm *vm, const struct chardev_config *chr, int *fds, unsigned cap,
                    unsigned *count, json_t **ret_desc, struct error *err)
{
    int own[CHARDEV_FDS_MAX];
    unsigned nown = 0;
    json_t *desc;

    if (*count + CHARDEV_FDS_MAX > cap)
        return error_set(err, -E2BIG, "%s: too many descriptors", chr->label);
    const char *backend = json_string_value(json_object_get(chr->options, "backend"));
    int r = chardev_open(chr->options, &desc, own, &nown, err);
    if (r < 0) {
        error_prefix(err, "%s", chr->label);
        return r;
    }
    *ret_desc = chardev_desc_rebase(desc, *count);
    for (unsigned i = 0; i < nown; i++)
        fds[(*count)++] = own[i];
    if (*ret_desc)
        json_object_set_new(*ret_desc, "id", json_string(chr->id));
    json_object_set(vm->chardev_names, chr->id, json_object_get(desc, "name"));
    if (!strcmp(backend, "stdio"))
        prepare_terminal(chr->options);
    if (!strcmp(backend, "pty"))
        log_info("%s: the terminal is %s", chr->label,
                 json_string_value(json_object_get(desc, "name")));
    json_decref(desc);
    return *ret_desc ? 0 : error_oom(err);
}

int serials_open(struct vm *vm, int *fds, unsigned cap, unsigned *count, json_t **ret_serials,
                 struct error *err)
{
    const struct config *config = vm->config;
    json_t *list = json_array(), *desc = NULL;
    int r = list ? 0 : error_oom(err);

    for (unsigned i = 0; r == 0 && i < config->nserials; i++) {
        if (config->serials[i] < 0) {
            json_array_append_new(list, json_null());
            continue;
        }
        r = open_one(vm, &config->chardevs[config->serials[i]], fds, cap, count, &desc, err);
        if (r == 0)
            json_array_append_new(list, desc);
    }
    if (r < 0) {
        json_decref(list);
        return r;
    }
    *ret_serials = list;
    return 0;
}

void serials_close(struct vm *vm)
{
    for (unsigned i = 0; i < vm->config->nserials; i++) {
        int index = vm->config->serials[i];
        const char *id = index < 0 ? NULL : vm->config->chardevs[index].id;
        if (id && json_object_get(vm->chardev_names, id))      /* it had been opened */
            chardev_forget(vm->config->chardevs[index].options);
    }
    terminal_restore();
}
