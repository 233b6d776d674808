/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"
#include "common/door.h"
#include "common/janitor.h"
#include "common/options.h"
#include "common/start.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- options ---- */

struct seen { char text[256]; };

static void note(struct seen *seen, const char *what, const char *value)
{
    size_t len = strlen(seen->text);
    snprintf(seen->text + len, sizeof seen->text - len, "%s=%s;", what, value ? value : "-");
}

static int take_device(void *opaque, const char *value, struct error *err)
{
    if (strcmp(value, "bad") == 0)
        return error_set(err, -EINVAL, "no such device");
    note(opaque, "device", value);
    return 0;
}

static int take_flag(void *opaque, const char *value, struct error *err)
{
    note(opaque, "flag", value);
    return 0;
}

static int take_positional(void *opaque, unsigned index, const char *value, struct error *err)
{
    note(opaque, index ? "more" : "first", value);
    return 0;
}

static const struct option_spec specs[] = {
    { .name = "device", .arg = "driver=…", .help = "a device", .take = take_device },
    { .name = "flag", .alias = "f", .once = true, .help = "a flag", .take = take_flag },
    { .name = NULL },
};

static int parse(struct seen *seen, struct error *err, const char *const *args)
{
    char *argv[16] = { (char *)"program" };
    int argc = 1;

    for (; args[argc - 1]; argc++)
        argv[argc] = (char *)args[argc - 1];
    *seen = (struct seen){ "" };
    return options_parse(specs, argc, argv, take_positional, seen, err);
}
#define PARSE(...) parse(&seen, &err, (const char *const[]){ __VA_ARGS__, NULL })

TEST(options_come_with_one_dash_or_two)
{
    struct seen seen;
    struct error err;

    CHECK_EQ(PARSE("3", "-device", "a,b=c", "--device", "-x", "--device=d=e", "-f"), 0);
    CHECK_STR(seen.text, "first=3;device=a,b=c;device=-x;device=d=e;flag=-;");
    CHECK_EQ(PARSE("--", "-device", "-"), 0);
    CHECK_STR(seen.text, "first=-device;more=-;");
}

TEST(mistakes_are_named_by_option)
{
    struct seen seen;
    struct error err;

    CHECK_EQ(PARSE("-nothing"), -EINVAL);
    CHECK_STR(err.text, "unknown option '-nothing'; -help lists all");
    CHECK_EQ(PARSE("-device"), -EINVAL);
    CHECK_STR(err.text, "-device needs a value: -device driver=…");
    CHECK_EQ(PARSE("-device", "bad"), -EINVAL);
    CHECK_STR(err.text, "-device bad: no such device");
    CHECK_EQ(PARSE("--flag=x"), -EINVAL);
    CHECK_STR(err.text, "-flag takes no value");
    CHECK_EQ(PARSE("-flag", "-f"), -EINVAL);
    CHECK_STR(err.text, "-flag is given twice");
    CHECK_EQ(PARSE("-deviceX", "y"), -EINVAL);
}

/* ---- -sandbox ---- */

TEST(sandbox_option_is_read)
{
    struct door_option option;
    struct error err;

    CHECK_EQ(door_option_parse("off", &option, &err), 0);
    CHECK(option.disabled);
    CHECK_EQ(door_option_parse("on,refused=warn,seccomp=off,uid=1000,gid=0x10", &option, &err), 0);
    CHECK(!option.disabled);
    CHECK_EQ(option.refused, DOOR_REFUSED_WARN);
    CHECK_EQ(option.off, SANDBOX_BIT(SANDBOX_STEP_SECCOMP));
    CHECK(option.has_uid && option.uid == 1000 && option.has_gid && option.gid == 16);
    CHECK_EQ(door_option_parse("on,obsolete=deny,spawn=deny", &option, &err), 0);
}

TEST(sandbox_option_mistakes_are_named)
{
    static const struct { const char *text, *part; } bad[] = {
        { "on,refused=maybe", "refused is auto, fatal or warn, not 'maybe'" },
        { "perhaps", "enable" }, { "on,uid=root", "uid" }, { "on,uid=-1", "uid" },
        { "on,colour=red", "there is no key 'colour'" }, { "on,spawn=allow", "spawn" },
        { "on,seccomp=2", "seccomp" }, { "on,landlock", "landlock" },
        { "on,uid=99999999999", "uid" },
    };
    struct door_option option;
    struct error err;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        CHECK_EQ(door_option_parse(bad[i].text, &option, &err), -EINVAL);
        CHECK_HAS(err.text, bad[i].part);
    }
}

/* Runs door_close in a child that can have no filter, since no-new-privs and rights are missing. */
static int close_in_child(const char *text, bool launched)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct sandbox_config config = { .role = SANDBOX_DEVICE, .name = "test" };
        struct sandbox_report report;
        struct door_option option;
        struct error err;
        close(2);
        /* Twice: the second time the empty root has no place for another. */
        config.off = SANDBOX_BIT(SANDBOX_STEP_SECCOMP);
        if (door_option_parse("on,refused=warn", &option, &err) < 0 ||
            door_close(&option, &config, false, &report, &err) < 0 ||
            door_option_parse(text, &option, &err) < 0)
            _exit(99);
        int r = door_close(&option, &config, launched, &report, &err);
        if (r < 0 && !strstr(err.text, "'-sandbox on,refused=warn' goes on without it"))
            _exit(98);
        _exit(r < 0);
    }
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

TEST(a_refused_step_is_fatal_as_the_user_says)
{
    CHECK_EQ(close_in_child("on,refused=fatal", false), 1);
    CHECK_EQ(close_in_child("on,refused=warn", true), 0);
    CHECK_EQ(close_in_child("on", true), 1);                /* mounts: essential */
    CHECK_EQ(close_in_child("on", false), geteuid() == 0);
    CHECK_EQ(close_in_child("off", true), 0);
}

TEST(the_report_lists_every_step)
{
    struct sandbox_report report = { .policy = "device" };
    report.steps[SANDBOX_STEP_MOUNTS].state = SANDBOX_DONE;

    json_t *json = door_report_json(&report);
    CHECK_EQ(json_array_size(json_object_get(json, "steps")), SANDBOX_STEP_COUNT);
    json_t *step = json_array_get(json_object_get(json, "steps"), SANDBOX_STEP_MOUNTS);
    CHECK_STR(json_string_value(json_object_get(step, "step")), "mounts");
    CHECK(json_is_true(json_object_get(step, "done")));
    json_decref(json);
}

/* ---- start ---- */

TEST(stray_descriptors_are_closed_and_kept_ones_are_not_inherited)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct error err;
        int keep[] = { 40, 20 };
        if (dup2(1, 20) < 0 || dup2(1, 40) < 0 || dup2(1, 30) < 0 || dup2(1, 41) < 0)
            _exit(2);
        if (start_close_strays(keep, 2, &err) < 0)
            _exit(3);
        bool ok = fcntl(20, F_GETFD) == FD_CLOEXEC && fcntl(40, F_GETFD) == FD_CLOEXEC &&
                  fcntl(30, F_GETFD) < 0 && fcntl(41, F_GETFD) < 0 && fcntl(2, F_GETFD) == 0;
        int missing[] = { 33 };
        _exit(ok && start_close_strays(missing, 1, &err) == -EBADF ? 0 : 4);
    }
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
}

/* ---- the janitor ---- */

static void make_socket(const char *path)
{
    struct sockaddr_un sun = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(sun.sun_path, sizeof sun.sun_path, "%s", path);
    if (bind(fd, (struct sockaddr *)&sun, sizeof sun) < 0)
        _exit(90);
    close(fd);
}

/* A process with a socket at path and a janitor; before is what happens then, and it ends. */
static void live(const char *path, void (*before)(struct janitor *janitor, const char *path))
{
    pid_t pid = fork();
    if (pid == 0) {
        struct janitor janitor;
        struct error err;
        janitor_init(&janitor);
        make_socket(path);
        janitor_add(&janitor, path);
        if (janitor_start(&janitor, &err) < 0)
            _exit(91);
        before(&janitor, path);
        _exit(0);
    }
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
}

static bool gone_soon(const char *path)
{
    for (int i = 0; i < 2000 && access(path, F_OK) == 0; i++)
        usleep(1000);
    return access(path, F_OK) < 0;
}

static void finishes(struct janitor *janitor, const char *path) { janitor_finish(janitor); }
static void is_killed(struct janitor *janitor, const char *path) { raise(SIGKILL); }
static void is_replaced(struct janitor *janitor, const char *path)
{
    unlink(path);
    usleep(20000);              /* another time stamp, if not another number */
    make_socket(path);
    janitor_finish(janitor);
}

TEST(the_janitor_removes_sockets_however_the_process_ends)
{
    char dir[] = "/tmp/janitor-XXXXXX", path[64];

    CHECK(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/s", dir);
    live(path, finishes);
    CHECK_EQ(access(path, F_OK), -1);       /* at once */
    live(path, is_killed);
    CHECK(gone_soon(path));
    live(path, is_replaced);
    CHECK_EQ(access(path, F_OK), 0);        /* somebody else's */
    unlink(path);
    rmdir(dir);
}

TEST(the_version_has_three_numbers)
{
    unsigned a, b, c;
    char text[32];

    version_numbers(&a, &b, &c);
    snprintf(text, sizeof text, "%u.%u.%u", a, b, c);
    CHECK_STR(text, version_text());
}

TEST_MAIN
