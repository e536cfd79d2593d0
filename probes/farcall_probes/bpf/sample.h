/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Which exchanges are left out while the agent uses more CPU than it may. By a hash and a threshold, so that those which are
 * left out at one threshold are left out at every higher one. The hash is of what both ends know of an exchange (the
 * connection's first bytes in TCP sequence space and the request's), so that they leave out the same ones.
 *
 * Errors are kept as far as one look at the first bytes of the answer tells them. Messages of protocols that are put together in
 * user space are left out by connections: half of a conversation could not be read.
 */
#ifndef FARCALL_SAMPLE_H
#define FARCALL_SAMPLE_H

#include "maps.h"

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

FC_INLINE u64 connection_of(const struct fc_exchange *x)
{
	return x->flags & FC_FLAG_IDENTITY ? (u64)x->isn_client << 32 | x->isn_server : x->who.conn_id;
}

FC_INLINE bool is_error(const struct conn *k)
{
	const struct fc_exchange *x = &k->large.x;
	const u8 *answer = k->large.resp;

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

FC_INLINE bool is_left_out(const struct conn *k)
{
	const struct fc_exchange *x = &k->large.x;
	u32 threshold = left_out_threshold();
	u32 number = x->flags & FC_FLAG_IDENTITY ? x->request_seq : x->seq;

	return threshold && hash_of(connection_of(x), number) < threshold && !is_error(k);
}

FC_INLINE bool is_connection_left_out(const struct fc_exchange *x)
{
	u32 threshold = left_out_threshold();

	return threshold && hash_of(connection_of(x), 0) < threshold;
}

#endif
