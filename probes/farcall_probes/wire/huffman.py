"""The Huffman code of HPACK (RFC 7541, 5.2 and appendix B), decoded byte by byte.

The code is canonical: within one length, codes follow each other in the order of their symbols, so the lengths are the whole
table. Decoding walks a machine whose states are the inner nodes of the code's tree: one step takes eight bits and gives at
most two symbols (the shortest code has five bits).
"""

from functools import cache

EOS_BITS = (
    30  # the end-of-string symbol's code is all ones; only its beginning may appear, as padding
)
_SYMBOLS_BY_LENGTH = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\x00$@[]~",
    14: b"^}",
    15: b"<`{",
    19: bytes.fromhex("5cc3d0"),
    20: bytes.fromhex("808283a2b8c2e0e2"),
    21: bytes.fromhex("99a1a7acb0b1b3d1d8d9e3e5e6"),
    22: bytes.fromhex("8184858688929a9ca0a3a4a9aaadb2b5b9babbbd") + bytes.fromhex("bec4c6e4e8e9"),
    23: bytes.fromhex("0187898a8b8c8d8f93959697989b9d9ea5a6a8ae")
    + bytes.fromhex("afb4b6b7bcbfc5e7ef"),
    24: bytes.fromhex("098e9091949fabced7e1eced"),
    25: bytes.fromhex("c7cfeaeb"),
    26: bytes.fromhex("c0c1c8c9cacdd2d5dadbeef0f2f3ff"),
    27: bytes.fromhex("cbccd3d4d6dddedff1f4f5f6f7f8fafbfcfdfe"),
    28: bytes.fromhex("020304050607080b0c0e0f101112131415171819")
    + bytes.fromhex("1a1b1c1d1e1f7fdcf9"),
    30: bytes.fromhex("0a0d16"),
}


class _State(dict[int, "tuple[bytes, _State]"]):
    """An inner node of the code's tree: byte → (symbols that it completes, the next state). Steps are made when first taken.

    All of them would be 65,536; ordinary text takes a few thousand.
    """

    __slots__ = ("is_final", "node")

    def __init__(self, node: int, *, is_final: bool) -> None:
        self.node = node
        self.is_final = is_final  # a string may end here: its padding is at most seven ones

    def __missing__(self, byte: int) -> "tuple[bytes, _State]":
        node, made = _step(self.node, byte)
        step = self[byte] = (made, _list_states()[node])
        return step


def list_codes() -> dict[int, tuple[int, int]]:
    """symbol → (code, bits), appendix B without EOS."""
    codes: dict[int, tuple[int, int]] = {}
    code = last = 0
    for bits, symbols in _SYMBOLS_BY_LENGTH.items():
        code <<= bits - last
        last = bits
        for symbol in symbols:
            codes[symbol] = (code, bits)
            code += 1
    return codes


def encode(raw: bytes) -> bytes:
    """For the names that are looked for, and tests: nothing here ever sends."""
    codes = list_codes()
    whole = bits = 0
    for symbol in raw:
        code, length = codes[symbol]
        whole, bits = whole << length | code, bits + length
    padding = -bits % 8
    return (whole << padding | (1 << padding) - 1).to_bytes((bits + padding) // 8, "big")


def decode(raw: bytes) -> bytes | None:
    """The string, or None for bytes that no encoder makes (EOS within, wrong padding)."""
    state = _list_states()[0]
    decoded: list[bytes] = []
    add = decoded.append
    for byte in raw:
        made, state = state[byte]
        add(made)
    return b"".join(decoded) if state.is_final else None


@cache
def _list_states() -> list[_State]:
    """One for each node, and behind them the dead end: once in it, always in it, and no string ends there."""
    tree = _build_tree()
    padding = _list_padding(tree)
    states = [_State(node, is_final=node in padding) for node in range(len(tree))]
    return [*states, _State(len(tree), is_final=False)]


# [node] → (child at 0, child at 1): another node, or ~symbol, or None where only EOS is
_Tree = list[list[int | None]]


@cache
def _build_tree() -> _Tree:
    tree: _Tree = [[None, None]]
    for symbol, (code, bits) in list_codes().items():
        _add(tree, code, bits, ~symbol)
    _add(tree, (1 << EOS_BITS) - 1, EOS_BITS, None)
    return tree


def _add(tree: _Tree, code: int, bits: int, leaf: int | None) -> None:
    node = 0
    for place in range(bits - 1, 0, -1):
        bit = code >> place & 1
        child = tree[node][bit]
        if child is None:
            child = tree[node][bit] = len(tree)
            tree.append([None, None])
        node = child
    tree[node][code & 1] = leaf


def _step(node: int, byte: int) -> tuple[int, bytes]:
    """(node, symbols) after the byte's eight bits."""
    tree = _build_tree()
    made = b""
    for place in range(7, -1, -1):
        child = tree[node][byte >> place & 1] if node < len(tree) else None
        if child is None:
            return len(tree), made
        if child < 0:
            made += bytes((~child,))
            child = 0
        node = child
    return node, made


def _list_padding(tree: _Tree) -> list[int]:
    """The nodes that zero to seven ones lead to from the root."""
    nodes = [0]
    while len(nodes) < 8:
        child = tree[nodes[-1]][1]
        assert child is not None and child > 0  # no symbol is seven ones or fewer
        nodes.append(child)
    return nodes
