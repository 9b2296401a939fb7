"""Where an interrupted answer stands for llama.cpp's server, which gives whole characters and hides some token ids."""

from __future__ import annotations

from collections.abc import Sequence

from freehold.core import Chunk, Sampling
from freehold.engine.given import Place, given_of
from freehold.engine.llamacpp.server import Server
from freehold.errors import CannotResume


def stands_at(given: Sequence[Chunk], sampling: Sampling, server: Server) -> Place:
    """The given tokens, and their text with what was held back as a possible stop string. Tokens inside a character
    aren't told: such a piece is read as the server itself would write it. Raises `CannotResume`."""
    past = given_of(given)
    ids: list[int] = []
    for chunk in given:
        if len(chunk.ids) == chunk.tokens:
            ids += chunk.ids
        elif sampling.stop:
            raise CannotResume("The answer can't be gone on with.", "What was held back of it isn't known.")
        else:
            ids += server.tokenize(chunk.text, False)
    if not sampling.stop:
        return Place(tuple(ids), past.text)
    text = server.detokenize(ids)
    if not text.startswith(past.text):
        text = f" {text}"  # SentencePiece drops the first one
    if not text.startswith(past.text) or (sampling.logprobs and text != past.text):
        raise CannotResume("The answer can't be gone on with.", "Its tokens don't stand where its text stands.")
    return Place(tuple(ids), text)
