/* SPDX-License-Identifier: Apache-2.0 */
#include "common/door.h"

#include "base/log.h"
#include "obj/keyval.h"
#include "obj/prop.h"

#include <errno.h>
#include <string.h>

enum {
    STEPS_ALL = (1 << SANDBOX_STEP_COUNT) - 1,
    STEPS_NAMESPACES = 1 << SANDBOX_STEP_USER_NS | 1 << SANDBOX_STEP_PID_NS |
                       1 << SANDBOX_STEP_IPC_NS | 1 << SANDBOX_STEP_UTS_NS |
                       1 << SANDBOX_STEP_NETWORK | 1 << SANDBOX_STEP_MOUNTS,
    ID_MAX = INT32_MAX,
};

static int take_switch(const char *key, const json_t *value, uint32_t steps,
                       struct door_option *option, struct error *err)
{
    bool on;
    int r = value_to_bool(value, key, &on, err);
    if (r == 0 && !on)
        option->off |= steps;
    return r;
}

static int take_id(const char *key, const json_t *value, bool *ret_has, uint32_t *ret_id,
                   struct error *err)
{
    uint64_t id;
    int r = value_to_uint(value, key, 0, ID_MAX, &id, err);
    if (r < 0)
        return r;
    *ret_has = true;
    *ret_id = id;
    return 0;
}

static int take_refused(const json_t *value, struct door_option *option, struct error *err)
{
    static const char *const names[] = { "auto", "fatal", "warn" };
    const char *text = json_string_value(value);

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (text && strcmp(text, names[i]) == 0) {
            option->refused = (enum door_refused)i;
            return 0;
        }
    return error_set(err, -EINVAL, "refused is auto, fatal or warn, not '%.40s'",
                     text ? text : "?");
}

static bool is_qemu_key(const char *key)
{
    return !strcmp(key, "obsolete") || !strcmp(key, "elevateprivileges") || !strcmp(key, "spawn") ||
           !strcmp(key, "resourcecontrol");
}

static int take_key(const char *key, const json_t *value, struct door_option *option,
                    struct error *err)
{
    if (strcmp(key, "enable") == 0) {
        bool on;
        int r = value_to_bool(value, key, &on, err);
        if (r == 0)
            option->disabled = !on;
        return r;
    }
    if (strcmp(key, "refused") == 0)
        return take_refused(value, option, err);
    if (strcmp(key, "namespaces") == 0)
        return take_switch(key, value, STEPS_NAMESPACES, option, err);
    if (strcmp(key, "seccomp") == 0)
        return take_switch(key, value, SANDBOX_BIT(SANDBOX_STEP_SECCOMP), option, err);
    if (strcmp(key, "landlock") == 0)
        return take_switch(key, value, SANDBOX_BIT(SANDBOX_STEP_LANDLOCK), option, err);
    if (strcmp(key, "uid") == 0)
        return take_id(key, value, &option->has_uid, &option->uid, err);
    if (strcmp(key, "gid") == 0)
        return take_id(key, value, &option->has_gid, &option->gid, err);
    if (is_qemu_key(key)) {
        const char *text = json_string_value(value);
        if (text && strcmp(text, "deny") == 0)
            return 0;
        return error_set(err, -EINVAL, "%s can only be 'deny' here", key);
    }
    return error_set(err, -EINVAL, "there is no key '%.40s'", key);
}

int door_option_parse(const char *text, struct door_option *option, struct error *err)
{
    json_t *object, *value;
    const char *key;

    *option = (struct door_option){ .disabled = false };
    int r = keyval_parse(text, "enable", "-sandbox", &object, err);
    if (r < 0)
        return r;
    json_object_foreach(object, key, value) {
        r = take_key(key, value, option, err);
        if (r < 0)
            break;
    }
    json_decref(object);
    return r;
}

static bool is_fatal(const struct door_option *option, enum sandbox_step step, bool launched,
                     bool was_root)
{
    if (option->refused != DOOR_REFUSED_AUTO)
        return option->refused == DOOR_REFUSED_FATAL;
    return sandbox_step_essential(step) && (launched || was_root);
}

/* -EPERM with err for the first fatal one; warns of the others. */
static int judge(const struct door_option *option, const struct sandbox_report *report,
                 bool launched, bool was_root, struct error *err)
{
    for (enum sandbox_step step = 0; step < SANDBOX_STEP_COUNT; step++) {
        if (report->steps[step].state != SANDBOX_REFUSED)
            continue;
        if (is_fatal(option, step, launched, was_root))
            return error_set(err, -EINVAL, "the host refuses the sandbox step '%s' (%s); "
                             "'-sandbox on,refused=warn' goes on without it",
                             sandbox_step_name(step), report->steps[step].reason);
        if (step != SANDBOX_STEP_PID_NS)        /* whoever started us did not care to */
            log_warn("sandbox without %s: %s", sandbox_step_name(step),
                     report->steps[step].reason);
    }
    return 0;
}

int door_close(const struct door_option *option, struct sandbox_config *config, bool launched,
               struct sandbox_report *report, struct error *err)
{
    bool was_root = geteuid() == 0;

    config->off |= option->off | (option->disabled ? (uint32_t)STEPS_ALL : 0);
    config->has_uid = option->has_uid;
    config->has_gid = option->has_gid;
    config->uid = option->uid;
    config->gid = option->gid;
    int r = sandbox_enter(config, report, err);
    return r < 0 ? r : judge(option, report, launched, was_root, err);
}

json_t *door_report_json(const struct sandbox_report *report)
{
    json_t *steps = json_array();

    for (enum sandbox_step step = 0; step < SANDBOX_STEP_COUNT; step++)
        json_array_append_new(steps, json_pack("{s:s, s:s, s:b, s:s}",
            "step", sandbox_step_name(step),
            "state", sandbox_state_name(report->steps[step].state),
            "done", report->steps[step].state == SANDBOX_DONE,
            "reason", report->steps[step].reason));
    return json_pack("{s:s, s:o}", "policy", report->policy, "steps", steps);
}
