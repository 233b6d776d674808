/* SPDX-License-Identifier: Apache-2.0 */
/* bulkhead: the user's side of a virtual machine. */
#include "vm.h"

#include "base/log.h"
#include "common/start.h"
#include "obj/prop.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* One who signals again does not want to wait; but timeout(1) and terminals signal twice at once. */
static const uint64_t patience_ns = UINT64_C(1000) * 1000 * 1000;

static void on_stop_signal(void *opaque, const struct signalfd_siginfo *info)
{
    struct vm *vm = opaque;

    if (vm->phase == VM_ENDING && clock_now_ns() - vm->ending_since_ns < patience_ns)
        return;
    log_info("ending on signal %u (%s) from process %u", info->ssi_signo,
             strsignal((int)info->ssi_signo), info->ssi_pid);
    if (vm->phase == VM_ENDING) {
        list_for_each(struct child, c, &vm->children, link)
            child_kill(c);
        return;
    }
    vm_shutdown(vm, false, "host-signal", 0);
}

static int run(const struct config *config, struct error *err)
{
    struct vm *vm;

    int r = vm_new(config, &vm, err);
    if (r < 0)
        return r;
    r = start_on_stop(vm->loop, on_stop_signal, vm, err);
    if (r == 0)
        r = vm_launch(vm, err);
    if (r == 0 || vm->phase == VM_ENDING)
        r = loop_run(vm->loop);
    vm_free(vm);
    return r;
}

int main(int argc, char *argv[])
{
    struct config *config;
    struct error err = { 0 };

    int r = start_process("bulkhead", &err);
    if (r == 0)
        r = config_parse(argc, (const char *const *)argv, &config, &err);
    if (r < 0) {
        log_error("%s", err.text);
        return 1;
    }
    switch (config->action) {
    case ACTION_HELP:
        config_help();
        break;
    case ACTION_VERSION:
        printf("bulkhead version %s\n", version_text());
        break;
    case ACTION_DEVICE_LIST:
    case ACTION_DEVICE_PROPS:
        r = device_help(config->help_class, &err);
        if (r < 0)
            error_prefix(&err, "-device help");
        break;
    case ACTION_RUN:
        r = run(config, &err);
        break;
    }
    config_free(config);
    if (r < 0 && err.text[0])
        log_error("%s", err.text);
    return r < 0 ? 1 : r;
}
