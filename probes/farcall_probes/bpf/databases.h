/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The databases whose answers come in the order of what was asked: which one is it, and is this its answer? */
#ifndef FARCALL_DATABASES_H
#define FARCALL_DATABASES_H

#include "memcached.h"
#include "mysql.h"
#include "postgres.h"

/* By the first eight bytes of what was asked so far, `total` bytes. */
FC_INLINE u8 classify_database(u64 head, u64 total)
{
	if (is_postgres_request(head, total))
		return FC_PROTO_POSTGRES;
	if (is_mysql_request(head, total))
		return FC_PROTO_MYSQL;
	return is_memcached_request(head) ? FC_PROTO_MEMCACHED : FC_PROTO_UNKNOWN;
}

FC_INLINE bool is_database(u8 proto)
{
	return proto >= FC_PROTO_POSTGRES && proto <= FC_PROTO_MEMCACHED;
}

/* Fewer than eight bytes that may begin such a request: a header that is read apart. */
FC_INLINE bool may_begin_database(u32 head, u64 total)
{
	if (total == FC_MYSQL_HEADER)
		return is_mysql_header(head, 0);
	return total == FC_POSTGRES_HEADER && is_postgres_type((u8)head);
}

enum reply { REPLY_NONE, REPLY_HEADER, REPLY_WHOLE };

/* REPLY_HEADER: what it says is in the next bytes. */
FC_INLINE enum reply classify_reply(u8 proto, u64 head, u64 have)
{
	if (proto == FC_PROTO_POSTGRES) {
		if (have < FC_POSTGRES_HEADER || !is_postgres_reply(head, have))
			return REPLY_NONE;
		return have == FC_POSTGRES_HEADER && swap32((u32)(head >> 8)) > 4 ? REPLY_HEADER : REPLY_WHOLE;
	}
	if (proto == FC_PROTO_MYSQL) {
		if (have == FC_MYSQL_HEADER && is_mysql_header((u32)head, 1))
			return REPLY_HEADER;
		return have > FC_MYSQL_HEADER && is_mysql_reply(head, have) ? REPLY_WHOLE : REPLY_NONE;
	}
	return have >= 4 && is_memcached_reply(head) ? REPLY_WHOLE : REPLY_NONE;
}

#endif
