/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * DNS answers, where their client reads them: from UDP sockets whose peer is port 53, connected or not, and from TCP
 * connections to it. So an answer carries the identity of who asked, whatever resolver library it uses.
 */
#ifndef FARCALL_DNS_H
#define FARCALL_DNS_H

#include "conn.h"
#include "io.h"

#define FC_DNS_HEADER 12
#define FC_DNS_QR 0x80 /* RFC 1035, 4.1.1: third byte's top bit; queries that a server reads have it clear */

struct user_sockaddr_in6 {
	u16 family;
	u16 port;
	u32 flow; /* the address, for AF_INET */
	u8 address[16];
};

FC_INLINE void submit_dns(struct call *c, const struct fc_who *who, u8 tcp, u64 base, u64 len, u64 avail)
{
	struct fc_dns *d;
	u64 n = avail < len ? avail : len;

	if (n < FC_DNS_HEADER)
		return;
	d = ring_reserve(MAP(MAP_RING_DNS), sizeof(*d), 0);
	if (!d) {
		count(c, FC_COUNT_DNS_LOST);
		return;
	}
	d->who = *who;
	d->ts_ns = read_clock();
	d->len = (u32)len;
	d->tcp = tcp;
	__builtin_memset(d->pad, 0, sizeof(d->pad));
	FC_CLAMP(n, sizeof(d->data));
	d->cap = (u16)n;
	if (read_user(d->data, (u32)n, (void *)base)) {
		count(c, FC_COUNT_READ_FAULT);
		ring_discard(d, FC_NO_WAKEUP);
	} else if (!(d->data[2] & FC_DNS_QR)) {
		ring_discard(d, FC_NO_WAKEUP);
	} else {
		ring_submit(d, FC_NO_WAKEUP);
		count(c, FC_COUNT_DNS);
	}
}

/* The sender of one datagram, where the caller asked for it. False when it is no resolver. */
FC_INLINE bool read_sender(struct call *c, struct fc_who *w)
{
	struct user_sockaddr_in6 a = {};

	if (!c->name || read_user(&a, 8, (void *)c->name) || !is_dns_port(c, swap16(a.port)))
		return false;
	w->rport = swap16(a.port);
	if (a.family == AF_INET)
		map_ipv4(w->raddr, a.flow);
	else if (a.family == AF_INET6)
		return read_user(w->raddr, 16, (void *)(c->name + 8)) == 0;
	return a.family == AF_INET || a.family == AF_INET6;
}

FC_INLINE struct fc_who *describe_reader(struct call *c, u64 sk)
{
	struct fc_who *w = &c->fresh.large.x.who;

	fill_process(c, w);
	if (!is_wanted(c, w)) {
		ignore_fd(c, FD_NOT_LIFE_NS);
		return NULL;
	}
	fill_addresses(sk, w);
	w->conn_id = 0;
	w->conn_open_ns = 0;
	return w;
}

/* Connected sockets cost nothing but this when the peer is no resolver; of others each sender is read. */
FC_INLINE bool may_be_answer(struct call *c, struct fdent *e)
{
	struct user_sockaddr_in6 a = {};

	if (e->rport)
		return true;
	if (!c->name || read_user(&a, 4, (void *)c->name))
		return false;
	return is_dns_port(c, swap16(a.port));
}

FC_INLINE void take_datagram(struct call *c, struct fdent *e)
{
	u64 sk = e->sk;
	bool connected = e->rport != 0;
	struct fc_who *w;

	if (c->total < FC_DNS_HEADER || !may_be_answer(c, e))
		return;
	/* The socket may have been connected, or its number reused, since it was cached: answers are few, look again. */
	e = resolve_fd(c);
	if (!e || e->kind != FD_UDP)
		return;
	sk = e->sk;
	connected = e->rport != 0;
	w = describe_reader(c, sk);
	if (!w || (!connected && !read_sender(c, w)))
		return;
	submit_dns(c, w, 0, c->base[0], c->total, c->len[0]);
}

/* Up to two bytes of the length prefix. False when the piece ends with it or before it. */
FC_INLINE bool take_prefix(struct conn *k, u64 *base, u64 *len)
{
	u32 i;

#pragma unroll
	for (i = 0; i < 2; i++) {
		u8 byte = 0;

		if (k->dns_have >= 2 || !*len)
			break;
		if (read_user(&byte, 1, (void *)*base))
			return false;
		k->dns_len = (u16)(k->dns_len << 8 | byte);
		k->dns_have++;
		*base += 1;
		*len -= 1;
	}
	return k->dns_have >= 2 && *len;
}

/* One piece of a resolver's TCP stream: length prefix, message, prefix, … in whatever portions the client reads them. */
FC_INLINE void take_stream(struct call *c, struct conn *k, u64 base, u64 len)
{
	u32 i;

#pragma unroll
	for (i = 0; i < 2; i++) { /* two answers, A and AAAA, may come in one piece */
		u64 skip = k->dns_skip;

		if (skip >= len) {
			k->dns_skip -= len;
			return;
		}
		base += skip;
		len -= skip;
		k->dns_skip = 0;
		if (!take_prefix(k, &base, &len))
			return;
		submit_dns(c, &k->large.x.who, 1, base, k->dns_len, len);
		k->dns_skip = k->dns_len;
		k->dns_have = 0;
		k->dns_len = 0;
	}
	if (k->dns_skip >= len)
		k->dns_skip -= len;
}

FC_INLINE void take_tcp_answer(struct call *c, struct fdent *e)
{
	u64 sk = e->sk;
	struct conn *k = map_lookup(MAP(MAP_CONNS), &sk);
	u32 i;

	c->now = read_clock();
	if (k && k->ports != e->ports) {
		map_delete(MAP(MAP_CONNS), &sk);
		k = NULL;
	}
	if (!k) {
		k = make_conn(c, sk);
		if (!k)
			return;
		k->is_dns = 1;
	}
	k->large.x.who.tid = (u32)c->pid_tgid;
#pragma unroll
	for (i = 0; i < 2; i++)
		if (i < c->pieces && c->len[i])
			take_stream(c, k, c->base[i], c->len[i]);
}

#endif
