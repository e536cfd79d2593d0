/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Which connection an SSL object is of, by the hello of the other end. Its random is in clear and never twice the same (RFC 8446,
 * 4.1.2), so what a thread reads from a socket is met again where the library copies it, whatever the thread did between. Programs
 * that fill buffers are known from there on: loops such as uvloop's read for other connections before they turn to what a
 * handshake's last read brought, and write for several before they send.
 */
#ifndef FARCALL_TLSHELLO_H
#define FARCALL_TLSHELLO_H

#include "tlssessions.h"

/* Messages of a handshake (RFC 8446, 4): type, three bytes of length. */
#define TLS_MESSAGE_HEADER 4
#define TLS_CLIENT_HELLO 1
#define TLS_SERVER_HELLO 2
#define TLS_FINISHED 20
#define TLS_FINISHED_12 12 /* bytes of it before 1.3, where it is as long as a hash */
#define TLS_FINISHED_256 32
#define TLS_FINISHED_384 48
#define TLS_HELLO_DONE 14 /* the server's, before 1.3, of a session that is not resumed: the client's Finished comes first, then */

/* Eight bytes of the random: behind its first ones, which were the time once. */
#define HELLO_RANDOM_AT 11 /* in the message */
/* Those of a HelloRetryRequest, which are always the same (4.1.3); the hello itself follows. */
#define HELLO_RETRY 0x1e028c1dbe11619aULL
/* Threads that never call a library have no need of what is noted for them. */
#define MOST_UNUSED_HELLOS 63

FC_INLINE bool is_hello(u8 type)
{
	return type == TLS_CLIENT_HELLO || type == TLS_SERVER_HELLO;
}

/* No pointer has it, nor a process: never an SSL object's. */
FC_INLINE struct tls_key make_hello_key(u64 pid_tgid, u64 random)
{
	struct tls_key key = {.ssl = random, .tgid = pid_tgid >> 32 | 1ULL << 63};

	return key;
}

/* A read brought a handshake record of a connection, at its beginning. */
FC_INLINE void note_hello(struct call *c, struct tls_call *t)
{
	struct tls_session s = {.sk = c->sk, .fd = (u32)c->fd, .fills = (u32)c->base[0], .ports = c->ports};
	struct tls_session *known;
	struct tls_key key;
	u64 head[3] = {}; /* the record's header, the message's, its version, and of the random five bytes and eight */

	if (c->len[0] < sizeof(head) || read_user(head, sizeof(head), (void *)c->base[0]))
		return;
	if (!is_hello((u8)(head[0] >> 40)) || head[2] == HELLO_RETRY)
		return;
	if (!t->speaks && t->hellos == MOST_UNUSED_HELLOS)
		return;
	t->hellos += !t->speaks;
	key = make_hello_key(c->pid_tgid, head[2]);
	known = map_lookup(MAP(MAP_TLS_SESSIONS), &key);
	if (known && (known->sk != s.sk || known->ports != s.ports))
		s.sk = 0; /* somebody sent another one's: whose it is can not be told */
	map_update(MAP(MAP_TLS_SESSIONS), &key, &s, 0);
}

/* `message`: where a hello lies in the library's memory, which begins a record. */
FC_INLINE void tie_session(u64 pid_tgid, u64 ssl, u64 message)
{
	struct tls_key key = make_tls_key(pid_tgid, ssl);
	struct tls_session s = {};
	struct tls_session *noted;
	struct tls_key of_hello;
	struct conn *k;
	u64 random = 0;

	if (read_user(&random, 8, (void *)(message + HELLO_RANDOM_AT)))
		return;
	of_hello = make_hello_key(pid_tgid, random);
	noted = map_lookup(MAP(MAP_TLS_SESSIONS), &of_hello);
	if (!noted)
		return;
	s.sk = noted->sk;
	s.fd = noted->fd;
	s.ports = noted->ports;
	/* Where the library reads the socket by itself it lies where it was read. */
	s.fills = noted->fills != (u32)(message - TLS_HEADER);
	map_delete(MAP(MAP_TLS_SESSIONS), &of_hello);
	k = map_lookup(MAP(MAP_CONNS), &s.sk);
	if (!k || k->tls != TLS_SEALED || k->ports != (u32)s.ports)
		return;
	k->tls_stage = STAGE_TIED;
	map_update(MAP(MAP_TLS_SESSIONS), &key, &s, 0);
}

/* The last thing that a handshake waits for. */
FC_INLINE bool is_finished(u32 header)
{
	u32 length = header >> 24; /* its last byte; there are no others */

	return header == (TLS_FINISHED | length << 24) &&
		(length == TLS_FINISHED_12 || length == TLS_FINISHED_256 || length == TLS_FINISHED_384);
}

/* A handshake message's header is about to be copied; `left` bytes of the record are left. */
FC_INLINE void follow_handshake(u64 pid_tgid, u64 ssl, u64 from, u64 left)
{
	struct conn *k;
	u32 header = 0;
	bool is_done;

	if (read_user(&header, TLS_MESSAGE_HEADER, (void *)from))
		return;
	if (is_hello((u8)header) && left >= HELLO_RANDOM_AT + 8) {
		tie_session(pid_tgid, ssl, from);
		return;
	}
	is_done = header == TLS_HELLO_DONE;
	if (!is_done && !is_finished(header))
		return;
	k = find_tied(lookup_session(pid_tgid, ssl));
	if (!k)
		return;
	if (k->tls_stage == STAGE_TIED)
		k->tls_stage = is_done ? STAGE_FULL : STAGE_READ;
	else if (k->tls_stage == STAGE_FULL && !is_done)
		k->tls_stage = STAGE_SENT;
}

#endif
