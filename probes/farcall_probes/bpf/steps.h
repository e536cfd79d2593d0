/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The steps: programs that others call. What each does is in its header; here are the programs. */
#ifndef FARCALL_STEPS_H
#define FARCALL_STEPS_H

#include "answer.h"
#include "close.h"
#include "dns.h"
#include "frames.h"
#include "head.h"
#include "passing.h"
#include "take.h"

FC_INLINE void begin_step(void *ctx, struct call *c)
{
	u64 sk = 0;
	struct conn *k = confirm_conn(c, &sk);

	if (!k)
		return;
	if (has_rest(k)) {
		c->sk = sk;
		go_to(ctx, STEP_TELL);
	}
	c->before = 0;
	if (begins_nothing(c, k)) {
		if (is_plain_due(k))
			go_to(ctx, STEP_MEET);
	} else if (begin_request(c, sk, k)) {
		c->sk = sk;
		go_to(ctx, STEP_HEAD);
	} else if (k->state == CONN_MAYBE) {
		c->sk = sk;
		go_to(ctx, STEP_RECOGNISE);
	} else if (is_plain_due(k)) {
		go_to(ctx, STEP_MEET);
	}
}

/* The connection that the step before worked on. */
FC_INLINE struct conn *find_conn(struct call *c, u64 *sk)
{
	*sk = c->sk;
	return map_lookup(MAP(MAP_CONNS), sk);
}

FC_INLINE void continue_step(void *ctx, struct call *c)
{
	u64 sk;
	struct conn *k = find_conn(c, &sk);

	if (!k)
		return;
	if (k->state == CONN_ANSWERED && has_passed_by(c, sk, k)) {
		begin_commands(k);
		go_to(ctx, STEP_BEGIN);
	}
	if (continue_request(c, sk, k))
		go_to(ctx, STEP_HEAD);
	else if (k->state == CONN_MAYBE)
		go_to(ctx, STEP_RECOGNISE);
	else if (is_plain_due(k))
		go_to(ctx, STEP_MEET);
}

/* None of the others, but it may be a protocol that answers out of order. */
FC_INLINE void recognise_step(void *ctx, struct call *c)
{
	u64 sk;
	struct conn *k = find_conn(c, &sk);

	if (!k)
		return;
	if (may_be_followed(c, k) && may_be_http2(*(u64 *)k->large.req) && begin_http2(c, k, c->before))
		go_to(ctx, STEP_FRAMES);
	recognise(c, k, c->before);
	if (k->state == CONN_FRAMED)
		go_to(ctx, STEP_FRAMES);
	else if (is_plain_due(k))
		go_to(ctx, STEP_MEET);
}

/* A call on a connection that is followed message by message. Its descriptor is walked anew, as at each request. */
FC_INLINE void frames_step(void *ctx, struct call *c)
{
	u64 sk = 0;
	struct conn *k = confirm_conn(c, &sk);

	if (!k || k->state != CONN_FRAMED)
		return;
	c->sk = sk;
	k->answers += which_half(c, k) == HALF_RESPONSES;
	if (k->large.x.proto == FC_PROTO_HTTP2) {
		if (place_frames(c, sk, k))
			go_to(ctx, STEP_HTTP2);
	} else if (place_call(c, sk, k)) {
		go_to(ctx, STEP_MESSAGE);
	}
}

FC_INLINE void http2_step(void *ctx, struct call *c)
{
	u64 sk;
	struct conn *k = find_conn(c, &sk);

	if (k && take_frames(c, sk, k))
		go_to(ctx, STEP_HTTP2);
}

FC_INLINE void message_step(void *ctx, struct call *c)
{
	u64 sk;
	struct conn *k = find_conn(c, &sk);
	u32 before = c->segments;
	bool more;

	if (!k)
		return;
	tell_end(c, k);
	more = take_messages(c, sk, k);
	if (k->large.x.proto >= FC_PROTO_NATS)
		before = ~0; /* what a broker does with a message is not its sender's */
	if (c->segments > before && k->large.x.role == FC_ROLE_SERVER && which_half(c, k) == HALF_REQUESTS)
		begin_serving_message(c, sk, k, c->segments);
	if (more)
		go_to(ctx, c->segments < FC_SEGMENTS_PER_CALL ? STEP_MESSAGE : STEP_PASS);
}

FC_INLINE void pass_step(void *ctx, struct call *c)
{
	u64 sk;
	struct conn *k = find_conn(c, &sk);

	if (k)
		pass_messages(ctx, c, sk, k);
}

FC_INLINE void head_step(void *ctx, struct call *c)
{
	u64 sk;
	struct conn *k = find_conn(c, &sk);

	if (!k)
		return;
	if (k->large.x.proto == FC_PROTO_HTTP1 && k->head != HEAD_ENDED && !follow_head(c, k, c->before))
		return;
	c->chunk = 0;
	c->chunk_bytes = 0;
	go_to(ctx, STEP_COMMANDS);
}

FC_INLINE void commands_step(void *ctx, struct call *c)
{
	u64 sk;
	struct conn *k = find_conn(c, &sk);

	if (!k || !count_commands(c, k))
		return;
	go_to(ctx, STEP_COMMANDS);
	lose_commands(k); /* that was the last step that the kernel allows */
}

FC_INLINE void rest_step(void *ctx, struct call *c)
{
	u64 sk;
	struct conn *k = find_conn(c, &sk);

	if (!k || k->state != CONN_ANSWERED)
		return;
	if (k->unpaired)
		count_off(c, k);
	else if (goes_on(k))
		follow_call(c, sk, k);
}

/* Before a request begins. */
FC_INLINE void tell_step(void *ctx, struct call *c)
{
	u64 sk;
	struct conn *k = find_conn(c, &sk);

	if (!k)
		return;
	tell_rest(c, k, FC_REST_NEXT, settle_rest(sk, k));
	go_to(ctx, STEP_BEGIN);
}

/* What is rare in a response's first call. */
FC_INLINE void answer_step(void *ctx, struct call *c)
{
	u64 sk;
	struct conn *k = find_conn(c, &sk);

	if (k && (!is_interim(k) || pass_interim(c, k)))
		finish_http(c, sk, k, peek_last(c, 0));
}

FC_INLINE void reply_step(void *ctx, struct call *c)
{
	u64 sk;
	struct conn *k = find_conn(c, &sk);

	if (!k)
		return;
	if (k->large.x.proto == FC_PROTO_REDIS)
		answer_small(c, sk, k);
	else
		answer_database(c, sk, k);
}

FC_INLINE void meet_step(void *ctx, struct call *c)
{
	u64 sk = 0;
	struct conn *k = c->plain ? NULL : confirm_conn(c, &sk);
	bool is_new;

	if (!k) /* plaintext of nothing known: its connection is told of by what it began with */
		return;
	is_new = seal(c, k);
	if (is_plain_due(k))
		meet_plain(c, sk, k);
	if (is_new)
		go_to(ctx, STEP_TLS);
}

FC_INLINE void tls_step(void *ctx, struct call *c)
{
	enum passed passed;
	struct conn *k;
	u64 sk;

	k = find_conn(c, &sk);
	if (!k || !k->tls) { /* bytes that may be the first of TLS */
		go_to(ctx, begins_tls(peek_record(c, 0)) ? STEP_MEET : STEP_BEGIN);
		return;
	}
	passed = pass_sealed(c, sk, k);
	if (passed == PASS_PLAIN)
		go_to(ctx, STEP_PLAINTEXT);
	else if (passed == PASS_KEPT)
		tail_call(ctx, MAP(MAP_STEPS_KEPT), STEP_PLAINTEXT);
	else if (is_plain_due(k))
		go_to(ctx, STEP_MEET);
}

/* What a TLS library wrote or read, on a connection that its descriptor leads to. */
FC_INLINE void plaintext_step(void *ctx, struct call *c)
{
	struct fdent *e = c->sk ? NULL : find_fd(c); /* not again when it was looked up before */

	if (e && e->kind != FD_TCP)
		return;
	if (c->sk)
		take_tcp(ctx, c, NULL, c->sk, (u32)c->ports, true);
}

FC_INLINE void datagram_step(void *ctx, struct call *c)
{
	struct fdent *e = find_fd(c);

	if (e && e->kind == FD_UDP)
		take_datagram(c, e);
}

FC_INLINE void question_step(void *ctx, struct call *c)
{
	struct fdent *e = find_fd(c);

	if (e && e->kind == FD_UDP)
		take_question(c, e);
}

FC_INLINE void turned_step(void *ctx, struct call *c)
{
	take_turned(ctx, c);
}

FC_INLINE void rights_step(void *ctx, struct call *c)
{
	take_rights(c->message);
}

/* Several at once, as resolvers send A and AAAA: the buffer is an array of messages, its length their number. */
FC_INLINE void questions_step(void *ctx, struct call *c)
{
	struct fdent *e = find_fd(c);
	u64 messages = c->base[0];
	u64 n = c->len[0];
	u32 i;

	if (!e || e->kind != FD_UDP)
		return;
	for (i = 0; i < FC_MAX_MESSAGES && i < n; i++)
		if (set_message(c, messages + i * sizeof(struct user_mmsghdr), ~0ULL))
			take_question(c, e);
}

FC_INLINE void stream_step(void *ctx, struct call *c)
{
	struct fdent *e = find_fd(c);

	if (e && e->kind == FD_TCP_DNS)
		take_tcp_answer(c, e);
}

/* Loaded twice, for tracepoints and for uprobes: programs of two kinds can not call each other. And once more those that may
 * take plaintext: the loader has them read a call's bytes from the kernel's memory, where tls.h kept them. */
#define STEP(name)                                                                       \
	int step__##name(void *ctx)                                                      \
	{                                                                                \
		struct call *c = resume_call();                                          \
											 \
		if (c) {                                                                 \
			name##_step(ctx, c);                                             \
			end_call(c);                                                     \
		}                                                                        \
		return 0;                                                                \
	}

STEP(begin)
STEP(continue)
STEP(head)
STEP(commands)
STEP(answer)
STEP(datagram)
STEP(stream)
STEP(reply)
STEP(meet)
STEP(tls)
STEP(recognise)
STEP(frames)
STEP(message)
STEP(pass)
STEP(http2)
STEP(question)
STEP(questions)
STEP(plaintext)
STEP(rights)
STEP(turned)
STEP(rest)
STEP(tell)
STEP(find)

#endif
