/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* How a request begins, and goes on in further calls, where order is strict (pair.h). */
#ifndef FARCALL_REQUEST_H
#define FARCALL_REQUEST_H

#include "cause.h"
#include "commands.h"
#include "databases.h"
#include "emit.h"
#include "framing.h"
#include "http1.h"
#include "io.h"
#include "redis.h"
#include "rest.h"
#include "sizes.h"

/* Responses that arrive glued to others are never counted off; after this much silence nothing is in flight any more. */
#define FC_UNPAIRED_LIFE_NS FC_SECOND_NS

FC_INLINE u8 classify_request(struct call *c, struct conn *k, u64 head)
{
	if (is_http_request(head))
		return is_nats_connect(k->large.req) ? FC_PROTO_UNKNOWN : FC_PROTO_HTTP1;
	/* A Redis reply that is an array looks like a request: only the end that called connect asks. */
	if (is_of_asked_end(c, k))
		return FC_PROTO_UNKNOWN;
	if (is_redis_request(head))
		return FC_PROTO_REDIS;
	if (is_mongodb_request(k->large.req, k->large.x.req_cap)) /* which may read as theirs: step__recognise is next */
		return FC_PROTO_UNKNOWN;
	return classify_database(head, k->large.x.req_bytes);
}

/* Where the call's first byte is in TCP sequence space; of TLS, where its record begins. */
FC_INLINE u32 locate_call(struct call *c, u64 sk)
{
	if (c->plain)
		return c->tls_seq;
	return c->dir == DIR_OUT ? locate_write(sk) : locate_read(sk, c->total);
}

FC_INLINE u64 load_head(const struct conn *k)
{
	return *(u64 *)k->large.req;
}

/* The request is one: number it and look at what only requests have. */
FC_INLINE void confirm_request(struct call *c, struct conn *k, u8 proto)
{
	struct fc_exchange *x = &k->large.x;

	k->told_ns = 0;
	x->proto = proto;
	x->role = k->dir == DIR_OUT ? FC_ROLE_CLIENT : FC_ROLE_SERVER;
	if (k->connector == CONNECTOR_UNKNOWN)
		k->connector = k->dir == DIR_OUT ? CONNECTOR_SELF : CONNECTOR_PEER;
	x->flags |= (x->who.conn_open_ns ? 0 : FC_FLAG_LATE) |
		    (k->connector == CONNECTOR_SELF ? FC_FLAG_CONNECTOR : 0);
	x->seq = k->next_seq++;
	k->state = CONN_REQUEST;
	k->follow = FOLLOW_NOT;
}

/* A connection's first request may be one of many that nobody wants to see. */
FC_INLINE void note_health(struct conn *k)
{
	struct fc_exchange *x = &k->large.x;

	if (x->proto == FC_PROTO_HTTP1)
		k->mute = x->seq == 0 && is_health_check(k->large.req, x->req_cap);
}

/* What is done with each request, once it is known to be one. */
FC_INLINE void settle_request(struct call *c, u64 sk, struct conn *k)
{
	take_share(c->counts, k);
	note_cause(c, sk, k);
	see_identity(c, sk, k);
}

/* Whether this call brought bytes of a head, or commands, that the record does not hold. */
FC_INLINE bool has_more(struct call *c, struct conn *k, u64 before)
{
	u8 proto = k->large.x.proto;
	u64 end = before + c->total;

	if (k->share == SHARE_LOST)
		return false;
	if (proto == FC_PROTO_HTTP1 && k->head != HEAD_ENDED)
		return end > FC_LARGE_REQ;
	if (proto == FC_PROTO_MYSQL || !is_counted(k))
		return false;
	return (c->more && proto != FC_PROTO_HTTP1) || (k->commands.at < end && end > (is_small_record(proto) ? FC_SMALL_REQ : FC_LARGE_REQ));
}

/* Bytes that begin no request, whatever follows them. An end that is asked may write by itself while another thread reads the
 * first question (Go's HTTP/2 servers: SETTINGS and the preface): nothing of that one is to be touched for them. */
FC_INLINE bool begins_nothing(struct call *c, const struct conn *k)
{
	return is_of_asked_end(c, k) && c->len[0] >= 8 && !is_http_request(peek_user(c));
}

/* A request's first bytes were collected, `n` of them. */
FC_INLINE void note_request(struct call *c, u64 sk, struct conn *k, u64 n)
{
	struct fc_exchange *x = &k->large.x;

	k->unpaired = 0;
	k->dir = (u8)c->dir;
	k->head = HEAD_UNKNOWN;
	k->parts = 0;
	k->mute = 0;
	x->who.tid = (u32)c->pid_tgid;
	x->end = FC_END_NONE;
	x->who.cause_conn_id = 0;
	x->who.cause_seq = 0;
	x->who.asked_us = 0;
	x->ts_req_ns = c->now;
	x->req_bytes = c->total;
	x->req_cap = (u16)n;
	x->resp_cap = 0;
	x->resp_more = 0;
	x->who.commands = 0;
	begin_commands(k);
	x->flags = c->plain ? FC_FLAG_TLS : 0;
	x->request_seq = locate_call(c, sk);
	k->tls_begin = c->place;
}

/* True when there is a head to follow, or commands. */
FC_INLINE bool begin_request(struct call *c, u64 sk, struct conn *k)
{
	s64 n;
	u8 proto;

	if (k->unpaired && c->now - k->last_ns < FC_UNPAIRED_LIFE_NS) {
		k->unpaired += k->unpaired < 255;
		k->next_seq++;
		k->last_ns = c->now;
		count(c, FC_COUNT_OVERWRITTEN);
		return false;
	}
	n = collect(c, k->large.req, 0);
	if (n <= 0) {
		count(c, FC_COUNT_READ_FAULT);
		return false;
	}
	note_request(c, sk, k, n);
	if (n < 8) {
		k->state = CONN_MAYBE;
		return false;
	}
	proto = classify_request(c, k, load_head(k));
	if (!proto) {
		if (may_be_followed(c, k))
			k->state = CONN_MAYBE;
		else if (k->state != CONN_ANSWERED)
			k->state = CONN_IDLE;
		return false;
	}
	confirm_request(c, k, proto);
	note_health(k);
	settle_request(c, sk, k);
	return has_more(c, k, 0);
}

/* What of a connection that was answered last is a program of its own, or is to be looked up: rare. */
FC_INLINE bool may_begin_next(struct call *c, const struct conn *k)
{
	return c->pieces == 1 && c->len[0] >= 8 && !k->unpaired && !has_rest(k) && k->policies == c->policies &&
	       k->tgid == (u32)(c->pid_tgid >> 32);
}

/* The next request of a connection that has had some, of the same protocol, in a call of one piece: as step__begin, without asking
 * for the connection again. What was captured of the one before has gone out. False: it is none, or not so simple. */
FC_INLINE bool begin_next(void *ctx, struct call *c, u64 sk, struct conn *k)
{
	u8 proto = k->large.x.proto;
	s64 n;

	if ((proto != FC_PROTO_HTTP1 && proto != FC_PROTO_REDIS) || !may_begin_next(c, k))
		return false;
	n = collect_piece(c, k->large.req);
	if (n < 8 || !(proto == FC_PROTO_HTTP1 ? is_http_request(load_head(k)) : is_redis_request(load_head(k))))
		return false;
	c->now = read_clock();
	note_request(c, sk, k, n);
	confirm_request(c, k, proto);
	settle_request(c, sk, k);
	if (has_more(c, k, 0)) {
		c->before = 0;
		go_to(ctx, STEP_HEAD);
	}
	return true;
}

/* A second request while one is in flight, in a call of its own. Redis clients pipeline so, and the batch is one
 * exchange; for HTTP/1 the first request must have ended for this to be one. */
FC_INLINE bool is_second_request(struct call *c, struct conn *k, u64 at)
{
	if (at != k->large.x.req_bytes || at < 4 || at > FC_LARGE_REQ)
		return false;
	at -= 4;
	FC_CLAMP(at, FC_LARGE_REQ - 4);
	if (*(u32 *)(k->large.req + at) != (u32)FC_CRLFCRLF)
		return false;
	return is_http_request(peek_user(c));
}

/* What an answered request was to go on with was moved by a call that told nothing of it (sendfile, splice): this is the next. */
FC_INLINE bool has_passed_by(struct call *c, u64 sk, const struct conn *k)
{
	u32 at = locate_call(c, sk) - k->large.x.request_seq;

	return !c->plain && at > k->large.x.req_bytes && at >= k->commands.at + k->commands.have;
}

/* Also of one whose first commands were answered already. */
FC_INLINE bool continue_request(struct call *c, u64 sk, struct conn *k)
{
	struct fc_exchange *x = &k->large.x;
	/* Where these bytes belong. A write is seen at its enter: one that failed (EAGAIN) or was short comes again, at the
	 * place in the stream that says so. */
	u64 at = c->dir == DIR_OUT && !c->plain ? locate_write(sk) - x->request_seq : x->req_bytes;
	s64 n;

	if (x->proto == FC_PROTO_HTTP1 && is_second_request(c, k, at)) {
		x->flags |= FC_FLAG_PIPELINED;
		k->unpaired += k->unpaired < 255;
		k->next_seq++;
		k->last_ns = read_clock();
		count(c, FC_COUNT_OVERWRITTEN);
		return false;
	}
	if (x->proto == FC_PROTO_REDIS && at == x->req_bytes && is_redis_request(peek_user(c)))
		x->flags |= FC_FLAG_PIPELINED;
	if (at < FC_LARGE_REQ && k->state != CONN_ANSWERED) {
		n = collect(c, k->large.req, at);
		if (n < 0) {
			count(c, FC_COUNT_READ_FAULT);
			return false;
		}
		if (n > x->req_cap)
			x->req_cap = (u16)n;
	}
	if (at + c->total > x->req_bytes)
		x->req_bytes = at + c->total;
	c->before = at;
	note_asked(x);
	if (k->state == CONN_MAYBE) {
		u8 proto;

		if (x->req_cap < 8)
			return false;
		proto = classify_request(c, k, load_head(k));
		if (!proto) {
			if (!may_be_followed(c, k))
				k->state = CONN_IDLE;
			return false;
		}
		confirm_request(c, k, proto);
		note_health(k);
		settle_request(c, sk, k);
	}
	return has_more(c, k, at);
}

#endif
