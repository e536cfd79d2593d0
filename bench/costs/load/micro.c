/* What single system calls cost, a round at a time, as stdin asks: "WHAT COUNT" is answered by the nanoseconds of one.
 *
 *	http, redis	an exchange of this process with itself over loopback: write, read, write, read; two sides
 *	getppid		a call that nobody traces
 *	devzero		a read that is no socket's
 *
 * The connections are made once, before anything is attached, as those of most processes are. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "load.h"

#define WARM 20
#define BODY 900

struct pair {
	int client, server;
	size_t asked, answered;
	char ask[512], answer[1536];
};

static void open_pair(struct pair *pair)
{
	int port, listener = listen_on_loopback(&port);

	pair->client = connect_to(port, 1);
	pair->server = accept(listener, NULL, NULL);
	if (pair->server < 0)
		fail("accept");
	close(listener);
}

static void write_read(int from, int to, const char *data, size_t bytes)
{
	char taken[2048];

	if (write(from, data, bytes) != (ssize_t)bytes || read(to, taken, sizeof(taken)) != (ssize_t)bytes)
		fail("an exchange with ourselves");
}

static void exchange(const struct pair *pair)
{
	write_read(pair->client, pair->server, pair->ask, pair->asked);
	write_read(pair->server, pair->client, pair->answer, pair->answered);
}

static void fill_http(struct pair *pair)
{
	pair->asked = (size_t)sprintf(pair->ask,
				      "GET /api/v1/items/42?page=3&q=abc HTTP/1.1\r\nHost: api.example.com:8080\r\n"
				      "User-Agent: python-requests/2.31\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\n"
				      "Connection: keep-alive\r\nX-Request-Id: %032x\r\ntraceparent: 00-%032x-%016x-01\r\n\r\n",
				      7, 7, 7);
	pair->answered = (size_t)sprintf(pair->answer, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", BODY);
	memset(pair->answer + pair->answered, 'a', BODY);
	pair->answered += BODY;
}

static void fill_redis(struct pair *pair)
{
	pair->asked = (size_t)sprintf(pair->ask, "*3\r\n$3\r\nSET\r\n$12\r\nsession:0042\r\n$10\r\n0123456789\r\n");
	pair->answered = (size_t)sprintf(pair->answer, "+OK\r\n");
}

static void take_round(const char *what, long count, const struct pair *http_pair, const struct pair *redis_pair, int zero)
{
	const struct pair *pair = !strcmp(what, "http") ? http_pair : redis_pair;
	char byte;
	uint64_t begin;

	if (!strcmp(what, "getppid")) {
		begin = now_ns();
		for (long i = 0; i < count; i++)
			syscall(SYS_getppid);
	} else if (!strcmp(what, "devzero")) {
		begin = now_ns();
		for (long i = 0; i < count; i++) {
			if (read(zero, &byte, 1) != 1)
				fail("/dev/zero");
		}
	} else {
		for (int i = 0; i < WARM; i++)
			exchange(pair);
		begin = now_ns();
		for (long i = 0; i < count; i++)
			exchange(pair);
	}
	printf("%.1f\n", (double)(now_ns() - begin) / (double)count);
	fflush(stdout);
}

int run_micro(void)
{
	struct pair http_pair = {}, redis_pair = {};
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	char what[16];
	long count;

	if (zero < 0)
		fail("/dev/zero");
	open_pair(&http_pair);
	open_pair(&redis_pair);
	fill_http(&http_pair);
	fill_redis(&redis_pair);
	while (scanf("%15s %ld", what, &count) == 2 && count > 0)
		take_round(what, count, &http_pair, &redis_pair, zero);
	return 0;
}
