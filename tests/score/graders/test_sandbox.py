"""Foreign Python behind its walls: what it can do, and all the ways out that it cannot take."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from luthier.score.graders import sandbox
from luthier.score.graders.sandbox import IsolationError, Limits, Verdict, check_python, ensure_isolated, run_python

LIMITS = Limits(seconds=5, memory_bytes=400_000_000, file_bytes=2_000_000)
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module", autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory) -> None:
    try:
        ensure_isolated(tmp_path_factory.mktemp("home"))
    except IsolationError as error:
        pytest.skip(f"THIS MACHINE GIVES NO ISOLATION, so python graders are refused and untested: {error.why}")


def run(source: str, item: dict[str, object] | None = None, *, limits: Limits = LIMITS) -> Verdict:
    return run_python(source, {"output_text": "yes"}, item or {}, limits=limits)


def attempt(action: str, item: dict[str, object] | None = None) -> Verdict:
    """Return 1 where the action worked, 0 where the system refused it."""
    source = f"""
import ctypes, os, socket, subprocess, threading, signal
def grade(sample, item):
    try:
        {action}
    except (OSError, RuntimeError):
        return 0.0
    return 1.0
"""
    return run(source, item)


def test_it_grades() -> None:
    source = "def grade(sample, item):\n    return 0.25 if sample['output_text'] == item['want'] else 0"
    assert run(source, {"want": "yes"}) == Verdict(score=0.25)


def test_installed_packages_are_there() -> None:
    source = """
import re
import numpy as np
from rapidfuzz import fuzz
def grade(sample, item):
    return float((np.ones((8, 8)) @ np.ones((8, 8)))[0, 0]) + fuzz.ratio("a", "a") / 100
"""
    assert run(source).score == 9.0


def test_numbers_of_all_kinds_count() -> None:
    assert [run(f"def grade(s, i): return {text}").score for text in ("1", "True", "-0.5")] == [1.0, 1.0, -0.5]


@pytest.mark.parametrize("value", ["'1'", "None", "[1.0]", "float('nan')", "float('inf')", "1j"])
def test_anything_else_is_told(value: str) -> None:
    verdict = run(f"def grade(sample, item):\n    return {value}")
    assert verdict.score is None and verdict.error and "must return a finite number" in verdict.error


def test_its_exception_is_told_with_its_line_and_without_our_own_frames() -> None:
    verdict = run("def helper(x):\n    return x['gone']\ndef grade(sample, item):\n    return helper(item)")
    assert verdict.error and "KeyError: 'gone'" in verdict.error and "line 2, in helper" in verdict.error
    assert "cell.py" not in verdict.error


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def grad(sample, item):\n    return 1", "no function named grade"),
        ("grade = 3", "no function named grade"),
        ("def grade(sample, item)\n    return 1", "SyntaxError"),
        ("import no_such_package\ndef grade(s, i): return 1", "ModuleNotFoundError"),
        ("def grade(sample): return 1", "TypeError"),
        ("import sys\ndef grade(s, i): sys.exit(3)", "SystemExit"),
        ("def grade(s, i): raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("def grade(s, i): return grade(s, i)", "RecursionError"),
    ],
)
def test_a_source_that_cannot_grade_is_told(source: str, reason: str) -> None:
    verdict = run(source)
    assert verdict.error and reason in verdict.error


def test_a_loop_ends() -> None:
    begin = time.perf_counter()
    verdict = run("def grade(s, i):\n    while True: pass", limits=Limits(seconds=1))
    assert verdict == Verdict(stopped="timeout") and time.perf_counter() - begin < 8


def test_sleeping_with_signals_ignored_ends() -> None:
    source = """
import signal, time
def grade(s, i):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGXCPU, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(1)
"""
    assert run(source, limits=Limits(seconds=1)) == Verdict(stopped="timeout")


def test_a_loop_at_import_ends() -> None:
    assert run("while True: pass", limits=Limits(seconds=1)) == Verdict(stopped="timeout")


def test_memory_is_bounded() -> None:
    verdict = run("def grade(s, i):\n    kept = []\n    while True: kept.append(bytearray(10**7))")
    assert verdict.score is None and "MemoryError" in (verdict.error or "")


def test_memory_at_once_is_bounded() -> None:
    assert "MemoryError" in (run("def grade(s, i): return len(bytearray(10**10))").error or "")


def test_files_are_bounded_and_the_folder_is_empty_again() -> None:
    source = """
import os
def grade(s, i):
    left = len(os.listdir("."))
    size = 0
    try:
        for number in range(100):
            with open(f"file-{number}", "wb") as file:
                size += file.write(b"x" * 1_000_000)
    except OSError:
        pass
    return left + size / 1e9
"""
    first, second = run(source), run(source)
    # One file lies there, its own source; and this environment, where it lies there itself.
    folders = [*sandbox._walls(LIMITS)["libraries"], *sandbox._walls(LIMITS)["packages"]]
    left = 1 + len({Path(folder).parts[2] for folder in folders if Path(folder).is_relative_to("/tmp")})
    assert first == second and left < (first.score or 0) < left + 0.003


def test_one_file_is_bounded() -> None:
    assert run("def grade(s, i):\n    open('f', 'wb').write(b'x' * 3_000_000)\n    return 1").score != 1.0


def test_prints_go_nowhere_and_huge_output_does_no_harm() -> None:
    source = """
import os, sys
def grade(s, i):
    for _ in range(50):
        print("x" * 1_000_000)
        os.write(1, b"x" * 1_000_000)
        os.write(2, b"x" * 1_000_000)
    return 1
"""
    assert run(source) == Verdict(score=1.0)


def test_a_flood_through_its_own_answer_is_cut() -> None:
    source = """
import os
def grade(s, i):
    while True:
        for descriptor in range(3, 10):
            try:
                os.write(descriptor, b"x" * 100_000)
            except OSError:
                pass
"""
    assert run(source) == Verdict(stopped="too much output")


def test_half_characters_can_be_told() -> None:
    assert "\\ud800" in (run("def grade(s, i): raise ValueError(i['x'])", {"x": "\ud800"}).error or "")


def test_a_long_error_is_cut() -> None:
    assert 100 < len(run("def grade(s, i): raise ValueError('x' * 10**6)").error or "") <= 4_000


@pytest.mark.parametrize(
    "answer", [b"[]", b"{}", b'{"score": "x"}', b'{"score": NaN, "score": [1]}', b"\xff", b"[" * 5000]
)
def test_a_forged_answer_is_no_answer(answer: bytes) -> None:
    source = f"""
import os
def grade(s, i):
    for descriptor in range(3, 10):
        try:
            os.write(descriptor, {answer!r})
        except OSError:
            pass
    os._exit(0)
"""
    assert run(source) == Verdict(stopped="killed")


@pytest.mark.parametrize(
    "action",
    [
        "socket.create_connection(('127.0.0.1', item['port']), 2)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "socket.socket(socket.AF_UNIX)",
        "socket.socketpair()",
        "os.fork()",
        "subprocess.run(['true'])",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "os.execv('/proc/self/exe', ['python'])",
        "threading.Thread(target=print).start()",
        "os.memfd_create('x')",
        "os.kill(1, 0)",
        "os.setsid()",
        "os.chroot('/')",
        "os.setuid(0)",
        "os.mkdir('/outside')",
        "open('/usr/lib/outside', 'w')",
        "os.listdir('/proc/1')",
        "os.listdir('/home')",
        "os.listdir('/etc')",
        "os.listdir('/dev')",
        "os.listdir('/sys')",
        "open('/etc/passwd').read()",
    ],
)
def test_no_way_out(action: str) -> None:
    assert attempt(action, {"port": 9}).score == 0.0


def test_no_way_out_by_bare_system_calls() -> None:
    """Filtered by number: unshare, ptrace, clone3, io_uring_setup, keyctl, prctl, and the x32 twin of fork."""
    source = """
import ctypes
def grade(sample, item):
    libc = ctypes.CDLL(None, use_errno=True)
    calls = [(272, 0x10000000), (101, 0), (435, 0), (425, 8), (250, 0), (157, 1, 0), (0x40000000 + 57,)]
    results = []
    for call in calls:
        results.append(libc.syscall(*(ctypes.c_long(part) for part in call)) == -1 and ctypes.get_errno() == 1)
    return sum(results) / len(calls)
"""
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers in this test are those of x86_64")
    assert run(source).score == 1.0


def test_home_keys_and_database_cannot_be_read(tmp_path: Path) -> None:
    for name in ("service.db", "key", "service.yaml"):
        (tmp_path / name).write_text("secret")
        assert attempt(f"open({str(tmp_path / name)!r}).read()").score == 0.0
    assert attempt(f"os.listdir({str(Path.home())!r}) and open({str(ROOT / 'pyproject.toml')!r})").score == 0.0


def test_nothing_is_written_outside(tmp_path: Path) -> None:
    assert attempt(f"open({str(tmp_path / 'out')!r}, 'w')").score == 0.0
    assert not list(tmp_path.iterdir())


def test_the_environment_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    verdict = run("import os\ndef grade(s, i): raise ValueError(sorted(os.environ))")
    assert "['LC_CTYPE', 'OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS']" in (verdict.error or "").replace("\n", "")


def test_only_three_streams_and_the_answer_are_open() -> None:
    source = """
import os
def grade(s, i):
    open_ones = 0
    for descriptor in range(64):
        try:
            os.fstat(descriptor)
            open_ones += 1
        except OSError:
            pass
    return open_ones
"""
    assert run(source).score == 4.0


def test_it_is_nobody_without_privilege() -> None:
    source = "import os\ndef grade(s, i): return 1.0 if 0 not in os.getresuid() + os.getresgid() else 0.0"
    assert run(source).score == 1.0


def test_checking_does_not_run_the_source() -> None:
    assert check_python("while True: pass\ndef grade(s, i): return 1", limits=LIMITS) == Verdict(score=0.0)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def grade(s, i) return 1", "SyntaxError"),
        ("x = 1", "no function named grade"),
        ("\0", "null bytes"),
        ("(" * 10_000, "SyntaxError"),
        ("-" * 200_000 + "1", "Error"),
    ],
)
def test_checking_says_what_is_wrong(source: str, reason: str) -> None:
    verdict = check_python(source, limits=LIMITS)
    assert reason in (verdict.error or "") or (reason == "Error" and verdict.stopped == "killed")


def test_nothing_runs_without_walls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one wall cannot be put up (a folder to show is gone), the source does not run."""
    walls = sandbox._walls(LIMITS)
    monkeypatch.setattr(sandbox, "_walls", lambda limits: walls | {"libraries": ["/proc/no-such-folder"]})
    with pytest.raises(IsolationError) as refused:
        run("def grade(s, i): return 1")
    assert "Linux" in str(refused.value)


def test_a_leak_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The probe notices walls that show the secrets."""
    walls = sandbox._walls(LIMITS)
    monkeypatch.setattr(sandbox, "_walls", lambda limits: walls | {"packages": [*walls["packages"], str(tmp_path)]})
    (tmp_path / "service").mkdir(mode=0o755)
    with pytest.raises(IsolationError, match="isolated"):
        ensure_isolated.__wrapped__(_readable(tmp_path / "service"))


def _readable(folder: Path) -> Path:
    for above in (folder, *list(folder.parents)[:3]):
        above.chmod(0o755)
    return folder


def test_other_systems_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(IsolationError) as refused:
        run("def grade(s, i): return 1")
    assert refused.value.why == "this is darwin"


SLEEPER = """
import sys
from luthier.score.graders.sandbox import Limits, run_python
run_python("import time\\ndef grade(s, i): time.sleep(60)", {}, {}, limits=Limits(seconds=60))
"""


def test_it_dies_with_the_service() -> None:
    service = subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=True)
    try:
        inside = _await(lambda: _below(service.pid) if len(_below(service.pid)) == 2 else [])
    finally:
        service.send_signal(signal.SIGKILL)
        service.wait()
    assert _await(lambda: not any(Path(f"/proc/{process}").exists() for process in inside))


def _below(process: int) -> list[int]:
    found = []
    for thread in Path(f"/proc/{process}/task").glob("*/children"):
        for child in thread.read_text().split():
            found += [int(child), *_below(int(child))]
    return found


def _await(wanted):
    # A process that begins on a busy machine takes seconds.
    for _ in range(1800):
        if value := wanted():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not come to pass")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else; elsewhere all tests run as a user")
def test_it_grades_for_a_service_without_privileges(tmp_path: Path) -> None:
    python = shutil.which("python3", path="/usr/bin")
    if python is None:
        pytest.skip("NO SYSTEM PYTHON that an unprivileged user may run, so this path is untested here")
    source = Path(__file__).parents[3] / "src"
    script = f"""
import sys
sys.path.insert(0, {str(source)!r})
from pathlib import Path
from luthier.score.graders.sandbox import *
ensure_isolated(Path({str(_readable(tmp_path))!r}))
print(run_python("def grade(s, i): return 0.5", {{}}, {{}}, limits=Limits(seconds=5)).score)
"""
    tmp_path.chmod(0o777)
    done = subprocess.run(
        [python, "-c", script],
        user=65534,
        group=65534,
        extra_groups=[],
        env={},
        cwd="/",
        capture_output=True,
        text=True,
    )
    assert (done.stdout.strip(), done.stderr) == ("0.5", "")


def test_many_at_once_do_not_disturb_each_other() -> None:
    scores: dict[int, float | None] = {}

    def one(number: int) -> None:
        scores[number] = run(f"def grade(s, i): return {number}").score

    threads = [threading.Thread(target=one, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scores == {number: float(number) for number in range(8)}
