/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LIMITED_LINES_PER_SECOND = 5, LINE_MAX_BYTES = 1024 };

static char log_name[64] = "bulkhead";
static enum log_level log_max_level = LOG_INFO;

void log_init(const char *name, enum log_level max_level)
{
    snprintf(log_name, sizeof log_name, "%s", name);
    log_max_level = max_level;
}

/* One write per line, so that lines of several processes on one terminal stay whole. */
static void emit(enum log_level level, const char *fmt, va_list ap)
{
    static const char *const prefix[] = { "error: ", "warning: ", "", "debug: " };
    char line[LINE_MAX_BYTES];

    int n = snprintf(line, sizeof line, "%s: %s", log_name, prefix[level]);
    int m = vsnprintf(line + n, sizeof line - n - 1, fmt, ap);
    size_t len = MIN((size_t)n + (m > 0 ? (size_t)m : 0), sizeof line - 2);
    for (size_t i = 0; i < len; i++)        /* a guest's or peer's text may carry escapes */
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[len] = '\n';
    ssize_t r = write(STDERR_FILENO, line, len + 1);
    (void)r;                                /* nobody left to tell */
}

void log_line(enum log_level level, const char *fmt, ...)
{
    if (level > log_max_level)
        return;

    va_list ap;
    va_start(ap, fmt);
    emit(level, fmt, ap);
    va_end(ap);
}

/* True when a line may go out now; *ret_swallowed says how many did not since the last. */
static bool limited_line_allowed(unsigned *ret_swallowed)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static time_t second;
    static unsigned lines, swallowed;
    struct timespec now;
    bool allowed;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    pthread_mutex_lock(&lock);
    if (now.tv_sec != second) {
        second = now.tv_sec;
        lines = 0;
    }
    allowed = lines < LIMITED_LINES_PER_SECOND;
    if (allowed) {
        lines++;
        *ret_swallowed = swallowed;
        swallowed = 0;
    } else {
        swallowed++;
    }
    pthread_mutex_unlock(&lock);
    return allowed;
}

static void emit_limited(const char *device, const char *who, const char *fmt, va_list ap)
{
    unsigned swallowed;
    char text[LINE_MAX_BYTES / 2];

    if (!limited_line_allowed(&swallowed))
        return;
    vsnprintf(text, sizeof text, fmt, ap);
    if (swallowed)
        log_warn("%s: %s%s (%u such lines left out)", device, who, text, swallowed);
    else
        log_warn("%s: %s%s", device, who, text);
}

void log_guest(const char *device, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    emit_limited(device, "guest: ", fmt, ap);
    va_end(ap);
}

void log_often(const char *device, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    emit_limited(device, "", fmt, ap);
    va_end(ap);
}
