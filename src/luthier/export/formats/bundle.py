"""`bundle`: the merged model with what another machine needs to run it: licence, example, requirements, Dockerfile."""

import importlib.metadata
from pathlib import Path

from luthier.export.formats.merged import build as build_merged
from luthier.export.spec import Form

RUN = '''"""Ask the model: python run.py "your message"."""

import sys
from pathlib import Path

from transformers import pipeline

ask = pipeline("text-generation", model=str(Path(__file__).parent / "model"), dtype="float32")
message = [{"role": "user", "content": " ".join(sys.argv[1:])}]
print(ask(message, max_new_tokens=256, do_sample=False)[0]["generated_text"][-1]["content"])
'''
DOCKERFILE = """FROM python:3.12-slim
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY model model
COPY run.py LICENCE.md README.md manifest.json ./
ENV HF_HUB_OFFLINE=1
ENTRYPOINT ["python", "run.py"]
"""
NEEDED = ("torch", "transformers", "accelerate")


def build(merged: Path, out: Path, *, name: str, licence: str | None, base_model: str) -> None:
    """Write `model/`, `run.py`, `requirements.txt`, `Dockerfile` and `LICENCE.md`; the card and manifest come last."""
    (out / "model").mkdir()
    build_merged(Form(name="merged"), merged, out / "model")
    (out / "run.py").write_text(RUN, encoding="utf-8")
    # A local build (`+cpu`) is no version that others can install.
    versions = [f"{package}=={importlib.metadata.version(package).partition('+')[0]}" for package in NEEDED]
    (out / "requirements.txt").write_text("\n".join(versions) + "\n", encoding="utf-8")
    (out / "Dockerfile").write_text(DOCKERFILE, encoding="utf-8")
    told = f"`{licence}`" if licence else "not named by its model card: look it up before you pass this on"
    text = (
        f"# Licence of {name}\n\nThis model was tuned from {base_model}. The licence of that model: {told}.\n"
        "It goes with the weights; what the training rows allow is for their owner to say.\n"
    )
    (out / "LICENCE.md").write_text(text, encoding="utf-8")
