/* SPDX-License-Identifier: Apache-2.0 */
/* A new device is named here, in order, and in meson.build. */
#include "devices/all.h"

#include "devices/csum.h"
#include "devices/lsi53c895a/lsi53c895a.h"
#include "pci/device.h"
#include "scsi/scsi.h"

const struct object_class *const device_classes[] = {
    &csum_class.base,
    &lsi53c895a_class.base,
    &pci_device_base,
    &scsi_cd_class,
    &scsi_device_base,
    &scsi_hd_class,
    NULL,
};
