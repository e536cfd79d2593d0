/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A hit of a uprobe, and how the plaintext that it shows goes on. */
#ifndef FARCALL_HITS_H
#define FARCALL_HITS_H

#include "take.h"

/* What a uprobe's program is given: struct pt_regs of x86-64 (uapi). */
struct user_regs {
	u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
};

/* Does not come back from the step, unless that is missing. */
FC_INLINE int take_plaintext(void *ctx, struct call *c, bool is_owned)
{
	if (is_owned)
		go_to(ctx, STEP_PLAINTEXT);
	else
		count_unowned(c, 1);
	end_call(c);
	return 0;
}

#endif
