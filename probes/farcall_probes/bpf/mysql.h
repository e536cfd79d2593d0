/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Telling MySQL's and MariaDB's commands by their packet: a little-endian length of three bytes, a sequence number that
 * each command begins anew at 0, then the command. Nothing is parsed here.
 */
#ifndef FARCALL_MYSQL_H
#define FARCALL_MYSQL_H

#include "fc.h"

#define FC_MYSQL_HEADER 4
/* A longer packet is sent in pieces of at least this. */
#define FC_MYSQL_PIECE 4096

#define FC_MYSQL_USE 0x02
#define FC_MYSQL_QUERY 0x03
#define FC_MYSQL_PREPARE 0x16
#define FC_MYSQL_EXECUTE 0x17

FC_INLINE u32 load_mysql_length(u64 head)
{
	return (u32)head & 0xffffff;
}

FC_INLINE bool fits_mysql(u64 head, u64 total)
{
	u64 all = load_mysql_length(head) + FC_MYSQL_HEADER;

	return all == total || (all > total && total >= FC_MYSQL_PIECE);
}

/* Commands that ask something of a database; the others (ping, statistics, close) say nothing to a reader of spans. */
FC_INLINE bool is_mysql_request(u64 head, u64 total)
{
	u8 sequence = head >> 24;
	u8 command = head >> 32;

	if (sequence || load_mysql_length(head) < 2 || !fits_mysql(head, total))
		return false;
	return command == FC_MYSQL_QUERY || command == FC_MYSQL_PREPARE || command == FC_MYSQL_EXECUTE ||
	       command == FC_MYSQL_USE;
}

/* The header alone, as servers and some clients read it. */
FC_INLINE bool is_mysql_header(u32 head, u8 sequence)
{
	return (head & 0xffffff) && (u8)(head >> 24) == sequence;
}

/* OK, an error, a column count, or the request for a file; behind it other packets may follow. */
FC_INLINE bool is_mysql_reply(u64 head, u64 total)
{
	u64 all = load_mysql_length(head) + FC_MYSQL_HEADER;

	return (u8)(head >> 24) == 1 && load_mysql_length(head) && (all <= total || total >= FC_MYSQL_PIECE);
}

#define FC_MYSQL_EOF 0xfe
#define FC_MYSQL_MORE_RESULTS 8 /* of the server's status */

/* The newest eight bytes end as a result set does: with an EOF packet (length 5, number, 0xfe, warnings, status), or with an OK
 * packet in its place (number, 0xfe, two zeros, status, warnings), and no other set follows. Text in UTF-8 has no byte 0xfe. */
FC_INLINE bool ends_mysql_answer(u64 last)
{
	if (!(u16)last && (u8)(last >> 24) == FC_MYSQL_EOF)
		return !(last >> 48 & FC_MYSQL_MORE_RESULTS);
	return (last >> 8 & 0xffffff) == FC_MYSQL_EOF && !(last >> 32 & FC_MYSQL_MORE_RESULTS);
}

#endif
