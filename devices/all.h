/* SPDX-License-Identifier: Apache-2.0 */
/* Every class that -device and device_add can name, and the families they belong to. */
#ifndef DEVICES_ALL_H
#define DEVICES_ALL_H

#include "obj/object.h"

extern const struct object_class *const device_classes[];  /* sorted by name, NULL-terminated */

#endif
