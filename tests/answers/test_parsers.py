"""Each parser on its kinds of reply: what is an answer, and what is none."""

from __future__ import annotations

import json

import pytest

from s2d_jax.answers.choice import Choice
from s2d_jax.answers.json_value import Json
from s2d_jax.answers.letters import Letters
from s2d_jax.answers.number import Number
from s2d_jax.answers.pattern import Regex
from s2d_jax.answers.settings import make_parser
from s2d_jax.answers.text import Text
from s2d_jax.answers.words import normalise
from s2d_jax.errors import UserError
from s2d_jax.tasks.coin_flip import CoinFlip
from tests.answers import measure


def _text(found):
  return None if found is None else found.text


@pytest.mark.parametrize(
  "reply, answer",
  [
    ("#### 1,234", "1234"),
    ("So the answer is $18.00.", "18"),
    ("**Answer:** -3.50 dollars", "-3.5"),
    ("Answer: 5 + 3 = 8", "8"),
    ("The answer is 3. No, the answer is 4.", "4"),
    ("\\boxed{42}", "42"),
    ("He has 6 * 2 = 12 apples in 3 bags.", "12"),
    ("007", "7"),
    ("-0", "0"),
    ("Answer: .5", "0.5"),
    ("Here is the answer:\n- First take 50 x 8 = 400\n- Then 3 x", None),
    ("The answer is:\n\n18 eggs", "18"),
    ("Take 180 and add it to get the distance, which is 60 + 180 = 18", None),
    ("Let me think about the 3 bags and then", None),
    ("I do not know.", None),
    ("", None),
    # Markup and units.
    ("**18**", "18"),
    ("She makes **$18**", "18"),
    ("Answer: 18 (that is 9 * 2)", "18"),
    ("The answer is 15 minutes (1 hour = 60 minutes).", "15"),
    ("The answer is 3 because x = 3 when y = 2.", "3"),
    # Values in many forms.
    ("3/4 of it.", "0.75"),
    ("\\boxed{\\frac{3}{4}}", "0.75"),
    ("$\\frac{1}{3}$", "1/3"),
    ("\\boxed{1{,}200}", "1200"),
    ("The answer is 1{,}234", "1234"),
    ("$\\sqrt{16}$", "4"),
    ("Answer: $1.5 \\times 10^3$", "1500"),
    ("The answer is 1.5e3", "1500"),
    ("The answer is $1.5 million.", "1500000"),
    ("The answer is 2 1/2 cups.", "2.5"),
    ("The answer is minus 5.", "-5"),
    ("−5", "-5"),
    ("１８", "18"),
    ("٤٢", "42"),
    ("1,234,567.5", "1234567.5"),
    # Several, or none that is given.
    ("First 4, then 7.", None),
    ("The answer is 5 or 6.", None),
    ("5, 6", None),
    ("10-15", None),
    ("Answer: 3:30", None),
    ("The total is $18 and the tax is $2.", None),
    ("Is it 12?", None),
    # Words, what is told before a result, and what follows it.
    ("Twenty-four", "24"),
    ("one hundred and five apples", "105"),
    ("~~52~~ 54", "54"),
    ("17 remain after she gives 8 of her 25 away.", "17"),
    ("The peak is 2,962 metres (9,718 ft) high.", "2962"),
    ("16 bags, because 128 / 8 = 16. Each bag holds 8 marbles.", None),
    ("He needs 4 more. He already has 6.", None),
    ("Monday: 12\nTuesday: 15", None),
    ("The answer is 6 (or 8 if you count the twins).", None),
    ("3√2", None),
    ("Answer with a number only.", None),
    ("1/0", None),
    ("\\frac{1}{0}", None),
    # Taken back, contradicted, supposed, or cut off.
    ("The answer is 47.\nCorrection: with the two it is another one.", None),
    ("The answer is 18. The answer is 21.", None),
    ("The answer would be 4 if he went by bus.", None),
    ("35 + 5 = 4", None),
    ("35 + 5 = 40", "40"),
    # Not the end of a reply, or none of its results.
    ("x = 12\n\nSo there are 12 goats and 36 sheep.", None),
    ("3 more bags.\n(5 bags are 100 kg, and 8 bags are 160 kg.)", "3"),
    ("We need to find the time for the 2.5 hours.", None),
    ("So he has x + 19 days.", None),
    ("Step 5: Calculate the cost of one ticket.", None),
    ("7, because 7 × 7 = 49.", "7"),
    ("It takes 4 and a half hours.", "4.5"),
    ("Roughly two thirds of the class.", None),
    ("Answer: A = 12, B = 8", None),
    # Thousands, or a decimal.
    ("Answer: €48.500", None),
    # Too much to work out.
    ("$9^{9^{9}}$", None),
    ("1e999999", None),
  ],
)
def test_number(reply, answer):
  assert _text(Number()(reply)) == answer


@pytest.mark.parametrize(
  "reply, answer",
  [
    # The mark is not the reply's own.
    ("The format is:\nAnswer: 5", None),
    ("Example: Answer: 42", None),
    ("My friend says the answer is 12.", None),
    ("Many people answer 10, but the right answer is 5.", "5"),
    ("The answer must be a number.\n\n132", "132"),
    # It is taken back, or left open.
    ("Answer: 12\n\nOn reflection this can't be right.", None),
    ("Answer: 12\nAnswer: 13", None),
    ("Answer: 9\n\nWait, so the answer is 3.", "3"),
    ("The answer is 12 if you count Tom.", None),
    ("Answer: 12 (wrong!)", None),
    ("Answer: 12\n\nCheck: 12 + 3 = 15, as told.", None),
    ("The answer is 12.\n\nExplanation: 3 x 4 = 12.", "12"),
    # A condition holds for all of its sentence.
    ("If there were 8 rows, for instance, the hall would seat 96.", None),
    ("12\n15\n18", None),
    ("The answer is between 10 and 12.", None),
    # All of a sentence is accounted for.
    ("It's 18.", "18"),
    ("There are 18 eggs left.", "18"),
    ("There are 18 eggs left because 30 - 12 = 18.", "18"),
    ("She has 12 apples left, but she needs 13.", None),
    ("1.250,50 €", "1250.5"),
    ("Total: ₹2,35,000", "235000"),
  ],
)
def test_the_last_word_of_a_reply(reply, answer):
  assert _text(Number()(reply)) == answer


@pytest.mark.parametrize(
  "reply, answer",
  [
    ("The answer is B if it is an animal, otherwise C.", None),
    ("My friend chose B.", None),
    ("People often choose B.", None),
    ("B is a good option, but C is better.", "C"),
    ("Both B and C are correct.", None),
    ("Option B is correct. Option A is about size.", "B"),
    ("Option B is correct. Option A is also correct.", None),
    ("Answer: B\n\nWait, C is better.", None),
    ("A, B and C are wrong. So D.", "D"),
    ("A. north\nB. south\nC. east", None),
  ],
)
def test_the_option_a_reply_stands_by(reply, answer):
  assert _text(Choice(tuple("ABCD"))(reply)) == answer


@pytest.mark.parametrize(
  "reply, answer, question",
  [
    ("4 tickets cost $51.50.", "51.5", "What do 4 tickets cost?"),
    ("Ben is 4 years older than Zoe.", None, "How old is Ben?"),
    ("So she walks 100% to school.", None, "How many km does she walk?"),
    ("The tree is 85 years old.", "85", "How old is the tree?"),
    ("He wrote 85 books.", None, "How old is the tree?"),
    ("17 times 6 equals 102.", "102", "What is 17 times 6?"),
    ("For 6 people it is $72.", "72", "What is the cost for 6 people?"),
  ],
)
def test_number_that_was_asked_for(reply, answer, question):
  assert _text(Number()(reply, question)) == answer


@pytest.mark.parametrize(
  "options, reply, answer",
  [
    (("yes", "no"), "YES!", "yes"),
    (("yes", "no"), "Not at all: no.", "no"),
    (("yes", "no"), "Nobody knows, yesterday neither.", None),
    (("yes", "no"), "There is no right answer.", None),
    (("yes", "no"), "no longer heads up", None),
    (("yes", "no"), "yes or no", None),
    (("yes", "no"), "Answer: yes or no.", None),
    (("yes", "no"), "Yes and no.", None),
    (("yes", "no"), "It is yes, or is it no?", None),
    (("yes", "no"), "The answer is not yes; it is no.", "no"),
    (("yes", "no"), "No, it is not.", "no"),
    (("yes", "no"), "Nope.", "no"),
    (("A", "B"), "Answer: (B)", "B"),
    (("A", "B"), "A cat sat.", None),
    (("A", "B"), "A: one, B: another", None),
    (("A", "B"), "A) Mars", "A"),
    (("A", "B"), "It is a cat, so [[B]]", "B"),
    (("A", "B"), "a b", None),
    (("A", "B"), "A good choice is B", "B"),
    (("A", "B"), "The answer is not A, but B.", "B"),
    (("A", "B"), "Answer: A or B", None),
    (("A", "B"), "A is wrong, B is right.", "B"),
    (("A", "B", "C"), "Vitamin C is healthy, I think.", None),
    (("A", "C"), "It could be A, or maybe C.", None),
    (("A", "B"), "At first B looks right, but it has to be A.", "A"),
    (("A", "B"), "B looks right, but is late, so it has to be A.", "A"),
    (("A", "B"), "The answer is B because option A is a bird.", "B"),
    (
      ("A", "C", "D"),
      "Between C and D. Iron rusts, which makes D right.",
      None,
    ),
    (("very good", "good"), "Very good.", "very good"),
    (("positive", "negative"), "not positive", None),
    (("positive", "negative"), "non-negative", None),
    (
      ("positive", "negative"),
      "Positive, despite a negative tone.",
      "positive",
    ),
    (("A", "B"), "People often answer B.", None),
    (("true", "false"), "That is not true.", None),
    (("C++", "C"), "The answer is C++.", "C++"),
    (("(A)", "(B)"), "The answer is (A).", "(A)"),
    (("1", "2"), "The answer is 2.", "2"),
  ],
)
def test_choice(options, reply, answer):
  assert _text(Choice(options)(reply)) == answer


@pytest.mark.parametrize(
  "reply, answer",
  [
    ("Yes, the coin is no longer heads up.", None),
    ("Yes, it is tails up now.", None),
    ("No, the coin is still heads up.", None),
    ("No, the coin is not heads up.", "no"),
    ("Yes, it is still heads up.", "yes"),
    ("No one flips the coin, so it is still heads up.", "yes"),
    ("It is flipped once, so it is tails up.", "no"),
    ("The coin is no longer heads up.", "no"),
    ("The coin starts heads up, so", None),
    ("The coin is still heads up. No, no.", None),
    ("He does not flip it, so it remains heads up.", "yes"),
    ("Heads up.", "yes"),
  ],
)
def test_a_coin_has_one_side_up(reply, answer):
  assert _text(CoinFlip().read(reply, "")) == answer


@pytest.mark.parametrize(
  "reply, answer",
  [
    ("ny", "ny"),
    ("N-Y", "ny"),
    ("n, y", "ny"),
    ('The letters are "ny".', "ny"),
    ("Answer: n y", "ny"),
    ("**ny**", "ny"),
    ("n, y → ny", "ny"),
    ('The last letter of "green" is "n".', None),
    ("New York", None),
    ("The last letters are n and y", None),
    ("Sorry", None),
    ("", None),
  ],
)
def test_letters(reply, answer):
  assert _text(Letters()(reply)) == answer


@pytest.mark.parametrize(
  "reply, answer, question",
  [
    ("The Café, È LUNGO! More.", "cafe e lungo", ""),
    ("Dr. J. R. Who. He did.", "dr j r who", ""),
    ("No. It is not.", "no", ""),
    ("C++", "c++", ""),
    ("C#", "c#", ""),
    ("−5", "-5", ""),
    ("Vitamin A", "vitamin a", ""),
    (".NET", ".net", ""),
    ("$5", "$5", ""),
    ("50%", "50%", ""),
    ("3.14", "3.14", ""),
    ("AC/DC", "ac/dc", ""),
    ("(B) Paris", "paris", ""),
    ("1. Paris", "paris", ""),
    ("A: Paris", "paris", ""),
    ("The capital of France is Paris.", "paris", ""),
    ("Paris is the capital of France.", "paris", "The capital of France?"),
    ("George Orwell wrote 1984.", "george orwell", "Who wrote 1984?"),
    ("It fell in 1989.", "1989", "When did it fall?"),
    ("The Lisa was painted by Leonardo.", "leonardo", "Who painted the Lisa?"),
    (
      "Many say Sydney, but the capital is Bern.",
      "bern",
      "What is the capital?",
    ),
    ("Jupiter. Wait, no. It's Mars.", "mars", "Which planet is red?"),
    # Sentences about it that do not answer.
    ("1984 was published by Secker.", None, "Who wrote 1984?"),
    ("It's a classic.", None, "Who wrote 1984?"),
    ("Water freezes at 0 °C.", None, "What is the boiling point of water?"),
    ("The Louvre is a museum.", None, "Where is the Louvre?"),
    ("China used to have the most people.", None, "Who has the most people?"),
    ("Rubies come from Myanmar.", None, "What colour is a ruby?"),
    ("The Lisa was painted by Leo.", None, "Which museum shows the Lisa?"),
    ("Its author is British.", None, "Who is its author?"),
    ("The baby dog is a rare breed.", None, "What is a baby dog named?"),
    ("It was published by Secker in 1949.", None, "When did he write it?"),
    ("Lake Tana is the source by size.", None, "Who was born at Lake Tana?"),
    # Of another sort than what is asked.
    ("1. Penny\n2. Dime\nThe answer is 1.", None, "Which coin shows him?"),
    ("Mark Twain", None, "What was Mark Twain's real name?"),
    ("A novel by Melville", None, "Who wrote it?"),
    ("The Wall Falling in 1989", "1989", "In which year did the wall fall?"),
    # Names, and what stands round them.
    (
      "It was painted by the Dutch artist Jan Steen.",
      "jan steen",
      "Who painted it?",
    ),
    ("A violin has four strings.", "four", "How many strings has a violin?"),
    ("Bees make honey from nectar.", "honey", "What do bees make?"),
    (
      "A group of lions is called a pride.",
      "pride",
      "What is a group of lions called?",
    ),
    ("Linux is written in C.", "c", "Which language is Linux written in?"),
    # All that is new in a sentence, where such an answer stands.
    ("We get vitamin D from it.", "vitamin d", "Which vitamin do we get?"),
    ("The organ that cleans blood is the liver.", "liver",
     "Which organ cleans the blood?"),
    ("A drummer plays a guitar.", "guitar",
     "Which instrument does a drummer play?"),
    ("Fe is the symbol for iron.", "iron", "Which element has the symbol Fe?"),
    ("The capital of Brazil was Rio.", None, "What is the capital of Brazil?"),
    ("A male dog is called a stud.", None, "What is a baby dog called?"),
    ("A dog is called a hound.", None, "What is a baby dog called?"),
    # More than one thing is new, or it stands elsewhere.
    ("No other person is the author of It.", None, "Who is the author of It?"),
    ("A legendary story is the legendary inventor of it.", None,
     "Who invented it?"),
    ("Lithuania is a Baltic country.", None,
     "What is the capital of Lithuania?"),
    ("The Amazon is Bolivia.", None, "Which continent is Bolivia in?"),
    ("The longest river in Asia is the Yangtze.", None,
     "What is the longest river in Africa?"),
    # Letters, drafts and advice have no name that answers.
    ("Dear Professor,\n\nI hope that all is well.", None,
     "Write a note to my professor."),
    ("First, consider your life.", None, "How do I choose a mattress?"),
    ('The answer is "St. John".', "st john", "Who was it?"),
    # Whose it is, the last word, and what is no name.
    ("It was Nikola Tesla's invention.", "nikola tesla", "Who invented it?"),
    ("C'est le Rhône.", "rhone", "Quel fleuve est-ce ?"),
    ("Lima. Wait, Cusco.", "cusco", "What is the capital?"),
    ("I'm not sure, but I think it's Lima.", "lima", "What is the capital?"),
    ("Some say it is Cusco.", None, "What is the capital?"),
    ("The capital of Peru used to be Cusco.", None,
     "What is the capital of Peru?"),
    # Several, none, or only the question again.
    ("1. Paris\n2. Rome", None, ""),
    ("Paris or Lyon", None, ""),
    ("It is not Lyon.", None, ""),
    ("I cannot answer that.", None, ""),
    ("What is it?", None, ""),
    ("Who wrote 1984", None, "Who wrote 1984?"),
    ("The capital of France is", None, ""),
  ],
)  # fmt: skip
def test_text(reply, answer, question):
  assert _text(Text()(reply, question)) == answer


def test_a_long_text_is_no_answer():
  assert Text(4)("Such a long name that nobody remembers all of it") is None


@pytest.mark.parametrize(
  "text, same",
  [
    ("São Paulo", "sao paulo"),
    ("Łódź", "Łódz"),
    ("Straße", "strasse"),
    ("“Paris”", "paris"),
    ("J.R.R. Tolkien", "JRR Tolkien"),
    ("U.S.A.", "usa"),
    ("H₂O", "h2o"),
  ],
)
def test_spellings_of_one_answer(text, same):
  assert normalise(text) == normalise(same)


@pytest.mark.parametrize(
  "text, other",
  [
    ("C++", "C"),
    ("-5", "5"),
    ("Vitamin A", "Vitamin"),
    ("हिन्दी", "हन्द"),
    ("й", "и"),
    ("ё", "е"),
    ("が", "か"),
    ("$5", "5"),
  ],
)
def test_answers_that_are_not_the_same(text, other):
  assert normalise(text) != normalise(other)


def test_regex():
  assert Regex(r"grade: (\w)")("grade: B\ngrade: A").text == "A"
  assert Regex(r"\d+")("1 and 22").text == "22"
  assert Regex(r"x")("none") is None


@pytest.mark.parametrize(
  "reply, value",
  [
    ('{"b": [1, 2.0], "a": null}', {"a": None, "b": [1, 2]}),
    ('```json\n{\n  "a": 1\n}\n```', {"a": 1}),
    ('Here it is: {"a": 1} I hope this helps!', {"a": 1}),
    ('{"a": 1}\n{"a": 1.0}', {"a": 1}),
    ("[1, 2]", [1, 2]),
    ('<think>{"a": 2}?</think>{"a": 1}', {"a": 1}),
    ('{"a": 1}\n{"a": 2}', None),
    ('{"a": 1', None),
    ('{"a": [{"b": 1}, {"c', None),
    ("{'a': NaN}", None),
    ("a: 1", None),
  ],
)
def test_json(reply, value):
  found = Json()(reply)
  assert (found and json.loads(found.text)) == value


def test_equal_json_is_one_answer():
  first, second = '{"a": 1, "b": 2}', '{ "b" : 2.0,\n"a": 1 }'
  assert Json()(first) == Json()(second)


@pytest.mark.parametrize(
  "kind, strict, loose",
  [
    ({"kind": "number"}, ["18", "Answer: 18 apples", "\\boxed{18}"],
     ["He has 18 apples."]),
    ({"kind": "choice", "options": ["A", "B"]}, ["B", "(B) Mars", "Answer: B"],
     ["The best option is B, I think."]),
    ({"kind": "letters"}, ["ny", "Answer: n-y"], ['Together they are "ny".']),
    ({"kind": "text"}, ["Paris", "(B) Paris", "Answer: Paris"],
     ["The capital of France is Paris."]),
    ({"kind": "json"}, ['{"a": 1}', '```\n{"a": 1}\n```'], ['It is {"a": 1}.']),
  ],
)  # fmt: skip
def test_strict_is_the_form_that_was_asked_for(kind, strict, loose):
  parser = make_parser(kind)
  assert [parser(reply).strict for reply in strict] == [True] * len(strict)
  assert [parser(reply).strict for reply in loose] == [False] * len(loose)


@pytest.mark.parametrize(
  "spec, named",
  [
    ({}, "kind=None is unknown; there are number, choice"),
    ({"kind": "choice", "options": ["a"]}, "two or more different"),
    ({"kind": "text", "words": 3}, "task.answer.words is unknown"),
  ],
)
def test_settings_that_cannot_be(spec, named):
  with pytest.raises(UserError, match=named):
    make_parser(spec)


@pytest.mark.parametrize(
  "parser, made_up, answer",
  [
    (Number(), "Question: 3 + 4?\nAnswer: The answer is 7.", "45"),
    (Letters(), 'Take the last letters of the words in "Ada Day": ay', "nk"),
    (Choice(("yes", "no")), "A coin is heads up. Ann flips it. No.", "yes"),
    (Json(), 'Question: another?\n{"a": 2}', '{"a":1}'),
  ],
)
def test_an_invented_next_question_ends_the_reply(parser, made_up, answer):
  assert _text(parser(f"{answer}\n\n{made_up}")) == answer


@pytest.mark.parametrize(
  "reply, answer",
  [
    ("She has no stamps left, since she gave all 36 away.", "0"),
    ("So 10 stamps are left. That is a third of them!", "10"),
    ("So she has 36 stamps. 20 of them go to Jo.", None),
    ("None of the options is right.", None),
  ],
)
def test_what_is_left(reply, answer):
  question = "Ines had 36 stamps. She gave 20 to Jo. How many stamps are left?"
  assert _text(Number()(reply, question)) == answer


@pytest.mark.parametrize(
  ("reply", "answer"),
  [
    ("Absolutely, no.", "no"),
    ("A: No, the two are far apart.", "no"),
    ("1. Yes.", "yes"),
    ("To answer your question, no.", "no"),
    ('This question asks me to provide the answer "Yes."', None),
    ("Please say yes, but if you need a no, I can help with that too", None),
  ],
)
def test_yes_and_no_behind_a_few_words(reply, answer):
  found = Choice(("yes", "no"))(reply)
  assert (found and found.text) == answer


_CAPITAL = "What is the capital city of Egypt?"
_CONTINENT = "Which continent is Germany in?"


@pytest.mark.parametrize(
  ("question", "reply", "answer"),
  [
    (_CAPITAL, "The answer is Cairo, but I'm not entirely sure.", "cairo"),
    (_CAPITAL, "Dakar is in Senegal, so it can't be that.", None),
    (_CONTINENT, "Germany is in Europe, but it's also in the EU.", "europe"),
    (_CONTINENT, "It does lie in Asia, so you're not all wrong, but", None),
  ],
)
def test_doubts_about_countries(question, reply, answer):
  found = measure.read(
    {"kind": "country", "question": question, "reply": reply}
  )
  assert (found and found.text) == answer


def test_what_is_marked_may_be_no_answer():
  """As where a reply quotes what it was shown."""
  reply = (
    "I-S-A-Y **Answer: 19 minutes** The capital of Chile is Santiago. Wait, no,"
    " that's wrong. Earth"
  )
  assert Text()(reply, "What is the capital of Chile?") is None
