/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * HTTP/2 over the ground of framing.h. A call may hold a hundred frames, in dozens of pieces; most are not told, and those
 * that are may be longer than a record. So here one run of the program takes several frames, pieces are taken four at a
 * time, and a frame is shipped in parts, each as the calls bring it: nothing of a header block may be missing, because every
 * later one depends on it.
 *
 * A frame's place is known exactly, or the direction is lost: then a call must begin with frames that follow each other,
 * or end where its only frame does, before it is believed again. User space is told by a number that is left out.
 */
#ifndef FARCALL_FRAMES_H
#define FARCALL_FRAMES_H

#include "framing.h"

#define FC_HTTP2_PASSED 8  /* frames that one run steps over between two that are told */
#define FC_HTTP2_TOLD 3    /* frames, or parts of one, that one run ships */
#define FC_HTTP2_RUNS 28   /* the kernel allows 33 steps from program to program */
#define FC_HTTP2_CHAIN 4   /* frames that must follow each other, as far as the call holds them */

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

/* Where in user memory the byte at `at` of the pieces at hand lies, and how many follow it there. */
FC_INLINE u64 find_byte(const struct call *c, u64 at, u64 *left)
{
	u32 i;

#pragma unroll
	for (i = 0; i < CALL_PIECES; i++) {
		u64 n = c->len[i];

		if (i >= c->pieces)
			break;
		if (at < n) {
			*left = n - at;
			return c->base[i] + at;
		}
		at -= n;
	}
	return 0;
}

/* The call's further pieces, if it has any. */
FC_INLINE bool turn_to_next_pieces(struct call *c)
{
	u64 seen = measure_pieces(c);

	if (!c->more)
		return false;
	set_vector(c, c->iov + CALL_PIECES * sizeof(struct user_iovec), c->iov_left - CALL_PIECES,
		   c->limit == ~0ULL ? ~0ULL : c->limit - seen);
	c->position += (u32)seen;
	return true;
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
		k->framing[HALF_REQUESTS].boundary += FC_HTTP2_PREFACE;
		return true;
	}
	/* In its middle there is nothing that says who asks, but the one who called connect. */
	if (before || k->connector == CONNECTOR_UNKNOWN || !begins_with_frames(c, HALF_REQUESTS))
		return false;
	begin_frames(c, k, FC_PROTO_HTTP2, 0);
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

/* Steps over what is not told. True at a frame that is, or at bytes that only `take_part` can put together. */
FC_INLINE bool pass_frames(struct call *c, u64 sk, struct conn *k, struct framing *f)
{
	u32 i;

	for (i = 0; i < FC_HTTP2_PASSED; i++) {
		u64 left = 0;
		u64 base = find_byte(c, c->before, &left);
		u64 head[2] = {};
		u32 length;

		if (!base)
			return false;
		if (f->held || f->left || left < FC_HTTP2_HEADER)
			return true;
		if (read_user(head, FC_HTTP2_HEADER, (void *)base)) {
			count(c, FC_COUNT_READ_FAULT);
			lose_frames(c, f);
			return false;
		}
		length = weigh_http2(head[0], head[1], true);
		if (!length) {
			miss_message(c, sk, k, f);
			f->left = 0;
			return false;
		}
		if (is_http2_told(head[0]))
			return true;
		f->boundary += length;
		c->before += length;
	}
	return false;
}

/* A told frame's beginning or its next part, or a header that is held until the rest of it comes. */
FC_INLINE bool take_part(struct call *c, u64 sk, struct conn *k, struct framing *f, u8 half)
{
	u8 *bytes = c->segment.req;
	u64 held = f->held;
	u64 cap, length;
	bool is_told_frame;
	u32 offset = 0;
	s64 n;

	FC_CLAMP(held, FC_HOLD);
	if (held)
		read_kernel(bytes, (u32)held, find_hold(k, half));
	n = gather(c, bytes, held, c->before);
	if (n < 0) {
		count(c, FC_COUNT_READ_FAULT);
		lose_frames(c, f);
		return false;
	}
	if (f->left) {
		length = f->left;
		offset = f->mark - f->left;
	} else {
		if (n < FC_HTTP2_HEADER) {
			hold_bytes(c, k, f, half, n);
			c->before = measure_pieces(c);
			return false;
		}
		length = weigh_http2(*(u64 *)bytes, *(u64 *)(bytes + 8), true);
		if (!length) {
			miss_message(c, sk, k, f);
			f->left = 0;
			return false;
		}
		f->mark = (u32)length;
	}
	cap = (u64)n < length ? (u64)n : length;
	is_told_frame = f->left || is_http2_told(*(u64 *)bytes);
	/* Some read a frame's header apart: its beginning waits, unless it is long. */
	if (!f->left && is_told_frame && cap < length && cap <= FC_HOLD &&
	    c->before + cap - held >= measure_pieces(c)) {
		hold_bytes(c, k, f, half, cap);
		c->before = measure_pieces(c);
		return false;
	}
	if (is_told_frame) {
		ship_segment(c, k, f, half, cap, (u32)cap, offset);
		f->left = (u32)(length - cap);
	} else {
		cap = length;
	}
	f->boundary += (u32)cap;
	c->before += cap - held;
	f->held = 0;
	return true;
}

/* True when the call holds more than one run takes. */
FC_INLINE bool take_frames(struct call *c, u64 sk, struct conn *k)
{
	u8 half = which_half(c, k);
	struct framing *f = find_framing(k, half);
	u32 i;

	for (i = 0; i < FC_HTTP2_TOLD; i++) {
		if (!pass_frames(c, sk, k, f) || !take_part(c, sk, k, f, half))
			break;
	}
	if (f->synced != SYNCED_YES || k->state != CONN_FRAMED)
		return false;
	if (c->before >= measure_pieces(c)) {
		if (!turn_to_next_pieces(c))
			return false;
		/* behind what is held, or where the next frame begins */
		c->before = f->boundary + f->held - c->position;
	}
	if (++c->segments < FC_HTTP2_RUNS)
		return true;
	count(c, FC_COUNT_SEGMENT_BEYOND_LOST);
	lose_frames(c, f);
	return false;
}

#endif
