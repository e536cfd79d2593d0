/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The rest of a response of a protocol that answers in order: what comes behind the call that its record goes out at. Each such call leaves its time and its
 * length; what they come to is told once, in a small record of its own (FC_SEGMENT_REST): when the next request begins, when
 * the connection closes, and when user space asks. A response that came in one call has none.
 *
 * Writes are seen at their enter, so what one of them brings may be less than it says: lengths are distances in TCP sequence
 * space (of TLS, in plaintext), which no write that was short, that failed or that nobody saw (sendfile) can bend.
 */
#ifndef FARCALL_REST_H
#define FARCALL_REST_H

#include "commands.h"
#include "databases.h"
#include "emit.h"
#include "http1.h"
#include "io.h"
#include "plain.h"
#include "redis.h"

/* A write of so many bytes may be taken in parts: a socket's buffer begins with 16 KiB (tcp_wmem). Whether it was is told too. */
#define FC_REST_LARGE 16384

/* What is read and has fewer bytes ends where a write of its sender did: no TCP segment that goes on is shorter (IPv6's least MTU). */
#define FC_REST_SEGMENT 1200

/* An answer that looks whole is taken for it when nothing came for so long. */
#define FC_REST_QUIET_NS (FC_SECOND_NS / 10)

/* CRLF 0 CRLF CRLF */
#define FC_LAST_CHUNK (FC_WORD('\r', '\n', '0', '\r') | FC_WORD('\n', '\r', '\n', 0) << 32)

enum follow {
	FOLLOW_NOT = 0,
	FOLLOW_FIRST = 1, /* its record was submitted, at the first call */
	FOLLOW_REST = 2,  /* more calls were seen */
};

/* The end of a chunked body (RFC 9112, 7.1), as far as the last eight bytes tell; the last of all is the highest. */
FC_INLINE u8 grade_end(u64 last)
{
	u64 before = last & 0xffffff;

	if ((u32)(last >> 32) != (u32)FC_CRLFCRLF)
		return FC_ENDED_NOT;
	if ((u8)(last >> 24) == '0' && (!before || before >> 8 == ('\r' | '\n' << 8)))
		return FC_ENDED_CHUNKS;
	return FC_ENDED_BLANK;
}

/* How a response ends, as far as the last eight bytes tell. */
FC_INLINE u8 grade_response(const struct conn *k, u64 last)
{
	u8 proto = k->large.x.proto;

	if (proto == FC_PROTO_HTTP1)
		return grade_end(last);
	if (is_asking(k))
		return FC_ENDED_NOT;
	if (proto == FC_PROTO_POSTGRES ? ends_postgres_answer(last) : ends_mysql_answer(last))
		return FC_ENDED_ANSWER;
	return FC_ENDED_NOT;
}

/* The same of Redis and memcached, `distance` bytes before (negative) or behind what was counted. */
FC_INLINE u8 grade_small(const struct conn *k, s32 distance)
{
	bool is_text = k->large.x.proto == FC_PROTO_MEMCACHED && *(u32 *)k->small.resp == (u32)FC_WORD('V', 'A', 'L', 'U');

	if (distance < 0 || k->rest_bytes < k->rest_owed || is_asking(k))
		return FC_ENDED_NOT;
	if (k->rest_owed == k->rest_bytes)
		return FC_ENDED_ANSWER;
	if (distance > 0 || !k->rest_last)
		return FC_ENDED_BLANK;
	if (is_text)
		return ends_memcached_values(k->rest_last) ? FC_ENDED_ANSWER : FC_ENDED_NOT;
	return k->rest_owed || ends_line(k->rest_last) ? FC_ENDED_BLANK : FC_ENDED_NOT;
}

/* The last eight bytes, when the call's are added to `before`; 0 where they are not known. */
FC_INLINE u64 peek_last(struct call *c, u64 before)
{
	u64 base = 0;
	u64 len = 0;
	u64 last = 0;
	u64 n;
	u32 i;

#pragma unroll
	for (i = 0; i < CALL_PIECES; i++)
		if (i < c->pieces && c->len[i]) {
			base = c->base[i];
			len = c->len[i];
		}
	if (c->more || !len)
		return 0;
	if (len >= 8) {
		read_user(&last, 8, (void *)(base + len - 8));
		return last;
	}
	n = len;
	FC_CLAMP(n, 7);
	read_user(&last, (u32)n, (void *)base);
	return (c->pieces > 1 ? 0 : before >> (8 * n)) | last << (64 - 8 * n);
}

FC_INLINE u64 count_captured(const struct conn *k)
{
	return k->large.x.resp_cap + k->large.x.resp_more;
}

/* The same, of a first call in one piece that was not captured whole. */
FC_INLINE u64 peek_first(struct call *c, const struct conn *k)
{
	u64 last = 0;

	if (c->total > count_captured(k) && c->len[0] == c->total)
		read_user(&last, 8, (void *)(c->base[0] + c->total - 8));
	return last;
}

/* The same, of one that was. */
FC_INLINE u64 load_last(const struct conn *k)
{
	u64 at = k->large.x.resp_cap;

	FC_CLAMP(at, FC_LARGE_RESP);
	return at < 8 ? 0 : *(u64 *)(k->large.resp + at - 8);
}

/* Where in its stream ends what this end has written or read of the response. */
FC_INLINE u32 locate_end(u64 sk, const struct conn *k)
{
	bool is_written = k->large.x.role == FC_ROLE_SERVER;

	if (k->large.x.flags & FC_FLAG_TLS)
		return is_written ? k->tls_places[DIR_OUT] : k->tls_places[DIR_IN];
	return is_written ? locate_write(sk) - count_own_fin(load_state(sk)) : locate_read(sk, 0);
}

/* The response's first call goes on behind what was captured of it, in several pieces. */
FC_INLINE bool has_more_pieces(const struct call *c, const struct conn *k)
{
	return c->pieces > 1 && c->total > count_captured(k);
}

/* Its last bytes, before its record is submitted. (No call that is a whole response has fewer than eight.) */
FC_INLINE void note_first(struct conn *k, u64 last)
{
	k->rest_last = last;
	k->large.x.ended = last >> 8 == FC_LAST_CHUNK ? FC_ENDED_CHUNKS : FC_ENDED_NOT;
	if (is_asking_more(k))
		k->large.x.ended = FC_ENDED_LATER;
}

/* The same of a database's answer. */
FC_INLINE void note_first_answer(struct conn *k, u64 last)
{
	k->rest_last = last;
	k->large.x.ended = grade_response(k, last);
}

/* Whether the first call of an answer of Redis or memcached has all of it. Both make an answer whole before they write it, 16 kB at
 * a time at least; a longer write may be taken in parts. */
FC_INLINE bool is_small_there(const struct call *c, struct conn *k, u64 last)
{
	struct fc_exchange *x = &k->large.x;
	const u8 *r = k->small.resp;
	u64 bound = c->dir == DIR_OUT ? FC_REST_LARGE : FC_REST_SEGMENT;
	u64 total = c->total;
	bool is_redis = x->proto == FC_PROTO_REDIS;
	bool is_pipeline = x->flags & FC_FLAG_PIPELINED || (is_redis && x->who.commands > 1);
	u64 owed = is_redis ? weigh_redis(r) : weigh_memcached(r);
	u64 meta;

	k->rest_owed = is_pipeline ? 0 : owed;
	if (total < owed || (c->dir == DIR_OUT && (c->more || total >= bound)) || x->flags & FC_FLAG_PIPELINED || is_asking(k))
		return false;
	if (is_pipeline && total < (u64)x->who.commands * FC_REDIS_LEAST)
		return false;
	if (total == owed && !is_pipeline)
		return true;
	if (is_redis)
		return total < bound && ends_line(last) && (total > FC_SMALL_RESP || is_short_redis(*(u64 *)r, total));
	if (owed)
		return true; /* several answers */
	if (*(u32 *)r == (u32)FC_WORD('V', 'A', 'L', 'U'))
		return ends_memcached_values(last);
	meta = read_meta_size(r);
	return ends_line(last) && (!meta || total >= meta + 8);
}

/* What follows belongs to it. Behind a database's last byte the next round trip's come, which may begin with what is told from no
 * other bytes. */
FC_INLINE bool goes_on(const struct conn *k)
{
	if (k->large.x.proto == FC_PROTO_HTTP1)
		return k->follow;
	if (is_small_record(k->large.x.proto))
		return k->follow && (k->dir == DIR_IN || grade_small(k, 0) != FC_ENDED_ANSWER);
	return k->follow && grade_response(k, k->rest_last) != FC_ENDED_ANSWER;
}

/* And behind it. */
FC_INLINE void follow_first(struct call *c, u64 sk, struct conn *k, u32 written)
{
	bool is_written = c->dir == DIR_OUT && !c->plain;
	bool is_small = is_small_record(k->large.x.proto);

	k->follow = FOLLOW_FIRST;
	k->rest_bytes = k->large.x.resp_bytes;
	/* Of what is read it is found at the next read: until then it costs nothing. */
	k->rest_seq = (is_written ? written : c->place) + (u32)c->total;
	if (is_small && c->dir == DIR_IN && !c->plain)
		k->rest_seq = locate_read(sk, 0);
	/* Also of what may be there already, but is not sure to be. */
	k->rest_ns = (is_written && c->total > FC_REST_LARGE) || is_small ? k->large.x.ts_resp_ns : 0;
}

/* `n` more bytes; `is_done`: they are written already. */
FC_INLINE void follow_bytes(struct call *c, u64 sk, struct conn *k, u64 n, bool is_done)
{
	u32 place;

	k->rest_ns = read_clock();
	if (c->dir == DIR_OUT && !c->plain) {
		place = locate_write(sk);
		k->rest_bytes += (s64)(s32)(place - k->rest_seq);
		k->rest_seq = place;
		if (is_done)
			n = 0;
	} else if (k->follow == FOLLOW_FIRST && !c->plain) {
		k->rest_seq = locate_read(sk, n);
	}
	k->rest_bytes += n;
	k->rest_seq += (u32)n;
	k->follow = FOLLOW_REST;
}

FC_INLINE void follow_call(struct call *c, u64 sk, struct conn *k)
{
	bool is_captured = k->follow == FOLLOW_FIRST && !k->rest_last && !is_small_record(k->large.x.proto);
	u64 before = is_captured ? load_last(k) : k->rest_last;

	k->rest_last = peek_last(c, before);
	follow_bytes(c, sk, k, c->total, false);
}

FC_INLINE void follow_moved(struct call *c, u64 sk, struct conn *k, u64 n)
{
	k->rest_last = 0;
	follow_bytes(c, sk, k, n, true);
}

FC_INLINE bool has_rest(const struct conn *k)
{
	return k->state == CONN_ANSWERED && k->follow && k->rest_ns;
}

/* Counts what no call of ours carried, and says how the response ends then. */
FC_INLINE u8 settle_rest(u64 sk, struct conn *k)
{
	u32 place = locate_end(sk, k);
	s32 distance = (s32)(place - k->rest_seq);
	u8 proto = k->large.x.proto;

	k->rest_bytes += (s64)distance;
	k->rest_seq = place;
	if (!is_small_record(proto))
		return distance ? FC_ENDED_NOT : grade_response(k, k->rest_last);
	if (distance)
		k->rest_last = 0;
	return grade_small(k, distance);
}

/* `why`: enum fc_rest. `ended`: enum fc_ended, after settle_rest. */
FC_INLINE void tell_rest(struct call *c, struct conn *k, u8 why, u8 ended)
{
	struct fc_exchange *x = &c->segment.x;

	read_kernel(x, sizeof(*x), &k->large.x);
	x->ended = is_asking_more(k) ? FC_ENDED_LATER : ended;
	x->segment = FC_SEGMENT_REST;
	x->end = why;
	x->ts_resp_ns = k->rest_ns;
	x->resp_bytes = k->rest_bytes;
	x->req_cap = 0;
	x->resp_cap = 0;
	x->resp_more = 0;
	k->rest_ns = 0;
	count(c, FC_COUNT_REST);
	if (ring_output(MAP(MAP_RING_SMALL), &c->segment, sizeof(struct fc_small), FC_NO_WAKEUP))
		count(c, FC_COUNT_SMALL_LOST);
	else
		count(c, FC_COUNT_SMALL);
}

/* Nothing more can come: this end has said its last byte, or read the peer's. */
FC_INLINE bool is_rest_over(u64 sk, const struct conn *k)
{
	u8 state = load_state(sk);

	if (k->large.x.role == FC_ROLE_SERVER)
		return state == TCP_CLOSE || count_own_fin(state);
	return (state == TCP_CLOSE || count_fin(state)) &&
	       load_u32(AT(sk, OFF_TCP_COPIED)) == load_u32(AT(sk, OFF_TCP_RCV_NXT));
}

/* User space asks for the rest of one response. False when it will hear no more of it. */
FC_INLINE bool ask_rest(u64 sk, u64 conn_id, u32 seq)
{
	struct conn *k = map_lookup(MAP(MAP_CONNS), &sk);
	struct call *c = find_workspace(WORKSPACE_RUN);
	bool is_over;
	u8 ended;

	if (!k || !c || k->large.x.who.conn_id != conn_id || k->large.x.seq != seq)
		return false;
	if (k->state != CONN_ANSWERED || !k->follow)
		return false;
	is_over = is_rest_over(sk, k);
	if (!has_rest(k))
		return !is_over;
	ended = settle_rest(sk, k);
	if (is_small_record(k->large.x.proto) && !is_over) {
		if (ended == FC_ENDED_NOT || (ended == FC_ENDED_BLANK && read_clock() < k->rest_ns + FC_REST_QUIET_NS))
			return true;
		ended = FC_ENDED_ANSWER;
		k->follow = FOLLOW_NOT;
	}
	tell_rest(c, k, is_over ? FC_REST_CLOSED : FC_REST_ASKED, ended);
	return !is_over;
}

#endif
