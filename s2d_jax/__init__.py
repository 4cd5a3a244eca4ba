"""Distilling System 2 into System 1, in JAX.

import s2d_jax
lm = s2d_jax.LanguageModel.load("smollm2-135m-instruct")
"""

from s2d_jax.errors import UserError as UserError
from s2d_jax.language_model import LanguageModel as LanguageModel

__version__ = "0.1.0"
