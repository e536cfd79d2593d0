/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Connections whose protocol nobody here knows, TLS that cannot be read among them: what they began with, how long they
 * lasted and how many bytes went each way. Told of when they close, and once a minute while they live.
 */
#ifndef FARCALL_PLAIN_H
#define FARCALL_PLAIN_H

#include "emit.h"
#include "io.h"

#define FC_PLAIN_PERIOD_NS (60 * FC_SECOND_NS)

FC_INLINE bool is_plain(const struct conn *k)
{
	return k->large.x.proto == FC_PROTO_UNKNOWN || k->large.x.proto == FC_PROTO_TCP;
}

/* It began with a TLS handshake, whose bytes are kept for the name in them: no other protocol will be seen on it. */
FC_INLINE bool is_sealed(const struct conn *k)
{
	return k->told_ns && is_plain(k) && *(u16 *)k->large.req == (0x16 | 0x03 << 8);
}

FC_INLINE bool is_plain_due(const struct conn *k)
{
	return is_plain(k) && k->state == CONN_IDLE &&
	       (!k->told_ns || read_clock() - k->told_ns > FC_PLAIN_PERIOD_NS);
}

/* States in which a FIN of this end is among what it wrote. */
FC_INLINE u32 count_own_fin(u8 state)
{
	return state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSING || state == TCP_LAST_ACK;
}

/* Bytes that this end wrote: those that were acknowledged and those on their way, SYN and FIN left out. */
FC_INLINE u64 load_sent(u64 sk, const struct conn *k)
{
	u64 acked = load_u64(AT(sk, OFF_TCP_ACKED));
	u32 waiting = load_u32(AT(sk, OFF_TCP_WRITE)) - load_u32(AT(sk, OFF_TCP_SND_UNA));

	return acked + waiting - (k->connector == CONNECTOR_SELF) - count_own_fin(load_state(sk));
}

FC_INLINE u64 load_received(u64 sk)
{
	return load_u64(AT(sk, OFF_TCP_RECEIVED)) - count_fin(load_state(sk));
}

/* `fin`: 1 when the peer's has just arrived and the state does not tell yet. */
FC_INLINE void tell_plain(struct call *c, u64 sk, struct conn *k, u64 now, u32 fin)
{
	struct fc_exchange *x = &k->large.x;
	u64 sent = load_sent(sk, k);
	u64 received = load_received(sk) - fin;
	bool is_client = k->connector == CONNECTOR_UNKNOWN ? k->dir == DIR_OUT : k->connector == CONNECTOR_SELF;

	if (sent == k->told_sent && received == k->told_received)
		return;
	x->proto = FC_PROTO_TCP;
	x->role = is_client ? FC_ROLE_CLIENT : FC_ROLE_SERVER;
	x->flags = (x->who.conn_open_ns ? 0 : FC_FLAG_LATE) | (k->connector == CONNECTOR_SELF ? FC_FLAG_CONNECTOR : 0);
	x->ts_req_ns = k->told_ns;
	x->ts_resp_ns = now;
	x->seq = k->next_seq++;
	x->resp_cap = 0;
	see_identity(c, sk, k);
	add_identity(k, k->sights == 1 ? load_state(sk) : 0);
	/* The first byte of what is told now, as both ends count it. */
	x->request_seq = k->isn_client + (u32)(is_client ? k->told_sent : k->told_received);
	x->req_bytes = is_client ? sent - k->told_sent : received - k->told_received;
	x->resp_bytes = is_client ? received - k->told_received : sent - k->told_sent;
	k->told_ns = now;
	k->told_sent = sent;
	k->told_received = received;
	k->share = SHARE_UNASKED;
	submit_exchange(c->counts, k);
}

FC_INLINE void meet_plain(struct call *c, u64 sk, struct conn *k)
{
	struct fc_exchange *x = &k->large.x;
	s64 n;

	if (k->state != CONN_IDLE || !is_plain(k))
		return;
	if (k->told_ns) {
		tell_plain(c, sk, k, c->now, 0);
		return;
	}
	n = collect(c, k->large.req, 0);
	if (n < 0) {
		count(c, FC_COUNT_READ_FAULT);
		return;
	}
	x->req_cap = (u16)n;
	x->who.tid = (u32)c->pid_tgid;
	x->end = FC_END_NONE;
	x->who.cause_conn_id = 0;
	x->who.cause_seq = 0;
	x->who.asked_us = 0;
	k->mute = 0;
	k->dir = (u8)c->dir;
	k->told_ns = x->who.conn_open_ns ? x->who.conn_open_ns : c->now;
	if (!x->who.conn_open_ns) { /* what went before is not ours to tell */
		k->told_sent = load_sent(sk, k);
		k->told_received = load_received(sk);
	}
	see_identity(c, sk, k);
}

#endif
