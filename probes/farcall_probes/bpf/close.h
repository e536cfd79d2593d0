/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Connections that open and close. Runs in interrupts too: it has a workspace of its own. */
#ifndef FARCALL_CLOSE_H
#define FARCALL_CLOSE_H

#include "pair.h"
#include "plain.h"

FC_INLINE void remember_open(u64 sk, u32 connector)
{
	struct opened o = {.ts_ns = read_clock(), .connector = connector};

	map_delete(MAP(MAP_CONNS), &sk);
	map_update(MAP(MAP_OPENS), &sk, &o, 0);
}

/* What was asked and will not be answered any more is an exchange too. */
FC_INLINE void close_conn(u64 sk)
{
	struct conn *k = map_lookup(MAP(MAP_CONNS), &sk);
	struct call *c;

	map_delete(MAP(MAP_OPENS), &sk);
	if (!k)
		return;
	c = find_workspace(WORKSPACE_CLOSE);
	if (c && (k->state == CONN_REQUEST || k->state == CONN_RESPONSE)) {
		struct fc_exchange *x = &k->large.x;

		x->ts_resp_ns = read_clock();
		x->resp_bytes = 0;
		x->resp_cap = 0;
		x->flags |= FC_FLAG_NO_RESPONSE;
		count(c, FC_COUNT_NO_RESPONSE);
		finish_exchange(c, sk, k);
	} else if (c && k->state == CONN_FRAMED) {
		ship_close(c, k);
	} else if (c && k->told_ns) {
		tell_plain(c, sk, k, read_clock());
	}
	map_delete(MAP(MAP_CONNS), &sk);
}

/* The kernel is done with the connection, but bytes that came before are unread, and its owner has not closed it: the
 * peer closed or reset it right behind its response. (The FIN is in rcv_nxt.) */
FC_INLINE bool may_be_read(u64 sk, u32 old)
{
	u32 unread = load_u32(AT(sk, OFF_TCP_RCV_NXT)) - load_u32(AT(sk, OFF_TCP_COPIED));
	bool closed = load_u8(AT(sk, OFF_SK_SHUTDOWN)) == SHUTDOWN_BOTH;

	return unread > 1 && !(closed && (old == TCP_ESTABLISHED || old == TCP_CLOSE_WAIT));
}

#endif
