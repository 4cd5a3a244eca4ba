"""Prompts against Jinja itself, and against transformers on the same day."""

from __future__ import annotations

import datetime
import functools
import re

import jinja2
import pytest

from s2d_jax import conversation
from s2d_jax.conversation import ChatTemplate
from s2d_jax.errors import UserError
from s2d_jax.training.examples import tokenise
from tests import chat_templates, tiny_chat

DAY = datetime.date(2024, 7, 6)
ASK = [{"role": "user", "content": "Which?"}]
BODY = (
  "{% for m in messages %}{{ m['role'] }}:{{ m['content'] }}<|im_end|>\n"
  "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
DATED = {
  "call": "{{ strftime_now('%d %b %Y') }}\n" + BODY,
  # As Llama 3.2's.
  "if defined": (
    "{%- if not date_string is defined %}\n"
    "  {%- if strftime_now is defined %}\n"
    '    {%- set date_string = strftime_now("%d %b %Y") %}\n'
    "  {%- else %}\n    {%- set date_string = '26 Jul 2024' %}\n"
    "  {%- endif %}\n{%- endif %}\nToday Date: {{ date_string }}\n" + BODY
  ),
  "named format": (
    "\n  {% set f = '%A, %-d %B' %}\n{{ strftime_now(f ~ ' %Y') }}\n\n" + BODY
  ),
  "in a macro": (
    "  {% macro head(n) %}{{ n }} {{ strftime_now('%Y-%m-%d %H:%M') }}"
    "{% endmacro %}\n{% for m in messages %}{{ head(loop.index) }}"
    "{% endfor %}\n" + BODY
  ),
  "number": "{{ 1 + strftime_now('%Y') | int }}{{ 100 }}%\n" + BODY,
}


def _chat(template, options=None, date=DAY) -> ChatTemplate:
  tokenizer = tiny_chat.tokenizer()
  tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
  tokenizer.chat_template = template
  return ChatTemplate(tokenizer, options, date)


def _by_jinja(template: str, date: datetime.date, **variables) -> str:
  """As transformers sets Jinja up, with a clock that stands."""
  environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
  environment.globals["strftime_now"] = date.strftime
  variables = {"messages": ASK, "add_generation_prompt": True} | variables
  return environment.from_string(template).render(variables)


@pytest.mark.parametrize("name", DATED)
def test_a_template_is_told_the_given_date(name):
  expected = _by_jinja(DATED[name], DAY)
  assert {"2024", "2025"} & set(re.findall(r"\d{4}", expected))
  assert _chat(DATED[name]).prompt(ASK) == expected


@pytest.mark.parametrize("name", DATED)
def test_without_a_date_it_is_today(name):
  chat = _chat(DATED[name], date=None)
  # Nothing but the date may have been changed; midnight may pass meanwhile.
  told = DATED[name].replace(" %H:%M", "")
  chat.tokenizer.chat_template = told
  assert chat.prompt(ASK) in (
    _by_jinja(told, datetime.date.today() - datetime.timedelta(days=days))
    for days in (0, 1)
  )
  by_transformers = chat.tokenizer.apply_chat_template(
    ASK, tokenize=False, add_generation_prompt=True
  )
  assert chat.prompt(ASK) == by_transformers


def test_the_next_day_changes_nothing(monkeypatch):
  """With the date that is kept in a run's settings."""
  settings = {"chat": {}, "date": DAY.isoformat()}
  tokenizer = _chat(DATED["if defined"]).tokenizer
  made = []
  for day in (DAY, DAY + datetime.timedelta(days=1)):
    monkeypatch.setattr(conversation, "today", lambda day=day: day)
    chat = ChatTemplate.from_settings(tokenizer, settings)
    tokens, is_target = tokenise(chat, ASK, "Lima")
    made.append((chat.prompt(ASK), tokens.tolist(), is_target.tolist()))
  assert made[0] == made[1]
  assert ChatTemplate(tokenizer).prompt(ASK) != made[0][0]


def test_options_reach_prompts_examples_and_end_tokens():
  template = (
    "{% set end = '<|turn|>' if short else '<|im_end|>' %}"
    "{% for m in messages %}{{ m['content'] }}{{ end }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'S:' if short else 'L:' }}{% endif %}"
  )
  prompts, ends = [], []
  for options in ({}, {"short": True}):
    chat = _chat(template, options)
    prompts.append(chat.prompt(ASK))
    assert prompts[-1] == _by_jinja(template, DAY, **options)
    ends.append(set(chat.end_tokens))
    assert chat.unfinished(ASK) == "Which?"
  assert prompts[0] != prompts[1]
  turn, end = chat.tokenizer.convert_tokens_to_ids(["<|turn|>", "<|im_end|>"])
  assert ends == [{end}, {turn, end}]
  glued = template.partition("{% if add")[0]
  for options, closing in (({}, end), ({"short": True}, turn)):
    tokens, is_target = tokenise(_chat(glued, options), ASK, "Lima")
    assert tokens[-1] == closing and is_target[-1]


# What the template writes for an answered turn, and how that ends.
_ENDS = {
  "special": ("REPLY<|turn|>\n", "<|turn|>"),
  "not special": ("REPLY<turn>\n<|turn|>", "<turn>"),
  "behind text": ("REPLY over.\n<turn>", "<turn>"),
  "behind spaces": ("REPLY    <turn>", "<turn>"),
  "another before the reply": ("<|turn|>REPLY<turn>", "<turn>"),
  "none": ("REPLY\n", None),
  "no reply": ("<turn>", None),
}


@pytest.mark.parametrize("opened", ["A:", "A:<think>\n"])
@pytest.mark.parametrize("name", _ENDS)
def test_the_end_of_a_turn(name, opened):
  """The first added token behind the reply, however the prompt ended."""
  answer, end = _ENDS[name]
  answer = answer.replace("REPLY", "A:{{ m['content'].strip() }}")
  tokenizer = _chat(
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}"
    f"<|turn|>{{% else %}}{answer}{{% endif %}}{{% endfor %}}"
    f"{{% if add_generation_prompt %}}{opened}{{% endif %}}"
  ).tokenizer
  tokenizer.add_tokens(["<turn>", "<think>", "    "])  # not special
  text = tokenizer.eos_token
  ends = ChatTemplate(tokenizer).end_tokens
  assert set(tokenizer.convert_ids_to_tokens(ends)) == {text, end} - {None}
  own = ChatTemplate(tokenizer, end_tokens=[7, 5]).end_tokens
  assert own == tuple(sorted({5, 7, *ends}))
  tokenizer.eos_token = None
  ends = ChatTemplate(tokenizer).end_tokens
  assert tokenizer.convert_ids_to_tokens(ends) == ([end] if end else [])


def test_settings_of_a_run_are_those_of_its_model_section():
  tokenizer = _chat("{{ word }}{{ strftime_now('%Y') }}").tokenizer
  settings = {"name": "x", "chat": {"word": "in "}, "date": "1999-12-31"}
  chat = ChatTemplate.from_settings(tokenizer, settings)
  assert chat.prompt(ASK) == "in 1999"
  today = ChatTemplate.from_settings(tokenizer, {}).prompt(ASK)
  assert int(today) >= 2025
  with pytest.raises(UserError, match="model.date='tomorrow' must be a day"):
    ChatTemplate.from_settings(tokenizer, {"date": "tomorrow"})


def test_what_a_template_says_of_its_mistake_is_told():
  template = (
    "{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ m['content'] }}<|im_end|>{% endfor %}"
  )
  chat = _chat(template)
  assert chat.prompt(ASK) == "Which?<|im_end|>"
  system = {"role": "system", "content": "S"}
  for make in (chat.prompt, chat.unfinished, lambda m: chat.answered(m, "x")):
    for nowhere_to_stand in ([*ASK, system], [system], [system, system, *ASK]):
      with pytest.raises(
        UserError, match="refuses .*System role not supported"
      ):
        make(nowhere_to_stand)
  for broken in ("{% if", "{{ messages[0]['content'] + 1 }}", "{{ no.such }}"):
    with pytest.raises(UserError, match="the chat template refuses"):
      _chat(broken).prompt(ASK)


# After the manners of families that have no system role, want turns to
# alternate, leave a system message out, or put it in front themselves.
_STRICT = (
  "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
  "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
  "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
  "{% else %} {{ m.content }}<|im_end|>{% endif %}{% endfor %}"
)
_REFUSING = (
  "{% if messages[0]['role'] == 'system' %}"
  "{{ raise_exception('System role not supported') }}{% endif %}"
  "{% for m in messages %}<start>{{ 'model' if m.role == 'assistant' else "
  "m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
  "{% if add_generation_prompt %}<start>model\n{% endif %}"
)
_ALTERNATING = (
  "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
  "{{ raise_exception('alternate') }}{% endif %}{% endfor %}" + _REFUSING
)
_SILENT = (
  "{% for m in messages %}{% if m.role == 'user' %}Q: {{ m.content }}<|im_end|>"
  "{% elif m.role == 'assistant' %}A: {{ m.content }}<|im_end|>{% endif %}"
  "{% endfor %}{% if add_generation_prompt %}A: {% endif %}"
)
_OWN_WAY = (
  "{% set found = messages[0].role == 'system' %}"
  "{% for m in messages[1 if found else 0:] %}{% if m.role == 'user' %}"
  "[INST] {% if loop.last and found %}{{ messages[0].content }}, {% endif %}"
  "{{ m.content }} [/INST]{% else %}{{ m.content }}<|im_end|>{% endif %}"
  "{% endfor %}"
)
SYSTEM = {"role": "system", "content": "Be brief."}
SHOTS = [
  {"role": "user", "content": "Where?"},
  {"role": "assistant", "content": "There."},
]


@pytest.mark.parametrize("template", [_STRICT, _REFUSING, _SILENT])
@pytest.mark.parametrize("turns", [ASK, [*SHOTS, *ASK]])
def test_a_system_message_stands_in_front_of_the_user_s_text(template, turns):
  """As Jinja renders the user's text with it, in prompts and examples."""
  chat = _chat(template)
  told = {"role": "user", "content": f"Be brief.\n\n{turns[0]['content']}"}
  by_jinja = _by_jinja(template, DAY, messages=[told, *turns[1:]])
  assert chat.prompt([SYSTEM, *turns]) == by_jinja
  assert by_jinja.count("Be brief.\n\n") == 1
  assert chat.answered([SYSTEM, *turns], "Lima").text.startswith(by_jinja)
  tokens, is_target = tokenise(chat, [SYSTEM, *turns], "Rome")
  assert chat.tokenizer.decode(tokens[~is_target]).startswith(by_jinja)
  unfinished = [SYSTEM, *turns, {"role": "assistant", "content": "Li"}]
  assert "Be brief.\n\n" in chat.unfinished(unfinished)
  # Without one nothing is changed.
  assert chat.prompt(turns) == _by_jinja(template, DAY, messages=turns)


@pytest.mark.parametrize("template", [BODY, _OWN_WAY])
def test_a_template_with_a_system_role_gets_the_message(template):
  for turns in (ASK, [*SHOTS, *ASK]):
    asked = _chat(template).prompt([SYSTEM, *turns])
    assert asked == _by_jinja(template, DAY, messages=[SYSTEM, *turns])
    assert asked.count("Be brief.") == 1 and "Be brief.\n\n" not in asked


@pytest.mark.parametrize("template", [_STRICT, _ALTERNATING])
def test_turns_of_one_role_are_one_where_they_must_alternate(template):
  """Worked examples may have two of a role in a row."""
  chat, more = _chat(template), {"role": "user", "content": "Where?"}
  one = {"role": "user", "content": "Where?\n\nWhich?"}
  by_jinja = _by_jinja(template, DAY, messages=[one])
  assert chat.prompt([more, *ASK]) == by_jinja
  tokens, is_target = tokenise(chat, [more, *ASK], "Rome")
  assert chat.tokenizer.decode(tokens[~is_target]).startswith(by_jinja)
  told = {"role": "user", "content": "Be brief.\n\nWhere?\n\nWhich?"}
  by_jinja = _by_jinja(template, DAY, messages=[told])
  assert chat.prompt([SYSTEM, more, *ASK]) == by_jinja
  said = {"role": "assistant", "content": "There.\n\nThere."}
  by_jinja = _by_jinja(template, DAY, messages=[SHOTS[0], said, *ASK])
  assert chat.prompt([*SHOTS, SHOTS[1], *ASK]) == by_jinja


def test_turns_in_a_row_are_left_alone_where_they_may_be():
  turns = [*SHOTS, SHOTS[1], *ASK, *ASK]
  assert _chat(BODY).prompt(turns) == _by_jinja(BODY, DAY, messages=turns)


def test_turns_that_do_not_alternate_are_refused_with_the_template_s_words():
  """Where nobody asks before the first answer."""
  for turns in ([*SHOTS[1:], *ASK], [SYSTEM, *SHOTS[1:], *ASK]):
    with pytest.raises(UserError, match="Conversation roles must alternate"):
      _chat(_STRICT).prompt(turns)


_THINKS = {
  "switched": chat_templates.SWITCHED,
  "modes": chat_templates.MODES,
  "opened": chat_templates.OPENED,
}


@pytest.mark.parametrize("options", [{}, {"enable_thinking": False}])
@pytest.mark.parametrize("name", _THINKS)
def test_what_stands_between_prompt_and_answer_is_of_the_prompt(name, options):
  """An empty or an opened thought is read, and has no loss."""
  if name == "opened" and options:
    pytest.skip("it has no option")
  chat = _chat(_THINKS[name], options)
  thought = "<think>\n\n</think>" if options else "<think>\n"
  prompt = _by_jinja(_THINKS[name], DAY, **options)
  assert (thought in prompt) == (name == "opened" or bool(options))
  for turns in (ASK, [SYSTEM, *SHOTS, *ASK]):
    prompt = _by_jinja(_THINKS[name], DAY, messages=turns, **options)
    assert chat.prompt(turns) == prompt
    tokens, is_target = tokenise(chat, turns, "Rome")
    read, *_ = chat.tokenizer.decode(tokens[~is_target]).rpartition("\n")
    assert prompt.startswith(read)
    taught = chat.tokenizer.decode(tokens[is_target])
    assert taught == "Rome<|im_end|>"
    # Whoever goes on with a reply reads what the student has learnt behind.
    begun = {"role": "assistant", "content": "Ro"}
    assert chat.unfinished([*turns, begun]) == prompt + "Ro"


@pytest.mark.parametrize("name", ["switched", "opened"])
def test_thoughts_of_earlier_turns_are_left_to_the_template(name):
  thoughtful = {"role": "assistant", "content": "<think>\nHm\n</think>There."}
  turns = [SHOTS[0], thoughtful, *ASK]
  chat = _chat(_THINKS[name])
  assert chat.prompt(turns) == chat.prompt([*SHOTS, *ASK])
  assert chat.prompt(turns) == _by_jinja(_THINKS[name], DAY, messages=turns)


def test_the_system_message_may_say_the_mode():
  """As SmolLM3's /no_think."""
  off = _chat(chat_templates.MODES, {"enable_thinking": False})
  said = [{"role": "system", "content": "/no_think"}, *ASK]
  assert _chat(chat_templates.MODES).prompt(said) == off.prompt(ASK)


# Options that are read in ways of their own, and names that are no options.
_READS = {
  "{{ a }}{{ bos_token }}{{ messages }}": ("a",),
  "{% if a is not defined %}{% set a = 1 %}{% endif %}{{ a }}": ("a",),
  "{% set a = a | default(1) %}{{ a }}": ("a",),
  "{% set a = 1 %}{{ a }}{% set ns = namespace(b=2) %}{{ ns.b }}": (),
  "{% macro f(c) %}{{ c ~ b }}{% endmacro %}{{ f(1) }}": ("b",),
  "{% for m in messages %}{% generation %}{{ m.content ~ a }}"
  "{% endgeneration %}{% break %}{% endfor %}": ("a",),
  "{% for m in messages %}{% if m.role == 'user' %}{% set b = m.content %}"
  "{% endif %}{{ b ~ a }}{% endfor %}": ("a",),
  # As Llama's tools.
  "{% if a is defined %}{% set b = a %}{% endif %}"
  "{% if not b is defined %}{% set b = 1 %}{% endif %}{{ b }}": ("a", "b"),
  "{{ raise_exception('no') if z }}{{ strftime_now('%Y') }}": ("z",),
}


@pytest.mark.parametrize("template", _READS)
def test_options_are_what_the_template_reads(template):
  options = _READS[template]
  for name in ("a", "b", "z", "bos_token", "messages", "tokenize"):
    chat = _chat(template, {name: ""})
    assert chat.option_names == options
    if name in options:
      chat.prompt(ASK)
      continue
    known = ", ".join(options) or "no options at all"
    with pytest.raises(
      UserError, match=rf"not read '{name}', .*; it reads {known}$"
    ):
      chat.prompt(ASK)


def test_a_template_of_one_s_own_stands_in_for_the_tokenizer_s():
  """Say, one that closes the thought that the tokenizer's opens."""
  closed = chat_templates.OPENED.replace("<think>\n", "<think></think>")
  chat = _chat(chat_templates.OPENED, {"chat_template": closed})
  assert chat.prompt(ASK).endswith("assistant:<think></think>")
  opened = chat.with_options({"chat_template": ""})
  assert opened.prompt(ASK).endswith("assistant:<think>\n")


@pytest.mark.parametrize(
  "options",
  [{"a": False}, {"a": True}, {"a": None}, {"a": "it's \"\n"}, {"a": [1, "b"]}],
)
def test_an_exported_tokenizer_has_the_options_as_defaults(options):
  """As transformers renders it, which is told of no option, or of others."""
  template = "  {% if a %}{{ a }}{% endif %}|{{ b }}" + BODY
  chat = _chat(template, options)
  tokenizer = chat.as_tokenizer()
  rendered = functools.partial(
    tokenizer.apply_chat_template,
    ASK,
    tokenize=False,
    add_generation_prompt=True,
  )
  assert rendered() == chat.prompt(ASK)
  assert rendered() == _by_jinja(template, DAY, **options)
  assert rendered(a="x", b=1) == _by_jinja(template, DAY, a="x", b=1)
  assert chat.tokenizer.chat_template == template
  plain = _chat(template)
  assert plain.as_tokenizer() is plain.tokenizer


def test_an_exported_tokenizer_has_the_template_that_was_chosen():
  chat = _chat({"plain": "P" + BODY}, {"chat_template": "plain"})
  assert chat.as_tokenizer().chat_template == "P" + BODY


def test_options_may_be_changed():
  template = "{{ a }}{{ b }}{{ strftime_now('%Y') }}<|im_end|>"
  tokenizer = _chat(template).tokenizer
  chat = ChatTemplate(tokenizer, {"a": 1, "b": 2}, DAY, end_tokens=[7])
  changed = chat.with_options({"b": 3})
  assert chat.prompt(ASK) == "122024<|im_end|>"
  assert changed.prompt(ASK) == "132024<|im_end|>"
  assert changed is chat.with_options({"b": 3})
  assert chat.with_options({}) is chat
  assert changed.end_tokens == chat.end_tokens and 7 in chat.end_tokens


def test_one_template_of_several_is_chosen_by_name():
  known = {"rag": "R" + BODY, "plain": "P" + BODY}
  with pytest.raises(UserError, match="rag, plain, but none called default"):
    _chat(known).prompt(ASK)
  assert _chat(known).end_tokens == (_chat(BODY).tokenizer.eos_token_id,)
  chosen = _chat(known, {"chat_template": "plain"})
  assert chosen.prompt(ASK).startswith("Puser:")
  assert _chat(known | {"default": BODY}).prompt(ASK).startswith("user:")


def test_without_a_template_there_is_no_chat():
  chat = _chat(None)
  with pytest.raises(UserError, match="has no chat template"):
    chat.prompt(ASK)
  assert chat.end_tokens == (chat.tokenizer.eos_token_id,)


def test_an_unknown_option_is_no_refusal_of_a_system_message():
  """It is told of itself, before anything is said of the template."""
  chat = ChatTemplate(tiny_chat.tokenizer(), {"enable_thinkin": False})
  with pytest.raises(UserError, match="does not read 'enable_thinkin'"):
    assert chat.has_system_role
