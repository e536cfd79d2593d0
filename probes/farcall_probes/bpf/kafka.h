/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Telling Kafka's requests: a big-endian length, then API key, version, correlation ID and the client's name (the Kafka
 * protocol guide, "Request Header v1 and v2"). A response has its length and the correlation ID, and says no more.
 */
#ifndef FARCALL_KAFKA_H
#define FARCALL_KAFKA_H

#include "maps.h"

#define FC_KAFKA_REQUEST 14 /* up to the client's name */
#define FC_KAFKA_RESPONSE 8
#define FC_KAFKA_LONGEST (1 << 28) /* a broker's default is 100 MiB; that of fetched data may be set higher */
#define FC_KAFKA_LAST_KEY 92
#define FC_KAFKA_LAST_VERSION 18
#define FC_KAFKA_API_VERSIONS 18
/* Requests in flight at most, generously: correlation IDs only grow. */
#define FC_KAFKA_IN_FLIGHT 4096

FC_INLINE bool is_kafka_length(u32 length)
{
	return length >= 4 && length <= FC_KAFKA_LONGEST;
}

FC_INLINE u32 load_kafka_length(u64 lo)
{
	return swap32((u32)lo);
}

FC_INLINE u32 load_kafka_key(u64 lo)
{
	return swap16((u16)(lo >> 32));
}

/* By the first eight bytes. */
FC_INLINE bool may_be_kafka(u64 lo)
{
	u32 length = load_kafka_length(lo);

	return length >= FC_KAFKA_REQUEST - 4 && length <= FC_KAFKA_LONGEST && load_kafka_key(lo) <= FC_KAFKA_LAST_KEY &&
	       swap16((u16)(lo >> 48)) <= FC_KAFKA_LAST_VERSION;
}

/* Four letters are no correlation ID: what PostgreSQL's clients begin with reads as Metadata, version 0, from "user". */
FC_INLINE bool is_kafka_correlation(u32 raw)
{
	return (raw & 0xe0) < 0x20 || (raw >> 8 & 0xe0) < 0x20 || (raw >> 16 & 0xe0) < 0x20 || (raw >> 24 & 0xe0) < 0x20;
}

FC_INLINE bool is_kafka_printable(u8 c)
{
	return c >= 0x20 && c < 0x7f;
}

/* The length of a request that begins so, or 0. A client's name is null or fits into the request. */
FC_INLINE u32 weigh_kafka_request(u64 lo, u64 hi)
{
	u32 name = swap16((u16)(hi >> 32));

	if (!may_be_kafka(lo) || !is_kafka_correlation((u32)hi))
		return 0;
	if (name != 0xffff && name + FC_KAFKA_REQUEST - 4 > load_kafka_length(lo))
		return 0;
	return load_kafka_length(lo) + 4;
}

/* `newest`: the last request's correlation ID. */
FC_INLINE u32 weigh_kafka_response(u64 lo, u32 newest, bool sure)
{
	if (!is_kafka_length(load_kafka_length(lo)))
		return 0;
	if (!sure && newest - swap32((u32)(lo >> 32)) > FC_KAFKA_IN_FLIGHT)
		return 0;
	return load_kafka_length(lo) + 4;
}

/* Strictly, of a connection that may be anything: clients have names. ZooKeeper's requests read as Produce from a client
 * with an empty one. Only the question that all of them begin with may do without. */
FC_INLINE bool is_kafka_request(const u8 *head, u64 n, u64 total)
{
	u64 lo = *(u64 *)head;
	u64 hi = *(u64 *)(head + 8);
	u32 name = swap16((u16)(hi >> 32));
	u64 length = weigh_kafka_request(lo, hi);

	if (n < FC_KAFKA_REQUEST || !length)
		return false;
	if (name == 0xffff || !name)
		return length <= total && (name || load_kafka_key(lo) == FC_KAFKA_API_VERSIONS);
	return name <= 255 && (n < 15 || is_kafka_printable(head[14])) && (n < 16 || name < 2 || is_kafka_printable(head[15]));
}

#endif
