/* SPDX-License-Identifier: Apache-2.0 */
/* Every step is taken in a child process; the child or its parent then looks at what is left. */
#include "base/test.h"
#include "sandbox/internal.h"
#include "sandbox/spawn.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { NOBODY = 65534, CHILD_OK = 0 };

/* Sanitizers want calls at exit that the filters forbid. */
#define LEAVE(status) _exit(status)
#define REQUIRE(cond)                                                           \
    do {                                                                        \
        if (!(cond)) {                                                          \
            dprintf(1, "line %d: %s, errno %d\n", __LINE__, #cond, errno);      \
            LEAVE(99);                                                          \
        }                                                                       \
    } while (0)

typedef void child_fn(struct sandbox_config *config);

struct outcome { int status; char text[2048]; };

/* Runs fn in a child with its standard error and output caught. */
static struct outcome run(child_fn *fn, struct sandbox_config config)
{
    struct outcome out = { .status = -1 };
    int fds[2];

    CHECK_EQ(pipe(fds), 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        dup2(fds[1], 1);
        dup2(fds[1], 2);
        close(fds[0]);
        close(fds[1]);
        fn(&config);
        LEAVE(CHILD_OK);
    }
    close(fds[1]);
    size_t len = 0;
    ssize_t n;
    while (len < sizeof out.text - 1 &&
           (n = read(fds[0], out.text + len, sizeof out.text - 1 - len)) > 0)
        len += n;
    out.text[len] = '\0';
    close(fds[0]);
    CHECK_EQ(waitpid(pid, &out.status, 0), pid);
    return out;
}

static void check_ok(const struct outcome *out)
{
    if (out->status != CHILD_OK)
        print_error("child: status 0x%x: %s\n", out->status, out->text);
    CHECK_EQ(out->status, CHILD_OK);
}

static void check_killed(const struct outcome *out, const char *call, const char *policy)
{
    if (!WIFSIGNALED(out->status) || !strstr(out->text, call))
        print_error("child: status 0x%x: %s\n", out->status, out->text);
    CHECK(WIFSIGNALED(out->status));
    CHECK_EQ(WTERMSIG(out->status), SIGSYS);
    CHECK_HAS(out->text, call);
    CHECK_HAS(out->text, policy);
}

static struct sandbox_report enter(struct sandbox_config *config)
{
    struct sandbox_report report;
    struct error err;
    int r = sandbox_enter(config, &report, &err);
    REQUIRE(r == 0);
    return report;
}

static bool have_namespaces(void)
{
    static int known = -1;

    if (known < 0) {
        pid_t pid = fork();
        if (pid == 0)
            LEAVE(unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0);
        int status = 1;
        waitpid(pid, &status, 0);
        known = status == 0;
    }
    return known;
}

/* ---- what is left of the file system, the network, privileges ---- */

static const struct sandbox_config no_seccomp = {
    .role = SANDBOX_DEVICE, .backends = SANDBOX_BLOCK, .name = "test",
    .off = SANDBOX_BIT(SANDBOX_STEP_SECCOMP) | SANDBOX_BIT(SANDBOX_STEP_LANDLOCK),
};

static void sees_an_empty_root(struct sandbox_config *config)
{
    struct sandbox_report report = enter(config);
    REQUIRE(report.steps[SANDBOX_STEP_MOUNTS].state == SANDBOX_DONE);

    DIR *dir = opendir("/");
    REQUIRE(dir);
    for (struct dirent *e; (e = readdir(dir));)
        REQUIRE(e->d_name[0] == '.');
    closedir(dir);
    REQUIRE(open("/etc/passwd", O_RDONLY) < 0 && errno == ENOENT);
    REQUIRE(open("../../../etc/passwd", O_RDONLY) < 0 && errno == ENOENT);
    REQUIRE(open("/new", O_WRONLY | O_CREAT, 0600) < 0 && errno == EROFS);
    REQUIRE(mkdir("/new", 0700) < 0);
    REQUIRE(access("/proc", F_OK) < 0);
}

TEST(the_root_directory_is_empty_and_cannot_be_written)
{
    if (!have_namespaces())
        skip();
    struct outcome out = run(sees_an_empty_root, no_seccomp);
    check_ok(&out);
}

static void sees_no_network(struct sandbox_config *config)
{
    struct sandbox_report report = enter(config);
    REQUIRE(report.steps[SANDBOX_STEP_NETWORK].state == SANDBOX_DONE);

    struct if_nameindex *list = if_nameindex();
    REQUIRE(list);
    for (struct if_nameindex *i = list; i->if_index; i++)
        REQUIRE(strcmp(i->if_name, "lo") == 0);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq ifr = { .ifr_name = "lo" };
    REQUIRE(fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &ifr) == 0);
    REQUIRE(!(ifr.ifr_flags & IFF_UP));
}

TEST(the_network_has_no_interface_that_is_up)
{
    if (!have_namespaces())
        skip();
    struct outcome out = run(sees_no_network, no_seccomp);
    check_ok(&out);
}

static void holds_nothing(struct sandbox_config *config)
{
    /* Opened before, for there is no /proc afterwards. */
    int fd = open("/proc/self/status", O_RDONLY);
    char text[4096];
    REQUIRE(fd >= 0);
    enter(config);
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    REQUIRE(n > 0);
    text[n] = '\0';
    ssize_t w = write(1, text, n);
    REQUIRE(w == n);
    LEAVE(CHILD_OK);
}

static void check_status(const struct outcome *out)
{
    CHECK_HAS(out->text, "CapInh:\t0000000000000000");
    CHECK_HAS(out->text, "CapPrm:\t0000000000000000");
    CHECK_HAS(out->text, "CapEff:\t0000000000000000");
    CHECK_HAS(out->text, "CapBnd:\t0000000000000000");
    CHECK_HAS(out->text, "CapAmb:\t0000000000000000");
    CHECK_HAS(out->text, "NoNewPrivs:\t1");
    CHECK_HAS(out->text, "Seccomp:\t2");
}

static const struct sandbox_config full = {
    .role = SANDBOX_DEVICE, .backends = SANDBOX_BLOCK, .name = "test",
};

TEST(no_capability_is_left_and_the_filter_is_on)
{
    if (!have_namespaces() && geteuid() != 0)
        skip();
    struct outcome out = run(holds_nothing, full);
    check_ok(&out);
    check_status(&out);
}

static void as_nobody(struct sandbox_config *config)
{
    REQUIRE(setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0);
    REQUIRE(prctl(PR_SET_DUMPABLE, 1) == 0);    /* as after exec, so that /proc/self is its own */
    holds_nothing(config);
}

TEST(an_unprivileged_user_gets_the_same_by_a_user_namespace)
{
    if (geteuid() != 0 || !have_namespaces())
        skip();
    struct outcome out = run(as_nobody, full);
    check_ok(&out);
    check_status(&out);
}

static void all_steps_done(struct sandbox_config *config)
{
    struct sandbox_report report = enter(config);
    for (unsigned i = 0; i < SANDBOX_STEP_COUNT; i++) {
        dprintf(1, "%s: %s %s\n", sandbox_step_name(i),
                sandbox_state_name(report.steps[i].state), report.steps[i].reason);
        if (sandbox_step_essential(i))
            REQUIRE(report.steps[i].state == SANDBOX_DONE);
    }
    dprintf(1, "policy: %s\n", report.policy);
}

TEST(each_step_is_reported)
{
    if (!have_namespaces())
        skip();
    struct outcome out = run(all_steps_done, full);
    check_ok(&out);
    CHECK_HAS(out.text, "mounts: done");
    CHECK_HAS(out.text, "user-id: off");
    CHECK_HAS(out.text, "pid-namespace: refused only who starts");
    CHECK_HAS(out.text, "policy: device+block");
}

static void takes_ids(struct sandbox_config *config)
{
    struct sandbox_report report = enter(config);
    REQUIRE(report.steps[SANDBOX_STEP_USER_ID].state == SANDBOX_DONE);
    REQUIRE(report.steps[SANDBOX_STEP_CAPABILITIES].state == SANDBOX_DONE);
    REQUIRE(getuid() == 12345 && geteuid() == 12345 && getgid() == 23456);
    REQUIRE(setuid(0) < 0);
    REQUIRE(prctl(PR_GET_DUMPABLE) == 0);
    REQUIRE(prctl(PR_CAPBSET_READ, 0) == 0);
}

TEST(another_user_id_is_taken_for_good)
{
    if (geteuid() != 0)
        skip();
    struct sandbox_config config = no_seccomp;
    config.has_uid = config.has_gid = true;
    config.uid = 12345;
    config.gid = 23456;
    struct outcome out = run(takes_ids, config);
    check_ok(&out);
}

static void has_limits(struct sandbox_config *config)
{
    struct rlimit limit;

    config->max_fds = 77;
    enter(config);
    REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 77 && limit.rlim_max == 77);
    REQUIRE(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_cur == 0 && limit.rlim_max == 0);
}

TEST(limits_are_lowered_for_good)
{
    struct outcome out = run(has_limits, no_seccomp);
    check_ok(&out);
}

static void landlock_only(struct sandbox_config *config)
{
    config->off = ~SANDBOX_BIT(SANDBOX_STEP_LANDLOCK) & ~SANDBOX_BIT(SANDBOX_STEP_NO_NEW_PRIVS);
    int before = open("/dev/null", O_RDWR);
    struct sandbox_report report = enter(config);
    if (report.steps[SANDBOX_STEP_LANDLOCK].state == SANDBOX_REFUSED) {
        REQUIRE(report.steps[SANDBOX_STEP_LANDLOCK].reason[0]);
        LEAVE(77);
    }
    REQUIRE(open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES);
    REQUIRE(open("/", O_RDONLY | O_DIRECTORY) < 0 && errno == EACCES);
    REQUIRE(write(before, "x", 1) == 1);
}

TEST(landlock_alone_denies_every_file_but_open_ones)
{
    struct outcome out = run(landlock_only, full);
    if (WIFEXITED(out.status) && WEXITSTATUS(out.status) == 77)
        skip();
    check_ok(&out);
}

/* ---- seccomp ---- */

static const struct sandbox_config only_seccomp = {
    .role = SANDBOX_DEVICE, .backends = SANDBOX_BLOCK, .name = "disk-proc[d0]",
    .off = ~(SANDBOX_BIT(SANDBOX_STEP_SECCOMP) | SANDBOX_BIT(SANDBOX_STEP_NO_NEW_PRIVS)),
};

static void makes_a_socket(struct sandbox_config *config)
{
    enter(config);
    prctl(PR_SET_NAME, "worker");
    socket(AF_UNIX, SOCK_STREAM, 0);
}

TEST(a_forbidden_call_kills_with_call_thread_and_policy_named)
{
    struct outcome out = run(makes_a_socket, only_seccomp);
    check_killed(&out, "disk-proc[d0]: error: forbidden system call socket(0x1, 0x1, ",
                 "policy device+block: no rule allows it");
    CHECK_HAS(out.text, "in thread 'worker' (");
}

static void opens(struct sandbox_config *config)
{
    enter(config);
    open("/etc/passwd", O_RDONLY);
}

TEST(opening_a_file_kills)
{
    struct outcome out = run(opens, only_seccomp);
    check_killed(&out, "forbidden system call open", "no rule allows it");
}

static void forks(struct sandbox_config *config)
{
    enter(config);
    fork();
}

TEST(a_new_process_kills)
{
    struct outcome out = run(forks, only_seccomp);
    check_killed(&out, "forbidden system call clone(", "match no rule (base.def:");
}

static void executes(struct sandbox_config *config)
{
    enter(config);
    execl("/bin/true", "true", NULL);
}

TEST(a_new_program_kills)
{
    struct outcome out = run(executes, only_seccomp);
    check_killed(&out, "forbidden system call execve(", "no rule allows it");
}

static void asks_a_terminal(struct sandbox_config *config)
{
    enter(config);
    ioctl(0, TIOCSTI, "x");
}

TEST(a_request_not_listed_kills_and_names_the_rules)
{
    struct outcome out = run(asks_a_terminal, only_seccomp);
    check_killed(&out, "forbidden system call ioctl(0x0, 0x5412, ", "match no rule (base.def:");
    CHECK_HAS(out.text, " block.def:");
    CHECK_EQ(strstr(out.text, "chardev.def") == NULL, 1);
}

static void maps_code(struct sandbox_config *config)
{
    enter(config);
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(p != MAP_FAILED);
    mprotect(p, 4096, PROT_READ | PROT_EXEC);
}

TEST(executable_memory_kills)
{
    struct outcome out = run(maps_code, only_seccomp);
    check_killed(&out, "forbidden system call mprotect(", "policy device+block");
}

static void replaces_handler(struct sandbox_config *config)
{
    enter(config);
    signal(SIGSYS, SIG_IGN);
}

TEST(the_handler_cannot_be_replaced)
{
    struct outcome out = run(replaces_handler, only_seccomp);
    check_killed(&out, "forbidden system call rt_sigaction(0x1f, ", "policy device+block");
}

static void replaces_handler_with_high_bits(struct sandbox_config *config)
{
    unsigned char action[32] = { 1 };
    enter(config);
    REQUIRE(signal(SIGUSR1, SIG_IGN) != SIG_ERR);
    REQUIRE(signal(SIGRTMIN + 3, SIG_IGN) != SIG_ERR);
    /* The kernel takes the low half for the signal's number. */
    syscall(SYS_rt_sigaction, UINT64_C(0x100000000) + SIGSYS, action, NULL, 8);
    LEAVE(3);
}

TEST(high_bits_of_an_argument_deceive_no_rule)
{
    struct outcome out = run(replaces_handler_with_high_bits, only_seccomp);
    check_killed(&out, "forbidden system call rt_sigaction(0x10000001f, ", "policy device+block");
}

static void kills_another(struct sandbox_config *config)
{
    pid_t parent = getppid();
    enter(config);
    REQUIRE(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), 0) == 0);
    syscall(SYS_tgkill, parent, parent, 0);
}

TEST(signals_reach_the_process_itself_alone)
{
    struct outcome out = run(kills_another, only_seccomp);
    check_killed(&out, "forbidden system call tgkill(", "policy device+block");
}

static void blocks_sigsys(struct sandbox_config *config)
{
    sigset_t all;
    enter(config);
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    socket(AF_UNIX, SOCK_STREAM, 0);
    LEAVE(3);
}

TEST(blocking_the_signal_does_not_help)
{
    struct outcome out = run(blocks_sigsys, only_seccomp);
    CHECK(WIFSIGNALED(out.status));
    CHECK_EQ(WTERMSIG(out.status), SIGSYS);
}

static void traces(struct sandbox_config *config)
{
    enter(config);
    syscall(SYS_ptrace, 0, 0, 0, 0);
    LEAVE(3);
}

TEST(an_evil_call_kills_without_a_word)
{
    struct outcome out = run(traces, only_seccomp);
    CHECK(WIFSIGNALED(out.status));
    CHECK_EQ(WTERMSIG(out.status), SIGSYS);
    CHECK_STR(out.text, "");
}

static void *thread_opens(void *arg)
{
    return (void *)(intptr_t)open("/etc/passwd", O_RDONLY);
}

static void starts_a_thread(struct sandbox_config *config)
{
    pthread_t thread;
    enter(config);
    REQUIRE(pthread_create(&thread, NULL, thread_opens, NULL) == 0);
    pthread_join(thread, NULL);
    LEAVE(3);
}

TEST(a_thread_may_start_and_keeps_the_filter)
{
    struct outcome out = run(starts_a_thread, only_seccomp);
    check_killed(&out, "forbidden system call open", "policy device+block");
}

static void works(struct sandbox_config *config)
{
    int image = memfd_create("image", 0);
    enter(config);

    void *p = malloc(1 << 20);
    REQUIRE(p);
    memset(p, 1, 1 << 20);
    free(p);
    REQUIRE(ftruncate(image, 65536) == 0);
    REQUIRE(pwrite(image, "abc", 3, 100) == 3);
    REQUIRE(fdatasync(image) == 0);
    char buf[3];
    REQUIRE(pread(image, buf, 3, 100) == 3 && memcmp(buf, "abc", 3) == 0);
    struct stat st;
    REQUIRE(fstat(image, &st) == 0 && st.st_size == 65536);
    int pair[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    REQUIRE(send(pair[0], "x", 1, 0) == 1 && recv(pair[1], buf, 1, 0) == 1);
    REQUIRE(isatty(image) == 0);
    REQUIRE(poll(&(struct pollfd){ .fd = pair[0] }, 1, 0) == 0);
}

TEST(what_a_disk_process_needs_is_allowed)
{
    struct outcome out = run(works, only_seccomp);
    check_ok(&out);
}

static void syncs(struct sandbox_config *config)
{
    config->backends = SANDBOX_NONE;
    enter(config);
    fdatasync(1);
}

TEST(each_backend_has_its_own_policy)
{
    struct outcome out = run(syncs, only_seccomp);
    check_killed(&out, "forbidden system call fdatasync(", "policy device: no rule allows it");
}

static void kvm_ioctl(struct sandbox_config *config)
{
    config->role = SANDBOX_CPU;
    enter(config);
    REQUIRE(ioctl(1, KVM_GET_API_VERSION, 0) < 0 && (errno == ENOTTY || errno == EINVAL));
    LEAVE(CHILD_OK);
}

static void kvm_ioctl_in_device(struct sandbox_config *config)
{
    enter(config);
    ioctl(1, KVM_CREATE_VM, 0);
}

TEST(only_the_cpu_process_reaches_kvm)
{
    struct outcome out = run(kvm_ioctl, only_seccomp);
    check_ok(&out);
    out = run(kvm_ioctl_in_device, only_seccomp);
    check_killed(&out, "forbidden system call ioctl(0x1, 0xae01, ", "policy device+block");
}

static void control_works(struct sandbox_config *config)
{
    *config = (struct sandbox_config){ .role = SANDBOX_CONTROL, .name = "bulkhead" };
    struct sandbox_report report = enter(config);
    REQUIRE(report.steps[SANDBOX_STEP_SECCOMP].state == SANDBOX_DONE);
    REQUIRE(report.steps[SANDBOX_STEP_MOUNTS].state == SANDBOX_OFF);
    REQUIRE(open("/etc/passwd", O_RDONLY) >= 0);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0)
        execl("/bin/true", "true", NULL);
    int status;
    REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
    syscall(SYS_bpf, 0, 0, 0);
}

TEST(the_control_process_still_opens_and_starts_but_not_everything)
{
    struct outcome out = run(control_works, only_seccomp);
    check_killed(&out, "forbidden system call bpf(", "policy control");
}

static void janitor_works(struct sandbox_config *config)
{
    *config = (struct sandbox_config){ .role = SANDBOX_JANITOR, .name = "janitor" };
    struct sandbox_report report = enter(config);
    REQUIRE(report.steps[SANDBOX_STEP_SECCOMP].state == SANDBOX_DONE);
    REQUIRE(unlink("/nonexistent/file") < 0 && errno == ENOENT);
    open("/etc/passwd", O_RDONLY);
}

TEST(the_janitor_removes_files_and_does_nothing_else)
{
    struct outcome out = run(janitor_works, only_seccomp);
    check_killed(&out, "forbidden system call open", "policy janitor: no rule allows it");
}

static void child_of_control(struct sandbox_config *config)
{
    struct sandbox_config control = { .role = SANDBOX_CONTROL, .name = "bulkhead" };
    enter(&control);
    *config = full;
    struct sandbox_report report = enter(config);
    for (unsigned i = 0; i < SANDBOX_STEP_COUNT; i++)
        if (sandbox_step_essential(i))
            REQUIRE(report.steps[i].state == SANDBOX_DONE);
}

TEST(a_child_of_the_control_process_can_close_its_own_door)
{
    if (!have_namespaces())
        skip();
    struct outcome out = run(child_of_control, full);
    check_ok(&out);
}

/* ---- refusals ---- */

static void enters_twice(struct sandbox_config *config)
{
    config->off = SANDBOX_BIT(SANDBOX_STEP_SECCOMP);
    enter(config);
    struct sandbox_report report = enter(config);
    /* The empty root has no directory to mount on, whatever the host would allow. */
    REQUIRE(report.steps[SANDBOX_STEP_MOUNTS].state == SANDBOX_REFUSED);
    REQUIRE(report.steps[SANDBOX_STEP_MOUNTS].code < 0);
    REQUIRE(strlen(report.steps[SANDBOX_STEP_MOUNTS].reason) > 10);
    REQUIRE(report.steps[SANDBOX_STEP_NO_NEW_PRIVS].state == SANDBOX_DONE);
}

TEST(a_refused_step_is_reported_and_the_others_are_taken)
{
    if (!have_namespaces())
        skip();
    struct outcome out = run(enters_twice, full);
    check_ok(&out);
}

static void *sleeps(void *arg)
{
    pause();
    return NULL;
}

static void enters_with_threads(struct sandbox_config *config)
{
    struct sandbox_report report;
    struct error err;
    pthread_t thread;

    REQUIRE(pthread_create(&thread, NULL, sleeps, NULL) == 0);
    REQUIRE(sandbox_enter(config, &report, &err) == -EBUSY);
    LEAVE(CHILD_OK);
}

TEST(running_threads_are_refused)
{
    struct outcome out = run(enters_with_threads, full);
    check_ok(&out);
}

/* ---- the launcher ---- */

static char *sh_argv(const char *script)
{
    return (char *)script;
}

/* Starts sh -c script with fd 1 caught in text; returns the wait status. */
static int spawn_shell(const char *script, bool pid_namespace, char *text, size_t size,
                       int *ret_refused)
{
    char *argv[] = { (char *)"sh", (char *)"-c", sh_argv(script), NULL };
    int fds[2], pidfd, status;
    struct error err;
    pid_t pid;

    CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
    struct spawn_fd give[] = { { fds[1], 1 }, { fds[1], 7 } };
    struct spawn spawn = { .path = "/bin/sh", .argv = argv, .fds = give, .nfds = 2,
                           .pid_namespace = pid_namespace };
    CHECK_EQ(sandbox_spawn(&spawn, &pid, &pidfd, ret_refused, &err), 0);
    close(fds[1]);
    size_t len = 0;
    ssize_t n;
    while (len < size - 1 && (n = read(fds[0], text + len, size - 1 - len)) > 0)
        len += n;
    text[len] = '\0';
    close(fds[0]);
    CHECK_EQ(poll(&(struct pollfd){ .fd = pidfd, .events = POLLIN }, 1, 5000), 1);
    close(pidfd);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    return status;
}

TEST(a_program_starts_with_the_descriptors_it_is_given_alone)
{
    char text[256];
    int refused;

    int stray = open("/dev/null", O_RDONLY);        /* not close-on-exec */
    int status = spawn_shell("echo -n to7 >&7; for f in /proc/self/fd/*; do test -e $f && "
                             "echo -n \" ${f##*/}\"; done; exit 5", false, text, sizeof text,
                             &refused);
    close(stray);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 5);
    CHECK_STR(text, "to7 0 1 2 7");
    CHECK_EQ(refused, 0);
}

TEST(a_program_starts_as_the_first_of_its_pid_namespace)
{
    char text[64];
    int refused;

    int status = spawn_shell("echo -n $$", true, text, sizeof text, &refused);
    CHECK_EQ(status, 0);
    if (refused)
        skip();
    CHECK_STR(text, "1");
}

TEST(a_program_that_is_not_there_is_an_error)
{
    char *argv[] = { (char *)"x", NULL };
    struct spawn spawn = { .path = "/nonexistent/program", .argv = argv };
    struct error err;
    int pidfd, refused;
    pid_t pid;

    CHECK_EQ(sandbox_spawn(&spawn, &pid, &pidfd, &refused, &err), -ENOENT);
    CHECK_STR(err.text, "cannot start '/nonexistent/program': No such file or directory");
    CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1);       /* no child left */
}

TEST_MAIN
