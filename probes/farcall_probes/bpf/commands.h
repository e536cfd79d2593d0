/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * How many commands of Redis, or statements of PostgreSQL, a request has whose bytes go on behind its record: from length to
 * length, so that no value is read.
 *
 * A client may send thousands at once, which are one exchange; the record holds the first few. What is a single command of a long
 * value is told from them by the same walk, of four lengths. What lies behind the last step that the kernel allows is not counted,
 * nor what lies behind a length that is cut by the seam of two pieces of one call.
 */
#ifndef FARCALL_COMMANDS_H
#define FARCALL_COMMANDS_H

#include "io.h"
#include "postgres.h"

#define FC_LENGTHS_PER_STEP 64
#define FC_LENGTH_BYTES 16 /* hold any length */
#define FC_CHUNK 256 /* bytes that are read at once: many lengths of short arguments */

/* Where the walk stands. Behind the bytes of a request and a reply of the small class, in the large one's response. */
struct commands {
	u32 at;   /* where in the request the next length begins */
	u32 left; /* arguments of the command of Redis that are to come */
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

/* Where in user memory the byte `at` of the call is. Returns how many follow it in the same piece. Computed: branches would be paths
 * to the verifier, at each length. */
FC_INLINE u64 find_bytes(struct call *c, u64 at, u64 *base)
{
	u64 is_sought = 1;
	u64 n = 0;
	u32 i;

	*base = 0;
#pragma unroll
	for (i = 0; i < CALL_PIECES; i++) {
		u64 is_here = is_sought & is_below(i, c->pieces) & is_below(at, c->len[i]);

		*base += is_here * (c->base[i] + at);
		n += is_here * (c->len[i] - at);
		is_sought ^= is_here;
		at -= is_sought * c->len[i];
	}
	return n;
}

FC_INLINE void note_chunk(struct call *c, struct commands *place, u64 n)
{
	FC_CLAMP(n, FC_CHUNK + FC_LENGTH_BYTES);
	*(u64 *)(c->buf + n) = 0;
	*(u64 *)(c->buf + n + 8) = 0;
	place->chunk = place->at;
	place->chunk_bytes = n;
}

/* Reads the bytes at `place` into the workspace, behind those of them that earlier calls brought. False when there are none. */
FC_INLINE bool read_chunk(struct call *c, struct commands *place)
{
	u64 held = place->at < c->before ? c->before - place->at : 0;
	u64 is_there = held <= place->have;
	u64 base, n;

	FORGET(c, held);
	FORGET(c, is_there);
	n = find_bytes(c, (u64)place->at + held - c->before, &base) * is_there;
	place->have = 0;
	place->chunk_bytes = 0;
	*(u64 *)c->buf = place->bytes[0];
	*(u64 *)(c->buf + 8) = place->bytes[1];
	FC_CLAMP(held, FC_LENGTH_BYTES);
	FC_CLAMP(n, FC_CHUNK);
	if (!n || read_user(c->buf + held, (u32)n, (void *)base))
		return false;
	note_chunk(c, place, n + held);
	return true;
}

/* The same of bytes that came in earlier calls, when only the record has them. */
FC_INLINE void read_record(struct call *c, struct conn *k, struct commands *place)
{
	u64 base = place->at;
	u64 n = (u64)k->large.x.req_cap - base;

	if (place->at >= c->before || c->before - place->at <= place->have || c->before > k->large.x.req_cap)
		return;
	FC_CLAMP(base, FC_LARGE_REQ - FC_CHUNK);
	FC_CLAMP(n, FC_CHUNK);
	if (base == place->at && !read_kernel(c->buf, (u32)n, k->large.req + base))
		note_chunk(c, place, n);
}

/* A length of Redis: of an array, which is a command, or of an argument. False where none is whole. lo, hi: its first nine bytes. */
FC_INLINE bool take_redis(struct call *c, struct fc_who *who, struct commands *place, u64 lo, u64 hi)
{
	const u64 ones = 0x0101010101010101ULL;
	u64 begins = is_below(place->left, 1);
	/* Eight bytes at once: '0' becomes 0, and the high bit of what is above 9 is set. */
	u64 digits = (lo >> 8 | hi << 56) ^ '0' * ones;
	u64 marks = ((digits + 0x76 * ones) | digits) & ones << 7;
	u64 n = (((marks & -marks) - 1) & ones) * ones >> 56; /* bytes up to the first mark, and that one; 8: there may be none */
	u64 wrong = (u8)lo ^ ('$' + begins * ('*' - '$'));
	u64 value;

	wrong |= (u8)(digits >> (8 * (n - 1) & 63)) ^ ('\r' ^ '0');
	wrong |= is_below(n, 2);
	FORGET(c, wrong);
	if (wrong)
		return false;
	digits <<= 8 * (9 - n) & 63; /* as if zeroes stood before them */
	value = (digits * 10 + (digits >> 8)) & 0x00ff00ff00ff00ffULL;
	value = (value * 100 + (value >> 16)) & 0x0000ffff0000ffffULL;
	value = (u32)(value * 10000 + (value >> 32));
	place->left = value * begins + (place->left - 1) * (1 - begins);
	place->at += n + 2 + (value + 2) * (1 - begins);
	who->commands += begins * is_below(who->commands, 0xffff);
	return true;
}

/* A message of PostgreSQL, of which `have` bytes are there. False where none begins. */
FC_INLINE bool take_postgres(struct call *c, struct fc_who *who, struct commands *place, u64 lo, u64 have)
{
	u64 length = swap32((u32)(lo >> 8));
	u64 type = (u8)lo;
	u64 wrong = is_below(have, FC_POSTGRES_HEADER) | is_below(length, 4) | (length & -FC_POSTGRES_LONGEST);

	wrong |= (type >> 6 ^ 1) | (~(FC_POSTGRES_FRONT >> (type & 63)) & 1);
	FORGET(c, wrong);
	if (wrong)
		return false;
	place->at += 1 + length;
	who->commands += (FC_POSTGRES_ASKS >> (type & 63) & 1) * is_below(who->commands, 0xffff);
	return true;
}

/* False where no length is whole. */
FC_INLINE bool take_length(struct call *c, struct conn *k, struct commands *place)
{
	struct fc_who *who = &k->large.x.who;
	u64 off = place->at - place->chunk;
	bool is_whole;
	u64 lo, hi;

	if (off + FC_LENGTH_BYTES > place->chunk_bytes && (off || !place->chunk_bytes)) {
		if (!read_chunk(c, place))
			return false;
		off = 0;
	}
	FORGET(c, off);
	FC_CLAMP(off, FC_CHUNK);
	lo = *(u64 *)(c->buf + off);
	hi = *(u64 *)(c->buf + off + 8);
	if (k->large.x.proto == FC_PROTO_POSTGRES)
		is_whole = take_postgres(c, who, place, lo, place->chunk_bytes - off);
	else
		is_whole = take_redis(c, who, place, lo, hi);
	if (is_whole || off || place->chunk_bytes >= FC_LENGTH_BYTES)
		return is_whole;
	place->have = place->chunk_bytes; /* the rest of it may come in another call */
	place->bytes[0] = lo;
	place->bytes[1] = hi;
	return false;
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
	read_record(c, k, place);
	for (i = 0; i < FC_LENGTHS_PER_STEP; i++)
		if (!take_length(c, k, place))
			return c->more && c->dir == DIR_OUT && place->at >= c->before + c->total;
	return true;
}

#endif
