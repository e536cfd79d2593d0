/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that does what it is told: lines of steps on standard input, one line of results for each.
 * Built twice, with glibc and with musl: the resolver is theirs. `step;step;…`, words parted by blanks:
 *
 *   resolve NAME              getaddrinfo; the addresses are remembered, a failure is told and is none of ours
 *   ask MODE SERVER NAME      one A question by hand, the answer read as MODE says; the addresses are remembered
 *   connect ADDRESS PORT      @ the first address remembered, @4 @6 the first of a family, @last the last
 *   mapped ADDRESS PORT       the same to an IPv4 address, by an IPv6 socket (::ffff:a.b.c.d)
 *   use N                     the connection that the next steps are about, 0 to 3
 *   send HEX, read, close, sleep MS
 *   until HEX                 reads until these bytes came
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_LINE 16384
#define MAX_FOUND 512
#define LINKS 4
#define WAIT_S 5

static struct sockaddr_storage found[MAX_FOUND];
static int found_count;
static int links[LINKS] = {-1, -1, -1, -1};
static int current;
static char said[MAX_LINE];

static void say(const char *word)
{
	size_t have = strlen(said);

	snprintf(said + have, sizeof(said) - have, " %s", word);
}

static void remember(const struct sockaddr *address, size_t size)
{
	if (found_count < MAX_FOUND)
		memcpy(&found[found_count++], address, size);
}

static void limit_wait(int fd)
{
	struct timeval wait = {.tv_sec = WAIT_S};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
}

static int resolve(const char *name)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *first, *one;
	int failed;

	found_count = 0;
	failed = getaddrinfo(name, NULL, &hints, &first);
	if (failed) {
		say("unresolved");
		return 0;
	}
	for (one = first; one; one = one->ai_next)
		remember(one->ai_addr, one->ai_addrlen);
	freeaddrinfo(first);
	say("resolved");
	return 0;
}

static int parse_address(const char *text, struct sockaddr_storage *out)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
	int i, family = text[1] == '4' ? AF_INET : text[1] == '6' ? AF_INET6 : 0;

	memset(out, 0, sizeof(*out));
	if (text[0] != '@') {
		out->ss_family = strchr(text, ':') ? AF_INET6 : AF_INET;
		return inet_pton(out->ss_family, text, out->ss_family == AF_INET ? (void *)&v4->sin_addr : (void *)&v6->sin6_addr) == 1 ? 0 : -1;
	}
	if (!strcmp(text, "@last") && found_count) {
		*out = found[found_count - 1];
		return 0;
	}
	for (i = 0; i < found_count; i++)
		if (!family || found[i].ss_family == family) {
			*out = found[i];
			return 0;
		}
	return -1;
}

static int open_link(struct sockaddr_storage *to, const char *port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)to;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)to;
	int is_v4 = to->ss_family == AF_INET;

	*(is_v4 ? &v4->sin_port : &v6->sin6_port) = htons((unsigned short)atoi(port));
	links[current] = socket(to->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	limit_wait(links[current]);
	return connect(links[current], (struct sockaddr *)to, is_v4 ? sizeof(*v4) : sizeof(*v6));
}

static int open_mapped(struct sockaddr_storage *to, const char *port)
{
	struct sockaddr_in v4 = *(struct sockaddr_in *)to;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)to;

	memset(to, 0, sizeof(*to));
	v6->sin6_family = AF_INET6;
	v6->sin6_addr.s6_addr[10] = v6->sin6_addr.s6_addr[11] = 0xff;
	memcpy(&v6->sin6_addr.s6_addr[12], &v4.sin_addr, 4);
	return open_link(to, port);
}

static unsigned char *parse_hex(const char *hex, size_t size)
{
	unsigned char *bytes = malloc(size + 1);
	size_t i;

	for (i = 0; i < size; i++)
		sscanf(hex + 2 * i, "%2hhx", &bytes[i]);
	return bytes;
}

static int send_hex(const char *hex)
{
	size_t size = strlen(hex) / 2;
	unsigned char *bytes = parse_hex(hex, size);
	ssize_t sent;

	sent = send(links[current], bytes, size, MSG_NOSIGNAL);
	free(bytes);
	return sent == (ssize_t)size ? 0 : -1;
}

static int read_some(void)
{
	char bytes[8192];

	return recv(links[current], bytes, sizeof(bytes), 0) > 0 ? 0 : -1;
}

static int read_until(const char *hex)
{
	unsigned char bytes[8192], *wanted = parse_hex(hex, strlen(hex) / 2);
	size_t have = 0, size = strlen(hex) / 2;
	ssize_t got = 1;

	while (got > 0 && !memmem(bytes, have, wanted, size)) {
		got = recv(links[current], bytes + have, sizeof(bytes) - have, 0);
		if (got > 0)
			have += (size_t)got;
	}
	free(wanted);
	return got > 0 ? 0 : -1;
}

/* ---- questions by hand ---------------------------------------------------------------------------------------- */

static size_t build_question(unsigned char *out, const char *name)
{
	/* One question, one additional record: EDNS (RFC 6891) with room for 8,192 bytes. */
	static const unsigned char header[] = {0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1};
	static const unsigned char tail[] = {0, 0, 1, 0, 1, 0, 0, 41, 0x20, 0, 0, 0, 0, 0, 0, 0};
	size_t at = sizeof(header), begin = 0, i, length = strlen(name);

	memcpy(out, header, sizeof(header));
	for (i = 0; i <= length; i++)
		if (i == length || name[i] == '.') {
			out[at++] = (unsigned char)(i - begin);
			memcpy(out + at, name + begin, i - begin);
			at += i - begin;
			begin = i + 1;
		}
	memcpy(out + at, tail, sizeof(tail));
	return at + sizeof(tail);
}

/* Our servers answer with the question and records whose owner is a pointer: 12 bytes and the address each. */
static void read_answer(const unsigned char *answer, ssize_t size)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	ssize_t at = 12;

	found_count = 0;
	while (at < size && answer[at])
		at += answer[at] + 1;
	for (at += 5; at + 16 <= size && answer[at] == 0xc0 && answer[at + 3] == 1; at += 16) {
		memcpy(&address.sin_addr, answer + at + 12, 4);
		remember((struct sockaddr *)&address, sizeof(address));
	}
	say(found_count ? "answered" : "refused");
}

static ssize_t read_datagram(int fd, const char *mode, unsigned char *to, size_t room)
{
	struct sockaddr_in from;
	struct iovec pieces[2] = {{to, 100}, {to + 100, room - 100}};
	struct mmsghdr batch[2] = {
		{.msg_hdr = {.msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = pieces, .msg_iovlen = 2}}};
	socklen_t size = sizeof(from);
	struct iovec spare[1];
	unsigned char other[512];

	if (strstr(mode, "recvmmsg")) {
		batch[1].msg_hdr.msg_iov = spare;
		batch[1].msg_hdr.msg_iovlen = 1;
		spare[0] = (struct iovec){other, sizeof(other)};
		return recvmmsg(fd, batch, 2, MSG_WAITFORONE, NULL) > 0 ? (ssize_t)batch[0].msg_len : -1;
	}
	if (strstr(mode, "recvmsg"))
		return recvmsg(fd, &batch[0].msg_hdr, 0);
	if (strstr(mode, "recvfrom"))
		return recvfrom(fd, to, room, 0, (struct sockaddr *)&from, &size);
	return read(fd, to, room);
}

static int ask_datagram(const char *mode, struct sockaddr_in *server, const unsigned char *question, size_t size)
{
	static unsigned char answer[65536];
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ssize_t got;

	limit_wait(fd);
	if (!strncmp(mode, "unasked", 7)) { /* not a question: the server answers what nobody asked */
		question = (const unsigned char *)"unasked";
		size = 7;
	}
	if (!strncmp(mode, "unconnected", 11)) {
		sendto(fd, question, size, 0, (struct sockaddr *)server, sizeof(*server));
	} else {
		connect(fd, (struct sockaddr *)server, sizeof(*server));
		send(fd, question, size, 0);
	}
	got = read_datagram(fd, mode, answer, sizeof(answer));
	if (got > 0)
		read_answer(answer, got);
	close(fd);
	return got > 0 ? 0 : -1;
}

static int ask_stream(const char *mode, struct sockaddr_in *server, unsigned char *question, size_t size)
{
	static unsigned char answer[65536];
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t have = 0, wanted = 2, portion;
	ssize_t got;

	limit_wait(fd);
	if (connect(fd, (struct sockaddr *)server, sizeof(*server)))
		return -1;
	memmove(question + 2, question, size);
	question[0] = (unsigned char)(size >> 8);
	question[1] = (unsigned char)size;
	send(fd, question, size + 2, 0);
	while (have < wanted) {
		portion = sizeof(answer) - have;
		if (!strcmp(mode, "tcp-split")) /* the length, then two halves */
			portion = have < 2 ? 2 - have : (wanted - have + 1) / 2;
		else if (!strcmp(mode, "tcp-bytes"))
			portion = 1;
		got = read(fd, answer + have, portion);
		if (got <= 0)
			break;
		have += (size_t)got;
		if (have >= 2)
			wanted = 2 + ((size_t)answer[0] << 8 | answer[1]);
	}
	close(fd);
	if (have < wanted)
		return -1;
	read_answer(answer + 2, (ssize_t)(have - 2));
	return 0;
}

static int ask(const char *mode, const char *server, const char *name)
{
	struct sockaddr_storage to;
	unsigned char question[512];
	size_t size = build_question(question, name);

	if (parse_address(server, &to))
		return -1;
	((struct sockaddr_in *)&to)->sin_port = htons(53);
	if (!strncmp(mode, "tcp", 3))
		return ask_stream(mode, (struct sockaddr_in *)&to, question, size);
	return ask_datagram(mode, (struct sockaddr_in *)&to, question, size);
}

/* ---- steps ---------------------------------------------------------------------------------------------------- */

static int take_step(char *step)
{
	char *rest, *word = strtok_r(step, " ", &rest);
	char *a = strtok_r(NULL, " ", &rest), *b = strtok_r(NULL, " ", &rest), *c = strtok_r(NULL, " ", &rest);
	struct sockaddr_storage to;

	if (!word)
		return 0;
	if (!strcmp(word, "resolve"))
		return resolve(a);
	if (!strcmp(word, "ask"))
		return ask(a, b, c);
	if (!strcmp(word, "connect"))
		return parse_address(a, &to) || open_link(&to, b);
	if (!strcmp(word, "mapped"))
		return parse_address(a, &to) || open_mapped(&to, b);
	if (!strcmp(word, "use"))
		return (current = atoi(a) % LINKS) < 0;
	if (!strcmp(word, "send"))
		return send_hex(a);
	if (!strcmp(word, "read"))
		return read_some();
	if (!strcmp(word, "until"))
		return read_until(a);
	if (!strcmp(word, "close"))
		return close(links[current]);
	if (!strcmp(word, "sleep"))
		return usleep((unsigned)atoi(a) * 1000);
	return -1;
}

int main(void)
{
	static char line[MAX_LINE];

	while (fgets(line, sizeof(line), stdin)) {
		char *rest, *step;
		int failed = 0;

		line[strcspn(line, "\n")] = 0;
		said[0] = 0;
		for (step = strtok_r(line, ";", &rest); step && !failed; step = strtok_r(NULL, ";", &rest))
			failed = take_step(step);
		printf("%s%s\n", failed ? "failed" : "ok", said);
		fflush(stdout);
	}
	return 0;
}
