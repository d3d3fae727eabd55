"""Nothing in the package can run code that came with a file, or a command that came with a name."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.laws.source import at, dotted, imports_of, source_files, tree_of

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "torch.hub"}
CALLS = {
    "eval": "runs code",
    "exec": "runs code",
    "__import__": "imports by name",
    "compile": "makes code",
    "torch.load": "reads pickles",
    "torch.save": "writes pickles",
    "yaml.load": "may build any object",
    "yaml.unsafe_load": "builds any object",
    "yaml.full_load": "may build objects",
    "os.system": "runs a shell",
    "os.popen": "runs a shell",
    "shutil.unpack_archive": "may write outside its folder",
}
METHODS = {"extractall": "may write outside its folder", "allow_pickle": "reads pickles"}
KEYWORDS = {"trust_remote_code", "allow_pickle", "shell"}

Breach = tuple[ast.AST, str]


def breaches_of(tree: ast.Module) -> Iterator[Breach]:
    """Yield each unsafe place of a file with the reason."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((node, f"imports {name}") for name in unsafe_imports(node))
        elif isinstance(node, ast.Call):
            yield from unsafe_call(node)
        elif isinstance(node, ast.Name | ast.Attribute) and "trust_remote_code" in dotted(node).split("."):
            yield node, "names trust_remote_code: code in model folders never runs"
        elif isinstance(node, ast.Dict):
            keys = (key.value for key in node.keys if isinstance(key, ast.Constant))
            yield from ((node, f"passes {key}") for key in keys if key in KEYWORDS - {"shell"})


def unsafe_imports(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    names = imports_of(node)
    if isinstance(node, ast.ImportFrom):
        names = [f"{module}.{alias.name}" for module in names for alias in node.names]
    for name in names:
        parts = name.split(".")
        if parts[0] in MODULES or name in MODULES or name in CALLS:
            yield name


def unsafe_call(call: ast.Call) -> Iterator[Breach]:
    name = dotted(call.func)
    if name in CALLS:
        yield call, f"calls {name}, which {CALLS[name]}"
    if isinstance(call.func, ast.Attribute) and call.func.attr in METHODS:
        yield call, f"calls {call.func.attr}, which {METHODS[call.func.attr]}"
    for keyword in call.keywords:
        if keyword.arg in KEYWORDS and not (keyword.arg == "shell" and is_false(keyword.value)):
            yield call, f"passes {keyword.arg}"


def is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def patches_of(tree: ast.Module) -> Iterator[Breach]:
    """Yield the assignments into foreign modules; their documented settings (`….config.…`) are allowed."""
    foreign = {
        (alias.asname or alias.name.split(".")[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        or (isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("luthier"))
        for alias in node.names
    }
    for node in ast.walk(tree):
        for target in (
            getattr(node, "targets", [getattr(node, "target", None)])
            if isinstance(node, ast.Assign | ast.AugAssign)
            else []
        ):
            (
                root,
                *_,
            ) = dotted(target).split(".")
            is_setting = {"config", "backends", "rcParams"} & set(dotted(target).split("."))
            if isinstance(target, ast.Attribute) and root in foreign and not is_setting:
                yield node, f"patches {dotted(target)}"


def found(search) -> list[str]:
    return [f"{at(path, node)} {why}" for path in source_files() for node, why in search(tree_of(path))]


def test_nothing_unsafe_in_the_source() -> None:
    breaches = found(breaches_of)
    assert not breaches, "\n".join(breaches)


def test_no_library_is_patched() -> None:
    breaches = found(patches_of)
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from torch import load",
        "torch.load(path)",
        "yaml.load(text)",
        "eval(text)",
        "run(command, shell=True)",
        "archive.extractall(folder)",
        "AutoModel.from_pretrained(name, trust_remote_code=False)",
        "options = {'trust_remote_code': True}",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_the_law_sees_what_is_unsafe(code: str) -> None:
    assert list(breaches_of(ast.parse(code)))


def test_the_law_lets_safe_code_pass() -> None:
    code = "import json\nmodel.eval()\nyaml.safe_load(text)\nre.compile(text)\ntorch.compile(model)\nself.load(path)"
    assert not list(breaches_of(ast.parse(code)))


def test_the_law_sees_a_patch() -> None:
    patched = ast.parse(
        "import torch\nfrom transformers import Trainer\nTrainer.save = mine\ntorch.nn.Linear.forward = mine"
    )
    setting = ast.parse("import torch\ntorch._dynamo.config.verbose = True\nself.torch = 1")
    assert (len(list(patches_of(patched))), len(list(patches_of(setting)))) == (2, 0)


def test_source_is_here() -> None:
    assert Path("spec.py") in {Path(path.name) for path in source_files()}
