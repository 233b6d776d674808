/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scanner finds where a value ends by its brackets and strings alone; jansson then judges what
 * lies between. So no piece is parsed twice, and the cost is linear in the bytes that came.
 */
#include "monitor/json_stream.h"

#include <errno.h>
#include <string.h>

void json_stream_fini(struct json_stream *s)
{
    free(s->buf);
    *s = (struct json_stream){ 0 };
}

enum { SPARE_BYTES = 4096 };       /* room for one more read, at least */

static void compact(struct json_stream *s)
{
    if (!s->begin)
        return;
    memmove(s->buf, s->buf + s->begin, s->end - s->begin);
    s->scan -= s->begin;
    s->end -= s->begin;
    s->begin = 0;
}

int json_stream_feed(struct json_stream *s, const void *data, size_t len)
{
    if (len > 2 * JSON_STREAM_VALUE_MAX - (s->end - s->begin))
        return -EMSGSIZE;
    if (len > s->cap - s->end) {
        compact(s);
        if (len > s->cap - s->end) {
            size_t cap = MAX(s->cap * 2, s->end + len + SPARE_BYTES);
            char *buf = realloc(s->buf, cap);
            if (!buf)
                return -ENOMEM;
            s->buf = buf;
            s->cap = cap;
        }
    }
    if (len)
        memcpy(s->buf + s->end, data, len);
    s->end += len;
    return 0;
}

/* Forgets the value in hand; what follows begins at scan. */
static void restart(struct json_stream *s)
{
    s->begin = s->scan;
    s->depth = 0;
    s->in_string = s->escaped = false;
}

static int syntax_error(struct json_stream *s, struct error *err, const char *text)
{
    s->skipping = s->buf[s->scan - 1] != '\n';
    restart(s);
    return error_set(err, -EINVAL, "JSON parse error, %s", text);
}

/* Between values. 1: a value begins (scan stands behind its first byte). */
static int between(struct json_stream *s, char c, struct error *err)
{
    if (s->skipping) {
        s->skipping = c != '\n' && c != '\xff';
        restart(s);
        return 0;
    }
    if (c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\xff') {
        restart(s);
        return 0;
    }
    if (c != '{' && c != '[')
        return syntax_error(s, err, "expecting an object");
    s->closers[s->depth++] = c == '{' ? '}' : ']';
    return 0;
}

/* Inside a value. 1: it ends here. */
static int inside(struct json_stream *s, char c, struct error *err)
{
    if (c == '\xff') {
        restart(s);
        return error_set(err, -EINVAL, "JSON parse error, the value was broken off");
    }
    if (s->in_string) {
        if (c == '\n')
            return syntax_error(s, err, "a string does not end before its line does");
        if (s->escaped)
            s->escaped = false;
        else if (c == '\\')
            s->escaped = true;
        else if (c == '"')
            s->in_string = false;
        return 0;
    }
    switch (c) {
    case '"':
        s->in_string = true;
        return 0;
    case '{': case '[':
        if (s->depth == JSON_STREAM_DEPTH_MAX)
            return syntax_error(s, err, "too deeply nested");
        s->closers[s->depth++] = c == '{' ? '}' : ']';
        return 0;
    case '}': case ']':
        if (s->closers[s->depth - 1] != c)
            return syntax_error(s, err, "brackets do not match");
        return --s->depth == 0;
    default:
        return 0;
    }
}

static int parse(struct json_stream *s, json_t **ret_value, struct error *err)
{
    json_error_t jerr;

    json_t *value = json_loadb(s->buf + s->begin, s->scan - s->begin, JSON_REJECT_DUPLICATES,
                               &jerr);
    restart(s);
    if (!value)
        return error_set(err, -EINVAL, "JSON parse error, %s", jerr.text);
    *ret_value = value;
    return 1;
}

int json_stream_next(struct json_stream *s, json_t **ret_value, struct error *err)
{
    while (s->scan < s->end) {
        char c = s->buf[s->scan++];
        int r = s->depth ? inside(s, c, err) : between(s, c, err);
        if (r < 0)
            return r;
        if (r > 0)
            return parse(s, ret_value, err);
        if (s->scan - s->begin > JSON_STREAM_VALUE_MAX)
            return syntax_error(s, err, "the value is too large");
    }
    if (s->begin == s->end)
        s->begin = s->scan = s->end = 0;
    return 0;
}
