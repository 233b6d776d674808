/* SPDX-License-Identifier: Apache-2.0 */
/* scsi-hd: a direct-access block device. SBC-3. */
#include "scsi/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { WRITE_CACHE_AUTO, WRITE_CACHE_ON, WRITE_CACHE_OFF };

/* What only a disk can be told. */
struct disk {
    bool removable, dpofua;
    uint16_t rotation_rate;
};

static bool text_fits(const char *text, size_t max, const char *what, struct error *err)
{
    if (text && strlen(text) > max) {
        error_set(err, -EINVAL, "'%s' is longer than %zu characters", what, max);
        return false;
    }
    for (const char *c = text; c && *c; c++)
        if (*c < 0x20 || *c > 0x7e) {
            error_set(err, -EINVAL, "'%s' has characters that are not printable ASCII", what);
            return false;
        }
    return true;
}

int scsi_target_attach(struct scsi_target *t, bool writable, struct error *err)
{
    struct block_graph *graph = t->obj->tree->services[SERVICE_BLOCK];

    if (!text_fits(t->serial, 36, "serial", err) || !text_fits(t->vendor, 8, "vendor", err) ||
        !text_fits(t->product, 16, "product", err) || !text_fits(t->version, 4, "ver", err) ||
        !text_fits(t->device_id, 64, "device_id", err))
        return err ? err->code : -EINVAL;
    if (!t->product)
        t->product = strdup(t->type == TYPE_CDROM ? "CD-ROM" : "DISK");
    if (!t->product)
        return error_oom(err);
    if (!t->drive)
        return 0;
    if (!graph)
        return error_set(err, -EINVAL, "this process has no disk images");
    int r = block_attach(graph, t->drive, writable, object_name(t->obj), &t->block, err);
    if (r == -EROFS && writable)    /* a node that cannot be written makes a write-protected disk */
        r = block_attach(graph, t->drive, false, object_name(t->obj), &t->block, err);
    if (r < 0)
        return r;
    t->block_count = block_size(t->block) / t->block_bytes;
    t->medium = true;
    if (t->block_count)
        return 0;
    block_detach(TAKE_PTR(t->block));
    t->medium = false;
    return error_set(err, -EINVAL, "node '%s' is smaller than one block of %u bytes", t->drive,
                     t->block_bytes);
}

void scsi_target_unrealize(struct object *obj)
{
    struct scsi_target *t = scsi_target_of(obj);
    if (t->sbus)
        scsi_targets_abort(t);
    block_detach(TAKE_PTR(t->block));
    t->medium = false;
}

/* ---- VPD pages: SBC-3, 6.6 ---- */

static size_t block_limits(const struct scsi_target *t, uint8_t *buf)
{
    uint32_t bs = t->block_bytes;

    buf[4] = 1;                                         /* WSNZ */
    be16_store(buf + 6, t->min_io_size / bs);
    be32_store(buf + 8, t->max_io_size / bs);
    be32_store(buf + 12, t->opt_io_size / bs);
    if (t->discard_granularity) {
        be32_store(buf + 20, MIN(t->max_unmap_size / bs, (uint64_t)UINT32_MAX));
        be32_store(buf + 24, 255);                      /* descriptors in one UNMAP */
        be32_store(buf + 28, t->discard_granularity / bs);
        be32_store(buf + 32, 0x80000000);               /* UGAVALID, alignment 0 */
    }
    be64_store(buf + 36, WRITE_SAME_MAX_BYTES / bs);
    return 64;
}

static size_t disk_vpd(struct scsi_target *t, uint8_t page, uint8_t *buf)
{
    switch (page) {
    case 0xb0:
        return block_limits(t, buf);
    case 0xb1:                                          /* characteristics */
        be16_store(buf + 4, t->rotation_rate);
        return 64;
    case 0xb2:                                          /* logical block provisioning */
        if (t->discard_granularity) {
            buf[5] = 0xe0;                              /* UNMAP, WRITE SAME (16) and (10) */
            buf[6] = 2;                                 /* thin */
        }
        return 8;
    default:
        return 0;
    }
}

static const uint8_t disk_vpd_pages[] = { 0xb0, 0xb1, 0xb2, 0 };

/* ---- mode pages ---- */

static size_t disk_mode_page(struct scsi_target *t, uint8_t page, uint8_t control, uint8_t *buf)
{
    bool values = control != 1;
    uint64_t cylinders = MIN(MAX(t->block_count / (16 * 63), (uint64_t)2), (uint64_t)0xffffff);

    switch (page) {
    case 0x01:                              /* read-write error recovery */
        buf[0] = 0x01;
        buf[1] = 0x0a;
        if (values && !(t->block && block_read_only(t->block)))
            buf[2] = 0x80;                  /* AWRE */
        return 12;
    case 0x04:                              /* rigid disk geometry: a fiction some tools want */
        buf[0] = 0x04;
        buf[1] = 0x16;
        if (values) {
            be32_store(buf + 2, cylinders << 8 | 16);
            be16_store(buf + 20, t->rotation_rate > 1 ? t->rotation_rate : 5400);
        }
        return 24;
    case 0x08:
        return scsi_mode_caching(t, control, buf);
    case 0x0a:                              /* control: unrestricted reordering */
        buf[0] = 0x0a;
        buf[1] = 0x0a;
        if (values)
            buf[3] = 0x10;
        return 12;
    default:
        return 0;
    }
}

static const uint8_t disk_mode_pages[] = { 0x01, 0x04, 0x08, 0x0a, 0 };

static void disk_mode_select(struct scsi_target *t, uint8_t page, const uint8_t *body)
{
    if (page == 0x08) {
        t->wce = body[0] >> 2 & 1;
        block_set_write_cache(t->block, t->wce);
    }
}

static const struct scsi_target_ops disk_ops = {
    .commands = sbc_commands, .count = &sbc_command_count, .inquiry_vpd = disk_vpd, .vpd_pages = disk_vpd_pages,
    .mode_page = disk_mode_page, .mode_pages = disk_mode_pages, .mode_select = disk_mode_select,
};

/* ---- the class ---- */

static bool size_ok(uint64_t size, uint64_t unit, const char *what, struct error *err)
{
    if (size % unit == 0)
        return true;
    error_set(err, -EINVAL, "'%s' must be a multiple of the block size, %u", what, (unsigned)unit);
    return false;
}

static int hd_check(struct scsi_target *t, struct error *err)
{
    if (!is_power_of_two(t->block_bytes) || t->block_bytes < 512)
        return error_set(err, -EINVAL, "'logical_block_size' must be a power of two from 512");
    if (!is_power_of_two(t->physical_block_size) || t->physical_block_size < t->block_bytes)
        return error_set(err, -EINVAL, "'physical_block_size' must be a power of two and not less "
                         "than 'logical_block_size'");
    if (!size_ok(t->min_io_size, t->block_bytes, "min_io_size", err) ||
        !size_ok(t->opt_io_size, t->block_bytes, "opt_io_size", err) ||
        !size_ok(t->max_io_size, t->block_bytes, "max_io_size", err) ||
        !size_ok(t->discard_granularity, t->block_bytes, "discard_granularity", err))
        return err ? err->code : -EINVAL;
    return t->drive ? 0 : error_set(err, -EINVAL, "'drive' is missing");
}

static int hd_realize(struct object *obj, struct error *err)
{
    struct scsi_target *t = scsi_target_of(obj);
    const struct disk *disk = object_self(obj);

    t->type = TYPE_DISK;
    t->removable = disk->removable;
    t->dpofua = disk->dpofua;
    t->rotation_rate = disk->rotation_rate;
    t->block_bytes = t->logical_block_size ? t->logical_block_size : 512;
    if (!t->physical_block_size)
        t->physical_block_size = t->block_bytes;
    if (t->discard_granularity == UINT32_MAX)
        t->discard_granularity = MAX(t->block_bytes, 4096u);
    t->ops = &disk_ops;
    int r = hd_check(t, err);
    if (r == 0)
        r = scsi_target_attach(t, true, err);
    if (r < 0)
        return r;
    t->wce = t->write_cache == WRITE_CACHE_AUTO ? block_write_cache(t->block)
                                                : t->write_cache == WRITE_CACHE_ON;
    block_set_write_cache(t->block, t->wce);
    scsi_raise_ua(t, UA_POWER_ON);
    return 0;
}

const struct object_class scsi_hd_class = {
    .name = "scsi-hd", .summary = "SCSI disk", .parent = &scsi_device_base,
    .size = sizeof(struct disk),
    .props = (const struct prop[]){
        PROP_BOOL("removable", struct disk, removable, false, "the medium can be taken out"),
        PROP_BOOL("dpofua", struct disk, dpofua, true, "announce DPO and FUA"),
        PROP_UINT("rotation_rate", struct disk, rotation_rate, 0, UINT16_MAX, 0,
                  "rounds a minute; 1: does not rotate; 0: not said"),
        PROP_END },
    .realize = hd_realize, .unrealize = scsi_target_unrealize,
};
