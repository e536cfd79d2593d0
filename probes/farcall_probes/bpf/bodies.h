/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Bodies of HTTP/2's streams: how many bytes their DATA frames have, and when they ended. They are counted by stream, in a small
 * table for each direction, and told of by the record of a frame that is shipped in any case, see events.h: most streams take
 * no record more than without it.
 *
 * A frame that ends a stream has ended with its last byte: that of what is read is there when all of it was read; of what is
 * written, when a call hands it over, which may wait, or be repeated.
 */
#ifndef FARCALL_BODIES_H
#define FARCALL_BODIES_H

#include "framing.h"

FC_INLINE void forget_bodies(struct call *c, struct conn *k)
{
	read_kernel(find_bodies(k, HALF_REQUESTS), FC_BODIES_BYTES, c->fresh.large.req);
	read_kernel(find_bodies(k, HALF_RESPONSES), FC_BODIES_BYTES, c->fresh.large.req);
}

#define FC_NO_STREAM (1ULL << 31) /* their numbers have 31 bits */

FC_INLINE struct fc_body *find_body(struct conn *k, u64 half, u32 stream)
{
	u64 at = stream >> 1 & (FC_BODIES - 1);

	return (struct fc_body *)(find_bodies(k, half) + at * sizeof(struct fc_body));
}

/* How many bytes of DATA, which are told of from here on. */
FC_INLINE u32 take_body(struct conn *k, u64 half, u32 stream, u32 *end_us)
{
	struct fc_body *b = find_body(k, half, stream);

	if (b->stream != stream)
		return 0;
	b->stream = 0;
	if (b->end_us)
		*end_us = b->end_us;
	return b->bytes;
}

FC_INLINE u32 measure_us(const struct call *c)
{
	return (u32)(c->now / 1000);
}

/* The last byte of a direction of stream f->inside went by. True when that takes a record of its own. */
FC_INLINE bool end_body(struct call *c, struct conn *k, struct framing *f, u64 half)
{
	struct fc_body *b = find_body(k, half, f->inside);

	if (c->pending == f->inside) {
		b->stream = 0; /* nothing is counted there: see count_body */
		c->segment.x.ended = FC_ENDED_STREAM;
	} else if (half == HALF_RESPONSES) {
		return true;
	} else if (b->stream == f->inside) {
		b->end_us = measure_us(c) ?: 1;
	}
	f->inside = 0;
	return false;
}

/* A DATA frame begins. The number of the stream that is counted where its own is to be, if there is one: it is to be told of
 * first. */
FC_INLINE u32 count_body(struct call *c, struct conn *k, struct framing *f, u64 half, u64 lo, u64 hi, u32 length)
{
	u32 stream = load_http2_stream(lo, hi);
	u32 ends = lo >> 32 & 1;
	struct fc_body *b = find_body(k, half, stream);
	bool is_pending = c->pending == stream;

	if (!is_pending || ends) {
		if (b->stream && (b->stream != stream || b->bytes >> 31))
			return b->stream;
		if (!b->stream) {
			b->stream = stream;
			b->bytes = 0;
			b->end_us = 0;
		}
		b->bytes += is_pending ? 0 : length;
	}
	if (is_pending)
		c->segment.x.ts_resp_ns += length;
	f->inside = ends ? stream : 0;
	return 0;
}

#define FC_TOLD_END FC_NO_STREAM /* beside a stream's number: it has ended */
#define FC_TOLD_PART (1ULL << 32)

/* An empty DATA frame, which no peer sent. `told`: its stream, and maybe FC_TOLD_END. */
FC_INLINE void write_frame(u8 *bytes, struct telling *t, u64 told)
{
	u32 stream = (u32)(told & ~FC_TOLD_END);
	u64 ends = told >> 31;

	*(u64 *)bytes = ends << 32 | (u64)swap32(stream) << 40;
	bytes[8] = (u8)stream;
	t->cap = FC_HTTP2_HEADER;
	t->offset = 0;
	t->stream = stream;
	t->tells_other = ends;
	t->waits = 0;
	t->ends = ends;
}

FC_INLINE void fill_frame(struct call *c, struct conn *k, struct framing *f, u64 half, const struct telling *t)
{
	struct fc_exchange *x = &c->segment.x;
	u32 end_us = 0;

	fill_segment(c, k, f, half, t->cap, (u32)t->cap, t->offset);
	x->ended = t->ends ? FC_ENDED_STREAM : FC_ENDED_NOT;
	c->pending = t->waits ? t->stream : FC_NO_STREAM;
	if (t->stream == FC_NO_STREAM)
		return;
	x->ts_resp_ns = take_body(k, half, t->stream, &end_us);
	if (t->tells_other) {
		x->who.cause_seq = 0;
		x->who.cause_conn_id = take_body(k, half ^ 1, t->stream, &end_us);
		if (end_us)
			x->who.asked_us = measure_us(c) - end_us ?: 1;
	} else if (end_us) {
		x->ts_req_ns -= (u64)(measure_us(c) - end_us) * 1000;
		x->ended = FC_ENDED_STREAM;
	}
}

/* What a frame's record has to tell beside its bytes. HEADERS wait for what follows them in this call. */
FC_INLINE void plan_telling(struct call *c, struct framing *f, u64 half, struct telling *t)
{
	u64 lo = *(u64 *)c->segment.req;
	u8 type = load_http2_type(lo);
	bool is_headers = type == HTTP2_HEADERS;

	t->stream = FC_NO_STREAM;
	t->waits = 0;
	t->ends = 0;
	if (t->offset || (!is_headers && type != HTTP2_RST_STREAM))
		return;
	t->stream = load_http2_stream(lo, *(u64 *)(c->segment.req + 8));
	t->tells_other = half == HALF_RESPONSES || !is_headers;
	t->waits = is_headers && !f->left;
	t->ends = is_headers && lo >> 32 & 1;
}

#endif
