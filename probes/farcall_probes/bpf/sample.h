/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Which exchanges are left out while the agent uses more CPU than it may. By a hash and a threshold, so that those which are
 * left out at one threshold are left out at every higher one. The hash is of what both ends know of an exchange (the
 * connection's first bytes in TCP sequence space and the request's), so that they leave out the same ones.
 *
 * Errors are kept as far as one look at the first bytes of the answer tells them. Messages of protocols that are put together in
 * user space are left out by connections: half of a conversation could not be read.
 *
 * What is taken although it might have been left out says how likely that was, so that it can be counted for the others too.
 */
#ifndef FARCALL_SAMPLE_H
#define FARCALL_SAMPLE_H

#include "maps.h"

/* The lower half is 0: records have no room for more. */
FC_INLINE u32 left_out_threshold(void)
{
	u32 zero = 0;
	struct settings *settings = map_lookup(MAP(MAP_SETTINGS), &zero);

	return settings ? settings->left_out : 0;
}

/* Multiplication by odd constants, the upper half: what of a finalizer a threshold needs. */
FC_INLINE u32 hash_of(u64 connection, u32 number)
{
	u64 h = (connection ^ ((u64)number << 32 | number)) * 0x9E3779B97F4A7C15ULL;

	h ^= h >> 32;
	return (u32)((h * 0xD6E8FEB86659FD93ULL) >> 32);
}

/* Takes it, or leaves it out. */
FC_INLINE bool is_left_out_at(struct fc_exchange *x, u32 threshold, u32 hash)
{
	if (hash < threshold)
		return true;
	x->flags |= threshold >> (32 - FC_LEFT_OUT_SHIFT) << FC_LEFT_OUT_SHIFT;
	return false;
}

FC_INLINE bool is_error(const struct conn *k)
{
	const struct fc_exchange *x = &k->large.x;
	const u8 *answer = find_response(k);

	if (x->flags & FC_FLAG_NO_RESPONSE)
		return true;
	if (x->proto == FC_PROTO_REDIS)
		return x->resp_cap && k->small.resp[0] == '-';
	if (x->resp_cap < 10)
		return false;
	switch (x->proto) {
	case FC_PROTO_HTTP1: /* HTTP/1.1 503 */
		return answer[9] >= '4' && answer[9] <= '9';
	case FC_PROTO_POSTGRES: /* ErrorResponse */
		return answer[0] == 'E';
	case FC_PROTO_MYSQL: /* ERR_Packet behind the packet's header */
		return answer[4] == 0xff;
	}
	return false;
}

FC_INLINE bool is_left_out(struct conn *k)
{
	struct fc_exchange *x = &k->large.x;
	u32 threshold = left_out_threshold();
	u64 connection = x->who.conn_id;
	u32 number = x->seq;

	if (!threshold || is_error(k))
		return false;
	if (x->flags & FC_FLAG_IDENTITY) {
		connection = (u64)x->isn_client << 32 | x->isn_server;
		number = x->request_seq;
	}
	return is_left_out_at(x, threshold, hash_of(connection, number));
}

/* One sight of the connection's identity decides: the first message must fare as those that follow. */
FC_INLINE bool is_segment_left_out(const struct conn *k, struct fc_exchange *x)
{
	u32 threshold = left_out_threshold();
	u64 connection = k->sights ? (u64)k->isn_client << 32 | k->isn_server : x->who.conn_id;

	return threshold && is_left_out_at(x, threshold, hash_of(connection, 0));
}

#endif
