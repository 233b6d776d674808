/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the command line's parser share. */
#ifndef CONTROL_INTERNAL_H
#define CONTROL_INTERNAL_H

#include "config.h"

/* The value of an option, for the table in options.c; opaque is the struct config. */
typedef int option_fn(void *opaque, const char *arg, struct error *err);

option_fn opt_memory, opt_smp, opt_machine, opt_accel, opt_cpu, opt_object, opt_name, opt_uuid,
    opt_mem_path, opt_action;                                               /* opt_machine.c */
option_fn opt_device, opt_process, opt_blockdev, opt_drive;                 /* opt_devices.c */
option_fn opt_serial, opt_chardev, opt_qmp;                                 /* opt_chardev.c */

/* As keyval_parse, with errors that lack the option's name. */
int text_parse(const char *text, const char *implied_key, json_t **ret_options,
                  struct error *err) MUST_CHECK;
/* All keys are among names (NULL-terminated). */
int options_known(json_t *options, const char *const *names, struct error *err) MUST_CHECK;
/* A string, or NULL when it is not there. It stays the object's. */
int options_string(json_t *options, const char *key, const char **ret, struct error *err)
    MUST_CHECK;
/* The same, removed from the object and copied; -EINVAL when it is missing and needed. */
int options_take(json_t *options, const char *key, bool needed, char **ret, struct error *err)
    MUST_CHECK;

/* Letters, digits, '-', '.', '_', beginning with a letter: as QEMU wants ids. */
int id_check(const char *id, struct error *err) MUST_CHECK;
/* Replaces *field. */
int set_copy(char **field, const char *value, struct error *err) MUST_CHECK;

/* A new zeroed element at the end of one of config's lists, labelled "-option arg"; NULL when out of
 * memory or there are CONFIG_LIST_MAX. */
struct process_config *add_process(struct config *config, const char *option, const char *arg);
struct device_config *add_device(struct config *config, const char *option, const char *arg);
struct node_config *add_node(struct config *config, const char *option, const char *arg);
struct chardev_config *add_chardev(struct config *config, const char *option, const char *arg);
struct object_config *add_object(struct config *config, const char *option, const char *arg);

int config_check(struct config *config, struct error *err) MUST_CHECK;      /* check.c */
int config_place(struct config *config, struct error *err) MUST_CHECK;      /* place.c */

#endif
