/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Where in a connection's bytes what walks through them stands. */
#ifndef FARCALL_PLACES_H
#define FARCALL_PLACES_H

#include "fc.h"

/* Where one direction of a connection that is followed message by message stands. Places are TCP sequence numbers: what is
 * written twice (EAGAIN) or by a call that is not hooked (sendfile) does not shift them. */
struct framing {
	u32 seq;      /* of the next segment; a number that is left out is a loss. First: see struct commands */
	u32 boundary; /* where the message begins that is held, or is to come next */
	u64 first_ns; /* of the first of the bytes that are held */
	u32 mark;     /* requests: Kafka's last correlation ID; in outer frames, whether a told message goes on */
	u32 left;     /* of a message that goes on in further frames */
	u16 held;     /* bytes of its beginning that came in earlier calls */
	u8 synced;    /* boundary is right */
	u8 misses;    /* in a row */
	u32 inside;   /* bytes to come of the payload of Cassandra's outer frame; of HTTP/2 the stream that ends at `boundary`; else, whether a told message does */
};

/* Where the walk over a request's commands stands, see commands.h. It lies where a connection that is followed message by message has
 * its framing; but the numbers of that are kept, for when the policy drops such a connection for a while. */
#define FC_COMMANDS_HELD 28
struct commands {
	u32 requests_seq;
	u32 spare;
	u32 at;   /* where in the request the walk goes on; 0: it has not begun, or its place was lost */
	u32 left; /* not 0: in the middle of a command, as each protocol means it */
	u32 have; /* bytes that came before and tell nothing yet */
	u32 owed; /* bytes behind the head or line at hand */
	u32 spares[2];
	u32 responses_seq;
	u8 bytes[FC_COMMANDS_HELD]; /* those that `have` counts */
};

_Static_assert(__builtin_offsetof(struct framing, seq) == 0, "struct commands");
_Static_assert(__builtin_offsetof(struct commands, responses_seq) == sizeof(struct framing), "struct commands");
_Static_assert(sizeof(struct commands) == 2 * sizeof(struct framing), "struct commands");

#endif
