"""Who may speak to the store, and within which limits. Three users, one password file each; no others can be made.

A reader's handles are pinned by `readonly=1` after its limits are set: nothing that it sends can lift them.
"""

from dataclasses import dataclass
from enum import StrEnum

from farcall import secretfiles
from farcall_store.engine import DATABASE

MEBIBYTE = 1 << 20


class Role(StrEnum):
    WRITER = "writer"
    READER = "reader"
    ADMIN = "admin"


PASSWORD_FILES: dict[Role, str] = {
    Role.WRITER: secretfiles.STORE_WRITER_PASSWORD,
    Role.READER: secretfiles.STORE_READER_PASSWORD,
    Role.ADMIN: secretfiles.STORE_ADMIN_PASSWORD,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one statement of a reader may cost."""

    seconds: int = 10  # below the clients' own time limit of 15 s, so that the answer says why
    memory_bytes: int = 512 * MEBIBYTE
    result_rows: int = 1_000_000
    result_bytes: int = 256 * MEBIBYTE
    threads: int = 2


# The values that clients ask for; a request may name them, and no other value.
FIXED_SETTINGS = {
    "output_format_arrow_string_as_string": "1",
    "date_time_input_format": "best_effort",
    "cast_string_to_dynamic_use_inference": "1",
    "output_format_native_encode_types_in_binary_format": "0",
}


def reader_settings(limits: Limits) -> list[str]:
    values = {
        **FIXED_SETTINGS,
        "max_execution_time": str(limits.seconds),
        "max_memory_usage": str(limits.memory_bytes),
        "max_result_rows": str(limits.result_rows),
        "max_result_bytes": str(limits.result_bytes),
        "result_overflow_mode": "throw",
        "max_threads": str(limits.threads),
        "max_query_size": str(MEBIBYTE),
        "use_query_condition_cache": "1",
    }
    return [*_set_all(values), f"USE {DATABASE}", "SET readonly=1"]


def writer_settings(limits: Limits) -> list[str]:
    values = {
        **FIXED_SETTINGS,
        "max_execution_time": "60",
        "max_threads": str(limits.threads),
        # A retried insert must fill the views that its first try did not reach.
        "deduplicate_blocks_in_dependent_materialized_views": "1",
        # One request is one block of rows as long as it can be: a block is what a token makes unrepeatable.
        "min_insert_block_size_rows": "1048576",
        "min_insert_block_size_bytes": str(256 * MEBIBYTE),
        "max_partitions_per_insert_block": "0",  # late logs of many days are no error
    }
    return [*_set_all(values), f"USE {DATABASE}"]


def admin_settings(limits: Limits) -> list[str]:
    return [*_set_all({**FIXED_SETTINGS, "max_threads": str(limits.threads)}), f"USE {DATABASE}"]


def _set_all(values: dict[str, str]) -> list[str]:
    return [f"SET {name}='{value}'" for name, value in values.items()]
