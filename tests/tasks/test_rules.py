"""Replies that follow a rule, and near misses, also by the checks of IFEval."""

from __future__ import annotations

import importlib

import pytest

from s2d_jax.answers import reply as replies
from s2d_jax.tasks import rules

_MORE = "we boil the water first"

# Kind → value → replies that follow the rule, and those that do not.
_REPLIES = {
  "begins_with": {
    "Of course": (
      [
        "Of course, we boil the water first.",
        "**Of course!** We boil the water first.",
        '"Of course we boil the water first."',
        "OF COURSE WE BOIL THE WATER FIRST",
        "  Of course\n\nWe boil the water first.",
      ],
      [
        "",
        "Of course.",
        "Of course, yes.",
        "Of courses we boil the water first.",
        "Sure! Of course, we boil the water first.",
        "Off course, we boil the water first.",
      ],
    ),
    "Let me see": (
      ["Let me see: we boil the water first.", "let me see… it is the wind."],
      [
        "Let me see.",
        "Let me seek the answer for you.",
        "Let us see: a long way",
      ],
    ),
  },
  "ends_with": {
    "good luck": (
      [
        "Boil the water first. Good luck!",
        "Boil the water first, and **good luck**",
        'Boil the water first. "Good luck."',
        "Boil the water first.\n\nGood luck…\n",
        "BOIL THE WATER FIRST. GOOD LUCK.",
      ],
      [
        "",
        "Good luck!",
        "So, good luck.",
        "Good luck! Boil the water first.",
        "Boil the water first. Good luck to you!",
        "Boil the water first, with good lucky.",
        "Do you think you have good luck?",
      ],
    ),
  },
  "ends_with_sign": {
    "question mark": (
      [
        "We boil the water first. Is it hot?",
        'He asked: "Is it hot?"',
        "Is it hot (or not?)",
        "**Is the water hot?**",
        "Is the water hot?\n",
      ],
      ["", "?", "Really?", "Is it hot? Yes.", "Is the water hot?!", _MORE],
    ),
    "exclamation mark": (
      ["We boil the water!", "“We boil the water!”", "What a day!!"],
      ["!", "Hello!", "Well! We boil the water.", "What a day!?", _MORE],
    ),
  },
  "case": {
    "capital letters": (
      [
        "WE BOIL THE WATER.",
        "**WE BOIL THE WATER**",
        "AT 5 O'CLOCK, ÉCLAIRS!",
        "WE BOIL\nTHE WATER",
        "# WE BOIL THE WATER",
      ],
      ["", "OK", "YES.", "WE BOIL THE WATEr", "We Boil The Water", _MORE],
    ),
    "lower case letters": (
      [
        _MORE,
        "is it 5 o'clock?",
        "- tea\n- milk\n- sugar",
        "éclairs & tea, yes",
      ],
      ["", "ok", "We boil the water", "we boil the water. I do.", "1 2 3 A"],
    ),
  },
  "exact_words": {
    4: (
      [
        "We boil water first.",
        "Well-known cats don't purr.",
        "Salt & pepper, 3.5 grams",
        "1. We boil\n2. the water",
        "**We** boil – the water",
        "It costs $3,000 now.",
      ],
      [
        "",
        "We boil water.",
        "We boil the water first.",
        "We boil the water—first",
        "1 2 3",
        "- We\n- boil\n- it",
      ],
    ),
  },
  "at_most_words": {
    5: (
      ["Heat.", _MORE, "To\nrest\nand\nrepair", "- a\n- b\n- c\n- d\n- e", "7"],
      ["", "...", "- ", "&", "We boil the water first, always."],
    ),
  },
  "at_least_words": {
    30: (
      [
        "word " * 30,
        "We boil the water first. " * 6,
        "- We boil the water first.\n" * 6,
        "well-known " * 31,
        "- & -" + " water" * 30,
      ],
      ["", "word " * 29, "- - " * 40, "well-known " * 15, "a" * 200],
    ),
  },
  "sentences": {
    2: (
      [
        "We boil water. We add tea.",
        "Sure! We boil water",
        "Dear Anna,\nHappy birthday! Have a good day.",
        "Dr. Smith boils 3.5 litres, e.g. in a pot. It is hot.",
        "He said “We boil it.” She left.",
        "1. We boil water.\n2. We add tea.",
        "We boil water\nWe add tea",
      ],
      [
        "",
        "Yes. No.",
        "We boil water, and we add tea.",
        "Sure! We boil water. We add tea.",
        "We boil water.\n\nWe add tea.\n\nEnjoy",
        "We boil water...",
      ],
    ),
    1: (
      ["We boil water.", _MORE, "Dear Anna,\n\nhappy birthday to you!"],
      ["Boil.", "We boil. Then we drink.", "We boil it\nWe drink it"],
    ),
  },
  "lines": {
    1: (
      [
        _MORE,
        "We boil water. Then tea.",
        "\nWe boil the water\n\n",
        "a, b, c",
        "**a** b c",
      ],
      [
        "",
        "Tea",
        "We boil it\nand drink it",
        "- a\n- b\n- c",
        "Hi Anna,\n\nthank you",
      ],
    ),
    3: (
      [
        "tea\nmilk\nsugar",
        "We boil\n\nthe\n\nwater",
        "- a\n- b\n- c",
        "1. a\n2. b\n3. c",
        "```\na\nb\nc\n```",
      ],
      [
        "tea, milk, sugar",
        "a b\nc d",
        "a\nb\nc\nd",
        "\n\n\n",
        "Sure:\n- a\n- b\n- c",
      ],
    ),
  },
  "bullets": {
    2: (
      [
        "- tea\n- milk",
        "* tea\n* milk",
        "You need:\n\n• tea\n• milk\n\nEnjoy!",
        "  - **tea**: hot\n  - milk: cold",
        "•tea\n•milk",
        "+ tea\n+ milk",
      ],
      [
        "",
        "- tea",
        "- tea\n- milk\n- sugar",
        "1. tea\n2. milk",
        "tea - milk - sugar",
        "- tea\n- ",
        "- tea\n  - green\n- milk",
        "-5 degrees\n-6 degrees",
      ],
    ),
  },
  "numbered_steps": {
    3: (
      [
        "1. Boil.\n2. Wait.\n3. Drink.",
        "1) Boil\n2) Wait\n3) Drink",
        "Step 1: Boil\nStep 2: Wait\nStep 3: Drink",
        "You do this:\n\n1. Boil\n\n2. Wait\n\n3. Drink\n\nEnjoy!",
        "**1. Boil**\n**2. Wait**\n**3. Drink**",
      ],
      [
        "",
        "1. Boil. 2. Wait. 3. Drink.",
        "1. Boil\n2. Wait",
        "1. Boil\n2. Wait\n3. Drink\n4. Rest",
        "1. Boil\n1. Wait\n1. Drink",
        "1. Boil\n3. Drink\n2. Wait",
        "1. Boil\n2. Wait\n3.",
        "- Boil\n- Wait\n- Drink",
      ],
    ),
  },
  "contains": {
    "simple": (
      [
        "It is a simple thing.",
        "Simple! We boil it.",
        "IT IS SIMPLE",
        "It is “simple”, they say.",
        "A simple-minded cat purrs",
        "It is **simple**: boil it.",
      ],
      ["", "Simple.", "It is simply a thing.", "The simplest of things", _MORE],
    ),
  },
  "without_letter": {
    "b": (
      [
        "We heat the water.",
        "HEAT THE WATER",
        "Let it rest.",
        "A cat purrs",
        "It is 3 o'clock",
      ],
      ["", "No", "We boil it.", "BOIL THE WATER", "A cat on a Bench"],
    ),
  },
  "without_word": {
    "the": (
      [
        "We boil water.",
        "They boil their water.",
        "Then water is hot",
        "A theme is found",
        "Breathe in now",
      ],
      [
        "",
        "No",
        "Boil the water.",
        "THE WATER BOILS",
        "It boils (the water)",
        "It is “the” pot",
      ],
    ),
    "you": (
      ["Boil your water first", "Youth is a gift", "We boil it"],
      ["You're welcome to it", "Thank you for that", "If YOU boil it"],
    ),
  },
  "without_sign": {
    "comma": (
      [
        _MORE,
        "We boil it; then tea.",
        "Tea. Milk. Sugar.",
        "It's so hot!",
        "a b c",
      ],
      [
        "",
        "OK",
        "Tea, milk and sugar",
        "It costs 1,000 dollars.",
        "We boil it,",
      ],
    ),
    "full stop": (
      ["We boil the water!", "is it hot now", "- tea\n- milk\n- salt"],
      [
        "We boil it.",
        "1. tea\n2. milk\n3. salt",
        "It costs 3.50 today",
        "Well... it boils",
      ],
    ),
    "colon": (
      ["We boil it; it is hot", "It is half past five"],
      [
        "You need: tea and milk",
        "It is 5:30 now",
        "See https://tea.org for more",
      ],
    ),
  },
  "between_signs": {
    "double quotation marks": (
      [
        '"We boil the water."',
        "“We boil the water.”",
        '"We boil\n\nthe water"',
        '**"We boil the water"**',
        '"We boil the water".',
        '"It is the cat\'s water"',
      ],
      [
        "",
        '""',
        '"Yes"',
        "'We boil the water.'",
        '"We boil the water.',
        'I say: "We boil the water."',
        '"We boil it", he said, "and drink"',
        '"We boil it." Enjoy!',
      ],
    ),
    "round brackets": (
      ["(We boil the water.)", "(We boil the water).", "(We boil\nthe water)"],
      [
        "We boil (the water)",
        "(We) boil (the water)",
        "(We boil it",
        "[We boil it]",
      ],
    ),
    "square brackets": (
      ["[We boil the water.]", "[We boil\n\nthe water]"],
      ["(We boil the water)", "[We boil it] now", "[we] boil [it now]"],
    ),
  },
  "json_object": {
    ("name", "price"): (
      [
        '{"name": "Ann", "price": 5}',
        '{"price": "5 dollars", "name": "Ann"}',
        '```json\n{\n  "name": "Ann",\n  "price": 0\n}\n```',
        ' {"name":"Ann","price":{"EUR":5}} ',
        '{"name": ["Ann", "B"], "price": 1.5}',
      ],
      [
        "",
        "{}",
        '{"name": "Ann"}',
        '{"name": "Ann", "price": 5, "size": 3}',
        '{"Name": "Ann", "Price": 5}',
        '{"name": "", "price": 5}',
        '{"name": "Ann", "price": null}',
        "{'name': 'Ann', 'price': 5}",
        '{"name": "Ann", "price": 5',
        '[{"name": "Ann", "price": 5}]',
        'Here it is: {"name": "Ann", "price": 5}',
        "name: Ann, price: 5",
      ],
    ),
  },
}


def _cases(outcome: int) -> list[tuple[str, object, str]]:
  return [
    (kind, list(value) if isinstance(value, tuple) else value, text)
    for kind, by_value in _REPLIES.items()
    for value, texts in by_value.items()
    for text in texts[outcome]
  ]


def _follows(kind, value, reply) -> bool:
  return rules.is_followed(kind, value, replies.said(reply))


@pytest.mark.parametrize("kind", rules.RULES)
def test_replies_that_follow_the_rule(kind):
  found = [case for case in _cases(0) if case[0] == kind]
  assert len(found) >= 5
  assert [case for case in found if not _follows(*case)] == []


@pytest.mark.parametrize("kind", rules.RULES)
def test_near_misses(kind):
  found = [case for case in _cases(1) if case[0] == kind]
  assert len(found) >= 5
  assert [case for case in found if _follows(*case)] == []


@pytest.mark.parametrize("kind", rules.RULES)
def test_nothing_and_signs_alone_follow_no_rule(kind):
  for value in rules.RULES[kind].values:
    for text in ("", " \n", "...", "- ", '""', "()", "[]", "?", "!", "{}"):
      assert not rules.is_followed(kind, value, text), (value, text)


def test_replies_by_hand_are_of_values_that_are_asked_for():
  for kind, value, _ in _cases(0):
    assert value in rules.RULES[kind].values


def test_wordings():
  worded = lambda kind, value: rules.RULES[kind].worded(value)
  assert worded("sentences", 1) == "Reply in exactly 1 sentence."
  assert worded("sentences", 3) == "Reply in exactly 3 sentences."
  assert '"name" and "price"' in worded("json_object", ["name", "price"])
  for rule in rules.RULES.values():
    texts = [rule.worded(value) for value in rule.values]
    assert len(set(texts)) == len(texts) > 1


# Drawn greedily from SmolLM2-135M-Instruct, and decided by hand.
_DRAWN = (
  (
    "numbered_steps",
    2,
    True,
    "1. Plant a tree\n2. Plant a tree in the correct order",
  ),
  (
    "numbered_steps",
    4,
    False,
    "1. Backup your photos\n2. Backup your files\n3. Backup your device\n"
    "4. Backup your device\n\nHere is the complete list of steps:\n"
    "1. Backup your photos\n2. Backup your files",
  ),
  (
    "bullets",
    3,
    True,
    "- Banana\n- Scallops\n- Bacon\n\nThese are just a few examples of the many"
    " delicious breakfast foods available.",
  ),
  ("bullets", 3, False, "* * *\n* * *\n* * *"),
  (
    "bullets",
    3,
    False,
    "1. Mozzarella di Colargo\n2. Pepperoni\n3. Tomatenini",
  ),
  (
    "json_object",
    ["name", "colour"],
    True,
    '```json\n{\n  "name": "Mara",\n  "colour": "blue"\n}\n```',
  ),
  (
    "json_object",
    ["material", "weight"],
    False,
    '```json\n{\n  "material": "glass",\n  "weight": 100\n}\n```\n\nThis JSON'
    " object is a JSON-compatible JSON string.",
  ),
  ("between_signs", "double quotation marks", True, '"Bakery Breeze"'),
  ("begins_with", "Of course", False, "Of course."),
  (
    "begins_with",
    "Good question",
    True,
    "\"Good question: What's the best second-hand bike to buy?\n\nThis is",
  ),
  (
    "ends_with",
    "take care",
    True,
    "I'm sorry for your loss. I'm here to support you. Take care.",
  ),
  (
    "without_sign",
    "comma",
    False,
    "A good friend is someone who supports you, helps you, and is there for"
    " you.",
  ),
  (
    "sentences",
    1,
    True,
    "The team leader is celebrating their 10th birthday with a birthday party"
    " at the local barbershop.",
  ),
  (
    "lines",
    2,
    False,
    "1. Eat at local eateries instead of touristy ones.\n2. Buy used items"
    " instead of buying new ones.\n\nThese are just a few ideas to save money.",
  ),
  ("at_most_words", 20, True, '"Ducks, please!"'),
  ("exact_words", 4, False, 'The hotel is called "The Luminari"'),
)


@pytest.mark.parametrize("kind, value, follows, reply", _DRAWN)
def test_replies_of_a_real_model(kind, value, follows, reply):
  assert _follows(kind, value, reply) == follows


# Our kind, or value of one, → the check of the same rule in IFEval as the
# lm-evaluation-harness has it, and how that is told the value.
_IFEVAL = {
  "ends_with": ("EndChecker", lambda v: {"end_phrase": v}),
  "at_least_words": (
    "NumberOfWords",
    lambda v: {"num_words": v, "relation": "at least"},
  ),
  "at_most_words": (
    "NumberOfWords",
    lambda v: {"num_words": v + 1, "relation": "less than"},
  ),
  "bullets": ("BulletListChecker", lambda v: {"num_bullets": v}),
  "contains": ("KeywordChecker", lambda v: {"keywords": [v]}),
  "without_word": ("ForbiddenWords", lambda v: {"forbidden_words": [v]}),
  "comma": ("CommaChecker", lambda v: {}),
  "double quotation marks": ("QuotationChecker", lambda v: {}),
  "json_object": ("JsonFormat", lambda v: {}),
}
# Why we decide otherwise on purpose → on which replies.
_OTHERWISE = {
  "signs behind the last words are no words": (
    "Boil the water first. Good luck!",
    'Boil the water first. "Good luck."',
    "Boil the water first.\n\nGood luck…\n",
    "BOIL THE WATER FIRST. GOOD LUCK.",
  ),
  "there are other bullets and quotation marks": (
    "You need:\n\n• tea\n• milk\n\nEnjoy!",
    "•tea\n•milk",
    "+ tea\n+ milk",
    "“We boil the water.”",
    '"We boil the water".',
  ),
  "a hyphen or a number begins no bullet, and joins words": (
    "- tea\n- ",
    "-5 degrees\n-6 degrees",
    "well-known " * 15,
  ),
  "hardly anything is said": (
    *("", "...", "- ", "&", "No", "OK", "Simple.", '""', '"Yes"'),
  ),
  "another form of a word is another word": ("The simplest of things",),
  "one pair of quotation marks is round the whole": (
    '"We boil it", he said, "and drink"',
  ),
  "keys were asked for": (
    "{}",
    '{"name": "Ann"}',
    '{"name": "Ann", "price": 5, "size": 3}',
    '{"Name": "Ann", "Price": 5}',
    '{"name": "", "price": 5}',
    '{"name": "Ann", "price": null}',
    '[{"name": "Ann", "price": 5}]',
  ),
}


@pytest.fixture(scope="module")
def ifeval():
  """The checks of IFEval, without the data that they load from the network."""
  for name in ("lm_eval", "nltk", "langdetect", "immutabledict"):
    pytest.importorskip(name)
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("LOCAL_RANK", "1")
    return importlib.import_module("lm_eval.tasks.ifeval.instructions")


@pytest.mark.parametrize("key", _IFEVAL)
def test_ifeval_decides_alike(ifeval, key):
  name, described = _IFEVAL[key]
  expected = {text for texts in _OTHERWISE.values() for text in texts}
  alike = 0
  for kind, value, reply in _cases(0) + _cases(1):
    if key != kind and key != value:
      continue
    check = getattr(ifeval, name)(key)
    check.build_description(**described(value))
    theirs = bool(check.check_following(replies.said(reply)))
    if theirs == _follows(kind, value, reply):
      alike += 1
    else:
      assert reply in expected, (kind, value, reply)
  assert alike >= 5
