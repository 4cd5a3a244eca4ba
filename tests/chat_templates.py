"""Chat templates with the manners of families whose models think.

Each shows one way of it, in few lines. A turn ends with <|im_end|>.
"""

from __future__ import annotations

# Thinking is an option. Off, the prompt has an empty thought; thoughts stand in
# the last turn only. As Qwen 3.
SWITCHED = (
  "{% for m in messages %}{{ m.role }}:"
  "{% if m.role == 'assistant' %}"
  "{% set said = m.content.split('</think>')[-1].lstrip('\\n') %}"
  "{% set thought = m.reasoning_content or '' %}"
  "{% if loop.last %}{{ '<think>\\n' ~ thought ~ '\\n</think>\\n\\n' }}"
  "{% endif %}{{ said }}{% else %}{{ m.content }}{% endif %}<|im_end|>\n"
  "{% endfor %}"
  "{% if add_generation_prompt %}assistant:"
  "{% if enable_thinking is defined and not enable_thinking %}"
  "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"
)
# The system message says the mode, and earlier answers have an empty thought,
# too; it knows of no thought in a message of its own. As SmolLM3.
MODES = (
  "{% set thinks = enable_thinking | default(true) %}"
  "{% set first = '' %}{% if messages[0].role == 'system' %}"
  "{% set first = messages[0].content %}{% endif %}"
  "{% if '/no_think' in first %}{% set thinks = false %}{% endif %}"
  "{% set empty = '' if thinks else '<think>\\n\\n</think>\\n' %}"
  "system:{{ '/think' if thinks else '/no_think' }} "
  "{{ first.replace('/no_think', '') }}<|im_end|>"
  "{% for m in messages %}{% if m.role == 'user' %}user:{{ m.content }}"
  "<|im_end|>{% elif m.role == 'assistant' %}"
  "assistant:{{ empty ~ m.content }}<|im_end|>{% endif %}{% endfor %}"
  "{% if add_generation_prompt %}assistant:{{ empty }}{% endif %}"
)
# Every prompt opens a thought, and answers of the past have none. As DeepSeek's
# R1.
OPENED = (
  "{% for m in messages %}{{ m.role }}:"
  "{{ m.content.split('</think>')[-1] }}<|im_end|>{% endfor %}"
  "{% if add_generation_prompt %}assistant:<think>\n{% endif %}"
)
