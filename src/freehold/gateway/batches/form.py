"""Reads the multipart form of an upload as it comes: small fields are kept, the file's bytes are handed on."""

from __future__ import annotations

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from freehold.errors import InvalidRequest

_MOST_FIELDS = 8
_LONGEST_FIELD = 1024
_LONGEST_NAME = 255


class UploadForm:
    """Fed piece by piece. Raises `InvalidRequest` for what is no form, or not one of an upload."""

    def __init__(self, content_type: bytes) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise InvalidRequest(
                "A file is sent as a form.", next="Send it as multipart/form-data, with purpose=batch."
            )
        self.fields: dict[str, str] = {}
        self.filename = ""
        self.has_file = False
        self.ended = False
        self.waiting = bytearray()
        """Bytes of the file that nobody has taken yet."""
        self._field = bytearray()
        self._value = bytearray()
        self._disposition = b""
        self._name = ""
        self._text = bytearray()
        names = (
            "part_begin", "part_data", "part_end", "header_field", "header_value", "header_end", "headers_finished",
            "end",
        )  # fmt: skip
        try:
            self._parser = MultipartParser(boundary, {f"on_{name}": getattr(self, f"_on_{name}") for name in names})  # type: ignore[arg-type]
        except FormParserError as error:
            raise _broken(error) from None

    def feed(self, piece: bytes) -> None:
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _broken(error) from None

    def finish(self) -> None:
        """The body has ended."""
        if not self.ended:
            raise InvalidRequest("The form is cut short.", "Its last boundary is missing.")
        if not self.has_file:
            raise InvalidRequest("file: this field is required.", param="file")

    # ---- told by the parser ----------------------------------------------------------------------

    def _on_part_begin(self) -> None:
        self._disposition = b""
        self._text.clear()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._field.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if not self._name or len(self._name) > _LONGEST_NAME:
            raise InvalidRequest("A part of the form has no name that could be read.")
        if self._name in self.fields or (self._name == "file" and self.has_file):
            raise InvalidRequest(f"{self._name}: it was sent twice.", param=self._name)
        if self._name == "file":
            self.has_file = True
            filename = options.get(b"filename", b"upload.jsonl").decode("utf-8", "replace")
            self.filename = "".join(letter for letter in filename if letter.isprintable())[:_LONGEST_NAME]
        elif len(self.fields) >= _MOST_FIELDS:
            raise InvalidRequest("The form has too many fields.", f"At most {_MOST_FIELDS} beside the file.")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == "file":
            self.waiting += data[start:end]
            return
        self._text += data[start:end]
        if len(self._text) > _LONGEST_FIELD:
            raise InvalidRequest(f"{self._name}: it is too long.", param=self._name)

    def _on_part_end(self) -> None:
        if self._name != "file":
            self.fields[self._name] = self._text.decode("utf-8", "replace")

    def _on_end(self) -> None:
        self.ended = True


def _broken(error: FormParserError) -> InvalidRequest:
    return InvalidRequest("The form can't be read.", str(error)[:200], "Send it as multipart/form-data.")
