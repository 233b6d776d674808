/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of a device process, an argument a line: only read, nothing is done. */
#include "device/options.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARGS_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *argv[ARGS_MAX] = { (char *)"disk-proc" };
    struct device_options options;
    struct error err;
    int argc = 1;

    AUTO_FREE char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = '\0';
    for (char *at = text; argc < ARGS_MAX && at; ) {
        argv[argc++] = at;
        at = strchr(at, '\n');
        if (at)
            *at++ = '\0';
    }
    if (device_options_parse(argc, argv, &options, &err) < 0 && !err.text[0])
        __builtin_trap();                   /* a mistake without a sentence */
    device_options_fini(&options);
    return 0;
}
