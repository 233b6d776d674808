/* SPDX-License-Identifier: Apache-2.0 */
/* A machine without a hypervisor: what it would be told is written down, and the clocks are ours. */
#ifndef MACHINE_TESTS_PC_H
#define MACHINE_TESTS_PC_H

#include "base/test.h"

#include "base/fd.h"
#include "machine/internal.h"
#include "obj/keyval.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define PC_RAM (64ull << 20)
#define SECOND_NS 1000000000ll

struct pc {
    struct loop *loop;
    struct obj_tree tree;
    struct machine *machine;
    struct address_space *io, *memory;
    struct chardev *chr;
    int ram_fd, peer;               /* peer: the other end of COM1 */

    bool irq[MACHINE_GSIS];
    int irq_changes, resets, panics, crash_loads, shutdowns, exit_code, msis;
    enum machine_shutdown why;
    uint64_t msi_addr;
    uint32_t msi_data;
    uint64_t clock_ns;
    int64_t wall_ns;
};

static void pc_irq(void *opaque, unsigned gsi, bool level)
{
    struct pc *pc = opaque;
    CHECK(gsi < MACHINE_GSIS);
    CHECK_NE(pc->irq[gsi], level);          /* told of changes only */
    pc->irq[gsi] = level;
    pc->irq_changes++;
}
static void pc_msi(void *opaque, uint64_t addr, uint32_t data)
{
    struct pc *pc = opaque;
    pc->msis++;
    pc->msi_addr = addr;
    pc->msi_data = data;
}
static void pc_shutdown(void *opaque, enum machine_shutdown why, int exit_code)
{
    struct pc *pc = opaque;
    pc->shutdowns++;
    pc->why = why;
    pc->exit_code = exit_code;
}
static void pc_reset(void *opaque) { ((struct pc *)opaque)->resets++; }
static void pc_panicked(void *opaque, bool crash_loaded)
{
    struct pc *pc = opaque;
    *(crash_loaded ? &pc->crash_loads : &pc->panics) += 1;
}
static uint64_t pc_clock(void *opaque) { return ((struct pc *)opaque)->clock_ns; }
static int64_t pc_wall(void *opaque) { return ((struct pc *)opaque)->wall_ns; }

static const struct machine_ops pc_ops = {
    pc_irq, pc_msi, pc_shutdown, pc_reset, pc_panicked, pc_clock, pc_wall,
};

static inline int file_of(const void *data, size_t len)
{
    int fd = memfd_new("file", len, 0);
    CHECK(fd >= 0);
    CHECK_EQ(pwrite(fd, data, len, 0), (ssize_t)len);
    return fd;
}

/* Starts with no kernel unless kernel_fd says otherwise; classes: NULL for the machine's own. */
static inline void pc_begin_with(struct pc *pc, struct machine_config *config,
                                 const struct object_class *const *classes)
{
    static const struct object_class *with_base[16];
    struct error err = { 0 };
    int sv[2], n = 0;

    with_base[n++] = &pci_device_base;
    for (const struct object_class *const *c = machine_classes; *c; c++)
        with_base[n++] = *c;
    for (const struct object_class *const *c = classes; c && *c; c++)
        with_base[n++] = *c;
    with_base[n] = NULL;

    *pc = (struct pc){ .wall_ns = 1700000000 * SECOND_NS };     /* 2023-11-14 22:13:20 */
    CHECK_EQ(loop_new(&pc->loop, &err), 0);
    obj_tree_init(&pc->tree, pc->loop, with_base);
    if (!config->ram_bytes)
        config->ram_bytes = PC_RAM;
    if (!config->cpus)
        config->cpus = 1;
    pc->ram_fd = memfd_new("ram", config->ram_bytes, 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv), 0);
    json_t *desc = json_pack("{s:s, s:i, s:i}", "kind", "stream", "in", 0, "out", 0);
    CHECK_EQ(chardev_new(pc->loop, "com1", desc, sv, 1, &pc->chr, &err), 0);
    json_decref(desc);
    close(sv[0]);
    pc->peer = sv[1];
    config->ops = &pc_ops;
    config->opaque = pc;
    config->ram_fd = pc->ram_fd;
    config->serials[0] = pc->chr;
    int r = machine_new(&pc->tree, config, &pc->machine, &err);
    if (r < 0)
        fail_msg("%s", err.text);
    pc->io = machine_io(pc->machine);
    pc->memory = machine_memory(pc->machine);
}

static inline void pc_begin(struct pc *pc)
{
    struct machine_config config = { .kernel_fd = -1, .initrd_fd = -1 };
    pc_begin_with(pc, &config, NULL);
}

static inline void pc_end(struct pc *pc)
{
    obj_tree_fini(&pc->tree);
    machine_free(pc->machine);
    chardev_free(pc->chr);
    close(pc->peer);
    close(pc->ram_fd);
    loop_free(pc->loop);
}

static inline uint32_t in(struct pc *pc, unsigned port, unsigned len)
{
    uint32_t v = 0;
    address_space_read(pc->io, port, &v, len);
    return v;
}
static inline void out(struct pc *pc, unsigned port, unsigned len, uint32_t v)
{
    address_space_write(pc->io, port, &v, len);
}
static inline uint8_t inb(struct pc *pc, unsigned port) { return in(pc, port, 1); }
static inline void outb(struct pc *pc, unsigned port, uint8_t v) { out(pc, port, 1, v); }

static inline struct object *pc_add(struct pc *pc, const char *text)
{
    struct error err;
    struct object *obj = NULL;
    json_t *d;
    CHECK_EQ(keyval_parse(text, "driver", "-device", &d, &err), 0);
    if (object_create(&pc->tree, d, &obj, &err) < 0)
        fail_msg("%s", err.text);
    json_decref(d);
    return obj;
}

static inline void turns(struct pc *pc, int n)
{
    while (n--)
        loop_turn(pc->loop, 1);
}

/* Saves the objects, resets them, loads them again: what tests check afterwards has survived. */
static inline void pc_save_and_load(struct pc *pc)
{
    struct state_buf buf = { 0 };
    struct error err = { 0 };
    CHECK_EQ(objects_save(&pc->tree, &buf, &err), 0);
    objects_reset(&pc->tree);
    if (objects_load(&pc->tree, buf.data, buf.len, &err) < 0)
        fail_msg("%s", err.text);
    state_buf_fini(&buf);
}

#endif
