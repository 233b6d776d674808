/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "base/fd.h"
#include "obj/keyval.h"
#include "pci/pci.h"

#include <errno.h>
#include <string.h>

struct toy { uint32_t reg; };

static uint64_t toy_read(struct pci_device *pdev, unsigned bar, uint64_t off, unsigned len)
{
    struct toy *t = pci_device_self(pdev);
    return off == 0 ? t->reg : UINT64_MAX;
}
static void toy_write(struct pci_device *pdev, unsigned bar, uint64_t off, unsigned len,
                      uint64_t val)
{
    struct toy *t = pci_device_self(pdev);
    t->reg = val;
}
static void toy_reset(struct pci_device *pdev) { *(struct toy *)pci_device_self(pdev) = (struct toy){ 0 }; }

static const struct pci_device_class toy_class = {
    .base = { .name = "toy", .parent = &pci_device_base, .size = sizeof(struct toy),
              .state = (const struct state_field[]){ STATE_U32(struct toy, reg), STATE_END } },
    .pci = { .vendor = 0x1234, .device = 0x5678, .class = 0xff0000, .intx_pin = 1,
             .msi_vectors = 4, .msix_vectors = 3 },
    .bars = { [0] = { .size = 0x100, .access = ACCESS_32 },
              [1] = { .size = 0x20, .flags = PCI_BAR_IO },
              [2] = { .size = 0x1000, .flags = PCI_BAR_64 | PCI_BAR_PREFETCH } },
    .ops = &(const struct pci_device_ops){ .bar_read = toy_read, .bar_write = toy_write,
                                           .reset = toy_reset },
};
static const struct object_class *const classes[] = { &pci_device_base, &toy_class.base, NULL };

struct world {
    struct obj_tree tree;
    struct mem_region *mem, *io;
    struct address_space *mem_as, *io_as;
    struct pci_bus *bus;
    struct pci_device *dev;
    int level, msis;
    uint64_t msi_addr;
    uint32_t msi_data;
};

static void on_intx(void *opaque, struct pci_device *pdev, unsigned pin, bool level)
{
    ((struct world *)opaque)->level = level;
}
static void on_msi(void *opaque, struct pci_device *pdev, unsigned vector, uint64_t addr,
                   uint32_t data)
{
    struct world *w = opaque;
    w->msis++;
    w->msi_addr = addr;
    w->msi_data = data;
}
static const struct pci_bus_ops bus_ops = { .intx = on_intx, .msi = on_msi };

static int add(struct world *w, const char *text, struct pci_device **ret, struct error *err)
{
    json_t *d;
    struct object *obj;
    CHECK_EQ(keyval_parse(text, "driver", "-device", &d, err), 0);
    int r = object_create(&w->tree, d, &obj, err);
    json_decref(d);
    if (r == 0)
        *ret = pci_device_of(obj);
    return r;
}

static void begin(struct world *w)
{
    struct error err;
    *w = (struct world){ 0 };
    obj_tree_init(&w->tree, NULL, classes);
    w->mem = mem_container_new("mem", UINT64_MAX);
    w->io = mem_container_new("io", 0x10000);
    CHECK_EQ(address_space_new("mem", w->mem, &w->mem_as), 0);
    CHECK_EQ(address_space_new("io", w->io, &w->io_as), 0);
    struct pci_bus_config config = { "pci.0", &bus_ops, w, w->mem, w->io, w->mem_as, false };
    CHECK_EQ(pci_bus_new(&w->tree, &config, &w->bus, &err), 0);
    CHECK_EQ(add(w, "toy,id=t0,addr=3", &w->dev, &err), 0);
}

static void end(struct world *w)
{
    obj_tree_fini(&w->tree);
    pci_bus_free(w->bus);
    address_space_free(w->mem_as);
    address_space_free(w->io_as);
    mem_region_put(w->mem);
    mem_region_put(w->io);
}

static uint32_t cfg(struct world *w, unsigned off, unsigned len)
{
    return pci_config_access_read(w->bus, 0, PCI_DEVFN(3, 0), off, len);
}
static void cfg_set(struct world *w, unsigned off, unsigned len, uint32_t val)
{
    pci_config_access_write(w->bus, 0, PCI_DEVFN(3, 0), off, len, val);
}

TEST(bars_tell_their_size_and_move_with_the_guest)
{
    struct world w;
    uint32_t v = 7;

    begin(&w);
    CHECK_EQ(cfg(&w, 0, 4), 0x56781234);
    CHECK_EQ(pci_config_access_read(w.bus, 0, PCI_DEVFN(4, 0), 0, 4), 0xffffffff);
    CHECK_EQ(pci_config_access_read(w.bus, 1, PCI_DEVFN(3, 0), 0, 4), 0xffffffff);
    for (unsigned i = 0; i < 6; i++)
        cfg_set(&w, 0x10 + 4 * i, 4, 0xffffffff);
    CHECK_EQ(cfg(&w, 0x10, 4), 0xffffff00);
    CHECK_EQ(cfg(&w, 0x14, 4), 0xffffffe1);
    CHECK_EQ(cfg(&w, 0x18, 4), 0xfffff00c);
    CHECK_EQ(cfg(&w, 0x1c, 4), 0xffffffff);
    CHECK_EQ(cfg(&w, 0x20, 4), 0xffffe000);         /* MSI-X found BAR 4 free */
    CHECK_EQ(cfg(&w, 0x24, 4), 0);

    cfg_set(&w, 0x10, 4, 0xe0000000);
    cfg_set(&w, 0x14, 4, 0xc000);
    cfg_set(&w, 0x18, 4, 0);
    cfg_set(&w, 0x1c, 4, 0x8);                      /* 0x8_0000_0000 */
    CHECK(!address_space_write(w.mem_as, 0xe0000000, &v, 4));
    cfg_set(&w, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
    CHECK(address_space_write(w.mem_as, 0xe0000000, &v, 4));
    v = 0;
    CHECK(address_space_read(w.mem_as, 0x800000000, &v, 4));
    CHECK_EQ(v, 7);
    v = 0;
    CHECK(address_space_read(w.io_as, 0xc000, &v, 4));
    CHECK_EQ(v, 7);
    cfg_set(&w, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    CHECK(!address_space_read(w.io_as, 0xc000, &v, 4));
    cfg_set(&w, 0x10, 4, 0xf0000000);
    CHECK(!address_space_read(w.mem_as, 0xe0000000, &v, 4));
    CHECK(pci_bar_read(w.dev, 0, 0, &v, 4));
    CHECK_EQ(v, 7);
    CHECK(!pci_bar_read(w.dev, 0, 0xfe, &v, 4));
    end(&w);
}

TEST(intx_follows_level_and_disable_bit)
{
    struct world w;
    begin(&w);
    pci_irq_set(w.dev, true);
    CHECK_EQ(w.level, 1);
    CHECK(cfg(&w, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
    cfg_set(&w, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
    CHECK_EQ(w.level, 0);
    CHECK(cfg(&w, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
    cfg_set(&w, PCI_COMMAND, 2, 0);
    CHECK_EQ(w.level, 1);
    objects_reset(&w.tree);
    CHECK_EQ(w.level, 0);
    end(&w);
}

TEST(msix_masks_keep_a_vector_pending)
{
    struct world w;
    begin(&w);
    unsigned cap = pci_find_capability(w.dev, PCI_CAP_ID_MSIX);
    CHECK(cap);
    cfg_set(&w, 0x20, 4, 0xd0000000);
    cfg_set(&w, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    CHECK(!pci_irq_pulse(w.dev, 1));                /* off: not ours to send */
    uint32_t entry[4] = { 0xfee00000, 0, 0x4041, 0 };
    CHECK(address_space_write(w.mem_as, 0xd0000010, entry, sizeof entry));
    cfg_set(&w, cap + 2, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
    CHECK(pci_irq_pulse(w.dev, 1));
    CHECK_EQ(w.msis, 0);
    uint32_t pba;
    CHECK(address_space_read(w.mem_as, 0xd0001000, &pba, 4));
    CHECK_EQ(pba, 2);
    cfg_set(&w, cap + 2, 2, PCI_MSIX_FLAGS_ENABLE);
    CHECK_EQ(w.msis, 1);
    CHECK_EQ(w.msi_addr, 0xfee00000);
    CHECK_EQ(w.msi_data, 0x4041);
    CHECK(pci_irq_pulse(w.dev, 0));                 /* masked since reset */
    CHECK(pci_irq_pulse(w.dev, 99));                /* no such vector: nothing happens */
    CHECK_EQ(w.msis, 1);
    end(&w);
}

TEST(msi_gives_the_vector_in_the_low_bits)
{
    struct world w;
    begin(&w);
    unsigned cap = pci_find_capability(w.dev, PCI_CAP_ID_MSI);
    cfg_set(&w, cap + PCI_MSI_ADDRESS_LO, 4, 0xfee01003);
    cfg_set(&w, cap + PCI_MSI_DATA_64, 2, 0x47);
    cfg_set(&w, cap + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | 1 << 4);     /* two of four */
    CHECK(pci_irq_pulse(w.dev, 0));
    CHECK_EQ(w.msi_data, 0x46);
    CHECK_EQ(w.msi_addr, 0xfee01000);
    CHECK(pci_irq_pulse(w.dev, 3));                 /* not granted: the last */
    CHECK_EQ(w.msi_data, 0x47);
    cfg_set(&w, cap + PCI_MSI_MASK_64, 4, 1);
    CHECK(pci_irq_pulse(w.dev, 0));
    CHECK_EQ(w.msis, 2);
    cfg_set(&w, cap + PCI_MSI_MASK_64, 4, 0);
    CHECK_EQ(w.msis, 3);
    end(&w);
}

TEST(slots_are_claimed_once_and_errors_say_by_whom)
{
    struct world w;
    struct pci_device *d;
    struct error err;
    begin(&w);
    CHECK(add(&w, "toy,id=t1,addr=3", &d, &err) < 0);
    CHECK_HAS(err.text, "slot 3.0 of bus 'pci.0' is taken by 't0'");
    CHECK(add(&w, "toy,id=t1,addr=3.1", &d, &err) < 0);
    CHECK_HAS(err.text, "multifunction=on");
    CHECK(add(&w, "toy,id=t1,addr=20", &d, &err) < 0);
    CHECK(add(&w, "toy,id=t1,addr=x", &d, &err) < 0);
    CHECK(add(&w, "toy,id=t1,addr=1.", &d, &err) < 0);
    CHECK_HAS(err.text, "'addr' must be");
    for (int i = 0; i < 31; i++)
        CHECK_EQ(add(&w, "toy", &d, &err), 0);
    CHECK(add(&w, "toy", &d, &err) < 0);
    CHECK_HAS(err.text, "every PCI bus is full");
    end(&w);
}

TEST(loaded_state_cannot_change_what_the_guest_could_not)
{
    struct world a, b;
    struct state_buf buf = { 0 };
    struct error err;
    uint32_t v = 42;

    begin(&a);
    cfg_set(&a, 0x10, 4, 0xe0000000);
    cfg_set(&a, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    CHECK(address_space_write(a.mem_as, 0xe0000000, &v, 4));
    pci_irq_set(a.dev, true);
    pci_config(a.dev)[PCI_VENDOR_ID] = 0x99;        /* a liar's stream */
    CHECK_EQ(objects_save(&a.tree, &buf, &err), 0);
    end(&a);

    begin(&b);
    CHECK_EQ(objects_load(&b.tree, buf.data, buf.len, &err), 0);
    CHECK_EQ(cfg(&b, 0, 4), 0x56781234);
    CHECK_EQ(b.level, 1);
    v = 0;
    CHECK(address_space_read(b.mem_as, 0xe0000000, &v, 4));
    CHECK_EQ(v, 42);
    end(&b);
    state_buf_fini(&buf);
}

TEST(dma_needs_bus_mastering)
{
    struct world w;
    struct mem_region *ram;
    struct error err;
    uint32_t v = 1;
    AUTO_FD int fd = memfd_new("ram", 4096, 0);

    begin(&w);
    CHECK_EQ(mem_ram_new("ram", fd, 0, 4096, false, &ram, &err), 0);
    mem_add(w.mem, 0, ram, 0);
    CHECK_EQ(pci_dma_write(w.dev, 0, &v, 4), -EPERM);
    cfg_set(&w, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
    CHECK_EQ(pci_dma_write(w.dev, 0, &v, 4), 0);
    CHECK_EQ(pci_dma_write(w.dev, 4094, &v, 4), -EFAULT);
    mem_del(ram);
    mem_region_put(ram);
    end(&w);
}

TEST_MAIN
