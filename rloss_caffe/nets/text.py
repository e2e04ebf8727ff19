"""Prototxt text around protobuf's own parser: where fields are, placeholders, edits that keep all the rest.

Protobuf says what a text means, but not where it says so, and it forgets the comments.
"""

import re
from dataclasses import dataclass
from typing import Optional, Tuple

__all__ = [
    "PLACEHOLDER",
    "Edits",
    "Field",
    "Placeholders",
    "comments",
    "fields",
    "iterate_fields",
    "line_of",
    "placeholders",
]

PLACEHOLDER = re.compile(r"\$\{\w+\}")
_TOKEN = re.compile(
    r"(?P<comment>#[^\r\n]*)|(?P<string>\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')"
    r"|(?P<word>(?:[\w.+-]|\$\{\w+\})+)|(?P<open>[{<\[])|(?P<close>[}>\]])|(?P<mark>[:;,])"
)
_REST_OF_LINE = re.compile(r"[ \t]*[;,]?[ \t]*(#[^\r\n]*)?(?=\r?\n|$)")


@dataclass(frozen=True)
class Field:
    """Where a field of a message is in the text.

    Attributes
    ----------
    name : str
    start, value, end : int
        Positions of the name, of the value, and behind the value.
    body : (int, int) or None
        What a message's braces hold.
    """

    name: str
    start: int
    value: int
    end: int
    body: Optional[Tuple[int, int]] = None


def fields(text, start=0, end=None):
    """The fields of a message whose text is ``text[start:end]``, as a list of `Field`."""
    return list(iterate_fields(text, start, end))


def iterate_fields(text, start=0, end=None):
    """As `fields`, one after the other; no more of the text is looked at than is asked for."""
    found = _TOKEN.finditer(text, start, len(text) if end is None else end)
    tokens = (token for token in found if token.lastgroup != "comment")
    token = next(tokens, None)
    while token is not None:
        name, token = token, next(tokens, None)
        if name.lastgroup != "word":
            continue
        if token is not None and token.group() == ":":
            token = next(tokens, None)
        if token is None:
            return
        value, last, body = token, token, None
        if value.lastgroup == "open":
            last = _closing(tokens)
            if last is None:
                return
            body = (value.end(), last.start()) if value.group() != "[" else None
        token = next(tokens, None)
        while value.lastgroup == "string" and token is not None and token.lastgroup == "string":
            last, token = token, next(tokens, None)  # strings side by side are one
        yield Field(name.group(), name.start(), value.start(), last.end(), body)


def _closing(tokens):
    """The token that closes the brace or bracket that has just been read; None if there is none."""
    depth = 1
    for token in tokens:
        depth += (token.lastgroup == "open") - (token.lastgroup == "close")
        if depth == 0:
            return token
    return None


def line_of(text, position):
    """The number of a position's line, from 1."""
    return text.count("\n", 0, position) + 1


def comments(text, start, end):
    """The comments in ``text[start:end]``."""
    return [token.group() for token in _TOKEN.finditer(text, start, end) if token.lastgroup == "comment"]


def placeholders(text):
    """The placeholders of a text, each once, sorted; those in comments do not count."""
    if "${" not in text:
        return []
    tokens = (token.group() for token in _TOKEN.finditer(text) if token.lastgroup != "comment")
    return sorted({name for token in tokens for name in PLACEHOLDER.findall(token)})


class Placeholders:
    """Bare placeholders, ``num_output: ${NUM_LABELS}``: numbers stand in for them while protobuf has the text.

    So they do for words with a placeholder in them, as ``${WEIGHT}e-8``. Those inside of strings need no help. The
    numbers are whole, and small enough for single precision.
    """

    def __init__(self):
        self._stand_ins = {}  # word with a placeholder: number

    def hide(self, text):
        if "${" not in text:
            return text

        def replace(match):
            word = match.group("word")
            if word is None or not PLACEHOLDER.search(word):
                return match.group()
            if word not in self._stand_ins:
                number = 9000001
                while str(number) in text or number in self._stand_ins.values():
                    number += 1
                self._stand_ins[word] = number
            return str(self._stand_ins[word])

        return _TOKEN.sub(replace, text)

    def show(self, text):
        for placeholder, number in self._stand_ins.items():
            text = re.sub(rf"\b{number}(\.0)?\b", lambda _, word=placeholder: word, text)
        return text

    def on_line(self, text, line):
        """The bare placeholders of a line of the original text."""
        lines = text.split("\n")
        words = _TOKEN.finditer(lines[line - 1]) if 0 < line <= len(lines) else ()
        return [name for match in words if match.group("word") for name in PLACEHOLDER.findall(match.group())]


class Edits:
    """Changes to a text, collected first and made at once, with the text's own line ends and indentation."""

    def __init__(self, text):
        self.text, self._changes = text, []
        self.line_end = "\r\n" if "\r\n" in text else "\n"

    def apply(self):
        text = self.text
        for start, end, new in sorted(self._changes, reverse=True):
            text = text[:start] + new + text[end:]
        return text

    def replace(self, start, end, new):
        self._changes.append((start, end, new))

    def replace_field(self, field, printed):
        """Another field, as protobuf prints it, in this one's place; its comments stay."""
        indent = self._indent(field)
        lines = [*comments(self.text, field.start, field.end), self._layout(printed, indent)]
        self.replace(field.start, field.end, f"{self.line_end}{indent or ''}".join(lines))

    def insert_after(self, field, printed):
        """One more field behind this one, on a line of its own if this one has its own."""
        indent = self._indent(field)
        rest = _REST_OF_LINE.match(self.text, field.end)
        if indent is None or not rest:
            self.replace(field.end, field.end, f" {self._layout(printed, None)}")
        else:
            self.replace(rest.end(), rest.end(), f"{self.line_end}{indent}{self._layout(printed, indent)}")

    def remove(self, field):
        indent, rest = self._indent(field), _REST_OF_LINE.match(self.text, field.end)
        if indent is None or not rest or rest.group(1) or comments(self.text, field.start, field.end):
            kept = [f"{word}{self.line_end}" for word in comments(self.text, field.start, field.end)]
            end = re.compile(r"[ \t]*[;,]?[ \t]*").match(self.text, field.end).end()
            self.replace(field.start, end, "".join(kept))
        else:
            start = field.start - len(indent)
            self.replace(start, rest.end() + len(re.compile(r"\r?\n|").match(self.text, rest.end()).group()), "")

    def _indent(self, field):
        """The white space before a field that begins its line; None for one that does not."""
        before = self.text[self.text.rfind("\n", 0, field.start) + 1 : field.start]
        return None if before.strip() else before

    def _layout(self, printed, indent):
        lines = printed.rstrip("\n").split("\n")
        if indent is None:
            return " ".join(line.strip() for line in lines)
        return f"{self.line_end}{indent}".join(lines)
