/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Telling memcached's commands: the text protocol's words, the meta commands, and the binary protocol's magic bytes. */
#ifndef FARCALL_MEMCACHED_H
#define FARCALL_MEMCACHED_H

#include "http1.h"
#include "redis.h"

#define FC_MEMCACHED_ASK 0x80
#define FC_MEMCACHED_ANSWER 0x81

/* Binary: magic, opcode, key length, extras length, data type (always 0). */
FC_INLINE bool is_memcached_binary(u64 head, u8 magic)
{
	return (u8)head == magic && (u8)(head >> 8) < 0x48 && (u8)(head >> 40) == 0;
}

FC_INLINE bool is_memcached_request(u64 head)
{
	u32 low = (u32)head;
	u32 high = head >> 32;

	switch (low) {
	case FC_WORD('g', 'e', 't', ' '):
	case FC_WORD('s', 'e', 't', ' '):
	case FC_WORD('a', 'd', 'd', ' '):
	case FC_WORD('c', 'a', 's', ' '):
	case FC_WORD('g', 'a', 't', ' '):
		return true;
	case FC_WORD('g', 'e', 't', 's'):
	case FC_WORD('g', 'a', 't', 's'):
	case FC_WORD('i', 'n', 'c', 'r'):
	case FC_WORD('d', 'e', 'c', 'r'):
		return (u8)high == ' ';
	case FC_WORD('t', 'o', 'u', 'c'):
		return (u16)high == ('h' | ' ' << 8);
	case FC_WORD('a', 'p', 'p', 'e'):
		return (high & 0xffffff) == FC_WORD('n', 'd', ' ', 0);
	case FC_WORD('d', 'e', 'l', 'e'):
		return (high & 0xffffff) == FC_WORD('t', 'e', ' ', 0);
	case FC_WORD('p', 'r', 'e', 'p'):
		return high == FC_WORD('e', 'n', 'd', ' ');
	case FC_WORD('r', 'e', 'p', 'l'):
		return high == FC_WORD('a', 'c', 'e', ' ');
	}
	/* mg, ms, md, ma: a word of two letters and a key */
	if ((low & 0xff00ff) == FC_WORD('m', 0, ' ', 0)) {
		u8 c = low >> 8;

		return c == 'g' || c == 's' || c == 'd' || c == 'a';
	}
	return is_memcached_binary(head, FC_MEMCACHED_ASK);
}

FC_INLINE bool is_memcached_word(u32 c)
{
	return c == FC_WORD('V', 'A', 'L', 'U') || c == FC_WORD('E', 'N', 'D', '\r') || c == FC_WORD('S', 'T', 'O', 'R') ||
	       c == FC_WORD('N', 'O', 'T', '_') || c == FC_WORD('E', 'X', 'I', 'S') || c == FC_WORD('D', 'E', 'L', 'E') ||
	       c == FC_WORD('T', 'O', 'U', 'C') || c == FC_WORD('E', 'R', 'R', 'O') || c == FC_WORD('C', 'L', 'I', 'E') ||
	       c == FC_WORD('S', 'E', 'R', 'V');
}

/* HD, VA, EN, NF, NS, EX of the meta commands; a number of incr and decr. */
FC_INLINE bool is_memcached_short(u32 head)
{
	u16 c = (u16)head;
	u8 after = head >> 16;

	if ((u8)head >= '0' && (u8)head <= '9')
		return true;
	if (after != ' ' && after != '\r')
		return false;
	return c == ('H' | 'D' << 8) || c == ('V' | 'A' << 8) || c == ('E' | 'N' << 8) || c == ('N' | 'F' << 8) ||
	       c == ('N' | 'S' << 8) || c == ('E' | 'X' << 8);
}

#define FC_MEMCACHED_HEADER 24 /* of the binary protocol */

/* The length of an answer in the binary protocol, as its first bytes say it; 0 of the text protocol's. */
FC_INLINE u64 weigh_memcached(const u8 *head)
{
	return head[0] == FC_MEMCACHED_ANSWER ? FC_MEMCACHED_HEADER + (u64)swap32(*(const u32 *)(head + 8)) : 0;
}

/* Values are behind lines that say their length, and END behind the last of them. Of a line that is a piece of its own no more is
 * in `last`. */
FC_INLINE bool ends_memcached_values(u64 last)
{
	u64 before = last & 0xffffff;

	return last >> 24 == (FC_WORD('E', 'N', 'D', '\r') | (u64)'\n' << 32) &&
	       (!before || before >> 8 == ('\r' | '\n' << 8));
}

/* The size that stands behind VA, the answer of a meta get; 0 where none does. */
FC_INLINE u64 read_meta_size(const u8 *head)
{
	u64 alive = 1;
	u64 n = 0;
	u32 i;

	if (head[0] != 'V' || head[1] != 'A' || head[2] != ' ')
		return 0;
#pragma unroll
	for (i = 3; i < 12; i++) {
		u64 d = ((u64)head[i] - '0') & 0xff;

		alive &= is_below_ten(d);
		n += alive * (9 * n + d);
	}
	return n;
}

FC_INLINE bool is_memcached_reply(u64 head)
{
	return is_memcached_word((u32)head) || is_memcached_short((u32)head) ||
	       is_memcached_binary(head, FC_MEMCACHED_ANSWER);
}

#endif
