/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -sandbox: what the user says about it, and what follows when the host refuses a step.
 *
 *   -sandbox on|off[,refused=auto|fatal|warn][,namespaces=on|off][,seccomp=on|off]
 *            [,landlock=on|off][,uid=N][,gid=N]
 *
 * refused=fatal: any refused step ends the program. warn: it says so and goes on. auto, the
 * default: fatal for the steps without which a process that was taken over could reach the host
 * (sandbox_step_essential), if the process is root or another program started it (its channel is an
 * inherited descriptor); a warning otherwise. A pid namespace is the launcher's to give; that there
 * is none is fatal with refused=fatal alone.
 *
 * QEMU's obsolete=, elevateprivileges=, spawn= and resourcecontrol= are taken with the value deny,
 * which is what happens anyway.
 */
#ifndef COMMON_DOOR_H
#define COMMON_DOOR_H

#include "sandbox/sandbox.h"

#include <jansson.h>

enum door_refused { DOOR_REFUSED_AUTO, DOOR_REFUSED_FATAL, DOOR_REFUSED_WARN };

struct door_option {
    bool disabled;
    enum door_refused refused;
    uint32_t off;                   /* SANDBOX_BIT of each step switched off */
    bool has_uid, has_gid;
    uid_t uid;
    gid_t gid;
};

#define DOOR_HELP "on|off[,key=value…]"
#define DOOR_HELP_TEXT \
    "close the sandbox (default: on);\n"                                            \
    "refused=auto|fatal|warn: what follows when the host\n"                         \
    "refuses a step; namespaces=, seccomp=, landlock=on|off;\n"                     \
    "uid=N, gid=N: the ids to take"

/* The value of -sandbox; *option is all zero where there was none. */
int door_option_parse(const char *text, struct door_option *option, struct error *err) MUST_CHECK;

/*
 * Closes it. config's role, backends, name and max_fds are the program's; the rest comes from
 * option. launched: another program started this one. Logs what was refused and is not fatal.
 * One thread; see sandbox_enter.
 */
int door_close(const struct door_option *option, struct sandbox_config *config, bool launched,
               struct sandbox_report *report, struct error *err) MUST_CHECK;

/* {"policy": "device+block", "steps": [{"step", "state", "done", "reason"}]}, for sandbox-info. */
json_t *door_report_json(const struct sandbox_report *report);

#endif
