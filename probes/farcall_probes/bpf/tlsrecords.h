/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* TLS records as they pass through system calls: their headers, nothing else of them can be read. */
#ifndef FARCALL_TLSRECORDS_H
#define FARCALL_TLSRECORDS_H

#include "frames.h"

/* RFC 8446, 5.1 and 5.2; types and lengths of 1.2 are the same. */
#define TLS_CHANGE_CIPHER 0x14
#define TLS_HANDSHAKE 0x16
#define TLS_DATA 0x17
#define TLS_HEADER 5
#define TLS_MAX_PLAIN 16384
#define TLS_MAX_SEALED (TLS_MAX_PLAIN + 2048)
/* What sealing adds: a tag of 16 bytes, and a type in 1.3 (ChaCha20 before it has nothing else); an IV, a MAC and padding with CBC. */
#define TLS_LEAST_EXTRA 16
#define TLS_MOST_EXTRA 256
/* The smallest fragment that a library can be told to make (RFC 6066, 4). */
#define TLS_LEAST_FRAGMENT 512
/* Records looked at in one call: tickets, Finished and key updates are few. */
#define TLS_RECORDS 4

FC_INLINE u64 record_length(u64 head)
{
	return swap16((u16)(head >> 24));
}

/* The first five bytes of `head`. Version 3.1 to 3.4; SSL 3 is nobody's any more, and its 0 is a length's byte elsewhere. */
FC_INLINE bool is_tls_record(u64 head)
{
	u8 type = (u8)head;
	u8 minor = (u8)(head >> 16);
	u64 len = record_length(head);

	if (type < TLS_CHANGE_CIPHER || type > TLS_DATA || (u8)(head >> 8) != 3 || minor < 1 || minor > 4)
		return false;
	if (type == TLS_DATA)
		return len >= TLS_LEAST_EXTRA && len <= TLS_MAX_SEALED;
	return type == TLS_CHANGE_CIPHER ? len == 1 : len >= 2 && len <= TLS_MAX_SEALED;
}

/* What a connection that speaks TLS is known by: a handshake message, or data where the agent came late. Shorter ones could
 * be a database's length (MySQL's 790 is 16 03 00 and the command 03 behind it). */
#define TLS_LEAST_HELLO 32
FC_INLINE bool begins_tls(u64 head)
{
	return is_tls_record(head) && ((u8)head == TLS_DATA || ((u8)head == TLS_HANDSHAKE && record_length(head) >= TLS_LEAST_HELLO));
}

/* A closer look is worth it: 16 03 or 17 03. */
FC_INLINE bool may_begin_tls(u32 first)
{
	return (first & 0xfffe) == (TLS_HANDSHAKE | 0x03 << 8);
}

FC_INLINE u64 peek_record(struct call *c, u64 at)
{
	u64 left = 0;
	u64 base = find_byte(c, at, &left);
	u64 head = 0;

	if (left >= TLS_HEADER)
		read_user(&head, TLS_HEADER, (void *)base);
	return head;
}

/* Steps over the records of a read and remembers where the first one begins that holds what an application wrote. In 1.3
 * the client's Finished has the type of data too; ChangeCipherSpec before it gives it away. Returns whether a handshake record is
 * the first of all. */
FC_INLINE bool follow_records(struct call *c, u64 sk, struct conn *k)
{
	bool is_handshake = false;
	u32 begin = locate_read(sk, c->total);
	u64 at = k->tls_left;
	u32 i;

	c->position = begin;
	k->tls_left = 0;
#pragma unroll
	for (i = 0; i < TLS_RECORDS; i++) {
		u64 head;

		if (at >= c->total) {
			k->tls_left = (u32)(at - c->total);
			break;
		}
		head = peek_record(c, at);
		if (!is_tls_record(head)) /* in step again at the next read that begins with one */
			break;
		if (at == 0)
			is_handshake = (u8)head == TLS_HANDSHAKE;
		if ((u8)head == TLS_DATA && !k->tls_cipher && !k->tls_fresh) {
			k->tls_fresh = 1;
			k->tls_in_seq = begin + (u32)at;
			k->tls_in_len = (u32)record_length(head);
		}
		k->tls_cipher = (u8)head == TLS_CHANGE_CIPHER;
		at += TLS_HEADER + record_length(head);
	}
	return is_handshake;
}

/* The last bytes of the oldest record that was not taken yet, if they lie in this read: a part of its authentication tag, which no
 * other record has and decrypting leaves where it is. 0: unknown. */
FC_INLINE u64 find_tag(struct call *c, const struct conn *k)
{
	u32 end = k->tls_in_seq + TLS_HEADER + k->tls_in_len - c->position;
	u64 left = 0, tag = 0;
	u64 at;

	if (!k->tls_fresh || end < 8 || end > c->total)
		return 0;
	at = find_byte(c, end - 8, &left);
	if (left >= 8)
		read_user(&tag, 8, (void *)at);
	return tag;
}

/* Whether a record of OpenSSL's, decrypted where it lies, is the one that `tag` was read of. Before 1.3 ciphers may have a nonce of
 * eight bytes before the data. */
FC_INLINE bool has_tag(const struct conn *k, u64 data, u64 tag)
{
	u64 end = data + k->tls_in_len - 8;
	u64 last[2] = {};

	if (!tag || read_user(last, sizeof(last), (void *)(end - 8)))
		return false;
	return last[0] == tag || last[1] == tag;
}

FC_INLINE bool fits_record(u64 sealed, u64 plain)
{
	u64 least = plain < TLS_LEAST_FRAGMENT ? plain : TLS_LEAST_FRAGMENT;

	return sealed >= least + TLS_LEAST_EXTRA && sealed <= plain + TLS_MOST_EXTRA;
}

/* Whether one of the records of this write may hold `plain` bytes: behind tickets, a client's Finished and the like, which
 * go out with it. Remembers where it begins. */
FC_INLINE bool carries(struct call *c, u64 plain)
{
	bool cipher = false;
	u64 at = 0;
	u32 i;

#pragma unroll
	for (i = 0; i < TLS_RECORDS; i++) {
		u64 head = peek_record(c, at);

		if (!is_tls_record(head))
			return false;
		if ((u8)head == TLS_DATA && !cipher && fits_record(record_length(head), plain)) {
			c->tls_skip = (u32)at;
			return true;
		}
		cipher = (u8)head == TLS_CHANGE_CIPHER;
		at += TLS_HEADER + record_length(head);
	}
	return false;
}

FC_INLINE u64 load_user_head(u64 at, u64 len)
{
	u64 head = 0;

	read_user(&head, len < 8 ? 1 : 8, (void *)at);
	return head;
}

#endif
