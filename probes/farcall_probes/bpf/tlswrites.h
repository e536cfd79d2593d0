/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What TLS libraries write: how it is kept until it leaves, in which call it does, and where in TCP sequence space. See tls.h. */
#ifndef FARCALL_TLSWRITES_H
#define FARCALL_TLSWRITES_H

#include "tlssessions.h"

/* Copies what is written. Returns whether that went well. */
FC_INLINE bool keep_plaintext(u64 pid_tgid, const struct tls_call *t)
{
	struct tls_kept *kept = map_lookup(MAP(MAP_TLS_KEPT), &pid_tgid);
	u64 n = t->write_len;

	if (!kept) {
		/* Some value for a first one: what is kept is copied over it, and no more than that is ever read. */
		struct call *any = find_workspace(WORKSPACE_UPROBE);

		if (!any || map_update(MAP(MAP_TLS_KEPT), &pid_tgid, any, 0))
			return false;
		kept = map_lookup(MAP(MAP_TLS_KEPT), &pid_tgid);
		if (!kept)
			return false;
	}
	FC_CLAMP(n, FC_TLS_KEPT);
	kept->ssl = t->write_ssl;
	kept->first = t->write_len;
	kept->all = t->write_len;
	kept->have = n;
	kept->writes = 1;
	return read_user(kept->bytes, (u32)n, (void *)t->write_buf) == 0;
}

/* Another write behind those that are kept. Returns whether they were. */
FC_INLINE bool join_plaintext(u64 pid_tgid, u64 ssl, u64 buf, u64 len)
{
	struct tls_kept *kept = map_lookup(MAP(MAP_TLS_KEPT), &pid_tgid);
	u64 n = len;
	u64 at;

	if (!kept || kept->ssl != ssl || kept->writes >= FC_TLS_KEPT_WRITES)
		return false;
	at = kept->have;
	FC_CLAMP(at, FC_TLS_KEPT / 2); /* each is bounded by itself, not as a pair */
	FC_CLAMP(n, FC_TLS_KEPT / 2);
	if (at == kept->all && !read_user(kept->bytes + at, (u32)n, (void *)buf))
		kept->have = at + n;
	kept->all += len;
	kept->writes++;
	return true;
}

#define TLS_UNSENT (~0U)
/* Not more than any sealing adds to a record. */
#define TLS_LEAST_WHOLE (TLS_HEADER + 16)

/* Where the record will be in TCP sequence space, of plaintext that is taken before it is sent: exact for the first one of those
 * that are sent at once, for others not beyond its place. */
FC_INLINE u32 place_unsent(struct call *c, u64 sk, struct conn *k)
{
	u32 at = locate_write(sk);

	if (k->tls_wrote == WROTE_AHEAD && (s32)(k->tls_out_seq - at) > 0)
		at = k->tls_out_seq;
	k->tls_out_seq = at + (u32)c->total + TLS_LEAST_WHOLE;
	k->tls_wrote = WROTE_AHEAD;
	return at;
}

enum passed {
	PASS_SEALED = 0,
	PASS_PLAIN = 1, /* it sends plaintext that is to be taken now; the call is that, then */
	PASS_KEPT = 2,  /* the same, whose bytes lie in the kernel's memory */
};

/* A write that was not seen to leave may be taken still. Where order is strict, what was read since then may be its answer, and it
 * would come too late. */
FC_INLINE bool is_in_time(const struct tls_call *t, const struct conn *k)
{
	return k->state == CONN_FRAMED || k->tls_places[DIR_IN] == t->write_behind;
}

/* What the thread's newest write left in the kernel's memory, or NULL. */
FC_INLINE struct tls_kept *find_kept(struct call *c, struct tls_call *t)
{
	struct tls_kept *kept = t->kept ? map_lookup(MAP(MAP_TLS_KEPT), &c->pid_tgid) : NULL;

	return kept && kept->ssl == t->write_ssl ? kept : NULL;
}

FC_INLINE bool is_there(const struct tls_call *t)
{
	return load_user_head(t->write_buf, t->write_len) == t->write_head;
}

/* The library gave its bytes back. Those behind them have their place all the same; where order is strict, what they were the
 * answer to has none that is seen, and what answers them is not the rest of what was read before. Requests beside that one are
 * counted off by their answers still. */
FC_INLINE void lose_plaintext(struct call *c, struct conn *k, u64 len)
{
	bool is_answer = k->dir != DIR_OUT;
	u8 state = k->state;

	k->tls_places[DIR_OUT] += (u32)len;
	if (state == CONN_ANSWERED || ((state == CONN_REQUEST || state == CONN_RESPONSE) && is_answer)) {
		k->unpaired -= state == CONN_ANSWERED && is_answer && k->unpaired;
		k->state = is_answer && k->unpaired ? CONN_ANSWERED : CONN_IDLE;
	}
	count(c, FC_COUNT_TLS_UNOWNED);
}

FC_INLINE enum passed pass_plaintext(struct call *c, struct conn *k, struct tls_call *t, struct tls_kept *kept)
{
	bool in_place = t->kept != KEPT_SEVERAL && is_there(t);
	u64 len = t->write_len;

	t->waits = WAITS_NOT;
	if (kept && (!in_place || kept->have == kept->all)) {
		u64 n = kept->have;

		FC_CLAMP(n, FC_TLS_KEPT);
		c->plain = PLAIN_FOUND;
		set_buffer(c, (u64)kept->bytes, n);
		c->total = kept->all;
		c->more = n < kept->all;
		c->iov = 0; /* an address that the process gave is not to be read from there */
		return PASS_KEPT;
	}
	if (!in_place) {
		lose_plaintext(c, k, len);
		return PASS_SEALED;
	}
	c->plain = PLAIN_FOUND;
	set_buffer(c, t->write_buf, len);
	c->more = 0;
	return PASS_PLAIN;
}

/* Whether the process has this session's connection open, and knows it by the same descriptor. */
FC_INLINE bool is_held(struct call *c, const struct tls_session *s)
{
	u64 fd = c->fd;
	u64 file = c->file;
	bool held;

	c->fd = s->fd;
	held = is_right(c, s->sk, (u32)s->ports);
	c->fd = fd;
	c->file = file;
	return held;
}

/* Whether what the thread wrote last leaves in this call. `is_own`: the session is of this connection. */
FC_INLINE bool leaves(struct call *c, u64 sk, struct conn *k, struct tls_call *t, const struct tls_session *s,
		      const struct tls_kept *kept, bool is_own)
{
	if (k->tls_wrote == WROTE_AHEAD) {
		s32 ahead = (s32)(k->tls_out_seq - locate_write(sk));

		if (ahead > 0) { /* what leaves was taken before, but for the last of several writes */
			c->tls_skip = ahead;
			return is_own;
		}
	}
	if (!is_own && (t->waits == WAITS_BLIND || (t->waits == WAITS_LAST && t->last_sk != sk)))
		return false;
	if (!is_own && s && find_tied(s) && is_held(c, s))
		return false;
	if (carries(c, kept ? kept->first : t->write_len))
		return true;
	/* A library that was stopped in the middle of a record goes on there, for the same write. */
	if (t->waits == WAITS_AGAIN && !is_tls_record(peek_record(c, 0)))
		t->waits = WAITS_NOT;
	return false;
}

#endif
