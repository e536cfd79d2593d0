/* The loop. Open: request i is due at begin + i / rate, whatever became of those before it, and waits for a free connection when
 * all are busy; its latency counts from when it was due, so a server that stalls is seen by all who would have come meanwhile.
 * Closed (no rate): a connection asks again as soon as it was answered. Connections take turns. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define GRACE_NS (2 * NS) /* for the last answers */
#define LATE_NS 1000000
#define EVENTS 256

struct engine {
	const struct protocol *protocol;
	const struct plan *plan;
	struct tally *tally;
	struct link *links;
	int *idle; /* a queue of places in `links` */
	size_t idle_first, idle_count;
	int poll_fd;
	uint64_t total; /* to be made; open loop */
	uint64_t stop_ns;
	uint64_t busy;
};

int connect_to(int port, int is_blocking)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (is_blocking ? 0 : SOCK_NONBLOCK), 0);

	if (fd < 0)
		fail("socket");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) && errno != EINPROGRESS)
		fail("connect");
	return fd;
}

int listen_on_loopback(int *port)
{
	struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t size = sizeof(own);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&own, sizeof(own)) || listen(fd, 1024))
		fail("listen");
	getsockname(fd, (struct sockaddr *)&own, &size);
	*port = ntohs(own.sin_port);
	return fd;
}

void send_whole(int fd, const char *data, size_t bytes)
{
	/* A request fits into an empty socket's buffer: a part of it sent is a fault, not a case. */
	if (send(fd, data, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
		fail("send");
}

static void watch(struct engine *engine, size_t at, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.u64 = at};

	if (epoll_ctl(engine->poll_fd, EPOLL_CTL_ADD, engine->links[at].fd, &event))
		fail("epoll_ctl");
}

static void set_idle(struct engine *engine, size_t at)
{
	size_t last = (engine->idle_first + engine->idle_count++) % (size_t)engine->plan->connections;

	engine->idle[last] = (int)at;
}

static uint64_t due_ns(const struct engine *engine, uint64_t number)
{
	return engine->tally->begin_ns + (uint64_t)((double)number * 1e9 / engine->plan->rate);
}

static void ask(struct engine *engine, struct link *link)
{
	char out[ANSWER_BYTES];

	send_whole(link->fd, out, engine->protocol->ask(link, engine->tally->made, engine->plan, out));
}

/* A new connection's first bytes: the greeting, or at once the request. */
static void begin_talk(struct engine *engine, struct link *link)
{
	char out[ANSWER_BYTES];
	size_t bytes = engine->protocol->greet ? engine->protocol->greet(link, out) : 0;

	link->is_open = !bytes;
	if (bytes)
		send_whole(link->fd, out, bytes);
	else
		ask(engine, link);
}

static void start_next(struct engine *engine, uint64_t due, uint64_t now)
{
	size_t at = (size_t)engine->idle[engine->idle_first];
	struct link *link = &engine->links[at];

	engine->idle_first = (engine->idle_first + 1) % (size_t)engine->plan->connections;
	engine->idle_count--;
	engine->busy++;
	link->due_ns = due;
	link->is_timed = due >= engine->tally->begin_ns + (uint64_t)(engine->plan->warm_s * 1e9);
	link->used = 0;
	engine->tally->late += now - due > LATE_NS;
	if (engine->plan->churn) {
		link->fd = connect_to(engine->plan->port, 0);
		link->is_open = 0;
		engine->tally->opened++;
		watch(engine, at, EPOLLOUT | EPOLLONESHOT);
	} else {
		ask(engine, link);
	}
	engine->tally->made++;
}

static void finish(struct engine *engine, size_t at, int is_right)
{
	struct link *link = &engine->links[at];

	engine->busy--;
	if (is_right) {
		engine->tally->answered++;
		if (link->is_timed)
			note_latency(engine->tally, now_ns() - link->due_ns);
	} else {
		engine->tally->failed++;
	}
	if (engine->plan->churn)
		close(link->fd);
	else if (!is_right) { /* what it says from here on answers nothing we know of */
		fprintf(stderr, "load: %s: not the answer that was expected, or none\n", engine->protocol->name);
		exit(1);
	}
	set_idle(engine, at);
}

/* More bytes of an answer, or of the greeting before it. */
static void take_bytes(struct engine *engine, size_t at)
{
	struct link *link = &engine->links[at];
	ssize_t got = recv(link->fd, link->answer + link->used, ANSWER_BYTES - link->used, 0);
	long whole;

	if (got <= 0) {
		if (got < 0 && errno == EAGAIN)
			return;
		finish(engine, at, 0);
		return;
	}
	link->used += (size_t)got;
	if (!link->is_open) {
		whole = engine->protocol->greeted(link);
		if (whole < 0)
			finish(engine, at, 0);
		if (whole <= 0)
			return;
		link->is_open = 1;
		link->used -= (size_t)whole;
		memmove(link->answer, link->answer + whole, link->used);
		if (!link->used) {
			ask(engine, link);
			return;
		}
	}
	whole = engine->protocol->answered(link, engine->plan);
	if (whole > 0) {
		link->used -= (size_t)whole;
		memmove(link->answer, link->answer + whole, link->used);
		finish(engine, at, 1);
	} else if (whole < 0 || link->used == ANSWER_BYTES) {
		finish(engine, at, 0);
	}
}

static void handle(struct engine *engine, const struct epoll_event *event)
{
	struct link *link = &engine->links[event->data.u64];
	struct epoll_event next = {.events = EPOLLIN, .data.u64 = event->data.u64};

	if (!(event->events & EPOLLOUT)) {
		take_bytes(engine, event->data.u64);
		return;
	}
	if (event->events & (EPOLLERR | EPOLLHUP)) {
		finish(engine, event->data.u64, 0);
		return;
	}
	if (epoll_ctl(engine->poll_fd, EPOLL_CTL_MOD, link->fd, &next))
		fail("epoll_ctl");
	begin_talk(engine, link);
}

/* Connects all, one after the other, and has them greeted; the clock has not begun. */
static void open_all(struct engine *engine)
{
	char out[ANSWER_BYTES];

	for (int at = 0; at < engine->plan->connections; at++) {
		struct link *link = &engine->links[at];
		size_t bytes;
		long whole = 0;

		set_idle(engine, (size_t)at);
		if (engine->plan->churn)
			continue;
		link->fd = connect_to(engine->plan->port, 1);
		engine->tally->opened++;
		bytes = engine->protocol->greet ? engine->protocol->greet(link, out) : 0;
		if (bytes)
			send_whole(link->fd, out, bytes);
		while (bytes && !whole) {
			ssize_t got = recv(link->fd, link->answer + link->used, ANSWER_BYTES - link->used, 0);

			if (got <= 0)
				fail("greeting");
			link->used += (size_t)got;
			whole = engine->protocol->greeted(link);
			if (whole < 0)
				fail("greeting");
		}
		link->is_open = 1;
		link->used = 0;
		fcntl(link->fd, F_SETFL, O_NONBLOCK);
		watch(engine, (size_t)at, EPOLLIN);
	}
}

/* Starts what is due; how long to wait for the next, or -1: until an answer comes. */
static int64_t start_due(struct engine *engine)
{
	uint64_t now = now_ns();

	if (!engine->plan->rate) {
		while (engine->idle_count && now < engine->stop_ns) {
			start_next(engine, now, now);
			now = now_ns();
		}
		return now < engine->stop_ns ? (int64_t)(engine->stop_ns - now) : -1;
	}
	while (engine->tally->made < engine->total && engine->idle_count) {
		uint64_t due = due_ns(engine, engine->tally->made);

		if (due > now)
			now = now_ns();
		if (due > now)
			return (int64_t)(due - now);
		start_next(engine, due, now);
	}
	return -1;
}

static int is_over(const struct engine *engine)
{
	uint64_t now = now_ns();

	if (now > engine->stop_ns + GRACE_NS)
		return 1;
	if (engine->busy)
		return 0;
	return engine->plan->rate ? engine->tally->made == engine->total : now >= engine->stop_ns;
}

int run_plan(const struct protocol *protocol, const struct plan *plan, struct tally *tally)
{
	struct engine engine = {.protocol = protocol, .plan = plan, .tally = tally, .poll_fd = epoll_create1(EPOLL_CLOEXEC)};
	struct epoll_event events[EVENTS];

	engine.links = calloc((size_t)plan->connections, sizeof(struct link));
	engine.idle = calloc((size_t)plan->connections, sizeof(int));
	if (engine.poll_fd < 0 || !engine.links || !engine.idle)
		fail("no room");
	open_all(&engine);
	engine.total = (uint64_t)(plan->rate * plan->seconds);
	tally->begin_ns = now_ns();
	engine.stop_ns = tally->begin_ns + (uint64_t)(plan->seconds * 1e9);
	while (!is_over(&engine)) {
		int64_t wait_ns = start_due(&engine);
		struct timespec wait;
		int count;

		if (wait_ns < 0 || wait_ns > (int64_t)GRACE_NS)
			wait_ns = GRACE_NS / 8;
		wait = (struct timespec){.tv_sec = wait_ns / (int64_t)NS, .tv_nsec = wait_ns % (int64_t)NS};
		count = epoll_pwait2(engine.poll_fd, events, EVENTS, &wait, NULL);
		for (int i = 0; i < count; i++)
			handle(&engine, &events[i]);
	}
	tally->end_ns = now_ns();
	tally->failed += engine.busy;
	return 0;
}
