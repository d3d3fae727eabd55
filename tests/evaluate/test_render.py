"""The readable reports: complete, self-contained, safe with hostile answers, and as in the snapshot."""

import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.evaluate import made

from luthier.core.artifacts import Estimate, Report, SystemResult
from luthier.evaluate.curves import Curves
from luthier.evaluate.render import write_reports
from luthier.evaluate.table import table_rows

SNAPSHOT = Path(__file__).parent / "snapshots" / "report.txt"
VOID = {"meta", "line", "circle", "polyline", "br"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluate")
    write_reports(made.report(), made.samples(), made.CURVES, out, facts=made.FACTS)
    return out


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_whole(html: str) -> None:
    page = Page(html)
    assert page.open == []
    assert page.tags.count("svg") == 4 + 4
    assert page.tags.count("table") == 1 + len(made.RIGHT) + 1
    text = "".join(page.texts)
    assert made.report().conclusion in text
    for system in made.RIGHT:
        assert system in page.texts
    for value in made.FACTS.values():
        assert value in page.texts


def test_the_page_asks_nobody_for_anything(html: str) -> None:
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "embed", "form", "base", "a", "use"} & set(page.tags)
    assert not {"src", "href", "srcset", "action", "xlink:href"} & {name for name, _ in page.attributes}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "http:" not in html and "https:" not in html and "url(" not in html and "@import" not in html
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_hostile_answers_stay_text(html: str) -> None:
    page = Page(html)
    assert any(made.HOSTILE in text for text in page.texts)
    assert "<script" not in html and "<img" not in html
    assert html.count("<pre>") == html.count("</pre>") > 0


def test_hostile_names_stay_text_everywhere(tmp_path: Path) -> None:
    evil = '"><script>x</script> | `y` [z](javascript:1)\nnext'
    system = SystemResult(
        name=evil,
        metrics={"accuracy": Estimate(value=0.5, low=0.4, high=0.6, n=9)},
        prompt_tokens=1,
        latency_s=1,
        stops_share=1,
        confusion={evil: {evil: 3}},
    )
    report = Report(
        folder=tmp_path,
        systems=[system],
        comparisons=[],
        primary_metric="accuracy",
        test_rows=9,
        conclusion=evil,
    )
    write_reports(report, [], Curves(), tmp_path, facts={evil: evil})
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert "script" not in page.tags
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<script|(?<!\\)\]\(", markdown)
    for line in markdown.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (3, 6)


def test_a_leading_newline_of_an_answer_is_kept(tmp_path: Path) -> None:
    samples = [made.samples()[1].model_copy(update={"prompt": "\nfirst line empty"})]
    write_reports(made.report(), samples, Curves(), tmp_path)
    assert "<pre>\n\nfirst line empty</pre>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_markdown_is_as_before(folder: Path) -> None:
    """After a wanted change run with LUTHIER_WRITE_SNAPSHOTS=1 and read the diff."""
    text = (folder / "report.md").read_text(encoding="utf-8")
    if os.environ.get("LUTHIER_WRITE_SNAPSHOTS"):
        SNAPSHOT.write_text(text, encoding="utf-8")
    assert text == SNAPSHOT.read_text(encoding="utf-8")


def test_examples_show_at_most_twenty_of_each_side(html: str, folder: Path) -> None:
    report = made.report()
    best = next(one for one in report.comparisons if one.b == "few-shot (label-scored)" and one.metric == "accuracy")
    assert (best.won, best.lost) == (16, 0)
    assert f"Rows won against few-shot (label-scored): {best.won}" in html
    assert html.count("<summary>tones.jsonl") == best.won + best.lost
    assert (folder / "report.md").read_text(encoding="utf-8").count("**tones.jsonl") == best.won + best.lost


def test_long_texts_lose_their_middle_and_say_so(tmp_path: Path) -> None:
    samples = [made.samples()[1].model_copy(update={"prompt": "a" * 2000 + "b" * 2000 + "the question"})]
    write_reports(made.report(), samples, Curves(), tmp_path)
    for name in ("report.md", "report.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "1,012 characters left out" in text
        assert "the question" in text


def test_a_report_without_baselines_curves_or_samples(tmp_path: Path) -> None:
    report = made.report(systems=("tuned",))
    write_reports(report, [], Curves(), tmp_path)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "Training" not in page.texts and "Examples" not in page.texts and "Row by row" not in page.texts
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert [line for line in markdown.splitlines() if line.startswith("#")] == [
        "# Was it worth it?",
        "## Results",
        "## Confusion",
    ]


def test_table_rows_have_the_same_columns_with_the_primary_metric_first() -> None:
    rows = table_rows(made.report())
    assert [row.system for row in rows] == list(made.RIGHT)
    assert [row.tuned for row in rows] == [False] * 4 + [True] * 2
    assert {tuple(row.cells) for row in rows} == {
        ("accuracy", "macro-F1", "format followed", "perplexity", "prompt tokens", "s/answer", "stops")
    }
    assert re.fullmatch(r"0\.\d{3} \[0\.\d{3}–[01]\.\d{3}\]", rows[0].cells["accuracy"])
    assert rows[2].cells["perplexity"] == rows[2].cells["format followed"] == "–"
