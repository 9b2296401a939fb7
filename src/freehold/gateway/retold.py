"""The end of a request as the ledger has it, as the chunks that didn't arrive. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from freehold.core import Answer, Chunk, Result
from freehold.errors import WorkerDied
from freehold.gateway.inbox import Inbox, failed_chunk


def retold(id: str, inbox: Inbox, result: Result) -> Iterator[Chunk]:
    """What has still to be told of a request that has ended: its failure, or the rest of each answer."""
    if result.failure is not None:
        yield failed_chunk(id, result.failure)
        return
    for choice in inbox.open_choices(id):
        have = inbox.have(id)[choice]
        answer = result.answers[choice] if choice < len(result.answers) else None
        if result.cancelled:
            yield Chunk(id, choice, have, 0, "", finish="cancelled", usage=result.usage)
            return
        if answer is None and result.embeddings is None:
            yield failed_chunk(id, _lost)
            return
        yield _rest(id, choice, have, inbox.text(id, choice), answer or Answer(), result)


def _rest(id: str, choice: int, have: int, shown: str, answer: Answer, result: Result) -> Chunk:
    if not answer.text.startswith(shown):
        return failed_chunk(id, _lost)
    usage = result.usage if choice == 0 else None
    tokens = max(0, result.usage.completion_tokens - have) if len(result.answers) == 1 else 0
    logprobs = answer.logprobs[have:] if answer.logprobs else None
    chunk = Chunk(
        id, choice, have, tokens, answer.text[len(shown) :], logprobs, answer.finish, usage, None, answer.stop
    )
    chunk.embeddings = result.embeddings
    return chunk


_lost = WorkerDied("The end of the answer was lost.", "It isn't kept any more.", "Send the request again.").failure()
