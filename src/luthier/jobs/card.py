"""The model card: what a tuned model is, what it was made from, how good it is, and how to use it."""

from collections.abc import Iterator
from pathlib import Path

from luthier.core.artifacts import Base, Report, Trained
from luthier.evaluate.table import table_rows
from luthier.export.spec import form_of
from luthier.recipe import Plan
from luthier.train.spec import is_seq2seq

USE_MERGED = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("merged")
model = AutoModelForCausalLM.from_pretrained("merged")
```"""
USE_ADAPTER = """```python
from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained("adapter")  # loads the base model, too
```"""

ROUNDED = """It was trained beside the base *rounded to 4 bits*. On the base in full precision, which the lines above
load, it says nearly but not quite what was measured here; the `merged` form and Luthier itself have the rounded
base."""


USE_VECTORS = """```python
from sentence_transformers import SentenceTransformer

vectors = SentenceTransformer("merged").encode(["a text", "another one"])
```"""
USE_HEAD = """```python
from transformers import {auto}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("merged")
model = {auto}.from_pretrained("merged")
```"""


def model_card(plan: Plan, trained: Trained, report: Report | None) -> str:
    """Return the card as Markdown, with the header that model hubs read."""
    return "\n".join([*_header(trained.prepared.base), *_body(plan, trained), *_measured(report), *_use(plan)]) + "\n"


def _header(base: Base) -> Iterator[str]:
    yield "---"
    if base.licence:
        yield f"license: {base.licence}"
    yield f"base_model: {base.title}"
    yield "tags: [luthier]"
    yield "---"


def _body(plan: Plan, trained: Trained) -> Iterator[str]:
    data = trained.prepared
    train = plan.train
    yield f"\n# {data.base.title}, tuned with Luthier\n"
    yield f"- **Base model:** {data.base.title}, licence {data.base.licence or 'not named by its card'}"
    yield f"- **Data:** {', '.join(_names(plan.data.path))}; {_rows(data.rows)}; format `{data.format}`"
    yield f"- **Method:** {train.method.name} with {trained.adapter}, {_count(trained)}"
    yield f"- **Training:** {trained.steps:,} steps of {train.batch_size} rows, learning rate {train.learning_rate:g}"
    yield f"- **Seed:** {plan.seed}; the whole plan is `plan.yaml` in the run folder"
    yield f"- **Data hash:** `{data.data_sha256}`"


def _names(path: str | tuple[str, ...]) -> list[str]:
    paths = (path,) if isinstance(path, str) else path
    return [f"`{Path(entry).name if Path(entry).is_absolute() else entry}`" for entry in paths]


def _rows(rows: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {split} rows" for split, count in rows.items())


def _count(trained: Trained) -> str:
    share = trained.trainable_parameters / max(1, trained.total_parameters)
    return f"{trained.trainable_parameters:,} of {trained.total_parameters:,} parameters trained ({share:.1%})"


def _measured(report: Report | None) -> Iterator[str]:
    yield "\n## How good it is\n"
    if report is None:
        yield "Not measured: the recipe leaves the evaluation out."
        return
    rows = table_rows(report)
    titles = list(rows[0].cells) if rows else []
    yield f"{report.conclusion}\n"
    yield f"On {report.test_rows:,} held-out rows, with 95 % intervals:\n"
    yield f"| | {' | '.join(titles)} |"
    yield f"|---|{'---|' * len(titles)}"
    for row in rows:
        yield f"| {row.system} | {' | '.join(row.cells.values())} |"


def _use_adapter(plan: Plan) -> str:
    name = plan.train.adapter.name
    if name == "bottleneck":
        return "The form `adapter` is in Luthier's own format, which PEFT does not load."
    return f"{USE_ADAPTER}\n\n{ROUNDED}" if name == "qlora" else USE_ADAPTER


def _use(plan: Plan) -> Iterator[str]:
    yield "\n## How to use it\n"
    if plan.train.method.heads:
        yield from _use_head(plan)
        return
    names = {form_of(one).name for one in plan.export}
    if is_seq2seq(plan.train.method):
        yield from _use_seq2seq(names)
        return
    if "merged" in names:
        yield USE_MERGED
    if "adapter" in names:
        yield _use_adapter(plan)
    yield "\nOr talk to it with `luthier chat RUN`, where RUN is the run folder."


def _use_seq2seq(names: set[str]) -> Iterator[str]:
    if "merged" in names:
        yield USE_HEAD.format(auto="AutoModelForSeq2SeqLM")
    if "adapter" in names:
        yield USE_ADAPTER.replace("AutoPeftModelForCausalLM", "AutoPeftModelForSeq2SeqLM")
    yield "\nOr ask it with `luthier predict RUN`, where RUN is the run folder."


def _use_head(plan: Plan) -> Iterator[str]:
    if plan.train.method.name == "embed":
        if "merged" in {form_of(one).name for one in plan.export}:
            yield USE_VECTORS
        yield "\nOr ask for vectors with `luthier predict RUN`, where RUN is the run folder."
        return
    mean = getattr(plan.train.method, "pooling", "model") == "mean"
    kind = "Token" if mean or "spans" in plan.train.method.heads else "Sequence"
    if "merged" in {form_of(one).name for one in plan.export}:
        task = "QuestionAnswering" if "quote" in plan.train.method.heads else f"{kind}Classification"
        yield USE_HEAD.format(auto=f"AutoModelFor{task}")
    if mean:
        yield "\nThe text's outputs are the mean of its tokens' outputs, special tokens included."
    if "score" in plan.train.method.heads:
        yield "\n`head.json` has `mean` and `spread`: a number is mean + spread x output."
    elif "quote" in plan.train.method.heads:
        yield "\n`head.json` has `tokens` and `stride` of windows, the `longest` answer, and a `threshold` for none."
    else:
        yield "\n`head.json` has the `temperature` by which outputs are divided before they become probabilities."
    yield "\nOr ask it with `luthier predict RUN`, where RUN is the run folder."
