"""The `s2d` command: `s2d STAGE --config=… --workdir=…`."""

from __future__ import annotations

import difflib
import importlib
import sys

from s2d_jax import host_memory

_STAGES = {
  "pipeline": "run all stages in order; resume where a run was killed",
  "prepare": "make the examples",
  "sample": "draw n samples of the method for every unlabelled input",
  "select": "let the model choose among its own replies",
  "curate": "keep the answers that the samples agree on",
  "finetune": "fine-tune the same model to answer directly",
  "evaluate": "evaluate System 1, System 2 and the distilled model",
  "gate": "learn where a direct answer stands, and where to think",
  "retention": "measure what the fine-tune did to the rest",
  "contamination": "test whether the base model has read the test split",
  "study": "run a config with controls over several seeds; compare them",
  "report": "write the report page, or compare several runs",
  "status": "show how far a run is, from its files alone",
  "answer": "answer a file of questions by a run, directly or by thinking",
  "chat": "ask a model, or the models of a run, on the terminal",
  "plan": "estimate memory and speed of a run on a TPU, without one",
  "convert": "export a model or a run: a folder, a GGUF file or its adapters",
}

_USAGE = "usage: s2d STAGE [flags]        s2d STAGE --help lists the flags\n\n"


def main() -> None:
  """Hands the remaining arguments to the stage's own program."""
  name = sys.argv[1] if len(sys.argv) > 1 else "--help"
  if name in ("-h", "--help", "help"):
    stages = "".join(f"  {s:13} {text}\n" for s, text in _STAGES.items())
    print(_USAGE + stages, end="")
    return
  if name not in _STAGES:
    nearest = difflib.get_close_matches(name, _STAGES, n=1, cutoff=0.0)[0]
    print(
      f"error: s2d has no stage {name!r}; did you mean {nearest!r}?",
      file=sys.stderr,
    )
    sys.exit(2)
  host_memory.keep_buffers()
  sys.argv = [f"s2d {name}", *sys.argv[2:]]
  importlib.import_module(f"s2d_jax.stages.{name}").main()


if __name__ == "__main__":
  main()
