"""All checks, and what each needs; what is not there is said and never taken for health."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from luthier.advise.diagnose import fitting, labels, machine, rate, rows, serving, tensors
from luthier.advise.diagnose.evidence import Evidence
from luthier.advise.diagnose.finding import Finding, Name, NotChecked

Rule = Callable[[Evidence], Finding | None]
Ready = Callable[[Evidence], str | None]


def _always(evidence: Evidence) -> str | None:
    return None


@dataclass(frozen=True)
class Check:
    """A problem to look for."""

    name: Name
    needs: tuple[str, ...]
    """Parts of the evidence."""
    rule: Rule
    ready: Ready = _always
    """Says why the parts that are there do not suffice yet."""


_shaped = partial(Check, needs=("curve", "settings"))
CHECKS = (
    _shaped("overfitting", rule=fitting.overfitting, ready=fitting.overfit_ready),
    _shaped("underfitting", rule=fitting.underfitting, ready=fitting.learning_ready),
    _shaped("learning-rate-too-high", rule=rate.learning_rate_too_high, ready=rate.shape_ready),
    _shaped("learning-rate-too-low", rule=fitting.learning_rate_too_low, ready=fitting.learning_ready),
    _shaped("divergence", rule=rate.divergence, ready=rate.shape_ready),
    _shaped("loss-spikes", rule=rate.loss_spikes, ready=rate.shape_ready),
    Check("bad-labels", ("judged",), labels.bad_labels, labels.labels_ready),
    Check("conflicting-labels", ("data",), labels.conflicting_labels),
    Check("template-mismatch", ("rendered",), serving.template_mismatch),
    Check("never-stops", ("answered",), serving.never_stops, serving.stops_ready),
    Check("truncated-rows", ("data",), rows.truncated_rows),
    Check("leakage", ("splits",), rows.leakage),
    Check("too-few-target-tokens", ("data",), rows.too_few_target_tokens),
    Check("dead-tensors", ("weights",), tensors.dead_tensors),
    Check("data-bound", ("curve",), machine.data_bound, machine.data_ready),
    _shaped("memory-bound", rule=machine.memory_bound, ready=machine.memory_ready),
    Check("wrong-base", ("base",), serving.wrong_base),
)


@dataclass(frozen=True)
class Verdicts:
    """The result of all checks."""

    findings: tuple[Finding, ...]
    """The surest first."""
    healthy: tuple[Name, ...]
    not_checked: tuple[NotChecked, ...]


def examine(evidence: Evidence) -> Verdicts:
    """Make every check that the evidence allows."""
    findings, healthy, unchecked = [], [], []
    for check in CHECKS:
        why = _why_not(check, evidence)
        if why is not None:
            unchecked.append(NotChecked(name=check.name, why=why))
        elif (finding := check.rule(evidence)) is not None:
            findings.append(finding)
        else:
            healthy.append(check.name)
    findings.sort(key=lambda finding: -finding.confidence)
    return Verdicts(tuple(findings), tuple(healthy), tuple(unchecked))


def _why_not(check: Check, evidence: Evidence) -> str | None:
    for part in check.needs:
        if getattr(evidence, part) is None:
            return evidence.missing.get(part, "it was not measured")
    return check.ready(evidence)
