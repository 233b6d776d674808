/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory slots follow the memory address space. What cannot be a slot (a piece that is not whole
 * pages, one too many) is still reached: its accesses leave the guest and are dispatched.
 */
#include "kvm/internal.h"

#include "base/log.h"

#include <errno.h>

enum { PAGE = 4096 };

static int slot_set(struct vm *vm, unsigned slot, const struct mem_section *s, uint64_t size)
{
    struct kvm_userspace_memory_region r = {
        .slot = slot, .guest_phys_addr = s->addr, .memory_size = size,
        .userspace_addr = (uintptr_t)mem_ram_host(s->region) + s->offset,
        .flags = s->readonly ? KVM_MEM_READONLY : 0,
    };
    return kvm_call(vm->fd, KVM_SET_USER_MEMORY_REGION, &r);
}

static bool can_be_slot(const struct vm *vm, const struct mem_section *s)
{
    return mem_is_ram(s->region) && s->addr % PAGE == 0 && s->size % PAGE == 0 &&
           s->offset % PAGE == 0 && (!s->readonly || vm->has_readonly);
}

static struct memory_slot *slot_free(struct vm *vm)
{
    for (unsigned i = 0; i < vm->slot_count; i++)
        if (vm->slots[i].size == 0)
            return &vm->slots[i];
    if (vm->slot_count == vm->slots_max)
        return NULL;

    unsigned count = MIN(vm->slot_count ? vm->slot_count * 2 : 16, vm->slots_max);
    struct memory_slot *slots = realloc(vm->slots, count * sizeof *slots);
    if (!slots)
        return NULL;
    for (unsigned i = vm->slot_count; i < count; i++)
        slots[i] = (struct memory_slot){ 0 };
    struct memory_slot *first = &slots[vm->slot_count];
    vm->slots = slots;
    vm->slot_count = count;
    return first;
}

static void section_add(struct mem_listener *l, const struct mem_section *s)
{
    struct vm *vm = container_of(l, struct vm, listener);

    if (!can_be_slot(vm, s))
        return;
    struct memory_slot *slot = slot_free(vm);
    int r = slot ? slot_set(vm, slot - vm->slots, s, s->size) : -ENOSPC;
    if (r < 0) {
        struct error err;
        error_set(&err, r, "KVM cannot map memory '%s' at 0x%llx, accesses there will be slow",
                  mem_name(s->region), (unsigned long long)s->addr);
        log_warn("%s", err.text);
        return;
    }
    *slot = (struct memory_slot){ s->addr, s->size, s->region };
}

static void section_del(struct mem_listener *l, const struct mem_section *s)
{
    struct vm *vm = container_of(l, struct vm, listener);

    for (unsigned i = 0; i < vm->slot_count; i++) {
        struct memory_slot *slot = &vm->slots[i];
        if (slot->size == s->size && slot->addr == s->addr && slot->region == s->region) {
            slot_set(vm, i, s, 0);      /* deleting takes no memory and does not fail */
            *slot = (struct memory_slot){ 0 };
            return;
        }
    }
}

void memory_init(struct vm *vm)
{
    int max = kvm_call(vm->fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_NR_MEMSLOTS);

    vm->slots_max = max > 0 ? max : 32;
    vm->has_readonly = kvm_call(vm->fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_READONLY_MEM) > 0;
    vm->listener = (struct mem_listener){ .add = section_add, .del = section_del };
}

void memory_fini(struct vm *vm)
{
    if (vm->memory)
        address_space_unlisten(vm->memory, &vm->listener);
    vm->memory = NULL;
    free(TAKE_PTR(vm->slots));
    vm->slot_count = 0;
}
