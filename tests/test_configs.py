"""Every file in configs/ is a run that can begin, whatever the model."""

from __future__ import annotations

import collections
import itertools
import pathlib
import re
import runpy

import pytest

from s2d_jax.errors import UserError
from s2d_jax.presets import PRESETS
from s2d_jax.stages import setup
from s2d_jax.stages.program import _flatten as flatten
from s2d_jax.system2 import decompose
from s2d_jax.system2.methods import METHODS
from tests.system2.replies import finish, reply

_ROOT = pathlib.Path(__file__).parents[1]
_ROWS = sorted((_ROOT / "configs" / "paper").glob("*.py"))
# What only depends on the model.
_OF_THE_MODEL = {
  "model.name",
  "model.chat.enable_thinking",
  "model.dtype",
  "finetune.dtype",
  "mesh.fsdp",
  "sampling.batch_rows",
  "finetune.batch_rows",
  "finetune.learning_rate",
}


def _load(path, *argument):
  return runpy.run_path(str(path))["get_config"](*argument)


@pytest.mark.parametrize("path", _ROWS, ids=lambda path: path.stem)
def test_a_row_of_the_paper(path):
  config = _load(path)
  assert config.model.name == "meta-llama/Llama-2-70b-chat-hf"
  setup.check(config)
  for model, preset in PRESETS.items():
    other = _load(path, model)
    setup.check(other)
    assert other.model.name == preset.name
    old, new = flatten(config), flatten(other)
    changed = {name for name in old | new if old.get(name) != new.get(name)}
    assert changed <= _OF_THE_MODEL


def test_ablations_differ_from_their_row_in_what_they_are_named_for():
  row = flatten(_load(_ROOT / "configs/paper/last_letters_rar2.py"))
  for name, wanted in (
    ("rar1", {"method": "rar1"}),
    ("system1", {"method": "system1"}),
    ("labels", {"curation.select": "label"}),
    ("unfiltered", {"curation.select": "first", "sampling.n": 1}),
  ):
    path = _ROOT / "configs" / "paper" / f"last_letters_{name}.py"
    other = flatten(_load(path))
    assert {k: v for k, v in other.items() if row.get(k) != v} == wanted


def test_the_paper_s_table_in_the_docs_has_every_row():
  told = (_ROOT / "docs" / "paper.md").read_text()
  assert set(re.findall(r"^\| `(\w+\.py)`", told, re.MULTILINE)) == {
    path.name for path in _ROWS
  }
  assert all(f"{name}" in told for name in PRESETS)


def test_an_unknown_model():
  with pytest.raises(UserError, match="no preset for the model 'gpt'"):
    _load(_ROWS[0], "gpt")


_THINK = _ROOT / "configs" / "think.py"


@pytest.mark.parametrize("model", [n for n, p in PRESETS.items() if p.chat])
def test_thinking_is_on_for_system_2_alone(model):
  config = _load(_THINK, model)
  setup.check(config)
  assert config.model.name == PRESETS[model].name
  assert config.model.chat.to_dict() == {"enable_thinking": False}
  [template] = setup.prompts_of(config, setup.task_of(config)).values()
  assert template.max_new_tokens == 4096 and not template.budget_forcing
  # The same question with and without thinking.
  direct = setup.prompts_of(config, setup.task_of(config), "system1")
  asked = [
    one.messages(text="2 + 2?", format="a number")[-1]["content"].split()
    for one in (template, direct["system1"])
  ]
  assert asked[0] == asked[1]


def test_a_file_of_one_s_own_may_be_thought_about(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  rows = [f"Is {n} even?,{'no' if n % 2 else 'yes'}" for n in range(200)]
  (tmp_path / "mine.csv").write_text("\n".join(["question,answer", *rows]))
  config = _load(_THINK, "qwen3-0.6b,mine.csv")
  setup.check(config)
  assert config.method == "think"
  splits = setup.task_of(config).examples()
  assert len(splits["train"]) == 50 and splits["test"][0].label in ("yes", "no")


@pytest.mark.parametrize(
  "taught, margin", [("unfiltered", 0), ("filtered", 0.6), ("thought", 0)]
)
def test_the_continents(taught, margin):
  config = _load(_ROOT / "configs" / "continents.py", taught)
  setup.check(config)
  assert config.curation.min_margin == margin
  # A margin says something among several samples only.
  assert (config.sampling.n > 1) == (margin > 0)
  assert setup.thinks_aloud(config) == (taught == "thought")
  splits = setup.task_of(config).examples()
  assert len(splits["train"]) == config.task.train


def test_the_languages():
  config = _load(_ROOT / "configs" / "languages.py")
  setup.check(config)
  assert setup.thinks_aloud(config)
  splits = setup.task_of(config).examples()
  assert min(map(len, splits.values())) >= 12


def test_the_alphabet(monkeypatch):
  monkeypatch.chdir(_ROOT)
  config = _load(_ROOT / "configs" / "alphabet.py")
  setup.check(config)
  assert setup.thinks_aloud(config)
  task = setup.task_of(config)
  assert not setup.why_no_shots(config, task)
  splits = task.examples()
  assert {split: len(found) for split, found in splits.items()} == {
    "train": 800,
    "valid": 80,
    "test": 200,
  }
  cities = {
    split: {name for one in found for name in task.cluster(one)}
    for split, found in splits.items()
  }
  for one, other in itertools.combinations(cities.values(), 2):
    assert not one & other
  prompts = setup.prompts_of(config, task)
  answers = collections.defaultdict(list)
  for example in splits["train"]:
    one, other = task.cluster(example)
    assert 1 <= abs(ord(one[0]) - ord(other[0])) <= 3
    assert example.label == ("yes" if one < other else "no")
    answers[one[0]].append(example.label)
    steps = METHODS["decompose"].think(task.fields(example, "plain"), prompts)
    next(steps)
    said = [[reply(letter)] * 3 for letter in (f"{one[0]}.", other[0].lower())]
    assert finish(steps, said) == example.label
  # The first letter of the first city alone says nothing.
  for letter, labels in answers.items():
    if len(labels) >= 20 and letter not in "ABCXYZ":
      assert 0.2 < labels.count("yes") / len(labels) < 0.8
  direct = setup.prompts_of(config, task, "system1_shots")["system1_shots"]
  for asked, answer in direct.shots:
    one, other = re.findall(r"\b[A-Z][a-z]+\b", asked.splitlines()[0])[1:]
    assert answer == ("yes" if one < other else "no")
    assert not {one, other} & set.union(*cities.values())
  assert [answer for _, answer in direct.shots].count("yes") == 3


@pytest.mark.parametrize("model", PRESETS)
def test_a_chain_of_thought_taken_away_by_stages(model):
  config = _load(_ROOT / "configs" / "internalise.py", model)
  setup.check(config)
  assert setup.thinks_aloud(config)
  row = flatten(_load(_ROOT / "configs" / "paper" / "gsm8k_cot.py", model))
  ours = flatten(config)
  assert {name for name in row | ours if row.get(name) != ours.get(name)} == {
    "task.valid_size",
    "curation.min_margin",
    "curation.target",
    "finetune.row_length",
    "internalise.stages",
  }


@pytest.mark.parametrize("tried", ["sums", "last_letters", "rephrased"])
def test_what_was_tried(tried):
  config = _load(_ROOT / "configs" / "trials.py", tried)
  setup.check(config)
  task = setup.task_of(config)
  assert len(task.examples()["test"]) == 50
  assert not setup.why_no_shots(config, task)


@pytest.mark.parametrize(
  "size, known, asked", [("few", 64, 24), ("many", 66, 42)]
)
def test_the_quickstart_is_as_its_page_tells(size, known, asked):
  config = _load(_ROOT / "configs" / "quickstart.py", size)
  setup.check(config)
  task = setup.task_of(config)
  own, control = (
    setup.prompts_of(config, task, method)["system1_shots"]
    for method in (config.method, "system1_shots")
  )
  assert own == control and not setup.why_no_shots(config, task)
  splits = task.examples()
  countries = {
    split: {task.cluster(example) for example in examples}
    for split, examples in splits.items()
  }
  assert len(countries["train"] | countries["valid"]) == known
  assert (
    len(countries["test"] - countries["train"] - countries["valid"]) == asked
  )
  forms = {
    split: {len(example.variants) for example in examples}
    for split, examples in splits.items()
  }
  assert forms == {"train": {2}, "valid": {2}, "test": {3}}


@pytest.mark.parametrize(
  "name, known",
  [
    ("quickstart", "few, many"),
    ("continents", "unfiltered, filtered, thought"),
    (
      "trials",
      "sums, last_letters, rephrased, events, months, lengths",
    ),
  ],
)
def test_what_stands_behind_the_colon_is_named(name, known):
  for unknown in ("lots", ""):
    wanted = rf"{name}\.py:{unknown} is not known; .* may stand {known}$"
    with pytest.raises(UserError, match=wanted):
      _load(_ROOT / "configs" / f"{name}.py", unknown)


_TRIALS = _ROOT / "configs" / "trials.py"


@pytest.mark.parametrize("name", ["sums", "last_letters", "rephrased"])
def test_trials_whose_steps_are_those_of_the_task(name):
  setup.check(_load(_TRIALS, name))


@pytest.mark.parametrize("name", ["events", "months", "lengths"])
def test_trials_of_two_facts(name, monkeypatch):
  monkeypatch.chdir(_ROOT)
  config = _load(_TRIALS, name)
  setup.check(config)
  task = setup.task_of(config)
  assert not setup.why_no_shots(config, task)
  known = runpy.run_path(str(_TRIALS))["_FACTS"][name]
  shown, asked = known.split()
  merge = decompose.rule(known.rule)
  prompts = setup.prompts_of(config, task)
  labels = []
  for example in task.examples()["test"]:
    one, other = task.cluster(example)
    assert {one, other} <= asked.keys() - shown.keys()
    assert example.label == merge([asked[one], asked[other]])
    labels.append(example.label)
    fields = task.fields(example, "plain")
    steps = METHODS["decompose"].think(fields, prompts)
    next(steps)
    said = [[reply(asked[name])] * 3 for name in (one, other)]
    assert finish(steps, said) == example.label
  assert len(labels) == config.task.test_size
  assert 0.35 < labels.count("yes") / len(labels) < 0.65
  # Worked examples are asked as the questions are.
  part = prompts["part"]
  for asked, fact in part.shots:
    name = next(one for one in shown if one in asked)
    own = part.messages(text="?", format="?", part=name)[-1]["content"]
    assert (asked, fact) == (own, shown[name])
  direct = setup.prompts_of(config, task, "system1_shots")["system1_shots"]
  how = direct.messages(**fields)[-1]["content"].splitlines()[1:]
  assert {answer for _, answer in direct.shots} == {"yes", "no"}
  assert all(asked.splitlines()[1:] == how for asked, _ in direct.shots)
