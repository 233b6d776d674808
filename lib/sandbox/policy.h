/* SPDX-License-Identifier: Apache-2.0 */
/* What the generator of the filters (filters_gen.c) and their loader (seccomp.c) agree on. */
#ifndef SANDBOX_POLICY_H
#define SANDBOX_POLICY_H

#include <stdint.h>

/* Files of policy/, in this order. */
enum policy_part {
    PART_BASE, PART_DEVICE, PART_CPU, PART_CONTROL, PART_BLOCK, PART_NET, PART_CHARDEV,
    PART_JANITOR, PART_COUNT
};

enum {
    /* device and cpu, each with every sum of back-ends; then control and janitor */
    POLICY_BACKENDS = 8, POLICY_CONTROL = 2 * POLICY_BACKENDS, POLICY_JANITOR, POLICY_COUNT,
    /* In a filter where the process's own id is to be put; larger than any process id. */
    POLICY_SELF_PID = 0x5e1f51d0,
};

struct policy_index { uint16_t start, len; };           /* in instructions */
struct policy_condition { uint16_t nr; uint8_t part; uint16_t line; };

/* Which parts policy number i is made of, bit per part. Bits of the back-ends as in sandbox.h. */
static inline unsigned policy_parts(unsigned i)
{
    if (i == POLICY_CONTROL)
        return 1U << PART_CONTROL;
    if (i == POLICY_JANITOR)
        return 1U << PART_JANITOR;
    return 1U << PART_BASE | (i < POLICY_BACKENDS ? 1U << PART_DEVICE : 1U << PART_CPU) |
           (i & 1 ? 1U << PART_BLOCK : 0) | (i & 2 ? 1U << PART_NET : 0) |
           (i & 4 ? 1U << PART_CHARDEV : 0);
}

#endif
