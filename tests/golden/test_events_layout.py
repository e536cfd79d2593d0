"""events.py says what a C compiler says about events.h, and both agree with the words that leave the node."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import farcall_probes
from farcall.exchange import ExchangeFlag
from farcall_probes import counters, events

pytestmark = pytest.mark.golden

HEADER = Path(farcall_probes.__file__).parent / "bpf" / "events.h"
STRUCTS = {
    "fc_who": events.WHO,
    "fc_exchange": events.EXCHANGE,
    "fc_small": events.SMALL,
    "fc_large": events.LARGE,
    "fc_head": events.HEAD,
    "fc_dns": events.DNS,
}
CONSTANTS = {
    "FC_STRIDE_SMALL": events.STRIDE_SMALL,
    "FC_STRIDE_LARGE": events.STRIDE_LARGE,
    "FC_STRIDE_HEAD": events.STRIDE_HEAD,
    "FC_STRIDE_DNS": events.STRIDE_DNS,
    "FC_RING_HEADER": events.RING_HEADER,
    "FC_SMALL_REQ": events.SMALL_REQ,
    "FC_SMALL_RESP": events.SMALL_RESP,
    "FC_LARGE_REQ": events.LARGE_REQ,
    "FC_LARGE_RESP": events.LARGE_RESP,
    "FC_RESP_MORE": events.RESP_MORE,
    "FC_BODIES": events.BODIES,
    "FC_DNS_DATA": events.DNS_DATA,
    "FC_COUNT_MAX": events.COUNT_MAX,
}

ENUMS = (
    *("fc_protocol", "fc_role", "fc_flag", "fc_counter", "fc_policy", "fc_end"),
    *("fc_segment", "fc_rest", "fc_ended"),
)


def members(layout: np.dtype) -> dict[str, tuple[int, int]]:
    fields = layout.fields
    assert fields is not None
    return {name: (fields[name][1], fields[name][0].itemsize) for name in layout.names or ()}


def c_path(struct: str, member: str) -> str:
    """Where a flat name of ours stands in the nested C struct."""
    exchange_only = set(events.EXCHANGE.names or ()) - set(events.WHO.names or ())
    if struct in ("fc_small", "fc_large"):
        if member in (events.WHO.names or ()):
            return f"x.who.{member}"
        return f"x.{member}" if member in exchange_only else member
    if struct in ("fc_exchange", "fc_dns") and member in (events.WHO.names or ()):
        return f"who.{member}"
    return member


def compile_and_run(tmp_path: Path, lines: list[str]) -> dict[str, list[int]]:
    source = tmp_path / "layout.c"
    body = "\n\t".join(lines)
    source.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#include "{HEADER}"\n'
        f"int main(void)\n{{\n\t{body}\n\treturn 0;\n}}\n"
    )
    binary = tmp_path / "layout"
    subprocess.run(
        ["gcc", "-std=gnu11", "-Wall", "-Werror", "-o", str(binary), str(source)], check=True
    )
    printed = subprocess.run([str(binary)], check=True, capture_output=True, text=True).stdout
    return {
        name: [int(n) for n in numbers]
        for name, *numbers in (line.split() for line in printed.splitlines())
    }


def test_offsets_and_sizes_are_the_compilers(tmp_path: Path) -> None:
    lines, expected = [], {}
    for struct, layout in STRUCTS.items():
        lines.append(f'printf("{struct} %zu\\n", sizeof(struct {struct}));')
        expected[struct] = [layout.itemsize]
        for member, place in members(layout).items():
            path = c_path(struct, member)
            lines.append(
                f'printf("{struct}.{member} %zu %zu\\n", offsetof(struct {struct}, {path}),'
                f" sizeof(((struct {struct} *)0)->{path}));"
            )
            expected[f"{struct}.{member}"] = list(place)
    for name, value in CONSTANTS.items():
        lines.append(f'printf("{name} %d\\n", (int)({name}));')
        expected[name] = [value]

    assert compile_and_run(tmp_path, lines) == expected


def enumerators(name: str) -> dict[str, str]:
    body = re.search(rf"enum {name} {{(.*?)}};", HEADER.read_text(), re.S)
    assert body
    text = re.sub(r"/\*.*?\*/", "", body[1], flags=re.S)
    return {m[1]: m[2].strip() for m in re.finditer(r"(\w+) = ([^,]+),", text)}


def test_a_record_fills_its_stride_and_the_ring_header() -> None:
    strides = {
        events.SMALL: events.STRIDE_SMALL,
        events.LARGE: events.STRIDE_LARGE,
        events.HEAD: events.STRIDE_HEAD,
        events.DNS: events.STRIDE_DNS,
    }

    for layout, stride in strides.items():
        assert layout.itemsize + events.RING_HEADER == stride
        assert stride & (stride - 1) == 0


def test_flags_protocols_and_counters_have_the_headers_values(tmp_path: Path) -> None:
    names = [n for e in ENUMS for n in enumerators(e)]
    printed = compile_and_run(tmp_path, [f'printf("{n} %d\\n", (int){n});' for n in names])

    for name in names:
        short = name.removeprefix("FC_")
        if short.startswith("COUNT_") and short != "COUNT_MAX":
            assert printed[name] == [events.Counter[short.removeprefix("COUNT_")]]
        else:
            assert printed[name] == [getattr(events, short)], name
    assert len(events.Counter) == len(enumerators("fc_counter")) - 1


def test_the_low_flag_bits_are_those_that_leave_the_node() -> None:
    for flag in events.Flag:
        assert ExchangeFlag[flag.name or ""] == flag


def test_every_counter_has_a_name_and_every_loss_says_so() -> None:
    assert len(counters.KERNEL_COUNTERS) == len(events.Counter)
    for counter in events.Counter:
        name = counters.KERNEL_COUNTERS[counter]
        assert name.endswith("_lost") == counter.name.endswith("_LOST")


def test_opaque_fields_give_bytes_that_keep_their_zeros() -> None:
    record = np.zeros(1, events.SMALL)
    raw = b"GET \0\0" + bytes(events.SMALL_REQ - 6)
    record["req"] = np.void(raw)

    assert record["req"].tolist() == [raw]


@pytest.mark.parametrize("kind", ["MAP", "STEP", "OFF", "NUM"])
def test_no_two_names_that_the_loader_fills_in_share_a_number(kind: str) -> None:
    text = (HEADER.parent / "ids.h").read_text(encoding="utf-8")
    numbers = re.findall(rf"^#define {kind}_\w+ (\d+)", text, flags=re.M)

    assert numbers and len(set(numbers)) == len(numbers)
