/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory as the device process may map it (row D1): follows the bus's DMA address space. */
#include "remote/proxy_internal.h"

#include "base/log.h"

#include <errno.h>

enum { PAGE = 4096 };

/* The whole pages of a section; false if there are none, or it is no memory. */
static bool section_range(const struct mem_section *s, struct vfu_dma_map *ret_map)
{
    uint64_t start = align_up(s->addr, PAGE), end = align_down(s->addr + s->size, PAGE);

    if (!mem_is_ram(s->region) || start >= end)
        return false;
    *ret_map = (struct vfu_dma_map){
        .addr = start, .size = end - start,
        .offset = mem_ram_fd_offset(s->region) + s->offset + (start - s->addr),
        .flags = VFU_DMA_READABLE | (s->readonly ? 0 : VFU_DMA_WRITABLE),
    };
    return true;
}

static void on_add(struct mem_listener *l, const struct mem_section *s)
{
    struct proxy *p = container_of(l, struct proxy, listener);
    struct vfu_dma_map map;
    struct error err;

    if (section_range(s, &map) && vfu_client_alive(p->client) &&
        vfu_client_dma_map(p->client, &map, mem_ram_fd(s->region), &err) < 0 &&
        vfu_client_alive(p->client))
        log_warn("device '%s' cannot reach guest memory at 0x%llx: %s",
                 pci_device_name(p->pdev), (unsigned long long)map.addr, err.text);
}

static void on_del(struct mem_listener *l, const struct mem_section *s)
{
    struct proxy *p = container_of(l, struct proxy, listener);
    struct vfu_dma_map map;
    struct error err;

    if (!section_range(s, &map) || !vfu_client_alive(p->client))
        return;
    /* -ENOENT: it was never mapped. Any other refusal leaves the device what is not its own. */
    int r = vfu_client_dma_unmap(p->client, map.addr, map.size, &err);
    if (r < 0 && r != -ENOENT && vfu_client_alive(p->client))
        vfu_client_fail(p->client, err.text);
}

void proxy_ram_init(struct proxy *p)
{
    p->listener = (struct mem_listener){ .add = on_add, .del = on_del };
    p->listening = true;
    address_space_listen(pci_device_dma(p->pdev), &p->listener);
}

void proxy_ram_fini(struct proxy *p)
{
    if (p->listening)
        address_space_unlisten(pci_device_dma(p->pdev), &p->listener);
    p->listening = false;
}
