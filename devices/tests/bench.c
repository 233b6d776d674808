/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/tests/bench.h"

#include "base/fd.h"
#include "block/block.h"
#include "devices/all.h"
#include "obj/keyval.h"
#include "remote/loopback.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum { BENCH_SLOT = 3, VECTORS = 64, CHECKPOINTS_MAX = 300 };

enum bench_mode bench_mode;

struct bench {
    struct bench_config config;
    enum bench_mode mode;
    int ram_fd, disk_fds[BENCH_DISKS];
    uint8_t *ram;
    unsigned checkpoints;

    /* direct and saved */
    struct loop *loop;
    struct block_graph *graph;
    struct obj_tree tree;
    struct mem_region *mem, *io, *ram_region;
    struct address_space *mem_as, *io_as;
    struct pci_bus *bus;
    struct pci_device *pdev;
    bool level;
    unsigned messages[VECTORS];

    struct loopback *loopback;          /* remote */
};

static void must(int r, const struct error *err)
{
    if (r < 0)
        fail_msg("%s", err->text);
}

/* ---- what the device is given, on whichever thread it lives ---- */

static int add_disks(struct bench *b, struct loop *loop, struct block_graph **ret_graph,
                     struct error *err)
{
    char name[8];
    int r = block_graph_new(loop, BLOCK_AIO_AUTO, ret_graph, err);

    for (unsigned i = 0; r == 0 && i < BENCH_DISKS; i++) {
        if (b->disk_fds[i] < 0)
            continue;
        int fd = dup(b->disk_fds[i]);
        struct block_fds fds = { &fd, 1 };
        snprintf(name, sizeof name, "d%u", i);
        json_t *options = json_pack("{s:s, s:s, s:{s:s, s:s, s:i}}", "driver", "raw", "node-name",
                                    name, "file", "driver", "file", "filename", "bench", "fd", 0);
        r = block_node_add(*ret_graph, options, &fds, err);
        json_decref(options);
    }
    return r;
}

static json_t *description(const char *text, const char *id, struct error *err)
{
    json_t *d;

    must(keyval_parse(text, "driver", "-device", &d, err), err);
    if (!json_object_get(d, "id"))
        json_object_set_new(d, "id", json_string(id));
    return d;
}

static int add_object(struct obj_tree *tree, const char *text, const char *id, const char *bus,
                      struct object **ret_obj, struct error *err)
{
    json_t *d = description(text, id, err);

    if (bus)
        json_object_set_new(d, "bus", json_string(bus));
    int r = object_create(tree, d, ret_obj, err);
    json_decref(d);
    return r;
}

static void add_children(struct bench *b, struct obj_tree *tree)
{
    struct error err;
    struct object *obj;
    char id[16];

    for (unsigned i = 0; i < BENCH_CHILDREN; i++) {
        if (!b->config.children[i])
            continue;
        snprintf(id, sizeof id, "child%u", i);
        must(add_object(tree, b->config.children[i], id, "dev.0", &obj, &err), &err);
    }
}

/* ---- direct ---- */

static void on_intx(void *opaque, struct pci_device *pdev, unsigned pin, bool level)
{
    ((struct bench *)opaque)->level = level;
}

static void on_msi(void *opaque, struct pci_device *pdev, unsigned vector, uint64_t addr,
                   uint32_t data)
{
    if (vector < VECTORS)
        ((struct bench *)opaque)->messages[vector]++;
}

static const struct pci_bus_ops bench_bus_ops = { .intx = on_intx, .msi = on_msi };

static void direct_device_new(struct bench *b)
{
    struct error err;
    struct object *obj;

    obj_tree_init(&b->tree, b->loop, device_classes);
    b->tree.services[SERVICE_BLOCK] = b->graph;
    struct pci_bus_config config = { "pci.0", &bench_bus_ops, b, b->mem, b->io, b->mem_as, false };
    must(pci_bus_new(&b->tree, &config, &b->bus, &err), &err);
    must(add_object(&b->tree, b->config.device, "dev", "pci.0", &obj, &err), &err);
    b->pdev = pci_device_of(obj);
    add_children(b, &b->tree);
    objects_reset(&b->tree);
}

static void direct_device_free(struct bench *b)
{
    obj_tree_fini(&b->tree);
    pci_bus_free(b->bus);
    b->bus = NULL;
    b->pdev = NULL;
}

static void direct_new(struct bench *b)
{
    struct error err;

    must(loop_new(&b->loop, &err), &err);
    must(add_disks(b, b->loop, &b->graph, &err), &err);
    b->mem = mem_container_new("mem", UINT64_MAX);
    b->io = mem_container_new("io", 0x10000);
    must(mem_ram_new("ram", b->ram_fd, 0, BENCH_RAM_BYTES, false, &b->ram_region, &err), &err);
    mem_add(b->mem, 0, b->ram_region, 0);
    CHECK_EQ(address_space_new("mem", b->mem, &b->mem_as), 0);
    CHECK_EQ(address_space_new("io", b->io, &b->io_as), 0);
    direct_device_new(b);
}

static void direct_free(struct bench *b)
{
    direct_device_free(b);
    address_space_free(b->mem_as);
    address_space_free(b->io_as);
    mem_del(b->ram_region);
    mem_region_put(b->ram_region);
    mem_region_put(b->mem);
    mem_region_put(b->io);
    block_graph_free(b->graph);
    loop_free(b->loop);
}

static void save_and_load(struct bench *b)
{
    struct state_buf buf = { 0 };
    struct error err;

    objects_pause(&b->tree);
    must(objects_save(&b->tree, &buf, &err), &err);
    direct_device_free(b);
    b->level = false;
    direct_device_new(b);
    objects_pause(&b->tree);
    must(objects_load(&b->tree, buf.data, buf.len, &err), &err);
    objects_resume(&b->tree);
    state_buf_fini(&buf);
}

void bench_checkpoint(struct bench *b)
{
    if (b->mode == BENCH_SAVED && b->checkpoints++ < CHECKPOINTS_MAX)
        save_and_load(b);
}

/* ---- remote ---- */

static int remote_setup(void *opaque, struct obj_tree *tree, struct error *err)
{
    struct block_graph *graph;
    int r = add_disks(opaque, tree->loop, &graph, err);

    if (r == 0)
        tree->services[SERVICE_BLOCK] = graph;
    return r;
}

static void remote_teardown(void *opaque, struct obj_tree *tree)
{
    block_graph_free(tree->services[SERVICE_BLOCK]);
}

static void remote_children(void *opaque, struct obj_tree *tree, struct pci_device *pdev)
{
    add_children(opaque, tree);
    objects_reset(tree);
}

static void remote_new(struct bench *b)
{
    struct error err;
    json_t *d = description(b->config.device, "dev", &err);
    struct loopback_config config = {
        .classes = device_classes, .description = d, .setup = remote_setup,
        .teardown = remote_teardown, .opaque = b, .ram_size = BENCH_RAM_BYTES,
        .ram_fd = b->ram_fd,
    };

    must(loopback_new(&config, &b->loopback, &err), &err);
    json_decref(d);
    loopback_run(b->loopback, remote_children, b);
}

/* ---- either ---- */

static void program_bars(struct bench *b)
{
    for (unsigned i = 0; i < PCI_BARS; i++) {
        unsigned off = PCI_BASE_ADDRESS_0 + 4 * i;
        bool io = bench_config_read(b, off, 4) & PCI_BASE_ADDRESS_SPACE_IO;
        bench_config_write(b, off, 4, io ? BENCH_IO + 0x100 * i
                                         : BENCH_MMIO + BENCH_BAR_STRIDE * i);
    }
    bench_config_write(b, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY |
                       PCI_COMMAND_MASTER);
}

struct bench *bench_new(const struct bench_config *config)
{
    struct bench *b = calloc(1, sizeof *b);

    assert_non_null(b);
    b->config = *config;
    b->mode = bench_mode;
    b->ram_fd = memfd_new("ram", BENCH_RAM_BYTES, 0);
    b->ram = mmap(NULL, BENCH_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, b->ram_fd, 0);
    assert_ptr_not_equal(b->ram, MAP_FAILED);
    for (unsigned i = 0; i < BENCH_DISKS; i++)
        b->disk_fds[i] = config->disk_bytes[i] ? memfd_new("disk", config->disk_bytes[i], 0) : -1;
    if (b->mode == BENCH_REMOTE)
        remote_new(b);
    else
        direct_new(b);
    program_bars(b);
    return b;
}

void bench_free(struct bench *b)
{
    if (!b)
        return;
    if (b->loopback)
        loopback_free(b->loopback);
    else
        direct_free(b);
    munmap(b->ram, BENCH_RAM_BYTES);
    close(b->ram_fd);
    for (unsigned i = 0; i < BENCH_DISKS; i++)
        if (b->disk_fds[i] >= 0)
            close(b->disk_fds[i]);
    free(b);
}

uint32_t bench_config_read(struct bench *b, unsigned off, unsigned len)
{
    if (b->loopback)
        return loopback_config_read(b->loopback, off, len);
    return pci_config_access_read(b->bus, 0, pci_device_devfn(b->pdev), off, len);
}

void bench_config_write(struct bench *b, unsigned off, unsigned len, uint32_t val)
{
    if (b->loopback)
        loopback_config_write(b->loopback, off, len, val);
    else
        pci_config_access_write(b->bus, 0, pci_device_devfn(b->pdev), off, len, val);
}

unsigned bench_find_capability(struct bench *b, uint8_t id)
{
    unsigned at = bench_config_read(b, PCI_CAPABILITY_LIST, 1);

    while (at && bench_config_read(b, at, 1) != id)
        at = bench_config_read(b, at + 1, 1);
    return at;
}

uint64_t bench_read(struct bench *b, unsigned bar, uint64_t off, unsigned len)
{
    uint64_t v = 0;

    if (b->loopback)
        return loopback_bar_read(b->loopback, bar, off, len);
    pci_bar_read(b->pdev, bar, off, &v, len);
    return v;
}

void bench_write(struct bench *b, unsigned bar, uint64_t off, unsigned len, uint64_t val)
{
    if (b->loopback)
        loopback_bar_write(b->loopback, bar, off, len, val);
    else
        pci_bar_write(b->pdev, bar, off, &val, len);
}

uint8_t *bench_ram(struct bench *b) { return b->ram; }
int bench_disk_fd(struct bench *b, unsigned disk) { return b->disk_fds[disk]; }

/* One turn of the device's loop; in the saved mode in a fresh device. */
static void turn(struct bench *b, int ms)
{
    bench_checkpoint(b);
    loop_turn(b->loop, ms);
}

bool bench_irq(struct bench *b, int timeout_ms)
{
    uint64_t end = clock_now_ns() + timeout_ms * 1000000ull;

    if (b->loopback)
        return loopback_intx(b->loopback, timeout_ms);
    while (!b->level && clock_now_ns() < end)
        turn(b, 1);
    return b->level;
}

unsigned bench_messages(struct bench *b, unsigned vector, int timeout_ms)
{
    uint64_t end = clock_now_ns() + timeout_ms * 1000000ull;

    if (b->loopback)
        return loopback_messages(b->loopback, vector, timeout_ms);
    while (!b->messages[vector] && clock_now_ns() < end)
        turn(b, 1);
    unsigned n = b->messages[vector];
    b->messages[vector] = 0;
    return n;
}

void bench_idle(struct bench *b, int ms)
{
    uint64_t end = clock_now_ns() + ms * 1000000ull;

    if (b->loopback)
        usleep(ms * 1000);
    else
        while (clock_now_ns() < end)
            turn(b, 1);
}

static void far_reset(void *opaque, struct obj_tree *tree, struct pci_device *pdev)
{
    objects_reset(tree);
}

void bench_reset(struct bench *b)
{
    if (b->loopback)
        loopback_run(b->loopback, far_reset, b);
    else
        objects_reset(&b->tree);
    program_bars(b);
}
