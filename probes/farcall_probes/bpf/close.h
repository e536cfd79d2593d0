/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Connections that open and close. Runs in interrupts too: it has a workspace of its own. */
#ifndef FARCALL_CLOSE_H
#define FARCALL_CLOSE_H

#include "end.h"
#include "pair.h"
#include "plain.h"

FC_INLINE void remember_open(u64 sk, u32 connector)
{
	struct opened *o = place_opened(sk);

	map_delete(MAP(MAP_CONNS), &sk);
	if (o)
		take_place(find_workspace(WORKSPACE_CLOSE), o, sk, connector, read_clock());
}

/* The peer's FIN, which the kernel has just taken as the last thing to come: nobody has read it yet. */
FC_INLINE u32 count_last_fin(u64 sk, u32 old)
{
	return old == TCP_FIN_WAIT2 && load_u32(AT(sk, OFF_TCP_RCV_NXT)) != load_u32(AT(sk, OFF_TCP_COPIED));
}

/* It closes before it was clear what its few bytes were. */
FC_INLINE bool never_decided(const struct conn *k)
{
	return k->state == CONN_MAYBE && !k->told_ns && !k->next_seq;
}

/* Its connection is gone: what is in flight will not be answered. In the workspace of closes. */
FC_INLINE void ship_close(struct call *c, struct conn *k, u8 end)
{
	struct fc_exchange *x = &c->segment.x;

	if (!k->framing[HALF_REQUESTS].seq)
		return;
	read_kernel(x, sizeof(*x), &k->large.x);
	x->ts_req_ns = read_clock();
	x->ts_resp_ns = 0;
	x->seq = k->framing[HALF_RESPONSES].seq;
	x->flags |= FC_FLAG_NO_RESPONSE;
	x->end = end;
	x->req_bytes = k->framing[HALF_REQUESTS].seq;
	x->resp_bytes = k->framing[HALF_RESPONSES].seq;
	x->request_seq = 0;
	x->req_cap = 0;
	x->resp_cap = 0;
	x->segment = FC_SEGMENT_CLOSED;
	if (x->proto == FC_PROTO_HTTP2) {
		x->req_cap = 2 * FC_BODIES_BYTES;
		read_kernel(c->segment.req, FC_BODIES_BYTES, find_bodies(k, HALF_REQUESTS));
		read_kernel(c->segment.req + FC_BODIES_BYTES, FC_BODIES_BYTES, find_bodies(k, HALF_RESPONSES));
	}
	submit_segment(c->counts, k, &c->segment);
}

/* What was asked and will not be answered any more is an exchange too. `unread`: an answer may still be read. */
FC_INLINE void close_conn(u64 sk, u32 old, u32 new, bool unread)
{
	struct conn *k = map_lookup(MAP(MAP_CONNS), &sk);
	struct call *c;

	if (!unread)
		forget_opened(sk);
	if (!k)
		return;
	c = find_workspace(WORKSPACE_CLOSE);
	if (c && never_decided(k))
		k->told_ns = k->large.x.who.conn_open_ns;
	if (c && k->told_ns)
		tell_plain(c, sk, k, read_clock(), count_last_fin(sk, old));
	if (unread)
		return;
	if (c && (k->state == CONN_REQUEST || k->state == CONN_RESPONSE)) {
		struct fc_exchange *x = &k->large.x;

		x->ts_resp_ns = read_clock();
		x->resp_bytes = 0;
		x->resp_cap = 0;
		x->flags |= FC_FLAG_NO_RESPONSE;
		x->end = find_end(sk, x->role, old, new);
		count(c, FC_COUNT_NO_RESPONSE);
		finish_exchange(c, sk, k);
	} else if (c && k->state == CONN_FRAMED) {
		ship_close(c, k, find_end(sk, k->large.x.role, old, new));
	} else if (c && has_rest(k)) {
		tell_rest(c, k, FC_REST_CLOSED, settle_rest(sk, k));
	}
	tell_capped(k);
	map_delete(MAP(MAP_CONNS), &sk);
}

/* A request in flight for longer than `limit_ns` is told of now, and its answer will not be. */
FC_INLINE bool tell_late(u64 sk, u64 limit_ns)
{
	struct conn *k = map_lookup(MAP(MAP_CONNS), &sk);
	struct call *c = find_workspace(WORKSPACE_RUN);
	u64 now = read_clock();
	struct fc_exchange *x;

	if (!k || !c || (k->state != CONN_REQUEST && k->state != CONN_RESPONSE))
		return false;
	x = &k->large.x;
	if (now < x->ts_req_ns + limit_ns)
		return false;
	x->ts_resp_ns = now;
	x->resp_bytes = 0;
	x->resp_cap = 0;
	x->flags |= FC_FLAG_NO_RESPONSE;
	x->end = FC_END_TIMEOUT;
	count(c, FC_COUNT_TIMED_OUT);
	finish_exchange(c, sk, k);
	return true;
}

/* The kernel is done with the connection, but bytes that came before are unread, and its owner has not closed it: the
 * peer closed or reset it right behind its response. (The FIN is in rcv_nxt.) */
FC_INLINE bool may_be_read(u64 sk, u32 old)
{
	u32 unread = load_u32(AT(sk, OFF_TCP_RCV_NXT)) - load_u32(AT(sk, OFF_TCP_COPIED));
	bool closed = load_u8(AT(sk, OFF_SK_SHUTDOWN)) == SHUTDOWN_BOTH;

	return unread > 1 && !(closed && (old == TCP_ESTABLISHED || old == TCP_CLOSE_WAIT));
}

/* close(2), but not shutdown(SHUT_WR), which still waits for its answer. */
FC_INLINE bool is_closed(u64 sk, u32 new)
{
	return (new == TCP_FIN_WAIT1 || new == TCP_LAST_ACK) && load_u8(AT(sk, OFF_SK_SHUTDOWN)) == SHUTDOWN_BOTH;
}

FC_INLINE void change_state(u64 sk, u32 old, u32 new)
{
	if (new == TCP_SYN_SENT)
		remember_open(sk, CONNECTOR_SELF);
	else if (new == TCP_ESTABLISHED && old == TCP_SYN_RECV)
		remember_open(sk, CONNECTOR_PEER);
	else if (new == TCP_ESTABLISHED && old == TCP_SYN_SENT)
		map_delete(MAP(MAP_DIALS), &sk);
	else if (new == TCP_CLOSE && old == TCP_SYN_SENT)
		fail_dial(sk);
	else if (new == TCP_CLOSE || is_closed(sk, new))
		close_conn(sk, old, new, new == TCP_CLOSE && may_be_read(sk, old));
}

/* A new socket under a number that was something else before. */
FC_INLINE int on_new_fd(s64 fd)
{
	u64 key = (read_pid_tgid() & 0xffffffff00000000ULL) | (u32)fd;

	if (fd >= 0)
		map_delete(MAP(MAP_FDS), &key);
	return 0;
}

/* Beside descriptors a message may bring credentials, a security label and a pidfd. */
#define RIGHTS_MESSAGES 4
/* Of one message; those past them are looked up anew within FD_NOT_LIFE_NS, as any. */
#define RIGHTS_FDS 16

FC_INLINE void forget_fds(u64 from, u64 n)
{
	u64 process = read_pid_tgid() & 0xffffffff00000000ULL;
	u32 fds[RIGHTS_FDS] = {};
	u32 i;

	FC_CLAMP(n, RIGHTS_FDS);
	if (read_user(fds, (u32)n * 4, (void *)from))
		return;
	for (i = 0; i < RIGHTS_FDS; i++) {
		u64 key = process | fds[i];

		if (i >= n)
			break;
		map_delete(MAP(MAP_FDS), &key);
	}
}

/* A message was received at `msghdr`: the descriptors in it were something else before. */
FC_INLINE void take_rights(u64 msghdr)
{
	struct user_control control = {};
	struct user_cmsghdr m = {};
	u64 at = 0;
	u32 i;

	if (read_user(&control, sizeof(control), (void *)(msghdr + MSGHDR_CONTROL)))
		return;
	for (i = 0; i < RIGHTS_MESSAGES; i++) {
		if (at + sizeof(m) > control.len || read_user(&m, sizeof(m), (void *)(control.base + at)))
			return;
		if (m.len < sizeof(m) || m.len > control.len)
			return;
		if (m.level == SOL_SOCKET && m.type == SCM_RIGHTS)
			forget_fds(control.base + at + sizeof(m), (m.len - sizeof(m)) / 4);
		at += (m.len + 7) & ~7ULL;
	}
}

FC_INLINE int on_accepted(s64 fd)
{
	if (fd >= 0)
		end_serving();
	return on_new_fd(fd);
}

#endif
