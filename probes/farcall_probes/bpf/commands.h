/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * How many commands of Redis a request has, whose bytes go on behind its record: from length to length, so that no value is read.
 *
 * A client may send thousands at once, which are one exchange; the record holds the first few. What is a single command of a long
 * value is told from them by the same walk, of four lengths. Commands behind the last step that the kernel allows are not counted,
 * nor are those behind a length that is cut by the seam of two pieces of one call.
 */
#ifndef FARCALL_COMMANDS_H
#define FARCALL_COMMANDS_H

#include "io.h"

#define FC_LENGTHS_PER_STEP 64
#define FC_LENGTH_BYTES 16 /* hold any length */
#define FC_CHUNK 256 /* bytes that are read at once: many lengths of short arguments */

/* Where the walk stands. Behind the bytes of a request and a reply of the small class, in the large one's response. */
struct commands {
	u32 at;   /* where in the request the next length begins */
	u32 left; /* arguments of the command that are to come */
	u64 have; /* bytes of that length which came in earlier calls */
	u64 bytes[2];
	u64 chunk; /* where in the request the bytes in the workspace begin, of this call, and how many they are */
	u64 chunk_bytes;
};

FC_INLINE struct commands *find_commands(struct conn *k)
{
	return (struct commands *)k->large.resp;
}

_Static_assert(__builtin_offsetof(struct fc_small, resp) + FC_SMALL_RESP <= __builtin_offsetof(struct fc_large, resp), "find_commands");
_Static_assert(sizeof(struct commands) <= FC_LARGE_RESP, "find_commands");

/* Where in user memory the byte `at` of the call is. Returns how many follow it in the same piece. */
FC_INLINE u64 find_bytes(struct call *c, u64 at, u64 *base)
{
	u64 n = 0;
	u32 i;

	*base = 0;
#pragma unroll
	for (i = 0; i < CALL_PIECES; i++) {
		if (i < c->pieces && !n) {
			if (at < c->len[i]) {
				*base = c->base[i] + at;
				n = c->len[i] - at;
			} else {
				at -= c->len[i];
			}
		}
	}
	FORGET(c, *base);
	FORGET(c, n);
	return n;
}

/* Reads the bytes at `place` into the workspace, behind those of them that earlier calls brought. False when there are none. */
FC_INLINE bool read_chunk(struct call *c, struct conn *k, struct commands *place)
{
	u64 early = place->at < c->before ? c->before - place->at : 0;
	u64 held = place->have;
	u64 base, n;

	place->have = 0;
	place->chunk_bytes = 0;
	if (early > held) { /* only the record has them */
		held = 0;
		base = place->at;
		n = (u64)k->large.x.req_cap - base;
		FC_CLAMP(base, FC_LARGE_REQ - FC_CHUNK);
		FC_CLAMP(n, FC_CHUNK);
		if (base != place->at || base + early > k->large.x.req_cap)
			return false;
		read_kernel(c->buf, (u32)n, k->large.req + base);
	} else {
		held = early;
		n = find_bytes(c, early ? 0 : place->at - c->before, &base);
		*(u64 *)c->buf = place->bytes[0];
		*(u64 *)(c->buf + 8) = place->bytes[1];
		FC_CLAMP(held, FC_LENGTH_BYTES);
		FC_CLAMP(n, FC_CHUNK);
		if (!n || read_user(c->buf + held, (u32)n, (void *)base))
			return false;
	}
	n += held;
	FC_CLAMP(n, FC_CHUNK + FC_LENGTH_BYTES);
	*(u64 *)(c->buf + n) = 0;
	*(u64 *)(c->buf + n + 8) = 0;
	place->chunk = place->at;
	place->chunk_bytes = n;
	return true;
}

/* The next length: of an array, which is a command, or of an argument. False where none is whole. */
FC_INLINE bool take_length(struct call *c, struct conn *k, struct commands *place)
{
	const u64 ones = 0x0101010101010101ULL;
	u64 begins = !place->left;
	u64 off = place->at - place->chunk;
	u64 lo, digits, marks, n, value;

	if (off + FC_LENGTH_BYTES > place->chunk_bytes && (off || !place->chunk_bytes)) {
		if (!read_chunk(c, k, place))
			return false;
		off = 0;
	}
	FORGET(c, off);
	FC_CLAMP(off, FC_CHUNK);
	lo = *(u64 *)(c->buf + off);
	/* Eight bytes at once: '0' becomes 0, and the high bit of what is above 9 is set. */
	digits = (lo >> 8 | (u64)c->buf[off + 8] << 56) ^ '0' * ones;
	marks = ((digits + 0x76 * ones) | digits) & ones << 7;
	n = (((marks & -marks) - 1) & ones) * ones >> 56; /* bytes up to the first mark, and that one */
	if ((u8)lo != (begins ? '*' : '$') || !marks || n < 2 || (u8)(digits >> (8 * (n - 1))) != ('\r' ^ '0')) {
		if (!off && place->chunk_bytes < FC_LENGTH_BYTES) { /* the rest of it may come in another call */
			place->have = place->chunk_bytes;
			place->bytes[0] = lo;
			place->bytes[1] = *(u64 *)(c->buf + 8);
		}
		return false;
	}
	digits <<= 8 * (9 - n); /* as if zeroes stood before them */
	value = (digits * 10 + (digits >> 8)) & 0x00ff00ff00ff00ffULL;
	value = (value * 100 + (value >> 16)) & 0x0000ffff0000ffffULL;
	value = (u32)(value * 10000 + (value >> 32));
	place->at += n + 2;
	if (begins) {
		place->left = value;
		k->small.x.who.commands += k->small.x.who.commands < 0xffff;
	} else {
		place->at += value + 2;
		place->left--;
	}
	return true;
}

/* True when there may be more. */
FC_INLINE bool count_commands(struct call *c, struct conn *k)
{
	struct commands *place = find_commands(k);
	u32 i;

	if (c->more && c->dir == DIR_OUT && place->at >= c->before + c->total) {
		c->before += c->total;
		place->chunk_bytes = 0;
		set_vector(c, c->iov + CALL_PIECES * sizeof(struct user_iovec), c->iov_left - CALL_PIECES, ~0ULL);
	}
	for (i = 0; i < FC_LENGTHS_PER_STEP; i++)
		if (!take_length(c, k, place))
			return c->more && c->dir == DIR_OUT && place->at >= c->before + c->total;
	return true;
}

#endif
