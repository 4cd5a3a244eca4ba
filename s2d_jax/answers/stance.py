"""Which sentences stand by what they say, and which take it back.

One table has the ways to take an answer back, or to leave it open, for all
kinds of answers but names of countries, whose task reads them by the names that
it knows. What comes behind a turn ("wait, …", "…, but …") is a reply of
its own: before it anything may be said.
"""

from __future__ import annotations

from collections.abc import Collection
import re

from s2d_jax.answers import reply as replies
from s2d_jax.answers.words import stems

_PEOPLE = (
  r"(?:(?:an?|my|your|another|one|some|many|most|other|every|the(?: other"
  r"| official)?) (?:\w+ )?(?:students?|teachers?|friends?|colleagues?|users?"
  r"|critics|judges?|people|solvers|readers?|assistants?|sources?|websites?"
  r"|keys?|(?:text)?books?|calculator)|everyone|everybody|people|someone"
  r"|somebody|others|sources)"
)
# The ways in which a sentence can take an answer back, or leave it open.
_WAYS = {
  "negates": (
    r"not|never|no|none|neither|nor|cannot|nothing|nobody|hardly|barely"
    r"|scarcely|rarely|seldom|anything but|far from|without|except|no longer"
    r"|used to|nope|nah"
  ),
  "rejects": (
    r"(?:not|(?:is|was)n['’]t) (?:\w+ )?(?:right|correct|true|the answer)"
    r"|false\w*|untrue|wrong\w*|incorrect\w*|reject\w*|overruled|invalid"
    r"|withdraw\w*|absurd|nonsens\w*|ridiculous|fails?|failed|crossed out"
    r"|flawed|contradict\w*|ruled out|implausible|impossible|a lie"
    r"|made (?:that|this|it) up|too (?:big|small|high|low|many|much|few)"
    r"|inaccurate|inconsistent|discard\w*|retract\w*|revoke\w*|void|obsolete"
    r"|outdated|bogus"
  ),
  "hedges": (
    r"maybe|perhaps|possibly|might|(?-i:may)|could|seem(?:s|ed)?|appear(?:s"
    r"|ed)? to|guess\w*|unsure|doubt\w*|supposed(?:ly)?|alleged\w*"
    r"|presumabl[ye]|uncertain|unclear|debat\w*|disput\w*|controvers\w*"
    r"|depend(?:s|ing)|sometimes|arguabl[ye]|hard to (?:say|tell)"
    r"|at first (?:glance|sight)|on the (?:surface|face of it)|naive\w*"
    r"|careless\w*|tempting|tempted|grain of salt|citation needed|unconfirmed"
    r"|unverified|speculat\w*|rumou?r\w*|(?:half|part(?:ly|ially)|nearly"
    r"|almost) (?:right|true|correct|the)|in theory|opinions? (?:differ|vary"
    r"|are divided)|if memory serves"
  ),
  "corrects": (
    r"wait|oops|sorry|apolog\w+|correct(?:ion|ing)|edit|update|scratch|strike"
    r"|my bad|my mistake|mix\w* up|left out|forg[eo]t\w*|overlooked|hm+"
    r"|hold on|mis(?:take|read|count|calculat|understood|took|spoke|remember"
    r"|identif|label|typ|plac)\w*|errors?|erroneous\w*|slip(?:ped)?|typo"
    r"|re-?(?:check|read|consider|think|calculat|count|comput|examin)\w*"
    r"|instead|rather|second (?:thoughts?|look|reading)|on (?:closer|further"
    r"|reflection)|alternativ\w*|otherwise|however|nevertheless|ignore"
    r"|disregard|never mind|should (?:be|have|read)|but|amend\w*"
    r"|on the other hand|unlike"
  ),
  "concedes": r"although|though",
  "supposes": (
    r"if|unless|whether|suppos(?:e|ing)|imagine|pretend\w*|wish|were it"
    r"|hypothe\w*|assum(?:e|es|ed|ing|ption|ptions)|would have|in case"
    r"|would make sense|let['’]?s (?:say|try)|ought to"
  ),
  "attributes": (
    r"says?|said|saying|claim\w*|believ\w+|thinks?|thought|told|tells"
    r"|insist\w*|argu(?:e|es|ed)|maintain\w*|according|suggest(?:s|ed|ion)?"
    r"|you (?:\w+ )?(?:gave|wrote|picked|chose|propose\w*|mention\w*|mean"
    r"|asked|get if)|your (?:answer|guess|figure|idea|choice|own)|(?:is"
    r"|was) what (?:you|one|I|people|they|most|he|she|we)"
    rf"|{_PEOPLE} (?:\w+ )?(?:comput\w+|got|wrote|answer\w*|choo?se\w*"
    r"|pick\w*|puts?|call|called|list|listed|mark\w*|gives?|gave|shows?)"
    r"|(?:must|should) not be|the answer (?:for|to) (?!(?:the|this|your"
    r"|that) (?:\w+ )?(?:question|problem)|it\b)(?-i:[a-z])\w*"
    r"|(?:common|frequent|popular|typical|usual) (?:\w+ )?(?:answer|choice"
    r"|guess|mistake|reply|response)"
    r"|you['’]d (?:think|say|expect)|myths?|popular(?:ly)? (?:belief|wisdom)"
    r"|misconceptions?|previous\w*"
  ),
  "jokes": (
    r"kidding|jok(?:e|es|ing)|lol|haha|as if|yeah right|my foot|trap|trick\w*"
    r"|sarcas\w+|ironic\w*|pigs|made of cheese|april fools?|the (?:pope"
    r"|queen of)|distractors?|decoy|fool(?:s|ed)?"
  ),
  "dates": (
    r"former(?:ly)?|before (?:that|this|then|\d+)|initially|originally"
    r"|at first|yesterday|(?:was|were) once|once (?:was|were|the)|historically"
    r"|first (?:guess|thought|answer|choice|instinct|attempt)|bad day"
    r"|(?:earlier|old) (?:answer|reply)"
  ),
  "invents": (
    r"for example|example:|e\.g|template|placeholder|fiction\w*|(?:in"
    r"|for) (?:an?|the|my|this|some) (?:\w+ )?(?:novel|movie|film|stor\w+|game"
    r"|dream|parody|(?:parallel|other|alternat\w+|imaginary) \w+|version)"
    r"|the (?:instructions?|prompt|schema|format)"
  ),
  "postpones": (
    r"so far|still (?:has to|have to|need|must|to)|to be (?:\w+ )?(?:verified"
    r"|checked|confirmed|done|subtracted|added|deducted|continued)"
    r"|provisional\w*|tentative\w*|(?:upper|lower) bound|intermediate|halfway"
    r"|not yet|let me|let['’]s|(?:we|I|you|must|now) (?:need|have) to"
    r"|remains to|I (?:can|will|['’]ll) (?:answer|help|tell|explain|try|look)"
    r"|I understand"
  ),
}  # fmt: skip
_WAY = {
  way: re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)
  for way, words in _WAYS.items()
}
_NT = re.compile(r"n['’]t\b", re.IGNORECASE)
_SIGNS = re.compile(r"[?❌✗✘🙃😜😏🙄]|(?:^|[.!?]\s+)Had\b")
# These take nothing back, whatever words they have.
_HARMLESS = re.compile(
  r"\bI (?:also )?(?:think|believe|know|say|conclude)(?: that)?\b|\bI(?:['’]d"
  r"| would|['’]ll| will) (?:say|go with|choose|pick|call it|rate"
  r"|classify)(?: that)?\b|^\W*let(?: me|['’]s| us) (?:think|see|go|look|break"
  r"|take|start|work)\b|\bno doubt\b|\b(?:without|beyond) (?:a|any) doubt\b"
  r"|\bnot only\b|\bof course\b|\bno (?:problem|worries)\b|\bI (?:do )?(?:hope"
  r"|trust) (?:this|that|it)\b[^.!?]*|\byou(?:['’]re| are) (?:absolutely "
  r"|quite )?(?:right|correct)\b|\b(?:as|which|that"
  r"|information) you(?:['’]ve)? (?:asked|wanted|requested|gave|given)\b"
  r"|,?\s*\b(?:instead of|rather than|unlike)\b[^.;,]*"
  r"|\baccording to the (?:problem|question|text|review|rules|latest"
  r"|most recent|\d{4})\b|\bas of (?:my|the) (?:last|latest) [^,]*,|\b(?:if"
  r"|when) (?:we|you|I) (?:put|combine|join|concatenate|add|multiply|subtract"
  r"|divide|mix)\b|(?:,\s*|\()(?:formerly|once|originally"
  r"|previously)(?: called| known as)?\s[A-Z][^,.()]*|(?:^"
  r"|(?<=[.;:!])\s*)(?:even )?(?:although|though|while|whereas)\b[^,;:.]*,"
  r"|\b(?:the|this) (?:review(?:er)?|customer|guest|writer|author|passage"
  r"|tweet|speaker)\b\W+(?:\w+\W+){0,2}?(?:says?|claims?|thinks?|suggests?"
  r"|believes?|seems)\b|\b(?:one another|no matter)\b|\bbut (?:it|they|he"
  r"|she)(?:['’]s| is| are| was)? also\b",
  re.IGNORECASE,
)
# Behind these a reply begins anew.
_TURN = re.compile(
  r"(?:(?:^|[.!?…,;:—–\n]|\s-|\b(?:and|oh|hm+),?)\s*)(?:(?:oh|no|hm+|oops|yes"
  r"|ah|sorry|wait),?\s+)*\b(?:wait|actually|however|yet|correction|sorry"
  r"|hold on|I apologi[sz]e(?: for [^.,—–]*)?|scratch that"
  r"|on (?:second thoughts?|reflection)|I meant?|rather)\b(?:[,:;.!…—–-]+"
  r"|\s+(?:no|it|that)[,.:;]|\s+(?=\S))(?:\s*no\W+)?(?:\s*that(?:['’]s| is"
  r"| was) [^.:;\n]{1,40}[.:;]\s*(?=\S))?|\bI(?:['’]m| am) sorry(?: (?:for"
  r"|about) [^.,—–]*)?[.,—–]\s*(?=\S)|\byou(?:['’]re| are| may be"
  r"| might be) (?:mistaken|wrong|mixing|confus)[^:;.,!]*\W+"
  r"|^\W*that['’]s (?:not (?:quite )?(?:right|correct)"
  r"|a common mistake)[:.,!]\s+|^\W*contrary to [^,]*,\s+"
  r"|(?<!\banything )(?<!\ball )(?<!\bnothing )(?<!\beverything"
  r" )\bbut\b\W*(?!(?:it|they|he|she)(?:['’]s| is| are| was)? also\b)",
  re.IGNORECASE,
)
_NO = re.compile(
  r"(?<=[.!?…,;:—–\n])\s*no\b(?=[,.:;!…\s—–-])|\A\s*(?:no|nope)\b(?=[,.:;!…])",
  re.IGNORECASE,
)
CONCLUSION = re.compile(
  r"\b(?:so(?! far)|therefore|thus|hence|that leaves|leaving|leaves)\b\W*",
  re.IGNORECASE,
)


def last_turn(text: str, is_no_a_turn: bool = True) -> str:
  """What a text says behind its last turn; all of it where it has none."""
  for turn in (_TURN, _NO) if is_no_a_turn else (_TURN,):
    text = behind(turn, text)
  return text


def behind(turn: re.Pattern[str], text: str) -> str:
  """What a text says behind its last turn of a kind; all of it without one."""
  ends = [match.end() for match in turn.finditer(text)]
  return text[ends[-1] :].strip(" ,.:;!…—–-\n") if ends else text


_DENIED = re.compile(
  r"(?:,|\s[-–—])?(?<!\bam)(?<!['’]m)(?<!\bis)(?<!\bare)(?<!\bwas)(?<!\bdo)(?<!"
  r"\bdoes)(?<!\bdid)\s+(?:and )?(?:not|rather than|instead of)\s+(?!only\b"
  r"|just\b)[^,;.]*(?=\W*\Z)|\s*\((?:and )?not\s[^()]*\)",
  re.IGNORECASE,
)


def undenied(sentence: str) -> str:
  """A sentence without what it denies at its end: "29, not 31"."""
  return _DENIED.sub("", sentence)


def is_firm(text: str, asked: str = "", but: Collection[str] = ()) -> bool:
  """Whether nothing in a text takes back what it says, or leaves it open.

  Args:
    text: one sentence or more.
    asked: the question; its words take nothing back.
    but: ways that do not count, such as "negates" where the answer is "no".
  """
  text = _HARMLESS.sub("", undenied(text))
  if _SIGNS.search(text):
    return False
  if "negates" not in but and _NT.search(text) and not _NT.search(asked):
    return False
  return not any(
    _found(words, text) - _found(words, asked)
    for way, words in _WAY.items()
    if way not in but
  )


def _found(words: re.Pattern[str], text: str) -> set[str]:
  return {word.lower() for word in words.findall(text)}


# Sentences about the answer, and not about the thing.
_ABOUT_ANSWER = re.compile(
  r"^\W*(?:(?:this|that|these|those|the|my|note|so|and)\s+)*(?:I|my|me|this"
  r"|that|we|such|note|(?:answer|statement|verdict|claim|theory|idea|line"
  r"|result|figure|calculation|reading|label|choice|option|one|above"
  r"|same)\b)(?=\W)(?!\W*:|\W+[A-D]\b)",
  re.IGNORECASE,
)
_EXPLAINS = re.compile(
  r"^\W*(?:(?:and|so)\s+)?(?:this|that|it)(?:['’]s|\s+is|\s+was)?\s+(?:because"
  r"|since|why|due to|how|means?|makes?|gives?|leaves?|equals?|matches"
  r"|correct\b|right\b|(?:the|my) (?:final )?answer\b|equal|the (?:same|sum"
  r"|total|\w+est)\b|also|\w+ed by|(?:a|one) (?:third|half|quarter)\b"
  r"|an? (?:classic|typical|good|simple) (?:example|case)\b)|^\W*(?:so,? "
  r"|note that )?(?:the|my) (?:final |correct |right )?(?:answer|result"
  r"|verdict|choice|option)\b[^.]{0,40}\b(?:is|was|begins)\b|^\W*(?:we"
  r"|I) (?:know|get|got|can|add(?:ed)?|multipl(?:y|ied)|subtract(?:ed)?"
  r"|divided?|find|began|used?|hope|chose|counted)\b|^\W*(?:this"
  r"|that) (?!answer|statement|verdict|claim|theory|idea|line|result|figure"
  r"|calculation|reading|label|choice|option|one|is|was|would|has|could|can"
  r"|should|number|count|total)[a-z]+ [a-z]+",
  re.IGNORECASE,
)


# What a sentence may begin with before its subject, or be about.
_BEFORE_SUBJECT = re.compile(
  r"^\W*(?:\d+[.)]\s*)?(?:to \w+ [^,]*, )?(?:(?:and|so|also|therefore|thus"
  r"|hence|then|note that|note|explanation|reason(?:ing)?|result|check|because"
  r"|since|here|now|in fact|indeed|yes|the|an?|each|every|all|both|when|as|in"
  r"|on|at|with|by|for|from|after|of|despite|this is because|first|last|next"
  r"|finally|step)\b\W*)*",
  re.IGNORECASE,
)
_KNOWN_SUBJECT = re.compile(
  r"(?:it|its|he|his|she|her|they|their|there|we|you|I|this|that|one|which|who"
  r"|\W*\d|adding|putting|combin\w+|concatenat\w+|subtract\w*|multiply\w*"
  r"|divid\w+|total|sum|rest|answer|count\w*|review\w*|customer|writer|author"
  r"|guest|passage|text|statement|tone|word\w*|sentence|option|assistant|both"
  r"|coin|letter\w*)\b|together|put|output|result|\w{0,2}\W*\Z|\W*\d"
  r"|\\|[-+=$€£]",
  re.IGNORECASE,
)


_ITEM = re.compile(r"\s*[-*•(]\s*\w|\W*\w+(?: \w+){0,4}:\W*$")


def is_explanation(
  sentence: str,
  asked: str = "",
  but: Collection[str] = (),
  told: str = "",
) -> bool:
  """Whether a sentence behind an answer is understood, and keeps to it.

  Args:
    told: what was said before it, where its subject has to be mentioned.
  """
  if replies.is_polite(sentence):
    return True
  if _ABOUT_ANSWER.match(sentence) and not _EXPLAINS.match(sentence):
    return False
  subject = sentence[_BEFORE_SUBJECT.match(sentence).end() :]
  if told and not _KNOWN_SUBJECT.match(subject) and not _ITEM.match(sentence):
    words = subject.split()[:2]
    if not stems(" ".join(words)) & stems(told):
      return False
  return is_firm(_CONTRAST.sub(" ", sentence), asked, but)


# Within an explanation: "Whales are mammals, but live in the sea."
_CONTRAST = re.compile(
  r"(?<=\w),? (?:but|although|though|while|whereas|yet)\b(?! (?:I|the answer"
  r"|that)\b)"
)
