/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Requests that are told by lines: heads of HTTP/1, and memcached's text and meta commands. Of a line are read its first bytes, and
 * the one number that says how many bytes follow that are no lines.
 */
#ifndef FARCALL_LINES_H
#define FARCALL_LINES_H

#include "lengths.h"

#define FC_LINE_WINDOW 64 /* bytes that are searched at once: most lines */
#define FC_LINE_BEGIN 16  /* that tell whether the next line matters */
#define FC_LINE_BYTES (FC_LINE_WINDOW + FC_LINE_BEGIN + 16) /* and its number */

#define FC_OWED_UNKNOWN (1u << 30)

/* Behind the first line's end, or the first space where `spaces` is ~0; FC_LINE_WINDOW + 1 where there is none. */
FC_INLINE u64 find_stop(struct call *c, const u8 *bytes, u64 spaces)
{
	volatile u64 *end = &c->forgotten; /* as FORGET: the ways out of the loop are one to the verifier */
	u32 i;

	*end = FC_LINE_WINDOW + 1;
#pragma unroll
	for (i = 0; i < FC_LINE_WINDOW / 8; i++) {
		u64 word = *(const u64 *)(bytes + 8 * i);
		u64 marks = mark_byte(word, '\n') | (mark_byte(word, ' ') & spaces);

		if (marks) {
			*end = 8 * i + reach_mark(marks);
			break;
		}
	}
	return *end;
}

/* A line goes on behind what was searched, or is there. */
FC_INLINE enum taken pass_middle(struct commands *place, u64 n)
{
	FC_CLAMP(n, FC_LINE_WINDOW);
	place->at += n;
	return TAKEN;
}

/* The number at `bytes`, which `n` bytes are of. */
FC_INLINE enum taken read_owed(struct commands *place, const u8 *bytes, u64 n)
{
	u64 word = *(const u64 *)bytes;
	u64 marks = mark_not_digits(word);
	u64 reach = reach_mark(marks);

	if (reach > n)
		return TAKEN_PART;
	if (!marks || reach < 2)
		return TAKEN_NOT;
	place->owed = (u32)read_digits(word, reach - 1);
	return TAKEN;
}

/* Headers that say where their request's body ends: RFC 9112, 6. A chunked body's end is not looked for. */
#define FC_TRANSFER FC_WORD8('t', 'r', 'a', 'n', 's', 'f', 'e', 'r')
#define FC_CONTENT FC_WORD8('c', 'o', 'n', 't', 'e', 'n', 't', '-')
#define FC_LENGTH FC_WORD8(0, 'l', 'e', 'n', 'g', 't', 'h', ':')

/* Of a line that begins with FC_CONTENT. */
FC_INLINE bool is_length_line(const u8 *line)
{
	return (*(const u64 *)(line + 8) | FC_LOWER) << 8 == FC_LENGTH;
}

FC_INLINE enum taken read_length(struct commands *place, const u8 *line, u64 n)
{
	u64 at = FC_LINE_BEGIN - 1 + is_below((u64)line[FC_LINE_BEGIN - 1] ^ ' ', 1);

	return read_owed(place, line + at, n - at);
}

/* A line of a head, of which `n` bytes are there. */
FC_INLINE enum taken take_header(struct call *c, struct commands *place, const u8 *line, u64 n)
{
	u64 word = *(const u64 *)line;
	u64 has_end = mark_byte(word, '\n') | mark_byte(*(const u64 *)(line + 8), '\n');
	u64 is_short = is_below(n, FC_LINE_BEGIN) & is_below(has_end >> 7, 1);

	FORGET(c, is_short);
	if (n >= 2 && (u16)word == ('\r' | '\n' << 8)) {
		place->at += 2 + place->owed;
		place->left = 0;
		return TAKEN;
	}
	if (is_short)
		return TAKEN_PART;
	word |= FC_LOWER;
	if (word == FC_TRANSFER)
		return TAKEN_NOT;
	return word == FC_CONTENT && is_length_line(line) ? read_length(place, line, n) : TAKEN;
}

/* Of a request's first word: computed, see is_http_request. */
FC_INLINE u64 is_method(u64 word)
{
	u64 w = (u32)word;

	return is_below(w ^ FC_WORD('G', 'E', 'T', ' '), 1) | is_below(w ^ FC_WORD('P', 'O', 'S', 'T'), 1) |
	       is_below(w ^ FC_WORD('P', 'U', 'T', ' '), 1) | is_below(w ^ FC_WORD('H', 'E', 'A', 'D'), 1) |
	       is_below(w ^ FC_WORD('D', 'E', 'L', 'E'), 1) | is_below(w ^ FC_WORD('P', 'A', 'T', 'C'), 1) |
	       is_below(w ^ FC_WORD('O', 'P', 'T', 'I'), 1) | is_below(w ^ FC_WORD('T', 'R', 'A', 'C'), 1) |
	       is_below(w ^ FC_WORD('C', 'O', 'N', 'N'), 1);
}

/* What is at hand of a pipeline of HTTP/1, `n` bytes: to the next line. */
FC_INLINE enum taken take_http(struct call *c, struct fc_who *who, struct commands *place, const u8 *bytes, u64 n)
{
	u64 begins = is_below(place->left, 1);
	u64 wrong = begins & (is_method(*(const u64 *)bytes) ^ 1);
	u64 taken;
	u64 end;

	FORGET(c, wrong);
	FORGET(c, begins);
	if (begins && n < 4)
		return TAKEN_PART;
	if (wrong)
		return TAKEN_NOT;
	place->left = 1;
	place->owed *= 1 - begins;
	who->commands += begins & is_below(who->commands, 0xffff);
	end = find_stop(c, bytes, 0);
	FORGET(c, end);
	if (end > FC_LINE_WINDOW || end > n)
		return pass_middle(place, n);
	place->at += end;
	taken = take_header(c, place, bytes + end, n - end);
	FORGET(c, taken);
	place->at -= is_below((u64)taken ^ TAKEN_PART, 1); /* that line's end is held with it */
	return taken;
}

/* Of a command of memcached: how many spaces stand before the length of a value. */
FC_INLINE u64 count_spaces(u64 word)
{
	u64 w = (u32)word;
	u64 stores = is_below(w ^ FC_WORD('s', 'e', 't', ' '), 1) | is_below(w ^ FC_WORD('a', 'd', 'd', ' '), 1) |
		     is_below(w ^ FC_WORD('c', 'a', 's', ' '), 1) | is_below(w ^ FC_WORD('r', 'e', 'p', 'l'), 1) |
		     is_below(w ^ FC_WORD('a', 'p', 'p', 'e'), 1) | is_below(w ^ FC_WORD('p', 'r', 'e', 'p'), 1);

	return 4 * stores + 2 * is_below((w & 0xffffff) ^ FC_WORD('m', 's', ' ', 0), 1);
}

/* What is at hand of memcached's commands: to the line's end, or to the length of the value behind it. `left`: one, and the spaces
 * that stand before that. */
FC_INLINE enum taken take_text(struct call *c, struct fc_who *who, struct commands *place, const u8 *bytes, u64 n)
{
	u64 word = *(const u64 *)bytes;
	u64 begins = is_below(place->left, 1);
	u64 wrong = begins & (is_below((word - 'a') & 0xff, 26) ^ 1);
	u64 end, left, taken;

	FORGET(c, wrong);
	FORGET(c, begins);
	if (begins && n < 4)
		return TAKEN_PART;
	if (wrong)
		return TAKEN_NOT;
	left = place->left + begins * (1 + count_spaces(word));
	place->owed *= 1 - begins;
	who->commands += begins & is_below(who->commands, 0xffff);
	end = find_stop(c, bytes, -is_below(1, left));
	place->left = (u32)left;
	FORGET(c, end);
	if (end > FC_LINE_WINDOW || end > n)
		return pass_middle(place, n);
	place->at += end;
	if (bytes[end - 1] == '\n') {
		place->at += place->owed;
		place->left = 0;
		return TAKEN;
	}
	place->left--;
	if (place->left > 1)
		return TAKEN;
	taken = read_owed(place, bytes + end, n - end);
	FORGET(c, taken);
	place->owed += 2; /* its own line's end */
	end = is_below(taken ^ TAKEN_PART, 1);
	place->at -= end; /* that space is held with it */
	place->left += end;
	return taken;
}

#endif
