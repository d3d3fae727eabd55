"""`luthier bench`: exports side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli.options import Json
from luthier.cli.tell import put, put_json, put_table

if TYPE_CHECKING:
    from luthier.jobs.export.bench import BenchRow


def bench(
    exports: Annotated[list[Path], typer.Argument(metavar="EXPORT…", help="Folders that `luthier export` wrote.")],
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Times each is timed; the median counts.")] = 3,
    prompt_tokens: Annotated[int, typer.Option("--prompt-tokens", min=1, help="Tokens of the prompt.")] = 256,
    answer_tokens: Annotated[int, typer.Option("--answer-tokens", min=2, help="Tokens of the answer.")] = 64,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads of each engine.")] = None,
    json: Json = False,
) -> None:
    """Compare exports: size, time to load, speed, memory, and quality as their certificates have it.

    Each is timed in a process of its own, in turn, one answer at a time.
    """
    from luthier.cli.progress import Progress
    from luthier.jobs.export.bench import bench as run_bench
    from luthier.jobs.export.bench import ratio_to

    with Progress() as progress:
        result = run_bench(
            exports,
            progress,
            rounds=rounds,
            prompt_tokens=prompt_tokens,
            answer_tokens=answer_tokens,
            threads=threads,
        )
    if json:
        put_json(result.model_dump(mode="json"))
        return
    columns = ["export", "engine", "size", "load", "prompt tokens/s", "answer tokens/s", "memory", "certificate"]
    title = f"{result.rounds} rounds, {result.prompt_tokens} prompt tokens, {result.answer_tokens} answer tokens"
    put_table(title, columns, [_row(row) for row in result.rows])
    first = result.rows[0].name
    for name, times in ratio_to(result.rows, first).items():
        if name != first:
            put(f"{name} writes {times:.2f} times as fast as {first}")


def _row(row: "BenchRow") -> list[str]:
    measured = row.certificate.measured
    quality = f", {measured.metric} {measured.difference:+.3f}" if measured else ""
    if row.error:
        return [row.name, row.engine, f"{row.bytes / 1e6:,.0f} MB", "–", "–", "–", "–", row.error]
    return [
        row.name,
        row.engine,
        f"{row.bytes / 1e6:,.0f} MB",
        f"{row.load_seconds:.1f} s",
        f"{row.prompt_tokens_per_second:,.0f}",
        f"{row.answer_tokens_per_second:,.1f}",
        f"{row.memory_bytes / 1e6:,.0f} MB",
        row.certificate.result + quality,
    ]
