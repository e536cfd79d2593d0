/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What the hooks in TLS libraries do. Arguments come in the registers of the x86-64 calling convention. */
#ifndef FARCALL_UPROBES_H
#define FARCALL_UPROBES_H

#include "take.h"

/* What a uprobe's program is given: struct pt_regs of x86-64 (uapi). */
struct user_regs {
	u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
};

/* (SSL *, const void *, int or size_t …) */
FC_INLINE int on_tls_write(struct user_regs *r)
{
	struct tls_call *t = enter_library();

	if (!t)
		return 0;
	t->write_buf = r->si;
	t->write_len = (u32)r->dx;
	t->write_ssl = t->write_len ? r->di : 0;
	return 0;
}

/* (SSL *, void *, int or size_t, size_t *) */
FC_INLINE int on_tls_read(struct user_regs *r)
{
	struct tls_call *t = enter_library();

	if (!t)
		return 0;
	t->read_buf = r->si;
	t->read_len = (u32)r->dx;
	t->read_count = r->cx;
	t->read_ssl = r->di;
	return 0;
}

FC_INLINE int on_read_return(void *ctx, struct tls_call *t, u64 len)
{
	u64 ssl = t->read_ssl;
	struct call *c;

	t->read_ssl = 0;
	if (!ssl || !len || len > t->read_len)
		return 0;
	c = open_plaintext(DIR_IN, t->read_buf, len);
	if (!c)
		return 0;
	if (find_session(c, t, ssl, len))
		go_to(ctx, STEP_PLAINTEXT);
	else
		count(c, FC_COUNT_TLS_UNOWNED);
	end_call(c);
	return 0;
}

FC_INLINE struct tls_call *leave_library(void)
{
	u64 pid_tgid = read_pid_tgid();

	return map_lookup(MAP(MAP_TLS_CALLS), &pid_tgid);
}

/* Returns the number of bytes. */
FC_INLINE int on_tls_read_return(struct user_regs *r)
{
	struct tls_call *t = leave_library();
	s32 n = (s32)r->ax;

	return t ? on_read_return(r, t, n > 0 ? n : 0) : 0;
}

/* Returns 1 for success, and the number of bytes through a pointer. */
FC_INLINE int on_tls_read_ex_return(struct user_regs *r)
{
	struct tls_call *t = leave_library();
	u64 n = 0;

	if (!t)
		return 0;
	if ((s32)r->ax > 0)
		read_user(&n, 8, (void *)t->read_count);
	return on_read_return(r, t, n);
}

#endif
