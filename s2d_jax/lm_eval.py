"""s2d_jax models in EleutherAI's lm-evaluation-harness, as `--model s2d_jax`.

    pip install 's2d_jax[lm-eval]'
    python -m s2d_jax.lm_eval --model s2d_jax \\
      --model_args pretrained=runs/quickstart --batch_size 32 --tasks arc_easy

The harness has no entry points for models outside of its package: this program
registers the model and passes all its arguments on. In a script, importing this
module registers it too.

Special tokens, the boundary between context and continuation, and truncation
from the left are those of the harness's own `hf` backend.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
import logging
import os
import sys
from typing import Any

try:
  from lm_eval import __main__ as harness
except ModuleNotFoundError as error:
  if error.name != "lm_eval" or __name__ != "__main__":
    raise
  sys.exit("error: lm_eval is missing; pip install 's2d_jax[lm-eval]'")
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import model_registry
from lm_eval.models.utils import (
  handle_stop_sequences,
  has_bos_prefix,
  normalize_gen_kwargs,
)
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from s2d_jax.checkpoints import pretrained as checkpoints
from s2d_jax.config import default
from s2d_jax.conversation import ChatTemplate
from s2d_jax.errors import UserError
from s2d_jax.evaluation.likelihood import log_likelihoods
from s2d_jax.generation.engine import Engine, Request, random_key
from s2d_jax.generation.sampling import Sampling
from s2d_jax.models import precision
from s2d_jax.progress import Progress
from s2d_jax.solver import Solver
from s2d_jax.stages import setup

# Rows of a batch where `--batch_size auto` leaves the choice to us.
_ROWS = 32
# Generation arguments of a task that the engine supports; it does not support
# others (beams, penalties).
_FILTERS = ("temperature", "top_k", "top_p", "min_p")

_log = logging.getLogger(__name__)


class S2dJax(TemplateLM):
  """A model of this package, with the interface of the harness.

  Args:
    pretrained: a name, a Hugging Face folder, a .gguf file, or the folder of a
      run, whose distilled model it is then.
    dtype: of the products: float32, bfloat16 or auto.
    batch_size: rows scored or decoded at once, or "auto".
    max_length: the window, in tokens; default: the model's own.
    max_gen_toks: longest reply, if a task does not set it.
    add_bos_token: whether to begin prompts with the tokenizer's special
      tokens; default: as the tokenizer does.
    prefix_token_id: token for an empty context; default: the token that begins
      a text, else one that ends it.
    seed: of sampled replies.
    enable_thinking: the option of that name of the chat template; default: as
      the run has it.
    gate: of a run, whose base model then thinks where a direct answer does not
      stand: a budget in mean tokens an answer, or "run" for the run's own.
    max_batch_size: unused: there is no search for a size.
    device: unused: JAX chooses, or the environment's JAX_PLATFORMS.
    unknown: an error.
  """

  backend = "causal"

  def __init__(
    self,
    pretrained: str | None = None,
    dtype: str = "auto",
    batch_size: int | str = "auto",
    max_length: int | None = None,
    max_gen_toks: int = 256,
    add_bos_token: bool | None = None,
    prefix_token_id: int | None = None,
    seed: int = 0,
    enable_thinking: bool | None = None,
    gate: float | str | None = None,
    max_batch_size: int | None = None,
    device: str | None = None,
    **unknown,
  ):
    super().__init__()
    if unknown:
      raise UserError(
        f"--model_args {min(unknown)}=… is unknown; docs/ask.md lists them"
      )
    if pretrained is None:
      raise UserError("give --model_args pretrained=NAME or a folder")
    if device is not None:
      _log.warning("JAX chooses its device itself: %s is not used", device)
    if dtype not in precision.SETTINGS:
      raise UserError(
        f"dtype={dtype!r} must be one of {', '.join(precision.SETTINGS)}"
      )
    config = default()
    self._name = str(pretrained)
    config.model.name, config.model.dtype = self._name, dtype
    setup.enable_compilation_cache()
    self._gated = None if gate is None else _Gated(self._name, dtype, gate)
    load = setup.base_model if gate is None else setup.base_without_weights
    model = load(config)
    self.tokenizer = model.tokenizer
    settings = checkpoints.settings_of(self._name)
    chat = ChatTemplate.from_settings(
      model.tokenizer, settings, model.end_tokens
    )
    thinks = enable_thinking is not None
    options = {"enable_thinking": enable_thinking} if thinks else {}
    self._chat = chat.with_options(options)
    self.batch_size = _rows(batch_size)
    self.max_length = _window(max_length, model.config.max_context)
    self.max_gen_toks = max_gen_toks
    self._params = model.params
    self._network = setup.network(config, model)
    self._mesh = setup.sampling_mesh(config, model.config)
    self._add_bos_token = add_bos_token
    self._prefix_token_id = prefix_token_id
    self._seed = seed

  @property
  def eot_token_id(self) -> int | None:
    return self.tokenizer.eos_token_id

  @property
  def prefix_token_id(self) -> int:
    if self._prefix is None:
      raise UserError(
        "this model has no token that begins a text and none that ends one, so"
        " nothing can stand before an empty context; give --model_args"
        " prefix_token_id=…"
      )
    return self._prefix

  @property
  def _prefix(self) -> int | None:
    tokens = self.tokenizer
    known = self._prefix_token_id, tokens.bos_token_id, tokens.eos_token_id
    known += self._chat.end_tokens
    return next((token for token in known if token is not None), None)

  @property
  def tokenizer_name(self) -> str:
    name = self.tokenizer.name_or_path or self._name
    return name.replace("/", "__")

  def tok_encode(
    self, string: str, add_special_tokens: bool | None = None, **unused
  ) -> list[int]:
    prefix = self._prefix
    begins = None if prefix is None else self.tokenizer.decode(prefix)
    return self._encode(string, add_special_tokens, begins)

  def _encode(
    self, text: str, add_special_tokens: bool | None, prefix: str | None
  ) -> list[int]:
    """Adds no special tokens if the text already begins with `prefix`."""
    if add_special_tokens is None:
      begun = has_bos_prefix(text, prefix)
      add_special_tokens = False if begun else self._add_bos_token
    if add_special_tokens is None:
      return self.tokenizer.encode(text)
    return self.tokenizer.encode(text, add_special_tokens=add_special_tokens)

  def apply_chat_template(
    self,
    chat_history: list[dict[str, str]],
    add_generation_prompt: bool = True,
  ) -> str:
    if self._gated:
      return _question(chat_history)
    if add_generation_prompt:
      return self._chat.prompt(chat_history)
    return self._chat.unfinished(chat_history)

  def _loglikelihood_tokens(
    self,
    requests: Sequence[tuple[tuple[str, str] | None, list[int], list[int]]],
    disable_tqdm: bool = False,
    **unused,
  ) -> list[tuple[float, bool]]:
    if self._gated:
      raise UserError(
        "a gate decides how a reply is found, and this benchmark scores given"
        " continuations; leave out --model_args gate=…"
      )
    pairs = [self._cut(context, more) for _, context, more in requests]
    with Progress(
      "loglikelihood", len(pairs), "continuations", quiet=disable_tqdm
    ) as progress:
      found = log_likelihoods(
        self._network,
        self._params,
        pairs,
        self.batch_size,
        self._mesh,
        progress.advance,
      )
    for (texts, *_), answer in zip(requests, found, strict=True):
      if texts is not None:
        self.cache_hook.add_partial("loglikelihood", texts, tuple(answer))
    return [tuple(answer) for answer in found]

  def _cut(
    self, context: list[int], continuation: list[int]
  ) -> tuple[list[int], list[int]]:
    """Truncates from the left; the last token is predicted, not an input."""
    if not 0 < len(continuation) <= self.max_length:
      raise UserError(
        f"a continuation of {len(continuation)} tokens cannot be scored in a"
        f" window of {self.max_length}"
      )
    most = self.max_length + 1 - len(continuation)
    return context[-most:], continuation

  def loglikelihood_rolling(
    self, requests: list[Instance], disable_tqdm: bool = False
  ) -> list[float]:
    windows, owners = [], []
    for owner, request in enumerate(requests):
      for window in get_rolling_token_windows(
        token_list=self.tok_encode(request.args[0]),
        prefix_token=self.prefix_token_id,
        max_seq_len=self.max_length,
        context_len=1,
      ):
        windows.append((None, *make_disjoint_window(window)))
        owners.append(owner)
    sums = [0.0] * len(requests)
    found = self._loglikelihood_tokens(windows, disable_tqdm)
    for owner, (logprob, _) in zip(owners, found, strict=True):
      sums[owner] += logprob
    for request, total in zip(requests, sums, strict=True):
      self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
    return sums

  def generate_until(
    self, requests: list[Instance], disable_tqdm: bool = False
  ) -> list[str]:
    if self._gated:
      texts = [request.args[0] for request in requests]
      replies = self._gated.replies(texts, disable_tqdm)
      return [
        _cut_at(reply, request.args[1])
        for reply, request in zip(replies, requests, strict=True)
      ]
    samplings = [self._sampling(request.args[1]) for request in requests]
    longest = max((one.max_new_tokens for one in samplings), default=1)
    engine = Engine(
      self._network,
      self._params,
      self.tokenizer,
      self._chat.end_tokens,
      rows=min(self.batch_size, max(len(requests), 1)),
      max_new_tokens=longest,
      mesh=self._mesh,
    )
    prompts = [
      self._prompt(request.args[0], sampling.max_new_tokens)
      for request, sampling in zip(requests, samplings, strict=True)
    ]
    if len(prompts) > 1:
      engine.share_prefix(os.path.commonprefix(prompts))  # worked examples
    repeats: collections.Counter[str] = collections.Counter()
    for index, request in enumerate(requests):
      text = request.args[0]
      repeats[text] += 1  # so that repeats differ
      key = random_key(self._seed, text, repeats[text])
      engine.submit(Request(prompts[index], key, samplings[index], index))
    replies = [""] * len(requests)
    with Progress(
      "generate_until", len(requests), "replies", quiet=disable_tqdm
    ) as progress:
      while engine.busy:
        ended = engine.step()
        for index, completion in ended:
          replies[index] = completion.text
          # Written as text, the end token is a stop string like others.
          if end := self.tokenizer.eos_token:
            replies[index] = completion.text.partition(end)[0]
          self.cache_hook.add_partial(
            "generate_until", requests[index].args, replies[index]
          )
        progress.advance(len(ended))
    return replies

  def _prompt(self, text: str, new: int) -> tuple[int, ...]:
    """Truncated from the left, to leave space for `new` tokens."""
    tokens = self._encode(text, None, self.tokenizer.bos_token)
    return tuple(tokens[-(self.max_length - new) :] or [self.prefix_token_id])

  def _sampling(self, gen_kwargs: dict[str, Any]) -> Sampling:
    """The generation arguments of a task as a `Sampling`."""
    kwargs = normalize_gen_kwargs(gen_kwargs, self.max_gen_toks)
    until = handle_stop_sequences(kwargs.pop("until", None), eos=None)
    most = kwargs.pop("max_gen_toks")
    if not kwargs.pop("do_sample"):  # the default
      kwargs["temperature"] = 0.0
    filters = {name: kwargs.pop(name) for name in _FILTERS if name in kwargs}
    for name, value in kwargs.items():
      _log.warning("generation: %s=%r is not supported", name, value)
    if most >= self.max_length:
      raise UserError(
        f"max_gen_toks={most} leaves no space for a prompt in a window of"
        f" {self.max_length}; lower it with --gen_kwargs max_gen_toks=…"
      )
    stop = tuple(string for string in until if string)
    return Sampling(max_new_tokens=most, stop=stop, **filters)


class _Gated:
  """Questions of a benchmark for a run with its gate.

  Args:
    name: the folder of the run.
    dtype: of the products.
    gate: a budget, or "run".
  """

  def __init__(self, name: str, dtype: str, gate: float | str):
    try:
      self._budget = None if gate == "run" else float(gate)
    except ValueError:
      raise UserError(
        f"gate={gate!r} must be a budget, the mean tokens of an answer, or run"
      ) from None
    self._solver = Solver.load(name, None if dtype == "auto" else dtype)

  def replies(self, texts: Sequence[str], quiet: bool) -> list[str]:
    """To each text, as a question of the run's own task."""
    found = self._solver.answer(texts, budget=self._budget, quiet=quiet)
    return [one.text for one in found]


def _question(chat_history: Sequence[dict[str, str]]) -> str:
  """The text of the one who asks, which the run puts into its own prompts."""
  if len(chat_history) > 1:
    raise UserError(
      "with --model_args gate=… a run asks with its own prompts, so that a"
      " benchmark may bring no system message and no turns before its question;"
      " leave out --system_instruction and --fewshot_as_multiturn"
    )
  return chat_history[0]["content"]


def _cut_at(reply: str, gen_kwargs: dict[str, Any]) -> str:
  """Up to the first stop string of the task; the rest is as in the run."""
  kwargs = normalize_gen_kwargs(gen_kwargs)
  for stop in handle_stop_sequences(kwargs.get("until"), eos=None):
    reply = reply.partition(stop)[0] if stop else reply
  return reply


def _rows(batch_size: int | str) -> int:
  if str(batch_size).startswith("auto"):
    return _ROWS
  if not str(batch_size).isdigit() or int(batch_size) < 1:
    raise UserError(f"batch_size={batch_size!r} must be a number or auto")
  return int(batch_size)


def _window(wanted: int | None, most: int) -> int:
  if wanted is None:
    return most
  if not 1 < wanted <= most:
    raise UserError(
      f"max_length={wanted} must be from 2 to the model's window of {most}"
    )
  return wanted


if "s2d_jax" not in model_registry:
  model_registry.register("s2d_jax", target="s2d_jax.lm_eval:S2dJax")


def main() -> None:
  """The harness's own command line."""
  try:
    harness.cli_evaluate()
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
  main()
