/* gRPC calls of nine headers over HTTP/2, as instrumented services send them, and a server that answers at once. Headers are
 * packed as grpc-go packs them: everything goes into the dynamic table, so its indexes move with every call (RFC 7541). */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define MIX 0x9E3779B97F4A7C15ull
#define TABLE_BYTES 4096 /* both ends' default */
#define STATIC 61
#define OVERHEAD 32 /* of an entry, RFC 7541 4.1 */
#define FRAME 9
#define HEADERS 1
#define DATA 0
#define SETTINGS 4
#define END_STREAM 1
#define END_HEADERS 4
#define MAX_NAMES 8

static const char PREFACE[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
static const char MESSAGE[] = "\0\0\0\0\x05hello";

/* The sizes of what is in the table, by the number of its insertion, and where each of our headers went in last. */
struct table {
	uint16_t sizes[256]; /* entries have 42 bytes or more: 97 at most are in */
	uint32_t inserted, evicted;
	size_t bytes;
	uint32_t place[MAX_NAMES];
};

static void insert(struct table *table, size_t header, size_t bytes)
{
	table->place[header] = ++table->inserted;
	table->sizes[table->inserted % 256] = (uint16_t)bytes;
	table->bytes += bytes;
	while (table->bytes > TABLE_BYTES)
		table->bytes -= table->sizes[++table->evicted % 256];
}

static uint32_t find(const struct table *table, size_t header)
{
	uint32_t place = table->place[header];

	return place > table->evicted ? STATIC + 1 + table->inserted - place : 0;
}

/* RFC 7541 5.1; our indexes are below 127 + 128. */
static char *put_number(char *out, unsigned char pattern, unsigned bits, uint32_t number)
{
	uint32_t most = (1u << bits) - 1;

	if (number < most) {
		*out++ = (char)(pattern | number);
		return out;
	}
	*out++ = (char)(pattern | most);
	for (number -= most; number >= 128; number /= 128)
		*out++ = (char)(number % 128 | 128);
	*out++ = (char)number;
	return out;
}

static char *put_text(char *out, const char *text)
{
	size_t length = strlen(text);

	out = put_number(out, 0, 7, (uint32_t)length);
	memcpy(out, text, length);
	return out + length;
}

/* RFC 7541 appendix B, of the characters that change from call to call. */
static unsigned huffman(char letter, unsigned *bits)
{
	static const unsigned char hex[] = {0x03, 0x23, 0x04, 0x24, 0x05, 0x25};

	*bits = 6;
	if (letter >= '3' && letter <= '9')
		return 0x19 + (unsigned)(letter - '3');
	if (letter == '-')
		return 0x16;
	if (letter == 'u')
		return 0x2d;
	if (letter == 'b' || letter == 'd' || letter == 'f')
		return hex[letter - 'a'];
	*bits = 5;
	return letter <= '2' ? (unsigned)(letter - '0') : hex[letter - 'a'];
}

static char *put_packed(char *out, const char *text)
{
	uint64_t waiting = 0;
	unsigned held = 0, bits;
	char packed[64], *at = packed;

	for (; *text; text++) {
		unsigned code = huffman(*text, &bits);

		waiting = waiting << bits | code; /* what falls out at the top was written */
		for (held += bits; held >= 8; held -= 8)
			*at++ = (char)(waiting >> (held - 8));
	}
	if (held) /* padded with ones, the beginning of EOS */
		*at++ = (char)(waiting << (8 - held) | (0xffu >> held));
	out = put_number(out, 0x80, 7, (uint32_t)(at - packed));
	memcpy(out, packed, (size_t)(at - packed));
	return out + (at - packed);
}

static char *put_constant(struct table *table, char *out, size_t header, uint32_t static_name, const char *name, const char *value)
{
	uint32_t index = find(table, header);

	if (index)
		return put_number(out, 0x80, 7, index);
	out = put_number(out, 0x40, 6, static_name);
	if (!static_name)
		out = put_text(out, name);
	insert(table, header, OVERHEAD + strlen(name) + strlen(value));
	return put_text(out, value);
}

static char *put_changing(struct table *table, char *out, size_t header, const char *name, const char *value)
{
	uint32_t index = find(table, header); /* the last one has the same name */

	out = put_number(out, 0x40, 6, index);
	if (!index)
		out = put_text(out, name);
	insert(table, header, OVERHEAD + strlen(name) + strlen(value));
	return put_packed(out, value);
}

static char *put_frame(char *out, size_t bytes, int type, int flags, uint32_t stream)
{
	*out++ = (char)(bytes >> 16);
	*out++ = (char)(bytes >> 8);
	*out++ = (char)bytes;
	*out++ = (char)type;
	*out++ = (char)flags;
	for (int shift = 24; shift >= 0; shift -= 8)
		*out++ = (char)(stream >> shift);
	return out;
}

static char *put_data(char *out, int flags, uint32_t stream)
{
	out = put_frame(out, sizeof(MESSAGE) - 1, DATA, flags, stream);
	memcpy(out, MESSAGE, sizeof(MESSAGE) - 1);
	return out + sizeof(MESSAGE) - 1;
}

static uint32_t read_number(const char *at, int bytes)
{
	uint32_t number = 0;

	for (int i = 0; i < bytes; i++)
		number = number << 8 | (unsigned char)at[i];
	return number;
}

/* ---- client ---- */

static size_t greet(struct link *link, char *out)
{
	link->own = calloc(1, sizeof(struct table));
	if (!link->own)
		fail("no room");
	link->stream = (uint32_t)-1;
	memcpy(out, PREFACE, sizeof(PREFACE) - 1);
	put_frame(out + sizeof(PREFACE) - 1, 0, SETTINGS, 0, 0);
	return sizeof(PREFACE) - 1 + FRAME;
}

static long greeted(struct link *link)
{
	return link->used < FRAME ? 0 : link->answer[3] == SETTINGS ? FRAME : -1;
}

static size_t ask(struct link *link, uint64_t number, const struct plan *plan, char *out)
{
	struct table *table = link->own;
	uint64_t id = (number + 1) * MIX;
	char timeout[16], trace[64], *head = out + FRAME, *at = head;

	(void)plan;
	link->stream += 2;
	snprintf(timeout, sizeof(timeout), "%luu", 900000 + number % 99991);
	snprintf(trace, sizeof(trace), "00-%016lx%016lx-%016lx-01", id, ~id, id);
	*at++ = (char)0x83; /* :method POST */
	*at++ = (char)0x86; /* :scheme http */
	at = put_constant(table, at, 0, 4, ":path", "/shop.Cart/AddItem");
	at = put_constant(table, at, 1, 1, ":authority", "cart.shop.svc.cluster.local:50051");
	at = put_constant(table, at, 2, 31, "content-type", "application/grpc");
	at = put_constant(table, at, 3, 58, "user-agent", "grpc-go/1.76.0");
	at = put_constant(table, at, 4, 0, "te", "trailers");
	at = put_changing(table, at, 5, "grpc-timeout", timeout);
	at = put_changing(table, at, 6, "traceparent", trace);
	put_frame(out, (size_t)(at - head), HEADERS, END_HEADERS, link->stream);
	return (size_t)(put_data(at, END_STREAM, link->stream) - out);
}

static long answered(struct link *link, const struct plan *plan)
{
	size_t at = 0;

	(void)plan;
	while (at + FRAME <= link->used) {
		const char *frame = link->answer + at;

		at += FRAME + read_number(frame, 3);
		if (at > link->used)
			return 0;
		if (frame[3] == HEADERS && frame[4] & END_STREAM)
			return read_number(frame + 5, 4) == link->stream ? (long)at : -1;
	}
	return 0;
}

const struct protocol grpc = {.name = "grpc", .greet = greet, .greeted = greeted, .ask = ask, .answered = answered};

/* ---- server ---- */

static void answer(int fd, struct table *table, uint32_t stream)
{
	char out[512], *head = out + FRAME, *at = head, *tail;

	*at++ = (char)0x88; /* :status 200 */
	at = put_constant(table, at, 0, 31, "content-type", "application/grpc");
	put_frame(out, (size_t)(at - head), HEADERS, END_HEADERS, stream);
	tail = put_data(at, 0, stream);
	at = tail + FRAME;
	at = put_constant(table, at, 1, 0, "grpc-status", "0");
	at = put_constant(table, at, 2, 0, "grpc-message", "");
	put_frame(tail, (size_t)(at - tail) - FRAME, HEADERS, END_HEADERS | END_STREAM, stream);
	send_whole(fd, out, (size_t)(at - out));
}

static void *serve(void *argument)
{
	int fd = (int)(intptr_t)argument;
	struct table table = {};
	char data[ANSWER_BYTES], out[FRAME];
	size_t used = 0;
	ssize_t got;

	send_whole(fd, out, (size_t)(put_frame(out, 0, SETTINGS, 0, 0) - out));
	while ((got = recv(fd, data + used, sizeof(data) - used, 0)) > 0) {
		size_t at = 0, bytes;

		used += (size_t)got;
		if (used >= sizeof(PREFACE) - 1 && !memcmp(data, PREFACE, sizeof(PREFACE) - 1))
			at = sizeof(PREFACE) - 1;
		for (; at + FRAME <= used && at + FRAME + read_number(data + at, 3) <= used; at += bytes) {
			bytes = FRAME + read_number(data + at, 3);
			if (data[at + 3] == HEADERS)
				answer(fd, &table, read_number(data + at + 5, 4));
		}
		used -= at;
		memmove(data, data + at, used);
	}
	close(fd);
	return NULL;
}

int serve_grpc(void)
{
	int port, listener = listen_on_loopback(&port);

	printf("%d\n", port);
	fflush(stdout);
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		pthread_t thread;

		if (fd < 0 || pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd))
			fail("accept");
		pthread_detach(thread);
	}
}
