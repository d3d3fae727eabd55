"""YAML as YAML 1.2 means it: `1e-4` is a number, `no` is a word; aliases, tags and repeated keys are refused."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import yaml

from luthier.core.errors import RecipeError

MAX_BYTES = 1 << 18
MAX_DEPTH = 16
HINT = "a recipe is a small YAML file; `luthier init --data FILE` writes one"

Where = tuple[str | int, ...]
TAG = "tag:yaml.org,2002:"
LINE_BREAK = re.compile("[\n\r\x85\u2028\u2029]")
NULL = re.compile(r"~|null|Null|NULL|")
BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
INT = re.compile(r"[-+]?[0-9]{1,400}")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True)
class Document:
    """A YAML document's value, and the line on which each part of it stands."""

    value: Any
    lines: dict[Where, int] = field(default_factory=dict)
    """Line by path: `("train", "epochs")` → 7, counted from 1."""

    def line_of(self, path: Where) -> int | None:
        """Return the line of a path, or of the nearest part above it that is written down."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with YAML 1.2's core words; nothing in it can build an object."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {}
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            raise _refused("anchors and aliases (`&name`, `*name`) are not read", event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise _refused(f"the tag `{event.tag}` is not read", event.start_mark)
        if self.depth >= MAX_DEPTH:
            raise _refused(f"nested more than {MAX_DEPTH} levels deep", event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


# Each word is matched whole; an entry under None is tried whatever the first character is.
for _tag, _pattern in (("null", NULL), ("bool", BOOL), ("int", INT), ("float", FLOAT)):
    _Loader.add_implicit_resolver(TAG + _tag, re.compile(f"^(?:{_pattern.pattern})$"), None)


class _Dumper(yaml.SafeDumper):
    """The writer that quotes exactly what this module would otherwise not read back as text."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    # Only double quotes keep a text with line breaks on one line, and every break as it is.
    return dumper.represent_scalar(TAG + "str", text, style='"' if LINE_BREAK.search(text) else None)


def _list_node(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    flat = all(not isinstance(item, list | dict) for item in items)
    node = dumper.represent_sequence(TAG + "seq", items, flow_style=flat)
    for item in node.value:
        # A small mapping in a list reads best on one line.
        if isinstance(item, yaml.MappingNode) and all(isinstance(value, yaml.ScalarNode) for _, value in item.value):
            item.flow_style = True
    return node


_Dumper.add_representer(str, _text_node)
_Dumper.add_representer(list, _list_node)
_Dumper.add_representer(tuple, _list_node)


def _refused(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def read_yaml(path: Path) -> Document:
    """Read a YAML file; whatever is wrong with it is told with file and line."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecipeError("cannot read the recipe", where={"file": path}, why=error.strerror, hint=HINT) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        why = "it is not UTF-8 text"
        raise RecipeError("cannot read the recipe", where={"file": path, "line": line}, why=why, hint=HINT) from error
    return parse_yaml(text, name=str(path))


def parse_yaml(text: str, *, name: str) -> Document:
    """Parse YAML text; `name` stands for the file in errors."""
    if len(text) > MAX_BYTES:
        why = f"it is longer than {MAX_BYTES} bytes"
        raise RecipeError("cannot read the recipe", where={"file": name}, why=why, hint=HINT)
    try:
        return _document(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = {"file": name} | ({"line": mark.line + 1} if mark else {})
        raise RecipeError("cannot read the recipe", where=where, why=error.problem or str(error), hint=HINT) from error
    except yaml.YAMLError as error:
        why = " ".join(str(error).split())
        raise RecipeError("cannot read the recipe", where={"file": name}, why=why, hint=HINT) from error


def _document(text: str) -> Document:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        document = Document(None)
        value = None if node is None else _value(node, (), document.lines)
        return Document(value, document.lines)
    finally:
        loader.dispose()


def _value(node: yaml.Node, path: Where, lines: dict[Where, int]) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, lines)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[*path, index] = item.start_mark.line + 1
        return [_value(item, (*path, index), lines) for index, item in enumerate(node.value)]
    return _scalar(node)


def _mapping(node: yaml.MappingNode, path: Where, lines: dict[Where, int]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = _scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str):
            raise _refused("a key must be a word", key_node.start_mark)
        if key in mapping:
            first = lines[*path, key]
            raise _refused(f"`{key}` stands here a second time (first in line {first})", key_node.start_mark)
        lines[*path, key] = key_node.start_mark.line + 1
        mapping[key] = _value(value_node, (*path, key), lines)
    return mapping


def _scalar(node: yaml.ScalarNode) -> Any:
    text = node.value
    if not _is_unicode(text):
        raise _refused("a character is half a surrogate pair, not Unicode", node.start_mark)
    match node.tag.removeprefix(TAG):
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return int(text)
        case "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def write_yaml(value: Any, comments: dict[Where, str] | None = None) -> str:
    """Return a value as YAML text, with a comment at the end of the line of each path named."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1_000_000)
    numbers = parse_yaml(text, name="written").lines
    lines = text.split("\n")[:-1]
    for path, comment in (comments or {}).items():
        number = numbers[path] - 1
        lines[number] = f"{lines[number]:<32}  # {comment}"
    return "\n".join(lines) + "\n"
