"""What the engine remembers of inserts, as bytes and names; and the files of it, in a folder without an engine."""

import re
from pathlib import Path

import pytest

from farcall_store.claimfiles import (
    Amends,
    end_on_false_claims,
    find_false_claims,
    forget_false_claims,
)
from farcall_store.claims import Parts, review

pytestmark = pytest.mark.unit

FIRST = b"1\t20261130_1_1_0\t20261130_11_12\n1\t20261130_1_1_0\t20261130_13_14\n"
SECOND = b"1\t20261130_2_2_0\t20261130_21_22\n1\t20261130_2_2_0\t20261130_23_24\n"


@pytest.mark.parametrize(
    "name",
    [
        "20261130_7_7_0",  # itself
        "20261130_7_7_0_9",  # after a mutation
        "20261130_7_7_1",  # merged alone: a TTL, or rows that an insert had twice
        "20261130_1_9_1",
        "20261130_1_7_3_12",
        "20261130_7_20_1",
    ],
)
def test_a_part_is_covered_by_what_became_of_it(name: str) -> None:
    parts = Parts([name, "20261130_8_8_0", "format_version.txt"])

    assert parts.cover("20261130_7_7_0")


@pytest.mark.parametrize(
    "name",
    [
        "20261129_7_7_0",  # of another day
        "20261130_1_6_1",
        "20261130_8_20_1",
        "tmp_insert_20261130_7_7_0",
        "delete_tmp_20261130_7_7_0",
        "mutation_7.txt",
        "detached",
    ],
)
def test_a_part_is_not_covered_by_others(name: str) -> None:
    assert not Parts([name, "20261130_1_2_1", "20261130_30_31_1"]).cover("20261130_7_7_0")


def test_a_long_part_covers_behind_shorter_ones() -> None:
    parts = Parts(["all_1_9_2", "all_2_3_1", "all_4_4_0"])

    assert parts.cover("all_5_6_1")
    assert not parts.cover("all_9_10_1")


def test_a_name_of_another_form_is_not_judged() -> None:
    assert Parts([]).cover("patch-1-all")


def test_true_claims_stay_byte_for_byte() -> None:
    result = review([FIRST, SECOND], ["20261130_1_2_1"])

    assert result.logs == (FIRST, SECOND)
    assert (result.false, result.unreadable) == ((), 0)


def test_a_claim_without_its_part_is_struck_with_all_its_blocks() -> None:
    result = review([FIRST + SECOND], ["20261130_1_1_0", "tmp_insert_20261130_2_2_0"])

    assert result.logs == (FIRST,)
    assert [(claim.part, claim.block) for claim in result.false] == [
        ("20261130_2_2_0", "20261130_21_22"),
        ("20261130_2_2_0", "20261130_23_24"),
    ]


def test_it_need_not_be_the_newest() -> None:
    """A name that could not be given is a false claim among true ones."""
    assert review([FIRST, SECOND], ["20261130_2_2_0"]).logs == (b"", SECOND)


def test_what_went_is_no_claim() -> None:
    """Retention's way: the part goes, and its blocks with it."""
    gone = b"2\t20261130_1_1_0\t20261130_11_12\n2\t20261130_1_1_0\t20261130_13_14\n"

    result = review([FIRST + gone, SECOND], ["20261130_2_2_0"])

    assert result.logs == (FIRST + gone, SECOND)


def test_a_block_that_came_again_is_judged_by_its_new_part() -> None:
    gone = b"2\t20261130_1_1_0\t20261130_11_12\n"
    again = b"1\t20261130_5_5_0\t20261130_11_12\n"

    stored = review([FIRST + gone + again], ["20261130_1_1_0", "20261130_5_5_0"])
    lost = review([FIRST + gone + again], ["20261130_1_1_0"])

    assert stored.false == ()
    assert lost.logs == (FIRST + gone,)


def test_a_claim_of_two_parts_is_true_when_one_is_there() -> None:
    again = b"1\t20261130_5_5_0\t20261130_11_12\n"

    assert review([FIRST + again], ["20261130_1_1_0"]).false == ()
    assert review([FIRST + again], ["20261130_5_5_0"]).logs == (
        FIRST.splitlines(keepends=True)[0] + again,
    )


def test_what_the_engine_has_forgotten_by_itself_is_not_judged() -> None:
    """It forgets the oldest beyond its window; what retention takes of these leaves no record."""
    result = review([FIRST, SECOND], ["20261130_2_2_0"], window=2)

    assert (result.logs, result.false) == ((FIRST, SECOND), ())


def test_lines_that_were_not_written_whole_are_left_out_and_counted() -> None:
    """The engine reads nothing behind one, and writes on behind it: all of that would be forgotten at each start."""
    torn = FIRST + b"1\t202611301\t20261130_2_2_0\t20261130_21_22\n" + SECOND + b"1\t2026"

    result = review([torn, b""], ["20261130_1_1_0", "20261130_2_2_0"])

    assert result.logs == (FIRST + SECOND, b"")
    assert (result.false, result.unreadable) == ((), 2)


def test_zeros_of_a_power_loss_are_left_out() -> None:
    result = review([FIRST + bytes(100)], ["20261130_1_1_0"])

    assert (result.logs, result.unreadable) == ((FIRST,), 1)


# ---- the files ----------------------------------------------------------------------------------------------------


def build_state(folder: Path, *logs: bytes, parts: tuple[str, ...] = ()) -> Path:
    """A table's folder as the engine leaves it; where its logs are."""
    uuid = "b06c804c-96b9-4706-b77b-9b379afda2df"
    table = folder / "data/store/b06" / uuid
    (table / "deduplication_logs").mkdir(parents=True)
    names = folder / "data/data/farcall"
    names.mkdir(parents=True)
    (names / "otel_logs").symlink_to(f"../../store/b06/{uuid}")
    for number, text in enumerate(logs, 9):  # 10 comes after 9, in whatever order the names are
        (table / f"deduplication_logs/deduplication_log_{number}.txt").write_bytes(text)
    for part in parts:
        (table / part).mkdir()
    return table / "deduplication_logs"


def test_a_folder_without_tables_needs_nothing(tmp_path: Path) -> None:
    assert forget_false_claims(tmp_path) == Amends()
    assert find_false_claims(tmp_path) == set()


def test_only_the_file_with_the_false_claim_is_written_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = build_state(tmp_path, FIRST, SECOND, parts=("20261130_1_1_0",))
    before = (logs / "deduplication_log_9.txt").stat()

    amends = forget_false_claims(tmp_path)

    assert amends == Amends(forgotten=1, unreadable=0)
    assert (logs / "deduplication_log_9.txt").stat() == before
    assert (logs / "deduplication_log_10.txt").read_bytes() == b""
    assert sorted(file.name for file in logs.iterdir()) == [
        "deduplication_log_10.txt",
        "deduplication_log_9.txt",
    ]
    told = capsys.readouterr().err
    assert re.search("insert forgotten.*otel_logs.*20261130_2_2_0", told)
    assert forget_false_claims(tmp_path) == Amends()


def test_files_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    gone = SECOND.replace(b"1\t2", b"2\t2")
    build_state(tmp_path, SECOND, gone)

    assert find_false_claims(tmp_path) == set()


def test_a_failed_insert_ends_the_process_only_while_its_claim_stays_false(tmp_path: Path) -> None:
    logs = build_state(tmp_path, FIRST, SECOND, parts=("20261130_1_1_0",))
    ended = []
    end_on_false_claims(tmp_path, sleep=lambda _: None, end=lambda: ended.append("stays"))

    def store(_: float) -> None:
        (logs.parent / "20261130_2_2_0").mkdir(exist_ok=True)

    end_on_false_claims(tmp_path, sleep=store, end=lambda: ended.append("under way"))
    end_on_false_claims(tmp_path, sleep=store, end=lambda: ended.append("nothing false"))

    assert ended == ["stays"]
