/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server that lies to the proxy, from the first question to the last. The input: 256 bytes of
 * configuration space, a byte of size for each BAR, two counts of interrupts, all as differences
 * from what is right; then a byte for each answer that says how it is spoilt.
 */
#include "base/fd.h"
#include "base/log.h"
#include "remote/proxy.h"
#include "vfio_user/tests/raw.h"

#include <errno.h>
#include <pthread.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD = 256 + 6 + 2, RAM = 1 << 16, MEM_AT = 0x40000000, IO_AT = 0x1000 };

struct server { int fd; uint8_t head[HEAD]; const uint8_t *more; size_t left; int sample; };

/* A device with MSI and MSI-X, and a BAR of each kind. */
static void make_head(uint8_t *h, const uint8_t *difference)
{
    memset(h, 0, HEAD);
    le32_store(h + PCI_VENDOR_ID, 0x00011af4);
    h[PCI_INTERRUPT_PIN] = 1;
    h[PCI_STATUS] = PCI_STATUS_CAP_LIST;
    h[PCI_CAPABILITY_LIST] = 0x40;
    h[PCI_BASE_ADDRESS_0 + 4] = PCI_BASE_ADDRESS_SPACE_IO;
    h[PCI_BASE_ADDRESS_0 + 16] = PCI_BASE_ADDRESS_MEM_TYPE_64;
    h[0x40] = PCI_CAP_ID_MSIX;
    h[0x41] = 0x60;
    h[0x42] = 3;
    le32_store(h + 0x44, 0x1000 | 2);
    le32_store(h + 0x48, 0x2000 | 2);
    h[0x60] = PCI_CAP_ID_MSI;
    le16_store(h + 0x62, PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT | 2 << 1);
    memcpy(h + 256, (uint8_t[]){ 12, 8, 16, 200, 14, 200, 1, 1 }, 8);
    for (unsigned i = 0; i < HEAD; i++)
        h[i] ^= difference[i];
}

static uint64_t bar_size(uint8_t code)
{
    return code < 64 ? 1ull << code : code < 128 ? 0 : (uint64_t)code << 20 | 3;
}

static size_t honest(const struct server *s, struct reply *r)
{
    uint8_t *b = r->body;
    uint32_t index = le32_load(b + 8), n;

    switch (r->command) {
    case VFU_VERSION:
        memset(b, 0, 4);
        return 4;
    case VFU_DEVICE_GET_INFO:
        le32_store(b + 4, 3);
        le32_store(b + 8, 9);
        le32_store(b + 12, 5);
        return 16;
    case VFU_DEVICE_GET_REGION_INFO:
        memset(b, 0, 32);
        le32_store(b, 32);
        le32_store(b + 4, 3);
        le32_store(b + 8, index);
        le64_store(b + 16, index < 6 ? bar_size(s->head[256 + index])
                           : index == VFU_CONFIG ? 256 : 0);
        return 32;
    case VFU_DEVICE_GET_IRQ_INFO:
        le32_store(b + 12, index == VFU_MSIX ? s->head[262] * 8u : s->head[263]);
        return 16;
    case VFU_REGION_READ:
        n = MIN(le32_load(b + 12), 256u);
        memcpy(b + 16, s->head, n);
        return 16 + n;
    case VFU_REGION_WRITE:
        return 16;
    default:
        return 0;
    }
}

static uint8_t next(struct server *s)
{
    if (!s->left)
        return 0;
    s->left--;
    return *s->more++;
}

static void *serve(void *opaque)
{
    struct server *s = opaque;
    struct reply r;
    int fds[16];

    for (int i = 0; i < 16; i++)
        fds[i] = s->sample;
    while (raw_recv_flags(s->fd, &r, 0) >= 0) {
        raw_close_fds(&r);
        if (r.flags & VFU_NO_REPLY)
            continue;
        size_t len = honest(s, &r);
        unsigned how = next(s), nfds = 0;
        struct raw m;

        if (how == 0xff)
            break;
        if (how >= 0xf0)
            nfds = how & 0xf;
        else if (how >= 0xe0)
            r.body[how & 0xf] ^= next(s);
        else if (how >= 0xd8) {
            len = next(s);
            for (size_t i = 0; i < len; i++)
                r.body[i] = next(s);
        }
        raw_make(&m, r.command, VFU_TYPE_REPLY, r.body, len);
        le16_store(m.bytes, r.id);
        if (how == 0xd0)
            m.bytes[next(s) & 0xf] ^= next(s);
        struct iovec part = { m.bytes, m.len };
        char control[CMSG_SPACE(16 * sizeof(int))] = { 0 };
        struct msghdr mh = { .msg_iov = &part, .msg_iovlen = 1 };
        if (nfds) {
            mh.msg_control = control;
            mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
            struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
            c->cmsg_level = SOL_SOCKET;
            c->cmsg_type = SCM_RIGHTS;
            c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
            memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
        }
        if (sendmsg(s->fd, &mh, MSG_NOSIGNAL) < 0)
            break;
    }
    close(s->fd);
    return NULL;
}

static void on_intx(void *opaque, struct pci_device *pdev, unsigned pin, bool level) {}
static void on_msi(void *opaque, struct pci_device *pdev, unsigned vector, uint64_t addr,
                   uint32_t data) {}
static const struct pci_bus_ops bus_ops = { .intx = on_intx, .msi = on_msi };
static const struct object_class *const classes[] = { &pci_device_base, &proxy_class.base, NULL };

/* What a guest may do with it. */
static void use(struct pci_bus *bus, struct address_space *mem, struct address_space *io)
{
    uint8_t buf[8] = { 1, 2, 3, 4 };

    for (unsigned i = 0; i < 6; i++) {
        pci_config_access_write(bus, 0, 0, 0x10 + 4 * i, 4, 0xffffffff);
        uint32_t as_read = pci_config_access_read(bus, 0, 0, 0x10 + 4 * i, 4);
        pci_config_access_write(bus, 0, 0, 0x10 + 4 * i, 4,
                                as_read & 1 ? IO_AT * (i + 1) : MEM_AT + (i << 24));
    }
    pci_config_access_write(bus, 0, 0, PCI_COMMAND, 2, 7);
    for (unsigned i = 0; i < 6; i++)
        for (unsigned off = 0; off < 0x40; off += 12) {
            address_space_write(mem, MEM_AT + (i << 24) + off, buf, 8);
            address_space_read(mem, MEM_AT + (i << 24) + off, buf, 4);
            address_space_read(io, IO_AT * (i + 1) + off, buf, 4);
        }
    for (unsigned off = 0x40; off < 256; off += 4)
        pci_config_access_write(bus, 0, 0, off, 4, 0xffff0000 | off);
    for (unsigned off = 0; off < 256; off += 4)
        pci_config_access_read(bus, 0, 0, off, 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct loop *loop;
    static int sample = -1;
    static struct mem_region *ram, *mem, *io;
    static struct address_space *mem_as, *io_as;
    struct obj_tree tree;
    struct pci_bus *bus;
    struct object *obj;
    pthread_t thread;
    int sv[2];

    if (size < HEAD)
        return 0;
    if (!loop) {
        log_init("fuzz", LOG_ERROR - 1);
        sample = memfd_new("fuzz", RAM, 0);
        mem = mem_container_new("mem", UINT64_MAX);
        io = mem_container_new("io", 0x10000);
        if (loop_new(&loop, NULL) < 0 || mem_ram_new("ram", sample, 0, RAM, false, &ram, NULL) < 0 ||
            address_space_new("mem", mem, &mem_as) < 0 || address_space_new("io", io, &io_as) < 0)
            abort();
        mem_add(mem, 0, ram, 0);
    }
    int first = dup(0);
    close(first);
    raw_pair(sv);
    struct server server = { .fd = sv[1], .more = data + HEAD, .left = size - HEAD,
                             .sample = sample };
    make_head(server.head, data);
    if (pthread_create(&thread, NULL, serve, &server) != 0)
        abort();

    struct pci_bus_config config = { "pci.0", &bus_ops, NULL, mem, io, mem_as, false };
    obj_tree_init(&tree, loop, classes);
    if (pci_bus_new(&tree, &config, &bus, NULL) < 0)
        abort();
    json_t *d = json_pack("{s:s, s:s, s:i, s:i}", "driver", "pci-proxy-dev", "id", "p",
                          "channel-fd", sv[0], "timeout", 2000);
    struct error err;
    int r = object_create(&tree, d, &obj, &err);
    close(sv[0]);
    json_decref(d);
    if (r == 0) {
        use(bus, mem_as, io_as);
        objects_reset(&tree);
        loop_turn(loop, 0);
        use(bus, mem_as, io_as);
    }
    obj_tree_fini(&tree);
    pci_bus_free(bus);
    pthread_join(thread, NULL);
    while (loop_turn(loop, 0) > 0)
        ;
    int last = dup(0);
    close(last);
    if (last > first)
        abort();                            /* a descriptor leaked */
    return 0;
}
