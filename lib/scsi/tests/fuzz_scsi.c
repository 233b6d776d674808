/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CDBs, data and the adapter's moves from the input, against a disk and a CD-ROM on memory; save and
 * load in between, of the true state and of one with bytes changed.
 */
#include "fake.h"

static const char *const devices[] = { "scsi-hd,id=d0,drive=x,scsi-id=0,removable=on",
                                       "scsi-cd,id=c0,drive=z,scsi-id=1", NULL };

struct input { const uint8_t *at, *end; };

static uint8_t next(struct input *in) { return in->at < in->end ? *in->at++ : 0; }

static void corrupt_and_load(struct world *w, struct input *in)
{
    struct state_buf buf = { 0 };
    struct world other = { .devices = devices };
    struct command scrap = { 0 };       /* of the commands that came with the state */
    struct error err;

    objects_pause(&w->tree);
    if (objects_save(&w->tree, &buf, &err) < 0)
        abort();
    objects_resume(&w->tree);
    for (int i = next(in) % 8; i > 0; i--) {
        size_t at = (next(in) << 8 | next(in)) % buf.len;
        buf.data[at] = next(in);
    }
    world_build(&other);
    objects_pause(&other.tree);
    int r = objects_load(&other.tree, buf.data, buf.len, &err);
    for (unsigned id = 0; id < 2; id++)
        for (unsigned i = 0; i < 256; i++) {
            bool exact;
            struct scsi_target *t = scsi_find(other.hba->bus, id, 0, &exact);
            struct scsi_request *req = scsi_request_by_index(t, i);
            if (req)
                scsi_request_set_hba(req, &scrap);
        }
    if (r == 0)
        objects_resume(&other.tree);
    while (fake_step()) {}
    obj_tree_fini(&other.tree);
    state_buf_fini(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, data + size };
    static struct world w;

    log_init("fuzz", LOG_ERROR);
    w = (struct world){ .devices = devices };
    fake.queued = fake.fail_next = 0;
    world_build(&w);
    for (int steps = 0; in.at < in.end && steps < 200; steps++) {
        struct command *c = w.count ? w.commands[next(&in) % w.count] : NULL;
        uint8_t cdb[16];
        switch (next(&in) % 8) {
        case 0:
        case 1:
            if (w.count >= 8)
                break;
            size_t len = next(&in) % 17;
            for (size_t i = 0; i < len; i++)
                cdb[i] = next(&in);
            uint8_t out[64];
            for (size_t i = 0; i < sizeof out; i++)
                out[i] = next(&in);
            c = command_new(&w, next(&in) & 1, next(&in) & 1, cdb, len, out, sizeof out);
            if (c->req)
                scsi_start(c->req);
            break;
        case 2:
        case 3:
            if (c && c->req && !c->done)
                command_step(&w, c);
            break;
        case 4:
            if (c && c->req)
                scsi_cancel(c->req);
            break;
        case 5:
            if (c && (c->done || !c->req))
                command_free(&w, c);
            break;
        case 6:
            fake.fail_next = -(next(&in) % 40);
            fake_step();
            break;
        case 7:
            switch (next(&in) % 4) {
            case 0: scsi_bus_reset(w.hba->bus); break;
            case 1: if (world_checkpoint(&w) < 0) abort(); break;
            case 2: corrupt_and_load(&w, &in); break;
            case 3: objects_pause(&w.tree); objects_resume(&w.tree); break;
            }
        }
    }
    world_end(&w);
    return 0;
}
