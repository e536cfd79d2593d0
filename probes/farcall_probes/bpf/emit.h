/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Records into the rings. A full ring is counted, record by record; nothing ever waits. */
#ifndef FARCALL_EMIT_H
#define FARCALL_EMIT_H

#include "caps.h"
#include "sample.h"
#include "conn.h"

/* The join key goes out once two sights agree; also after one where a second can never be had, because the kernel has
 * closed the connection before its last bytes were read. */
FC_INLINE void add_identity(struct conn *k, u8 sk_state)
{
	struct fc_exchange *x = &k->large.x;

	if (k->sights < 2 && !(k->sights == 1 && !can_see_identity(sk_state)))
		return;
	x->isn_client = k->isn_client;
	x->isn_server = k->isn_server;
	x->flags |= FC_FLAG_IDENTITY;
}

FC_INLINE bool submit_small(u64 *counts, struct conn *k)
{
	struct fc_exchange *x = &k->small.x;

	if (x->req_cap > FC_SMALL_REQ)
		x->req_cap = FC_SMALL_REQ;
	if (x->req_bytes > x->req_cap)
		x->flags |= FC_FLAG_CUT;
	if (ring_output(MAP(MAP_RING_SMALL), &k->small, sizeof(k->small), FC_NO_WAKEUP)) {
		counts[FC_COUNT_SMALL_LOST]++;
		return false;
	}
	counts[FC_COUNT_SMALL]++;
	return true;
}

FC_INLINE bool submit_large(u64 *counts, struct conn *k)
{
	if (ring_output(MAP(MAP_RING_LARGE), &k->large, sizeof(k->large), FC_NO_WAKEUP)) {
		counts[FC_COUNT_LARGE_LOST]++;
		return false;
	}
	counts[FC_COUNT_LARGE]++;
	return true;
}

/* Which of the two classes: requests are collected at one place for both, responses are not. */
FC_INLINE bool is_small_record(u8 proto)
{
	return proto == FC_PROTO_REDIS || proto == FC_PROTO_MEMCACHED;
}

/* Whether user space gets a record. */
FC_INLINE bool submit_exchange(u64 *counts, struct conn *k)
{
	if (k->mute)
		counts[FC_COUNT_HEALTH]++;
	else if (k->share == SHARE_LOST)
		return false;
	else if (is_left_out(k))
		counts[FC_COUNT_SAMPLED_DROPPED]++;
	else if (k->share == SHARE_UNASKED && !is_within_cap(&k->large.x, k->large.x.ts_resp_ns, 0))
		counts[FC_COUNT_CAPPED_LOST]++;
	else if (is_small_record(k->large.x.proto))
		return submit_small(counts, k);
	else
		return submit_large(counts, k);
	return false;
}

/* One piece of a long request head. Lost pieces make the head cut. */
FC_INLINE void ship_head(struct call *c, struct conn *k, const void *from, bool from_user, u64 len, u32 offset)
{
	struct fc_head *h = ring_reserve(MAP(MAP_RING_HEAD), sizeof(*h), 0);
	u64 n = len;

	if (!h) {
		count(c, FC_COUNT_HEAD_LOST);
		k->large.x.flags |= FC_FLAG_CUT;
		return;
	}
	h->conn_id = k->large.x.who.conn_id;
	h->ts_ns = c->now;
	h->seq = k->large.x.seq;
	h->len = (u32)len;
	h->part = k->parts;
	h->role = k->large.x.role;
	h->offset = offset;
	FC_CLAMP(n, sizeof(h->data));
	h->cap = (u16)n;
	if (from_user ? read_user(h->data, (u32)n, from) : read_kernel(h->data, (u32)n, from)) {
		count(c, FC_COUNT_READ_FAULT);
		k->large.x.flags |= FC_FLAG_CUT;
		ring_discard(h, FC_NO_WAKEUP);
		return;
	}
	ring_submit(h, FC_NO_WAKEUP);
	count(c, FC_COUNT_HEAD);
	k->parts++;
	k->large.x.flags |= FC_FLAG_HEAD;
}

#endif
