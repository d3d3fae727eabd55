"""Every way to name a base model, and what is refused."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
import torch
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from luthier.core.errors import ModelError, ResourceError
from luthier.core.events import Event
from luthier.core.files import sha256_of
from luthier.examples.example import Example, Message
from luthier.model import base, child, digest, hub, probe
from luthier.model.base import EMBEDDED, EMBEDDED_FILE, licence_of, resolve_base
from luthier.model.load import load_model, load_tokenizer
from luthier.model.template import Template
from luthier.model.tiny import save_tiny, tiny_tokenizer


def ignore(event: Event) -> None:
    assert event.room == "model"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    if "embedded" not in request.keywords:
        monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "models" / "llama", "llama")


def test_a_folder_is_checked_hashed_and_used_where_it_lies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "README.md").write_text("---\ntags: [a]\nlicense: mit\n---\nlicense: other\n")
    found = resolve_base(str(folder), ignore)
    assert (found.name, found.folder, found.licence) == (str(folder), folder, "mit")
    monkeypatch.chdir(folder.parent)
    again = resolve_base("llama", ignore)
    assert again.folder == folder and again.weights_sha256 == found.weights_sha256
    other = resolve_base(str(save_tiny(folder.parent / "other", "llama", seed=1)), ignore)
    assert other.weights_sha256 != found.weights_sha256


def test_a_hash_is_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, reads = tmp_path / "file", []
    monkeypatch.setattr(digest, "sha256_of", lambda path: reads.append(path) or sha256_of(path))
    path.write_bytes(b"one")
    first = digest.remembered_sha256(path)
    assert digest.remembered_sha256(path) == first == sha256_of(path)
    assert len(reads) == 1
    path.write_bytes(b"other")
    assert digest.remembered_sha256(path) == sha256_of(path) != first


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\n", "apache-2.0"),
        ("license: mit", None),
        ("---\nlicense: mit\n", None),
        ("", None),
    ],
)
def test_the_licence_is_read_from_the_head_of_the_card(tmp_path: Path, card: str, licence: str | None) -> None:
    assert licence_of(tmp_path) is None
    (tmp_path / "README.md").write_text(card)
    assert licence_of(tmp_path) == licence


@pytest.mark.parametrize(
    "name", ["smolm2-135m-instruct", "SmolLM2-135M-Instruct", "smollm2-135m", "smollm2-135m-instruct "]
)
def test_a_misspelt_name_gets_the_right_one(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        resolve_base(name, ignore)
    assert f"did you mean `{EMBEDDED}`" in str(caught.value)


def test_what_is_not_there_is_an_error_with_the_nearest_name(folder: Path) -> None:
    for missing in (folder.parent / "lama", folder.parent / "lama.gguf"):
        with pytest.raises(ModelError, match="there is no such") as caught:
            resolve_base(str(missing), ignore)
        assert "llama" in str(caught.value.hint) or missing.suffix == ".gguf"
    for odd in ("", "a b", "../x", "a/b/c", "$(touch x)", "-h", "http://x/y"):
        with pytest.raises(ModelError):
            resolve_base(odd, ignore)


@pytest.mark.parametrize("name", ["", "~nobody-of-this-name/model", "a" * 5000, "./zero\0byte"])
def test_what_can_be_no_name_is_one_error(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        resolve_base(name, ignore)
    assert caught.value.hint


def test_a_filled_cache_may_be_read_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, content: str) -> None:
        raise ResourceError("cannot write here", where={"path": path})

    for module in (digest, probe):
        monkeypatch.setattr(module, "write_atomic", refused)
    assert resolve_base(str(folder), ignore).weights_sha256


def _alive() -> list[threading.Thread]:
    for one in threading.enumerate():
        if isinstance(one, threading.Timer):
            one.join(1)
    return [one for one in threading.enumerate() if one.is_alive()]


def test_ctrl_c_leaves_no_child_behind() -> None:
    def pressed(line: str) -> None:
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        words = ["-n", "1", "-s", "print('begun', flush=True)", "import time; time.sleep(60)"]
        child.run_child("timeit", words, what="slow", seconds=60, on_line=pressed)
    assert time.monotonic() - started < 20 and not any(isinstance(one, threading.Timer) for one in _alive())


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04 zip", b"\x80\x04 pickle"])
def test_a_file_that_is_no_gguf_is_refused_at_once(tmp_path: Path, content: bytes) -> None:
    for name in ("model.gguf", "model.bin"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError):
            resolve_base(str(tmp_path / name), ignore)


@pytest.mark.parametrize("body", [b"\xff" * 500, b"\x03\0\0\0" + b"\xff" * 16])
def test_gguf_garbage_ends_in_the_child_and_leaves_nothing(tmp_path: Path, cache: Path, body: bytes) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + body)
    with pytest.raises(ModelError, match="cannot be used") as caught:
        resolve_base(str(tmp_path / "model.gguf"), ignore)
    assert caught.value.why and "model.gguf" in str(caught.value)
    assert not [entry for entry in (cache / "models").iterdir() if entry.is_dir()]


def test_a_gguf_of_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "martian")
    writer.add_name("martian")
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    with pytest.raises(ModelError) as caught:
        resolve_base(str(tmp_path / "model.gguf"), ignore)
    assert "martian" in str(caught.value.why)


def write_gguf(path: Path, *, chat_template: str | None = None) -> None:
    """Write a Llama of one layer, as llama.cpp would, with the tiny tokenizer."""
    tokenizer, random = tiny_tokenizer(), np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_license("mit")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(tokenizer))
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    writer.add_token_merges(["h e", "i n"])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    if chat_template:
        writer.add_chat_template(chat_template)
    shapes = {
        "token_embd": (len(tokens), 32),
        "blk.0.attn_q": (32, 32),
        "blk.0.attn_k": (16, 32),
        "blk.0.attn_v": (16, 32),
    }
    shapes |= {"blk.0.attn_output": (32, 32), "blk.0.ffn_gate": (64, 32), "blk.0.ffn_up": (64, 32)}
    shapes |= {"blk.0.ffn_down": (32, 64), "blk.0.attn_norm": (32,), "blk.0.ffn_norm": (32,), "output_norm": (32,)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.normal(size=shape).astype(np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()


def test_a_gguf_is_converted_once_beside_nothing_that_lies_near_it(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", chat_template=tiny_tokenizer().chat_template)
    (tmp_path / "config.json").write_text('{"model_type": "alien"}')
    (tmp_path / "adapter_config.json").write_text("{}")
    events: list[Event] = []
    found = resolve_base(str(tmp_path / "tiny.gguf"), events.append)
    assert [event.kind for event in events] == ["start", *["progress"] * 4, "done"]
    assert [event.data["done"] for event in events[:-1]] == [0, 1, 2, 3, 4]
    assert found.licence == "mit"
    assert resolve_base(str(tmp_path / "tiny.gguf"), events.append).folder == found.folder
    assert len(events) == 6
    model, template = load_model(found.folder), Template(load_tokenizer(found.folder))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert template.has_chat and template.tokenizer.tokenize("the") == ["t", "he"]
    expected = np.random.default_rng(0).normal(size=(len(tiny_tokenizer()), 32)).astype(np.float32)
    assert np.array_equal(model.get_input_embeddings().weight.detach().cpu().numpy(), expected)


def test_a_child_that_takes_too_long_is_stopped() -> None:
    start = time.monotonic()
    with pytest.raises(ModelError, match="too slow") as caught:
        child.run_child("timeit", ["-n", "1", "import time; time.sleep(60)"], what="too slow", seconds=0.5)
    assert time.monotonic() - start < 20
    assert "longer than" in str(caught.value.why)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("loops", "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
        ("floods", "{{ 'x' * 2000000000 }}"),
        ("writes on and on", "{{ 'x' * 2000000 }}"),
    ],
)
def test_a_template_that_is_a_bomb_is_refused(folder: Path, name: str, source: str) -> None:
    (folder / "chat_template.jinja").write_text(source)
    with pytest.raises(ModelError, match="chat template") as caught:
        resolve_base(str(folder), ignore)
    assert caught.value.why, name


def test_a_template_is_tried_once_per_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_base(str(folder), ignore)
    monkeypatch.setattr("luthier.model.probe.run_child", lambda *_, **__: pytest.fail("tried again"))
    resolve_base(str(folder), ignore)


class Hub:
    """Stands in for the network: one model, or one error."""

    def __init__(self, folder: Path | None = None, error: Exception | None = None) -> None:
        self.folder, self.error, self.asked = folder, error, []

    def model_info(self, name: str, **_: object) -> SimpleNamespace:
        if self.error:
            raise self.error
        files = [
            SimpleNamespace(rfilename=str(p.relative_to(self.folder))) for p in self.folder.rglob("*") if p.is_file()
        ]
        return SimpleNamespace(sha="abc", siblings=files)

    def snapshot_download(self, name: str, **options: object) -> str:
        self.asked.append(options)
        if options.get("local_files_only"):
            raise LocalEntryNotFoundError("not here")
        assert options["revision"] == "abc"
        return str(self.folder)


def use(monkeypatch: pytest.MonkeyPatch, fake: Hub) -> Hub:
    monkeypatch.setattr(hub, "HfApi", lambda: fake)
    monkeypatch.setattr(hub, "snapshot_download", fake.snapshot_download)
    return fake


def test_from_the_hub_come_only_safetensors_and_small_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pytorch_model.bin", "modeling_own.py", "consolidated.safetensors", "onnx/model.onnx", "onnx/x.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    fake = use(monkeypatch, Hub(folder))
    assert resolve_base("org/llama", ignore).folder == folder
    wanted = sorted({str(name) for options in fake.asked for name in options["allow_patterns"]})
    assert "model.safetensors" in wanted and "config.json" in wanted
    assert not [name for name in wanted if name.endswith((".bin", ".py", ".onnx")) or "/" in name or "consol" in name]
    assert not [name for name in fake.asked[0]["allow_patterns"] if name.endswith(".safetensors")], "small files first"


def test_a_hub_model_with_pickles_only_or_foreign_code_is_refused_before_its_weights_are_fetched(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = use(monkeypatch, Hub(folder))
    (folder / "config.json").write_text('{"model_type": "alien", "auto_map": {}}')
    with pytest.raises(ModelError, match="code from its repository"):
        resolve_base("org/alien", ignore)
    assert len(fake.asked) == 1
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="not safetensors"):
        resolve_base("org/old", ignore)
    assert len(fake.asked) == 1


def test_the_hub_id_of_the_embedded_model_is_no_misspelling(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Hub(folder))
    assert resolve_base(base.EMBEDDED_HUB_ID, ignore).folder == folder


def refused(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    return kind(f"{status} error\nmore", response=SimpleNamespace(status_code=status, headers={}, request=None))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (refused(RepositoryNotFoundError, 404), "HF_TOKEN"),
        (refused(GatedRepoError, 403), "accept its licence"),
        (refused(HfHubHTTPError, 500), "cannot be reached"),
        (ConnectionError("no route"), "no route"),
    ],
)
def test_what_the_hub_refuses_says_what_to_do(monkeypatch: pytest.MonkeyPatch, error: Exception, words: str) -> None:
    use(monkeypatch, Hub(error=error))
    with pytest.raises(ModelError) as caught:
        resolve_base("org/model", ignore)
    assert words in str(caught.value) and caught.value.hint


def test_without_its_package_the_embedded_model_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "EMBEDDED_PACKAGE", "no_such_package")
    use(monkeypatch, Hub(error=ConnectionError("no route")))
    with pytest.raises(ModelError, match="not installed") as caught:
        resolve_base(EMBEDDED, ignore)
    assert "make install" in str(caught.value.hint)


def test_a_damaged_embedded_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake_package").mkdir()
    (tmp_path / "fake_package" / EMBEDDED_FILE).write_bytes(b"GGUF, but another")
    (tmp_path / "fake_package" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(base, "EMBEDDED_PACKAGE", "fake_package")
    with pytest.raises(ModelError, match="damaged"):
        resolve_base(EMBEDDED, ignore)


@pytest.mark.embedded
def test_the_embedded_model_resolves_quickly_the_second_time_and_trains_its_end_of_turn() -> None:
    resolve_base(EMBEDDED, ignore)
    start = time.monotonic()
    found = resolve_base(EMBEDDED, ignore)
    assert time.monotonic() - start < 2
    assert found.licence == "apache-2.0" and found.folder.name == base.EMBEDDED_SHA256
    tokenizer = load_tokenizer(found.folder)
    template = Template(tokenizer)
    assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>" and tokenizer.model_max_length == 8192
    talk = Example(messages=(Message(role="user", content="Hi, Zoë"), Message(role="assistant", content="Ahoj 12")))
    encoded = template.encode(talk)
    text = tokenizer.decode(encoded.ids)
    assert text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi, Zoë<|im_end|>\n<|im_start|>assistant\nAhoj 12<|im_end|>"
    )
    assert encoded.ids == tokenizer.encode(text, add_special_tokens=False)
    trained = [token for token, target in zip(encoded.ids, encoded.targets, strict=True) if target]
    assert tokenizer.decode(trained) == "Ahoj 12<|im_end|>" and trained[-1] == template.pad_id
    assert template.prompt_ids(talk) == encoded.ids[: encoded.prompt_tokens]
    assert template.stop_ids == {tokenizer.eos_token_id}
