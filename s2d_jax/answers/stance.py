"""Whether a reply stands by what it says, to its end.

An answer counts only if every sentence from it on is understood, and takes
nothing back. What comes behind a turn ("wait, …", "…, but …") is read as a reply
of its own: all before it may say anything.
"""

from __future__ import annotations

from collections.abc import Collection
import re

from s2d_jax.answers import reply as replies
from s2d_jax.answers.words import stems

_PEOPLE = (
  r"(?:(?:an?|my|your|another|one|some|many|most|other|every|the(?: other"
  r"| official)?) (?:\w+ )?(?:students?|teachers?|friends?|colleagues?|users?"
  r"|critics"
  r"|judges?|people|solvers|readers?|assistants?|sources?|websites?|keys?"
  r"|(?:text)?books?|calculator)|everyone|everybody|people|someone|somebody|others"
  r"|sources)"
)
# The ways in which a sentence can take an answer back, or leave it open.
_WAYS = {
  "negates": (
    r"not|never|no|none|neither|nor|cannot|nothing|nobody|hardly|barely"
    r"|scarcely|rarely|seldom|anything but|far from|without|except|no longer"
    r"|used to|nope|nah"
  ),
  "rejects": (
    r"false\w*|untrue|wrong\w*|incorrect\w*|reject\w*|overruled|invalid"
    r"|withdraw\w*|absurd|nonsens\w*|ridiculous|fails?|failed|crossed out"
    r"|flawed"
    r"|contradict\w*|ruled out|implausible|impossible|a lie|made (?:that|this"
    r"|it)"
    r" up|too (?:big|small|high|low|many|much|few)|inaccurate|inconsistent"
    r"|discard\w*|retract\w*|revoke\w*|void|obsolete|outdated|bogus"
  ),
  "hedges": (
    r"maybe|perhaps|possibly|might|(?-i:may)|could|seem(?:s|ed)?"
    r"|appear(?:s|ed)? to|guess\w*|unsure|doubt\w*|supposed(?:ly)?|alleged\w*"
    r"|presumabl[ye]|uncertain|unclear|debat\w*|disput\w*|controvers\w*"
    r"|depend(?:s|ing)|sometimes|arguabl[ye]|hard to (?:say|tell)"
    r"|at first (?:glance|sight)|on the (?:surface|face of it)|naive\w*"
    r"|careless\w*|tempting|tempted|grain of salt|citation needed|unconfirmed"
    r"|unverified|speculat\w*|rumou?r\w*"
    r"|(?:half|part(?:ly|ially)|nearly|almost) (?:right|true|correct|the)"
    r"|in theory|opinions? (?:differ|vary|are divided)|if memory serves"
  ),
  "corrects": (
    r"wait|oops|sorry|apolog\w+|correct(?:ion|ing)|edit|update|scratch|strike"
    r"|my bad|my mistake|mix\w* up|left out|forg[eo]t\w*|overlooked|hm+|hold on"
    r"|mis(?:take|read|count|calculat|understood|took|spoke|remember|identif|label"
    r"|typ|plac)\w*|errors?|erroneous\w*|slip(?:ped)?|typo"
    r"|re-?(?:check|read|consider|think|calculat|count|comput|examin)\w*"
    r"|instead|rather|second (?:thoughts?|look|reading)"
    r"|on (?:closer|further|reflection)|alternativ\w*|otherwise"
    r"|however|nevertheless|ignore|disregard|never mind|should (?:be|have|read)"
    r"|but|amend\w*|on the other hand|unlike"
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
    r"|you (?:\w+ )?(?:gave|wrote|picked|chose|propose\w*|mention\w*|mean|asked"
    r"|get if)|your (?:answer|guess|figure|idea|choice|own)|(?:is"
    r"|was) what (?:you|one|I|people|they|most|he|she|we)"
    rf"|{_PEOPLE} (?:\w+ )?(?:comput\w+|got|wrote|answer\w*|choo?se\w*"
    r"|pick\w*|puts?|call|called|list|listed|mark\w*|gives?|gave|shows?)"
    r"|(?:must|should) not be|the answer (?:for|to) (?!(?:the|this|your"
    r"|that) (?:\w+ )?(?:question|problem)|it\b)(?-i:[a-z])\w*"
    r"|you['’]d (?:think|say|expect)"
    r"|myths?|popular(?:ly)? (?:belief|wisdom)|misconceptions?|previous\w*"
  ),
  "jokes": (
    r"kidding|jok(?:e|es|ing)|lol|haha|as if|yeah right|my foot|trap|trick\w*"
    r"|sarcas\w+|ironic\w*|pigs|made of cheese|april fools?|the (?:pope"
    r"|queen of)"
    r"|distractors?|decoy|fool(?:s|ed)?"
  ),
  "dates": (
    r"former(?:ly)?|before (?:that|this|then|\d+)|initially|originally"
    r"|at first|yesterday|(?:was|were) once|once (?:was|were|the)|historically"
    r"|first (?:guess|thought|answer|choice|instinct|attempt)|bad day"
    r"|(?:earlier|old) (?:answer|reply)"
  ),
  "invents": (
    r"for example|example:|e\.g|template|placeholder|fiction\w*"
    r"|(?:in|for) (?:an?|the|my|this|some) (?:\w+ )?(?:novel|movie|film|stor\w+"
    r"|game|dream|parody|(?:parallel|other|alternat\w+|imaginary) \w+|version)"
    r"|the (?:instructions?|prompt|schema|format)"
  ),
  "postpones": (
    r"so far|still (?:has to|have to|need|must|to)|to be (?:\w+ )?(?:verified"
    r"|checked|confirmed|done|subtracted|added|deducted|continued)"
    r"|provisional\w*|tentative\w*|(?:upper|lower) bound|intermediate|halfway"
    r"|not yet|let me|let['’]s|(?:we|I|you|must|now) (?:need|have) to"
    r"|remains to"
    r"|I (?:can|will|['’]ll) (?:answer|help|tell|explain|try|look)|I understand"
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
  r"\bI (?:also )?(?:think|believe|know)(?: that)?\b|\bI(?:['’]d| would"
  r"|['’]ll| will) (?:say|go with|choose|pick|call it|rate"
  r"|classify)(?: that)?\b|^\W*let(?: me|['’]s| us) (?:think|see|go"
  r"|look|break|take|start|work)\b|\bno doubt\b|\b(?:without|beyond)"
  r" (?:a|any) doubt\b|\bnot only\b|\bof course\b|\bno (?:problem|worries)\b"
  r"|\bI (?:do )?(?:hope|trust) (?:this|that|it)\b[^.!?]*"
  r"|\byou(?:['’]re| are) (?:absolutely |quite )?(?:right|correct)\b"
  r"|\b(?:as|which|that|information) you(?:['’]ve)? (?:asked|wanted|requested"
  r"|gave|given)\b|,?\s*\b(?:instead of|rather than|unlike)\b[^.;,]*"
  r"|\baccording to the (?:problem|question|text|review|rules|latest"
  r"|most recent|\d{4})"
  r"\b|\bas of (?:my|the) (?:last|latest) [^,]*,|\b(?:if|when) (?:we|you"
  r"|I) (?:put|combine"
  r"|join|concatenate|add|multiply|subtract|divide|mix)\b"
  r"|(?:,\s*|\()(?:formerly|once|originally|previously)(?: called| known as)?"
  r"\s[A-Z][^,.()]*|(?:^|(?<=[.;:!])\s*)(?:even )?(?:although|though|while"
  r"|whereas)"
  r"\b[^,;:.]*,|\b(?:the|this) (?:review(?:er)?|customer|guest|writer|author"
  r"|passage|tweet|speaker)\b\W+(?:\w+\W+){0,2}?(?:says?|claims?|thinks?"
  r"|suggests?|believes?|seems)\b|\b(?:one another|no matter)\b"
  r"|\bbut (?:it|they|he|she)(?:['’]s| is| are| was)? also\b",
  re.IGNORECASE,
)
# Behind these a reply begins anew.
_TURN = re.compile(
  r"(?:(?:^|[.!?…,;:—–\n]|\s-|\b(?:and|oh|hm+),?)\s*)(?:(?:oh|no|hm+|oops|yes|ah"
  r"|sorry|wait),?\s+)*\b(?:wait|actually|however|yet|correction|sorry|hold on"
  r"|I apologi[sz]e(?: for [^.,—–]*)?|scratch that|on (?:second thoughts?"
  r"|reflection)|I meant?|rather)\b"
  r"(?:[,:;.!…—–-]+|\s+(?:no|it|that)[,.:;]|\s+(?=\S))(?:\s*no\W+)?"
  r"(?:\s*that(?:['’]s| is| was) [^.:;\n]{1,40}[.:;]\s*(?=\S))?"
  r"|\bI(?:['’]m| am) sorry(?: (?:for|about) [^.,—–]*)?[.,—–]\s*(?=\S)"
  r"|\byou(?:['’]re| are| may be| might be) (?:mistaken|wrong|mixing"
  r"|confus)[^:;.,!]*\W+"
  r"|^\W*that['’]s (?:not (?:quite )?(?:right|correct)"
  r"|a common mistake)[:.,!]\s+"
  r"|^\W*contrary to [^,]*,\s+"
  r"|(?<!\banything )(?<!\ball )(?<!\bnothing )(?<!\beverything )\bbut\b\W*"
  r"(?!(?:it|they|he|she)(?:['’]s| is| are| was)? also\b)",
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
  r"(?:,|\s[-–—])?(?<!\bam)(?<!['’]m)(?<!\bis)(?<!\bare)(?<!\bwas)(?<!\bdo)"
  r"(?<!\bdoes)(?<!\bdid)\s+(?:and )?(?:not|rather than|instead"
  r" of)\s+(?!only\b|just\b)"
  r"[^,;.]*(?=\W*\Z)|\s*\((?:and )?not\s[^()]*\)",
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
  known = asked.lower()
  return not any(
    found.lower() not in known
    for way, words in _WAY.items()
    if way not in but
    for found in words.findall(text)
  )


# Sentences about the answer, and not about the thing.
_ABOUT_ANSWER = re.compile(
  r"^\W*(?:(?:this|that|these|those|the|my|note|so|and)\s+)*(?:I|my|me|this|that"
  r"|we|such|note|(?:answer|statement|verdict|claim|theory|idea|line|result|figure"
  r"|calculation|reading|label|choice|option|one|above|same)\b)(?=\W)(?!\W*:|\W+[A-D]\b)",
  re.IGNORECASE,
)
_EXPLAINS = re.compile(
  r"^\W*(?:(?:and|so)\s+)?(?:this|that|it)(?:['’]s|\s+is|\s+was)?\s+(?:because"
  r"|since|why|due to|how|means?|makes?|gives?|leaves?|equals?|matches"
  r"|correct\b"
  r"|right\b|(?:the|my) (?:final )?answer\b|equal|the (?:same|sum|total"
  r"|\w+est)\b"
  r"|also|\w+ed by|(?:a|one) (?:third|half|quarter)\b"
  r"|an? (?:classic|typical|good|simple) (?:example|case)\b)"
  r"|^\W*(?:so,? |note that )?(?:the|my) (?:final |correct |right )?(?:answer"
  r"|result|verdict"
  r"|choice|option)\b[^.]{0,40}\b(?:is|was|begins)\b"
  r"|^\W*(?:we|I) (?:know|get|got|can|add|multiply|subtract|divide|find|began"
  r"|used?"
  r"|hope|chose|counted)\b|^\W*(?:this|that) (?!answer|statement|verdict|claim"
  r"|theory|idea|line|result|figure|calculation|reading|label|choice|option|one"
  r"|is|was|would|has|could|can|should|number|count|total)[a-z]+ [a-z]+",
  re.IGNORECASE,
)


# What a sentence may begin with before its subject, or be about.
_BEFORE_SUBJECT = re.compile(
  r"^\W*(?:\d+[.)]\s*)?(?:to \w+ [^,]*, )?(?:(?:and|so|also|therefore|thus"
  r"|hence|then|note that|note"
  r"|explanation|reason(?:ing)?|result|check|because|since|here|now|in fact"
  r"|indeed"
  r"|yes|the|an?|each|every|all|both|when|as|in|on|at|with|by|for|from|after|of"
  r"|despite|this is because|first|last|next|finally|step)\b\W*)*",
  re.IGNORECASE,
)
_KNOWN_SUBJECT = re.compile(
  r"(?:it|its|he|his|she|her|they|their|there|we|you|I|this|that|one|which|who|\W*\d"
  r"|adding|putting|combin\w+|concatenat\w+|subtract\w*|multiply\w*|divid\w+"
  r"|total|sum|rest|answer|count\w*|review\w*|customer|writer|author|guest|passage"
  r"|text|statement|tone|word\w*|sentence|option|assistant|both|coin|letter\w*)\b"
  r"|together|put|output|result|\w{0,2}\W*\Z|\W*\d|\\|[-+=$€£]",
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
