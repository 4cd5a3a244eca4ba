"""Makes lm_eval/: what the harness's own Hugging Face backend answers.

Nothing of s2d_jax is used here. The model is that of llama3_gqa/, beside a
tokenizer that begins texts with a special token and has words that can lie
across the border of context and continuation.

  pip install torch transformers 'lm-eval[hf]==0.4.13'
  python tests/goldens/make_lm_eval_goldens.py
"""

from __future__ import annotations

import json
import pathlib
import shutil
import tempfile

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from tokenizers import AddedToken, Tokenizer, decoders, models, processors
from transformers import PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).parent
FOLDER = HERE / "lm_eval"
MERGES = [
  ("t", "h"), ("th", "e"), ("i", "n"), (" ", "a"), ("o", "u"), ("e", "r"),
  (" ", "the"), ("a", "n"), ("r", "e"), ("o", "n"), (" ", "s"), ("e", "s"),
]  # fmt: skip

DOCS = [
  # "t" + "he": a word across the border, where no blank is put between.
  {"q": "What is on", "a": [" the mat", "t", "here"], "gold": 0},
  {"q": "Look at", "a": ["he rain", " a stone", "hes"], "gold": 2},
  # Blanks behind the context belong to the continuation.
  {"q": "And then  ", "a": ["she sang", "another", "x"], "gold": 1},
  {"q": "", "a": ["the", " in", "on and on"], "gold": 0},  # nothing before it
  # Longer than the window of 256: cut from the left.
  {"q": "one and two and " * 30, "a": ["three", "the", "re"], "gold": 0},
  {"q": "a", "a": ["nother", "ny", "s" * 40], "gold": 1},
]
_HEAD = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
"""
TASKS = {
  "choice": _HEAD
  + """\
output_type: multiple_choice
doc_to_text: "{{{{q}}}}"
doc_to_target: "{{{{gold}}}}"
doc_to_choice: "{{{{a}}}}"
target_delimiter: ""
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
""",
  "written": _HEAD
  + """\
output_type: generate_until
doc_to_text: "{{{{q}}}} so"
doc_to_target: "{{{{a[gold]}}}}"
generation_kwargs: {{until: ["q", "zz"], max_gen_toks: 12, do_sample: false}}
metric_list: [{{metric: exact_match}}]
""",
  "read": _HEAD
  + """\
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{q}}}} the {{{{a[0]}}}}"
metric_list: [{{metric: byte_perplexity}}]
""",
}


def make_tokenizer() -> PreTrainedTokenizerFast:
  """Letters of ASCII and a few words; a text begins with <s>."""
  special = ["<unk>", "<s>", "</s>"]
  letters = [*map(chr, range(32, 127)), "\n"]
  words = ["".join(pair) for pair in MERGES]
  vocab = {token: i for i, token in enumerate([*special, *letters, *words])}
  fast = Tokenizer(models.BPE(vocab=vocab, merges=MERGES, unk_token="<unk>"))
  fast.add_special_tokens(
    [AddedToken(token, special=True, normalized=False) for token in special]
  )
  fast.decoder = decoders.Fuse()
  fast.post_processor = processors.TemplateProcessing(
    single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
  )
  return PreTrainedTokenizerFast(
    tokenizer_object=fast,
    unk_token="<unk>",
    bos_token="<s>",
    eos_token="</s>",
    pad_token="</s>",
    clean_up_tokenization_spaces=False,
  )


def main() -> None:
  shutil.rmtree(FOLDER, ignore_errors=True)
  make_tokenizer().save_pretrained(FOLDER)
  with tempfile.TemporaryDirectory() as name:
    temporary = pathlib.Path(name)
    model, tasks = temporary / "model", temporary / "tasks"
    shutil.copytree(HERE / "llama3_gqa", model)
    shutil.copytree(FOLDER, model, dirs_exist_ok=True)
    tasks.mkdir()
    data = tasks / "docs.jsonl"
    data.write_text("".join(json.dumps(doc) + "\n" for doc in DOCS))
    for task, text in TASKS.items():
      filled = text.format(name=f"s2d_{task}", data=data)
      (tasks / f"{task}.yaml").write_text(filled)
    found = simple_evaluate(
      "hf",
      model_args={"pretrained": str(model), "dtype": "float32"},
      tasks=[f"s2d_{task}" for task in TASKS],
      batch_size=2,
      device="cpu",
      task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
      bootstrap_iters=0,
    )
  goldens = {
    "docs": DOCS,
    "tasks": TASKS,
    "samples": {
      task: [
        sample["filtered_resps"]
        for sample in sorted(rows, key=lambda sample: sample["doc_id"])
      ]
      for task, rows in found["samples"].items()
    },
    "results": {
      task: {
        metric: value
        for metric, value in values.items()
        if metric.endswith(",none") and "stderr" not in metric
      }
      for task, values in found["results"].items()
    },
  }
  (FOLDER / "goldens.json").write_text(json.dumps(goldens, indent=1) + "\n")


if __name__ == "__main__":
  main()
