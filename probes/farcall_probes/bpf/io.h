/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A system call's bytes: where they lie in user memory, and copying them behind bytes that came before. */
#ifndef FARCALL_IO_H
#define FARCALL_IO_H

#include "maps.h"

struct user_iovec {
	u64 base;
	u64 len;
};

struct user_msghdr {
	u64 name;
	u64 name_len; /* u32 and padding */
	u64 iov;
	u64 iov_len;
};

/* What follows in struct msghdr, and what it points at (socket.h). */
#define MSGHDR_CONTROL 32
struct user_control {
	u64 base;
	u64 len;
};

struct user_cmsghdr {
	u64 len; /* this header included */
	u32 level;
	u32 type;
};
#define SOL_SOCKET 1
#define SCM_RIGHTS 1

struct user_mmsghdr {
	u64 header[7]; /* struct msghdr */
	u32 len;
	u32 pad;
};

/* Datagrams written or read at once; resolvers have two. Answers that lie past this bound are counted as lost. */
#define FC_MAX_MESSAGES 8

/* The registers that hold arguments. Of a type that the verifier knows, so programs load from them by themselves. */
FC_INLINE u8 *find_saved(void *task)
{
	return AT(read_task_regs(task), OFF_REGS_BLOCK);
}

#define SAVED(s, id) (*(volatile u64 *)((s) + NUM(id)))

FC_INLINE struct call *open_read(void **task, u8 **s, s64 ret)
{
	struct call *c;

	if (ret <= 0)
		return NULL;
	*task = read_task_btf();
	c = open_call(*task, DIR_IN);
	if (!c)
		return NULL;
	*s = find_saved(*task);
	c->fd = (u32)SAVED(*s, NUM_REG_0);
	return c;
}

FC_INLINE void set_buffer(struct call *c, u64 base, u64 len)
{
	c->base[0] = base;
	c->len[0] = len;
	c->pieces = 1;
	c->iov_left = 1;
	c->total = len;
}

/* `limit`: bytes that were read in all, or ~0 for a write. */
FC_INLINE void set_vector(struct call *c, u64 iov, u64 n, u64 limit)
{
	struct user_iovec v[CALL_PIECES] = {};
	u64 left = limit;
	u32 i;

	c->more = n > CALL_PIECES;
	c->iov = iov;
	c->iov_left = n;
	c->limit = limit;
	FC_CLAMP(n, CALL_PIECES);
	if (read_user(v, (u32)(n * sizeof(v[0])) & 127, (void *)iov))
		n = 0;
	c->pieces = n;
	c->total = 0;
#pragma unroll
	for (i = 0; i < CALL_PIECES; i++) {
		u64 len = v[i].len < left ? v[i].len : left;

		c->base[i] = v[i].base;
		c->len[i] = len;
		c->total += len;
		left -= len;
	}
	if (limit != ~0ULL)
		c->total = limit;
}

FC_INLINE bool set_message(struct call *c, u64 msghdr, u64 limit)
{
	struct user_msghdr m = {};

	if (read_user(&m, sizeof(m), (void *)msghdr))
		return false;
	c->name = m.name;
	set_vector(c, m.iov, m.iov_len, limit);
	return true;
}

/* The first eight bytes, 0 when there are fewer. */
FC_INLINE u64 peek_user(struct call *c)
{
	u64 head = 0;

	if (c->len[0] >= 8)
		read_user(&head, 8, (void *)c->base[0]);
	return head;
}

/* Copies what the first piece holds to `to`, up to FC_LARGE_REQ. Returns how many bytes, or -1. */
FC_INLINE s64 collect_piece(struct call *c, u8 *to)
{
	u64 n = c->len[0];

	FC_CLAMP(n, FC_LARGE_REQ);
	return read_user(to, (u32)n, (void *)c->base[0]) ? -1 : (s64)n;
}

/* Copies the call's bytes to `to` at `at`, as far as FC_LARGE_REQ reaches. Returns the bytes that `to` then holds, or -1. */
FC_INLINE s64 collect(struct call *c, u8 *to, u64 at)
{
	u8 *buf = c->buf;
	u64 n;
	u32 i;

	if (at == 0 && c->pieces == 1)
		return collect_piece(c, to);
	if (at >= FC_LARGE_REQ)
		return FC_LARGE_REQ;
	if (at)
		read_kernel(buf, FC_LARGE_REQ, to);
#pragma unroll
	for (i = 0; i < CALL_PIECES; i++) {
		n = c->len[i];
		FC_CLAMP(at, FC_LARGE_REQ);
		FC_CLAMP(n, FC_LARGE_REQ);
		if (n > FC_LARGE_REQ - at)
			n = FC_LARGE_REQ - at;
		FC_CLAMP(n, FC_LARGE_REQ);
		if (i < c->pieces && n) {
			if (read_user(buf + at, (u32)n, (void *)c->base[i]))
				return -1;
			at += n;
		}
	}
	n = at;
	FC_CLAMP(n, FC_LARGE_REQ);
	read_kernel(to, (u32)n, buf);
	return n;
}

#endif
