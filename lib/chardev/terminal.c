/* SPDX-License-Identifier: Apache-2.0 */
/* The terminal a person sits at, put into raw mode and back again however the process ends. */
#include "chardev/chardev.h"

#include <errno.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

static struct termios before;
static volatile sig_atomic_t terminal_fd = -1;

void terminal_restore(void)
{
    int saved = errno;
    int fd = terminal_fd;

    if (fd >= 0) {
        terminal_fd = -1;
        tcsetattr(fd, TCSANOW, &before);
    }
    errno = saved;
}

int terminal_raw(int fd, bool signals)
{
    static bool registered;
    struct termios raw;

    if (!isatty(fd))
        return 0;
    if (terminal_fd < 0 && tcgetattr(fd, &before) < 0)
        return -errno;
    raw = before;
    raw.c_iflag &= ~(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    raw.c_oflag |= OPOST;
    raw.c_lflag &= ~(ECHO | ECHONL | ICANON | IEXTEN);
    if (!signals)
        raw.c_lflag &= ~ISIG;
    raw.c_cflag = (raw.c_cflag & ~(CSIZE | PARENB)) | CS8;
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    if (!registered && atexit(terminal_restore) != 0)
        return -ENOMEM;
    registered = true;
    terminal_fd = fd;
    return tcsetattr(fd, TCSANOW, &raw) < 0 ? -errno : 0;
}
