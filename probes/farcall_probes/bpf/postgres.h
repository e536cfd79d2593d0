/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Telling PostgreSQL's round trips by their first message (protocol 3: a type byte, a big-endian length that counts
 * itself, content). Nothing is parsed here.
 */
#ifndef FARCALL_POSTGRES_H
#define FARCALL_POSTGRES_H

#include "fc.h"
#include "redis.h"

/* Some readers fetch type and length alone. */
#define FC_POSTGRES_HEADER 5
/* A statement that is longer than what one call moves comes in pieces of at least this. */
#define FC_POSTGRES_PIECE 4096
#define FC_POSTGRES_LONGEST (1 << 24)

/* Whether a message with this length may stand first in `total` bytes. */
FC_INLINE bool has_postgres_length(u64 head, u64 total)
{
	u32 len = swap32((u32)(head >> 8));

	return len >= 4 && len < FC_POSTGRES_LONGEST &&
	       ((u64)len + 1 <= total || total >= FC_POSTGRES_PIECE || total == FC_POSTGRES_HEADER);
}

/* Query, Parse, Bind: what no server sends. A driver's round trip begins with one of them. */
FC_INLINE bool is_postgres_type(u8 c)
{
	return c == 'Q' || c == 'P' || c == 'B';
}

/* What a client sends once it has logged in, and what of that has an answer of its own: letters, as bits of their lower six. */
#define FC_POSTGRES_ASKS (FC_BIT('Q') | FC_BIT('E'))
/* And what the server answers at, or flushes its answers: a round trip ends with it. */
#define FC_POSTGRES_ENDS (FC_BIT('Q') | FC_BIT('S') | FC_BIT('H') | FC_BIT('F'))
#define FC_POSTGRES_FRONT                                                                                \
	(FC_POSTGRES_ASKS | FC_BIT('P') | FC_BIT('B') | FC_BIT('D') | FC_BIT('C') | FC_BIT('S') | FC_BIT('H') | \
	 FC_BIT('F') | FC_BIT('d') | FC_BIT('c') | FC_BIT('f'))

/* A simple query is alone in its call; behind Parse and Bind others follow. */
FC_INLINE bool is_postgres_request(u64 head, u64 total)
{
	u32 len = swap32((u32)(head >> 8));

	if (!is_postgres_type((u8)head) || !has_postgres_length(head, total))
		return false;
	return (u8)head != 'Q' || (u64)len + 1 == total || total >= FC_POSTGRES_PIECE;
}

FC_INLINE bool is_postgres_reply(u64 head, u64 total)
{
	u8 c = (u8)head;

	if (!has_postgres_length(head, total))
		return false;
	/* complete messages without content */
	if (c == '1' || c == '2' || c == '3' || c == 'n' || c == 'I' || c == 's')
		return swap32((u32)(head >> 8)) == 4;
	return c == 'T' || c == 't' || c == 'D' || c == 'C' || c == 'E' || c == 'N' || c == 'S' || c == 'A' ||
	       c == 'G' || c == 'H' || c == 'W' || c == 'V';
}

/* The newest eight bytes end as ReadyForQuery does, which ends each answer: "Z", the length 5, and the transaction's state. */
FC_INLINE bool ends_postgres_answer(u64 last)
{
	u8 state = last >> 56;

	return (last >> 16 & 0xffffffffff) == ('Z' | 5ULL << 32) && (state == 'I' || state == 'T' || state == 'E');
}

#endif
