"""Several LoRAs become one: exactly where the way is exact, repeatably where it draws, and refused in words."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.model.adapters import push

from luthier.core.errors import LuthierError, ModelError, RecipeError
from luthier.jobs.compose import Asked, compose_adapters, weights_of
from luthier.model.adapter import load_tuned, merge
from luthier.model.adapters.ia3 import Ia3Spec
from luthier.model.adapters.lora import LoraSpec
from luthier.model.load import load_model
from luthier.model.tiny import save_tiny
from luthier.serve.adapters import why_not_beside

IDS = torch.randint(0, 200, (2, 24), generator=torch.Generator().manual_seed(0))


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=IDS).logits


def silent(event: object) -> None:
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A base, and adapters of it that differ in rank, scale and layers."""
    folder = tmp_path_factory.mktemp("adapters")
    base = save_tiny(folder / "base", "llama")
    specs = {
        "small": LoraSpec(r=2, rslora=True),
        "large": LoraSpec(r=4, target_modules=("q_proj", "down_proj")),
        "alike": LoraSpec(r=2),
        "other": Ia3Spec(),
    }
    for name, spec in specs.items():
        adapter = spec.build()
        model = adapter.attach(load_model(base), seed=len(name))
        push(model)
        (folder / name).mkdir()
        adapter.save(model, folder / name, base_model=str(base))
    for name in ("elsewhere", "damaged"):
        shutil.copytree(folder / "small", folder / name)
    config = folder / "elsewhere" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "of/others"}))
    weights = folder / "damaged" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return base, {name: str(folder / name) for name in (*specs, "elsewhere", "damaged")}


def summed(base: Path, folders: list[str], weights: list[float]) -> torch.nn.Module:
    """Return the base with the weighted sum of what each adapter adds to its weights."""
    plain, model = load_model(base), load_model(base)
    with torch.no_grad():
        for folder, times in zip(folders, weights, strict=True):
            merged = dict(merge(load_tuned(base, Path(folder))).named_parameters())
            for (name, weight), start in zip(model.named_parameters(), plain.parameters(), strict=True):
                weight += times * (merged[name] - start)
    return model


@pytest.mark.parametrize(("how", "rank"), [("cat", None), ("svd", 6)])
def test_the_sum_is_exact(how: str, rank: int | None, made, tmp_path: Path) -> None:
    base, folders = made
    some = [folders["small"], folders["large"]]
    asked = Asked(tuple(some), tmp_path / "out", weights=(0.7, -0.3), how=how, rank=rank)
    found = compose_adapters(asked, silent)
    assert (found.rank, found.base_model) == (6, str(base))
    composed = load_tuned(base, tmp_path / "out")
    assert torch.allclose(logits(composed), logits(summed(base, some, [0.7, -0.3])), atol=1e-5)
    assert not torch.allclose(logits(composed), logits(load_model(base)), atol=1e-3)
    assert why_not_beside(tmp_path / "out") is None
    told = json.loads((tmp_path / "out" / "made_of.json").read_text())
    assert [one["weight"] for one in told["made_of"]] == [0.7, -0.3] and told["how"] == how


@pytest.mark.parametrize("how", ["ties_svd", "dare_linear_svd", "dare_ties", "ties", "linear"])
def test_ways_that_draw_give_the_same_again(how: str, made, tmp_path: Path) -> None:
    base, folders = made
    pair = ("small", "large") if how.endswith("svd") else ("small", "alike")
    some = tuple(folders[name] for name in pair)
    density = None if how == "linear" else 0.6
    seen = []
    for name in ("one", "two"):
        compose_adapters(Asked(some, tmp_path / name, how=how, density=density), silent)
        seen.append(logits(load_tuned(base, tmp_path / name)))
    assert torch.equal(*seen) and seen[0].isfinite().all()
    if density:
        compose_adapters(Asked(some, tmp_path / "whole", how=how, density=1.0), silent)
        assert not torch.allclose(seen[0], logits(load_tuned(base, tmp_path / "whole")), atol=1e-5)


@pytest.mark.parametrize(
    ("names", "changes", "told"),
    [
        (["small"], {}, "two adapters or more"),
        (["small", "large"], {"weights": (1.0,)}, "1 weights for 2 adapters"),
        (["small", "large"], {"weights": (0.0, 0.0)}, "not all 0"),
        (["small", "large"], {"how": "mean"}, "no way `mean`"),
        (["small", "large"], {"density": 0.5}, "`--density` means nothing to `cat`"),
        (["small", "large"], {"how": "ties", "density": 1.5}, "at most 1"),
        (["small", "large"], {"rank": 3}, "`--rank` means nothing to `cat`"),
        (["small", "large"], {"how": "linear"}, "cannot be composed so"),
        (["small", "other"], {}, "is no plain LoRA"),
        (["small", "nowhere"], {}, "nowhere"),
        (["small", "elsewhere"], {}, "not of one base"),
        (["small", "damaged"], {}, "cannot be loaded"),
        (["small", "large"], {"how": "svd", "rank": 17}, "only rank 16"),
    ],
)
def test_what_cannot_be_is_refused_in_words(names: list[str], changes: dict, told: str, made, tmp_path: Path) -> None:
    adapters = tuple(made[1].get(name, name) for name in names)
    with pytest.raises(LuthierError) as refused:
        compose_adapters(Asked(adapters, tmp_path / "out", **changes), silent)
    assert told in str(refused.value) and refused.value.hint
    assert isinstance(refused.value, RecipeError | ModelError) and not (tmp_path / "out").exists()


def test_a_folder_that_exists_is_kept(made, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="already"):
        compose_adapters(Asked((made[1]["small"], made[1]["large"]), tmp_path), silent)


def test_weights_are_read_from_a_text() -> None:
    assert weights_of(None) is None and weights_of("0.7, -0.3") == (0.7, -0.3)
    with pytest.raises(RecipeError, match="no weights"):
        weights_of("much,little")
