/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * HTTP/2's frames (RFC 9113, 4.1: length 24, type 8, flags 8, stream 31): which are told, which are stepped over, and what
 * a connection that was joined in its middle must look like. Nothing within a frame is looked at.
 */
#ifndef FARCALL_HTTP2_H
#define FARCALL_HTTP2_H

#include "fc.h"

#define FC_HTTP2_PREFACE 24
#define FC_HTTP2_WORD 0x5448202a20495250ULL /* "PRI * HT" */
#define FC_HTTP2_HEADER 9
/* 6.5.2: what everybody must take; more needs a setting, and nobody uses it for headers. */
#define FC_HTTP2_FRAME (1 << 14)

/* What a record of an HTTP/2 frame is to tell, see bodies.h. */
struct telling {
	u32 cap; /* bytes of it, in the record already; 0: nothing */
	u32 offset;
	u32 step; /* how far it is to the next frame, or to the rest of this one */
	u32 stream; /* FC_NO_STREAM: none whose body is counted */
	u8 tells_other;
	u8 waits; /* whether a body follows in the same call */
	u8 ends;
	u8 spare[5];
};

enum http2_type {
	HTTP2_DATA = 0,
	HTTP2_HEADERS = 1,
	HTTP2_PRIORITY = 2,
	HTTP2_RST_STREAM = 3,
	HTTP2_SETTINGS = 4,
	HTTP2_PUSH_PROMISE = 5,
	HTTP2_PING = 6,
	HTTP2_GOAWAY = 7,
	HTTP2_WINDOW_UPDATE = 8,
	HTTP2_CONTINUATION = 9,
	HTTP2_KNOWN = 10,
};

/* "PRI * HTTP/2.0\r\n": what a client begins with, and nobody else. */
FC_INLINE bool is_http2_preface(u64 lo, u64 hi)
{
	return lo == FC_HTTP2_WORD && hi == 0x0a0d302e322f5054ULL;
}

FC_INLINE u8 load_http2_type(u64 lo)
{
	return (u8)(lo >> 24);
}

FC_INLINE u32 load_http2_stream(u64 lo, u64 hi)
{
	return swap32((u32)(lo >> 40)) | (u8)hi;
}

/* Flags that a frame of this type may have. */
FC_INLINE u8 list_http2_flags(u8 type)
{
	switch (type) {
	case HTTP2_DATA:
		return 0x09;
	case HTTP2_HEADERS:
		return 0x2d;
	case HTTP2_PUSH_PROMISE:
		return 0x0c;
	case HTTP2_CONTINUATION:
		return 0x04;
	case HTTP2_SETTINGS:
	case HTTP2_PING:
		return 0x01;
	}
	return 0;
}

/* The frame's length, its header included, or 0 when none begins so. lo, hi: its first nine bytes. `sure`: a frame must
 * begin here, so its type may be an extension's and its data long. */
FC_INLINE u32 weigh_http2(u64 lo, u64 hi, bool sure)
{
	u32 length = swap32((u32)lo) >> 8;
	u32 stream = load_http2_stream(lo, hi);
	u8 type = load_http2_type(lo);
	u8 flags = (u8)(lo >> 32);

	if (stream >> 31)
		return 0;
	if (sure && (type == HTTP2_DATA || type >= HTTP2_KNOWN))
		return type == HTTP2_DATA && !stream ? 0 : length + FC_HTTP2_HEADER;
	if (length > FC_HTTP2_FRAME || type >= HTTP2_KNOWN || (!sure && flags & ~list_http2_flags(type)))
		return 0;
	switch (type) {
	case HTTP2_SETTINGS:
		if (stream || length % 6)
			return 0;
		break;
	case HTTP2_PING:
		if (stream || length != 8)
			return 0;
		break;
	case HTTP2_GOAWAY:
		if (stream || length < 8)
			return 0;
		break;
	case HTTP2_WINDOW_UPDATE:
		if (length != 4)
			return 0;
		break;
	case HTTP2_RST_STREAM:
		if (!stream || length != 4)
			return 0;
		break;
	case HTTP2_PRIORITY:
		if (!stream || length != 5)
			return 0;
		break;
	default:
		if (!stream)
			return 0;
	}
	return length + FC_HTTP2_HEADER;
}

/* By eight bytes of nine; the stream's last byte is missing. */
FC_INLINE bool may_be_http2(u64 lo)
{
	return lo == FC_HTTP2_WORD || weigh_http2(lo, 0, false) || weigh_http2(lo, 1, false);
}

/* Whether user space needs the frame: those that hold headers or end streams. */
FC_INLINE bool is_http2_told(u64 lo)
{
	u8 type = load_http2_type(lo);

	return type == HTTP2_HEADERS || type == HTTP2_CONTINUATION || type == HTTP2_RST_STREAM ||
	       type == HTTP2_GOAWAY || type == HTTP2_PUSH_PROMISE;
}

#endif
