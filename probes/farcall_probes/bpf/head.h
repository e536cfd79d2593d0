/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Request heads that do not end within the record: shipped at request time, in pieces as the calls bring them.
 *
 * A 2 KB token before `traceparent` is ordinary. Nothing is looked at as long as the whole request fits the record.
 */
#ifndef FARCALL_HEAD_H
#define FARCALL_HEAD_H

#include "emit.h"
#include "io.h"
#include "http1.h"

/* Of one head. Servers that read a few bytes a time would fill the ring with empty pages; past this the head is cut. */
#define FC_HEAD_PARTS 8
/* Heads beyond 16 KB are refused by nearly every server; what follows is body. */
#define FC_HEAD_MAX (2 * FC_STRIDE_HEAD)

FC_INLINE bool ends_head(struct call *c)
{
	u64 last = (c->pieces - 1) & (CALL_PIECES - 1);
	u64 len = c->len[0];
	u64 base = c->base[0];
	u32 word = 0;

	if (c->pieces > 1) /* the last piece of several: taken for a body */
		return false;
	if (last || len < 4)
		return false;
	read_user(&word, 4, (void *)(base + len - 4));
	return word == (u32)FC_CRLFCRLF;
}

FC_INLINE void ship_call(struct call *c, struct conn *k, u32 offset)
{
	u32 i;

#pragma unroll
	for (i = 0; i < CALL_PIECES; i++) {
		if (i >= c->pieces || !c->len[i])
			break;
		if (k->parts >= FC_HEAD_PARTS) {
			if (!(k->large.x.flags & FC_FLAG_CUT))
				count(c, FC_COUNT_HEAD_CUT);
			k->large.x.flags |= FC_FLAG_CUT;
			k->head = HEAD_ENDED;
			return;
		}
		ship_head(c, k, (void *)c->base[i], true, c->len[i], offset);
		offset += c->len[i];
	}
	if (ends_head(c) || offset >= FC_HEAD_MAX)
		k->head = HEAD_ENDED;
}

/* After a call's bytes were collected: `before` of the request's bytes came in earlier calls. */
FC_INLINE void follow_head(struct call *c, struct conn *k, u64 before)
{
	if (k->head == HEAD_UNKNOWN) {
		if (find_head_end(k->large.req)) {
			k->head = HEAD_ENDED;
			return;
		}
		k->head = HEAD_SHIPPING;
		FC_CLAMP(before, FC_LARGE_REQ);
		if (before)
			ship_head(c, k, k->large.req, false, before, 0);
	}
	ship_call(c, k, (u32)before);
}

#endif
