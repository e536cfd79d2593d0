"""Where a TLS library is probed: from an ELF file to file offsets and the programs that belong there.

The place decides the cost, 0.5 µs or 11 µs a hit (x86.py), so functions are looked into instead of probed by name. In order:
the function that both SSL_read and SSL_read_ex call, if it begins cheaply; each of them, where it begins cheaply; for writes
any cheap instruction that runs before the arguments are gone; at last the function's first byte, whatever it costs: a
`dear` point, which libraries.py holds to a rate. Reads are probed best where the library copies what was read (tlscopies.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from farcall_probes import x86
from farcall_probes.elf import ElfError, ElfFile, Symbol
from farcall_probes.tlscopies import find_copies

MAX_FUNCTION = 512  # bytes looked at of an exported function; those of OpenSSL are shorter than 200

SSL_NAMES = (
    *("SSL_read", "SSL_read_ex", "SSL_write", "SSL_write_ex", "SSL_write_ex2"),
    *("SSL_peek", "SSL_peek_ex"),
    *("SSL_in_init", "SSL_want"),
)
_LOAD = 0x8B
_OF_ARGUMENT = frozenset((0x47, 0x87))  # ModRM of `mov n(%rdi),%eax`
_MOST_MEMBER = 0x400  # 0x64 in OpenSSL 3.0, 0xb4 in 3.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A program of bpf/probes.c at an instruction. `dear`: the kernel has to single-step it."""

    program: str
    offset: int  # in the file
    at_return: bool = False
    dear: bool = False
    # Of OpenSSL's record there: the register that holds it, as x86-64 numbers them; where in an SSL object the first one lies; and
    # whether it is one of OpenSSL 3.2 and newer.
    register: int = 0
    member: int = 0
    is_new: bool = False
    # Where in an SSL object stands whether its handshake goes on, and what it waits for; the latter perhaps in another one, which
    # the word at `want_in` points at. 0: not known.
    in_init: int = 0
    want: int = 0
    want_in: int = 0


def find_ssl_points(elf: ElfFile, *, at_copies: bool = True) -> list[Point]:
    """The points of OpenSSL, LibreSSL or BoringSSL in this file; none when it holds no such library. Not `at_copies`: as if nothing
    were known of its inside. Raises ElfError."""
    symbols = elf.find_symbols(SSL_NAMES)
    if "SSL_read" not in symbols or "SSL_write" not in symbols:
        return []
    reads = _find_copies(elf, symbols) if at_copies else []
    if not reads:
        reads = list(_find_reads(elf, symbols))
    return [*_find_writes(elf, symbols), *reads]


def _find_copies(elf: ElfFile, symbols: dict[str, Symbol]) -> list[Point]:
    """One hit for each read that brings something, none for others; those that only peek must be told apart."""
    copies = find_copies(elf)
    points = [
        Point(
            program="uprobe__tls_copy",
            offset=elf.to_offset(copy.address),
            register=copy.register,
            member=copy.member,
            is_new=copy.is_new,
        )
        for copy in copies
    ]
    for offset in _find_peeks(elf, symbols) if copies else ():
        if offset is None:
            return []
        points.append(Point(program="uprobe__tls_peek", offset=offset))
        points.append(Point(program="uretprobe__tls_peek_end", offset=offset, at_return=True))
    return points


def _find_peeks(elf: ElfFile, symbols: dict[str, Symbol]) -> Iterator[int | None]:
    """File offsets; None for a function that can not be probed cheaply."""
    inner = _find_inner(elf, symbols, "SSL_peek", "SSL_peek_ex")
    if inner is not None:
        yield elf.to_offset(inner)
        return
    for name in ("SSL_peek", "SSL_peek_ex"):
        if name in symbols:
            address = symbols[name].address
            cheap = x86.find_cheap_point(_read(elf, address), at_return=True)
            yield None if cheap is None else elf.to_offset(address) + cheap


def _find_writes(elf: ElfFile, symbols: dict[str, Symbol]) -> Iterator[Point]:
    # statem.in_init (ssl/statem/statem.h) and rwstate (ssl/ssl_local.h), since OpenSSL 1.1.0
    in_init, want = (_find_member(elf, symbols, name) for name in ("SSL_in_init", "SSL_want"))
    inner = _find_inner(elf, symbols, "SSL_write", "SSL_write_ex", "SSL_write_ex2")
    if inner is not None:
        offset = elf.to_offset(inner)
        yield Point(program="uprobe__tls_write", offset=offset, in_init=in_init, want=want)
        return
    seen: set[int] = set()
    for name in ("SSL_write", "SSL_write_ex", "SSL_write_ex2"):
        symbol = symbols.get(name)
        if symbol is None or symbol.address in seen:
            continue
        seen.add(symbol.address)
        cheap = x86.find_cheap_point(_read(elf, symbol.address), at_return=False)
        yield Point(
            program="uprobe__tls_write",
            offset=elf.to_offset(symbol.address) + (cheap or 0),
            dear=cheap is None,
            in_init=in_init,
            want=want,
        )


def _find_member(elf: ElfFile, symbols: dict[str, Symbol], name: str) -> int:
    """The one member of 32 bits, not the first, that the function loads of its argument to return it; 0 where it does otherwise.
    BoringSSL's load pointers."""
    symbol = symbols.get(name)
    if symbol is None or not 0 < symbol.size <= MAX_FUNCTION:
        return 0
    code = elf.read_code(symbol.address, symbol.size)
    found = set()
    for i in x86.decode(code):
        if i.opcode == _LOAD and i.modrm in _OF_ARGUMENT:
            if i.rex:
                return 0
            found.add(int.from_bytes(code[i.at + 2 : i.at + i.length], "little", signed=True))
    member = found.pop() if len(found) == 1 else 0
    return member if 0 < member < _MOST_MEMBER else 0


def _find_reads(elf: ElfFile, symbols: dict[str, Symbol]) -> Iterator[Point]:
    inner = _find_inner(elf, symbols, "SSL_read", "SSL_read_ex")
    if inner is not None:
        yield from _read_points(elf.to_offset(inner), "uretprobe__tls_read_ex", dear=False)
        return
    for name, program in (
        ("SSL_read", "uretprobe__tls_read"),
        ("SSL_read_ex", "uretprobe__tls_read_ex"),
    ):
        symbol = symbols.get(name)
        if symbol is None:
            continue
        cheap = x86.find_cheap_point(_read(elf, symbol.address), at_return=True)
        offset = elf.to_offset(symbol.address) + (cheap or 0)
        yield from _read_points(offset, program, dear=cheap is None)


def _read_points(offset: int, program: str, *, dear: bool) -> Iterator[Point]:
    yield Point(program="uprobe__tls_read", offset=offset, dear=dear)
    yield Point(program=program, offset=offset, at_return=True, dear=dear)


def _read(elf: ElfFile, address: int) -> bytes:
    return elf.read_code(address, MAX_FUNCTION)


def _find_inner(elf: ElfFile, symbols: dict[str, Symbol], plain: str, *extended: str) -> int | None:
    """Address of the cheap point in the one function that both variants call, or None. Its first arguments are theirs, and it
    returns success, the number of bytes through its fourth or fifth."""
    callees = _list_callees(elf, symbols[plain])
    common: set[int] = set()
    for name in extended:
        if name in symbols:
            common |= callees & _list_callees(elf, symbols[name])
    common -= {s.address for s in symbols.values()}
    if len(common) != 1:
        return None
    address = common.pop()
    try:
        cheap = x86.find_cheap_point(_read(elf, address), at_return=True)
    except ElfError:
        return None
    return None if cheap is None else address + cheap


def _list_callees(elf: ElfFile, symbol: Symbol) -> set[int]:
    size = min(symbol.size or MAX_FUNCTION, MAX_FUNCTION)
    calls = x86.find_calls(elf.read_code(symbol.address, size), size)
    return {symbol.address + c.target for c in calls if c.target is not None}
