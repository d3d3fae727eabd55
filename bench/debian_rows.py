"""Real rows from Debian's package descriptions, as three chat or completion sets: `debian_rows.py OUT_DIR ROWS`.

sections: long shared instruction, closed answer.  synopsis: short shared prompt, free answer.
nothing: no shared prompt.
The descriptions come from Debian's own archive through apt; they are derived on the spot and never redistributed.
"""

import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lz4.frame

SECTIONS = (
    "libs, libdevel, python, doc, perl, devel, utils, haskell, net, rust, golang, javascript, java, science, admin, "
    "ruby, gnu-r, games, x11, text, misc, sound, php, graphics, fonts"
)
INSTRUCTION = (
    "You sort Debian packages into archive sections. Read the description of a package and answer with exactly one "
    f"section name from this list, in lower case and with nothing else: {SECTIONS}.\n\nDescription: "
)
SETS = ("sections", "synopsis", "nothing")


def fetch(lists: Path) -> None:
    """Bring Debian's package lists and English descriptions into `lists`, without touching the system's."""
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    options = ["-o", f"Dir::State::Lists={lists}", "-o", "Acquire::Languages=en"]
    subprocess.run(["apt-get", *options, "update"], check=True, stdout=subprocess.DEVNULL)


def paragraphs(path: Path) -> Iterator[dict[str, str]]:
    """Yield the records of one of apt's files."""
    for block in lz4.frame.open(path, "rt", encoding="utf8").read().split("\n\n"):
        record, key = {}, None
        for line in block.split("\n"):
            if line.startswith(" ") and key:
                record[key] += "\n" + line[1:]
            elif ": " in line:
                key, record[key] = line.split(": ", 1)
        if record:
            yield record


def packages(lists: Path) -> Iterator[tuple[str, str, str]]:
    """Yield section, synopsis and long description of every package that has them."""
    english = {
        record["Description-md5"]: record["Description-en"]
        for path in sorted(lists.glob("*_main_i18n_Translation-en.lz4"))
        for record in paragraphs(path)
    }
    for path in sorted(lists.glob("*_main_binary-*_Packages.lz4")):
        for record in paragraphs(path):
            short, _, long = english.get(record.get("Description-md5", ""), "").partition("\n")
            if long:
                text = re.sub(r"(?<!\n)\n(?!\n)", " ", long.replace("\n.\n", "\n\n"))
                yield record["Section"].split("/")[-1], short, text


def row(name: str, section: str, short: str, long: str) -> dict | None:
    """Return a row of one set, or None where the package does not suit it."""
    if name == "nothing":
        return {"prompt": long[:1500] + "\n\n", "completion": short}
    if name == "synopsis":
        user, answer = "Write the one-line synopsis of this Debian package.\n\n" + long[:1500], short
    elif section in SECTIONS.split(", "):
        user, answer = INSTRUCTION + short, section
    else:
        return None
    return {"prompt": [{"role": "user", "content": user}], "completion": [{"role": "assistant", "content": answer}]}


def write(folder: Path, rows: int) -> None:
    """Write the three sets, `rows` rows each, in an order fixed by a seed."""
    lists = folder / "apt"
    fetch(lists)
    every = list(packages(lists))
    random.Random(0).shuffle(every)
    for name in SETS:
        made = [made for package in every if (made := row(name, *package))]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in made[:rows]))


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))
