/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The pieces of a system call's bytes: where in them a byte lies, and going on to those that were not looked at yet. */
#ifndef FARCALL_PIECES_H
#define FARCALL_PIECES_H

#include "io.h"
#include "words.h"

/* Where in user memory the byte `at` of the pieces at hand is; 0 when it is in none. `left`: bytes from it on in the same piece.
 * Computed: branches would be paths to the verifier, at each length and each frame. */
FC_INLINE u64 find_byte(const struct call *c, u64 at, u64 *left)
{
	u64 is_sought = 1;
	u64 base = 0;
	u64 n = 0;
	u32 i;

#pragma unroll
	for (i = 0; i < CALL_PIECES; i++) {
		u64 is_here = is_sought & is_below(i, c->pieces) & is_below(at, c->len[i]);

		base += is_here * (c->base[i] + at);
		n += is_here * (c->len[i] - at);
		is_sought ^= is_here;
		at -= is_sought * c->len[i];
	}
	*left = n;
	return base;
}

/* A write of more pieces than are looked at together: Netty's and Node.js'. Of a read nobody knows how many of them were filled. */
FC_INLINE bool has_more_to_write(const struct call *c)
{
	return c->more && c->dir == DIR_OUT;
}

FC_INLINE void go_on_writing(struct call *c)
{
	set_vector(c, c->iov + CALL_PIECES * sizeof(struct user_iovec), c->iov_left - CALL_PIECES, ~0ULL);
}

#endif
