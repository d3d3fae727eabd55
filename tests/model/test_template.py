"""Loss falls on the answers and their end of turn; a request sends exactly what training saw before the answer."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from luthier.core.errors import DataError, ModelError
from luthier.examples.example import Example, Message, Segment
from luthier.model.messages import TemplateError
from luthier.model.template import Template
from luthier.model.tiny import SPECIALS, save_tiny, tiny_tokenizer

# The shapes of published templates, in as few lines as show their traps.
PHI = """{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ '<|endoftext|>' }}{% endif %}"""
GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}
{%- set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}
{%- for m in rest %}
{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{{- '<|im_start|>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' }}
{{- (first if loop.first else '') + m['content'] | trim + '<|im_end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"""
LLAMA2 = """{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}
{%- else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"""
BARE = """{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"""
# Qwen 3: the last answer begins with an empty thought, earlier ones lose it.
QWEN3 = """{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}
{%- if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}
{{- m['content'] + '<|im_end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
# DeepSeek R1: a thought is opened for the model, but never kept.
R1 = """{% for m in messages %}
{{- '<|im_start|>' + m['role'] + '\n' + m['content'].split('</think>')[-1] + eos_token }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"""
TEMPLATES = {
    "tiny": None,
    "none": "",
    "phi": PHI,
    "gemma": GEMMA,
    "llama2": LLAMA2,
    "bare": BARE,
    "qwen3": QWEN3,
    "r1": R1,
}

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Brno"}'}}


def template_of(source: str | None = None) -> Template:
    tokenizer = tiny_tokenizer()
    if source is not None:
        tokenizer.chat_template = source or None
    return Template(tokenizer)


def talk(*turns: str, weights: Sequence[int] = (), system: str | None = None, **more: object) -> Example:
    messages = [Message(role="system", content=system)] if system is not None else []
    for number, turn in enumerate(turns):
        weight = weights[number // 2] if weights and number % 2 else 1
        messages.append(Message(role="assistant" if number % 2 else "user", content=turn, weight=weight))
    return Example(messages=tuple(messages), **more)


def raw(*pieces: tuple[str, bool]) -> Example:
    return Example(segments=tuple(Segment(text=text, target=target) for text, target in pieces))


def trained(template: Template, example: Example) -> list[str]:
    """Return the text of each run of trained tokens."""
    encoded, runs, before = template.encode(example), [], False
    for token, target in zip(encoded.ids, encoded.targets, strict=True):
        if target:
            runs = [*runs, [token]] if not before else [*runs[:-1], [*runs[-1], token]]
        before = target
    return [template.tokenizer.decode(run) for run in runs]


def whole(template: Template, example: Example) -> str:
    return template.tokenizer.decode(template.encode(example).ids)


TALKS = {
    "one turn": talk("hi", "there"),
    "system": talk("hi", "there", system="Be brief."),
    "empty system": talk("hi", "there", system=""),
    "two turns": talk("hi", "there", "and", "so on"),
    "first turn untrained": talk("hi", "there", "and", "so on", weights=(0, 1)),
    "last turn untrained": talk("hi", "there", "and", "so on", weights=(1, 0)),
    "nothing trained": talk("hi", "there", weights=(0,)),
    "question last": talk("hi", "there", "and"),
    "empty answer": talk("hi", ""),
    "spaces": talk("  hi ", "  there \n\n"),
    "unicode": talk("žluťoučký 🐎 \u2028 ‏עברית", "naïve 日本語 👩‍👩‍👧"),
    "markers inside": talk("say <|im_end|> now", "<|im_end|> I said"),
    "long": talk("the thing " * 200, "the other " * 100),
}
OTHER = {
    "answer first": Example(messages=(Message(role="assistant", content="welcome"), *talk("hi", "there").messages)),
    "only an answer": Example(messages=(Message(role="assistant", content="welcome"),)),
    "developer": Example(messages=(Message(role="developer", content="Be brief."), *talk("hi", "there").messages)),
    "tools": Example(
        messages=(
            Message(role="user", content="weather?"),
            Message(role="assistant", tool_calls=(CALL,)),
            Message(role="tool", content="sunny", tool_call_id="1"),
            Message(role="assistant", content="It is sunny."),
        ),
        tools=(TOOL,),
    ),
}
RAW = {
    "prompt and answer": raw(("Q: hi\nA:", False), (" there", True)),
    "text": raw(("the whole text", True)),
    "three pieces": raw(("a", False), ("b", True), ("c", False), ("d", True)),
    "a tail": raw(("a", False), ("b", True), ("c", False)),
    "nothing trained": raw(("a", False)),
    "empty answer": raw(("a", False), ("", True)),
}


@pytest.mark.parametrize("source", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("example", [*TALKS.values(), *RAW.values()], ids=[*TALKS, *(f"raw {name}" for name in RAW)])
def test_a_request_is_a_prefix_of_what_was_trained(source: str | None, example: Example) -> None:
    template = template_of(source)
    encoded = template.encode(example)
    assert template.prompt_ids(example) == encoded.ids[: encoded.prompt_tokens]
    assert len(encoded.ids) == len(encoded.targets)
    assert example.segments or not encoded.targets[0]


@pytest.mark.parametrize("source", [None, "", BARE], ids=["tiny", "none", "bare"])
@pytest.mark.parametrize("example", OTHER.values(), ids=OTHER)
def test_a_request_is_a_prefix_with_other_roles_and_tools(source: str | None, example: Example) -> None:
    template = template_of(source)
    encoded = template.encode(example)
    assert template.prompt_ids(example) == encoded.ids[: encoded.prompt_tokens]
    assert example.answer in trained(template, example)[-1]
    assert encoded.targets[-1] and not any(encoded.targets[:1])


def test_the_rendered_text_and_the_trained_spans_are_as_written_by_hand() -> None:
    template = template_of()
    example = talk("hi", "there", "and", "so on", system="Be brief.")
    assert whole(template, example) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
        "there<|im_end|>\n<|im_start|>user\nand<|im_end|>\n<|im_start|>assistant\nso on<|im_end|>"
    )
    assert trained(template, example) == ["there<|im_end|>", "so on<|im_end|>"]


@pytest.mark.parametrize(
    ("source", "spans"),
    [
        (None, ["there<|im_end|>", "so on<|im_end|>"]),
        ("", ["there<|im_end|>", "so on<|im_end|>"]),
        (PHI, ["there<|im_end|>", "so on<|im_end|>"]),
        (GEMMA, ["there<|im_end|>", "so on<|im_end|>"]),
        (LLAMA2, [" there <|im_end|>", " so on <|im_end|>"]),
        (BARE, [" there<|im_end|>", " so on<|im_end|>"]),
        (QWEN3, ["<think>\n\n</think>\n\nso on<|im_end|>"]),
        (R1, ["\n</think>\n\nso on<|im_end|>"]),
    ],
    ids=TEMPLATES,
)
def test_each_kind_of_template_trains_answers_and_end_of_turn_only(source: str | None, spans: list[str]) -> None:
    assert trained(template_of(source), talk("hi", "there", "and", "so on")) == spans


@pytest.mark.parametrize("source", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("answer", ["there", "  there \n", "naïve 日本語", "two\n\nparts"])
def test_what_was_trained_is_read_back_as_the_answer(source: str | None, answer: str) -> None:
    template = template_of(source)
    encoded = template.encode(talk("hi", answer))
    assert template.text(encoded.ids[encoded.prompt_tokens :]).strip() == answer.strip()


def test_hand_counted_ids_of_a_short_answer() -> None:
    template = template_of()
    ids = template.tokenizer.convert_tokens_to_ids
    encoded = template.encode(talk("a", "the", system="s"))
    newline = ids("Ċ")
    start, end = ids("<|im_start|>"), ids("<|im_end|>")
    system = [start, ids("s"), ids("y"), ids("st"), ids("e"), ids("m"), newline, ids("s"), end, newline]
    user = [start, ids("u"), ids("s"), ids("er"), newline, ids("a"), end, newline]
    head = [start, ids("a"), ids("s"), ids("s"), ids("i"), ids("st"), ids("an"), ids("t"), newline]
    assert encoded.ids == [*system, *user, *head, ids("t"), ids("he"), end]
    assert encoded.targets == [False] * 27 + [True] * 3
    assert encoded.prompt_tokens == 27


def test_pad_and_end_of_turn_are_one_token_and_it_is_trained() -> None:
    template = template_of()
    assert template.pad_id == template.eos_id
    encoded = template.encode(talk("hi", "there"))
    assert encoded.ids[-1] == template.pad_id and encoded.targets[-1]
    assert sum(i == template.pad_id for i in encoded.ids) == 3
    assert sum(t for i, t in zip(encoded.ids, encoded.targets, strict=True) if i == template.pad_id) == 1


def test_weights_choose_the_trained_turns() -> None:
    template = template_of()
    assert trained(template, TALKS["first turn untrained"]) == ["so on<|im_end|>"]
    assert trained(template, TALKS["last turn untrained"]) == ["there<|im_end|>"]
    assert trained(template, TALKS["nothing trained"]) == []
    assert whole(template, TALKS["last turn untrained"]).endswith("there<|im_end|>")


def test_an_earlier_untrained_turn_does_not_change_the_ids() -> None:
    template = template_of()
    both = template.encode(talk("hi", "there", "and", "so on"))
    assert template.encode(TALKS["first turn untrained"]).ids == both.ids


def test_a_template_that_rewrites_history_trains_the_last_answer_only_and_says_so() -> None:
    template = template_of(QWEN3)
    assert template.encode(talk("hi", "there", "and", "so on")).only_last
    assert not template.encode(talk("hi", "there")).only_last
    assert not template.encode(TALKS["first turn untrained"]).only_last
    assert "<think>\n\n</think>\n\nthere" not in whole(template, talk("hi", "there", "and", "so on"))
    assert not template_of().encode(talk("hi", "there", "and", "so on")).only_last


def test_the_thinking_is_no_part_of_the_answer() -> None:
    encode = tiny_tokenizer().encode
    assert template_of(QWEN3).text(encode("<think>\nhm\n</think>\n\nyes<|im_end|>")) == "yes"
    assert template_of(QWEN3).text(encode("<think>\nhm")) == ""
    assert template_of(QWEN3).text(encode("yes")) == "yes"
    assert template_of(R1).text(encode("hm\n</think>\nyes")) == "yes"
    assert template_of().text(encode("<think>hm</think>yes")) == "<think>hm</think>yes"


def test_a_question_that_changes_once_answered_is_refused() -> None:
    source = "{% for m in messages %}{{ (messages | length) ~ m['role'] + ':' + m['content'] + eos_token }}{% endfor %}"
    with pytest.raises(TemplateError, match="differently"):
        template_of(source).encode(talk("hi", "there"))


def test_what_a_template_refuses_is_an_error_of_the_row_with_its_reason() -> None:
    twice = Example(messages=(Message(role="user", content="a"), *talk("hi", "there").messages))
    with pytest.raises(TemplateError, match="refuses") as caught:
        template_of(GEMMA).encode(twice)
    assert caught.value.why == "roles must alternate"
    assert isinstance(caught.value, DataError)


@pytest.mark.parametrize("source", ["{{ 1 / 0 }}", "{% if %}", "{{ 'no messages at all' }}", "{{ messages[9].x.y }}"])
def test_a_template_that_cannot_work_is_an_error_of_the_model(source: str) -> None:
    with pytest.raises(ModelError, match="chat template"):
        template_of(source)


@pytest.mark.parametrize("example", [talk("\ud800", "x"), talk("x", "\udfff"), raw(("\ud83d", True))])
def test_half_a_character_is_an_error_of_the_row(example: Example) -> None:
    with pytest.raises(DataError, match="half of a character"):
        template_of().encode(example)


def test_developer_becomes_system_where_the_template_knows_no_developer() -> None:
    assert "<|im_start|>system\nBe brief." in whole(template_of(), OTHER["developer"])
    mark = "{{ 'DEV ' if m['role'] == 'developer' }}"
    knowing = "{% for m in messages %}" + mark + "{{ m['content'] + eos_token }}{% endfor %}"
    assert whole(template_of(knowing), OTHER["developer"]).startswith("DEV Be brief.")


def test_tools_go_to_a_template_that_shows_them_as_objects() -> None:
    text = whole(template_of(), OTHER["tools"])
    assert f"<|im_start|>tools\n{json.dumps([TOOL])}<|im_end|>" in text
    assert '<tool_call>{"name": "weather", "arguments": {"city": "Brno"}}</tool_call><|im_end|>' in text
    assert "<|im_start|>observation\nsunny<|im_end|>" in text


def test_tools_become_text_for_a_template_that_would_drop_them() -> None:
    template = template_of(BARE)
    assert trained(template, OTHER["tools"])[0] == (
        ' <tool_call>\n{"name": "weather", "arguments": {"city": "Brno"}}\n</tool_call><|im_end|>'
    )
    text = whole(template, OTHER["tools"])
    assert text.startswith("system: You may call these tools") and json.dumps(TOOL) in text
    assert "user: <tool_response>\nsunny\n</tool_response>" in text


def test_tool_calls_that_are_no_calls_are_errors_of_the_row() -> None:
    for call in ({"function": {"name": "f", "arguments": "{"}}, {"function": {}}, {}):
        message = Message(role="assistant", tool_calls=(call,))
        with pytest.raises(TemplateError, match="tool call"):
            template_of().encode(Example(messages=(Message(role="user", content="x"), message)))


def test_a_model_without_a_template_gets_the_same_plain_text_everywhere() -> None:
    template = template_of("")
    assert not template.has_chat and template_of().has_chat
    assert whole(template, talk("hi", "there", system="Be brief.")) == (
        "### System:\nBe brief.\n\n### User:\nhi\n\n### Assistant:\nthere<|im_end|>"
    )
    prompt = template.messages_ids([Message(role="user", content="hi")])
    assert template.tokenizer.decode(prompt) == "### User:\nhi\n\n### Assistant:\n"


def test_raw_text_ends_with_one_trained_end_of_text() -> None:
    template = template_of()
    assert trained(template, RAW["three pieces"]) == ["b", "d<|im_end|>"]
    assert whole(template, RAW["three pieces"]) == "abcd<|im_end|>"
    assert whole(template, RAW["a tail"]) == "ab<|im_end|>"
    assert template.encode(RAW["text"]).prompt_tokens == 0
    assert not any(template.encode(RAW["nothing trained"]).targets)


def test_a_tokenizer_that_begins_texts_with_bos_does_so_for_raw_text_once() -> None:
    tokenizer = tiny_tokenizer()
    bos = tokenizer.convert_tokens_to_ids(SPECIALS[0])
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SPECIALS[0]} $A", special_tokens=[(SPECIALS[0], bos)]
    )
    template = Template(tokenizer)
    encoded = template.encode(RAW["prompt and answer"])
    assert encoded.ids[0] == bos and encoded.ids.count(bos) == 1 and not encoded.targets[0]
    assert template.prompt_ids(RAW["text"]) == [bos]
    assert bos not in template.encode(talk("hi", "there")).ids


def test_a_tokenizer_that_puts_spaces_before_texts_gives_the_ids_of_the_unbroken_text() -> None:
    letters = "▁abcdefghijklmnopqrstuvwxyz\n:"
    vocabulary = {letter: number for number, letter in enumerate(letters)} | {"▁h": 40, "</s>": 41}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "h")]))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] + ':\n' + m['content'] + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant:\n' }}{% endif %}"
    )
    template = Template(tokenizer)
    unbroken = "user:\nhi</s>assistant:\nhi</s>"
    ids = template.encode(talk("hi", "hi")).ids
    assert tokenizer.convert_ids_to_tokens(ids)[-3:] == ["h", "i", "</s>"]
    assert ids[-3:] == tokenizer.encode(unbroken, add_special_tokens=False)[-3:]


def test_stop_ids_hold_end_of_turn_end_of_text_and_what_the_model_says(tmp_path) -> None:
    from luthier.model.load import load_tokenizer

    folder = save_tiny(tmp_path / "model", "llama")
    (folder / "generation_config.json").write_text('{"eos_token_id": [3, 5]}')
    assert Template(load_tokenizer(folder)).stop_ids == {3, 5, tiny_tokenizer().eos_token_id}
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = SPECIALS[0]
    assert Template(tokenizer).stop_ids == set(tokenizer.convert_tokens_to_ids([SPECIALS[0], SPECIALS[2]]))


def test_the_hash_tells_templates_and_tokenizers_apart() -> None:
    other = tiny_tokenizer()
    other.add_tokens(["new"])
    assert template_of().sha256 == template_of().sha256
    assert len({template_of().sha256, template_of(PHI).sha256, Template(other).sha256}) == 3


def test_a_tokenizer_without_an_end_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="end-of-text"):
        Template(tokenizer)


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
turns = st.lists(st.tuples(text, text, st.sampled_from([0, 1])), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(turns=turns, system=st.none() | text, source=st.sampled_from([None, "", PHI, BARE]))
def test_any_conversation_trains_exactly_its_weighted_answers(
    turns: list[tuple[str, str, int]], system: str | None, source: str | None
) -> None:
    example = talk(*(t for ask, say, _ in turns for t in (ask, say)), weights=[w for *_, w in turns], system=system)
    template = template_of(source)
    encoded = template.encode(example)
    assert template.prompt_ids(example) == encoded.ids[: encoded.prompt_tokens]
    if source != BARE:  # its end, a newline, cannot be told from the answer's
        assert trained(template, example) == [f"{say}<|im_end|>" for _, say, weight in turns if weight]
