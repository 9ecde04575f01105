"""providers.json: the provider processes that were installed, an object of id -> entry, in order of preference.

An entry may have every key of a provider of type `process`, under the same rules. `name` and `type` go without saying,
what says where it was installed from is for `infermux provider`, and keys that nobody knows are left alone.
"""

from __future__ import annotations

from infermux.errors import ConfigError, Problem

from . import document, json_document
from .provider_section import PROVIDER, Draft
from .reading import Reading, near, quoted
from .source_text import text_of

SOURCE_KEYS = ("package", "git", "subdirectory", "path", "version", "commit")
_GIVEN = ("name", "type")


def read_installed(file: str, reading: Reading, *, first: int) -> tuple[Draft, ...]:
    """The providers of `file`, for the places of `providers` from `first` on. What is wrong is in `reading`."""
    try:
        root = root_of(text_of(file), file)
    except ConfigError as error:
        reading.problems += error.problems
        reading.spoil(("providers",))
        return ()
    for fault in root.faults:
        reading.problems.append(Problem(file, fault.line, fault.key or "(file)", fault.message))
    return providers_of(root, file, reading, first=first)


def providers_of(root: document.Mapping, file: str, reading: Reading, *, first: int) -> tuple[Draft, ...]:
    """As `read_installed`, of what was read from it."""
    return tuple(_entry(entry, first + index, file, reading) for index, entry in enumerate(root.entries))


def root_of(text: str, file: str) -> document.Mapping:
    """The entries of a text; none in an empty one. Raises ConfigError."""
    node = json_document.parse(text, source=file) if text.strip() else document.Mapping((), 1)
    if not isinstance(node, document.Mapping):
        message = f"must be an object of provider ids, not {document.kind_of(node)}"
        raise ConfigError([Problem(file, node.line, "(file)", message)])
    return node


def _entry(entry: document.Entry, index: int, file: str, reading: Reading) -> Draft:
    path = ("providers", index)
    reading.elsewhere(path, file, entry.key)
    reading.at(path, entry.line)
    given = [
        document.Entry("name", entry.line, document.Scalar(entry.key, "str", entry.line)),
        document.Entry("type", entry.line, document.Scalar("process", "str", entry.line)),
    ]
    value = entry.value
    faults: tuple[document.Fault, ...] = ()
    if isinstance(value, document.Mapping):
        given += [each for each in value.entries if _is_read(each, index, reading)]
        faults = value.faults
    else:
        reading.problem(path, f"must be an object with a command, not {document.kind_of(value)}", value.line)
    draft = PROVIDER.read(document.Mapping(tuple(given), entry.line, faults), path, reading)
    assert isinstance(draft, Draft)
    return draft


def _is_read(entry: document.Entry, index: int, reading: Reading) -> bool:
    """Whether a key is one of a provider. One that looks like a slip is warned of."""
    if entry.key in PROVIDER.by_name and entry.key not in _GIVEN:
        return True
    path = ("providers", index, entry.key)
    reading.at(path, entry.line)
    if entry.key in _GIVEN:
        reading.warn(path, f"has no effect here: the {quoted('name')} is the entry's key, the {quoted('type')} process")
    elif entry.key not in SOURCE_KEYS and (meant := near(entry.key, PROVIDER.by_name)):
        reading.warn(path, f"unknown key{meant}")
    return False
