/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What the hooks in TLS libraries do. Arguments come in the registers of the x86-64 calling convention. */
#ifndef FARCALL_UPROBES_H
#define FARCALL_UPROBES_H

#include "hits.h"

/* A write's call, whose connection is known. False: it is not any more. */
FC_INLINE bool own_write(struct call *c, const struct tls_session *s)
{
	c->fd = s->fd;
	c->sk = s->sk;
	c->ports = s->ports;
	c->tls_skip = TLS_UNSENT;
	return is_right(c, c->sk, (u32)c->ports);
}

/* Whether the thread's last write failed, since its object's handshake goes on still: nothing of it leaves, and it is no loss. The
 * caller writes it once more, from other memory perhaps (Node.js). */
FC_INLINE bool is_early(const struct tls_call *t)
{
	u64 at = NUM(NUM_IN_INIT);
	u32 in_init = 0;

	if (!at || t->write_owner != NUM(NUM_OWNER))
		return false;
	return !read_user(&in_init, 4, (void *)(t->write_ssl + at)) && in_init == 1;
}

#define OPENSSL_WRITING 2    /* SSL_WRITING, ssl.h */
#define BORINGSSL_WRITING 3 /* SSL_ERROR_WANT_WRITE, its ssl.h */

/* Whether the object's last call stopped because what it had to send was not taken: a write of the same bytes is that one, then,
 * made again. (Netty's server does eight times while its tickets go out.) */
FC_INLINE bool is_stopped(u64 ssl)
{
	u64 at = NUM(NUM_WANT), in = NUM(NUM_WANT_IN);
	u64 object = ssl;
	u32 want = 0;

	if (!at || (in && read_user(&object, 8, (void *)(ssl + in))))
		return false;
	return !read_user(&want, 4, (void *)(object + at)) && want == (in ? BORINGSSL_WRITING : OPENSSL_WRITING);
}

/* The thread's next write waits behind another one. */
FC_INLINE void doubt_write(struct tls_call *t, bool is_same_object)
{
	t->waits = is_same_object ? WAITS : t->has_read ? WAITS_LAST : WAITS_BLIND;
}

/* The thread writes once more, and its last write was not seen to leave: that one's call when it can be taken now, else NULL.
 * `buf`: what is written now, if to the same object. Memory that came free may hold another request by then, which begins as
 * the one that was there. */
FC_INLINE struct call *open_unsent(struct tls_call *t, u64 buf)
{
	struct call *c = open_plaintext(DIR_OUT, t->write_buf, t->write_len);
	struct tls_session *s;
	struct tls_kept *kept;
	struct conn *k;

	doubt_write(t, buf != 0);
	if (!c)
		return NULL;
	s = lookup_session(c->pid_tgid, t->write_ssl);
	k = find_open(s);
	if (k && t->kept != KEPT_SEVERAL && own_write(c, s)) {
		s->fills = 1;
		if (buf && buf != t->write_buf && is_in_time(t, k) && is_there(t))
			return c;
		lose_plaintext(c, k, t->write_len);
	} else {
		kept = t->kept == KEPT_SEVERAL ? find_kept(c, t) : NULL;
		count_unowned(c, kept ? kept->writes : 1);
	}
	end_call(c);
	return NULL;
}

/* What is written now is taken now, when its object is known to need that. BoringSSL's callers often do, and a write that is made
 * again is known by its state there (is_stopped). */
FC_INLINE struct call *open_at_once(struct tls_call *t, const struct tls_session *s)
{
	struct call *c;

	if (!s->fills && !NUM(NUM_WANT_IN))
		return NULL;
	c = open_plaintext(DIR_OUT, t->write_buf, t->write_len);
	if (!c)
		return NULL;
	if (own_write(c, s)) {
		t->waits = WAITS_TAKEN;
		return c;
	}
	end_call(c);
	return NULL;
}

/* Two programs of ours are at one instruction when a file is known by two names, see is_seen. */
FC_INLINE bool is_written_twice(struct tls_call *t)
{
	if (!t->waits || t->write_owner == NUM(NUM_OWNER))
		return false;
	if (t->waits == WAITS_TAKEN)
		t->waits = WAITS_NOT;
	return true;
}

/* (SSL *, const void *, int or size_t …) */
FC_INLINE int on_tls_write(struct user_regs *r)
{
	struct tls_call *t = enter_library();
	u64 pid_tgid = read_pid_tgid();
	u64 ssl = r->di, buf = r->si, len = (u32)r->dx;
	bool is_same, is_repeated, is_joined = false;
	struct tls_session *s;
	struct call *c = NULL;
	struct conn *k;
	u64 head;

	if (!t || !len)
		return 0;
	head = load_user_head(buf, len);
	is_same = t->write_ssl == ssl && t->write_len == len && t->write_head == head;
	is_repeated = is_same && t->write_buf == buf;
	if ((is_repeated && is_written_twice(t)) || (is_same && is_stopped(ssl)))
		return 0;
	s = lookup_session(pid_tgid, ssl);
	k = find_open(s);
	if (t->waits < WAITS) {
		t->waits = is_same ? WAITS_AGAIN : WAITS;
	} else if (is_early(t)) {
		doubt_write(t, t->write_ssl == ssl);
	} else {
		if (t->kept && t->write_ssl == ssl && !k) /* repeated: a library that does not say how far its handshake is */
			is_joined = is_repeated || join_plaintext(pid_tgid, ssl, buf, len);
		if (is_joined && !is_repeated)
			t->kept = KEPT_SEVERAL;
		if (!is_joined)
			c = open_unsent(t, t->write_ssl == ssl ? buf : 0);
	}
	t->has_read = 0;
	t->write_owner = (u16)NUM(NUM_OWNER);
	t->write_ssl = ssl;
	t->write_buf = buf;
	t->write_len = len;
	t->write_head = head;
	t->write_behind = k ? k->tls_places[DIR_IN] : 0;
	if (!is_joined)
		t->kept = !k && keep_plaintext(pid_tgid, t) ? KEPT_ONE : KEPT_NOT;
	if (!c && k)
		c = open_at_once(t, s);
	return c ? take_plaintext(r, c, true) : 0;
}

/* (SSL *, void *, int or size_t, size_t *) */
FC_INLINE int on_tls_read(struct user_regs *r)
{
	struct tls_call *t = enter_library();

	if (!t)
		return 0;
	t->read_buf = r->si;
	t->read_len = (u32)r->dx;
	t->read_count = r->cx;
	t->read_ssl = r->di;
	return 0;
}

FC_INLINE int on_read_return(void *ctx, struct tls_call *t, u64 len)
{
	u64 ssl = t->read_ssl;
	struct call *c;

	t->read_ssl = 0;
	if (!ssl || !len || len > t->read_len)
		return 0;
	c = open_plaintext(DIR_IN, t->read_buf, len);
	if (!c)
		return 0;
	return take_plaintext(ctx, c, find_session(c, t, ssl, len, 0));
}

/* ---- a read's return ------------------------------------------------------------------------------------------- */

FC_INLINE struct tls_call *leave_library(void)
{
	u64 pid_tgid = read_pid_tgid();

	return map_lookup(MAP(MAP_TLS_CALLS), &pid_tgid);
}

/* Returns the number of bytes. */
FC_INLINE int on_tls_read_return(struct user_regs *r)
{
	struct tls_call *t = leave_library();
	s32 n = (s32)r->ax;

	return t ? on_read_return(r, t, n > 0 ? n : 0) : 0;
}

/* Returns 1 for success, and the number of bytes through a pointer. */
FC_INLINE int on_tls_read_ex_return(struct user_regs *r)
{
	struct tls_call *t = leave_library();
	u64 n = 0;

	if (!t)
		return 0;
	if ((s32)r->ax > 0)
		read_user(&n, 8, (void *)t->read_count);
	return on_read_return(r, t, n);
}

/* ---- Go -------------------------------------------------------------------------------------------------------- */

/* internal/poll.FD within net.netFD, which begins with it; the same since Go 1.11 but for what lies between. */
#define GO_CONN_DATA 8 /* tls.Conn begins with an interface, whose second word is the *net.TCPConn */
#define SOCK_STREAM 1
#define GO_MAX_FD (1 << 24)

struct go_net_fd {
	u64 mutex[2];
	u64 fd;
	u64 others[3];
	u8 is_stream;
	u8 zero_read_is_eof;
	u8 is_file;
	u8 pad[5];
	u64 family;
	u64 type;
};

/* The descriptor of what may be a *net.TCPConn, or -1: only a TCP socket of the net package looks like this. */
FC_INLINE s64 load_go_fd(u64 tcp_conn)
{
	struct go_net_fd n = {};
	u64 net_fd = 0;

	if (read_user(&net_fd, 8, (void *)tcp_conn) || read_user(&n, sizeof(n), (void *)net_fd))
		return -1;
	if (n.fd >= GO_MAX_FD || n.is_stream != 1 || n.zero_read_is_eof != 1 || n.is_file || n.type != SOCK_STREAM)
		return -1;
	return n.family == AF_INET || n.family == AF_INET6 ? (s64)n.fd : -1;
}

/* The descriptor of a *tls.Conn. What lies under it may be a wrapper: a struct with the connection as its first member, or
 * behind one word (Kubernetes' clients). */
FC_INLINE s64 find_go_fd(u64 conn)
{
	u64 inner = 0;
	u64 words[3] = {};
	s64 fd;

	if (read_user(&inner, 8, (void *)(conn + GO_CONN_DATA)))
		return -1;
	fd = load_go_fd(inner);
	if (fd >= 0 || read_user(words, sizeof(words), (void *)inner))
		return fd;
	fd = load_go_fd(words[1]);
	return fd >= 0 ? fd : load_go_fd(words[2]);
}

/* Walked to, which costs less than a look at what is remembered of the descriptor, and needs no verifying afterwards. Nothing is
 * said of a descriptor that leads to no socket: the next step looks for itself. */
FC_INLINE void set_walked(struct call *c)
{
	c->sk = walk_to_sk(read_task_btf(), c);
	c->ports = c->sk ? load_ports(c->sk) : 0;
}

FC_INLINE int on_go_plaintext(void *ctx, u64 dir, u64 conn, u64 buf, u64 len)
{
	struct call *c = (s64)len > 0 ? open_plaintext(dir, buf, len) : NULL;
	s64 fd;

	if (!c)
		return 0;
	fd = find_go_fd(conn);
	c->fd = (u64)fd;
	c->plain = PLAIN_NAMED;
	if (fd >= 0 && NUM(NUM_WORD_TYPE))
		set_walked(c);
	return take_plaintext(ctx, c, fd >= 0);
}

/* (*Conn).Write behind the check of its stack: rax the connection, rbx and rcx the bytes. */
FC_INLINE int on_go_write(struct user_regs *r)
{
	return on_go_plaintext(r, DIR_OUT, r->ax, r->bx, r->cx);
}

/* The copy in (*Conn).Read: rbx and rcx the bytes; the connection is where the function saved its first argument. */
FC_INLINE int on_go_read(struct user_regs *r)
{
	u64 conn = 0;

	if (read_user(&conn, 8, (void *)(r->bp + 16)))
		return 0;
	return on_go_plaintext(r, DIR_IN, conn, r->bx, r->cx);
}

#endif
