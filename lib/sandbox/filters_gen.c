/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs during the build: turns the files of policy into BPF, by libseccomp, and prints a header
 * with all filters one after another, an index, the lines that name a call with conditions, and the
 * names of all calls. Tables hold no pointers, so that a process that loads them has no relocations to make.
 */
#include <asm/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "policy.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif

enum {
    /* What pthread_create of either C library passes, exactly. */
    CLONE_THREAD_GLIBC = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                         CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID,
    CLONE_THREAD_MUSL = CLONE_THREAD_GLIBC | CLONE_DETACHED,
    KVM_IOCTL_MASK = 0xff00, KVM_IOCTL_TYPE = KVMIO << 8,
    SELF_PID = POLICY_SELF_PID,
    CALLS_MAX = 1024,
};

struct rule {
    const char *call;
    int line, nr;
    uint32_t action;
    unsigned ncmp;
    struct scmp_arg_cmp cmp[2];
};

#define RULE_(c, act, n, ...) \
    { .call = #c, .line = __LINE__, .nr = __NR_##c, .action = act, .ncmp = n, \
      .cmp = { __VA_ARGS__ } },
#define CMP_(arg, op, a, b) { (arg), op, (a), (b) }
#define NONE_ { 0, 0, 0, 0 }
#define ALLOW(c)                    RULE_(c, SCMP_ACT_ALLOW, 0, NONE_)
#define ALLOW_EQ(c, n, v)           RULE_(c, SCMP_ACT_ALLOW, 1, CMP_(n, SCMP_CMP_EQ, (v), 0))
#define ALLOW_LESS(c, n, v)         RULE_(c, SCMP_ACT_ALLOW, 1, CMP_(n, SCMP_CMP_LT, (v), 0))
#define ALLOW_EQ2(c, n, v, m, w) \
    RULE_(c, SCMP_ACT_ALLOW, 2, CMP_(n, SCMP_CMP_EQ, (v), 0), CMP_(m, SCMP_CMP_EQ, (w), 0))
#define ALLOW_MASK(c, n, mask, v) \
    RULE_(c, SCMP_ACT_ALLOW, 1, CMP_(n, SCMP_CMP_MASKED_EQ, (mask), (v)))
#define DENY(c, e)                  RULE_(c, SCMP_ACT_ERRNO(e), 0, NONE_)
#define DENY_EQ(c, n, v, e)         RULE_(c, SCMP_ACT_ERRNO(e), 1, CMP_(n, SCMP_CMP_EQ, (v), 0))
#define TRAP(c)                     RULE_(c, SCMP_ACT_TRAP, 0, NONE_)
#define KILL(c)                     RULE_(c, SCMP_ACT_KILL_PROCESS, 0, NONE_)

static const struct rule rules_base[] = {
#include "policy/base.def"
};
static const struct rule rules_device[] = {
#include "policy/device.def"
};
static const struct rule rules_cpu[] = {
#include "policy/cpu.def"
};
static const struct rule rules_control[] = {
#include "policy/control.def"
};
static const struct rule rules_block[] = {
#include "policy/block.def"
};
static const struct rule rules_net[] = {
#include "policy/net.def"
};
static const struct rule rules_chardev[] = {
#include "policy/chardev.def"
};

static const struct rule rules_janitor[] = {
#include "policy/janitor.def"
};

/* In the order of enum policy_part. */
#define PART(name) { #name, rules_##name, sizeof rules_##name / sizeof rules_##name[0] }
static const struct part { const char *name; const struct rule *rules; size_t count; } parts[] = {
    PART(base), PART(device), PART(cpu), PART(control), PART(block), PART(net), PART(chardev),
    PART(janitor),
};
_Static_assert(sizeof parts / sizeof parts[0] == PART_COUNT, "parts");

static void die(const char *what, int code)
{
    fprintf(stderr, "filters_gen: %s: %s\n", what, strerror(-code));
    exit(1);
}

static void add_part(scmp_filter_ctx ctx, const struct part *part)
{
    for (size_t i = 0; i < part->count; i++) {
        const struct rule *rule = &part->rules[i];
        int r = seccomp_rule_add_array(ctx, rule->action, rule->nr, rule->ncmp, rule->cmp);
        if (r < 0 && r != -EEXIST) {
            fprintf(stderr, "policy/%s.def:%d: ", part->name, rule->line);
            die(rule->call, r);
        }
    }
}

/* Prints the filter for a set of parts; returns its number of instructions. */
static unsigned emit_filter(unsigned set)
{
    uint32_t otherwise = set & 1U << PART_CONTROL ? SCMP_ACT_ALLOW : SCMP_ACT_TRAP;
    scmp_filter_ctx ctx = seccomp_init(otherwise);
    struct sock_filter insn;
    unsigned count = 0;

    if (!ctx)
        die("seccomp_init", -ENOMEM);
    int r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (r == 0)
        r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (r < 0)
        die("seccomp_attr_set", r);
    for (unsigned p = 0; p < PART_COUNT; p++)
        if (set & 1U << p)
            add_part(ctx, &parts[p]);

    FILE *tmp = tmpfile();
    if (!tmp)
        die("tmpfile", -errno);
    r = seccomp_export_bpf(ctx, fileno(tmp));
    if (r < 0)
        die("seccomp_export_bpf", r);
    rewind(tmp);
    while (fread(&insn, sizeof insn, 1, tmp) == 1) {
        printf("{%u,%u,%u,%#x},%s", insn.code, insn.jt, insn.jf, insn.k,
               count % 6 == 5 ? "\n" : "");
        count++;
    }
    fclose(tmp);
    seccomp_release(ctx);
    return count;
}

static void emit_filters(void)
{
    static struct { unsigned set, start, len; } index[POLICY_COUNT];
    unsigned total = 0;

    printf("static const struct sock_filter policy_code[] = {\n");
    for (unsigned i = 0; i < POLICY_COUNT; i++) {
        index[i].set = policy_parts(i);
        index[i].start = total;
        index[i].len = emit_filter(index[i].set);
        total += index[i].len;
        printf("\n");
    }
    printf("};\nstatic const struct policy_index policy_index[POLICY_COUNT] = {\n");
    for (unsigned i = 0; i < POLICY_COUNT; i++)
        printf("    { %u, %u },\n", index[i].start, index[i].len);
    printf("};\n");
}

static void emit_conditions(void)
{
    printf("static const struct policy_condition policy_conditions[] = {\n");
    for (unsigned p = 0; p < PART_COUNT; p++)
        for (size_t i = 0; i < parts[p].count; i++)
            if (parts[p].rules[i].ncmp)
                printf("    { %d, %u, %d },  /* %s */\n", parts[p].rules[i].nr, p,
                       parts[p].rules[i].line, parts[p].rules[i].call);
    printf("};\n");
}

static void emit_names(void)
{
    static unsigned offsets[CALLS_MAX];
    unsigned last = 0, used = 1;

    printf("static const char call_names[] = \"\\0\"\n");
    for (int nr = 0; nr < CALLS_MAX; nr++) {
        char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, nr);
        if (name) {
            printf("    \"%s\\0\"\n", name);
            offsets[nr] = used;
            used += strlen(name) + 1;
            last = nr;
        }
        free(name);
    }
    printf("    ;\nstatic const uint16_t call_name_offsets[] = {");
    for (unsigned nr = 0; nr <= last; nr++)
        printf("%s%u,", nr % 16 ? "" : "\n    ", offsets[nr]);
    printf("\n};\n");
}

int main(void)
{
    printf("/* SPDX-License-Identifier: Apache-2.0 */\n/* Made from lib/sandbox/policy. */\n");
    emit_filters();
    emit_conditions();
    emit_names();
    return fflush(stdout) == 0 ? 0 : 1;
}
