"""xllamacpp's `Server`, opened quietly: where its own HTTP port is needed, and closed to everyone else.

llama.cpp's server can't be had without a listening socket. It gets a random port on loopback, a random key
that only this process knows, and no pages or metrics. Tokenising goes through it, as the library offers no call.
"""

from __future__ import annotations

import http.client
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from freehold.core import Json
from freehold.errors import EngineFailed, InvalidRequest, ModelError


class Server:
    """One model in llama.cpp, with `slots` sequences of `context_tokens` each."""

    def __init__(self, gguf: Path, *, threads: int, slots: int, context_tokens: int, embed: bool = False) -> None:
        """Raises `ModelError`."""
        import xllamacpp

        self._key = secrets.token_hex(16)
        params = xllamacpp.CommonParams()
        params.model.path = str(gguf)
        params.n_parallel = slots
        params.n_ctx = slots * context_tokens
        for cpu in (params.cpuparams, params.cpuparams_batch):
            cpu.n_threads = threads
        params.api_keys = [self._key]
        params.port = 0
        params.ui = params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = False
        params.n_threads_http = 2
        params.verbosity = -1
        params.warmup = False
        params.fit_params = False
        params.cache_ram_mib = 0  # its second cache, 8 GiB by default, would be ours to account for
        if embed:
            params.embedding = True
            params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
            params.n_batch = params.n_ubatch = context_tokens
        try:
            self._server: xllamacpp.Server | None = xllamacpp.Server(params)
        except (RuntimeError, ValueError, MemoryError) as error:
            why = f"It says: {error or 'nothing'}."
            raise ModelError(
                f"llama.cpp can't load {gguf}.", why, "Check that the file is whole, and fits memory."
            ) from error
        self._address = urlsplit(self._server.listening_address)
        self._http: http.client.HTTPConnection | None = None

    def complete(self, body: Json, heard: Callable[[object], object]) -> None:
        """One completion; blocks. `heard` gets each piece as an OpenAI-shaped object and ends it by returning True."""
        assert self._server is not None
        self._server.handle_completions(body | {"stream": True}, heard)

    def embed(self, texts: list[str]) -> list[tuple[float, ...]]:
        assert self._server is not None
        found = self._server.handle_embeddings({"input": texts})
        if "data" not in found:
            raise EngineFailed("llama.cpp gave no embeddings.", str(found.get("error", "")))
        return [tuple(entry["embedding"]) for entry in sorted(found["data"], key=lambda entry: entry["index"])]

    def tokenize(self, text: str, add_bos: bool) -> list[int]:
        """Token ids; special tokens spelt out in the text become themselves."""
        body = json.dumps({"content": text, "add_special": add_bos, "parse_special": True})
        answer = self._post("/tokenize", body)
        tokens: list[int] = answer["tokens"]
        return tokens

    def detokenize(self, ids: list[int]) -> str:
        text: str = self._post("/detokenize", json.dumps({"tokens": ids}))["content"]
        return text

    def close(self) -> None:
        if self._http is not None:
            self._http.close()
        self._server = None

    def _post(self, path: str, body: str) -> Json:
        """Asks this process's own server; tries once more, for it may have closed an idle connection."""
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        for last in (False, True):
            try:
                if self._http is None:
                    self._http = http.client.HTTPConnection(
                        self._address.hostname or "", self._address.port, timeout=30
                    )
                self._http.request("POST", path, body.encode(), headers)
                response = self._http.getresponse()
                answer: Json = json.loads(response.read())
            except (OSError, http.client.HTTPException) as error:
                if self._http is not None:
                    self._http.close()
                self._http = None
                if last:
                    raise EngineFailed("llama.cpp's server doesn't answer.", str(error)) from error
                continue
            if response.status == 200:
                return answer
            raise InvalidRequest("llama.cpp can't read the prompt.", str(answer.get("error", "")))
        raise AssertionError("unreachable")
