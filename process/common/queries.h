/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the CPU process and device processes answer alike about their objects and block nodes: QMP's
 * query-block, device-list-properties, qom-list, qom-get, in QEMU's shapes. Results are new
 * references. Loop thread.
 */
#ifndef COMMON_QUERIES_H
#define COMMON_QUERIES_H

#include "block/block.h"
#include "obj/object.h"

/* Every object with a property "drive", and the node it names. */
int query_block(struct obj_tree *tree, struct block_graph *graph, json_t **ret, struct error *err)
    MUST_CHECK;
int query_properties(struct obj_tree *tree, const char *class_name, json_t **ret,
                     struct error *err) MUST_CHECK;
/* Devices lie in /machine/peripheral; "", "/" and "/machine" are the same place. */
int query_qom_list(struct obj_tree *tree, const char *path, json_t **ret, struct error *err)
    MUST_CHECK;
int query_qom_get(struct obj_tree *tree, const char *path, const char *property, json_t **ret,
                  struct error *err) MUST_CHECK;

#endif
