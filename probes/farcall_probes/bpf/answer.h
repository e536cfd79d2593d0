/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Answers of databases and caches, of which the record goes out at the first call; rest.h follows them to their end. */
#ifndef FARCALL_ANSWER_H
#define FARCALL_ANSWER_H

#include "pair.h"

/* The first call of an answer of Redis or memcached. */
FC_INLINE void answer_small(struct call *c, u64 sk, struct conn *k)
{
	u64 last = peek_last(c, 0);
	bool is_there = is_small_there(c, k, last);

	k->rest_last = last;
	k->large.x.ended = is_there ? FC_ENDED_ANSWER : FC_ENDED_NOT;
	if (finish_exchange(c, sk, k) && !is_there)
		follow_first(c, sk, k, locate_write(sk));
}

/* Replies of databases. What is none ends the exchange: the request was none either. */
FC_INLINE void answer_database(struct call *c, u64 sk, struct conn *k)
{
	bool is_small = is_small_record(k->large.x.proto);
	struct fc_exchange *x = &k->large.x;
	u8 *to = is_small ? k->small.resp : k->large.resp;
	enum reply reply;

	if (!x->resp_cap) {
		x->ts_resp_ns = read_clock();
		x->resp_bytes = 0;
	}
	if (is_small) {
		u64 n = c->len[0];

		FC_CLAMP(n, FC_SMALL_RESP);
		if (read_user(k->small.resp, (u32)n, (void *)c->base[0])) {
			count(c, FC_COUNT_READ_FAULT);
			return;
		}
		x->resp_cap = (u16)n;
	} else if (!collect_response(c, k, c->base[0], c->len[0])) {
		return;
	}
	x->resp_bytes += c->total;
	reply = classify_reply(x->proto, *(u64 *)to, x->resp_bytes);
	k->state = reply == REPLY_HEADER ? CONN_RESPONSE : CONN_IDLE;
	if (reply == REPLY_NONE)
		x->proto = FC_PROTO_UNKNOWN;
	if (reply != REPLY_WHOLE)
		return;
	if (is_small) {
		answer_small(c, sk, k);
		return;
	}
	if (x->req_bytes > x->req_cap)
		x->flags |= FC_FLAG_CUT;
	note_first_answer(k, peek_last(c, 0));
	if (finish_exchange(c, sk, k) && x->ended != FC_ENDED_ANSWER)
		follow_first(c, sk, k, locate_write(sk));
}

#endif
