/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Telling HTTP/1 requests and responses by their first bytes, and finding a head's end.
 *
 * Nothing is parsed here beyond a status class: user space reads the head from the record.
 */
#ifndef FARCALL_HTTP1_H
#define FARCALL_HTTP1_H

#include "maps.h"

#define FC_WORD(a, b, c, d) ((u64)(a) | (u64)(b) << 8 | (u64)(c) << 16 | (u64)(d) << 24)
#define FC_WORD8(a, b, c, d, e, f, g, h) (FC_WORD(a, b, c, d) | FC_WORD(e, f, g, h) << 32)
#define FC_CRLFCRLF FC_WORD('\r', '\n', '\r', '\n')

FC_INLINE bool is_http_request(u64 head)
{
	u32 low = (u32)head;
	u64 high = head >> 32;

	switch (low) {
	case FC_WORD('G', 'E', 'T', ' '):
	case FC_WORD('P', 'U', 'T', ' '):
		return true;
	case FC_WORD('P', 'O', 'S', 'T'):
	case FC_WORD('H', 'E', 'A', 'D'):
		return (u8)high == ' ';
	case FC_WORD('P', 'A', 'T', 'C'):
		return (u16)high == ('H' | ' ' << 8);
	case FC_WORD('T', 'R', 'A', 'C'):
		return (u16)high == ('E' | ' ' << 8);
	case FC_WORD('D', 'E', 'L', 'E'):
		return (high & 0xffffff) == FC_WORD('T', 'E', ' ', 0);
	case FC_WORD('O', 'P', 'T', 'I'):
		return high == FC_WORD('O', 'N', 'S', ' ');
	case FC_WORD('C', 'O', 'N', 'N'):
		return high == FC_WORD('E', 'C', 'T', ' ');
	}
	return false;
}

FC_INLINE bool is_http_response(u64 head)
{
	return (head & 0xffffffffffffffULL) == (FC_WORD('H', 'T', 'T', 'P') | FC_WORD('/', '1', '.', 0) << 32);
}

/* Fewer bytes than eight: could they begin a request of any protocol? */
FC_INLINE bool may_begin_request(u8 c)
{
	return c == 'G' || c == 'P' || c == 'H' || c == 'D' || c == 'O' || c == 'C' || c == 'T' || c == '*';
}

#define FC_HEALTH_WINDOW 384

/* "kube-probe/" has eleven bytes, so wherever it begins an offset divisible by four has eight of them behind it. The
 * three others are compared too: Host: kube-prometheus is no health check. */
FC_INLINE bool is_health_check(const u8 *head, u32 cap)
{
	u32 i;

	for (i = 16; i + 16 <= FC_HEALTH_WINDOW; i += 4) {
		u64 word = *(u32 *)(head + i) | (u64)*(u32 *)(head + i + 4) << 32;
		u32 before = *(u32 *)(head + i - 4);
		u32 after = *(u32 *)(head + i + 8);

		if (i + 11 > cap)
			return false;
		if (word == FC_WORD8('k', 'u', 'b', 'e', '-', 'p', 'r', 'o'))
			return (after & 0xffffff) == FC_WORD('b', 'e', '/', 0);
		if (word == FC_WORD8('u', 'b', 'e', '-', 'p', 'r', 'o', 'b'))
			return before >> 24 == 'k' && (after & 0xffff) == FC_WORD('e', '/', 0, 0);
		if (word == FC_WORD8('b', 'e', '-', 'p', 'r', 'o', 'b', 'e'))
			return before >> 16 == FC_WORD('k', 'u', 0, 0) && (after & 0xff) == '/';
		if (word == FC_WORD8('e', '-', 'p', 'r', 'o', 'b', 'e', '/'))
			return before >> 8 == FC_WORD('k', 'u', 'b', 0);
	}
	return false;
}

#endif
