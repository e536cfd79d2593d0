/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Telling Redis requests and replies by their first bytes. Nothing is parsed here. */
#ifndef FARCALL_REDIS_H
#define FARCALL_REDIS_H

#include "fc.h"

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

/* RESP2 and RESP3. A push (>) answers nothing. */
FC_INLINE bool is_redis_reply(u8 c)
{
	return c == '+' || c == '-' || c == ':' || c == '$' || c == '*' || c == '_' || c == ',' || c == '#' ||
	       c == '!' || c == '=' || c == '(' || c == '%' || c == '~' || c == '|';
}

#endif
