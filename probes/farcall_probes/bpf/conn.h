/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * A connection's state: made at its first request, dropped when it closes; and its identity in TCP sequence space.
 *
 * Identity = (first client byte, first server byte), absolute sequence numbers. It survives NAT, so both ends of one
 * exchange can be joined by (identity, sequence number of the request's first byte).
 */
#ifndef FARCALL_CONN_H
#define FARCALL_CONN_H

#include "opened.h"
#include "walk.h"

FC_INLINE u8 load_state(u64 sk)
{
	return load_u8(AT(sk, OFF_SK_STATE));
}

/* States in which the peer's FIN is in rcv_nxt. */
FC_INLINE u32 count_fin(u8 state)
{
	return state == TCP_CLOSE_WAIT || state == TCP_LAST_ACK || state == TCP_CLOSING;
}

FC_INLINE bool can_see_identity(u8 state)
{
	return state == TCP_ESTABLISHED || state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || count_fin(state);
}

/* One sight. Counters and edges are two stores of the kernel, so a sight can be torn: only two that agree count. The SYN
 * is counted in bytes_acked on the end that called connect, and only there; a FIN in both of its pair. */
FC_INLINE void see_identity(struct call *c, u64 sk, struct conn *k)
{
	u8 state = load_state(sk);
	u32 sent, received;
	bool self;

	if (k->sights >= 2 || !can_see_identity(state))
		return;
	self = k->connector == CONNECTOR_SELF;
	sent = load_u32(AT(sk, OFF_TCP_SND_UNA)) - load_u32(AT(sk, OFF_TCP_ACKED)) + self;
	received = load_u32(AT(sk, OFF_TCP_RCV_NXT)) - load_u32(AT(sk, OFF_TCP_RECEIVED));
	if (k->sights == 1 && k->isn_client == (self ? sent : received) &&
	    k->isn_server == (self ? received : sent)) {
		k->sights = 2;
		return;
	}
	if (k->sights == 1)
		count(c, FC_COUNT_IDENTITY_TORN);
	k->sights = 1;
	k->isn_client = self ? sent : received;
	k->isn_server = self ? received : sent;
}

/* Sequence number of the first byte of what was just read. Once the FIN is reached, copied_seq counts it too. */
FC_INLINE u32 locate_read(u64 sk, u64 total)
{
	u32 copied = load_u32(AT(sk, OFF_TCP_COPIED));

	if (count_fin(load_state(sk)) && copied == load_u32(AT(sk, OFF_TCP_RCV_NXT)))
		copied--;
	return copied - (u32)total;
}

FC_INLINE u32 locate_write(u64 sk)
{
	return load_u32(AT(sk, OFF_TCP_WRITE));
}

/* Who called connect, for a connection older than the agent: connect makes its port's bucket with fastreuse -1, bind
 * never does. */
FC_INLINE u8 guess_connector(u64 sk)
{
	u64 bucket = load_u64(AT(sk, OFF_ICSK_BIND));

	if (!bucket)
		return CONNECTOR_UNKNOWN;
	return load_u8(AT(bucket, OFF_BIND_REUSE)) == 0xff ? CONNECTOR_SELF : CONNECTOR_PEER;
}

/* Whether these are bytes of the end that was connected to: of most protocols it never asks. */
FC_INLINE bool is_of_asked_end(const struct call *c, const struct conn *k)
{
	return k->connector == (c->dir == DIR_OUT ? CONNECTOR_PEER : CONNECTOR_SELF);
}

/* For what is no connection, or is to be another one: the time it was made, and unique: per CPU it only grows, and the CPU is in it. */
FC_INLINE u64 make_conn_id(struct call *c)
{
	u64 id = c->now >> 10;

	if (id <= c->last_id)
		id = c->last_id + 1;
	c->last_id = id;
	return id << 10 | (read_cpu() & 1023);
}

/* Its number is the same whenever it is met, and no other's, but for the chance of two numbers of 64 bits to be equal. */
FC_INLINE bool fill_opened(struct call *c, u64 sk, struct conn *k)
{
	struct fc_who *w = &k->large.x.who;
	struct opened *o = place_opened(sk);

	if (!o)
		return false;
	if (!is_opened(o, sk))
		take_place(c, o, sk, OPENED_LATE, c->now);
	w->conn_id = o->ts_ns * FC_SPREAD_TIME + sk * FC_SPREAD_SOCK;
	w->conn_open_ns = o->sk & OPENED_LATE ? 0 : o->ts_ns;
	k->connector = o->sk & OPENED_LATE ? guess_connector(sk) : find_connector(o);
	if (o->sk & OPENED_MET) {
		k->again = 1;
		k->next_seq = (u32)((c->now - o->ts_ns) >> FC_AGE_SHIFT);
	}
	o->sk |= OPENED_MET;
	return true;
}

/* Of a connection that is followed message by message those are numbered from 0, and what was in flight when it was forgotten is not
 * known any more: to user space it is another one. */
FC_INLINE void name_anew(struct call *c, struct conn *k)
{
	if (k->again)
		k->large.x.who.conn_id = make_conn_id(c);
	k->again = 0;
}

FC_INLINE void reset_framing(struct framing *f)
{
	f->boundary = 0;
	f->seq = 0;
	f->mark = 0;
	f->left = 0;
	f->held = 0;
	f->synced = 0;
	f->misses = 0;
}

FC_INLINE void reset_conn(struct conn *k)
{
	k->last_ns = 0;
	k->next_seq = 0;
	k->isn_client = 0;
	k->isn_server = 0;
	k->sights = 0;
	k->state = CONN_IDLE;
	k->dir = 0;
	k->head = 0;
	k->parts = 0;
	k->unpaired = 0;
	k->mute = 0;
	k->dns_skip = 0;
	k->dns_len = 0;
	k->dns_have = 0;
	k->dns_size = 0;
	k->dns_parts = 0;
	k->tls_left = 0;
	k->tls_in_seq = 0;
	k->tls_in_len = 0;
	k->tls_in_place = 0;
	k->tls_places[DIR_OUT] = 0;
	k->tls_places[DIR_IN] = 0;
	k->tls_begin = 0;
	k->tls_out_seq = 0;
	k->tls = TLS_NONE;
	k->tls_fresh = 0;
	k->tls_wrote = 0;
	k->tls_cipher = 0;
	k->tls_stage = STAGE_UNKNOWN;
	k->told_ns = 0;
	k->told_sent = 0;
	k->told_received = 0;
	k->rest_ns = 0;
	k->follow = 0;
	k->again = 0;
	k->dull_ns = 0;
	k->share = SHARE_UNASKED;
	k->full_window = 0;
	k->capped = 0;
	k->never_framed = 0;
	k->wrapped = 0;
	reset_framing(&k->framing[HALF_REQUESTS]);
	reset_framing(&k->framing[HALF_RESPONSES]);
	k->large.x.proto = FC_PROTO_UNKNOWN;
}

/* The policy map is asked once for each of its states. */
FC_INLINE bool is_still_wanted(struct call *c, struct conn *k)
{
	if (k->policies == c->policies)
		return true;
	if (!is_wanted(c, &k->large.x.who))
		return false;
	k->policies = c->policies;
	return true;
}

/* A new state for `sk`, or NULL: not established, not wanted, or no room. The process is in the workspace's fresh one. */
FC_INLINE struct conn *make_conn(struct call *c, u64 sk)
{
	struct conn *k = &c->fresh;
	u8 state = load_state(sk);

	/* Before the handshake (Fast Open, deferred connect) sequence numbers mean nothing. */
	if (state != TCP_ESTABLISHED && state != TCP_CLOSE_WAIT)
		return NULL;
	if (!is_wanted(c, &k->large.x.who)) {
		ignore_fd(c, FD_NOT_LIFE_NS);
		return NULL;
	}
	reset_conn(k);
	k->policies = c->policies;
	k->tgid = (u32)(c->pid_tgid >> 32);
	fill_addresses(sk, &k->large.x.who);
	if (!fill_opened(c, sk, k))
		return NULL;
	k->ports = load_ports(sk);
	if (map_update(MAP(MAP_CONNS), &sk, k, 0)) {
		count(c, FC_COUNT_CONN_LOST);
		return NULL;
	}
	return map_lookup(MAP(MAP_CONNS), &sk);
}

#endif
