/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of an iovec, addressed by byte. */
#include "block/internal.h"

#include <string.h>

int iov_slice(const struct iovec *iov, int niov, uint64_t from, uint64_t len,
              struct iovec *out, int max, uint64_t *ret_len)
{
    uint64_t covered = 0;
    int n = 0;

    for (int i = 0; i < niov && covered < len && n < max; i++) {
        if (from >= iov[i].iov_len) {
            from -= iov[i].iov_len;
            continue;
        }
        uint64_t part = MIN(iov[i].iov_len - from, len - covered);
        out[n++] = (struct iovec){ (char *)iov[i].iov_base + from, part };
        covered += part;
        from = 0;
    }
    *ret_len = covered;
    return n;
}

uint64_t iov_total(const struct iovec *iov, int niov)
{
    uint64_t total = 0;

    for (int i = 0; i < niov; i++)
        total += iov[i].iov_len;
    return total;
}

/* Steps over the next piece, of at most len bytes, that starts from bytes into the iovec. Returns
 * its length, 0 at the end. */
static uint64_t next_piece(const struct iovec **iov, int *niov, uint64_t *from, uint64_t len,
                           char **ret_piece)
{
    while (*niov > 0 && *from >= (*iov)->iov_len) {
        *from -= (*iov)->iov_len;
        ++*iov;
        --*niov;
    }
    if (*niov == 0)
        return 0;
    uint64_t n = MIN((*iov)->iov_len - *from, len);
    *ret_piece = (char *)(*iov)->iov_base + *from;
    *from += n;
    return n;
}

void iov_fill_zero(const struct iovec *iov, int niov, uint64_t from, uint64_t len)
{
    char *p;

    for (uint64_t n; len && (n = next_piece(&iov, &niov, &from, len, &p)); len -= n)
        memset(p, 0, n);
}

void iov_from_buf(const struct iovec *iov, int niov, uint64_t from, const void *buf, uint64_t len)
{
    const char *b = buf;
    char *p;

    for (uint64_t n; len && (n = next_piece(&iov, &niov, &from, len, &p)); len -= n, b += n)
        memcpy(p, b, n);
}

void iov_to_buf(const struct iovec *iov, int niov, uint64_t from, void *buf, uint64_t len)
{
    char *p, *b = buf;

    for (uint64_t n; len && (n = next_piece(&iov, &niov, &from, len, &p)); len -= n, b += n)
        memcpy(b, p, n);
}

bool iov_is_zero(const struct iovec *iov, int niov, uint64_t from, uint64_t len)
{
    char *p;

    for (uint64_t n; len && (n = next_piece(&iov, &niov, &from, len, &p)); len -= n)
        if (p[0] || memcmp(p, p + 1, n - 1))
            return false;
    return true;
}
