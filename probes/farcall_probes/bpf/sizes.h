/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* How long a request is and takes, and what user space needs to know how long its response is (responses.py). */
#ifndef FARCALL_SIZES_H
#define FARCALL_SIZES_H

#include "conn.h"
#include "io.h"

/* The request's last byte so far. */
FC_INLINE void note_asked(struct fc_exchange *x)
{
	u64 us = (read_clock() - x->ts_req_ns) / 1000;

	x->who.asked_us = us > 0xffffffff ? 0xffffffff : (u32)us;
}

/* What no call of ours carried (sendfile, splice) is a part of the request too: its place in the stream tells. */
FC_INLINE void measure_request(u64 sk, struct conn *k, u32 written)
{
	struct fc_exchange *x = &k->large.x;
	u32 sent;

	/* A FIN has a number of its own; behind it nothing is sent. */
	if (k->dir != DIR_OUT || x->flags & (FC_FLAG_TLS | FC_FLAG_PIPELINED) || load_state(sk) != TCP_ESTABLISHED)
		return;
	sent = written - x->request_seq;
	if (sent > x->req_bytes)
		x->req_bytes = sent;
}

#endif
