/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The records that leave the kernel: the contract between bpf/ and the reader.
 *
 * events.py mirrors this file; tests/golden has a C compiler print sizes and offsets and compares. Plain C, no
 * BCC macros: `cc` must be able to read it. Every field is written, padding included, because reserved ring memory is
 * not zeroed. Captured bytes end at their `cap`: what lies behind is stale, and nobody may read it.
 *
 * Times are CLOCK_MONOTONIC nanoseconds. Addresses are 16 bytes, IPv4 mapped (RFC 4291, 2.5.5.2). Ports are in host order.
 */
#ifndef FARCALL_EVENTS_H
#define FARCALL_EVENTS_H

#ifndef FC_KERNEL_SIDE
#include <stdint.h>
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
#endif

/* One power-of-two stride per ring, the 8-byte ring header included: no record straddles a ring's end, so each ring
 * is mapped once. */
#define FC_STRIDE_SMALL 512
#define FC_STRIDE_LARGE 1024
#define FC_STRIDE_HEAD 8192
#define FC_STRIDE_DNS 2048
#define FC_RING_HEADER 8

#define FC_COMM_LEN 16

enum fc_protocol {
	FC_PROTO_UNKNOWN = 0,
	FC_PROTO_HTTP1 = 1,
	FC_PROTO_REDIS = 2,
	FC_PROTO_POSTGRES = 3,
	FC_PROTO_MYSQL = 4,
	FC_PROTO_MEMCACHED = 5,
	FC_PROTO_TCP = 6, /* none of the others: bytes of a connection, or of a minute of it; req holds what it began with */
	FC_PROTO_HTTP2 = 7,
	FC_PROTO_KAFKA = 8,
	FC_PROTO_MONGODB = 9,
	FC_PROTO_CASSANDRA = 10,
	FC_PROTO_GRPC = 11, /* never from the kernel: user space says so of HTTP/2 by its content type */
	FC_PROTO_NATS = 12, /* from here on they have no numbers */
	FC_PROTO_AMQP = 13,
};

enum fc_role {
	FC_ROLE_CLIENT = 0, /* this end sent the request */
	FC_ROLE_SERVER = 1, /* this end was asked */
};

/* The low bits are farcall.exchange.ExchangeFlag's (a test compares). */
enum fc_flag {
	FC_FLAG_TLS = 1 << 0,
	FC_FLAG_PIPELINED = 1 << 1,
	FC_FLAG_CUT = 1 << 2,
	FC_FLAG_LATE = 1 << 3,        /* the connection is older than the agent's watch */
	FC_FLAG_IDENTITY = 1 << 4,    /* isn_client, isn_server, request_seq are valid: two sights agreed */
	FC_FLAG_HEAD = 1 << 5,        /* the request's head came before, in a struct fc_head with the same conn_id and seq */
	FC_FLAG_NO_RESPONSE = 1 << 6, /* closed before the first response byte; ts_resp_ns is the time of the close */
	FC_FLAG_CONNECTOR = 1 << 7,   /* this end called connect */
	/* bits 8 and 9 are user space's */
	FC_FLAG_UNCONNECTED = 1 << 10, /* connect failed: there never was a connection */
};

/* The upper half of the flags: of 2^16 records like this one, so many are left out, see sample.h; 0: none. */
#define FC_LEFT_OUT_SHIFT 16

/*
 * Protocols that answer out of order (HTTP/2, Kafka, MongoDB, Cassandra) are not paired in the kernel: each message, or in
 * HTTP/2 each frame that user space needs, is a record of its own with the bytes as they were on the wire, and user space
 * pairs them by the number that the protocol gives them. In such a record
 *   ts_req_ns    is the time of the message's first byte, ts_resp_ns is 0
 *   seq          counts the segments of this direction of the connection from 0: a gap is a loss
 *   req_bytes    is the message's length as its header says, the header included; resp_bytes is 0
 *   request_seq  is the TCP sequence number of its first byte, in its own direction
 *   req_cap      bytes were captured, from `req` on and on into what is `resp` in an exchange; resp_cap is 0
 * A message of the others that goes on behind its call says so (FC_ENDED_LATER); its end is a record of its own, next in number,
 * without bytes, whose ts_req_ns is the time of the message's last one. Of one whose beginning was held until its rest came,
 * ts_resp_ns is that time.
 * A frame of HTTP/2 that does not fit one record, or comes in several calls, is several records: resp_bytes is where in the
 * frame their bytes begin, FC_FLAG_CUT on the last one says that the rest is not shipped.
 * The answer's HEADERS and its trailers are one record of HTTP/2 when one call brings both: resp_cap of the captured bytes, the
 * last ones, are the trailers' frame, which ends the stream.
 * A connection that was followed so and closes says it in a record of its own, with FC_FLAG_NO_RESPONSE: ts_req_ns is the time,
 * req_bytes and resp_bytes are how many requests and responses were numbered on it, seq is what the next response's would
 * have been. Of HTTP/2 its bytes are two tables of struct fc_body, the requests' and the responses'.
 *
 * Bodies of HTTP/2 are counted, and told of by the record of their stream that comes next in any case, if there is one: that of
 * the HEADERS before it, as long as the same call brings it, and else of what ends the stream. In such a record
 *   ts_resp_ns   is how many bytes of DATA frames, their headers included, its stream had in this direction
 *   ended        is FC_ENDED_STREAM when this direction of the stream ended with them
 *   who.cause_conn_id  of a response, or RST_STREAM: the same number in the other direction
 *   who.asked_us       of the same: the request ended so many microseconds before this; 0: not known, or said elsewhere
 * and each byte is told of once. Where no such record comes, one of an empty DATA frame is made: at the end of a response's
 * body, and when so many streams have one at a time that there is no room to count them.
 */
enum fc_segment {
	FC_SEGMENT_NONE = 0, /* the record is a whole exchange */
	FC_SEGMENT_REQUEST = 1,
	FC_SEGMENT_RESPONSE = 2,
	FC_SEGMENT_CLOSED = 3, /* what is in flight on this connection will not be answered any more */
	FC_SEGMENT_REST = 4,   /* of an exchange that was told: how its response went on, see rest.h */
};

/*
 * A record of FC_SEGMENT_REST has the fixed part of its exchange (conn_id and seq say which), but
 *   ts_resp_ns   is the time of the newest bytes of the response
 *   resp_bytes   is how many there were in all
 *   end          is enum fc_rest, ended is enum fc_ended; req_cap and resp_cap are 0
 */
enum fc_rest {
	FC_REST_ASKED = 0,  /* told because user space asked for it: more may come */
	FC_REST_NEXT = 1,   /* the next request began */
	FC_REST_CLOSED = 2, /* nothing more can come: the connection closed */
};

/* How the newest bytes of a response look. */
enum fc_ended {
	FC_ENDED_NOT = 0,
	FC_ENDED_BLANK = 1,  /* as the end of a chunked body's trailers, an event of a stream may too; of Redis and memcached, as an answer may */
	FC_ENDED_CHUNKS = 2, /* as the end of a chunked body */
	FC_ENDED_STREAM = 3, /* of a segment of HTTP/2, see above */
	FC_ENDED_ANSWER = 4, /* as a database's answer does */
	FC_ENDED_LATER = 5,  /* of an exchange and of its rest: more of a pipeline's requests is to come; of a segment: the message goes on in later calls, and a record without bytes tells when it ended */
};

/* Of a stream of HTTP/2, in one direction: the DATA that no record told of yet. 12 bytes. */
struct fc_body {
	u32 stream; /* 0: none */
	u32 bytes;  /* of the frames, their headers included */
	u32 end_us; /* of a request: when it ended, CLOCK_MONOTONIC in microseconds modulo 2^32, never 0; 0: it has not */
};
#define FC_BODIES 16 /* by the stream's number: streams of one side are odd or even */

/* Why there is no answer. With FC_FLAG_NO_RESPONSE. */
enum fc_end {
	FC_END_NONE = 0,
	FC_END_CLIENT_CLOSED = 1, /* who asked closed first */
	FC_END_SERVER_CLOSED = 2, /* who was asked closed first */
	FC_END_RESET = 3,
	FC_END_TIMEOUT = 4,       /* TCP gave up, or no answer for as long as was waited for it */
	FC_END_REFUSED = 5,       /* this and what follows: with FC_FLAG_UNCONNECTED */
	FC_END_UNREACHABLE = 6,
	FC_END_CONNECT_TIMEOUT = 7, /* TCP or the caller gave up */
	FC_END_NO_PORT = 8,       /* no local port or address is free */
	FC_END_DENIED = 9,        /* by a firewall or a policy of this machine */
};

/* Who, where and which connection: the first part of every record. 128 bytes. */
struct fc_who {
	u64 conn_id;      /* unique per agent boot, and the connection's as long as it lives; but see name_anew */
	u64 conn_open_ns; /* connect's or accept's time; 0 when older than the agent's watch */
	u64 cgroup_id;    /* v2 ID unless that is the root's, else the memory controller's (facts of hybrid nodes) */
	u64 proc_start_ns; /* group leader's start_boottime: with tgid the identity of a process (CLOCK_BOOTTIME) */
	u32 tgid;         /* in the agent's PID namespace, as its /proc has it */
	u32 tid;          /* in the first PID namespace: only to be compared */
	u32 netns;        /* inode number */
	u32 parent_tgid;  /* real_parent's tgid: a client that forked and exited is still found */
	u16 lport;
	u16 rport;
	u8 family;        /* AF_INET or AF_INET6 of the socket */
	u8 pad0;
	u16 commands;     /* of a request of HTTP/1, Redis, memcached or PostgreSQL that is longer than its record: how many it has, at most 0xffff; else 0. In the record of its rest there may be more: see commands.h */
	u8 laddr[16];
	u8 raddr[16];
	u8 comm[FC_COMM_LEN];
	u64 cause_conn_id; /* of a request that this end sent: the exchange that its thread was serving, see cause.h; 0: not known */
	u32 cause_seq;
	u32 asked_us; /* from the first byte of the request to its last; beyond 71 minutes it stays there */
	u64 sk;       /* the kernel's name of the connection: only to ask for it */
};

/* One request and its first response bytes, at one end. Head and payload follow in `data`: req_cap bytes of the
 * request, then resp_cap bytes of the response, at fixed offsets (see FC_*_REQ, FC_*_RESP). */
struct fc_exchange {
	struct fc_who who;
	u64 ts_req_ns;  /* write-enter or read-exit of the first request byte */
	u64 ts_resp_ns; /* of the first response byte */
	u64 req_bytes;  /* all bytes of the request so far */
	u64 resp_bytes; /* bytes of the first response call */
	u32 seq;        /* exchange number on this connection, from 0: a gap is a loss, or it was forgotten meanwhile (opened.h) */
	u32 isn_client; /* TCP sequence number of the first client byte; see FC_FLAG_IDENTITY */
	u32 isn_server;
	u32 request_seq; /* of the request's first byte */
	u32 flags;
	u16 req_cap;
	u16 resp_cap;
	u8 proto;
	u8 role;
	u8 segment; /* enum fc_segment */
	u8 end;     /* enum fc_end */
	u8 wrapped; /* of a segment: 1 when it is a packed or partial outer frame of Cassandra's version 5, with any number of messages in it */
	u8 ended; /* enum fc_ended; of a whole exchange how its first call ends; of HTTP/1 only where not all of it was captured */
	u16 resp_more; /* of HTTP/1: so many bytes of the response lie before `resp`, at the end of `req`; those in `resp` go on from them */
};

/* small: Redis, memcached; 128 + 64 + 312 = 504 = 512 - 8.  large: HTTP/1 and SQL; 192 + 696 + 128 = 1016 = 1024 - 8. */
#define FC_SMALL_REQ 232
#define FC_SMALL_RESP 80
#define FC_LARGE_REQ 696
#define FC_LARGE_RESP 128
/* What a response may have of the request's room, where that is free: a server's Content-Length may stand behind 128 bytes of other
 * fields. */
#define FC_RESP_MORE 224

struct fc_small {
	struct fc_exchange x;
	u8 req[FC_SMALL_REQ];
	u8 resp[FC_SMALL_RESP];
};

struct fc_large {
	struct fc_exchange x;
	u8 req[FC_LARGE_REQ];
	u8 resp[FC_LARGE_RESP];
};

/* A request head that does not end within fc_large.req: shipped at request time, paired by (conn_id, seq, role) in user
 * space. A head that arrives in several calls gives several records, `part` counting from 0. */
struct fc_head {
	u64 conn_id;
	u64 ts_ns;
	u32 seq;
	u32 len; /* bytes of this call */
	u16 cap; /* bytes in data */
	u8 part;
	u8 role;
	u32 offset; /* of data's first byte in the request: a write retried after EAGAIN comes twice with one offset */
	u8 data[FC_STRIDE_HEAD - FC_RING_HEADER - 32];
};

/* A DNS answer as its client read it. who.raddr/rport: the resolver. tcp: data begins behind the 2-byte length.
 *
 * asked: over UDP the beginning of what this socket asked under the answer's transaction ID, from the question's name on; what
 * was sent behind the question may follow. None: nobody asked. Names of 115 bytes are whole in it.
 *
 * Over TCP a client may read a message in portions: each is a record with the same conn_id, `offset` says where it lies in the
 * message, `more` whether another is to come. */
#define FC_DNS_ASKED 120
#define FC_DNS_DATA (FC_STRIDE_DNS - FC_RING_HEADER - 128 - 24 - FC_DNS_ASKED)
struct fc_dns {
	struct fc_who who;
	u64 ts_ns;
	u32 len; /* bytes of the message */
	u16 cap; /* bytes in data; smaller than len: truncated here */
	u8 tcp;
	u8 asked_cap;
	u32 offset;
	u8 more;
	u8 pad[3];
	u8 asked[FC_DNS_ASKED];
	u8 data[FC_DNS_DATA];
};

/* Index into the per-CPU array of u64 counters. Every loss has one. counters.py gives them their names. */
enum fc_counter {
	FC_COUNT_EVENTS = 0,       /* system calls on sockets that were looked at */
	FC_COUNT_SMALL = 1,        /* records submitted */
	FC_COUNT_LARGE = 2,
	FC_COUNT_HEAD = 3,
	FC_COUNT_DNS = 4,
	FC_COUNT_SMALL_LOST = 5,   /* ring full */
	FC_COUNT_LARGE_LOST = 6,
	FC_COUNT_HEAD_LOST = 7,
	FC_COUNT_DNS_LOST = 8,
	FC_COUNT_RESOLVED = 9,     /* fd → socket walks that found a TCP or UDP socket */
	FC_COUNT_NOT_SOCKET = 10,
	FC_COUNT_CONN_LOST = 11,   /* no room for a connection's state */
	FC_COUNT_READ_FAULT = 12,  /* user memory could not be read */
	FC_COUNT_ORPHAN = 13,      /* response bytes without a request seen */
	FC_COUNT_OVERWRITTEN = 14, /* a request's state replaced before its answer (duplex, pipelining across calls) */
	FC_COUNT_POLICY = 15,      /* dropped by policy: own, excluded or foreign processes */
	FC_COUNT_HEALTH = 16,      /* kube-probe/ requests, counted and not stored */
	FC_COUNT_IDENTITY_TORN = 17, /* two sights of a connection's identity disagreed */
	FC_COUNT_HEAD_CUT = 18,    /* request heads in more calls than parts are shipped for */
	FC_COUNT_NO_RESPONSE = 19, /* closed before the first response byte: records submitted or lost like any other */
	FC_COUNT_SEGMENT = 20,      /* records submitted that are one message, or say that its connection closed */
	FC_COUNT_SEGMENT_LOST = 21, /* ring full */
	FC_COUNT_SEGMENT_BEYOND_LOST = 22,   /* messages of one call past the bound: numbered, not submitted */
	FC_COUNT_SEGMENT_RESYNC_LOST = 23,   /* a direction's place in the stream was lost: messages until it is found again */
	FC_COUNT_SEGMENT_GIVEN_UP = 24, /* connections that made no sense for long and go on as plain TCP */
	FC_COUNT_UNCONNECTED = 25, /* connects that failed: records submitted or lost like any other */
	FC_COUNT_CONNECT_UNTOLD = 26, /* connects given up within a second, or over IPv6 where there is none */
	FC_COUNT_TIMED_OUT = 27,   /* requests whose answer was waited for too long: submitted or lost like any other */
	FC_COUNT_TLS = 28,         /* pieces of plaintext that TLS libraries wrote or read */
	FC_COUNT_TLS_UNOWNED = 29, /* the same, whose connection could not be told, or that were gone by then: not looked at */
	FC_COUNT_TLS_LOST = 30,    /* the same, no workspace was free */
	FC_COUNT_CAPPED_LOST = 31, /* beyond what one container may have: not submitted */
	FC_COUNT_SAMPLED_DROPPED = 32, /* left out so that the agent stays below its CPU ceiling: not submitted */
	FC_COUNT_REST = 33, /* rests of responses that were told: records submitted or lost like any other */
	FC_COUNT_OPENED_DROPPED = 34, /* openings of connections that were forgotten for others' */
	FC_COUNT_MAX = 35,
};

/* Flags of the policy map (cgroup ID → u32) and of the default for cgroups it does not hold. */
enum fc_policy {
	FC_POLICY_DROP = 1 << 0,
	FC_POLICY_KEEP = 1 << 1,
};

#endif
