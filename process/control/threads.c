/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A child in a pid namespace of its own knows its threads by the numbers that they have there. Who
 * wants to pin or measure them needs ours: /proc/PID/task/TID/status gives both in its line NSpid.
 */
#include "vm.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

/* The thread's number in the innermost namespace, or -1. */
static long inner_number(pid_t pid, const char *tid)
{
    char path[96], line[256];
    long inner = -1;

    snprintf(path, sizeof path, "/proc/%d/task/%.20s/status", (int)pid, tid);
    FILE *f = fopen(path, "re");
    if (!f)
        return -1;
    while (inner < 0 && fgets(line, sizeof line, f)) {
        char *last = strncmp(line, "NSpid:", 6) ? NULL : strrchr(line, '\t');
        if (last)
            inner = strtol(last, NULL, 10);
    }
    fclose(f);
    return inner;
}

void threads_translate(pid_t pid, json_t *list)
{
    char path[64];
    struct dirent *entry;
    json_t *item;
    size_t i;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *dir = pid > 0 ? opendir(path) : NULL;
    json_t *numbers = json_object();                /* inner number as text: ours */
    while (dir && (entry = readdir(dir))) {
        char key[24];
        long inner = entry->d_name[0] == '.' ? -1 : inner_number(pid, entry->d_name);
        if (inner < 0)
            continue;
        snprintf(key, sizeof key, "%ld", inner);
        json_object_set_new(numbers, key, json_integer(strtol(entry->d_name, NULL, 10)));
    }
    if (dir)
        closedir(dir);

    json_array_foreach(list, i, item) {
        json_t *inner = json_object_get(item, "thread-id");
        char key[24];
        snprintf(key, sizeof key, "%" JSON_INTEGER_FORMAT, json_integer_value(inner));
        json_t *ours = json_is_integer(inner) ? json_object_get(numbers, key) : NULL;
        if (ours)
            json_object_set(item, "thread-id", ours);
        else
            json_object_del(item, "thread-id");
    }
    json_decref(numbers);
}
