/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The hooks. Logic lives in the headers; here system calls are turned into `struct call`.
 *
 * One program run per system call and no map of pending calls: what is written is valid at enter; what was read is valid at
 * exit, where the saved registers still hold the arguments. A function named tp__CATEGORY__EVENT is attached to that
 * tracepoint, one named raw__EVENT to that raw tracepoint; step__NAME is called by others, run__NAME by the loader; uprobe__NAME
 * and uretprobe__NAME are attached to the code of TLS libraries that libraries.py finds.
 */
#include "moved.h"
#include "steps.h"
#include "tlscopies.h"
#include "uprobes.h"

struct enter_args {
	u64 common;
	u64 nr;
	u64 args[6];
};

/* fcntl.h */
#define F_DUPFD 0
#define F_DUPFD_CLOEXEC 1030

struct exit_args {
	u64 common;
	u64 nr;
	s64 ret;
};

/* ---- run by the loader --------------------------------------------------------------------------------------------- */

/* The caller's process ID in the first PID namespace, which nobody in another one can know. */
int run__own_tgid(void *ctx)
{
	return read_pid_tgid() >> 32;
}

/* How deep the caller's PID namespace is; 0 is the first. */
int run__own_level(void *ctx)
{
	return load_u32(AT(load_u64(AT(read_task(), OFF_TASK_PID)), OFF_PID_LEVEL));
}

/* By the loader's choice, again and again: (sock, limit). 1 if that connection's request was late. */
int run__tell_late(u64 *a)
{
	return tell_late(a[0], a[1]);
}

/* The same: (sock, conn_id, seq). 0 if no more is to be heard of the rest of that response. */
int run__ask_rest(u64 *a)
{
	return ask_rest(a[0], a[1], (u32)a[2]);
}

/* ---- writes, at enter ---------------------------------------------------------------------------------------- */

FC_INLINE int on_write(void *a, u64 fd, u64 base, u64 len, u64 name)
{
	void *task;
	struct call *c;

	if (!len)
		return 0;
	task = read_task_btf();
	c = open_call(task, DIR_OUT);
	if (!c)
		return 0;
	c->fd = (u32)fd;
	c->name = name;
	set_buffer(c, base, len);
	take_call(a, c, task);
	return 0;
}

FC_INLINE int on_write_vector(void *a, u64 fd, u64 iov, u64 n)
{
	void *task;
	struct call *c;

	if (!n)
		return 0;
	task = read_task_btf();
	c = open_call(task, DIR_OUT);
	if (!c)
		return 0;
	c->fd = (u32)fd;
	set_vector(c, iov, n, ~0ULL);
	if (c->total)
		take_call(a, c, task);
	return 0;
}

FC_INLINE int on_send_message(void *a, u64 fd, u64 msghdr)
{
	void *task = read_task_btf();
	struct call *c = open_call(task, DIR_OUT);

	if (!c)
		return 0;
	c->fd = (u32)fd;
	if (set_message(c, msghdr, ~0ULL) && c->total)
		take_call(a, c, task);
	return 0;
}

int tp__syscalls__sys_enter_write(struct enter_args *a)
{
	return on_write(a, a->args[0], a->args[1], a->args[2], 0);
}

int tp__syscalls__sys_enter_sendto(struct enter_args *a)
{
	return on_write(a, a->args[0], a->args[1], a->args[2], a->args[4]);
}

int tp__syscalls__sys_enter_writev(struct enter_args *a)
{
	return on_write_vector(a, a->args[0], a->args[1], a->args[2]);
}

int tp__syscalls__sys_enter_pwritev2(struct enter_args *a)
{
	return on_write_vector(a, a->args[0], a->args[1], a->args[2]);
}

int tp__syscalls__sys_enter_sendmsg(struct enter_args *a)
{
	return on_send_message(a, a->args[0], a->args[1]);
}

/* On a stream, the first message. */
int tp__syscalls__sys_enter_sendmmsg(struct enter_args *a)
{
	struct call *c = a->args[2] ? open_call(read_task_btf(), DIR_OUT) : NULL;
	struct fdent *e;

	if (!c)
		return 0;
	c->fd = (u32)a->args[0];
	count(c, FC_COUNT_EVENTS);
	e = find_fd(c);
	if (e && e->kind == FD_UDP) {
		set_buffer(c, a->args[1], a->args[2]);
		go_to(a, STEP_QUESTIONS);
	} else if (e && set_message(c, a->args[1], ~0ULL) && c->total) {
		go_to(a, STEP_FIND);
	}
	return 0;
}

/* ---- reads, at exit ------------------------------------------------------------------------------------------ */

int tp__syscalls__sys_exit_read(struct exit_args *a)
{
	void *task = NULL;
	u8 *s = NULL;
	struct call *c = open_read(&task, &s, a->ret);

	if (!c)
		return 0;
	set_buffer(c, SAVED(s, NUM_REG_1), a->ret);
	take_call(a, c, task);
	return 0;
}

int tp__syscalls__sys_exit_readv(struct exit_args *a)
{
	void *task = NULL;
	u8 *s = NULL;
	struct call *c = open_read(&task, &s, a->ret);

	if (!c)
		return 0;
	set_vector(c, SAVED(s, NUM_REG_1), SAVED(s, NUM_REG_2), a->ret);
	take_call(a, c, task);
	return 0;
}

int tp__syscalls__sys_exit_preadv2(struct exit_args *a)
{
	void *task = NULL;
	u8 *s = NULL;
	struct call *c = open_read(&task, &s, a->ret);

	if (!c)
		return 0;
	set_vector(c, SAVED(s, NUM_REG_1), SAVED(s, NUM_REG_2), a->ret);
	take_call(a, c, task);
	return 0;
}

int tp__syscalls__sys_exit_recvfrom(struct exit_args *a)
{
	void *task = NULL;
	u8 *s = NULL;
	struct call *c = open_read(&task, &s, a->ret);

	if (!c || SAVED(s, NUM_REG_3) & MSG_PEEK)
		return 0;
	set_buffer(c, SAVED(s, NUM_REG_1), a->ret);
	c->name = SAVED(s, NUM_REG_4);
	c->nonblocking = SAVED(s, NUM_REG_3) & MSG_DONTWAIT;
	take_call(a, c, task);
	return 0;
}

int tp__syscalls__sys_exit_recvmsg(struct exit_args *a)
{
	void *task = NULL;
	u8 *s = NULL;
	struct call *c = open_read(&task, &s, a->ret);
	u64 flags;

	if (!c)
		return 0;
	c->message = SAVED(s, NUM_REG_1);
	flags = SAVED(s, NUM_REG_2);
	if (flags & MSG_PEEK)
		return 0;
	c->nonblocking = flags & MSG_DONTWAIT;
	if (set_message(c, c->message, a->ret))
		take_call(a, c, task);
	return 0;
}

/* Only for datagrams: on a stream nobody reads so. */
int tp__syscalls__sys_exit_recvmmsg(struct exit_args *a)
{
	void *task = NULL;
	u8 *s = NULL;
	struct call *c = open_read(&task, &s, a->ret);
	struct fdent *e;
	u64 messages;
	u32 i;

	if (!c || SAVED(s, NUM_REG_3) & MSG_PEEK)
		return 0;
	messages = SAVED(s, NUM_REG_1);
	count(c, FC_COUNT_EVENTS);
	e = find_fd(c);
	if (!e || e->kind != FD_UDP)
		return 0;
	for (i = 0; i < FC_MAX_MESSAGES && i < a->ret; i++) {
		u64 at = messages + i * sizeof(struct user_mmsghdr);
		u32 len = 0;

		read_user(&len, 4, (void *)(at + 56));
		if (len && set_message(c, at, len))
			take_datagram(c, e);
	}
	if (a->ret > FC_MAX_MESSAGES && e->rport)
		c->counts[FC_COUNT_DNS_LOST] += a->ret - FC_MAX_MESSAGES;
	return 0;
}

/* ---- bytes that the kernel moves, at exit ---------------------------------------------------------------------- */

/* Out of a socket, or else into one: the other end is a pipe. */
int tp__syscalls__sys_exit_splice(struct exit_args *a)
{
	void *task = NULL;
	u8 *s = NULL;
	struct call *c = open_read(&task, &s, a->ret);
	struct fdent *e;

	if (!c)
		return 0;
	e = find_fd(c);
	if (!e) {
		c->dir = DIR_OUT;
		c->file = 0;
		c->fd = (u32)SAVED(s, NUM_REG_2);
		e = find_fd(c);
	}
	if (e && e->kind == FD_TCP)
		take_moved(a, c, e, a->ret, true);
	return 0;
}

int tp__syscalls__sys_exit_sendfile64(struct exit_args *a)
{
	void *task = NULL;
	u8 *s = NULL;
	struct call *c = open_read(&task, &s, a->ret);
	struct fdent *e;

	if (!c)
		return 0;
	c->dir = DIR_OUT;
	e = find_fd(c);
	if (e && e->kind == FD_TCP)
		take_moved(a, c, e, a->ret, false);
	return 0;
}

/* ---- descriptors and connections that come and go ------------------------------------------------------------- */

int tp__syscalls__sys_exit_socket(struct exit_args *a)
{
	return on_new_fd(a->ret);
}

int tp__syscalls__sys_exit_accept(struct exit_args *a)
{
	return on_accepted(a->ret);
}

int tp__syscalls__sys_exit_accept4(struct exit_args *a)
{
	return on_accepted(a->ret);
}

/* Copies of a descriptor, of the own process and of another one. */
int tp__syscalls__sys_exit_dup(struct exit_args *a)
{
	return on_new_fd(a->ret);
}

int tp__syscalls__sys_exit_dup2(struct exit_args *a)
{
	return on_new_fd(a->ret);
}

int tp__syscalls__sys_exit_dup3(struct exit_args *a)
{
	return on_new_fd(a->ret);
}

int tp__syscalls__sys_exit_pidfd_getfd(struct exit_args *a)
{
	return on_new_fd(a->ret);
}

int tp__syscalls__sys_exit_fcntl(struct exit_args *a)
{
	u8 *s = NULL;
	u64 command;

	if (a->ret <= 0)
		return 0;
	s = find_saved(read_task_btf());
	command = (u32)SAVED(s, NUM_REG_1);
	return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? on_new_fd(a->ret) : 0;
}

/* Of connects that failed or are not decided yet; those that succeeded cost nothing but the call of this. */
int tp__syscalls__sys_exit_connect(struct exit_args *a)
{
	u8 *s = NULL;
	struct call *c;
	u32 error = (u32)-a->ret;

	if (a->ret >= 0)
		return 0;
	c = is_pending(error) || name_failure(error) ? open_call(read_task_btf(), DIR_OUT) : NULL;
	if (!c)
		return 0;
	s = find_saved(read_task_btf());
	c->fd = (u32)SAVED(s, NUM_REG_0);
	c->name = SAVED(s, NUM_REG_1);
	end_connect(c, error);
	return 0;
}

/* A raw tracepoint: perf's share one recursion guard, and a close that arrives in an interrupt while another program
 * of ours runs would be missed. */
int raw__inet_sock_set_state(u64 *a)
{
	u64 sk = a[0];
	u32 old = (u32)a[1];
	u32 new = (u32)a[2];

	if (load_u16(AT(sk, OFF_SK_PROTOCOL)) == IPPROTO_TCP)
		change_state(sk, old, new);
	return 0;
}

/* ---- TLS libraries --------------------------------------------------------------------------------------------- */

#define UPROBE(name, function)             \
	int name(struct user_regs *r)      \
	{                                  \
		return function(r);        \
	}

UPROBE(uprobe__tls_write, on_tls_write)
UPROBE(uprobe__tls_read, on_tls_read)
UPROBE(uretprobe__tls_read, on_tls_read_return)
UPROBE(uretprobe__tls_read_ex, on_tls_read_ex_return)
UPROBE(uprobe__tls_copy, on_tls_copy)
UPROBE(uprobe__boring_copy, on_boring_copy)
UPROBE(uprobe__tls_peek, on_tls_peek)
UPROBE(uretprobe__tls_peek_end, on_tls_peek_return)
UPROBE(uprobe__go_write, on_go_write)
UPROBE(uprobe__go_read, on_go_read)
