/* SPDX-License-Identifier: Apache-2.0 */
/* The guests' runtime: ports, memory-mapped registers, text, ACPI tables, PCI, interrupts. */
#ifndef GUEST_RT_H
#define GUEST_RT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline void outb(uint16_t port, uint8_t v) { __asm__ volatile("outb %0, %1" :: "a"(v), "Nd"(port)); }
static inline void outw(uint16_t port, uint16_t v) { __asm__ volatile("outw %0, %1" :: "a"(v), "Nd"(port)); }
static inline void outl(uint16_t port, uint32_t v) { __asm__ volatile("outl %0, %1" :: "a"(v), "Nd"(port)); }
static inline uint8_t inb(uint16_t port) { uint8_t v; __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline uint16_t inw(uint16_t port) { uint16_t v; __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline uint32_t inl(uint16_t port) { uint32_t v; __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port)); return v; }

/* Plain loads and stores of one instruction, so that any hypervisor can decode them. */
static inline uint32_t read32(uint64_t a) { uint32_t v; __asm__ volatile("movl (%1), %0" : "=r"(v) : "r"(a) : "memory"); return v; }
static inline void write32(uint64_t a, uint32_t v) { __asm__ volatile("movl %0, (%1)" :: "r"(v), "r"(a) : "memory"); }
static inline uint16_t read16(uint64_t a) { uint16_t v; __asm__ volatile("movw (%1), %0" : "=r"(v) : "r"(a) : "memory"); return v; }
static inline uint8_t read8(uint64_t a) { uint8_t v; __asm__ volatile("movb (%1), %0" : "=q"(v) : "r"(a) : "memory"); return v; }
static inline void write8(uint64_t a, uint8_t v) { __asm__ volatile("movb %0, (%1)" :: "q"(v), "r"(a) : "memory"); }

static inline uint64_t rdtsc(void) { uint32_t lo, hi; __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi)); return (uint64_t)hi << 32 | lo; }
static inline void cpu_relax(void) { __asm__ volatile("pause" ::: "memory"); }
static inline void irq_on(void) { __asm__ volatile("sti" ::: "memory"); }
static inline void irq_off(void) { __asm__ volatile("cli" ::: "memory"); }

void *memset(void *p, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);

void put(const char *text);
/* %s %c %d %u %x (unsigned, 64 bits with %lx) only. */
void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
__attribute__((noreturn)) void finish(const char *failure);     /* NULL: PASS */
#define EXPECT(cond) do { if (!(cond)) finish(#cond); } while (0)

/* Value of "name=value" on the command line, or fallback. Static buffer. */
const char *option(const char *name, const char *fallback);
bool same(const char *a, const char *b);

struct boot {
    const char *how, *cmdline;
    uint64_t rsdp;                      /* 0: to be searched */
    struct { uint64_t addr, size; uint32_t type; } map[32];
    unsigned entries;
};
extern struct boot boot;

/* acpi.c */
const uint8_t *acpi_table(const char *signature);       /* NULL: none; checksum is right */
unsigned acpi_cpus(uint8_t ids[64]);                     /* enabled local APICs */
uint64_t acpi_ioapic(void);
uint64_t acpi_ecam(void);
uint16_t acpi_pm1a_cnt(void);
uint16_t acpi_pm_timer(void);
bool acpi_s5(uint8_t *ret_type);
void acpi_poweroff(void);
void acpi_reset(void);

/* pci.c: bus 0 */
uint32_t pci_read(unsigned devfn, unsigned off, unsigned len);
void pci_write(unsigned devfn, unsigned off, unsigned len, uint32_t v);
int pci_find(uint16_t vendor, uint16_t device);          /* devfn or -1 */
uint64_t pci_assign(unsigned devfn, unsigned bar);       /* gives it an address; 0: no such BAR */
void pci_enable(unsigned devfn);                         /* I/O, memory, bus master */
unsigned pci_capability(unsigned devfn, uint8_t id);     /* 0: none */

/* irq.c */
void irq_init(void);
extern volatile uint32_t irq_count[256];
extern void (*irq_handler[256])(void);
void lapic_write(unsigned reg, uint32_t v);
uint32_t lapic_read(unsigned reg);
void ioapic_route(unsigned pin, uint8_t vector, bool level_low);
bool irq_wait(uint8_t vector, uint32_t more_than);       /* a bounded while */
unsigned smp_start(void);                                /* processors that reported, this one included */

#endif
