/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What OpenSSL copies to its caller, at the instruction that is about to (tlscopies.py). */
#ifndef FARCALL_TLSCOPIES_H
#define FARCALL_TLSCOPIES_H

#include "hits.h"

/* SSL3_RECORD of OpenSSL 1.1.0 to 3.1, as far as it is looked at (ssl/record/record.h). */
struct ssl_record {
	u32 version;
	u32 type;
	u64 length; /* of what was not copied yet */
	u64 whole;
	u64 offset; /* of that in data */
	u64 data;
};

/* TLS_RECORD of OpenSSL 3.2 and newer, the same file, and what lies before the first of an SSL object. */
struct tls_record {
	u64 records; /* how many there are */
	u64 next;    /* which of them is */
	u64 handle;
	u32 version;
	u8 type;
	u8 pad[3];
	u64 data;
	u64 owned;
	u64 length;
	u64 offset;
};
#define TLS_RECORD_BEFORE 16
#define TLS_MAX_RECORDS 32 /* SSL_MAX_PIPELINES */

/* Either of them. */
struct copied {
	u64 ssl; /* what the connection is known by: the SSL object that the record lies in */
	u64 type;
	u64 length;
	u64 offset;
	u64 data;
};

/* x86-64's numbers; registers that a call leaves as they are. */
FC_INLINE u64 pick_register(struct user_regs *r)
{
	u64 bx = r->bx, bp = r->bp, r12 = r->r12, r13 = r->r13, r14 = r->r14, r15 = r->r15;
	u64 which = NUM(NUM_RECORD);

	FC_HIDE(bx);
	FC_HIDE(bp);
	FC_HIDE(r12);
	FC_HIDE(r13);
	FC_HIDE(r14);
	FC_HIDE(r15);
	if (which < 12)
		return which == 3 ? bx : bp;
	if (which < 14)
		return which == 12 ? r12 : r13;
	return which == 14 ? r14 : r15;
}

/* Two programs of ours are at one instruction when a file is known by two names: the one that was first here goes on to be. A
 * copy that only the other one sees, twice, makes it the first. */
FC_INLINE bool is_seen(struct tls_call *t, u64 from, u64 bytes)
{
	if (t->owner && t->owner != NUM(NUM_OWNER) && t->copy_from == from && t->copy_bytes == bytes && !t->copy_again) {
		t->copy_again = 1;
		return true;
	}
	t->owner = (u16)NUM(NUM_OWNER);
	t->copy_from = from;
	t->copy_bytes = bytes;
	t->copy_again = 0;
	return false;
}

FC_INLINE bool is_copied(u32 type)
{
	return type == TLS_DATA || type == TLS_HANDSHAKE;
}

/* Each of these is false where that is no record of what an application wrote, or of a handshake. */

/* An object of OpenSSL 1.1 and 3.0 begins with the negotiated version; where that is not so (a record behind the first, which
 * only pipelines have) the record itself is what it is known by. */
FC_INLINE bool load_old_record(u64 record, struct copied *to)
{
	u64 ssl = record - NUM(NUM_RECORD_AT);
	struct ssl_record s = {};
	u32 version = 0;

	if (read_user(&s, sizeof(s), (void *)record) || !is_copied(s.type))
		return false;
	read_user(&version, 4, (void *)ssl);
	to->ssl = version >> 8 == 3 ? ssl : record;
	to->type = s.type;
	to->length = s.length;
	to->offset = s.offset;
	to->data = s.data;
	return true;
}

/* The same: before the first of an object's records lies the number of the next, which is 0 then. */
FC_INLINE bool load_new_record(u64 record, struct copied *to)
{
	struct tls_record s = {};

	if (read_user(&s, sizeof(s), (void *)(record - TLS_RECORD_BEFORE)) || !is_copied(s.type))
		return false;
	to->ssl = !s.next && s.records && s.records <= TLS_MAX_RECORDS ? record - NUM(NUM_RECORD_AT) : record;
	to->type = s.type;
	to->length = s.length;
	to->offset = s.offset;
	to->data = s.data;
	return true;
}

FC_INLINE bool load_record(u64 record, struct copied *to)
{
	return NUM(NUM_RECORD_IS_NEW) ? load_new_record(record, to) : load_old_record(record, to);
}

/* Whether the connection of the copied bytes is known; the call leads to it, then. */
FC_INLINE bool find_copied(struct call *c, struct tls_call *t, const struct copied *s, u64 from, u64 bytes)
{
	if (from - t->last_buf < t->last_len) {
		c->fd = t->last_fd;
		c->sk = t->last_sk;
		c->ports = t->last_ports;
		if (bytes == s->length) /* the buffer is free for another connection's */
			t->last_len = 0;
		remember_session(c, s->ssl);
		return true;
	}
	t->read_len = ~0ULL;
	return find_session(c, t, s->ssl, s->offset ? ~0ULL : s->length, s->data) != NULL;
}

/* memcpy(to, record's bytes, length), about to be called. Handshake messages are copied so too, their headers by themselves. */
FC_INLINE int on_tls_copy(struct user_regs *r)
{
	u64 record = pick_register(r);
	u64 from = r->si;
	u64 bytes = r->dx;
	struct copied s = {};
	struct tls_call *t;
	struct call *c;

	if (!bytes || !load_record(record, &s))
		return 0;
	if (s.data + s.offset != from || bytes > s.length)
		return 0;
	t = enter_library();
	if (!t)
		return 0;
	if (s.type == TLS_HANDSHAKE) {
		if (bytes == TLS_MESSAGE_HEADER)
			follow_handshake(read_pid_tgid(), s.ssl, from, s.length);
		return 0;
	}
	if (t->peeks || is_seen(t, from, bytes))
		return 0;
	c = open_plaintext(DIR_IN, from, bytes);
	if (!c)
		return 0;
	return take_plaintext(r, c, find_copied(c, t, &s, from, bytes));
}

/* memcpy(to, decrypted bytes, length) in BoringSSL's SSL_read, about to be called (boringssl.py). The register holds the SSL object.
 * What it was decrypted from ends with the record's tag still. */
FC_INLINE int on_boring_copy(struct user_regs *r)
{
	struct tls_call *t = enter_library();
	u64 ssl = pick_register(r);
	u64 from = r->si;
	u64 bytes = r->dx;
	struct call *c;

	if (!t || !bytes || bytes > TLS_MAX_PLAIN || is_seen(t, from, bytes))
		return 0;
	c = open_plaintext(DIR_IN, from, bytes);
	if (!c)
		return 0;
	t->read_len = 0; /* a part of the record, perhaps: the tag tells whether it is that one */
	return take_plaintext(r, c, find_session(c, t, ssl, bytes, from) != NULL);
}

FC_INLINE int on_tls_peek(struct user_regs *r)
{
	struct tls_call *t = enter_library();

	if (t)
		t->peeks = 1;
	return 0;
}

FC_INLINE int on_tls_peek_return(struct user_regs *r)
{
	u64 pid_tgid = read_pid_tgid();
	struct tls_call *t = map_lookup(MAP(MAP_TLS_CALLS), &pid_tgid);

	if (t)
		t->peeks = 0;
	return 0;
}

#endif
