/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"

#include <errno.h>
#include <string.h>

TEST(range_inside_does_not_wrap)
{
    CHECK(range_inside(0, 10, 10));
    CHECK(range_inside(10, 0, 10));
    CHECK(!range_inside(1, 10, 10));
    CHECK(!range_inside(UINT64_MAX, 2, 10));
    CHECK(!range_inside(2, UINT64_MAX, 10));
}

TEST(ranges_overlap_only_when_a_byte_is_shared)
{
    CHECK(ranges_overlap(0, 2, 1, 1));
    CHECK(!ranges_overlap(0, 1, 1, 1));
    CHECK(!ranges_overlap(5, 0, 5, 1));
    CHECK(ranges_overlap(UINT64_MAX, 1, UINT64_MAX - 1, 2));
}

TEST(error_text_ends_with_what_errno_means)
{
    struct error err;
    CHECK_EQ(error_set(&err, -ENOENT, "cannot open '%s'", "x"), -ENOENT);
    CHECK_STR(err.text, "cannot open 'x': No such file or directory");
    error_prefix(&err, "drive0");
    CHECK_STR(err.text, "drive0: cannot open 'x': No such file or directory");
    CHECK_EQ(error_set(&err, -EINVAL, "bad"), -EINVAL);
    CHECK_STR(err.text, "bad");
}

TEST(bytes_keep_their_order_and_need_no_alignment)
{
    uint8_t b[9] = { 0, 1, 2, 3, 4, 5, 6, 7, 8 };
    CHECK_EQ(le32_load(b + 1), 0x04030201);
    CHECK_EQ(be32_load(b + 1), 0x01020304);
    CHECK_EQ(le_load(b + 1, 3), 0x030201);
    le_store(b, 3, 0xaabbcc);
    CHECK_EQ(b[0], 0xcc);
    CHECK_EQ(b[3], 3);
    CHECK_EQ(be64_get(be64_of(0x0102030405060708)), 0x0102030405060708);
}

TEST(list_survives_removal_while_walking)
{
    struct item { int n; struct list link; } items[3] = { { 0 }, { 1 }, { 2 } };
    struct list head;
    int sum = 0;

    list_init(&head);
    for (int i = 0; i < 3; i++)
        list_add_tail(&head, &items[i].link);
    list_for_each(struct item, it, &head, link) {
        sum = sum * 10 + it->n;
        list_del(&it->link);
    }
    CHECK_EQ(sum, 12);
    CHECK(list_empty(&head));
    list_del(&items[0].link);       /* again: harmless */
}

TEST(memfd_cannot_be_shrunk)
{
    AUTO_FD int fd = memfd_new("t", 8192, 0);
    uint64_t size;
    CHECK(fd >= 0);
    CHECK_EQ(fd_size(fd, &size), 0);
    CHECK_EQ(size, 8192);
    CHECK_EQ(ftruncate(fd, 4096), -1);
}

TEST(warnings_that_come_often_are_limited_and_counted)
{
    int pipe_fds[2], saved = dup(STDERR_FILENO);
    char text[8192];

    CHECK_EQ(pipe(pipe_fds), 0);
    log_init("t", LOG_INFO);
    dup2(pipe_fds[1], STDERR_FILENO);
    for (int i = 0; i < 1000; i++)
        log_often("d0", "line %d", i);
    dup2(saved, STDERR_FILENO);
    close(pipe_fds[1]);
    ssize_t n = read(pipe_fds[0], text, sizeof text - 1);
    CHECK(n > 0);
    text[n] = 0;
    CHECK_HAS(text, "t: warning: d0: line 0\n");
    int lines = 0;
    for (char *c = text; *c; c++)
        lines += *c == '\n';
    CHECK(lines <= 10);                     /* two seconds' worth, had the clock just turned */
    close(pipe_fds[0]);
    close(saved);
}

TEST_MAIN
