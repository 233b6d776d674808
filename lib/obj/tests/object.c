/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "obj/keyval.h"
#include "obj/object.h"

#include <errno.h>
#include <string.h>

static char trail[256];
static void note(const char *s) { strncat(trail, s, sizeof trail - strlen(trail) - 1); }

/* A base class, a device with a bus, a child that plugs into it. */
struct base { uint32_t speed; };
struct hub { struct bus bus; uint16_t reg; uint8_t mode; uint32_t used, more[4]; void *blob; uint32_t blob_len; };
struct leaf { char *label; bool fail; int32_t balance; int color; };

static void hub_init(struct object *obj, void *part) { note("init "); }
static void hub_fini(struct object *obj, void *part) { free(((struct hub *)part)->blob); note("fini "); }

static int no_slot_13(struct bus *bus, struct object *child, struct error *err)
{
    return 0;
}

static const struct bus_ops leaf_bus = { .plug = no_slot_13 };

static int hub_realize(struct object *obj, struct error *err)
{
    struct hub *hub = object_self(obj);
    note("realize ");
    return bus_init(&hub->bus, obj->tree, "LEAF", NULL, obj, &leaf_bus);
}
static void hub_unrealize(struct object *obj)
{
    struct hub *hub = object_self(obj);
    note("unrealize ");
    bus_fini(&hub->bus);
}
static int leaf_realize(struct object *obj, struct error *err)
{
    struct leaf *leaf = object_self(obj);
    return leaf->fail ? error_set(err, -EINVAL, "told to fail") : 0;
}
static void leaf_unrealize(struct object *obj) { note("leaf-gone "); }

static const char *const colors[] = { "red", "green", NULL };
static const struct object_class base_class = {
    .name = "base", .abstract = true, .size = sizeof(struct base),
    .props = (const struct prop[]){ PROP_UINT("speed", struct base, speed, 1, 10, 3, ""), PROP_END },
};
static const struct object_class hub_class = {
    .name = "hub", .parent = &base_class, .size = sizeof(struct hub), .init = hub_init,
    .fini = hub_fini, .realize = hub_realize, .unrealize = hub_unrealize, .state_version = 2,
    .state = (const struct state_field[]){
        STATE_U16(struct hub, reg), STATE_U8_MAX(struct hub, mode, 2),
        STATE_UINTS(struct hub, more, 100), STATE_BUFFER(struct hub, blob, blob_len, 16),
        STATE_END },
};
static const struct object_class leaf_class = {
    .name = "leaf", .bus_type = "LEAF", .size = sizeof(struct leaf), .realize = leaf_realize,
    .unrealize = leaf_unrealize,
    .props = (const struct prop[]){
        PROP_STRING("label", struct leaf, label, "none", ""),
        PROP_BOOL("fail", struct leaf, fail, false, ""),
        PROP_INT("balance", struct leaf, balance, -5, 5, -1, ""),
        PROP_ENUM("color", struct leaf, color, colors, 1, ""), PROP_END },
};
static const struct object_class *const classes[] = { &base_class, &hub_class, &leaf_class, NULL };

static int make(struct obj_tree *tree, const char *text, struct object **ret, struct error *err)
{
    json_t *d;
    CHECK_EQ(keyval_parse(text, "driver", "-device", &d, err), 0);
    int r = object_create(tree, d, ret, err);
    json_decref(d);
    return r;
}

static void setup(struct obj_tree *tree)
{
    trail[0] = 0;
    obj_tree_init(tree, NULL, classes);
}

TEST(objects_live_and_die_in_order)
{
    struct obj_tree tree;
    struct object *hub, *leaf;
    struct error err;

    setup(&tree);
    CHECK_EQ(make(&tree, "hub,id=h0,speed=0x7", &hub, &err), 0);
    CHECK_EQ(((struct base *)object_part(hub, &base_class))->speed, 7);
    CHECK_EQ(make(&tree, "leaf,label=a b,balance=-3,color=red", &leaf, &err), 0);
    struct leaf *l = object_self(leaf);
    CHECK_STR(l->label, "a b");
    CHECK_EQ(l->balance, -3);
    CHECK_EQ(l->color, 0);
    CHECK_STR(leaf->bus->name, "h0.0");
    CHECK(object_find(&tree, "h0") == hub);
    object_destroy(hub);        /* takes its children along */
    CHECK_STR(trail, "init realize leaf-gone unrealize fini ");
    CHECK(list_empty(&tree.objects));
    obj_tree_fini(&tree);
}

TEST(creation_errors_name_what_is_wrong_and_leave_nothing)
{
    static const struct { const char *text, *part; } bad[] = {
        { "hub,id=h0", "the id 'h0' is in use" },
        { "nothing", "there is no device 'nothing'" },
        { "base", "family" },
        { "hub,id=9x", "cannot be an id" },
        { "hub,sped=1", "'hub' has no property 'sped'" },
        { "hub,speed=11", "'speed' must be from 1 to 10" },
        { "hub,speed=-1", "'speed' must be from 1 to 10" },
        { "hub,speed=fast", "'speed' must be a number" },
        { "hub,bus=h0.0", "does not plug" },
        { "leaf,bus=h1.0", "there is no bus 'h1.0'" },
        { "leaf,fail=on", "told to fail" },
        { "leaf,fail=maybe", "'fail' must be on or off" },
        { "leaf,balance=6", "'balance' must be from -5 to 5" },
        { "leaf,color=blue", "one of red, green" },
        { "id=x", "'driver' is missing" },
    };
    struct obj_tree tree;
    struct object *hub, *obj;
    struct error err;

    setup(&tree);
    CHECK_EQ(make(&tree, "hub,id=h0", &hub, &err), 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        json_t *d;
        CHECK_EQ(keyval_parse(bad[i].text, strchr(bad[i].text, '=') && !strchr(bad[i].text, ',')
                              ? NULL : "driver", "-device", &d, &err), 0);
        CHECK(object_create(&tree, d, &obj, &err) < 0);
        CHECK_HAS(err.text, bad[i].part);
        json_decref(d);
    }
    CHECK(tree.objects.next == tree.objects.prev);      /* the hub alone */
    obj_tree_fini(&tree);
}

TEST(saved_state_loads_into_a_fresh_object)
{
    struct obj_tree a, b;
    struct object *obj;
    struct error err;
    struct state_buf buf = { 0 };

    setup(&a);
    CHECK_EQ(make(&a, "hub,id=h0", &obj, &err), 0);
    struct hub *h = object_self(obj);
    h->reg = 0xbeef;
    h->mode = 2;
    h->more[3] = 99;
    h->blob = strdup("hello");
    h->blob_len = 5;
    CHECK_EQ(objects_save(&a, &buf, &err), 0);
    obj_tree_fini(&a);

    setup(&b);
    CHECK_EQ(make(&b, "hub,id=h0", &obj, &err), 0);
    CHECK_EQ(objects_load(&b, buf.data, buf.len, &err), 0);
    h = object_self(obj);
    CHECK_EQ(h->reg, 0xbeef);
    CHECK_EQ(h->mode, 2);
    CHECK_EQ(h->more[3], 99);
    CHECK_EQ(h->blob_len, 5);
    CHECK_MEM(h->blob, "hello", 5);

    /* Cut anywhere, it is refused; whatever byte is changed, nothing out of range gets in. */
    for (size_t cut = 0; cut < buf.len; cut++)
        CHECK(objects_load(&b, buf.data, cut, &err) < 0);
    for (size_t i = 0; i < buf.len; i++) {
        buf.data[i] ^= 0xff;
        if (objects_load(&b, buf.data, buf.len, &err) == 0)
            CHECK(h->mode <= 2 && h->more[0] <= 100 && h->blob_len <= 16);
        buf.data[i] ^= 0xff;
    }
    state_buf_fini(&buf);
    obj_tree_fini(&b);
}

TEST_MAIN
