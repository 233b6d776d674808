/* SPDX-License-Identifier: Apache-2.0 */
/* Files that control opens on behalf of processes that may open none, and where programs lie. */
#include "vm.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static bool executable(const char *path) { return access(path, X_OK) == 0; }

int program_find(const char *name, const char *folder, char **ret_path, struct error *err)
{
    char self[4096], path[4096 + 128];

    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return error_set(err, -errno, "cannot find out where this program lies");
    self[n] = 0;
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = 0;
    for (int i = 0; i < 3; i++) {
        if (i == 0)
            snprintf(path, sizeof path, "%s/%s", self, name);
        else if (i == 1)
            snprintf(path, sizeof path, "%s/../%s/%s", self, folder, name);
        else
            snprintf(path, sizeof path, "%s/%s", BULKHEAD_LIBEXECDIR, name);
        if (executable(path)) {
            *ret_path = strdup(path);
            return *ret_path ? 0 : error_oom(err);
        }
    }
    return error_set(err, -ENOENT, "cannot find the program '%s' beside this one or in '%s'", name,
                     BULKHEAD_LIBEXECDIR);
}

int file_open(const char *option, const char *path, int *ret_fd, struct error *err)
{
    struct stat st;

    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return error_set(err, -errno, "%s: cannot open '%s'", option, path);
    if (fstat(fd, &st) < 0)
        return error_set(err, -errno, "%s: cannot look at '%s'", option, path);
    if (!S_ISREG(st.st_mode))
        return error_set(err, -EINVAL, "%s: '%s' is not a plain file", option, path);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* A file without a name in a folder, on hugetlbfs for example. */
static int open_nameless(const char *folder)
{
    char path[4096];

    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
        return fd < 0 ? -errno : fd;
    if (snprintf(path, sizeof path, "%s/bulkhead-memory-XXXXXX", folder) >= (int)sizeof path)
        return -ENAMETOOLONG;
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    unlink(path);
    return fd;
}

int memory_open(const char *label, const char *path, uint64_t size, int *ret_fd, struct error *err)
{
    struct stat st;
    bool folder = stat(path, &st) == 0 && S_ISDIR(st.st_mode);

    AUTO_FD int fd = folder ? open_nameless(path)
                            : open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd < 0)
        return error_set(err, folder ? fd : -errno, "%s: cannot open '%s'", label, path);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return error_set(err, -EINVAL, "%s: '%s' is neither a plain file nor a folder", label, path);
    if (st.st_size && (uint64_t)st.st_size < size)
        return error_set(err, -EINVAL, "%s: '%s' is smaller than the guest's memory", label, path);
    if (!st.st_size && ftruncate(fd, size) < 0)
        return error_set(err, -errno, "%s: cannot give '%s' the size of the guest's memory", label,
                         path);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int pidfile_write(const char *path, struct error *err)
{
    char text[24];

    int len = snprintf(text, sizeof text, "%d\n", (int)getpid());
    AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return error_set(err, -errno, "-pidfile: cannot open '%s'", path);
    int r = fd_write_all(fd, text, len);
    return r < 0 ? error_set(err, r, "-pidfile: cannot write '%s'", path) : 0;
}
