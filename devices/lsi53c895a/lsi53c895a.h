/* SPDX-License-Identifier: Apache-2.0 */
/* The LSI53C895A SCSI controller, "lsi53c895a": what the list of devices needs to know of it. */
#ifndef LSI53C895A_H
#define LSI53C895A_H

#include "pci/device.h"

extern const struct pci_device_class lsi53c895a_class;

#endif
