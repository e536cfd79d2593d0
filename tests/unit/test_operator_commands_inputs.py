"""What `farcall validate|images` take in: files, folders, standard input, several documents, other kinds in between."""

import io
import json
from pathlib import Path

import pytest
import yaml

from farcall import commands
from farcall_operator.commands.inputs import MAX_STREAM_BYTES, read_inputs

pytestmark = pytest.mark.unit

HEAD = "apiVersion: farcall.dev/v1alpha1\nkind: TracingConfig\n"
MAIN = f"{HEAD}metadata: {{name: main}}\nspec: {{tier: Hobby}}\n"
SIDE = f"{HEAD}metadata: {{name: side}}\nspec: {{tier: Scale}}\n"
BAD = f"{HEAD}metadata: {{name: bad}}\nspec: {{tier: Gold, colour: blue}}\n"
OTHER = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


def names(*paths: object) -> list[str]:
    return [given.config.metadata.name for given in read_inputs([str(p) for p in paths]).configs]


def faults(*paths: object) -> list[str]:
    return [str(fault) for fault in read_inputs([str(p) for p in paths]).faults]


def give_stdin(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_a_file_may_hold_several_and_other_kinds(tmp_path: Path) -> None:
    write(tmp_path, all="---\n".join([MAIN, OTHER, "", SIDE]))

    found = read_inputs([str(tmp_path / "all.yaml")])

    assert [(g.source.rpartition("/")[2], g.config.metadata.name) for g in found.configs] == [
        ("all.yaml (document 1)", "main"),
        ("all.yaml (document 3)", "side"),
    ]
    assert (found.others, found.faults) == (1, [])


def test_a_folder_is_its_manifests_in_order(tmp_path: Path) -> None:
    write(tmp_path, b=SIDE, a=MAIN, c=OTHER)
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "d.json").write_text(json.dumps(yaml.safe_load(MAIN.replace("main", "third"))))

    assert names(tmp_path) == ["main", "side", "third"]


def test_standard_input_is_one_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, side=SIDE)
    give_stdin(monkeypatch, MAIN)

    assert names("-", tmp_path / "side.yaml") == ["main", "side"]


def test_what_kubectl_prints_of_several_is_taken_apart(tmp_path: Path) -> None:
    items = [yaml.safe_load(text) for text in (MAIN, OTHER, SIDE)]
    write(tmp_path, list=yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items}))

    assert names(tmp_path / "list.yaml") == ["main", "side"]


@pytest.mark.parametrize(
    "text",
    [
        MAIN.replace("kind: TracingConfig", "kind: TracingConfg"),
        MAIN.replace("v1alpha1", "v1"),
        MAIN.replace("farcall.dev/", "farcall.org/"),
        "just text",
        "[1, 2]",
        "kind: TracingConfig",
    ],
)
def test_a_mistake_in_kind_or_version_is_a_fault_and_not_another_kind(
    text: str, tmp_path: Path
) -> None:
    write(tmp_path, it=text)

    found = read_inputs([str(tmp_path)])

    assert (len(found.faults), found.others, found.configs) == (1, 0, [])


def test_each_fault_names_its_document_and_the_others_are_read(tmp_path: Path) -> None:
    write(tmp_path, all="---\n".join([BAD, MAIN]), broken="a: [", empty="# nothing\n")

    told = faults(tmp_path)

    assert len(told) == 3
    assert "all.yaml (document 1): spec.tier" in told[0]
    assert "broken.yaml: is not YAML" in told[1]
    assert "empty.yaml: holds no document" in told[2]
    assert names(tmp_path) == ["main"]


def test_a_file_that_is_not_there_or_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "large.yaml").write_text("#" * (MAX_STREAM_BYTES + 1))
    (tmp_path / "void").mkdir()

    assert "cannot be read" in faults(tmp_path / "none.yaml")[0]
    assert "is larger than" in faults(tmp_path / "large.yaml")[0]
    assert "holds no file that ends with .yaml" in faults(tmp_path / "void")[0]
    assert "is larger than" in faults("/dev/zero")[0]


def test_two_of_one_name_are_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, a=MAIN, b=MAIN)

    assert commands.main(["validate", "-f", str(tmp_path)]) == 2
    assert "metadata.name: main is given before, in" in capsys.readouterr().err


def test_validate_reports_as_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, a=MAIN, b=BAD)

    assert commands.main(["validate", "-f", str(tmp_path), "-o", "json"]) == 2
    good, bad = json.loads(capsys.readouterr().out)
    assert (good["name"], good["tier"], good["problems"]) == ("main", "Hobby", [])
    assert [problem.partition(":")[0] for problem in bad["problems"]] == [
        "spec.tier",
        "spec.colour",
    ]


def test_nothing_of_ours_is_a_fault_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, a=OTHER)

    assert commands.main(["validate", "-f", str(tmp_path)]) == 2
    assert "there is no TracingConfig in what was given" in capsys.readouterr().err
    assert commands.main(["images", "-f", str(tmp_path)]) == 2


@pytest.mark.parametrize("command", ["render", "diff"])
def test_one_is_wanted_and_two_are_given(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, a=f"{MAIN}---\n{SIDE}")

    assert commands.main([command, "-f", str(tmp_path / "a.yaml")]) == 2
    assert "holds 2 TracingConfigs (main, side); exactly one" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        ["validate"],
        ["render"],
        ["render", "-f", "a", "--cluster", "b"],
        ["images"],
        ["diff"],
        ["render", "-f", "a", "-n", "Not-A-Label"],
        ["status", "--watch", "-o", "json"],
        ["open", "--port", "70000"],
        ["status", "a", "b"],
    ],
)
def test_arguments_that_make_no_sense_are_code_2(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        commands.main(argv)

    assert ended.value.code == 2
    assert f"usage: farcall {argv[0]}" in capsys.readouterr().err


def test_rendered_text_from_standard_input_is_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give_stdin(monkeypatch, MAIN)
    assert commands.main(["render", "-f", "-", "-o", "json"]) == 0
    told = capsys.readouterr()
    items = json.loads(told.out)["items"]

    give_stdin(monkeypatch, MAIN)
    assert commands.main(["render", "-f", "-"]) == 0
    assert items == list(yaml.safe_load_all(capsys.readouterr().out))
    assert "# The operator makes the Secret main-secrets" in told.err
