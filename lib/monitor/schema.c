/* SPDX-License-Identifier: Apache-2.0 */
/*
 * query-qmp-schema, in the form of QEMU's SchemaInfo: a list of entities that refer to each other
 * by name. What commands return is described as "any".
 */
#include "monitor/internal.h"

#include <stdio.h>

static const char *const json_types[] = {
    [MONITOR_STR] = "str", [MONITOR_INT] = "int", [MONITOR_BOOL] = "bool",
    [MONITOR_OBJECT] = "any", [MONITOR_LIST] = "[any]", [MONITOR_ANY] = "any",
};

static void add_builtin(json_t *list, const char *name, const char *json_type)
{
    json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "name", name, "meta-type", "builtin",
                                          "json-type", json_type));
}

static void add_object(json_t *list, const char *name, const struct monitor_arg *args)
{
    json_t *members = json_array();

    for (; args && args->name; args++) {
        json_t *member = json_pack("{s:s, s:s}", "name", args->name, "type", json_types[args->type]);
        if (args->optional)
            json_object_set_new(member, "default", json_null());
        json_array_append_new(members, member);
    }
    json_array_append_new(list, json_pack("{s:s, s:s, s:o}", "name", name, "meta-type", "object",
                                          "members", members));
}

static void add_command(json_t *list, const char *name, const char *arg_type)
{
    json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:b}", "name", name, "meta-type",
                                          "command", "arg-type", arg_type, "ret-type", "any",
                                          "allow-oob", 0));
}

json_t *monitor_schema(const struct monitor *m)
{
    static const struct monitor_arg capabilities[] = {
        { "enable", MONITOR_LIST, true }, { NULL } };
    json_t *list = json_array();
    unsigned n = 0;

    add_builtin(list, "str", "string");
    add_builtin(list, "int", "int");
    add_builtin(list, "bool", "boolean");
    add_builtin(list, "any", "value");
    json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "name", "[any]", "meta-type", "array",
                                          "element-type", "any"));
    add_object(list, "empty", NULL);
    add_object(list, "args-capabilities", capabilities);
    add_command(list, "qmp_capabilities", "args-capabilities");
    add_command(list, "query-commands", "empty");
    add_command(list, "query-qmp-schema", "empty");
    for (const struct monitor_command *c = m->config->commands; c->name; c++) {
        char type[32] = "empty";
        if (c->args) {
            snprintf(type, sizeof type, "args-%u", n++);
            add_object(list, type, c->args);
        } else if (c->any_args) {
            snprintf(type, sizeof type, "any");
        }
        add_command(list, c->name, type);
    }
    for (const char *const *e = m->config->events; e && *e; e++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "name", *e, "meta-type", "event",
                                              "arg-type", "any"));
    return list;
}
