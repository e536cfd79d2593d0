/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Which connection an SSL object's plaintext goes over. */
#ifndef FARCALL_TLSSESSIONS_H
#define FARCALL_TLSSESSIONS_H

#include "tlsrecords.h"

FC_INLINE struct tls_key make_tls_key(u64 pid_tgid, u64 ssl)
{
	struct tls_key key = {.ssl = ssl, .tgid = pid_tgid >> 32};

	return key;
}

FC_INLINE struct tls_session *lookup_session(u64 pid_tgid, u64 ssl)
{
	struct tls_key key = make_tls_key(pid_tgid, ssl);

	return map_lookup(MAP(MAP_TLS_SESSIONS), &key);
}

/* The object's socket is the one that the call's descriptor leads to; `known` is what was remembered of it. */
FC_INLINE void renew_session(struct call *c, u64 ssl, const struct tls_session *known)
{
	struct tls_key key = make_tls_key(c->pid_tgid, ssl);
	struct tls_session s = {.sk = c->sk, .fd = (u32)c->fd, .ports = c->ports};

	if (known && known->sk == s.sk && known->ports == s.ports && known->fd == s.fd)
		return;
	map_update(MAP(MAP_TLS_SESSIONS), &key, &s, 0);
}

FC_INLINE void remember_session(struct call *c, u64 ssl)
{
	renew_session(c, ssl, lookup_session(c->pid_tgid, ssl));
}

/* The connection that is known to be this SSL object's, if it is still the one it was then: objects that are freed leave their
 * address to the next. */
FC_INLINE struct conn *find_tied(const struct tls_session *s)
{
	u64 sk = s ? s->sk : 0;
	struct conn *k = sk ? map_lookup(MAP(MAP_CONNS), &sk) : NULL;

	return k && (k->tls == TLS_OPEN || k->tls_stage) && k->ports == (u32)s->ports ? k : NULL;
}

/* The same, of which the next thing that leaves is what was written: after plaintext was seen on it, or all of its handshake. */
FC_INLINE struct conn *find_open(const struct tls_session *s)
{
	struct conn *k = find_tied(s);

	return k && (k->tls == TLS_OPEN || k->tls_stage == STAGE_SENT) ? k : NULL;
}

#endif
