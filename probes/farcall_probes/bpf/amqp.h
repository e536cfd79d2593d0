/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Telling AMQP's frames (AMQP 0-9-1, 4.2.3): type, channel, big-endian length of the payload, payload, 0xCE. A method's payload
 * begins with its class and its number. Behind some methods a message follows: a frame with its size and properties, and frames of
 * its bytes, of which nothing is told but how many. What logs a client in is never told.
 */
#ifndef FARCALL_AMQP_H
#define FARCALL_AMQP_H

#include "maps.h"

#define FC_AMQP_FRAME 8 /* type, channel, length; and the end */
#define FC_AMQP_BEGIN 7 /* without the end */
#define FC_AMQP_METHOD_LEAST 12
#define FC_AMQP_CONTENT_SIZED 19 /* up to the size of its message */
#define FC_AMQP_CONTENT_LEAST 22 /* class, weight, size of the message, which properties there are */
#define FC_AMQP_LONGEST (1 << 29) /* of RabbitMQ's messages; clients may agree to any length of frames */
#define FC_AMQP_END 0xce

#define FC_AMQP_PROTOCOL (FC_WORD('A', 'M', 'Q', 'P') | 0x01090000ULL << 32) /* what a client says first: 0, 0, 9, 1 */
#define FC_AMQP_HEARTBEAT 0xce00000000000008ULL

enum amqp_frame { AMQP_METHOD = 1, AMQP_CONTENT = 2, AMQP_BODY = 3 };
enum amqp_class { AMQP_CONNECTION = 10, AMQP_BASIC = 60 };

FC_INLINE bool is_amqp(const struct conn *k)
{
	return *(const volatile u8 *)&k->large.x.proto == FC_PROTO_AMQP;
}

FC_INLINE u32 load_amqp_length(u64 lo)
{
	return swap32((u32)(lo >> 24));
}

/* By the first eight bytes of what a client sends: a class is less than 256. */
FC_INLINE bool may_be_amqp(u64 lo)
{
	return lo == FC_AMQP_PROTOCOL || lo == FC_AMQP_HEARTBEAT || ((u8)lo == AMQP_METHOD && !(u8)(lo >> 24) && !(lo >> 56));
}

/* Classes are connection, channel, access, exchange, queue, basic, confirm and tx; only the first is of channel 0. */
FC_INLINE bool is_amqp_method(u64 lo, u64 hi)
{
	u8 class = hi;
	u8 method = hi >> 16;

	if (lo >> 56 || (u8)(hi >> 8) || method < 10 || method > 120)
		return false;
	if (class == AMQP_CONNECTION)
		return !(u16)(lo >> 8);
	return (u16)(lo >> 8) && ((class <= 60 && class >= 20 && class % 10 == 0) || class == 85 || class == 90);
}

/* The length of the frame that begins so; 0: none does. */
FC_INLINE u32 weigh_amqp_frame(u64 lo, u64 hi)
{
	u32 length = load_amqp_length(lo) + FC_AMQP_FRAME;
	u8 type = (u8)lo;

	if (lo == FC_AMQP_PROTOCOL || lo == FC_AMQP_HEARTBEAT)
		return FC_AMQP_FRAME;
	if (length - FC_AMQP_FRAME > FC_AMQP_LONGEST)
		return 0;
	if (type == AMQP_METHOD)
		return length >= FC_AMQP_METHOD_LEAST && is_amqp_method(lo, hi) ? length : 0;
	if (!(u16)(lo >> 8))
		return 0;
	if (type == AMQP_CONTENT)
		return length >= FC_AMQP_CONTENT_LEAST && !(lo >> 56) && (u8)hi == AMQP_BASIC ? length : 0;
	return type == AMQP_BODY ? length : 0;
}

/* basic.publish, return, deliver, get-ok: a message follows. */
FC_INLINE bool carries_amqp(u64 lo, u64 hi)
{
	u8 method = hi >> 16;

	return (u8)lo == AMQP_METHOD && (u8)hi == AMQP_BASIC && (method == 40 || method == 50 || method == 60 || method == 71);
}

/* Not who logs in and what with, what both agree on, heartbeats, and what a client acknowledges or has sent again. */
FC_INLINE bool is_amqp_told(u64 lo, u64 hi)
{
	u8 class = hi;
	u8 method = hi >> 16;

	if ((u8)lo != AMQP_METHOD)
		return (u8)lo == AMQP_CONTENT || (u8)lo == AMQP_BODY;
	if (class == AMQP_CONNECTION) /* open, close, and their answers */
		return method == 40 || method == 41 || method == 50 || method == 51;
	return class != AMQP_BASIC || (method != 80 && method != 90 && method != 100);
}

/* Bytes that tell a frame's length, and what it is. */
FC_INLINE u64 measure_amqp(const u8 *bytes)
{
	return *bytes == AMQP_METHOD ? FC_AMQP_METHOD_LEAST : FC_AMQP_FRAME;
}

/* The length of the frame of this type and channel that begins at `at`, if one does, of which `least` bytes must be there, of `n`; else 0. */
FC_INLINE u64 follow_amqp(struct call *c, const u8 *bytes, u64 at, u64 n, u64 type, u64 least)
{
	u64 channel = *(const u16 *)(bytes + 1);
	u64 length = 0;
	u64 lo;

	FC_CLAMP(at, FC_LARGE_REQ + FC_LARGE_RESP);
	lo = *(const u64 *)(bytes + at);
	if (n >= at + least && (lo & 0xffffff) == (type | channel << 8))
		length = load_amqp_length(lo) + FC_AMQP_FRAME;
	FORGET(c, length);
	return length <= FC_AMQP_LONGEST ? length : 0;
}

/*
 * The length of what begins with `n` bytes: a frame, or a method with what follows it, as far as that begins in these bytes: the message's
 * size and properties, and the first frame of its bytes. 0: nothing does. `sure`: a frame must begin here. `head`: what of it may be told.
 */
FC_INLINE u32 weigh_amqp(struct call *c, const u8 *bytes, u64 n, u64 sure, u64 *head)
{
	u64 lo = *(const u64 *)bytes;
	u64 hi = *(const u64 *)(bytes + 8);
	u64 length = weigh_amqp_frame(lo, hi);
	u64 carries, content, body, last;

	FORGET(c, length);
	last = length - 1;
	*head = (u8)lo == AMQP_BODY ? FC_AMQP_BEGIN : length;
	if (!length || length > n)
		return sure ? length : 0;
	FC_CLAMP(last, FC_LARGE_REQ + FC_LARGE_RESP);
	if (bytes[last] != FC_AMQP_END && lo != FC_AMQP_PROTOCOL)
		return 0;
	carries = carries_amqp(lo, hi);
	FORGET(c, carries);
	if (!carries)
		return length;
	content = follow_amqp(c, bytes, length, n, AMQP_CONTENT, FC_AMQP_CONTENT_SIZED);
	FORGET(c, content);
	length += content;
	*head = length;
	body = follow_amqp(c, bytes, length, n, AMQP_BODY, FC_AMQP_BEGIN);
	return content ? length + body : length;
}

/* Strictly, of a connection that may be anything; `n` of its bytes. Frames that both ends send only count where it is known who connected. */
FC_INLINE bool is_amqp_request(const u8 *head, u64 n, bool is_connectors)
{
	u64 lo = *(const u64 *)head;
	u64 length = weigh_amqp_frame(lo, *(const u64 *)(head + 8));
	u64 last = length - 1;

	if (lo == FC_AMQP_PROTOCOL)
		return true;
	if (!is_connectors || !length || !may_be_amqp(lo) || n < measure_amqp(head))
		return false;
	FC_CLAMP(last, FC_LARGE_REQ);
	/* Only what logs a client in is long. */
	return length > n ? head[8] == AMQP_CONNECTION : head[last] == FC_AMQP_END;
}

#endif
