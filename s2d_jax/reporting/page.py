"""Renders HTML pages: their plots, templates, and what may run in them."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from typing import Any

import jinja2
import markupsafe

from s2d_jax.reporting import plots
from s2d_jax.reporting.retention import points
from s2d_jax.reporting.table import readable

_LONGEST = 4000  # characters of a text on the page


@dataclasses.dataclass(frozen=True)
class Plot:
  """A plot on the page; `light` and `dark` are PNGs."""

  name: str
  title: str
  caption: str
  light: bytes
  dark: bytes


def make_plot(
  name: str,
  title: str,
  caption: str,
  draw: plots.Draw,
  height: float = plots.HEIGHT,
) -> Plot:
  """Draws a plot in both themes; `height` in inches."""
  light, dark = (
    plots.render(draw, theme, height) for theme in (plots.LIGHT, plots.DARK)
  )
  return Plot(name, title, caption, light, dark)


def render(template: str, script: str | None = None, **values: Any) -> str:
  """A page of templates/, in which nothing but `script` may run.

  Args:
    template: its file.
    script: file of the script that the page holds; the policy of the page
      names it by its hash.
    **values: for the template; escaped unless they are Markup.
  """
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader("s2d_jax.reporting"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters |= {
    "readable": readable,
    "data_url": lambda png: (
      "data:image/png;base64," + base64.b64encode(png).decode()
    ),
    "cut": _cut,
    "points": points,
  }
  source = "'none'"
  if script is not None:
    text, _, _ = environment.loader.get_source(environment, script)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    source = f"'sha256-{digest}'"
    values["script"] = markupsafe.Markup(text)
  found = environment.get_template(template)
  return found.render(script_source=markupsafe.Markup(source), **values)


def _cut(text: str) -> str:
  """The text, cut if it is too long for the page."""
  if len(text) <= _LONGEST:
    return text
  return f"{text[:_LONGEST]} … ({len(text) - _LONGEST} more characters)"
