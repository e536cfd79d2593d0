/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Where a command ends, as its first bytes say it: what commands.h walks by. */
#ifndef FARCALL_LENGTHS_H
#define FARCALL_LENGTHS_H

#include "memcached.h"
#include "postgres.h"

#define FC_LENGTH_BYTES 16 /* hold any length */

enum taken {
	TAKEN_NOT, /* none begins there */
	TAKEN,
	TAKEN_PART, /* too few bytes to tell */
};

/* The length of the first argument behind that of an array, both of one digit: nearly every command's. */
#define FC_REDIS_FIRST FC_WORD('$', 0, '\r', '\n')
#define FC_REDIS_FIRST_MASK 0xffff00ffULL

/* A length of Redis: of an array, which is a command, with its first argument's where that is short, or of an argument. `n` bytes of
 * it are there, lo and hi the first of them. */
FC_INLINE enum taken take_redis(struct call *c, struct fc_who *who, struct commands *place, u64 n, u64 lo, u64 hi)
{
	u64 begins = is_below(place->left, 1);
	u64 word = lo >> 8 | hi << 56;
	u64 reach = reach_mark(mark_not_digits(word));
	u64 value = read_digits(word, reach - 1);
	u64 wrong = (u8)lo ^ ('$' + begins * ('*' - '$'));
	u64 digit = (lo >> 40 & 0xff) - '0';
	u64 first;
	u64 bad = ((u8)(word >> (8 * (reach - 1) & 63)) ^ '\r') | is_below(reach, 2);

	FORGET(c, wrong);
	FORGET(c, bad);
	if (wrong)
		return TAKEN_NOT;
	if (bad)
		return n < FC_LENGTH_BYTES ? TAKEN_PART : TAKEN_NOT;
	first = is_below((lo >> 32 & FC_REDIS_FIRST_MASK) ^ FC_REDIS_FIRST, 1) & is_below(digit, 10) & is_below(reach, 3) & begins;
	place->left = value * begins + (place->left - 1) * (1 - begins) - first;
	place->at += reach + 2 + (value + 2) * (1 - begins) + first * (4 + digit + 2);
	who->commands += begins * is_below(who->commands, 0xffff);
	return TAKEN;
}

/* A command of memcached's binary protocol. */
FC_INLINE enum taken take_binary(struct call *c, struct fc_who *who, struct commands *place, u64 n, u64 lo, u64 hi)
{
	u64 length = swap32((u32)hi);
	u64 wrong = (u8)lo ^ FC_MEMCACHED_ASK;

	FORGET(c, wrong);
	if (wrong)
		return TAKEN_NOT;
	if (n < 12)
		return TAKEN_PART;
	if (length >> 30) /* as values are at most */
		return TAKEN_NOT;
	place->at += FC_MEMCACHED_HEADER + length;
	who->commands += is_below(who->commands, 0xffff);
	return TAKEN;
}

/* A message of PostgreSQL; `left` says that a round trip has not ended with it. */
FC_INLINE enum taken take_postgres(struct call *c, struct fc_who *who, struct commands *place, u64 n, u64 lo)
{
	u64 length = swap32((u32)(lo >> 8));
	u64 type = (u8)lo;
	u64 wrong = (type >> 6 ^ 1) | (~(FC_POSTGRES_FRONT >> (type & 63)) & 1);
	u64 bad = is_below(length, 4) | (length & -FC_POSTGRES_LONGEST);

	FORGET(c, wrong);
	FORGET(c, bad);
	if (wrong)
		return TAKEN_NOT;
	if (n < FC_POSTGRES_HEADER)
		return TAKEN_PART;
	if (bad)
		return TAKEN_NOT;
	place->at += 1 + length;
	place->left = ~(FC_POSTGRES_ENDS >> (type & 63)) & 1;
	who->commands += (FC_POSTGRES_ASKS >> (type & 63) & 1) * is_below(who->commands, 0xffff);
	return TAKEN;
}

#endif
