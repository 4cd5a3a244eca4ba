"""Chat templates that cannot be learnt from end a run before it samples."""

from __future__ import annotations

import shutil

from etils import epath
import pytest

from s2d_jax.checkpoints import pretrained
from s2d_jax.errors import UserError
from s2d_jax.stages import pipeline, prepare, sample, setup
from tests import chat_templates, tiny_chat

_END = tiny_chat.END
_REFUSED = {
  "no end of a turn": (
    "{% for m in messages %}{{ m.content }}\n{% endfor %}",
    "never learn to stop",
  ),
  "no replies": (
    "{% for m in messages %}{% if m.role != 'assistant' %}{{ m.content }}"
    f"{_END}{{% endif %}}{{% endfor %}}",
    "never learn to stop",
  ),
  "another conversation": (
    "{% if messages|length != 7 %}{{ raise_exception('Seven!') }}{% endif %}",
    "the chat template refuses this conversation .Seven!.",
  ),
  "none": (None, "has no chat template"),
}


@pytest.mark.parametrize("run", [prepare.run, pipeline.run])
@pytest.mark.parametrize("name", _REFUSED)
def test_a_template_that_cannot_be_learnt_from(config, tmp_path, name, run):
  template, message = _REFUSED[name]
  model = shutil.copytree(config.model.name, tmp_path / "model")
  (model / "chat_template.jinja").unlink()
  if template is not None:
    (model / "chat_template.jinja").write_text(template)
  config = config.copy_and_resolve_references()
  config.model.name = str(model)
  workdir = epath.Path(tmp_path / "run")
  with pytest.raises(UserError, match=message):
    run(config, workdir)
  assert not workdir.exists()


def test_a_model_that_is_changed_after_prepare(config, finished, tmp_path):
  """As long as nothing is sampled it may be: it is looked at again."""
  model = shutil.copytree(config.model.name, tmp_path / "model")
  template = _REFUSED["no end of a turn"][0]
  (model / "chat_template.jinja").write_text(template)
  workdir = epath.Path(tmp_path / "run")
  shutil.copytree(finished / "examples", workdir / "examples")
  config = config.copy_and_resolve_references()
  config.model.name = str(model)
  with pytest.raises(UserError, match="never learn to stop"):
    sample.run(config, workdir)
  assert not any(part.stat().length for part in workdir.glob("samples/*/*"))
  setup.release()


def test_every_prompt_of_a_run_is_tried(config):
  """Those of its method too, and of the choice among replies if there is one.

  A template stops at a word of the prompt.
  """
  tiny = pretrained.load_without_weights(config.model.name)
  template = tiny.tokenizer.chat_template
  for said, select, refused in (
    ("Leave out the user", "vote", True),
    ("most consistent", "usc", True),
    ("most consistent", "vote", False),
  ):
    changed = config.copy_and_resolve_references()
    changed.curation.select = select
    tiny.tokenizer.chat_template = (
      f"{{% if {said!r} in messages[-1].content or {said!r} in"
      " messages[0].content %}{{ raise_exception('No!') }}{% endif %}"
      + template
    )
    if refused:
      with pytest.raises(UserError, match="refuses this conversation .No!."):
        setup.check_chats(changed, tiny)
    else:
      setup.check_chats(changed, tiny)


def _with(template: str, config, prompts=None, **options):
  """A model with the template, and settings of its options."""
  tiny = pretrained.load_without_weights(config.model.name)
  tiny.tokenizer.chat_template = template
  changed = config.copy_and_resolve_references()
  with changed.unlocked():
    changed.model.chat = options
    changed.prompts.update(prompts or {})
  return changed, tiny


def test_an_option_that_the_template_does_not_read_ends_the_run(config):
  given = chat_templates.SWITCHED, config
  setup.check_chats(*_with(*given, enable_thinking=False))
  for wrong in (
    _with(*given, no_thinking=True),
    _with(*given, prompts={"extract": {"chat": {"no_thinking": True}}}),
  ):
    with pytest.raises(
      UserError, match="does not read 'no_thinking'.* it reads enable_thinking$"
    ):
      setup.check_chats(*wrong)


def test_a_prompt_of_system_2_may_change_options_and_system_1_may_not(config):
  """The student is taught in the chat of the run."""
  on, off = {"enable_thinking": True}, {"enable_thinking": False}
  changed, tiny = _with(
    chat_templates.SWITCHED, config, {"extract": {"chat": on}}, **off
  )
  setup.check_chats(changed, tiny)
  task = setup.task_of(changed)
  chat = setup.chat_template(changed, tiny)
  prompts = setup.prompts_of(changed, task)
  asked = {
    name: template.ask(text="?", format="x").prompt(chat)
    for name, template in prompts.items()
  }
  assert asked["extract"].endswith("assistant:")
  assert asked["system1"].endswith("assistant:<think>\n\n</think>\n\n")
  for name in ("system1", "system1_shots"):
    wrong, _ = _with(chat_templates.SWITCHED, config, {name: {"chat": on}})
    with pytest.raises(UserError, match=f"prompts.{name}.chat cannot be"):
      setup.check(wrong)


def test_where_a_system_message_stands_is_said_once(config, capsys):
  setup._say_once.cache_clear()
  for _ in range(2):
    setup.check_chats(*_with(chat_templates.OPENED, config))
  assert "system role" not in capsys.readouterr().out
  alternating = (
    "{% for m in messages %}{% if m.role == 'system' %}"
    "{{ raise_exception('No system role') }}{% endif %}{{ m.content }}"
    f"{_END}{{% endfor %}}"
  )
  for _ in range(2):
    setup.check_chats(*_with(alternating, config))
  assert capsys.readouterr().out.count("has no system role") == 1
