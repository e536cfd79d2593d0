"""What farcall's accounts may ask of an API server, by the install manifest, and what they asked, by its audit log."""

from collections.abc import Iterator

from support_apiserver_access import Object
from support_apiserver_operator import ACCOUNT, read_installation

# Namespace (empty: cluster-wide), group, resource[/subresource], verb.
Right = tuple[str, str, str, str]


def list_granted(account: str = ACCOUNT) -> set[Right]:
    """What the install manifest grants that account."""
    manifests = read_installation()
    roles = {(m["kind"], m["metadata"].get("namespace", ""), m["metadata"]["name"]): m for m in manifests}  # fmt: skip
    granted: set[Right] = set()
    for binding in manifests:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        if not any(subject["name"] == account for subject in binding["subjects"]):
            continue
        namespace = binding["metadata"].get("namespace", "")
        role = binding["roleRef"]
        scope = namespace if role["kind"] == "Role" else ""
        granted |= set(list_rights(roles[role["kind"], scope, role["name"]], namespace))
    return granted


def list_rights(role: Object, namespace: str) -> Iterator[Right]:
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    yield namespace, group, resource, verb


def list_asked(events: list[dict[str, object]]) -> set[Right]:
    asked: set[Right] = set()
    for event in events:
        what: Object = event.get("objectRef") or {}  # type: ignore[assignment]
        if not what.get("resource"):
            continue  # discovery and the version, which every account may read
        resource = "/".join(part for part in (what["resource"], what.get("subresource")) if part)
        place = (what.get("namespace", ""), what.get("apiGroup", ""), resource)
        asked.add((*place, str(event["verb"])))
        status: Object = event.get("responseStatus") or {}  # type: ignore[assignment]
        if event["verb"] == "patch" and status.get("code") == 201:
            asked.add((*place, "create"))  # server-side apply of what was not there
    return asked


def list_refused(events: list[dict[str, object]]) -> set[Right]:
    """An API server that has just been started refuses for a moment what it will grant."""
    refused = [e for e in events if "forbid" in (e.get("annotations") or {}).values()]  # type: ignore[attr-defined]
    return list_asked(refused)
