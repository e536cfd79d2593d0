"""Every entrance takes any bytes: the kept inputs, and changed ones. `make fuzz` looks for longer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_fuzz import CORPUS, TARGETS, mutated, read_seeds, seed_files

pytestmark = pytest.mark.unit

EXAMPLES = 60  # of each: all of them take a few seconds


def test_each_entrance_has_seeds_and_each_folder_of_them_an_entrance() -> None:
    assert {folder.name for folder in CORPUS.iterdir() if folder.is_dir()} == set(TARGETS)
    assert all(len(seed_files(target)) >= 3 for target in TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_kept_inputs_are_taken(target: str) -> None:
    for data in read_seeds(target):
        TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_changed_and_random_inputs_are_taken(target: str) -> None:
    @settings(max_examples=EXAMPLES)
    @given(mutated(read_seeds(target)) | st.binary(max_size=300))
    def run(data: bytes) -> None:
        TARGETS[target](data)

    run()
