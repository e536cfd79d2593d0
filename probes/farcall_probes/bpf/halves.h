/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The two directions of a connection that is followed message by message, and what of a message each holds until more of it comes. */
#ifndef FARCALL_HALVES_H
#define FARCALL_HALVES_H

#include "maps.h"

/* Bounds what a direction holds, which is never more than FC_HOLD. */
#define FC_HOLD_MASK 511
_Static_assert(FC_HOLD <= FC_HOLD_MASK && FC_HOLD_MASK <= FC_SEGMENT_BYTES, "FC_HOLD_MASK");

/* Computed, not decided, and so is what it picks: to the verifier one way, not two that never meet again. */
FC_INLINE u64 which_half(const struct call *c, const struct conn *k)
{
	return (c->dir ^ k->dir) & 1;
}

FC_INLINE u8 *find_hold(struct conn *k, u64 half)
{
	FC_HIDE(half);
	return (u8 *)&k->large + sizeof(struct fc_exchange) + (half & 1) * FC_HOLD;
}

/* Of HTTP/2 less is held, and bodies are counted behind it. */
#define FC_BODIES_BYTES (FC_BODIES * sizeof(struct fc_body))
#define FC_HTTP2_HOLD (FC_HOLD - FC_BODIES_BYTES)

FC_INLINE u8 *find_bodies(struct conn *k, u64 half)
{
	return find_hold(k, half) + FC_HTTP2_HOLD;
}

#endif
