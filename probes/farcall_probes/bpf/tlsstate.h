/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What is remembered of TLS libraries' callers, see tls.h. */
#ifndef FARCALL_TLSSTATE_H
#define FARCALL_TLSSTATE_H

#include "fc.h"

/* What a thread is doing in its TLS library. */
struct tls_call {
	u64 write_ssl; /* not 0: this plaintext has not been seen to leave yet */
	u64 write_buf;
	u64 write_len;
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
	u16 speaks; /* it has called the library at least once */
	u16 kept;   /* what it writes is in its struct tls_kept */
	u16 peeks;  /* inside of SSL_peek, which takes nothing away */
	u16 owner;  /* NUM_OWNER of the program that saw the copy below */
	/* The newest copy of plaintext to the caller: */
	u64 copy_from;
	u64 copy_bytes;
	u64 copy_again; /* it was seen by another program of ours too */
};

/* Plaintext whose connection is not known when it is written: libraries that only fill buffers may give the bytes back
 * before they leave (Node.js does with a connection's first request). By thread: what leaves next from there is it. */
#define FC_TLS_KEPT (SIZE_TLS_KEPT - 16)
struct tls_kept {
	u64 ssl;
	u64 len; /* of what was written; as much of it as fits is kept */
	u8 bytes[FC_TLS_KEPT];
};

/* An SSL object of a process. */
struct tls_key {
	u64 ssl;
	u64 tgid;
};

/* The connection of an SSL object, as a system call inside the library showed it. */
struct tls_session {
	u64 sk;
	u64 fd;
	u64 ports;
};

_Static_assert(sizeof(struct tls_call) == SIZE_TLS_CALL, "SIZE_TLS_CALL");
_Static_assert(sizeof(struct tls_kept) == SIZE_TLS_KEPT, "SIZE_TLS_KEPT");
_Static_assert(sizeof(struct tls_key) == SIZE_TLS_KEY, "SIZE_TLS_KEY");
_Static_assert(sizeof(struct tls_session) == SIZE_TLS_SESSION, "SIZE_TLS_SESSION");

#endif
