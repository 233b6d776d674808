/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One child process: its start, its channel, the requests made to it one after the other, its end.
 * Children are not trusted: what they say is data, and they can end at any time.
 */
#include "vm.h"

#include "base/log.h"
#include "sandbox/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { CHANNEL_FD = 3, STEP_FDS_MAX = PRIMARY_FDS_MAX };

/* Between closing its channel and its end. */
static const uint64_t end_after_ns = UINT64_C(5) * 1000 * 1000 * 1000;

struct step {
    char *label, *command;
    json_t *args;
    int fds[STEP_FDS_MAX];
    unsigned nfds;
    struct list link;
};

const char *child_title(const struct child *child, char *buf, size_t size)
{
    if (child->role == CHILD_CPU)
        snprintf(buf, size, "the CPU process");
    else if (child->role == CHILD_DEVICE)
        snprintf(buf, size, "process '%s'", child->id);
    else
        snprintf(buf, size, "the process of device '%s'", child->id);
    return buf;
}

struct child *child_at(struct vm *vm, int place)
{
    list_for_each(struct child, c, &vm->children, link)
        if (c->place == place && c->role != CHILD_EXTERNAL && c->primary)
            return c;
    return NULL;
}

struct child *child_find(struct vm *vm, const char *id)
{
    list_for_each(struct child, c, &vm->children, link)
        if (!strcmp(c->id, id))
            return c;
    return NULL;
}

/* ---- requests ---- */

static void step_free(struct step *s)
{
    for (unsigned i = 0; i < s->nfds; i++)
        if (s->fds[i] >= 0)
            close(s->fds[i]);
    list_del(&s->link);
    json_decref(s->args);
    free(s->label);
    free(s->command);
    free(s);
}

static void drop_steps(struct child *c)
{
    list_for_each(struct step, s, &c->steps, link)
        step_free(s);
    c->asking = false;
}

/* A process whose channel has closed is about to end, and that is worth waiting for. */
bool child_idle(const struct child *c)
{
    return list_empty(&c->steps) && (c->primary || c->pid == 0);
}

static void ask_next(struct child *c);

static void step_failed(struct child *c, const struct step *s, const struct error *why)
{
    struct error err = *why;
    char title[160];

    if (s->label)
        error_prefix(&err, "%s", s->label);
    if (c->vm->phase == VM_STARTING)
        vm_start_failed(c->vm, &err);
    else if (c->vm->phase == VM_UP)
        log_error("%s refused '%s': %s", child_title(c, title, sizeof title), s->command, why->text);
}

static void on_step_answer(void *opaque, json_t *answer, struct primary_fds *in,
                           const struct error *err)
{
    struct child *c = opaque;

    if (!c->asking)
        return;                         /* the steps were dropped meanwhile */
    struct step *s = list_first(&c->steps, struct step, link);
    c->asking = false;
    /* A channel that closed is reported with the reason for which the process ended. */
    if (err && err->code != -EPIPE)
        step_failed(c, s, err);
    step_free(s);
    if (err)
        drop_steps(c);
    else
        ask_next(c);
}

static void ask_next(struct child *c)
{
    struct error err;

    if (c->asking || list_empty(&c->steps) || !c->primary)
        return;
    struct step *s = list_first(&c->steps, struct step, link);
    c->asking = true;
    int r = primary_request(c->primary, s->command, s->args, s->fds, s->nfds, on_step_answer, c);
    if (r < 0) {
        error_set(&err, r, "cannot send '%s' to a child process", s->command);
        step_failed(c, s, &err);
        drop_steps(c);
    }
}

int child_step(struct child *c, const char *label, const char *command, json_t *args,
               const int *fds, unsigned nfds)
{
    struct step *s = calloc(1, sizeof *s);

    if (!s || nfds > STEP_FDS_MAX) {
        json_decref(args);
        free(s);
        return s ? -E2BIG : -ENOMEM;
    }
    s->args = args;
    s->command = strdup(command);
    s->label = label ? strdup(label) : NULL;
    list_add_tail(&c->steps, &s->link);
    int r = !s->command || (label && !s->label) ? -ENOMEM : 0;
    for (unsigned i = 0; r == 0 && i < nfds; i++) {
        s->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
        s->nfds = i + 1;
        if (s->fds[i] < 0)
            r = -errno;
    }
    if (r < 0) {
        step_free(s);
        return r;
    }
    ask_next(c);
    return 0;
}

/* ---- what it says ---- */

static int on_request(void *opaque, const char *name, json_t *args, struct primary_fds *in,
                      json_int_t id, json_t **ret_answer, struct primary_fds *out,
                      struct error *err)
{
    return error_set(err, -EINVAL, "the control process takes no commands from its children");
}

static void close_channel(struct child *c)
{
    struct primary *p = c->primary;

    c->primary = NULL;
    primary_free(p);
    drop_steps(c);
}

/* The channel of a process that we did not start ends: that is all we learn of its end. */
static void external_ended(struct child *c, const char *reason)
{
    c->failed = true;
    log_error("device '%s' lost its process: %s", c->id, reason);
    vm_event(c->vm, "PROCESS_FAILED", json_pack("{s:s, s:s, s:s}", "id", c->id, "role", "device",
                                                "reason", reason));
}

static void on_closed(void *opaque, const char *reason)
{
    struct child *c = opaque;
    struct error err;
    char title[160];

    if (c->vm->phase == VM_STARTING && c->role == CHILD_EXTERNAL) {
        error_set(&err, -EINVAL, "-device pci-proxy-dev,id=%s: the device process closed the "
                  "channel", c->id);
        vm_start_failed(c->vm, &err);
    } else if (c->role == CHILD_EXTERNAL && !c->quitting) {
        external_ended(c, reason ? reason : "it closed the channel");
    }
    if (reason && c->role != CHILD_EXTERNAL) {
        log_error("%s broke the protocol: %s", child_title(c, title, sizeof title), reason);
        child_kill(c);
    } else if (c->role != CHILD_EXTERNAL) {
        timer_arm_after(c->end_timer, end_after_ns);
    }
    close_channel(c);
}

/*
 * What of an event's data reaches the monitor: short texts, numbers and truth values; NULL when this
 * child has said too much lately. A process that was taken over could otherwise drown the clients.
 */
static json_t *event_data(struct child *c, json_t *data)
{
    enum { PER_SECOND = 50, TEXT_MAX = 512 };
    uint64_t now = clock_now_ns();
    const char *key;
    json_t *value;

    if (now - c->events_since_ns > UINT64_C(1000000000)) {
        c->events_since_ns = now;
        c->events = 0;
    }
    json_t *copy = ++c->events <= PER_SECOND ? json_object() : NULL;
    if (copy)
        json_object_foreach(data, key, value)
            if (json_is_integer(value) || json_is_boolean(value) ||
                (json_is_string(value) && json_string_length(value) <= TEXT_MAX))
                json_object_set(copy, key, value);
    return copy;
}

static bool is_string(json_t *data, const char *key)
{
    return json_is_string(json_object_get(data, key));
}

static bool is_listed(const char *const *names, const char *name)
{
    while (*names && strcmp(*names, name))
        names++;
    return *names != NULL;
}

static void cpu_shutdown(struct vm *vm, json_t *data)
{
    json_t *status = json_object_get(data, "exit-code");
    const char *reason = json_string_value(json_object_get(data, "reason"));

    vm_shutdown(vm, !json_is_false(json_object_get(data, "guest")),
                reason ? reason : "guest-shutdown",
                json_is_integer(status) ? (int)(json_integer_value(status) & 0xff) : 0);
}

static void on_cpu_event(struct child *c, const char *name, json_t *data)
{
    struct vm *vm = c->vm;

    if (!strcmp(name, "SHUTDOWN")) {
        cpu_shutdown(vm, data);
    } else if (!strcmp(name, "QUIT_REQUESTED")) {
        vm_shutdown(vm, false, "host-ui", 0);
    } else {
        json_t *copy = event_data(c, data);
        if (!copy)
            return;
        if (!strcmp(name, "GUEST_PANICKED"))
            log_warn("the guest panicked");
        if (!strcmp(name, "CHANNEL_FAILED") && is_string(copy, "device"))
            log_error("device '%s' failed: %s", json_string_value(json_object_get(copy, "device")),
                      is_string(copy, "reason")
                      ? json_string_value(json_object_get(copy, "reason")) : "its channel ended");
        vm_event(vm, name, copy);
        if (!strcmp(name, "GUEST_PANICKED") && vm->config->panic_shuts_down)
            vm_shutdown(vm, true, "guest-panic", 0);
    }
}

static void on_event(void *opaque, const char *name, json_t *data)
{
    static const char *const cpu[] = { "SHUTDOWN", "QUIT_REQUESTED", "RESET", "STOP", "RESUME",
                                       "GUEST_PANICKED", "CHANNEL_FAILED", NULL };
    static const char *const device[] = { "BLOCK_IO_ERROR", "DEVICE_ERROR", "DEVICE_DELETED", NULL };
    struct child *c = opaque;

    if (c->role == CHILD_CPU && is_listed(cpu, name)) {
        on_cpu_event(c, name, data);
    } else if (is_listed(device, name)) {
        json_t *copy = event_data(c, data);
        if (copy) {
            json_object_set_new(copy, "process", json_string(c->id));
            vm_event(c->vm, name, copy);
        }
    }
}

/* It has closed its channel and goes on running. */
static void on_end_timer(void *opaque) { child_kill(opaque); }

static const struct primary_ops channel_ops = {
    .request = on_request, .event = on_event, .closed = on_closed,
};

/* ---- its life ---- */

void child_kill(struct child *c)
{
    if (c->pid > 0)
        syscall(SYS_pidfd_send_signal, c->pidfd, SIGKILL, NULL, 0);
}

void child_free(struct child *c)
{
    if (!c)
        return;
    c->quitting = true;
    if (c->pid > 0) {
        child_kill(c);
        waitpid(c->pid, NULL, 0);
    }
    if (c == c->vm->cpu)
        c->vm->cpu = NULL;
    close_channel(c);
    watch_free(c->watch);
    timer_free(c->end_timer);
    if (c->pidfd >= 0)
        close(c->pidfd);
    list_del(&c->link);
    free(c->id);
    free(c);
}

static struct child *child_new(struct vm *vm, enum child_role role, const char *id, int place)
{
    struct child *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    c->vm = vm;
    c->role = role;
    c->place = place;
    c->pidfd = -1;
    c->id = strdup(id);
    list_init(&c->steps);
    list_add_tail(&vm->children, &c->link);
    if (!c->id || timer_new(vm->loop, on_end_timer, c, &c->end_timer) < 0) {
        child_free(c);
        return NULL;
    }
    return c;
}

/* How it ended, in words; *told: it has written a sentence about it itself. */
static void describe_end(int status, char *buf, size_t size, bool *told)
{
    *told = WIFEXITED(status) && WEXITSTATUS(status) == 1;
    if (WIFSIGNALED(status))
        snprintf(buf, size, "killed by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(buf, size, "ended with status %d", WEXITSTATUS(status));
}

static void failed_while_starting(struct child *c, const char *how, bool told)
{
    struct error err = { .code = -ECHILD };
    char title[160];

    if (!told)
        error_set(&err, -EINVAL, "%s failed: %s", child_title(c, title, sizeof title), how);
    vm_start_failed(c->vm, &err);
}

static void failed_while_up(struct child *c, pid_t pid, int status, const char *how)
{
    char title[160];
    json_t *data = json_pack("{s:s, s:s, s:i, s:s}", "id", c->id, "role",
                             c->role == CHILD_CPU ? "cpu" : "device", "pid", (int)pid, "reason",
                             how);

    json_object_set_new(data, WIFSIGNALED(status) ? "signal" : "status",
                        json_integer(WIFSIGNALED(status) ? WTERMSIG(status)
                                                         : WEXITSTATUS(status)));
    log_error("%s (pid %d) failed: %s", child_title(c, title, sizeof title), (int)pid, how);
    vm_event(c->vm, "PROCESS_FAILED", data);
    if (c->role == CHILD_CPU)
        vm_end(c->vm, 1);
}

/* The other children go when the CPU process is gone, the loop when all are. */
static void ended_as_wished(struct vm *vm)
{
    bool any = false;

    list_for_each(struct child, c, &vm->children, link)
        any |= c->pid > 0;
    if (any)
        vm_end(vm, vm->exit_status);
    else
        loop_quit(vm->loop, vm->exit_status);
}

static void on_ended(void *opaque, uint32_t events)
{
    struct child *c = opaque;
    struct vm *vm = c->vm;
    pid_t pid = c->pid;
    int status = 0;
    char how[96];
    bool told;

    if (waitpid(pid, &status, WNOHANG) != pid)
        return;
    watch_free(c->watch);
    c->watch = NULL;
    timer_disarm(c->end_timer);
    c->pid = 0;
    describe_end(status, how, sizeof how, &told);
    bool expected = c->quitting || vm->phase == VM_ENDING;
    c->failed = !expected;
    if (c == vm->cpu)
        vm->cpu = NULL;
    if (expected) {
        close_channel(c);
    } else if (vm->phase == VM_STARTING) {
        /* Its last words may still be in the channel: its error answer is a better reason. */
        while (!vm->start_failed && c->primary && loop_turn(vm->loop, 0) > 0)
            ;
        failed_while_starting(c, how, told);
    } else {
        close_channel(c);
        failed_while_up(c, pid, status, how);
    }
    if (vm->phase == VM_ENDING)
        ended_as_wished(vm);
}

int child_spawn(struct vm *vm, enum child_role role, const char *id, int place, const char *path,
                const char *argv0, const char *sandbox, struct error *err)
{
    char *argv[8] = { (char *)argv0, (char *)"3", (char *)"-name", (char *)id };
    int pair[2], refused = 0;

    if (sandbox) {
        argv[4] = (char *)"-sandbox";
        argv[5] = (char *)sandbox;
    }
    AUTO_FD int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return error_set(err, -errno, "cannot open /dev/null");
    int r = primary_pair(pair);
    if (r < 0)
        return error_set(err, r, "cannot make a channel for '%s'", id);
    AUTO_FD int theirs = pair[1];
    struct child *c = child_new(vm, role, id, place);
    if (!c) {
        close(pair[0]);
        return error_oom(err);
    }
    r = primary_new(vm->loop, pair[0], &channel_ops, c, &c->primary, err);
    if (r < 0) {
        child_free(c);
        return r;
    }
    struct spawn_fd fds[] = { { null, 0 }, { null, 1 }, { theirs, CHANNEL_FD } };
    struct spawn spawn = {
        .path = path, .argv = argv, .fds = fds, .nfds = ARRAY_SIZE(fds),
        .pid_namespace = true, .new_session = true,
    };
    r = sandbox_spawn(&spawn, &c->pid, &c->pidfd, &refused, err);
    if (r == 0)
        r = watch_new(vm->loop, c->pidfd, EPOLLIN, on_ended, c, &c->watch);
    if (r < 0) {
        if (!err->text[0])
            error_set(err, r, "cannot start '%s'", path);
        child_free(c);
        return r;
    }
    c->last_pid = c->pid;
    if (role == CHILD_CPU)
        vm->cpu = c;
    return 0;
}

int child_connect(struct vm *vm, const char *id, int fd, struct child **ret_child,
                  struct error *err)
{
    struct child *c = child_new(vm, CHILD_EXTERNAL, id, NOWHERE);

    if (!c) {
        close(fd);
        return error_oom(err);
    }
    int r = primary_new(vm->loop, fd, &channel_ops, c, &c->primary, err);
    if (r < 0) {
        child_free(c);
        return r;
    }
    *ret_child = c;
    return 0;
}
