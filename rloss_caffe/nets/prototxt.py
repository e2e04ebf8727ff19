"""Read prototxts in either dialect: a file's text, and the message that it means, or an error with file and line."""

import difflib
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from google.protobuf import text_format

from rloss_caffe.data import files
from rloss_caffe.nets.schema import fork_messages
from rloss_caffe.nets.text import Placeholders, comments, iterate_fields, line_of, placeholders

__all__ = ["DialectError", "Prototxt", "check_filled_in", "is_net", "parse", "read_text", "to_stock", "to_text"]

_NET_FIELDS = {"layer", "layers", "input", "force_backward"}
_LONGEST = 1000  # characters of a message: protobuf quotes whole lines
_CONTROL = re.compile(r"[\0-\x08\x0b-\x1f\x7f]")
_LEAST_LIKENESS = 0.8  # of a name that a message proposes: interp_parm is meant, bn_param is not mvn_param


class DialectError(ValueError):
    """A prototxt that cannot be read or has no counterpart in stock Caffe; the text has file and line."""

    def __init__(self, text):
        text = files.printable(text)
        if len(text) > _LONGEST:
            text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
        super().__init__(text)


@dataclass
class Prototxt:
    """A net or a solver as it was read.

    Attributes
    ----------
    name : str
        The file's path, or what else messages call it.
    text : str
    message : NetParameter or SolverParameter
        In the fork's schema, with numbers in place of the placeholders.
    placeholders : Placeholders
    """

    name: str
    text: str
    message: Any
    placeholders: Placeholders = field(default_factory=Placeholders)

    def line(self, place):
        """How messages call a field of the text; the file alone if its place is not known."""
        return self.name if place is None else f"{self.name}:{line_of(self.text, place.start)}"


def read_text(path):
    """A file's text, line ends and all, as `rloss_caffe.data.files.read_text` gives it; or a DialectError."""
    try:
        return files.read_text(path)
    except OSError as error:
        raise DialectError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:  # a NUL in the path, or a mark that promises another encoding than comes
        raise DialectError(f"cannot read {path!r}: {error}") from None


def is_net(text):
    """Whether a prototxt is a net; else it is a solver."""
    return any(field.name in _NET_FIELDS for field in iterate_fields(text))


def check_filled_in(text, path):
    """Refuse a text that has placeholders, but for those in comments."""
    found = placeholders(text)
    if found:
        line = line_of(text, _position(text, lambda piece: found[0] in piece))
        raise DialectError(f"{path}:{line}: {', '.join(found)} must be filled in first")


def parse(text, kind, name):
    """The `Prototxt` of a text.

    Parameters
    ----------
    text : str
    kind : {"NetParameter", "SolverParameter"}
    name : str
        What messages call it.

    Raises
    ------
    DialectError
    """
    hidden_by = Placeholders()
    hidden = hidden_by.hide(text)
    try:
        message = _parse(hidden, kind)
    except text_format.ParseError as error:
        raise DialectError(_explain(str(error), text, name, hidden_by)) from None
    except UnicodeError:
        line = line_of(text, _position(text, _has_surrogate))
        raise DialectError(f"{name}:{line}: a text between quotes is not UTF-8") from None
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
        raise DialectError(f"{name}: cannot be read: {error}") from None
    return Prototxt(name, text, message, hidden_by)


def to_stock(message, kind):
    """A message of the extended schema as one of the installed Caffe's."""
    from caffe.proto import caffe_pb2

    return getattr(caffe_pb2, kind).FromString(message.SerializePartialToString())


def to_text(message):
    """A message as protobuf prints it, but with apostrophes and letters of all languages as they are."""
    text = text_format.MessageToString(message, as_utf8=True).replace("\\'", "'")
    return _CONTROL.sub(lambda match: f"\\{ord(match.group()):03o}", text)


def _parse(text, kind):
    try:
        return text_format.Parse(text, fork_messages()[kind]())
    except text_format.ParseError:
        try:  # our layers' own parameters are rare, and the layers take time to import
            return text_format.Parse(text, fork_messages(with_our_parameters=True)[kind]())
        except text_format.ParseError as error:
            second = error
    raise second


def _explain(problem, text, name, hidden_by):
    """The message for an error of protobuf's parser."""
    match = re.match(r"(\d+):(\d+) : (.*)", problem, re.DOTALL)
    if not match:
        return f"{name}: {problem}"
    line, column, problem = int(match.group(1)), match.group(2), match.group(3).strip().strip("'")
    if "codec can't encode" in problem:
        problem = "a text between quotes is not UTF-8"
    problem += _hint(problem)
    hidden = hidden_by.on_line(text, line)
    if hidden:
        problem += f"; {', '.join(hidden)} can stand for a number or inside a string only"
    return f"{name}:{line}:{column}: {problem}"


def _hint(problem):
    match = re.search(r'Message type "[\w.]*?(\w+)" has no field named "(\w+)"', problem)
    if not match:
        return ""
    close = _closest(match.group(2), _field_names().get(match.group(1), ()))
    return f" Did you mean {close!r}?" if close else " Neither the fork nor this Caffe has it."


def _closest(name, known):
    """The known name that a misspelt one stands for; the ending that all have in common does not make names alike."""
    ending = "_param" if name.endswith("_param") else ""
    stems = {other[: len(other) - len(ending)]: other for other in known if other.endswith(ending)}
    close = difflib.get_close_matches(name[: len(name) - len(ending)], stems, n=1, cutoff=_LEAST_LIKENESS)
    return stems[close[0]] if close else None


@lru_cache(maxsize=None)
def _field_names():
    """{message: names of its fields}, without what only our layers know."""
    messages = fork_messages()["SolverParameter"].DESCRIPTOR.file.message_types_by_name
    return {name: [field.name for field in message.fields] for name, message in messages.items()}


def _position(text, is_meant):
    """Where the first piece of the text is, outside of comments, that `is_meant` says yes to."""
    position = 0
    for line in text.splitlines(keepends=True):
        code = line
        for comment in comments(line, 0, len(line)):
            code = code.replace(comment, "")
        if is_meant(code):
            return position
        position += len(line)
    return 0


def _has_surrogate(text):
    return any("\ud800" <= letter <= "\udfff" for letter in text)
