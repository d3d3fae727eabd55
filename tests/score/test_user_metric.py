"""Metrics of the user's own: a Python file or a command, and every way in which they can fail."""

import os
import time
from pathlib import Path

import pytest

from luthier.score.scores import Scores
from luthier.score.user_metric import MetricRow, UserMetricError, python_program, shell_program, user_scores

ROWS = [MetricRow(f"rows.jsonl:{n}", f"question {n}", "x" * n, "xx", {"label": n}) for n in range(1, 4)]
NUMBERS = "while read -r line; do echo 0.5; done"


def by_python(tmp_path: Path, source: str, *, timeout_s: float = 20, rows: list[MetricRow] = ROWS) -> Scores:
    file = tmp_path / "metric.py"
    file.write_text(source)
    return user_scores(python_program("mine", str(file), timeout_s=timeout_s), rows)


def by_shell(command: str, *, timeout_s: float = 20, rows: list[MetricRow] = ROWS) -> Scores:
    return user_scores(shell_program("mine", command, timeout_s=timeout_s), rows)


def test_a_python_file_sees_the_whole_row(tmp_path: Path) -> None:
    (tmp_path / "text.py").write_text("FACTOR = 10\n")
    source = (
        "import text\nprint('loud')\n"
        "def score(prompt, answer, reference, row):\n"
        "    print('loud'); assert prompt.startswith('question') and reference == 'xx'\n"
        "    return len(answer) * text.FACTOR + row['label']\n"
    )
    scores = by_python(tmp_path, source)
    assert (scores.metric, scores.per_row.tolist(), scores.value) == ("mine", [11, 22, 33], 22)


def test_a_command_reads_json_lines(tmp_path: Path) -> None:
    assert by_shell("grep -o '\"label\": [0-9]' | cut -d' ' -f2").per_row.tolist() == [1, 2, 3]
    # One that reads nothing, and one that reads all before it writes; more rows than a pipe holds.
    many = [MetricRow(str(n), "p" * 1000, "a", "r", {}) for n in range(3000)]
    assert by_shell("seq 3000", rows=many).value == 1500.5
    assert by_shell("wc -l > /dev/null; seq 3000", rows=many).value == 1500.5


@pytest.mark.parametrize(
    ("source", "row", "why"),
    [
        ("def score(p, a, r, row):\n    return 1 / (len(a) - 2)\n", 2, r"ZeroDivisionError: .* \(line 2\)"),
        ("def score(p, a, r, row):\n    return None if len(a) == 3 else 1\n", 3, "returned 'None', which is no number"),
        ("def score(p, a, r, row):\n    return float('nan')\n", 1, "not finite"),
        ("def score(p, a):\n    return 1\n", 1, "TypeError: score.* takes 2 positional arguments"),
        ("def grade(p, a):\n    return 1\n", 1, "no function `score"),
        ("def score(:\n", 1, r"SyntaxError: .*line 1"),
        ("import nothing_like_it\n", 1, "ModuleNotFoundError"),
        ("import os\ndef score(p, a, r, row):\n    os._exit(3)\n", 1, "ended before this row"),
        ("import sys\ndef score(p, a, r, row):\n    sys.exit('bye')\n", 1, "SystemExit: bye"),
    ],
)
def test_a_failing_python_file_is_named_with_the_row(tmp_path: Path, source: str, row: int, why: str) -> None:
    with pytest.raises(UserMetricError, match=why) as caught:
        by_python(tmp_path, source)
    where = caught.value.where
    assert where == {"metric": "mine", "source": str(tmp_path / "metric.py"), "row": f"rows.jsonl:{row}"}


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("exit 4", "ended before this row"),
        ("head -c 9999999 /dev/zero", "which is no number"),
        ("echo 1; echo two", "'two', which is no number"),
        (f"{NUMBERS}; echo 7", "more numbers than there are rows: '7'"),
        (f"{NUMBERS}; echo first >&2; echo out of luck >&2; exit 4", "status 4: out of luck"),
        ("yes", "'y', which is no number"),
        ("echo 1; echo 1; echo inf", "not finite"),
        ("no_such_program_at_all", "not found|ended before"),
    ],
)
def test_a_failing_command_says_why(command: str, why: str) -> None:
    with pytest.raises(UserMetricError, match=why) as caught:
        by_shell(command)
    assert caught.value.where["source"] == command


def test_an_endless_loop_ends_and_its_children_with_it(tmp_path: Path) -> None:
    child = tmp_path / "child"
    began = time.monotonic()
    with pytest.raises(UserMetricError, match=r"no number within 0.5 s") as caught:
        by_shell(f"echo 1; sleep 60 & echo $! > {child}; wait", timeout_s=0.5)
    assert caught.value.where["row"] == "rows.jsonl:2" and time.monotonic() - began < 5
    for _ in range(100):
        if not _is_running(int(child.read_text())):
            return
        time.sleep(0.02)
    pytest.fail("the program's child still runs")


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2][:3]
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_program_that_does_not_end(tmp_path: Path) -> None:
    with pytest.raises(UserMetricError, match="does not end within"):
        by_shell(f"{NUMBERS}; sleep 60", timeout_s=0.5)
