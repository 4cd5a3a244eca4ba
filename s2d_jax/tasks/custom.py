"""Your own questions: a data set and a config, no code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import re
import string
from typing import Any

from s2d_jax.answers.answer import AnswerParser
from s2d_jax.answers.choice import Choice
from s2d_jax.answers.json_value import Json
from s2d_jax.answers.letters import Letters
from s2d_jax.answers.number import Number
from s2d_jax.answers.pattern import Regex
from s2d_jax.answers.scorers import make_scorer
from s2d_jax.answers.settings import make_parser
from s2d_jax.answers.text import Text
from s2d_jax.answers.words import normalise
from s2d_jax.errors import UserError
from s2d_jax.functions import function
from s2d_jax.system2 import decompose
from s2d_jax.system2.program import Template, are_shots
from s2d_jax.tasks import cells
from s2d_jax.tasks.cells import Row
from s2d_jax.tasks.questions import Questions, placeholders


class Custom(Questions):
  """A task that a config describes.

  Args:
    train: source of the rows to learn from; see `sources`.
    prompt: what the user says, a template over the columns: "{question}".
    answer: how an answer is parsed: {"kind": "number"}, {"kind": "choice",
      "options": [...]}, {"kind": "regex", "pattern": …}, {"kind": "text",
      "max_words": 12}, {"kind": "letters"} or {"kind": "json"}.
    format: how to answer, as the end of the sentence "Answer with …"; by
      default what the kind of answer suggests.
    score: how an answer is scored by its label: "exact", "contains" (the label
      stands in it), "f1" (of their words), "number" and "json" (by value), or
      "package.module:function" of (answer, labels) → 0 to 1.
    label: column of the right answer, a text or a list of texts; None:
      unlabelled.
    id: column of the rows' names; None numbers them.
    columns: field → column, for templates with other names.
    optional: column that may be blank → what stands for it in a template
      where it is not, as {"input": " Input: {input}"}; where it is, nothing.
    variants: name → template: paraphrases, which must not change the answer.
    perturb: name → "package.module:function" of (row, random) → changed row,
      which must not change the answer either.
    perturbations: those of `variants` and `perturb` that only test whether an
      answer stands: they are neither taught nor evaluated.
    parts: templates over the columns, a simpler question each, which the method
      `decompose` asks by themselves.
    rule: what makes an answer of theirs: "same", "larger", "smaller", "sum", or
      "package.module:function" of the list of answers.
    valid: source of the rows to choose the checkpoint; None: part of train.
    test: source of the rows for the report; None: part of train.
    train_size: rows to learn from; None takes all that are left.
    valid_size: rows to choose the checkpoint.
    test_size: rows for the report.
    system: system message of System 1.
    shots: worked examples of System 1, pairs of user message and reply.
    max_new_tokens: where a direct answer is cut.
    streaming: read no more of a source than is needed.
    seed: of the splits and perturbations.
  """

  name = "custom"

  def __init__(
    self,
    train: str,
    prompt: str,
    answer: Mapping[str, Any],
    format: str | None = None,
    label: str | None = None,
    score: str = "exact",
    id: str | None = None,
    columns: Mapping[str, str] | None = None,
    optional: Mapping[str, str] | None = None,
    variants: Mapping[str, str] | None = None,
    perturb: Mapping[str, str] | None = None,
    perturbations: Sequence[str] = (),
    parts: Sequence[str] = (),
    rule: str = "same",
    valid: str | None = None,
    test: str | None = None,
    train_size: int | None = None,
    valid_size: int | None = 50,
    test_size: int | None = 100,
    system: str = "",
    shots: Sequence[tuple[str, str]] = (),
    max_new_tokens: int = 32,
    streaming: bool = False,
    seed: int = 0,
  ):
    for option, value in (
      ("columns", columns),
      ("optional", optional),
      ("variants", variants),
      ("perturb", perturb),
    ):
      _check_mapping(option, value)
    _check_variants(variants or {}, perturb or {})
    _check_perturbations(perturbations, [*(variants or {}), *(perturb or {})])
    self.perturbations = tuple(perturbations)
    _check_shots(shots)
    for option, column in (("label", label), ("id", id)):
      if not isinstance(column, str | None):
        raise UserError(
          f"task.{option}={column!r} must be the name of a column, a text"
        )
    _check_whole("max_new_tokens", max_new_tokens)
    for split, size in (
      ("train", train_size),
      ("valid", valid_size),
      ("test", test_size),
    ):
      if size is not None:
        _check_whole(f"{split}_size", size)
    parser = make_parser(answer)
    templates = {"plain": prompt, **(variants or {})}
    for variant, template in templates.items():
      option = "prompt" if variant == "plain" else f"variants.{variant}"
      _check_template(option, template, optional or {})
    _check_optional(optional or {}, templates)
    _check_parts(parts, optional or {})
    decompose.rule(rule)
    super().__init__(
      name=self.name,
      sources={"train": train, "valid": valid, "test": test},
      sizes={"train": train_size, "valid": valid_size, "test": test_size},
      templates=templates,
      answer=parser,
      format=format or _format_of(parser),
      prompts={
        "system1": Template(
          "{text}\nAnswer with {format}.",
          max_new_tokens=max_new_tokens,
          system=system,
          shots=tuple((user, reply) for user, reply in shots),
          # JSON may span lines.
          stop=() if isinstance(parser, Json) else ("\n",),
        ),
        **({"part": decompose.SHORT_PART} if parts else {}),
      },
      label=lambda row: _labels(row, label, parser),
      scorer=make_scorer(score, function),
      columns=columns,
      optional=optional,
      perturbations={
        name: function(path) for name, path in (perturb or {}).items()
      },
      parts=tuple(parts),
      rule=rule,
      identify=(lambda row: _id(row, id)) if id else None,
      streaming=streaming,
      seed=seed,
    )


def _check_mapping(option: str, value: Any) -> None:
  if value is not None and not (
    isinstance(value, Mapping)
    and all(isinstance(text, str) for pair in value.items() for text in pair)
  ):
    raise UserError(
      f"task.{option}={value!r} must map names to texts, as in"
      ' {"name": "text"}'
    )


def _check_variants(variants: Mapping, perturb: Mapping) -> None:
  for name in perturb:
    if name in variants:
      raise UserError(
        f"task.perturb.{name} has the name of one of task.variants; rename it"
      )
  for option, names in (("variants", variants), ("perturb", perturb)):
    if "plain" in names:
      raise UserError(
        f"task.{option}.plain is the name of task.prompt itself; rename it"
      )


def _check_perturbations(names: Sequence[str], known: Sequence[str]) -> None:
  unknown = [name for name in names if name not in known]
  if isinstance(names, str) or unknown:
    raise UserError(
      f"task.perturbations={names!r} must be a list of names that task.variants"
      f" or task.perturb have; there are {', '.join(known) or 'none'}"
    )


def _check_shots(shots: Any) -> None:
  if not are_shots(shots):
    raise UserError(
      f"task.shots={shots!r} must be pairs of a user message and its reply"
    )


def _check_parts(parts: Any, optional: Mapping[str, str]) -> None:
  if not isinstance(parts, (list, tuple)):
    raise UserError(
      f"task.parts={parts!r} must be a list of templates, a simpler question"
      ' each, as ["{first}", "{second}"]'
    )
  for number, part in enumerate(parts):
    _check_template(f"parts[{number}]", part, optional)


def _check_whole(option: str, value: Any) -> None:
  if not isinstance(value, int) or isinstance(value, bool) or value < 1:
    raise UserError(
      f"task.{option}={value!r} must be a whole number, 1 or more"
    )


def _check_template(
  option: str, template: str, optional: Mapping[str, str]
) -> None:
  try:
    if not isinstance(template, str):
      raise ValueError("it is no text")
    for _, name, spec, conversion in string.Formatter().parse(template):
      if name == "" or spec or conversion:
        raise ValueError("a placeholder must be the bare name of a column")
    names = placeholders(template)
  except ValueError as error:
    raise UserError(
      f"task.{option}={template!r} is no template ({error}); put column names"
      " in braces, and double literal braces"
    ) from None
  if not names:
    raise UserError(
      f"task.{option}={template!r} has no column in braces; write for instance"
      " {question}"
    )
  if set(names) <= set(optional):
    raise UserError(
      f"task.{option}={template!r} may be blank, as all its columns are in"
      " task.optional; leave one out there"
    )


def _check_optional(
  optional: Mapping[str, str], templates: Mapping[str, str]
) -> None:
  used = {name for text in templates.values() for name in placeholders(text)}
  for column, text in optional.items():
    if column not in used:
      raise UserError(
        f"task.optional.{column} is in no prompt; put {{{column}}} where its"
        " text is to stand"
      )
    _check_template(f"optional.{column}", text, {})
    if set(placeholders(text)) != {column}:
      raise UserError(
        f"task.optional.{column}={text!r} must have {{{column}}} in it, and no"
        " other column"
      )


def _format_of(parser: AnswerParser) -> str:
  if isinstance(parser, Number):
    return "a number only"
  if isinstance(parser, Letters):
    return "the letters only"
  if isinstance(parser, Json):
    return "JSON only"
  if isinstance(parser, Choice):
    *most, last = parser.options
    return f"{', '.join(most)} or {last} only"
  return "a short answer"


def _labels(
  row: Row, column: str | None, parser: AnswerParser
) -> list[str] | None:
  """The right answers, as the answers of replies are normalised."""
  if column is None:
    return None
  cells.need_columns("task.label", row, (column,))
  values = cells.texts(row, column)
  if not values:
    return None
  labels = [found for v in values if (found := _label(v, parser)) is not None]
  if not labels:
    raise UserError(
      f"task.label: the column {column!r} says {values[0][:60]!r}, which no"
      f" reply is ever read as ({row.place}); fix task.answer, or the label"
    )
  return labels


def _label(text: str, parser: AnswerParser) -> str | None:
  text = text.strip()
  if isinstance(parser, Choice):
    return _option(text, parser)
  if isinstance(parser, Text):  # a label is an answer, whatever its form
    words = normalise(text)
    return words if 0 < len(words.split()) <= parser.max_words else None
  found = parser(text)
  if isinstance(parser, Regex) and found is None:
    return text  # the label need not be a whole reply
  return found and found.text


def _option(text: str, parser: Choice) -> str | None:
  """The option that a label names: by its text, true or false, its number."""
  named = {option.casefold(): option for option in parser.options}
  named.update({option: option for option in parser.options})
  for spelling in (text, text.casefold(), _BOOLEAN.get(text.casefold())):
    if spelling in named:
      return named[spelling]
  if not any(option.isdigit() for option in parser.options):
    # A data set may number its classes, from 0.
    if re.fullmatch(r"\d+(\.0)?", text):
      number = int(text.removesuffix(".0"))
      return parser.options[number] if number < len(parser.options) else None
  found = parser(text)
  return found and found.text


_BOOLEAN = {"true": "yes", "false": "no"}


def _id(row: Row, column: str) -> str:
  cells.need_columns("task.id", row, (column,))
  return cells.text(row, column)
