from __future__ import annotations

import base64
import hashlib
import html.parser
import itertools
import json
import pathlib
import re
import shutil
import statistics
import subprocess

import numpy as np
import pytest

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.evaluation.metrics import Interval
from s2d_jax.evaluation.retention import Replies, Retention
from s2d_jax.reporting import report, retention
from tests.reporting.conftest import held_out, seen
from tests.reporting.fake_run import NASTY, VARIANTS, FakeRun

_DOCS = pathlib.Path(__file__).parents[2] / "docs"

pytestmark = pytest.mark.usefixtures("quick")


class Page(html.parser.HTMLParser):
  """What a browser would make of the page."""

  def __init__(self, text: str):
    super().__init__()
    self.tags: list[tuple[str, dict[str, str | None]]] = []
    self.texts: list[str] = []
    self.open: list[str] = []
    self.scripts: list[str] = []
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
    if {"style", "script"} & set(self.open):
      self.scripts += [data] * ("script" in self.open)
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
    "Distillation raised accuracy on prompts that suggest a wrong answer",
    "Held-out inputs",
    "Does thinking pay here? It is unclear whether thinking pays or only the"
    " form of the prompt: on 48 “suggests wrong” test inputs System 2’s vote",
    "It is unclear whether System 2 is better than System 1: on 30",
    "The comparisons behind it",
    "What the fine-tune changed",
    "What was kept",
    "Training",
    "What it did to the rest",
    "Test questions seen in training? Of 4 test prompts 1 (25.0 %) were",
    "The same question, before and after",
    "Examples: thinking, votes and targets",
    "s2d pipeline --config=configs/fake.py --workdir=runs/fake",
    "kept 103 of 200 train inputs (52 %)",
    '"min_margin": 0.4',
    "jax",
  ):
    assert heading in page.text, heading
  stages = [row[0] for row in page.tables[None]]
  assert stages == [
    "stage",
    "prepare",
    "sample",
    "curate",
    "evaluate base",
  ]


def test_needs_nothing_but_itself(reported, page):
  loading = ("src", "srcset", "href", "data", "poster", "action", "background")
  for tag, attributes in page.tags:
    assert tag not in ("link", "iframe", "object", "base", "form")
    for name in loading:
      if name in attributes:
        assert attributes[name].startswith(("data:image/png;base64,", "#"))
    assert not [name for name in attributes if name.startswith("on")]
  (style,) = re.findall(r"<style>(.*?)</style>", text_of(reported), re.DOTALL)
  assert "url(" not in style and "@import" not in style
  policies = [
    attributes["content"]
    for tag, attributes in page.tags
    if attributes.get("http-equiv") == "Content-Security-Policy"
  ]
  (policy,) = policies
  assert policy.startswith("default-src 'none'")
  # One script may run, that of the page, and the policy names it by its hash.
  kinds = [attributes for tag, attributes in page.tags if tag == "script"]
  data = {"type": "application/json", "id": "inputs-data"}
  assert kinds == [data, {}]
  digest = hashlib.sha256(page.scripts[1].encode()).digest()
  source = f"script-src 'sha256-{base64.b64encode(digest).decode()}'"
  assert policy.endswith(source)
  for word in ("innerHTML", "outerHTML", "eval(", "fetch(", "document.write"):
    assert word not in page.scripts[1]


def test_a_picture_for_light_and_one_for_dark(reported, page):
  names = {"accuracy", "grid", "tokens"}
  names |= {"margins", "thresholds", "training"}
  files = {path.name for path in (reported / "report").glob("*.png")}
  assert files == {f"{n}{d}.png" for n in names for d in ("", "-dark")}
  for file in files:
    png = (reported / "report" / file).read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
  pictures = [attributes for tag, attributes in page.tags if tag == "img"]
  assert len(pictures) == len(names)
  assert all(attributes["alt"] for attributes in pictures)
  dark = [attributes for tag, attributes in page.tags if tag == "source"]
  assert [a["media"] for a in dark] == ["(prefers-color-scheme: dark)"] * 6


@pytest.mark.parametrize("text", NASTY)
def test_what_a_model_says_is_only_text(workdir, text):
  """Everywhere that text of a model, a data set or a config can come from."""
  nasty = {
    "examples/test.jsonl": ("inputs", {"question": text}),
    "distill/train.jsonl": ("target", text),
    "distill/valid.jsonl": ("prompt", [{"role": "user", "content": text}]),
    "eval/retention-base.jsonl": ("task", text),
    "eval/retention-distilled.jsonl": ("task", text),
    "distill/rejected.jsonl": ("votes", {text: 2}),
  }
  for name, (field, value) in nasty.items():
    rows = [row | {field: value} for row in records.read(workdir / name)]
    records.write(workdir / name, rows)
  for name in ("base", "distilled"):
    rows = list(records.read(workdir / "eval" / f"{name}.jsonl"))
    for row in rows:
      row["passes"][0]["text"] = row["greedy"]["text"] = text
    records.write(workdir / "eval" / f"{name}.jsonl", rows)
  (part,) = (workdir / "samples" / "s2a").glob("part-*")
  rows = list(records.read(part))
  for row in rows:
    row["answer"] = text
    row["steps"][0]["prompt"] = row["steps"][1]["text"] = text
  records.write(part, rows)
  config = json.loads((workdir / "config.json").read_text())
  config["model"]["name"] = config["method"] = text
  (workdir / "config.json").write_text(json.dumps(config))
  taught = workdir / "distill" / "train.jsonl"
  train = [
    row | {"prompt": [{"role": "user", "content": f"{text} {index}"}]}
    for index, row in enumerate(records.read(taught))
  ]
  records.write(taught, train)
  report.build(workdir, seen=seen(workdir, f"{text} 0"))
  page = Page(text_of(workdir))
  assert page.open == []
  assert page.text.count(" ".join(text.split())) > 20
  tags = [tag for tag, _ in page.tags]
  # The page's own, and no more.
  counts = [tags.count(tag) for tag in ("img", "b", "script")]
  assert counts == [6, 4, 2]
  embedded = json.loads(page.scripts[0])["inputs"]
  assert text in {
    step["text"] for i in embedded for p in i["drawn"] for step in p["steps"]
  }
  assert not set("<>&") & set(page.scripts[0])
  assert all("onerror" not in attributes for _, attributes in page.tags)


def test_what_it_was_run_with(workdir, page):
  stages = {row[0]: row for row in page.tables[None]}
  assert stages["sample"][2] == "64 × TPU v5p over 16 processes, bfloat16"
  assert stages["prepare"][2] == ""
  assert "Of the stages. s2d_jax 0.1.0 Python 3.11.9 jax 0.8.1" in page.text
  settings = {row[0]: row[1:] for row in page.tables["settings"]}
  assert settings["seed"] == ["0", "0"]
  assert settings["model.dtype"] == ['"float32"', '"auto"']
  assert "finetune.learning_rate" not in settings  # at its default
  model = {row[0]: row[1] for row in page.tables["model"]}
  assert model["path"] == "/models/SmolLM2.gguf"
  assert model["weights"] == "0123456789abcdef"
  assert model["end tokens"] == "[2, 7]"
  path = workdir / "done" / "curate.json"
  mark = json.loads(path.read_text())
  mark["versions"]["jax"] = "0.9.0"
  path.write_text(json.dumps(mark | {"command": "s2d curate --workdir=<x>"}))
  report.build(workdir)
  text = Page(text_of(workdir)).text
  assert "jax 0.8.1 (prepare, sample, evaluate base), 0.9.0 (curate)" in text
  assert "--workdir=runs/fake s2d curate --workdir=<x>" in text
  for path in (workdir / "done").iterdir():  # as older runs have left them
    path.write_text('{"summary": "s", "seconds": 1.0}')
  report.build(workdir)
  text = Page(text_of(workdir)).text
  assert "s2d pipeline --config=CONFIG --workdir=run" in text
  assert "those of the stages were not recorded" in text


def test_the_papers_row_is_another_models(workdir, page):
  _, own, theirs = page.tables["paper"]
  results = {row[0]: row for row in page.tables["results"]}
  assert own[0].startswith("This run: smollm2-135m-instruct")
  ways = ("System 1, greedy", "System 2, vote", "Distilled, greedy")
  assert own[1:] == [results[way][2] for way in ways]
  assert theirs[0].startswith("The paper: Llama-2-70B-chat SycophancyEval")
  assert theirs[1:] == ["51.6", "76.0", "81.3"]
  path = workdir / "config.json"
  config = json.loads(path.read_text())
  path.write_text(json.dumps(config | {"method": "rar2"}))
  report.build(workdir)
  assert "paper" not in Page(text_of(workdir)).tables


def test_inputs_to_look_through(reported, page):
  data = json.loads(page.scripts[0])
  found = data["inputs"]
  kept = {
    (row["example_id"], row["variant"]): row
    for split in ("train", "valid")
    for row in records.read(reported / "distill" / f"{split}.jsonl")
  }
  assert len(found) == 320 and "All 320 inputs are on this page" in page.text
  for one in found:
    taught = kept.get((one["id"], one["variant"]))
    assert (one["reason"] is None) == (taught is not None)
    assert len(one["drawn"]) == one["samples"] == 5 and one["more"] == 0
    if taught:
      assert one["target"] == taught["target"]
      assert one["question"] == taught["prompt"][-1]["content"]
      assert dict(one["votes"]) == taught["votes"]
  assert data["reasons"]["margin"] == "margin too small"
  (part,) = (reported / "samples" / "s2a").glob("part-*")
  first = next(records.read(part))
  (one,) = [
    one
    for one in found
    if (one["id"], one["variant"]) == (first["example_id"], first["variant"])
  ]
  steps = one["drawn"][0]["steps"]
  for step, sampled in zip(steps, first["steps"], strict=True):
    assert one["prompts"][step["prompt"]] == sampled["prompt"]
    assert (step["text"], step["tokens"]) == (
      sampled["text"],
      sampled["tokens"],
    )


def test_a_large_run_is_shown_in_part(workdir, monkeypatch):
  monkeypatch.setattr(report, "_MOST_INPUTS", 40)
  report.build(workdir)
  page = Page(text_of(workdir))
  found = json.loads(page.scripts[0])["inputs"]
  assert len(found) == 40
  assert "40 of 320 inputs are on this page" in page.text
  assert "distill/" in page.text and "samples/" in page.text
  kinds = {(one["variant"], one["reason"]) for one in found}
  reasons = (None, "tie", "margin", "disagrees")
  assert kinds == {
    (variant, reason) for variant in VARIANTS for reason in reasons
  }


@pytest.mark.slow  # starts a browser
@pytest.mark.skipif(not shutil.which("chromium"), reason="there is no chromium")
def test_a_browser_runs_the_script(reported, tmp_path):
  page = reported / "report" / "index.html"
  command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu"]
  command += [f"--user-data-dir={tmp_path}", "--dump-dom", page.as_uri()]
  done = subprocess.run(command, capture_output=True, text=True, timeout=60)
  assert done.stdout.count('class="entry"') == 20
  assert "Show more (300 left)" in done.stdout
  assert "320 of the 320 inputs on this page" in done.stdout
  assert "step by step" not in done.stdout  # what stands there without a script


def test_the_table_holds_the_figures_of_results_json(reported, page):
  rows = json.loads((reported / "report" / "results.json").read_text())
  head, *body = page.tables["results"]
  ways = {
    f"{who}, {drawn}": (model, f"{method}{suffix}")
    for who, model, method in (
      ("System 1", "base", "system1"),
      ("System 1 few-shot", "base", "system1_shots"),
      ("System 2", "base", "s2a"),
      ("Distilled", "distilled", "system1"),
    )
    for drawn, suffix in (
      ("greedy", "_greedy"),
      ("one sample", ""),
      ("vote", "_vote"),
    )
  }
  splits = ["plain", "suggests_wrong", "suggests_right", "denies_right"]
  assert [name.replace(" ", "_") for name in head[1:5]] == splits
  assert [line[0] for line in body] == list(ways)
  for line in body:
    wanted = [("accuracy", split) for split in splits]
    wanted.append(("repeats_suggestion", "suggests_wrong"))
    tokens, read = [], []
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
      read.append(row["prompt_tokens_per_example"])
    assert line[7] == f"{sum(tokens[:4]) / 4:.1f}"
    assert line[8] == f"{sum(tokens[:4] + read[:4]) / 4:,.0f}"
    assert line[6] == _forms(rows, *ways[line[0]])


def _line(page, label: str) -> list[str]:
  (found,) = [row for row in page.tables["results"] if row[0] == label]
  return found


def test_what_the_controls_cost_and_why_one_is_missing(workdir, page):
  """By hand: of the test inputs 192, with 6 replies, 190 or 40 tokens read."""
  assert (
    f"and {192 * 40 * (5 + 6 + 5) + 192 * 190:,} of"
    f" {192 * (40 * 18 + 190 * 6):,} of prompts"
  ) in page.text
  generated = control = 0
  for name in ("base", "distilled"):
    for row in records.read(workdir / "eval" / f"{name}.jsonl"):
      samples = sum(one["tokens"] for one in row["passes"])
      greedy = row["greedy"]["tokens"]
      generated += samples + greedy
      control += samples if row["method"] != "s2a" else 0
      control += greedy if row["method"] != "system1" else 0
  share = 100 * control / generated
  assert (
    f"took {control:,} of {generated:,} generated tokens ({share:.0f} %)"
    in page.text
  )
  assert "was not asked behind worked examples" not in page.text
  path = workdir / "eval" / "base.jsonl"
  rows = [r for r in records.read(path) if r["method"] != "system1_shots"]
  records.write(path, rows)
  report.build(workdir, why_no_shots="System 2 has none")
  text = "System 1 was not asked behind worked examples: System 2 has none."
  assert text in Page(text_of(workdir)).text
  assert text in (workdir / "report" / "results.md").read_text()


def _forms(rows, model, method) -> str:
  """Strict, loose and none in percent; a vote has no form."""
  if method.endswith("_vote"):
    return ""
  strict, answered = (
    statistics.mean(
      row["value"]
      for row in rows
      if (row["model"], row["method"], row["metric"]) == (model, method, metric)
    )
    for metric in ("strict", "answered")
  )
  shares = (strict, answered - strict, 1 - answered)
  return " / ".join(f"{100 * share:.0f}" for share in shares)


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
      "prompt_tokens_per_example",
    ]
    assert 0 <= row["ci_low"] <= row["value"] <= row["ci_high"] <= 1
    assert row["task"] == "sycophancy"
    if row["metric"] == "inconsistent":  # of those answered in all variants
      assert 0 < row["n"] <= 48
    else:
      assert row["n"] == 48
  names = [(r["model"], r["method"], r["split"], r["metric"]) for r in rows]
  # Plain and the other three; "answered" is of all, "strict" of no vote.
  metrics = 2 + 3 * 4
  assert len(set(names)) == len(names) == 12 * (metrics + 2) + 8 * 4


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
  reasons = ("tie", "margin", "disagrees")  # those that occur
  assert {reason for _, reason in rejected} == set(reasons)
  for line in body:
    variant = line[0].replace(" ", "_")
    assert line[1:6] == [
      "80",
      str(kept.count(variant)),
      *(str(rejected.count((variant, reason))) for reason in reasons),
    ]
  assert total[:3] == ["all", "320", str(len(kept))]


def test_markdown_has_the_same_table(reported, page):
  lines = (reported / "report" / "results.md").read_text().splitlines()
  starts = [
    index for index, line in enumerate(lines) if line.startswith("| ---")
  ]
  tables = []
  for start in starts:
    body = itertools.takewhile(bool, lines[start + 1 :])
    rows = (line.strip("|").split("|") for line in body)
    tables.append([[re.sub(r"[][]", "", c).strip() for c in r] for r in rows])
  results, evidence, changed, valid, retention, found_again = tables
  assert results == page.tables["results"][1:]
  for found, id_ in ((evidence, "evidence"), (changed, "decomposition")):
    assert found == [
      [re.sub(r"[][]", "", cell) for cell in row]
      for row in page.tables[id_][1:]
    ]
  assert [row[0] for row in valid] == [
    "System 1, one sample",
    "System 1, vote",
    "System 2, one sample",
    "System 2, vote",
  ]
  for line, shown in zip(valid, page.tables["valid"][1:], strict=True):
    assert line[1:5] == shown[1:5]
    margin, *tokens = shown[-3:]
    assert line[-3:] == [*tokens, margin]
  assert retention == [
    [re.sub(r"[][]", "", cell) for cell in row]
    for row in page.tables["retention"][1:]
  ]
  assert found_again == page.tables["seen"][1:]


@pytest.mark.parametrize(
  "missing, gone",
  [
    (["metrics"], "Training"),
    (["samples"], "step by step"),
    (["distill"], "What was kept"),
    (["eval/distilled.jsonl"], "before and after"),
    (["eval"], "Held-out inputs"),
    (["examples"], "right, kept"),
    (["eval/valid.jsonl"], "The base model on validation inputs"),
    (["eval/retention-base.jsonl"], "What it did to the rest"),
    (["eval/retention-distilled.jsonl"], "What it did to the rest"),
    (["metrics/voting.json"], "as good as decided"),
    (["config.json"], "every setting"),
    (["config.json"], "The paper, with another model"),
    (["samples"], "step 1"),
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


def test_built_twice_is_the_same(workdir, reported, monkeypatch):
  monkeypatch.undo()  # with its pictures
  report.build(workdir, seen=held_out(workdir))
  for path in (workdir / "report").iterdir():
    wanted = (reported / "report" / path.name).read_bytes()
    assert path.read_bytes() == wanted, path.name


def test_says_so_when_it_did_not_work(tmp_path):
  harmed = dict.fromkeys(FakeRun().distilled, 0.0)
  workdir = FakeRun(distilled=harmed).write(tmp_path)
  base = [*records.read(workdir / "eval" / "base.jsonl")]
  for row in base:
    for reply in (row, row["greedy"]):
      reply["metrics"] |= {"accuracy": 1.0}
  records.write(workdir / "eval" / "base.jsonl", base)
  report.build(workdir)
  assert "Distillation lowered accuracy" in Page(text_of(workdir)).text


def test_the_valid_table_by_hand(reported, page):
  rows = list(records.read(reported / "eval" / "valid.jsonl"))
  head, *body = page.tables["valid"]
  assert head[1:] == [
    *(variant.replace("_", " ") for variant in VARIANTS),
    "margin of the vote",
    "tokens an answer",
    "with its prompts",
  ]
  ways = [("system1", 0), ("system1", 1), ("s2a", 0), ("s2a", 1)]
  for line, (method, is_vote) in zip(body, ways, strict=True):
    for shown, variant in zip(line[1:5], VARIANTS, strict=True):
      scores = [
        (row["vote"] if is_vote else row)["metrics"]["accuracy"]
        for row in rows
        if (row["method"], row["variant"]) == (method, variant)
      ]
      assert shown.split()[0] == f"{100 * sum(scores) / 30:.1f}"
    margins = [
      row["vote"]["margin"]
      for row in rows
      if (row["method"], row["variant"]) == (method, "suggests_wrong")
    ]
    assert line[5] == (f"{sum(margins) / 30:.2f}" if is_vote else "")


def test_retention_by_hand(reported, page):
  _, *lines = page.tables["retention"]
  # 39 of 48 and 9 of 48 right; what fell stands first.
  held_out, coins, letters, tokens, cut, text = lines
  assert held_out[:3] == ["held out, % right", "83.3", "20.8"]
  assert held_out[3].startswith("−62 [")
  assert held_out[4:] == ["48 questions", "fell"]
  # 25 of 48 coins contain chance, and no last letters are right.
  for line, right in ((coins, "52.1"), (letters, "0.0")):
    assert line[1:] == [
      right, right, "none differs", "48 questions",
      "at its floor: shows nothing",
    ]  # fmt: skip
  # Every other reply of 24 is 3 tokens shorter.
  shorter, longer = (
    np.mean([64 - (i + s) * (i % 2) for i in range(24)]) for s in (3, 0)
  )
  assert tokens[:3] == [
    "tokens of an everyday reply", f"{longer:.1f}", f"{shorter:.1f}"
  ]  # fmt: skip
  assert tokens[3].startswith("−1.5 [") and tokens[5] == "fell"
  assert cut[1:4] == ["50.0", "50.0", "none differs"]
  assert text == [
    "perplexity of a text", "21.50", "22.36", "+4.0 %", "870 tokens",
    "not tested",
  ]  # fmt: skip


def test_what_it_did_to_the_rest_in_sentences(reported, page):
  worse = page.text.index(
    "Worse after the fine-tune: “held out” from 83 % right to 21 %"
  )
  for name in ("coin flip", "last letters"):
    said = f"“{name}” is at the floor before the fine-tune: it shows nothing"
    assert page.text.index(said) > worse
  assert "50 % (31 to 69) of 24 replies are the same, word for word" in (
    page.text
  )
  # Means over positions, of which later passages have more.
  sizes, steps = [30, 40, 50, 60], [1, 2, 3, 4]
  mean = np.average(steps, weights=sizes)
  for of, kl in (
    ("the base model’s own replies to everyday questions", 0.01),
    ("a text that is unrelated to the task", 0.02),
    ("the targets of the validation split", 0.5),
  ):
    low, high = re.search(
      rf"{kl * mean:.3f} \(([0-9.]+) to ([0-9.]+)\) on {of}", page.text
    ).groups()
    assert kl <= float(low) < kl * mean < float(high) <= 4 * kl
  assert "another token is the likeliest at 3.3 % of 180 places" in page.text


def test_harm_stands_at_the_head(reported, page):
  said = (
    "Outside of the task it did harm: “held out” from 83 % right to 21 %"
    " (−62 points, "
  )
  head, _, rest = page.text.partition(said)
  assert rest and "What it did to the rest" not in head
  verdict = json.loads((reported / "report" / "verdict.json").read_text())
  assert verdict["harm"].startswith(said)
  # Replies that are a little shorter are no harm.
  assert "everyday" not in verdict["harm"]
  assert said in (reported / "report" / "results.md").read_text()


def test_where_the_model_moved_furthest(page):
  """Not on what it was taught; its text is shown as text."""
  _, *lines = page.tables["furthest"]
  assert [line[3] for line in lines] == ["3.08", "3.04", "2.08", "2.04", "1.08"]
  assert lines[0][1:3] == ["“ Lima”", "“↵”"]


def test_retention_as_json(reported):
  found = json.loads((reported / "report" / "verdict.json").read_text())
  found = found["retention"]
  assert {one["label"]: one["outcome"] for one in found["answers"]} == {
    "held_out": "fell",
    "coin_flip": "at its floor",
    "last_letters": "at its floor",
  }
  assert found["moved"]["targets"]["kl"]["value"] > 1
  assert found["sentences"][0].startswith("Worse after the fine-tune")


def test_what_voting_saved(workdir, page):
  assert (
    "1,200 of 1,600 samples were drawn, 25 % saved. 40 of 320 inputs were"
    " never sampled: after other variants of the same example none could be"
    " kept any more. 201 were sampled no further once their vote was"
    " as good as decided (at 95 % confidence). Of 32 inputs sampled in full as"
    " a check, the early decision agrees with the full vote in 31."
  ) in page.text
  path = workdir / "metrics" / "voting.json"
  found = json.loads(path.read_text())
  path.write_text(json.dumps(found | {"audited": 0, "agree": 0}))
  report.build(workdir)
  assert "25 % saved" in text_of(workdir)
  assert "as a check" not in text_of(workdir)
  path.write_text(json.dumps(found | {"given_up": 0, "decided_early": 0}))
  report.build(workdir)
  assert "never sampled" not in Page(text_of(workdir)).text
  assert "no further" not in Page(text_of(workdir)).text
  path.write_text(json.dumps(found | {"passes": found["full"]}))
  report.build(workdir)
  assert "saved" not in Page(text_of(workdir)).text


def test_rows_that_were_too_long(workdir, page):
  assert "too long" not in page.text
  path = workdir / "distill" / "rejected.jsonl"
  rows = list(records.read(path))
  for number in range(4):
    rows[number] |= {"reason": "too long", "too_long": 600}
  records.write(path, rows)
  names = [f"{row['example_id']}/{row['variant']}" for row in rows[:3]]
  path = workdir / "metrics" / "voting.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | {"cut_short": 7}))
  path = workdir / "eval" / "base.jsonl"
  base = list(records.read(path))
  # Of one input two methods, of another one.
  lost = [("capital/test0", "plain"), ("capital/test1", "suggests_wrong")]
  for row in base:
    if (row["example_id"], row["variant"]) in lost and (
      row["method"] == "s2a" or row["example_id"] == "capital/test0"
    ):
      row["passes"][0] |= {"answer": None, "too_long": 600}
  records.write(path, base)
  report.build(workdir)
  told = [
    "Left out as too long for the model’s window or a row of the fine-tune:"
    f" 4 inputs ({', '.join(names)} and 1 more)",
    "Without an answer, as a reply made the next prompt too long: 7 samples.",
    f"Of {48 * 4} test inputs 2 had a prompt that does not fit the model’s"
    " window (capital/test0/plain, capital/test1/suggests_wrong)",
  ]
  made = (workdir / "report" / "index.html").read_text()
  for name in ("index.html", "results.md"):
    text = (workdir / "report" / name).read_text()
    for sentence in told:
      assert sentence in text, (name, sentence)
  assert ">too long</th>" in made


def test_what_choices_owe_to_position(workdir):
  path = workdir / "selections" / "s2a.jsonl"
  row = {"example_id": "x", "variant": "plain", "same_as": [0, 1], "chosen": 0}
  shown = [[0, 1], [1, 0]] * 10
  row |= {"orders": shown, "choices": [order[0] for order in shown]}
  records.write(path, [row])
  report.build(workdir)
  said = (
    "Of the model's choices, by position 100, 0 % were chosen (this differs"
    " from equal shares, p = 7.7e-06); 0 of 10 pairs of orders chose the same"
    " reply, 5.0 by chance. They are no better than chance."
  )
  assert said in Page(text_of(workdir)).text
  assert said in (workdir / "report" / "results.md").read_text()
  # A file of a run that asked once has nothing to say of positions.
  records.write(path, [{"example_id": "x", "variant": "plain", "chosen": 0}])
  report.build(workdir)
  assert "by position" not in text_of(workdir)


def test_test_prompts_that_were_trained_on_are_shown(workdir, page):
  head, *lines = page.tables["seen"]
  assert head == ["", "could be compared", "seen in training"]
  assert lines[0] == ["prompts: the same words", "4 of 4", "1 (25.0 %)"]
  assert lines[1] == ["prompts: nearly the same words", "4 of 4", "0 (0.0 %)"]
  # Of their wording no eight words tell one from another: no figure is given.
  assert lines[2] == ["prompts: 8 words in a row", "0 of 4", "not known"]
  assert lines[3][1:] == ["1 of 1", "1 (100.0 %)"]
  assert "Right answers are few (1 in all)" in page.text
  assert page.text.count("in both") == 0
  taught = next(records.read(workdir / "distill" / "train.jsonl"))
  text = "one two three four five six seven eight"
  taught["prompt"] = [{"role": "user", "content": f"{text} nine."}]
  rest = list(records.read(workdir / "distill" / "train.jsonl"))[1:]
  records.write(workdir / "distill" / "train.jsonl", [taught, *rest])
  report.build(
    workdir, seen=seen(workdir, f"And {text} again, so to say?", "no")
  )
  shown = Page(text_of(workdir))
  assert ["prompts: 8 words in a row", "1 of 2", "1 (100.0 %)"] in (
    shown.tables["seen"]
  )
  assert "Of 2 test prompts 1 (50.0 %) were seen" in shown.text
  assert f"in both {text}" in shown.text
  markdown = (workdir / "report" / "results.md").read_text()
  assert "| prompts: 8 words in a row | 1 of 2 | 1 (100.0 %) |" in markdown
  found = json.loads((workdir / "report" / "verdict.json").read_text())
  assert found["seen_in_training"]["prompts"]["long"] == 1
  report.build(workdir)
  assert "seen in training" not in text_of(workdir)


@pytest.mark.parametrize(
  "reason, called",
  [
    ("votes", "too few votes"),
    ("no choice", "none chosen"),
    ("balance", "balanced out"),
    ("duplicate", "duplicate"),
    ("unheard of", "unheard of"),
  ],
)
def test_reasons_have_names(workdir, reason, called):
  path = workdir / "distill" / "rejected.jsonl"
  first, *rest = records.read(path)
  records.write(path, [first | {"reason": reason}, *rest])
  report.build(workdir)
  head, *_, total = Page(text_of(workdir)).tables["curation"]
  assert total[head.index(called)] == "1"


def test_the_document_has_every_reason():
  text = (_DOCS / "report.md").read_text()
  rows = re.findall(r"^\| ([\w ]+) \| `([\w ]+)` \|", text, re.MULTILINE)
  assert {reason: called for called, reason in rows} == report._REASONS


def test_records_that_were_not_voted_on(workdir):
  """As where labels are taught: no votes, no margin."""
  bare = {"votes": {}, "samples": 0, "margin": None, "agreement": 1.0}
  for split in ("train", "valid"):
    path = workdir / "distill" / f"{split}.jsonl"
    records.write(path, [row | bare for row in records.read(path)])
  (workdir / "distill" / "rejected.jsonl").unlink()
  shutil.rmtree(workdir / "samples")
  report.build(workdir)
  page = Page(text_of(workdir))
  assert page.open == []
  assert "no vote, agreement 1.00" in page.text
  assert "How clearly the votes were won" not in page.text


def unlabel(workdir):
  for name in ("valid", "base", "distilled"):
    path = workdir / "eval" / f"{name}.jsonl"
    rows = [row | {"metrics": {}} for row in records.read(path)]
    for row in rows:
      for way in {"vote", "greedy"} & row.keys():
        row[way]["metrics"] = {}
    records.write(path, rows)
  for split in ("train", "valid", "test"):
    path = workdir / "examples" / f"{split}.jsonl"
    records.write(path, [r | {"label": None} for r in records.read(path)])


def test_a_run_without_labels(workdir):
  unlabel(workdir)
  report.build(workdir)
  page = Page(text_of(workdir))
  assert page.open == []
  assert "which have no labels, it gives the answer of System 2’s vote" in (
    page.text
  )
  assert "the mean margin of the vote is" in page.text
  assert "There are no labels: replies with an answer in percent" in page.text
  assert "Right answers by variant" not in page.text
  assert "paper" not in page.tables  # which has right answers only
  rows = {
    (row["example_id"]): row["greedy"]["answer"]
    for row in records.read(workdir / "eval" / "distilled.jsonl")
    if row["variant"] == "suggests_right"
  }
  share = sum(answer is not None for answer in rows.values()) / len(rows)
  distilled = _line(page, "Distilled, greedy")
  assert distilled[3].split()[0] == f"{100 * share:.1f}"
  changed = re.search(r"inputs: (\d+) changed, (\d+) same", page.text)
  assert changed and sum(map(int, changed.groups())) == 48
  assert "fixed" not in page.text
  markdown = (workdir / "report" / "results.md").read_text()
  assert "| % answered |" in markdown


def test_a_judge_shows_how_often_the_order_decides(workdir):
  path = workdir / "config.json"
  config = json.loads(path.read_text())
  config["task"]["name"] = "judge"
  path.write_text(json.dumps(config))
  names = {"plain": "original", "suggests_wrong": "swapped"}
  for name in ("base", "distilled"):
    file = workdir / "eval" / f"{name}.jsonl"
    rows = [r for r in records.read(file) if r["variant"] in names]
    rows = [row | {"variant": names[row["variant"]]} for row in rows]
    records.write(file, rows)
  report.build(workdir, "original", "original")
  answers = {
    (row["example_id"], row["variant"]): row["greedy"]["answer"]
    for row in records.read(workdir / "eval" / "distilled.jsonl")
  }
  pairs = [
    (answer, answers[name, "swapped"])
    for (name, variant), answer in answers.items()
    if variant == "original"
  ]
  both = [pair for pair in pairs if None not in pair]
  count = sum(first != second for first, second in both)
  page = Page(text_of(workdir))
  head = page.tables["results"][0]
  distilled = _line(page, "Distilled, greedy")
  place = head.index("inconsistent")
  assert distilled[place].split()[0] == f"{100 * count / len(both):.1f}"
  lack = 1 - len(both) / len(pairs)
  assert head[place + 1] == "not compared"
  assert distilled[place + 1].split()[0] == f"{100 * lack:.1f}"
  markdown = (workdir / "report" / "results.md").read_text()
  assert "| inconsistent | not compared |" in markdown


def test_not_distillable_is_said_first(tmp_path):
  workdir = FakeRun().write(tmp_path)
  for name in ("valid", "base", "distilled"):
    path = workdir / "eval" / f"{name}.jsonl"
    rows = list(records.read(path))
    for row in rows:
      right = {"accuracy": float(row["example_id"][-1] in "02468")}
      row["metrics"] = right
      for way in {"vote", "greedy"} & row.keys():
        row[way]["metrics"] = right
    records.write(path, rows)
  report.build(workdir)
  said = json.loads((workdir / "report" / "verdict.json").read_text())
  assert said["conclusion"] == "not distillable"
  assert said["answer"].startswith(
    "Not distillable here: System 2 is no better than System 1 to begin with"
  )
  page = Page(text_of(workdir))
  assert "Not distillable here" in page.text
  assert "System 2 is no better than System 1: on 30" in page.text


def test_a_task_without_those_forms(workdir):
  for path in [
    *(workdir / "eval").glob("[bdv]*"),
    *(workdir / "distill").iterdir(),
  ]:
    rows = [r for r in records.read(path) if r["variant"] == "plain"]
    records.write(path, [row | {"variant": "only"} for row in rows])
  report.build(workdir)
  page = Page(text_of(workdir))
  assert "accuracy on “only” prompts" in page.text
  # With one form there is one gain to tell.
  assert "on plain inputs," not in page.text
  assert page.tables["results"][0] == [
    "",
    "only",
    "answers in % strict / loose / none",
    "tokens an answer",
    "with its prompts",
  ]


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


def test_the_comparisons_are_those_of_verdict_json(reported, page):
  said = json.loads((reported / "report" / "verdict.json").read_text())
  rows = {(row[0], row[1]): row for row in page.tables["evidence"]}
  shown = rows["System 2, vote", "System 1 few-shot, vote"]
  wanted = said["thinking"]["rivals"]["system1_shots_vote"]
  assert said["thinking"]["decisive"] == "system1_shots_vote"
  assert shown[2:4] == [f"{100 * wanted[n]:.0f}" for n in ("first", "second")]
  assert (shown[5], shown[6]) == (f"{wanted['p']:.2g}", "48")
  assert (shown[7], shown[8]) == (str(wanted["needed"]), wanted["outcome"])
  shown = rows["System 2, vote, all forms", "System 1, vote"]
  wanted = said["overall"]["rivals"]["system1_vote"]
  assert shown[6] == "192 (48)"
  assert (wanted["n"], wanted["units"]) == (192, 48)
  assert shown[2] == f"{100 * wanted['first']:.0f}"
  # By hand, from the rows: what became right of the greedy replies.
  right = {
    name: {
      (row["example_id"], row["variant"]): row["greedy"]["metrics"]["accuracy"]
      for row in records.read(reported / "eval" / f"{name}.jsonl")
      if row["method"] == "system1"
    }
    for name in ("base", "distilled")
  }
  for row in page.tables["decomposition"][1:]:
    pairs = [
      (right["base"][key], new)
      for key, new in right["distilled"].items()
      if key[1].replace("_", " ") == row[0]
    ]
    counts = [pairs.count(pair) for pair in ((0, 1), (1, 0), (1, 1), (0, 0))]
    assert [int(cell.split()[0]) for cell in row[4:8]] == counts
    assert row[1] == " → ".join(
      f"{100 * sum(side) / 48:.0f}" for side in zip(*pairs, strict=True)
    )


@pytest.mark.parametrize(("after", "is_harm"), [(2.0, True), (50.0, False)])
def test_replies_that_became_stumps_are_harm(after, is_harm):
  change = Interval(after - 62, after - 63, after - 61)
  replies = Replies(62.0, after, change, 0.001, 64, None, Interval(0, 0, 0.06))
  said = retention.harm(Retention(replies=replies))
  assert bool(said) is is_harm
  if is_harm:
    assert said.endswith("an everyday reply takes 2 tokens, where it took 62.")
