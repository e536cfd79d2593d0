/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Which request a thread was serving when it sent one of its own. Right or not said: a wrong parent is worse than none.
 *
 * The rule. A thread serves the request that it read last, from a descriptor that makes it wait: blocking, in no epoll,
 * read without MSG_DONTWAIT. Whoever reads so has bound the thread to this one peer and can not go on with another's
 * work meanwhile. Event loops, and runtimes that move tasks between threads (asyncio, Node, Go, .NET, tokio), read from
 * descriptors that do not block, so they are never taken for it; that is why epoll_wait and its kin need no hook. It ends
 *   with the first byte of the response, whichever thread writes it, and with the connection;
 *   with the next request that the thread reads, and with the next connection that it accepts;
 *   for good, when it reads a request of another connection while this one is unanswered: it hands them on, or is a loop.
 * A thread that got the request from another one never read it, so what it sends has no cause.
 *
 * Of protocols that answer out of order (not HTTP/2, whose streams belong to nobody's thread) it is the same for servers that
 * use them in order, a thread for each connection: the request that came alone in its call, until any byte of a response or of
 * another request goes over the connection. Who reads one more before that hands them on.
 *
 * Keyed by thread. A thread that ended leaves its entry to the next with its number: harmless unless the request is still
 * unanswered by then, which takes a thread that ends in the middle of one and all process IDs going round meanwhile.
 */
#ifndef FARCALL_CAUSE_H
#define FARCALL_CAUSE_H

#include "walk.h"

#define O_NONBLOCK 04000 /* asm-generic/fcntl.h; alpha, mips and parisc differ, and are none of ours */

FC_INLINE bool is_blocking(struct call *c)
{
	u64 file = c->file ? c->file : walk_to_file(read_task_btf(), c->fd);

	if (!file || c->nonblocking || load_u32(AT(file, OFF_FILE_FLAGS)) & O_NONBLOCK)
		return false;
	return !NUM(NUM_HAS_EPOLLS) || !load_u64(AT(file, OFF_FILE_EPOLLS));
}

/* Whether the request is still unanswered. One read behind it, in a call of its own, makes it uncertain which is served. */
FC_INLINE bool is_served(const struct serving *s)
{
	u64 sk = s->sk;
	struct conn *k = map_lookup(MAP(MAP_CONNS), &sk);

	if (!k || k->large.x.who.conn_id != s->conn_id)
		return false;
	if (k->state == CONN_FRAMED) {
		struct framing *f = &k->framing[HALF_REQUESTS];

		return f->seq == s->seq + 1 && !f->held && k->answers == s->answers;
	}
	return k->large.x.seq == s->seq && k->state == CONN_REQUEST && !(k->large.x.flags & FC_FLAG_PIPELINED);
}

/* The thread read request `seq` of the connection. */
FC_INLINE void begin_serving(struct call *c, u64 sk, struct conn *k, u32 seq)
{
	struct serving *s = map_lookup(MAP(MAP_SERVING), &c->pid_tgid);
	struct serving fresh = {};

	if (s && s->sk != sk && s->conn_id && is_served(s))
		s->loop = 1;
	fresh.loop = s ? s->loop : 0;
	if (is_blocking(c)) {
		fresh.sk = sk;
		fresh.conn_id = k->large.x.who.conn_id;
		fresh.seq = seq;
		fresh.answers = k->answers;
	}
	if (s)
		*s = fresh;
	else if (fresh.conn_id)
		map_update(MAP(MAP_SERVING), &c->pid_tgid, &fresh, 0);
}

/* The thread read requests of a connection that is followed message by message, `n` of them in one call. */
FC_INLINE void begin_serving_message(struct call *c, u64 sk, struct conn *k, u32 n)
{
	struct serving *s = map_lookup(MAP(MAP_SERVING), &c->pid_tgid);

	if (s && s->sk == sk && n == 1 && s->conn_id == k->large.x.who.conn_id && s->answers == k->answers)
		s->loop = 1;
	if (n == 1 && !k->wrapped)
		begin_serving(c, sk, k, k->framing[HALF_REQUESTS].seq - 1);
	else if (s)
		s->conn_id = 0;
}

/* The thread accepted a connection. */
FC_INLINE void end_serving(void)
{
	u64 thread = read_pid_tgid();
	struct serving *s = map_lookup(MAP(MAP_SERVING), &thread);

	if (s)
		s->conn_id = 0;
}

/* The thread sends a request. */
FC_INLINE void add_cause(struct call *c, struct fc_who *w)
{
	struct serving *s = map_lookup(MAP(MAP_SERVING), &c->pid_tgid);

	if (!s || s->loop || !s->conn_id || !is_served(s))
		return;
	w->cause_conn_id = s->conn_id;
	w->cause_seq = s->seq;
}

/* A request was told: whose cause it may be, or what its own is. */
FC_INLINE void note_cause(struct call *c, u64 sk, struct conn *k)
{
	if (k->large.x.role == FC_ROLE_SERVER)
		begin_serving(c, sk, k, k->large.x.seq);
	else if (k->share != SHARE_LOST)
		add_cause(c, &k->large.x.who);
}

#endif
