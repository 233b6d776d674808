/* SPDX-License-Identifier: Apache-2.0 */
/* The steps, as sandbox.c calls them. Each returns 0, or a negative errno with reason set. */
#ifndef SANDBOX_INTERNAL_H
#define SANDBOX_INTERNAL_H

#include "sandbox/sandbox.h"

enum { REASON_MAX = sizeof ((struct sandbox_report *)0)->steps[0].reason };

/* Writes reason; returns code. */
int refuse(char *reason, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

bool have_capability(unsigned cap);             /* effective, in the own user namespace */

/* namespaces.c */
int step_user_ns(char *reason);
int step_unshare(int flag, char *reason);
int step_mounts(char *reason);

/* privileges.c */
int step_limits(const struct sandbox_config *config, bool own_user_ns, char *reason);
int step_user_id(const struct sandbox_config *config, char *reason);
int step_capabilities(uint64_t keep, char *reason);
int step_dumpable(char *reason);
int step_no_new_privs(char *reason);

int step_landlock(char *reason);                /* landlock.c */

/* seccomp.c. Writes the policy's name, "device+block". */
int step_seccomp(const struct sandbox_config *config, char *name, size_t name_size, char *reason);

#endif
