"""How a chat becomes tokens: the special tokens, the template text and its Python twin.

`TEMPLATE` is what serving engines run (transformers, llama.cpp, openvino-genai); `encode` is what
training runs. They must give the same ids. The template is deliberately plain, so that every Jinja
implementation renders it the same way.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>")
# Visible in decoded text, so that a server without a parser still shows the call.
VISIBLE = ("<tool_call>", "</tool_call>")
PAD = 0
END = SPECIAL.index("<|end|>")

CLASSIFY = "Name the intent of the customer's message."
SERVE = "You are a helpful service agent."
PREFIX = "Intent: "

TEMPLATE = (
    "{%- if messages[0].role == 'system' -%}"
    "{%- set system = messages[0].content | trim -%}{%- set rest = messages[1:] -%}"
    "{%- else -%}{%- set system = '' -%}{%- set rest = messages -%}{%- endif -%}"
    "{%- if system or tools -%}{{ '<|system|>' + system }}"
    "{%- if tools -%}{%- if system -%}{{ '\\n' }}{%- endif -%}{{ 'Tools:' }}"
    "{%- for tool in tools -%}{{ '\\n' }}{{ tool.function | tojson }}{%- endfor -%}"
    "{%- endif -%}{{ '<|end|>' }}{%- endif -%}"
    "{%- for message in rest -%}"
    "{{ '<|' + message.role + '|>' }}"
    "{%- if message.content -%}{{ message.content | trim }}{%- endif -%}"
    "{%- if message.tool_calls -%}{%- for call in message.tool_calls -%}"
    "{{ '<tool_call>{\"name\": ' }}{{ call.function.name | tojson }}{{ ', \"arguments\": ' }}"
    "{%- if call.function.arguments is string -%}{{ call.function.arguments }}"
    "{%- else -%}{{ call.function.arguments | tojson }}{%- endif -%}"
    "{{ '}</tool_call>' }}{%- endfor -%}{%- endif -%}"
    "{{ '<|end|>' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One message. `weight` scales the loss on its tokens; 0 means read but not learnt."""

    role: str
    text: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids of one chat and, for each id, the weight of the loss when it is the target."""

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)


def tool_call(name: str, arguments: dict[str, str]) -> str:
    """The assistant's text for a call, spelled as the template spells it."""
    return f'<tool_call>{{"name": {json.dumps(name)}, "arguments": {json.dumps(arguments)}}}</tool_call>'


def system_text(system: str, tools: Sequence[dict[str, Any]]) -> str:
    """The system block's text: the instruction, then one JSON line a tool."""
    if not tools:
        return system.strip()
    lines = [json.dumps(tool["function"], ensure_ascii=False) for tool in tools]
    return "\n".join([*([system.strip()] if system else []), "Tools:", *lines])


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE with GPT-2's word regex, which llama.cpp knows as the "gpt-2" pre-tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIAL, *VISIBLE],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _with_visible(tokenizer)


def _with_visible(tokenizer: Tokenizer) -> Tokenizer:
    # The trainer marks everything it is given as special; the flag can only be changed in the JSON.
    state = json.loads(tokenizer.to_str())
    for token in state["added_tokens"]:
        token["special"] = token["content"] in SPECIAL
    return Tokenizer.from_str(json.dumps(state))


def encode(tokenizer: Tokenizer, chats: Sequence[Sequence[Turn]]) -> list[Row]:
    """Rows for many chats at once. Role markers carry no loss; the closing <|end|> carries its turn's.

    Texts are encoded turn by turn: special tokens cut the text anyway, so the ids equal those of the
    whole rendered chat.
    """
    texts = [turn.text.strip() for chat in chats for turn in chat]
    pieces = iter(tokenizer.encode_batch(texts, add_special_tokens=False))
    rows = []
    for chat in chats:
        row = Row()
        for turn in chat:
            ids = next(pieces).ids
            row.ids.extend([SPECIAL.index(f"<|{turn.role}|>"), *ids, END])
            row.weights.extend([0.0, *[turn.weight] * (len(ids) + 1)])
        rows.append(row)
    return rows
