/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Bytes that the kernel moves between a socket and a pipe or a file (splice, sendfile): how many is known, what they are is not.
 * Proxies pass bodies on so, and whole connections: Go's io.Copy between two of them.
 */
#ifndef FARCALL_MOVED_H
#define FARCALL_MOVED_H

#include "take.h"

/* What is in flight is answered, or goes on, by bytes that nobody can look at: no pair is made of it, and the connection is one
 * of an unknown protocol from here on; from its beginning, if nothing of it was told yet. */
FC_INLINE void lose_sight(struct call *c, u64 sk, struct conn *k)
{
	struct fc_exchange *x = &k->large.x;
	bool is_first = x->who.conn_open_ns && k->next_seq == (k->state != CONN_MAYBE);

	if (k->state != CONN_MAYBE)
		count(c, FC_COUNT_OVERWRITTEN);
	k->state = CONN_IDLE;
	k->unpaired = 0;
	k->mute = 0;
	x->proto = FC_PROTO_UNKNOWN;
	x->req_cap = 0;
	x->resp_more = 0;
	x->end = FC_END_NONE;
	x->who.cause_conn_id = 0;
	x->who.cause_seq = 0;
	x->who.asked_us = 0;
	k->told_ns = is_first ? x->who.conn_open_ns : c->now;
	k->told_sent = is_first ? 0 : load_sent(sk, k);
	k->told_received = is_first ? 0 : load_received(sk);
}

/* Bytes of a message that was seen to begin. */
FC_INLINE bool has_message_open(struct conn *k, u64 half)
{
	struct framing *f = find_framing(k, half);

	return f->inside || (f->held && k->large.x.proto != FC_PROTO_HTTP2);
}

/* `any`: they may be anything. Else a head went before them in a write: servers send files so. */
FC_INLINE void take_moved(void *ctx, struct call *c, struct fdent *e, s64 n, bool any)
{
	u64 sk = e->sk;
	struct conn *k = map_lookup(MAP(MAP_CONNS), &sk);
	u8 state;

	count(c, FC_COUNT_EVENTS);
	if (k && k->ports == e->ports) {
		state = k->state;
		if (state == CONN_ANSWERED && k->follow && !k->unpaired && !k->tls && k->dir != c->dir) {
			follow_moved(c, sk, k, n);
			return;
		}
		if (state == CONN_REQUEST && k->dir == c->dir && !k->tls)
			note_asked(&k->large.x);
		if (any && !k->tls && (state == CONN_MAYBE || state == CONN_REQUEST || state == CONN_RESPONSE)) {
			c->now = read_clock();
			if (k->dir != c->dir || state == CONN_MAYBE)
				lose_sight(c, sk, k);
			else if (c->dir == DIR_IN) /* of a write, its place in the stream tells: measure_request */
				k->large.x.req_bytes += n;
			return;
		}
		if (state == CONN_FRAMED && !k->tls && has_message_open(k, which_half(c, k))) {
			set_buffer(c, 0, 0);
			go_to(ctx, STEP_FRAMES);
		}
		if (!is_plain_due(k))
			return;
	}
	c->total = n;
	c->pieces = 0;
	go_to(ctx, STEP_MEET);
}

#endif
