"""What the agent makes of exchanges whose response comes in several calls, of a Watch's records."""

import socket
import time
from dataclasses import dataclass

import numpy as np

from farcall_probes import events
from farcall_probes.rests import ANSWERED, Rests
from support_probes import CLIENT, SERVER, Watch, see

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    path: str
    role: int
    first_ns: int
    last_ns: int  # 0: the response's end is not known
    size: int


def tell(watch: Watch, *ports: int, ask: bool = False) -> tuple[list[Told], list[Told]]:
    """Of (clients, servers), those whose rest was waited for. `ask`: as the agent does after a while."""
    rests = Rests()
    records = [seen.record for seen in watch.exchanges(*ports)]
    block = np.array(records, dtype=records[0].dtype if records else events.LARGE)
    if np.isin(block["proto"], ANSWERED).any():
        rests.hold_answers(block, np.zeros(len(block), dtype=np.int32), 0)
    else:
        rests.hold(block, 0)
    if ask:
        rests.ask_all(watch.capture.ask_rest)
    rests.take(watch.rests(*ports))
    told = []
    for ended in (rests.settle(), rests.let_go()):
        if ended is not None:
            for record, size, last_ns in zip(*ended, strict=True):
                seen = see(record)
                is_known = int(last_ns) != seen.ts_resp_ns
                told.append(
                    Told(
                        path=seen.path if b" " in seen.request else "",
                        role=seen.role,
                        first_ns=seen.ts_resp_ns,
                        last_ns=int(last_ns) if is_known else 0,
                        size=int(size),
                    )
                )
    told.sort(key=lambda t: t.first_ns)
    return [t for t in told if t.role == CLIENT], [t for t in told if t.role == SERVER]


def pass_on(sender: socket.socket, receiver: socket.socket, data: bytes) -> tuple[int, int]:
    """Sends and receives it whole; (before, after), monotonic ns."""
    before_ns = time.monotonic_ns()
    sender.sendall(data)
    left = len(data)
    while left:
        left -= len(receiver.recv(left))
    return before_ns, time.monotonic_ns()
