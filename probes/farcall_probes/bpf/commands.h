/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * How many commands a request has whose bytes go on behind its record: from length to length, or from line to line, so that no value
 * is read. What a command is to each protocol is in lengths.h.
 *
 * A client may send thousands at once, which are one exchange; the record holds the first few. What is a single command of a long
 * value is told from them by the same walk, of a few lengths. What lies behind the last step that the kernel allows is not counted.
 *
 * Who is asked may read them in portions, and answer the first before it reads the next; who asks may write so. While the walk stands
 * in the middle of a command the request goes on, whatever was answered meanwhile: the next portion is counted to it.
 */
#ifndef FARCALL_COMMANDS_H
#define FARCALL_COMMANDS_H

#include "lengths.h"
#include "pieces.h"

#define FC_LENGTHS_PER_STEP 64
#define FC_CHUNK 256 /* bytes that are read at once: many lengths of short arguments */

/* As FC_CLAMP of what is never more: one path to the verifier, not two. */
#define FC_MASK(n, mask) \
	do {             \
		FC_HIDE(n); \
		(n) &= (mask); \
	} while (0)
#define FC_HELD_MASK 31
#define FC_CHUNK_MASK 511
_Static_assert(FC_COMMANDS_HELD <= FC_HELD_MASK && FC_CHUNK + FC_COMMANDS_HELD <= FC_CHUNK_MASK, "FC_MASK");

/* More of the request is to come, because it ends in the middle of a command. */
FC_INLINE bool is_asking(const struct conn *k)
{
	const struct commands *place = &k->commands;

	return place->at > k->large.x.req_bytes || place->left || place->have;
}

/* The same of a pipeline. */
FC_INLINE bool is_asking_more(const struct conn *k)
{
	return k->large.x.who.commands > 1 && is_asking(k);
}

FC_INLINE void begin_commands(struct conn *k)
{
	*(u64 *)&k->commands.at = 0;
	*(u64 *)&k->commands.have = 0;
}

/* What comes behind is not counted any more. */
FC_INLINE void lose_commands(struct conn *k)
{
	begin_commands(k);
	if (!k->large.x.who.commands)
		k->large.x.who.commands = 1;
}

FC_INLINE bool is_counted(const struct conn *k)
{
	return k->commands.at || !k->large.x.who.commands;
}

/* Reads the bytes where the walk stands into the workspace, behind those that it held. Bytes of earlier calls are taken from the
 * record, as far as it has them. False when there are none. */
FC_INLINE bool read_chunk(struct call *c, struct conn *k)
{
	struct commands *place = &k->commands;
	u64 held = place->have;
	u64 from = (u64)place->at + held;
	u64 base, left, n;
	long failed;

	*(u64 *)c->buf = *(u64 *)place->bytes;
	*(u64 *)(c->buf + 8) = *(u64 *)(place->bytes + 8);
	*(u64 *)(c->buf + 16) = *(u64 *)(place->bytes + 16);
	*(u32 *)(c->buf + 24) = *(u32 *)(place->bytes + 24);
	c->chunk_bytes = 0;
	FC_MASK(held, FC_HELD_MASK);
	if (from < c->before) {
		left = (c->before - from) * is_below(c->before, k->large.x.req_cap + 1);
		n = left;
		FC_CLAMP(n, FC_CHUNK);
		FC_CLAMP(from, FC_LARGE_REQ);
		failed = read_kernel(c->buf + held, (u32)n, k->large.req + from);
	} else {
		base = find_byte(c, from - c->before, &left);
		n = left;
		FC_CLAMP(n, FC_CHUNK);
		failed = read_user(c->buf + held, (u32)n, (void *)base);
	}
	FORGET(c, failed);
	FORGET(c, left);
	if (failed || !left)
		return false;
	n = left;
	FC_CLAMP(n, FC_CHUNK);
	n += held;
	*(u64 *)(c->buf + n) = 0;
	*(u64 *)(c->buf + n + 8) = 0;
	place->have = 0;
	c->chunk = place->at;
	c->chunk_bytes = n;
	c->chunk_ends = is_below(left, FC_CHUNK + 1);
	return true;
}

/* What is there from `off` on tells nothing yet: more of it comes in another piece, or call. */
FC_INLINE bool hold_chunk(struct call *c, struct commands *place)
{
	u64 off = (u64)place->at - c->chunk;
	u64 n = c->chunk_bytes - off;
	u32 i;

	FC_MASK(off, FC_CHUNK_MASK);
	if (n > FC_COMMANDS_HELD)
		return false;
#pragma unroll
	for (i = 0; i < FC_COMMANDS_HELD; i += 4)
		*(u32 *)(place->bytes + i) = *(u32 *)(c->buf + off + i);
	place->have = (u32)n;
	c->chunk_bytes = 0;
	return true;
}

/* False where nothing follows. */
FC_INLINE bool take_length(struct call *c, struct conn *k)
{
	struct commands *place = &k->commands;
	u64 off = (u64)place->at - c->chunk;
	u64 n = c->chunk_bytes - off;
	enum taken taken;

	if (off >= c->chunk_bytes || (n < FC_LENGTH_BYTES && !c->chunk_ends)) {
		if (!read_chunk(c, k))
			return false;
		off = 0;
		n = c->chunk_bytes;
	}
	FORGET(c, off);
	FORGET(c, n);
	FC_MASK(off, FC_CHUNK_MASK);
	taken = take_command(c, k, c->buf + off, n);
	if (taken == TAKEN_PART)
		return hold_chunk(c, place);
	return taken == TAKEN;
}

/* True when there may be more. */
FC_INLINE bool count_commands(struct call *c, struct conn *k)
{
	struct commands *place = &k->commands;
	u32 i;

	if (has_more_to_write(c) && place->at + place->have >= c->before + c->total) {
		c->before += c->total;
		c->chunk_bytes = 0;
		go_on_writing(c);
		if (c->before + c->total > k->large.x.req_bytes)
			k->large.x.req_bytes = c->before + c->total;
	}
	for (i = 0; i < FC_LENGTHS_PER_STEP; i++)
		if (!take_length(c, k))
			break;
	if (i == FC_LENGTHS_PER_STEP)
		return true;
	if (place->at + place->have < c->before + c->total)
		lose_commands(k);
	return has_more_to_write(c) && is_counted(k);
}

#endif
