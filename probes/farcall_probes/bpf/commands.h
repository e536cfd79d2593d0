/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * How many commands a request has whose bytes go on behind its record: from length to length, or from line to line, so that no value
 * is read. What a command is to each protocol is in lengths.h and lines.h.
 *
 * A client may send thousands at once, which are one exchange; the record holds the first few. What is a single command of a long
 * value is told from them by the same walk, of a few lengths. What lies behind the last step that the kernel allows is not counted.
 *
 * Who is asked may read them in portions, and answer the first before it reads the next; who asks may write so. While the walk stands
 * in the middle of a command the request goes on, whatever was answered meanwhile: the next portion is counted to it.
 */
#ifndef FARCALL_COMMANDS_H
#define FARCALL_COMMANDS_H

#include "lines.h"
#include "pieces.h"

#define FC_LENGTHS_PER_STEP 52
#define FC_CHUNK 384 /* bytes that are read at once: many lengths of short arguments */

/* As FC_CLAMP of what is never more: one path to the verifier, not two. */
#define FC_MASK(n, mask) \
	do {             \
		FC_HIDE(n); \
		(n) &= (mask); \
	} while (0)
#define FC_HELD_MASK 31
#define FC_CHUNK_MASK 1023 /* the record may be one */
_Static_assert(FC_COMMANDS_HELD <= FC_HELD_MASK && FC_LARGE_REQ <= FC_CHUNK_MASK && FC_CHUNK <= FC_CHUNK_MASK / 2, "FC_MASK");
_Static_assert(FC_CHUNK_MASK + FC_LINE_BYTES + 8 <= 2 * FC_LARGE_REQ, "struct call's buf");

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

FC_INLINE void note_chunk(struct call *c, struct commands *place, u64 n)
{
	FC_MASK(n, FC_CHUNK_MASK);
	*(u64 *)(c->buf + n) = 0;
	*(u64 *)(c->buf + n + 8) = 0;
	c->chunk = place->at;
	c->chunk_bytes = n;
	place->have = 0;
}

/* Takes bytes that came in earlier calls, and of which only the record has any. */
FC_INLINE void take_record(struct call *c, struct conn *k)
{
	struct commands *place = &k->commands;
	u64 from = place->at;
	u64 n = c->before - from;

	if (place->have || from >= c->before || c->before > k->large.x.req_cap)
		return;
	FC_CLAMP(from, FC_LARGE_REQ);
	FC_CLAMP(n, FC_LARGE_REQ - from);
	FC_CLAMP(n, FC_LARGE_REQ);
	if (read_kernel(c->buf, (u32)n, k->large.req + from))
		return;
	note_chunk(c, place, n);
	c->chunk_ends = 1;
}

/* Reads the bytes where the walk stands into the workspace, behind those that it held. False when there are none. */
FC_INLINE bool read_chunk(struct call *c, struct commands *place)
{
	u64 held = place->have;
	u64 from = (u64)place->at + held - c->before;
	u64 left;
	u64 base = find_byte(c, from, &left);
	u64 n = FC_CHUNK - is_below(left, FC_CHUNK) * (FC_CHUNK - left);

	*(u64 *)c->buf = *(u64 *)place->bytes;
	*(u64 *)(c->buf + 8) = *(u64 *)(place->bytes + 8);
	*(u64 *)(c->buf + 16) = *(u64 *)(place->bytes + 16);
	*(u32 *)(c->buf + 24) = *(u32 *)(place->bytes + 24);
	c->chunk_bytes = 0;
	FC_MASK(held, FC_HELD_MASK);
	FC_MASK(n, FC_CHUNK_MASK / 2);
	if (!n || from >> 63 || read_user(c->buf + held, (u32)n, (void *)base))
		return false;
	c->chunk_ends = is_below(left, FC_CHUNK + 1);
	note_chunk(c, place, n + held);
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

#define FC_REDIS_AT_ONCE 3 /* lengths: a SET's, of which clients send the most */

/* What does not follow at hand is taken at its turn, and so is what is none. */
FC_INLINE enum taken take_redis_lengths(struct call *c, struct fc_who *who, struct commands *place, const u8 *bytes, u64 n)
{
	u64 taken, off;
	u32 i;

#pragma unroll
	for (i = 0; i < FC_REDIS_AT_ONCE; i++) {
		taken = take_redis(c, who, place, n, *(const u64 *)bytes, *(const u64 *)(bytes + 8));
		if (taken != TAKEN)
			return i ? TAKEN : taken;
		off = (u64)*(volatile u32 *)&place->at - *(volatile u64 *)&c->chunk;
		n = *(volatile u64 *)&c->chunk_bytes;
		if (off + FC_LENGTH_BYTES > n)
			break;
		n -= off;
		FC_MASK(off, FC_CHUNK_MASK);
		bytes = c->buf + off;
	}
	return TAKEN;
}

/* One length or line, of which `n` bytes are there. */
FC_INLINE enum taken take_command(struct call *c, struct conn *k, const u8 *bytes, u64 n)
{
	struct fc_who *who = &k->large.x.who;
	struct commands *place = &k->commands;
	u64 lo = *(const u64 *)bytes;
	u64 hi = *(const u64 *)(bytes + 8);

	if (k->large.x.proto == FC_PROTO_HTTP1)
		return take_http(c, who, place, bytes, n);
	if (k->large.x.proto == FC_PROTO_MEMCACHED)
		return k->large.req[0] == FC_MEMCACHED_ASK ? take_binary(c, who, place, n, lo, hi) : take_text(c, who, place, bytes, n);
	if (k->large.x.proto == FC_PROTO_POSTGRES)
		return take_postgres(c, who, place, n, lo);
	return take_redis_lengths(c, who, place, bytes, n);
}

/* Bytes that tell where a command goes on. */
FC_INLINE u64 measure_least(const struct conn *k)
{
	u64 proto = k->large.x.proto;
	u64 has_lines = is_below(proto ^ FC_PROTO_HTTP1, 1) | is_below(proto ^ FC_PROTO_MEMCACHED, 1);

	return FC_LENGTH_BYTES + has_lines * (FC_LINE_BYTES - FC_LENGTH_BYTES);
}

/* Or the bytes that it is in: apart, so that the verifier follows what is taken once. False where nothing follows. */
FC_INLINE bool take_length(struct call *c, struct conn *k)
{
	struct commands *place = &k->commands;
	u64 off = (u64)place->at - c->chunk;
	u64 n = c->chunk_bytes - off;
	u64 taken;

	if (off >= c->chunk_bytes || (n < measure_least(k) && !c->chunk_ends))
		return read_chunk(c, place);
	FORGET(c, n);
	FC_MASK(off, FC_CHUNK_MASK);
	taken = take_command(c, k, c->buf + off, n);
	FORGET(c, taken);
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
	take_record(c, k);
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
