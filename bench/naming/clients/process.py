"""One client: a process that takes lines of steps and says how they went."""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from farcall_demo.processes import die_with_parent

ANSWER_WITHIN_S = 30.0  # a JVM on a busy machine takes seconds to begin


class ClientError(Exception):
    """A client could not do what the row needs: the lab is at fault, not farcall."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Unix nanoseconds within which a call began."""

    begin_ns: int
    end_ns: int


class Client:
    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process

    @classmethod
    async def start(
        cls, name: str, command: Sequence[str], environment: Mapping[str, str], cgroup: str | None
    ) -> "Client":
        """In the network namespace that the command enters; `cgroup`: a cgroup.procs file to enter before."""

        def before_exec() -> None:
            die_with_parent()
            if cgroup is not None:
                with open(cgroup, "w", encoding="ascii") as procs:
                    procs.write(str(os.getpid()))

        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "OTEL_SERVICE_NAME": name, **environment},
            cwd="/",
            preexec_fn=before_exec,
        )
        return cls(name, process)

    async def do(self, *steps: str) -> tuple[Window, str]:
        """All steps back to back. Raises ClientError when one fails."""
        line = ";".join(steps)
        assert self._process.stdin is not None and self._process.stdout is not None
        begin_ns = time.time_ns()
        self._process.stdin.write(f"{line}\n".encode())
        try:
            raw = await asyncio.wait_for(self._process.stdout.readline(), ANSWER_WITHIN_S)
        except TimeoutError as e:
            raise ClientError(f"{self.name}: no answer to {line[:200]}") from e
        said = raw.decode().strip()
        if not said.startswith("ok"):
            raise ClientError(f"{self.name}: {said or 'it ended'} at {line[:200]}")
        return Window(begin_ns=begin_ns, end_ns=time.time_ns()), said

    def end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
