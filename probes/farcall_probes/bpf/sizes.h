/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* How long an HTTP/1 request is, and what user space needs to know how long its response is (responses.py). */
#ifndef FARCALL_SIZES_H
#define FARCALL_SIZES_H

#include "conn.h"
#include "io.h"

/* The response's bytes behind those that its own place holds. */
FC_INLINE void collect_more(struct call *c, struct conn *k, u64 base, u64 len)
{
	struct fc_exchange *x = &k->large.x;
	u64 n = len;

	if (x->req_cap > FC_LARGE_REQ - FC_RESP_MORE)
		return;
	FC_CLAMP(n, FC_RESP_MORE);
	read_user(k->large.req + FC_LARGE_REQ - FC_RESP_MORE, (u32)n, (void *)base); /* zeros, if it can not be read */
	x->resp_more = (u16)n;
}

/* What no call of ours carried (sendfile, splice) is a part of the request too: its place in the stream tells. */
FC_INLINE void measure_request(u64 sk, struct conn *k)
{
	struct fc_exchange *x = &k->large.x;
	u32 sent;

	/* A FIN has a number of its own; behind it nothing is sent. */
	if (k->dir != DIR_OUT || x->flags & (FC_FLAG_TLS | FC_FLAG_PIPELINED) || load_state(sk) != TCP_ESTABLISHED)
		return;
	sent = locate_write(sk) - x->request_seq;
	if (sent > x->req_bytes)
		x->req_bytes = sent;
}

#endif
