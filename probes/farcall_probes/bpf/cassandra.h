/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Telling Cassandra's messages (CQL binary protocol, versions 3 to 5): version, flags, stream, opcode, big-endian length of
 * the body. Bit 7 of the version says who speaks.
 */
#ifndef FARCALL_CASSANDRA_H
#define FARCALL_CASSANDRA_H

#include "maps.h"

#define FC_CASSANDRA_HEADER 9
#define FC_CASSANDRA_LONGEST (1 << 28) /* 256 MB, native_protocol_v4.spec, 2.5 */
#define FC_CASSANDRA_FLAGS 0x1f

/* STARTUP, OPTIONS, QUERY, PREPARE, EXECUTE, REGISTER, BATCH, AUTH_RESPONSE */
#define FC_CASSANDRA_ASKS (1 << 0x01 | 1 << 0x05 | 1 << 0x07 | 1 << 0x09 | 1 << 0x0a | 1 << 0x0b | 1 << 0x0d | 1 << 0x0f)
/* ERROR, READY, AUTHENTICATE, SUPPORTED, RESULT, EVENT, AUTH_CHALLENGE, AUTH_SUCCESS */
#define FC_CASSANDRA_SAYS (1 << 0x00 | 1 << 0x02 | 1 << 0x03 | 1 << 0x06 | 1 << 0x08 | 1 << 0x0c | 1 << 0x0e | 1 << 0x10)

/* By the first eight bytes. A request's stream is never negative. */
FC_INLINE bool may_be_cassandra(u64 lo, bool is_response)
{
	u8 version = (u8)lo;
	u8 opcode = lo >> 32;

	if (is_response)
		version ^= 0x80;
	if (version < 3 || version > 5 || (u8)(lo >> 8) & ~FC_CASSANDRA_FLAGS || opcode > 0x10)
		return false;
	if (is_response)
		return FC_CASSANDRA_SAYS >> opcode & 1;
	return FC_CASSANDRA_ASKS >> opcode & 1 && !((u8)(lo >> 16) & 0x80);
}

FC_INLINE u32 weigh_cassandra(u64 lo, u64 hi, bool is_response)
{
	u32 length = swap32((u32)(lo >> 40 | hi << 24));

	return may_be_cassandra(lo, is_response) && length <= FC_CASSANDRA_LONGEST ? length + FC_CASSANDRA_HEADER : 0;
}

/* Whether a body of `length` bytes may begin so: a string is no longer than what it is in, an ID has a few bytes, a batch
 * is of three kinds, OPTIONS says nothing. */
FC_INLINE bool is_cassandra_body(u8 opcode, u32 first, u32 length)
{
	u32 text = swap32(first);
	u32 size = text >> 16; /* or a count */

	switch (opcode) {
	case 0x05:
		return !length;
	case 0x07:
	case 0x09:
	case 0x0f:
		return text && text + 4 <= length;
	case 0x0d:
		return text >> 24 <= 2 && length > 4;
	}
	return size && size <= 64 && size + 2 <= length;
}

/* Little tells such a header from others, so the message must be there as it says, or be longer than a call moves. */
FC_INLINE bool is_cassandra_request(const u8 *head, u64 n, u64 total)
{
	u64 length = weigh_cassandra(*(u64 *)head, *(u64 *)(head + 8), false);
	u32 first = *(u32 *)(head + 9);

	if (n < FC_CASSANDRA_HEADER || !length)
		return false;
	if (total == FC_CASSANDRA_HEADER)
		return length < 4096;
	return (length <= total || total >= 4096) && (n < 13 ? length == n : true) &&
	       is_cassandra_body(head[4], first, (u32)length - FC_CASSANDRA_HEADER);
}

/* ---- outer frames: version 5, once STARTUP is answered (native_protocol_v5.spec, 2) ------------------------------- */

#define FC_CASSANDRA_FRAME_HEADER 6
#define FC_CASSANDRA_CRC_BYTES 4 /* behind the payload */
#define FC_CASSANDRA_PAYLOAD 0x1ffff
#define FC_CASSANDRA_FULL ((1 << 17) - 12) /* payload of a frame that is as long as can be: of Cassandra itself with what is around it, of drivers without */

#define FC_CASSANDRA_FRAME_BYTES 3 /* of a header, that its check value is of */
#define FC_CASSANDRA_PACKED_BYTES 5

/* CRC-24 of the header's lengths and flags: what tells a frame from anything else. `plain`: that of its first bytes. */
FC_INLINE u32 make_crc24(u64 data, u32 *plain)
{
	u32 crc = 0x875060;
	u32 i;

	/* Without branches: they would be paths to the verifier. */
#pragma unroll
	for (i = 0; i < FC_CASSANDRA_PACKED_BYTES * 8; i++) {
		u32 top;

		if (i == FC_CASSANDRA_FRAME_BYTES * 8)
			*plain = crc & 0xffffff;
		if (!(i & 7))
			crc ^= (u32)(data >> i & 0xff) << 16;
		top = crc >> 23 & 1;
		FC_HIDE(top);
		crc = crc << 1 ^ 0x1974f0b * top;
	}
	return crc & 0xffffff;
}

/* A plain frame of whole messages is walked through: its header counts for itself, and so do the messages in it. */
FC_INLINE u32 weigh_cassandra_frame(u64 lo)
{
	u32 payload = (u32)lo & FC_CASSANDRA_PAYLOAD;
	u32 plain = 0;
	u32 packed = make_crc24(lo, &plain);

	if (!(lo >> 18 & 0x3f) && plain == (u32)(lo >> 24 & 0xffffff))
		return lo >> 17 & 1 && payload ? FC_CASSANDRA_FRAME_HEADER
					       : FC_CASSANDRA_FRAME_HEADER + payload + FC_CASSANDRA_CRC_BYTES;
	return !(lo >> 35 & 0x1f) && packed == (u32)(lo >> 40) ? 8 + payload + FC_CASSANDRA_CRC_BYTES : 0;
}

/* Of a message that fills several frames only the first is told. */
FC_INLINE bool is_cassandra_told(struct framing *f, u64 lo, u64 hi, u32 weight)
{
	u32 payload = (u32)lo & FC_CASSANDRA_PAYLOAD;
	u32 length = swap32((u32)(hi >> 24)) + FC_CASSANDRA_HEADER;
	u32 unpacked;
	bool is_first;

	if (f->inside)
		return true;
	if (weight == FC_CASSANDRA_FRAME_HEADER)
		f->left = 0;
	if (weight <= FC_CASSANDRA_FRAME_HEADER + FC_CASSANDRA_CRC_BYTES)
		return false;
	if (weight != FC_CASSANDRA_FRAME_HEADER + payload + FC_CASSANDRA_CRC_BYTES) {
		is_first = !f->left;
		/* How long the message is lies in what is packed; all of its frames but the last are full. What does not get shorter is left as it is. */
		unpacked = lo >> 17 & FC_CASSANDRA_PAYLOAD;
		f->left = !(lo >> 34 & 1) && (unpacked ? unpacked : payload) >= FC_CASSANDRA_FULL;
		return lo >> 34 & 1 || is_first;
	}
	if (f->left) {
		f->left = f->left > payload ? f->left - payload : 0;
		return false;
	}
	f->left = length > payload ? length - payload : 0;
	return true;
}

/* A message of `length` bytes, or a frame's header, is done with; how far it is to what comes next. */
FC_INLINE u32 pass_cassandra(struct framing *f, u64 lo, u32 length)
{
	if (f->inside) {
		f->inside -= length;
		return f->inside ? length : length + FC_CASSANDRA_CRC_BYTES;
	}
	if (length == FC_CASSANDRA_FRAME_HEADER) /* no other is so short */
		f->inside = (u32)lo & FC_CASSANDRA_PAYLOAD;
	return length;
}

/* READY or AUTHENTICATE in version 5: what follows, both ways, is framed. */
FC_INLINE bool begins_frames(u64 lo)
{
	u8 opcode = lo >> 32;

	return (u8)lo == 0x85 && (opcode == 0x02 || opcode == 0x03);
}

#endif
