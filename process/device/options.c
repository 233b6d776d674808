/* SPDX-License-Identifier: Apache-2.0 */
#include "device/options.h"

#include "common/options.h"
#include "obj/keyval.h"
#include "obj/prop.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* "name=x" or "x" */
static int take_name(void *opaque, const char *value, struct error *err)
{
    struct device_options *options = opaque;

    if (strncmp(value, "name=", 5) == 0)
        value += 5;
    if (!*value || strlen(value) > 40 || strchr(value, ','))
        return error_set(err, -EINVAL, "a name has 1 to 40 letters and no comma");
    options->name = value;
    return 0;
}

static int append(json_t **array, json_t *value, struct error *err)
{
    if (!*array)
        *array = json_array();
    return json_array_append_new(*array, value) < 0 ? error_oom(err) : 0;
}

static int take_blockdev(void *opaque, const char *value, struct error *err)
{
    struct device_options *options = opaque;
    json_t *object;

    int r = keyval_parse(value, "driver", "-blockdev", &object, err);
    return r < 0 ? r : append(&options->blockdevs, object, err);
}

/* "help", "lsi53c895a,help". True if it was one. */
static bool take_device_help(struct device_options *options, const char *value)
{
    const char *comma = strchr(value, ',');

    if (strcmp(value, "help") && strcmp(value, "?") && (!comma || strcmp(comma, ",help")))
        return false;
    free(options->device_help);
    options->device_help = strndup(value, comma ? (size_t)(comma - value) : strlen(value));
    return true;
}

static int take_device(void *opaque, const char *value, struct error *err)
{
    struct device_options *options = opaque;
    json_t *object;

    if (take_device_help(options, value))
        return options->device_help ? 0 : error_oom(err);
    int r = keyval_parse(value, "driver", "-device", &object, err);
    return r < 0 ? r : append(&options->devices, object, err);
}

static int add_server(struct device_options *options, const struct server_option *server,
                      struct error *err)
{
    if (options->server_count == DEVICE_SERVERS_MAX)
        return error_set(err, -EINVAL, "at most %d are possible", DEVICE_SERVERS_MAX);
    options->servers[options->server_count++] = *server;
    return 0;
}

static int take_fd(void *opaque, const char *value, struct error *err)
{
    json_t *text = json_string(value);
    uint64_t fd;

    int r = value_to_uint(text, "the descriptor", 0, 1 << 20, &fd, err);
    json_decref(text);
    return r < 0 ? r : add_server(opaque, &(struct server_option){ .fd = fd }, err);
}

static int take_socket_path(void *opaque, const char *value, struct error *err)
{
    struct server_option server = { .fd = -1, .path = strdup(value) };

    if (!server.path)
        return error_oom(err);
    int r = add_server(opaque, &server, err);
    if (r < 0)
        free(server.path);
    return r;
}

static int vfio_user_key(const char *key, const json_t *value, struct server_option *server,
                         struct error *err)
{
    const char *text = json_string_value(value);
    uint64_t fd;

    if (strcmp(key, "fd") == 0) {
        int r = value_to_uint(value, "fd", 0, 1 << 20, &fd, err);
        if (r == 0)
            server->fd = fd;
        return r;
    }
    if (!text || !*text)
        return error_set(err, -EINVAL, "'%.40s' must be text", key);
    if (strcmp(key, "path") == 0)
        return (server->path = strdup(text)) ? 0 : error_oom(err);
    if (strcmp(key, "device") == 0)
        return (server->device = strdup(text)) ? 0 : error_oom(err);
    return error_set(err, -EINVAL, "there is no key '%.40s'", key);
}

static int take_vfio_user(void *opaque, const char *value, struct error *err)
{
    struct server_option server = { .fd = -1 };
    json_t *object, *member;
    const char *key;

    int r = keyval_parse(value, "device", "-vfio-user", &object, err);
    if (r < 0)
        return r;
    json_object_foreach(object, key, member) {
        r = vfio_user_key(key, member, &server, err);
        if (r < 0)
            break;
    }
    json_decref(object);
    if (r == 0 && !server.device)
        r = error_set(err, -EINVAL, "device=ID is missing");
    if (r == 0 && (server.fd < 0) == !server.path)
        r = error_set(err, -EINVAL, "one of path=PATH and fd=N is wanted");
    if (r == 0)
        r = add_server(opaque, &server, err);
    if (r < 0) {
        free(server.path);
        free((char *)server.device);
    }
    return r;
}

static int take_qmp(void *opaque, const char *value, struct error *err)
{
    struct device_options *options = opaque;

    options->has_qmp = true;
    return monitor_spec_parse(value, &options->qmp, err);
}

static int take_sandbox(void *opaque, const char *value, struct error *err)
{
    return door_option_parse(value, &((struct device_options *)opaque)->door, err);
}

static int take_kind(void *opaque, const char *value, struct error *err)
{
    static const struct { const char *name; unsigned backend; } kinds[] = {
        { "none", SANDBOX_NONE }, { "block", SANDBOX_BLOCK }, { "net", SANDBOX_NET },
        { "chardev", SANDBOX_CHARDEV },
    };
    struct device_options *options = opaque;

    options->has_backends = true;
    while (*value) {
        size_t len = strcspn(value, "+"), i;
        for (i = 0; i < ARRAY_SIZE(kinds); i++)
            if (strlen(kinds[i].name) == len && strncmp(kinds[i].name, value, len) == 0)
                break;
        if (i == ARRAY_SIZE(kinds))
            return error_set(err, -EINVAL, "a kind is none, block, net or chardev, or several "
                             "joined by '+'");
        options->backends |= kinds[i].backend;
        value += len + (value[len] == '+');
    }
    return 0;
}

#define FLAG_(function, field)                                                      \
    static int function(void *opaque, const char *value, struct error *err)         \
    {                                                                               \
        ((struct device_options *)opaque)->field = true;                            \
        return 0;                                                                   \
    }
FLAG_(take_keep_running, keep_running)
FLAG_(take_paused, paused)
FLAG_(take_help, help)
FLAG_(take_version, version)

static const struct option_spec specs[] = {
    { .name = "blockdev", .arg = "driver=D,node-name=N,…", .take = take_blockdev,
      .help = "a disk image, in QEMU's words or as JSON" },
    { .name = "device", .arg = "driver,id=ID,key=value…", .take = take_device,
      .help = "a device; -device help lists them,\n-device NAME,help lists its properties" },
    { .name = "vfio-user", .arg = "device=ID,path=PATH|fd=N", .take = take_vfio_user,
      .help = "serve that device to a vfio-user client there" },
    { .name = "socket-path", .arg = "PATH", .take = take_socket_path,
      .help = "the same for the only device there is" },
    { .name = "fd", .arg = "N", .take = take_fd,
      .help = "the same, on an inherited socket" },
    { .name = "qmp", .arg = "unix:PATH,server=on", .once = true, .take = take_qmp,
      .help = "a monitor of its own" },
    { .name = "S", .take = take_paused, .once = true,
      .help = "devices are paused until 'cont'" },
    { .name = "keep-running", .take = take_keep_running, .once = true,
      .help = "do not end when the primary channel closes" },
    { .name = "kind", .arg = "block|net|chardev|none", .once = true, .take = take_kind,
      .help = "which back-ends it may hold; 'a+b' for several\n"
              "(default: by the program's name, else block)" },
    { .name = "sandbox", .arg = DOOR_HELP, .once = true, .take = take_sandbox,
      .help = DOOR_HELP_TEXT },
    { .name = "name", .arg = "NAME", .once = true, .take = take_name,
      .help = "stands in front of each message" },
    { .name = "version", .take = take_version, .help = "print the version" },
    { .name = "help", .alias = "h", .take = take_help, .help = "print this" },
    { .name = NULL },
};

static int take_positional(void *opaque, unsigned index, const char *value, struct error *err)
{
    struct device_options *options = opaque;

    if (index > 0)
        return error_set(err, -EINVAL, "'%.80s' is one argument too many", value);
    options->channel = value;
    return 0;
}

int device_options_parse(int argc, char *const argv[], struct device_options *options,
                         struct error *err)
{
    *options = (struct device_options){ .backends = SANDBOX_NONE };
    int r = options_parse(specs, argc, argv, take_positional, options, err);
    if (r < 0 || options->help || options->version || options->device_help)
        return r;
    if (!options->channel && !options->server_count)
        return error_set(err, -EINVAL, "the socket of the primary channel is missing: a descriptor "
                         "number, unix:PATH or unix:PATH,server (-help says more)");
    return 0;
}

void device_options_fini(struct device_options *options)
{
    json_decref(options->blockdevs);
    json_decref(options->devices);
    free(options->device_help);
    for (unsigned i = 0; i < options->server_count; i++) {
        free((char *)options->servers[i].device);
        free(options->servers[i].path);
    }
}

void device_options_help(const char *program)
{
    char usage[512];

    snprintf(usage, sizeof usage,
             "usage: %s SOCKET [options]\n"
             "       %s -vfio-user device=ID,path=PATH -device … [options]\n"
             "SOCKET: a descriptor number, unix:PATH (connect) or unix:PATH,server (listen).\n"
             "Serves emulated devices to a virtual machine in another process.\n", program,
             program);
    options_help(usage, specs);
}
