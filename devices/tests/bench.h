/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device tests: one PCI device with memory, interrupts and back-ends around it, and no machine.
 *
 * BENCH_TEST(name) { … } becomes three tests: name_direct with the device on a bus of this
 * process, name_remote with the device behind an endpoint, a socket and a client
 * (remote/loopback.h), and name_saved, where the bench again and again saves the device in
 * mid-work, destroys it and loads the state into a fresh one.
 *
 * A file of tests sets nothing up and takes nothing down but AUTO_BENCH struct bench *b.
 */
#ifndef DEVICES_TESTS_BENCH_H
#define DEVICES_TESTS_BENCH_H

#include "base/test.h"

#include "base/bytes.h"
#include "pci/pci.h"

enum bench_mode { BENCH_DIRECT, BENCH_REMOTE, BENCH_SAVED };
extern enum bench_mode bench_mode;      /* of the test that runs now */

#define BENCH_TEST(fn)                                                      \
    static void fn##_in_any_mode(void);                                     \
    TEST(fn##_direct) { bench_mode = BENCH_DIRECT; fn##_in_any_mode(); }    \
    TEST(fn##_remote) { bench_mode = BENCH_REMOTE; fn##_in_any_mode(); }    \
    TEST(fn##_saved) { bench_mode = BENCH_SAVED; fn##_in_any_mode(); }      \
    static void fn##_in_any_mode(void)

enum { BENCH_RAM_BYTES = 16 << 20, BENCH_DISKS = 4, BENCH_CHILDREN = 4 };
/* Where BARs lie: memory at BENCH_MMIO + n * BENCH_BAR_STRIDE, I/O at BENCH_IO + n * 0x100. */
enum { BENCH_IO = 0xc000 };
#define BENCH_MMIO 0xe0000000u
#define BENCH_BAR_STRIDE 0x100000u

struct bench_config {
    const char *device;                         /* "lsi53c895a", options after a comma */
    const char *children[BENCH_CHILDREN];       /* "scsi-hd,drive=d0": what sits on its buses */
    uint64_t disk_bytes[BENCH_DISKS];           /* raw disks in memory named d0, d1 …; 0: none */
};

struct bench;

struct bench *bench_new(const struct bench_config *config);
void bench_free(struct bench *b);
static inline void bench_auto_free_(struct bench **b) { bench_free(*b); }
#define AUTO_BENCH __attribute__((cleanup(bench_auto_free_)))

uint32_t bench_config_read(struct bench *b, unsigned off, unsigned len);
void bench_config_write(struct bench *b, unsigned off, unsigned len, uint32_t val);
unsigned bench_find_capability(struct bench *b, uint8_t id);    /* 0: none */
uint64_t bench_read(struct bench *b, unsigned bar, uint64_t off, unsigned len);
void bench_write(struct bench *b, unsigned bar, uint64_t off, unsigned len, uint64_t val);
static inline uint8_t bench_read8(struct bench *b, unsigned bar, uint64_t off)
{
    return bench_read(b, bar, off, 1);
}
static inline uint32_t bench_read32(struct bench *b, unsigned bar, uint64_t off)
{
    return bench_read(b, bar, off, 4);
}
static inline void bench_write8(struct bench *b, unsigned bar, uint64_t off, uint8_t val)
{
    bench_write(b, bar, off, 1, val);
}
static inline void bench_write32(struct bench *b, unsigned bar, uint64_t off, uint32_t val)
{
    bench_write(b, bar, off, 4, val);
}

uint8_t *bench_ram(struct bench *b);            /* guest memory from address 0 */
int bench_disk_fd(struct bench *b, unsigned disk);          /* what is on disk n */

/* Lets the device work until it asserts INTx, at most timeout_ms. */
bool bench_irq(struct bench *b, int timeout_ms);
/* Messages on vector since the last call; waits for one. */
unsigned bench_messages(struct bench *b, unsigned vector, int timeout_ms);
/* Lets the device work for about ms. */
void bench_idle(struct bench *b, int ms);
/* In the saved mode: saves, destroys, makes anew, loads. The bench does so by itself as well. */
void bench_checkpoint(struct bench *b);
void bench_reset(struct bench *b);

#endif
