/* SPDX-License-Identifier: Apache-2.0 */
/* Starts every CPU that the tables name; all count in one word, and each knows its number. */
#include "guest.h"

enum { ROUNDS = 2000, CPUS_MAX = 256 };

static volatile uint32_t total, done;
static volatile uint32_t seen[CPUS_MAX];
static volatile bool go;

static void check_self(void)
{
    uint32_t r[4], id;

    cpuid(1, 0, r);
    id = r[1] >> 24;
    EXPECT_EQ(id, lapic_id());
    cpuid(0, 0, r);
    if (r[0] >= 0xb) {
        cpuid(0xb, 0, r);
        EXPECT_EQ(r[3], id);
    }
    __atomic_fetch_add(&seen[id], 1, __ATOMIC_SEQ_CST);
}

static void work(void)
{
    for (unsigned i = 0; i < ROUNDS; i++)
        __atomic_fetch_add(&total, 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
}

void guest_ap(unsigned index)
{
    idt_load();
    check_self();
    while (!go)
        relax();
    work();
    for (;;)
        __asm__ volatile("cli; hlt");
}

int guest_main(void)
{
    check_self();
    unsigned cpus = smp_start();
    print("cpus %u\n", cpus);
    go = true;
    work();
    for (unsigned ms = 0; done < cpus; ms++) {
        if (ms == 10000)
            fail("only %u of %u CPUs are done", done, cpus);
        delay_us(1000);
    }
    EXPECT_EQ(total, cpus * ROUNDS);
    for (unsigned i = 0; i < CPUS_MAX; i++) {
        EXPECT(seen[i] <= 1);
        if (seen[i])
            print("apic %u\n", i);
    }
    return 0;
}
