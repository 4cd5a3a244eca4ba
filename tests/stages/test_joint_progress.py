"""Progress of several hosts, of which the first one shows the sum."""

from __future__ import annotations

from s2d_jax.stages import joint_progress
from s2d_jax.stages.joint_progress import JointProgress
from tests.counters import Counters


def test_the_lead_shows_what_all_have_done(monkeypatch, capsys):
  Counters().made_by(2, monkeypatch)
  monkeypatch.setattr(joint_progress, "_PAUSE_SECONDS", -1.0)  # none
  shown = [
    JointProgress("draw", 10, "items", done=2, quiet=bool(index))
    for index in range(2)
  ]
  with shown[0] as lead:
    with shown[1] as other:
      other.advance(3, "its own", tokens=30)
      lead.advance(1, "kept 50%", tokens=5)
      assert (lead.done, other.done) == (6, 5)
      monkeypatch.setattr(joint_progress, "_PAUSE_SECONDS", 1000.0)
      other.advance(4, tokens=40)
      lead.advance(0)
      assert (lead.done, other.done) == (6, 5)
  # It has told of the rest when it was through, and the lead asks at its end.
  assert lead.done == other.done == 10
  line = capsys.readouterr().err.splitlines()[-1]
  assert line.startswith("draw  10/10 items")


def test_an_error_is_not_kept_waiting(monkeypatch):
  counters = Counters()
  counters.made_by(2, monkeypatch)
  try:
    with JointProgress("draw", 2, "items", quiet=True) as shown:
      shown.advance(1)
      shown.advance(1)  # within the second
      raise KeyboardInterrupt
  except KeyboardInterrupt:
    assert counters.values["draw, items"] == 1
