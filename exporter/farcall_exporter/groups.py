"""Rows of several batches as one insert for each table: what an insert costs the store hardly depends on what is in it.

A group is written table by table. What became of an insert may stay unknown (no answer, the store was killed); then the
group is called again and goes on with the very same insert, rows and token, whoever comes back. A refused insert is
handed over once more batch by batch, so that one whose rows the store does not take cannot keep the others out.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from farcall.rows import TABLES, TableName
from farcall.storeport import StoreRefusedError, StoreUnavailableError, Writer
from farcall_exporter.batches import Tables


@dataclass(slots=True, eq=False)
class Member:
    """One batch's rows. `left` is what is not stored yet; with `refused` it stays as it is."""

    token: str
    left: Tables
    rows: int  # of the batch, however few of them are stored
    refused: Exception | None = None


@dataclass(slots=True)
class _Insert:
    name: TableName
    members: list[Member]
    is_unsure: bool = False  # it may have happened


class Group:
    """Raises nothing but StoreUnavailableError, and can be called again after that."""

    def __init__(self, members: Sequence[Member], on_stored: Callable[[Tables], None]) -> None:
        self.members = list(members)
        self.splits = 0
        self._on_stored = on_stored
        self._inserts: deque[_Insert] = deque(
            _Insert(name, found)
            for name in TABLES
            if (found := [member for member in self.members if name in member.left])
        )

    def write(self, writer: Writer) -> None:
        while self._inserts:
            insert = self._inserts[0]
            if not insert.is_unsure:
                insert.members = [member for member in insert.members if not member.refused]
            alone = self._write(insert, writer) if insert.members else []
            self._inserts.popleft()
            self._inserts.extendleft(reversed(alone))

    def _write(self, insert: _Insert, writer: Writer) -> list[_Insert]:
        """What is to be written instead, when the store refused it."""
        name, members = insert.name, insert.members
        rows = _join([member.left[name] for member in members])
        try:
            writer.write({name: rows}, token=join_tokens([member.token for member in members]))
        except StoreUnavailableError:
            insert.is_unsure = True
            raise
        except Exception as e:  # a refusal, or a fault of ours
            if len(members) > 1:
                return self._split(insert, writer)
            members[0].refused = e
            return []
        for member in members:
            del member.left[name]
        self._on_stored({name: rows})
        return []

    def _split(self, insert: _Insert, writer: Writer) -> list[_Insert]:
        """One insert for each batch. Of those that may be stored all the same the store is asked first."""
        if insert.is_unsure:
            for member in insert.members:
                _drop_stored(member, insert.name, writer)
        self.splits += 1
        left = [m for m in insert.members if insert.name in m.left and not m.refused]
        return [_Insert(insert.name, [member]) for member in left]


def _drop_stored(member: Member, name: TableName, writer: Writer) -> None:
    """Raises StoreUnavailableError."""
    try:
        rows = writer.drop_stored({name: member.left[name]})
    except StoreRefusedError as e:
        member.refused = e
        return
    member.left = {k: v for k, v in member.left.items() if k != name} | rows


def _join(tables: Sequence[pa.Table]) -> pa.Table:
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables)


def join_tokens(tokens: Sequence[str]) -> str:
    """Of one batch its own, as it would be written alone."""
    if len(tokens) == 1:
        return tokens[0]
    return "group:" + hashlib.sha256("\n".join(tokens).encode()).hexdigest()
