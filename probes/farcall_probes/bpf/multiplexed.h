/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The protocols that answer out of order, or not at all: which one is it, and how long is the message that begins so? A protocol is one
 * line in each function here; framing.h does the rest.
 */
#ifndef FARCALL_MULTIPLEXED_H
#define FARCALL_MULTIPLEXED_H

#include "cassandra.h"
#include "http2.h"
#include "kafka.h"
#include "mongodb.h"
#include "nats.h"

/* The longest of their headers. */
#define FC_FRAME_HEADER 16

FC_INLINE bool is_multiplexed(u8 proto)
{
	return (proto >= FC_PROTO_HTTP2 && proto <= FC_PROTO_CASSANDRA) || proto == FC_PROTO_NATS;
}

/* The first eight bytes may begin such a request: worth a closer look. */
FC_INLINE bool may_be_multiplexed(u64 lo)
{
	return may_be_kafka(lo) || may_be_mongodb(lo) || may_be_cassandra(lo, false) || may_be_http2(lo) || may_be_nats(lo);
}

/* Fewer than eight bytes, of which `first` holds four if there are so many, else one. Brokers read the length alone. */
FC_INLINE bool may_begin_multiplexed(u32 first, u64 len)
{
	u8 c = (u8)first;

	if (len < 4)
		return !c || (c >= 3 && c <= 5);
	return is_kafka_length(swap32(first)) || may_be_mongodb(first) || (c >= 3 && c <= 5);
}

/* Strictly: a connection that may be anything, and `n` bytes from `head` of `total` that were sent. */
FC_INLINE u8 classify_multiplexed(struct call *c, const u8 *head, u64 n, u64 total)
{
	if (is_nats_request(c, head, n))
		return FC_PROTO_NATS;
	if (is_mongodb_request(head, n))
		return FC_PROTO_MONGODB;
	if (is_kafka_request(head, n, total))
		return FC_PROTO_KAFKA;
	return is_cassandra_request(head, n, total) ? FC_PROTO_CASSANDRA : FC_PROTO_UNKNOWN;
}

FC_INLINE struct framing *find_framing(struct conn *k, u64 half)
{
	FC_HIDE(half);
	return &k->framing[half & 1];
}

/* Bytes that tell a message's length. */
FC_INLINE u64 measure_header(struct conn *k, u64 half)
{
	u8 proto = k->large.x.proto;

	if (proto == FC_PROTO_NATS)
		return 0; /* see measure_nats */
	if (proto == FC_PROTO_MONGODB)
		return FC_MONGODB_HEADER;
	if (proto == FC_PROTO_CASSANDRA)
		return k->wrapped && !find_framing(k, half)->inside ? FC_FRAME_HEADER : FC_CASSANDRA_HEADER;
	return half == HALF_REQUESTS ? FC_KAFKA_REQUEST : FC_KAFKA_RESPONSE;
}

/* The length of the message that begins so, header included; 0 when it makes no sense. lo, hi: its first sixteen bytes,
 * of which those of the header count. `sure`: a message must begin here. */
FC_INLINE u32 weigh_message(struct conn *k, u64 half, bool sure, u64 lo, u64 hi)
{
	struct framing *f = find_framing(k, half);
	u8 proto = k->large.x.proto;
	u32 length;

	if (proto == FC_PROTO_MONGODB)
		return weigh_mongodb(lo, hi, half == HALF_RESPONSES);
	if (proto == FC_PROTO_CASSANDRA && k->wrapped && !f->inside)
		return weigh_cassandra_frame(lo);
	if (proto == FC_PROTO_CASSANDRA) {
		length = weigh_cassandra(lo, hi, half == HALF_RESPONSES);
		return k->wrapped && length > f->inside ? 0 : length;
	}
	if (half == HALF_RESPONSES)
		return weigh_kafka_response(lo, k->framing[HALF_REQUESTS].mark, sure);
	length = weigh_kafka_request(lo, hi);
	if (length)
		k->framing[HALF_REQUESTS].mark = swap32((u32)hi);
	return length;
}

/* Whether user space needs the message; others are only stepped over. */
FC_INLINE bool is_told(struct conn *k, struct framing *f, u64 lo, u64 hi, u32 length)
{
	if (k->large.x.proto == FC_PROTO_NATS)
		return is_nats_told((u32)lo);
	return !k->wrapped || is_cassandra_told(f, lo, hi, length);
}

/* It is done with; how far it is from its beginning to the next one's. */
FC_INLINE u32 pass_message(struct conn *k, struct framing *f, u64 lo, u32 length)
{
	return k->wrapped ? pass_cassandra(f, lo, length) : length;
}

/* What a message says about those that follow. */
FC_INLINE void heed_message(struct conn *k, u64 half, u64 lo)
{
	if (k->large.x.proto == FC_PROTO_CASSANDRA && half == HALF_RESPONSES && begins_frames(lo)) {
		k->wrapped = 1;
		k->framing[HALF_REQUESTS].inside = 0;
		k->framing[HALF_RESPONSES].inside = 0;
	}
}

#endif
