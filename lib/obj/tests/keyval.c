/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "obj/keyval.h"
#include "obj/prop.h"

#include <errno.h>
#include <string.h>

static void check_same(const char *text, const char *implied, const char *json)
{
    json_t *got, *want = json_loads(json, 0, NULL);
    struct error err;
    CHECK_EQ(keyval_parse(text, implied, "-x", &got, &err), 0);
    CHECK(json_equal(got, want));
    json_decref(got);
    json_decref(want);
}

static void check_fails(const char *text, const char *implied, const char *part)
{
    json_t *got;
    struct error err;
    CHECK_EQ(keyval_parse(text, implied, "-x", &got, &err), -EINVAL);
    CHECK_HAS(err.text, part);
}

TEST(keyval_takes_what_qemu_takes)
{
    check_same("a=b,c=d", NULL, "{\"a\":\"b\",\"c\":\"d\"}");
    check_same("lsi53c895a,id=x", "driver", "{\"driver\":\"lsi53c895a\",\"id\":\"x\"}");
    check_same("file=a,,b=c", NULL, "{\"file\":\"a,b=c\"}");
    check_same("driver=qcow2,file.driver=file,file.filename=x", NULL,
               "{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"x\"}}");
    check_same("a=", NULL, "{\"a\":\"\"}");
    check_same("", "driver", "{}");
    check_same("{\"a\": 1}", NULL, "{\"a\": 1}");
}

TEST(keyval_says_what_is_wrong)
{
    check_fails("a=1,a=2", NULL, "'a' is given twice");
    check_fails("a=1,b", NULL, "'b' is not of the form");
    check_fails("=1", NULL, "bad option name");
    check_fails("a..b=1", NULL, "bad option name");
    check_fails("a.=1", NULL, "bad option name");
    check_fails("a=1,a.b=2", NULL, "both as a value");
    check_fails("{\"a\": ", NULL, "bad JSON");
    check_fails("{\"a\":1,\"a\":2}", NULL, "duplicate");
    check_fails("a=\xff", NULL, "UTF-8");
}

TEST(sizes_have_suffixes_and_bounds)
{
    uint64_t v;
    CHECK_EQ(size_parse("512", 1 << 20, &v), 0);
    CHECK_EQ(v, 512ull << 20);
    CHECK_EQ(size_parse("1.5G", 1, &v), 0);
    CHECK_EQ(v, 1536ull << 20);
    CHECK_EQ(size_parse("0x10k", 1, &v), 0);
    CHECK_EQ(v, 16384);
    CHECK_EQ(size_parse("16E", 1, &v), -ERANGE);
    CHECK_EQ(size_parse("5x", 1, &v), -EINVAL);
    CHECK_EQ(size_parse("-5", 1, &v), -EINVAL);
    CHECK_EQ(size_parse("1.5", 1, &v), -EINVAL);
    CHECK_EQ(size_parse("", 1, &v), -EINVAL);
}

TEST_MAIN
