"""The engine against the plain forward pass, one sequence at a time."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from s2d_jax.errors import UserError
from s2d_jax.generation import engine as engines, programs, shapes
from s2d_jax.generation.engine import Engine, Request, random_key
from s2d_jax.generation.sampling import Sampling
from s2d_jax.models.llama import Llama
from tests.random_model import RICH, random_params

EOS = 3


@pytest.fixture
def make(tiny, characters):
  """An engine over the tiny model; by default nothing ends a reply early."""

  def make(
    slots=4,
    rows=2,
    max_new_tokens=16,
    eos=(),
    params=tiny.params,
    config=tiny.config,
    **changes,
  ):
    return Engine(
      Llama(config),
      params,
      characters,
      eos,
      slots=slots,
      rows=slots * rows,
      max_new_tokens=max_new_tokens,
      **changes,
    )

  return make


@pytest.fixture(scope="session")
def next_logits(tiny):
  """tokens → logits of the token behind them, by a forward pass over all."""
  llama = Llama(tiny.config)

  @jax.jit
  def forward(tokens):
    steps = jnp.arange(tokens.shape[1])[None]
    variables = {"params": tiny.params}
    hidden, _ = llama.apply(variables, tokens, steps)
    return llama.apply(variables, hidden, method=Llama.logits)

  def next_logits(tokens):
    padded = np.zeros((1, 64), np.int32)  # causal: padding behind is not seen
    padded[0, : len(tokens)] = tokens
    return np.asarray(forward(padded))[0, len(tokens) - 1]

  return next_logits


def run(engine, requests):
  for request in requests:
    engine.submit(request)
  out = {}
  while engine.busy:
    for tag, completion in engine.step():
      assert tag not in out
      out[tag] = completion
  return out


def prompts(count, seed=0, shortest=3, longest=20):
  rng = np.random.default_rng(seed)
  lengths = rng.integers(shortest, longest, count)
  return [tuple(map(int, rng.integers(32, 127, n))) for n in lengths]


def sampled(prompt, tag, seed=0, **changes):
  settings = {"temperature": 0.9, "max_new_tokens": 12} | changes
  return Request(prompt, random_key(seed, *tag), Sampling(**settings), tag)


def test_greedy_is_the_argmax_of_the_whole_sequence(make, next_logits):
  greedy = Sampling(temperature=0.0, max_new_tokens=10)
  asked = prompts(9)  # more than the batch holds: slots are refilled
  out = run(make(), [Request(p, 0, greedy, i) for i, p in enumerate(asked)])
  assert len(out) == 9
  for index, prompt in enumerate(asked):
    sequence, logprob = list(prompt), 0.0
    for token in out[index].tokens:
      logits = next_logits(sequence)
      assert token == logits.argmax()
      logprob += logits[token] - np.log(np.exp(logits).sum())
      sequence.append(token)
    assert len(out[index].tokens) == 10
    assert out[index].finish_reason == "length"
    assert out[index].logprob == pytest.approx(logprob, abs=1e-3)


def test_layers_may_differ(make, tiny, characters):
  """Windows that act, and rotations of several kinds, behind a shared prefix.

  Against a forward pass over the whole sequence, which has no past.
  """
  config = dataclasses.replace(RICH, vocab_size=128)
  params = random_params(config)
  llama = Llama(config)

  @jax.jit
  def logits(tokens):
    variables = {"params": params}
    hidden, _ = llama.apply(variables, tokens, jnp.arange(48)[None])
    return llama.apply(variables, hidden, method=Llama.logits)

  engine = make(params=params, config=config)
  head = prompts(1, seed=2, shortest=9, longest=10)[0]
  engine.share_prefix(head)
  asked = [*prompts(3, longest=12), head + (40, 50), head + (60,)]
  greedy = Sampling(temperature=0.0, max_new_tokens=12)
  out = run(engine, [Request(p, 0, greedy, i) for i, p in enumerate(asked)])
  for index, prompt in enumerate(asked):
    tokens = [*prompt, *out[index].tokens]
    padded = np.zeros((1, 48), np.int32)
    padded[0, : len(tokens)] = tokens
    best = np.asarray(logits(padded))[0].argmax(-1)
    np.testing.assert_array_equal(
      out[index].tokens, best[len(prompt) - 1 : len(tokens) - 1]
    )


def test_samples_follow_the_exact_softmax(make, next_logits):
  """First tokens, and second tokens behind the most frequent first one."""
  prompt, draws = prompts(1)[0], 6_000
  requests = [
    sampled(prompt, (i,), temperature=1.3, max_new_tokens=2)
    for i in range(draws)
  ]
  out = run(make(slots=8, rows=64), requests)
  pairs = np.array([completion.tokens for completion in out.values()])
  common = np.bincount(pairs[:, 0]).argmax()
  second = pairs[pairs[:, 0] == common, 1]
  for seen, context in ((pairs[:, 0], ()), (second, (common,))):
    logits = next_logits([*prompt, *context]).astype(np.float64) / 1.3
    p = np.exp(logits - logits.max())
    expected = p / p.sum() * len(seen)
    observed = np.bincount(seen, minlength=128)
    big = expected >= 5
    assert big.sum() >= 3
    expected = np.append(expected[big], expected[~big].sum())
    observed = np.append(observed[big], observed[~big].sum())
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_a_sample_is_the_same_whatever_batch_it_sits_in(make):
  asked = prompts(6, seed=1)
  requests = [sampled(p, (i, s)) for i, p in enumerate(asked) for s in range(4)]
  together = run(make(slots=4, rows=4), requests)
  alone = {}
  for request in requests:
    alone |= run(make(slots=1, rows=1), [request])
  backwards = run(make(slots=3, rows=2), requests[::-1])
  for tag, completion in together.items():
    assert completion.tokens == alone[tag].tokens == backwards[tag].tokens
  assert len({completion.tokens for completion in together.values()}) > 12


def test_another_seed_gives_other_samples(make):
  prompt = prompts(1)[0]
  first = run(make(), [sampled(prompt, (i,), seed=0) for i in range(8)])
  second = run(make(), [sampled(prompt, (i,), seed=1) for i in range(8)])
  assert all(first[tag].tokens != second[tag].tokens for tag in first)


def test_a_shared_prefix_changes_no_token(make):
  head = prompts(1, seed=2, shortest=30, longest=31)[0]
  tails = prompts(6, seed=3, shortest=2, longest=6)
  asked = [head + tail for tail in tails] + [tails[0]]  # one without the prefix
  requests = [sampled(p, (i,)) for i, p in enumerate(asked)]
  plain = run(make(), requests)
  shared = make()
  shared.share_prefix(tails[3] + (40,))  # another prefix in the store
  shared.share_prefix(head)
  shared.share_prefix(head)
  out = run(shared, requests)
  for tag in plain:
    assert out[tag].tokens == plain[tag].tokens
    assert out[tag].logprob == pytest.approx(plain[tag].logprob, abs=1e-3)


@pytest.fixture
def prefilled(monkeypatch):
  """The prompts that engines prefill, one after another."""
  found = []
  prefill = programs._prefill

  def counting(model, params, tokens, lengths, *rest):
    found.extend(tuple(t[:n]) for t, n in zip(tokens, lengths, strict=True))
    return prefill(model, params, tokens, lengths, *rest)

  monkeypatch.setattr(programs, "_prefill", counting)
  return found


def test_each_distinct_prompt_is_prefilled_once(make, prefilled):
  asked = prompts(5, seed=4)
  requests = [sampled(p, (i, s)) for i, p in enumerate(asked) for s in range(6)]
  assert len(run(make(slots=8, rows=2), requests)) == 30
  for prompt in asked:
    assert prefilled.count(prompt) == 1


def test_a_prompt_that_comes_again_is_known(make, prefilled):
  engine = make()
  count = 1 + shapes._PREFILLS_KEPT_CPU
  often, *others = prompts(count, seed=8, shortest=17, longest=32)
  first = run(engine, [sampled(often, ("first",))])
  for index, prompt in enumerate(others[:-1]):
    run(engine, [sampled(prompt, (index,))])
  again = run(engine, [sampled(often, ("first",))])
  assert again == first
  assert prefilled.count(often) == 1
  # One more than are kept: the oldest is forgotten.
  run(engine, [sampled(others[-1], ("last",))])
  assert run(engine, [sampled(often, ("first",))]) == first
  assert prefilled.count(often) == 2


@pytest.mark.optimised
def test_capacity_grows_with_the_replies(make, monkeypatch):
  """And not a bit of a reply depends on how much there is."""
  asked = prompts(6, seed=9, longest=16)  # one length bucket
  long = [
    sampled(p, (i, s), max_new_tokens=20 * (1 + s))
    for i, p in enumerate(asked)
    for s in range(4)
  ]
  pages = []
  extend = programs._extend_own

  def counting(held, more):
    pages.append((held.row.shape[1], more))
    return extend(held, more)

  monkeypatch.setattr(programs, "_extend_own", counting)
  room = shapes.Room(page=32, pages_per_row=3, growth=2, shrinks=False)
  at_once = shapes.Sizes(256, 8, room)
  monkeypatch.setattr(engines, "sizes", lambda *_, **__: at_once)
  at_once = run(make(max_new_tokens=80), long)
  assert not pages
  monkeypatch.setattr(shapes, "_OWN_CPU", 0)
  monkeypatch.setattr(engines, "sizes", shapes.sizes)
  grown = run(make(max_new_tokens=80), long)
  assert pages == [(8, 4), (12, 6)]
  for tag, completion in at_once.items():
    assert grown[tag] == completion


def test_logits_that_are_no_numbers_name_the_prompt(make, tiny):
  engine = make(params=jax.tree.map(lambda x: x * jnp.nan, tiny.params))
  engine.submit(sampled((72, 105), "x"))
  with pytest.raises(UserError, match="no numbers.*'Hi'"):
    while engine.busy:
      engine.step()


def test_programs_are_compiled_once_a_shape(make):
  engine = make()
  compiled = (
    programs._prefill,
    programs._put_prompts,
    programs._start_rows,
    programs._decode,
  )
  asked = prompts(10, seed=5, shortest=3, longest=16)  # one length bucket
  run(engine, [sampled(asked[0], ("first",))])
  before = [program._cache_size() for program in compiled]
  for index, prompt in enumerate(asked):
    setting = {
      "temperature": 0.1 * index,
      "top_k": index,
      "top_p": 1 - 0.05 * index,
      "min_p": 0.01 * index,
      "max_new_tokens": 1 + index,
    }
    run(engine, [sampled(prompt, (index, s), **setting) for s in range(index)])
  assert [program._cache_size() for program in compiled] == before


def test_an_end_token_ends_a_reply(make, next_logits):
  prompt = prompts(1, seed=6)[0]
  greedy = Sampling(temperature=0.0, max_new_tokens=8)
  whole = run(make(), [Request(prompt, 0, greedy, 0)])[0].tokens
  end = whole[3]
  position = whole.index(end)
  out = run(make(eos=[end]), [Request(prompt, 0, greedy, 0)])[0]
  assert out.tokens == whole[: position + 1]
  assert out.finish_reason == "stop"
  assert out.text == "".join(map(chr, whole[:position]))


@pytest.mark.parametrize("length", [1, 3])
def test_a_stop_string_ends_a_reply_and_is_cut_off(make, length):
  prompt = prompts(1, seed=7)[0]
  greedy = Sampling(temperature=0.0, max_new_tokens=16)
  whole = run(make(), [Request(prompt, 0, greedy, 0)])[0]
  stop = whole.text[4 : 4 + length]
  stopped = Sampling(
    temperature=0.0, max_new_tokens=16, stop=(stop, "\x7f\x7f")
  )
  other = Request(prompt, 0, greedy, 1)  # beside it, a row without a stop
  out = run(make(), [Request(prompt, 0, stopped, 0), other])
  assert out[0].text == whole.text[: whole.text.index(stop)]
  assert out[0].finish_reason == "stop"
  assert len(out[0].tokens) < 16
  assert out[1] == whole


def test_a_reply_is_the_same_whenever_the_host_polls(make, monkeypatch):
  """All of it: its tokens and its log-probability too."""
  asked = prompts(6, seed=10)
  free = run(make(), [sampled(p, (i,)) for i, p in enumerate(asked)])
  stopped = [
    sampled(p, (i,), stop=(free[i,].text[3:5],)) for i, p in enumerate(asked)
  ]
  others = [sampled(p, (i, "free")) for i, p in enumerate(asked)]
  expected = run(make(), stopped)
  for (index,), completion in expected.items():
    whole = free[index,]
    text = stopped[index].sampling.stop[0]
    assert completion.text == whole.text[: whole.text.index(text)]
    length = len(completion.text) + 2
    assert completion.tokens == whole.tokens[:length]
    assert whole.logprob < completion.logprob < 0
    assert completion.finish_reason == "stop"
  for steps in (1, 3, 16):
    monkeypatch.setattr(engines, "_STEPS_PER_POLL", steps)
    drawn = run(make(), [*others, *stopped])
    assert {tag: drawn[tag] for tag in expected} == expected
    watched = make()
    watched.watch = lambda tag, text: None
    assert run(watched, stopped[::-1]) == expected


def test_a_stop_string_may_be_a_special_token(make):
  """The end token, where it is not among those that end every reply."""
  prompt = prompts(1, seed=6)[0]
  hot = {"temperature": 50.0, "max_new_tokens": 16}  # any token at all
  names = [(number,) for number in range(24)]
  free = run(make(), [sampled(prompt, name, **hot) for name in names])
  stop = ("<end>", "\x7f\x7f\x7f")
  out = run(make(), [sampled(prompt, n, stop=stop, **hot) for n in names])
  ended = [name for name in names if EOS in free[name].tokens]
  assert ended
  for name in names:
    if name not in ended:
      assert out[name] == free[name]
      continue
    tokens = free[name].tokens
    assert out[name].tokens == tokens[: tokens.index(EOS) + 1]
    assert out[name].finish_reason == "stop"
    assert out[name].text == "".join(map(chr, out[name].tokens[:-1]))


def test_prompts_that_do_not_fit_are_refused(make):
  engine = make()
  with pytest.raises(UserError, match="prompt of 250 tokens .* window of 256"):
    engine.submit(sampled((40,) * 250, (0,)))
  with pytest.raises(UserError, match="no tokens"):
    engine.submit(sampled((), (0,)))
  assert not engine.busy


def test_keys_are_the_same_on_every_machine():
  """A changed key would change every sample of every run that goes on."""
  assert random_key(0, "capital/PE", "plain", 3, 1) == 0x0D754304A0FA5B79
  assert random_key(0, "a", "b") != random_key(0, "ab")
  assert len({random_key(0, "x", i) for i in range(1000)}) == 1000
