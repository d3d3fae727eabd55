"""General probes: what is priced of an answer, and that a model which knows the answers has them right."""

import pytest

from luthier.evaluate.alternatives import forgetting
from luthier.evaluate.alternatives.forgetting import general
from luthier.evaluate.alternatives.probes import QUESTIONS
from luthier.model.load import load_model, load_tokenizer
from luthier.model.scoring import RowLoss
from luthier.model.template import Template
from luthier.model.tiny import save_tiny


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Template:
    return Template(load_tokenizer(save_tiny(tmp_path_factory.mktemp("tiny") / "base", "llama")))


@pytest.mark.parametrize("probe", QUESTIONS, ids=lambda probe: probe.question)
def test_the_answer_is_priced_and_not_its_end(template, probe) -> None:
    for answer in probe.answers:
        row = forgetting._asked(template, probe.question, answer)
        priced = [token for token, target in zip(row.ids, row.targets, strict=True) if target]
        assert template.tokenizer.decode(priced).strip() == answer and not set(priced) & template.stop_ids


def test_the_likeliest_answer_is_the_model_s(template, tmp_path, monkeypatch) -> None:
    model = load_model(save_tiny(tmp_path / "base", "llama"))
    firsts = {probe.answers[0] for probe in QUESTIONS}

    def knowing(model, rows, **given) -> list[RowLoss]:
        answers = [template.tokenizer.decode([t for t, x in zip(r.ids, r.targets, strict=True) if x]) for r in rows]
        return [RowLoss(1.0 if answer.strip() in firsts else 5.0, 1) for answer in answers]

    assert 0 <= general(model, template).right <= len(QUESTIONS)
    monkeypatch.setattr(forgetting, "row_losses", knowing)
    assert general(model, template).right == len(QUESTIONS)
