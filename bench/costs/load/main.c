/* The command line, and what a run came to as one line of JSON. It decides nothing about the load itself.
 *
 *	load KIND --port N [--rate R] [--seconds S] [--warm S] [--connections N] [--depth N] [--churn] [--cpu N]
 *		KIND: http redis postgres grpc; without --rate as fast as the connections allow
 *	load dns ADDRESS --rate R --seconds S    asks a server of its own on ADDRESS:53
 *	load serve-grpc                          prints its port, serves until it is ended
 *	load micro                               rounds of system calls, as stdin asks for them (micro.c)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#include "load.h"

#define MOST_TIMED (1u << 23) /* 32 MB of latencies */

void fail(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

uint64_t now_ns(void)
{
	struct timespec now = {};

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS + (uint64_t)now.tv_nsec;
}

void note_latency(struct tally *tally, uint64_t ns)
{
	if (tally->timed < tally->room)
		tally->latencies_ns[tally->timed++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static int by_size(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

	return (left > right) - (left < right);
}

static double percentile_us(const struct tally *tally, double share)
{
	if (!tally->timed)
		return 0;
	return tally->latencies_ns[(size_t)((double)(tally->timed - 1) * share)] / 1e3;
}

static void report(struct tally *tally)
{
	static const double shares[] = {0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0};
	struct rusage used = {};

	getrusage(RUSAGE_SELF, &used);
	qsort(tally->latencies_ns, tally->timed, sizeof(uint32_t), by_size);
	printf("{\"made\": %lu, \"answered\": %lu, \"failed\": %lu, \"late\": %lu, \"opened\": %lu, \"timed\": %zu, ",
	       tally->made, tally->answered, tally->failed, tally->late, tally->opened, tally->timed);
	printf("\"seconds\": %.6f, \"cpu_s\": %.6f, \"latency_us\": {", (double)(tally->end_ns - tally->begin_ns) / 1e9,
	       (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
		       (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
	for (size_t i = 0; i < sizeof(shares) / sizeof(*shares); i++)
		printf("%s\"%g\": %.2f", i ? ", " : "", shares[i] * 100, percentile_us(tally, shares[i]));
	printf("}}\n");
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("sched_setaffinity");
}

static void allow_many_files(void)
{
	struct rlimit files = {.rlim_cur = 65536, .rlim_max = 65536};

	if (setrlimit(RLIMIT_NOFILE, &files)) { /* not root: as many as there may be */
		getrlimit(RLIMIT_NOFILE, &files);
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

static void read_options(int argc, char **argv, struct plan *plan)
{
	static const struct option known[] = {
		{"port", 1, 0, 'p'},  {"rate", 1, 0, 'r'},  {"seconds", 1, 0, 's'}, {"warm", 1, 0, 'w'}, {"connections", 1, 0, 'c'},
		{"depth", 1, 0, 'd'}, {"churn", 0, 0, 'u'}, {"cpu", 1, 0, 'C'},	    {},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 'p': plan->port = atoi(optarg); break;
		case 'r': plan->rate = atof(optarg); break;
		case 's': plan->seconds = atof(optarg); break;
		case 'w': plan->warm_s = atof(optarg); break;
		case 'c': plan->connections = atoi(optarg); break;
		case 'd': plan->depth = atoi(optarg); break;
		case 'u': plan->churn = 1; break;
		case 'C': pin(atoi(optarg)); break;
		default: exit(2);
		}
	}
	if (plan->connections < 1 || plan->depth < 1 || plan->depth > 40 || plan->seconds <= 0 || plan->rate < 0) {
		fprintf(stderr, "load: give --connections and --seconds above 0, --depth from 1 to 40\n");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	static const struct protocol *const protocols[] = {&http1, &redis, &postgres, &grpc};
	struct plan plan = {.kind = argc > 1 ? argv[1] : "", .seconds = 5, .connections = 16, .depth = 1};
	struct tally tally = {.room = MOST_TIMED};
	int code = 2;

	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGTERM); /* a benchmark that was killed leaves no load behind */
	prctl(PR_SET_TIMERSLACK, 1); /* requests are due on the microsecond, not 50 later */
	read_options(argc, argv, &plan);
	allow_many_files();
	if (!strcmp(plan.kind, "micro"))
		return run_micro();
	if (!strcmp(plan.kind, "serve-grpc"))
		return serve_grpc();
	tally.latencies_ns = malloc(tally.room * sizeof(uint32_t));
	if (!tally.latencies_ns)
		fail("malloc");
	if (!strcmp(plan.kind, "dns")) {
		code = run_dns(argv[optind + 1], &plan, &tally);
	} else {
		for (size_t i = 0; i < sizeof(protocols) / sizeof(*protocols); i++) {
			if (!strcmp(plan.kind, protocols[i]->name))
				code = run_plan(protocols[i], &plan, &tally);
		}
		if (code == 2)
			fprintf(stderr, "load: what is %s? http, redis, postgres, grpc, dns, micro or serve-grpc\n", plan.kind);
	}
	if (!code)
		report(&tally);
	return code;
}
