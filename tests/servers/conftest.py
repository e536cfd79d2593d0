"""A store with its clients, for the modules that need nothing special of it; one of its own a module."""

import time
from collections.abc import Iterator
from itertools import count

import pytest

from farcall.storeport import Reader, Writer
from farcall_store import open_reader, open_writer
from support_store import HOUR, StoreProcess, running_store

_used = count(1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreProcess]:
    with running_store(tmp_path_factory.mktemp("store")) as process:
        yield process


@pytest.fixture(scope="module")
def writer(store: StoreProcess) -> Writer:
    return open_writer(store.url, password=store.password("writer"))


@pytest.fixture(scope="module")
def reader(store: StoreProcess) -> Reader:
    return open_reader(store.url, password=store.password("reader"))


@pytest.fixture
def at() -> int:
    """The start of an hour that no other test uses, Unix ns."""
    return (time.time_ns() // HOUR - 3 * next(_used)) * HOUR + 123_456_789
