/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The way of one call: from its descriptor to what is remembered of the connection, and to the step that goes on. */
#ifndef FARCALL_TAKE_H
#define FARCALL_TAKE_H

#include "pair.h"
#include "plain.h"
#include "tls.h"

/* The descriptor is walked anew at each request: numbers are reused and dup2 happens, and a request is the moment when
 * addresses must be right. */
FC_INLINE struct conn *confirm_conn(struct call *c, u64 *sk)
{
	struct conn *k;

	if (!verify_fd(c))
		return NULL;
	*sk = c->sk;
	k = map_lookup(MAP(MAP_CONNS), sk);
	if (k && k->ports != (u32)c->ports) { /* the sock's memory was reused, and its close was missed */
		map_delete(MAP(MAP_CONNS), sk);
		k = NULL;
	}
	c->now = read_clock();
	if (!k || k->tgid != (u32)(c->pid_tgid >> 32))
		fill_process(c, &c->fresh.large.x.who);
	if (!k)
		return make_conn(c, *sk);
	if (k->tgid != (u32)(c->pid_tgid >> 32)) {
		k->tgid = (u32)(c->pid_tgid >> 32);
		k->policies = 0;
		copy_process(&k->large.x.who, &c->fresh.large.x.who);
	}
	if (is_still_wanted(c, k))
		return k;
	k->state = CONN_IDLE;
	ignore_fd(c, FD_NOT_LIFE_NS);
	return NULL;
}

/* Bytes that belong to nothing in flight. */
FC_INLINE void meet_bytes(void *ctx, struct call *c, struct fdent *e, struct conn *k, bool plain)
{
	u64 head = peek_user(c);
	bool maybe = false;

	u32 first = (u32)head;

	if (c->len[0] < 8)
		read_user(&first, c->len[0] < 4 ? 1 : 4, (void *)c->base[0]);
	if (!plain && may_begin_tls(first)) {
		go_to(ctx, STEP_TLS);
		return;
	}
	if (k && !plain && is_sealed(k)) {
		if (is_plain_due(k))
			go_to(ctx, STEP_MEET);
		return;
	}
	if (c->len[0] < 8) {
		maybe = may_begin_request((u8)first) || may_begin_database(first, c->total) ||
			may_begin_multiplexed(first, c->len[0]);
	}
	if (!maybe && !is_http_request(head) && !is_redis_request(head) && !classify_database(head, c->total) &&
	    !(c->len[0] >= 8 && may_be_multiplexed(head))) {
		bool answers = is_http_response(head);

		if (answers && is_visible(read_task()))
			count(c, FC_COUNT_ORPHAN);
		if (plain)
			return;
		/* A database's bulk copies are long, and a query follows at once. */
		if (!(k && is_database(k->large.x.proto)) && ++e->tries >= FD_MAX_TRIES) {
			e->tries = 0;
			e->until = read_clock() + FD_DULL_NS;
			if (k)
				k->dull_ns = e->until;
		}
		/* An answer tells nothing that would be worth another connection's place in the table. */
		if (!answers && (!k || is_plain_due(k)))
			go_to(ctx, STEP_MEET);
		return;
	}
	if (!plain)
		e->tries = 0;
	go_to(ctx, STEP_BEGIN);
}

/* `plain`: known to the compiler, so that system calls' programs hold nothing that only plaintext needs. */
FC_INLINE void take_confirmed(void *ctx, struct call *c, struct fdent *e, u64 sk, struct conn *k, bool plain)
{
	u8 state = k ? k->state : CONN_IDLE;

	if (plain) {
		if (!k || !accept_plaintext(c, sk, k))
			return;
	} else {
		if (e->until) {
			if ((state == CONN_IDLE || (k && k->tls)) && read_clock() < e->until)
				return;
			e->until = 0;
		}
		if (k && k->tls) {
			go_to(ctx, STEP_TLS);
			return;
		}
	}
	if (state == CONN_FRAMED) {
		go_to(ctx, STEP_FRAMES);
		return;
	}
	if (k && (state == CONN_REQUEST || state == CONN_RESPONSE || state == CONN_MAYBE)) {
		if (k->dir == c->dir) {
			c->sk = sk;
			if (state != CONN_RESPONSE)
				go_to(ctx, STEP_CONTINUE);
			return;
		}
		if (state != CONN_MAYBE) {
			answer_request(ctx, c, sk, k);
			return;
		}
		k->state = CONN_IDLE;
	}
	if (k && state == CONN_ANSWERED && k->dir != c->dir) {
		if (k->unpaired || k->follow) {
			c->sk = sk;
			go_to(ctx, STEP_REST);
		}
		return;
	}
	if (k && state == CONN_ANSWERED && is_asking(k)) {
		c->sk = sk;
		go_to(ctx, STEP_CONTINUE);
		return;
	}
	if (plain && state == CONN_ANSWERED && k->dir == c->dir && begin_next(ctx, c, sk, k))
		return;
	meet_bytes(ctx, c, e, k, plain);
}

/* A number that was a socket's and is a file's now still leads to the sock, whose memory may be another connection's by now:
 * seen by its ports, without a hook on close(2). */
FC_INLINE void take_turned(void *ctx, struct call *c)
{
	struct fdent *e = resolve_fd(c);
	struct conn *k;
	u64 sk;

	if (!e || e->kind != FD_TCP)
		return;
	c->sk = sk = e->sk;
	c->ports = e->ports;
	k = map_lookup(MAP(MAP_CONNS), &sk);
	if (k && k->ports != e->ports) { /* its close was missed */
		map_delete(MAP(MAP_CONNS), &sk);
		k = map_lookup(MAP(MAP_CONNS), &sk);
	}
	if (!c->plain)
		take_confirmed(ctx, c, e, sk, k, false);
	else if (k)
		go_to(ctx, STEP_PLAINTEXT);
}

/* `e` is the descriptor's entry, not used of plaintext. */
FC_INLINE void take_tcp(void *ctx, struct call *c, struct fdent *e, u64 sk, u32 ports, bool plain)
{
	struct conn *k = map_lookup(MAP(MAP_CONNS), &sk);

	if (!k || k->ports == ports)
		take_confirmed(ctx, c, e, sk, k, plain);
	else
		go_to(ctx, STEP_TURNED);
}

/* `e` is what the call's descriptor leads to, or NULL. */
FC_INLINE void take_found(void *ctx, struct call *c, struct fdent *e)
{
	if (!e)
		return;
	if (e->kind == FD_TCP)
		take_tcp(ctx, c, e, e->sk, e->ports, false);
	else if (e->kind == FD_UDP)
		go_to(ctx, c->dir == DIR_OUT ? STEP_QUESTION : STEP_DATAGRAM);
	else if (c->dir == DIR_OUT)
		return;
	else if (e->kind == FD_TCP_DNS)
		go_to(ctx, STEP_STREAM);
}

/* A descriptor of which nothing more is known than that it may lead to a socket. */
FC_INLINE void find_step(void *ctx, struct call *c)
{
	struct fdent *e = find_fd(c);

	if (!e && c->message)
		go_to(ctx, STEP_RIGHTS);
	take_found(ctx, c, e);
}

/* What most calls are: they go on with what a connection has begun. False: a closer look is needed. */
FC_INLINE bool take_usual(void *ctx, struct call *c, u64 sk, struct conn *k)
{
	u8 state = k->state;

	if (state == CONN_MAYBE)
		return false;
	if (state == CONN_IDLE)
		return k->dull_ns && read_clock() < k->dull_ns;
	if (k->tls) {
		if (c->dir == DIR_IN || k->tls != TLS_NAMED) /* what is written was taken already */
			go_to(ctx, STEP_TLS);
	} else if (state == CONN_FRAMED) {
		go_to(ctx, STEP_FRAMES);
	} else if (state == CONN_ANSWERED) {
		if (k->dir != c->dir) {
			if (k->unpaired || k->follow)
				go_to(ctx, STEP_REST);
			return true;
		}
		if (!is_asking(k))
			return begin_next(ctx, c, sk, k);
		go_to(ctx, STEP_CONTINUE);
	} else if (k->dir != c->dir) {
		answer_request(ctx, c, sk, k);
	} else if (state == CONN_REQUEST) {
		go_to(ctx, STEP_CONTINUE);
	}
	return true;
}

/* Where the kernel lets programs load by themselves, walking to the sock costs less than a look at what is remembered of the
 * descriptor, and needs no verifying afterwards. What is not of a connection in use is a step of its own. */
FC_INLINE void take_call(void *ctx, struct call *c, void *task)
{
	count(c, FC_COUNT_EVENTS);
	if (NUM(NUM_WORD_TYPE)) {
		u64 sk = walk_to_sk(task, c);
		struct conn *k;

		if (!sk)
			return;
		k = map_lookup(MAP(MAP_CONNS), &sk);
		if (k) {
			c->sk = sk;
			c->ports = load_ports(sk);
			if (k->ports == (u32)c->ports && take_usual(ctx, c, sk, k))
				return;
		} else if (!is_inet(sk)) {
			if (c->message)
				go_to(ctx, STEP_RIGHTS);
			return;
		}
	}
	go_to(ctx, STEP_FIND);
}

#endif
