/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Requests and responses of one TCP connection, paired where order is strict: HTTP/1, Redis, databases.h.
 *
 * IDLE → (MAYBE) → REQUEST → (RESPONSE) → ANSWERED → REQUEST …; the record goes out at the first response bytes. One
 * request is followed at a time; others in flight beside it are counted, and the connection is left alone until they are
 * answered: a pair is right or not made at all.
 */
#ifndef FARCALL_PAIR_H
#define FARCALL_PAIR_H

#include "request.h"

#define FC_STATUS_LINE 12 /* "HTTP/1.1 200" */

/* Whether user space gets a record. */
FC_INLINE bool finish_exchange(struct call *c, u64 sk, struct conn *k)
{
	k->state = CONN_ANSWERED;
	see_identity(c, sk, k);
	add_identity(k, k->sights == 1 ? load_state(sk) : 0);
	return submit_exchange(c->counts, k);
}

/* The reply is there, beyond doubt: it is short, and its last bytes are those of one. */
FC_INLINE bool is_redis_there(const struct call *c, const struct conn *k, u64 n)
{
	u64 at = n - 2;

	if (n != c->total || n < 3 || k->large.x.flags & FC_FLAG_PIPELINED || k->large.x.who.commands > 1)
		return false;
	FC_CLAMP(at, FC_SMALL_RESP - 2);
	return *(u16 *)(k->small.resp + at) == ('\r' | '\n' << 8) && is_short_redis(*(u64 *)k->small.resp, n);
}

/* True when the record is complete. */
FC_INLINE bool answer_redis(void *ctx, struct call *c, u64 sk, struct conn *k)
{
	struct fc_exchange *x = &k->small.x;
	u64 n = c->len[0];

	FC_CLAMP(n, FC_SMALL_RESP);
	if (read_user(k->small.resp, (u32)n, (void *)c->base[0])) {
		count(c, FC_COUNT_READ_FAULT);
		return false;
	}
	if (!n || !is_redis_reply(k->small.resp[0]))
		return false;
	x->ts_resp_ns = read_clock();
	x->resp_bytes = c->total;
	x->resp_cap = (u16)n;
	x->ended = FC_ENDED_ANSWER;
	if (!is_redis_there(c, k, n)) {
		go_to(ctx, STEP_REPLY);
		return false;
	}
	return true;
}

_Static_assert(__builtin_offsetof(struct conn, large.resp) + FC_LARGE_RESP + FC_RESP_MORE <= sizeof(struct conn), "collect_long");

/* Reads a response's first bytes, more than `resp` holds, so that they end where it does. */
FC_INLINE bool collect_long(struct call *c, struct conn *k)
{
	struct fc_exchange *x = &k->large.x;
	u64 n = c->len[0];
	u64 at;

	FC_CLAMP(n, FC_LARGE_RESP + FC_RESP_MORE);
	at = FC_LARGE_RESP + FC_RESP_MORE - n;
	FC_CLAMP(at, FC_RESP_MORE);
	if (read_user(k->large.resp - FC_RESP_MORE + at, (u32)n, (void *)c->base[0])) {
		count(c, FC_COUNT_READ_FAULT);
		return false;
	}
	x->resp_cap = FC_LARGE_RESP;
	x->resp_more = (u16)(FC_RESP_MORE - at);
	return true;
}

/* Reads response bytes behind those of earlier calls; both are bounded alone, see scratch.buf. */
FC_INLINE bool collect_response(struct call *c, struct conn *k, u64 base, u64 len)
{
	struct fc_exchange *x = &k->large.x;
	u64 at = x->resp_cap;
	u64 n = len;

	if (at) {
		FC_CLAMP(at, FC_STATUS_LINE);
		FC_CLAMP(n, FC_LARGE_RESP - FC_STATUS_LINE);
	} else {
		FC_CLAMP(n, FC_LARGE_RESP);
	}
	if (read_user(k->large.resp + at, (u32)n, (void *)base)) {
		count(c, FC_COUNT_READ_FAULT);
		return false;
	}
	x->resp_cap = (u16)(at + n);
	return true;
}

/* 1xx but 101 is not the answer. */
FC_INLINE bool is_interim(const struct conn *k)
{
	const u8 *r = find_response(k);

	return r[9] == '1' && !(r[10] == '0' && r[11] == '1');
}

/* Before its record goes out. */
FC_INLINE void complete_http(struct call *c, u64 sk, struct conn *k, u64 last)
{
	struct fc_exchange *x = &k->large.x;

	c->position = locate_write(sk);
	x->resp_bytes += c->total;
	if (k->head == HEAD_UNKNOWN && x->req_bytes > x->req_cap)
		x->flags |= FC_FLAG_CUT;
	measure_request(sk, k, c->position);
	note_first(k, last);
}

/* Complete: its record goes out, and what follows belongs to it, of HTTP. */
FC_INLINE void finish_answer(struct call *c, u64 sk, struct conn *k)
{
	if (finish_exchange(c, sk, k) && k->large.x.proto == FC_PROTO_HTTP1 && !k->unpaired)
		follow_first(c, sk, k, c->position);
}

FC_INLINE void finish_http(struct call *c, u64 sk, struct conn *k, u64 last)
{
	complete_http(c, sk, k, last);
	finish_answer(c, sk, k);
}

/* Back to waiting: what was read is no answer. */
FC_INLINE void drop_response(struct conn *k)
{
	k->state = CONN_REQUEST;
	k->large.x.resp_cap = 0;
}

/* True when the record is complete. */
FC_INLINE bool answer_http(void *ctx, struct call *c, u64 sk, struct conn *k)
{
	struct fc_exchange *x = &k->large.x;
	bool is_long = !x->resp_cap && c->len[0] > FC_LARGE_RESP && x->req_cap <= FC_LARGE_REQ - FC_RESP_MORE;

	if (!x->resp_cap) {
		x->ts_resp_ns = read_clock();
		x->resp_bytes = 0;
		x->resp_more = 0;
	}
	if (!(is_long ? collect_long(c, k) : collect_response(c, k, c->base[0], c->len[0])))
		return false;
	if (x->resp_cap < FC_STATUS_LINE && c->pieces > 1 && !collect_response(c, k, c->base[1], c->len[1]))
		return false;
	if (x->resp_cap < FC_STATUS_LINE) {
		k->state = CONN_RESPONSE;
		x->resp_bytes += c->total;
		if (k->large.resp[0] != 'H')
			drop_response(k);
	} else if (!is_http_response(*(u64 *)find_response(k))) {
		/* The rest of the response before, read late, or no HTTP at all: the answer is still to come. */
		drop_response(k);
	} else if (is_interim(k) || has_more_pieces(c, k)) {
		go_to(ctx, STEP_ANSWER);
	} else {
		complete_http(c, sk, k, peek_first(c, k));
		return true;
	}
	return false;
}

/* How many bytes an interim response takes when the answer follows in the same call, else 0. */
FC_INLINE u64 skip_interim(const struct conn *k)
{
	const u64 end = FC_CRLFCRLF | FC_WORD('H', 'T', 'T', 'P') << 32;
	const u8 *r = find_response(k);
	u32 i;

	for (i = FC_STATUS_LINE; i + 8 <= FC_LARGE_RESP; i++)
		if (*(u64 *)(r + i) == end)
			break;
	return i + 8 <= k->large.x.resp_cap ? i + 4 : 0;
}

/* Whether the answer follows in the same call. */
FC_INLINE bool pass_interim(struct call *c, struct conn *k)
{
	u64 skip = skip_interim(k);

	drop_response(k);
	k->large.x.resp_more = 0;
	if (!skip || skip + FC_STATUS_LINE > c->len[0])
		return false;
	if (!collect_response(c, k, c->base[0] + skip, c->len[0] - skip))
		return false;
	k->large.x.resp_bytes = -skip; /* those are not the response's */
	if (!is_interim(k) && is_http_response(*(u64 *)k->large.resp))
		return true;
	drop_response(k);
	return false;
}

FC_INLINE void answer_request(void *ctx, struct call *c, u64 sk, struct conn *k)
{
	u8 proto = k->large.x.proto;
	bool is_complete = false;

	if (k->share == SHARE_LOST) {
		k->state = CONN_ANSWERED;
		return;
	}
	c->sk = sk;
	if (proto == FC_PROTO_REDIS)
		is_complete = answer_redis(ctx, c, sk, k);
	else if (proto == FC_PROTO_HTTP1)
		is_complete = answer_http(ctx, c, sk, k);
	else
		go_to(ctx, STEP_REPLY);
	if (is_complete) /* written once: each hook has it */
		finish_answer(c, sk, k);
}

/* Responses to the requests that were only counted. */
FC_INLINE void count_off(struct call *c, struct conn *k)
{
	if (!is_http_response(peek_user(c)))
		return;
	k->unpaired--;
	k->last_ns = read_clock();
}

#endif
