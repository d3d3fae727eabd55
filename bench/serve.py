"""Measure the engine: `serve.py [--tokens N] [--threads N] [--out FILE]`; writes a table.

Chat throughput and time to first token at 1, 4 and 16 clients over 1 and 8 adapters, beside transformers' `generate`
with PEFT, one request at a time; the same base, adapters, prompts and answer lengths, greedy. Then how long it takes to
answer with another adapter, and what adapters cost in memory.
"""

import argparse
import gc
import json
import multiprocessing
import platform
import statistics
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from luthier.examples.example import Message
from luthier.model.base import resolve_base
from luthier.model.device import hardware, physical_cores
from luthier.model.load import load_model, load_tokenizer
from luthier.model.template import Template
from luthier.serve.engines.transformers import TransformersEngine
from luthier.serve.request import Ask, Piece, Sampling
from luthier.serve.spec import ServeSpec

HERE = Path(__file__).parent
CLIENTS = (1, 4, 16)
ADAPTERS = (1, 8)
REQUESTS_EACH = 3
SYSTEM = "You tell the tone of a phrase and then explain your choice in a few plain sentences."
ROWS = HERE.parent / "examples" / "tones" / "tones.jsonl"


@dataclass(frozen=True)
class Answered:
    """One request's times, in seconds, and its tokens."""

    first_s: float
    total_s: float
    tokens: int
    ids: tuple[int, ...] = ()


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "proof" / "serve.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    base = resolve_base("smollm2-135m-instruct", lambda event: None).folder
    template = Template(load_tokenizer(base))
    phrases = [json.loads(line)["phrase"] for line in ROWS.read_text(encoding="utf-8").splitlines()[:64]]
    prompts = [prompt(template, phrase) for phrase in phrases]
    with TemporaryDirectory() as folder:
        adapters = make_adapters(base, Path(folder), max(ADAPTERS))
        # In a process of its own: OpenMP's helpers of another thread than the engine's would slow the engine down.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:
            work = [(base, prompts, adapters[:count], options.tokens, options.threads) for count in ADAPTERS]
            baseline = dict(zip(ADAPTERS, other.map(one_at_a_time, *zip(*work, strict=True)), strict=True))
        rows, switch, memory = with_engine(base, prompts, adapters, options.tokens, options.threads)
    options.out.write_text(page(baseline, rows, switch=switch, memory=memory, tokens=options.tokens), encoding="utf-8")
    print(options.out.read_text(encoding="utf-8"))


def prompt(template: Template, phrase: str) -> list[int]:
    """Return a chat prompt; all share their system message."""
    return template.messages_ids([Message(role="system", content=SYSTEM), Message(role="user", content=phrase)])


def make_adapters(base: Path, folder: Path, count: int) -> list[Path]:
    """Write LoRA r 16 adapters on all linear layers, small but not zero."""
    made = []
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(load_model(base), config)
    for number in range(count):
        torch.manual_seed(number)
        for name, weight in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(weight, std=0.01)
        made.append(folder / str(number))
        model.save_pretrained(str(made[-1]), save_embedding_layers=False)
    return made


def one_at_a_time(base: Path, prompts: list[list[int]], adapters: list[Path], tokens: int, threads: int) -> float:
    """Return the tokens per second of transformers' generate with PEFT, one request after another."""
    torch.set_num_threads(threads)
    model = PeftModel.from_pretrained(load_model(base), str(adapters[0]), adapter_name="0")
    for number, adapter in enumerate(adapters[1:], 1):
        model.load_adapter(str(adapter), adapter_name=str(number))
    model.eval()
    answered = []
    for number, ids in enumerate([prompts[0], *prompts[:8]]):
        model.set_adapter(str(number % len(adapters)))
        started = time.perf_counter()
        with torch.inference_mode():
            whole = model.generate(
                input_ids=torch.tensor([ids]), max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False
            )
        answered.append((whole.shape[1] - len(ids), time.perf_counter() - started))
    del model
    gc.collect()
    timed = answered[1:]
    return sum(count for count, _ in timed) / sum(seconds for _, seconds in timed)


def with_engine(
    base: Path, prompts: list[list[int]], adapters: list[Path], tokens: int, threads: int
) -> tuple[list[dict], dict[str, float], dict[str, float]]:
    """Return throughput by clients and adapters, times of a switch, and memory, all with one engine."""
    engine = TransformersEngine(base, ServeSpec(prefix_bytes=200_000_000, threads=threads))
    ask(engine, prompts[0], None, tokens)
    gc.collect()
    before = psutil.Process().memory_info().rss
    for adapter in adapters:
        ask(engine, prompts[0], adapter, 2)
    gc.collect()
    grown = psutil.Process().memory_info().rss - before
    own = sum((adapter / "adapter_model.safetensors").stat().st_size for adapter in adapters)
    memory = {"grown": grown, "own": own, "base": before}
    switch = switching(engine, prompts[0], adapters)
    rows = [
        {
            "adapters": count,
            "clients": clients,
            **crowd(engine, prompts, adapters[:count], clients=clients, tokens=tokens),
        }
        for count in ADAPTERS
        for clients in CLIENTS
    ]
    engine.close()
    return rows, switch, memory


def switching(engine: TransformersEngine, ids: list[int], adapters: list[Path]) -> dict[str, float]:
    """Return the milliseconds that answering with another adapter takes longer than with the same one."""
    short = ids[:2]
    same = [ask(engine, short, adapters[0], 1).total_s for _ in range(24)]
    other = [ask(engine, short, adapters[n % len(adapters)], 1).total_s for n in range(24)]
    cold = []
    for adapter in adapters:
        engine.unload(adapter)
        while engine.stats().adapters == len(adapters):
            time.sleep(0.01)
        cold.append(ask(engine, short, adapter, 1).total_s)
    base = statistics.median(same)
    return {
        "loaded": (statistics.median(other) - base) * 1000,
        "from_disk": (statistics.median(cold) - base) * 1000,
    }


def crowd(
    engine: TransformersEngine, prompts: list[list[int]], adapters: list[Path], *, clients: int, tokens: int
) -> dict[str, float]:
    """Let so many clients ask one request after another, and return what they saw together."""
    answered: list[Answered] = []

    def client(number: int) -> None:
        for turn in range(REQUESTS_EACH):
            place = number + turn * clients
            answered.append(ask(engine, prompts[place % len(prompts)], adapters[place % len(adapters)], tokens))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    return {
        "tokens_per_s": sum(one.tokens for one in answered) / seconds,
        "first_ms": statistics.median(one.first_s for one in answered) * 1000,
    }


def ask(engine: TransformersEngine, ids: list[int], adapter: Path | None, tokens: int) -> Answered:
    """Ask once, never letting the answer end by itself, and wait for the last token."""
    done = threading.Event()
    times, count = [], 0
    # A model that would rather stop goes on: both sides compute the same number of tokens.
    bias = dict.fromkeys(engine.stop_ids, -1e9)
    started = time.perf_counter()

    def heard(said: object) -> None:
        nonlocal count
        if not isinstance(said, Piece):
            raise SystemExit(f"the engine failed: {said}")
        times.append(time.perf_counter())
        count += said.new_tokens
        if said.finish:
            done.set()

    engine.submit(Ask(tuple(ids), Sampling(max_tokens=tokens, temperature=0, logit_bias=bias), adapter), heard)
    done.wait()
    return Answered(times[0] - started, times[-1] - started, count)


def page(
    baseline: dict[int, float], rows: list[dict], *, switch: dict[str, float], memory: dict[str, float], tokens: int
) -> str:
    """Return the page."""
    machine = hardware()
    lines = [
        "# The engine, beside transformers' `generate` one request at a time",
        "",
        "SmolLM2-135M, fp32, LoRA r 16 on all linear layers, chat prompts with a shared system message, "
        f"answers of {tokens} tokens, greedy. `make bench-serve` writes this page.",
        "",
        f"Machine: {machine.cpu}, {machine.cores} cores, {platform.system()}; torch {torch.__version__}.",
        "",
        "| adapters | clients | tokens/s | × generate | time to first token (median) |",
        "|---|---|---|---|---|",
        *(f"| {count} | generate, one at a time | {speed:,.0f} | 1.0 | – |" for count, speed in baseline.items()),
    ]
    for row in rows:
        ratio = row["tokens_per_s"] / baseline[row["adapters"]]
        cells = [row["adapters"], row["clients"], f"{row['tokens_per_s']:,.0f}", f"{ratio:.1f}"]
        lines.append(f"| {' | '.join(map(str, cells))} | {row['first_ms']:,.0f} ms |")
    over = (memory["grown"] - memory["own"]) / memory["base"]
    lines += [
        "",
        f"Answering with another adapter: {switch['loaded']:.1f} ms more than with the same one where it is in memory, "
        f"{switch['from_disk']:.0f} ms from disk.",
        "",
        f"Memory for {max(ADAPTERS)} adapters: {memory['grown'] / 1e6:,.0f} MB beside {memory['own'] / 1e6:,.0f} MB of "
        f"their own bytes; beyond those {over:+.1%} of the base's {memory['base'] / 1e6:,.0f} MB.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
