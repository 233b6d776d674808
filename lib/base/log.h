/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines for the person who runs the VM: rare, whole sentences, on standard error, with the
 * process's name in front. Any thread.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/error.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* name is what stands in front of each line ("bulkhead", "disk-proc[disk0]"); copied. */
void log_init(const char *name, enum log_level max_level);

void log_line(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/*
 * The guest did something its device's specification does not allow. At most a few lines a
 * second in all, whatever the guest does; what was swallowed is counted in the next line.
 * device is the device's id or class name.
 */
void log_guest(const char *device, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* A warning that the guest or a failing back-end can cause any number of times: limited likewise. */
void log_often(const char *device, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
