/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Telling Redis requests and replies by their first bytes. Nothing is parsed here. */
#ifndef FARCALL_REDIS_H
#define FARCALL_REDIS_H

#include "words.h"

FC_INLINE bool is_digit(u8 c)
{
	return c >= '0' && c <= '9';
}

/* An array of bulk strings: *N\r\n$, N of one to three digits. A reply can look the same: who asks is decided by who
 * called connect. Inline commands (typed by hand) are not told from noise, so they are not seen. */
FC_INLINE bool is_redis_request(u64 head)
{
	u8 b1 = head >> 8;
	u64 rest = head >> 16;

	if ((u8)head != '*' || !is_digit(b1) || b1 == '0')
		return false;
	if (is_digit((u8)rest))
		rest >>= 8;
	if (is_digit((u8)rest))
		rest >>= 8;
	return (rest & 0xffffff) == ('\r' | '\n' << 8 | '$' << 16);
}

/* RESP2 and RESP3. A push (>) answers nothing. As bits: a row of comparisons is long, and each hook has it. */
#define FC_BIT(c) (1ULL << ((c) & 63))
#define FC_REDIS_BULKS (FC_BIT('$') | FC_BIT('!') | FC_BIT('='))
#define FC_REDIS_LINES (FC_BIT('+') | FC_BIT('-') | FC_BIT(':') | FC_BIT(',') | FC_BIT('#') | FC_BIT('('))
#define FC_REDIS_LOW (FC_REDIS_BULKS | FC_REDIS_LINES | FC_BIT('*') | FC_BIT('%')) /* below 64 */
#define FC_REDIS_HIGH (FC_BIT('_') | FC_BIT('~') | FC_BIT('|'))

FC_INLINE bool is_redis_reply(u8 c)
{
	return c < 128 && (c < 64 ? FC_REDIS_LOW : FC_REDIS_HIGH) >> (c & 63) & 1;
}

FC_INLINE bool is_redis_bulk(u8 c)
{
	return c < 64 && FC_REDIS_BULKS >> c & 1;
}

/* Bytes that end a line end each reply, and nearly nothing else. `last`: the newest eight. */
FC_INLINE bool ends_line(u64 last)
{
	return last >> 48 == ('\r' | '\n' << 8);
}

/* Whether all of a reply may be there, in so few bytes that end a line: its head may have been written apart. Of an array not more
 * than its number of elements is looked at. */
FC_INLINE bool is_short_redis(u64 head, u64 total)
{
	u8 kind = (u8)head;
	u64 n = (head >> 8 & 0xff) - '0';
	u64 next = (head >> 16) - '0' & 0xff;
	u64 two = (next - 10) >> 63; /* digits, or one */
	u64 least;

	if (n > 9 || (kind < 64 && FC_REDIS_LINES >> kind & 1))
		return true;
	FC_HIDE(two);
	n += two * (9 * n + next);
	least = is_redis_bulk(kind) ? n + 2 : 3 * n;
	return (u8)(head >> (16 + 8 * two)) == '\r' && total >= 4 + two + least;
}

#define FC_REDIS_LEAST 4 /* bytes of a reply: ":1" and the line's end */
#define FC_REDIS_DIGITS 9 /* proto-max-bulk-len: 512 MB */

/* The length of a reply that is a bulk string, as its first bytes say it; 0 of others. Computed without branches: they would be
 * paths to the verifier. */
FC_INLINE u64 weigh_redis(const u8 *head)
{
	u64 alive = 1;
	u64 digits = 0;
	u64 n = 0;
	u32 i;

	if (!is_redis_bulk(head[0]))
		return 0;
#pragma unroll
	for (i = 1; i <= FC_REDIS_DIGITS; i++) {
		u64 d = ((u64)head[i] - '0') & 0xff;

		alive &= is_below_ten(d);
		n += alive * (9 * n + d);
		digits += alive;
	}
	FC_HIDE(digits);
	return digits ? 1 + digits + 2 + n + 2 : 0;
}

#endif
