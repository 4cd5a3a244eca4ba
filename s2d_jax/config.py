"""All settings of a run and their defaults; a file in configs/ changes some."""

from __future__ import annotations

from collections.abc import Mapping
import os
from typing import TypeVar

from ml_collections import ConfigDict

from s2d_jax.errors import UserError

_T = TypeVar("_T")


def default() -> ConfigDict:
  """The settings of a run. Unknown keys are refused from here on."""
  config = ConfigDict()
  config.seed = 0

  config.model = ConfigDict()
  # A short name, a Hub id, a Hugging Face folder, a .gguf file or a workdir.
  config.model.name = "smollm2-135m-instruct"
  # Of the matrix products of sampling: float32 or bfloat16; auto is bfloat16,
  # but float32 on CPUs without matrix units for it (AMX).
  config.model.dtype = "auto"
  # Options of the chat template, for instance {"enable_thinking": False}.
  config.model.chat = ConfigDict()
  # What a chat template takes for today, as 2024-07-26; empty: the day on which
  # the workdir is made.
  config.model.date = ""

  # Devices of the fine-tune along each axis; 0: chosen for the model and the
  # devices. dcn: slices, data: copies, fsdp: weights are sharded, tensor: heads
  # and features are sharded.
  config.mesh = ConfigDict()
  config.mesh.dcn, config.mesh.data = 0, 0
  config.mesh.fsdp, config.mesh.tensor = 0, 0

  # The name of a task and its own options.
  config.task = ConfigDict({"name": "sycophancy"})
  config.method = "s2a"
  # What does not fit is never cut. A prompt with its longest reply that the
  # model's window does not hold, an example that finetune.row_length does not:
  # "drop" leaves it out, counted and named; "stop" ends the run. More than half
  # of the rows always end it.
  config.too_long = "drop"
  # Changes to the templates of the task: prompts.<name>.<field>.
  config.prompts = ConfigDict()

  config.sampling = ConfigDict()
  config.sampling.n = 5  # most samples of an input
  # An input is sampled no further once its vote is as good as decided: all n
  # samples would have the same result with this probability. 0: always n.
  config.sampling.confidence = 0.95
  # A training example is given up once so many of its variants disagree that
  # curation.min_agreement will keep none of them.
  config.sampling.give_up = True
  # Share of the examples that are sampled in full, to check both.
  config.sampling.audit = 0.1
  config.sampling.temperature = 0.7
  config.sampling.top_k = 0  # 0: off
  config.sampling.top_p = 1.0  # 1: off
  config.sampling.min_p = 0.0  # 0: off
  # Samples decoded at once; 0: chosen, as many as the devices hold and as pay.
  config.sampling.batch_rows = 128
  # "host": each host samples what it is dealt, on its own devices; "global":
  # all hosts together, for a model that does not fit one.
  config.sampling.scope = "host"
  # "float": weights in model.dtype; "int8": a byte each, a scale a channel.
  config.sampling.weights = "float"
  # Devices of the sampler along each axis; 0: chosen, as many copies of the
  # model as fit. data: copies, tensor: weights are sharded.
  config.sampling.mesh = ConfigDict({"data": 0, "tensor": 0})

  config.curation = ConfigDict()
  # How an answer is selected: "vote", the one with most votes; "usc", the reply
  # that the model itself finds most consistent with the others, whatever their
  # order (thresholds are then asked of the orders); "first", the first sample
  # with an answer, unfiltered; "label", the label, as an upper bound.
  config.curation.select = "vote"
  # Votes of the winner among all sampling.n samples; if fewer were drawn, the
  # rest count as if they were split like those.
  config.curation.min_votes = 0
  # Votes of the winner less those of the runner-up, as a share of all samples.
  config.curation.min_margin = 0.4
  # Share of an example's variants that must win with the same answer, itself
  # and its perturbations included; 0: off.
  config.curation.min_agreement = 0.5
  # Several answers to one thought (prompts.<last>.n > 1) vote together.
  config.curation.nested = True
  # Whether an answer votes that was read out of a sentence, and not only one in
  # the form that was asked for.
  config.curation.loose_votes = True
  # What is taught: "own_words", the model's own reply that has the winning
  # answer, the most frequent one, never its thinking; "answer", the answer as
  # the task writes it; "auto", as the task has it: the answer where there is
  # one way to write it (letters, a number, yes or no, a verdict), else own
  # words. So are labels (select = "label"), where a sample has them; where no
  # reply may be taught, the task writes a sentence, if it can.
  # "shortest_thought": the shortest thought that led to the winning answer, and
  # the answer behind it, as "auto" has it.
  config.curation.target = "auto"
  config.curation.variants = ()  # variants to train on; none: all
  config.curation.balance = False  # as many inputs of each answer
  config.curation.deduplicate = True  # each prompt once
  # A control: each input is taught the answer of another one.
  config.curation.shuffle_targets = False

  config.finetune = ConfigDict()
  # "nll": the targets are learnt. "kl": the student writes its own replies, and
  # learns at each of their tokens what a teacher would say next: itself before
  # the fine-tune, behind a prompt that tells it more.
  config.finetune.objective = "nll"
  config.finetune.kl = ConfigDict()
  # What that prompt tells: the "answer" of the vote, or to be "brief".
  # config.prompts.teacher.user replaces it.
  config.finetune.kl.teacher = "answer"
  config.finetune.kl.every = 8  # updates between two drawings of replies
  config.finetune.kl.temperature = 1.0  # of the student's replies
  config.finetune.learning_rate = 2e-5
  config.finetune.warmup_steps = 4
  config.finetune.epochs = 1
  config.finetune.batch_rows = 4  # packed rows a step
  config.finetune.row_length = 256  # tokens a packed row
  # Micro-batches a step; 0: chosen, as few as fit the devices.
  config.finetune.accumulate = 1
  # With curation.target = "shortest_thought": tokens of each thought that are
  # taught, its last ones; -1: all of it, 0: none.
  config.finetune.thought = -1
  config.finetune.weight_decay = 0.0
  config.finetune.clip_norm = 1.0
  config.finetune.b1, config.finetune.b2 = 0.9, 0.95
  # What the backward pass recomputes: "none"; "dots", all but matrix products;
  # "full", the whole layer; auto is dots on CPUs and full elsewhere.
  config.finetune.remat = "auto"
  config.finetune.optimizer = "adamw"  # or adafactor: hardly any state
  # Rank of the adapters that are trained instead of the weights; 0: all weights
  # are trained. Targets are some of q, k, v, o, gate, up, down.
  config.finetune.lora = ConfigDict(
    {"rank": 0, "alpha": 16.0, "targets": ("q", "k", "v", "o")}
  )
  # Of the matrix products, as model.dtype; weights and gradients are float32.
  config.finetune.dtype = "auto"
  config.finetune.eval_every = 8  # steps
  config.finetune.keep = 1  # best checkpoints kept, besides the latest
  # Writes checkpoints while training goes on, from a copy in the host's memory.
  config.finetune.async_save = True

  config.evaluation = ConfigDict()
  config.evaluation.n = 5  # samples of an input, for mean and vote
  # Whether System 2 and the distilled model are compared with what needs no
  # thinking: System 1, and System 1 behind the same worked examples as System
  # 2, each greedily, in n samples and by their vote, as are the others. Off:
  # System 1 greedily, and n samples of the run's method.
  config.evaluation.controls = True

  # Where the distilled model's answer stands, and where System 2 thinks.
  config.gate = ConfigDict()
  # Tokens an answer may take, in the mean over all inputs.
  config.gate.budget = 0.0
  # Or how likely System 2's vote must say the same for an answer to stand. Both
  # 0: a quarter of the tokens that the vote takes.
  config.gate.agreement = 0.0

  # What the fine-tune did to the rest, measured before and after it. Besides
  # what is set here: the perplexity of a text, and how far the model moved.
  config.retention = ConfigDict()
  config.retention.n = 48  # examples of each task; 0: nothing is measured
  # Tasks that are asked directly, plainly and so as to lead astray: a label,
  # and the name and options of each, as those of config.task.
  config.retention.tasks = ConfigDict(
    {"instructions": {"name": "instructions"}}
  )
  # Everyday questions, at most so many, whose replies are compared; 0: none.
  config.retention.questions = 200
  config.retention.text = ""  # a text file; none: the packaged one

  # Distils again with what was distilled: `s2d pipeline` makes a run of the
  # same stages for each round, in WORKDIR/rounds/1, 2, … (docs/rounds.md).
  config.rounds = ConfigDict()
  config.rounds.count = 1  # at most; 1: a single run, in WORKDIR itself
  # Who thinks from round 2 on: the "distilled" model of the round before, or
  # again the "base" model, which draws more only where it was undecided.
  config.rounds.thinker = "distilled"
  # What each round fine-tunes on all that is believed by then: the "base"
  # model, or that of the "last" round.
  config.rounds.start = "base"
  # Which round a workdir is; 0: of no rounds. The pipeline sets it.
  config.rounds.number = 0

  # Teaches ever less of the thought before an answer: `s2d pipeline` makes a
  # run for each stage, in WORKDIR/stages/0, 1, … (docs/internalise.md).
  config.internalise = ConfigDict()
  # After the first, which teaches whole thoughts; the last teaches none. 0:
  # a single run, in WORKDIR itself.
  config.internalise.stages = 0
  # Which stage a workdir is, or "direct" for the control, which is taught
  # answers alone; empty: of no stages. The pipeline sets it.
  config.internalise.stage = ""
  return config.lock()


def behind_colon(known: Mapping[str, _T], name: str, file: str) -> _T:
  """What a config file has under the name behind `--config=FILE:`."""
  if name not in known:
    raise UserError(
      f"{os.path.basename(file)}:{name} is not known; behind the colon may"
      f" stand {', '.join(known)}"
    )
  return known[name]
