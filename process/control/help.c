/* SPDX-License-Identifier: Apache-2.0 */
/* -device help and -device CLASS,help: the CPU process is started and asked, for it has all classes. */
#include "vm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { ANSWER_MS = 10000 };

static const char *text_of(json_t *item, const char *key)
{
    const char *text = json_string_value(json_object_get(item, key));
    return text ? text : "";
}

static void print_types(json_t *list)
{
    json_t *item;
    size_t i;

    printf("Devices:\n");
    json_array_foreach(list, i, item)
        if (!json_is_true(json_object_get(item, "abstract")))
            printf("  %-20s %s\n", text_of(item, "name"), text_of(item, "summary"));
}

static void print_props(const char *class_name, json_t *list)
{
    json_t *item;
    size_t i;

    printf("Properties of %s:\n", class_name);
    json_array_foreach(list, i, item) {
        json_t *def = json_object_get(item, "default-value");
        char *text = def ? json_dumps(def, JSON_ENCODE_ANY) : NULL;
        printf("  %-20s %-8s %s%s%s%s\n", text_of(item, "name"), text_of(item, "type"),
               text_of(item, "description"), text ? " (default: " : "", text ? text : "",
               text ? ")" : "");
        free(text);
    }
}

int device_help(const char *class_name, struct error *err)
{
    struct config config = { 0 };
    json_t *args = class_name ? json_pack("{s:s}", "typename", class_name) : NULL, *answer = NULL;
    struct vm *vm;
    char *path;

    int r = vm_new(&config, &vm, err);
    if (r < 0) {
        json_decref(args);
        return r;
    }
    r = program_find("bulkhead-cpu", "cpu", &path, err);
    if (r == 0) {
        r = child_spawn(vm, CHILD_DEVICE, "help", 0, path, "bulkhead-cpu", NULL, err);
        free(path);
    }
    struct child *child = r == 0 ? child_at(vm, 0) : NULL;
    if (child)
        r = primary_call(child->primary, class_name ? "device-list-properties" : "qom-list-types",
                         args, NULL, 0, ANSWER_MS, &answer, NULL, err);
    if (r == 0 && class_name)
        print_props(class_name, answer);
    else if (r == 0)
        print_types(answer);
    json_decref(answer);
    json_decref(args);
    vm_free(vm);
    return r;
}
