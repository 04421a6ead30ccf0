"""Strict structuring of a parsed TOML file into a `ConfigFile`, by cattrs, without conversions.

Every fault is collected with its full key: unknown keys (the nearest known key is suggested), wrong
types, numbers out of range. `validation` checks files, and dependencies between keys.
"""

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any, Final, Literal, TypeVar

import cattrs
from attrs import fields
from cattrs.errors import ForbiddenExtraKeysError, IterableValidationNote

from bridge.config.command import RawTable, RawTables
from bridge.config.event import EVENTS, PostEvents
from bridge.config.profile import ProfileTable
from bridge.config.settings import (
    Age,
    Budget,
    ComponentTable,
    ConfigFault,
    ConfigFile,
    Count,
    Depth,
    Rate,
    Ratio,
    RoomTable,
    Seconds,
    TokenTable,
)
from bridge.config.value import BadValue

_REPLACED: Final = {
    "component_post_messages": (
        "this key was replaced by component_post_events",
        "Remove it (messages without a body are not POSTed by default), or set"
        ' component_post_events = "all" to POST everything',
    )
}
_MAX_AGE_S: Final = 10 * 365 * 86_400
T = TypeVar("T")
_MAX_DEPTH: Final = 200  # attrs' == and repr of a tree raise RecursionError above 300 levels


def structure(table: Mapping[str, Any], faults: list[ConfigFault]) -> ConfigFile:
    """Return a `ConfigFile` of the valid parts of a table; add everything else to `faults`."""
    try:
        return _converter().structure(table, ConfigFile)
    except cattrs.ClassValidationError as error:
        # Continue with the valid parts, so that all faults are reported at once.
        faults += _faults_of(error, "")
        return _structure_what_is_good(table, faults)


def structure_profile(value: Mapping[str, Any], faults: list[ConfigFault]) -> ProfileTable | None:
    """Return the profile that the HTTP API is given; None with `faults`."""
    try:
        return _converter().structure(value, ProfileTable)
    except cattrs.ClassValidationError as error:
        faults += _faults_of(error, "", ProfileTable)
        return None


@cache
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    converter.register_structure_hook(str, _string)
    converter.register_structure_hook(bool, _boolean)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(Seconds, _seconds)
    converter.register_structure_hook(Count, _count)
    converter.register_structure_hook(Depth, _depth)
    converter.register_structure_hook(Budget, _budget)
    converter.register_structure_hook(Age, _age)
    converter.register_structure_hook(Rate, _rate)
    converter.register_structure_hook(Ratio, _ratio)
    converter.register_structure_hook(PostEvents, _events)
    converter.register_structure_hook(RawTable, _raw_table)
    converter.register_structure_hook(RawTables, _raw_tables)
    converter.register_structure_hook_func(_is_choice, _choice)
    converter.register_structure_hook_func(lambda kind: kind == list[str], _strings)
    converter.register_structure_hook_func(
        lambda kind: kind == list[TokenTable], _tables(converter, TokenTable, "listen.token")
    )
    converter.register_structure_hook_func(
        lambda kind: kind == list[RoomTable],
        _tables(converter, RoomTable, 'component."DOMAIN".room'),
    )
    converter.register_structure_hook(
        RoomTable,
        cattrs.gen.make_dict_structure_fn(
            RoomTable,
            converter,
            _cattrs_forbid_extra_keys=True,
            as_=cattrs.gen.override(rename="as"),
        ),
    )
    converter.register_structure_hook_func(_is_optional, _optional(converter))
    converter.register_structure_hook(ComponentTable, _component_table(converter))
    return converter


def _string(value: Any, _: Any) -> str:
    if type(value) is not str:
        raise BadValue(f"must be a string, not {_noun(value)}", "Put it in quotes")
    if "\0" in value:  # no path, name or address can hold it; system calls raise
        raise BadValue("contains a NUL character", "Remove it")
    return value


def _boolean(value: Any, _: Any) -> bool:
    if type(value) is not bool:
        raise BadValue(
            f"must be true or false, not {_noun(value)}", "Write true or false without quotes"
        )
    return value


def _number(value: Any, _: Any) -> float:
    if type(value) not in (int, float):
        raise BadValue(
            f"must be a number, not {_noun(value)}", "Write it in digits, without quotes"
        )
    if value != value:
        raise BadValue("must be a number, not nan", "Write it in digits")
    return float(value)


def _seconds(value: Any, kind: Any) -> float:
    number = _number(value, kind)
    if not 0 < number <= 86_400:
        raise BadValue(
            f"must be above 0 and at most 86400 seconds, not {value}", "Use a time in that range"
        )
    return number


def _budget(value: Any, kind: Any) -> float:
    number = _number(value, kind)
    if not 0 <= number <= 86_400:
        raise BadValue(
            f"must be from 0 to 86400 seconds, not {value}",
            "Use 0 for a single attempt, or a time in that range",
        )
    return number


def _age(value: Any, kind: Any) -> float:
    number = _number(value, kind)
    if not 0 < number <= _MAX_AGE_S:
        raise BadValue(
            f"must be above 0 and at most {_MAX_AGE_S} seconds, not {value}",
            "Use a time in that range",
        )
    return number


def _rate(value: Any, kind: Any) -> float:
    number = _number(value, kind)
    if number != 0 and not 0.001 <= number <= 1_000_000:
        raise BadValue(
            f"must be 0, or from 0.001 to 1000000, not {value}",
            "Use 0 for no rate limit, or a rate in that range",
        )
    return number


def _ratio(value: Any, kind: Any) -> float:
    number = _number(value, kind)
    if not 0 <= number <= 1:
        raise BadValue(
            f"must be from 0 to 1, not {value}",
            "Use 0 for none, 1 for all, or a fraction such as 0.1",
        )
    return number


def _count(value: Any, _: Any) -> int:
    if type(value) is not int:
        raise BadValue(f"must be a whole number, not {_noun(value)}", "Write it in digits only")
    if not 0 < value <= 2**31:
        raise BadValue(
            f"must be above 0 and at most {2**31}, not {value}", "Use a number in that range"
        )
    return value


def _depth(value: Any, kind: Any) -> int:
    number = _count(value, kind)
    if number > _MAX_DEPTH:
        raise BadValue(f"must be at most {_MAX_DEPTH} levels, not {value}", "Use a lower limit")
    return number


def _is_choice(kind: Any) -> bool:
    return getattr(kind, "__origin__", None) is Literal


def _choice(value: Any, kind: Any) -> Any:
    if value not in kind.__args__ or not isinstance(value, str):
        choices = ", ".join(f'"{one}"' for one in kind.__args__)
        raise BadValue(f"{value!r} is not a valid value", f"Use one of {choices}")
    return value


def _strings(value: Any, _: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        given = "a list of other values" if isinstance(value, list) else _noun(value)
        raise BadValue(
            f"must be a list of strings, not {given}",
            'Write quoted strings in brackets, such as ["one", "two"]',
        )
    return value


def _tables(
    converter: cattrs.Converter, model: type[T], heading: str
) -> Callable[[Any, Any], list[T]]:
    def structure(value: Any, kind: Any) -> list[T]:
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise BadValue("must be an array of tables", f"Begin each with [[{heading}]]")
        tables, errors = [], []
        for index, one in enumerate(value):
            try:
                tables.append(converter.structure(one, model))
            except cattrs.BaseValidationError as error:
                error.add_note(IterableValidationNote("", index, model))
                errors.append(error)
        if errors:
            raise cattrs.IterableValidationError("tables", errors, kind)
        return tables

    return structure


def _raw_table(value: Any, _: Any) -> RawTable:
    if not isinstance(value, dict):
        raise BadValue(f"must be a table, not {_noun(value)}", "Begin it with a line in brackets")
    return RawTable(value)


def _raw_tables(value: Any, _: Any) -> RawTables:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise BadValue(
            "must be an array of tables", 'Begin each with [[component."DOMAIN".command]]'
        )
    return RawTables(value)


def _is_optional(kind: Any) -> bool:
    return type(None) in getattr(kind, "__args__", ())


def _events(value: Any, kind: Any) -> tuple[str, ...]:
    if value == "all":
        return EVENTS
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        given = "a list of other values" if isinstance(value, list) else _noun(value)
        if isinstance(value, str):
            given = repr(value)
        raise BadValue(
            f'must be "all" or a list of strings, not {given}',
            'Write events in brackets, such as ["message", "edit"]',
        )
    return tuple(value)


def _optional(converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    def structure(value: Any, kind: Any) -> Any:
        (inner,) = (one for one in kind.__args__ if one is not type(None))
        return converter.structure(value, inner)

    return structure


def _component_table(converter: cattrs.Converter) -> Callable[[Any, Any], ComponentTable]:
    structure = cattrs.gen.make_dict_structure_fn(
        ComponentTable, converter, _cattrs_forbid_extra_keys=True
    )

    def checked(value: Any, kind: Any) -> ComponentTable:
        known = {attribute.name for attribute in fields(ComponentTable)}
        if isinstance(value, dict) and any(
            isinstance(inner, dict) and name not in known for name, inner in value.items()
        ):
            raise BadValue(
                "contains an unexpected table; a domain without quotes is split at its dots",
                'Put the domain in quotes: [component."bot.example.com"]',
            )
        return structure(value, kind)

    return checked


def _noun(value: Any) -> str:
    nouns = {str: "a string", bool: "a boolean", int: "a number", float: "a decimal number"}
    nouns |= {list: "a list", dict: "a table"}
    return nouns.get(type(value), "a date or time")


def _faults_of(error: BaseException, key: str, model: type = ConfigFile) -> Iterator[ConfigFault]:
    """Yield a fault with its full key for each leaf of cattrs' tree of errors."""
    if isinstance(error, cattrs.BaseValidationError):
        for inner in error.exceptions:
            yield from _faults_of(inner, _key_of(inner, key), getattr(error, "cl", model))
    elif isinstance(error, ForbiddenExtraKeysError):
        known = [attribute.name.rstrip("_") for attribute in fields(error.cl or model)]
        for name in sorted(error.extra_fields):
            if name in _REPLACED:
                yield ConfigFault(f"{key}.{name}".lstrip("."), *_REPLACED[name])
                continue
            close = get_close_matches(name, known, 1)
            remedy = f"Perhaps you meant {close[0]}" if close else f"Known keys: {', '.join(known)}"
            yield ConfigFault(f"{key}.{name}".lstrip("."), "this key is unknown", remedy)
    elif isinstance(error, BadValue):
        yield ConfigFault(key, error.problem, error.remedy)
    else:
        yield ConfigFault(key, "must be a table", f"Write it as [{key}]")


def _key_of(error: BaseException, key: str) -> str:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, IterableValidationNote):
            index = note.index
            return f"{key}[{index}]" if isinstance(index, int) else _under(key, str(index))
        name = getattr(note, "name", None)
        if name is not None:
            return _under(key, name.rstrip("_"))
    return key


def _under(key: str, name: str) -> str:
    is_name = key == "component" or key.endswith(".profile")
    return f'{key}."{name}"' if is_name else f"{key}.{name}".lstrip(".")


def _structure_what_is_good(table: Mapping[str, Any], faults: list[ConfigFault]) -> ConfigFile:
    """Structure again without the faulty keys, so that the second step can find its faults too."""
    bad = {fault.key for fault in faults}

    def prune(value: Any, key: str) -> Any:
        if isinstance(value, list):
            return [prune(one, f"{key}[{index}]") for index, one in enumerate(value)]
        if not isinstance(value, Mapping):
            return value
        names = ((name, _under(key, name)) for name in value)
        return {name: prune(value[name], full) for name, full in names if full not in bad}

    return _converter().structure(prune(table, ""), ConfigFile)
