/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "monitor/json_stream.h"

#include <errno.h>
#include <string.h>

/* Feeds text in pieces of step bytes; writes a line per result: the value, or "!" and the error. */
static void run(const char *text, size_t len, size_t step, char *out, size_t out_size)
{
    struct json_stream s = { 0 };
    struct error err;
    json_t *v;
    int r;

    out[0] = 0;
    for (size_t at = 0; at < len; at += step) {
        CHECK_EQ(json_stream_feed(&s, text + at, MIN(step, len - at)), 0);
        while ((r = json_stream_next(&s, &v, &err)) != 0) {
            size_t used = strlen(out);
            if (r < 0) {
                snprintf(out + used, out_size - used, "!%s\n", err.text);
                continue;
            }
            char *dump = json_dumps(v, JSON_COMPACT);
            snprintf(out + used, out_size - used, "%s\n", dump);
            free(dump);
            json_decref(v);
        }
    }
    json_stream_fini(&s);
}

static void check_len(const char *text, size_t len, const char *want)
{
    char out[2048];

    for (size_t step = 1; step <= len; step++) {
        run(text, len, step, out, sizeof out);
        CHECK_STR(out, want);
    }
}

static void check(const char *text, const char *want) { check_len(text, strlen(text), want); }

TEST(values_come_out_however_the_bytes_are_cut)
{
    check("{\"a\":1}{\"b\":[2,{}]}  \r\n[1]", "{\"a\":1}\n{\"b\":[2,{}]}\n[1]\n");
    check("{\n \"a\"\n:\n\"}\\\"{\" }\n", "{\"a\":\"}\\\"{\"}\n");
    check("{\"a\":\"\\\\\"}{}", "{\"a\":\"\\\\\"}\n{}\n");
    check("  \n", "");
    check("{\"a\":", "");
}

TEST(a_bad_value_with_matching_brackets_costs_only_itself)
{
    check("{1}{\"a\":1}", "!JSON parse error, string or '}' expected near '1'\n{\"a\":1}\n");
    check("{\"a\":1,\"a\":2}{}", "!JSON parse error, duplicate object key near '\"a\"'\n{}\n");
}

TEST(other_mistakes_cost_the_rest_of_the_line)
{
    check("hello {\"a\":1}\n{\"b\":2}", "!JSON parse error, expecting an object\n{\"b\":2}\n");
    check("{\"a\": ]} {}\n{}", "!JSON parse error, brackets do not match\n{}\n");
    check("{\"a: 1}\n{}", "!JSON parse error, a string does not end before its line does\n{}\n");
    check("42\n{}", "!JSON parse error, expecting an object\n{}\n");
}

TEST(byte_ff_resets_the_parser)
{
    check("{\"a\": [\xff{\"b\":1}", "!JSON parse error, the value was broken off\n{\"b\":1}\n");
    check("\xff{}", "{}\n");
}

TEST(a_zero_byte_is_a_mistake_like_others)
{
    check_len("{\"a\":\"\0\"}{}", 11, "!JSON parse error, control character 0x0 near '\"'\n{}\n");
}

TEST(depth_is_bounded)
{
    char text[JSON_STREAM_DEPTH_MAX + 8], out[256];

    memset(text, '[', sizeof text);
    text[sizeof text - 1] = '\n';
    run(text, sizeof text, sizeof text, out, sizeof out);
    CHECK_STR(out, "!JSON parse error, too deeply nested\n");
}

TEST(length_is_bounded_and_the_stream_recovers)
{
    struct json_stream s = { 0 };
    struct error err;
    json_t *v;
    char block[4096];
    size_t fed = 0;
    int r = 0;

    CHECK_EQ(json_stream_feed(&s, "{\"a\":\"", 6), 0);
    memset(block, 'x', sizeof block);
    for (; r == 0 && fed < 4 * JSON_STREAM_VALUE_MAX; fed += sizeof block) {
        CHECK_EQ(json_stream_feed(&s, block, sizeof block), 0);
        r = json_stream_next(&s, &v, &err);
    }
    CHECK_EQ(r, -EINVAL);
    CHECK_HAS(err.text, "too large");
    CHECK(fed <= JSON_STREAM_VALUE_MAX + 2 * sizeof block);
    for (int i = 0; i < 1024; i++) {                /* what is skipped is not kept */
        CHECK_EQ(json_stream_feed(&s, block, sizeof block), 0);
        CHECK_EQ(json_stream_next(&s, &v, &err), 0);
    }
    CHECK_EQ(json_stream_feed(&s, "\n{}", 3), 0);
    CHECK_EQ(json_stream_next(&s, &v, &err), 1);
    json_decref(v);
    CHECK(s.cap <= 4 * JSON_STREAM_VALUE_MAX);
    json_stream_fini(&s);
}

TEST(more_than_the_bound_is_refused_before_it_is_kept)
{
    struct json_stream s = { 0 };
    size_t len = 2 * JSON_STREAM_VALUE_MAX + 1;

    AUTO_FREE char *block = malloc(len);
    memset(block, ' ', len);
    CHECK_EQ(json_stream_feed(&s, block, len), -EMSGSIZE);
    CHECK_EQ(json_stream_feed(&s, block, len - 1), 0);
    json_stream_fini(&s);
}

TEST_MAIN
