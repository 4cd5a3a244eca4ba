"""Teaches ever less of the thought before an answer, stage by stage.

The first stage is a run that teaches whole thoughts; each of the others goes on
from the model of the one before with fewer tokens of them, the last with none.
As more training is the cheaper explanation there is a control, taught answers
alone for as many epochs. The page, which says what stage to use, is
WORKDIR/report/index.html.
"""

from __future__ import annotations

from collections.abc import Sequence

from etils import epath
from ml_collections import ConfigDict

from s2d_jax import records
from s2d_jax.errors import UserError
from s2d_jax.reporting import internalise as pages, terminal
from s2d_jax.stages import curate, lengths, nested, prepare, series, setup
from s2d_jax.stages.series import Run, Series
from s2d_jax.training.internalise import DIRECT, last_tokens, long_thought

# Workdir → its long thought, which may be one of a million.
_measured: dict[epath.Path, int] = {}


def _is_wanted(config: ConfigDict) -> bool:
  """Whether a config is of several stages, and not of one of them."""
  return config.internalise.stages > 0 and not config.internalise.stage


def _names(config: ConfigDict) -> list[str]:
  return [*map(str, range(config.internalise.stages + 1)), DIRECT]


def _workdirs(config: ConfigDict, workdir: epath.Path) -> list[epath.Path]:
  return [pages.folder_of(workdir, name) for name in _names(config)]


def _run_of(config: ConfigDict, workdir: epath.Path, place: int) -> Run:
  one = config.copy_and_resolve_references()
  name, stages = _names(config)[place], config.internalise.stages
  one.internalise.stage = name
  if name == DIRECT:
    one.finetune.thought = 0
    one.finetune.epochs *= stages + 1
  elif place:
    longest = _long_thought(config, pages.folder_of(workdir, "0"))
    one.finetune.thought = last_tokens(longest, stages, place)
  return Run(one, pages.folder_of(workdir, name))


def _long_thought(config: ConfigDict, workdir: epath.Path) -> int:
  """In tokens, of what is taught in the first stage."""
  if workdir not in _measured:
    chat = setup.chat_template(config, setup.base_without_weights(config))
    rows = records.read(workdir / "distill" / "train.jsonl")
    _measured[workdir] = long_thought(lengths.of_thoughts(chat, rows))
  return _measured[workdir]


def _check_valid(config: ConfigDict, workdir: epath.Path) -> None:
  use = "it is what the stage to use is chosen by"
  series.check_valid(SERIES, config, workdir, use)


def _check_thoughts(config: ConfigDict, workdir: epath.Path) -> None:
  """Raises UserError for stages that would take no token away."""
  longest, stages = _long_thought(config, workdir), config.internalise.stages
  if stages > longest:
    raise UserError(
      f"internalise.stages={stages}, but a long thought of {workdir}/distill"
      f" has {longest} tokens, and each stage takes one away at least; set"
      f" internalise.stages={longest} or less"
    )


def _take_over(config: ConfigDict, workdir: epath.Path) -> None:
  """All but what is learnt: the first stage has made it."""
  parts = (
    nested.EXAMPLES,
    *nested.samples(config.method),
    nested.selections(config.method),
    nested.CURATION,
    nested.EVALUATION_OF_BASE,
    nested.RETENTION_OF_BASE,
  )
  nested.take_over(workdir.parent / "0", workdir, parts)


def _report(workdir: epath.Path, done: Sequence[Run]) -> bool:
  """Writes the page, and prints the table."""
  thoughts = {one.workdir.name: one.config.finetune.thought for one in done} | {
    "0": _long_thought(*done[0])
  }
  found = pages.load(
    done[0].config.internalise.stages,
    {one.workdir.name: one.workdir for one in done},
    thoughts,
  )
  path = pages.write(found, workdir)
  terminal.print_series(found.answer, pages.lines(found))
  print(f"wrote {path}", flush=True)
  return False  # how far to go is only known at the end


SERIES = Series(
  "stages",
  setting="internalise.stages",
  single=0,
  is_wanted=_is_wanted,
  workdirs=_workdirs,
  run_of=_run_of,
  checks={prepare.run: _check_valid, curate.run: _check_thoughts},
  take_over=_take_over,
  report=_report,
)
