/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* How it ended: requests that stay without an answer, and connections that never came to be. */
#ifndef FARCALL_END_H
#define FARCALL_END_H

#include "cause.h"
#include "conn.h"

/* asm-generic/errno*.h */
#define EPERM 1
#define EINTR 4
#define EACCES 13
#define EPIPE 32
#define EADDRNOTAVAIL 99
#define ENETUNREACH 101
#define ECONNRESET 104
#define ETIMEDOUT 110
#define ECONNREFUSED 111
#define EHOSTUNREACH 113
#define EINPROGRESS 115
#define ERESTARTSYS 512 /* what an interrupted call returns before the signal is looked at */

/* A connect that its process gave up sooner is the loser of a race (RFC 8305), not a failure. */
#define FC_GIVEN_UP_NS FC_SECOND_NS

FC_INLINE u32 load_error(u64 sk)
{
	return load_u32(AT(sk, OFF_SK_ERR));
}

/* Who closed first: the peer, when its FIN was there before this end closed. */
FC_INLINE bool has_peer_closed(u32 old, u32 new)
{
	return new == TCP_LAST_ACK || old == TCP_LAST_ACK || old == TCP_CLOSE_WAIT || old == TCP_CLOSING ||
	       old == TCP_FIN_WAIT2;
}

/* Of a request in flight, when its connection goes from `old` to `new`. */
FC_INLINE u8 find_end(u64 sk, u8 role, u32 old, u32 new)
{
	u32 error = load_error(sk);

	if (error == ECONNRESET || error == EPIPE)
		return FC_END_RESET;
	if (error)
		return FC_END_TIMEOUT;
	return (role == FC_ROLE_CLIENT) == has_peer_closed(old, new) ? FC_END_SERVER_CLOSED : FC_END_CLIENT_CLOSED;
}

FC_INLINE u8 name_failure(u32 error)
{
	switch (error) {
	case ECONNREFUSED:
	case ECONNRESET: /* behind a proxy or a firewall that answers for the server */
		return FC_END_REFUSED;
	case EHOSTUNREACH:
	case ENETUNREACH:
		return FC_END_UNREACHABLE;
	case ETIMEDOUT:
		return FC_END_CONNECT_TIMEOUT;
	case EADDRNOTAVAIL:
		return FC_END_NO_PORT;
	case EACCES:
	case EPERM:
		return FC_END_DENIED;
	}
	return FC_END_NONE;
}

FC_INLINE bool is_pending(u32 error)
{
	return error == EINPROGRESS || error == EINTR || error == ERESTARTSYS;
}

/* The record of a connect that failed: who is in the workspace's fresh connection already. */
FC_INLINE void submit_failure(struct call *c, u64 now, u8 end)
{
	struct fc_exchange *x = &c->fresh.small.x;

	x->ts_req_ns = x->who.conn_open_ns;
	x->ts_resp_ns = now;
	x->req_bytes = 0;
	x->resp_bytes = 0;
	x->seq = 0;
	x->isn_client = 0;
	x->isn_server = 0;
	x->request_seq = 0;
	x->flags = FC_FLAG_NO_RESPONSE | FC_FLAG_CONNECTOR | FC_FLAG_UNCONNECTED;
	x->req_cap = 0;
	x->resp_cap = 0;
	x->proto = FC_PROTO_TCP;
	x->role = FC_ROLE_CLIENT;
	x->end = end;
	count(c, FC_COUNT_UNCONNECTED);
	if (ring_output(MAP(MAP_RING_SMALL), &c->fresh.small, sizeof(c->fresh.small), FC_NO_WAKEUP))
		count(c, FC_COUNT_SMALL_LOST);
	else
		count(c, FC_COUNT_SMALL);
	x->flags = 0;
	x->end = FC_END_NONE;
}

struct user_sockaddr {
	u16 family;
	u16 port;
	u32 address; /* of AF_INET; flow information of AF_INET6 */
	u8 address6[16];
};

/* Where the caller wanted to go: the sock forgets it when connect fails. */
FC_INLINE bool read_wanted(struct call *c, struct fc_who *w)
{
	struct user_sockaddr a = {};

	if (read_user(&a, 8, (void *)c->name))
		return false;
	w->rport = swap16(a.port);
	if (a.family == AF_INET)
		map_ipv4(w->raddr, a.address);
	else if (a.family == AF_INET6)
		return read_user(w->raddr, 16, (void *)(c->name + 8)) == 0;
	return a.family == AF_INET;
}

/* Who connects, from where to where. False: nothing of ours. */
FC_INLINE bool describe_dial(struct call *c, u64 sk, u64 opened_ns)
{
	struct fc_who *w = &c->fresh.small.x.who;

	fill_process(c, w);
	if (!is_wanted(c, w))
		return false;
	fill_addresses(sk, w);
	w->conn_id = make_conn_id(c);
	w->conn_open_ns = opened_ns;
	w->cause_conn_id = 0;
	w->cause_seq = 0;
	add_cause(c, w);
	return read_wanted(c, w);
}

/* connect returned before it was decided; or so it says: on loopback the refusal is there, and only waits for the sock to
 * be unlocked. Whoever else decides it is not its caller. */
FC_INLINE void await_dial(struct call *c, u64 sk, struct opened *o)
{
	u8 state = load_state(sk);

	if (!o || find_connector(o) != CONNECTOR_SELF || (state != TCP_SYN_SENT && state != TCP_CLOSE))
		return;
	if (!describe_dial(c, sk, o->ts_ns))
		return;
	map_update(MAP(MAP_DIALS), &sk, &c->fresh.small.x.who, 0);
	/* decided already, or meanwhile? Then one of both takes the entry out. */
	if (load_state(sk) != TCP_CLOSE || map_delete(MAP(MAP_DIALS), &sk))
		return;
	set_connector(o, CONNECTOR_TOLD);
	submit_failure(c, read_clock(), name_failure(load_error(sk)));
}

/* connect returned `error` (positive), or has not ended yet. */
FC_INLINE void end_connect(struct call *c, u32 error)
{
	u64 sk = walk_to_sk(read_task_btf(), c);
	struct opened *o;
	u64 opened_ns;
	u32 connector;
	u16 family;

	if (!sk || load_u16(AT(sk, OFF_SK_PROTOCOL)) != IPPROTO_TCP)
		return;
	family = load_u16(AT(sk, OFF_SK_FAMILY));
	if (family != AF_INET && family != AF_INET6)
		return;
	c->now = read_clock();
	o = find_opened(sk);
	if (is_pending(error)) {
		await_dial(c, sk, o);
		return;
	}
	opened_ns = o ? o->ts_ns : c->now;
	connector = o ? find_connector(o) : CONNECTOR_UNKNOWN;
	if (o)
		set_opened(o, 0, 0, 0);
	if (connector == CONNECTOR_TOLD)
		return;
	/* No IPv6 here: programs try it all the same, and then IPv4. */
	if (family == AF_INET6 && connector != CONNECTOR_SELF) {
		count(c, FC_COUNT_CONNECT_UNTOLD);
		return;
	}
	if (!describe_dial(c, sk, opened_ns))
		return;
	submit_failure(c, c->now, name_failure(error));
}

/* The kernel decided a connect: runs where its answer arrived. */
FC_INLINE void fail_dial(u64 sk)
{
	struct fc_who *w = map_lookup(MAP(MAP_DIALS), &sk);
	struct call *c = find_workspace(WORKSPACE_CLOSE);
	struct opened *o;
	u64 now = read_clock();
	u8 end = name_failure(load_error(sk));

	if (!w || !c)
		return; /* the caller still waits in connect */
	c->fresh.small.x.who = *w;
	if (map_delete(MAP(MAP_DIALS), &sk))
		return;
	o = find_opened(sk);
	if (o)
		set_connector(o, CONNECTOR_TOLD);
	if (!end && now - c->fresh.small.x.who.conn_open_ns >= FC_GIVEN_UP_NS)
		end = FC_END_CONNECT_TIMEOUT;
	if (end)
		submit_failure(c, now, end);
	else
		count(c, FC_COUNT_CONNECT_UNTOLD);
}

#endif
