/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State tables: which fields of a struct make up its state, within which bounds. One list serves
 * saving and loading; what is loaded is checked before it is used, whoever made it.
 *
 * The encoding: fields in the order of the table, little-endian, no padding. A table is a
 * contract: fields are only added, with a higher `since`.
 */
#ifndef OBJ_STATE_H
#define OBJ_STATE_H

#include "base/error.h"

enum state_type {
    STATE_T_END,
    STATE_T_UINT,       /* 1, 2, 4, 8 bytes, at most max */
    STATE_T_BYTES,      /* a fixed array of bytes */
    STATE_T_STRUCT,     /* count structs, stride bytes apart, by the table sub */
    STATE_T_BUFFER,     /* malloced bytes: void * at offset, uint32_t length at len_offset, <= max */
};

struct state_field {
    const char *name;
    enum state_type type;
    size_t offset, size;            /* of one element */
    unsigned count;                 /* elements; 1 for a scalar */
    size_t len_offset;              /* BUFFER; STRUCT with HAS_COUNT: uint32_t used elements */
    bool has_count;
    uint64_t max;
    const struct state_field *sub;
    unsigned since;                 /* version of the class's state that brought it */
};

#define STATE_UINT_(s, f, m) { .name = #f, .type = STATE_T_UINT, .offset = offsetof(s, f), \
    .size = sizeof(((s *)0)->f), .count = 1, .max = m }
#define STATE_U8(s, f)  STATE_UINT_(s, f, UINT8_MAX)
#define STATE_U16(s, f) STATE_UINT_(s, f, UINT16_MAX)
#define STATE_U32(s, f) STATE_UINT_(s, f, UINT32_MAX)
#define STATE_U64(s, f) STATE_UINT_(s, f, UINT64_MAX)
#define STATE_BOOL(s, f) STATE_UINT_(s, f, 1)
/* Inclusive maximum; for enums and indices. */
#define STATE_U8_MAX(s, f, m)  STATE_UINT_(s, f, m)
#define STATE_U16_MAX(s, f, m) STATE_UINT_(s, f, m)
#define STATE_U32_MAX(s, f, m) STATE_UINT_(s, f, m)
#define STATE_U64_MAX(s, f, m) STATE_UINT_(s, f, m)
/* An array of unsigned integers. */
#define STATE_UINTS(s, f, m) { .name = #f, .type = STATE_T_UINT, .offset = offsetof(s, f), \
    .size = sizeof(((s *)0)->f[0]), .count = ARRAY_SIZE(((s *)0)->f), .max = m }
#define STATE_BYTES(s, f) { .name = #f, .type = STATE_T_BYTES, .offset = offsetof(s, f), \
    .size = sizeof(((s *)0)->f), .count = 1 }
#define STATE_STRUCT(s, f, t) { .name = #f, .type = STATE_T_STRUCT, .offset = offsetof(s, f), \
    .size = sizeof(((s *)0)->f), .count = 1, .sub = t }
#define STATE_STRUCTS(s, f, t) { .name = #f, .type = STATE_T_STRUCT, .offset = offsetof(s, f), \
    .size = sizeof(((s *)0)->f[0]), .count = ARRAY_SIZE(((s *)0)->f), .sub = t }
/* The first s.n elements of the array f. */
#define STATE_STRUCTS_USED(s, f, n, t) { .name = #f, .type = STATE_T_STRUCT, \
    .offset = offsetof(s, f), .size = sizeof(((s *)0)->f[0]), .count = ARRAY_SIZE(((s *)0)->f), \
    .has_count = true, .len_offset = offsetof(s, n), .sub = t }
/* Loading frees what was there. Length 0 is a NULL pointer. */
#define STATE_BUFFER(s, f, n, m) { .name = #f, .type = STATE_T_BUFFER, .offset = offsetof(s, f), \
    .count = 1, .len_offset = offsetof(s, n), .max = m }
#define STATE_END { .type = STATE_T_END }

struct state_buf {          /* grows; all zero is empty */
    uint8_t *data;
    size_t len, cap;
    bool failed;            /* out of memory: sticks */
};

void state_put(struct state_buf *buf, const void *data, size_t len);
void state_put_uint(struct state_buf *buf, uint64_t v, unsigned size);
void state_buf_fini(struct state_buf *buf);

struct state_reader { const uint8_t *at, *end; };
int state_take(struct state_reader *in, void *buf, size_t len) MUST_CHECK;   /* -EPROTO: too short */
int state_take_uint(struct state_reader *in, unsigned size, uint64_t *ret) MUST_CHECK;

void state_save_fields(struct state_buf *buf, const struct state_field *fields, const void *part);
/* Values are stored only field by field as they pass; a failed load leaves a mixture, so the
 * caller resets or drops the object. version: what wrote it. */
int state_load_fields(struct state_reader *in, const struct state_field *fields, unsigned version,
                      void *part, struct error *err) MUST_CHECK;

#endif
