"""What stands around prompts, held once and put back."""

from __future__ import annotations

import copy

from etils import epath
import pytest

from s2d_jax import records
from s2d_jax.conversation import ChatTemplate
from s2d_jax.errors import UserError
from s2d_jax.prompt_frames import Frame, PromptFrames
from s2d_jax.system2.program import Template, frame_of
from tests import tiny_chat

_BEFORE = "Copy the question. " * 10
_SHORT = Frame(_BEFORE, "")
_LONG = Frame(_BEFORE + "Say nothing else. ", " Answer: ")
_SAMPLE = {
  "sample": 0,
  "steps": [
    {"prompt": prompt, "text": "Lima", "tokens": 1}
    for prompt in (
      f"{_LONG.before}Why?{_LONG.behind}",
      f"{_BEFORE}Why?",
      "Why?",
      _BEFORE,
    )
  ],
}


def _split(frames: PromptFrames) -> records.Record:
  return _SAMPLE | {"steps": [*map(frames.split, _SAMPLE["steps"])]}


def test_a_prompt_is_whole_again(tmp_path):
  folder = epath.Path(tmp_path)
  frames = PromptFrames([_SHORT, _LONG, Frame("W", "?"), Frame("", "")])
  frames.write(folder)
  made = _split(frames)
  assert [step["prompt"] for step in made["steps"]] == ["Why?"] * 3 + [""]
  named = [step.get("frame") for step in made["steps"]]
  assert named == [_LONG.name, _SHORT.name, None, _SHORT.name]
  assert PromptFrames.read(folder).restore(made) == _SAMPLE


def test_samples_of_other_templates_and_of_earlier_versions_stay(tmp_path):
  folder = epath.Path(tmp_path / "samples")
  assert PromptFrames.read(folder).restore(copy.deepcopy(_SAMPLE)) == _SAMPLE
  made = [_split(PromptFrames([frame])) for frame in (_SHORT, _LONG)]
  for frame in (_SHORT, _LONG):
    PromptFrames([frame]).write(folder)
  for one in made:
    assert PromptFrames.read(folder).restore(one) == _SAMPLE


def test_what_stands_before_and_behind_may_not_overlap():
  frame = Frame("Why? " * 20, "Why? " * 20)
  frames = PromptFrames([frame])
  for count in (39, 40, 41):
    step = {"prompt": "Why? " * count}
    made = frames.split(step)
    assert ("frame" in made) == (count >= 40)
    assert frames.restore({"steps": [dict(made)]}) == {"steps": [step]}


def test_a_template_is_a_frame_of_all_that_it_asks():
  chat = ChatTemplate(tiny_chat.tokenizer())
  template = Template(
    "{text}\nAnswer with {format} only.", 8, "Be brief.", shots=(("a", "b"),)
  )
  frame = frame_of(template, chat)
  for values in ({"text": "", "format": "a"}, {"text": "Aa", "format": "za"}):
    assert frame.holds(template.ask(**values).prompt(chat))
  assert frame.before.endswith(f"assistant:b{tiny_chat.END}user:")
  assert frame.behind == f" only.{tiny_chat.END}assistant:"
  whole = frame_of(Template("Why?", 8), chat)
  assert whole.own_part(Template("Why?", 8).ask().prompt(chat)) == ""


def test_a_frame_that_is_not_there(tmp_path):
  folder = epath.Path(tmp_path)
  records.write(folder / "prompts.jsonl", [{"frame": _SHORT.name}])
  for frames in (PromptFrames([]), PromptFrames.read(folder)):
    made = _split(PromptFrames([_SHORT]))
    with pytest.raises(UserError, match="prompts.jsonl lacks the frame"):
      frames.restore(made)
