"""`farcall agent`: opens the capture, and runs the agent over it.

The kernel verifies the probes' programs on as many CPUs as there are, and Python needs none of them meanwhile: the agent's own
modules are imported in that time.
"""

from collections.abc import Sequence

from farcall import component, journal
from farcall.commands import EXIT_OK
from farcall.footprint import collect_seldom, keep_memory_small, release_code, trim_memory
from farcall.secretfiles import INGEST_TOKEN, SecretError, read_secret
from farcall_probes.opening import open_capture
from farcall_probes.workers import Workers


def main(argv: Sequence[str]) -> int:
    launch = component.parse_launch("agent", "the node agent: traces this machine", argv)
    journal.configure("agent")
    try:
        read_secret(launch.watcher.current.secrets_dir, INGEST_TOKEN)
    except SecretError as e:
        component.refuse("agent", e)
    keep_memory_small()
    with Workers(1) as workers:
        opening = workers.submit(open_capture)
        from farcall_probes.agent import Agent
        from farcall_probes.stream import SOCKET_NAME
        from farcall_probes.surroundings import Surroundings

        capture = opening.wait()
    ready = launch.ready_file
    around = Surroundings(tail_socket=ready.with_name(SOCKET_NAME) if ready else None)
    agent = Agent(launch.watcher, capture, surroundings=around)
    trim_memory()  # BTF and bytecode were read, and are not needed any more
    release_code()
    collect_seldom()
    component.on_stop(agent.stop)
    agent.run(launch.mark_ready)
    return EXIT_OK
