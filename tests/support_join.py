"""The exporter's parts without its thread, for what happens between batches."""

from farcall.rows import TableName
from farcall_exporter.batches import Tables, build_batch, drop_empty
from farcall_exporter.chores import Chores
from farcall_exporter.context import Context
from farcall_exporter.pipeline import Pipeline
from support_exporter import BOOT, Clock, FakeWriter, Row, decoded, make_context


class Exporter:
    """The pipeline's parts without its thread: batches in, time moved by hand."""

    def __init__(self, context: Context | None = None) -> None:
        self.clock = Clock()
        self.context = context or make_context(clock=self.clock)
        self.writer = FakeWriter()
        self.pipeline = Pipeline(self.writer, self.context)
        self.chores = Chores(self.pipeline)
        self._number = 0

    def take(self, *rows: Row, boot: str = BOOT) -> Tables:
        tables = build_batch(decoded(rows, boot=boot), self.context)
        self._number += 1
        self.writer.write(drop_empty(tables), token=f"{id(self)}:{self._number}")
        return tables

    def hear(self, boot: str, *, node: str = "node-2", reported_ns: int = 0) -> None:
        """An agent's status."""
        self.context.agents.hear(boot, self.clock.now, node=node, reported_ns=reported_ns)

    def wait(self, seconds: float) -> None:
        """In steps, as the worker does."""
        for _ in range(int(seconds * 2)):
            self.clock.now += 0.5
            self.chores.run(self.clock.now)

    def rows(self, name: TableName) -> list[Row]:
        return self.writer.rows(name)

    @property
    def spans(self) -> list[Row]:
        return self.rows("spans")
