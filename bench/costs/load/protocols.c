/* What is asked and how an answer ends: HTTP/1.1, Redis and PostgreSQL's simple query. Every request differs, as real ones do. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

#define MIX 0x9E3779B97F4A7C15ull /* spreads a counter over all bits, as random IDs have them */

/* ---- HTTP/1.1 ---- */

static size_t ask_http(struct link *link, uint64_t number, const struct plan *plan, char *out)
{
	uint64_t id = (number + 1) * MIX;

	(void)link, (void)plan;
	return (size_t)snprintf(out, ANSWER_BYTES,
				"GET /api/v1/items/%lu?page=%lu&q=abc HTTP/1.1\r\nHost: api.example.com:8080\r\n"
				"User-Agent: python-requests/2.31\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\n"
				"Connection: keep-alive\r\nAuthorization: Bearer abcdefghijklmnopqrstuvwxyzabcdefghijklmnop\r\n"
				"X-Request-Id: %016lx%016lx\r\ntraceparent: 00-%016lx%016lx-%016lx-01\r\n\r\n",
				number % 500, number % 7, id, number, id, ~id, id);
}

static long http_answered(struct link *link, const struct plan *plan)
{
	static const char length[] = "\r\nContent-Length: ";
	char *end = memmem(link->answer, link->used, "\r\n\r\n", 4), *value;
	size_t whole;

	(void)plan;
	if (!end)
		return 0;
	value = memmem(link->answer, (size_t)(end - link->answer), length, sizeof(length) - 1);
	if (!value || memcmp(link->answer, "HTTP/1.1 200", 12))
		return -1;
	whole = (size_t)(end - link->answer) + 4 + strtoul(value + sizeof(length) - 1, NULL, 10);
	return link->used < whole ? 0 : (long)whole;
}

const struct protocol http1 = {.name = "http", .ask = ask_http, .answered = http_answered};

/* ---- Redis ---- */

static size_t ask_redis(struct link *link, uint64_t number, const struct plan *plan, char *out)
{
	size_t bytes = 0;

	(void)link;
	for (int i = 0; i < plan->depth; i++) {
		uint64_t n = number * (uint64_t)plan->depth + (uint64_t)i;
		unsigned key = (unsigned)(n / 2 % 1000);

		bytes += (size_t)sprintf(out + bytes,
					 n % 2 ? "*2\r\n$3\r\nGET\r\n$12\r\nsession:%04u\r\n"
					       : "*3\r\n$3\r\nSET\r\n$12\r\nsession:%04u\r\n$10\r\n0123456789\r\n",
					 key);
	}
	return bytes;
}

static long redis_answered(struct link *link, const struct plan *plan)
{
	char *at = link->answer, *last = link->answer + link->used;

	for (int i = 0; i < plan->depth; i++) {
		char *line = memchr(at, '\n', (size_t)(last - at));
		long bytes;

		if (!line)
			return 0;
		if (*at != '+' && *at != '$')
			return -1;
		bytes = *at == '$' ? strtol(at + 1, NULL, 10) : -1;
		at = line + 1 + (bytes < 0 ? 0 : bytes + 2);
		if (at > last)
			return 0;
	}
	return at - link->answer;
}

const struct protocol redis = {.name = "redis", .ask = ask_redis, .answered = redis_answered};

/* ---- PostgreSQL ---- */

static size_t greet_postgres(struct link *link, char *out)
{
	static const char words[] = "user\0postgres\0database\0postgres\0"; /* and the string's own zero ends the list */
	uint32_t size = htonl(8 + sizeof(words)), version = htonl(3 << 16);

	(void)link;
	memcpy(out, &size, 4);
	memcpy(out + 4, &version, 4);
	memcpy(out + 8, words, sizeof(words));
	return 8 + sizeof(words);
}

/* Messages up to ReadyForQuery. */
static long until_ready(struct link *link)
{
	size_t at = 0;

	while (at + 5 <= link->used) {
		uint32_t size;
		char type = link->answer[at];

		memcpy(&size, link->answer + at + 1, 4);
		at += 1 + (size_t)ntohl(size);
		if (type == 'E')
			return -1;
		if (type == 'Z' && at <= link->used)
			return (long)at;
	}
	return 0;
}

static size_t ask_postgres(struct link *link, uint64_t number, const struct plan *plan, char *out)
{
	uint32_t size;
	int text = sprintf(out + 5, "SELECT relname, relkind FROM pg_class WHERE oid = %lu", 1000 + number % 5000);

	(void)link, (void)plan;
	size = htonl((uint32_t)text + 5);
	out[0] = 'Q';
	memcpy(out + 1, &size, 4);
	return (size_t)text + 6;
}

static long postgres_answered(struct link *link, const struct plan *plan)
{
	(void)plan;
	return until_ready(link);
}

const struct protocol postgres = {
	.name = "postgres", .greet = greet_postgres, .greeted = until_ready, .ask = ask_postgres, .answered = postgres_answered};
