/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The protocols that answer out of order, or not at all: which one is it, and how long is the message that begins so? A protocol is one
 * line in each function here; framing.h does the rest.
 */
#ifndef FARCALL_MULTIPLEXED_H
#define FARCALL_MULTIPLEXED_H

#include "amqp.h"
#include "cassandra.h"
#include "http2.h"
#include "kafka.h"
#include "mongodb.h"
#include "nats.h"

/* The longest of their headers. */
#define FC_FRAME_HEADER 16

FC_INLINE bool is_multiplexed(u8 proto)
{
	return (proto >= FC_PROTO_HTTP2 && proto <= FC_PROTO_CASSANDRA) || proto >= FC_PROTO_NATS;
}

/* The first eight bytes may begin such a request: worth a closer look. */
FC_INLINE bool may_be_multiplexed(u64 lo)
{
	return may_be_kafka(lo) || may_be_mongodb(lo) || may_be_cassandra(lo, false) || may_be_http2(lo) || may_be_nats(lo) ||
	       may_be_amqp(lo);
}

/* Fewer than eight bytes, of which `first` holds four if there are so many, else one. Brokers read the length alone. */
FC_INLINE bool may_begin_multiplexed(u32 first, u64 len)
{
	u8 c = (u8)first;

	if (len < 4)
		return !c || (c >= 3 && c <= 5);
	return is_kafka_length(swap32(first)) || may_be_mongodb(first) || (c >= 3 && c <= 5);
}

/* Strictly: a connection that may be anything, and `n` bytes from `head` of `total` that were sent, by the end that called connect, if that is
 * known. */
FC_INLINE u8 classify_multiplexed(struct call *c, const u8 *head, u64 n, u64 total, bool is_connectors)
{
	if (is_amqp_request(head, n, is_connectors))
		return FC_PROTO_AMQP;
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

	if (proto == FC_PROTO_AMQP)
		return weigh_amqp_frame(lo, hi);
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

/* How many bytes of a message must be there before it can be weighed, of `n` of `all` that are. `mark`: behind the end of NATS' line; behind
 * what may end a frame of AMQP's, when none must begin here. 0: there is none, or nobody needs it. */
FC_INLINE u64 measure_message(struct call *c, struct conn *k, u64 half, u64 sure, const u8 *bytes, u64 n, u64 all, u64 hold, u64 *mark)
{
	/* Computed, not decided: one way to the verifier. */
	u64 proto = *(const volatile u8 *)&k->large.x.proto;
	u64 has_lines = is_below(proto ^ FC_PROTO_NATS, 1);
	u64 byte = has_lines * '\n' + is_below((proto ^ FC_PROTO_AMQP) | sure, 1) * FC_AMQP_END;

	*mark = byte ? find_mark(c, bytes, n, byte) : 0;
	if (has_lines)
		return *mark || n < all || n > hold ? 0 : n + 1;
	return is_amqp(k) ? measure_amqp(bytes) : measure_header(k, half);
}

/* As weigh_message, by as much of the message as is there. `head`: what of it may be told. */
FC_INLINE u32 weigh_begun(struct call *c, struct conn *k, u64 half, u64 sure, const u8 *bytes, u64 n, u64 all, u64 mark, u64 *head)
{
	u32 length;

	if (is_amqp(k))
		return weigh_amqp(c, bytes, n, sure, head);
	if (is_nats(k))
		length = weigh_nats(bytes, mark, all, half == HALF_RESPONSES);
	else
		length = weigh_message(k, half, sure, *(const u64 *)bytes, *(const u64 *)(bytes + 8));
	*head = length;
	return length;
}

/* Whether user space needs the message; others are only stepped over. */
FC_INLINE bool is_told(struct conn *k, struct framing *f, u64 lo, u64 hi, u32 length)
{
	if (k->large.x.proto == FC_PROTO_NATS)
		return is_nats_told((u32)lo);
	if (k->large.x.proto == FC_PROTO_AMQP)
		return is_amqp_told(lo, hi);
	return !k->wrapped || is_cassandra_told(f, lo, hi, length);
}

/* ---- a message that was told and goes on in later calls, or, in Cassandra's outer frames, in further ones ---------------------------- */

/* In outer frames `inside` says something else, and `mark` nothing. */
FC_INLINE u32 note_rest(struct conn *k, struct framing *f, u64 later)
{
	if (!k->wrapped)
		return f->inside = (u32)later;
	return f->mark = later || f->left;
}

/* All of its frames have begun. */
FC_INLINE bool goes_on_later(struct conn *k, struct framing *f)
{
	return k->wrapped ? f->mark && !f->left : f->inside;
}

FC_INLINE void forget_rest(struct conn *k, struct framing *f)
{
	if (k->wrapped)
		f->mark = 0;
	else
		f->inside = 0;
}

/* A frame that is not told is the last one of such a message, and all there. `later`: the next calls have its rest. */
FC_INLINE bool ends_split(struct conn *k, struct framing *f, u64 later, u32 length)
{
	if (!k->wrapped || length <= FC_CASSANDRA_FRAME_HEADER + FC_CASSANDRA_CRC_BYTES || later || !f->mark || f->left)
		return false;
	f->mark = 0;
	return true;
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
