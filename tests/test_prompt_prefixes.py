"""What prompts begin with, held once and put back."""

from __future__ import annotations

import copy

from etils import epath
import pytest

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.prompt_prefixes import PromptPrefixes

_LONG = "Copy the question. " * 10
_LONGER = _LONG + "Say nothing else. " * 5
_SAMPLE = {
  "sample": 0,
  "steps": [
    {"prompt": prompt, "text": "Lima", "tokens": 1}
    for prompt in (_LONGER + "Why?", _LONG + "Why?", "Why?", _LONG)
  ],
}


def _split(prefixes: PromptPrefixes) -> records.Record:
  return _SAMPLE | {"steps": [*map(prefixes.split, _SAMPLE["steps"])]}


def test_a_prompt_is_whole_again(tmp_path):
  folder = epath.Path(tmp_path)
  prefixes = PromptPrefixes([_LONG, _LONGER, "short", ""])
  prefixes.write(folder)
  made = _split(prefixes)
  assert [step["prompt"] for step in made["steps"]] == ["Why?"] * 3 + [""]
  named = [step.get("prefix") for step in made["steps"]]
  assert named[1] == named[3] != named[0] and named[2] is None
  assert PromptPrefixes.read(folder).restore(made) == _SAMPLE


def test_samples_of_other_templates_and_of_earlier_versions_stay(tmp_path):
  folder = epath.Path(tmp_path / "samples")
  assert PromptPrefixes.read(folder).restore(copy.deepcopy(_SAMPLE)) == _SAMPLE
  made = [_split(PromptPrefixes([text])) for text in (_LONG, _LONGER)]
  for text in (_LONG, _LONGER):
    PromptPrefixes([text]).write(folder)
  for one in made:
    assert PromptPrefixes.read(folder).restore(one) == _SAMPLE


def test_a_beginning_that_is_not_there():
  made = _split(PromptPrefixes([_LONG]))
  with pytest.raises(UserError, match="prompts.jsonl lacks the beginning"):
    PromptPrefixes([]).restore(made)
