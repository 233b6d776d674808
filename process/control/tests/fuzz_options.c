/* SPDX-License-Identifier: Apache-2.0 */
/* The input is a command line, its arguments ended by newlines or zero bytes. */
#include "config.h"

#include <string.h>

enum { ARGS_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *argv[ARGS_MAX] = { "bulkhead" };
    int argc = 1;
    struct config *config;
    struct error err;

    char *text = malloc(size + 1);
    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    for (char *at = text; at < text + size && argc < ARGS_MAX;) {
        size_t len = strcspn(at, "\n");
        at[len] = 0;
        argv[argc++] = at;
        at += len + 1;
    }
    if (config_parse(argc, argv, &config, &err) == 0)
        config_free(config);
    else if (!err.text[0])
        abort();                    /* a refusal without a reason */
    free(text);
    return 0;
}
