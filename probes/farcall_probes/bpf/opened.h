/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * When each connection was opened and by which end; of one older than the agent, when it was met first. This is remembered of many
 * more connections than struct conn is: whose state had to go for others' is met again under its number, with its name.
 *
 * An array of rows, each for the socks of one hash, and not a hash table of the kernel's, which takes five times the room. In a
 * full row the oldest goes. Two CPUs may take one place at once: one of both is forgotten then, the other's time is the
 * other's, some nanoseconds off.
 */
#ifndef FARCALL_OPENED_H
#define FARCALL_OPENED_H

#include "maps.h"

struct opened {
	u64 sk; /* and enum connector and OPENED_*, in bits that are 0 of an address */
	u64 ts_ns;
};

#define FC_OPENED_WAYS 8

struct opened_row {
	struct opened ways[FC_OPENED_WAYS];
};

_Static_assert(sizeof(struct opened_row) == SIZE_OPENED, "SIZE_OPENED");

/* Socks lie at multiples of a cache line (SLAB_HWCACHE_ALIGN). */
#define OPENED_CONNECTOR 3ULL
#define OPENED_LATE 4ULL  /* older than the agent */
#define OPENED_MET 8ULL   /* it has a number, and may have had exchanges */
#define OPENED_FLAGS 15ULL

/* Odd, else arbitrary: products keep all bits. */
#define FC_SPREAD_TIME 0x9E3779B97F4A7C15ULL
#define FC_SPREAD_SOCK 0xD6E8FEB86659FD93ULL

/* Exchanges of a connection that is met again are numbered on from its age in units of 16 us: no connection has had more by then. */
#define FC_AGE_SHIFT 14

FC_INLINE bool is_opened(const struct opened *o, u64 sk)
{
	return (o->sk & ~OPENED_FLAGS) == sk;
}

/* The connection's place, or the one that it is to have: see is_opened. */
FC_INLINE struct opened *place_opened(u64 sk)
{
	u32 hash = (u32)(sk * FC_SPREAD_SOCK >> 32) & (SIZE_OPENED_ROWS - 1);
	struct opened_row *row = map_lookup(MAP(MAP_OPENS), &hash);
	struct opened *oldest;
	u32 i;

	if (!row)
		return NULL;
	oldest = &row->ways[0];
	for (i = 0; i < FC_OPENED_WAYS; i++) {
		struct opened *o = &row->ways[i];

		if (is_opened(o, sk))
			return o;
		if (o->ts_ns < oldest->ts_ns) /* 0 of what is free */
			oldest = o;
	}
	return oldest;
}

/* NULL when nothing is remembered. */
FC_INLINE struct opened *find_opened(u64 sk)
{
	struct opened *o = place_opened(sk);

	return o && is_opened(o, sk) ? o : NULL;
}

FC_INLINE void set_opened(struct opened *o, u64 sk, u64 flags, u64 ts_ns)
{
	o->ts_ns = ts_ns;
	o->sk = sk | flags;
}

/* What has been there is forgotten, unless it was the same sock's. */
FC_INLINE void take_place(struct call *c, struct opened *o, u64 sk, u64 flags, u64 ts_ns)
{
	if (c && o->sk && !is_opened(o, sk))
		count(c, FC_COUNT_OPENED_DROPPED);
	set_opened(o, sk, flags, ts_ns);
}

FC_INLINE void forget_opened(u64 sk)
{
	struct opened *o = find_opened(sk);

	if (o)
		set_opened(o, 0, 0, 0);
}

FC_INLINE u32 find_connector(const struct opened *o)
{
	return o->sk & OPENED_CONNECTOR;
}

FC_INLINE void set_connector(struct opened *o, u32 connector)
{
	o->sk = (o->sk & ~OPENED_CONNECTOR) | connector;
}

#endif
