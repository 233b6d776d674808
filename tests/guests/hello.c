/* SPDX-License-Identifier: Apache-2.0 */
/* Says what it was given: boot protocol, command line, processor. */
#include "guest.h"

int guest_main(void)
{
    uint32_t r[4];
    char vendor[13] = "";

    print("hello from a bare-metal guest\n");
    print("protocol %s\n", guest_boot_protocol);
    print("command line '%s'\n", guest_command_line);
    cpuid(0, 0, r);
    memcpy(vendor, &r[1], 4);
    memcpy(vendor + 4, &r[3], 4);
    memcpy(vendor + 8, &r[2], 4);
    print("cpu %s, highest leaf 0x%x\n", vendor, r[0]);
    cpuid(1, 0, r);
    EXPECT(r[2] >> 31);                         /* a hypervisor is there */
    print("apic id %u\n", r[1] >> 24);
    if (option_is("status=", "3"))
        guest_exit(3);
    return 0;
}
