"""YAML as a Kubernetes resource may be written: the values of JSON, bounded, each key once.

PyYAML's safe loader is safe from code, not from trouble: dates and `!!int ''` raise whatever they like, ten lines of
aliases expand to gigabytes once somebody prints them, and a key given twice silently wins. It must not know any resource.
"""

import math
from typing import Any

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

MAX_DEPTH = 64  # a TracingConfig is 6 deep; affinity and the like 10
MAX_NODES = 20_000  # with every alias expanded; 256 KiB of honest YAML holds about as many
_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map")
)
_MERGE_TAG = "tag:yaml.org,2002:merge"


class YamlTextError(ValueError):
    """The bytes cannot be read as values; the message is one sentence and says where."""


class _Loader(yaml.SafeLoader):
    """Dates stay text, as kubectl reads them; nesting is bounded before the parser's own recursion is."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - a class attribute of PyYAML's, replaced whole
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise YamlTextError(f"is nested deeper than {MAX_DEPTH} levels")
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_finite(self, node: ScalarNode) -> float:
        value: float = self.construct_yaml_float(node)
        if not math.isfinite(value):
            raise YamlTextError(f"holds a number that JSON cannot hold{_place(node)}")
        return value


_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_finite)


def parse_yaml(raw: bytes) -> list[Any]:
    """The documents in `raw` that are not empty, in order. Raises YamlTextError, whatever is wrong with them."""
    try:
        loader = _Loader(raw)
        documents = []
        while loader.check_node():
            node = loader.get_node()
            if node is None:
                break
            _check_nodes(node)
            documents.append(loader.construct_document(node))
    except YamlTextError:
        raise
    except yaml.YAMLError as e:
        raise YamlTextError(f"is not YAML: {' '.join(str(e).split())}") from e
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as e:
        # PyYAML's constructors convert without checking (`!!int x`, `!!bool x`, a number of 5,000 digits).
        raise YamlTextError(f"holds a value that does not fit its tag: {e}") from e
    return [document for document in documents if document is not None]


def _check_nodes(root: Node) -> None:
    nodes, depth = _measure(root, {})
    if nodes > MAX_NODES:
        raise YamlTextError(f"holds more than {MAX_NODES} values once its aliases are expanded")
    if depth > MAX_DEPTH:
        raise YamlTextError(f"is nested deeper than {MAX_DEPTH} levels")


def _measure(node: Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Nodes and levels under `node`, an alias counted as often as it is used; (0, 0) marks one still being measured."""
    measured = known.get(id(node))
    if measured == (0, 0):
        raise YamlTextError(f"holds an alias to a value around itself{_place(node)}")
    if measured is not None:
        return measured
    known[id(node)] = (0, 0)
    _check_tag(node)
    children: list[Node] = []
    if isinstance(node, MappingNode):
        _check_keys(node)
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, SequenceNode):
        children = node.value
    sizes = [_measure(child, known) for child in children]
    known[id(node)] = (1 + sum(n for n, _ in sizes), 1 + max((d for _, d in sizes), default=0))
    return known[id(node)]


def _check_tag(node: Node) -> None:
    if node.tag == _MERGE_TAG and isinstance(node, ScalarNode):
        return  # the key `<<`, resolved by the loader
    if node.tag not in _PLAIN_TAGS:
        raise YamlTextError(f"holds a value of the type {node.tag[:80]!r}{_place(node)}")
    if isinstance(node, CollectionNode) == (node.tag.rpartition(":")[2] not in ("seq", "map")):
        raise YamlTextError(f"holds a value that does not fit its tag{_place(node)}")


def _check_keys(node: MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, ScalarNode):
            raise YamlTextError(f"holds a key that is no plain text{_place(key)}")
        if key.value in seen:
            raise YamlTextError(f"gives the key {key.value[:80]!r} twice{_place(key)}")
        seen.add(key.value)


def _place(node: Node) -> str:
    return f" (line {node.start_mark.line + 1}, column {node.start_mark.column + 1})"
