/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * HTTP/2 over the ground of framing.h. A call may hold a hundred frames, in dozens of pieces; most are not told, and those
 * that are may be longer than a record. So here one run of the program takes several frames, pieces are taken one by one to
 * the vector's end, and a frame is shipped in parts, each as the calls bring it: nothing of a header block may be missing, because every
 * later one depends on it.
 *
 * A frame's place is known exactly, or the direction is lost: then a call must begin with frames that follow each other,
 * or end where its only frame does, before it is believed again. User space is told by a number that is left out.
 */
#ifndef FARCALL_FRAMES_H
#define FARCALL_FRAMES_H

#include "bodies.h"

#define FC_HTTP2_FRAMES 24 /* that one run takes; one whose header lies apart from it is two */
#define FC_HTTP2_RUNS 28   /* the kernel allows 33 steps from program to program */
#define FC_HTTP2_CHAIN 4   /* frames that must follow each other, as far as the call holds them */
#define FC_HTTP2_TRAILERS (HTTP2_HEADERS | 0x05 << 8) /* type and flags: END_STREAM, END_HEADERS, nothing else */
#define FC_BESIDE 256 /* bytes, of each of two frames in one record */

/* Bytes of the pieces at hand. */
FC_INLINE u64 measure_pieces(const struct call *c)
{
	u64 sum = 0;
	u32 i;

#pragma unroll
	for (i = 0; i < CALL_PIECES; i++)
		if (i < c->pieces)
			sum += c->len[i];
	return sum;
}

/* A call on a connection or direction that is not known to be in step: frames follow each other from its first byte on. */
FC_INLINE bool begins_with_frames(struct call *c, u8 half)
{
	u64 end = measure_pieces(c);
	u64 at = 0;
	u32 i;

	for (i = 0; i < FC_HTTP2_CHAIN; i++) {
		u64 left = 0;
		u64 base = find_byte(c, at, &left);
		u64 head[2] = {};
		u32 length;

		if (left < FC_HTTP2_HEADER || read_user(head, FC_HTTP2_HEADER, (void *)base))
			break;
		length = weigh_http2(head[0], head[1], false);
		if (!length)
			return false;
		/* 5.1.1: a client's streams are odd */
		if (half == HALF_REQUESTS && load_http2_type(head[0]) == HTTP2_HEADERS && !(head[1] & 1))
			return false;
		at += length;
	}
	return i >= 2 || (i == 1 && at == end && !c->more);
}

/* Recognised in its middle, or by the preface. False when it is neither. */
FC_INLINE bool begin_http2(struct call *c, struct conn *k, u64 before)
{
	struct fc_exchange *x = &k->large.x;
	const u64 *head = (const u64 *)k->large.req;

	if (x->req_cap >= 16 && is_http2_preface(head[0], head[1])) {
		begin_frames(c, k, FC_PROTO_HTTP2, 0);
		forget_bodies(c, k);
		k->framing[HALF_REQUESTS].boundary += FC_HTTP2_PREFACE;
		return true;
	}
	/* In its middle there is nothing that says who asks, but the one who called connect. */
	if (before || k->connector == CONNECTOR_UNKNOWN || !begins_with_frames(c, HALF_REQUESTS))
		return false;
	begin_frames(c, k, FC_PROTO_HTTP2, 0);
	forget_bodies(c, k);
	x->flags |= FC_FLAG_LATE;
	return true;
}

FC_INLINE void lose_frames(struct call *c, struct framing *f)
{
	lose_place(c, f);
	f->left = 0;
}

/* As place_call; a direction that is not in step is believed only with a chain of frames. */
FC_INLINE bool place_frames(struct call *c, u64 sk, struct conn *k)
{
	struct framing *f = find_framing(k, which_half(c, k));
	bool goes_on = place_call(c, sk, k);

	c->pending = 0;
	c->piece = 0;
	c->piece_base = c->base[0];
	c->piece_bytes = c->len[0];
	if (c->unseen) {
		c->unseen = 0;
		lose_frames(c, f);
		f->boundary = c->position;
		f->synced = SYNCED_TRIAL;
		c->before = 0;
		goes_on = true;
	}
	if (f->synced == SYNCED_TRIAL) {
		f->left = 0;
		if (!begins_with_frames(c, which_half(c, k))) {
			miss_message(c, sk, k, f);
			return false;
		}
		f->synced = SYNCED_YES;
		f->misses = 0;
	}
	return goes_on || c->more;
}

/* The piece at hand is used up: on to the next one, if the call has any. */
FC_INLINE bool turn_piece(struct call *c)
{
	struct user_iovec v = {};

	c->position += (u32)c->piece_bytes;
	c->before -= c->piece_bytes;
	if (++c->piece >= c->iov_left) {
		c->piece_bytes = 0;
		return false;
	}
	if (c->limit != ~0ULL)
		c->limit -= c->piece_bytes;
	read_user(&v, sizeof(v), (void *)(c->iov + c->piece * sizeof(v)));
	c->piece_base = v.base;
	c->piece_bytes = v.len < c->limit ? v.len : c->limit;
	return true;
}

/* A told frame's beginning or its next part, or a beginning that waits until the rest of it comes. False where the place is
 * lost. `told`: what count_body says, of a DATA frame whose header came in pieces. */
FC_INLINE bool take_part(struct call *c, u64 sk, struct conn *k, struct framing *f, u64 half, struct telling *t,
			 u64 *told)
{
	u8 *hold = find_hold(k, half);
	u8 *bytes = c->segment.req;
	u64 base = c->piece_base + c->before;
	u64 left = c->piece_bytes - c->before;
	u64 held = f->held;
	u64 n = left;
	u64 cap, length;
	u32 offset = 0;

	held &= FC_HOLD_MASK; /* see take_message */
	if (held)
		read_kernel(bytes, (u32)held, hold);
	FORGET(c, held);
	held &= FC_HOLD_MASK;
	if (n > FC_SEGMENT_BYTES - held)
		n = FC_SEGMENT_BYTES - held;
	FORGET(c, n);
	FC_CLAMP(n, FC_SEGMENT_BYTES);
	if (read_user(bytes + held, (u32)n, (void *)base)) {
		count(c, FC_COUNT_READ_FAULT);
		lose_frames(c, f);
		return false;
	}
	n += held;
	FORGET(c, n);
	FC_CLAMP(n, FC_SEGMENT_BYTES);
	length = f->left;
	if (length) {
		offset = f->mark - f->left;
	} else {
		length = n < FC_HTTP2_HEADER ? 0 : weigh_http2(*(u64 *)bytes, *(u64 *)(bytes + 8), true);
		if (n >= FC_HTTP2_HEADER && !length) {
			miss_message(c, sk, k, f);
			f->left = 0;
			return false;
		}
		f->mark = (u32)length;
	}
	FORGET(c, length);
	cap = n;
	/* Some read a frame's header apart, some write it so: its beginning waits, unless it is long. */
	if (!offset && (n < FC_HTTP2_HEADER || (n < length && n <= FC_HTTP2_HOLD && n - held == left))) {
		FC_CLAMP(cap, FC_HTTP2_HOLD);
		read_kernel(hold, (u32)cap, bytes);
		if (!held)
			f->first_ns = c->now;
		f->held = (u16)cap;
		c->before += left;
		return true;
	}
	if (cap > length)
		cap = length;
	if (offset || is_http2_told(*(u64 *)bytes)) {
		t->cap = (u32)cap;
		t->offset = offset;
		f->left = (u32)(length - cap);
	} else {
		cap = length;
		if (load_http2_type(*(u64 *)bytes) == HTTP2_DATA)
			*told = count_body(c, k, f, half, *(u64 *)bytes, *(u64 *)(bytes + 8), (u32)length);
	}
	t->step = *told ? 0 : (u32)cap;
	return true;
}

/* The pieces at hand are used up; asked anew each time, for the verifier's sake. */
FC_INLINE bool is_at_end(const struct call *c)
{
	return c->before >= *(volatile u64 *)&c->piece_bytes;
}

/* A frame that begins with these bytes, whole. What count_body says of it; FC_TOLD_PART: it is to be taken; 0: it was passed. */
FC_INLINE u64 pass_frame(struct call *c, struct conn *k, struct framing *f, u64 half, u64 lo, u64 hi)
{
	u64 length = weigh_http2(lo, hi, true);
	u64 told = 0;

	FORGET(c, length);
	FORGET(c, lo);
	if (!length || is_http2_told(lo))
		return FC_TOLD_PART;
	if (load_http2_type(lo) == HTTP2_DATA)
		told = count_body(c, k, f, half, lo, hi, (u32)length);
	if (!told) {
		f->boundary += (u32)length;
		c->before += length;
	}
	return told;
}

/* Trailers in the call that brought the HEADERS before them, and DATA maybe: as an answer of gRPC mostly comes. They go into
 * the record of those. */
FC_INLINE bool add_trailers(struct call *c, struct framing *f, u64 half, u64 lo, u64 hi)
{
	struct fc_exchange *x = &c->segment.x;
	u64 length = swap32((u32)lo) >> 8;
	u64 have = x->req_cap;

	if (half != HALF_RESPONSES || c->pending != load_http2_stream(lo, hi) || (lo >> 24 & 0xffff) != FC_HTTP2_TRAILERS)
		return false;
	length += FC_HTTP2_HEADER;
	FORGET(c, length);
	FORGET(c, have);
	if (length > FC_BESIDE || have > FC_BESIDE || c->before + length > c->piece_bytes || x->ts_req_ns != c->now)
		return false;
	if (read_user(c->segment.req + have, (u32)length, (void *)(c->piece_base + c->before)))
		return false;
	x->req_cap += (u16)length;
	x->req_bytes += length;
	x->resp_cap = (u16)length;
	x->ended = FC_ENDED_STREAM;
	c->pending = FC_NO_STREAM;
	f->boundary += (u32)length;
	c->before += length;
	return true;
}

/* The frame at hand: stepped over, or told. False at the call's end, or where the place is lost. */
FC_INLINE bool take_frame(struct call *c, u64 sk, struct conn *k, struct framing *f)
{
	struct telling *t = &c->telling;
	u64 told = FC_TOLD_PART;

	/* Netty writes a frame's header and its payload apart. */
	if (is_at_end(c))
		turn_piece(c);
	if (is_at_end(c) && turn_piece(c) && is_at_end(c))
		return true;
	t->cap = 0;
	t->step = 0;
	if (f->inside && !(is_at_end(c) && c->before) && end_body(c, k, f, which_half(c, k))) {
		told = f->inside | FC_TOLD_END;
		f->inside = 0;
	} else if (!f->held && !f->left && c->before + FC_HTTP2_HEADER <= c->piece_bytes) {
		u64 head[2] = {};

		/* What cannot be read makes no sense as a frame either. */
		read_user(head, FC_HTTP2_HEADER, (void *)(c->piece_base + c->before));
		told = pass_frame(c, k, f, which_half(c, k), head[0], head[1]);
		if (!told || (told == FC_TOLD_PART && add_trailers(c, f, which_half(c, k), head[0], head[1])))
			return true;
	}
	FORGET(c, told);
	if (c->pending)
		submit_segment(c->counts, k, &c->segment);
	c->pending = 0;
	if (told == FC_TOLD_PART) {
		told = 0;
		if (is_at_end(c) || !take_part(c, sk, k, f, which_half(c, k), t, &told))
			return false;
	}
	FORGET(c, told);
	if (told)
		write_frame(c->segment.req, t, told);
	else if (t->cap)
		plan_telling(c, f, which_half(c, k), t);
	if (t->cap)
		fill_frame(c, k, f, which_half(c, k), t);
	if (t->step) {
		f->boundary += t->step;
		c->before += t->step - f->held;
		f->held = 0;
	}
	return true;
}

/* True when the call holds more than one run takes. */
FC_INLINE bool take_frames(struct call *c, u64 sk, struct conn *k)
{
	struct framing *f = find_framing(k, which_half(c, k));
	u32 i;

	for (i = 0; i < FC_HTTP2_FRAMES; i++)
		if (!take_frame(c, sk, k, f))
			return false;
	if (++c->segments < FC_HTTP2_RUNS)
		return true;
	count(c, FC_COUNT_SEGMENT_BEYOND_LOST);
	lose_frames(c, f);
	return false;
}

#endif
