"""What the fake API server remembers: objects, their versions, and what happened to them. No I/O.

It knows as much of Kubernetes' semantics as a client needs to be led through faults: versions, generations, selectors,
conflicts. Server-side apply is a plain merge here, and there is no validation: whatever depends on those is tested
against the real API server.
"""

import copy
import itertools
import uuid
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Json = dict[str, Any]
START = 1_000  # the first resource version; what is older is gone


class Refusal(Exception):
    """The Status that the server answers with."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        self.code = code
        self.reason = reason
        self.message = message
        super().__init__(message)


class Place(NamedTuple):
    """A collection: `group_version` as in a path (`v1`, `apps/v1`). Empty namespace: of the cluster, or of all of it."""

    group_version: str
    plural: str
    namespace: str


class Event(NamedTuple):
    version: int
    type: str
    place: Place
    object: Json


@dataclass
class Objects:
    """`history` is what watches read."""

    kinds: dict[tuple[str, str], str]  # (group and version, plural) → kind
    history: list[Event] = field(default_factory=list)
    _objects: dict[tuple[Place, str], Json] = field(default_factory=dict)
    _versions: "itertools.count[int]" = field(default_factory=lambda: itertools.count(START))
    version: int = START - 1

    def list(self, place: Place, labels: str = "", fields: str = "") -> list[Json]:
        return [
            found
            for (where, _), found in sorted(self._objects.items(), key=lambda item: item[0])
            if is_inside(where, place) and is_selected(found, labels, fields)
        ]

    def get(self, place: Place, name: str) -> Json:
        try:
            return self._objects[place, name]
        except KeyError:
            raise Refusal(404, "NotFound", f"{place.plural} {name!r} not found") from None

    def create(self, place: Place, given: Json, *, dry: bool = False) -> Json:
        name = given["metadata"]["name"]
        if (place, name) in self._objects:
            raise Refusal(409, "AlreadyExists", f"{place.plural} {name!r} already exists")
        metadata = {
            **given["metadata"],
            "uid": str(uuid.uuid4()),
            "generation": 1,
            "creationTimestamp": "2026-11-25T12:00:00Z",
        }
        if place.namespace:
            metadata["namespace"] = place.namespace
        made = {"apiVersion": place.group_version, "kind": self._kind(place), **given}
        return self._store("ADDED", place, {**made, "metadata": metadata}, dry=dry)

    def replace(self, place: Place, given: Json, *, dry: bool = False) -> Json:
        live = self.get(place, given["metadata"]["name"])
        version = given["metadata"].get("resourceVersion")
        if version is not None and version != live["metadata"]["resourceVersion"]:
            raise Refusal(409, "Conflict", "the object has been modified; read it and try again")
        kept = {k: live["metadata"][k] for k in ("uid", "creationTimestamp", "generation")}
        return self._change(
            place, live, {**given, "metadata": {**given["metadata"], **kept}}, dry=dry
        )

    def patch(
        self, place: Place, name: str, given: Json, *, part: str, creates: bool, dry: bool
    ) -> Json:
        """A merge of maps; lists are replaced. `part` `status` changes nothing else."""
        try:
            live = self.get(place, name)
        except Refusal:
            if not creates or part:
                raise
            return self.create(place, given, dry=dry)
        wanted = {"status": given.get("status")} if part else {**given, "status": None}
        if not part:
            del wanted["status"]
        merged = merge(live, wanted)
        merged["metadata"]["uid"] = live["metadata"]["uid"]
        return self._change(place, live, merged, dry=dry)

    def delete(self, place: Place, name: str, *, uid: str | None = None) -> Json:
        live = self.get(place, name)
        if uid is not None and uid != live["metadata"]["uid"]:
            raise Refusal(409, "Conflict", "the UID in the precondition is another one")
        del self._objects[place, name]
        gone = self._stamp(live)
        self.history.append(Event(self.version, "DELETED", place, gone))
        return gone

    def _change(self, place: Place, live: Json, given: Json, *, dry: bool) -> Json:
        if {**given, "metadata": None} == {**live, "metadata": None} and (
            _without_version(given) == _without_version(live)
        ):
            return live  # nothing changed: no new version, no event
        if given.get("spec") != live.get("spec"):
            given["metadata"]["generation"] = live["metadata"]["generation"] + 1
        return self._store("MODIFIED", place, given, dry=dry)

    def _store(self, kind: str, place: Place, found: Json, *, dry: bool) -> Json:
        if dry:
            return found
        stored = self._stamp(copy.deepcopy(found))
        self._objects[place, stored["metadata"]["name"]] = stored
        self.history.append(Event(self.version, kind, place, stored))
        return stored

    def _stamp(self, found: Json) -> Json:
        self.version = next(self._versions)
        return {
            **found,
            "metadata": {**found["metadata"], "resourceVersion": str(self.version)},
        }

    def _kind(self, place: Place) -> str:
        return self.kinds[place.group_version, place.plural]


def _without_version(found: Json) -> Json:
    return {k: v for k, v in found["metadata"].items() if k != "resourceVersion"}


def is_inside(where: Place, place: Place) -> bool:
    if not place.namespace:
        return where[:2] == place[:2]
    return where == place


def is_selected(found: Json, labels: str, fields: str) -> bool:
    """Equality and existence, which is all that the operator asks for."""
    have = found["metadata"].get("labels") or {}
    for term in filter(None, labels.split(",")):
        key, equals, value = term.partition("=")
        if key not in have or (equals and have[key] != value.lstrip("=")):
            return False
    for term in filter(None, fields.split(",")):
        key, _, value = term.partition("=")
        if key == "metadata.name" and found["metadata"]["name"] != value.lstrip("="):
            return False
    return True


def merge(live: Json, wanted: Json) -> Json:
    """RFC 7386."""
    merged = dict(live)
    for key, value in wanted.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            inner = merged.get(key)
            merged[key] = merge(inner if isinstance(inner, dict) else {}, value)
        else:
            merged[key] = value
    return merged
