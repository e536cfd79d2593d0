/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * TLS: which connection a library's plaintext belongs to.
 *
 * What the socket carries is sealed, so a connection that began with TLS records is left out of pairing as far as its
 * system calls go. Plaintext comes from uprobes and goes the same way as any bytes do (take.h), with `plain` set. A write is
 * taken in the system call that it leads to, whose descriptor is known;
 * what was read is taken when the library returns, for the connection that an earlier system call inside the library showed.
 *
 * Libraries that only fill buffers (Node.js, Python's asyncio) make their system calls outside of it, on the same thread:
 * right behind a write, right before a read. Those are believed when the record's length fits the plaintext's. Several writes
 * may go out in one such call (asyncio's writelines, loops that send at their turn's end). When that was seen of an SSL object,
 * what it writes is taken when it is written. Where the connection is not known yet they are kept as one, as far as there is room.
 */
#ifndef FARCALL_TLS_H
#define FARCALL_TLS_H

#include "tlshello.h"
#include "tlswrites.h"

/* The running thread's entry, made when there is none. */
FC_INLINE struct tls_call *find_tls_call(u64 pid_tgid)
{
	struct tls_call *t = map_lookup(MAP(MAP_TLS_CALLS), &pid_tgid);
	struct tls_call fresh = {};

	if (t)
		return t;
	map_update(MAP(MAP_TLS_CALLS), &pid_tgid, &fresh, 0);
	return map_lookup(MAP(MAP_TLS_CALLS), &pid_tgid);
}

/* Somebody has to look for this process' library. */
FC_INLINE void note_tls_user(struct conn *k)
{
	u32 tgid = k->large.x.who.tgid;
	u32 one = 1;

	map_update(MAP(MAP_TLS_USERS), &tgid, &one, 0);
}

/* Whether the bytes just met are the first of TLS on this connection. */
FC_INLINE bool seal(struct call *c, struct conn *k)
{
	if (k->tls || !begins_tls(peek_record(c, 0)))
		return false;
	k->tls = TLS_SEALED;
	note_tls_user(k);
	return true;
}

/* Who wrote this has no use for what was read before: where a record of that begins is not where the next plaintext does. */
FC_INLINE void forget_read(struct conn *k)
{
	k->tls_fresh = 0;
	k->tls_in_len = 0;
}

/* Plaintext's place, and whether it is new: the same library may be probed twice through two file systems, and a write
 * that had to wait is made again. */
FC_INLINE bool accept_plaintext(struct call *c, u64 sk, struct conn *k)
{
	u32 *place = c->dir == DIR_OUT ? &k->tls_places[DIR_OUT] : &k->tls_places[DIR_IN];

	if (!k->tls)
		return false;
	c->place = *place;
	if (c->dir == DIR_OUT && k->tls == TLS_SEALED) /* that was the handshake, or nobody took it */
		forget_read(k);
	if (c->dir == DIR_OUT && c->tls_skip == TLS_UNSENT) {
		c->tls_seq = place_unsent(c, sk, k);
	} else if (c->dir == DIR_OUT) {
		c->tls_seq = locate_write(sk) + c->tls_skip;
		if (k->tls_wrote == WROTE_SENT && k->tls_out_seq == c->tls_seq)
			return false;
		k->tls_wrote = WROTE_SENT;
		k->tls_out_seq = c->tls_seq;
	} else {
		if (k->tls_fresh)
			k->tls_in_place = c->place;
		k->tls_fresh = 0;
		c->tls_seq = k->tls_in_seq + (c->place - k->tls_in_place);
		/* Where the record began was not seen: a byte inside it. Both ends' ranges overlap there. */
		if (!k->tls_in_len || c->place - k->tls_in_place >= k->tls_in_len)
			c->tls_seq = locate_read(sk, 0) - 1;
	}
	*place += (u32)c->total;
	k->tls = c->plain == PLAIN_NAMED ? TLS_NAMED : TLS_OPEN;
	count(c, FC_COUNT_TLS);
	return true;
}

/* Where the bytes that were read came to lie. OpenSSL reads a record's header and then its body, both into the same buffer, and
 * decrypts there: so what it copies out of that buffer is this connection's. */
FC_INLINE void note_read(struct call *c, struct tls_call *t, const struct conn *k, bool is_header)
{
	u64 tag;

	if (is_header) {
		t->last_buf = c->base[0];
		t->last_len = TLS_HEADER;
	} else if (t->last_sk == c->sk && t->last_len && c->base[0] == t->last_buf + t->last_len) {
		t->last_len += c->len[0];
	} else {
		t->last_len = 0;
		tag = find_tag(c, k);
		if (tag || t->last_sk != c->sk)
			t->last_tag = tag;
	}
	t->has_read = 1;
	t->last_sk = c->sk;
	t->last_fd = (u32)c->fd;
	t->last_ports = (u32)c->ports;
	if (t->read_ssl)
		remember_session(c, t->read_ssl);
}

/* Nobody reads this connection for us: it need not be looked at so often. */
FC_INLINE void try_less(struct call *c, struct conn *k)
{
	struct fdent *e = find_fd(c);

	if (e && ++e->tries >= FD_MAX_TRIES) {
		e->tries = 0;
		e->until = read_clock() + FD_DULL_NS;
		k->dull_ns = e->until;
	}
}

/* A system call on a sealed connection. */
FC_INLINE enum passed pass_sealed(struct call *c, u64 sk, struct conn *k)
{
	bool is_named = k->tls == TLS_NAMED;
	struct tls_call *t = is_named ? NULL : map_lookup(MAP(MAP_TLS_CALLS), &c->pid_tgid);

	if (c->dir == DIR_OUT && k->tls_stage == STAGE_READ)
		k->tls_stage = STAGE_SENT;
	if (c->dir == DIR_IN) {
		/* Only a library reads a header alone. */
		bool is_header = !k->tls_left && c->total == TLS_HEADER;

		if (!t && !is_named)
			t = find_tls_call(c->pid_tgid);
		/* One that asks for a new record has used the ones before; so has one that nobody listened to. */
		if (is_header || (!k->tls_left && (k->tls == TLS_SEALED || (t && t->read_ssl))))
			k->tls_fresh = 0;
		if (follow_records(c, sk, k) && t)
			note_hello(c, t);
		if (t)
			note_read(c, t, k, is_header);
	} else if (t && t->waits >= WAITS) {
		struct tls_session *s = lookup_session(c->pid_tgid, t->write_ssl);
		struct tls_kept *kept = find_kept(c, t);
		/* A freed object's session has a sock whose memory may be another connection's by now. */
		bool is_own = s && s->sk == sk && (u32)s->ports == k->ports;

		if (leaves(c, sk, k, t, s, kept, is_own)) {
			if (!is_own)
				forget_read(k);
			renew_session(c, t->write_ssl, s);
			return pass_plaintext(c, k, t, kept);
		}
	}
	if (k->tls == TLS_SEALED && !(t && t->speaks))
		try_less(c, k);
	return PASS_SEALED;
}

/* ---- in uprobes ---------------------------------------------------------------------------------------------- */

/* The connection of plaintext that was read without a system call inside the library: the one that this thread read a
 * record from last, if it is as long as this plaintext makes it, and the same that is copied from `data`, where that is known. */
FC_INLINE struct fdent *adopt_session(struct call *c, struct tls_call *t, u64 ssl, u64 len, u64 data)
{
	u64 sk = t->last_sk;
	struct conn *k = map_lookup(MAP(MAP_CONNS), &sk);
	struct fdent *e;

	if (!k || !k->tls_fresh || len > TLS_MAX_PLAIN || k->tls_in_len < len + TLS_LEAST_EXTRA)
		return NULL;
	if (k->tls == TLS_SEALED && k->tls_stage) /* another object's */
		return NULL;
	if (len < t->read_len && !fits_record(k->tls_in_len, len))
		return NULL;
	if (data && !has_tag(k, data, t->last_tag))
		return NULL;
	c->fd = t->last_fd;
	c->file = 0;
	e = find_fd(c);
	if (!e || e->kind != FD_TCP || e->sk != sk || e->ports != k->ports)
		return NULL;
	remember_session(c, ssl);
	return e;
}

/* What the descriptor of a library's connection leads to, or NULL: it was closed, or is another one's now. */
FC_INLINE struct fdent *find_session(struct call *c, struct tls_call *t, u64 ssl, u64 len, u64 data)
{
	struct tls_session *s = lookup_session(c->pid_tgid, ssl);
	struct fdent *e;

	if (s) {
		c->fd = s->fd; /* maybe a freed object's whose address this one has, and closed: its entry is there still */
		e = t->last_sk == s->sk && t->last_fd == (u32)s->fd ? find_fd(c) : find_right_fd(c);
		if (e && e->kind == FD_TCP && e->sk == s->sk && e->ports == s->ports) {
			c->sk = s->sk; /* not what a descriptor led to that was another's */
			c->ports = s->ports;
			return e;
		}
	}
	return adopt_session(c, t, ssl, len, data);
}

/* Pieces of plaintext of a process that is not left out on purpose. Probes are hit by whoever uses the file, of other nodes too. */
FC_INLINE void count_unowned(struct call *c, u64 pieces)
{
	u64 task = read_task();

	if (is_visible(task) && !is_dropped(c, load_cgroup(task)))
		c->counts[FC_COUNT_TLS_UNOWNED] += pieces;
}

/* A workspace for plaintext of this thread, or NULL. */
FC_INLINE struct call *open_plaintext(u64 dir, u64 buf, u64 len)
{
	u64 pid_tgid = read_pid_tgid();
	struct settings *settings = find_settings(pid_tgid);
	struct call *c = settings ? claim_workspace(pid_tgid) : NULL;

	if (!c)
		return NULL;
	begin_call(c, settings, pid_tgid, dir);
	c->plain = PLAIN_FOUND;
	set_buffer(c, buf, len);
	return c;
}

/* The entry of the thread that calls the library, or NULL when there is nothing to do. */
FC_INLINE struct tls_call *enter_library(void)
{
	u64 pid_tgid = read_pid_tgid();
	struct tls_call *t;

	if (NUM(NUM_DEAR)) {
		u32 zero = 0;
		u64 *hits = map_lookup(MAP(MAP_TLS_HITS), &zero);

		if (hits)
			__sync_fetch_and_add(hits, 1);
	}
	if (!find_settings(pid_tgid))
		return NULL;
	t = find_tls_call(pid_tgid);
	if (t)
		t->speaks = 1;
	return t;
}

#endif
