"""Attaching the kernel side's programs to the code of files: every process that runs the file, now or later, is covered.

Which files and where in them is decided elsewhere (libraries.py, tlspoints.py); here are descriptors and their end.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from farcall_probes import bpfsys
from farcall_probes.bpfsys import BpfError
from farcall_probes.maps import Maps
from farcall_probes.tlspoints import Point


class Programs(Protocol):
    """The loader's part."""

    def load_uprobes(self) -> None: ...

    def find_uprobe(self, name: str, values: Mapping[str, int]) -> int: ...


@dataclass(slots=True)
class Attachment:
    """One file's probes. Closing detaches them; idempotent."""

    fds: list[int]
    owner: int  # its number among those that are attached
    owners: set[int]

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())
        self.owners.discard(self.owner)
        self.owners = set()


class Uprobes:
    """A capture's TlsProbes."""

    def __init__(self, programs: Programs, maps: Maps) -> None:
        self._programs = programs
        self._maps = maps
        self._loaded = False
        self._owners: set[int] = set()

    def load(self) -> None:
        """The steps that probes' programs call, once. Raises BpfError."""
        if not self._loaded:
            bpfsys.read_uprobe_type()
            self._programs.load_uprobes()
            self._loaded = True

    def attach(self, file: int, points: Sequence[Point]) -> Attachment:
        """All points of the open file `file`, or none: half of a library would pair answers with nothing. Raises BpfError."""
        self.load()
        # Small numbers, used again: each is a program of its own, and those stay loaded.
        owner = next(n for n in count(1) if n not in self._owners)
        self._owners.add(owner)
        attachment = Attachment([], owner, self._owners)
        try:
            for point in points:
                values = {
                    "NUM_DEAR": int(point.dear),
                    "NUM_RECORD": point.register,
                    "NUM_RECORD_AT": point.member,
                    "NUM_RECORD_IS_NEW": int(point.is_new),
                    "NUM_IN_INIT": point.in_init,
                    "NUM_WANT": point.want,
                    "NUM_WANT_IN": point.want_in,
                    "NUM_OWNER": owner,
                }
                program = self._programs.find_uprobe(point.program, values)
                attachment.fds.append(
                    bpfsys.attach_uprobe(
                        point.program, program, file, point.offset, at_return=point.at_return
                    )
                )
        except (BpfError, OSError):
            attachment.close()
            raise
        return attachment

    def take_users(self) -> set[int]:
        return self._maps.take_tls_users()

    def read_hits(self) -> int:
        return self._maps.read_tls_hits()
