/* SPDX-License-Identifier: Apache-2.0 */
/* Prints a line ten times a second until count= lines are out (default: for ever). */
#include "guest.h"

static unsigned number(const char *text)
{
    unsigned n = 0;

    while (*text >= '0' && *text <= '9')
        n = n * 10 + *text++ - '0';
    return n;
}

int guest_main(void)
{
    unsigned count = number(guest_option("count="));

    for (unsigned i = 1; !count || i <= count; i++) {
        print("tick %u\n", i);
        for (unsigned ms = 0; ms < 100; ms++)
            delay_us(1000);
    }
    return 0;
}
