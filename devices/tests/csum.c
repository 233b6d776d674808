/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/tests/bench.h"

#include "devices/csum.h"

#include <string.h>

static struct bench *csum_bench(void)
{
    return bench_new(&(struct bench_config){ .device = "csum" });
}

BENCH_TEST(csum_sums_what_lies_in_memory)
{
    AUTO_BENCH struct bench *b = csum_bench();

    for (unsigned i = 0; i < 1000; i++)
        bench_ram(b)[0x2345 + i] = i;
    bench_write32(b, 0, CSUM_ADDR_LO, 0x2345);
    bench_write32(b, 0, CSUM_LEN, 1000);
    bench_checkpoint(b);
    bench_write32(b, 0, CSUM_START, 1);
    bench_checkpoint(b);
    CHECK_EQ(bench_read32(b, 0, CSUM_STATUS), CSUM_DONE);
    uint32_t sum = 0;
    for (unsigned i = 0; i < 1000; i++)
        sum += i & 0xff;
    CHECK_EQ(bench_read32(b, 0, CSUM_SUM), sum);
}

BENCH_TEST(csum_refuses_a_length_over_the_maximum)
{
    AUTO_BENCH struct bench *b = csum_bench();

    bench_write32(b, 0, CSUM_LEN, CSUM_MAX + 1);
    bench_write32(b, 0, CSUM_START, 1);
    CHECK_EQ(bench_read32(b, 0, CSUM_STATUS), CSUM_FAILED);
    CHECK_EQ(bench_read32(b, 0, CSUM_SUM), 0);
}

BENCH_TEST(csum_fails_outside_memory_and_without_bus_mastering)
{
    AUTO_BENCH struct bench *b = csum_bench();

    bench_write32(b, 0, CSUM_ADDR_HI, 7);
    bench_write32(b, 0, CSUM_LEN, 4);
    bench_write32(b, 0, CSUM_START, 1);
    CHECK_EQ(bench_read32(b, 0, CSUM_STATUS), CSUM_FAILED);

    bench_write32(b, 0, CSUM_ADDR_HI, 0);
    bench_write32(b, 0, CSUM_START, 1);
    CHECK_EQ(bench_read32(b, 0, CSUM_STATUS), CSUM_DONE);
    bench_config_write(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    bench_write32(b, 0, CSUM_START, 1);
    CHECK_EQ(bench_read32(b, 0, CSUM_STATUS), CSUM_FAILED);
}

BENCH_TEST(csum_sends_a_message_when_it_is_done)
{
    AUTO_BENCH struct bench *b = csum_bench();
    unsigned cap = bench_find_capability(b, PCI_CAP_ID_MSIX);

    CHECK(cap != 0);
    unsigned table = bench_config_read(b, cap + PCI_MSIX_TABLE, 4) & 7;
    bench_write32(b, table, PCI_MSIX_ENTRY_ADDR_LO, 0xfee00000);
    bench_write32(b, table, PCI_MSIX_ENTRY_DATA, 0x41);
    bench_write32(b, table, PCI_MSIX_ENTRY_CTRL, 0);
    bench_config_write(b, cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
    bench_checkpoint(b);
    bench_write32(b, 0, CSUM_START, 1);
    CHECK_EQ(bench_messages(b, 0, 5000), 1);
}

TEST_MAIN
