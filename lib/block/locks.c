/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The byte-range locks by which QEMU's programs keep off each other's images, so that they and
 * we do too. For each permission p that one uses, a shared lock on byte 100 + p; for each that
 * one does not let others have, a shared lock on byte 200 + p. Then one looks whether anybody
 * holds the opposite. They are open-file-description locks: they go with the descriptor, to
 * whichever process is given it.
 */
#include "block/internal.h"

#include <errno.h>
#include <fcntl.h>

enum { PERM_CONSISTENT_READ = 0, PERM_WRITE = 1, PERM_WRITE_UNCHANGED = 2, PERM_RESIZE = 3,
       PERM_COUNT = 4 };
enum { USED_BASE = 100, UNSHARED_BASE = 200 };

#define BIT(n) (1u << (n))

static int lock_byte(int fd, off_t byte, short type)
{
    struct flock fl = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
    return fcntl(fd, F_OFD_SETLK, &fl) < 0 ? -errno : 0;
}

/* 1 if somebody else's lock stands against an exclusive one here. */
static int byte_taken(int fd, off_t byte)
{
    struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

    if (fcntl(fd, F_OFD_GETLK, &fl) < 0)
        return -errno;
    return fl.l_type != F_UNLCK;
}

static int take(int fd, unsigned used, unsigned unshared)
{
    for (unsigned p = 0; p < PERM_COUNT; p++) {
        int r = 0;
        if (used & BIT(p))
            r = lock_byte(fd, USED_BASE + p, F_RDLCK);
        if (r == 0 && unshared & BIT(p))
            r = lock_byte(fd, UNSHARED_BASE + p, F_RDLCK);
        if (r < 0)
            return r == -EACCES ? -EAGAIN : r;
    }
    return 0;
}

static int look(int fd, unsigned used, unsigned unshared, unsigned *ret_perm)
{
    for (unsigned p = 0; p < PERM_COUNT; p++) {
        int r = 0;
        if (used & BIT(p))
            r = byte_taken(fd, UNSHARED_BASE + p);
        if (r == 0 && unshared & BIT(p))
            r = byte_taken(fd, USED_BASE + p);
        if (r != 0) {
            *ret_perm = p;
            return r < 0 ? r : -EAGAIN;
        }
    }
    return 0;
}

int file_lock(int fd, bool writer, const char *filename, struct error *err)
{
    static const char *const what[] = { "read", "write", "write", "resize" };
    unsigned unshared = BIT(PERM_WRITE) | BIT(PERM_RESIZE);
    unsigned used = BIT(PERM_CONSISTENT_READ);
    unsigned perm = writer ? PERM_WRITE : PERM_CONSISTENT_READ;

    if (writer)
        used |= BIT(PERM_WRITE) | BIT(PERM_RESIZE);
    int r = take(fd, used, unshared);
    if (r == 0)
        r = look(fd, used, unshared, &perm);
    if (r == 0)
        return 0;
    for (unsigned p = 0; p < PERM_COUNT; p++) {
        lock_byte(fd, USED_BASE + p, F_UNLCK);
        lock_byte(fd, UNSHARED_BASE + p, F_UNLCK);
    }
    if (r != -EAGAIN)
        return error_set(err, r, "cannot lock image '%s'", filename);
    /* EINVAL adds no words of its own to the text. */
    error_set(err, -EINVAL, "image '%s' is in use by another process: cannot get a %s lock",
              filename, what[perm]);
    if (err)
        err->code = -EAGAIN;
    return -EAGAIN;
}
