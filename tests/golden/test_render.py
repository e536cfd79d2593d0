"""`farcall render`: the Kubernetes backend, compared as whole files, and the rules that every file must keep.

Written anew with UPDATE_GOLDEN=1. A change here is a change of what runs in users' clusters.
"""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from farcall import secretfiles, tlsfiles
from farcall.meaning import OTLP_CA
from farcall.tracingconfig import read_tracingconfig
from farcall_operator import layout
from farcall_operator.commands.render import main as main_render
from farcall_operator.commands.validate import main as main_validate
from farcall_operator.context import Context, Credentials, Discovery
from farcall_operator.kubernetes import TEMPLATES as KUBERNETES
from farcall_operator.kubernetes import build_manifests, build_view
from farcall_operator.layout import CLICKHOUSE_KEYS
from farcall_operator.manifests import make_environment, render_objects
from farcall_operator.rendering import render_config
from support_ground import ROOT, check_golden
from support_render import BASE, CONTEXT, make

pytestmark = pytest.mark.golden

GOLDEN = ROOT / "tests/golden/render"
TEMPLATES = ROOT / "templates/farcall_templates/kubernetes"
FILES = {
    "hobby": ROOT / "examples/hobby.yaml",
    "scale": ROOT / "examples/scale.yaml",
    "everything": GOLDEN / "everything.yaml",
    "kept": GOLDEN / "kept.yaml",
    "scaling": GOLDEN / "scaling.yaml",
}
RENDERED = Context(namespace="farcall")
# One file as the operator makes it, that knows a cluster; the others as `farcall render` does.
RECONCILED = Context(
    namespace="farcall",
    discovery=Discovery(
        cidrs=("10.244.0.0/16", "10.96.0.0/16"),
        sources=("nodes' podCIDRs", "ServiceCIDR kubernetes"),
        resolvers=("10.96.0.10",),
    ),
    credentials=Credentials(hashes=dict.fromkeys(layout.SECRET_FILES, "0123456789abcdef")),
    has_service_monitors=True,
    architectures=("amd64",),
)


@pytest.mark.parametrize("name", FILES)
def test_rendered_manifests_are_the_reviewed_ones(name: str) -> None:
    context = RECONCILED if name == "scaling" else RENDERED
    text = render_config(read_tracingconfig(FILES[name]), context)

    check_golden(f"{name}.golden.yaml", text, folder=GOLDEN)


@pytest.fixture(params=FILES)
def manifests(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return build_manifests(read_tracingconfig(FILES[request.param]), CONTEXT)


def test_text_and_objects_are_the_same(manifests: list[dict[str, Any]]) -> None:
    names = [(m["kind"], m["metadata"]["name"]) for m in manifests]

    assert len(set(names)) == len(names)
    for name, path in FILES.items():
        text = render_config(read_tracingconfig(path), CONTEXT)
        documents = list(yaml.safe_load_all(text))
        assert documents == build_manifests(read_tracingconfig(path), CONTEXT), name


def test_every_object_is_labelled_and_in_the_namespace(manifests: list[dict[str, Any]]) -> None:
    for manifest in manifests:
        metadata = manifest["metadata"]
        assert metadata["namespace"] == "tracing"
        assert metadata["name"].startswith(f"{metadata['labels']['app.kubernetes.io/instance']}-")
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "farcall-operator"
        assert metadata["labels"]["farcall.dev/tracingconfig"]


def test_objects_are_owned_by_the_resource_once_it_has_a_uid() -> None:
    config = read_tracingconfig(FILES["everything"])
    for manifest in build_manifests(config, CONTEXT):
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert owner["uid"] == config.metadata.uid
        assert owner["controller"] is True
        assert owner["blockOwnerDeletion"] is False

    for manifest in build_manifests(read_tracingconfig(FILES["hobby"]), CONTEXT):
        assert "ownerReferences" not in manifest["metadata"]


def list_pods(manifests: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for manifest in manifests:
        if manifest["kind"] in ("DaemonSet", "StatefulSet", "Deployment"):
            yield manifest["kind"], manifest["spec"]["template"]["spec"]


def test_the_three_workloads_are_there(manifests: list[dict[str, Any]]) -> None:
    assert sorted(kind for kind, _ in list_pods(manifests)) == [
        "DaemonSet",
        "Deployment",
        "StatefulSet",
    ]


def test_all_but_the_probe_pass_the_restricted_standard(manifests: list[dict[str, Any]]) -> None:
    for kind, pod in list_pods(manifests):
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            if kind == "DaemonSet":
                continue
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}


def test_only_the_exporters_own_container_gets_a_token(manifests: list[dict[str, Any]]) -> None:
    """Beside it in the pod are the store and the console, which the API server must not know."""
    holders = set()
    for _, pod in list_pods(manifests):
        volumes = {
            volume["name"]
            for volume in pod["volumes"]
            for source in volume.get("projected", {}).get("sources", [])
            if "serviceAccountToken" in source
        }
        for container in pod["containers"]:
            if volumes & {mount["name"] for mount in container["volumeMounts"]}:
                holders.add(container["name"])

    assert holders == {"exporter"}


def test_the_probe_is_given_five_capabilities_and_every_node() -> None:
    manifests = build_manifests(read_tracingconfig(FILES["hobby"]), CONTEXT)
    (pod,) = [pod for kind, pod in list_pods(manifests) if kind == "DaemonSet"]
    security = pod["containers"][0]["securityContext"]

    assert security["privileged"] is False
    assert security["capabilities"] == {
        "drop": ["ALL"],
        "add": ["BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH", "CHECKPOINT_RESTORE"],
    }
    assert pod["hostPID"] is True
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert all(
        m.get("readOnly") for m in pod["containers"][0]["volumeMounts"] if "/sys" in m["mountPath"]
    )


def test_every_container_can_be_probed_and_is_bounded(manifests: list[dict[str, Any]]) -> None:
    for _, pod in list_pods(manifests):
        for container in pod["containers"]:
            assert container["readinessProbe"]
            assert container["startupProbe"]
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"]["memory"]


def test_selectors_find_their_pods_and_services_their_ports(
    manifests: list[dict[str, Any]],
) -> None:
    pods = [m["spec"]["template"] for m in manifests if "template" in m.get("spec", {})]
    for manifest in manifests:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "Service":
            (pod,) = [
                p for p in pods if spec["selector"].items() <= p["metadata"]["labels"].items()
            ]
            names = {p["name"] for c in pod["spec"]["containers"] for p in c.get("ports", [])}
            assert {port["targetPort"] for port in spec["ports"]} <= names
        elif "template" in spec:
            labels = spec["template"]["metadata"]["labels"]
            assert spec["selector"]["matchLabels"].items() <= labels.items()


def test_mounts_have_their_volumes(manifests: list[dict[str, Any]]) -> None:
    for manifest in manifests:
        if "template" not in manifest.get("spec", {}):
            continue
        pod = manifest["spec"]["template"]["spec"]
        claims = {c["metadata"]["name"] for c in manifest["spec"].get("volumeClaimTemplates", [])}
        volumes = {volume["name"] for volume in pod["volumes"]} | claims
        mounted = {m["name"] for c in pod["containers"] for m in c["volumeMounts"]}
        assert mounted == volumes


def test_no_secret_is_rendered_only_named(manifests: list[dict[str, Any]]) -> None:
    assert "Secret" not in {manifest["kind"] for manifest in manifests}
    named = {
        item["path"]
        for _, pod in list_pods(manifests)
        for volume in pod["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
        for item in source.get("secret", {}).get("items", [])
    }
    assert set(secretfiles.ALL) <= named
    assert named <= {*secretfiles.ALL, *tlsfiles.ALL, *CLICKHOUSE_KEYS.values(), OTLP_CA}
    for _, pod in list_pods(manifests):
        for container in pod["containers"]:
            assert all(
                entry["name"] in ("PYTHONUNBUFFERED", "NODE_NAME")
                for entry in container.get("env", [])
            )


@pytest.mark.parametrize(
    ("tls", "schemes", "secrets"),
    [
        (None, ("https", "rediss"), {"main-exporter-tls", "main-redis-tls"}),
        ({"mode": "secret", "secretRef": "certs"}, ("https", "rediss"), {"certs"}),
        ({"mode": "disabled"}, ("http", "redis"), set()),
    ],
)
def test_tls_decides_schemes_and_which_certificates_are_mounted(
    tls: dict[str, str] | None, schemes: tuple[str, str], secrets: set[str]
) -> None:
    config = make({**BASE, **({"tls": tls} if tls else {})})
    view = build_view(config, CONTEXT)
    endpoints = view.desired.effective.endpoints
    mounted = {
        (kind, source["secret"]["name"], item["key"])
        for kind, pod in list_pods(build_manifests(config, CONTEXT))
        for volume in pod["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
        for item in source.get("secret", {}).get("items", [])
        if item["key"] in tlsfiles.ALL
    }

    assert endpoints.exporter_ingest.startswith(f"{schemes[0]}://")
    assert endpoints.redis.startswith(f"{schemes[1]}://")
    assert {name for _, name, _ in mounted} == secrets
    # The agents on all nodes hold no private key.
    assert {key for kind, _, key in mounted if kind == "DaemonSet"} <= {tlsfiles.CA}
    assert ("tls-port" in view.files["redis.conf"]) is bool(secrets)
    assert ("port 0\n" in view.files["redis.conf"]) is bool(secrets)


def test_an_existing_secret_replaces_ours_for_the_cache_alone() -> None:
    manifests = build_manifests(read_tracingconfig(FILES["everything"]), CONTEXT)
    sources = {
        (source["secret"]["name"], item["key"])
        for _, pod in list_pods(manifests)
        for volume in pod["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
        for item in source.get("secret", {}).get("items", [])
    }

    assert ("our-redis", "redis-agent-password") in sources
    assert ("everything-secrets", "redis-agent-password") not in sources
    assert ("everything-secrets", "ingest-token") in sources


@pytest.mark.parametrize(("name", "ttl_s"), [("hobby", 3_600), ("scale", 604_800)])
def test_the_tier_decides_how_long_dns_answers_are_kept(name: str, ttl_s: int) -> None:
    view = build_view(read_tracingconfig(FILES[name]), CONTEXT)

    assert view.desired.effective.dns.effective_ttl_s == ttl_s
    assert f'"ttl_s": {ttl_s}' in view.files["effective.json"]


HOSTILE = (
    'a" : {b: c}',
    "- x\n- y",
    "{{ view }}",
    "# comment",
    "\u2028\u0085\x7f",
    "!!python/object:os.system",
    "*anchor &anchor",
    "null",
    "1e3",
    "yes",
    "\U0001f600 ümlaut",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_value_stays_one_value_whatever_it_holds(text: str) -> None:
    config = make(
        {**BASE, "probe": {"tolerations": [{"key": text}], "podAnnotations": {text: text}}}
    )
    (daemonset,) = [m for m in build_manifests(config, CONTEXT) if m["kind"] == "DaemonSet"]
    template = daemonset["spec"]["template"]
    assert template["spec"]["tolerations"] == [{"key": text}]
    assert template["metadata"]["annotations"][text] == text
    assert list(yaml.safe_load_all(render_config(config, CONTEXT)))


def test_what_was_rendered_may_be_changed_and_the_next_is_not() -> None:
    view = build_view(read_tracingconfig(FILES["everything"]), CONTEXT)
    first = list(render_objects(KUBERNETES, view))
    before = copy.deepcopy(first)
    for manifest in first:
        spoil(manifest)

    assert list(render_objects(KUBERNETES, view)) == before


def spoil(value: Any) -> None:
    for inner in list(value.values() if isinstance(value, dict) else value):
        if isinstance(inner, dict | list):
            spoil(inner)
    value.clear()


def test_resources_of_one_shape_have_their_own_values() -> None:
    one = make(BASE)
    metadata = one.metadata.model_copy(update={"name": "other"})
    other = one.model_copy(update={"metadata": metadata})

    for config in (one, other, one):
        name = config.metadata.name
        for manifest in build_manifests(config, CONTEXT):
            assert manifest["metadata"]["name"].startswith(f"{name}-")
            assert manifest["metadata"]["labels"]["farcall.dev/tracingconfig"] == name


def test_every_expression_in_the_templates_is_a_value() -> None:
    """A macro call is none: what it prints are values where they are written."""
    calls = re.compile(r"(pod\.\w+|service|from_workload)\(")
    for path in sorted(TEMPLATES.glob("*.j2")):
        for expression in list_expressions(path.read_text()):
            assert expression.endswith("|yaml") or calls.match(expression), (path, expression)


def list_expressions(source: str) -> Iterator[str]:
    parts: list[str] = []
    for _, token, text in make_environment().lex(source):
        if token == "variable_begin":
            parts.clear()
        elif token == "variable_end":
            yield "".join(parts)
        elif token != "whitespace":
            parts.append(text)


def test_validate_tells_every_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(FILES["hobby"].read_text().replace("tier: Hobby", "tier: Gold"))

    assert main_validate(["-f", str(FILES["hobby"]), str(FILES["scale"])]) == 0
    assert capsys.readouterr().out.count("is valid") == 2
    assert main_validate(["-f", str(bad), "-f", str(FILES["hobby"])]) == 2
    told = capsys.readouterr()
    assert "Gold" in told.err
    assert "hobby, tier Hobby, is valid" in told.out


def test_render_takes_a_namespace_and_refuses_nonsense(capsys: pytest.CaptureFixture[str]) -> None:
    assert main_render(["-f", str(FILES["hobby"]), "--namespace", "calls"]) == 0
    assert "namespace: calls\n" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main_render(["-f", str(FILES["hobby"]), "--namespace", "Calls!"])
    assert ended.value.code == 2


def test_render_says_when_the_cidrs_are_to_be_discovered() -> None:
    assert "the operator discovers them" in render_config(make({"tier": "Hobby"}), CONTEXT)
    assert "discovers" not in render_config(make(BASE), CONTEXT)
