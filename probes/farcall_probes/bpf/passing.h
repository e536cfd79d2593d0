/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Messages of a call past the bound of framing.h: only their headers are read, so that the place is not lost. */
#ifndef FARCALL_PASSING_H
#define FARCALL_PASSING_H

#include "framing.h"

/* The kernel allows two such steps behind those that take messages, and a third on most ways. */
#define FC_PASSED_PER_STEP 64

/* The next message's header is read, no more. False at the call's end, or where there is none. */
FC_INLINE bool pass_header(struct call *c, struct conn *k)
{
	u64 half = which_half(c, k);
	struct framing *f = find_framing(k, half);
	u64 at = (u32)(f->boundary - c->position);
	u64 head[2] = {};
	u32 length;

	if (c->pieces != 1 || c->total < FC_FRAME_HEADER || at > c->total - FC_FRAME_HEADER)
		return false;
	if (read_user(head, sizeof(head), (void *)(c->base[0] + at)))
		return false;
	length = weigh_message(k, half, true, head[0], head[1]);
	FORGET(c, length);
	if (!length)
		return false;
	if (is_told(k, f, head[0], head[1], length)) {
		f->seq++;
		count(c, FC_COUNT_SEGMENT_BEYOND_LOST);
	}
	f->boundary += pass_message(k, f, head[0], length);
	return true;
}

/* Messages past the bound. */
FC_INLINE void pass_messages(void *ctx, struct call *c, u64 sk, struct conn *k)
{
	struct framing *f;
	u32 i;

	for (i = 0; i < FC_PASSED_PER_STEP; i++)
		if (!pass_header(c, k))
			break;
	if (i == FC_PASSED_PER_STEP)
		go_to(ctx, STEP_PASS);
	f = find_framing(k, which_half(c, k));
	if ((u32)(f->boundary - c->position) < c->total)
		lose_place(c, f);
}

#endif
