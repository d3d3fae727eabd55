"""The table of peers' vulnerabilities: what happened to them, and what is shown here; one test a row."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One thing that happened to a peer."""

    product: str
    ids: tuple[str, ...]
    """CVE numbers without their prefix; other advisories under their own names."""
    happened: str
    shown: str

    @property
    def words(self) -> tuple[str, ...]:
        """What the test's name must contain."""
        return tuple(name.lower().replace("-", "_") for name in self.ids)


ROWS = (
    Row(
        "LLaMA-Factory",
        ("2024-52803",),
        "`output_dir` went into a shell",
        "no shell in the source; 1,000 payloads in every text field start no process",
    ),
    Row(
        "LLaMA-Factory",
        ("2025-46567", "2025-53002"),
        "`.bin` weights and a value head were unpickled",
        "pickles are refused by name before they are opened",
    ),
    Row(
        "LLaMA-Factory",
        ("eee6e6293", "e110e4bb4"),
        "the chat API fetched addresses and local files",
        "an address in any field is never fetched; pictures are refused",
    ),
    Row(
        "LLaMA-Factory",
        ("2026-58116",),
        "a model path from the web ran the model's code",
        "the switch exists nowhere; code of a repository is refused",
    ),
    Row(
        "Axolotl",
        ("2026-86169",),
        "the guard was passed because a switch was None",
        "there is no switch: each spelling of it in a recipe is an unknown key",
    ),
    Row("transformers", ("2023-6730", "2024-3568"), "pickles in loading", "safetensors only"),
    Row(
        "transformers",
        ("2026-1839",),
        "a random state was unpickled on resume",
        "checkpoints hold safetensors and JSON; a pickle beside them is never opened",
    ),
    Row(
        "transformers",
        ("2026-4372",),
        "`_attn_implementation_internal` in config.json fetched code",
        "unknown private keys are refused; floor 5.3",
    ),
    Row(
        "torch",
        ("2025-32434", "2026-24747", "2026-4538"),
        "`weights_only` was no protection",
        "torch.load is not called at all; floor 2.11",
    ),
    Row("DeepSpeed", ("2024-43497",), "a command was put together from text", "not installed; argument lists only"),
    Row(
        "vLLM",
        ("2024-9053", "2025-32444"),
        "pickles over sockets on all interfaces",
        "the service speaks JSON, and listens on the loopback only",
    ),
    Row(
        "vLLM",
        ("2026-27893",),
        "Nemotron's `auto_map` ran code though it was forbidden",
        "an `auto_map` of a config, a tokenizer or an adapter never runs",
    ),
    Row(
        "vLLM",
        ("2026-115911", "2026-115918"),
        "a template of a request or a model rendered for ever or ate memory",
        "requests bring no templates; a model's is rendered in a child with limits",
    ),
    Row(
        "SGLang",
        ("2026-3059", "2026-14890", "2026-86793", "2026-93034", "2026-93088"),
        "five pickles in network messages",
        "the server's own code and its wire formats know no pickle",
    ),
    Row("Ray", ("2023-48022", "2023-48023"), "a jobs API without a key", "Ray is absent; every route wants a key"),
    Row("Ray", ("2025-62593",), "DNS rebinding", "hosts and origins are allow-lists on every route"),
    Row(
        "MLflow",
        ("2023-6976", "2026-2033", "2026-2614", "2026-53995"),
        "traversal in ids and names",
        "1,000 payloads in every text field open nothing outside the home",
    ),
    Row(
        "MLflow",
        ("2026-0545", "2026-2652"),
        "the check of keys did not cover the job routes",
        "every route of the application answers 401",
    ),
    Row("MLflow", ("2026-64849",), "SSRF by webhook", "there are no webhooks"),
    Row(
        "Gradio",
        ("2023-51449", "2024-1728", "2024-47164", "2026-28414", "2026-49119"),
        "traversal in file routes",
        "a route gives files by their id only, encoded however",
    ),
    Row(
        "Gradio",
        ("2024-1727", "2024-47084", "2024-47165"),
        "uploads by foreign pages; `null` as an origin",
        "foreign origins are refused on every method and content type",
    ),
    Row(
        "text-generation-webui",
        ("2025-12488", "2026-35050"),
        "code by a switch of the API; settings written as files",
        "no field of the API names a switch, a setting or a path",
    ),
    Row(
        "Ollama",
        ("2024-28224", "2024-37032", "2024-45436", "2026-103663", "2026-108836"),
        "rebinding; traversal in digests; unpacked archives; SSRF on pull",
        "ids have one shape, archives are refused, nothing is pulled",
    ),
    Row(
        "llama-cpp-python",
        ("2024-34359",),
        "a template ran outside a sandbox",
        "the sandbox holds, in a process of its own",
    ),
    Row(
        "llama.cpp",
        ("2024-21802", "2024-23605", "2025-53630", "2026-27940", "2026-33298"),
        "overflows in parsing GGUF",
        "the service takes none; the command line parses it in a child with limits",
    ),
    Row(
        "ONNX",
        ("2025-51480", "2026-27489", "2026-34446", "2026-34447", "VA-26-233-01"),
        "external data outside the folder",
        "ONNX is not read; an index of weights names files of its own folder only",
    ),
    Row(
        "Starlette",
        ("2024-47874", "2025-54121", "2025-62727"),
        "forms in memory, blocking, ranges",
        "floors; forms are bounded in time and memory; ranges are not served",
    ),
    Row(
        "picklescan",
        ("2025-1716", "2025-1889", "2025-713xx"),
        "lists of bad names leak",
        "formats are allow-listed by name and by content; nothing is scanned",
    ),
    Row("lightning", ("2026-37572",), "checkpoints were unpickled", "`.ckpt` is refused, and is not installed"),
)
