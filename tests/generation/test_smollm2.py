"""Greedy continuations of the real model against Hugging Face's."""

import pathlib

import numpy as np

from s2d_jax.conversation import ChatTemplate
from s2d_jax.generation.engine import Engine, Request
from s2d_jax.generation.sampling import Sampling
from s2d_jax.models.llama import Llama

GOLDEN = pathlib.Path(__file__).parent.parent / "goldens" / "smollm2.npz"


def test_greedy_continuations_of_48_tokens_are_those_of_transformers(smollm2):
  golden = np.load(GOLDEN)
  ends = np.cumsum(golden["prompt_lengths"])
  prompts = np.split(golden["prompt_tokens"], ends[:-1])
  assert len(prompts) >= 20
  engine = Engine(
    Llama(smollm2.config),
    smollm2.params,
    smollm2.tokenizer,
    ChatTemplate(smollm2.tokenizer).end_tokens,
    rows=len(prompts),
    max_new_tokens=48,
  )
  # The default system message stands in front of every prompt.
  engine.share_prefix(prompts[0][:24].tolist())
  greedy = Sampling(temperature=0.0, max_new_tokens=48)
  for index, prompt in enumerate(prompts):
    engine.submit(Request(tuple(prompt.tolist()), 0, greedy, index))
  while engine.busy:
    for index, completion in engine.step():
      reply = golden["replies"][index]
      np.testing.assert_array_equal(completion.tokens, reply[reply >= 0])
