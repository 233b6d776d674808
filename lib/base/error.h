/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why something could not be done, in the user's words. The struct is the caller's, on the
 * caller's stack; it holds its text in itself, so there is nothing to free.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "base/util.h"

struct error {
    int  code;          /* negative errno */
    char text[512];     /* one sentence, no newline, no full stop */
};

/*
 * Sets the text and, when code's errno adds something (code != -EINVAL), appends its meaning:
 * "cannot open disk image 'x': No such file or directory". Returns code, so that a function
 * can end with it. code is a negative errno. err may be NULL.
 */
#define error_set(err, code, ...) ({            \
    int code_ = (code);                         \
    error_format((err), code_, __VA_ARGS__);    \
    code_; })
void error_format(struct error *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Out of memory: sets the text, returns -ENOMEM. */
int error_oom(struct error *err);

/* Puts "text: " in front of what is there: the name of what the failure belongs to. */
void error_prefix(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
