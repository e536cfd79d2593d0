/*
 * Many processes with many connections to a few servers, all on loopback: for tests of what an agent remembers of each.
 *
 *     crowd NET PROCESSES CONNECTIONS     NET: the first three bytes of an address of loopback, "127.9.8";
 *                                         CONNECTIONS: of each process; of all together a multiple of eight
 *
 * Says `ready PORT` once all are connected: each server has its address, NET.1 to NET.8, and all have PORT. Then each line of standard input is a command, answered by
 * a line `WORD N`, N being the answers that were read so far:
 *     ask     every process asks once on each of its connections, and reads each answer before it goes on
 *     hold    the same, but all ask before the first is answered
 *     close   every process ends
 *
 * Each process is an exec of its own. A few run at a time: this is about how many there are, not about how fast they are.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SERVERS 8 /* ephemeral ports of one destination end at 28,000, and files of one process at 20,000 or so */
#define AT_A_TIME 2
#define PAUSE_US 3000 /* of each, behind its requests: what a full ring loses tells nothing of tables */
#define ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

enum phase { CONNECT, ASK, HOLD, CLOSE };

struct shared {
	sem_t turn;
	_Atomic unsigned step; /* grows with each command; phase is what it is */
	_Atomic unsigned phase;
	_Atomic unsigned done;
	_Atomic unsigned failed;
	_Atomic unsigned long answered;
};

static struct shared *shared;

static void fail(const char *what)
{
	fprintf(stderr, "crowd: %s: %s\n", what, strerror(errno));
	if (shared)
		shared->failed = 1;
	_exit(1);
}

static void wait_change(_Atomic unsigned *at, unsigned known)
{
	syscall(SYS_futex, at, FUTEX_WAIT, known, NULL, NULL, 0);
}

static void wake(_Atomic unsigned *at)
{
	syscall(SYS_futex, at, FUTEX_WAKE, 1 << 30, NULL, NULL, 0);
}

static struct sockaddr_in make_address(const char *net, unsigned number, unsigned port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	char text[32];

	snprintf(text, sizeof(text), "%s.%u", net, number % SERVERS + 1);
	if (inet_pton(AF_INET, text, &a.sin_addr) != 1)
		fail(text);
	return a;
}

/* ---- the server -------------------------------------------------------------------------------------------------- */

static void answer(int fd)
{
	if (send(fd, ANSWER, sizeof(ANSWER) - 1, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET)
		fail("answering");
}

static void watch(int poll, int fd)
{
	struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};

	if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e))
		fail("watching");
}

static void serve(int listener, unsigned long connections)
{
	struct epoll_event events[256];
	int *held = calloc(connections, sizeof(int));
	unsigned long holding = 0;
	int poll = epoll_create1(0);
	char bytes[512];
	int i, n;

	watch(poll, listener);
	while ((n = epoll_wait(poll, events, 256, -1)) >= 0 || errno == EINTR) {
		for (i = 0; i < n; i++) {
			int fd = events[i].data.fd;

			if (fd == listener) {
				int fresh = accept4(fd, NULL, NULL, 0);

				if (fresh < 0)
					fail("accepting");
				watch(poll, fresh);
			} else if (recv(fd, bytes, sizeof(bytes), 0) <= 0) {
				close(fd);
			} else if (bytes[5] != 'h') {
				answer(fd);
			} else {
				held[holding++] = fd;
			}
		}
		if (holding == connections)
			while (holding)
				answer(held[--holding]);
	}
	fail("waiting");
}

static void start_server(int listener, unsigned long connections)
{
	struct rlimit files;

	if (fork())
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files) || files.rlim_max < connections + 64)
		fail("raising the number of open files");
	serve(listener, connections);
}

/* ---- one of the processes ------------------------------------------------------------------------------------------ */

static void ask(int fd, const char *what, unsigned number)
{
	char bytes[128];
	int n = snprintf(bytes, sizeof(bytes), "GET /%s/%u HTTP/1.1\r\nHost: crowd.test\r\n\r\n", what, number);

	if (send(fd, bytes, n, MSG_NOSIGNAL) != n)
		fail("asking");
}

static void read_answer(int fd)
{
	char bytes[128];

	if (recv(fd, bytes, sizeof(bytes), 0) != sizeof(ANSWER) - 1)
		fail("reading an answer");
	shared->answered++;
}

static void take_turn(void)
{
	while (sem_wait(&shared->turn))
		;
}

static void work(const char *net, unsigned port, unsigned number, unsigned connections)
{
	int *fds = calloc(connections, sizeof(int));
	unsigned step = 0, i;

	for (;;) {
		unsigned phase;

		while (shared->step == step)
			wait_change(&shared->step, step);
		step = shared->step;
		phase = shared->phase;
		if (phase == CLOSE)
			_exit(0);
		take_turn();
		for (i = 0; i < connections; i++) {
			struct sockaddr_in to = make_address(net, number * connections + i, port);

			if (phase == CONNECT) {
				fds[i] = socket(AF_INET, SOCK_STREAM, 0);
				if (fds[i] < 0 || connect(fds[i], (void *)&to, sizeof(to)))
					fail("connecting");
				continue;
			}
			ask(fds[i], phase == HOLD ? "hold" : "ask", i);
			if (phase == ASK)
				read_answer(fds[i]);
		}
		usleep(PAUSE_US);
		sem_post(&shared->turn);
		if (phase == HOLD)
			for (i = 0; i < connections; i++)
				read_answer(fds[i]);
		shared->done++;
	}
}

static void start_worker(const char *net, unsigned port, unsigned number, unsigned connections)
{
	char words[3][16];

	if (fork())
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(words[0], 16, "%u", port);
	snprintf(words[1], 16, "%u", number);
	snprintf(words[2], 16, "%u", connections);
	execl("/proc/self/exe", "crowd", "--worker", net, words[0], words[1], words[2], NULL);
	fail("starting");
}

/* ---- who commands -------------------------------------------------------------------------------------------------- */

static void command(enum phase phase, unsigned processes)
{
	shared->done = 0;
	shared->phase = phase;
	shared->step++;
	wake(&shared->step);
	while (shared->done < processes && !shared->failed)
		usleep(2000);
	if (shared->failed)
		exit(1);
}

static int share(int fd)
{
	if (fd < 0 || ftruncate(fd, sizeof(*shared)))
		fail("sharing memory");
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED)
		fail("sharing memory");
	return fd;
}

static unsigned listen_at(const char *net, int *listeners)
{
	struct sockaddr_in at = make_address(net, 0, 0);
	socklen_t size = sizeof(at);
	unsigned port = 0, i;

	for (i = 0; i < SERVERS; i++) {
		at = make_address(net, i, port);
		listeners[i] = socket(AF_INET, SOCK_STREAM, 0);
		if (bind(listeners[i], (void *)&at, sizeof(at)) || listen(listeners[i], 4096))
			fail("listening");
		getsockname(listeners[i], (void *)&at, &size);
		port = ntohs(at.sin_port);
	}
	return port;
}

int main(int argc, char **argv)
{
	int listeners[SERVERS];
	unsigned processes, connections, port, i;
	char line[64];
	int memory;

	if (argc == 6 && !strcmp(argv[1], "--worker")) {
		share(3);
		work(argv[2], atoi(argv[3]), atoi(argv[4]), atoi(argv[5]));
	}
	if (argc != 4)
		return 2;
	processes = atoi(argv[2]);
	connections = atoi(argv[3]);
	memory = memfd_create("crowd", 0);
	if (memory != 3 && dup2(memory, 3) < 0)
		fail("sharing memory");
	share(3);
	sem_init(&shared->turn, 1, AT_A_TIME);
	port = listen_at(argv[1], listeners);
	for (i = 0; i < SERVERS; i++) {
		start_server(listeners[i], (unsigned long)processes * connections / SERVERS);
		close(listeners[i]);
	}
	for (i = 0; i < processes; i++)
		start_worker(argv[1], port, i, connections);
	command(CONNECT, processes);
	printf("ready %u\n", port);
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		if (!strcmp(line, "close"))
			break;
		command(!strcmp(line, "hold") ? HOLD : ASK, processes);
		printf("%s %lu\n", line, (unsigned long)shared->answered);
		fflush(stdout);
	}
	shared->phase = CLOSE;
	shared->step++;
	wake(&shared->step);
	for (i = 0; i < processes; i++)
		wait(NULL);
	printf("close %lu\n", (unsigned long)shared->answered);
	fflush(stdout);
	return 0;
}
