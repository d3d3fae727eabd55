import json
from pathlib import Path

import pytest

from luthier.core.artifacts import Base
from luthier.jobs.facts import gather, model_facts
from luthier.model.adapter import is_linear
from luthier.model.tiny import FAMILIES, save_tiny, tiny_model
from luthier.recipe import Recipe


def base_of(folder: Path, family: str) -> Base:
    return Base(name="tiny", folder=save_tiny(folder / family, family), weights_sha256="x")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_is_known_by_its_config(family: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    facts = model_facts(Recipe(data={"path": "x"}), base_of(tmp_path, family))
    names = {name.rsplit(".", 1)[-1] for name, part in model.named_modules() if is_linear(part)}
    assert facts.parameters == model.num_parameters() and facts.context_tokens == 512 and facts.layers >= 2
    assert set(facts.linear_layers) == names - {"lm_head"}
    assert 300 * facts.hidden > facts.activation_bytes_per_token / facts.layers > facts.hidden


def test_rows_are_looked_at_and_counted(tmp_path: Path) -> None:
    rows = [{"text": f"word {i}", "label": "ab"[i % 2]} for i in range(50)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = Recipe(data={"path": str(tmp_path / "rows.jsonl"), "split": {"validation": 0.2, "test": 0.2}})
    facts = gather(recipe, base_of(tmp_path, "llama"), lambda event: None)
    assert facts.data.rows == 30 and facts.data.labels == 2 and facts.data.answer_kind == "closed"
    assert facts.data.complete and 0 < facts.data.longest_answer_tokens < facts.data.longest_tokens
    assert facts.machine.cores >= 1 and facts.machine.fast_dtype_because


def test_a_row_that_the_template_refuses_does_not_stop_the_look(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(
        '{"prompt": "a", "completion": "b"}\n' * 3 + '{"prompt": "\\ud800", "completion": "b"}\n'
    )
    recipe = Recipe(data={"path": str(tmp_path / "rows.jsonl")})
    assert gather(recipe, base_of(tmp_path, "llama"), lambda event: None).data.longest_tokens > 1
