"""Try a model's chat template once in a child process: templates are programs of strangers."""

import contextlib
import json
import sys
from pathlib import Path

from luthier.core.errors import ModelError, ResourceError
from luthier.core.files import sha256_of_json, write_atomic
from luthier.core.settings import cache_dir
from luthier.model.checks import read_json
from luthier.model.child import limit_memory, run_child
from luthier.model.messages import RENDER_ERRORS

SECONDS = 30
CPU_SECONDS = 3
MEMORY_BYTES = 512 << 20
OUTPUT_BYTES = 1 << 20
QUESTION, ANSWER = {"role": "user", "content": "a question"}, {"role": "assistant", "content": "an answer"}
CONVERSATIONS = ([QUESTION], [QUESTION, ANSWER], [{"role": "system", "content": "a rule"}, QUESTION, ANSWER, QUESTION])


def check_template(folder: Path) -> None:
    """Refuse a folder whose chat template hangs, floods the memory, or writes without end on short conversations."""
    sources = template_sources(folder)
    passed = cache_dir() / "templates" / sha256_of_json(sources)
    if not sources or passed.exists():
        return
    try:
        run_child(
            "luthier.model.probe", [str(folder.resolve())], what="the model's chat template fails", seconds=SECONDS
        )
    except ModelError as error:
        raise ModelError(error.what, where={"folder": folder}, why=error.why, hint="take another model") from error
    with contextlib.suppress(ResourceError):
        write_atomic(passed, "")


def template_sources(folder: Path) -> list[str]:
    """Return the text of each chat template of a model folder."""
    files = [folder / "chat_template.jinja", *sorted(folder.glob("additional_chat_templates/*.jinja"))]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files if path.exists()]
    inline = read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(inline, list):
        return [*texts, *(str(entry.get("template")) for entry in inline if isinstance(entry, dict))]
    return [*texts, str(inline)] if inline else texts


def main(folder: Path) -> None:
    """Render short conversations under limits of time and memory, and check the length of what comes out."""
    import resource

    from transformers.utils.chat_template_utils import render_jinja_template

    limit_memory(MEMORY_BYTES)
    used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    resource.setrlimit(resource.RLIMIT_CPU, (used + CPU_SECONDS, used + CPU_SECONDS))
    for source in template_sources(folder):
        try:
            rendered, _ = render_jinja_template(
                list(CONVERSATIONS), chat_template=source, add_generation_prompt=True, bos_token="", eos_token=""
            )
        except RENDER_ERRORS:
            continue  # harmless: whether the template works at all is asked where it is used
        size = len(json.dumps(rendered))
        if size > OUTPUT_BYTES:
            sys.exit(f"it makes {size:,} bytes of a short conversation")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
