/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulkhead-dev, a device process (rows A3 to A6). In this order: read the command line, open what
 * it names, close the door (common/door.h), and only then read images, make devices, and listen to
 * others.
 */
#include "base/fd.h"
#include "base/log.h"
#include "common/janitor.h"
#include "common/start.h"
#include "device/options.h"
#include "device/service.h"
#include "devices/all.h"
#include "ipc/socket.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { IMAGES_MAX = 128 };

/* What was opened before the door closed. */
struct opened {
    int primary, primary_listener;          /* -1: none */
    int servers[DEVICE_SERVERS_MAX];
    bool server_listens[DEVICE_SERVERS_MAX];
    json_t *blockdevs;                      /* with "fd" put in, indices into images */
    int images[IMAGES_MAX];
    unsigned image_count;
    char *primary_path;                     /* of primary_listener */
    struct janitor janitor;                 /* for all sockets that are listened on */
};

struct program {
    const char *name;                       /* of the program: "disk-proc" */
    char log_name[64];
    struct device_options options;
    struct opened opened;
    struct service service;
    struct watch *primary_watch;            /* on opened.primary_listener */
};

/* ---- help ---- */

static void print_devices(void)
{
    for (const struct object_class *const *c = device_classes; *c; c++)
        if (!(*c)->abstract && !(*c)->internal)
            printf("%-16s %s\n", (*c)->name, (*c)->summary ? (*c)->summary : "");
}

static int print_properties(const char *name, struct error *err)
{
    const struct object_class *const *c = device_classes;

    while (*c && strcmp((*c)->name, name))
        c++;
    if (!*c || (*c)->abstract || (*c)->internal)
        return error_set(err, -EINVAL, "-device %.80s,help: there is no such device", name);

    json_t *list = class_list_props(*c), *item;
    size_t i;
    json_array_foreach(list, i, item) {
        const char *text = json_string_value(json_object_get(item, "description"));
        printf("  %s=<%s>%s%s\n", json_string_value(json_object_get(item, "name")),
               json_string_value(json_object_get(item, "type")), text ? "  " : "",
               text ? text : "");
    }
    json_decref(list);
    return 0;
}

/* Returns 1 if the command line asked for text only. */
static int answer_help(const struct program *program, struct error *err)
{
    const struct device_options *options = &program->options;

    if (options->help)
        device_options_help(program->name);
    else if (options->version)
        printf("%s (Bulkhead) %s\n", program->name, version_text());
    else if (options->device_help && strcmp(options->device_help, "help") &&
             strcmp(options->device_help, "?"))
        return print_properties(options->device_help, err) < 0 ? -EINVAL : 1;
    else if (options->device_help)
        print_devices();
    else
        return 0;
    return 1;
}

/* ---- before the door ---- */

static bool is_number(const char *text) { return text && isdigit((unsigned char)text[0]); }

static int close_strays(const struct device_options *options, struct error *err)
{
    int keep[DEVICE_SERVERS_MAX + 1];
    unsigned count = 0;

    if (is_number(options->channel))
        keep[count++] = atoi(options->channel);
    for (unsigned i = 0; i < options->server_count; i++)
        if (options->servers[i].fd >= 0)
            keep[count++] = options->servers[i].fd;
    for (unsigned i = 0; i < count; i++)
        for (unsigned j = 0; j < i; j++)
            if (keep[i] == keep[j])
                return error_set(err, -EINVAL, "descriptor %d is given twice", keep[i]);
    return start_close_strays(keep, count, err);
}

/* What can be said to be wrong before anything is opened or left behind. */
static int check_devices(const json_t *devices, struct error *err)
{
    json_t *device;
    size_t i;

    json_array_foreach(devices, i, device) {
        const char *driver = json_string_value(json_object_get(device, "driver"));
        const struct object_class *const *c = device_classes;
        while (driver && *c && strcmp((*c)->name, driver))
            c++;
        if (!driver)
            return error_set(err, -EINVAL, "-device: 'driver' is missing");
        if (!*c)
            return error_set(err, -EINVAL, "-device %.80s: there is no such device; -device help "
                             "lists them", driver);
    }
    return 0;
}

static int open_images(const json_t *blockdevs, struct opened *opened, struct error *err)
{
    json_t *blockdev, *ready;
    size_t i;

    opened->blockdevs = json_array();
    json_array_foreach(blockdevs, i, blockdev) {
        int r = block_options_open_files(blockdev, opened->images, IMAGES_MAX, &opened->image_count,
                                         &ready, err);
        if (r < 0) {
            error_prefix(err, "-blockdev");
            return r;
        }
        json_array_append_new(opened->blockdevs, ready);
    }
    return 0;
}

static int listen_on(struct opened *opened, const char *path, int type, int *ret_fd,
                     struct error *err)
{
    int r = socket_listen(path, type, ret_fd, err);
    if (r == 0)
        janitor_add(&opened->janitor, path);
    return r;
}

static int open_server(struct opened *opened, const struct server_option *server, int *ret_fd,
                       bool *ret_listens, struct error *err)
{
    int type, listens = 0;
    socklen_t len = sizeof type;

    if (server->path) {
        *ret_listens = true;
        return listen_on(opened, server->path, SOCK_STREAM, ret_fd, err);
    }
    if (getsockopt(server->fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM)
        return error_set(err, -EINVAL, "descriptor %d is not a stream socket", server->fd);
    len = sizeof listens;
    getsockopt(server->fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len);
    *ret_listens = listens;
    *ret_fd = server->fd;
    return 0;
}

/* "unix:PATH,server" listens and does not wait here: devices may be served meanwhile. */
static int open_primary(const char *spec, struct opened *opened, struct error *err)
{
    const char *comma = strrchr(spec, ',');

    if (strncmp(spec, "unix:", 5) || !comma ||
        (strcmp(comma, ",server") && strcmp(comma, ",server=on")))
        return primary_socket_open(spec, &opened->primary, err);
    opened->primary_path = strndup(spec + 5, comma - spec - 5);
    if (!opened->primary_path)
        return error_oom(err);
    return listen_on(opened, opened->primary_path, SOCK_SEQPACKET, &opened->primary_listener, err);
}

static void on_stop_signal(void *opaque, const struct signalfd_siginfo *info)
{
    loop_quit(opaque, 0);
}

static int open_all(struct program *program, struct error *err)
{
    const struct device_options *options = &program->options;
    struct opened *opened = &program->opened;
    int r = service_init(&program->service, options->name ? options->name : program->name,
                         BLOCK_AIO_AUTO, err);

    if (r == 0)                 /* before there is a socket file to leave behind */
        r = start_on_stop(program->service.loop, on_stop_signal, program->service.loop, err);
    if (r == 0)
        r = check_devices(options->devices, err);
    if (r == 0)
        r = open_images(options->blockdevs, opened, err);
    if (r == 0 && options->has_qmp) {
        r = service_monitor_new(&program->service, err);
        if (r == 0)
            r = monitor_open(program->service.monitor, &options->qmp, err);
        if (r == 0 && options->qmp.server)
            janitor_add(&opened->janitor, options->qmp.path);
    }
    for (unsigned i = 0; r == 0 && i < options->server_count; i++)
        r = open_server(opened, &options->servers[i], &opened->servers[i],
                        &opened->server_listens[i], err);
    if (r == 0 && options->channel)
        r = open_primary(options->channel, opened, err);
    if (r == 0)
        r = janitor_start(&opened->janitor, err);
    return r;
}

static int close_door(struct program *program, struct error *err)
{
    const struct device_options *options = &program->options;
    struct sandbox_config config = { .role = SANDBOX_DEVICE, .name = program->log_name };

    if (options->has_backends)
        program->service.backends = options->backends;
    else if (strcmp(program->name, "net-proc") == 0)
        program->service.backends = SANDBOX_NET;
    config.backends = program->service.backends;
    return door_close(&options->door, &config, is_number(options->channel),
                      &program->service.sandbox, err);
}

/* ---- behind the door ---- */

static int add_blockdevs(struct program *program, struct error *err)
{
    struct block_fds fds = { program->opened.images, program->opened.image_count };
    json_t *blockdev;
    size_t i;

    json_array_foreach(program->opened.blockdevs, i, blockdev) {
        int r = service_blockdev_add(&program->service, blockdev, &fds, err);
        if (r < 0) {
            error_prefix(err, "-blockdev");
            return r;
        }
    }
    for (i = 0; i < fds.count; i++)
        if (fds.fds[i] >= 0)
            close(fds.fds[i]);
    return 0;
}

static int add_devices(struct program *program, struct error *err)
{
    json_t *device;
    size_t i;

    json_array_foreach(program->options.devices, i, device) {
        int r = service_device_add(&program->service, device, err);
        if (r < 0) {
            error_prefix(err, "-device");
            return r;
        }
    }
    return 0;
}

static int start_servers(struct program *program, struct error *err)
{
    const struct device_options *options = &program->options;
    struct opened *opened = &program->opened;
    struct slot *slot;

    for (unsigned i = 0; i < options->server_count; i++) {
        int r = slot_find(&program->service, options->servers[i].device, &slot, err);
        if (r == 0)
            r = opened->server_listens[i] ? slot_listen(slot, opened->servers[i], err)
                                          : slot_attach(slot, opened->servers[i], err);
        if (r < 0) {
            error_prefix(err, "-vfio-user");
            return r;
        }
    }
    return 0;
}

/* Control has come. While it is there, others that connect wait. */
static void on_primary(void *opaque, uint32_t events)
{
    struct program *program = opaque;
    struct error err;

    if (program->service.primary)
        return;
    int fd = accept4(program->opened.primary_listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0 && service_primary_new(&program->service, fd, &err) < 0)
        log_warn("%s", err.text);
}

static int start_primary(struct program *program, struct error *err)
{
    struct opened *opened = &program->opened;

    if (opened->primary >= 0)
        return service_primary_new(&program->service, opened->primary, err);
    if (opened->primary_listener < 0)
        return 0;
    int r = fd_set_nonblock(opened->primary_listener, true);
    if (r == 0)
        r = watch_new(program->service.loop, opened->primary_listener, EPOLLIN, on_primary, program,
                      &program->primary_watch);
    return r < 0 ? error_set(err, r, "cannot wait for the primary channel") : 0;
}

static int run(struct program *program, struct error *err)
{
    struct service *service = &program->service;

    int r = open_all(program, err);
    if (r == 0)
        r = close_door(program, err);
    if (r == 0)
        r = add_blockdevs(program, err);
    if (r == 0)
        r = add_devices(program, err);
    if (r < 0)
        return r;

    service->keep_running = program->options.keep_running;
    service->clients_only = !program->options.channel && !program->options.has_qmp;
    if (program->options.paused)
        service_pause(service);
    r = start_servers(program, err);
    if (r == 0)
        r = start_primary(program, err);
    return r < 0 ? r : loop_run(service->loop);
}

static const char *base_name(const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    return slash ? slash + 1 : path && *path ? path : "bulkhead-dev";
}

static void set_log_name(struct program *program)
{
    if (program->options.name)
        snprintf(program->log_name, sizeof program->log_name, "%.20s[%.40s]", program->name,
                 program->options.name);
    else
        snprintf(program->log_name, sizeof program->log_name, "%.20s", program->name);
    log_init(program->log_name, LOG_INFO);
}

int main(int argc, char *argv[])
{
    struct program program = {
        .name = base_name(argv[0]), .opened = { .primary = -1, .primary_listener = -1 },
    };
    struct error err;

    janitor_init(&program.opened.janitor);
    int r = start_process(program.name, &err);
    if (r == 0)
        r = device_options_parse(argc, argv, &program.options, &err);
    if (r == 0) {
        set_log_name(&program);
        r = answer_help(&program, &err);
        if (r > 0) {
            device_options_fini(&program.options);
            return fflush(stdout) == 0 ? 0 : 1;
        }
    }
    if (r == 0)
        r = close_strays(&program.options, &err);
    if (r == 0)
        r = run(&program, &err);
    if (r < 0)
        log_error("%s", err.text);

    watch_free(program.primary_watch);
    service_fini(&program.service);
    json_decref(program.opened.blockdevs);
    janitor_finish(&program.opened.janitor);
    free(program.opened.primary_path);
    device_options_fini(&program.options);
    return r < 0 ? 1 : r;
}
