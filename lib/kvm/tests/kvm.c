/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM with guests of a few bytes, in 32-bit mode without paging. They speak by ports: a store to
 * 0x10 is recorded, a load from 0x11 gives the next number, a store to 0x12 asks for a pause from
 * inside the access.
 */
#include "kvm/internal.h"

#include "base/fd.h"
#include "base/test.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

TEST_MAIN

enum { RAM_SIZE = 1 << 20, CODE = 0x1000, HANDLER = 0x2000, GDT = 0x4000, IDT = 0x5000,
       COUNTER = 0x8000, WAIT_MS = 20000 };

struct world {
    struct loop *loop;
    pthread_mutex_t lock;
    struct mem_region *memory, *io, *ram, *port;
    struct address_space *memory_as, *io_as;
    struct vm *vm;
    uint8_t *host;
    unsigned paused, troubles;
    enum vm_trouble trouble;
    char text[256];
    uint32_t stores[64];
    unsigned store_count, loads;
};

static uint64_t port_read(void *opaque, uint64_t off, unsigned len)
{
    struct world *w = opaque;
    return off == 1 ? 0x40 + w->loads++ : UINT64_MAX;
}

static void port_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
    struct world *w = opaque;

    if (off == 0 && w->store_count < ARRAY_SIZE(w->stores))
        w->stores[w->store_count++] = val;
    if (off == 2)
        vm_pause(w->vm);
}

static const struct mem_ops port_ops = { port_read, port_write };

static void on_paused(void *opaque) { ((struct world *)opaque)->paused++; }

static void on_trouble(void *opaque, unsigned cpu, enum vm_trouble trouble, const char *text)
{
    struct world *w = opaque;

    w->troubles++;
    w->trouble = trouble;
    snprintf(w->text, sizeof w->text, "%s", text);
}

static const struct vm_ops vm_ops = { on_paused, on_trouble };

static bool have_kvm(void)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

#define NEED_KVM do { if (!have_kvm()) skip(); } while (0)

static struct world *world_new(unsigned cpus)
{
    struct world *w = calloc(1, sizeof *w);
    struct error err = { 0 };
    int kvm_fd;

    CHECK_EQ(loop_new(&w->loop, &err), 0);
    pthread_mutex_init(&w->lock, NULL);
    loop_set_lock(w->loop, &w->lock);
    pthread_mutex_lock(&w->lock);
    w->memory = mem_container_new("memory", UINT64_MAX);
    w->io = mem_container_new("io", 0x10000);
    w->port = mem_io_new("port", 16, &port_ops, w);
    mem_add(w->io, 0x10, w->port, 0);
    int fd = memfd_new("ram", RAM_SIZE, 0);
    CHECK_EQ(mem_ram_new("ram", fd, 0, RAM_SIZE, false, &w->ram, &err), 0);
    close(fd);
    mem_add(w->memory, 0, w->ram, 0);
    w->host = mem_ram_host(w->ram);
    CHECK_EQ(address_space_new("memory", w->memory, &w->memory_as), 0);
    CHECK_EQ(address_space_new("io", w->io, &w->io_as), 0);
    address_space_set_lock(w->memory_as, &w->lock);
    address_space_set_lock(w->io_as, &w->lock);

    CHECK_EQ(kvm_open(&kvm_fd, &err), 0);
    struct vm_config config = {
        .kvm_fd = kvm_fd, .topology = { cpus, 1, cpus, 1 }, .loop = w->loop, .ops = &vm_ops,
        .opaque = w,
    };
    CHECK_EQ(vm_new(&config, &w->vm, &err), 0);
    close(kvm_fd);
    vm_map(w->vm, w->memory_as, w->io_as);
    return w;
}

static void world_free(struct world *w)
{
    pthread_mutex_unlock(&w->lock);
    vm_free(w->vm);
    address_space_free(w->memory_as);
    address_space_free(w->io_as);
    mem_region_put(w->memory);
    mem_region_put(w->io);
    mem_region_put(w->ram);
    mem_region_put(w->port);
    loop_free(w->loop);
    free(w);
}

static void reset_to(struct world *w, const void *code, size_t len, uint64_t rip)
{
    const struct vcpu_segment data = { .limit = UINT32_MAX, .selector = 0x10, .type = 3, .present = 1,
                                       .db = 1, .s = 1, .g = 1 };
    struct vcpu_start start = {
        .rip = rip, .rsp = 0x7000, .cr0 = 0x11, .ds = data, .cs = data,
        .tr = { .limit = 0x67, .selector = 0x18, .type = 11, .present = 1 },
        .gdt_base = GDT, .gdt_limit = 23, .idt_base = IDT, .idt_limit = 256 * 8 - 1,
    };
    static const uint64_t gdt[] = { 0, 0x00cf9b000000ffff, 0x00cf93000000ffff };
    struct error err = { 0 };

    start.cs.type = 11;
    start.cs.selector = 0x08;
    memcpy(w->host + rip, code, len);
    memcpy(w->host + GDT, gdt, sizeof gdt);
    int r = vm_reset(w->vm, &start, &err);
    if (r < 0)
        fail_msg("vm_reset: %s", err.text);
}

static void start(struct world *w)
{
    struct error err = { 0 };

    CHECK_EQ(vm_start(w->vm, &err), 0);
    vm_resume(w->vm);
}

#define WAIT_FOR(w, cond) do {                                              \
        uint64_t end_ = clock_now_ns() + WAIT_MS * UINT64_C(1000000);       \
        while (!(cond) && clock_now_ns() < end_)                            \
            loop_turn((w)->loop, 5);                                        \
        CHECK(cond); } while (0)

static void pause_and_wait(struct world *w)
{
    unsigned before = w->paused;

    vm_pause(w->vm);
    WAIT_FOR(w, w->paused > before);
    CHECK(vm_is_paused(w->vm));
}

static uint32_t counter(struct world *w)
{
    return *(volatile uint32_t *)(w->host + COUNTER);
}

/* mov al, 1; out 0x10, al; in al, 0x11; out 0x10, al; hlt; jmp to hlt */
static const uint8_t talk[] = { 0xb0, 1, 0xe6, 0x10, 0xe4, 0x11, 0xe6, 0x10, 0xf4, 0xeb, 0xfd };
/* inc dword [COUNTER]; jmp back */
static const uint8_t spin[] = { 0xff, 0x05, 0x00, 0x80, 0, 0, 0xeb, 0xf8 };
/* ud2, and no table of interrupts */
static const uint8_t crash[] = { 0x0f, 0x0b };

TEST(port_accesses_reach_the_address_space)
{
    NEED_KVM;
    struct world *w = world_new(1);

    reset_to(w, talk, sizeof talk, CODE);
    start(w);
    WAIT_FOR(w, w->store_count == 2);
    CHECK_EQ(w->stores[0], 1);
    CHECK_EQ(w->stores[1], 0x40);
    CHECK_EQ(vm_exits(w->vm, 0) >= 3, true);
    CHECK(vm_thread_id(w->vm, 0) > 0);
    world_free(w);
}

TEST(a_paused_guest_stands_still_and_no_kick_is_lost)
{
    NEED_KVM;
    struct world *w = world_new(1);

    reset_to(w, spin, sizeof spin, CODE);
    start(w);
    for (int i = 0; i < 300; i++) {
        uint32_t before = counter(w);
        if (i % 10 == 0)
            WAIT_FOR(w, counter(w) != before);
        pause_and_wait(w);
        before = counter(w);
        if (i % 50 == 0)
            usleep(20000);
        CHECK_EQ(counter(w), before);
        vm_resume(w->vm);
    }
    world_free(w);
}

TEST(a_pause_of_a_paused_guest_is_told_too)
{
    NEED_KVM;
    struct world *w = world_new(2);

    reset_to(w, spin, sizeof spin, CODE);
    start(w);
    pause_and_wait(w);
    pause_and_wait(w);
    CHECK_EQ(w->paused, 2);
    world_free(w);
}

TEST(a_triple_fault_is_told_and_a_reset_starts_anew)
{
    NEED_KVM;
    struct world *w = world_new(2);

    reset_to(w, crash, sizeof crash, CODE);
    start(w);
    WAIT_FOR(w, w->troubles == 1);
    CHECK_EQ(w->trouble, VM_TRIPLE_FAULT);
    CHECK_HAS(w->text, "CPU 0");
    pause_and_wait(w);
    reset_to(w, talk, sizeof talk, CODE);
    vm_resume(w->vm);
    WAIT_FOR(w, w->store_count == 2);
    CHECK_EQ(w->troubles, 1);
    world_free(w);
}

TEST(a_reset_from_inside_an_access_does_not_hurt_the_new_start)
{
    NEED_KVM;
    struct world *w = world_new(1);
    /* out 0x12, al asks for the pause; then: mov al, 9; out 0x10, al; hlt, which must not run */
    static const uint8_t ask[] = { 0xe6, 0x12, 0xb0, 9, 0xe6, 0x10, 0xf4, 0xeb, 0xfd };
    /* in eax, dx would change eax after the reset, were the access still open: 0x11 in dx */
    static const uint8_t load[] = { 0x66, 0xba, 0x11, 0, 0xec, 0xeb, 0xfd };

    for (int i = 0; i < 20; i++) {
        w->store_count = 0;
        w->loads = 0;
        reset_to(w, i % 2 ? load : ask, i % 2 ? sizeof load : sizeof ask, CODE);
        if (i == 0)
            start(w);
        else
            vm_resume(w->vm);
        if (i % 2) {
            WAIT_FOR(w, w->loads > 0);
            pause_and_wait(w);
        } else {
            unsigned before = w->paused;
            WAIT_FOR(w, w->paused > before);
        }
        CHECK_EQ(w->store_count, 0);
        w->loads = 0;
        reset_to(w, talk, sizeof talk, CODE);
        vm_resume(w->vm);
        WAIT_FOR(w, w->store_count == 2);
        CHECK_EQ(w->stores[0], 1);
        CHECK_EQ(w->stores[1], 0x40);
        pause_and_wait(w);
    }
    world_free(w);
}

TEST(memory_slots_follow_the_map_and_read_only_ones_refuse_stores)
{
    NEED_KVM;
    struct world *w = world_new(1);
    struct mem_region *rom;
    struct error err = { 0 };
    /* mov eax, [0x400000]; out 0x10, eax; mov [0x400000], ebx (0); mov eax, [0x400000];
     * out 0x10, eax; hlt */
    static const uint8_t code[] = {
        0xa1, 0, 0, 0x40, 0, 0xe7, 0x10, 0x89, 0x1d, 0, 0, 0x40, 0, 0xa1, 0, 0, 0x40, 0,
        0xe7, 0x10, 0xf4, 0xeb, 0xfd,
    };

    int fd = memfd_new("rom", 4096, 0);
    CHECK_EQ(pwrite(fd, "\x78\x56\x34\x12", 4, 0), 4);
    CHECK_EQ(mem_ram_new("rom", fd, 0, 4096, true, &rom, &err), 0);
    close(fd);

    reset_to(w, code, sizeof code, CODE);
    start(w);
    WAIT_FOR(w, w->store_count == 2);
    CHECK_EQ(w->stores[0], UINT32_MAX);             /* a hole */
    CHECK_EQ(w->stores[1], UINT32_MAX);
    pause_and_wait(w);

    mem_add(w->memory, 0x400000, rom, 0);
    w->store_count = 0;
    reset_to(w, code, sizeof code, CODE);
    vm_resume(w->vm);
    WAIT_FOR(w, w->store_count == 2);
    CHECK_EQ(w->stores[0], 0x12345678);
    CHECK_EQ(w->stores[1], 0x12345678);
    pause_and_wait(w);

    mem_del(rom);
    w->store_count = 0;
    reset_to(w, code, sizeof code, CODE);
    vm_resume(w->vm);
    WAIT_FOR(w, w->store_count == 2);
    CHECK_EQ(w->stores[0], UINT32_MAX);
    mem_region_put(rom);
    world_free(w);
}

static uint32_t apic_register(struct world *w, unsigned off)
{
    struct kvm_lapic_state lapic;
    uint32_t v;

    CHECK_EQ(kvm_call(w->vm->cpus[0].fd, KVM_GET_LAPIC, &lapic), 0);
    memcpy(&v, lapic.regs + off, sizeof v);
    return v;
}

static void apic_enable(struct world *w)
{
    struct kvm_lapic_state lapic;
    uint32_t v = 0x1ff;

    CHECK_EQ(kvm_call(w->vm->cpus[0].fd, KVM_GET_LAPIC, &lapic), 0);
    memcpy(lapic.regs + 0xf0, &v, sizeof v);
    CHECK_EQ(kvm_call(w->vm->cpus[0].fd, KVM_SET_LAPIC, &lapic), 0);
}

/* The interrupt request bit of a vector in the first CPU's local APIC. */
static bool requested(struct world *w, unsigned vector)
{
    return apic_register(w, 0x200 + vector / 32 * 16) >> vector % 32 & 1;
}

TEST(messages_arrive_directly_and_by_eventfd_and_follow_changes)
{
    NEED_KVM;
    struct world *w = world_new(1);
    int fd = eventfd_new(), other = eventfd_new();
    unsigned route, second;

    reset_to(w, spin, sizeof spin, CODE);
    apic_enable(w);
    vm_msi(w->vm, 0xfee00000, 0x51);
    CHECK(requested(w, 0x51));

    CHECK_EQ(vm_irqfd_ops.msi_bind(w->vm, 0xfee00000, 0x52, fd, &route), 0);
    CHECK_EQ(vm_irqfd_ops.msi_bind(w->vm, 0xfee00000, 0x62, other, &second), 0);
    CHECK_NE(route, second);
    eventfd_signal(fd);
    WAIT_FOR(w, requested(w, 0x52));
    CHECK(!requested(w, 0x62));
    CHECK_EQ(vm_irqfd_ops.msi_update(w->vm, route, 0xfee00000, 0x53), 0);
    eventfd_signal(fd);
    WAIT_FOR(w, requested(w, 0x53));
    vm_irqfd_ops.msi_unbind(w->vm, route, fd);
    eventfd_signal(other);
    WAIT_FOR(w, requested(w, 0x62));
    CHECK_EQ(vm_irqfd_ops.msi_update(w->vm, route, 0xfee00000, 0x54), -ENOENT);
    vm_irqfd_ops.msi_unbind(w->vm, second, other);
    close(fd);
    close(other);
    world_free(w);
}

TEST(many_messages_fit_and_their_routes_come_back)
{
    NEED_KVM;
    struct world *w = world_new(1);
    enum { MANY = 300 };
    int fds[MANY];
    unsigned routes[MANY];

    for (int round = 0; round < 2; round++) {
        for (unsigned i = 0; i < MANY; i++) {
            fds[i] = eventfd_new();
            CHECK_EQ(vm_irqfd_ops.msi_bind(w->vm, 0xfee00000, 0x30 + i % 64, fds[i], &routes[i]), 0);
        }
        for (unsigned i = 0; i < MANY; i++) {
            vm_irqfd_ops.msi_unbind(w->vm, routes[i], fds[i]);
            close(fds[i]);
        }
    }
    world_free(w);
}

TEST(a_level_line_is_raised_by_eventfd_and_lowered_by_the_end_of_interrupt)
{
    NEED_KVM;
    struct world *w = world_new(1);
    int fd = eventfd_new(), resample = eventfd_new();
    unsigned acks = 0;
    struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

    /* sti; hlt; jmp back */
    static const uint8_t code[] = { 0xfb, 0xf4, 0xeb, 0xfd };
    /* out 0x10, al; mov dword [0xfee000b0], 0: the end of interrupt; sti; hlt; jmp back. No iret, which
     * not every KVM emulates in this mode. */
    static const uint8_t handler[] = { 0xe6, 0x10, 0xc7, 0x05, 0xb0, 0, 0xe0, 0xfe, 0, 0, 0, 0,
                                       0xfb, 0xf4, 0xeb, 0xfd };
    const uint64_t gate = (uint64_t)(HANDLER >> 16) << 48 | UINT64_C(0x8e00) << 32 | 0x08 << 16 |
                          (HANDLER & 0xffff);

    memcpy(w->host + HANDLER, handler, sizeof handler);
    memcpy(w->host + IDT + 0x55 * 8, &gate, sizeof gate);
    reset_to(w, code, sizeof code, CODE);
    apic_enable(w);
    /* Pin 17: vector 0x55, level; as the guest would program it. */
    CHECK_EQ(kvm_call(w->vm->fd, KVM_GET_IRQCHIP, &chip), 0);
    chip.chip.ioapic.redirtbl[17].bits = 0x8055;
    CHECK_EQ(kvm_call(w->vm->fd, KVM_SET_IRQCHIP, &chip), 0);
    CHECK_EQ(vm_irqfd_ops.line_bind(w->vm, 17, fd, resample), 0);
    CHECK_EQ(vm_irqfd_ops.line_bind(w->vm, VM_GSI_PINS, fd, resample), -EINVAL);
    eventfd_signal(fd);
    WAIT_FOR(w, requested(w, 0x55));
    CHECK(!eventfd_clear(resample));

    start(w);
    WAIT_FOR(w, (acks += eventfd_clear(resample)) == 1);
    CHECK_EQ(w->store_count, 1);
    pause_and_wait(w);
    CHECK(!requested(w, 0x55));                     /* nobody raised it again */
    vm_resume(w->vm);
    eventfd_signal(fd);
    WAIT_FOR(w, w->store_count == 2);
    WAIT_FOR(w, (acks += eventfd_clear(resample)) >= 2);
    vm_irqfd_ops.line_unbind(w->vm, 17, fd);
    close(fd);
    close(resample);
    world_free(w);
}

TEST(an_ioeventfd_takes_stores_without_an_exit)
{
    NEED_KVM;
    struct world *w = world_new(1);
    int fd = eventfd_new();
    uint64_t one = 1;

    CHECK_EQ(vm_ioeventfd(w->vm, true, 0x10, 1, &one, fd, true), 0);
    reset_to(w, talk, sizeof talk, CODE);
    start(w);
    WAIT_FOR(w, w->store_count == 1);
    CHECK_EQ(w->stores[0], 0x40);                   /* the first store, of 1, went to fd */
    CHECK(eventfd_clear(fd));
    CHECK_EQ(vm_ioeventfd(w->vm, true, 0x10, 1, &one, fd, false), 0);
    close(fd);
    world_free(w);
}

static int try_topology(unsigned cpus, unsigned sockets, unsigned cores, unsigned threads,
                        struct error *err)
{
    struct vm_config config = { .topology = { cpus, sockets, cores, threads }, .ops = &vm_ops };
    struct vm *vm = NULL;

    CHECK_EQ(kvm_open(&config.kvm_fd, err), 0);
    CHECK_EQ(loop_new(&config.loop, err), 0);
    int r = vm_new(&config, &vm, err);
    vm_free(vm);
    loop_free(config.loop);
    close(config.kvm_fd);
    return r;
}

TEST(impossible_numbers_of_cpus_are_refused_in_words)
{
    NEED_KVM;
    struct error err = { 0 };

    CHECK(try_topology(0, 1, 1, 1, &err) < 0);
    CHECK(try_topology(VM_CPUS_MAX + 1, 1, 256, 1, &err) < 0);
    CHECK_HAS(err.text, "CPUs");
    CHECK(try_topology(4, 1, 2, 1, &err) < 0);
    CHECK_HAS(err.text, "do not fit");
    CHECK(try_topology(1, UINT32_MAX, UINT32_MAX, 2, &err) < 0);
    CHECK_EQ(try_topology(2, 1, 2, 1, &err), 0);
}

TEST(what_is_not_kvm_is_refused_in_words)
{
    struct error err = { 0 };
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    CHECK(kvm_check(fd, &err) < 0);
    CHECK_HAS(err.text, "cannot use KVM");
    close(fd);
}

/* ---- CPUID, no KVM needed ---- */

TEST(apic_ids_have_a_field_for_each_level)
{
    const struct vm_topology flat = { 8, 1, 8, 1 }, odd = { 12, 2, 3, 2 };

    for (unsigned i = 0; i < 8; i++)
        CHECK_EQ(vm_topology_apic_id(&flat, i), i);
    CHECK_EQ(vm_topology_apic_id(&odd, 5), 5);      /* socket 0, core 2, thread 1 */
    CHECK_EQ(vm_topology_apic_id(&odd, 6), 8);      /* socket 1 */
    CHECK_EQ(vm_topology_apic_id(&odd, 11), 13);
}

static const struct kvm_cpuid_entry2 *leaf(const struct kvm_cpuid2 *c, uint32_t function,
                                           uint32_t index)
{
    for (unsigned i = 0; i < c->nent; i++)
        if (c->entries[i].function == function && c->entries[i].index == index)
            return &c->entries[i];
    return NULL;
}

TEST(cpuid_shows_topology_and_hides_nested_virtualisation)
{
    enum { CAP = 40 };
    static const struct kvm_cpuid_entry2 host[] = {
        { .function = 0, .eax = 0x1f, .ebx = 0x68747541 },
        { .function = 1, .ecx = 1 << 5 },
        { .function = 4, .index = 0, .eax = 0x121 }, { .function = 4, .index = 3, .eax = 0x163 },
        { .function = 0xb, .index = 0, .eax = 99 }, { .function = 0xb, .index = 1, .eax = 99 },
        { .function = 0x1f, .index = 0, .eax = 99 },
        { .function = 0x80000001, .ecx = 1 << 2 | 1 << 22 },
        { .function = 0x80000008, .eax = 48, .ecx = 0xf0ff },
        { .function = 0x8000000a, .edx = 7 }, { .function = 0x8000001e, .eax = 99 },
    };
    const struct vm_topology t = { 8, 2, 2, 2 };
    struct kvm_cpuid2 *c = calloc(1, sizeof *c + CAP * sizeof c->entries[0]);

    memcpy(c->entries, host, sizeof host);
    c->nent = ARRAY_SIZE(host);
    CHECK_EQ(cpuid_phys_bits(c), 48);
    cpuid_set(c, CAP, &t, 7, true);

    const struct kvm_cpuid_entry2 *e = leaf(c, 1, 0);
    CHECK_EQ(e->ebx >> 24, 7);
    CHECK_EQ(e->ebx >> 16 & 0xff, 4);
    CHECK_EQ(e->ecx >> 5 & 1, 0);
    CHECK_EQ(e->ecx >> 31, 1);
    CHECK_EQ(e->edx >> 28 & 1, 1);
    CHECK_EQ(leaf(c, 4, 0)->eax >> 14 & 0xfff, 1);  /* the two threads of a core */
    CHECK_EQ(leaf(c, 4, 3)->eax >> 14 & 0xfff, 3);  /* all of the package */
    CHECK_EQ(leaf(c, 0xb, 0)->eax, 1);
    CHECK_EQ(leaf(c, 0xb, 0)->ebx, 2);
    CHECK_EQ(leaf(c, 0xb, 1)->eax, 2);
    CHECK_EQ(leaf(c, 0xb, 1)->ebx, 4);
    CHECK_EQ(leaf(c, 0xb, 2)->edx, 7);
    CHECK(!leaf(c, 0x1f, 0));
    CHECK_EQ(leaf(c, 0x80000001, 0)->ecx & 1 << 2, 0);
    CHECK_EQ(leaf(c, 0x80000008, 0)->ecx, 0x2003);
    CHECK_EQ(leaf(c, 0x8000000a, 0)->edx, 0);
    CHECK_EQ(leaf(c, 0x8000001e, 0)->eax, 7);
    CHECK_EQ(leaf(c, 0x8000001e, 0)->ebx, 3 | 1 << 8);
    CHECK_EQ(leaf(c, 0x8000001e, 0)->ecx, 1);
    free(c);
}
