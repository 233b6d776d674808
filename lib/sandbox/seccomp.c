/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads the filter that the build compiled from policy/, and says in one line which call broke it.
 * See seccomp(2).
 */
#include "sandbox/internal.h"
#include "sandbox/policy.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "sandbox_filters.h"

_Static_assert((int)SANDBOX_BACKENDS == (int)POLICY_BACKENDS, "a filter for each sum of back-ends");

enum { FILTER_MAX = 512, LINE_MAX_BYTES = 640, X32_BIT = 0x40000000 };

static struct {
    char process[64];           /* name in front of the line */
    char policy[48];
    unsigned parts;             /* bit per enum policy_part */
} active;

/* ---- the line; nothing below may allocate, lock or use stdio: it runs in a signal handler ---- */

struct line { char text[LINE_MAX_BYTES]; size_t len; };

static void put(struct line *line, const char *text)
{
    while (*text && line->len < sizeof line->text - 1)
        line->text[line->len++] = *text++;
}

static void put_number(struct line *line, uint64_t value, unsigned base)
{
    char digits[24];
    size_t at = sizeof digits - 1;

    digits[at] = '\0';
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    if (base == 16)
        put(line, "0x");
    put(line, digits + at);
}

static void put_call(struct line *line, unsigned nr)
{
    if (nr < ARRAY_SIZE(call_name_offsets) && call_name_offsets[nr]) {
        put(line, call_names + call_name_offsets[nr]);
    } else {
        put(line, "number ");
        put_number(line, nr, 10);
    }
}

/* "no rule allows it", or the lines of the policy that allow it with other arguments. */
static void put_rules(struct line *line, unsigned nr)
{
    static const char names[PART_COUNT][8] = {
        "base", "device", "cpu", "control", "block", "net", "chardev", "janitor"
    };
    bool first = true;

    for (size_t i = 0; i < ARRAY_SIZE(policy_conditions); i++) {
        const struct policy_condition *cond = &policy_conditions[i];
        if (cond->nr != nr || !(active.parts >> cond->part & 1))
            continue;
        put(line, first ? "its arguments match no rule (" : " ");
        put(line, names[cond->part]);
        put(line, ".def:");
        put_number(line, cond->line, 10);
        first = false;
    }
    put(line, first ? "no rule allows it" : ")");
}

static void forbidden_call(int signo, siginfo_t *info, void *context)
{
    const ucontext_t *uc = context;
    const greg_t *reg = uc->uc_mcontext.gregs;
    static const int args[] = { REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9 };
    struct line line = { .len = 0 };
    char thread[16] = "?";
    unsigned nr = info->si_syscall;

    prctl(PR_GET_NAME, thread);
    put(&line, active.process);
    put(&line, ": error: forbidden system call ");
    put_call(&line, nr);
    for (size_t i = 0; i < ARRAY_SIZE(args); i++) {
        put(&line, i ? ", " : "(");
        put_number(&line, reg[args[i]], 16);
    }
    put(&line, ") in thread '");
    put(&line, thread);
    put(&line, "' (");
    put_number(&line, syscall(SYS_gettid), 10);
    put(&line, ") at ");
    put_number(&line, (uintptr_t)info->si_call_addr, 16);
    put(&line, ": policy ");
    put(&line, active.policy);
    put(&line, ": ");
    put_rules(&line, nr);
    put(&line, "; the process ends");
    line.text[line.len++] = '\n';
    ssize_t r = write(STDERR_FILENO, line.text, line.len);
    (void)r;

    /* Calls of the x32 ABI are killed by every filter, also in process 1 of a pid namespace, which
     * a signal raised by itself would leave alive. */
    syscall(X32_BIT);
    _exit(128 + signo);
}

/* ---- loading ---- */

static void name_policy(const struct sandbox_config *config)
{
    static const char *const roles[] = { "device", "cpu", "control", "janitor" };
    bool alone = config->role == SANDBOX_CONTROL || config->role == SANDBOX_JANITOR;

    snprintf(active.policy, sizeof active.policy, "%s%s%s%s", roles[config->role],
             !alone && config->backends & SANDBOX_BLOCK ? "+block" : "",
             !alone && config->backends & SANDBOX_NET ? "+net" : "",
             !alone && config->backends & SANDBOX_CHARDEV ? "+chardev" : "");
    snprintf(active.process, sizeof active.process, "%s", config->name ? config->name : "bulkhead");
}

/* Copies the filter and puts this process's id where the policy says SELF_PID. */
static void prepare(const struct policy_index *index, struct sock_filter *code)
{
    memcpy(code, &policy_code[index->start], index->len * sizeof *code);
    for (unsigned i = 0; i < index->len; i++)
        if (BPF_CLASS(code[i].code) == BPF_JMP && code[i].k == POLICY_SELF_PID)
            code[i].k = getpid();
}

int step_seccomp(const struct sandbox_config *config, char *name, size_t name_size, char *reason)
{
    unsigned policy = config->role == SANDBOX_CONTROL ? (unsigned)POLICY_CONTROL
                    : config->role == SANDBOX_JANITOR ? (unsigned)POLICY_JANITOR
                    : config->role * POLICY_BACKENDS + config->backends;
    const struct policy_index *index = &policy_index[policy];
    struct sock_filter code[FILTER_MAX];
    struct sock_fprog prog = { .len = index->len, .filter = code };

    name_policy(config);
    active.parts = policy_parts(policy);
    snprintf(name, name_size, "%s", active.policy);
    if (index->len > FILTER_MAX)
        return refuse(reason, -E2BIG, "the filter is too long");
    prepare(index, code);

    struct sigaction action = { .sa_sigaction = forbidden_call, .sa_flags = SA_SIGINFO };
    sigset_t only_sys;
    sigemptyset(&only_sys);
    sigaddset(&only_sys, SIGSYS);
    if (sigaction(SIGSYS, &action, NULL) < 0 || sigprocmask(SIG_UNBLOCK, &only_sys, NULL) < 0)
        return refuse(reason, -errno, "cannot catch forbidden calls");

    long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog);
    if (r < 0 && errno == EACCES)
        return refuse(reason, -EACCES, "needs no-new-privs or CAP_SYS_ADMIN");
    if (r < 0)
        return refuse(reason, -errno, "the kernel takes no filter");
    if (r > 0)
        return refuse(reason, -ESRCH, "thread %ld cannot take the filter", r);
    return 0;
}
