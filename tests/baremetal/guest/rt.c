/* SPDX-License-Identifier: Apache-2.0 */
#include "rt.h"

#include <stdarg.h>

enum { COM1 = 0x3f8, DEBUG_EXIT = 0xf4 };
enum { MULTIBOOT_MAGIC = 0x2badb002, PVH_MAGIC = 0x336ec578 };

struct boot boot;

void *memset(void *p, int c, size_t n)
{
    for (uint8_t *b = p; n; n--)
        *b++ = c;
    return p;
}

void *memcpy(void *to, const void *from, size_t n)
{
    uint8_t *t = to;
    for (const uint8_t *f = from; n; n--)
        *t++ = *f++;
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

bool same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static void put_char(char c)
{
    for (int i = 0; i < 100000 && !(inb(COM1 + 5) & 0x20); i++)
        cpu_relax();
    outb(COM1, c);
}

void put(const char *text)
{
    for (; *text; text++) {
        if (*text == '\n')
            put_char('\r');
        put_char(*text);
    }
}

static void put_number(uint64_t v, unsigned base)
{
    char buf[24], *at = buf + sizeof buf - 1;

    *at = 0;
    do
        *--at = "0123456789abcdef"[v % base];
    while (v /= base);
    put(at);
}

void print(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    for (; *fmt; fmt++) {
        char one[2] = { *fmt, 0 };
        bool wide = false;
        if (*fmt != '%') {
            put(one);
            continue;
        }
        if (*++fmt == 'l') {
            wide = true;
            fmt++;
        }
        switch (*fmt) {
        case 's': put(va_arg(ap, const char *)); break;
        case 'c': one[0] = va_arg(ap, int); put(one); break;
        case 'd': {
            int v = va_arg(ap, int);
            if (v < 0)
                put("-");
            put_number(v < 0 ? -(int64_t)v : v, 10);
            break;
        }
        case 'u': put_number(wide ? va_arg(ap, uint64_t) : va_arg(ap, uint32_t), 10); break;
        case 'x': put_number(wide ? va_arg(ap, uint64_t) : va_arg(ap, uint32_t), 16); break;
        default: put("%"); break;
        }
    }
    va_end(ap);
}

void finish(const char *failure)
{
    if (failure)
        print("FAIL: %s\n", failure);
    else
        put("PASS\n");
    outl(DEBUG_EXIT, failure ? 1 : 0);
    acpi_poweroff();
    for (;;)
        __asm__ volatile("cli; hlt");
}

const char *option(const char *name, const char *fallback)
{
    static char value[64];
    size_t len = strlen(name);

    for (const char *at = boot.cmdline; at && *at;) {
        while (*at == ' ')
            at++;
        if (!memcmp(at, name, len) && at[len] == '=') {
            size_t n = 0;
            for (at += len + 1; *at && *at != ' ' && n < sizeof value - 1; at++)
                value[n++] = *at;
            value[n] = 0;
            return value;
        }
        while (*at && *at != ' ')
            at++;
    }
    return fallback;
}

static void add_map(uint64_t addr, uint64_t size, uint32_t type)
{
    if (boot.entries < 32) {
        boot.map[boot.entries].addr = addr;
        boot.map[boot.entries].size = size;
        boot.map[boot.entries++].type = type;
    }
}

static void from_multiboot(const uint8_t *info)
{
    uint32_t flags = *(const uint32_t *)info;

    boot.how = "multiboot";
    if (flags & 4)
        boot.cmdline = (const char *)(uint64_t)*(const uint32_t *)(info + 16);
    if (flags & 64) {
        uint32_t len = *(const uint32_t *)(info + 44);
        const uint8_t *at = (const uint8_t *)(uint64_t)*(const uint32_t *)(info + 48);
        for (const uint8_t *end = at + len; at < end; at += *(const uint32_t *)at + 4)
            add_map(*(const uint64_t *)(at + 4), *(const uint64_t *)(at + 12),
                    *(const uint32_t *)(at + 20));
    }
}

static void from_pvh(const uint8_t *info)
{
    boot.how = "pvh";
    boot.cmdline = (const char *)*(const uint64_t *)(info + 24);
    boot.rsdp = *(const uint64_t *)(info + 32);
    if (*(const uint32_t *)(info + 4) >= 1) {
        const uint8_t *at = (const uint8_t *)*(const uint64_t *)(info + 40);
        for (uint32_t n = *(const uint32_t *)(info + 48); n; n--, at += 24)
            add_map(*(const uint64_t *)at, *(const uint64_t *)(at + 8),
                    *(const uint32_t *)(at + 16));
    }
}

void run_tests(void);
void guest_main(uint32_t magic, uint32_t info);

void guest_main(uint32_t magic, uint32_t info)
{
    const uint8_t *at = (const uint8_t *)(uint64_t)info;

    outb(COM1 + 1, 0);
    outb(COM1 + 3, 3);
    outb(COM1 + 2, 7);
    if (magic == MULTIBOOT_MAGIC)
        from_multiboot(at);
    else if (*(const uint32_t *)at == PVH_MAGIC)
        from_pvh(at);
    else
        finish("no boot information");
    if (!boot.cmdline)
        boot.cmdline = "";
    run_tests();
}
