/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory whose file a peer may make smaller. Who touches what is no longer there gets SIGBUS; in a
 * guarded range zero pages appear there instead, so that a peer's trick costs the peer its data and
 * nobody his process. Ranges are guarded on the loop thread; faults may come on any thread.
 */
#ifndef REMOTE_SIGBUS_H
#define REMOTE_SIGBUS_H

#include "base/util.h"

/* addr is page-aligned. 0, or -ENOSPC, or the errno of installing the handler. */
int sigbus_guard(void *addr, size_t len) MUST_CHECK;
void sigbus_unguard(void *addr);

#endif
