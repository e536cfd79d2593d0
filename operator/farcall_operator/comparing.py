"""Does a live object say what is desired? Pure; the answer that keeps a quiet cluster free of writes.

Desired objects hold only the fields that we mean to own, so the live one may hold more: what the API server filled in,
what an autoscaler or `kubectl rollout restart` wrote. Lists are compared as server-side apply merges them: some by key,
the others whole. Inside a list that is replaced whole nothing may be added, or a widened network policy would pass.
"""

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from farcall_operator.cluster.port import Manifest

# As the API types declare them (`x-kubernetes-list-map-keys`); `ports` has its key by kind of port.
MERGE_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
    "ownerReferences": ("uid",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
QUANTITY_MAPS = frozenset(("requests", "limits", "capacity", "hard"))
QUANTITIES = frozenset(("sizeLimit", "averageValue", "divisor", "storage"))
# Maps that the API server leaves out when they are empty. Any other `{}` means something (`emptyDir`, `podSelector`).
PLAIN_MAPS = QUANTITY_MAPS | {"labels", "annotations", "nodeSelector", "matchLabels", "data"}
# Fields that it leaves out when they hold Go's zero value. Not in here: pointers, where false and absent differ.
ZERO_FIELDS = frozenset(
    ("hostPID", "hostNetwork", "hostIPC", "readOnly", "value", "paused", "minReadySeconds",
     "publishNotReadyAddresses", "stdin", "tty", "medium", "path", "unschedulable", "initialDelaySeconds")
)  # fmt: skip
# What it adds inside lists that are replaced whole.
FILLED_IN: dict[str, object] = {
    "protocol": "TCP",
    "volumeMode": "Filesystem",
    "creationTimestamp": None,
}
FILLED_IN_ANY = frozenset(("status", "apiVersion", "kind", "expirationSeconds"))
_SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15),
    "E": Decimal(10**18), "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
    "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip


class Difference(NamedTuple):
    """Where, and what is there now, as JSON (`absent` when nothing is)."""

    path: str
    live: str


def is_as_desired(desired: Manifest, live: Manifest) -> bool:
    return next(_compare(desired, live, "", "", strict=False), None) is None


def list_differences(desired: Manifest, live: Manifest) -> frozenset[Difference]:
    return frozenset(_compare(desired, live, "", "", strict=False))


def parse_quantity(text: object) -> Decimal | None:
    """The number that a Kubernetes quantity means (`1000m` is `1`); None when it is none."""
    found = str(text)
    if (
        not found.isascii() or " " in found or "_" in found
    ):  # Decimal is more generous than Kubernetes
        return None
    number = found.rstrip("KMGTPEinumk")
    suffix = found[len(number) :]
    if suffix not in _SUFFIXES:  # `1e3` ends in a digit, `1E` does not
        return None
    try:
        value = Decimal(number) * _SUFFIXES[suffix]
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def _compare(desired: Any, live: Any, path: str, key: str, *, strict: bool) -> Iterator[Difference]:
    if isinstance(desired, dict):
        yield from _compare_maps(desired, live, path, key, strict=strict)
    elif isinstance(desired, list):
        yield from _compare_lists(desired, live, path, key, strict=strict)
    elif not _is_same_value(desired, live, key):
        yield _differ(path, live)


def _compare_maps(
    desired: Manifest, live: Any, path: str, key: str, *, strict: bool
) -> Iterator[Difference]:
    if not isinstance(live, dict):
        if desired or live is not None or key not in PLAIN_MAPS:
            yield _differ(path, live)
        return
    for name, value in desired.items():
        inner = "storage" if key in QUANTITY_MAPS else name
        if name in live:
            yield from _compare(value, live[name], f"{path}.{name}", inner, strict=strict)
        elif not _may_be_absent(value, name):
            yield _differ(f"{path}.{name}", "absent")
    if strict:
        for name in live.keys() - desired.keys():
            if not _is_filled_in(name, live[name]):
                yield _differ(f"{path}.{name}", live[name])


def _compare_lists(
    desired: list[Any], live: Any, path: str, key: str, *, strict: bool
) -> Iterator[Difference]:
    if not isinstance(live, list):
        if desired or live is not None:
            yield _differ(path, live)
        return
    keys = None if strict else _find_merge_keys(key, [*desired, *live])
    if keys is not None:
        yield from _compare_keyed(desired, live, path, keys)
    elif len(desired) != len(live):
        yield _differ(path, live)
    else:
        for index, (wanted, found) in enumerate(zip(desired, live, strict=True)):
            yield from _compare(wanted, found, f"{path}[{index}]", "", strict=True)


def _compare_keyed(
    desired: list[Any], live: list[Any], path: str, keys: tuple[str, ...]
) -> Iterator[Difference]:
    found = {_pick_key(entry, keys): entry for entry in live}
    for entry in desired:
        key = _pick_key(entry, keys)
        inner = f"{path}[{key}]"
        if key in found:
            yield from _compare(entry, found[key], inner, "", strict=False)
        else:
            yield _differ(inner, "absent")


def _find_merge_keys(key: str, entries: Sequence[Any]) -> tuple[str, ...] | None:
    """None for a list that is replaced whole, and for one that is not as the API types declare it."""
    if key == "ports":
        is_container = any("containerPort" in entry for entry in entries if isinstance(entry, dict))
        keys: tuple[str, ...] = ("containerPort" if is_container else "port", "protocol")
    elif key in MERGE_KEYS:
        keys = MERGE_KEYS[key]
    else:
        return None
    return keys if all(isinstance(e, dict) and keys[0] in e for e in entries) else None


def _pick_key(entry: Manifest, keys: tuple[str, ...]) -> str:
    values = [entry.get(key, FILLED_IN.get(key)) for key in keys]
    return "/".join(v if isinstance(v, str) else json.dumps(v) for v in values)


def _is_same_value(desired: object, live: object, key: str) -> bool:
    if desired is None:
        return True  # it says nothing
    if key in QUANTITIES:
        wanted = parse_quantity(desired)
        return wanted is not None and wanted == parse_quantity(live)
    # bool is an int in Python, and `1` is not `true` on the wire.
    return desired == live and isinstance(desired, bool) == isinstance(live, bool)


def _may_be_absent(value: object, name: str) -> bool:
    if value is None or value == []:
        return True
    if value == {}:
        return name in PLAIN_MAPS
    return name in ZERO_FIELDS and not value


def _is_filled_in(name: str, value: object) -> bool:
    return name in FILLED_IN_ANY or (name in FILLED_IN and FILLED_IN[name] == value)


def _differ(path: str, live: object) -> Difference:
    return Difference(path, live if live == "absent" else json.dumps(live, sort_keys=True))
