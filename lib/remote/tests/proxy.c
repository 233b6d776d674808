/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A toy device in a child process, its proxy here on a PCI bus with memory, and this thread as the
 * virtual CPU; the loop has a thread of its own. Then servers that lie.
 */
#include "base/test.h"

#include "base/fd.h"
#include "ipc/primary.h"
#include "remote/endpoint.h"
#include "remote/proxy.h"
#include "toy.h"
#include "vfio_user/tests/raw.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

/* Long enough for a busy machine to answer in, short enough to be waited for. */
enum { TIMEOUT_MS = 3000 };
enum { RAM = 1 << 20, BAR0 = 0x10000000, BAR1 = 0xc000, BAR2 = 0x20000000, BAR4 = 0x30000000 };

static const struct object_class *const classes[] = {
    &pci_device_base, &proxy_class.base, &toy_class.base, NULL,
};

/* ---- the far side: a process ---- */

struct far { struct loop *loop; struct endpoint *ep; };

static void far_gone(void *opaque, const char *reason)
{
    loop_quit(((struct far *)opaque)->loop, reason ? 3 : 0);
}

static int far_request(void *opaque, const char *name, json_t *args, struct primary_fds *in,
                       json_int_t id, json_t **ret_answer, struct primary_fds *out,
                       struct error *err)
{
    struct far *far = opaque;
    int sv[2];

    if (strcmp(name, "channel-open") != 0 ||
        strcmp(json_string_value(json_object_get(args, "device")), "t0") != 0)
        return error_set(err, -EINVAL, "there is no such device here");
    raw_pair(sv);
    int r = endpoint_attach(far->ep, sv[0], err);
    if (r < 0) {
        close(sv[1]);
        return r;
    }
    out->fds[out->count++] = sv[1];
    *ret_answer = json_pack("{s:i}", "fd", 0);
    return 0;
}

static const struct primary_ops far_primary_ops = { .request = far_request };

static void far_main(int fd, bool is_primary)
{
    struct far far = { 0 };
    struct obj_tree tree;
    struct object *obj;
    struct primary *primary;

    if (loop_new(&far.loop, NULL) < 0 || obj_tree_init(&tree, far.loop, classes) < 0)
        _exit(10);
    struct endpoint_config config = { .tree = &tree, .bus_name = "far", .client_gone = far_gone,
                                      .opaque = &far };
    json_t *d = json_pack("{s:s, s:s}", "driver", "toy", "id", "t0");
    if (endpoint_new(&config, &far.ep, NULL) < 0 || object_create(&tree, d, &obj, NULL) < 0)
        _exit(11);
    json_decref(d);
    int r = is_primary ? primary_new(far.loop, fd, &far_primary_ops, &far, &primary, NULL)
                       : endpoint_attach(far.ep, fd, NULL);
    if (r < 0)
        _exit(12);
    _exit(loop_run(far.loop));
}

/* ---- the near side ---- */

struct binding { int fd, resample; uint64_t addr; uint32_t data; bool used; };

struct world {
    pthread_mutex_t lock;
    struct loop *loop;
    pthread_t thread, liar;
    bool running, lied_to;
    struct obj_tree tree;
    struct mem_region *mem, *io, *ram;
    struct address_space *mem_as, *io_as;
    struct pci_bus *bus;
    struct object *obj;
    pid_t pid;
    uint8_t *bytes;
    unsigned fds_before;
    _Atomic int level, msis;
    _Atomic uint64_t msi_addr;
    _Atomic uint32_t msi_data;
    struct binding line, msi[8];
    int updates;
    struct proxy_owner owner;
    _Atomic int failures;
    char reason[512];
};

static void on_intx(void *opaque, struct pci_device *pdev, unsigned pin, bool level)
{
    ((struct world *)opaque)->level = level;
}
static void on_msi(void *opaque, struct pci_device *pdev, unsigned vector, uint64_t addr,
                   uint32_t data)
{
    struct world *w = opaque;
    w->msi_addr = addr;
    w->msi_data = data;
    w->msis++;
}
static unsigned gsi(void *opaque, unsigned devfn, unsigned pin) { return 16 + pin; }
static const struct pci_bus_ops bus_ops = { .intx = on_intx, .msi = on_msi, .gsi = gsi };

static int line_bind(void *opaque, unsigned line, int fd, int resample)
{
    struct world *w = opaque;
    CHECK_EQ(line, 16);
    CHECK(!w->line.used);
    w->line = (struct binding){ fd, resample, .used = true };
    return 0;
}
static void line_unbind(void *opaque, unsigned line, int fd)
{
    ((struct world *)opaque)->line.used = false;
}
static int msi_bind(void *opaque, uint64_t addr, uint32_t data, int fd, unsigned *ret_route)
{
    struct world *w = opaque;
    unsigned i = 0;
    while (w->msi[i].used)
        i++;
    w->msi[i] = (struct binding){ fd, -1, addr, data, true };
    *ret_route = i;
    return 0;
}
static int msi_update(void *opaque, unsigned route, uint64_t addr, uint32_t data)
{
    struct world *w = opaque;
    w->msi[route].addr = addr;
    w->msi[route].data = data;
    w->updates++;
    return 0;
}
static void msi_unbind(void *opaque, unsigned route, int fd)
{
    ((struct world *)opaque)->msi[route].used = false;
}
static const struct irqfd_ops irqfd_ops = {
    line_bind, line_unbind, msi_bind, msi_update, msi_unbind,
};

static void on_failure(void *opaque, struct pci_device *pdev, const char *reason)
{
    struct world *w = opaque;
    snprintf(w->reason, sizeof w->reason, "%s", reason);
    w->failures++;
}

static void *run_loop(void *opaque)
{
    loop_run(((struct world *)opaque)->loop);
    return NULL;
}

static void world_begin(struct world *w, bool irqfds)
{
    struct error err;

    memset(w, 0, sizeof *w);
    w->fds_before = count_fds();
    pthread_mutex_init(&w->lock, NULL);
    CHECK_EQ(loop_new(&w->loop, &err), 0);
    loop_set_lock(w->loop, &w->lock);
    CHECK_EQ(obj_tree_init(&w->tree, w->loop, classes), 0);
    w->tree.lock = &w->lock;
    w->owner = (struct proxy_owner){ on_failure, w };
    proxy_set_owner(&w->tree, &w->owner);
    w->mem = mem_container_new("mem", UINT64_MAX);
    w->io = mem_container_new("io", 0x10000);
    CHECK_EQ(address_space_new("mem", w->mem, &w->mem_as), 0);
    CHECK_EQ(address_space_new("io", w->io, &w->io_as), 0);
    address_space_set_lock(w->mem_as, &w->lock);
    address_space_set_lock(w->io_as, &w->lock);
    int fd = memfd_new("ram", RAM, 0);
    CHECK_EQ(mem_ram_new("ram", fd, 0, RAM, false, &w->ram, &err), 0);
    close(fd);
    mem_add(w->mem, 0, w->ram, 0);
    w->bytes = mem_ram_host(w->ram);
    struct pci_bus_config config = { "pci.0", &bus_ops, w, w->mem, w->io, w->mem_as, false };
    CHECK_EQ(pci_bus_new(&w->tree, &config, &w->bus, &err), 0);
    if (irqfds)
        pci_bus_set_irqfd(w->bus, &irqfd_ops, w);
}

static int add_proxy(struct world *w, json_t *more, struct error *err)
{
    json_t *d = json_pack("{s:s, s:s, s:s}", "driver", "pci-proxy-dev", "id", "t0", "addr", "3");

    json_object_update(d, more);
    json_decref(more);
    pthread_mutex_lock(&w->lock);
    int r = object_create(&w->tree, d, &w->obj, err);
    pthread_mutex_unlock(&w->lock);
    if (json_object_get(d, "channel-fd"))
        close(json_integer_value(json_object_get(d, "channel-fd")));
    json_decref(d);
    return r;
}

static void world_run(struct world *w)
{
    w->running = true;
    CHECK_EQ(pthread_create(&w->thread, NULL, run_loop, w), 0);
}

static void world_end(struct world *w)
{
    int status;

    if (w->running) {
        loop_quit(w->loop, 0);
        pthread_join(w->thread, NULL);
    }
    pthread_mutex_lock(&w->lock);
    obj_tree_fini(&w->tree);
    pthread_mutex_unlock(&w->lock);
    pci_bus_free(w->bus);
    address_space_free(w->mem_as);
    address_space_free(w->io_as);
    mem_del(w->ram);
    mem_region_put(w->ram);
    mem_region_put(w->mem);
    mem_region_put(w->io);
    loop_free(w->loop);
    if (w->pid)
        waitpid(w->pid, &status, 0);
    if (w->lied_to)
        pthread_join(w->liar, NULL);
    CHECK_EQ(count_fds(), w->fds_before);
}

static void spawn_far(struct world *w, int *ret_fd, bool is_primary)
{
    int sv[2];

    if (is_primary)
        CHECK_EQ(primary_pair(sv), 0);
    else
        raw_pair(sv);
    w->pid = fork();
    CHECK(w->pid >= 0);
    if (w->pid == 0) {
        close(sv[0]);
        far_main(sv[1], is_primary);
    }
    close(sv[1]);
    *ret_fd = sv[0];
}

static void begin(struct world *w, bool irqfds)
{
    struct error err;
    int fd;

    world_begin(w, irqfds);
    spawn_far(w, &fd, false);
    int r = add_proxy(w, json_pack("{s:i, s:i}", "channel-fd", fd, "timeout", TIMEOUT_MS), &err);
    if (r < 0)
        fail_msg("%s", err.text);
    world_run(w);
}

static uint32_t cfg(struct world *w, unsigned off, unsigned len)
{
    return pci_config_access_read(w->bus, 0, PCI_DEVFN(3, 0), off, len);
}
static void cfg_set(struct world *w, unsigned off, unsigned len, uint32_t val)
{
    pci_config_access_write(w->bus, 0, PCI_DEVFN(3, 0), off, len, val);
}
static uint32_t rd(struct world *w, gpa_t addr)
{
    uint8_t b[4];
    address_space_read(w->mem_as, addr, b, 4);
    return le32_load(b);
}
static void wr(struct world *w, gpa_t addr, uint32_t val)
{
    uint8_t b[4];
    le32_store(b, val);
    address_space_write(w->mem_as, addr, b, 4);
}

/* As firmware does. */
static void program(struct world *w)
{
    cfg_set(w, 0x10, 4, BAR0);
    cfg_set(w, 0x14, 4, BAR1);
    cfg_set(w, 0x18, 4, BAR2);
    cfg_set(w, 0x1c, 4, 0);
    cfg_set(w, 0x20, 4, BAR4);
    cfg_set(w, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static unsigned find_cap(struct world *w, uint8_t id)
{
    unsigned at = cfg(w, PCI_CAPABILITY_LIST, 1);
    while (at && cfg(w, at, 1) != id)
        at = cfg(w, at + 1, 1);
    CHECK(at);
    return at;
}

#define EVENTUALLY(cond) ({ int n_ = 0; while (!(cond) && n_++ < 10000) usleep(1000); CHECK(cond); })

TEST(the_guest_sees_the_remote_device)
{
    struct world w;
    uint8_t b[8];

    begin(&w, false);
    CHECK_EQ(cfg(&w, 0, 4), 0x56781234);
    CHECK_EQ(cfg(&w, PCI_REVISION_ID, 1), 3);
    CHECK_EQ(cfg(&w, PCI_INTERRUPT_PIN, 1), 1);
    for (unsigned i = 0; i < 6; i++)
        cfg_set(&w, 0x10 + 4 * i, 4, 0xffffffff);
    CHECK_EQ(cfg(&w, 0x10, 4), 0xfffff000);
    CHECK_EQ(cfg(&w, 0x14, 4), 0xffffffe1);
    CHECK_EQ(cfg(&w, 0x18, 4), 0xfff0000c);
    CHECK_EQ(cfg(&w, 0x1c, 4), 0xffffffff);
    CHECK_EQ(cfg(&w, 0x24, 4), 0);
    CHECK_EQ(cfg(&w, PCI_ROM_ADDRESS, 4), 0);
    program(&w);
    CHECK_EQ(cfg(&w, 0x10, 4), BAR0);

    wr(&w, BAR0 + TOY_SCRATCH, 0xabcd1234);
    CHECK_EQ(rd(&w, BAR0 + TOY_SCRATCH), 0xabcd1234);
    CHECK(address_space_read(w.io_as, BAR1 + TOY_SCRATCH, b, 4));
    CHECK_EQ(le32_load(b), 0xabcd1234);
    CHECK(address_space_read(w.mem_as, BAR2 + 0x8000, b, 8));
    CHECK_EQ(le64_load(b), 0x8000);
    cfg_set(&w, 0x10, 4, BAR0 + 0x100000);                  /* moved while it decodes */
    CHECK_EQ(rd(&w, BAR0 + 0x100000 + TOY_SCRATCH), 0xabcd1234);
    CHECK_EQ(rd(&w, BAR0 + TOY_SCRATCH), 0xffffffff);
    world_end(&w);
}

TEST(a_channel_is_asked_for_over_the_primary_channel)
{
    struct world w;
    struct error err;
    char spec[16];
    int fd;

    world_begin(&w, false);
    spawn_far(&w, &fd, true);
    snprintf(spec, sizeof spec, "%d", fd);
    CHECK_EQ(add_proxy(&w, json_pack("{s:s}", "socket", spec), &err), 0);
    world_run(&w);
    CHECK_EQ(cfg(&w, 0, 4), 0x56781234);
    kill(w.pid, SIGKILL);
    world_end(&w);
}

TEST(a_wrong_socket_or_id_is_said_in_words)
{
    struct world w;
    struct error err;
    char spec[16];
    int fd;

    world_begin(&w, false);
    CHECK(add_proxy(&w, json_object(), &err) < 0);
    CHECK_HAS(err.text, "'socket' is missing");
    CHECK(add_proxy(&w, json_pack("{s:s}", "socket", "unix:/nowhere"), &err) < 0);
    CHECK_HAS(err.text, "/nowhere");
    spawn_far(&w, &fd, true);
    snprintf(spec, sizeof spec, "%d", fd);
    CHECK(add_proxy(&w, json_pack("{s:s, s:s}", "socket", spec, "id", "t1"), &err) < 0);
    CHECK_HAS(err.text, "no such device");
    kill(w.pid, SIGKILL);
    waitpid(w.pid, NULL, 0);
    spawn_far(&w, &fd, false);
    CHECK(add_proxy(&w, json_pack("{s:i, s:s}", "channel-fd", fd, "id", "t1"), &err) < 0);
    CHECK_HAS(err.text, "leads to device 't0'");
    CHECK(add_proxy(&w, json_pack("{s:i, s:s}", "channel-fd", dup(0), "addr", "33"), &err) < 0);
    CHECK_HAS(err.text, "addr");
    world_end(&w);
}

TEST(the_device_reaches_guest_memory_and_follows_its_changes)
{
    struct world w;
    struct mem_region *more;
    struct error err;
    int fd = memfd_new("more", 2 * RAM, 0);

    begin(&w, false);
    program(&w);
    le32_store(w.bytes + 0x4000, 0x600dda7a);
    wr(&w, BAR0 + TOY_ADDR, 0x4000);
    wr(&w, BAR0 + TOY_LOAD, 0);
    CHECK_EQ(rd(&w, BAR0 + TOY_STATUS), 0);
    CHECK_EQ(rd(&w, BAR0 + TOY_SCRATCH), 0x600dda7a);

    wr(&w, BAR0 + TOY_ADDR, 0x200010);
    wr(&w, BAR0 + TOY_STORE, 0x11);
    CHECK_EQ(rd(&w, BAR0 + TOY_STATUS), EFAULT);
    pthread_mutex_lock(&w.lock);
    CHECK_EQ(mem_ram_new("more", fd, RAM, RAM, false, &more, &err), 0);
    mem_add(w.mem, 0x200000, more, 0);
    pthread_mutex_unlock(&w.lock);
    wr(&w, BAR0 + TOY_STORE, 0x22334455);
    CHECK_EQ(rd(&w, BAR0 + TOY_STATUS), 0);
    CHECK_EQ(le32_load((uint8_t *)mem_ram_host(more) + 0x10), 0x22334455);
    pthread_mutex_lock(&w.lock);
    mem_del(more);
    mem_region_put(more);
    pthread_mutex_unlock(&w.lock);
    wr(&w, BAR0 + TOY_STORE, 1);
    CHECK_EQ(rd(&w, BAR0 + TOY_STATUS), EFAULT);
    CHECK_EQ(w.failures, 0);
    world_end(&w);
    close(fd);
}

TEST(intx_through_the_loop_follows_the_devices_level)
{
    struct world w;

    begin(&w, false);
    program(&w);
    wr(&w, BAR0 + TOY_LEVEL, 1);
    EVENTUALLY(w.level == 1);
    rd(&w, BAR0 + TOY_SCRATCH);             /* the handler looks: still high, so it comes again */
    EVENTUALLY(w.level == 1);
    wr(&w, BAR0 + TOY_LEVEL, 0);
    rd(&w, BAR0 + TOY_SCRATCH);
    EVENTUALLY(w.level == 0 || (rd(&w, BAR0 + TOY_SCRATCH), 0));
    usleep(20000);
    CHECK_EQ(w.level, 0);
    for (int i = 0; i < 50; i++) {
        wr(&w, BAR0 + TOY_LEVEL, 1);
        EVENTUALLY(w.level == 1);
        wr(&w, BAR0 + TOY_LEVEL, 0);
        EVENTUALLY(w.level == 0 || (rd(&w, BAR0 + TOY_SCRATCH), 0));
    }
    world_end(&w);
}

static bool readable(int fd, int timeout_ms)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    return poll(&p, 1, timeout_ms) > 0;
}

TEST(intx_through_an_irqfd_is_resampled)
{
    struct world w;

    begin(&w, true);
    program(&w);
    CHECK(w.line.used);
    wr(&w, BAR0 + TOY_LEVEL, 1);
    for (int i = 0; i < 3; i++) {           /* as KVM at each end of interrupt */
        CHECK(readable(w.line.fd, 10000));
        CHECK(eventfd_clear(w.line.fd));
        CHECK(!readable(w.line.fd, 10));
        eventfd_signal(w.line.resample);
    }
    CHECK(readable(w.line.fd, 10000));
    CHECK(eventfd_clear(w.line.fd));
    wr(&w, BAR0 + TOY_LEVEL, 0);
    rd(&w, BAR0 + TOY_SCRATCH);
    eventfd_signal(w.line.resample);
    CHECK(!readable(w.line.fd, 50));
    CHECK_EQ(w.level, 0);                   /* the loop had nothing to do with it */
    world_end(&w);
}

static void set_entry(struct world *w, unsigned v, uint64_t addr, uint32_t data, bool masked)
{
    wr(w, BAR4 + 16 * v, addr);
    wr(w, BAR4 + 16 * v + 4, addr >> 32);
    wr(w, BAR4 + 16 * v + 8, data);
    wr(w, BAR4 + 16 * v + 12, masked);
}

TEST(msix_through_the_loop_keeps_masked_vectors_pending)
{
    struct world w;

    begin(&w, false);
    program(&w);
    unsigned cap = find_cap(&w, PCI_CAP_ID_MSIX);
    CHECK_EQ(cfg(&w, cap + PCI_MSIX_FLAGS, 2), 4);
    set_entry(&w, 1, 0xfee01000, 0x41, false);
    set_entry(&w, 2, 0xfee02000, 0x42, true);
    cfg_set(&w, cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
    CHECK_EQ(cfg(&w, cap + PCI_MSIX_FLAGS, 2), PCI_MSIX_FLAGS_ENABLE | 4);

    wr(&w, BAR0 + TOY_PULSE, 1);
    EVENTUALLY(w.msis == 1);
    CHECK_EQ(w.msi_addr, 0xfee01000);
    CHECK_EQ(w.msi_data, 0x41);
    wr(&w, BAR0 + TOY_PULSE, 2);
    uint32_t pba = cfg(&w, cap + PCI_MSIX_PBA, 4) & ~7u;
    EVENTUALLY(rd(&w, BAR4 + pba) == 4);
    CHECK_EQ(w.msis, 1);
    set_entry(&w, 2, 0xfee02000, 0x42, false);
    EVENTUALLY(w.msis == 2);
    CHECK_EQ(w.msi_data, 0x42);
    CHECK_EQ(rd(&w, BAR4 + pba), 0);

    cfg_set(&w, cap + PCI_MSIX_FLAGS, 2, 0);                /* back to INTx */
    wr(&w, BAR0 + TOY_LEVEL, 1);
    EVENTUALLY(w.level == 1);
    world_end(&w);
}

TEST(msix_through_irqfds_is_bound_rerouted_and_unbound)
{
    struct world w;

    begin(&w, true);
    program(&w);
    unsigned cap = find_cap(&w, PCI_CAP_ID_MSIX);
    set_entry(&w, 0, 0xfee01000, 0x40, false);
    set_entry(&w, 3, 0xfee03000, 0x43, false);
    CHECK(!w.msi[0].used);
    cfg_set(&w, cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
    CHECK(w.msi[0].used && w.msi[1].used && !w.msi[2].used);
    CHECK(!w.line.used);
    CHECK_EQ(w.msi[1].addr, 0xfee03000);
    CHECK_EQ(w.msi[1].data, 0x43);
    wr(&w, BAR0 + TOY_PULSE, 3);
    CHECK(readable(w.msi[1].fd, 10000));
    CHECK(eventfd_clear(w.msi[1].fd));
    CHECK(!readable(w.msi[0].fd, 0));

    set_entry(&w, 3, 0xfee04000, 0x53, false);              /* moved to another processor */
    CHECK_EQ(w.msi[1].addr, 0xfee04000);
    CHECK_EQ(w.msi[1].data, 0x53);
    CHECK(w.updates > 0);
    set_entry(&w, 3, 0xfee04000, 0x53, true);
    CHECK(!w.msi[1].used);
    wr(&w, BAR0 + TOY_PULSE, 3);
    uint32_t pba = cfg(&w, cap + PCI_MSIX_PBA, 4) & ~7u;
    EVENTUALLY(rd(&w, BAR4 + pba) == 8);
    cfg_set(&w, cap + PCI_MSIX_FLAGS, 2, 0);
    CHECK(!w.msi[0].used);
    CHECK(w.line.used);
    CHECK_EQ(w.msis, 0);
    world_end(&w);
}

TEST(msi_is_delivered_with_the_vector_in_its_data)
{
    struct world w;

    begin(&w, false);
    program(&w);
    unsigned cap = find_cap(&w, PCI_CAP_ID_MSI);
    cfg_set(&w, cap + PCI_MSI_ADDRESS_LO, 4, 0xfee05000);
    cfg_set(&w, cap + PCI_MSI_ADDRESS_HI, 4, 0);
    cfg_set(&w, cap + PCI_MSI_DATA_64, 2, 0x60);
    cfg_set(&w, cap + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | 2 << 4);     /* four */
    wr(&w, BAR0 + TOY_PULSE, 2);
    EVENTUALLY(w.msis == 1);
    CHECK_EQ(w.msi_addr, 0xfee05000);
    CHECK_EQ(w.msi_data, 0x62);
    wr(&w, BAR0 + TOY_PULSE, 9);                            /* more than granted: the last */
    EVENTUALLY(w.msis == 2);
    CHECK_EQ(w.msi_data, 0x63);
    world_end(&w);
}

TEST(reset_reaches_the_device_and_quiets_it)
{
    struct world w;

    begin(&w, false);
    program(&w);
    wr(&w, BAR0 + TOY_SCRATCH, 5);
    wr(&w, BAR0 + TOY_LEVEL, 1);
    EVENTUALLY(w.level == 1);
    pthread_mutex_lock(&w.lock);
    objects_reset(&w.tree);
    pthread_mutex_unlock(&w.lock);
    CHECK_EQ(w.level, 0);
    CHECK_EQ(cfg(&w, 0x10, 4), 0);
    CHECK_EQ(cfg(&w, PCI_COMMAND, 2), 0);
    CHECK_EQ(rd(&w, BAR0 + TOY_SCRATCH), 0xffffffff);       /* nobody decodes it */
    program(&w);
    CHECK_EQ(rd(&w, BAR0 + TOY_SCRATCH), 0);
    wr(&w, BAR0 + TOY_LEVEL, 1);                            /* and it can be heard again */
    EVENTUALLY(w.level == 1);
    world_end(&w);
}

static void check_dead(struct world *w)
{
    EVENTUALLY(w->failures == 1);
    EVENTUALLY(w->level == 0);
    CHECK_EQ(cfg(w, 0, 4), 0xffffffff);
    CHECK_EQ(cfg(w, 0x10, 4), 0xffffffff);
    CHECK_EQ(rd(w, BAR0 + TOY_SCRATCH), 0);     /* the guest uses INTx: no cause to be seen */
    wr(w, BAR0 + TOY_SCRATCH, 1);
    cfg_set(w, PCI_COMMAND, 2, 7);
    pthread_mutex_lock(&w->lock);
    objects_reset(&w->tree);
    CHECK(!proxy_alive(pci_device_of(w->obj)));
    pthread_mutex_unlock(&w->lock);
    CHECK_EQ(w->failures, 1);
}

TEST(a_killed_device_process_leaves_no_interrupt_cause_and_one_report)
{
    for (int irqfds = 0; irqfds < 2; irqfds++) {
        struct world w;
        begin(&w, irqfds);
        program(&w);
        wr(&w, BAR0 + TOY_LEVEL, 1);
        if (!irqfds)
            EVENTUALLY(w.level == 1);
        kill(w.pid, SIGKILL);
        EVENTUALLY(w.failures == 1);
        check_dead(&w);
        CHECK_HAS(w.reason, "closed");
        CHECK(!w.line.used);
        world_end(&w);
    }
}

static void *read_until_dead(void *opaque)
{
    struct world *w = opaque;
    while (!w->failures)
        rd(w, BAR0 + TOY_SCRATCH);
    return NULL;
}

TEST(a_device_that_dies_in_mid_access_holds_up_nobody)
{
    for (int i = 0; i < 10; i++) {
        struct world w;
        pthread_t cpus[2];

        begin(&w, false);
        program(&w);
        for (int c = 0; c < 2; c++)
            pthread_create(&cpus[c], NULL, read_until_dead, &w);
        usleep(2000 * i);
        kill(w.pid, SIGKILL);
        for (int c = 0; c < 2; c++)
            pthread_join(cpus[c], NULL);
        check_dead(&w);
        world_end(&w);
    }
}

TEST(a_device_that_hangs_is_given_up_after_the_timeout)
{
    struct world w;

    begin(&w, false);
    program(&w);
    uint64_t before = clock_now_ns();
    wr(&w, BAR0 + TOY_HANG, 60000);
    CHECK_EQ(rd(&w, BAR0 + TOY_SCRATCH), 0);
    CHECK(clock_now_ns() - before < 3 * TIMEOUT_MS * 1000000ull);
    check_dead(&w);
    CHECK_HAS(w.reason, "within 3000 ms");
    kill(w.pid, SIGKILL);
    world_end(&w);
}

static void *read_once(void *opaque)
{
    return (void *)(uintptr_t)rd(opaque, BAR0 + TOY_SCRATCH);
}

TEST(a_proxy_can_be_removed_while_a_cpu_waits_for_it)
{
    struct world w;
    pthread_t cpu;
    void *got;

    begin(&w, false);
    program(&w);
    wr(&w, BAR0 + TOY_HANG, 500);
    pthread_create(&cpu, NULL, read_once, &w);
    usleep(50000);
    pthread_mutex_lock(&w.lock);
    object_destroy(TAKE_PTR(w.obj));
    pthread_mutex_unlock(&w.lock);
    pthread_join(cpu, &got);
    CHECK(got == (void *)0 || got == (void *)0xffffffff);
    CHECK_EQ(cfg(&w, 0, 4), 0xffffffff);
    CHECK_EQ(rd(&w, BAR0), 0xffffffff);
    CHECK_EQ(w.failures, 0);                                /* a removal is no failure */
    world_end(&w);
}

static void *read_for_a_while(void *opaque)
{
    struct world *w = opaque;
    while (!w->failures) {
        rd(w, BAR0 + TOY_SCRATCH);
        cfg(w, 0, 4);
    }
    return NULL;
}

TEST(a_proxy_can_be_removed_under_the_feet_of_two_cpus)
{
    for (int i = 0; i < 20; i++) {
        struct world w;
        pthread_t cpus[2];

        begin(&w, false);
        program(&w);
        for (int c = 0; c < 2; c++)
            pthread_create(&cpus[c], NULL, read_for_a_while, &w);
        usleep(1000 + 137 * i);
        pthread_mutex_lock(&w.lock);
        object_destroy(TAKE_PTR(w.obj));
        pthread_mutex_unlock(&w.lock);
        usleep(2000);
        w.failures = 1;
        for (int c = 0; c < 2; c++)
            pthread_join(cpus[c], NULL);
        world_end(&w);
    }
}

/* ---- servers that lie ---- */

struct lies {
    uint64_t bar_size[6];
    uint64_t config_size;
    uint8_t config[256];
    uint32_t device_flags, regions, irqs, msix_count, intx_count;
    unsigned silent_at;             /* number of the message that gets no answer */
    unsigned die_at;
    unsigned fds;                   /* with each answer */
    int fd;
};

static void *lie(void *opaque)
{
    struct lies *l = opaque;
    struct reply r;
    unsigned n = 0;

    while (raw_recv_flags(l->fd, &r, 0) >= 0) {
        uint8_t *b = r.body;
        uint32_t index = le32_load(b + 8);
        size_t len = 0;

        raw_close_fds(&r);
        n++;
        if (n == l->silent_at)
            continue;
        if (n == l->die_at)
            break;
        switch (r.command) {
        case VFU_VERSION: memset(b, 0, 4); len = 4; break;
        case VFU_DEVICE_GET_INFO:
            le32_store(b + 4, l->device_flags);
            le32_store(b + 8, l->regions);
            le32_store(b + 12, l->irqs);
            len = 16;
            break;
        case VFU_DEVICE_GET_REGION_INFO:
            memset(b, 0, 32);
            le32_store(b, 32);
            le32_store(b + 4, 3);
            le32_store(b + 8, index);
            le64_store(b + 16, index < 6 ? l->bar_size[index]
                               : index == VFU_CONFIG ? l->config_size : 0);
            len = 32;
            break;
        case VFU_DEVICE_GET_IRQ_INFO:
            le32_store(b + 12, index == VFU_MSIX ? l->msix_count : index ? 0 : l->intx_count);
            len = 16;
            break;
        case VFU_REGION_READ:
            len = 16 + le32_load(b + 12);
            memcpy(b + 16, l->config, len - 16);
            break;
        case VFU_REGION_WRITE: len = 16; break;
        default: break;
        }
        struct raw m;
        int fds[16] = { 0 };
        raw_make(&m, r.command, VFU_TYPE_REPLY, b, len);
        le16_store(m.bytes, r.id);
        if (!(r.flags & VFU_NO_REPLY))
            raw_write_fds(l->fd, m.bytes, m.len, fds, l->fds);
    }
    close(l->fd);
    return NULL;
}

static struct lies honest(void)
{
    struct lies l = { .bar_size = { 4096, 0, 0x10000 }, .config_size = 256, .device_flags = 3,
                      .regions = 9, .irqs = 5, .msix_count = 4, .intx_count = 1 };
    le32_store(l.config, 0x00011af4);
    l.config[PCI_INTERRUPT_PIN] = 1;
    l.config[PCI_STATUS] = PCI_STATUS_CAP_LIST;
    l.config[PCI_CAPABILITY_LIST] = 0x40;
    l.config[0x40] = PCI_CAP_ID_MSIX;
    le16_store(l.config + 0x42, 3);
    le32_store(l.config + 0x44, 0x1000 | 2);
    le32_store(l.config + 0x48, 0x2000 | 2);
    return l;
}

/* What comes of a proxy for this server: NULL means it must work. */
static void try_server(struct lies l, const char *why)
{
    struct world w;
    struct error err;
    int sv[2];

    world_begin(&w, false);
    raw_pair(sv);
    l.fd = sv[1];
    w.lied_to = pthread_create(&w.liar, NULL, lie, &l) == 0;
    int r = add_proxy(&w, json_pack("{s:i, s:i}", "channel-fd", sv[0], "timeout",
                                  l.silent_at ? 1000 : 20000), &err);
    if (why) {
        CHECK(r < 0);
        if (!strstr(err.text, why))
            fail_msg("'%s' should say '%s'", err.text, why);
    } else if (r < 0) {
        fail_msg("%s", err.text);
    }
    world_end(&w);
}

TEST(a_stranger_that_is_honest_works)
{
    try_server(honest(), NULL);
}

TEST(a_stranger_that_sends_descriptors_along_works_and_leaks_none)
{
    struct lies l = honest();
    l.fds = 9;
    try_server(l, NULL);
}

TEST(servers_that_lie_about_their_regions_are_refused_in_words)
{
    static const uint64_t sizes[] = { 3, 8, 4097, 0x300000, 1ull << 32, 1ull << 63, UINT64_MAX };
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct lies l = honest();
        l.bar_size[0] = sizes[i];
        try_server(l, "BAR 0 has the size");
    }
    struct lies l = honest();
    l.config[0x18] = 4;                             /* 64 bits wide, and yet something behind it */
    l.bar_size[3] = 4096;
    try_server(l, "BAR 3 is taken");
    l = honest();
    l.config_size = 63;
    try_server(l, "configuration space");
    l = honest();
    l.config_size = 0;
    try_server(l, "configuration space");
    l = honest();
    l.regions = 7;
    try_server(l, "no PCI device");
    l = honest();
    l.device_flags = 1;
    try_server(l, "no PCI device");
    l = honest();
    l.config[PCI_HEADER_TYPE] = 1;
    try_server(l, "header type 1");
    l = honest();
    l.config[PCI_INTERRUPT_PIN] = 5;
    try_server(l, "pin 5");
}

TEST(servers_that_lie_about_their_vectors_are_refused_in_words)
{
    struct lies l = honest();
    l.msix_count = 3;
    try_server(l, "4 vectors and it signals 3");
    l = honest();
    le32_store(l.config + 0x44, 0x1000 | 1);        /* a BAR that is not there */
    try_server(l, "does not fit");
    l = honest();
    le32_store(l.config + 0x44, 0xfff8 | 2);
    try_server(l, "does not fit");
    l = honest();
    le32_store(l.config + 0x48, 0x1010 | 2);        /* pending bits inside the table */
    try_server(l, "does not fit");
    l = honest();
    l.config[PCI_CAPABILITY_LIST] = 0xfc;           /* a capability that is cut off */
    l.config[0xfc] = PCI_CAP_ID_MSI;
    try_server(l, "does not fit");
    l = honest();
    l.config[0x40] = 0x09;                          /* a chain in a circle is no capability */
    l.config[0x41] = 0x40;
    try_server(l, NULL);
}

TEST(servers_that_fall_silent_or_die_at_any_moment_of_the_start_are_refused_in_time)
{
    for (unsigned n = 1; n <= 15; n++) {
        struct lies l = honest();
        l.die_at = n;
        try_server(l, "failed");
        if (n % 4 == 1) {
            l.die_at = 0;
            l.silent_at = n;
            try_server(l, n == 1 ? "within 1000 ms" : "failed");
        }
    }
}

TEST_MAIN
