"""A table of other values for a Spec's fields, and which of them make no difference to what is observed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from luthier.core.errors import LuthierError
from luthier.core.spec import Spec


@dataclass(frozen=True)
class Change:
    """Another value of a field, beside what both the usual and the changed Spec have."""

    value: Any
    beside: dict[str, Any] = field(default_factory=dict)


Cases = dict[type[Spec], dict[str, Any]]
"""For each Spec and each of its fields another value, or a Change; tags (`name: lora`) are compared by `alike`."""


def fields_of(spec: type[Spec]) -> list[str]:
    """Return the fields that need another value: all but the word that picks the Spec, which has only one."""
    return [name for name, known in spec.model_fields.items() if not _is_word(known.annotation)]


def _is_word(kind: Any) -> bool:
    return get_origin(kind) is Literal and len(get_args(kind)) == 1


def unseen(kind: type[Spec], changes: dict[str, Any], observe: Callable[[Any], Any], **usual: Any) -> list[str]:
    """Return the fields whose change is not observed; a refusal is an observation of its own.

    The usual Spec is observed twice: what a clock or a race decides would show every change.
    """
    known: dict[str, Any] = {}

    def observed(values: dict[str, Any]) -> Any:
        spec = kind.model_validate(values)
        key = spec.model_dump_json()
        if key not in known:
            known[key] = or_refusal(observe, spec)
        return known[key]

    if changes:
        first = observe(kind.model_validate(usual))
        assert observed(usual) == first, "what is observed is not the same twice"
    found = []
    for name, change in changes.items():
        change = change if isinstance(change, Change) else Change(change)
        before = usual | change.beside
        assert before.get(name, kind.model_fields[name].default) != change.value, f"{kind.__name__}.{name}: no change"
        if observed(before) == observed(before | {name: change.value}):
            found.append(f"{kind.__name__}.{name}")
    return found


def or_refusal(observe: Callable[[Any], Any], spec: Any) -> Any:
    """Return what is observed, or which field is to blame that nothing is."""
    try:
        return observe(spec)
    except LuthierError as refused:
        return type(refused).__name__, refused.what, str(refused.where.get("field"))


def alike(observations: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the pairs of names whose observations are the same."""
    return list(_pairs(list(observations.items())))


def _pairs(items: list[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    for place, (name, seen) in enumerate(items):
        yield from ((name, other) for other, same in items[place + 1 :] if seen == same)
