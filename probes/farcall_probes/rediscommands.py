"""Redis commands of a block of records → what they say, each thing once. Their records come a hundred times as often as any other
database's, and nearly all are one of a few forms: those are told apart for all records at once, the others are read alone.

The captured bytes are all there will ever be, so parsers are called with cut=True.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farcall_probes import records
from farcall_probes.capture import Records
from farcall_probes.giveway import give_way, in_pieces
from farcall_probes.masking import CommandText
from farcall_probes.readcolumns import Text, captured, name_ends
from farcall_probes.wire import redis, redisforms
from farcall_probes.wire.outcomes import Outcome, Truncated

MAX_FORMS = 2048
MANY = 256  # records; below it, each alone costs less


class Said(NamedTuple):
    name: str
    text: str
    commands: int


class Commands(NamedTuple):
    said: list[Said]
    which: npt.NDArray[np.intp]  # of each record what it says; -1: it is no command
    cut: npt.NDArray[np.bool_]  # of each record


class RedisCommands:
    def __init__(self, *, masking: bool) -> None:
        self._texts = CommandText(masking=masking)
        self._forms: dict[redis.Form, Said] = {}  # commands whose text their form tells

    def read(self, block: Records) -> Commands:
        if len(block) < MANY:
            return self._read_alone(block, [])
        give_way()
        said, which = self._find_forms(block)
        give_way()
        cut = np.zeros(len(block), dtype=np.bool_)
        alone = np.flatnonzero(which < 0)
        if len(alone):
            _, which[alone], cut[alone] = self._read_alone(records.pick(block, alone), said)
        return Commands(said, which, cut)

    def _find_forms(self, block: Records) -> tuple[list[Said], npt.NDArray[np.intp]]:
        """What commands of known forms say, and of each record which of that; -1: it is to be read alone."""
        found, forms = redisforms.find_forms(*_find_requests(block))
        said: list[Said] = []
        places = []
        for form in forms:
            known = self._forms.get(form)
            places.append(-1 if known is None else len(said))
            if known is not None:
                said.append(known)
        return said, np.array([*places, -1], dtype=np.intp)[found]

    def _read_alone(self, block: Records, said: list[Said]) -> Commands:
        """What they say is added to what others do."""
        # Of this drain: both ends of a call say the same, and so do many calls.
        known: dict[bytes, int] = {}
        which: list[int] = []
        cut = np.zeros(len(block), dtype=np.bool_)
        for data in in_pieces(captured(block, "req", "req_cap")):
            place = known.get(data)
            if place is None:
                read = self._read(data)
                if read is None:
                    which.append(-1)
                    continue
                place = len(said)
                said.append(read[0])
                if read[1]:
                    cut[len(which)] = True
                else:
                    known[data] = place
            which.append(place)
        return Commands(said, np.array(which, dtype=np.intp), cut)

    def _read(self, data: bytes) -> tuple[Said, bool] | None:
        """What one says, and whether it was cut; None when it is no command."""
        form = redis.find_form(data)
        known = self._forms.get(form) if form is not None else None
        if known is not None:
            return known, False
        outcome = redis.parse_commands(data, cut=True)
        if isinstance(outcome, Outcome):
            return None
        is_cut = isinstance(outcome, Truncated)
        command = outcome.partial if isinstance(outcome, Truncated) else outcome
        said = Said(command.name, self._texts.render(command), command.commands)
        if form is not None and self._texts.has_form(command):
            if len(self._forms) >= MAX_FORMS:
                self._forms.clear()
            self._forms[form] = said
        return said, is_cut


def _find_requests(
    block: Records,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The block's bytes, and where in them each request begins and ends. An answer's room is behind each."""
    data = records.as_bytes(np.ascontiguousarray(block))
    whole, offset = block.dtype.fields["req"][:2] if block.dtype.fields else (block.dtype, 0)
    begins = np.arange(len(block)) * data.shape[1] + offset
    return data.ravel(), begins, begins + np.minimum(block["req_cap"], whole.itemsize)


def find_errors(block: Records) -> Text:
    """Only replies that begin as an error are parsed: one byte decides for the rest."""
    offset = block.dtype.fields["resp"][1] if block.dtype.fields else 0
    first = records.as_bytes(np.ascontiguousarray(block))[:, offset]
    failed = ((first == ord("-")) | (first == ord("!"))) & (block["resp_cap"] > 0)
    rows = np.flatnonzero(failed).tolist()
    if not rows:
        return name_ends(block)
    errors = list(name_ends(block))
    for row in rows:
        data = block["resp"][row].tobytes()[: int(block["resp_cap"][row])]
        reply = redis.parse_reply(data, cut=True)
        if isinstance(reply, Truncated):
            reply = reply.partial
        if not isinstance(reply, Outcome):
            errors[row] = reply.error
    return errors
