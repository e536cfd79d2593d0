/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Telling NATS' messages (docs.nats.io, "Client Protocol"): a line of words each, and behind some of them as many bytes as the
 * line's last word says, and CR LF. Nothing is answered: who publishes hears of it only when it was wrong. Only lines that carry
 * a message, and errors, are told; what CONNECT says is never looked at.
 */
#ifndef FARCALL_NATS_H
#define FARCALL_NATS_H

#include "maps.h"
#include "redis.h"

#define FC_NATS_LINE 512 /* bytes that are searched for a line's end; a server's longest line has 4,096 */
#define FC_NATS_SHORTEST 10 /* "PUB a 0" and two line ends are 11 */
#define FC_NATS_LONGEST (1 << 26) /* max_payload is 64 MB at most */

#define FC_NATS_PUB FC_WORD('P', 'U', 'B', ' ')
#define FC_NATS_HPUB FC_WORD('H', 'P', 'U', 'B')
#define FC_NATS_MSG FC_WORD('M', 'S', 'G', ' ')
#define FC_NATS_HMSG FC_WORD('H', 'M', 'S', 'G')
#define FC_NATS_SUB FC_WORD('S', 'U', 'B', ' ')
#define FC_NATS_ERR FC_WORD('-', 'E', 'R', 'R')
#define FC_NATS_CONNECT (FC_WORD('C', 'O', 'N', 'N') | FC_WORD('E', 'C', 'T', ' ') << 32)

/* Asked anew each time, for the verifier's sake. */
FC_INLINE bool is_nats(const struct conn *k)
{
	return *(const volatile u8 *)&k->large.x.proto == FC_PROTO_NATS;
}

/* Of HTTP's CONNECT an address follows. */
FC_INLINE bool is_nats_connect(const u8 *head)
{
	return *(const u64 *)head == FC_NATS_CONNECT && head[8] == '{';
}

/* A client's first eight bytes: what is sent first, or most. */
FC_INLINE bool may_be_nats(u64 lo)
{
	u32 word = (u32)lo;

	return word == (u32)FC_NATS_PUB || word == (u32)FC_NATS_HPUB || word == (u32)FC_NATS_SUB || lo == FC_NATS_CONNECT;
}

FC_INLINE bool carries_nats(u32 word)
{
	return word == (u32)FC_NATS_PUB || word == (u32)FC_NATS_HPUB || word == (u32)FC_NATS_MSG || word == (u32)FC_NATS_HMSG;
}

FC_INLINE bool is_nats_told(u32 word)
{
	return carries_nats(word) || word == (u32)FC_NATS_ERR;
}

FC_INLINE bool is_nats_word(u32 word, bool is_response)
{
	if (word == (u32)FC_WORD('P', 'I', 'N', 'G') || word == (u32)FC_WORD('P', 'O', 'N', 'G'))
		return true;
	if (is_response)
		return word == (u32)FC_NATS_MSG || word == (u32)FC_NATS_HMSG || word == (u32)FC_NATS_ERR ||
		       word == (u32)FC_WORD('I', 'N', 'F', 'O') || word == (u32)FC_WORD('+', 'O', 'K', '\r');
	return word == (u32)FC_NATS_PUB || word == (u32)FC_NATS_HPUB || word == (u32)FC_NATS_SUB ||
	       word == (u32)FC_WORD('U', 'N', 'S', 'U') || word == (u32)FC_WORD('C', 'O', 'N', 'N');
}

/* Behind the first such byte in these `n`; 0 where there is none. Eight bytes at a time. */
FC_INLINE u64 find_mark(struct call *c, const u8 *bytes, u64 n, u64 mark)
{
	u64 end = 0;
	u32 i;

#pragma clang loop unroll(disable)
	for (i = 0; i < FC_NATS_LINE / 8; i++) {
		u64 found = mark_byte(*(const u64 *)(bytes + 8 * i), mark);

		if (found) {
			end = 8 * i + reach_mark(found);
			break;
		}
	}
	FORGET(c, end);
	return end <= n ? end : 0;
}

/* The number that ends a line, whose end is at `end`; FC_NATS_LONGEST + 1 where none does. Eight bytes before `bytes` can be read. */
FC_INLINE u64 read_nats_size(const u8 *bytes, u64 end)
{
	u64 at = end - 2;
	u64 alive = 1;
	u64 unit = 1;
	u64 n = 0;
	u64 word;
	u32 i;

	FC_CLAMP(at, FC_NATS_LINE);
	word = *(const u64 *)(bytes - 8 + at);
#pragma unroll
	for (i = 0; i < 8; i++) {
		u64 d = ((word >> (56 - 8 * i)) - '0') & 0xff;

		alive &= is_below_ten(d);
		n += alive * d * unit;
		unit *= 10;
	}
	return (u8)(word >> 56) - '0' > 9U ? FC_NATS_LONGEST + 1 : n;
}

/* The length of the message that begins so; 0: none does. `line`: where its line ends, 0 when that is longer than is looked at. */
FC_INLINE u32 weigh_nats(const u8 *bytes, u64 line, u64 all, bool is_response)
{
	u32 word = *(const u32 *)bytes;
	u64 size;

	if (!is_nats_word(word, is_response))
		return 0;
	/* INFO and CONNECT may be longer than is looked at; what is read with them in one call is passed over then. */
	if (!carries_nats(word))
		return (u32)(line ? line : all);
	size = line < FC_NATS_SHORTEST - 1 ? FC_NATS_LONGEST + 1 : read_nats_size(bytes, line);
	return size > FC_NATS_LONGEST ? 0 : (u32)(line + size + 2);
}

/* Strictly, of a connection that may be anything: CONNECT, or a line of which all is there. */
FC_INLINE bool is_nats_request(struct call *c, const u8 *head, u64 n)
{
	u64 line;

	if (is_nats_connect(head))
		return true;
	if (!may_be_nats(*(const u64 *)head))
		return false;
	line = find_mark(c, head, n, '\n');
	return line && head[(line - 2) & 511] == '\r' && weigh_nats(head, line, n, false);
}

#endif
