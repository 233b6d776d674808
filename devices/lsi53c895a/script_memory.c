/* SPDX-License-Identifier: Apache-2.0 */
/* Memory move (5.7) and load and store (5.8). */
#include "devices/lsi53c895a/lsi.h"

enum { CHUNK_BYTES = 4096, LS_DSA_RELATIVE = 0x10000000, LS_LOAD = 0x01000000 };

/* A piece at a time; DBC, DSPS and TEMP hold what is left, as in the chip. */
enum lsi_step lsi_exec_memory_move(struct lsi *s, unsigned *cost)
{
    uint8_t buf[CHUNK_BYTES];
    uint32_t left = lsi_dbc(s), from = lsi_reg32(s, DSPS), to = lsi_reg32(s, TEMP);
    uint32_t n = MIN(left, (uint32_t)CHUNK_BYTES);

    if (!left)
        return lsi_illegal(s);
    if (lsi_mem_read(s, lsi_reg32(s, MMRS), from, buf, n) < 0 ||
        lsi_mem_write(s, lsi_reg32(s, MMWS), to, buf, n) < 0)
        return lsi_bus_fault(s);
    *cost = 1 + (n >> LSI_COST_SHIFT);
    lsi_set_dbc(s, left - n);
    lsi_set32(s, DSPS, from + n);
    lsi_set32(s, DNAD, from + n);
    lsi_set32(s, TEMP, to + n);
    return left == n ? STEP_NEXT : STEP_AGAIN;
}

enum lsi_step lsi_exec_load_store(struct lsi *s)
{
    uint32_t op = lsi_reg32(s, DBC), addr = lsi_reg32(s, DSPS), high;
    unsigned r = op >> 16 & 0xff, n = op & 7;
    bool load = op & LS_LOAD;
    uint8_t buf[4];

    if (n == 0 || n > 4 || (r & 3) + n > 4)         /* within one dword of registers */
        return lsi_illegal(s);
    if (op & LS_DSA_RELATIVE) {
        addr = lsi_reg32(s, DSA) + lsi_sext24(addr);
        high = lsi_reg32(s, DRS);
    } else {
        high = lsi_reg32(s, load ? MMRS : MMWS);
    }
    if (load) {
        if (lsi_mem_read(s, high, addr, buf, n) < 0)
            return lsi_bus_fault(s);
        for (unsigned i = 0; i < n; i++)
            lsi_reg_write(s, r + i, buf[i], true);
        return STEP_NEXT;
    }
    for (unsigned i = 0; i < n; i++)
        buf[i] = lsi_reg_read(s, r + i);
    return lsi_mem_write(s, high, addr, buf, n) < 0 ? lsi_bus_fault(s) : STEP_NEXT;
}
