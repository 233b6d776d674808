/* SPDX-License-Identifier: Apache-2.0 */
#include "obj/state.h"

#include "base/bytes.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

void state_put(struct state_buf *buf, const void *data, size_t len)
{
    if (buf->failed || len == 0)
        return;
    if (len > buf->cap - buf->len) {
        size_t cap = MAX(buf->cap * 2, buf->len + len + 256);
        uint8_t *bigger = realloc(buf->data, cap);
        if (!bigger) {
            buf->failed = true;
            return;
        }
        buf->data = bigger;
        buf->cap = cap;
    }
    memcpy(buf->data + buf->len, data, len);
    buf->len += len;
}

void state_put_uint(struct state_buf *buf, uint64_t v, unsigned size)
{
    uint8_t b[8];
    le_store(b, size, v);
    state_put(buf, b, size);
}

void state_buf_fini(struct state_buf *buf)
{
    free(buf->data);
    *buf = (struct state_buf){ 0 };
}

int state_take(struct state_reader *in, void *buf, size_t len)
{
    if (len > (size_t)(in->end - in->at))
        return -EPROTO;
    if (len)
        memcpy(buf, in->at, len);
    in->at += len;
    return 0;
}

int state_take_uint(struct state_reader *in, unsigned size, uint64_t *ret)
{
    uint8_t b[8];
    int r = state_take(in, b, size);
    if (r == 0)
        *ret = le_load(b, size);
    return r;
}

/* Field integers are in host order, of 1, 2, 4 or 8 bytes. */
static uint64_t field_get(const void *at, size_t size)
{
    switch (size) {
    case 1: return *(const uint8_t *)at;
    case 2: return *(const uint16_t *)at;
    case 4: return *(const uint32_t *)at;
    default: return *(const uint64_t *)at;
    }
}

static void field_set(void *at, size_t size, uint64_t v)
{
    switch (size) {
    case 1: *(uint8_t *)at = v; break;
    case 2: *(uint16_t *)at = v; break;
    case 4: *(uint32_t *)at = v; break;
    default: *(uint64_t *)at = v; break;
    }
}

static unsigned used_count(const struct state_field *f, const void *part)
{
    if (!f->has_count)
        return f->count;
    uint32_t n;
    memcpy(&n, (const char *)part + f->len_offset, sizeof n);
    return MIN(n, f->count);
}

void state_save_fields(struct state_buf *buf, const struct state_field *fields, const void *part)
{
    for (const struct state_field *f = fields; f && f->type != STATE_T_END; f++) {
        const char *at = (const char *)part + f->offset;
        unsigned n = used_count(f, part);

        if (f->has_count)
            state_put_uint(buf, n, 4);
        switch (f->type) {
        case STATE_T_UINT:
            for (unsigned i = 0; i < n; i++)
                state_put_uint(buf, field_get(at + i * f->size, f->size), f->size);
            break;
        case STATE_T_BYTES:
            state_put(buf, at, f->size);
            break;
        case STATE_T_STRUCT:
            for (unsigned i = 0; i < n; i++)
                state_save_fields(buf, f->sub, at + i * f->size);
            break;
        case STATE_T_BUFFER: {
            uint32_t len;
            memcpy(&len, (const char *)part + f->len_offset, sizeof len);
            state_put_uint(buf, len, 4);
            state_put(buf, *(void *const *)at, len);
            break;
        }
        case STATE_T_END:
            break;
        }
    }
}

static int bad_value(struct error *err, const struct state_field *f, uint64_t v)
{
    return error_set(err, -EINVAL, "saved state: '%s' is %" PRIu64 ", more than %" PRIu64,
                     f->name, v, f->max);
}

static int load_buffer(struct state_reader *in, const struct state_field *f, void *part,
                       struct error *err)
{
    void **at = (void **)((char *)part + f->offset);
    uint64_t len;

    if (state_take_uint(in, 4, &len) < 0)
        return error_set(err, -EINVAL, "saved state ends inside '%s'", f->name);
    if (len > f->max)
        return bad_value(err, f, len);
    if (len > (size_t)(in->end - in->at))
        return error_set(err, -EINVAL, "saved state ends inside '%s'", f->name);

    void *data = len ? malloc(len) : NULL;
    if (len && !data)
        return error_oom(err);
    int r = state_take(in, data, len);
    (void)r;                    /* the length was checked above */
    free(*at);
    *at = data;
    uint32_t len32 = len;
    memcpy((char *)part + f->len_offset, &len32, sizeof len32);
    return 0;
}

int state_load_fields(struct state_reader *in, const struct state_field *fields, unsigned version,
                      void *part, struct error *err)
{
    for (const struct state_field *f = fields; f && f->type != STATE_T_END; f++) {
        char *at = (char *)part + f->offset;
        uint64_t n = f->count, v;
        int r = 0;

        if (f->since > version)
            continue;
        if (f->has_count) {
            r = state_take_uint(in, 4, &n);
            if (r == 0 && n > f->count)
                return error_set(err, -EINVAL, "saved state: '%s' has %" PRIu64
                                 " elements, more than %u", f->name, n, f->count);
            uint32_t n32 = n;
            if (r == 0)
                memcpy((char *)part + f->len_offset, &n32, sizeof n32);
        }
        switch (f->type) {
        case STATE_T_UINT:
            for (unsigned i = 0; r == 0 && i < n; i++) {
                r = state_take_uint(in, f->size, &v);
                if (r == 0 && v > f->max)
                    return bad_value(err, f, v);
                if (r == 0)
                    field_set(at + i * f->size, f->size, v);
            }
            break;
        case STATE_T_BYTES:
            r = state_take(in, at, f->size);
            break;
        case STATE_T_STRUCT:
            for (unsigned i = 0; r == 0 && i < n; i++) {
                r = state_load_fields(in, f->sub, version, at + i * f->size, err);
                if (r < 0)
                    return r;
            }
            break;
        case STATE_T_BUFFER:
            r = load_buffer(in, f, part, err);
            if (r < 0)
                return r;
            break;
        case STATE_T_END:
            break;
        }
        if (r < 0)
            return error_set(err, -EINVAL, "saved state ends inside '%s'", f->name);
    }
    return 0;
}
