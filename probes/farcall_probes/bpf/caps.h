/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * How much one container may take of the rings, so that a noisy one does not crowd the others out. Each has so many records
 * in a window of an eighth of a second; what comes beyond is counted for it, and lost. DNS answers are never.
 *
 * A request takes its share when it begins, and of one that has none no answer is read. A connection that found its container's
 * share used up does not ask again in that window: a load of many times the share would be slowed down by being counted.
 *
 * Two CPUs may open a window at once and one of them forget what the other counted: a few records more, never a stop.
 */
#ifndef FARCALL_CAPS_H
#define FARCALL_CAPS_H

#include "maps.h"

#define FC_WINDOW_BITS 27 /* 2^27 ns = 134 ms */

/* Records that a container may have in a window; 0: as many as it likes. */
FC_INLINE u32 find_cap(void)
{
	u32 zero = 0;
	struct settings *settings = map_lookup(MAP(MAP_SETTINGS), &zero);

	return settings ? settings->cap : 0;
}

FC_INLINE bool is_within_cap(const struct fc_exchange *x, u64 now, u64 lost_before)
{
	u64 cgroup_id = x->who.cgroup_id;
	u64 window = now >> FC_WINDOW_BITS;
	u32 cap = find_cap();
	struct bucket *b;

	if (!cap)
		return true;
	b = map_lookup(MAP(MAP_BUCKETS), &cgroup_id);
	if (!b) {
		struct bucket fresh = {.window = window, .used = 1};

		map_update(MAP(MAP_BUCKETS), &cgroup_id, &fresh, 0);
		return true;
	}
	if (lost_before)
		__sync_fetch_and_add(&b->lost, lost_before);
	if (b->window != window) {
		b->window = window;
		b->used = 0;
	}
	if (b->used >= cap) {
		__sync_fetch_and_add(&b->lost, 1);
		return false;
	}
	__sync_fetch_and_add(&b->used, 1);
	return true;
}

/* What a connection lost without asking, and did not tell yet. */
FC_INLINE void tell_capped(struct conn *k)
{
	u64 cgroup_id = k->large.x.who.cgroup_id;
	struct bucket *b = k->capped && find_cap() ? map_lookup(MAP(MAP_BUCKETS), &cgroup_id) : NULL;

	if (b)
		__sync_fetch_and_add(&b->lost, (u64)k->capped);
	k->capped = 0;
}

/* Of the request that begins. */
FC_INLINE void take_share(u64 *counts, struct conn *k)
{
	u64 now = k->large.x.ts_req_ns;
	u32 window = (u32)(now >> FC_WINDOW_BITS);

	k->share = SHARE_TAKEN;
	if (k->mute)
		return;
	if (k->full_window == window && find_cap()) {
		k->capped++;
	} else {
		u64 lost_before = k->capped;

		k->capped = 0;
		if (is_within_cap(&k->large.x, now, lost_before))
			return;
		k->full_window = window;
	}
	k->share = SHARE_LOST;
	counts[FC_COUNT_CAPPED_LOST]++;
}

#endif
