/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SCSI: a bus on which a host adapter (LSI, virtio-scsi, …) drives targets (disk, CD-ROM).
 * SAM-5 for tasks, SPC-4, SBC-3, MMC-6 for commands. Loop thread or under the machine's lock.
 *
 * The life of a command: the adapter takes a request from the bus, gives it the CDB, and starts it.
 * The target answers with data phases, each a piece of its own buffer that the adapter fills
 * or empties at its own pace and then continues, and at last with complete(). Callbacks are never
 * called from inside scsi_start or scsi_continue of the same request when back-end I/O is needed;
 * they may be for commands answered from memory: an adapter must cope with both.
 */
#ifndef SCSI_SCSI_H
#define SCSI_SCSI_H

#include "obj/object.h"

#include <sys/uio.h>

enum { SCSI_CDB_MAX = 16, SCSI_SENSE_MAX = 96, SCSI_CHUNK_BYTES = 128 * 1024 };

enum scsi_status {
    SCSI_GOOD = 0x00, SCSI_CHECK_CONDITION = 0x02, SCSI_CONDITION_MET = 0x04, SCSI_BUSY = 0x08,
    SCSI_RESERVATION_CONFLICT = 0x18, SCSI_TASK_SET_FULL = 0x28, SCSI_TASK_ABORTED = 0x40,
};

enum scsi_dir { SCSI_NO_DATA, SCSI_FROM_TARGET, SCSI_TO_TARGET };

struct scsi_bus;
struct scsi_target;         /* one logical unit: the instance of a scsi-device class */
struct scsi_request;

/* What the host adapter is told. */
struct scsi_host_ops {
    /*
     * A data phase. FROM_TARGET: len bytes lie at buf. TO_TARGET: len bytes are wanted at buf. buf
     * stays valid until scsi_continue or the end of the request. len > 0.
     */
    void (*data)(struct scsi_request *req, uint8_t *buf, size_t len);
    /* The command has ended; sense is in the request (scsi_sense). residual: bytes the initiator's
     * CDB announced that were not moved. The adapter's reference stays its own. */
    void (*complete)(struct scsi_request *req, enum scsi_status status, size_t residual);
    /* The request was cancelled (scsi_cancel, reset, unplug) and will do nothing more. */
    void (*cancelled)(struct scsi_request *req);
    /* A target's unit attention or the like needs no call; a medium change or unplug may. */
    void (*changed)(struct scsi_bus *bus, struct scsi_target *target);
};

struct scsi_bus_config {
    const struct scsi_host_ops *ops;
    unsigned max_target, max_lun;       /* inclusive: 15 and 7 for the LSI, 255 and 16383 virtio */
    unsigned host_id;                   /* the adapter's own id, not to be given to a target; ~0: none */
    bool tagged;
};

/* Named "<owner id>.0"; type "SCSI". Freed with the adapter. */
int scsi_bus_new(struct object *adapter, const struct scsi_bus_config *config,
                 struct scsi_bus **ret_bus, struct error *err) MUST_CHECK;
void scsi_bus_free(struct scsi_bus *bus);
struct object *scsi_bus_adapter(struct scsi_bus *bus);

/* The unit at (channel 0, target, lun); or, if the target has other units only, one of them with
 * *ret_exact false, which answers INQUIRY and REPORT LUNS for the absent one (SAM-5 4.6, SPC-4 6.6.1);
 * NULL: no such target, selection times out. */
struct scsi_target *scsi_find(struct scsi_bus *bus, unsigned target, unsigned lun, bool *ret_exact);

/*
 * A request for cdb (cdb_len bytes as they arrived, checked here) to (target, lun). hba is the
 * adapter's own pointer. Returns NULL when out of memory or over the unit's bound (then answer
 * TASK SET FULL). One reference, the adapter's.
 */
struct scsi_request *scsi_request_new(struct scsi_target *target, unsigned lun, uint32_t tag,
                                      const uint8_t *cdb, size_t cdb_len, void *hba);
struct scsi_request *scsi_request_get(struct scsi_request *req);
void scsi_request_put(struct scsi_request *req);        /* NULL allowed */

/* Bytes the command will move and in which direction, known from the CDB before the start. */
enum scsi_dir scsi_request_dir(const struct scsi_request *req);
size_t scsi_request_len(const struct scsi_request *req);

void scsi_start(struct scsi_request *req);
void scsi_continue(struct scsi_request *req);           /* the piece at buf has been moved */
void scsi_cancel(struct scsi_request *req);             /* cancelled() follows, perhaps later */

/* The piece offered by the last data() and not yet continued; NULL outside a data phase. */
uint8_t *scsi_request_data(const struct scsi_request *req, size_t *ret_len);

void *scsi_request_hba(const struct scsi_request *req);
/* NULL, as after loading: nobody's; then no callback is made, and the request goes when it ends. */
void scsi_request_set_hba(struct scsi_request *req, void *hba);
uint32_t scsi_request_tag(const struct scsi_request *req);
unsigned scsi_request_lun(const struct scsi_request *req);
struct scsi_target *scsi_request_target(const struct scsi_request *req);
unsigned scsi_target_id(const struct scsi_target *target);
unsigned scsi_target_lun(const struct scsi_target *target);
/* Copies the sense data (fixed format) that goes with CHECK CONDITION; its length. */
size_t scsi_sense(const struct scsi_request *req, uint8_t buf[SCSI_SENSE_MAX]);

/* Task management. */
void scsi_target_reset(struct scsi_target *target);     /* its requests end with cancelled(); UA 29h */
void scsi_bus_reset(struct scsi_bus *bus);

/*
 * State. A request that is under way when the machine is paused is saved by its target; the adapter
 * saves its own view with the index that names the request, and finds it again after loading.
 * Targets are created after their adapter, hence loaded after it: an adapter resolves indices
 * when it resumes. Index: stable between save and load; -1: none.
 */
int scsi_request_index(const struct scsi_request *req);
struct scsi_request *scsi_request_by_index(struct scsi_target *target, unsigned index);

/* The abstract base class "scsi-device" and the real ones. */
extern const struct object_class scsi_device_base, scsi_hd_class, scsi_cd_class;

/*
 * When a target's pause returns, nothing of it is in flight on the back-end; what completed
 * meanwhile was told to the adapter by callbacks as always. Until resume a scsi_start or
 * scsi_continue that needs the back-end is remembered, saved with the state, and done then.
 */

#endif
