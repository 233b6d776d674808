/* SPDX-License-Identifier: Apache-2.0 */
/* What every program does first, before it looks at its command line. */
#ifndef COMMON_START_H
#define COMMON_START_H

#include "base/error.h"
#include "event/loop.h"

/*
 * Descriptors 0 to 2 exist (as /dev/null where they were closed), SIGPIPE is ignored, malloc keeps
 * one arena, jansson has its random seed (it would open a file for it later, which the sandbox
 * forbids), lines on standard error begin with name. One thread; call it first in main.
 */
int start_process(const char *name, struct error *err) MUST_CHECK;

/* Closes every descriptor above 2 that is not in keep; those become close-on-exec. What a careless
 * parent left open is not ours to hold. */
int start_close_strays(const int *keep, unsigned count, struct error *err) MUST_CHECK;

/* SIGTERM, SIGINT and SIGHUP call cb on the loop. */
int start_on_stop(struct loop *loop, signal_fn *cb, void *opaque, struct error *err) MUST_CHECK;

/* "0.1.0" */
const char *version_text(void);
void version_numbers(unsigned *major, unsigned *minor, unsigned *micro);

#endif
