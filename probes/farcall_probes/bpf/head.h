/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Request heads that do not end within the record: shipped at request time, in pieces as the calls bring them.
 *
 * A 2 KB token before `traceparent` is ordinary. Nothing is looked at as long as the whole request fits the record.
 */
#ifndef FARCALL_HEAD_H
#define FARCALL_HEAD_H

#include "commands.h"
#include "emit.h"
#include "io.h"

/* Of one head. Servers that read a few bytes a time would fill the ring with empty pages; past this the head is cut. */
#define FC_HEAD_PARTS 8
/* Heads beyond 16 KB are refused by nearly every server; what follows is body. */
#define FC_HEAD_MAX (2 * FC_STRIDE_HEAD)

FC_INLINE bool ends_head(struct call *c)
{
	u64 last = (c->pieces - 1) & (CALL_PIECES - 1);
	u64 len = c->len[0];
	u64 base = c->base[0];
	u32 word = 0;

	if (c->pieces > 1) /* the last piece of several: taken for a body */
		return false;
	if (last || len < 4)
		return false;
	read_user(&word, 4, (void *)(base + len - 4));
	return word == (u32)FC_CRLFCRLF;
}

FC_INLINE void ship_call(struct call *c, struct conn *k, u32 offset)
{
	u32 i;

#pragma unroll
	for (i = 0; i < CALL_PIECES; i++) {
		if (i >= c->pieces || !c->len[i])
			break;
		if (k->parts >= FC_HEAD_PARTS) {
			if (!(k->large.x.flags & FC_FLAG_CUT))
				count(c, FC_COUNT_HEAD_CUT);
			k->large.x.flags |= FC_FLAG_CUT;
			k->head = HEAD_ENDED;
			return;
		}
		ship_head(c, k, (void *)c->base[i], true, c->len[i], offset);
		offset += c->len[i];
	}
	if (ends_head(c) || offset >= FC_HEAD_MAX)
		k->head = HEAD_ENDED;
}

/* Words and lines of a head that are looked at; one of more lines than this has room for is shipped. */
#define FC_HEAD_LINES (FC_LARGE_REQ / 8 + 25)

/* Whether the head ends in the record. Sets where the request does then, as far as its head says. */
FC_INLINE bool find_head_end(struct conn *k)
{
	struct commands *place = &k->commands;
	const u8 *head = k->large.req;
	u64 cap = k->large.x.req_cap;
	u64 at, length;
	u32 i;

	FC_CLAMP(cap, FC_LARGE_REQ);
	place->left = 0; /* where the line of the body's length is */
	place->owed = 0;
	at = *(volatile u32 *)&place->owed; /* unknown to the verifier, so that it follows one place, not each */
	FC_MASK(at, FC_CHUNK_MASK);
	for (i = 0; i < FC_HEAD_LINES; i++) {
		u64 marks = mark_byte(*(const u64 *)(head + at), '\n');
		u64 word;

		if (!marks) {
			at += 8;
			FC_MASK(at, FC_CHUNK_MASK);
			if (at > cap)
				return false;
			continue;
		}
		at += reach_mark(marks);
		FC_MASK(at, FC_CHUNK_MASK);
		if (at + 2 > cap)
			return false;
		word = *(const u64 *)(head + at);
		if ((u16)word == ('\r' | '\n' << 8))
			break;
		word |= FC_LOWER;
		if (word == FC_TRANSFER)
			place->owed = FC_OWED_UNKNOWN;
		if (word == FC_CONTENT && is_length_line(head + at))
			place->left = (u32)at;
	}
	length = place->left;
	place->left = 0;
	FC_CLAMP(length, FC_LARGE_REQ);
	if (length && read_length(place, head + length, cap - length) != TAKEN)
		place->owed = FC_OWED_UNKNOWN;
	place->at = (u32)at + 2 + place->owed;
	return i < FC_HEAD_LINES;
}

/* After a call's bytes were collected: `before` of the request's bytes came in earlier calls. True when further requests follow. */
FC_INLINE bool follow_head(struct call *c, struct conn *k, u64 before)
{
	if (k->head == HEAD_UNKNOWN && find_head_end(k)) {
		k->head = HEAD_ENDED;
		k->large.x.who.commands = 1;
		if (k->commands.owed < FC_OWED_UNKNOWN)
			return k->commands.at < before + c->total;
		lose_commands(k);
		return false;
	}
	c->now = read_clock();
	if (k->head == HEAD_UNKNOWN) {
		lose_commands(k);
		k->head = HEAD_SHIPPING;
		FC_CLAMP(before, FC_LARGE_REQ);
		if (before)
			ship_head(c, k, k->large.req, false, before, 0);
	}
	ship_call(c, k, (u32)before);
	return false;
}

#endif
