"""Makes the engine forget inserts that it remembers and does not have: the files of `claims`, before the engine opens them."""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from farcall import journal
from farcall_store.claims import Review, review

log = journal.get_log("store")

EXIT_FALSE_CLAIM = 72
LOOKS = 3  # what another handle has under way is done by then
LOOK_EVERY_S = 0.1
_LOG_NAME = re.compile(r"deduplication_log_(\d+)\.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Amends:
    forgotten: int = 0  # parts that were claimed
    unreadable: int = 0  # lines

    def __add__(self, other: "Amends") -> "Amends":
        return Amends(
            forgotten=self.forgotten + other.forgotten,
            unreadable=self.unreadable + other.unreadable,
        )


def forget_false_claims(state_dir: Path) -> Amends:
    """Mends the logs of every table, and tells of each part. No engine may have the folder open. Raises OSError."""
    amends = Amends()
    for table, logs, found in _review_tables(state_dir):
        for (file, before), text in zip(logs, found.logs, strict=True):
            if text != before:
                _replace(file, text, state_dir / "deduplication_log.new")
        parts = sorted({claim.part for claim in found.false})
        for part in parts:
            log.warning("insert forgotten: its rows are not stored", table=table, part=part)
        if found.unreadable:
            log.warning("log of inserts mended", table=table, unreadable_lines=found.unreadable)
        amends += Amends(forgotten=len(parts), unreadable=found.unreadable)
    return amends


def find_false_claims(state_dir: Path) -> set[tuple[str, str]]:
    """Tables and parts that are claimed and not there; those of an insert under way are, for an instant. Raises OSError."""
    return {
        (table, claim.part)
        for table, _, found in _review_tables(state_dir)
        for claim in found.false
    }


def end_on_false_claims(
    state_dir: Path,
    *,
    sleep: Callable[[float], None] = time.sleep,
    end: Callable[[], None] = lambda: os._exit(EXIT_FALSE_CLAIM),
) -> None:
    """Called when an insert has failed: the engine may remember what it could not store, and would take it for stored when
    it comes again. It forgets that only when it opens the folder anew, so this ends the process."""
    try:
        found = find_false_claims(state_dir)
        for _ in range(LOOKS - 1):
            if not found:
                return
            sleep(LOOK_EVERY_S)
            found &= find_false_claims(state_dir)
    except OSError as e:
        log.error("logs of inserts not read", error=str(e))
        return
    if found:
        tables = sorted({table for table, _ in found})
        log.error("the engine remembers an insert that failed: giving up", tables=tables)
        end()


def _review_tables(state_dir: Path) -> Iterator[tuple[str, list[tuple[Path, bytes]], Review]]:
    names = _read_table_names(state_dir)
    for folder in sorted((state_dir / "data" / "store").glob("*/*/deduplication_logs")):
        # The logs first: what is remembered by then and stored a moment later is found.
        logs = _read_logs(folder)
        table = folder.parent
        found = review([text for _, text in logs], os.listdir(table))
        yield names.get(table.name, table.name), logs, found


def _read_logs(folder: Path) -> list[tuple[Path, bytes]]:
    """Oldest first. A running engine may take the oldest away meanwhile; then they are looked for again."""
    while True:
        numbered = [
            (int(match[1]), file)
            for file in folder.iterdir()
            if (match := _LOG_NAME.fullmatch(file.name))
        ]
        with contextlib.suppress(FileNotFoundError):
            return [(file, file.read_bytes()) for _, file in sorted(numbered)]


def _read_table_names(state_dir: Path) -> dict[str, str]:
    """By the name of the table's folder, which is its UUID."""
    links = (state_dir / "data" / "data").glob("*/*")
    return {Path(os.readlink(link)).name: link.name for link in links if link.is_symlink()}


def _replace(file: Path, text: bytes, new: Path) -> None:
    """Whole or not at all. `new` stands outside the folder: the engine refuses a table with a file there that it does not know."""
    with new.open("wb") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    os.chmod(new, file.stat().st_mode & 0o777)
    new.replace(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
