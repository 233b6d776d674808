/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEVICES_CSUM_H
#define DEVICES_CSUM_H

#include "pci/device.h"

/* BAR 0, 4 KiB, 32-bit registers, little-endian. */
enum {
    CSUM_ADDR_LO = 0x00, CSUM_ADDR_HI = 0x04,   /* rw  where the data lies, guest-physical */
    CSUM_LEN     = 0x08,                        /* rw  bytes, at most CSUM_MAX */
    CSUM_START   = 0x0c,                        /*  w  any value starts; interrupt when done */
    CSUM_SUM     = 0x10, CSUM_STATUS  = 0x14,   /* r   modulo 2^32; CSUM_IDLE and so on */
};
enum { CSUM_IDLE, CSUM_DONE, CSUM_FAILED, CSUM_MAX = 64 * 1024 };

extern const struct pci_device_class csum_class;

#endif
