/* SPDX-License-Identifier: Apache-2.0 */
/* The machine's life as a whole: begin, events, end. */
#include "vm.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A device process may have to write out what a disk's cache holds. */
static const uint64_t kill_after_ns = UINT64_C(20) * 1000 * 1000 * 1000;

static void on_kill_timer(void *opaque)
{
    struct vm *vm = opaque;
    char title[160];

    list_for_each(struct child, c, &vm->children, link)
        if (c->pid > 0) {
            log_warn("%s does not end by itself and is killed", child_title(c, title, sizeof title));
            child_kill(c);
        }
}

int vm_new(const struct config *config, struct vm **ret_vm, struct error *err)
{
    struct vm *vm = calloc(1, sizeof *vm);

    if (!vm)
        return error_oom(err);
    vm->config = config;
    vm->chardev_names = json_object();
    list_init(&vm->children);
    int r = loop_new(&vm->loop, err);
    if (r == 0 && timer_new(vm->loop, on_kill_timer, vm, &vm->kill_timer) < 0)
        r = error_oom(err);
    if (r == 0) {
        qmp_config(vm, &vm->qmp);
        r = monitor_new(vm->loop, &vm->qmp, &vm->monitor, err);
    }
    if (r < 0) {
        vm_free(vm);
        return r;
    }
    *ret_vm = vm;
    return 0;
}

void vm_free(struct vm *vm)
{
    if (!vm)
        return;
    vm->phase = VM_ENDING;
    list_for_each(struct child, c, &vm->children, link)
        child_free(c);
    serials_close(vm);
    monitor_free(vm->monitor);
    if (vm->pidfile)
        unlink(vm->pidfile);
    free(vm->pidfile);
    timer_free(vm->kill_timer);
    loop_free(vm->loop);
    json_decref(vm->chardev_names);
    free(vm);
}

void vm_event(struct vm *vm, const char *name, json_t *data)
{
    monitor_event(vm->monitor, name, data);
}

void vm_start_failed(struct vm *vm, const struct error *err)
{
    if (vm->start_failed)
        return;
    vm->start_failed = true;
    vm->err = *err;
}

static void on_quit_answer(void *opaque, json_t *answer, struct primary_fds *in,
                           const struct error *err)
{
}

static void ask_to_quit(struct child *c)
{
    if (c->quitting)
        return;
    c->quitting = true;
    if (c->role != CHILD_EXTERNAL &&
        (!c->primary || primary_request(c->primary, "quit", NULL, NULL, 0, on_quit_answer, c) < 0))
        child_kill(c);
}

/*
 * The CPU process goes first, so that no guest sees a device fail. A device process that somebody
 * else started is left alone: its channel closes when we end.
 */
void vm_end(struct vm *vm, int status)
{
    bool any = false;

    if (vm->phase != VM_ENDING) {
        vm->phase = VM_ENDING;
        vm->exit_status = status;
        vm->ending_since_ns = clock_now_ns();
        timer_arm_after(vm->kill_timer, kill_after_ns);
    }
    list_for_each(struct child, c, &vm->children, link) {
        any |= c->pid > 0;
        if (!vm->cpu || c == vm->cpu)
            ask_to_quit(c);
    }
    if (!any)
        loop_quit(vm->loop, vm->exit_status);
}

void vm_shutdown(struct vm *vm, bool guest, const char *reason, int status)
{
    if (vm->phase == VM_ENDING)
        return;
    vm_event(vm, "SHUTDOWN", json_pack("{s:b, s:s}", "guest", guest, "reason", reason));
    if (!guest || !vm->config->shutdown_pauses)
        vm_end(vm, status);
}
