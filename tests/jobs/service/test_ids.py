import pytest

from luthier.jobs.service.ids import FORM, Id, derived_id, new_id


@pytest.mark.parametrize("prefix", ["file-", "upload_", "part_", "ftjob-", "ftevent-", "ftckpt_", "cp_", "key_"])
def test_new_ids_have_the_form_and_differ(prefix: str) -> None:
    made = {new_id(prefix) for _ in range(50)}
    assert len(made) == 50
    assert all(FORM.fullmatch(id) and id.startswith(prefix) and len(id) == len(prefix) + 24 for id in made)


def test_derived_ids_repeat_and_depend_on_every_part() -> None:
    assert derived_id("file-", "a", 1) == derived_id("file-", "a", 1)
    assert len({derived_id("file-", "a", 1), derived_id("file-", "a", 2), derived_id("file-", "b", 1)}) == 3


@pytest.mark.parametrize(
    "text",
    ["", "..", "/etc/passwd", "file-" + "a" * 23, "file-" + "A" * 24, "file-" + "a" * 24 + "\n", "file-../" + "a" * 21,
     "file-" + "a" * 25, "file-" + "é" * 24, "\0file-" + "a" * 24],
)  # fmt: skip
def test_nothing_else_is_an_id(text: str) -> None:
    with pytest.raises(ValueError, match="not an id"):
        Id(text)
