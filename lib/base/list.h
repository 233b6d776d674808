/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A doubly linked list whose links lie inside the elements. A link is in one list or in none
 * (both pointers NULL), so a link that is all zero may be removed.
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include "base/util.h"

struct list { struct list *next, *prev; };

static inline void list_init(struct list *head) { head->next = head->prev = head; }
static inline bool list_empty(const struct list *head) { return head->next == head; }
static inline bool list_linked(const struct list *link) { return link->next != NULL; }

static inline void list_add_tail(struct list *head, struct list *link)
{
    link->prev = head->prev;
    link->next = head;
    head->prev->next = link;
    head->prev = link;
}

static inline void list_add_head(struct list *head, struct list *link)
{
    list_add_tail(head->next, link);
}

static inline void list_del(struct list *link)
{
    if (!link->next)
        return;
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->next = link->prev = NULL;
}

#define list_entry(link, type, member) container_of(link, type, member)
#define list_first(head, type, member) list_entry((head)->next, type, member)

/* The element that link lies in, or NULL when link is the head, which lies in none. */
#define list_item_(link, head, type, member) \
    ((link) == (head) ? NULL : list_entry(link, type, member))

/* The element under the cursor may be removed and freed by the body. */
#define list_for_each(type, var, head, member)                                          \
    for (type *var = list_item_((head)->next, head, type, member),                      \
         *var##_next_ = var ? list_item_(var->member.next, head, type, member) : NULL;  \
         var;                                                                           \
         var = var##_next_,                                                             \
         var##_next_ = var ? list_item_(var->member.next, head, type, member) : NULL)

#endif
