// SPDX-License-Identifier: Apache-2.0
// The process that keeps a pod's namespaces: it waits to be told to end, and buries the pod's orphans.
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int number)
{
	_exit(0);
}

static void bury(int number)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

int main(void)
{
	struct sigaction on_child = {.sa_handler = bury, .sa_flags = SA_NOCLDSTOP};

	signal(SIGINT, leave);
	signal(SIGTERM, leave);
	sigaction(SIGCHLD, &on_child, NULL);
	for (;;)
		pause();
}
