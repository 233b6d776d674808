/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Integers as they lie outside: on a wire, in guest memory, in an image. They are structs, so
 * that the compiler refuses arithmetic on what has not been converted, and byte-aligned, so
 * that they may stand anywhere.
 */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define BYTES_TYPE(name, utype, to_host, from_host)                                          \
    typedef struct __attribute__((packed)) { utype raw; } name;                              \
    static inline utype name##_get(name v) { return to_host(v.raw); }                        \
    static inline name name##_of(utype v) { return (name){ from_host(v) }; }                 \
    static inline utype name##_load(const void *p)                                           \
    {                                                                                        \
        utype v;                                                                             \
        memcpy(&v, p, sizeof v);                                                             \
        return to_host(v);                                                                   \
    }                                                                                        \
    static inline void name##_store(void *p, utype v)                                        \
    {                                                                                        \
        v = from_host(v);                                                                    \
        memcpy(p, &v, sizeof v);                                                             \
    }

BYTES_TYPE(le16, uint16_t, le16toh, htole16)
BYTES_TYPE(le32, uint32_t, le32toh, htole32)
BYTES_TYPE(le64, uint64_t, le64toh, htole64)
BYTES_TYPE(be16, uint16_t, be16toh, htobe16)
BYTES_TYPE(be32, uint32_t, be32toh, htobe32)
BYTES_TYPE(be64, uint64_t, be64toh, htobe64)

/* Little-endian integer of len bytes, 1 to 8. */
static inline uint64_t le_load(const void *p, unsigned len)
{
    uint64_t v = 0;
    memcpy(&v, p, len);
    return le64toh(v);
}

static inline void le_store(void *p, unsigned len, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, len);
}

/* Where a byte, counted from any base, lies. */
typedef uint64_t gpa_t;     /* guest physical (or bus) address */

#endif
