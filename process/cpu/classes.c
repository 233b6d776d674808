/* SPDX-License-Identifier: Apache-2.0 */
/* Every class an object here can have: devices, what the machine brings, the proxy. */
#include "cpu/cpu.h"

#include "devices/all.h"
#include "remote/proxy.h"

#include <errno.h>
#include <string.h>

static unsigned count(const struct object_class *const *table)
{
    unsigned n = 0;

    while (table[n])
        n++;
    return n;
}

static int by_name(const void *a, const void *b)
{
    const struct object_class *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

int classes_collect(const struct object_class ***ret_classes)
{
    const struct object_class *const proxy[] = { &proxy_class.base, NULL };
    const struct object_class *const *tables[] = { device_classes, machine_classes, proxy };
    unsigned total = 0, n = 0;

    for (size_t t = 0; t < ARRAY_SIZE(tables); t++)
        total += count(tables[t]);
    const struct object_class **all = calloc(total + 1, sizeof *all);
    if (!all)
        return -ENOMEM;
    for (size_t t = 0; t < ARRAY_SIZE(tables); t++)
        for (unsigned i = 0; tables[t][i]; i++)
            all[n++] = tables[t][i];
    qsort(all, n, sizeof *all, by_name);

    unsigned kept = 0;              /* an abstract base may stand in both */
    for (unsigned i = 0; i < n; i++)
        if (kept == 0 || all[i] != all[kept - 1])
            all[kept++] = all[i];
    all[kept] = NULL;
    *ret_classes = all;
    return 0;
}
