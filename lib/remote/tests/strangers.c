/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stock clients send, message by message and with their own checks of the answers, against an
 * endpoint: QEMU 10.2 and 11.1 (vfio-user-pci), cloud-hypervisor, SPDK. Written from observations of
 * their traffic.
 */
#include "base/test.h"

#include "base/fd.h"
#include "remote/endpoint.h"
#include "toy.h"
#include "vfio_user/tests/raw.h"

#include <errno.h>
#include <sys/mman.h>

static const struct object_class *const classes[] = { &pci_device_base, &toy_class.base, NULL };

struct stage {
    struct loop *loop;
    struct obj_tree tree;
    struct endpoint *ep;
    struct object *obj;
    int fd;                     /* the client's */
    unsigned gone, fds_before;
    char reason[512];
};

static void gone(void *opaque, const char *reason)
{
    struct stage *s = opaque;
    s->gone++;
    snprintf(s->reason, sizeof s->reason, "%s", reason ? reason : "");
}

static void begin(struct stage *s)
{
    struct error err;
    int sv[2];

    memset(s, 0, sizeof *s);
    s->fds_before = count_fds();
    CHECK_EQ(loop_new(&s->loop, &err), 0);
    CHECK_EQ(obj_tree_init(&s->tree, s->loop, classes), 0);
    struct endpoint_config config = { .tree = &s->tree, .bus_name = "b", .client_gone = gone,
                                      .opaque = s };
    CHECK_EQ(endpoint_new(&config, &s->ep, &err), 0);
    raw_pair(sv);
    CHECK_EQ(endpoint_attach(s->ep, sv[0], &err), -ENODEV);     /* no device yet */
    close(sv[1]);
    json_t *d = json_pack("{s:s, s:s, s:s}", "driver", "toy", "id", "t0", "bus", "b");
    CHECK_EQ(object_create(&s->tree, d, &s->obj, &err), 0);
    json_decref(d);
    raw_pair(sv);
    CHECK_EQ(endpoint_attach(s->ep, sv[0], &err), 0);
    s->fd = sv[1];
    raw_pair(sv);
    CHECK_EQ(endpoint_attach(s->ep, sv[0], &err), -EBUSY);      /* one client at a time */
    close(sv[1]);
}

static void turn(struct stage *s)
{
    while (loop_turn(s->loop, 0) > 0)
        ;
}

static void end(struct stage *s)
{
    close(s->fd);
    turn(s);
    CHECK_EQ(s->gone, 1);
    CHECK_STR(s->reason, "");
    CHECK(!endpoint_has_client(s->ep));
    obj_tree_fini(&s->tree);
    endpoint_free(s->ep);
    loop_free(s->loop);
    CHECK_EQ(count_fds(), s->fds_before);
}

/* Sends, and takes an answer that must be good and have exactly len bytes. */
static void say_fds(struct stage *s, unsigned command, const void *body, size_t body_len,
                    const int *fds, unsigned nfds, int len, struct reply *r)
{
    raw_send(s->fd, command, 0, body, body_len, fds, nfds);
    turn(s);
    CHECK_EQ(raw_recv(s->fd, r), len);
    CHECK_EQ(r->flags, VFU_TYPE_REPLY);
    CHECK_EQ(r->error, 0);
    CHECK_EQ(r->command, command);
    CHECK_EQ(r->nfds, 0);
}
static void say(struct stage *s, unsigned command, const void *body, size_t body_len, int len,
                struct reply *r)
{
    say_fds(s, command, body, body_len, NULL, 0, len, r);
}

static uint32_t read_config(struct stage *s, unsigned off, unsigned len)
{
    struct vfu_wire_access w = { le64_of(off), le32_of(VFU_CONFIG), le32_of(len) };
    struct reply r;
    say(s, VFU_REGION_READ, &w, sizeof w, 16 + len, &r);
    return le_load(r.body + 16, MIN(len, 4u));
}

static void write_region(struct stage *s, unsigned region, unsigned off, unsigned len,
                         uint32_t val, bool posted)
{
    struct { struct vfu_wire_access w; uint8_t data[4]; } m = {
        { le64_of(off), le32_of(region), le32_of(len) } };
    struct reply r;

    le32_store(m.data, val);
    if (posted) {
        raw_send(s->fd, VFU_REGION_WRITE, VFU_NO_REPLY, &m, 16 + len, NULL, 0);
        turn(s);
    } else {
        say(s, VFU_REGION_WRITE, &m, 16 + len, 16, &r);
    }
}

static void set_irqs(struct stage *s, uint32_t flags, uint32_t index, uint32_t start,
                     uint32_t count, const int *fds, unsigned nfds)
{
    struct vfu_wire_irq_set w = { le32_of(20), le32_of(flags), le32_of(index), le32_of(start),
                                  le32_of(count) };
    struct reply r;
    say_fds(s, VFU_DEVICE_SET_IRQS, &w, sizeof w, fds, nfds, 0, &r);
}

static void dma(struct stage *s, bool map, uint64_t addr, uint64_t size, uint64_t off,
                uint32_t flags, int fd)
{
    struct vfu_wire_dma_map m = { le32_of(32), le32_of(flags), le64_of(off), le64_of(addr),
                                  le64_of(size) };
    struct vfu_wire_dma_unmap u = { le32_of(24), le32_of(0), le64_of(addr), le64_of(size) };
    struct reply r;

    if (map)
        say_fds(s, VFU_DMA_MAP, &m, sizeof m, &fd, fd >= 0, 0, &r);
    else
        say(s, VFU_DMA_UNMAP, &u, sizeof u, 24, &r);
}

static uint32_t irq_count(struct stage *s, uint32_t index)
{
    struct vfu_wire_irq_info w = { le32_of(16), le32_of(0), le32_of(index), le32_of(0) };
    struct reply r;
    say(s, VFU_DEVICE_GET_IRQ_INFO, &w, sizeof w, 16, &r);
    return le32_load(r.body + 12);
}

TEST(qemu_realizes_resets_uses_and_unplugs_the_device)
{
    static const char hello[] = "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":"
        "1048576,\"pgsizes\":4096,\"max_dma_maps\":65535,\"write_multiple\":true,\"migration\":"
        "{\"pgsize\":4096,\"max_bitmap_size\":268435456}}}";
    struct stage s;
    struct reply r;
    uint8_t version[256] = { 0 };
    int vectors[5];

    begin(&s);
    int ram = memfd_new("ram", 1 << 20, 0), intx = eventfd_new(), resample = eventfd_new();
    memcpy(version + 4, hello, sizeof hello);
    raw_send(s.fd, VFU_VERSION, 0, version, 4 + sizeof hello, NULL, 0);
    turn(&s);
    int n = raw_recv(s.fd, &r);
    CHECK(n > 4 && 16 + n <= 214 && r.nfds == 0);
    CHECK_EQ(le32_load(r.body), 0);                         /* 0.0 */
    CHECK_EQ(r.body[n - 1], 0);

    /* Memory with its holes for firmware, then split again: RAM, ROM without a descriptor. */
    dma(&s, true, 0, 0xa0000, 0, 3, ram);
    dma(&s, true, 0xc0000, 0x20000, 0, 1, -1);
    dma(&s, true, 0xe0000, 0x20000, 0xe0000, 1, ram);
    dma(&s, true, 0xfffc0000, 0x40000, 0, 1, -1);
    dma(&s, false, 0xe0000, 0x20000, 0, 0, -1);
    dma(&s, true, 0xe0000, 0x10000, 0xe0000, 1, ram);
    dma(&s, true, 0xf0000, 0x10000, 0xf0000, 3, ram);
    dma(&s, true, 0xfebd0000, 0x1000, 0, 3, -1);            /* some other device's BAR */

    struct vfu_wire_device_info info = { le32_of(16) };
    say(&s, VFU_DEVICE_GET_INFO, &info, sizeof info, 16, &r);
    CHECK(le32_load(r.body + 4) & VFU_DEVICE_PCI);
    CHECK(le32_load(r.body + 8) >= 8 && le32_load(r.body + 8) <= 100);
    CHECK(le32_load(r.body + 12) >= 3 && le32_load(r.body + 12) <= 50);
    static const unsigned regions[] = { 0, 1, 2, 3, 4, 5, 7 };
    static const uint64_t sizes[] = { 0x1000, 0x20, 0x100000, 0, 0x2000, 0, 256 };
    for (unsigned i = 0; i < ARRAY_SIZE(regions); i++) {
        struct vfu_wire_region_info q = { .argsz = le32_of(32), .index = le32_of(regions[i]) };
        say(&s, VFU_DEVICE_GET_REGION_INFO, &q, sizeof q, 32, &r);
        CHECK_EQ(le32_load(r.body), 32);
        CHECK_EQ(le64_load(r.body + 16), sizes[i]);
    }
    irq_count(&s, VFU_ERR);
    struct vfu_wire_access whole = { le64_of(0), le32_of(VFU_CONFIG), le32_of(256) };
    say(&s, VFU_REGION_READ, &whole, sizeof whole, 16 + 256, &r);
    CHECK_EQ(le32_load(r.body + 16), 0x56781234);

    write_region(&s, VFU_CONFIG, 0x30, 4, 0xfffff800, false);
    CHECK_EQ(read_config(&s, 0x30, 4), 0);                  /* no ROM */
    write_region(&s, VFU_CONFIG, 0x30, 4, 0, false);
    CHECK_EQ(read_config(&s, 0x14, 4) & 1, 1);
    CHECK_EQ(read_config(&s, 0x18, 4) & 0xf, 0xc);
    CHECK_EQ(irq_count(&s, VFU_MSIX), 5);
    CHECK_EQ(read_config(&s, 0x3d, 1), 1);
    set_irqs(&s, 0x24, VFU_INTX, 0, 1, &intx, 1);
    set_irqs(&s, 0x09, VFU_INTX, 0, 1, NULL, 0);
    set_irqs(&s, 0x14, VFU_INTX, 0, 1, &resample, 1);
    set_irqs(&s, 0x11, VFU_INTX, 0, 1, NULL, 0);

    /* Machine reset. */
    set_irqs(&s, 0x09, VFU_INTX, 0, 1, NULL, 0);
    set_irqs(&s, 0x11, VFU_INTX, 0, 1, NULL, 0);
    set_irqs(&s, 0x21, VFU_INTX, 0, 0, NULL, 0);
    say(&s, VFU_DEVICE_RESET, NULL, 0, 0, &r);
    set_irqs(&s, 0x24, VFU_INTX, 0, 1, &intx, 1);
    set_irqs(&s, 0x09, VFU_INTX, 0, 1, NULL, 0);
    set_irqs(&s, 0x14, VFU_INTX, 0, 1, &resample, 1);
    set_irqs(&s, 0x11, VFU_INTX, 0, 1, NULL, 0);
    for (unsigned i = 0; i < 6; i++)
        write_region(&s, VFU_CONFIG, 0x10 + 4 * i, 4, 0, false);

    /* The guest's driver: bus master, a posted write, INTx with KVM's resampling. */
    write_region(&s, VFU_CONFIG, PCI_COMMAND, 2, 7, false);
    write_region(&s, 0, TOY_ADDR, 4, 0xf0010, true);
    write_region(&s, 0, TOY_STORE, 4, 0x5eed, true);
    uint8_t back[4];
    CHECK_EQ(pread(ram, back, 4, 0xf0010), 4);
    CHECK_EQ(le32_load(back), 0x5eed);
    write_region(&s, 0, TOY_LEVEL, 4, 1, true);
    for (int i = 0; i < 3; i++) {
        CHECK(eventfd_clear(intx));
        turn(&s);
        CHECK(!eventfd_clear(intx));                        /* masked until resampled */
        eventfd_signal(resample);
        turn(&s);
    }
    CHECK(eventfd_clear(intx));
    set_irqs(&s, 0x11, VFU_INTX, 0, 1, NULL, 0);            /* unmasked by message just so */
    CHECK(eventfd_clear(intx));
    write_region(&s, 0, TOY_LEVEL, 4, 0, true);
    eventfd_signal(resample);
    turn(&s);
    CHECK(!eventfd_clear(intx));

    /* MSI-X: enabled with nothing wired, vectors one by one and in a block. */
    unsigned cap = read_config(&s, PCI_CAPABILITY_LIST, 1);
    while (read_config(&s, cap, 1) != PCI_CAP_ID_MSIX)
        cap = read_config(&s, cap + 1, 1);
    write_region(&s, VFU_CONFIG, cap + 2, 2, PCI_MSIX_FLAGS_ENABLE, false);
    set_irqs(&s, 0x21, VFU_INTX, 0, 0, NULL, 0);
    set_irqs(&s, 0x24, VFU_MSIX, 0, 1, NULL, 0);
    write_region(&s, 0, TOY_PULSE, 4, 3, true);             /* before it is wired: pending */
    for (int i = 0; i < 5; i++)
        vectors[i] = eventfd_new();
    set_irqs(&s, 0x24, VFU_MSIX, 0, 1, vectors, 1);
    set_irqs(&s, 0x24, VFU_MSIX, 1, 4, vectors + 1, 4);
    CHECK(eventfd_clear(vectors[3]));
    write_region(&s, 0, TOY_PULSE, 4, 4, true);
    CHECK(eventfd_clear(vectors[4]));
    set_irqs(&s, 0x24, VFU_MSIX, 4, 1, NULL, 0);
    write_region(&s, 0, TOY_PULSE, 4, 4, true);
    CHECK(!eventfd_clear(vectors[4]));
    set_irqs(&s, 0x21, VFU_MSIX, 0, 0, NULL, 0);
    write_region(&s, 0, TOY_PULSE, 4, 0, true);
    CHECK(!eventfd_clear(vectors[0]));

    /* Unplug. */
    set_irqs(&s, 0x24, VFU_INTX, 0, 1, NULL, 0);
    set_irqs(&s, 0x21, VFU_INTX, 0, 0, NULL, 0);
    dma(&s, false, 0, 0xa0000, 0, 0, -1);
    dma(&s, false, 0xc0000, 0x20000, 0, 0, -1);
    close(ram);
    close(intx);
    close(resample);
    for (int i = 0; i < 5; i++)
        close(vectors[i]);
    end(&s);
}

TEST(cloud_hypervisor_gets_an_answer_of_the_expected_length_to_everything)
{
    static const char hello[] = "{\"capabilities\":{\"max_msg_fds\":1,\"max_data_xfer_size\":"
        "1048576,\"migration\":{\"pgsize\":4096}}}";
    struct stage s;
    struct reply r;
    uint8_t version[256] = { 0, 0, 1, 0 };
    int vectors[5];

    begin(&s);
    int ram = memfd_create("unsealed", MFD_CLOEXEC);
    CHECK_EQ(ftruncate(ram, 1 << 20), 0);
    memcpy(version + 4, hello, sizeof hello);
    raw_send(s.fd, VFU_VERSION, 0, version, 4 + sizeof hello, NULL, 0);
    turn(&s);
    CHECK(raw_recv(s.fd, &r) > 4);
    CHECK_HAS((char *)r.body + 4, "\"capabilities\"");

    struct vfu_wire_device_info info = { le32_of(32) };     /* argsz larger than what it sends */
    say(&s, VFU_DEVICE_GET_INFO, &info, sizeof info, 16, &r);
    unsigned regions = le32_load(r.body + 8);
    for (unsigned i = 0; i < regions; i++) {                /* it asks for all */
        struct vfu_wire_region_info q = { .argsz = le32_of(32), .index = le32_of(i) };
        say(&s, VFU_DEVICE_GET_REGION_INFO, &q, sizeof q, 32, &r);
    }
    for (unsigned i = 0; i < 5; i++)
        irq_count(&s, i);
    dma(&s, true, 0, 1 << 20, 0, 3, ram);
    for (int i = 0; i < 5; i++)
        vectors[i] = eventfd_new();
    set_irqs(&s, 0x24, VFU_MSIX, 0, 5, vectors, 5);         /* more than it says it takes itself */
    write_region(&s, VFU_CONFIG, PCI_COMMAND, 2, 6, false);
    write_region(&s, 0, TOY_ADDR, 4, 0x100, false);
    write_region(&s, 0, TOY_STORE, 4, 77, false);
    uint8_t back[4];
    CHECK_EQ(pread(ram, back, 4, 0x100), 4);
    CHECK_EQ(le32_load(back), 77);

    /* The file shrinks under us: the device is harmed, not its process. */
    CHECK_EQ(ftruncate(ram, 0), 0);
    write_region(&s, 0, TOY_STORE, 4, 78, false);
    write_region(&s, 0, TOY_LOAD, 4, 0, false);
    dma(&s, false, 0, 1 << 20, 0, 0, -1);
    close(ram);
    for (int i = 0; i < 5; i++)
        close(vectors[i]);
    end(&s);
}

TEST(spdk_needs_neither_json_nor_exact_lengths)
{
    struct stage s;
    struct reply r;
    uint8_t longer[256] = { 0 };

    begin(&s);
    raw_send_id(s.fd, 0, VFU_VERSION, 0, "\0\0\0\0", 4);
    turn(&s);
    CHECK(raw_recv(s.fd, &r) > 4);
    CHECK_EQ(r.id, 0);
    le32_store(longer, sizeof longer);
    le32_store(longer + 8, VFU_CONFIG);
    say(&s, VFU_DEVICE_GET_REGION_INFO, longer, sizeof longer, 32, &r);
    CHECK_EQ(le64_load(r.body + 16), 256);
    end(&s);
}

TEST(unmap_waits_for_a_transfer_in_progress)
{
    struct stage s;
    struct reply r;
    struct dma_mapping held;
    size_t len = 4096;
    struct vfu_wire_dma_unmap u = { le32_of(24), le32_of(0), le64_of(0x1000), le64_of(0x4000) };

    begin(&s);
    int ram = memfd_new("ram", 1 << 20, 0);
    raw_send(s.fd, VFU_VERSION, 0, "\0\0\0\0", 4, NULL, 0);
    turn(&s);
    CHECK(raw_recv(s.fd, &r) > 4);
    write_region(&s, VFU_CONFIG, PCI_COMMAND, 2, 6, false);
    for (int leaves = 0; leaves < 2; leaves++) {
        dma(&s, true, 0x1000, 0x4000, 0, 3, ram);
        uint8_t *p = pci_dma_map(endpoint_device(s.ep), 0x2000, &len, true, &held);
        CHECK(p != NULL);
        raw_send(s.fd, VFU_DMA_UNMAP, 0, &u, sizeof u, NULL, 0);
        for (int i = 0; i < 5; i++)
            loop_turn(s.loop, 1);
        CHECK_EQ(raw_recv(s.fd, &r), -1);
        CHECK_EQ(pci_dma_write(endpoint_device(s.ep), 0x2000, "x", 1), -EFAULT);   /* nothing new */
        p[0] = 0x5a;
        if (leaves)
            break;
        dma_unmap(&held);
        for (int i = 0; i < 1000 && raw_recv(s.fd, &r) < 0; i++)
            loop_turn(s.loop, 1);
        CHECK_EQ(r.command, VFU_DMA_UNMAP);
        CHECK_EQ(r.error, 0);
    }
    close(s.fd);                            /* a client that does not wait for it */
    turn(&s);
    CHECK_EQ(s.gone, 1);
    dma_unmap(&held);
    for (int i = 0; i < 5; i++)
        loop_turn(s.loop, 1);
    obj_tree_fini(&s.tree);
    endpoint_free(s.ep);
    loop_free(s.loop);
    close(ram);
    CHECK_EQ(count_fds(), s.fds_before);
}

TEST(memory_with_bad_descriptors_is_refused)
{
    struct stage s;
    struct reply r;
    static const struct { uint64_t addr, size, off; bool event; } bad[] = {
        { 0, 8192, 0, false },              /* larger than the file */
        { 0, 4096, 4096, false },           /* behind its end */
        { 0, 2048, 2048, false },           /* in the middle of a page */
        { 0, 4096, 0, true },               /* nothing that can be mapped */
        { 0, 1ull << 62, 0, false },
    };

    begin(&s);
    int small = memfd_new("small", 4096, 0), ev = eventfd_new();
    raw_send(s.fd, VFU_VERSION, 0, "\0\0\0\0", 4, NULL, 0);
    turn(&s);
    CHECK(raw_recv(s.fd, &r) > 4);
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        struct vfu_wire_dma_map m = { le32_of(32), le32_of(3), le64_of(bad[i].off),
                                      le64_of(bad[i].addr), le64_of(bad[i].size) };
        raw_send(s.fd, VFU_DMA_MAP, 0, &m, sizeof m, bad[i].event ? &ev : &small, 1);
        turn(&s);
        CHECK_EQ(raw_recv(s.fd, &r), 0);
        CHECK_NE(r.error, 0);
    }
    dma(&s, true, 0x1000, 4096, 0, 3, small);               /* it still works */
    close(small);
    close(ev);
    end(&s);
}

TEST_MAIN
