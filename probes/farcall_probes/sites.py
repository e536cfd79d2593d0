"""What the names of bpf/ids.h mean on this kernel: struct members by BTF path, registers, numbers.

A wrong or missing offset loads silently and reads rubbish, so: every name has an entry here or the loader refuses,
a member's size is checked beside its offset, and the self-test proves the rest with real connections.
"""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass

from farcall_probes.btf import Btf, BtfError, Member


class SiteError(Exception):
    """This kernel does not have what the programs need. The message names the member."""


@dataclass(frozen=True, slots=True)
class _Offset:
    paths: tuple[str, ...]  # the first that this kernel has; renamed members need several
    size: int  # bytes that the programs read there


def _at(size: int, *paths: str) -> _Offset:
    return _Offset(paths, size)


_OFFSETS = {
    "OFF_TASK_FILES": _at(8, "task_struct.files"),
    "OFF_FILES_FDT": _at(8, "files_struct.fdt"),
    "OFF_FDT_FD": _at(8, "fdtable.fd"),
    "OFF_FDT_MAX": _at(4, "fdtable.max_fds"),
    "OFF_FILE_PRIVATE": _at(8, "file.private_data"),
    "OFF_FILE_INODE": _at(8, "file.f_inode"),
    "OFF_FILE_FLAGS": _at(4, "file.f_flags"),
    "OFF_INODE_MODE": _at(2, "inode.i_mode"),
    "OFF_SOCKET_SK": _at(8, "socket.sk"),
    "OFF_SK_PROTOCOL": _at(2, "sock.sk_protocol"),
    "OFF_SK_FAMILY": _at(2, "sock.__sk_common.skc_family"),
    "OFF_SK_STATE": _at(1, "sock.__sk_common.skc_state"),
    "OFF_SK_DPORT": _at(2, "sock.__sk_common.skc_dport"),
    "OFF_SK_NUM": _at(2, "sock.__sk_common.skc_num"),
    "OFF_SK_PORTS": _at(4, "sock.__sk_common.skc_portpair"),
    "OFF_SK_DADDR": _at(4, "sock.__sk_common.skc_daddr"),
    "OFF_SK_SADDR": _at(4, "sock.__sk_common.skc_rcv_saddr"),
    "OFF_SK_DADDR6": _at(16, "sock.__sk_common.skc_v6_daddr"),
    "OFF_SK_SADDR6": _at(16, "sock.__sk_common.skc_v6_rcv_saddr"),
    "OFF_SK_NET": _at(8, "sock.__sk_common.skc_net"),
    "OFF_NET_INUM": _at(4, "net.ns.inum"),
    "OFF_TASK_LEADER": _at(8, "task_struct.group_leader"),
    "OFF_TASK_START": _at(8, "task_struct.start_boottime", "task_struct.real_start_time"),
    "OFF_TASK_PARENT": _at(8, "task_struct.real_parent"),
    "OFF_TASK_TGID": _at(4, "task_struct.tgid"),
    "OFF_TASK_PID": _at(8, "task_struct.thread_pid"),
    "OFF_TASK_TID": _at(4, "task_struct.pid"),
    "OFF_PID_LEVEL": _at(4, "pid.level"),
    "OFF_UPID_NR": _at(4, "upid.nr"),
    "OFF_UPID_NS": _at(8, "upid.ns"),
    "OFF_PIDNS_INUM": _at(4, "pid_namespace.ns.inum"),
    "OFF_TCP_COPIED": _at(4, "tcp_sock.copied_seq"),
    "OFF_TCP_WRITE": _at(4, "tcp_sock.write_seq"),
    "OFF_TCP_RCV_NXT": _at(4, "tcp_sock.rcv_nxt"),
    "OFF_TCP_SND_UNA": _at(4, "tcp_sock.snd_una"),
    "OFF_TCP_RECEIVED": _at(8, "tcp_sock.bytes_received"),
    "OFF_TCP_ACKED": _at(8, "tcp_sock.bytes_acked"),
    "OFF_SK_ERR": _at(4, "sock.sk_err"),
    "OFF_SK_SHUTDOWN": _at(1, "sock.sk_shutdown"),
    "OFF_ICSK_BIND": _at(8, "inet_connection_sock.icsk_bind_hash"),
    "OFF_BIND_REUSE": _at(1, "inet_bind_bucket.fastreuse"),
}

# The walk to the memory controller's cgroup; a kernel without it never takes it (NUM_HAS_MEMORY).
_MEMORY = {
    "OFF_TASK_CGROUPS": _at(8, "task_struct.cgroups"),
    "OFF_CSS_CGROUP": _at(8, "cgroup_subsys_state.cgroup"),
    "OFF_CGROUP_KN": _at(8, "cgroup.kn"),
    "OFF_KN_ID": _at(8, "kernfs_node.id"),
}

# System call arguments at exit, in order. Others (arm64 keeps its first argument apart) are not read yet.
_REGISTERS = {"x86_64": ("di", "si", "dx", "r10", "r8")}
_BLOCK_BYTES = 64  # struct saved in probes.c


def find_member(btf: Btf, offset: _Offset) -> Member:
    for path in offset.paths:
        try:
            member = btf.find_member(path)
        except BtfError:
            continue
        if member.size != offset.size or member.is_bitfield:
            raise SiteError(
                f"{path} has {member.size} bytes on this kernel, the programs read {offset.size}"
            )
        return member
    raise SiteError(f"this kernel's BTF has no {' or '.join(offset.paths)}")


def _memory_values(btf: Btf) -> Iterator[tuple[str, int]]:
    number = btf.find_enumerator("cgroup_subsys_id", "memory_cgrp_id")
    yield "NUM_HAS_MEMORY", int(number is not None)
    if number is None:
        yield from ((name, 0) for name in (*_MEMORY, "OFF_CSS_SET_MEMORY"))
        return
    for name, offset in _MEMORY.items():
        yield name, find_member(btf, offset).offset
    yield "OFF_CSS_SET_MEMORY", btf.find_member("css_set.subsys").offset + 8 * number


def _epoll_values(btf: Btf) -> Iterator[tuple[str, int]]:
    """A list head beside its neighbours before Linux 5.11, and absent where there is no epoll."""
    try:
        member = btf.find_member("file.f_ep")
    except BtfError:
        member = None
    yield "NUM_HAS_EPOLLS", int(member is not None)
    yield "OFF_FILE_EPOLLS", member.offset if member else 0


def _cast_values(btf: Btf) -> Iterator[tuple[str, int]]:
    """Programs may load from any address that they cast to a struct, since Linux 6.2."""
    cast = btf.find_function("bpf_rdonly_cast") or 0
    yield "NUM_CAST", cast
    yield "NUM_WORD_TYPE", btf.find_struct("timespec64") if cast else 0


def _register_values(btf: Btf, machine: str) -> Iterator[tuple[str, int]]:
    names = _REGISTERS.get(machine)
    if names is None:
        raise SiteError(f"system call arguments are known on x86_64 only, and this is {machine}")
    offsets = [find_member(btf, _at(8, f"pt_regs.{name}")).offset for name in names]
    block = min(offsets)
    if max(offsets) + 8 - block > _BLOCK_BYTES:
        raise SiteError("struct pt_regs is laid out in another way than the programs read it")
    yield "OFF_REGS_BLOCK", block
    for number, offset in enumerate(offsets):
        yield f"NUM_REG_{number}", offset - block


def find_pid_namespace() -> int:
    """Inode number of this process' PID namespace. Raises SiteError."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError as e:
        raise SiteError(f"/proc is not mounted ({e.strerror or e})") from e


def _process_values(btf: Btf, pid_namespace: int) -> Iterator[tuple[str, int]]:
    yield "OFF_PID_NUMBERS", btf.find_member("pid.numbers").offset
    yield "NUM_UPID_BYTES", btf.find_size("upid")
    # An immediate is signed; the bit that is left out is set in every namespace's number.
    yield "NUM_PIDNS", pid_namespace & 0x7FFFFFFF


def find_values(
    btf: Btf, machine: str | None = None, pid_namespace: int | None = None
) -> dict[str, int]:
    """The value of every OFF_* and NUM_* of ids.h. Raises SiteError or BtfError."""
    values = {name: find_member(btf, offset).offset for name, offset in _OFFSETS.items()}
    values.update(_memory_values(btf))
    values.update(_epoll_values(btf))
    values.update(_cast_values(btf))
    values.update(_register_values(btf, machine or platform.machine()))
    values.update(_process_values(btf, pid_namespace or find_pid_namespace()))
    return values
