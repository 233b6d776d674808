/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void error_format(struct error *err, int code, const char *fmt, ...)
{
    if (!err)
        return;

    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);

    if (code != -EINVAL && n >= 0 && (size_t)n < sizeof err->text)
        snprintf(err->text + n, sizeof err->text - n, ": %s", strerror(-code));
    err->code = code;
}

int error_oom(struct error *err)
{
    return error_set(err, -ENOMEM, "out of memory");
}

void error_prefix(struct error *err, const char *fmt, ...)
{
    char old[sizeof err->text];

    if (!err)
        return;
    memcpy(old, err->text, sizeof old);

    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof err->text)
        snprintf(err->text + n, sizeof err->text - n, ": %s", old);
}
