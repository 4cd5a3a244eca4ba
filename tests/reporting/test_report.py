from __future__ import annotations

import html.parser
import json
import pathlib
import re
import shutil

import pytest

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.reporting import report
from tests.reporting.fake_run import NASTY, FakeRun


class Page(html.parser.HTMLParser):
  """What a browser would make of the page."""

  def __init__(self, text: str):
    super().__init__()
    self.tags: list[tuple[str, dict[str, str | None]]] = []
    self.texts: list[str] = []
    self.open: list[str] = []
    self.tables: dict[str | None, list[list[str]]] = {}
    self.feed(text)
    self.text = " ".join(" ".join(self.texts).split())

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    if tag not in ("meta", "img", "source", "br"):
      self.open.append(tag)
    if tag == "table":
      self.rows = self.tables.setdefault(dict(attrs).get("id"), [])
    if tag == "tr":
      self.rows.append([])
    if tag in ("td", "th"):
      self.rows[-1].append("")

  def handle_endtag(self, tag):
    assert self.open.pop() == tag, f"</{tag}> closes something else"

  def handle_data(self, data):
    if "style" in self.open:
      return
    self.texts.append(data)
    if {"td", "th"} & set(self.open):
      self.rows[-1][-1] = f"{self.rows[-1][-1]} {data.strip()}".strip()


def text_of(workdir: pathlib.Path) -> str:
  return (workdir / "report" / "index.html").read_text()


@pytest.fixture(scope="module")
def page(reported) -> Page:
  return Page(text_of(reported))


def test_is_well_formed_and_says_all(page):
  assert page.open == []
  for heading in (
    "Distillation worked",
    "Held-out inputs",
    "What was believed",
    "What was learnt",
    "The same question, before and after",
    "Some of the thinking",
    "s2d pipeline --config=CONFIG --workdir=fake",
    "kept 103 of 200 train inputs (52 %)",
    '"min_margin": 0.4',
    "jax",
  ):
    assert heading in page.text, heading
  stages = [row[0] for row in page.tables[None]]
  assert stages == ["stage", "prepare", "sample", "curate"]


def test_needs_nothing_but_itself(reported, page):
  loading = ("src", "srcset", "href", "data", "poster", "action", "background")
  for tag, attributes in page.tags:
    assert tag not in ("script", "link", "iframe", "object", "base", "form")
    for name in loading:
      if name in attributes:
        assert attributes[name].startswith("data:image/png;base64,")
    assert not [name for name in attributes if name.startswith("on")]
  (style,) = re.findall(r"<style>(.*?)</style>", text_of(reported), re.DOTALL)
  assert "url(" not in style and "@import" not in style
  policies = [
    attributes["content"]
    for tag, attributes in page.tags
    if attributes.get("http-equiv") == "Content-Security-Policy"
  ]
  assert policies and policies[0].startswith("default-src 'none'")


def test_a_picture_for_light_and_one_for_dark(reported, page):
  names = {"accuracy", "tokens", "margins", "thresholds", "training"}
  files = {path.name for path in (reported / "report").glob("*.png")}
  assert files == {f"{n}{d}.png" for n in names for d in ("", "-dark")}
  for file in files:
    png = (reported / "report" / file).read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
  pictures = [attributes for tag, attributes in page.tags if tag == "img"]
  assert len(pictures) == len(names)
  assert all(attributes["alt"] for attributes in pictures)
  dark = [attributes for tag, attributes in page.tags if tag == "source"]
  assert [a["media"] for a in dark] == ["(prefers-color-scheme: dark)"] * 5


@pytest.mark.parametrize("text", NASTY)
def test_what_a_model_says_is_only_text(workdir, text):
  """Everywhere that text of a model, a data set or a config can come from."""
  nasty = {
    "examples/test.jsonl": ("inputs", {"question": text}),
    "distill/train.jsonl": ("target", text),
    "distill/rejected.jsonl": ("votes", {text: 2}),
  }
  for name, (field, value) in nasty.items():
    rows = [row | {field: value} for row in records.read(workdir / name)]
    records.write(workdir / name, rows)
  for name in ("base", "distilled"):
    rows = list(records.read(workdir / "eval" / f"{name}.jsonl"))
    for row in rows:
      row["passes"][0]["text"] = text
    records.write(workdir / "eval" / f"{name}.jsonl", rows)
  (part,) = (workdir / "samples" / "s2a").iterdir()
  rows = list(records.read(part))
  for row in rows:
    row["answer"] = text
    row["steps"][0]["prompt"] = row["steps"][1]["text"] = text
  records.write(part, rows)
  config = json.loads((workdir / "config.json").read_text())
  config["model"]["name"] = config["method"] = text
  (workdir / "config.json").write_text(json.dumps(config))
  report.build(workdir)
  page = Page(text_of(workdir))
  assert page.open == []
  assert page.text.count(" ".join(text.split())) > 20
  tags = [tag for tag, _ in page.tags]
  assert "script" not in tags
  assert (tags.count("img"), tags.count("b")) == (5, 4)  # the page's own
  assert all("onerror" not in attributes for _, attributes in page.tags)


def test_the_table_holds_the_figures_of_results_json(reported, page):
  rows = json.loads((reported / "report" / "results.json").read_text())
  head, *body = page.tables["results"]
  ways = {
    "System 1": ("base", "system1"),
    "System 2, one pass": ("base", "s2a"),
    "System 2, vote": ("base", "s2a_vote"),
    "Distilled": ("distilled", "system1"),
  }
  splits = ["plain", "suggests_wrong", "suggests_right", "denies_right"]
  assert [name.replace(" ", "_") for name in head[1:5]] == splits
  assert [line[0] for line in body] == list(ways)
  for line in body:
    wanted = [("accuracy", split) for split in splits]
    wanted.append(("repeats_suggestion", "suggests_wrong"))
    tokens = []
    for shown, (metric, split) in zip(line[1:6], wanted, strict=True):
      (row,) = [
        row
        for row in rows
        if (row["model"], row["method"]) == ways[line[0]]
        and (row["metric"], row["split"]) == (metric, split)
      ]
      low, high = 100 * row["ci_low"], 100 * row["ci_high"]
      assert shown == f"{100 * row['value']:.1f} {low:.0f}–{high:.0f}"
      tokens.append(row["tokens_per_example"])
    assert line[6] == f"{sum(tokens[:4]) / 4:.1f}"


def test_results_json_are_rows_of_the_agreed_form(reported):
  rows = json.loads((reported / "report" / "results.json").read_text())
  for row in rows:
    assert list(row) == [
      "task",
      "split",
      "model",
      "method",
      "metric",
      "value",
      "ci_low",
      "ci_high",
      "n",
      "tokens_per_example",
    ]
    assert 0 <= row["ci_low"] <= row["value"] <= row["ci_high"] <= 1
    assert (row["task"], row["n"]) == ("sycophancy", 48)
  names = [(r["model"], r["method"], r["split"], r["metric"]) for r in rows]
  assert len(set(names)) == len(names) == 4 * (1 + 3 * 3)


def test_the_counts_of_what_was_kept(reported, page):
  kept = [
    row["variant"]
    for split in ("train", "valid")
    for row in records.read(reported / "distill" / f"{split}.jsonl")
  ]
  rejected = [
    (row["variant"], row["reason"])
    for row in records.read(reported / "distill" / "rejected.jsonl")
  ]
  _, *body, total = page.tables["curation"]
  reasons = ("unparsable", "tie", "margin", "disagrees")
  for line in body:
    variant = line[0].replace(" ", "_")
    assert line[1:7] == [
      "60",
      str(kept.count(variant)),
      *(str(rejected.count((variant, reason))) for reason in reasons),
    ]
  assert total[:3] == ["all", "240", str(len(kept))]


def test_markdown_has_the_same_table(reported, page):
  lines = (reported / "report" / "results.md").read_text().splitlines()
  body = [line for line in lines if line.startswith("| ")][2:]
  shown = [
    [cell.strip().replace("[", "").replace("]", "") for cell in row]
    for row in (line.strip("|").split("|") for line in body)
  ]
  assert shown == page.tables["results"][1:]


@pytest.mark.parametrize(
  "missing, gone",
  [
    (["metrics"], "What was learnt"),
    (["samples"], "step by step"),
    (["distill"], "What was believed"),
    (["eval/distilled.jsonl"], "before and after"),
    (["eval"], "Held-out inputs"),
    (["examples"], "right, kept"),
    (["config.json"], "every setting"),
    (["done"], "outcome"),
    (["eval", "distill", "metrics", "samples", "done"], "Held-out"),
  ],
)
def test_what_is_missing_is_left_out(workdir, reported, missing, gone):
  assert gone in Page(text_of(reported)).text
  for name in missing:
    path = workdir / name
    if path.is_dir():
      shutil.rmtree(path)
    else:
      path.unlink()
  report.build(workdir)
  page = Page(text_of(workdir))
  assert page.open == []
  assert gone not in page.text
  assert "How to run it again" in page.text


def test_built_twice_is_the_same(workdir, reported):
  report.build(workdir)
  for path in (workdir / "report").iterdir():
    wanted = (reported / "report" / path.name).read_bytes()
    found = path.read_bytes().replace(b"--workdir=run", b"--workdir=fake")
    assert found == wanted, path.name


def test_says_so_when_it_did_not_work(tmp_path):
  harmed = dict.fromkeys(FakeRun().distilled, 0.0)
  workdir = FakeRun(distilled=harmed).write(tmp_path)
  base = [
    row | {"metrics": row["metrics"] | {"accuracy": 1.0}}
    for row in records.read(workdir / "eval" / "base.jsonl")
  ]
  records.write(workdir / "eval" / "base.jsonl", base)
  report.build(workdir)
  assert "Distillation did harm" in Page(text_of(workdir)).text


def test_a_task_without_those_forms(workdir):
  for path in [
    *(workdir / "eval").iterdir(),
    *(workdir / "distill").iterdir(),
  ]:
    rows = [r for r in records.read(path) if r["variant"] == "plain"]
    records.write(path, [row | {"variant": "only"} for row in rows])
  report.build(workdir)
  page = Page(text_of(workdir))
  assert "on “only” inputs" in page.text
  assert page.tables["results"][0] == ["", "only", "tokens an answer"]


def test_labels_that_are_no_text_are_not_compared(workdir):
  for split in ("train", "valid"):
    path = workdir / "examples" / f"{split}.jsonl"
    rows = [row | {"label": {"name": "x"}} for row in records.read(path)]
    records.write(path, rows)
  report.build(workdir)
  assert "right, kept" not in Page(text_of(workdir)).text


def test_no_workdir_and_damaged_files_are_named(workdir, tmp_path):
  with pytest.raises(UserError, match="holds no run"):
    report.build(tmp_path / "nowhere")
  rows = list(records.read(workdir / "eval" / "base.jsonl"))
  del rows[4]["metrics"]
  records.write(workdir / "eval" / "base.jsonl", rows)
  with pytest.raises(UserError, match="base.jsonl, record 5 .*'metrics'"):
    report.build(workdir)
