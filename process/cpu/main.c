/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulkhead-cpu FD [-name NAME] [-sandbox …] [-keep-running]: the CPU process (row A2). FD is the primary
 * channel, over which control says everything else. In this order: open /dev/kvm, close the door
 * (common/door.h), and only then listen to anybody.
 */
#include "cpu/cpu.h"

#include "base/log.h"
#include "common/door.h"
#include "common/options.h"
#include "common/start.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct options {
    const char *channel, *name;
    struct door_option door;
    bool keep_running, help, version;
};

static int take_name(void *opaque, const char *value, struct error *err)
{
    if (!*value || strlen(value) > 80)
        return error_set(err, -EINVAL, "a name has 1 to 80 letters");
    ((struct options *)opaque)->name = value;
    return 0;
}

static int take_sandbox(void *opaque, const char *value, struct error *err)
{
    return door_option_parse(value, &((struct options *)opaque)->door, err);
}

static int take_keep_running(void *opaque, const char *value, struct error *err)
{
    ((struct options *)opaque)->keep_running = true;
    return 0;
}

static int take_help(void *opaque, const char *value, struct error *err)
{
    ((struct options *)opaque)->help = true;
    return 0;
}

static int take_version(void *opaque, const char *value, struct error *err)
{
    ((struct options *)opaque)->version = true;
    return 0;
}

static const struct option_spec specs[] = {
    { "name", NULL, "NAME", "of the virtual machine, for messages", true, take_name },
    { "sandbox", NULL, DOOR_HELP, DOOR_HELP_TEXT, true, take_sandbox },
    { "keep-running", NULL, NULL, "the guest goes on when the primary channel closes", true,
      take_keep_running },
    { "help", "h", NULL, "this", false, take_help },
    { "version", NULL, NULL, "which one this is", false, take_version },
    { .name = NULL },
};

static int take_positional(void *opaque, unsigned index, const char *value, struct error *err)
{
    struct options *options = opaque;

    if (index > 0)
        return error_set(err, -EINVAL, "'%.80s' is one argument too many", value);
    options->channel = value;
    return 0;
}

static int start_block(struct cpu *cpu, struct error *err)
{
    return block_graph_new(cpu->loop, BLOCK_AIO_AUTO, &cpu->graph, err);
}

/* The guest goes on; what becomes of the device process is control's affair. */
static void on_channel_failed(void *opaque, struct pci_device *pdev, const char *reason)
{
    cpu_event(opaque, "CHANNEL_FAILED", json_pack("{s:s, s:s}", "device", pci_device_name(pdev),
              "reason", reason));
}

static void on_stop_signal(void *opaque, const struct signalfd_siginfo *info)
{
    loop_quit(opaque, 0);
}

/* Everything that the door would forbid. */
static int open_all(struct cpu *cpu, const struct options *options, int *ret_channel,
                    struct error *err)
{
    if (!options->channel)
        return error_set(err, -EINVAL, "the descriptor of the primary channel is missing; "
                         "bulkhead starts this program");
    int fd = isdigit((unsigned char)*options->channel) ? atoi(options->channel) : -1;
    int r = start_close_strays(&fd, fd >= 0, err);
    if (r == 0)
        r = primary_socket_open(options->channel, ret_channel, err);
    if (r == 0)
        r = loop_new(&cpu->loop, err);
    if (r == 0)
        r = classes_collect(&cpu->classes) < 0 ? error_oom(err) : 0;
    if (r == 0)
        r = obj_tree_init(&cpu->tree, cpu->loop, cpu->classes) < 0 ? error_oom(err) : 0;
    if (r == 0)
        r = start_block(cpu, err);
    if (r == 0 && kvm_open(&cpu->kvm_fd, &cpu->kvm_error) < 0)
        cpu->kvm_fd = -1;           /* machine-init says so, to the one who asked */
    if (r == 0 && loop_on_signal(cpu->loop, SIGTERM, on_stop_signal, cpu->loop) < 0)
        r = error_oom(err);
    return r;
}

static int run(struct cpu *cpu, const struct options *options, struct error *err)
{
    char log_name[64];
    int channel = -1;
    struct sandbox_config sandbox = {
        .role = SANDBOX_CPU, .backends = SANDBOX_CHARDEV | SANDBOX_BLOCK, .name = log_name,
    };

    snprintf(log_name, sizeof log_name, "bulkhead-cpu%s%.40s%s", options->name ? "[" : "",
             options->name ? options->name : "", options->name ? "]" : "");
    log_init(log_name, LOG_INFO);
    tzset();                        /* the C library opens a file for it, with the first date */
    /* A terminal's Ctrl-C is for control, which ends us in good order. */
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);

    int r = open_all(cpu, options, &channel, err);
    if (r == 0)
        r = door_close(&options->door, &sandbox, true, &cpu->sandbox, err);
    if (r < 0)
        return r;
    cpu->keep_running = options->keep_running;
    cpu->tree.lock = &cpu->lock;
    cpu->tree.services[SERVICE_BLOCK] = cpu->graph;
    cpu->proxy_owner = (struct proxy_owner){ on_channel_failed, cpu };
    proxy_set_owner(&cpu->tree, &cpu->proxy_owner);
    loop_set_lock(cpu->loop, &cpu->lock);
    r = primary_new(cpu->loop, channel, &cpu_primary_ops, cpu, &cpu->primary, err);
    if (r == 0) {
        cpu_event(cpu, "READY", NULL);
        r = loop_run(cpu->loop);
    }
    return r;
}

static void fini(struct cpu *cpu)
{
    if (!cpu->loop)
        return;
    primary_free(TAKE_PTR(cpu->primary));
    if (cpu->classes)
        machine_fini(cpu);
    block_graph_free(cpu->graph);
    loop_free(cpu->loop);
    free(cpu->classes);
    if (cpu->kvm_fd >= 0)
        close(cpu->kvm_fd);
}

int main(int argc, char *argv[])
{
    struct cpu cpu = { .kvm_fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER, .run = { .exit_code = -1 } };
    struct options options = { 0 };
    struct error err;

    int r = start_process("bulkhead-cpu", &err);
    if (r == 0)
        r = options_parse(specs, argc, argv, take_positional, &options, &err);
    if (r == 0 && options.help) {
        options_help("usage: bulkhead-cpu FD [option…]\n"
                     "The CPU process of a virtual machine. bulkhead starts it.", specs);
        return 0;
    }
    if (r == 0 && options.version)
        return printf("bulkhead-cpu (Bulkhead) %s\n", version_text()) < 0;
    if (r == 0)
        r = run(&cpu, &options, &err);
    if (r < 0)
        log_error("%s", err.text);
    fini(&cpu);
    return r < 0 ? 1 : r;
}
