"""What a compiled program does: its collectives, products, copies and traffic.

Reads the text of XLA's optimised program (`compiled.as_text()`). XLA's own
figures count the body of a loop once, however often it runs; here every
instruction is counted as often as it is executed. All figures are of one chip.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import math
import operator
import re

import numpy as np

_BITS = {
  "pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16,
  "bf16": 16, "f16": 16, "s32": 32, "u32": 32, "f32": 32, "s64": 64,
  "u64": 64, "f64": 64, "c64": 64, "c128": 128, "f8e4m3fn": 8, "f8e5m2": 8,
}  # fmt: skip

COLLECTIVES = (
  "all-gather",
  "all-reduce",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
)

# A loop whose count is not written in the program is run by its scalars, up to
# here.
_MAX_TRIPS = 100_000


@dataclasses.dataclass(frozen=True)
class Shape:
  """Of one array. `space` is where it is kept: 0 is the main memory (HBM)."""

  dtype: str
  dims: tuple[int, ...]
  space: int = 0

  @property
  def bytes(self) -> int:
    return math.prod(self.dims) * _BITS.get(self.dtype, 0) // 8

  @property
  def main_bytes(self) -> int:
    """Bytes in the main memory."""
    return 0 if self.space else self.bytes


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a computation; `text` follows the operands."""

  name: str
  shapes: tuple[Shape, ...]  # several if it gives a tuple
  opcode: str
  operands: tuple[str, ...]
  literal: str  # text in the brackets: a constant, a parameter's number
  text: str

  def attribute(self, name: str) -> str | None:
    """The value of `name=`, as far as the next comma outside brackets."""
    found = re.search(rf"(?:^|[\s,]){name}=", self.text)
    return found and _until_comma(self.text, found.end())

  def called(self, attribute: str) -> list[str]:
    """Names of the computations that an attribute holds."""
    value = self.attribute(attribute) or ""
    return [name.strip(" %") for name in value.strip("{}").split(",") if name]

  @property
  def op_name(self) -> str:
    """Where it comes from in the Python program."""
    found = re.search(r'op_name="([^"]*)"', self.text)
    return found[1] if found else ""


@dataclasses.dataclass(frozen=True)
class Computation:
  name: str
  instructions: dict[str, Instruction]
  root: str

  @functools.cached_property
  def parameters(self) -> list[str]:
    found = [i for i in self.instructions.values() if i.opcode == "parameter"]
    return [i.name for i in sorted(found, key=lambda i: int(i.literal))]

  def operand_shapes(self, instruction: Instruction) -> list[Shape]:
    return [
      shape
      for name in instruction.operands
      for shape in self.instructions[name].shapes
    ]


@dataclasses.dataclass(frozen=True)
class Module:
  computations: dict[str, Computation]
  entry: str


@dataclasses.dataclass(frozen=True)
class Executed:
  """An instruction, where it stands, and how often it is executed."""

  instruction: Instruction
  computation: Computation
  times: int
  fused: bool  # within a fusion: its operands and results stay on the chip


@dataclasses.dataclass(frozen=True)
class Collective:
  """Chips that exchange an array.

  Attributes:
    kind: one of `COLLECTIVES`.
    bytes: of the array a chip puts in.
    groups: chips, by number, that exchange among themselves; or slices.
    times: how often.
    op_name: where it comes from in the Python program.
    over_slices: whether each chip exchanges with one of every other slice,
      through the hosts.
  """

  kind: str
  bytes: int
  groups: tuple[tuple[int, ...], ...]
  times: int
  op_name: str
  over_slices: bool = False

  @property
  def size(self) -> int:
    """Chips, or slices, in a group."""
    return max(map(len, self.groups), default=1)

  @property
  def sent(self) -> float:
    """Bytes a chip sends each time, with the ring algorithms."""
    others = self.size - 1
    return (
      self.bytes
      * {
        "all-gather": others,
        "all-reduce": 2 * others / self.size,
        "reduce-scatter": others / self.size,
        "all-to-all": others / self.size,
        "collective-permute": 1,
      }[self.kind]
    )


# Reading the text.


def parse(text: str) -> Module:
  """Reads the text of a compiled program."""
  computations, entry = {}, None
  name, lines = None, []
  for line in text.splitlines():
    if name is None:
      head = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line)
      if head:
        name, lines = head[2], []
        entry = name if head[1] else entry
    elif line == "}":
      computations[name] = _computation(name, lines)
      name = None
    elif re.match(r"\s+(ROOT )?%?[\w.\-]+ = ", line):
      lines.append(line)
    else:  # an attribute may go on in the next line
      lines[-1] += line
  if entry is None:
    raise ValueError("this is not the text of a compiled program")
  return Module(computations, entry)


def _computation(name: str, lines: Sequence[str]) -> Computation:
  instructions, root = {}, ""
  for line in lines:
    head = re.match(r"\s+(ROOT )?%?([\w.\-]+) = ", line)
    instruction = _instruction(head[2], line[head.end() :])
    instructions[instruction.name] = instruction
    root = instruction.name if head[1] else root
  return Computation(name, instructions, root)


def _instruction(name: str, text: str) -> Instruction:
  shape, rest = _split_shape(text)
  opcode, _, rest = rest.partition("(")
  end = _closing(rest)
  inside = rest[:end]
  return Instruction(
    name=name,
    shapes=_shapes(shape),
    opcode=opcode.strip(),
    operands=tuple(re.findall(r"%([\w.\-]+)", inside)),
    literal=inside,
    text=rest[end + 1 :].lstrip(", "),
  )


def _split_shape(text: str) -> tuple[str, str]:
  if text.startswith("("):
    end = _closing(text[1:]) + 2
  else:
    end = text.index(" ")
  return text[:end], text[end:]


def _closing(text: str) -> int:
  """Where the bracket closes that was opened before `text`."""
  depth = 1
  for match in re.finditer(r"[()]", text):
    depth += 1 if match[0] == "(" else -1
    if depth == 0:
      return match.start()
  raise ValueError(f"a bracket is not closed in {text[:80]!r}")


def _until_comma(text: str, start: int) -> str:
  depth = 0
  for end in range(start, len(text)):
    if text[end] in "([{":
      depth += 1
    elif text[end] in ")]}":
      depth -= 1
    elif text[end] == "," and depth == 0:
      return text[start:end]
  return text[start:]


def _shapes(text: str) -> tuple[Shape, ...]:
  found = re.findall(r"([a-z]\w*)\[([\d,<= ]*)\](?:\{([^}]*)\})?", text)
  shapes = []
  for dtype, dims, layout in found:
    space = re.search(r"S\((\d+)\)", layout)
    sizes = tuple(int(size) for size in re.findall(r"\d+", dims))
    shapes.append(Shape(dtype, sizes, int(space[1]) if space else 0))
  return tuple(shapes)


# What is executed how often.


def executed(module: Module) -> Iterator[Executed]:
  """Every instruction, with the number of times that it is executed.

  A loop whose count depends on the data counts once; of a conditional every
  branch counts.
  """
  yield from _executed(module, module.entry, 1, False)


def _executed(module, name, times, fused) -> Iterator[Executed]:
  computation = module.computations[name]
  for instruction in computation.instructions.values():
    yield Executed(instruction, computation, times, fused)
    if instruction.opcode == "while":
      trips = trip_count(module, computation, instruction) or 1
      for attribute in ("condition", "body"):
        for inner in instruction.called(attribute):
          yield from _executed(module, inner, times * trips, fused)
    for inner in _callees(instruction):
      inside = fused or instruction.opcode == "fusion"
      yield from _executed(module, inner, times, inside)


def _callees(instruction: Instruction) -> list[str]:
  if instruction.opcode in ("fusion", "async-start"):
    return instruction.called("calls")
  if instruction.opcode == "call":
    return instruction.called("to_apply")
  if instruction.opcode == "conditional":
    names = ("true_computation", "false_computation", "branch_computations")
    return [callee for name in names for callee in instruction.called(name)]
  return []


def loop_body(module: Module) -> Module:
  """One step of the program's last loop, as a program of its own."""
  entry = module.computations[module.entry]
  *_, loop = (i for i in entry.instructions.values() if i.opcode == "while")
  return Module(module.computations, loop.called("body")[0])


def trip_count(
  module: Module, computation: Computation, loop: Instruction
) -> int | None:
  """How often the body of `loop` runs; None if that depends on the data."""
  known = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.text)
  if known:
    return int(known[1])
  state = _value(module, computation, loop.operands[0], [], {})
  (condition,) = loop.called("condition")
  (body,) = loop.called("body")
  for trips in range(_MAX_TRIPS):
    goes_on = _root_value(module, condition, [state])
    if goes_on is None:
      return None
    if not goes_on:
      return trips
    state = _root_value(module, body, [state])
  return None


_ARITHMETIC = {
  "add": operator.add,
  "subtract": operator.sub,
  "multiply": operator.mul,
  "maximum": max,
  "minimum": min,
  "and": operator.and_,
  "or": operator.or_,
}
_COMPARISONS = {
  "LT": operator.lt, "LE": operator.le, "GT": operator.gt,
  "GE": operator.ge, "EQ": operator.eq, "NE": operator.ne,
}  # fmt: skip
_SAME = ("copy", "bitcast", "convert", "reshape", "copy-start", "copy-done")


def _root_value(module: Module, name: str, arguments: list):
  computation = module.computations[name]
  return _value(module, computation, computation.root, arguments, {})


def _value(module, computation, name, arguments, known):
  """A scalar, or {index: value} for a tuple; None if it is not known.

  Only what the scalars of a loop are made of is computed.
  """
  if name in known:
    return known[name]
  instruction = computation.instructions[name]
  opcode = instruction.opcode
  of = lambda operand: _value(module, computation, operand, arguments, known)
  value = None
  if opcode == "constant":
    value = _literal(instruction.literal)
  elif opcode == "parameter":
    number = int(instruction.literal)
    value = arguments[number] if number < len(arguments) else None
  elif opcode == "tuple":
    value = {
      index: of(operand)
      for index, operand in enumerate(instruction.operands)
      if _is_scalar(computation.instructions[operand])
    }
  elif opcode == "get-tuple-element":
    whole = of(instruction.operands[0])
    index = int(instruction.attribute("index"))
    value = whole.get(index) if isinstance(whole, dict) else None
  elif opcode in _SAME:
    value = of(instruction.operands[0])
  elif opcode in ("fusion", "call"):
    (callee,) = _callees(instruction)
    value = _root_value(module, callee, list(map(of, instruction.operands)))
  elif opcode in _ARITHMETIC or opcode == "compare":
    values = [of(operand) for operand in instruction.operands]
    if None not in values:
      compute = _ARITHMETIC.get(opcode)
      compute = compute or _COMPARISONS[instruction.attribute("direction")]
      value = compute(*values)
  known[name] = value
  return value


def _is_scalar(instruction: Instruction) -> bool:
  return len(instruction.shapes) == 1 and not instruction.shapes[0].dims


def _literal(text: str) -> int | None:
  if text in ("true", "false"):
    return int(text == "true")
  return int(text) if re.fullmatch(r"-?\d+", text) else None


# Collectives.


def collectives(module: Module) -> list[Collective]:
  """All collectives, each with its number of executions.

  A pair of start and done counts once. An all-reduce of which each chip keeps a
  slice, which the TPU's compiler writes as a fusion of both, counts as the
  reduce-scatter that it is.
  """
  found, channels = [], {}
  for run in executed(module):
    instruction = run.instruction
    if instruction.opcode == "send" and "megascale" in instruction.text:
      found.append(_over_slices(run))
    kind = instruction.opcode.removesuffix("-start")
    if kind not in COLLECTIVES:
      continue
    # A fused exchange may stand in the parts that begin and that await it.
    channel = instruction.attribute("channel_id")
    if run.fused and channel and channels.setdefault(channel, run) != run:
      continue
    if kind == "all-reduce" and run.fused and _keeps_a_slice(run):
      kind = "reduce-scatter"
    found.append(
      Collective(
        kind,
        sum(s.bytes for s in run.computation.operand_shapes(instruction)),
        replica_groups(instruction),
        run.times,
        instruction.op_name,
      )
    )
  return found


def _over_slices(run: Executed) -> Collective:
  """A transfer to other slices, which the compiler leaves to the hosts.

  `{1,2}x{0:3}` stands for slices and the chips of each, `100001->200000` for
  chip 1 of slice 1 and chip 0 of slice 2.
  """
  text = run.instruction.text
  name = re.search(r'rendezvous="([a-z\-]+)', text)[1]
  target = re.search(r'megascale_target="?([^"]*?)"?,_xla', text)[1]
  pairs = re.findall(r"(\d+)->(\d+)", target)
  if pairs:
    slices = {int(chip) // 100_000 for pair in pairs for chip in pair}
  else:
    slices = set()
    for part in target[1 : target.index("}")].split(","):
      first, _, last = part.partition(":")
      slices |= set(range(int(first), int(last or first) + 1))
  source = run.computation.instructions[run.instruction.operands[0]]
  size = sum(shape.bytes for shape in source.shapes)
  groups = (tuple(sorted(slices)),)
  op_name = run.instruction.op_name
  return Collective(name, size, groups, run.times, op_name, over_slices=True)


def _keeps_a_slice(run: Executed) -> bool:
  """Whether the fusion returns a slice of the sum."""
  instructions = run.computation.instructions
  current = instructions[run.computation.root]
  while current.opcode in ("bitcast", "copy", "convert"):
    current = instructions[current.operands[0]]
  return (
    current.opcode == "dynamic-slice"
    and run.instruction.name in current.operands
  )


def replica_groups(instruction: Instruction) -> tuple[tuple[int, ...], ...]:
  """The groups of chips, in any of the ways they are written.

  As lists `{{0,1},{2,3}}`, as a reshaped and transposed count
  `[4,2]<=[2,4]T(1,0)`, as axes of a mesh `mesh['a'=4,'b'=2] {'a'}`; a permute
  names pairs of source and target, whose cycles are its groups.
  """
  pairs = instruction.attribute("source_target_pairs")
  if pairs is not None:
    return _cycles(_lists(pairs))
  text = instruction.attribute("replica_groups")
  if text is None:
    return ()
  if text.startswith("mesh["):
    return _mesh_groups(instruction.text)
  if text.startswith("["):
    (count, size), devices = _iota(text)
    return _rows(devices.reshape(count, size))
  return _lists(text)


def _lists(text: str) -> tuple[tuple[int, ...], ...]:
  inner = re.findall(r"\{([\d,\s]*)\}", text)
  return tuple(tuple(map(int, re.findall(r"\d+", group))) for group in inner)


def _rows(groups: np.ndarray) -> tuple[tuple[int, ...], ...]:
  return tuple(tuple(map(int, group)) for group in groups)


def _iota(text: str) -> tuple[list[int], np.ndarray]:
  """`[shape]<=[reshaped]T(order)`: the shape, and the chips in their order."""
  shape, source, order = re.match(
    r"\[([\d,]+)\](?:<=\[([\d,]+)\])?(?:T\(([\d,]+)\))?", text
  ).groups()
  numbers = lambda found: [int(n) for n in found.split(",")]
  devices = np.arange(math.prod(numbers(source or shape)))
  devices = devices.reshape(numbers(source or shape))
  if order:
    devices = devices.transpose(numbers(order))
  return numbers(shape), devices.reshape(-1)


def _mesh_groups(text: str) -> tuple[tuple[int, ...], ...]:
  """`mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a'}`."""
  sizes, order, over = re.search(
    r"mesh\[([^\]]*)\](?:, device_ids=\((\[.*?)\))? \{([^}]*)\}", text
  ).groups()
  axes = {name: int(n) for name, n in re.findall(r"'(\w+)'=(\d+)", sizes)}
  chips = np.arange(math.prod(axes.values()))
  if order:
    chips = _iota(order)[1]
  chips = chips.reshape(list(axes.values()))
  # 'axis':(m)k is a part of an axis: k steps, m steps in front of them.
  exchanged, kept, position = [], [], 0
  parts = {
    name: (int(before), int(size)) if size else (1, axes[name])
    for name, before, size in re.findall(r"'(\w+)'(?::\((\d+)\)(\d+))?", over)
  }
  split = []
  for name, size in axes.items():
    before, inner = parts.get(name, (size, 1))
    for length, exchanges in (
      (before, False), (inner, True), (size // before // inner, False),
    ):  # fmt: skip
      split.append(length)
      (exchanged if exchanges else kept).append(position)
      position += 1
  groups = chips.reshape(split).transpose(kept + exchanged)
  return _rows(groups.reshape(-1, math.prod(split[i] for i in exchanged)))


def _cycles(pairs: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
  """Chips that are joined by pairs of source and target."""
  group = {}
  for source, target in pairs:
    joined = group.get(source, {source}) | group.get(target, {target})
    for chip in joined:
      group[chip] = joined
  return tuple(sorted({tuple(sorted(chips)) for chips in group.values()}))


# Products.


def flops(module: Module) -> float:
  """Multiplications and additions of all matrix products and convolutions.

  What a custom kernel computes is not in the text: see `kernels`.
  """
  return sum(
    run.times * _products(run)
    for run in executed(module)
    if run.instruction.opcode in ("dot", "convolution")
  )


def _products(run: Executed) -> int:
  instruction = run.instruction
  out = instruction.shapes[0].dims
  left, right = run.computation.operand_shapes(instruction)
  if instruction.opcode == "dot":
    contracted = instruction.attribute("lhs_contracting_dims") or ""
    dims = map(int, re.findall(r"\d+", contracted))
    return 2 * math.prod(out) * math.prod(left.dims[d] for d in dims)
  return _convolution_products(instruction, left.dims, right.dims, out)


def _convolution_products(instruction, left, right, out) -> int:
  """As XLA counts: a tap that falls into the padding is no product.

  The TPU's compiler writes most matrix products as convolutions, whose window
  runs over a batch axis and mostly over padding.
  """
  labels = instruction.attribute("dim_labels") or ""
  left_axes, right_axes, out_axes = re.match(
    r"(\w+)_(\w+)->(\w+)", labels
  ).groups()
  window = instruction.attribute("window") or "{}"
  taps = 1
  spatial = sorted(axis for axis in out_axes if axis.isdigit())
  for index, axis in enumerate(spatial):
    setting = functools.partial(_window, window, index)
    low, _ = setting("pad", "0_0").split("_")
    stride, base, spread = (
      int(setting(name, "1")) for name in ("stride", "lhs_dilate", "rhs_dilate")
    )
    size = left[left_axes.index(axis)]
    steps = np.arange(out[out_axes.index(axis)])[:, None] * stride
    place = steps + np.arange(right[right_axes.index(axis)]) * spread - int(low)
    inside = (place >= 0) & (place <= (size - 1) * base) & (place % base == 0)
    taps *= int(inside.sum())
  lead = out[out_axes.index("b")] * out[out_axes.index("f")]
  return 2 * lead * right[right_axes.index("i")] * taps


def _window(window: str, index: int, name: str, default: str) -> str:
  found = re.search(rf"[{{ ]{name}=([\d_x\-]+)", window)
  return found[1].split("x")[index] if found else default


def kernels(module: Module, target: str = "tpu_custom_call") -> list[Executed]:
  """Calls of custom kernels, whose inside is not in the text."""
  return [
    run
    for run in executed(module)
    if run.instruction.opcode == "custom-call"
    and run.instruction.attribute("custom_call_target") == f'"{target}"'
  ]


# Traffic and copies.

_NO_TRAFFIC = (
  "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while",
  "conditional", "call", "partition-id", "replica-id", "after-all",
  "opt-barrier", "async-start",
)  # fmt: skip


def traffic(module: Module) -> int:
  """Bytes that go between the main memory (HBM) and the chip's units.

  Of an array that is sliced, or of which a slice is written, the slice counts.
  Arrays that the compiler keeps near the units count when they get there.
  """
  total = 0
  for run in executed(module):
    opcode = run.instruction.opcode
    if run.fused or opcode in _NO_TRAFFIC or opcode.endswith("-done"):
      continue
    if run.instruction.attribute("custom_call_target") == '"AllocateBuffer"':
      continue
    total += run.times * (_read(module, run) + _written(module, run))
  return total


def _read(module: Module, run: Executed) -> int:
  total = 0
  for number, operand in enumerate(run.instruction.operands):
    shapes = run.computation.instructions[operand].shapes
    size = sum(shape.main_bytes for shape in shapes)
    if size and len(shapes) == 1:
      count = math.prod(shapes[0].dims)
      used = _used_by(module, run.computation, run.instruction, number, count)
      size = size * min(count, used) // count
    total += size
  return total


# Elementwise: each number of the result is made of one of the operand.
_ELEMENTWISE = ("bitcast", "convert", "copy", "reshape", "transpose", "negate")


def _used_by(module, computation, user: Instruction, number: int, wanted: int):
  """How many numbers `user` reads of its operand `number`, an array.

  If only `wanted` numbers of its own result are read, an elementwise operation
  reads no more than these.
  """
  shape = computation.instructions[user.operands[number]].shapes[0]
  if number == 0 and user.opcode in ("dynamic-slice", "gather", "slice"):
    return math.prod(user.shapes[0].dims)
  if number == 0 and user.opcode == "dynamic-update-slice":
    return 0
  if user.opcode == "fusion":
    inner = module.computations[_callees(user)[0]]
    return _used_of(module, inner, inner.parameters[number], wanted)
  return wanted if user.opcode in _ELEMENTWISE else math.prod(shape.dims)


def _used_of(module, computation, name: str, wanted: int) -> int:
  """How many numbers of `name` a fusion reads, if `wanted` of its root are."""
  if name == computation.root:
    return wanted
  total = 0
  for user in computation.instructions.values():
    for number, operand in enumerate(user.operands):
      if operand == name:
        passed_on = math.prod(user.shapes[0].dims)
        if user.opcode in (*_ELEMENTWISE, "fusion"):
          passed_on = _used_of(module, computation, user.name, wanted)
        total += _used_by(module, computation, user, number, passed_on)
  return total


def _written(module: Module, run: Executed) -> int:
  return sum(
    _update_bytes(*origin) if in_place else shape.main_bytes
    for shape, origin, in_place in _results(module, run)
  )


def _update_bytes(computation: Computation, update: Instruction) -> int:
  written = computation.instructions[update.operands[1]]
  return sum(shape.bytes for shape in written.shapes)


def _results(module: Module, run: Executed):
  """Of each result: its shape, what makes it, and whether that is in place.

  What makes it is an instruction within the fusion, if `run` is one.
  """
  instruction, computation = run.instruction, run.computation
  makers = [instruction.name]
  shapes = instruction.shapes
  if instruction.opcode == "copy-start":  # gives the copy, and the original
    shapes = shapes[:1]
  if instruction.opcode == "fusion":
    computation = module.computations[_callees(instruction)[0]]
    root = computation.instructions[computation.root]
    makers = root.operands if root.opcode == "tuple" else [root.name]
  if len(makers) < len(shapes):  # one instruction gives them all
    makers = [*makers] * len(shapes)
  for shape, name in zip(shapes, makers, strict=True):
    maker = computation.instructions[name]
    while maker.opcode == "bitcast":
      maker = computation.instructions[maker.operands[0]]
    in_place = maker.opcode == "dynamic-update-slice"
    yield shape, (computation, maker), in_place


def copies(module: Module, dims: Sequence[int]) -> list[Executed]:
  """Instructions that write a whole array of these sizes to the main memory.

  Sizes are taken in any order and without ones, since a copy may be transposed.
  Writing a slice of it in place is no copy, and neither is reading it.
  """
  wanted = _sizes(dims)
  return [
    run
    for run in executed(module)
    if not run.fused
    and run.instruction.opcode not in _NO_TRAFFIC
    and not run.instruction.opcode.endswith("-done")
    and any(
      not shape.space and not in_place and _sizes(shape.dims) == wanted
      for shape, _, in_place in _results(module, run)
    )
  ]


def _sizes(dims: Sequence[int]) -> list[int]:
  return sorted(size for size in dims if size > 1)


def stacked_by_loops(module: Module, trips: int) -> list[tuple[str, int]]:
  """The arrays that each loop of `trips` steps stacks up, a slice a step.

  For a model with a loop over its layers these are the activations kept for the
  backward pass, and the gradients.

  Returns:
    For each loop where it comes from in the Python program, and bytes.
  """
  found = []
  for run in executed(module):
    loop = run.instruction
    if loop.opcode != "while":
      continue
    if trip_count(module, run.computation, loop) != trips:
      continue
    body = module.computations[loop.called("body")[0]]
    results = body.instructions[body.root].operands
    size = sum(
      shape.main_bytes
      for index, (shape, name) in enumerate(
        zip(loop.shapes, results, strict=True)
      )
      if shape.dims[:1] == (trips,) and not _is_given(body, name, index)
    )
    found.append((loop.op_name, size))
  return found


def _is_given(body: Computation, name: str, index: int) -> bool:
  """Whether the loop passes its element `index` on unchanged."""
  result = body.instructions[name]
  return (
    result.opcode == "get-tuple-element"
    and body.instructions[result.operands[0]].opcode == "parameter"
    and int(result.attribute("index")) == index
  )
