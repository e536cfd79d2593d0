"""A whole agent in a thread of the test, for as long as the test needs it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from farcall_probes.agent import Agent


@contextmanager
def running(agent: Agent) -> Iterator[Agent]:
    """Ready; ended in order afterwards."""
    ready = threading.Event()
    thread = threading.Thread(target=agent.run, args=(ready.set,))
    thread.start()
    try:
        assert ready.wait(60)
        yield agent
    finally:
        agent.stop()
        thread.join(60)
        assert not thread.is_alive()
