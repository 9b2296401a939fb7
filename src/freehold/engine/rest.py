"""The rest of a grammar: what may still follow once the beginning of a text stands. Pure.

`rest_of(grammar, text)` takes a grammar as `grammar.py` writes it (GBNF) and gives one of exactly those texts that
complete `text`: its derivative, character by character. A state is a chain of parts yet to be matched; one character
leads from a set of chains to the next set. Chains are interned, so a long string costs one look-up a character.
"""

from __future__ import annotations

from collections.abc import Iterable

from freehold.core import Json
from freehold.engine import gbnf
from freehold.engine.gbnf import Choice, Literal, OneOf, Part, Repeat, Rule, Sequence
from freehold.engine.given import START, Place
from freehold.engine.grammar import grammar_of
from freehold.errors import CannotResume

_MOST_STATES = 200
"""Ways at once in which a text may be read; a schema whose options overlap more than this isn't worth it."""


class Chain:
    """Parts one after another; None is the empty one."""

    __slots__ = ("next", "part")

    def __init__(self, part: Part, next: Chain | None) -> None:
        self.part = part
        self.next = next


State = frozenset[Chain | None]


class Complete(Exception):
    """The text is whole: the grammar lets nothing follow."""


def grammar_at(schema: Json, stands: Place) -> str | None:
    """The grammar of what may follow where an answer to `schema` stands. None: ask the library, from the beginning.
    Raises `CannotResume` where only the library knows the grammar, `Complete` if the answer is."""
    grammar = grammar_of(schema)
    if stands == START:
        return grammar
    if grammar is None:
        raise CannotResume("The answer can't be gone on with.", "Its grammar is the library's own.")
    rest = rest_of(grammar, stands.text)
    if rest is None:
        raise Complete
    return rest


def rest_of(grammar: str, text: str) -> str | None:
    """The grammar of what may follow `text`; None if nothing may: the text is complete. Raises `CannotResume` for a
    text that the grammar doesn't begin with."""
    reader = Reader(grammar)
    state = reader.start
    for character in text:
        state = reader.after(state, character)
        if not state:
            raise CannotResume("The answer can't be gone on with.", "Its text doesn't follow its grammar.")
        if len(state) > _MOST_STATES:
            raise CannotResume("The answer can't be gone on with.", "Its grammar can be read in too many ways.")
    return None if state == {None} else reader.written(state)


class Reader:
    """A parsed grammar, with the chains and steps that were met so far."""

    def __init__(self, grammar: str) -> None:
        self.rules = {name: gbnf.parse(body) for name, body in gbnf.lines(grammar)}
        self._lines = dict(gbnf.lines(grammar))
        self._chains: dict[tuple[Part, Chain | None], Chain] = {}
        self._repeats: dict[tuple[Part, int, int | None], Repeat] = {}
        self._literals: dict[str, Literal] = {}
        self._steps: dict[tuple[Chain, str], State] = {}
        self.start: State = frozenset([self._chain(self.rules["root"], None)])

    def after(self, state: State, character: str) -> State:
        """Empty if none of the ways goes on with `character`."""
        found: set[Chain | None] = set()
        for chain in state:
            if chain is not None:
                step = self._steps.get((chain, character))
                if step is None:
                    step = self._steps[chain, character] = self._step(chain, character)
                found |= step
        return frozenset(found)

    def accepts(self, text: str) -> bool:
        """Whether `text` is a whole text of the grammar."""
        state = self.start
        for character in text:
            state = self.after(state, character)
        return any(self.may_end(chain) for chain in state)

    def may_end(self, chain: Chain | None) -> bool:
        """Whether nothing has to follow."""
        return any(leaf is None for leaf in self.leaves(chain))

    def leaves(self, chain: Chain | None) -> list[Chain | None]:
        """The chains that `chain` may stand for, each beginning with a character, or empty."""
        found: list[Chain | None] = []
        seen: set[Chain | None] = {chain}
        waiting = [chain]
        while waiting:
            one = waiting.pop()
            if one is None or isinstance(one.part, Literal | OneOf):
                found.append(one)
                continue
            for more in self._opened(one.part, one.next):
                if more not in seen:
                    seen.add(more)
                    waiting.append(more)
        return found

    def written(self, state: State) -> str:
        """`state` as a grammar: a root, then the rules that it needs."""
        ways = sorted(" ".join(gbnf.written(part) for part in _parts(chain)) or '""' for chain in state)
        lines = {"root": ways[0]} if len(ways) == 1 else {f"rest{i}": way for i, way in enumerate(ways)}
        if len(ways) > 1:
            lines = {"root": " | ".join(lines)} | lines
        needed: dict[str, str] = {}
        waiting = [part for chain in state for part in _parts(chain)]
        while waiting:
            part = waiting.pop()
            if isinstance(part, Rule) and part.name not in needed:
                needed[part.name] = self._lines[part.name]
                waiting.append(self.rules[part.name])
            waiting += gbnf.inside(part)
        return "".join(f"{name} ::= {body}\n" for name, body in (lines | needed).items())

    def _step(self, chain: Chain, character: str) -> State:
        found: set[Chain | None] = set()
        for leaf in self.leaves(chain):
            if leaf is None:
                continue
            part = leaf.part
            if isinstance(part, OneOf):
                if part.has(character):
                    found.add(leaf.next)
            elif isinstance(part, Literal) and part.text[0] == character:
                found.add(self._chain(self._literal(part.text[1:]), leaf.next) if len(part.text) > 1 else leaf.next)
        return frozenset(found)

    def _opened(self, part: Part, next: Chain | None) -> Iterable[Chain | None]:
        """The chains that begin where `part`, followed by `next`, may begin."""
        if isinstance(part, Rule):
            yield self._chain(self.rules[part.name], next)
        elif isinstance(part, Choice):
            for option in part.options:
                yield self._chain(option, next)
        elif isinstance(part, Sequence):
            for each in reversed(part.parts):
                next = self._chain(each, next)
            yield next
        elif isinstance(part, Repeat):
            if not part.least:
                yield next
            if part.most is None or part.most > 0:
                yield self._chain(part.part, self._chain(self._one_less(part), next))

    def _one_less(self, repeat: Repeat) -> Repeat:
        most = None if repeat.most is None else repeat.most - 1
        key = (repeat.part, max(0, repeat.least - 1), most)
        return self._repeats.setdefault(key, Repeat(*key))

    def _literal(self, text: str) -> Literal:
        return self._literals.setdefault(text, Literal(text))

    def _chain(self, part: Part, next: Chain | None) -> Chain | None:
        """Without what can only be empty, so that a complete text is the empty chain."""
        if (isinstance(part, Literal) and not part.text) or (isinstance(part, Repeat) and part.most == 0):
            return next
        if isinstance(part, Sequence) and not part.parts:
            return next
        key = (part, next)
        chain = self._chains.get(key)
        if chain is None:
            chain = self._chains[key] = Chain(part, next)
        return chain


def _parts(chain: Chain | None) -> Iterable[Part]:
    while chain is not None:
        yield chain.part
        chain = chain.next
