"""One of a few options: "B", "(B) Paris", "The answer is not A, it is B."."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import functools
import re

from s2d_jax.answers import reply as replies
from s2d_jax.answers.answer import Answer
from s2d_jax.answers.confirmed import confirmed
from s2d_jax.answers.stance import undenied
from s2d_jax.answers.statements import (
  TURNED,
  Statement,
  last_word,
  statements,
)
from s2d_jax.answers.text import Text
from s2d_jax.answers.words import normalise
from s2d_jax.errors import UserError

_SAME = {"nope": "no", "nah": "no", "yep": "yes", "yeah": "yes", "yup": "yes"}
_MOST_WORDS = 20  # of the text of an option
# "No one", "no longer", "no right answer" say neither yes nor no.
_NO_DETERMINER = (
  r"(?!\s+(?!(?:wait|it|he|she|they|the|this|that|because|since|as|not|and|I|you"
  r"|but|or)\b)\w)"
)
_LABEL = r"(?:(?i:(?:the )?(?:option|answer|choice|letter|response|number))\s+)"
_FIELD = (
  r"^\W*(?!options?\b|choices?\b|not\s*:)[A-Za-z]{2,}(?:[ -][a-z]+){0,2}\s*:\s*"
)
_OPEN = r"[\s\"'“‘*_(\[$]*"
_CLOSE = r"[\"'”’*_)\]$]*"
_ADVERBS = (
  r"(?:(?:the|a|an|clearly|definitely|certainly|probably|most likely|likely"
  r"|simply|just|indeed|still|actually|quite|very|rather|mostly|mainly|largely"
  r"|overall|strongly|generally|predominantly|overwhelmingly|thus|therefore"
  r"|more|somewhat|slightly|fairly|really)\s+)*"
)
# What follows an option, and only says more about it.
_REASON = re.compile(
  r"\s*(?:$|[.,;:!)–—-]|\((?!or\b)|\b(?:because|since|as|for|so|here|when|given"
  r"|which|that is|in this|with|due to|and (?:it|the|this)|based on|is correct"
  r"|overall|(?:the )?(?:right|correct|best)|\.)\b)",
  re.IGNORECASE,
)
_JOINED = re.compile(
  r"^[\"'”’)\]*\s.]*(?:/|,?\s*(?:\b(?:or|and|nor|to)\b)|,|&)\s*(?:\bor\b|\band\b)?"
  r"\s*(?:maybe |perhaps |possibly )?",
  re.IGNORECASE,
)
_REFUTED = re.compile(
  r"\b(?:not|never|neither|nor|no|wrong|incorrect|false|rather than|instead of"
  r"|unlike|than|eliminat\w*|exclud\w*|ruled? out|rules out|while|whereas"
  r"|although|though|despite|lacks?|fails?|without|cannot|other options?)\b"
  r"|n['’]t\b",
  re.IGNORECASE,
)
_GOOD = (
  r"(?:correct|right|best|better|true|answer|one|only|superior|stronger"
  r"|preferable|preferred|most|accurate|appropriate|choice|option)"
)
_SAYS = (
  r"(?:I(?:['’]d| would| will|['’]ll)?(?: have to)?|my|we"
  r"|let['’]s)\s+(?:\w+ly )?"
  r"(?:say|choose|pick|select|go with|go for|going with|vote for|opt for"
  r"|answer|chose|think it(?:['’]s| is)|believe it(?:['’]s| is)|lean towards?"
  r"|classify (?:it|this|the \w+) as|rate (?:it|this) as"
  r"|choice is|pick is|vote is|verdict is)(?: (?:it(?:['’]s| is)|with|for))?"
)
_LINK = (
  r"(?:(?:it|that|this|answer)(?:['’]s| is| must be| has to be| would be)"
  r"|\b(?<!which )(?:is|be|are|seems|sounds|appears(?: to be)?|reads as"
  r"|makes(?: it| this)?|leaves(?: us)?(?: with)?"
  r"|matches|corresponds to|points to|leans|remains|expresses|conveys|shows"
  r"|has|as|choose|select|pick))\s*:?"
)
_NOUNS = (
  r"(?:\s+(?:sentiment|review|tone|opinion|feeling|overall|attitude|emotion|one"
  r"|option|answer|in (?:tone|sentiment)|experience))*"
)

_INTERJECTION = r"(?:well|so|ok(?:ay)?|sure|oh|hmm),?\s+"
# What may stand before a "yes" that is all of an answer.
_OPENING = (
  rf"{_INTERJECTION}|(?:absolutely|certainly|definitely|simply|only|in short"
  r"|to answer (?:your|the) question),?\s+|(?:A:|1\.)\s+"
)
_SO = re.compile(r"\b(?:so|therefore|thus|hence)\b", re.IGNORECASE)
_STANDS_BEFORE = re.compile(
  r"\b(?:also|correct|right|best|so|therefore|answer|is|be|choose|pick)\W*$",
  re.IGNORECASE,
)
_STANDS_AFTER = re.compile(
  rf"\W*(?:is|was|seems|would be|could be|works)\s+(?:also\s+)?{_ADVERBS}"
  rf"(?:{_GOOD}|too|also|as well)\b|\W*(?:too|also|as well)\b",
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
    if self._are_letters:
      text = re.sub(rf"\[+({self._names})\]+", r"\1", text)
    if {"yes", "no"} <= self._known.keys():
      text = _DENYING.sub("No. ", _AGREEING.sub("Yes. ", text))
    is_weighed = (
      self._are_letters and len({m[0] for m in self._mentioned(text)}) > 1
    )
    but = {"negates", "concedes"} | ({"rejects"} if is_weighed else set())
    found = confirmed(
      self._read, text, question, but, is_no_a_turn="no" not in self._known
    )
    if found:
      return found if found.strict else self._weighed(found, text)
    if not self._are_letters:
      return None
    found = _by_text(_texts(question, self.options), text, question)
    named = {mention[0] for mention in self._mentioned(text)}
    return found if found and named <= {found.text} else None

  def _weighed(self, found: Answer, text: str) -> Answer:
    """An answer out of a sentence, sure if no other option is named."""
    named = {option for option, *_ in self._mentioned(undenied(text))}
    return found._replace(is_sure=named <= {found.text})

  def _read(self, text: str) -> Answer | None:
    option = self._alone(text)
    if option is not None:
      return Answer(option, strict=True)
    said = statements(text)
    if any(one.is_marked for one in said):
      found = last_word(said, self._marked, self._keeps)
      if found is None:
        return None
      is_strict = self._alone(said[found[1]].text) is not None
      return Answer(found[0], is_strict)
    option = self._unmarked([one.text for one in said], text)
    return None if option is None else Answer(option, strict=False)

  @functools.cached_property
  def _known(self) -> dict[str, str]:
    """The options as they are looked up: bare, and in lower case."""
    bare = {_bare(option): option for option in self.options}
    exact = {option.casefold(): option for option in self.options}
    same = {a: exact[b] for a, b in _SAME.items() if b in exact}
    return same | bare | exact

  @functools.cached_property
  def _are_letters(self) -> bool:
    return all(len(option) == 1 for option in self.options)

  @property
  def _flags(self) -> int:
    """ "a" is no letter of an option within a sentence."""
    return 0 if self._are_letters else re.IGNORECASE

  @functools.cached_property
  def _names(self) -> str:
    """A pattern of all options, the longest first."""
    names = sorted({*self.options, *self._known}, key=len, reverse=True)
    if self._are_letters:
      names = list(self.options)
    return "|".join(
      re.escape(name) + (_NO_DETERMINER if name == "no" else "")
      for name in names
      if name
    )

  @functools.cached_property
  def _mention(self) -> re.Pattern[str]:
    """Where an option is meant; "A" and "I" are words, too."""
    if not self._are_letters:
      return re.compile(
        rf"(?<![\w'’-])(?P<name>{self._names})(?![\w'’-])", re.IGNORECASE
      )
    names = f"(?P<name>{self._names})"
    return re.compile(
      rf"(?<![\w'’-])(?:(?:(?<=ption )|(?<=nswer )|(?<=hoice )|(?<=etter )"
      rf"|(?<=[(\[])){names}(?![\w'’])"
      rf"|{names.replace('name', 'other')}(?![\w'’-])"
      r"(?=[\"'”’*_)\]]*\s*(?:$|[.,;:!?)\n–—/-]|\b(?:is|was|are|and|or|seems|would"
      r"|because|since|as|not|but|describes|has|gives|says|explains|can|does"
      r"|could|cannot|over|rather|instead)\b)))",
    )

  @functools.cached_property
  def _item(self) -> re.Pattern[str]:
    """A line of a list of the options."""
    label = rf"({self._names})" if self._are_letters else r"(?!)()"
    return re.compile(rf"\W*(?:option )?{label}\s*[).:–-]\W*\w", re.IGNORECASE)

  def _mentioned(self, text: str) -> list[tuple[str, int, int]]:
    found = []
    for match in self._mention.finditer(text):
      groups = match.groupdict()
      name = groups["name"] or groups.get("other")
      found.append((self._known[name.casefold()], *match.span()))
    return found

  def _alone(self, text: str) -> str | None:
    """The option that a text is, but for signs around it and its content."""
    for bare in (text.strip().casefold(), text.strip(" .!\"'\n").casefold()):
      if bare in self._known:
        return self._known[bare]
    for label in (rf"^\W*{_LABEL}(?=\W*\w+\W*\Z)", _FIELD):
      bare = _bare(re.sub(label, "", text, flags=re.I))
      if bare in self._known:
        return self._known[bare]
    if not self._are_letters or "\n" in text.strip():
      return None
    text = undenied(text)
    # "B. The Nile", "(b) the Nile"
    match = re.match(
      rf"^\W*{_LABEL}?(?P<name>{self._names})\s*[).:\]–-][).:\]\s]*(?P<rest>\S.*)",
      text,
      re.IGNORECASE,
    ) or re.match(
      rf"^\W*{_LABEL}(?P<name>{self._names})\s*(?P<rest>\(.*\))\W*$", text, re.I
    )
    if not match or len(text.split()) > _MOST_WORDS:
      return None
    if re.match(r"[a-z]\s*:", match[0]) or self._denies(match["rest"]):
      return None
    is_other = re.search(
      rf"(?<!\w)(?:{self._names})\s*(?:[).:]|\W*$)", match["rest"]
    )
    if is_other:
      return None
    return self._known[match["name"].casefold()]

  def _denies(self, rest: str) -> bool:
    return (
      re.match(
        r"\W*(?:(?:is|was|would be|aspects?|comments?) )*(?:not|wrong"
        r"|incorrect|false|eliminated|no)\b|\W*[❌✗✘]",
        rest,
        re.IGNORECASE,
      )
      is not None
    )

  def _marked(self, said: Statement) -> str | None:
    """The option that stands behind a mark."""
    option = self._alone(said.text) or self._corrected(said.text)
    if option:
      return option
    text = undenied(said.text)
    match = re.match(
      rf"{_OPEN}{_ADVERBS}{_LABEL}?{_OPEN}(?P<name>{self._names})(?![\w'’])"
      rf"{_CLOSE}",
      text,
      re.IGNORECASE,
    )
    if not match:
      return None
    option = self._known[match["name"].casefold()]
    return option if self._is_reason(option, text[match.end() :]) else None

  def _corrected(self, text: str) -> str | None:
    """Y in "not X, but Y" and in "not X; it is Y"."""
    match = re.fullmatch(
      rf"{_OPEN}(?:it(?:['’]s| is) )?not\s+{_LABEL}?{_OPEN}(?:{self._names})"
      rf"{_CLOSE}(?:,|;)?\s+(?:but|it(?:['’]s| is))\s+(?:rather\s+)?{_LABEL}?"
      rf"{_OPEN}(?P<name>{self._names}){_CLOSE}[.!]*",
      text,
      re.IGNORECASE,
    )
    return self._known[match["name"].casefold()] if match else None

  def _is_reason(self, option: str, rest: str) -> bool:
    """Whether what follows an option in its sentence leaves it as it is."""
    joined = _JOINED.match(rest)
    if joined and re.match(
      rf"{_LABEL}?{_OPEN}(?:{self._names})(?![\w'’])",
      rest[joined.end() :],
      self._flags,
    ):
      return False
    if rest.strip() and not _REASON.match(rest) or self._denies(rest):
      return False
    return self._keeps([rest], option)

  def _keeps(self, behind: Sequence[str], option: str) -> bool:
    """Whether sentences stand by no other option."""
    for sentence in behind:
      rivals = [m for m in self._mentioned(sentence) if m[0] != option]
      for _, start, end in rivals:
        before = re.split(r"[.;:!?\n]|\bbut\b", sentence[:start])[-1]
        after = re.split(r"[.;!?\n]|\bbut\b", sentence[end:])[0]
        is_out = _REFUTED.search(before) or (
          _REFUTED.search(after) if self._are_letters else self._denies(after)
        )
        # "Option A is about size": a letter has to be said to be right.
        is_about = (
          self._are_letters
          and re.search(r"\w{2}", after)
          and not _STANDS_BEFORE.search(before)
          and not _STANDS_AFTER.match(after)
        )
        if not is_out and not is_about:
          return False
    return True

  def _unmarked(self, said: list[str], text: str) -> str | None:
    items = [one for one in said if self._item.match(one)]
    if len({self._item.match(one)[1] for one in items}) > 1:
      said = [one for one in said if one not in items]
    if not said or said[0].endswith("?") or said[-1].endswith("?"):
      return None
    first = self._leading(said[0])
    if first is not None:
      behind = said[1:]
      if self._keeps(behind, first):
        return first
    if len(said) > 1 and replies.is_cut_off(text) and len(said[-1].split()) > 8:
      return None
    last = self._leading(said[-1])
    if last is not None:
      is_new = first not in (None, last)
      is_turned = any(TURNED.search(one) or _SO.search(one) for one in said[1:])
      return last if not is_new or is_turned else None
    return None if first else self._by_line(text, said)

  def _by_line(self, text: str, said: list[str]) -> str | None:
    """The option that stands alone in a line, before or after reasons."""
    lines = [line for line in text.splitlines() if line.strip()]
    found = [(n, self._alone(line)) for n, line in enumerate(lines)]
    found = [(n, option) for n, option in found if option is not None]
    if len({option for _, option in found}) != 1:
      return None
    place, option = found[-1]
    behind = lines[place + 1 :]
    return option if self._keeps(behind, option) else None

  def _leading(self, sentence: str) -> str | None:
    """The option that a sentence begins with, or names as the best."""
    sentence = undenied(sentence)
    field = re.match(_FIELD, sentence)
    if field and _bare(field[0]) not in self._known:
      sentence = sentence[field.end() :]
    if replies.refuses(sentence):
      return None
    label, opening = "(?:)", rf"(?:{_OPENING})?"
    if self._are_letters:
      label, opening = _LABEL, rf"(?:{_INTERJECTION})?"
    match = re.match(
      rf"{_OPEN}{opening}{label}?{_OPEN}"
      rf"(?P<name>{self._names})(?![\w'’-]){_CLOSE}",
      sentence,
      self._flags,
    )
    if match:
      rest = sentence[match.end() :]
      option = self._known[match["name"].casefold()]
      if self._are_letters and re.match(r"\s*[).:\]]\s*\w", rest):
        return None  # the text of an option, and more
      is_best = re.match(
        rf"\s+(?:(?:is|was|would be|must be|seems)\s+{_ADVERBS}{_GOOD}\b"
        r"|(?:best|correctly)\s+[a-z]+s\b)",
        rest,
      )
      if is_best and self._are_letters and not self._denies(rest):
        return option if self._keeps([rest], option) else None
      if re.match(r"\s*[.,;:!–—-]|\s*$|\s(?:because|since|as|\()", rest) or (
        not self._are_letters and re.match(r"\s+(?:it|he|she|the|this)\b", rest)
      ):
        return option if self._is_reason(option, rest) else None
    return self._concluded(sentence)

  def _concluded(self, sentence: str) -> str | None:
    """The option that a sentence comes to."""
    sentence = undenied(sentence).strip()
    if option := self._alone(sentence):
      return option
    so = re.split(
      r"\b(?:so|therefore|thus|hence|but|wait|actually|i\.e\.|meaning"
      r"|finally)\b[,:]?\s*",
      sentence,
      flags=re.IGNORECASE,
    )
    tail = so[-1].strip()
    if re.search(
      r"\bbut\b\W*$", sentence[: sentence.rfind(tail)], re.IGNORECASE
    ):
      head = sentence[: sentence.rfind(tail)]
    else:
      head = ""
    if replies.refuses(tail):
      return None
    if option := self._corrected(tail):
      return option
    if len(so) > 1:
      match = re.match(
        rf"{_OPEN}{_LABEL}?{_OPEN}(?P<name>{self._names})(?![\w'’-]){_CLOSE}"
        r"(?=\s*(?:$|[.,;:!(–—-]))",
        tail,
        re.IGNORECASE,
      )
      if match:
        option = self._known[match["name"].casefold()]
        return option if self._is_reason(option, tail[match.end() :]) else None
    label = f"{_LABEL}?"
    match = re.match(
      rf"(?P<before>.*?)(?:\b{_SAYS}|{_LINK})\s+{_ADVERBS}{label}{_OPEN}"
      rf"(?P<name>{self._names})(?![\w'’-]){_CLOSE}{_NOUNS}(?P<rest>.*)",
      tail,
      self._flags | re.DOTALL,
    ) or re.match(
      rf"(?P<before>.*?)\b{label}{_OPEN}(?P<name>{self._names})(?![\w'’-])"
      rf"{_CLOSE}\s+(?:(?:is|seems|must be|would be)\s+{_ADVERBS}{_GOOD}"
      rf"|(?P<fits>(?:best )?(?:fits"
      r"|matches|describes|explains|suits|answers)))\b"
      r"(?P<rest>.*)",
      tail,
      self._flags | re.DOTALL,
    )
    if not match:
      return None
    is_fit = match.re.groupindex.get("fits") and match["fits"]
    option = self._known[match["name"].casefold()]
    before = re.split(r"[,;:]", tail[: match.start("name")])
    if _REFUTED.search(before[-1]) or not self._keeps(
      [head, *before[:-1]], option
    ):
      return None
    rest = match["rest"]
    if is_fit:
      return option if self._keeps([rest], option) else None
    return option if not rest.strip() or self._is_reason(option, rest) else None


_AGREEING = re.compile(
  r"\A\W*(?:(?:that|this|it)(?:['’]s| is) )?(?:correct|right|true)(?:[.!]"
  r"|,(?! but))\s*",
  re.IGNORECASE,
)
_DENYING = re.compile(
  r"\A\W*(?:that|this|it)(?:['’]s| is) (?:not (?:correct|right|true)|false"
  r"|incorrect)"
  r"(?:[.!]|,(?! but))\s*",
  re.IGNORECASE,
)


def _texts(question: str, letters: Sequence[str]) -> dict[str, str]:
  """What the options of a question say, and their letters, if all differ."""
  any_letter = "|".join(map(re.escape, letters))
  parts = re.split(rf"\(?\b({any_letter})[).:]\s+", question)
  texts = {
    re.sub(r"^(?:the|an?)\s+", "", text.strip(" ,;.\n"), flags=re.I): letter
    for letter, text in zip(parts[1::2], parts[2::2], strict=True)
  }
  is_whole = len(parts) == 2 * len(letters) + 1 and len(texts) == len(letters)
  return texts if is_whole and all(len(text) > 1 for text in texts) else {}


# "It is Mercury", "The answer is the piano"; not "Earth has Venus beside it".
_GIVES_TEXT = re.compile(
  r"(?:\A|[.!:,]\s|\bso\b|\bis\b)\W*(?:so |therefore )?(?:it|that|this"
  r"|(?:(?:correct|right"
  r"|best) )?(?:answer|option|choice|one)(?: they \w+)?)(?:['’]s| is| must be"
  r"| has to be"
  r"| would be)\b",
  re.IGNORECASE,
)


def _by_text(
  letters: dict[str, str], text: str, question: str
) -> Answer | None:
  """The letter of the one option that a reply names by its text."""
  if not letters:
    return None
  bare = re.sub(
    r"(?<![\w'’])(?:the|an?)\s+(?=\w)", "", text, flags=re.IGNORECASE
  )
  found = Choice(tuple(letters))(bare, question)
  if found and (found.strict or _GIVES_TEXT.search(bare)):
    return Answer(letters[found.text], found.strict)
  stem = re.split(r"\(?\b[A-Z][).:]\s", question)[0]
  named = Text()(text, stem)
  same = [
    letters[one] for one in letters if named and normalise(one) == named.text
  ]
  return Answer(same[0], strict=False) if same else None


def _bare(text: str) -> str:
  """A text without signs around it, in lower case."""
  return re.sub(r"^[\W_]+|[\W_]+$", "", text).casefold()
