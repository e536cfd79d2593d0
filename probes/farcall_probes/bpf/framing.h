/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Connections that are followed message by message: each becomes a segment record, user space pairs them.
 *
 * Each direction has a place, the TCP sequence number where its next message begins. A call's bytes have theirs, so it does
 * not matter how messages are cut into calls, whether a write is repeated, or whether bytes went by unseen in the middle of
 * a message. Where a message should begin and none does, the place is lost: a segment number is left out, and each call's
 * first bytes are tried until they are a header. A direction in which none ever is makes the connection plain TCP again.
 */
#ifndef FARCALL_FRAMING_H
#define FARCALL_FRAMING_H

#include "cause.h"
#include "emit.h"
#include "halves.h"
#include "multiplexed.h"
#include "pieces.h"
#include "plain.h"

/* The kernel allows 33 steps from program to program, and each takes a few messages: drivers write 200 questions at once. */
#define FC_SEGMENTS_PER_STEP 10
#define FC_SEGMENTS_PER_CALL (28 * FC_SEGMENTS_PER_STEP)
#define FC_MISSES_MAX 250

enum synced { SYNCED_NO = 0, SYNCED_TRIAL = 1, SYNCED_YES = 2 };

/* A request of such a protocol was recognised: `held` of its bytes came in earlier calls and lie where requests are held. */
FC_INLINE void begin_frames(struct call *c, struct conn *k, u8 proto, u16 held)
{
	struct fc_exchange *x = &k->large.x;
	struct framing *f = &k->framing[HALF_REQUESTS];
	struct framing *r = &k->framing[HALF_RESPONSES];

	k->told_ns = 0;
	name_anew(c, k);
	x->who.asked_us = 0;
	x->proto = proto;
	x->role = k->dir == DIR_OUT ? FC_ROLE_CLIENT : FC_ROLE_SERVER;
	if (k->connector == CONNECTOR_UNKNOWN)
		k->connector = k->dir == DIR_OUT ? CONNECTOR_SELF : CONNECTOR_PEER;
	/* Sealed bytes have sequence numbers, what is in them only its place. */
	f->boundary = x->flags & FC_FLAG_TLS ? k->tls_begin : x->request_seq;
	x->flags = (x->flags & FC_FLAG_TLS) | (x->who.conn_open_ns ? 0 : FC_FLAG_LATE) |
		   (k->connector == CONNECTOR_SELF ? FC_FLAG_CONNECTOR : 0);
	f->first_ns = x->ts_req_ns;
	f->held = held;
	f->synced = SYNCED_YES;
	f->seq += f->seq > 0; /* the policy had dropped the connection for a while */
	f->mark = 0;
	f->left = 0;
	f->inside = 0;
	f->misses = 0;
	r->seq += r->seq > 0;
	r->mark = 0;
	r->left = 0;
	r->synced = SYNCED_NO;
	r->held = 0;
	r->inside = 0;
	r->misses = 0;
	k->state = CONN_FRAMED;
}

/* Worth a closer look, in a step of its own. */
FC_INLINE bool may_be_followed(const struct call *c, const struct conn *k)
{
	u8 proto = k->large.x.proto;

	/* Only the end that called connect asks. */
	if (is_of_asked_end(c, k))
		return false;
	return (is_plain(k) || is_multiplexed(proto)) && !k->never_framed && may_be_multiplexed(*(u64 *)k->large.req);
}

/* Too few bytes to tell, but so far they could be a header. */
FC_INLINE bool is_undecided(const struct conn *k)
{
	u64 n = k->large.x.req_cap;

	return n < 8 || (n < FC_FRAME_HEADER && n == k->large.x.req_bytes);
}

/* Bytes of a connection that may be anything were collected, `before` of them in earlier calls. */
FC_INLINE void recognise(struct call *c, struct conn *k, u64 before)
{
	struct fc_exchange *x = &k->large.x;
	u8 proto = may_be_followed(c, k) ? classify_multiplexed(c, k->large.req, x->req_cap, x->req_bytes, k->connector) : FC_PROTO_UNKNOWN;

	if (proto)
		begin_frames(c, k, proto, (u16)before);
	else if (!is_undecided(k))
		k->state = CONN_IDLE;
}

FC_INLINE void lose_place(struct call *c, struct framing *f)
{
	if (f->synced == SYNCED_YES) {
		f->seq++;
		count(c, FC_COUNT_SEGMENT_RESYNC_LOST);
	}
	f->synced = SYNCED_NO;
	f->held = 0;
	f->inside = 0;
}

/* What was in flight is unknown from here on; bytes are told of as those of any connection. */
FC_INLINE void give_up(struct call *c, u64 sk, struct conn *k)
{
	k->state = CONN_IDLE;
	k->never_framed = 1;
	k->large.x.proto = FC_PROTO_UNKNOWN;
	k->large.x.req_cap = 0;
	k->told_ns = c->now;
	k->told_sent = load_sent(sk, k);
	k->told_received = load_received(sk);
	count(c, FC_COUNT_SEGMENT_GIVEN_UP);
}

FC_INLINE void miss_message(struct call *c, u64 sk, struct conn *k, struct framing *f)
{
	lose_place(c, f);
	if (++f->misses >= FC_MISSES_MAX)
		give_up(c, sk, k);
}

/* Sets where in the call the next message begins, or goes on. False when the call is nothing but a message's middle. */
FC_INLINE bool place_call(struct call *c, u64 sk, struct conn *k)
{
	struct framing *f = find_framing(k, which_half(c, k));
	s32 ahead, missing;

	if (c->plain)
		c->position = c->place;
	else
		c->position = c->dir == DIR_OUT ? locate_write(sk) : locate_read(sk, c->total);
	c->segments = 0;
	c->unseen = 0;
	c->before = 0;
	see_identity(c, sk, k);
	ahead = (s32)(f->boundary - c->position);
	missing = ahead + f->held;
	if (f->synced && f->held && ahead < 0) {
		c->before = missing > 0 ? missing : 0; /* written again, from its middle */
		c->unseen = missing < 0;
		return c->before < c->total || (c->unseen && !c->total);
	}
	f->held = 0;
	if (f->synced && ahead < 0)
		lose_place(c, f);
	if (!f->synced) {
		f->boundary = c->position;
		f->synced = SYNCED_TRIAL;
		return true;
	}
	c->before = ahead;
	return c->before < c->total || (goes_on_later(k, f) && c->before == c->total);
}

/* Copies the call's bytes from `at` on to `to` behind `have` bytes, up to FC_SEGMENT_BYTES in all; as many again must lie
 * behind them. Returns the bytes that `to` then holds, or -1. */
FC_INLINE s64 gather(struct call *c, u8 *to, u64 have, u64 at)
{
	u32 i;

#pragma unroll
	for (i = 0; i < CALL_PIECES; i++) {
		u64 n = c->len[i];

		if (i >= c->pieces)
			break;
		if (at >= n) {
			at -= n;
			continue;
		}
		n -= at;
		FC_CLAMP(have, FC_SEGMENT_BYTES);
		if (n > FC_SEGMENT_BYTES - have)
			n = FC_SEGMENT_BYTES - have;
		FC_CLAMP(n, FC_SEGMENT_BYTES);
		if (!n)
			break;
		if (read_user(to + have, (u32)n, (void *)(c->base[i] + at)))
			return -1;
		have += n;
		at = 0;
	}
	FORGET(c, have);
	FC_CLAMP(have, FC_SEGMENT_BYTES);
	return have;
}

FC_INLINE void submit_segment(u64 *counts, const struct conn *k, struct fc_large *s)
{
	if (is_segment_left_out(k, &s->x))
		counts[FC_COUNT_SAMPLED_DROPPED]++;
	else if (!is_within_cap(&s->x, s->x.ts_req_ns, 0))
		counts[FC_COUNT_CAPPED_LOST]++;
	else if (ring_output(MAP(MAP_RING_LARGE), s, sizeof(*s), FC_NO_WAKEUP))
		counts[FC_COUNT_SEGMENT_LOST]++;
	else
		counts[FC_COUNT_SEGMENT]++;
}

/* All but the bytes, of which `cap` lie in the record already. */
FC_INLINE void fill_segment(struct call *c, struct conn *k, struct framing *f, u64 half, u64 cap, u32 length,
			     u32 offset)
{
	struct fc_exchange *x = &c->segment.x;

	read_kernel(x, sizeof(*x), &k->large.x);
	x->who.tid = (u32)c->pid_tgid;
	x->who.cause_conn_id = 0;
	x->who.cause_seq = 0;
	if (half == HALF_REQUESTS && x->role == FC_ROLE_CLIENT)
		add_cause(c, &x->who);
	x->ts_req_ns = f->held && length ? f->first_ns : c->now;
	x->ts_resp_ns = 0;
	x->req_bytes = length;
	x->resp_bytes = offset;
	x->seq = f->seq++;
	/* Cassandra's streams come again at once, and some have no numbers; of the others user space takes them, which both ends see alike. */
	x->request_seq = c->plain && x->proto != FC_PROTO_CASSANDRA && x->proto < FC_PROTO_NATS ? c->tls_seq + (f->boundary - c->position) : f->boundary;
	x->req_cap = (u16)cap;
	x->resp_cap = 0;
	x->wrapped = k->wrapped && !f->inside && length;
	x->segment = half == HALF_REQUESTS ? FC_SEGMENT_REQUEST : FC_SEGMENT_RESPONSE;
	x->ended = FC_ENDED_NOT;
	if (cap < length)
		x->flags |= FC_FLAG_CUT;
	if (k->sights >= 2) {
		x->isn_client = k->isn_client;
		x->isn_server = k->isn_server;
		x->flags |= FC_FLAG_IDENTITY;
	}
}

/* `later`: more of it comes in later calls. */
FC_INLINE void ship_segment(struct call *c, struct conn *k, struct framing *f, u64 half, u64 cap, u32 length, u64 later)
{
	fill_segment(c, k, f, half, cap, length, 0);
	if (later)
		c->segment.x.ended = FC_ENDED_LATER;
	else if (f->held && (!c->unseen || !c->total))
		c->segment.x.ts_resp_ns = c->now;
	submit_segment(c->counts, k, &c->segment);
}

FC_INLINE void hold_bytes(struct call *c, struct conn *k, struct framing *f, u64 half, u64 n)
{
	FC_CLAMP(n, FC_HOLD);
	read_kernel(find_hold(k, half), (u32)n, c->segment.req);
	if (!f->held)
		f->first_ns = c->now;
	f->held = (u16)n;
}

/* The message that was told in an earlier call is there to its last byte, if it is. */
FC_INLINE void tell_end(struct call *c, struct conn *k)
{
	u64 half = which_half(c, k);
	struct framing *f = find_framing(k, half);

	if (!goes_on_later(k, f) || c->before > c->total)
		return;
	forget_rest(k, f);
	ship_segment(c, k, f, half, 0, 0, 0);
}

/* One message, or as much of it as there is. True when the call holds another. */
FC_INLINE bool take_message(struct call *c, u64 sk, struct conn *k)
{
	u64 half = which_half(c, k);
	struct framing *f = find_framing(k, half);
	u8 *bytes = c->segment.req;
	u64 held = f->held;
	u64 sure = f->synced / SYNCED_YES; /* computed */
	u64 mark = 0;
	u64 all, lo, hi, cap, head, later, told, ends;
	u32 length;
	s64 least, n;

	FORGET(c, sure);
	held &= FC_HOLD_MASK; /* not clamped, and forgotten: one way for the verifier, not three for each message */
	if (held)
		read_kernel(bytes, (u32)held, find_hold(k, half));
	FORGET(c, held);
	held &= FC_HOLD_MASK;
	n = c->unseen ? held : gather(c, bytes, held, c->before);
	if (n < 0) {
		count(c, FC_COUNT_READ_FAULT);
		lose_place(c, f);
		return false;
	}
	all = c->unseen ? held : held + c->total - c->before;
	FORGET(c, n);
	FORGET(c, all);
	least = measure_message(c, k, half, sure, bytes, n, all, FC_HOLD, &mark);
	FORGET(c, least);
	FORGET(c, mark);
	FORGET(c, half);
	FORGET(c, n);
	FC_CLAMP(n, FC_SEGMENT_BYTES);
	if (n < least) {
		if (c->unseen || n < all)
			lose_place(c, f);
		else
			hold_bytes(c, k, f, half, n);
		return false;
	}
	length = weigh_begun(c, k, half, sure, bytes, n, all, mark, &head);
	FORGET(c, length);
	FORGET(c, head);
	lo = *(volatile u64 *)bytes; /* what was found out of them is forgotten, too */
	hi = *(volatile u64 *)(bytes + 8);
	if (!length) {
		/* In the middle of a message: one may begin behind each line's end, of NATS, or each frame's, of AMQP. */
		if (mark && f->synced == SYNCED_TRIAL) {
			f->boundary += mark;
			f->held = 0;
			c->before = f->boundary - c->position;
			return c->before < c->total;
		}
		miss_message(c, sk, k, f);
		return false;
	}
	f->synced = SYNCED_YES;
	f->misses = 0;
	if (all < length && all <= FC_HOLD && n == all && !c->unseen) {
		hold_bytes(c, k, f, half, n);
		return false;
	}
	cap = n < head ? n : head;
	later = (s32)(f->boundary + length - c->position - (u32)c->total) > 0 && !(c->more && c->dir == DIR_OUT);
	FORGET(c, later);
	told = is_told(k, f, lo, hi, length);
	FORGET(c, told);
	ends = !told && ends_split(k, f, later, length);
	FORGET(c, ends);
	later = told ? note_rest(k, f, later) : 0;
	FORGET(c, later);
	if (told || ends)
		ship_segment(c, k, f, half, ends ? 0 : cap, ends ? 0 : length, later);
	if (!k->wrapped)
		heed_message(k, half, lo);
	length = pass_message(k, f, lo, length);
	FORGET(c, length);
	f->boundary += length;
	f->held = 0;
	c->segments++;
	c->unseen = 0;
	if ((s32)(f->boundary - c->position) < 0) { /* more went by unseen than the message's rest */
		lose_place(c, f);
		f->boundary = c->position;
		f->synced = SYNCED_TRIAL;
	}
	c->before = f->boundary - c->position;
	return c->before < c->total;
}

/* On to a write's further pieces: Netty writes each answer as two of them. */
FC_INLINE bool turn_pieces(struct call *c, struct conn *k)
{
	struct framing *f = find_framing(k, which_half(c, k));

	if (!has_more_to_write(c) || f->synced != SYNCED_YES || k->state != CONN_FRAMED)
		return false;
	c->position += c->total;
	go_on_writing(c);
	c->before = f->boundary + f->held - c->position;
	return true;
}

/* True when the call may hold further messages. */
FC_INLINE bool take_messages(struct call *c, u64 sk, struct conn *k)
{
	u32 i;

	for (i = 0; i < FC_SEGMENTS_PER_STEP; i++) {
		if (c->before >= c->total && !c->unseen && !turn_pieces(c, k))
			return false;
		if ((c->before < c->total || c->unseen) && !take_message(c, sk, k)) {
			c->before = c->total;
			c->unseen = 0;
		}
	}
	return true;
}

#endif
