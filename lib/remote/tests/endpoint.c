/* SPDX-License-Identifier: Apache-2.0 */
/* A device behind an endpoint in another thread, seen by a vfio-user client. */
#include "base/test.h"

#include "base/fd.h"
#include "remote/loopback.h"
#include "remote/sigbus.h"
#include "toy.h"

#include <dirent.h>
#include <errno.h>
#include <sys/mman.h>

enum { RAM = 1 << 20 };

static const struct object_class *const classes[] = { &pci_device_base, &toy_class.base, NULL };

static unsigned count_fds(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static struct loopback *open_toy(void)
{
    struct loopback *lb;
    struct error err;
    json_t *description = json_pack("{s:s, s:s}", "driver", "toy", "id", "t0");
    struct loopback_config config = { .classes = classes, .description = description,
                                      .ram_size = RAM, .ram_fd = -1 };

    int r = loopback_new(&config, &lb, &err);
    if (r < 0)
        fail_msg("%s", err.text);
    json_decref(description);
    return lb;
}

static uint32_t rd(struct loopback *lb, uint64_t off) { return loopback_bar_read(lb, 0, off, 4); }
static void wr(struct loopback *lb, uint64_t off, uint32_t val)
{
    loopback_bar_write(lb, 0, off, 4, val);
}

static void enable(struct loopback *lb, uint16_t command)
{
    loopback_config_write(lb, PCI_COMMAND, 2, command);
}

static unsigned find_cap(struct loopback *lb, uint8_t id)
{
    unsigned at = loopback_config_read(lb, PCI_CAPABILITY_LIST, 1);
    while (at && loopback_config_read(lb, at, 1) != id)
        at = loopback_config_read(lb, at + 1, 1);
    return at;
}

TEST(config_space_and_bars_are_the_devices_own)
{
    unsigned before = count_fds();
    struct loopback *lb = open_toy();

    CHECK_EQ(loopback_config_read(lb, 0, 4), 0x56781234);
    CHECK_EQ(loopback_config_read(lb, PCI_REVISION_ID, 1), 3);
    CHECK_EQ(loopback_config_read(lb, 256, 4), UINT32_MAX);
    loopback_config_write(lb, PCI_BASE_ADDRESS_0, 4, 0xffffffff);
    CHECK_EQ(loopback_config_read(lb, PCI_BASE_ADDRESS_0, 4), 0xfffff000);

    wr(lb, TOY_SCRATCH, 0x12345678);
    CHECK_EQ(rd(lb, TOY_SCRATCH), 0x12345678);
    CHECK_EQ(loopback_bar_read(lb, 1, TOY_SCRATCH, 4), 0x12345678);
    CHECK_EQ(loopback_bar_read(lb, 0, 0x200, 8), 0x20400000200);
    CHECK_EQ(loopback_bar_read(lb, 0, TOY_SCRATCH, 2), 0xffff);      /* not a width it has */
    CHECK_EQ(loopback_bar_read(lb, 2, 0xffff8, 8), 0xffff8);
    CHECK_EQ(loopback_bar_read(lb, 0, 0xffe, 4), UINT64_MAX);        /* across the end */
    CHECK_EQ(loopback_bar_read(lb, 3, 0, 4), UINT64_MAX);            /* upper half of BAR 2 */
    loopback_free(lb);
    CHECK_EQ(count_fds(), before);
}

TEST(dma_reaches_the_clients_memory_when_bus_mastering_is_on)
{
    struct loopback *lb = open_toy();

    le32_store(loopback_ram(lb) + 0x1000, 0xcafebabe);
    wr(lb, TOY_ADDR, 0x1000);
    wr(lb, TOY_LOAD, 0);
    CHECK_EQ(rd(lb, TOY_STATUS), EPERM);
    enable(lb, PCI_COMMAND_MASTER);
    wr(lb, TOY_LOAD, 0);
    CHECK_EQ(rd(lb, TOY_STATUS), 0);
    CHECK_EQ(rd(lb, TOY_SCRATCH), 0xcafebabe);
    wr(lb, TOY_ADDR, RAM - 4);
    wr(lb, TOY_STORE, 0x0badf00d);
    CHECK_EQ(rd(lb, TOY_STATUS), 0);
    CHECK_EQ(le32_load(loopback_ram(lb) + RAM - 4), 0x0badf00d);
    wr(lb, TOY_ADDR, RAM - 2);
    wr(lb, TOY_STORE, 1);
    CHECK_EQ(rd(lb, TOY_STATUS), EFAULT);
    loopback_free(lb);
}

TEST(a_level_is_signalled_again_until_the_device_lowers_it)
{
    struct loopback *lb = open_toy();

    CHECK(!loopback_intx(lb, 0));
    wr(lb, TOY_LEVEL, 1);
    CHECK(loopback_intx(lb, 5000));
    CHECK(loopback_intx(lb, 5000));         /* each unmask finds it still high */
    CHECK(loopback_intx(lb, 5000));
    wr(lb, TOY_LEVEL, 0);
    CHECK(!loopback_intx(lb, 0));
    wr(lb, TOY_LEVEL, 1);
    enable(lb, PCI_COMMAND_INTX_DISABLE);
    CHECK(!loopback_intx(lb, 0));
    enable(lb, 0);
    CHECK(loopback_intx(lb, 5000));
    loopback_free(lb);
}

TEST(messages_go_to_their_vectors_eventfd_whatever_the_devices_table_says)
{
    struct loopback *lb = open_toy();
    unsigned msix = find_cap(lb, PCI_CAP_ID_MSIX);

    wr(lb, TOY_PULSE, 1);
    CHECK_EQ(loopback_messages(lb, 1, 0), 0);               /* MSI-X is off */
    CHECK(msix);
    loopback_config_write(lb, msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
    for (unsigned v = 0; v < 5; v++)
        for (unsigned n = 0; n <= v; n++)
            wr(lb, TOY_PULSE, v);
    wr(lb, TOY_PULSE, 5);                                   /* no such vector */
    wr(lb, TOY_PULSE, 0xffffffff);
    for (unsigned v = 0; v < 5; v++)
        CHECK_EQ(loopback_messages(lb, v, 5000), v + 1);
    CHECK_EQ(loopback_messages(lb, 0, 0), 0);
    loopback_free(lb);
}

TEST(a_client_that_comes_back_finds_the_device_as_it_was)
{
    struct loopback *lb = open_toy();
    unsigned before = count_fds();

    enable(lb, PCI_COMMAND_MASTER);
    wr(lb, TOY_SCRATCH, 77);
    wr(lb, TOY_LEVEL, 1);
    CHECK(loopback_intx(lb, 5000));
    for (int i = 0; i < 20; i++) {
        loopback_reconnect(lb);
        CHECK_EQ(rd(lb, TOY_SCRATCH), 77);
        CHECK(loopback_intx(lb, 5000));     /* the line is still high for the new client */
    }
    wr(lb, TOY_ADDR, 0x2000);
    wr(lb, TOY_STORE, 5);
    CHECK_EQ(le32_load(loopback_ram(lb) + 0x2000), 5);
    CHECK_EQ(count_fds(), before);
    loopback_free(lb);
}

TEST(reset_reaches_the_device)
{
    struct loopback *lb = open_toy();

    enable(lb, PCI_COMMAND_MASTER);
    wr(lb, TOY_SCRATCH, 77);
    wr(lb, TOY_LEVEL, 1);
    loopback_reset(lb);
    CHECK_EQ(rd(lb, TOY_SCRATCH), 0);
    CHECK_EQ(loopback_config_read(lb, PCI_COMMAND, 2), 0);
    CHECK(!loopback_intx(lb, 0));
    loopback_free(lb);
}

static void take_scratch(void *opaque, struct obj_tree *tree, struct pci_device *pdev)
{
    *(uint32_t *)opaque = ((struct toy *)pci_device_self(pdev))->scratch;
}

TEST(functions_run_on_the_devices_thread)
{
    struct loopback *lb = open_toy();
    uint32_t v = 0;

    wr(lb, TOY_SCRATCH, 31337);
    loopback_run(lb, take_scratch, &v);
    CHECK_EQ(v, 31337);
    loopback_free(lb);
}

TEST(a_description_that_fails_is_said_and_nothing_is_left)
{
    unsigned before = count_fds();
    struct loopback *lb;
    struct error err;
    json_t *description = json_pack("{s:s, s:s}", "driver", "toy", "wrong", "1");
    struct loopback_config config = { .classes = classes, .description = description,
                                      .ram_size = RAM, .ram_fd = -1 };

    CHECK(loopback_new(&config, &lb, &err) < 0);
    CHECK_HAS(err.text, "wrong");
    json_decref(description);
    CHECK_EQ(count_fds(), before);
}

TEST(memory_whose_file_shrinks_reads_zero_and_kills_nobody)
{
    int fd = memfd_create("shrinks", MFD_CLOEXEC);
    CHECK_EQ(ftruncate(fd, 8192), 0);
    volatile uint8_t *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(p != MAP_FAILED);
    CHECK_EQ(sigbus_guard((void *)p, 8192), 0);
    p[0] = 1;
    p[5000] = 2;
    CHECK_EQ(ftruncate(fd, 4096), 0);
    CHECK_EQ(p[5000], 0);
    p[5001] = 9;
    CHECK_EQ(p[5001], 9);
    CHECK_EQ(p[0], 1);
    sigbus_unguard((void *)p);
    munmap((void *)p, 8192);
    close(fd);
}

TEST_MAIN
