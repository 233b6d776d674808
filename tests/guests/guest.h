/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small run-time for bare-metal guests: no C library, no SSE, everything mapped one to one. A
 * guest is one file with guest_main; its result is its output on the first serial port and its exit
 * status.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- the guest's own ---- */

/* Returns the exit status: 0 for success. */
int guest_main(void);
/* Other CPUs come here, index from 1 on. The default sleeps. */
void guest_ap(unsigned index);
/* The word of the command line that begins with key ("how="), without key; "" if there is none. */
const char *guest_option(const char *key);
bool option_is(const char *key, const char *value);
extern const char *guest_command_line;
extern const char *guest_boot_protocol;     /* "pvh", "multiboot" */
extern uint32_t guest_boot_info;            /* where the protocol left its structure */

/* Ends the machine by isa-debug-exit at 0xf4 with status * 2 + 1, or, where there is none, by ACPI. */
void guest_exit(int status) __attribute__((noreturn));
void acpi_power_off(void);

/* %s %c %d %u %x %lx %lu; width and zero as in %08x. */
void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
#define EXPECT(cond) ((cond) ? (void)0 : fail("line %d: %s", __LINE__, #cond))
#define EXPECT_EQ(a, b) ({ uint64_t a_ = (a), b_ = (b); \
    if (a_ != b_) fail("line %d: %s is 0x%lx, not 0x%lx", __LINE__, #a, a_, b_); })

/* ---- the processor ---- */

static inline void out8(uint16_t port, uint8_t v) { __asm__ volatile("outb %0, %1" :: "a"(v), "Nd"(port)); }
static inline void out16(uint16_t port, uint16_t v) { __asm__ volatile("outw %0, %1" :: "a"(v), "Nd"(port)); }
static inline void out32(uint16_t port, uint32_t v) { __asm__ volatile("outl %0, %1" :: "a"(v), "Nd"(port)); }
static inline uint8_t in8(uint16_t port) { uint8_t v; __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline uint16_t in16(uint16_t port) { uint16_t v; __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline uint32_t in32(uint16_t port) { uint32_t v; __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port)); return v; }

static inline uint32_t read32(uint64_t addr) { return *(volatile uint32_t *)addr; }
static inline void write32(uint64_t addr, uint32_t v) { *(volatile uint32_t *)addr = v; }
static inline uint16_t read16(uint64_t addr) { return *(volatile uint16_t *)addr; }
static inline uint8_t read8(uint64_t addr) { return *(volatile uint8_t *)addr; }

static inline void irq_on(void) { __asm__ volatile("sti" ::: "memory"); }
static inline void irq_off(void) { __asm__ volatile("cli" ::: "memory"); }
static inline void halt_for_irq(void) { __asm__ volatile("sti; hlt; cli" ::: "memory"); }
static inline void relax(void) { __asm__ volatile("pause" ::: "memory"); }
static inline uint64_t tsc(void)
{
    uint32_t lo, hi;
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (uint64_t)hi << 32 | lo;
}
static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
    __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(sub));
}

void *memset(void *p, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);

/* ---- interrupts (irq.c) ---- */

enum { LAPIC = 0xfee00000, IOAPIC = 0xfec00000 };
enum { LAPIC_ID = 0x20, LAPIC_EOI = 0xb0, LAPIC_SPURIOUS = 0xf0, LAPIC_ICR_LO = 0x300,
       LAPIC_ICR_HI = 0x310, LAPIC_TIMER = 0x320, LAPIC_TIMER_INITIAL = 0x380,
       LAPIC_TIMER_CURRENT = 0x390, LAPIC_TIMER_DIVIDE = 0x3e0 };

typedef void irq_fn(void *opaque);
/* Vectors 32 to 254. Masks the PICs and switches the local APIC on, the first time. */
void irq_handler(unsigned vector, irq_fn *fn, void *opaque);
/* A GSI 0 to 23 to this CPU; level: as PCI lines are, active low. */
void ioapic_route(unsigned gsi, unsigned vector, bool level, bool masked);
/* Sleeps until *count is at least n; false after about that many milliseconds of the ACPI timer. */
bool wait_count(volatile unsigned *count, unsigned n, unsigned timeout_ms);
uint32_t lapic_id(void);
void idt_load(void);

/* Starts every CPU that MADT names and waits for them. Returns how many there are, with this one. */
unsigned smp_start(void);

/* ---- ACPI (acpi.c) ---- */

/* NULL: no such table. Checksums are checked. */
const uint8_t *acpi_table(const char *signature);
uint32_t acpi_timer(void);              /* 24 bits, 3579545 Hz */
void delay_us(unsigned us);
extern uint64_t boot_rsdp;              /* 0: to be searched */

/* ---- PCI (pci.c) ---- */

struct pci { uint8_t bus, devfn; };
uint32_t pci_read(struct pci d, unsigned off, unsigned len);
void pci_write(struct pci d, unsigned off, unsigned len, uint32_t v);
bool pci_find(uint16_t vendor, uint16_t device, struct pci *ret);
/* Puts a free address into BAR number bar and switches memory, I/O and mastering on. */
uint64_t pci_map_bar(struct pci d, unsigned bar, uint64_t *ret_size);
unsigned pci_capability(struct pci d, uint8_t id);

#endif
