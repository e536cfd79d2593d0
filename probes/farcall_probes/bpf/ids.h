/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Numbers of everything the loader fills in: map references, kernel offsets and kernel numbers.
 *
 * compile.py reads the names of this file into the artefact; sites.py says what each means. A name that the loader has
 * no value for refuses to load, because an unpatched or wrong offset loads silently and reads rubbish.
 */
#ifndef FARCALL_IDS_H
#define FARCALL_IDS_H

/* MAP_*: lddw of a map descriptor. */
#define MAP_FDS 1        /* (tgid, fd) → struct fdent */
#define MAP_CONNS 2      /* sock → struct conn */
#define MAP_OPENS 3      /* a hash of a sock → struct opened_row */
#define MAP_CALL 4       /* per CPU, two of them: struct call */
#define MAP_SETTINGS 5   /* struct settings */
#define MAP_POLICY 6     /* cgroup ID → enum fc_policy */
#define MAP_RING_SMALL 7
#define MAP_RING_LARGE 8
#define MAP_RING_HEAD 9
#define MAP_RING_DNS 10
#define MAP_STEPS 11      /* STEP_* → program; uprobes' programs have a table of their own under this name */
#define MAP_TLS_CALLS 22  /* thread → struct tls_call */
#define MAP_TLS_SESSIONS 23 /* struct tls_key → struct tls_session */
#define MAP_TLS_USERS 24  /* tgid → 1: speaks TLS that no probe of ours has read yet */
#define MAP_TLS_KEPT 26   /* thread → struct tls_kept */
#define MAP_STEPS_KEPT 27 /* as MAP_STEPS, of programs that read a call's bytes from the kernel's memory */
#define MAP_TLS_HITS 25   /* u64: hits of probes that the kernel has to single-step */
#define MAP_SERVING 20    /* thread → struct serving */
#define MAP_ASKED 12      /* sock and transaction → struct asked */
#define MAP_BUCKETS 30    /* cgroup ID → struct bucket */
#define MAP_DIALS 21      /* sock → struct fc_who: connects that are not decided yet */

/* STEP_*: index of the program step__NAME. */
#define STEP_BEGIN 0
#define STEP_CONTINUE 1
#define STEP_HEAD 2
#define STEP_ANSWER 3
#define STEP_DATAGRAM 4
#define STEP_STREAM 5
#define STEP_REPLY 6
#define STEP_MEET 7
#define STEP_FRAMES 8
#define STEP_MESSAGE 9
#define STEP_PASS 10
#define STEP_RECOGNISE 11
#define STEP_HTTP2 12
#define STEP_QUESTION 13
#define STEP_TLS 14
#define STEP_PLAINTEXT 15
#define STEP_QUESTIONS 16
#define STEP_RIGHTS 17
#define STEP_TURNED 18
#define STEP_REST 19
#define STEP_TELL 20
#define STEP_FIND 21
#define STEP_COMMANDS 22

/* OFF_*: a member's offset, added to a pointer. */
#define OFF_TASK_FILES 1
#define OFF_FILES_FDT 2
#define OFF_FDT_FD 3
#define OFF_FDT_MAX 4
#define OFF_FILE_PRIVATE 5
#define OFF_FILE_INODE 6
#define OFF_INODE_MODE 7
#define OFF_SOCKET_SK 8
#define OFF_SK_PROTOCOL 9
#define OFF_SK_FAMILY 10
#define OFF_SK_STATE 11
#define OFF_SK_DPORT 12
#define OFF_SK_NUM 13
#define OFF_SK_DADDR 14
#define OFF_SK_SADDR 15
#define OFF_SK_DADDR6 16
#define OFF_SK_SADDR6 17
#define OFF_SK_NET 18
#define OFF_NET_INUM 19
#define OFF_TASK_LEADER 20
#define OFF_TASK_START 21
#define OFF_TASK_PARENT 22
#define OFF_TASK_TGID 23
#define OFF_TASK_CGROUPS 24
#define OFF_CSS_SET_MEMORY 25
#define OFF_CSS_CGROUP 26
#define OFF_CGROUP_KN 27
#define OFF_KN_ID 28
#define OFF_TCP_COPIED 29
#define OFF_TCP_WRITE 30
#define OFF_TCP_RCV_NXT 31
#define OFF_TCP_SND_UNA 32
#define OFF_TCP_RECEIVED 33
#define OFF_TCP_ACKED 34
#define OFF_SK_SHUTDOWN 35
#define OFF_ICSK_BIND 36
#define OFF_BIND_REUSE 37
#define OFF_SK_PORTS 39
#define OFF_TASK_PID 40
#define OFF_PID_LEVEL 41
#define OFF_PID_NUMBERS 42
#define OFF_UPID_NR 43
#define OFF_UPID_NS 44
#define OFF_PIDNS_INUM 45
#define OFF_FILE_FLAGS 46
#define OFF_FILE_EPOLLS 47
#define OFF_SK_ERR 48
#define OFF_TASK_TID 49
#define OFF_REGS_BLOCK 38 /* lowest of the registers that hold system call arguments */

/* NUM_*: a number. Registers are byte offsets within the block read at OFF_REGS_BLOCK. */
#define NUM_REG_0 1
#define NUM_REG_1 2
#define NUM_REG_2 3
#define NUM_REG_3 4
#define NUM_REG_4 5
#define NUM_HAS_MEMORY 6 /* 1 where the kernel has a memory controller */
#define NUM_PIDNS_LEVEL 7 /* of the agent's PID namespace; 0 is the first, where IDs need no translation */
#define NUM_PIDNS 8       /* low 31 bits of its inode number */
#define NUM_UPID_BYTES 9
#define NUM_HAS_EPOLLS 20 /* 1 where a file points at the epolls that it is in */
#define NUM_IN_UPROBE 10   /* 1 in programs that uprobes run, 0 in those of tracepoints */
#define NUM_WORD_TYPE 21 /* BTF type of a struct that begins with 64 bits, where any address may be taken for one; else 0 */
#define NUM_CAST 22      /* BTF type of the kernel's function that takes it so; for the loader */
#define NUM_DEAR 11        /* 1 where the kernel single-steps the probed instruction */
#define NUM_RECORD 23      /* the register, as x86-64 numbers them, that holds OpenSSL's record where it is copied from */
#define NUM_RECORD_AT 25   /* where in an SSL object that record lies */
#define NUM_RECORD_IS_NEW 26 /* 1 where it is a TLS_RECORD, of OpenSSL 3.2 and newer */
#define NUM_IN_INIT 27     /* where in an SSL object stands whether its handshake goes on; 0: unknown */
#define NUM_WANT 28        /* the same for what it waits for; */
#define NUM_WANT_IN 29     /* not 0: in what the word there points at, as in BoringSSL */
#define NUM_OWNER 24       /* which of the attachments to TLS libraries this program is of */

/* SIZE_*: what the loader makes maps with; held against sizeof in maps.h. */
#define SIZE_FDENT 24
#define SIZE_CONN 1256
#define SIZE_OPENED 128
#define SIZE_OPENED_ROWS 8192 /* a power of two */
#define SIZE_ASKED 136
#define SIZE_SETTINGS 32
#define SIZE_CALL 5120
#define SIZE_SERVING 32
#define SIZE_WHO 128
#define SIZE_BUCKET 24
#define SIZE_BEFORE_STATE 1041 /* in struct conn: where the reader of the table finds `state` */
#define SIZE_TLS_CALL 128
#define SIZE_TLS_KEY 16
#define SIZE_TLS_KEPT 2048
#define SIZE_TLS_SESSION 24

#endif
