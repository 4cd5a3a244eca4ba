"""Learns where a direct answer stands, and where System 2 should think.

The distilled model answers the validation inputs, those that curation rejected
included, and a map is learnt from how sure it is to whether System 2's vote
says the same; no label is read. config.gate says where to think: by a budget of
tokens, a quarter of the vote's if it says nothing, or by how likely a direct
answer must be the vote's. Writes eval/distilled-valid.jsonl, gate.json, and
eval/gated.jsonl: what the gate would have answered on the test split, where
nothing is drawn for it.

config.gate may change at any time; called again, this chooses anew where to
think, and draws nothing. Where no gate can be learnt, it says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import json

from etils import epath
from ml_collections import ConfigDict
import numpy as np

from s2d_jax import records
from s2d_jax.evaluation.controls import SYSTEM1
from s2d_jax.gate import gate as gates, rows as gate_rows
from s2d_jax.gate.confidence import SIGNALS
from s2d_jax.gate.gate import Answered, Gate
from s2d_jax.parallel import hosts
from s2d_jax.records import Record
from s2d_jax.stages import evaluate, program, setup
from s2d_jax.tasks.task import cluster_of, read_examples

_VALID = "distilled-valid"  # of the rows of the distilled model there
# Of the tokens of System 2's vote, unless config.gate says otherwise.
_SHARE = 0.25


@program.stage("gate", on="all")
def learn(config: ConfigDict, workdir: epath.Path) -> str:
  """Learns the gate, and answers the test split with it."""
  answered: list[Answered] = []
  why_not = _why_not(config, workdir)
  # A stage of an internalisation is chosen by them, with a gate or without.
  if not why_not or config.internalise.stages:
    _draw(config, workdir)
  if not why_not:
    answered = _answered(config, workdir)
    why_not = gates.why_not(answered)
  if why_not:
    if hosts.is_lead():
      evaluate.path_of(workdir, "gated").unlink(missing_ok=True)
      _write(workdir, {"why_not": why_not})
    return f"none: {why_not}"
  target = _target(config)
  gate = _aimed(gates.learn(answered), **target)
  rows = _gated(config, workdir, gate)
  if hosts.is_lead():
    _write(workdir, {"gate": gate.to_record(), "target": target})
    records.write(evaluate.path_of(workdir, "gated"), rows)
  thought = np.mean([row["thought"] for row in rows])
  tokens = np.mean([row["passes"][0]["tokens"] for row in rows])
  return (
    f"by the {SIGNALS[gate.signal].told}, from {len(answered)} validation"
    f" inputs; System 2 thinks about {100 * thought:.0f} % of {len(rows)} test"
    f" inputs, {tokens:.1f} tokens an answer"
  )


def run(config: ConfigDict, workdir: epath.Path) -> None:
  """Learns it, or chooses anew where it thinks if config.gate has changed."""
  if hosts.lead_value("gate", not is_current(config, workdir)):
    program.unmark(workdir, "gate")
    program.unmark(workdir, "report")  # which shows another gate, or none
  learn(config, workdir)


def is_current(config: ConfigDict, workdir: epath.Path) -> bool:
  """Whether there is a gate by these settings, or the reason that it lacks."""
  path = workdir / "gate.json"
  if not program.is_done(workdir, "gate") or not path.exists():
    return False
  found = records.read_json(path, "delete it, and run s2d gate again")
  return "why_not" in found or found.get("target") == _target(config)


def _target(config: ConfigDict) -> dict[str, float]:
  """By what it says where to think, as `_aimed` takes it."""
  if config.gate.budget:
    return {"budget": config.gate.budget}
  if config.gate.agreement:
    return {"agreement": config.gate.agreement}
  return {"share": _SHARE}


def _aimed(
  gate: Gate, budget: float = 0, agreement: float = 0, share: float = 0
) -> Gate:
  """With one of these."""
  if budget:
    return gate.within(budget)
  return gate.agreeing(agreement) if agreement else gate.with_share(share)


def _why_not(config: ConfigDict, workdir: epath.Path) -> str:
  """Why nothing has to be drawn to know that there is no gate."""
  if config.method == SYSTEM1:
    return "System 2 is System 1"
  if not config.evaluation.controls:
    return "evaluation.controls is off"
  if config.curation.select == "label":
    return "labels are taught, so System 2 has no vote on validation inputs"
  if config.rounds.number > 1 and config.rounds.thinker == "distilled":
    return "its votes on validation inputs are of the round before's model"
  if config.curation.select == "usc":
    return "answers are chosen by the model, as no two are alike, not voted on"
  task = setup.task_of(config)
  examples = read_examples(setup.examples_path(workdir, "valid"))
  if few := gates.too_few([cluster_of(task, e) or e.id for e in examples]):
    return few
  direct = _rows(workdir, "distilled", SYSTEM1)
  if not all(map(_has_logprob, direct.values())):
    return (
      "eval/distilled.jsonl is of an older version, without log-probabilities;"
      " delete it, done/evaluate_distilled.json and done/gate.json, and run s2d"
      " pipeline again"
    )
  return ""


def _has_logprob(row: Record) -> bool:
  """Whether its greedy reply has one, or needs none."""
  greedy = row.get("greedy", {"answer": ""})
  return "logprob" in greedy or greedy["answer"] is None


def _draw(config: ConfigDict, workdir: epath.Path) -> None:
  """The distilled model's answers to the validation split, if they lack."""
  if evaluate.path_of(workdir, _VALID).exists():
    return
  model = setup.distilled_model(config, workdir)
  asked = [evaluate.directly(config)]
  evaluate.ask(config, workdir, _VALID, "valid", asked, model)


def _answered(config: ConfigDict, workdir: epath.Path) -> list[Answered]:
  """The validation inputs that System 2 was asked, too."""
  return [
    gate_rows.answered(direct, thought, config.evaluation.n)
    for direct, thought in _both(config, workdir, _VALID, "valid")
  ]


def _gated(config: ConfigDict, workdir: epath.Path, gate: Gate) -> list[Record]:
  return [
    gate_rows.gated(gate, direct, thought)
    for direct, thought in _both(config, workdir, "distilled", "base")
  ]


def _both(
  config: ConfigDict, workdir: epath.Path, fast: str, slow: str
) -> Iterator[tuple[Record, Record]]:
  """Rows of the inputs that both models were asked."""
  direct = _rows(workdir, fast, SYSTEM1)
  thought = _rows(workdir, slow, config.method)
  return ((direct[one], thought[one]) for one in direct if one in thought)


def _rows(
  workdir: epath.Path, name: str, method: str
) -> Mapping[tuple[str, str], Record]:
  return gate_rows.by_input(
    records.read(evaluate.path_of(workdir, name)), method
  )


def _write(workdir: epath.Path, found: Record) -> None:
  records.write_text(workdir / "gate.json", json.dumps(found, indent=2) + "\n")


def main() -> None:
  program.main(run, __doc__)


if __name__ == "__main__":
  main()
