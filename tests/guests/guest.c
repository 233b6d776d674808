/* SPDX-License-Identifier: Apache-2.0 */
/* Beginning, end, and output on the first serial port. */
#include "guest.h"

enum { COM1 = 0x3f8, DEBUG_EXIT = 0xf4, PVH_MAGIC = 0x336ec578, MULTIBOOT_MAGIC = 0x2badb002 };

const char *guest_command_line = "", *guest_boot_protocol = "unknown";
uint32_t guest_boot_info;

struct pvh_info { uint32_t magic, version, flags, modules; uint64_t modlist, cmdline, rsdp; };
struct multiboot_info { uint32_t flags, mem_lower, mem_upper, boot_device, cmdline; };

void guest_start(uint32_t magic, uint32_t info);

void *memset(void *p, int c, size_t n)
{
    void *d = p;
    __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
    return p;
}

void *memcpy(void *to, const void *from, size_t n)
{
    void *d = to;
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(n) :: "memory");
    return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a, *y = b;

    for (; n; n--, x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}

size_t strlen(const char *s)
{
    size_t n = 0;

    while (s[n])
        n++;
    return n;
}

static void put(char c)
{
    while (!(in8(COM1 + 5) & 0x20))
        relax();
    out8(COM1, c);
}

static void put_number(uint64_t v, unsigned base, unsigned width, char pad)
{
    char digits[24];
    unsigned n = 0;

    do
        digits[n++] = "0123456789abcdef"[v % base];
    while (v /= base);
    for (; width > n; width--)
        put(pad);
    while (n)
        put(digits[--n]);
}

static void print_list(const char *fmt, va_list ap)
{
    for (; *fmt; fmt++) {
        if (*fmt != '%') {
            put(*fmt);
            continue;
        }
        char pad = *++fmt == '0' ? *fmt++ : ' ';
        unsigned width = 0;
        while (*fmt >= '0' && *fmt <= '9')
            width = width * 10 + *fmt++ - '0';
        bool wide = *fmt == 'l';
        fmt += wide;
        if (*fmt == 's') {
            for (const char *s = va_arg(ap, const char *); *s; s++)
                put(*s);
        } else if (*fmt == 'c') {
            put(va_arg(ap, int));
        } else if (*fmt == 'd') {
            int64_t v = wide ? va_arg(ap, int64_t) : va_arg(ap, int);
            if (v < 0)
                put('-');
            put_number(v < 0 ? -v : v, 10, width, pad);
        } else {
            uint64_t v = wide ? va_arg(ap, uint64_t) : va_arg(ap, unsigned);
            put_number(v, *fmt == 'x' ? 16 : 10, width, pad);
        }
    }
}

void print(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    print_list(fmt, ap);
    va_end(ap);
}

void fail(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    print("FAILED: ");
    print_list(fmt, ap);
    print("\n");
    va_end(ap);
    guest_exit(1);
}

void guest_exit(int status)
{
    irq_off();
    out32(DEBUG_EXIT, status);
    acpi_power_off();
    for (;;)
        __asm__ volatile("hlt");
}

const char *guest_option(const char *key)
{
    size_t n = strlen(key);

    for (const char *p = guest_command_line; *p; p++)
        if ((p == guest_command_line || p[-1] == ' ') && memcmp(p, key, n) == 0)
            return p + n;
    return "";
}

bool option_is(const char *key, const char *value)
{
    const char *p = guest_option(key);
    size_t n = strlen(value);

    return memcmp(p, value, n) == 0 && (p[n] == ' ' || p[n] == 0);
}

__attribute__((weak)) void guest_ap(unsigned index)
{
    for (;;)
        __asm__ volatile("cli; hlt");
}

void guest_start(uint32_t magic, uint32_t info)
{
    const struct pvh_info *pvh = (const void *)(uintptr_t)info;
    const struct multiboot_info *mb = (const void *)(uintptr_t)info;

    guest_boot_info = info;
    if (magic == MULTIBOOT_MAGIC) {
        guest_boot_protocol = "multiboot";
        if (mb->flags & 4)
            guest_command_line = (const char *)(uintptr_t)mb->cmdline;
    } else if (pvh->magic == PVH_MAGIC) {
        guest_boot_protocol = "pvh";
        boot_rsdp = pvh->rsdp;
        if (pvh->cmdline)
            guest_command_line = (const char *)pvh->cmdline;
    }
    idt_load();
    int status = guest_main();
    print(status ? "FAILED\n" : "PASSED\n");
    guest_exit(status);
}
