"""Optimisers with a warm-up, a cosine decay and a clipped gradient."""

from __future__ import annotations

import jax
import ml_collections
import optax

from s2d_jax.errors import KeptTooLittle


def learning_rate(
  config: ml_collections.ConfigDict, total_steps: int
) -> optax.Schedule:
  """Rate of update `step` (from 0), which is update number `step + 1`.

  Rises in a line to `config.learning_rate` at update `config.warmup_steps`,
  then falls in half a cosine to a tenth of it at the last update.
  """
  if config.warmup_steps >= total_steps:
    raise KeptTooLittle(
      f"finetune.warmup_steps={config.warmup_steps} leaves nothing of"
      f" {total_steps} steps; lower it or raise finetune.epochs"
    )
  schedule = optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=config.learning_rate,
    warmup_steps=config.warmup_steps,
    decay_steps=total_steps,
    end_value=config.learning_rate / 10,
  )
  # From 1, or the first update would have rate 0 and change nothing.
  return lambda step: schedule(step + 1)


def decayed(params):
  """True for matrices and tables, False for the scales of norms and biases.

  By name: layers are stacked, so a norm's scale has two axes as well.
  """
  return jax.tree_util.tree_map_with_path(
    lambda path, _: not {"scale", "bias"} & {_name(key) for key in path},
    params,
  )


def _name(key) -> str | None:
  return getattr(key, "key", None)


def make_optimizer(
  config: ml_collections.ConfigDict, total_steps: int
) -> optax.GradientTransformation:
  """`config.optimizer` on a gradient of bounded global norm."""
  return optax.chain(
    optax.clip_by_global_norm(config.clip_norm),
    OPTIMIZERS[config.optimizer](config, learning_rate(config, total_steps)),
  )


def _adamw(config, schedule) -> optax.GradientTransformation:
  """AdamW (Loshchilov & Hutter 2019)."""
  return optax.adamw(
    schedule,
    b1=config.b1,
    b2=config.b2,
    weight_decay=config.weight_decay,
    mask=decayed,
  )


def _adafactor(config, schedule) -> optax.GradientTransformation:
  """Adafactor (Shazeer & Stern 2018): second moments by row and column.

  Without first moments, and with the rate as it stands: not scaled by the size
  of the parameters, so that a rate means much the same as with AdamW.
  """
  return optax.adafactor(
    schedule,
    multiply_by_parameter_scale=False,
    weight_decay_rate=lambda step: schedule(step) * config.weight_decay,
    weight_decay_mask=decayed,
  )


OPTIMIZERS = {"adamw": _adamw, "adafactor": _adafactor}
