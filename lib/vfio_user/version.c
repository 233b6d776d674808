/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VERSION's JSON text: {"capabilities": {…}}. What we add of our own stands under one key that
 * no other project uses; it is sent only by a client of ours, and answered only to one.
 */
#include "vfio_user/proto.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

#define OUR_KEY "bulkhead"

/* *val is left alone when the member is absent. */
static int member_uint(const json_t *obj, const char *key, uint64_t max, uint64_t *val,
                       struct error *err)
{
    const json_t *v = json_object_get(obj, key);

    if (!v)
        return 0;
    if (!json_is_integer(v) || json_integer_value(v) < 0 ||
        (uint64_t)json_integer_value(v) > max)
        return error_set(err, -EPROTO, "VERSION's %s is no integer from 0 to %llu", key,
                         (unsigned long long)max);
    *val = json_integer_value(v);
    return 0;
}

static int caps_decode(const json_t *obj, bool is_reply, struct vfu_caps *caps, struct error *err)
{
    /* QEMU takes 8 descriptors for the default, the specification 1: the smaller suits both. */
    uint64_t fds = 1, data = VFU_DATA_MAX, maps = 65535, pgsizes = 4096, index = 0, ours = 0;
    const json_t *twin = json_object_get(obj, "twin_socket");
    const json_t *bulkhead = json_object_get(obj, OUR_KEY);
    int r;

    if ((r = member_uint(obj, "max_msg_fds", 1024, &fds, err)) < 0 ||
        (r = member_uint(obj, "max_data_xfer_size", INT64_MAX, &data, err)) < 0 ||
        (r = member_uint(obj, "max_dma_maps", INT64_MAX, &maps, err)) < 0 ||
        (r = member_uint(obj, "pgsizes", INT64_MAX, &pgsizes, err)) < 0 ||
        (r = member_uint(twin, "fd_index", VFU_FDS_MAX - 1, &index, err)) < 0 ||
        (r = member_uint(bulkhead, "version", UINT32_MAX, &ours, err)) < 0)
        return r;
    if (data == 0)
        return error_set(err, -EPROTO, "VERSION's max_data_xfer_size is 0");

    caps->max_msg_fds = fds;
    caps->max_data = MIN(data, (uint64_t)VFU_DATA_MAX);
    caps->max_dma_maps = MIN(maps, (uint64_t)UINT32_MAX);
    caps->pgsizes = pgsizes;
    caps->write_multiple = json_is_true(json_object_get(obj, "write_multiple"));
    caps->twin_socket = json_is_true(json_object_get(twin, "supported"));
    caps->bulkhead = ours;
    if (is_reply && caps->twin_socket && !json_object_get(twin, "fd_index"))
        return error_set(err, -EPROTO, "VERSION's twin_socket has no fd_index");
    caps->twin_index = index;

    const char *id = json_string_value(json_object_get(bulkhead, "device"));
    snprintf(caps->device_id, sizeof caps->device_id, "%s", id ? id : "");
    return 0;
}

int vfu_version_decode(const uint8_t *body, size_t len, bool is_reply, struct vfu_caps *ret,
                       struct error *err)
{
    struct vfu_wire_version w;

    if (len < sizeof w)
        return error_set(err, -EPROTO, "VERSION with a body of %zu bytes", len);
    memcpy(&w, body, sizeof w);
    if (le16_get(w.major) != VFU_MAJOR)
        return error_set(err, -EPROTO, "the peer speaks version %u.%u of vfio-user, we speak %d",
                         le16_get(w.major), le16_get(w.minor), VFU_MAJOR);

    struct vfu_caps caps = { 0 };
    const char *text = (const char *)body + sizeof w;
    size_t room = len - sizeof w;
    if (room > VFU_JSON_MAX)
        return error_set(err, -EPROTO, "VERSION's text has %zu bytes; %d are the most", room,
                         VFU_JSON_MAX);
    size_t text_len = room ? strnlen(text, room) : 0;
    if (room && text_len == room)
        return error_set(err, -EPROTO, "VERSION's text does not end with a NUL");

    json_t *root = NULL;
    if (text_len) {
        json_error_t why;
        root = json_loadb(text, text_len, 0, &why);
        if (!root)
            return error_set(err, -EPROTO, "VERSION's text is no JSON (%s)", why.text);
    }
    json_t *obj = json_object_get(root, "capabilities");
    int r;
    if ((root && !json_is_object(root)) || (obj && !json_is_object(obj)))
        r = error_set(err, -EPROTO, "VERSION's text or its capabilities are no object");
    else
        r = caps_decode(obj, is_reply, &caps, err);
    json_decref(root);
    if (r < 0)
        return r;

    caps.minor = le16_get(w.minor);
    *ret = caps;
    return 0;
}

int vfu_version_text(const struct vfu_caps *caps, bool is_reply, char *buf, size_t cap)
{
    json_t *obj = json_pack("{s:i, s:I, s:i, s:I}", "max_msg_fds", (int)caps->max_msg_fds,
                            "max_data_xfer_size", (json_int_t)caps->max_data, "max_dma_maps",
                            (int)caps->max_dma_maps, "pgsizes", (json_int_t)caps->pgsizes);
    int r = obj ? 0 : -ENOMEM;

    if (caps->write_multiple)
        r |= json_object_set_new(obj, "write_multiple", json_true());
    if (caps->twin_socket)
        r |= json_object_set_new(obj, "twin_socket",
                                 is_reply ? json_pack("{s:b, s:i}", "supported", 1, "fd_index",
                                                      (int)caps->twin_index)
                                          : json_pack("{s:b}", "supported", 1));
    if (caps->bulkhead)
        r |= json_object_set_new(obj, OUR_KEY,
                                 is_reply ? json_pack("{s:i, s:s}", "version",
                                                      (int)caps->bulkhead, "device",
                                                      caps->device_id)
                                          : json_pack("{s:i}", "version", (int)caps->bulkhead));
    json_t *root = json_pack("{s:o}", "capabilities", obj);     /* takes obj, also if it fails */
    size_t len = 0;
    if (root && r == 0)
        len = json_dumpb(root, buf, cap - 1, JSON_COMPACT);
    json_decref(root);
    if (len == 0)
        return -ENOMEM;
    if (len > cap - 1)
        return -ENOSPC;
    buf[len] = '\0';
    return len + 1;
}
