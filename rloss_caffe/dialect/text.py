"""Prototxt text around protobuf's own parser: placeholders, line numbers, what kind of file it is."""

import re

__all__ = ["PLACEHOLDER", "Placeholders", "layer_lines", "top_level_names"]

PLACEHOLDER = re.compile(r"\$\{\w+\}")
# What can hide braces and placeholders from a reader: comments and strings. Everything else is single characters.
_TOKEN = re.compile(
    r"(?P<skip>#[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')|(?P<placeholder>\$\{\w+\})|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<open>[{<])|(?P<close>[}>])|(?P<number>[-+.\d][\w.+-]*)"
)


class Placeholders:
    """Bare placeholders, ``num_output: ${NUM_LABELS}``: numbers stand in for them while protobuf has the text.

    Those inside of strings need no help. The numbers are whole, and small enough for single precision.
    """

    def __init__(self):
        self._stand_ins = {}  # placeholder: number

    def hide(self, text):
        def replace(match):
            placeholder = match.group("placeholder")
            if placeholder is None:
                return match.group()
            if placeholder not in self._stand_ins:
                number = 9000001
                while str(number) in text or number in self._stand_ins.values():
                    number += 1
                self._stand_ins[placeholder] = number
            return str(self._stand_ins[placeholder])

        return _TOKEN.sub(replace, text)

    def show(self, text):
        for placeholder, number in self._stand_ins.items():
            text = re.sub(rf"\b{number}(\.0)?\b", lambda _, word=placeholder: word, text)
        return text

    def on_line(self, text, line):
        """The bare placeholders of a line of the original text."""
        lines = text.splitlines()
        words = _TOKEN.finditer(lines[line - 1]) if 0 < line <= len(lines) else ()
        return [match.group() for match in words if match.group("placeholder")]


def _top_level(text):
    """(name, line) of every field at the outermost level."""
    depth = 0
    for match in _TOKEN.finditer(text):
        if match.group("open"):
            depth += 1
        elif match.group("close"):
            depth -= 1
        elif match.group("name") and depth == 0:
            yield match.group(), text.count("\n", 0, match.start()) + 1


def top_level_names(text):
    """The names at the outermost level."""
    return {name for name, _ in _top_level(text)}


def layer_lines(text):
    """The lines on which the net's layers begin."""
    return [line for name, line in _top_level(text) if name == "layer"]
