/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Successive JSON values out of a stream of bytes that somebody else sends in pieces of any size.
 * Bounded in length and depth; after a mistake it finds its feet again: past the value if its
 * brackets match, otherwise after the next newline (or 0xff, which resets the parser as in QEMU).
 */
#ifndef MONITOR_JSON_STREAM_H
#define MONITOR_JSON_STREAM_H

#include "base/error.h"

#include <jansson.h>

enum { JSON_STREAM_VALUE_MAX = 1024 * 1024, JSON_STREAM_DEPTH_MAX = 64 };

struct json_stream {            /* all zero is empty */
    char *buf;
    size_t cap, begin, scan, end;       /* begin: of the value in hand; scan: looked at so far */
    unsigned depth;
    char closers[JSON_STREAM_DEPTH_MAX];
    bool in_string, escaped, skipping;
};

void json_stream_fini(struct json_stream *s);

/* Appends bytes. -ENOMEM; -EMSGSIZE when more than twice JSON_STREAM_VALUE_MAX is waiting. */
int json_stream_feed(struct json_stream *s, const void *data, size_t len) MUST_CHECK;

/* 1: *ret_value is the next object or array (new reference). 0: nothing complete is there.
 * -EINVAL: a syntax error, described in err; the stream stands behind it, so call again. */
int json_stream_next(struct json_stream *s, json_t **ret_value, struct error *err) MUST_CHECK;

#endif
