/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors: born close-on-exec, read and written whole. */
#ifndef BASE_FD_H
#define BASE_FD_H

#include "base/error.h"

#include <sys/types.h>

/* Reads or writes exactly len bytes at the file position, over short transfers and EINTR.
 * 0, -errno, or -EPIPE when a read meets the end. Blocking descriptors. */
int fd_read_all(int fd, void *buf, size_t len) MUST_CHECK;
int fd_write_all(int fd, const void *buf, size_t len) MUST_CHECK;

/* Size of a regular file or block device, in bytes. */
int fd_size(int fd, uint64_t *ret_size) MUST_CHECK;

int fd_set_nonblock(int fd, bool on);
int fd_set_cloexec(int fd, bool on);

/* An eventfd, close-on-exec and non-blocking; negative errno. */
int eventfd_new(void);
void eventfd_signal(int fd);            /* adds 1; never blocks */
bool eventfd_clear(int fd);             /* true if it had been signalled */

/* Memory behind a descriptor, sealed against shrinking. name shows in /proc/PID/maps. */
int memfd_new(const char *name, uint64_t size_bytes, unsigned memfd_flags);

#endif
