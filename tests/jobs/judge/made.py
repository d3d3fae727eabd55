"""Runs that were evaluated, made up without a model."""

from pathlib import Path

from luthier.core.artifacts import Estimate, Report, SystemResult
from luthier.core.runfolder import RunFolder
from luthier.evaluate.sample import Sample, SampleAnswer

PLAN = "base_model: base\ndata: {path: rows.jsonl, format: input-output}\nseed: 3\nreasons: []\n"


def evaluated(folder: Path, answers: dict[str, list[str]], *, metric: str = "rouge_l") -> RunFolder:
    """Write the run folder of systems that answered so."""
    run = RunFolder(folder)
    room = run.room("evaluate")
    room.mkdir(parents=True)
    run.recipe.write_text("data: rows.jsonl\n")
    run.plan.write_text(PLAN)
    run.events.touch()
    rows = len(answers["tuned"])
    systems = [_system(name, place, metric, rows) for place, name in enumerate(answers)]
    Report(folder=room, systems=systems, comparisons=[], primary_metric=metric, test_rows=rows, conclusion="").write(
        room
    )
    samples = [
        Sample(
            row=f"rows.jsonl:{row + 1}",
            prompt=f"question {row}\u2028with a separator",
            reference=f"right {row}",
            answers={name: SampleAnswer(text=texts[row]) for name, texts in answers.items()},
        )
        for row in range(rows)
    ]
    (room / "samples.jsonl").write_text("".join(sample.model_dump_json() + "\n" for sample in samples))
    return run


def _system(name: str, place: int, metric: str, rows: int) -> SystemResult:
    value = Estimate(value=0.9 - place / 10, low=0.0, high=1.0, n=rows)
    return SystemResult(name=name, metrics={metric: value}, prompt_tokens=1, latency_s=0, stops_share=1)


def texts(word: str, rows: int) -> list[str]:
    return [f"{word} answer {row}" for row in range(rows)]
