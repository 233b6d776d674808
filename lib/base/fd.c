/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

int fd_read_all(int fd, void *buf, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = read(fd, (char *)buf + done, len - done);
        if (n == 0)
            return -EPIPE;
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            done += n;
    }
    return 0;
}

int fd_write_all(int fd, const void *buf, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = write(fd, (const char *)buf + done, len - done);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            done += n;
    }
    return 0;
}

int fd_size(int fd, uint64_t *ret_size)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (S_ISREG(st.st_mode)) {
        *ret_size = st.st_size;
        return 0;
    }
    if (S_ISBLK(st.st_mode)) {
        uint64_t size;
        if (ioctl(fd, BLKGETSIZE64, &size) < 0)
            return -errno;
        *ret_size = size;
        return 0;
    }
    return -ENOTBLK;
}

static int fd_flag(int fd, int get, int set, int flag, bool on)
{
    int flags = fcntl(fd, get);
    if (flags < 0)
        return -errno;
    int want = on ? flags | flag : flags & ~flag;
    if (want != flags && fcntl(fd, set, want) < 0)
        return -errno;
    return 0;
}

int fd_set_nonblock(int fd, bool on) { return fd_flag(fd, F_GETFL, F_SETFL, O_NONBLOCK, on); }
int fd_set_cloexec(int fd, bool on) { return fd_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC, on); }

int eventfd_new(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

void eventfd_signal(int fd)
{
    uint64_t one = 1;
    ssize_t r = write(fd, &one, sizeof one);
    (void)r;                /* EAGAIN: already as signalled as it can be */
}

bool eventfd_clear(int fd)
{
    uint64_t count;
    return read(fd, &count, sizeof count) == sizeof count;
}

int memfd_new(const char *name, uint64_t size_bytes, unsigned memfd_flags)
{
    AUTO_FD int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | memfd_flags);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, size_bytes) < 0)
        return -errno;
    /* Who maps it must not be hurt by a peer that makes it smaller. */
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -errno;
    return TAKE_FD(fd);
}
