"""One of a few options: "B", "(B) Paris", "The answer is not A, it is B."."""

from __future__ import annotations

import dataclasses
import re

from s2d_jax.answers import mentions, reply as replies
from s2d_jax.answers.answer import Answer
from s2d_jax.answers.corrections import SETTLES
from s2d_jax.answers.mentions import Mention
from s2d_jax.errors import UserError

# "No one", "no longer", "no right answer" say neither yes nor no.
_DETERMINER = (
  r"(?!(?-i:no|No|NO)\s+(?!wait\b|it\b|he\b|she\b|they\b|the\b|this\b|that\b"
  r"|because\b|since\b|as\b|not\b|and\b|I\b|you\b|but\b|or\b)\w)"
)
# A letter followed by a word is an article, or a word: "A plant", "I think".
_GOES_ON_AS_LETTER = (
  r"(?!\s+(?!(?:is|was|because|since|as|and|or|but|not|would|seems|looks|rather"
  r"|over|with|by|if|nor|in|for|on|has|explains|gives|does|could|cannot|can|the)\b)"
  r"[a-z])"
)
_NEAR = 300  # characters before a letter that may say how it is used
_SAME = {"nope": "no", "nah": "no", "yep": "yes", "yeah": "yes", "yup": "yes"}
_ITEM = re.compile(r"\s*[.):]\s*[\w*_\"]")
_DENIED_TAIL = re.compile(r",?\s+(?:not|rather than|instead of)\s.*$")
_BECAUSE = re.compile(r",?\s+(?:because|since)\s")
_LABEL = r"(?:the\s+)?(?:option|answer|choice|letter|response|assistant)\s+"
_CUED_BEFORE = re.compile(
  r"(?:\b(?:answer|option|choice|letter|verdict|choose|chose|pick|select"
  r"|go with|going with|prefer|towards?|makes|is|be|was|so|therefore|thus|hence"
  r"|yes|no)\b)"
  r"\W*(?:(?:definitely|clearly|probably|the|actually|just|simply|with|option"
  r"|answer|choice|letter|response|assistant)\W+)*$",
  re.IGNORECASE,
)
_STATES = re.compile(r"(?:[.!?\n]|\bbut in \w+ \w+|\b(?:is|answer))\W*\Z")
_IS_CORRECT = r"\s+is (?:the )?(?:correct|right|best)\b"
# "I'm not certain, but I'd …"
_UNSURE = re.compile(
  r"^[^.,]*\bnot (?:\w+ )?(?:sure|certain),? but (?=I\b)", re.IGNORECASE
)
_ENDS = re.compile(r"\W*(?:$|\n|[.,;:!)–-]|(?:because|since|as|for)\b)")
_CUED_AFTER = re.compile(
  r"^\W*(?:is|was|seems|would be|must be|looks)\s+(?:the\s+|a\s+|much\s+"
  r"|\w+ly\s+)*(?:correct|right|best|better|true|answer|one|only|superior"
  r"|stronger|preferable|winner|preferred|most)\b",
  re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Choice:
  """One of a few options; a single letter only where it is no other word."""

  options: tuple[str, ...]

  def __post_init__(self):
    if (
      not isinstance(self.options, tuple)
      or not all(isinstance(o, str) and o for o in self.options)
      or len(set(self.options)) < 2
    ):
      raise UserError(
        f"task.answer.options={self.options!r} must be two or more different"
        " texts"
      )

  def __call__(self, reply: str, question: str = "") -> Answer | None:
    text = replies.said(reply)
    if text.endswith("?") and len(replies.sentences(text)) == 1:
      return None
    statements = replies.marked(text)
    if replies.contradicts(text):
      return None
    for statement in statements:
      option = self._alone(_BECAUSE.split(statement)[0])
      if option is not None:
        return _answer(option, strict=True)
      if self._mentions(statement):
        return _answer(self._stated(statement), strict=False)
    option = self._alone(text)
    if option is not None:
      return _answer(option, strict=True)
    return _answer(self._by_line(text) or self._stated(text), strict=False)

  def _alone(self, text: str) -> str | None:
    """The option that a text is, but for signs around it and its content."""
    exact = {option.casefold(): option for option in self.options}
    for bare in (text.strip(), text.strip(" .!\"'\n")):
      if bare.casefold() in exact:
        return exact[bare.casefold()]
    bare = re.sub(rf"^\W*{_LABEL}", "", text, flags=re.IGNORECASE)
    bare = re.sub(r"^[\W_]+|[\W_]+$", "", bare).casefold()
    bare = _SAME.get(bare, bare)
    strip = lambda option: re.sub(r"^[\W_]+|[\W_]+$", "", option).casefold()
    named = {strip(option): option for option in self.options} | exact
    if bare in named:
      return named[bare]
    if not self._are_letters:
      return None
    # "B. The Nile", in one line and without another option
    text = _DENIED_TAIL.sub("", text)
    text = re.sub(r"^[a-h](?=\)\s)", lambda match: match[0].upper(), text)
    match = re.match(rf"^\W*({self._names})\s*[).:\]][).:\]\s]*\S", text)
    if not match or "\n" in text.strip():
      return None
    other = re.search(
      rf"(?<!\w)(?:{self._names})\s*[).:]", text[match.end(1) + 2 :]
    )
    is_denied = mentions.DENIED_AFTER.match(text[match.end(1) :])
    is_long = len(text.split()) > 20
    return None if other or is_denied or is_long else match[1]

  def _by_line(self, text: str) -> str | None:
    """The option that stands alone in a line, before or after reasons."""
    lines = (line for line in text.splitlines() if not line.endswith(":"))
    found = {self._alone(line) for line in lines} - {None}
    return found.pop() if len(found) == 1 else None

  def _stated(self, text: str) -> str | None:
    text = _UNSURE.sub("", text)
    if replies.refuses(text):
      return None
    if leading := self._leading(text):
      return leading
    found = mentions.affirmed(text, self._mentions(text))
    return mentions.decided(text, found)

  def _leading(self, text: str) -> str | None:
    """The option that a text begins with, and gives reasons for.

    "No, …" and "Option B is correct because …" say it all, if nothing that
    follows corrects or concludes.
    """
    rule = r"\W*[,.:;!]" if not self._are_letters else _IS_CORRECT
    label = _LABEL if self._are_letters else ""
    match = re.match(
      rf"\W*{label}({self._names})\b{rule}(.+)", text, re.I | re.DOTALL
    )
    if not match or SETTLES.search(re.sub(r"\bno\b", "", match[2])):
      return None
    others = [m for m in self._mentions(match[2]) if m.name != match[1]]
    is_other = any(
      re.search(
        r"(?:[.!?\n]|\bbut in \w+ \w+|\b(?:is|answer))\W*\Z",
        match[2][: m.start],
      )
      or _CUED_AFTER.match(match[2][m.end :])
      or not re.search(r"\w", match[2][m.end :])
      for m in others
    )
    known = {option.casefold(): option for option in self.options}
    return None if is_other else known[match[1].casefold()]

  @property
  def _are_letters(self) -> bool:
    return all(len(option) == 1 for option in self.options)

  @property
  def _names(self) -> str:
    longest_first = sorted(self.options, key=len, reverse=True)
    return "|".join(map(re.escape, longest_first))

  def _mentions(self, text: str) -> list[Mention]:
    """Where options are named."""
    rule = _GOES_ON_AS_LETTER if self._are_letters else ""
    rule = rule and rf"(?:(?<=(?:ption|hoice) .)|{rule})"
    pattern = rf"(?<!\w)(?<!\w-){_DETERMINER}({self._names})(?![\w'’]){rule}"
    flags = 0 if self._are_letters else re.IGNORECASE
    known = {option.casefold(): option for option in self.options}
    found = [
      Mention(
        match[1] if self._are_letters else known[match[1].casefold()],
        match.start(1),
        match.end(1),
      )
      for match in re.finditer(pattern, text, flags)
    ]
    if not self._are_letters:
      return found
    return [
      mention
      for number, mention in enumerate(found)
      if _is_meant(text, mention, found[max(0, number - 1) : number + 2])
    ]


def _answer(option: str | None, strict: bool) -> Answer | None:
  return None if option is None else Answer(option, strict)


def _is_meant(text: str, mention: Mention, around: list[Mention]) -> bool:
  """Whether a letter is used as an option, not in "Vitamin C" or a list."""
  before = text[max(0, mention.start - _NEAR) : mention.start]
  after = text[mention.end : mention.end + _NEAR]
  sentence = re.split(r"[.!?\n]\s*", before)[-1]
  if re.match(r"\s*:", after) and not before.strip():
    return False  # "A: …" answers a "Q: …"
  if re.search(r"[\d°]\s?\Z", before):
    return False  # a unit: "100 °C"
  others = [m for m in around if m.name != mention.name]
  if _ITEM.match(after) and (
    before.strip() or any(_ITEM.match(text, m.end) for m in others)
  ):
    return False  # an item of a list of the options
  is_last = not re.search(r"[^\W_]", after)
  begins = not sentence.strip("\"'([*") and _ENDS.match(after)
  return bool(
    begins
    or _CUED_BEFORE.search(sentence)
    or _CUED_AFTER.match(after)
    or is_last
    or any(_near(text, mention, other) for other in others)
  )


def _near(text: str, one: Mention, other: Mention) -> bool:
  """Whether two options are named side by side."""
  first, second = sorted((one, other), key=lambda m: m.start)
  between = text[first.end : second.start]
  return len(between) < 12 and "." not in between
