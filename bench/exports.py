"""Exports of the demo's model: certificates, speed, planted defects, eight adapters in one model. `exports.py [PART]…`.

Needs `make demo` first. Parts: forms, speed, defects, adapters, auto (that one trains a run with 540 test rows first).
What a part measured is kept in the cache; the page docs/proof/exports.md is written anew after each.
"""

import argparse
import gc
import json
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import load_file, save_file

from luthier.core.runfolder import RunFolder
from luthier.core.settings import cache_dir
from luthier.export.spec import Form
from luthier.jobs.export import export as flow
from luthier.jobs.export.adapters import export_with_adapters
from luthier.jobs.export.bench import bench
from luthier.jobs.export.door import Wanted, export_wanted, run_source
from luthier.jobs.export.source import source_of_folder
from luthier.model.adapter import ADAPTER_FILE
from luthier.model.base import resolve_base
from luthier.model.device import hardware
from luthier.serve.engines.onnx import OnnxEngine
from luthier.serve.spec import ServeSpec

ROOT = Path(__file__).parents[1]
RUN, WIDE = ROOT / "runs" / "demo", ROOT / "runs" / "wide"
STATE = cache_dir() / "bench" / "exports.json"
PAGE = ROOT / "docs" / "proof" / "exports.md"
FORMS = ("merged", "onnx", "onnx-int8", "onnx-int4", "gguf", "gguf-q8_0", "gguf-q4_0")
ADAPTERS = 8
ROUNDS = 5


def talk(event: Any) -> None:
    """Say what is done."""
    if event.message and event.kind != "progress":
        print(f"{time.strftime('%H:%M:%S')} {event.message}", file=sys.stderr, flush=True)


def forms() -> list[dict[str, Any]]:
    """Export and certify every form with all test rows; the quantised ones with a wide bound, so that all are shown."""
    wanted = Wanted(forms=tuple(Form(name=name) for name in FORMS), run=str(RUN), allow_failed=True)
    made = export_wanted(wanted, talk).exported
    return [{"name": one.format, "bytes": one.bytes, "folder": str(one.folder)} | certificate(one) for one in made]


def certificate(one: Any) -> dict[str, Any]:
    """Return an export's certificate as plain values."""
    return {"certificate": one.certificates["model"].model_dump(mode="json")}


def speed() -> list[dict[str, Any]]:
    """Time all exported forms side by side."""
    folders = [RUN / "export" / name for name in FORMS if (RUN / "export" / name / "manifest.json").exists()]
    return [row.model_dump(mode="json") for row in bench(folders, talk, rounds=3).rows]


def defects() -> list[dict[str, Any]]:
    """Plant five defects in the merged form, one after the other, and read what its certificate says."""
    source, _ = run_source(RunFolder(RUN), talk, prompts=48)
    build, found = flow.build, []
    said = flow.say(source, talk)
    for name, damage in DEFECTS.items():
        with tempfile.TemporaryDirectory(dir=RUN) as out:

            def damaged(form: Form, source: Any, merged: Any, folder: Path, damage: Any = damage) -> None:
                build(form, source, merged, folder)
                for path in folder.iterdir():
                    content = path.read_bytes()
                    path.unlink()
                    path.write_bytes(content)
                damage(folder)

            flow.build = damaged
            try:
                with flow.Merging(source, Path(out), talk) as merging:
                    form = Form(name="merged")
                    one = flow.export_form(source, form, said, merging, flow.Terms(), "")
            finally:
                flow.build = build
        found.append({"defect": name} | certificate(one))
    return found


def change_template(folder: Path) -> None:
    """One word of the template's own."""
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text().replace("helpful", "useful"))


def remove_end(folder: Path) -> None:
    """The end of the turn is no end any more."""
    path = folder / "generation_config.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in told.items() if key != "eos_token_id"}))


def untune(folder: Path) -> None:
    """The weights of the untuned base."""
    base = resolve_base("smollm2-135m-instruct", talk).folder
    shutil.copyfile(base / "model.safetensors", folder / "model.safetensors")


def disturb(folder: Path) -> None:
    """One layer's weights, all of them 1 % larger."""
    tensors = load_file(folder / "model.safetensors")
    for name in tensors:
        if ".layers.12." in name:
            tensors[name] = tensors[name] * 1.01
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def double_bos(folder: Path) -> None:
    """The tokenizer puts a token before each text, which the template has written already."""
    path = folder / "tokenizer.json"
    told = json.loads(path.read_text())
    start = next(token for token in told["added_tokens"] if token["content"] == "<|im_start|>")
    token = {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}
    told["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [token, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [token, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [start["id"]], "tokens": ["<|im_start|>"]}},
    }
    path.write_text(json.dumps(told))


DEFECTS: dict[str, Callable[[Path], None]] = {
    "template changed": change_template,
    "end of turn removed": remove_end,
    "wrong adapter (none)": untune,
    "one layer's weights 1 % larger": disturb,
    "BOS doubled": double_bos,
}


def adapters() -> dict[str, Any]:
    """Write one int8 model with eight adapters, switch among them, and look at time and memory."""
    base = resolve_base("smollm2-135m-instruct", talk)
    out = RUN.parent / "eight"
    shutil.rmtree(out, ignore_errors=True)
    sources = [source_of_folder(base, moved(RUN / "train" / "weights", out, seed)) for seed in range(ADAPTERS)]
    whole, terms = source_of_folder(base, None), flow.Terms(max_drop=1.0, allow_failed=True)
    made = export_with_adapters(whole, sources, Form(name="onnx-int8"), out, terms, talk)
    files = sorted((made.folder / "adapters").glob("*.onnx_adapter"))
    engine = OnnxEngine(made.folder, ServeSpec())
    process = psutil.Process()
    ids = list(range(300, 316))
    try:
        engine.chances(ids, [])
        gc.collect()
        before = process.memory_info().rss
        first = [timed(lambda file=file: engine.chances(ids, [], file)) for file in files]
        gc.collect()
        after = process.memory_info().rss
        switches = []
        for _ in range(ROUNDS):
            plain = statistics.median(timed(lambda: engine.chances(ids, [])) for _ in range(3))
            for one, other in zip(files, files[1:] + files[:1], strict=True):
                engine.chances(ids, [], one)
                switches.append(timed(lambda other=other: engine.chances(ids, [], other)) - plain)
    finally:
        engine.close()
    own = sum(file.stat().st_size for file in files)
    results = {name: one.result for name, one in made.certificates.items()}
    return {
        "adapters": len(files),
        "results": results,
        "bytes": made.bytes,
        "adapter_bytes": own,
        "load_ms": [1000 * one for one in first],
        "switch_ms": [1000 * one for one in switches],
        "rss_before": before,
        "rss_after": after,
    }


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds that something takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def moved(weights: Path, out: Path, seed: int) -> Path:
    """Write an adapter whose weights are the demo's, disturbed: another adapter of the same shape."""
    folder = out / "adapters" / f"tones-{seed}"
    folder.mkdir(parents=True)
    shutil.copyfile(weights / "adapter_config.json", folder / "adapter_config.json")
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: tensor + 0.02 * seed * tensor.std() * torch.randn(tensor.shape, generator=generator)
        for name, tensor in load_file(weights / ADAPTER_FILE).items()
    }
    save_file(tensors, folder / ADAPTER_FILE, metadata={"format": "pt"})
    return folder


def auto() -> dict[str, Any]:
    """Train a run with 540 test rows where there is none, and let `auto` choose within a drop of 0.01."""
    if not RunFolder(WIDE).is_run:
        import luthier

        wider = ["data.split.test=0.3", "evaluate=null", "export=[]"]
        luthier.run(ROOT / "examples" / "tones" / "recipe.yaml", overrides=wider, out=WIDE)
    found = export_wanted(Wanted(forms=None, run=str(WIDE), max_drop=0.01), talk)
    whole = export_wanted(Wanted(forms=(Form(name="merged"),), run=str(WIDE)), talk).exported[0]
    return {"result": found.model_dump(mode="json"), "merged_bytes": whole.bytes}


PARTS: dict[str, Callable[[], Any]] = {
    "forms": forms,
    "speed": speed,
    "defects": defects,
    "adapters": adapters,
    "auto": auto,
}


def main() -> None:
    """Measure the parts asked for, or all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    parser.add_argument("--page", action="store_true", help="write the page only")
    options = parser.parse_args()
    state = json.loads(STATE.read_text()) if STATE.exists() else {}
    for name in (options.parts or PARTS) if not options.page else ():
        state[name] = PARTS[name]()
        STATE.parent.mkdir(parents=True, exist_ok=True)
        STATE.write_text(json.dumps(state))
    PAGE.write_text(page(state), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


def page(state: dict[str, Any]) -> str:
    """Return the page."""
    machine = hardware()
    lines = [
        "# Exports: what they say, how large and how fast they are",
        "",
        "The model of `make demo` (SmolLM2-135M-Instruct, LoRA r 16, tones of phrases). `python bench/exports.py` "
        "writes this page, part by part.",
        "",
        f"Machine: {machine.cpu}, {machine.cores} cores, {platform.system()}.",
    ]
    for name, write in WRITERS.items():
        if name in state:
            lines += ["", *write(state[name])]
    return "\n".join(lines) + "\n"


def forms_lines(found: list[dict[str, Any]]) -> list[str]:
    """Return the certificates as a table."""
    lines = ["## Certificates", "", "| form | MB | certificate | same answers | stop | KL mean | KL worst | metric |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for one in found:
        told = one["certificate"]
        lines.append(f"| {one['name']} | {one['bytes'] / 1e6:,.0f} | {' | '.join(cells(told))} |")
    return lines


def cells(told: dict[str, Any]) -> list[str]:
    """Return a certificate's cells."""
    result = told["result"] + (f": {told['reasons'][0]}" if told["reasons"] else "")
    if told["answers"] is None:
        return [result, "–", "–", "–", "–", "–"]
    diverged, measured = told["divergence"], told["measured"]
    metric = "–"
    if measured:
        interval = f"{measured['low']:+.3f} … {measured['high']:+.3f}"
        metric = f"{measured['metric']} {measured['export']:.3f}, {measured['difference']:+.3f} ({interval})"
    bound = "≥ " if diverged["is_partial"] else ""
    return [
        result,
        f"{told['answers']['count']} of {told['answers']['of']}",
        f"{told['export_stops']['count']} of {told['export_stops']['of']}",
        f"{bound}{diverged['mean']:.2g}",
        f"{bound}{diverged['worst']:.2g}",
        metric,
    ]


def speed_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return the speeds as a table."""
    base = rows[0]["answer_tokens_per_second"]
    lines = [
        "## Speed",
        "",
        "One answer at a time, each form in a process of its own, in turn; medians of three rounds.",
    ]
    lines += ["", "| form | engine | load s | prompt tokens/s | answer tokens/s | times merged | memory MB |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in rows:
        if row["error"]:
            lines.append(f"| {row['name']} | {row['engine']} | {row['error']} | | | | |")
            continue
        speeds = f"{row['prompt_tokens_per_second']:,.0f} | {row['answer_tokens_per_second']:,.1f}"
        times = row["answer_tokens_per_second"] / base
        memory = row["memory_bytes"] / 1e6
        lines.append(
            f"| {row['name']} | {row['engine']} | {row['load_seconds']:.1f} | {speeds} | {times:.2f} | {memory:,.0f} |"
        )
    return lines


def defects_lines(found: list[dict[str, Any]]) -> list[str]:
    """Return the planted defects and what was said of them."""
    lines = ["## Planted defects, in the merged form", "", "| defect | result | first reason |", "|---|---|---|"]
    for one in found:
        told = one["certificate"]
        lines.append(f"| {one['defect']} | {told['result']} | {told['reasons'][0] if told['reasons'] else '–'} |")
    return lines


def adapters_lines(found: dict[str, Any]) -> list[str]:
    """Return the figures of the model with eight adapters."""
    grown, own = found["rss_after"] - found["rss_before"], found["adapter_bytes"]
    share = (grown - own) / (found["rss_before"])
    switch = found["switch_ms"]
    return [
        "## Eight adapters in one int8 model",
        "",
        f"{found['bytes'] / 1e6:,.0f} MB, of which adapters {own / 1e6:,.0f} MB. Certificates: "
        + ", ".join(f"{name} {result}" for name, result in found["results"].items())
        + ".",
        "",
        f"Switching to another loaded adapter costs {statistics.median(switch):.1f} ms (median of {len(switch)}, worst "
        f"{max(switch):.1f}) beside the same prompt without one; loading one the first time "
        f"{statistics.median(found['load_ms']):.0f} ms, its first prompt included.",
        "",
        f"Memory grew by {grown / 1e6:,.0f} MB for the eight: {share:+.1%} of the process beyond their own bytes.",
    ]


def auto_lines(found: dict[str, Any]) -> list[str]:
    """Return what `auto` tried and chose."""
    result = found["result"]
    best = result["exported"][0]
    times = found["merged_bytes"] / best["bytes"]
    lines = [
        "## `--to auto --max-drop 0.01`, 540 test rows",
        "",
        f"{result['chosen']}: {times:.1f} times smaller than merged.",
    ]
    lines += ["", "| form | MB | certificate | same answers | stop | KL mean | KL worst | metric |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for one in result["tried"]:
        lines.append(f"| {one['format']} | {one['bytes'] / 1e6:,.0f} | {' | '.join(cells(one['certificate']))} |")
    return lines


WRITERS: dict[str, Callable[[Any], list[str]]] = {
    "forms": forms_lines,
    "speed": speed_lines,
    "defects": defects_lines,
    "adapters": adapters_lines,
    "auto": auto_lines,
}

if __name__ == "__main__":
    main()
