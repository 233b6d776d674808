/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest's CPUID shows: what KVM supports, less nested virtualisation (its state is not part
 * of a reset here), with the topology made to match the APIC ids. Intel SDM volume 2A "CPUID", AMD
 * APM volume 3 appendix E.
 *
 * Not modelled: cache sizes of another CPU than the host's, dies and modules (leaf 1fh).
 */
#include "kvm/internal.h"

#include <errno.h>
#include <string.h>

enum { CPUID_ROOM = 32, CPUID_MOST = 4096 };

int cpuid_supported(int kvm_fd, struct kvm_cpuid2 **ret_cpuid, unsigned *ret_cap)
{
    for (unsigned n = 128; n <= CPUID_MOST; n *= 2) {
        unsigned cap = n + CPUID_ROOM;
        AUTO_FREE struct kvm_cpuid2 *c = calloc(1, sizeof *c + cap * sizeof c->entries[0]);
        if (!c)
            return -ENOMEM;
        c->nent = n;
        int r = kvm_call(kvm_fd, KVM_GET_SUPPORTED_CPUID, c);
        if (r == -E2BIG)
            continue;
        if (r < 0)
            return r;
        *ret_cap = cap;
        *ret_cpuid = TAKE_PTR(c);
        return 0;
    }
    return -E2BIG;
}

/* Bits that hold n different values. */
static unsigned bits_for(unsigned n)
{
    unsigned bits = 0;

    while ((1u << bits) < n)
        bits++;
    return bits;
}

uint32_t vm_topology_apic_id(const struct vm_topology *t, unsigned cpu)
{
    unsigned thread_bits = bits_for(t->threads), core_bits = bits_for(t->cores);
    unsigned thread = cpu % t->threads;
    unsigned core = cpu / t->threads % t->cores;
    unsigned socket = cpu / t->threads / t->cores;

    return socket << (core_bits + thread_bits) | core << thread_bits | thread;
}

static struct kvm_cpuid_entry2 *find(const struct kvm_cpuid2 *c, uint32_t function)
{
    for (unsigned i = 0; i < c->nent; i++)
        if (c->entries[i].function == function)
            return (struct kvm_cpuid_entry2 *)&c->entries[i];
    return NULL;
}

static void remove_all(struct kvm_cpuid2 *c, uint32_t function)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < c->nent; i++)
        if (c->entries[i].function != function)
            c->entries[kept++] = c->entries[i];
    c->nent = kept;
}

static void append(struct kvm_cpuid2 *c, unsigned cap, struct kvm_cpuid_entry2 entry)
{
    if (c->nent < cap)
        c->entries[c->nent++] = entry;
}

static void put_bits(uint32_t *reg, unsigned high, unsigned low, uint32_t value)
{
    uint32_t mask = (UINT32_MAX >> (31 - (high - low))) << low;
    *reg = (*reg & ~mask) | (value << low & mask);
}

/* Leaf 4 and its twin on AMD: which CPUs share a cache. */
static void set_caches(struct kvm_cpuid2 *c, uint32_t function, unsigned thread_bits,
                       unsigned core_bits)
{
    for (unsigned i = 0; i < c->nent; i++) {
        struct kvm_cpuid_entry2 *e = &c->entries[i];
        if (e->function != function || (e->eax & 31) == 0)
            continue;
        unsigned level = e->eax >> 5 & 7;
        put_bits(&e->eax, 25, 14, (1u << (level < 3 ? thread_bits : thread_bits + core_bits)) - 1);
        if (function == 4)
            put_bits(&e->eax, 31, 26, (1u << core_bits) - 1);
    }
}

static void set_leaf_b(struct kvm_cpuid2 *c, unsigned cap, const struct vm_topology *t,
                       unsigned thread_bits, unsigned core_bits, uint32_t apic_id)
{
    const struct kvm_cpuid_entry2 levels[] = {
        { .index = 0, .eax = thread_bits, .ebx = t->threads, .ecx = 0 | 1 << 8 },
        { .index = 1, .eax = thread_bits + core_bits, .ebx = t->cores * t->threads,
          .ecx = 1 | 2 << 8 },
        { .index = 2, .ecx = 2 },
    };

    remove_all(c, 0xb);
    remove_all(c, 0x1f);
    for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
        struct kvm_cpuid_entry2 e = levels[i];
        e.function = 0xb;
        e.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        e.edx = apic_id;
        append(c, cap, e);
    }
}

void cpuid_set(struct kvm_cpuid2 *c, unsigned cap, const struct vm_topology *t, uint32_t apic_id,
               bool tsc_deadline)
{
    unsigned thread_bits = bits_for(t->threads), core_bits = bits_for(t->cores);
    unsigned per_package = t->cores * t->threads;
    struct kvm_cpuid_entry2 *e;

    e = find(c, 0);
    bool amd = e && (e->ebx == 0x68747541 || e->ebx == 0x6f677948);     /* "Auth", "Hygo" */
    if (e && e->eax < 0xb)
        e->eax = 0xb;

    e = find(c, 1);
    if (e) {
        put_bits(&e->ebx, 31, 24, apic_id);
        put_bits(&e->ebx, 23, 16, MIN(per_package, 255u));
        put_bits(&e->ecx, 5, 5, 0);                     /* VMX */
        put_bits(&e->ecx, 24, 24, tsc_deadline);
        put_bits(&e->ecx, 31, 31, 1);                   /* a hypervisor is there */
        put_bits(&e->edx, 28, 28, per_package > 1);
    }
    set_caches(c, 4, thread_bits, core_bits);

    e = find(c, 0x80000001);
    if (e) {
        put_bits(&e->ecx, 2, 2, 0);                     /* SVM */
        if (amd)
            put_bits(&e->ecx, 1, 1, per_package > 1);   /* CmpLegacy */
    }
    e = find(c, 0x80000008);
    if (e && amd) {
        put_bits(&e->ecx, 7, 0, per_package - 1);
        put_bits(&e->ecx, 15, 12, thread_bits + core_bits);
    }
    e = find(c, 0x8000000a);
    if (e)
        e->eax = e->ebx = e->ecx = e->edx = 0;
    set_caches(c, 0x8000001d, thread_bits, core_bits);
    e = find(c, 0x8000001e);
    if (e && amd) {
        e->eax = apic_id;
        e->ebx = (apic_id >> thread_bits & 0xff) | (t->threads - 1) << 8;
        e->ecx = apic_id >> (thread_bits + core_bits) & 0xff;
        e->edx = 0;
    }
    set_leaf_b(c, cap, t, thread_bits, core_bits, apic_id);     /* last: it moves entries */
}

unsigned cpuid_phys_bits(const struct kvm_cpuid2 *c)
{
    const struct kvm_cpuid_entry2 *e = find(c, 0x80000008);
    unsigned bits = e ? e->eax & 0xff : 0;

    return bits >= 32 && bits <= 52 ? bits : 36;
}
