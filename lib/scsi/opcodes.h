/* SPDX-License-Identifier: Apache-2.0 */
/* Operation codes: SPC-4 table D.2 and MMC-6 table 246. */
#ifndef SCSI_OPCODES_H
#define SCSI_OPCODES_H

enum scsi_opcode {
    TEST_UNIT_READY = 0x00, REZERO_UNIT = 0x01, REQUEST_SENSE = 0x03, FORMAT_UNIT = 0x04,
    READ_6 = 0x08, WRITE_6 = 0x0a, SEEK_6 = 0x0b, INQUIRY = 0x12, MODE_SELECT_6 = 0x15,
    RESERVE_6 = 0x16, RELEASE_6 = 0x17, MODE_SENSE_6 = 0x1a, START_STOP_UNIT = 0x1b,
    SEND_DIAGNOSTIC = 0x1d, PREVENT_ALLOW = 0x1e, READ_FORMAT_CAPACITIES = 0x23,
    READ_CAPACITY_10 = 0x25, READ_10 = 0x28, WRITE_10 = 0x2a, SEEK_10 = 0x2b,
    WRITE_VERIFY_10 = 0x2e, VERIFY_10 = 0x2f, SYNCHRONIZE_CACHE_10 = 0x35, WRITE_SAME_10 = 0x41,
    UNMAP = 0x42, READ_SUB_CHANNEL = 0x42, READ_TOC = 0x43, GET_CONFIGURATION = 0x46,
    GET_EVENT_STATUS = 0x4a, LOG_SENSE = 0x4d, READ_DISC_INFORMATION = 0x51,
    READ_TRACK_INFORMATION = 0x52, MODE_SELECT_10 = 0x55, RESERVE_10 = 0x56, RELEASE_10 = 0x57,
    MODE_SENSE_10 = 0x5a, READ_16 = 0x88, WRITE_16 = 0x8a, WRITE_VERIFY_16 = 0x8e,
    VERIFY_16 = 0x8f, SYNCHRONIZE_CACHE_16 = 0x91, WRITE_SAME_16 = 0x93,
    SERVICE_ACTION_IN_16 = 0x9e, REPORT_LUNS = 0xa0, MAINTENANCE_IN = 0xa3, READ_12 = 0xa8,
    WRITE_12 = 0xaa, READ_DVD_STRUCTURE = 0xad, WRITE_VERIFY_12 = 0xae, VERIFY_12 = 0xaf,
    SET_CD_SPEED = 0xbb, MECHANISM_STATUS = 0xbd, READ_CD = 0xbe,
};

enum { SAI_READ_CAPACITY_16 = 0x10, SAI_GET_LBA_STATUS = 0x12 };
enum { MI_REPORT_SUPPORTED_OPCODES = 0x0c };
enum { TYPE_DISK = 0x00, TYPE_CDROM = 0x05, TYPE_ABSENT = 0x7f };

/* Bytes of a CDB, by its group (SPC-4, 4.2.5.1); 0: reserved. */
static inline unsigned scsi_cdb_length(unsigned char opcode)
{
    static const unsigned char by_group[8] = { 6, 10, 10, 0, 16, 12, 0, 0 };
    return by_group[opcode >> 5];
}

#endif
