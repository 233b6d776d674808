/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unit tests: TEST(name) { … CHECK_EQ(a, b); … } as often as wanted, then TEST_MAIN once per
 * program. cmocka runs them and prints TAP. A test's name states the behaviour it checks.
 */
#ifndef BASE_TEST_H
#define BASE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

enum { TESTS_MAX = 512 };
static struct CMUnitTest tests_[TESTS_MAX] __attribute__((unused));
static size_t tests_count_ __attribute__((unused));

#define TEST(fn)                                                                    \
    static void fn##_body_(void);                                                   \
    static void fn##_run_(void **state) { (void)state; fn##_body_(); }              \
    __attribute__((constructor)) static void fn##_add_(void)                        \
    {                                                                               \
        tests_[tests_count_++] = (struct CMUnitTest){ .name = #fn, .test_func = fn##_run_ }; \
    }                                                                               \
    static void fn##_body_(void)

#define CHECK(cond)       assert_true(cond)
#define CHECK_EQ(a, b)    assert_int_equal((a), (b))
#define CHECK_NE(a, b)    assert_int_not_equal((a), (b))
#define CHECK_STR(a, b)   assert_string_equal((a), (b))
#define CHECK_MEM(a, b, n) assert_memory_equal((a), (b), (n))
#define CHECK_HAS(text, part) assert_non_null(strstr((text), (part)))

#define TEST_MAIN                                                                   \
    int main(void)                                                                  \
    {                                                                               \
        cmocka_set_message_output(CM_OUTPUT_TAP);                                   \
        return _cmocka_run_group_tests(__FILE__, tests_, tests_count_, NULL, NULL); \
    }

#endif
