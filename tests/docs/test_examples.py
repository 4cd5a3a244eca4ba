"""What the documents show is run."""

from __future__ import annotations

import inspect
import json
import random
import re

from s2d_jax.generation.engine import Completion
from s2d_jax.stages import setup
from s2d_jax.system2 import methods
from s2d_jax.tasks.custom import Custom
from tests import tiny_chat
from tests.docs import documents
from tests.system2.replies import finish, reply

_DOCS = documents.ROOT / "docs"


def _blocks(name: str, language: str) -> list[str]:
  return [
    block.text
    for block in documents.blocks(_DOCS / name)
    if block.language == language
  ]


def test_the_method_of_the_document_runs(monkeypatch):
  monkeypatch.setattr(methods, "METHODS", dict(methods.METHODS))
  *_, code = _blocks("methods.md", "python")
  assert len(code.strip().splitlines()) <= 25
  exec(code, {})
  method = methods.METHODS["second_thoughts"]
  fields = {"text": "How many?", "format": "a number"}
  prompts = method.prompts_for(
    "t", {"system1": methods.METHODS["cot"].prompts["cot"]}
  )
  steps = method.think(fields, prompts)
  next(steps)
  call = steps.send(Completion("4", (1,), -1.0, "stop"))
  assert "A first answer was: 4" in call.messages[-1]["content"]


def test_every_method_is_in_the_table():
  text = (_DOCS / "methods.md").read_text()
  for name in methods.METHODS:
    assert f"`{name}`" in text


def test_the_prompt_of_the_document_can_be_replaced():
  from s2d_jax.config import default

  replace, *_ = _blocks("methods.md", "python")
  config = default()
  with config.unlocked():
    exec(replace, {"config": config})
  prompts = setup.prompts_of(config, setup.task_of(config))
  assert prompts["extract"].system.startswith("Repeat the question")
  assert len(prompts["extract"].shots) == 1


def test_the_options_of_the_document_reach_the_chat_template():
  from s2d_jax.config import default

  _, options, _ = _blocks("methods.md", "python")
  config = default()
  exec(options, {"config": config})
  model = tiny_chat.model()
  model.tokenizer.chat_template = "{{ enable_thinking }}"
  chat = setup.chat_template(config, model)
  assert chat.prompt([{"role": "user", "content": "?"}]) == "False"


def test_the_task_of_the_document_reads_its_file(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  table, _ = _blocks("your-own-task.md", "csv")
  head, *rows = table.splitlines()
  more = [re.sub(r"\d+", str(n), rows[0]) for n in range(11, 211)]
  (tmp_path / "questions.csv").write_text("\n".join([head, *rows, *more]))
  code, *_ = _blocks("your-own-task.md", "python")
  scope = {}
  exec(code, scope)
  config = scope["get_config"]()
  setup.check(config)
  task = setup.task_of(config)
  splits = task.examples()
  assert {split: len(found) for split, found in splits.items()} == {
    "train": 52,
    "valid": 50,
    "test": 100,
  }
  for example in splits["test"]:
    text = task.fields(example, "plain")["text"]
    assert re.fullmatch(r"Is \d+ a prime number\?", text)
    assert example.label in ("yes", "no")


def test_no_row_of_the_alpaca_of_the_document_is_lost(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  [rows] = map(json.loads, _blocks("your-own-task.md", "json"))
  assert [bool(row["input"]) for row in rows] == [False, True]
  fruits = [rows[0] | {"instruction": f"Fruit {i}?"} for i in range(160)]
  (tmp_path / "alpaca.json").write_text(json.dumps([*rows, *fruits]))
  _, code, *_ = _blocks("your-own-task.md", "python")
  scope = {}
  exec(code, scope)
  config = scope["get_config"]()
  setup.check(config)
  splits = setup.task_of(config).examples()
  asked = {e.inputs["question"] for part in splits.values() for e in part}
  assert asked == {
    "Name a fruit that is red.",
    "Translate into Spanish.\n\nInput: Good morning",
    *(row["instruction"] for row in fruits),
  }


def test_the_parts_of_the_document_are_asked(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  _, table = _blocks("your-own-task.md", "csv")
  (tmp_path / "wars.csv").write_text(table)
  *_, code = _blocks("your-own-task.md", "python")
  scope = {}
  exec(code, scope)
  config = scope["get_config"]()
  with config.unlocked():
    config.task.valid_size = config.task.test_size = 1
  setup.check(config)
  task = setup.task_of(config)
  known = {"Crimean": "1853", "Korean": "1950", "Gulf": "1990"}
  prompts = setup.prompts_of(config, task)
  for [example] in task.examples().values():
    fields = task.fields(example, "plain")
    steps = methods.METHODS["decompose"].think(fields, prompts)
    said = [
      next(
        year
        for war, year in known.items()
        if war in call.messages[-1]["content"]
      )
      for call in next(steps)
    ]
    assert finish(steps, [[reply(year)] * 3 for year in said]) == example.label
  direct = setup.prompts_of(config, task, "system1_shots")["system1_shots"]
  [(asked, _)] = direct.shots
  own = direct.ask(text="X?", format=task.fields(example, "plain")["format"])
  assert asked.splitlines()[1:] == own.messages[-1]["content"].splitlines()[1:]


def test_the_module_of_the_document_is_a_source(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(tmp_path)
  *_, module, _ = _blocks("your-own-task.md", "python")
  (tmp_path / "my_module.py").write_text(module)
  from s2d_jax.functions import function
  from s2d_jax.tasks import sources

  rows = list(sources.read("python:my_module:rows"))
  assert rows[0] == {"question": "Is 2 a prime number?"}
  swap = function("my_module:swap")
  changed = swap({"question": "Does John lie?"}, random.Random(0))
  assert re.fullmatch("Does (Ann|Bob|Eve) lie[?]", changed["question"])


def test_every_option_of_a_task_of_ones_own_is_told():
  text = (_DOCS / "your-own-task.md").read_text()
  _, table = text.split("## All options")
  told = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
  options = [name for cell in told for name in re.findall(r"`(\w+)`", cell)]
  assert sorted(options) == sorted(inspect.signature(Custom).parameters)


def test_the_tables_of_sources_and_answers_are_whole():
  from s2d_jax.answers import settings
  from s2d_jax.tasks import sources

  text = (_DOCS / "your-own-task.md").read_text()
  for name in settings.PARSERS:
    assert f"| `{name}` |" in text
  for prefix in ("hf", *sources._READERS):
    assert f"`{prefix}:" in text
