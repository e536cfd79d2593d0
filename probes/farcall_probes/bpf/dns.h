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
#define FC_DNS_PARTS 8 /* of one message that are told; who reads it in more portions loses its end */
#define FC_DNS_QR 0x80 /* RFC 1035, 4.1.1: third byte's top bit; queries that a server reads have it clear */

/* A resolver that has not answered by then is asked again, or given up (resolv.conf: 5 s, twice). */
#define FC_DNS_PATIENCE_NS (30 * FC_SECOND_NS)

struct user_sockaddr_in6 {
	u16 family;
	u16 port;
	u32 flow; /* the address, for AF_INET */
	u8 address[16];
};

/* Addresses of the kernel have their upper 16 bits set. */
FC_INLINE u64 make_asked_key(u64 sk, u16 transaction)
{
	return (sk & 0xffffffffffffULL) | (u64)transaction << 48;
}

/* Only what answers a question is an answer: anybody can send a datagram from port 53, and clients read it before they throw
 * it away. Compared in user space, which reads names: so a sock whose memory was another's before needs the same question and
 * the same number of it to be mistaken. */
FC_INLINE void remember_question(struct call *c, u64 sk)
{
	struct asked a = {};
	u64 n = c->len[0];
	u32 head = 0;
	u64 key;

	if (n <= FC_DNS_HEADER || read_user(&head, 4, (void *)c->base[0]) || head >> 16 & FC_DNS_QR)
		return;
	n -= FC_DNS_HEADER;
	FC_CLAMP(n, sizeof(a.question));
	if (read_user(a.question, (u32)n, (void *)(c->base[0] + FC_DNS_HEADER)))
		return;
	a.ts_ns = read_clock();
	a.len = (u32)n;
	key = make_asked_key(sk, (u16)head);
	map_update(MAP(MAP_ASKED), &key, &a, 0);
}

/* Kept after its answer: a forged one may come first. */
FC_INLINE struct asked *find_question(u64 sk, u64 base)
{
	struct asked *a;
	u16 transaction = 0;
	u64 key;

	if (read_user(&transaction, 2, (void *)base))
		return NULL;
	key = make_asked_key(sk, transaction);
	a = map_lookup(MAP(MAP_ASKED), &key);
	return a && read_clock() - a->ts_ns < FC_DNS_PATIENCE_NS ? a : NULL;
}

/* `sk`: of a UDP socket, 0 for TCP, where nobody but the resolver can answer. */
FC_INLINE void submit_dns(struct call *c, const struct fc_who *who, u64 sk, u64 base, u64 len, u64 avail, u32 offset,
			  bool more)
{
	struct asked *asked = sk ? find_question(sk, base) : NULL;
	struct fc_dns *d;
	u64 n = avail < len ? avail : len;

	if (n < FC_DNS_HEADER && !offset && !more)
		return;
	d = ring_reserve(MAP(MAP_RING_DNS), sizeof(*d), 0);
	if (!d) {
		count(c, FC_COUNT_DNS_LOST);
		return;
	}
	d->who = *who;
	d->ts_ns = read_clock();
	d->len = (u32)len;
	d->tcp = !sk;
	d->asked_cap = asked ? (u8)asked->len : 0;
	d->offset = offset;
	d->more = more;
	__builtin_memset(d->pad, 0, sizeof(d->pad));
	if (asked)
		__builtin_memcpy(d->asked, asked->question, sizeof(d->asked));
	else
		__builtin_memset(d->asked, 0, sizeof(d->asked));
	FC_CLAMP(n, sizeof(d->data));
	d->cap = (u16)n;
	if (read_user(d->data, (u32)n, (void *)base)) {
		count(c, FC_COUNT_READ_FAULT);
		ring_discard(d, FC_NO_WAKEUP);
	} else if (!offset && n > 2 && !(d->data[2] & FC_DNS_QR)) {
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
	submit_dns(c, w, sk, c->base[0], c->total, c->len[0], 0, false);
}

/* A datagram that is sent: to a resolver? Sockets that are not connected name each receiver. */
FC_INLINE void take_question(struct call *c, struct fdent *e)
{
	if (!may_be_answer(c, e) && c->name)
		return;
	/* As below: few, so look again. One that had no peer when it was cached, and names none now, has been connected since. */
	e = resolve_fd(c);
	if (e && e->kind == FD_UDP && (e->rport || c->name))
		remember_question(c, e->sk);
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

/* What a piece holds of the message that the one before it began. */
FC_INLINE u64 take_rest(struct call *c, struct conn *k, u64 base, u64 len)
{
	u64 n = k->dns_skip < len ? k->dns_skip : len;
	bool more = n < k->dns_skip && k->dns_parts + 1 < FC_DNS_PARTS;

	if (k->dns_parts && k->dns_parts < FC_DNS_PARTS) {
		submit_dns(c, &k->large.x.who, 0, base, k->dns_size, n, k->dns_size - k->dns_skip, more);
		k->dns_parts++;
	}
	k->dns_skip -= n;
	return n;
}

/* One piece of a resolver's TCP stream: length prefix, message, prefix, … in whatever portions the client reads them. */
FC_INLINE void take_stream(struct call *c, struct conn *k, u64 base, u64 len)
{
	u64 n;
	u32 i;

	if (k->dns_skip) {
		n = take_rest(c, k, base, len);
		base += n;
		len -= n;
	}
#pragma unroll
	for (i = 0; i < 2; i++) { /* two answers, A and AAAA, may come in one piece */
		if (!take_prefix(k, &base, &len))
			return;
		n = k->dns_len < len ? k->dns_len : len;
		submit_dns(c, &k->large.x.who, 0, base, k->dns_len, n, 0, n < k->dns_len);
		k->dns_size = k->dns_len;
		k->dns_parts = 1;
		k->dns_skip = k->dns_len - n;
		k->dns_have = 0;
		k->dns_len = 0;
		base += n;
		len -= n;
	}
	if (len) /* where the next message begins is not known any more */
		count(c, FC_COUNT_DNS_LOST);
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
		fill_process(c, &c->fresh.large.x.who);
		k = make_conn(c, sk);
		if (!k)
			return;
	}
	k->large.x.who.tid = (u32)c->pid_tgid;
#pragma unroll
	for (i = 0; i < 2; i++)
		if (i < c->pieces && c->len[i])
			take_stream(c, k, c->base[i], c->len[i]);
}

#endif
