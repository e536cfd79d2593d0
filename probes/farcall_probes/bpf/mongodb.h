/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Telling MongoDB's messages: little-endian length, request ID, the ID that is answered, opcode (MongoDB wire protocol). */
#ifndef FARCALL_MONGODB_H
#define FARCALL_MONGODB_H

#include "maps.h"

#define FC_MONGODB_HEADER 16
#define FC_MONGODB_LONGEST (1 << 26) /* maxMessageSizeBytes is 48,000,000 */
#define FC_MONGODB_FLAGS 3 /* of OP_MSG's required bits, those that exist */

#define FC_OP_REPLY 1
#define FC_OP_QUERY 2004
#define FC_OP_COMPRESSED 2012
#define FC_OP_MSG 2013

/* By the first eight bytes. */
FC_INLINE bool may_be_mongodb(u64 lo)
{
	u32 length = (u32)lo;

	return length > FC_MONGODB_HEADER && length <= FC_MONGODB_LONGEST;
}

/* Opcodes of before 2022, from OP_UPDATE to OP_KILL_CURSORS. */
FC_INLINE bool is_mongodb_legacy(u32 opcode)
{
	return opcode == 2001 || opcode == 2002 || (opcode >= 2005 && opcode <= 2007);
}

FC_INLINE u32 weigh_mongodb(u64 lo, u64 hi, bool is_response)
{
	u32 opcode = hi >> 32;

	if (!may_be_mongodb(lo))
		return 0;
	if (opcode == FC_OP_MSG || opcode == FC_OP_COMPRESSED)
		return (u32)lo;
	if (is_response)
		return opcode == FC_OP_REPLY ? (u32)lo : 0;
	return opcode == FC_OP_QUERY || is_mongodb_legacy(opcode) ? (u32)lo : 0;
}

FC_INLINE bool is_mongodb_request(const u8 *head, u64 n)
{
	u64 hi = *(u64 *)(head + 8);

	if (n < FC_MONGODB_HEADER || (u32)hi || !weigh_mongodb(*(u64 *)head, hi, false))
		return false;
	return (u32)(hi >> 32) != FC_OP_MSG || n < 20 || !(*(u16 *)(head + 16) & ~FC_MONGODB_FLAGS);
}

#endif
