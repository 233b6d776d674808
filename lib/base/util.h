/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small things every file uses: scope-bound cleanup, overflow-checked arithmetic, ranges.
 */
#ifndef BASE_UTIL_H
#define BASE_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

/* Each use names its variables anew, so that one may stand inside another. */
#define JOIN__(a, b) a##b
#define JOIN_(a, b) JOIN__(a, b)
#define LESSER_(a, b, x, y) ({ __auto_type x = (a); __auto_type y = (b); x < y ? x : y; })
#define GREATER_(a, b, x, y) ({ __auto_type x = (a); __auto_type y = (b); x > y ? x : y; })
#define MIN(a, b) LESSER_(a, b, JOIN_(a_, __COUNTER__), JOIN_(b_, __COUNTER__))
#define MAX(a, b) GREATER_(a, b, JOIN_(a_, __COUNTER__), JOIN_(b_, __COUNTER__))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) \
    ((type *)((char *)(ptr) - offsetof(type, member)))

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

/* Lock annotations, checked by clang's -Wthread-safety, comments to gcc. */
#ifdef __clang__
#define GUARDED_BY(x) __attribute__((guarded_by(x)))
#else
#define GUARDED_BY(x)
#endif

static inline void auto_free_(void *p) { free(*(void **)p); }
static inline void auto_fd_(int *fd) { if (*fd >= 0) close(*fd); }

/* AUTO_FREE char *s = …;  AUTO_FD int fd = …;  undone when the scope ends. */
#define AUTO_FREE __attribute__((cleanup(auto_free_)))
#define AUTO_FD   __attribute__((cleanup(auto_fd_)))

/* Hand over: the value goes on, NULL or -1 stays behind. */
#define TAKE_PTR(p) ({ __auto_type taken_ = (p); (p) = NULL; taken_; })
#define TAKE_FD(fd) ({ int taken_ = (fd); (fd) = -1; taken_; })

#define ckd_add(r, a, b) __builtin_add_overflow((a), (b), (r))
#define ckd_sub(r, a, b) __builtin_sub_overflow((a), (b), (r))
#define ckd_mul(r, a, b) __builtin_mul_overflow((a), (b), (r))

/* True when [off, off + len) lies in [0, size). Adds nothing, so cannot overflow. */
static inline bool range_inside(uint64_t off, uint64_t len, uint64_t size)
{
    return off <= size && len <= size - off;
}

/* True when two ranges share a byte. Neither may wrap. */
static inline bool ranges_overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
    return a_len && b_len && (a < b ? b - a < a_len : a - b < b_len);
}

static inline bool is_power_of_two(uint64_t v) { return v && !(v & (v - 1)); }

/* align is a power of two. */
static inline uint64_t align_down(uint64_t v, uint64_t align) { return v & ~(align - 1); }
static inline uint64_t align_up(uint64_t v, uint64_t align)
{
    return (v + align - 1) & ~(align - 1);
}

#endif
