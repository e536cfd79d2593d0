/* The parts of the load generator: one thread, epoll, requests at a fixed rate whose latency counts from when they were due. */
#ifndef COSTS_LOAD_H
#define COSTS_LOAD_H

#include <stddef.h>
#include <stdint.h>

#define ANSWER_BYTES 4096 /* the longest answer, and the longest request: what we ask for is short */
#define NS 1000000000ull

struct plan {
	const char *kind;
	int port;
	double rate; /* per second; 0: each connection asks again as soon as it was answered */
	double seconds;
	double warm_s; /* at the beginning; counted, but not timed */
	int connections;
	int depth; /* commands in one write */
	int churn; /* a connection for each request */
};

struct link {
	int fd;
	int is_open;  /* connected and, where a protocol greets, greeted */
	int is_timed;
	uint64_t due_ns;
	uint32_t stream; /* HTTP/2 */
	void *own;	 /* of the protocol */
	size_t used;
	char answer[ANSWER_BYTES];
};

/* `greet` writes what is said first (0: nothing); `greeted` and `answered` return how many bytes made it whole, 0 when more must
 * come, -1 when it is not what was expected. */
struct protocol {
	const char *name;
	size_t (*greet)(struct link *link, char *out);
	long (*greeted)(struct link *link);
	size_t (*ask)(struct link *link, uint64_t number, const struct plan *plan, char *out);
	long (*answered)(struct link *link, const struct plan *plan);
};

extern const struct protocol http1, redis, postgres, grpc;

struct tally {
	uint64_t made, answered, failed, late, opened; /* late: sent more than 1 ms after it was due */
	uint64_t begin_ns, end_ns;
	uint32_t *latencies_ns;
	size_t timed, room;
};

int run_plan(const struct protocol *protocol, const struct plan *plan, struct tally *tally);
int run_dns(const char *address, const struct plan *plan, struct tally *tally);
int run_micro(void);
int serve_grpc(void);

uint64_t now_ns(void);
void note_latency(struct tally *tally, uint64_t ns);
int connect_to(int port, int is_blocking);
int listen_on_loopback(int *port);
void send_whole(int fd, const char *data, size_t bytes);
__attribute__((noreturn)) void fail(const char *what);

#endif
