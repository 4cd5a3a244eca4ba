from __future__ import annotations

import errno
import logging
import os
import shutil

import pytest

from s2d_jax import full_disk
from s2d_jax.errors import UserError

# As tensorstore has said it, on a tmpfs of 380 kB.
TENSORSTORE = ValueError(
  'RESOURCE_EXHAUSTED: Failed writing: "4/params/d/0a8d": Failed to write 2827'
  " bytes to file 8: No space left on device [os_error_code='28']"
)


@pytest.mark.parametrize(
  "error",
  [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    TENSORSTORE,
  ],
)
def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch, error):
  usage = shutil.disk_usage(tmp_path)._replace(free=2_500_000)
  monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
  folder = tmp_path / "checkpoints"
  told = "the disk of .*checkpoints: it has 2.5 MB; make room"
  with pytest.raises(UserError, match=told), full_disk.mistakes(folder):
    raise error  # the folder is not there yet
  told = "it has 2.5 MB, and a checkpoint takes 1,613.8 MB; make room"
  with pytest.raises(UserError, match=told):
    with full_disk.mistakes(folder, 1_613_800_000):
      raise error


def test_what_has_no_room_is_not_begun(tmp_path, monkeypatch):
  usage = shutil.disk_usage(tmp_path)._replace(free=2_500_000)
  monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
  full_disk.check(tmp_path / "run", 2_500_000)
  told = "/run: it has 2.5 MB, and a checkpoint takes 2.6 MB; make room"
  with pytest.raises(UserError, match=told):
    full_disk.check(tmp_path / "run", 2_600_000)
  full_disk.check("gs://bucket/run", 10**15)


@pytest.mark.parametrize(
  "error",
  [
    PermissionError(errno.EACCES, "Permission denied"),
    ValueError("RESOURCE_EXHAUSTED: out of memory"),
    UserError("a mistake"),
  ],
)
def test_other_errors_pass(tmp_path, error):
  with pytest.raises(type(error), match=str(error).replace("[", r"\[")):
    with full_disk.mistakes(tmp_path):
      raise error


def test_only_the_stack_trace_of_a_full_disk_is_not_logged(caplog):
  logger = logging.getLogger("absl")
  full_disk.be_quiet()
  try:
    for error in (TENSORSTORE, ValueError("another")):
      try:
        raise error
      except ValueError:
        logger.exception("the thread ended")
    logger.error("no error at all")
  finally:
    logger.removeFilter(full_disk._is_news)
  logged = [record for record in caplog.records if record.name == "absl"]
  assert [bool(record.exc_info) for record in logged] == [True, False]
  assert "another" in str(logged[0].exc_info[1])
