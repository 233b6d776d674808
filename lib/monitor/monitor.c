/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor/monitor.h"

#include "monitor/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

static const char *const type_names[] = {
    [MONITOR_STR] = "string", [MONITOR_INT] = "integer", [MONITOR_BOOL] = "boolean",
    [MONITOR_OBJECT] = "object", [MONITOR_LIST] = "array", [MONITOR_ANY] = "any",
};

int monitor_new(struct loop *loop, const struct monitor_config *config,
                struct monitor **ret_monitor, struct error *err)
{
    struct monitor *m = calloc(1, sizeof *m);
    if (!m)
        return error_oom(err);
    m->loop = loop;
    m->config = config;
    list_init(&m->clients);
    list_init(&m->ports);
    *ret_monitor = m;
    return 0;
}

void monitor_free(struct monitor *m)
{
    if (!m)
        return;
    list_for_each(struct port, p, &m->ports, link)
        port_free(p);
    list_for_each(struct client, c, &m->clients, link)
        client_free(c);
    free(m);
}

void monitor_hold(struct monitor *m, bool hold)
{
    m->on_hold = hold;
    list_for_each(struct client, c, &m->clients, link)
        client_go_on(c);
}

bool monitor_connected(const struct monitor *m) { return !list_empty(&m->clients); }

json_t *monitor_version(const struct monitor *m)
{
    const struct monitor_config *c = m->config;
    return json_pack("{s:{s:i, s:i, s:i}, s:s}", "qemu", "micro", (int)c->micro, "minor",
                     (int)c->minor, "major", (int)c->major, "package", c->package);
}

json_t *monitor_greeting(const struct monitor *m)
{
    return json_pack("{s:{s:o, s:[]}}", "QMP", "version", monitor_version(m), "capabilities");
}

/* ---- answers and events ---- */

static void send_answer(struct client *client, const char *key, json_t *value, json_t *id)
{
    json_t *answer = json_object();
    json_object_set_new(answer, key, value ? value : json_object());
    if (id)
        json_object_set(answer, "id", id);
    client_send(client, answer);
    json_decref(answer);
}

/* A text may quote bytes that are not, or no longer whole, UTF-8. */
static json_t *text_to_json(const char *text)
{
    char plain[sizeof ((struct error *)0)->text];

    json_t *v = json_string(text);
    if (v)
        return v;
    snprintf(plain, sizeof plain, "%s", text);
    for (char *p = plain; *p; p++)
        if (*p & 0x80)
            *p = '?';
    return json_string(plain);
}

void monitor_send_error(struct client *client, const char *class, const char *desc, json_t *id)
{
    send_answer(client, "error", json_pack("{s:s, s:o}", "class", class, "desc",
                                           text_to_json(desc)), id);
}

static void send_failure(struct client *client, const struct error *err, json_t *id)
{
    monitor_send_error(client, err->code == -ENODEV ? "DeviceNotFound" : "GenericError", err->text,
                       id);
}

void monitor_reply(struct monitor_call *call, json_t *value, const struct error *err)
{
    struct client *client = call->client;

    if (client) {
        client->call = NULL;
        if (err)
            send_failure(client, err, call->id);
        else
            send_answer(client, "return", json_incref(value), call->id);
        client_go_on(client);
    }
    json_decref(value);
    json_decref(call->id);
    free(call);
}

void monitor_event(struct monitor *m, const char *name, json_t *data)
{
    struct timeval now;

    gettimeofday(&now, NULL);
    json_t *event = json_pack("{s:{s:I, s:I}, s:s}", "timestamp", "seconds", (json_int_t)now.tv_sec,
                              "microseconds", (json_int_t)now.tv_usec, "event", name);
    if (data)
        json_object_set_new(event, "data", data);
    list_for_each(struct client, c, &m->clients, link)
        if (c->negotiated)
            client_send(c, event);
    json_decref(event);
}

/* ---- commands ---- */

static bool has_type(const json_t *v, enum monitor_type type)
{
    switch (type) {
    case MONITOR_STR:    return json_is_string(v);
    case MONITOR_INT:    return json_is_integer(v);
    case MONITOR_BOOL:   return json_is_boolean(v);
    case MONITOR_OBJECT: return json_is_object(v);
    case MONITOR_LIST:   return json_is_array(v);
    case MONITOR_ANY:    return true;
    }
    return false;
}

static const struct monitor_arg *find_arg(const struct monitor_command *cmd, const char *name)
{
    for (const struct monitor_arg *a = cmd->args; a && a->name; a++)
        if (!strcmp(a->name, name))
            return a;
    return NULL;
}

static int check_args(const struct monitor_command *cmd, json_t *args, struct error *err)
{
    const char *key;
    json_t *value;

    for (const struct monitor_arg *a = cmd->args; a && a->name; a++) {
        json_t *v = json_object_get(args, a->name);
        if (!v && !a->optional)
            return error_set(err, -EINVAL, "Parameter '%s' is missing", a->name);
        if (v && !has_type(v, a->type))
            return error_set(err, -EINVAL, "Invalid parameter type for '%s', expected: %s", a->name,
                             type_names[a->type]);
    }
    json_object_foreach(args, key, value)
        if (!cmd->any_args && !find_arg(cmd, key))
            return error_set(err, -EINVAL, "Parameter '%.100s' is unexpected", key);
    return 0;
}

static const struct monitor_command *find_command(const struct monitor *m, const char *name)
{
    for (const struct monitor_command *c = m->config->commands; c->name; c++)
        if (!strcmp(c->name, name))
            return c;
    return NULL;
}

static json_t *list_commands(const struct monitor *m)
{
    json_t *list = json_pack("[{s:s}, {s:s}, {s:s}]", "name", "qmp_capabilities", "name",
                             "query-commands", "name", "query-qmp-schema");
    for (const struct monitor_command *c = m->config->commands; c->name; c++)
        json_array_append_new(list, json_pack("{s:s}", "name", c->name));
    return list;
}

/* The capabilities a client may ask for: none. */
static int negotiate(json_t *args, struct error *err)
{
    json_t *enable = json_object_get(args, "enable");

    if (enable && !json_is_array(enable))
        return error_set(err, -EINVAL, "Invalid parameter type for 'enable', expected: array");
    if (json_array_size(enable))
        return error_set(err, -EINVAL, "None of the capabilities asked for is available");
    return 0;
}

static void run_command(struct client *client, const struct monitor_command *cmd, json_t *args,
                        json_t *id)
{
    struct monitor *m = client->monitor;
    struct error err = { 0 };
    json_t *value = NULL;

    int r = check_args(cmd, args, &err);
    if (r < 0) {
        send_failure(client, &err, id);
        return;
    }
    struct monitor_call *call = calloc(1, sizeof *call);
    if (!call) {
        monitor_send_error(client, "GenericError", "out of memory", id);
        return;
    }
    call->client = client;
    call->id = json_incref(id);
    client->call = call;
    r = cmd->run(m->config->opaque, call, args, &value, &err);
    if (r != -EINPROGRESS)
        monitor_reply(call, value, r < 0 ? &err : NULL);
}

static int check_shape(json_t *message, struct error *err)
{
    const char *key;
    json_t *value;

    if (!json_is_object(message))
        return error_set(err, -EINVAL, "QMP input must be a JSON object");
    json_object_foreach(message, key, value)
        if (strcmp(key, "execute") && strcmp(key, "arguments") && strcmp(key, "id"))
            return error_set(err, -EINVAL, "QMP input member '%.100s' is unexpected", key);
    json_t *execute = json_object_get(message, "execute");
    json_t *args = json_object_get(message, "arguments");
    if (!execute)
        return error_set(err, -EINVAL, "QMP input lacks member 'execute'");
    if (!json_is_string(execute))
        return error_set(err, -EINVAL, "QMP input member 'execute' must be a string");
    if (args && !json_is_object(args))
        return error_set(err, -EINVAL, "QMP input member 'arguments' must be an object");
    return 0;
}

static void not_found(struct client *client, json_t *id, const char *fmt, const char *name)
{
    struct error err;

    error_format(&err, -EINVAL, fmt, name);
    monitor_send_error(client, "CommandNotFound", err.text, id);
}

void monitor_dispatch(struct client *client, json_t *message)
{
    struct monitor *m = client->monitor;
    struct error err;

    json_t *id = json_object_get(message, "id");
    if (check_shape(message, &err) < 0) {
        send_failure(client, &err, id);
        return;
    }
    const char *name = json_string_value(json_object_get(message, "execute"));
    json_t *args = json_object_get(message, "arguments");
    json_t *none = args ? NULL : json_object();
    const struct monitor_command *cmd;

    if (!strcmp(name, "qmp_capabilities")) {
        if (client->negotiated) {
            not_found(client, id, "Capabilities negotiation is already complete, command ignored%s",
                      "");
        } else if (negotiate(args, &err) < 0) {
            send_failure(client, &err, id);
        } else {
            client->negotiated = true;
            send_answer(client, "return", NULL, id);
        }
    } else if (!client->negotiated) {
        not_found(client, id, "Expecting capabilities negotiation with 'qmp_capabilities'%s", "");
    } else if (!strcmp(name, "query-commands")) {
        send_answer(client, "return", list_commands(m), id);
    } else if (!strcmp(name, "query-qmp-schema")) {
        send_answer(client, "return", monitor_schema(m), id);
    } else if ((cmd = find_command(m, name))) {
        run_command(client, cmd, args ? args : none, id);
    } else {
        not_found(client, id, "The command %.100s has not been found", name);
    }
    json_decref(none);
}
