/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * From a descriptor to the kernel's sock, by walking the task's table; and who the running task is.
 *
 * So connections older than the agent have addresses too. No two members are assumed to lie side by side: each read
 * has its own patched offset.
 */
#ifndef FARCALL_WALK_H
#define FARCALL_WALK_H

#include "maps.h"

/* The running task's table of descriptors. As far as the verifier knows types it lets programs load by themselves, which
 * saves a call of read_kernel for each; an address that is none reads as 0 all the same. */
FC_INLINE void *load_table(void *task)
{
	void *files = FOLLOW(task, OFF_TASK_FILES);

	return files ? FOLLOW(files, OFF_FILES_FDT) : NULL;
}

FC_INLINE u64 walk_to_file(void *task, u64 fd)
{
	void *table = load_table(task);
	u64 array;

	if (!table || fd >= *(volatile u32 *)AT(table, OFF_FDT_MAX))
		return 0;
	array = (u64)FOLLOW(table, OFF_FDT_FD);
	return array ? load_u64((void *)(array + fd * 8)) : 0;
}

/* The sock behind the call's descriptor, or 0. The inode's mode tells sockets apart: the address of socket_file_ops is not
 * to be had where data symbols are left out of kallsyms. */
FC_INLINE u64 walk_to_sk(void *task, struct call *c)
{
	u64 file = walk_to_file(task, c->fd);
	u64 inode, sock;

	c->file = file;
	if (!file)
		return 0;
	inode = load_u64(AT(file, OFF_FILE_INODE));
	if (!inode || (load_u16(AT(inode, OFF_INODE_MODE)) & S_IFMT) != S_IFSOCK)
		return 0;
	sock = load_u64(AT(file, OFF_FILE_PRIVATE));
	return sock ? load_u64(AT(sock, OFF_SOCKET_SK)) : 0;
}

FC_INLINE bool is_inet(u64 sk)
{
	u16 family = load_u16(AT(sk, OFF_SK_FAMILY));

	return family == AF_INET || family == AF_INET6;
}

FC_INLINE u32 load_ports(u64 sk)
{
	return load_u32(AT(sk, OFF_SK_PORTS));
}

FC_INLINE bool is_dns_port(struct call *c, u16 port)
{
	return port == FC_DNS_PORT || (port && port == c->dns_port);
}

FC_INLINE u8 classify_udp(struct call *c, u16 rport)
{
	return !rport || is_dns_port(c, rport) ? FD_UDP : FD_NOT;
}

/* Fills the entry for `sk`. */
FC_INLINE void describe_sk(struct call *c, u64 sk, struct fdent *e)
{
	u16 protocol = load_u16(AT(sk, OFF_SK_PROTOCOL));

	if (!is_inet(sk))
		return;
	e->sk = sk;
	e->ports = load_ports(sk);
	e->rport = swap16(load_u16(AT(sk, OFF_SK_DPORT)));
	if (protocol == IPPROTO_TCP)
		e->kind = is_dns_port(c, e->rport) ? FD_TCP_DNS : FD_TCP;
	else if (protocol == IPPROTO_UDP)
		e->kind = classify_udp(c, e->rport);
}

/* Walks, remembers and returns what lies behind the descriptor. NULL when it is nothing of ours. */
FC_INLINE struct fdent *resolve_fd(struct call *c)
{
	u64 key = (c->pid_tgid & 0xffffffff00000000ULL) | c->fd;
	struct fdent e = {};
	u64 sk = walk_to_sk(read_task_btf(), c);

	if (sk)
		describe_sk(c, sk, &e);
	if (e.kind == FD_NOT) {
		e.until = read_clock() + FD_NOT_LIFE_NS;
		count(c, FC_COUNT_NOT_SOCKET);
	} else {
		count(c, FC_COUNT_RESOLVED);
	}
	map_update(MAP(MAP_FDS), &key, &e, 0);
	return e.kind == FD_NOT ? NULL : map_lookup(MAP(MAP_FDS), &key);
}

FC_INLINE struct fdent *find_fd(struct call *c)
{
	u64 key = (c->pid_tgid & 0xffffffff00000000ULL) | c->fd;
	struct fdent *e = map_lookup(MAP(MAP_FDS), &key);

	if (!e || (e->kind == FD_NOT && read_clock() >= e->until))
		e = resolve_fd(c);
	if (!e || e->kind == FD_NOT)
		return NULL;
	c->sk = e->sk;
	c->ports = e->ports;
	return e;
}

/* Whether the descriptor leads to `sk`. Without the checks of a walk into the unknown: rubbish on the way does not end at
 * an address that was right before. */
FC_INLINE bool leads_to(struct call *c, u64 sk)
{
	void *table = load_table(read_task_btf());
	u64 file = table ? load_u64((void *)((u64)FOLLOW(table, OFF_FDT_FD) + c->fd * 8)) : 0;

	c->file = file;
	return load_u64(AT(load_u64(AT(file, OFF_FILE_PRIVATE)), OFF_SOCKET_SK)) == sk;
}

FC_INLINE bool is_right(struct call *c, u64 sk, u32 ports)
{
	return sk && leads_to(c, sk) && ports == load_ports(sk);
}

/* What is remembered of the descriptor if it is right still, else what it leads to now. */
FC_INLINE struct fdent *find_right_fd(struct call *c)
{
	struct fdent *e = find_fd(c);

	return e && is_right(c, e->sk, e->ports) ? e : resolve_fd(c);
}

/* Whether the descriptor leads to a TCP connection: to the one that it was looked up for in this call, or to another by now. */
FC_INLINE bool verify_fd(struct call *c)
{
	struct fdent *e;

	if (c->sk && c->file) /* it was walked in this call */
		return true;
	if (is_right(c, c->sk, (u32)c->ports))
		return true;
	e = resolve_fd(c);
	if (!e || e->kind != FD_TCP)
		return false;
	c->sk = e->sk;
	c->ports = e->ports;
	return true;
}

/* The descriptor is left alone for a while. */
FC_INLINE void ignore_fd(struct call *c, u64 for_ns)
{
	u64 key = (c->pid_tgid & 0xffffffff00000000ULL) | c->fd;
	struct fdent e = {};

	e.until = read_clock() + for_ns;
	map_update(MAP(MAP_FDS), &key, &e, 0);
}

/* The v2 ID unless it is the root's (1), else the memory controller's: on hybrid nodes every process is in v2's root. */
FC_INLINE u64 load_cgroup(u64 task)
{
	u64 id = read_cgroup();
	u64 set, css, cgroup, kn;

	if (id != 1 || !NUM(NUM_HAS_MEMORY))
		return id;
	set = load_u64(AT(task, OFF_TASK_CGROUPS));
	css = set ? load_u64(AT(set, OFF_CSS_SET_MEMORY)) : 0;
	cgroup = css ? load_u64(AT(css, OFF_CSS_CGROUP)) : 0;
	kn = cgroup ? load_u64(AT(cgroup, OFF_CGROUP_KN)) : 0;
	return kn ? load_u64(AT(kn, OFF_KN_ID)) : id;
}

/* The process' ID as the agent's /proc shows it, or 0: it is none of the agent's node. Several nodes may share one kernel
 * (kind's do), each a PID namespace. */
FC_INLINE u32 find_visible_id(u64 leader)
{
	u64 pid = leader ? load_u64(AT(leader, OFF_TASK_PID)) : 0;
	u64 entry = (u64)AT(pid, OFF_PID_NUMBERS) + NUM(NUM_UPID_BYTES) * NUM(NUM_PIDNS_LEVEL);

	if (!pid || load_u32(AT(pid, OFF_PID_LEVEL)) < NUM(NUM_PIDNS_LEVEL))
		return 0;
	if ((load_u32(AT(load_u64(AT(entry, OFF_UPID_NS)), OFF_PIDNS_INUM)) & 0x7fffffff) != NUM(NUM_PIDNS))
		return 0;
	return load_u32(AT(entry, OFF_UPID_NR));
}

/* Whether the running process is one of the agent's node: what others do is not the agent's to count. */
FC_INLINE bool is_visible(u64 task)
{
	return !NUM(NUM_PIDNS_LEVEL) || find_visible_id(load_u64(AT(task, OFF_TASK_LEADER)));
}

FC_INLINE void fill_process(struct call *c, struct fc_who *w)
{
	u64 task = read_task();
	u64 leader = load_u64(AT(task, OFF_TASK_LEADER));
	u64 parent = load_u64(AT(task, OFF_TASK_PARENT));

	if (!NUM(NUM_PIDNS_LEVEL)) {
		w->tgid = c->pid_tgid >> 32;
		w->parent_tgid = parent ? load_u32(AT(parent, OFF_TASK_TGID)) : 0;
	} else {
		w->tgid = find_visible_id(leader);
		w->parent_tgid = parent ? find_visible_id(load_u64(AT(parent, OFF_TASK_LEADER))) : 0;
	}
	w->tid = (u32)c->pid_tgid;
	w->cgroup_id = load_cgroup(task);
	w->proc_start_ns = leader ? load_u64(AT(leader, OFF_TASK_START)) : 0;
	read_comm(w->comm, FC_COMM_LEN);
}

FC_INLINE void copy_process(struct fc_who *to, const struct fc_who *from)
{
	to->tgid = from->tgid;
	to->parent_tgid = from->parent_tgid;
	to->tid = from->tid;
	to->cgroup_id = from->cgroup_id;
	to->proc_start_ns = from->proc_start_ns;
	*(u64 *)to->comm = *(const u64 *)from->comm;
	*(u64 *)(to->comm + 8) = *(const u64 *)(from->comm + 8);
}

FC_INLINE void map_ipv4(u8 *to, u32 address)
{
	*(u64 *)to = 0;
	*(u32 *)(to + 8) = 0xffff0000; /* ::ffff: in memory order */
	*(u32 *)(to + 12) = address;
}

FC_INLINE void fill_addresses(u64 sk, struct fc_who *w)
{
	u64 net = load_u64(AT(sk, OFF_SK_NET));

	w->sk = sk;
	w->netns = net ? load_u32(AT(net, OFF_NET_INUM)) : 0;
	w->family = (u8)load_u16(AT(sk, OFF_SK_FAMILY));
	w->lport = load_u16(AT(sk, OFF_SK_NUM));
	w->rport = swap16(load_u16(AT(sk, OFF_SK_DPORT)));
	if (w->family == AF_INET6) {
		read_kernel(w->laddr, 16, AT(sk, OFF_SK_SADDR6));
		read_kernel(w->raddr, 16, AT(sk, OFF_SK_DADDR6));
	} else {
		map_ipv4(w->laddr, load_u32(AT(sk, OFF_SK_SADDR)));
		map_ipv4(w->raddr, load_u32(AT(sk, OFF_SK_DADDR)));
	}
}

FC_INLINE bool is_dropped(struct call *c, u64 cgroup_id)
{
	u32 *flags = map_lookup(MAP(MAP_POLICY), &cgroup_id);

	return (flags ? *flags : c->default_policy) & FC_POLICY_DROP;
}

FC_INLINE bool is_wanted(struct call *c, const struct fc_who *w)
{
	if (w->tgid && !is_dropped(c, w->cgroup_id))
		return true;
	count(c, FC_COUNT_POLICY);
	return false;
}

#endif
