"""Fields of forms, as the configuration, the HTTP API and the replies of services describe them.

The same functions read all three, so a fault is described in the same words everywhere.

A regular expression is matched by RE2, in time that is linear in the length of the text: Python's
own `re` needs exponential time for some patterns, and the text comes from strangers.
"""

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import lru_cache, partial
from typing import Any, Final, Literal, Protocol

from attrs import frozen

from bridge.config.value import BadValue, check_text
from xmppstream import InvalidJid, split
from xmppstream.jid import fold

FIELD_TYPES: Final = (
    *("boolean", "fixed", "hidden", "jid-multi", "jid-single", "list-multi", "list-single"),
    *("text-multi", "text-private", "text-single"),
)
"""The types of a form's fields (XEP-0004 §3.3)."""
FIELDS_LIMIT: Final = 100
OPTIONS_LIMIT: Final = 200
TEXT_LIMIT: Final = 4_000
NAME_LIMIT: Final = 100
WORD: Final = re.compile(r"[^\s\x00-\x1f\x7f]+")
_PATTERN_LIMIT: Final = 1_000
_MOST: Final = 10**18

Fault = Callable[[str, BadValue], None]
"""Told a key, such as `fields[0].type`, and what is wrong with its value."""
RuleKind = Literal["integer", "date", "regex"]


class Pattern(Protocol):
    """A compiled regular expression."""

    def fullmatch(self, text: str) -> object | None: ...


@frozen
class Rule:
    """What a text must be: a whole number from `least` to `most`, a date, or what `regex` says."""

    kind: RuleKind
    least: int | None = None
    most: int | None = None
    regex: str = ""

    def to_json(self) -> str | dict[str, Any]:
        if self.kind == "regex":
            return {"regex": self.regex}
        if self.least is None and self.most is None:
            return self.kind
        bounds = {"min": self.least, "max": self.most}
        return {"type": self.kind, **{key: one for key, one in bounds.items() if one is not None}}


@frozen
class Choice:
    """An option of a list."""

    value: str
    label: str = ""


@frozen
class CommandField:
    """A field of a form. `values` is what stands in it at first."""

    var: str
    type: str = "text-single"
    label: str = ""
    desc: str = ""
    required: bool = False
    options: tuple[Choice, ...] = ()
    values: tuple[str, ...] = ()
    rule: Rule | None = None

    @property
    def is_multi(self) -> bool:
        """Whether it may have several values."""
        return self.type.endswith("-multi")

    @property
    def is_asked(self) -> bool:
        """Whether a person fills it in."""
        return self.type not in ("fixed", "hidden")

    @property
    def shown(self) -> str:
        return self.label or self.var

    def to_json(self) -> dict[str, Any]:
        """Return what `read_fields` makes this field of."""
        options = [{"value": one.value, "label": one.label} for one in self.options]
        keys: dict[str, Any] = {
            "var": self.var,
            "type": self.type,
            "label": self.label,
            "desc": self.desc,
            "required": self.required,
            "options": options,
            "value": list(self.values) if self.is_multi else "".join(self.values),
            "validate": self.rule and self.rule.to_json(),
        }
        return {key: value for key, value in keys.items() if value}


def read_fields(value: object, fault: Fault) -> tuple[CommandField, ...]:
    """Return the fields of a form. Keys begin with `[0]`."""
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        fault("", BadValue("must be a list of fields", 'Write [{var = "id", label = "Number"}]'))
        return ()
    if len(value) > FIELDS_LIMIT:
        problem = f"there are {len(value)} fields, more than {FIELDS_LIMIT}"
        fault("", BadValue(problem, "Ask for less at a time"))
        return ()
    found: dict[str, CommandField] = {}
    for index, one in enumerate(value):

        def under(key: str, error: BadValue, index: int = index) -> None:
            fault(f"[{index}].{key}" if key else f"[{index}]", error)

        field = _read_field(one, under)
        if field is None:
            continue
        if field.var in found:
            problem = f"there are two fields {field.var[:60]!r}"
            under("var", BadValue(problem, "Use a name once"))
        found[field.var or f"\n{index}"] = field
    return tuple(found.values())


@lru_cache(maxsize=1024)
def compiled(regex: str) -> Pattern:
    """Return a compiled regular expression.

    Raises:
        BadValue: if it is not valid, or RE2 is not installed.
    """
    try:
        import re2
    except ImportError:
        remedy = 'Install it: pip install "xmpp-bridge[regex]"'
        raise BadValue("validate.regex needs the library google-re2", remedy) from None
    if len(regex) > _PATTERN_LIMIT:
        raise BadValue(f"the pattern is longer than {_PATTERN_LIMIT} characters", "Shorten it")
    options = re2.Options()
    options.log_errors = False
    try:
        pattern: Pattern = re2.compile(regex, options=options)
    except (re2.error, ValueError) as error:
        why = error.args[0] if error.args else error
        why = why.decode("utf-8", "replace") if isinstance(why, bytes) else str(why)
        remedy = "Use the syntax of RE2, without look-ahead and back-references"
        raise BadValue(f"not a valid pattern: {why[:200]}", remedy) from None
    return pattern


def _read_field(value: Mapping[str, Any], fault: Fault) -> CommandField | None:
    keys = ("var", "label", "type", "required", "options", "value", "validate", "desc")
    reading = Reading(value, keys, fault)
    options = _options(reading)
    type = reading.text("type") or ("list-single" if options else "text-single")
    if type not in FIELD_TYPES:
        close = get_close_matches(type, FIELD_TYPES, 1)
        known = ", ".join(FIELD_TYPES)
        remedy = f'Perhaps you meant "{close[0]}"' if close else f"Use one of {known}"
        reading.fault("type", f"{type[:60]!r} is not a type of a field", remedy)
    var = reading.text("var", required=type != "fixed")
    if var and ("=" in var or WORD.fullmatch(var) is None or len(var) > NAME_LIMIT):
        problem = f"{var[:60]!r} is not one word of at most {NAME_LIMIT} visible characters"
        reading.fault("var", problem, 'Use a name such as "id"')
    is_list = type in ("list-single", "list-multi")
    if options and not is_list:
        reading.fault("options", f"a field of type {type} has none", "Use the type list-single")
    elif is_list and not options and not reading.is_faulty:
        reading.fault("options", "a list needs some", 'Write options = ["small", "large"]')
    rule = _rule(reading)
    if rule is not None and type not in ("text-single", "text-private", "text-multi"):
        reading.fault("validate", f"a field of type {type} has its own rule", "Remove it")
    values = _values(reading, type)
    known_values = {one.value for one in options}
    if is_list and not reading.is_faulty and not known_values.issuperset(values):
        reading.fault("value", "is not one of the options", "Use the value of an option")
    required, label, desc = reading.flag("required"), reading.text("label"), reading.text("desc")
    if reading.is_faulty:
        return None
    return CommandField(var, type, label, desc, required, options, values, rule)


def _options(reading: "Reading") -> tuple[Choice, ...]:
    given = reading.get("options", [])
    if not isinstance(given, list) or len(given) > OPTIONS_LIMIT:
        problem = f"must be a list of at most {OPTIONS_LIMIT} options"
        reading.fault("options", problem, 'Write ["small", "large"], or [{value, label}, …]')
        return ()
    found: dict[str, Choice] = {}
    for index, one in enumerate(given):
        if isinstance(one, str):
            one = {"value": one}
        inner = Reading(one, ("value", "label"), reading.under(f"options[{index}]"))
        value = inner.text("value", required=True)
        if value in found:
            inner.fault("value", f"{value[:60]!r} is there twice", "Use a value once")
        found[value] = Choice(value, inner.text("label"))
        reading.is_faulty = reading.is_faulty or inner.is_faulty
    return tuple(found.values())


def _values(reading: "Reading", type: str) -> tuple[str, ...]:
    given = reading.get("value", None)
    if given is None or given == "":
        return ()
    is_many = isinstance(given, list)
    many = given if is_many else [given]
    if is_many and not type.endswith("-multi"):
        reading.fault("value", f"a field of type {type} has one value", "Write a single value")
        return ()
    texts = []
    for one in many:
        if isinstance(one, bool):
            texts.append(str(one).lower())
        elif isinstance(one, str | int):
            texts.append(str(one))
        else:
            reading.fault("value", "must be a text, a whole number, true or false", "Correct it")
            return ()
    has_lines = type == "text-multi"
    for text in texts:
        reading.check("value", partial(_check_text, text, lines=has_lines))
    if type == "boolean" and texts[0] not in ("true", "false", "1", "0"):
        reading.fault("value", "must be true or false", "Write it without quotes")
    if type == "boolean":
        texts = ["true" if texts[0] in ("true", "1") else "false"]
    return tuple(texts)


def _rule(reading: "Reading") -> Rule | None:
    given = reading.get("validate", None)
    if given is None or given == "":
        return None
    if isinstance(given, str):
        given = {"type": given}
    inner = Reading(given, ("type", "min", "max", "regex"), reading.under("validate"))
    regex, least, most = inner.text("regex"), inner.number("min"), inner.number("max")
    has_bounds = least is not None or most is not None
    kind = inner.text("type") or ("regex" if regex else "integer" if has_bounds else "")
    rule = None
    if kind == "integer" and not regex:
        rule = Rule("integer", least, most)
        if least is not None and most is not None and least > most:
            inner.fault("min", "is above max", "Swap them")
    elif kind == "date" and not regex and not has_bounds:
        rule = Rule("date")
    elif kind == "regex" and regex and not has_bounds:
        inner.check("regex", lambda: compiled(regex))
        rule = Rule("regex", regex=regex)
    elif not inner.is_faulty:
        remedy = 'Use "integer", "date", {min, max} or {regex}'
        inner.fault("", "is not a rule", remedy)
    reading.is_faulty = reading.is_faulty or inner.is_faulty
    return None if inner.is_faulty else rule


def folded(address: str) -> str:
    head, slash, resource = fold(address).partition("/")
    return f"{head.lower()}{slash}{resource}"


def _check_text(text: str, *, lines: bool = False) -> None:
    if len(text) > TEXT_LIMIT:
        raise BadValue(f"the text is longer than {TEXT_LIMIT} characters", "Shorten it")
    check_text(text.replace("\n", " ") if lines else text)


class Reading:
    """An object whose keys are read one after the other; `is_faulty` after the first fault."""

    def __init__(self, value: object, known: tuple[str, ...], fault: Fault) -> None:
        self.is_faulty = False
        self._fault = fault
        self._value: Mapping[str, Any] = value if isinstance(value, dict) else {}
        if not isinstance(value, dict):
            self.fault("", "must be an object", f"Write it with the keys {', '.join(known)}")
        for key in self._value:
            if key not in known:
                close = get_close_matches(str(key), known, 1)
                remedy = (
                    f"Perhaps you meant {close[0]}" if close else f"Known keys: {', '.join(known)}"
                )
                self.fault(str(key)[:60], "this key is unknown", remedy)

    def fault(self, key: str, problem: str, remedy: str) -> None:
        self.is_faulty = True
        self._fault(key, BadValue(problem, remedy))

    def under(self, outer: str) -> Fault:
        """Return who is told of faults within a key."""

        def fault(key: str, error: BadValue) -> None:
            self.is_faulty = True
            dot = "." if key and not key.startswith("[") else ""
            self._fault(f"{outer}{dot}{key}", error)

        return fault

    def check(self, key: str, check: Callable[[], object]) -> None:
        try:
            check()
        except BadValue as error:
            self.is_faulty = True
            self._fault(key, error)

    def get(self, key: str, default: Any) -> Any:
        value = self._value.get(key)
        return default if value is None else value

    def text(self, key: str, *, required: bool = False) -> str:
        value: object = self.get(key, "")
        if not isinstance(value, str):
            self.fault(key, "must be a string", "Put it in quotes")
            return ""
        if required and not value:
            self.fault(key, "is missing", f"Set {key}")
        lines = key in ("instructions", "desc")
        self.check(key, lambda: _check_text(value, lines=lines))
        return value

    def flag(self, key: str) -> bool:
        value = self.get(key, False)
        if not isinstance(value, bool):
            self.fault(key, "must be true or false", "Write it without quotes")
            return False
        return value

    def number(self, key: str) -> int | None:
        value = self.get(key, None)
        if value is not None and (type(value) is not int or abs(value) > _MOST):
            self.fault(key, "must be a whole number of at most 18 digits", "Write it in digits")
            return None
        return None if value is None else int(value)

    def addresses(self, key: str) -> tuple[str, ...]:
        value = self.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            self.fault(key, "must be a list of strings", 'Write ["anna@example.com"]')
            return ()
        for one in value:
            try:
                split(one)
            except InvalidJid as error:
                remedy = "Use JIDs (user@example.com) or domains (example.com)"
                self.fault(key, f"{one[:60]!r} is not a valid address: {error}", remedy)
        return tuple(map(folded, value))
