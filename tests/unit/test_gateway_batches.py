"""What batches are made of: lines cut from pieces, forms read as they come, and one driver at a time."""

from __future__ import annotations

import asyncio
import itertools
import json
import types
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from freehold.errors import InvalidRequest
from freehold.gateway.batches.batch import KIND, Batch, become, encode
from freehold.gateway.batches.form import UploadForm
from freehold.gateway.batches.hold import Hold, Lost
from freehold.gateway.batches.lines import MOST_COMPLAINTS, Checker, Cutter
from freehold.ledger.folders import Folder
from freehold.ledger.group import AsyncLedger
from freehold.ledger.sqlite import SqliteLedger


def in_pieces(data: bytes, borders: list[int]) -> list[bytes]:
    cuts = sorted({0, len(data), *(border % (len(data) + 1) for border in borders)})
    return [data[a:b] for a, b in itertools.pairwise(cuts)]


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=12).map(lambda text: text.replace(b"\n", b"")), max_size=8), st.booleans(),
    st.lists(st.integers(0, 200), max_size=5),
)  # fmt: skip
def test_lines_are_the_same_whatever_the_pieces(texts: list[bytes], last: bool, borders: list[int]) -> None:
    data = b"\n".join(texts) + (b"\n" if last else b"")
    cutter = Cutter(8)
    found = [line for piece in in_pieces(data, borders) for line in cutter.feed(piece)] + list(cutter.end())
    expected = [
        (number, None if len(text) > 8 else text.strip())
        for number, text in enumerate(data.split(b"\n"), 1) if len(text) > 8 or text.strip()
    ]  # fmt: skip
    if expected and expected[0][0] == 1 and expected[0][1] is not None:
        first = expected[0][1].removeprefix(b"\xef\xbb\xbf")
        expected[:1] = [(1, first)] if first else []
    assert found == expected


def test_complaints_end() -> None:
    checker = Checker("/v1/completions", 10_000, 100)
    cutter = Cutter(100)
    checker.look(cutter.feed(b"nonsense\n" * 500))
    assert checker.over
    assert len(checker.complaints) == MOST_COMPLAINTS


def form_bytes(name: str, data: bytes) -> bytes:
    head = f'--b0\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: text/plain\r\n\r\n'
    return (
        b'--b0\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        + head.encode()
        + data
        + b"\r\n--b0--\r\n"
    )


@settings(deadline=None)
@given(st.binary(max_size=60), st.lists(st.integers(0, 400), max_size=6))
def test_a_form_is_the_same_whatever_the_pieces(data: bytes, borders: list[int]) -> None:
    form = UploadForm(b"multipart/form-data; boundary=b0")
    for piece in in_pieces(form_bytes("a b.jsonl", data), borders):
        form.feed(piece)
    if b"\r\n--b0" in b"\r\n" + data:
        return
    form.finish()
    assert (bytes(form.waiting), form.filename, form.fields) == (data, "a b.jsonl", {"purpose": "batch"})


@pytest.mark.parametrize(
    "body",
    [
        form_bytes("a", b"x")[:-10],
        b"--b0\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b0--\r\n",
        b"--b0\r\nContent-Disposition: form-data\r\n\r\nbatch\r\n--b0--\r\n",
        b"no form at all",
        b"--b0\r\nA: " + b"x" * 10_000,
        b"--b0\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n" + b"x" * 2000,
        form_bytes("a", b"x").replace(b"--b0--", b"--b0") + form_bytes("b", b"y"),
        b"",
    ],
)  # fmt: skip
def test_what_is_no_form_of_an_upload(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read(body)


def read(body: bytes) -> None:
    form = UploadForm(b"multipart/form-data; boundary=b0")
    form.feed(body)
    form.finish()


@pytest.mark.parametrize(
    "kind", [b"", b"application/json", b"multipart/form-data", b"multipart/form-data; boundary=" + b"x" * 999]
)
def test_what_is_no_form(kind: bytes) -> None:
    with pytest.raises(InvalidRequest):
        UploadForm(kind)


def test_of_two_drivers_the_first_is_refused_once_the_second_has_taken_over(tmp_path: Path) -> None:
    async def main() -> None:
        ledger = AsyncLedger(lambda: SqliteLedger(tmp_path / "ledger.sqlite"))
        await ledger.start()
        desk = types.SimpleNamespace(ledger=ledger)
        batch = Batch(
            id="batch_a", tenant="t", endpoint="/v1/completions", input_file_id="file-a", completion_window="24h",
            expires_unix_s=2e9, priority=50, times={"validating": 1},
        )  # fmt: skip
        await ledger.put_folder(Folder("batch_a", KIND, "t", encode(batch), 2e9))
        await ledger.put_folder(Folder("file-b", "file", "", b"", 2e9))
        first, second = Hold(desk, "batch_a"), Hold(desk, "batch_a")  # type: ignore[arg-type]
        await first.take()
        await first.change(lambda now: become(now, "in_progress"))
        await first.write("file-b", [(1, b"one")])

        folder = await ledger.folder("batch_a")
        assert folder is not None
        cancelled = encode(become(first.batch, "cancelling"))
        assert await ledger.put_folder(replace(folder, label=cancelled))  # a client's wish, from any gateway
        await first.write("file-b", [(2, b"two")])
        await first.change(lambda now: replace(now, completed=2))
        assert (first.batch.status, first.batch.completed) == ("cancelling", 2)

        await second.take()
        with pytest.raises(Lost):
            await first.write("file-b", [(3, b"three")])
        with pytest.raises(Lost):
            await first.change(lambda now: replace(now, completed=9))
        await second.write("file-b", [(2, b"too late"), (3, b"drei")])
        assert await ledger.sheets("file-b", 0, 100) == [(1, b"one"), (2, b"two"), (3, b"drei")]
        await ledger.drop_folder("file-b")
        with pytest.raises(Lost):
            await second.write("file-b", [(4, b"four")])
        await ledger.close()

    asyncio.run(main())


def test_a_line_of_a_batch_says_what_openai_says() -> None:
    from freehold.gateway.batches.batch import answer_line

    batch = Batch(
        id="batch_a", tenant="t", endpoint="/v1/completions", input_file_id="file-a", completion_window="24h",
        expires_unix_s=2e9, priority=50,
    )  # fmt: skip
    line = json.loads(answer_line(batch, 7, "mine", 200, "req_1", b'{"a":1}'))
    assert line == {
        "id": "batch_req_a_7", "custom_id": "mine", "error": None,
        "response": {"status_code": 200, "request_id": "req_1", "body": {"a": 1}},
    }  # fmt: skip
