"""Thoughts between markers, as models with a switch for thinking write them."""

from __future__ import annotations

import pytest

from s2d_jax.conversation import ChatTemplate
from s2d_jax.errors import UserError
from s2d_jax.generation.engine import Completion
from s2d_jax.system2.methods import METHODS
from s2d_jax.system2.program import Unended, for_chat, override
from s2d_jax.system2.think import PROMPTS, Markers, think
from tests import chat_templates, tiny_chat

OFF = {"enable_thinking": False}
ASK = [{"role": "user", "content": "Which?"}]
# As a model whose markers have other names, and stand in no source.
NAMELESS = (
  "{{ 'Think. ' if thinking }}{% for m in messages %}{{ m.role }}:"
  "{% if m.reasoning_content %}"
  "{{ '<' ~ 'hm>' ~ m.reasoning_content ~ '<' ~ '!hm>' }}{% endif %}"
  "{{ m.content }}<|im_end|>{% endfor %}"
  "{% if add_generation_prompt %}assistant:{% endif %}"
)
UNSAID = NAMELESS.replace("m.reasoning_content", "m.no_such_thing")


def _chat(template, options=None, tokens=(), special=()) -> ChatTemplate:
  tokenizer = tiny_chat.tokenizer()
  tokenizer.add_tokens(list(tokens))
  tokenizer.add_tokens(list(special), special_tokens=True)
  tokenizer.chat_template = template
  return ChatTemplate(tokenizer, options)


def _asked(chat, /, **changes):
  prompts = override(PROMPTS, {"think": changes})
  return for_chat(for_chat(prompts, chat), chat)["think"]  # twice is as once


@pytest.mark.parametrize(
  "template, options, changes, found",
  [
    (chat_templates.SWITCHED, OFF, {}, ("<think>", "</think>")),
    (chat_templates.MODES, OFF, {}, ("<think>", "</think>")),
    (NAMELESS, {}, {}, ("<hm>", "<!hm>")),
    (UNSAID, {}, {"open": "<a>", "close": "<b>"}, ("<a>", "<b>")),
    (UNSAID, {}, {"close": "<b>"}, ("", "<b>")),
    (
      chat_templates.SWITCHED,
      OFF,
      {"close": "so:"},
      ("<think>", "so:"),
    ),
  ],
)
def test_markers_are_found_or_named(template, options, changes, found):
  asked = _asked(_chat(template, options), **changes)
  assert Markers(asked.open, asked.close) == found


@pytest.mark.parametrize("name", ["thought", "seed:think", "reasoning"])
def test_markers_may_be_tokens_alone(name):
  chat = _chat(UNSAID, tokens=[f"<{name}>", f"</{name}>"])
  asked = _asked(chat)
  assert (asked.open, asked.close) == (f"<{name}>", f"</{name}>")
  assert asked.stop == ()


@pytest.mark.parametrize("switch", ["enable_thinking", "thinking"])
def test_it_is_asked_with_thinking_on_and_system_1_with_thinking_off(switch):
  template = chat_templates.SWITCHED.replace("enable_thinking", switch)
  chat = _chat(template, {switch: False})
  call = _asked(chat).ask(text="Which?", format="a word")
  on, off = call.prompt(chat), chat.prompt(call.messages)
  assert on == _chat(template, {switch: True}).prompt(call.messages)
  assert on.endswith("assistant:")
  assert off == on + "<think>\n\n</think>\n\n"


def test_a_prompt_that_opens_the_thought():
  """As R1's, with a template that closes it for System 1."""
  closed = chat_templates.OPENED.replace("<think>", "<think></think>")
  chat = _chat(chat_templates.OPENED, {"chat_template": closed})
  asked = _asked(chat, chat={"chat_template": ""})
  call = asked.ask(text="Which?", format="a word")
  assert call.prompt(chat).endswith("assistant:<think>\n")
  assert chat.prompt(call.messages).endswith("<think></think>\n")
  assert (asked.open, asked.close) == ("", "</think>")


_BODY = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"


@pytest.mark.parametrize(
  "template, options, changes, refused",
  [
    (_BODY, {}, {}, "needs a model that thinks"),
    # Which has no switch, but knows thoughts of others.
    (_BODY + "{# </think> #}", {}, {}, "needs a model that thinks"),
    (chat_templates.SWITCHED, {}, {}, "enable_thinking is on for them"),
    (chat_templates.SWITCHED, {"enable_thinking": True}, {}, "is on for them"),
    (chat_templates.OPENED, {}, {}, "opens a thought in every prompt"),
    (UNSAID, {}, {}, "neither the chat template nor the tokenizer tells"),
    (UNSAID, {}, {"open": "<a>"}, "neither the chat template nor the"),
    (
      chat_templates.SWITCHED,
      OFF,
      {"chat": {"thoughts": 1}},
      "does not read 'thoughts'",
    ),
  ],
)
def test_models_that_cannot_be_asked(template, options, changes, refused):
  with pytest.raises(UserError, match=refused):
    _asked(_chat(template, options), **changes)


@pytest.mark.parametrize(
  "changes, named",
  [
    ({"close": 3}, "prompts.think.close=3 must be a text"),
    ({"budget_forcing": "yes"}, "budget_forcing='yes' must be True or False"),
    ({"answer_tokens": 0}, "prompts.think.answer_tokens=0 must be a whole"),
    ({"budget": 9}, "prompts.think.budget is unknown; .* budget_forcing, chat"),
    ({"n": 2}, "prompts.think.n=2 cannot be"),
  ],
)
def test_settings_that_cannot_be(changes, named):
  with pytest.raises(UserError, match=named):
    prompts = override(PROMPTS, {"think": changes})
    METHODS["think"].check_counts(prompts)


def _run(chat, /, *replies, **changes):
  """Sends replies; returns the calls, and what the method returns."""
  prompts = {"think": _asked(chat, **changes)}
  steps = think({"text": "Which?", "format": "a word"}, prompts)
  calls, call = [], next(steps)
  for text, finish in replies:
    calls.append(call)
    try:
      call = steps.send(Completion(text, (1, 2), 0.0, finish))
    except StopIteration as stop:
      return calls, stop.value
  raise AssertionError(f"it asks on: {call}")


QWEN = _chat(chat_templates.SWITCHED, OFF)
R1 = _chat(
  chat_templates.OPENED,
  {"chat_template": chat_templates.OPENED.replace("<think>", "")},
)
_R1 = {"chat": {"chat_template": ""}}


@pytest.mark.parametrize(
  "reply, answer",
  [
    ("<think>\nPeru. Lima, no?\n</think>\n\nLima", "Lima"),
    ("<think>\n\n</think>\n\nLima", "Lima"),
    # It did not think, or lost its first marker.
    ("Lima", "Lima"),
    ("It is Lima.</think>Lima", "Lima"),
    # It has ended within its thought, which is no answer.
    ("<think>\nPeru. Lima?", Unended("")),
    ("\n<think>Lima", Unended("")),
    ("", ""),
    # It begins another one behind its answer.
    ("<think>a</think>Lima<think>b", "Lima<think>b"),
  ],
)
def test_the_answer_stands_behind_the_thought(reply, answer):
  calls, found = _run(QWEN, (reply, "stop"))
  assert found == answer
  assert len(calls) == 1 and calls[0].max_new_tokens == 4096
  assert calls[0].messages[-1]["content"].startswith("Which?\n\nAnswer with a")


@pytest.mark.parametrize(
  "reply, answer",
  [
    ("Peru.\n</think>\n\nLima", "Lima"),
    ("Lima", Unended("")),
    ("", Unended("")),
  ],
)
def test_a_thought_that_the_prompt_opens(reply, answer):
  assert _run(R1, (reply, "stop"), **_R1)[1] == answer


@pytest.mark.parametrize("reply", ["<think>\nPeru, Pe", "Lima, no, Per", ""])
def test_a_thought_without_an_end_has_no_answer(reply):
  assert _run(QWEN, (reply, "length"))[1] == Unended("")
  # The answer behind a thought may be cut, as any other.
  assert _run(QWEN, (f"{reply}</think>Li", "length"))[1] == "Li"


@pytest.mark.parametrize("chat, options", [(QWEN, {}), (R1, _R1)])
def test_budget_forcing_closes_the_thought_and_asks_on(chat, options):
  begun = "" if options else "<think>\n"
  replies = (f"{begun}Peru. \n", "length"), ("Lima", "stop")
  options = options | {"budget_forcing": True, "answer_tokens": 8}
  (first, second), answer = _run(chat, *replies, **options)
  assert answer == Unended("Lima")
  forced = second.prompt(chat).removeprefix(first.prompt(chat))
  assert forced == f"{begun}Peru.\n</think>\n\n"
  assert (second.max_new_tokens, second.messages) == (8, first.messages)
  # What is closed already is not asked again.
  closed = f"{begun}Peru</think>Li", "length"
  assert _run(chat, closed, **options)[1] == "Li"
  options |= {"max_new_tokens": 4}
  assert _run(chat, *replies, **options)[0][1].max_new_tokens == 4


def test_where_replies_have_no_text_of_the_marker_they_stop_at_it():
  """Special tokens are dropped from the text: the answer is asked for."""
  markers = ["<think>", "</think>"]
  chat = _chat(chat_templates.SWITCHED, OFF, special=markers)
  replies = ("\nPeru.\n", "stop"), ("Lima", "stop")
  (first, second), answer = _run(chat, *replies)
  assert first.stop == ("</think>",)
  assert answer == "Lima"
  forced = second.prompt(chat).removeprefix(first.prompt(chat))
  assert forced == "<think>\nPeru.\n</think>\n\n"
  assert _run(chat, ("\nPeru", "length"))[1] == Unended("")
