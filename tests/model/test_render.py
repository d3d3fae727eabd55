"""Rendered in a child is rendered as in training, and no template harms the service."""

import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.model.test_template import OTHER, TALKS, TEMPLATES, TOOL, template_of

from luthier.examples.example import Example, Message
from luthier.model.base import resolve_base
from luthier.model.load import load_tokenizer
from luthier.model.messages import TemplateError
from luthier.model.render import OUTPUT_LENGTH, Page, Renderer, RenderLimitError
from luthier.model.template import Template

EVIL = {
    "endless": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "10^10 turns": "{% for a in range(100000) %}{% for b in range(100000) %}{{ '' }}{% endfor %}{% endfor %}",
    "one long step": "{{ 7 ** 77777777 }}",
    "200 MB": "{{ 'a' * 200000000 }}",
    "memory": "{{ 'a' * 400000000 }}",
    "much text": "{% for a in range(3000) %}{{ 'abcdefgh' * 100 }}{% endfor %}",
    "a deep list": "{% set ns = namespace(x=[]) %}{% for a in range(90000) %}{% for b in range(9000) %}"
    "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{% endfor %}{{ ns.x }}",
}
WORDS = ["the", "café", "日本語", "👩‍👩‍👧", "\u2028", "<|im_end|>", "</s>", "{{", "}}", "{% raw %}", "\\n", '"quoted"']
WORDS += ["'single'", "\t", "עברית", "\x00", "&lt;b&gt;"]


@pytest.fixture(scope="module")
def render() -> Iterator[Renderer]:
    renderer = Renderer()
    yield renderer
    renderer.close()


def page(source: str) -> Page:
    return Page(source, [{"role": "user", "content": "hi"}], None, True, {})


def conversation(rng: random.Random) -> Example:
    """Return a conversation of several turns, sometimes with a system text, tools and calls of them."""
    text = lambda: " ".join(rng.choices(WORDS, k=rng.randint(1, 12)))  # noqa: E731
    messages = [Message(role=rng.choice(("system", "developer")), content=text())] if rng.random() < 0.5 else []
    tools = (TOOL, {"type": "function", "function": {"name": "größe", "description": text()}})
    with_tools = rng.random() < 0.4
    for _ in range(rng.randint(1, 4)):
        messages.append(Message(role="user", content=text()))
        if with_tools and rng.random() < 0.6:
            arguments = json.dumps({"x": text(), "n": [rng.random(), None, True]}, ensure_ascii=rng.random() < 0.5)
            call = {"id": "c1", "type": "function", "function": {"name": "größe", "arguments": arguments}}
            messages.append(Message(role="assistant", content=rng.choice(("", text())), tool_calls=(call,)))
            messages.append(Message(role="tool", content=text(), tool_call_id="c1"))
        messages.append(Message(role="assistant", content=text()))
    return Example(messages=tuple(messages), tools=tools if with_tools else ())


def same(here: Template, child: Template, example: Example) -> int:
    """Compare a conversation's tokens as trained and as served; return how many there were."""
    try:
        trained = here.encode(example)
    except TemplateError as refused:
        with pytest.raises(TemplateError) as also:
            child.messages_ids(example.messages[:-1], example.tools)
        assert str(also.value) == str(refused)
        return 0
    assert child.messages_ids(example.messages[:-1], example.tools) == trained.ids[: trained.prompt_tokens]
    assert child.encode(example) == trained
    return len(trained.ids)


@pytest.mark.parametrize("source", TEMPLATES.values(), ids=TEMPLATES)
def test_what_is_served_is_templated_as_what_was_trained(render: Renderer, source: str | None) -> None:
    here = template_of(source)
    child = Template(here.tokenizer, render)
    rng = random.Random(0)
    examples = [*(e for e in (*TALKS.values(), *OTHER.values()) if e.messages[-1].role == "assistant" and e.answer)]
    examples = [e for e in examples if all(m.weight for m in e.messages)]
    tokens = [same(here, child, example) for example in [*examples, *(conversation(rng) for _ in range(30))]]
    assert sum(count > 0 for count in tokens) >= 6


@pytest.mark.embedded
def test_the_embedded_models_conversations_are_rendered_as_trained(render: Renderer) -> None:
    tokenizer = load_tokenizer(resolve_base("smollm2-135m-instruct", lambda event: None).folder)
    here, child, rng = Template(tokenizer), Template(tokenizer, render), random.Random(1)
    assert all(same(here, child, conversation(rng)) for _ in range(300))


@pytest.mark.proof
@pytest.mark.parametrize("source", TEMPLATES.values(), ids=TEMPLATES)
def test_a_thousand_conversations_are_templated_as_trained(render: Renderer, source: str | None) -> None:
    here = template_of(source)
    child, rng = Template(here.tokenizer, render), random.Random(2)
    assert sum(same(here, child, conversation(rng)) > 0 for _ in range(1000)) > 100


def test_a_template_sees_what_training_shows_it(render: Renderer) -> None:
    source = "{{ bos_token }}|{{ messages | tojson }}|{{ tools | tojson }}|{{ add_generation_prompt }}"
    messages, variables = [{"role": "user", "content": "\ud800 ž"}], {"bos_token": "<s>"}
    text = render(Page(source, messages, [TOOL], False, variables))
    assert text == f"<s>|{json.dumps(messages, ensure_ascii=False)}|{json.dumps(TOOL and [TOOL])}|False"


@pytest.mark.parametrize("source", EVIL.values(), ids=EVIL)
def test_an_evil_template_is_stopped_by_name_and_the_next_one_works(render: Renderer, source: str) -> None:
    render(page("warm"))
    start = time.monotonic()
    with pytest.raises(RenderLimitError, match="stopped"):
        render(page(source))
    assert time.monotonic() - start < 2
    assert render(page("{{ messages[0].content }}!")) == "hi!"


def test_the_reason_is_named(render: Renderer) -> None:
    reasons = {}
    for name in ("endless", "memory", "much text"):
        with pytest.raises(RenderLimitError) as stopped:
            render(page(EVIL[name]))
        reasons[name] = stopped.value.why
    assert reasons == {
        "endless": "it took more than 0.5 s of computing",
        "memory": "it needed more than 256 MB of memory",
        "much text": f"it writes 2,400,000 characters; at most {OUTPUT_LENGTH:,} are allowed",
    }


def test_a_template_that_refuses_says_why(render: Renderer) -> None:
    with pytest.raises(TemplateError) as refused:
        render(page("{{ raise_exception('roles must alternate') }}"))
    assert refused.value.why == "roles must alternate" and refused.value.code == "bad_template"


@pytest.mark.parametrize(
    "source", ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{% include 'x' %}", "{{"]
)
def test_the_sandbox_holds(render: Renderer, source: str) -> None:
    with pytest.raises(TemplateError, match="refuses"):
        render(page(source))


def test_many_threads_get_their_own_text(render: Renderer) -> None:
    wrong: list[str] = []

    def ask(number: int) -> None:
        for turn in range(20):
            text = render(page(f"{number}-{turn} {{{{ messages[0].content }}}}"))
            if text != f"{number}-{turn} hi":
                wrong.append(text)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_one_request_has_a_bound_for_all_its_renders(render: Renderer) -> None:
    with render.patience(0.0), pytest.raises(RenderLimitError, match="too long"):
        render(page("a"))
    assert render(page("a")) == "a"


def test_the_children_hold_no_secrets_and_end_with_the_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    renderer = Renderer(1)
    before = set(psutil.Process().children())
    renderer(page("a"))
    (child,) = set(psutil.Process().children()) - before
    assert "OPENAI_API_KEY" not in child.environ()
    maps = Path(f"/proc/{child.pid}/maps")
    assert not maps.exists() or "libtorch" not in maps.read_text()
    renderer.close()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert renderer(page("b")) == "b"
    renderer.close()
