/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Markers that the loader patches, kernel helpers by number, and the few words of C that everything here uses.
 *
 * The programs are compiled once, without any kernel's headers. Plain asm (not volatile): the compiler may merge equal
 * markers, but can never fold one. No globals, no string constants, every function inlined: nothing to relocate.
 */
#ifndef FARCALL_FC_H
#define FARCALL_FC_H

#define FC_KERNEL_SIDE
#include <linux/types.h>
#include "events.h"
#include "ids.h"

#define FC_STR_(x) #x
#define FC_STR(x) FC_STR_(x)
#define FC_INLINE static __attribute__((always_inline)) inline

/* compile.py builds twice with other values and takes what differs as the list of sites. */
#ifndef FC_MAGIC_NUMBER
#define FC_MAGIC_NUMBER 0x5CA10000
#endif
#ifndef FC_MAGIC_MAP
#define FC_MAGIC_MAP 0xFA11CA1100000000
#endif

/* pointer + offset of a member */
#define AT(p, id)                                                                        \
	({                                                                               \
		u64 _p = (u64)(p);                                                       \
		asm("%0 += " FC_STR(FC_MAGIC_NUMBER) " + " FC_STR(id) : "+r"(_p));       \
		(void *)_p;                                                              \
	})
/* a number of this kernel */
#define NUM(id)                                                                          \
	({                                                                               \
		u64 _v;                                                                  \
		asm("%0 = " FC_STR(FC_MAGIC_NUMBER) " + " FC_STR(id) : "=r"(_v));        \
		_v;                                                                      \
	})
#define MAP(id)                                                                          \
	({                                                                               \
		void *_m;                                                                \
		asm("%0 = " FC_STR(FC_MAGIC_MAP) " + " FC_STR(id) " ll" : "=r"(_m));     \
		_m;                                                                      \
	})

/* By number: names with a fallback are bent by the compiler's front end to the machine that compiles. */
static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static long (*map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*map_delete)(void *map, const void *key) = (void *)3;
static u64 (*read_clock)(void) = (void *)5;
static u32 (*read_cpu)(void) = (void *)8;
static long (*tail_call)(void *ctx, void *map, u32 index) = (void *)12;
static u64 (*read_pid_tgid)(void) = (void *)14;
static long (*read_comm)(void *to, u32 size) = (void *)16;
static u64 (*read_task)(void) = (void *)35;
static u64 (*read_cgroup)(void) = (void *)80;
static long (*read_user)(void *to, u32 size, const void *from) = (void *)112;
static long (*read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*ring_output)(void *ring, void *data, u64 size, u64 flags) = (void *)130;
static void *(*ring_reserve)(void *ring, u64 size, u64 flags) = (void *)131;
static void (*ring_submit)(void *data, u64 flags) = (void *)132;
static void (*ring_discard)(void *data, u64 flags) = (void *)133;
static void *(*read_task_btf)(void) = (void *)158;
static void *(*read_task_regs)(void *task) = (void *)175;
/* bpf_rdonly_cast, a kfunc since Linux 6.2: the loader puts its call here (loader.py). */
static const void *(*cast_address)(const void *address, u64 type) = (void *)0xFC01;

/* A wake-up per record costs more than the record: the reader has a timer. */
#define FC_NO_WAKEUP 1

#define FC_SECOND_NS 1000000000ULL

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define S_IFMT 0xF000
#define S_IFSOCK 0xC000
#define MSG_PEEK 2
#define MSG_DONTWAIT 0x40

#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_SYN_RECV 3
#define TCP_FIN_WAIT1 4
#define TCP_FIN_WAIT2 5
#define TCP_CLOSE 7
#define TCP_CLOSE_WAIT 8
#define TCP_LAST_ACK 9
#define TCP_CLOSING 11
#define SHUTDOWN_BOTH 3

/* clang drops bounds that it can prove and the verifier can not: hide the value's origin before each check. */
#define FC_HIDE(n) asm volatile("" : "+r"(n))
#define FC_CLAMP(n, max)                                                                 \
	do {                                                                             \
		FC_HIDE(n);                                                              \
		if ((n) > (max))                                                         \
			(n) = (max);                                                     \
	} while (0)

FC_INLINE u16 swap16(u16 n)
{
	return (u16)((n << 8) | (n >> 8));
}

FC_INLINE u32 swap32(u32 n)
{
	return n << 24 | (n & 0xff00) << 8 | (n >> 8 & 0xff00) | n >> 24;
}

/* What a pointer member points to, of a struct whose type the verifier knows. */
#define FOLLOW(p, id) (*(void *volatile *)AT(p, id))

/* Of the kernel's memory, 0 at an address that is none. Where the kernel lets programs load from any address by themselves a load
 * costs 2 ns, else a call of read_kernel, 25 ns. Which of both is a number, so the verifier drops the other. */
#define FC_LOAD(type, from)                                                              \
	({                                                                               \
		type _l = 0;                                                             \
		if (NUM(NUM_WORD_TYPE))                                                  \
			_l = *(const volatile type *)cast_address(from, NUM(NUM_WORD_TYPE)); \
		else                                                                     \
			read_kernel(&_l, sizeof(_l), from);                              \
		_l;                                                                      \
	})

FC_INLINE u64 load_u64(const void *from)
{
	return FC_LOAD(u64, from);
}

FC_INLINE u32 load_u32(const void *from)
{
	return FC_LOAD(u32, from);
}

FC_INLINE u16 load_u16(const void *from)
{
	return FC_LOAD(u16, from);
}

FC_INLINE u8 load_u8(const void *from)
{
	return FC_LOAD(u8, from);
}

#endif
