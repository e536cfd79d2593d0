/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Eight bytes at once, and numbers that are computed rather than decided: a branch for each would be paths to the verifier. */
#ifndef FARCALL_WORDS_H
#define FARCALL_WORDS_H

#include "fc.h"

#define FC_ONES 0x0101010101010101ULL
#define FC_HIGHS (FC_ONES << 7)
#define FC_LOWER (FC_ONES << 5) /* sets what capital letters lack */

/* Of small numbers 1 or 0. */
FC_INLINE u64 is_below(u64 d, u64 bound)
{
	u64 n = d - bound;

	FC_HIDE(n);
	n >>= 63;
	FC_HIDE(n);
	return n;
}

FC_INLINE u64 is_below_ten(u64 d)
{
	return is_below(d, 10);
}

/* Marks, in their high bits, the bytes that are `byte`. The lowest mark is right; those above it may be too many. */
FC_INLINE u64 mark_byte(u64 word, u64 byte)
{
	u64 w = word ^ byte * FC_ONES;

	return (w - FC_ONES) & ~w & FC_HIGHS;
}

/* Marks the bytes that are no digits. */
FC_INLINE u64 mark_not_digits(u64 word)
{
	u64 w = word ^ '0' * FC_ONES; /* '0' becomes 0, and 0x76 sets the high bit of what is above 9 */

	return ((w + 0x76 * FC_ONES) | w) & FC_HIGHS;
}

/* Bytes up to the lowest mark, and that one; 8: there may be none. */
FC_INLINE u64 reach_mark(u64 marks)
{
	return (((marks & -marks) - 1) & FC_ONES) * FC_ONES >> 56;
}

/* The number that the first `digits` bytes are, seven at most. */
FC_INLINE u64 read_digits(u64 word, u64 digits)
{
	u64 w = word ^ '0' * FC_ONES;
	u64 n;

	w <<= 8 * (8 - digits) & 63; /* as if zeroes stood before them */
	n = (w * 10 + (w >> 8)) & 0x00ff00ff00ff00ffULL;
	n = (n * 100 + (n >> 16)) & 0x0000ffff0000ffffULL;
	return (u32)(n * 10000 + (n >> 32));
}

#endif
