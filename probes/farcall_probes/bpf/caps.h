/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * How much one container may take of the rings, so that a noisy one does not crowd the others out. Each has so many records
 * in a window of an eighth of a second; what comes beyond is counted for it, and lost. DNS answers are never.
 *
 * Two CPUs may open a window at once and one of them forget what the other counted: a few records more, never a stop.
 */
#ifndef FARCALL_CAPS_H
#define FARCALL_CAPS_H

#include "maps.h"

#define FC_WINDOW_BITS 27 /* 2^27 ns = 134 ms */

FC_INLINE bool is_within_cap(const struct fc_exchange *x)
{
	u32 zero = 0;
	struct settings *settings = map_lookup(MAP(MAP_SETTINGS), &zero);
	u64 cgroup_id = x->who.cgroup_id;
	u64 window = (x->ts_resp_ns ? x->ts_resp_ns : x->ts_req_ns) >> FC_WINDOW_BITS;
	struct bucket *b;

	if (!settings || !settings->cap)
		return true;
	b = map_lookup(MAP(MAP_BUCKETS), &cgroup_id);
	if (!b) {
		struct bucket fresh = {.window = window, .used = 1};

		map_update(MAP(MAP_BUCKETS), &cgroup_id, &fresh, 0);
		return true;
	}
	if (b->window != window) {
		b->window = window;
		b->used = 0;
	}
	if (b->used >= settings->cap) {
		__sync_fetch_and_add(&b->lost, 1);
		return false;
	}
	__sync_fetch_and_add(&b->used, 1);
	return true;
}

#endif
