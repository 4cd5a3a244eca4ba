"""Programs over an engine that answers by rule."""

import collections
import dataclasses

import pytest

from s2d_jax.conversation import ChatTemplate
from s2d_jax.errors import UserError
from s2d_jax.generation.engine import Completion, random_key
from s2d_jax.generation.sampling import GREEDY, Sampling
from s2d_jax.system2.program import Method, Template, Unended
from s2d_jax.system2.scheduler import Job, Scheduler, run_together

PROMPTS = {
  "split": Template(user="Split {text}", max_new_tokens=4, system="S"),
  "part": Template(user="Part {text}", max_new_tokens=6, stop=(".",)),
}


class Characters:
  """A tokenizer of characters with a plain chat template."""

  chat_template = "plain"

  def apply_chat_template(self, messages, **unused):
    return "".join(f"{m['role']}:{m['content']};" for m in messages) + ">"

  def __call__(self, text, add_special_tokens):
    assert not add_special_tokens
    return {"input_ids": [ord(c) for c in text]}


class Echo:
  """Answers the newest request first, two at a time, with the prompt's end."""

  def __init__(self):
    self.requests, self.waiting, self.prefixes, self.most = [], [], [], 0

  def share_prefix(self, prefix):
    self.prefixes.append("".join(map(chr, prefix)))

  def fits(self, request):
    return "TOO LONG" not in "".join(map(chr, request.prompt))

  def submit(self, request):
    if "TOO LONG" in "".join(map(chr, request.prompt)):
      raise UserError("a prompt of 9 tokens does not fit")
    self.requests.append(request)
    self.waiting.append(request)
    self.most = max(self.most, len(self.waiting))

  def step(self):
    ended = [self.waiting.pop() for _ in range(min(2, len(self.waiting)))]
    return [(r.tag, self._reply(r)) for r in ended]

  def _reply(self, request):
    text = "".join(map(chr, request.prompt)).rsplit(" ", 1)[1].strip(";>")
    return Completion(text, (1,) * len(text), -1.0, "stop")


def branch(fields, prompts):
  """Asks one, then two together, and joins them."""
  first = yield prompts["split"].ask(**fields)
  left, right = yield [
    prompts["part"].ask(text=f"{first.text}{side}") for side in "lr"
  ]
  return Completion(left.text + right.text, (), 0.0, "stop")


def schedule(
  engine, in_flight=3, think=branch, prompts=PROMPTS, final=None, **options
):
  return Scheduler(
    engine,
    ChatTemplate(Characters()),
    Method(think, prompts, final),
    prompts,
    seed=5,
    in_flight=in_flight,
    **options,
  )


SAMPLING = Sampling(temperature=0.7, top_p=0.9)


def run(scheduler, *jobs):
  return list(scheduler.run(collections.deque(jobs)))


def job(name, text, sampling=SAMPLING, **options):
  return Job(name, {"text": text}, sampling, **options)


def test_every_program_gets_its_own_replies():
  engine = Echo()
  jobs = [job((f"e{i}", "plain", 0), f"t{i}") for i in range(10)]
  results = run(schedule(engine), *jobs)
  assert sorted(r.job.name for r in results) == [job.name for job in jobs]
  for result in results:
    text = result.job.fields["text"]
    assert result.replies == [f"{text}l{text}r"]
    prompts = [step.prompt for step in result.steps]
    assert prompts == [
      f"system:S;user:Split {text};>",
      f"user:Part {text}l;>",
      f"user:Part {text}r;>",
    ]
    assert [s.completion.text for s in result.steps][0] == text


def test_keys_limits_and_filters_reach_the_engine():
  engine = Echo()
  run(schedule(engine), job(("e", "plain", 2), "t"))
  keys = [random_key(5, "e", "plain", 2, number) for number in range(3)]
  assert [request.key for request in engine.requests] == keys
  first, second, _ = (request.sampling for request in engine.requests)
  assert (first.temperature, first.top_p, first.max_new_tokens) == (0.7, 0.9, 4)
  assert (second.max_new_tokens, second.stop) == (6, (".",))


class Loud(Characters):
  """Characters, whose template has an option."""

  chat_template = "{{ loud }}"

  def apply_chat_template(self, messages, loud=False, **unused):
    text = super().apply_chat_template(messages)
    return text + "!" if loud else text


def test_a_call_may_change_the_options_of_the_chat_and_begin_its_reply():
  def think(fields, prompts):
    first = yield prompts["split"].ask(**fields)
    call = dataclasses.replace(prompts["part"].ask(**fields), begun=first.text)
    return (yield call)

  split = dataclasses.replace(PROMPTS["split"], chat={"loud": True})
  engine = Echo()
  scheduler = Scheduler(
    engine,
    ChatTemplate(Loud()),
    Method(think, PROMPTS),
    PROMPTS | {"split": split},
    seed=5,
    in_flight=1,
  )
  [result] = run(scheduler, job(("e", "plain", 0), "t"))
  prompts = [step.prompt for step in result.steps]
  assert prompts == ["system:S;user:Split t;>!", "user:Part t;>t;>!"]
  assert [step.prompt_tokens for step in result.steps] == [24, 17]
  assert engine.prefixes == ["system:S;user:Split ", "user:Part "]


@pytest.mark.parametrize("answer", ["", "Lima"])
def test_a_thought_without_an_end_is_told(answer):
  def think(fields, prompts):
    yield prompts["split"].ask(**fields)
    return Unended(answer)

  [result] = run(schedule(Echo(), think=think), job(("e", "plain", 0), "t"))
  assert (result.replies, result.unended) == ([answer], True)
  assert result.tokens == 1
  [other] = run(schedule(Echo()), job(("e", "plain", 0), "t"))
  assert not other.unended


def test_greedy_and_sampled_jobs_run_together():
  """Whatever the others are, a greedy one is greedy in every step."""
  engine = Echo()
  jobs = [job(("e", "plain", number), "t") for number in range(2)]
  jobs.append(job(("e", "plain", "greedy"), "t", GREEDY))
  results = run(schedule(engine), *jobs)
  by_key = {request.key: request.sampling for request in engine.requests}
  for name in (0, 1, "greedy"):
    for number in range(3):
      drawn = by_key[random_key(5, "e", "plain", name, number)]
      assert drawn.temperature == (0.0 if name == "greedy" else 0.7)
  assert len(by_key) == 9 and len(results) == 3


def test_the_prompts_of_all_steps_are_counted():
  [result] = run(schedule(Echo()), job(("e", "plain", 0), "t"))
  # A token a letter, and a prompt a step, whatever they have in common.
  lengths = [len(step.prompt) for step in result.steps]
  assert [step.prompt_tokens for step in result.steps] == lengths
  assert result.prompt_tokens == sum(lengths) == 23 + 2 * 14
  assert result.tokens == 1 + 2 + 2


def test_variants_share_the_calls_that_are_theirs_together():
  def think(fields, prompts):
    first = yield prompts["split"].ask(is_shared=True, text=fields["topic"])
    return (yield prompts["part"].ask(text=fields["text"] + first.text))

  engine = Echo()
  jobs = [
    Job(
      ("e", variant, number),
      {"topic": "t", "text": variant},
      SAMPLING,
      ("e", number),
    )
    for variant in ("original", "swapped")
    for number in range(2)
  ]
  run(schedule(engine, in_flight=4, think=think), *jobs)
  asked = {name: [] for name in ("Split", "Part")}
  for request in engine.requests:
    text = "".join(map(chr, request.prompt))
    asked["Split" if "Split" in text else "Part"].append(request.key)
  shared = [random_key(5, "e", number, 0) for number in range(2)]
  assert sorted(asked["Split"]) == sorted(2 * shared)
  own = [random_key(5, *job.name, 1) for job in jobs]
  assert sorted(asked["Part"]) == sorted(own)


def test_a_job_without_others_has_its_own_name_for_a_shared_call():
  engine = Echo()

  def think(fields, prompts):
    return (yield prompts["split"].ask(is_shared=True, **fields))

  run(schedule(engine, think=think), job(("e", 3), "t"))
  assert [r.key for r in engine.requests] == [random_key(5, "e", 3, 0)]


def test_only_so_many_programs_are_under_way():
  engine = Echo()
  jobs = [job((i,), f"t{i}") for i in range(50)]
  assert len(run(schedule(engine, in_flight=4), *jobs)) == 50
  assert engine.most <= 8  # two calls a program at the most


def test_schedulers_of_one_engine_run_together():
  """One begins before another has ended, and each gets its own replies."""

  def only(fields, prompts):
    return (yield prompts["part"].ask(**fields))

  engine = Echo()
  schedulers = {
    "both": schedule(engine),
    "only": schedule(engine, think=only),
    "none": schedule(engine),
  }
  jobs = collections.deque([job(("e", 0), "t", scheduler="both")])
  jobs.extend(job(("e", n), f"t{n}", scheduler="only") for n in range(5))
  found = {
    (one.job.scheduler, one.job.name): one.replies
    for one in run_together(schedulers, jobs)
  }
  assert found == {("both", ("e", 0)): ["tltr"]} | {
    ("only", ("e", number)): [f"t{number}"] for number in range(5)
  }
  first = "".join(map(chr, engine.requests[0].prompt))
  assert first == "system:S;user:Split t;>"
  others = ["".join(map(chr, r.prompt)) for r in engine.requests[1:3]]
  assert others == ["user:Part t0;>", "user:Part t1;>"]  # three under way


def test_the_constant_part_of_each_template_is_shared():
  engine = Echo()
  schedule(engine)
  assert engine.prefixes == ["system:S;user:Split ", "user:Part "]


def test_a_prompt_that_does_not_fit_names_its_example():
  too_long = job(("capital/PE", "plain", 1), "TOO LONG")
  with pytest.raises(UserError, match="capital/PE/plain/1: a prompt of 9"):
    run(schedule(Echo()), too_long)


def test_a_prompt_that_does_not_fit_may_end_its_sample():
  def think(fields, prompts):
    first = yield prompts["split"].ask(**fields)
    both = yield [
      prompts["part"].ask(text=f"{first.text} {side}")
      for side in ("l", fields["later"])
    ]
    return both[0].text + both[1].text

  engine = Echo()
  jobs = [
    Job((name, "plain", 0), {"text": text, "later": later}, SAMPLING)
    for name, text, later in (
      ("a", "t", "r"),
      ("b", "TOO LONG", "r"),
      ("c", "t", "TOO LONG"),
      ("d", "t", "r"),
    )
  ]
  scheduler = schedule(engine, think=think, drop_long=True)
  found = {r.job.name[0]: r for r in run(scheduler, *jobs)}
  assert [found[name].replies for name in "abcd"] == [
    ["lr"],
    [""],
    [""],
    ["lr"],
  ]
  assert found["a"].too_long is None and len(found["a"].steps) == 3
  # As long as the prompts as one reads them: a token a letter.
  first = "system:S;user:Split TOO LONG;>"
  assert (found["b"].too_long, found["b"].steps) == (len(first), [])
  assert found["c"].too_long == len("user:Part t TOO LONG;>")
  [step] = found["c"].steps
  assert step.completion.text == "t"
  # The other call of that step was not made: its reply is of no use.
  assert len(engine.requests) == 3 + 0 + 1 + 3
  assert scheduler.in_flight == 0


def test_a_thought_that_never_came_lacks_as_many_answers_as_it_returns():
  prompts = {"split": Template(user="Split {text}", max_new_tokens=4, n=3)}

  def think(fields, prompts):
    return (yield prompts["split"].ask(**fields))

  for final, lacking in (("split", ["", "", ""]), (None, [""])):
    scheduler = schedule(
      Echo(), think=think, prompts=prompts, final=final, drop_long=True
    )
    [result] = run(scheduler, job(("e", "plain", 0), "TOO LONG"))
    assert result.replies == lacking


def test_jobs_can_be_added_while_results_are_read():
  jobs = collections.deque([job((0,), "t0")])
  seen = []
  for result in schedule(Echo()).run(jobs):
    seen.append(result.job.name[0])
    if len(seen) < 5:
      jobs.append(job((len(seen),), f"t{len(seen)}"))
  assert seen == [0, 1, 2, 3, 4]


def test_several_answers_to_one_thought_share_it():
  prompts = PROMPTS | {"part": Template("Part {text}", 6, n=3)}

  def think(fields, prompts):
    first = yield prompts["split"].ask(**fields)
    return (yield prompts["part"].ask(text=first.text + "!"))

  engine = Echo()
  (result,) = run(
    schedule(engine, think=think, prompts=prompts), job(("e",), "t")
  )
  assert result.replies == ["t!", "t!", "t!"]
  assert len(result.steps) == 4
  keys = [request.key for request in engine.requests]
  assert keys == [random_key(5, "e", number) for number in range(4)]


def test_a_list_may_hold_an_ask_for_several_replies():
  prompts = PROMPTS | {"part": Template("Part {text}", 6, n=2)}

  def think(fields, prompts):
    one, (two, three) = yield [
      prompts["split"].ask(**fields),
      prompts["part"].ask(text="p"),
    ]
    return f"{one.text}{two.text}{three.text}"

  engine = Echo()
  (result,) = run(
    schedule(engine, think=think, prompts=prompts), job(("e",), "t")
  )
  assert result.replies == ["tpp"]
