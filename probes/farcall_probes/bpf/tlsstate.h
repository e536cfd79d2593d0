/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What is remembered of TLS libraries' callers, see tls.h. */
#ifndef FARCALL_TLSSTATE_H
#define FARCALL_TLSSTATE_H

#include "fc.h"

/* What a thread is doing in its TLS library. */
struct tls_call {
	u64 write_ssl; /* of the newest write */
	u64 write_buf;
	u32 write_len;
	u32 write_behind; /* bytes of plaintext that had been read on its connection by then */
	u64 write_head; /* its first bytes */
	u64 read_ssl; /* not 0: inside of a read */
	u64 read_buf;
	u64 read_len;
	u64 read_count; /* user's size_t that gets the number of bytes, for libraries that return only success */
	u64 last_sk;    /* the connection that a record was read from last */
	u64 last_buf;   /* where in the process' memory those bytes came to lie, as far as calls filled it without a gap */
	u64 last_len;
	u32 last_fd;
	u32 last_ports;
	u8 speaks : 1;   /* it has called the library at least once */
	u8 has_read : 1; /* a sealed connection, since its last write */
	u8 hellos : 6;   /* noted for it before it did, see tlshello.h */
	u8 peeks : 1;      /* inside of SSL_peek, which takes nothing away */
	u8 copy_again : 1; /* the copy below was seen by another program of ours too */
	u8 waits;  /* enum tls_waits, of the newest write */
	u8 kept;   /* enum tls_kept_as, of the same */
	u16 write_owner; /* NUM_OWNER of the program that saw it */
	u16 owner;       /* and of the one that saw the copy below */
	/* The newest copy of plaintext to the caller: */
	u64 copy_from;
	u64 copy_bytes;
	u64 last_tag; /* what the record ends with that was read last, see find_tag; 0: unknown */
};

enum tls_waits {
	WAITS_NOT = 0,
	WAITS_TAKEN = 1, /* not: it was taken when it was written */
	WAITS = 2,       /* not seen to leave yet */
	WAITS_AGAIN = 3, /* the same, and it is as long as what left before it and begins so: perhaps the rest of that */
	WAITS_BLIND = 4, /* the same, and so does another object's plaintext: a record's length does not tell whose it is */
	WAITS_LAST = 5,  /* the same, but the thread had read meanwhile: it is that connection's (Node.js, whose early writes fail) or lost */
};

enum tls_kept_as {
	KEPT_NOT = 0,
	KEPT_ONE = 1,
	KEPT_SEVERAL = 2, /* writes, of which it is the last */
};

/* Plaintext whose connection is not known when it is written: libraries that only fill buffers may give the bytes back
 * before they leave (Node.js does with a connection's first request). By thread: what leaves next from there is it. */
#define FC_TLS_KEPT (SIZE_TLS_KEPT - 24)
#define FC_TLS_KEPT_WRITES 64 /* of one call of the kernel's, and more of one that never comes */
struct tls_kept {
	u64 ssl;
	u32 first; /* bytes of the first write */
	u32 all;   /* and of all; as much of them as fits is kept */
	u32 have;
	u32 writes;
	u8 bytes[FC_TLS_KEPT];
};

/* Of struct conn: what `tls_out_seq` is. */
enum tls_wrote {
	WROTE_NOT = 0,
	WROTE_SENT = 1,  /* where the newest plaintext's record began */
	WROTE_AHEAD = 2, /* where the next one's will, at the least: plaintext was taken before it was sent */
};

/* Of struct conn: how far its SSL object's handshake is known, see tlshello.h. */
enum tls_stage {
	STAGE_UNKNOWN = 0,
	STAGE_TIED = 1, /* which object it is */
	STAGE_FULL = 2, /* and that the client has nothing to say after the server's Finished, before TLS 1.3 */
	STAGE_READ = 3, /* or all of the other end's handshake was read */
	STAGE_SENT = 4, /* and what there was to say to that was sent: what is written next is sent next */
};

/* An SSL object of a process; or a hello, see tlshello.h. */
struct tls_key {
	u64 ssl;
	u64 tgid;
};

/* The connection of an SSL object, as a system call inside the library or a hello showed it. */
struct tls_session {
	u64 sk;
	u32 fd;
	u32 fills; /* buffers: what is written is taken at once. Of a hello: where it was read to, the address' lower half */
	u64 ports;
};

_Static_assert(sizeof(struct tls_call) == SIZE_TLS_CALL, "SIZE_TLS_CALL");
_Static_assert(sizeof(struct tls_kept) == SIZE_TLS_KEPT, "SIZE_TLS_KEPT");
_Static_assert(sizeof(struct tls_key) == SIZE_TLS_KEY, "SIZE_TLS_KEY");
_Static_assert(sizeof(struct tls_session) == SIZE_TLS_SESSION, "SIZE_TLS_SESSION");

#endif
