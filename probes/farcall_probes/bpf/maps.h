/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What is remembered between system calls, and by what key. The maps themselves are made by maps.py. */
#ifndef FARCALL_MAPS_H
#define FARCALL_MAPS_H

#include "http2.h"
#include "places.h"
#include "tlsstate.h"

enum fd_kind {
	FD_NOT = 0,     /* nothing of ours, until `until` */
	FD_TCP = 1,
	FD_UDP = 2,     /* a resolver's answers may come here */
	FD_TCP_DNS = 3, /* a TCP connection to a resolver */
};

/* Entries of nothing live this long: what comes to be under a number by a call that is not hooked becomes visible after it. */
#define FD_NOT_LIFE_NS FC_SECOND_NS
/* So many calls that are no request in a row, and the descriptor is left alone for a while. */
#define FD_MAX_TRIES 32
#define FD_DULL_NS (FC_SECOND_NS / 10)

struct fdent {
	u64 sk;
	u64 until;
	u32 ports; /* remote and local port as the kernel has them, a cheap sign of a reused sock address */
	u16 rport;
	u8 kind;
	u8 tries;
};

enum conn_state {
	CONN_IDLE = 0,
	CONN_MAYBE = 1,    /* fewer bytes than tell a request from anything else */
	CONN_REQUEST = 2,  /* in flight */
	CONN_RESPONSE = 3, /* in flight, a few response bytes seen */
	CONN_ANSWERED = 4, /* record submitted; what follows in that direction is the response's rest */
	CONN_FRAMED = 5,   /* followed message by message, see framing.h */
};

/* Of the rings, see caps.h. */
enum share {
	SHARE_UNASKED = 0,
	SHARE_TAKEN = 1,
	SHARE_LOST = 2, /* counted */
};

enum tls_state {
	TLS_NONE = 0,
	TLS_SEALED = 1, /* TLS records were seen */
	TLS_OPEN = 2,   /* and plaintext of this connection */
	TLS_NAMED = 3,  /* the same, of a library that shows the connection with each piece (Go's) */
};

/* Whether the bytes of a call are TLS plaintext, and how its connection is known. */
enum plain {
	PLAIN_NOT = 0,
	PLAIN_FOUND = 1,
	PLAIN_NAMED = 2, /* see TLS_NAMED */
};

enum direction { DIR_OUT = 0, DIR_IN = 1 };
enum connector {
	CONNECTOR_UNKNOWN = 0,
	CONNECTOR_SELF = 1,
	CONNECTOR_PEER = 2,
	CONNECTOR_TOLD = 3, /* in struct opened: connect failed, and that was told */
};
enum head_state { HEAD_UNKNOWN = 0, HEAD_ENDED = 1, HEAD_SHIPPING = 2 };

#define FC_SEGMENT_BYTES (FC_LARGE_REQ + FC_LARGE_RESP)
/* Of a message that arrives in pieces, per direction: they share what is the record's request and response otherwise. */
#define FC_HOLD (FC_SEGMENT_BYTES / 2)

enum half { HALF_REQUESTS = 0, HALF_RESPONSES = 1 };

/* The record lies in the state as it will be submitted: one copy, and no byte of another connection in it. Requests
 * are collected at one offset for both classes; the small class' response overlays the large one's request. */
struct conn {
	union {
		struct fc_large large;
		struct fc_small small;
	};
	u64 last_ns; /* of the last call that mattered while requests are in flight unpaired */
	u32 ports;
	u32 next_seq;
	u32 isn_client;
	u32 isn_server;
	u8 sights;    /* of the identity, that agreed; 2 is enough */
	u8 state;
	u8 dir;       /* in which requests travel */
	u8 connector;
	u8 head;
	u8 parts;
	u8 unpaired;  /* requests in flight beside the one in `large` */
	u8 mute;      /* a health check: counted, not submitted */
	u32 dns_skip; /* bytes of a TCP answer still to pass by */
	u16 dns_len;
	u8 dns_have;  /* bytes of the length prefix that were read apart */
	u8 dns_parts; /* of the message at hand that were told */
	u32 tgid;     /* in the first PID namespace, whatever the record says */
	u32 policies; /* the state of the policy map that wanted it, see is_still_wanted */
	u8 never_framed; /* given up once */
	u8 wrapped;      /* messages lie in outer frames (Cassandra 5) */
	u16 dns_size;    /* of the message that dns_skip is the rest of */
	union {
		struct framing framing[2]; /* by enum half */
		struct commands commands;  /* of a request of protocols that answer in order */
	};
	/* TLS, see tls.h: the bytes of the socket are sealed, requests and responses come from the library. */
	u32 tls_left;    /* bytes of the record being read that are still to come */
	u32 tls_in_seq;  /* TCP sequence number of the record that the newest plaintext read began in, or will, when tls_fresh */
	u32 tls_in_place; /* of its first byte, in plaintext */
	u32 tls_out_seq; /* of plaintext that was written, as tls_wrote says */
	u32 tls_places[2]; /* bytes of plaintext that went by, by enum direction: where the next begins */
	u32 tls_begin;   /* place of the request's first byte */
	u8 tls;          /* enum tls_state */
	u8 tls_fresh;
	u8 tls_wrote;    /* enum tls_wrote */
	u8 tls_cipher;   /* ChangeCipherSpec was the newest record read */
	u32 tls_in_len;  /* of that record */
	u32 answers;     /* calls that brought bytes of responses, while it is followed message by message */
	/* Of a connection whose protocol is not known: when its bytes were last told of, and how many there were. */
	u64 told_ns;
	u64 told_sent;
	u64 told_received;
	/* The rest of a response, see rest.h. */
	u64 rest_ns;    /* of its newest bytes that were not told yet, or 0 */
	u64 rest_bytes; /* the whole response's, up to rest_seq */
	u64 rest_last;  /* the newest eight */
	u64 rest_owed;  /* how long it is as its first bytes say, of Redis and memcached; 0: they do not */
	u32 rest_seq;
	u8 follow;      /* enum follow */
	u8 share;       /* enum share, of the request at hand */
	u8 again;       /* it was known before, and forgotten for others: see opened.h */
	u8 tls_stage;   /* enum tls_stage */
	u64 dull_ns;    /* until then it is left alone while it is idle: struct fdent's `until`, which takes a look-up */
	u32 full_window; /* in which its container has had its share of the rings, see caps.h */
	u32 capped;      /* records that it lost in it, which its bucket does not have yet */
};

/* Where a response begins in a large record. */
FC_INLINE const u8 *find_response(const struct conn *k)
{
	u64 at = FC_RESP_MORE - (u64)k->large.x.resp_more;

	FC_CLAMP(at, FC_RESP_MORE);
	return k->large.resp - FC_RESP_MORE + at;
}

/* The request that a thread read last, see cause.h. */
struct serving {
	u64 sk;
	u64 conn_id; /* 0: nothing that is certain */
	u32 seq;
	u32 loop; /* this thread reads requests before earlier ones are answered: never certain again */
	u32 answers; /* of struct conn, when the request was read */
	u32 spare;
};

/* The beginning of a question that was sent to a resolver over UDP. */
struct asked {
	u64 ts_ns;
	u32 len;
	u32 spare;
	u8 question[FC_DNS_ASKED];
};

/* A container's records in this window, see caps.h. */
struct bucket {
	u64 window;
	u64 used;
	u64 lost; /* since it was made */
};

struct settings {
	u32 enabled; /* set last: attaching is not atomic */
	u32 default_policy;
	u32 own_tgid;
	u32 only_tgid; /* not 0: during the self-test, everybody else is left alone */
	u32 dns_port;  /* not 0: a second one beside 53, for the self-test */
	u32 cap;       /* records of one container in a window, 0: as many as it likes */
	u32 left_out;  /* of 2^32 exchanges, so many are left out, see sample.h; 0: none */
	u32 policies;  /* number of the policy map's newest state, never 0 */
};

#define FC_DNS_PORT 53

/* At most four pieces of a call are looked at: heads begin in the first. */
#define CALL_PIECES 4

/* One system call on a socket, and the CPU's workspace beside it. In a map and not on the stack, also because the verifier
 * forgets what it knew of values that it loads from there: paths through the programs become equal and are pruned. */
struct call {
	u64 counts[FC_COUNT_MAX];
	u64 pid_tgid;
	u64 fd;
	u64 now;
	u64 total; /* bytes */
	u64 dir;
	u64 pieces;
	u64 base[CALL_PIECES];
	u64 len[CALL_PIECES];
	u64 name; /* user's sockaddr of the peer, or 0 */
	u64 file; /* that fd led to when it was last walked; 0: not in this call */
	u64 message; /* user's msghdr of a recvmsg, or 0 */
	u64 nonblocking; /* the call itself said so */
	u64 last_id;
	u64 sk;     /* that fd led to when it was last looked up, and then the one that the next step works on; or 0 */
	u64 ports;  /* and its ports then */
	u64 before; /* for the next step: bytes of the request that came in earlier calls; or where in the call it goes on */
	u64 plain;  /* enum plain */
	u64 busy;   /* claims of a workspace for uprobes */
	u64 owner;  /* pid_tgid that has it */
	u32 tls_skip; /* bytes of the system call before the record that plaintext goes out in; or TLS_UNSENT */
	u32 tls_seq; /* where in TCP sequence space the plaintext begins */
	u32 place;   /* and where in plaintext */
	u32 default_policy; /* of struct settings */
	u32 dns_port;
	u32 policies;
	u64 iov;      /* of a call of several pieces: where their list goes on, how many are left, and how many bytes */
	u64 iov_left;
	u64 limit;
	u64 piece; /* the one that is walked, when they are walked one by one */
	u64 piece_base;
	u64 piece_bytes;
	/* Of the bytes of a request that the walk over its commands has in `buf`: where in it they begin, how many they are, and whether
	 * what follows them is in another piece, or call. */
	u64 chunk;
	u64 chunk_bytes;
	u64 chunk_ends;
	u32 more;     /* the call has pieces beyond those that are looked at */
	/* Of a call that is taken message by message: */
	u32 position; /* TCP sequence number of its first byte */
	u32 segments; /* messages taken so far */
	u32 unseen;   /* bytes went by before it, of the message that is held */
	struct telling telling;
	u64 pending;  /* stream of HTTP/2 whose HEADERS are in `segment`, not submitted yet; or 0 */
	u64 forgotten; /* see FORGET */
	struct conn fresh;        /* its request and response bytes are never written, so they stay zero */
	u8 buf[2 * FC_LARGE_REQ]; /* twice: offset and length are bounded each by itself, not as a pair */
	struct fc_large segment;  /* as it will be submitted: two threads may use a connection's directions at once */
	u8 slack[FC_SEGMENT_BYTES]; /* for the same reason */
};

_Static_assert(sizeof(struct fdent) == SIZE_FDENT, "SIZE_FDENT");
_Static_assert(sizeof(struct conn) == SIZE_CONN, "SIZE_CONN");
_Static_assert(__builtin_offsetof(struct conn, state) == SIZE_BEFORE_STATE, "SIZE_BEFORE_STATE");
_Static_assert(sizeof(struct asked) == SIZE_ASKED, "SIZE_ASKED");
_Static_assert(sizeof(struct settings) == SIZE_SETTINGS, "SIZE_SETTINGS");
_Static_assert(sizeof(struct fc_who) == SIZE_WHO, "SIZE_WHO");
_Static_assert(sizeof(struct bucket) == SIZE_BUCKET, "SIZE_BUCKET");
_Static_assert(sizeof(struct serving) == SIZE_SERVING, "SIZE_SERVING");
_Static_assert(sizeof(struct call) == SIZE_CALL, "SIZE_CALL");

/* What is rare or large is a program of its own: verified once, not once per hook, and what one path found out about
 * its values does not multiply those of the next. Does not return, unless the step is missing. */
FC_INLINE void go_to(void *ctx, u32 step)
{
	tail_call(ctx, MAP(MAP_STEPS), step);
}

/* The verifier follows each path with what it knows of a number; behind this it knows nothing of `x`, and goes on once. */
#define FORGET(c, x)                                       \
	do {                                               \
		*(volatile u64 *)&(c)->forgotten = (x);    \
		(x) = *(volatile u64 *)&(c)->forgotten;    \
	} while (0)

FC_INLINE void count(struct call *c, u32 which)
{
	c->counts[which]++;
}

/* One a CPU for each kind: connections also close in interrupts, in the middle of a system call's program, or of one that the loader
 * runs. System calls' programs never meet on one CPU: the kernel lets only one program of a perf event run there at a time. */
enum workspace { WORKSPACE_CALL = 0, WORKSPACE_CLOSE = 1, WORKSPACE_RUN = 2, WORKSPACE_UPROBE = 3 };

/* Uprobes' programs can be preempted, by each other too, and stay on their CPU: each claims one of a few. */
#define UPROBE_WORKSPACES 4

FC_INLINE struct call *find_workspace(u32 which)
{
	return map_lookup(MAP(MAP_CALL), &which);
}

/* NULL when there is none left, which is counted where it can be. Whoever reads 1 behind its own addition is alone. */
FC_INLINE struct call *claim_workspace(u64 pid_tgid)
{
	u32 i;

#pragma unroll
	for (i = 0; i < UPROBE_WORKSPACES; i++) {
		struct call *c = find_workspace(WORKSPACE_UPROBE + i);

		if (!c)
			return NULL;
		__sync_fetch_and_add(&c->busy, 1);
		if (*(volatile u64 *)&c->busy == 1) {
			c->owner = pid_tgid;
			return c;
		}
		__sync_fetch_and_add(&c->busy, -1);
		if (i == UPROBE_WORKSPACES - 1)
			__sync_fetch_and_add(&c->counts[FC_COUNT_TLS_LOST], 1);
	}
	return NULL;
}

/* The workspace of the step before. */
FC_INLINE struct call *resume_call(void)
{
	u64 pid_tgid;
	u32 i;

	if (!NUM(NUM_IN_UPROBE))
		return find_workspace(WORKSPACE_CALL);
	pid_tgid = read_pid_tgid();
#pragma unroll
	for (i = 0; i < UPROBE_WORKSPACES; i++) {
		struct call *c = find_workspace(WORKSPACE_UPROBE + i);

		if (c && c->owner == pid_tgid)
			return c;
	}
	return NULL;
}

/* The last thing that each program does with what it resumed or claimed. */
FC_INLINE void end_call(struct call *c)
{
	if (!NUM(NUM_IN_UPROBE))
		return;
	c->owner = 0;
	__sync_fetch_and_add(&c->busy, -1);
}

/* NULL when there is nothing to do: not enabled, or the agent itself. */
FC_INLINE struct settings *find_settings(u64 pid_tgid)
{
	u32 zero = 0;
	struct settings *settings = map_lookup(MAP(MAP_SETTINGS), &zero);
	u32 tgid = pid_tgid >> 32;

	if (!settings || !settings->enabled || tgid == settings->own_tgid)
		return NULL;
	if (settings->only_tgid && tgid != settings->only_tgid)
		return NULL;
	return settings;
}

FC_INLINE void begin_call(struct call *c, struct settings *settings, u64 pid_tgid, u64 dir)
{
	c->pid_tgid = pid_tgid;
	c->dir = dir;
	c->name = 0;
	c->file = 0;
	c->message = 0;
	c->sk = 0;
	c->nonblocking = 0;
	c->more = 0;
	c->plain = PLAIN_NOT;
	c->tls_skip = 0;
	c->default_policy = settings->default_policy;
	c->policies = settings->policies;
	c->dns_port = settings->dns_port;
}

/* The running task's number and its process', as read_pid_tgid has them: two loads instead of a call. */
FC_INLINE u64 load_pid_tgid(void *task)
{
	u32 tgid = *(volatile u32 *)AT(task, OFF_TASK_TGID);
	u32 tid = *(volatile u32 *)AT(task, OFF_TASK_TID);

	return (u64)tgid << 32 | tid;
}

FC_INLINE struct call *open_call(void *task, u64 dir)
{
	u64 pid_tgid = load_pid_tgid(task);
	struct settings *settings = find_settings(pid_tgid);
	struct call *c = settings ? find_workspace(WORKSPACE_CALL) : NULL;

	if (c)
		begin_call(c, settings, pid_tgid, dir);
	return c;
}

#endif
