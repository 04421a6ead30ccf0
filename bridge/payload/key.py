"""The keys of objects within a reply or a send, found by the shapes of `content`."""

from collections.abc import Iterator
from types import UnionType
from typing import Any, get_args, get_origin

from msgspec import structs

from bridge.payload.content import WRITERS
from bridge.payload.shape import Shape


def unknown_within(key: str, value: Any) -> Iterator[str]:
    """Yield the paths of keys that the objects of a value do not have, such as `files.uri`."""
    if key in WRITERS:
        yield from _unknown(key, value, WRITERS[key].shape)


def _unknown(path: str, value: Any, shape: Any) -> Iterator[str]:
    if isinstance(value, list):
        inner = [get_args(one)[0] for one in _options(shape) if get_origin(one) is list]
        for one in value if inner else ():
            yield from _unknown(path, one, inner[0])
    elif isinstance(value, dict):
        fields = fields_of(shape)
        for name, one in value.items() if fields else ():
            if name not in fields:
                yield f"{path}.{name}"
            elif one is not None:
                yield from _unknown(f"{path}.{name}", one, fields[name])


def known_only(key: str, value: Any) -> Any:
    """Return a value without the keys that its objects do not have."""
    return _known(value, WRITERS[key].shape) if key in WRITERS else value


def _known(value: Any, shape: Any) -> Any:
    if isinstance(value, list):
        inner = [get_args(one)[0] for one in _options(shape) if get_origin(one) is list]
        return [_known(one, inner[0]) for one in value] if inner else value
    fields = fields_of(shape)
    if not isinstance(value, dict) or not fields:
        return value
    return {name: _known(one, fields[name]) for name, one in value.items() if name in fields}


def _options(shape: Any) -> tuple[Any, ...]:
    return get_args(shape) if get_origin(shape) is UnionType else (shape,)


def fields_of(shape: Any) -> dict[str, Any]:
    """Return the keys of the object that a value may be, and their shapes."""
    for one in _options(shape):
        if isinstance(one, type) and issubclass(one, Shape):
            return {field.encode_name: field.type for field in structs.fields(one)}
    return {}


def keys_beside(path: str) -> tuple[str, ...]:
    """Return the keys of the object that a path of `unknown_within` is in."""
    first, *names = path.split(".")[:-1] or [""]
    shape = WRITERS[first].shape if first in WRITERS else None
    for name in names:
        shape = fields_of(_item(shape)).get(name)
    return tuple(fields_of(_item(shape)))


def _item(shape: Any) -> Any:
    """Return the shape of the objects in lists (of lists), if there are any."""
    if fields_of(shape):
        return shape
    lists = [get_args(one)[0] for one in _options(shape) if get_origin(one) is list]
    return _item(lists[0]) if lists else shape
