/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's option text: "driver=qcow2,node-name=d0,file.driver=file,file.filename=a,,b.img".
 * A doubled comma is a comma; dots nest; a first part without "=" takes implied_key (when given);
 * a part without "=" further on is an error. Text that begins with "{" is JSON.
 */
#ifndef OBJ_KEYVAL_H
#define OBJ_KEYVAL_H

#include "base/error.h"

#include <jansson.h>

/* *ret_object is a new JSON object whose leaves are strings (keyval) or anything (JSON). what is
 * the option's name for messages ("-blockdev"). Bounded: 1 MiB of text, 32 levels. */
int keyval_parse(const char *text, const char *implied_key, const char *what,
                 json_t **ret_object, struct error *err) MUST_CHECK;


#endif
