/* A name server of one thread, and a client that asks it at a fixed rate over a few connected sockets. Answers have one address. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define SOCKETS 8
#define IDS 65536
#define NAMES 1000
#define HEAD 12
#define MESSAGE 512
#define BUFFER (4 << 20)

struct asker {
	int fd;
	uint16_t id;
	uint64_t due_ns[IDS]; /* 0: not asked */
};

static void *serve(void *argument)
{
	static const unsigned char address[] = {0xc0, HEAD, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 7};
	int fd = *(int *)argument;
	struct sockaddr_in from;
	unsigned char message[MESSAGE + sizeof(address)];

	for (;;) {
		socklen_t size = sizeof(from);
		ssize_t got = recvfrom(fd, message, MESSAGE, 0, (struct sockaddr *)&from, &size);

		if (got < HEAD)
			continue;
		message[2] = 0x81; /* an answer, recursion as asked for */
		message[3] = 0x80;
		message[7] = 1; /* one answer */
		memcpy(message + got, address, sizeof(address));
		sendto(fd, message, (size_t)got + sizeof(address), 0, (struct sockaddr *)&from, size);
	}
	return NULL;
}

static struct sockaddr_in start_server(const char *address)
{
	static int fd;
	struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(53)};
	int room = BUFFER;
	pthread_t thread;

	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	if (!inet_pton(AF_INET, address, &own.sin_addr) || bind(fd, (struct sockaddr *)&own, sizeof(own)))
		fail(address);
	if (pthread_create(&thread, NULL, serve, &fd))
		fail("pthread_create");
	return own;
}

static size_t write_question(unsigned char *out, uint16_t id, uint64_t number)
{
	size_t at = HEAD;
	char label[8];
	const char *labels[] = {label, "shop", "example", "com"};

	memset(out, 0, HEAD);
	out[0] = (unsigned char)(id >> 8);
	out[1] = (unsigned char)id;
	out[2] = 1; /* recursion desired */
	out[5] = 1; /* one question */
	snprintf(label, sizeof(label), "api%u", (unsigned)(number % NAMES));
	for (size_t i = 0; i < sizeof(labels) / sizeof(*labels); i++) {
		size_t length = strlen(labels[i]);

		out[at++] = (unsigned char)length;
		memcpy(out + at, labels[i], length);
		at += length;
	}
	memcpy(out + at, "\0\0\1\0\1", 5); /* the root; A, IN */
	return at + 5;
}

static void ask(struct asker *asker, uint64_t number, uint64_t due_ns, struct tally *tally)
{
	unsigned char out[MESSAGE];
	size_t bytes = write_question(out, ++asker->id, number);

	asker->due_ns[asker->id] = due_ns;
	tally->made++;
	if (send(asker->fd, out, bytes, 0) != (ssize_t)bytes)
		tally->failed++;
}

static void take_answers(struct asker *asker, struct tally *tally)
{
	unsigned char message[MESSAGE];

	while (recv(asker->fd, message, sizeof(message), MSG_DONTWAIT) > HEAD) {
		uint64_t *due_ns = &asker->due_ns[message[0] << 8 | message[1]];

		if (*due_ns) {
			tally->answered++;
			note_latency(tally, now_ns() - *due_ns);
		}
		*due_ns = 0;
	}
}

static struct asker *open_askers(const struct sockaddr_in *server, int poll_fd)
{
	struct asker *askers = calloc(SOCKETS, sizeof(struct asker));
	int room = BUFFER;

	if (!askers)
		fail("no room");
	for (size_t i = 0; i < SOCKETS; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data.u64 = i};

		askers[i].fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		setsockopt(askers[i].fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
		if (connect(askers[i].fd, (const struct sockaddr *)server, sizeof(*server)) ||
		    epoll_ctl(poll_fd, EPOLL_CTL_ADD, askers[i].fd, &event))
			fail("connect");
	}
	return askers;
}

int run_dns(const char *address, const struct plan *plan, struct tally *tally)
{
	int poll_fd = epoll_create1(EPOLL_CLOEXEC);
	struct sockaddr_in server = start_server(address ? address : "127.0.0.1");
	struct asker *askers = open_askers(&server, poll_fd);
	uint64_t total = (uint64_t)(plan->rate * plan->seconds), now, last;
	struct epoll_event events[SOCKETS];

	tally->begin_ns = now = now_ns();
	last = now + (uint64_t)((plan->seconds + 1) * 1e9);
	while ((tally->made < total || tally->answered + tally->failed < total) && now < last) {
		struct timespec wait = {.tv_nsec = 50000000};

		while (tally->made < total) {
			uint64_t due = tally->begin_ns + (uint64_t)((double)tally->made * 1e9 / plan->rate);

			if (due > now) {
				wait.tv_nsec = due - now < 50000000 ? (long)(due - now) : 50000000;
				break;
			}
			ask(&askers[tally->made % SOCKETS], tally->made, due, tally);
		}
		for (int left = epoll_pwait2(poll_fd, events, SOCKETS, &wait, NULL); left > 0; left--)
			take_answers(&askers[events[left - 1].data.u64], tally);
		now = now_ns();
	}
	tally->end_ns = now;
	return 0;
}
