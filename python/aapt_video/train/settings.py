"""Configuration: frozen dataclasses from TOML and back.

A stage's whole configuration is one frozen dataclass of dataclasses. A TOML file names what differs from the defaults;
an unknown name, a missing one and a value of the wrong kind are refused by name. A codec or a transformer is a named
configuration (`codec = "world"`), a named one with changes (`{ named = "world", channels = 32 }`), or written out.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from dataclasses import MISSING
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from aapt_video.codec import CodecConfig
from aapt_video.codec import named_config as named_codec
from aapt_video.model import TransformerConfig
from aapt_video.model import named_config as named_transformer

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

_NAMED: dict[type, Any] = {CodecConfig: named_codec, TransformerConfig: named_transformer}


def load_settings(kind: type[T], path: str | Path) -> T:
    """The settings in a TOML file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no TOML, or a name or a value in it does not fit `kind`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"config={str(path)!r} does not exist; configs/ holds examples")
    try:
        values = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"config={str(path)!r} is not TOML: {error}") from error
    return from_values(kind, values)


def from_values(kind: type[T], values: dict[str, Any], where: str = "") -> T:
    """`kind(**values)` with nested dataclasses; raises ValueError that names the setting."""
    if not isinstance(values, dict):
        raise ValueError(f"{where or kind.__name__} is {values!r}; it must be a table")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - set(fields)):
        raise ValueError(f"unknown settings {_names(where, unknown)}; known are {', '.join(sorted(fields))}")
    needed = [n for n, f in fields.items() if f.default is MISSING and f.default_factory is MISSING]
    if missing := sorted(set(needed) - set(values)):
        raise ValueError(f"settings {_names(where, missing)} are missing; {kind.__name__} has no default for them")
    hints = get_type_hints(kind)
    return kind(**{name: _value(hints[name], value, f"{where}{name}") for name, value in values.items()})


def to_values(settings: Any) -> dict[str, Any]:
    """Plain values for JSON: the inverse of `from_values`, defaults included."""
    return dict(json.loads(json.dumps(dataclasses.asdict(settings))))


def to_toml(settings: Any) -> str:
    """All settings as TOML; `load_settings` reads it back. What is None is left out."""
    lines: list[str] = []
    _write_table(lines, "", to_values(settings))
    return "\n".join(lines).strip() + "\n"


def _write_table(lines: list[str], name: str, values: dict[str, Any]) -> None:
    if name:
        lines += ["", f"[{name}]"]
    lines += [f"{k} = {json.dumps(v)}" for k, v in values.items() if v is not None and not isinstance(v, dict)]
    for key, value in values.items():
        if isinstance(value, dict):
            _write_table(lines, f"{name}.{key}" if name else key, value)


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        kinds = [kind for kind in arguments if kind is not type(None)]
        return None if value is None else _value(kinds[0], value, where)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{where} is {value!r}; it must be one of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} is {value!r}; it must be a list")
        items = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(items) != len(value):
            raise ValueError(f"{where} is {value!r}; it must hold {len(items)} values")
        return tuple(_value(kind, item, where) for kind, item in zip(items, value, strict=True))
    if hint in _NAMED:
        return _network(hint, value, where)
    if dataclasses.is_dataclass(hint):
        return from_values(hint, value, f"{where}.")  # type: ignore[arg-type]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ValueError(f"{where} is {value!r}; it must be {hint.__name__}")
    return value


def _network(kind: Any, value: Any, where: str) -> Any:
    try:
        if isinstance(value, str):
            return _NAMED[kind](value)
        if "named" in value:
            changes = {name: item for name, item in value.items() if name != "named"}
            return kind.from_dict({**_NAMED[kind](value["named"]).to_dict(), **changes})
        return kind.from_dict(value)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{where}: {error}") from error


def _names(where: str, names: list[str]) -> str:
    return ", ".join(f"{where}{name}" for name in names)
