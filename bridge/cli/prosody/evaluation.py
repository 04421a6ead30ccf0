"""Runs Prosody's configuration file, as Prosody does, but locked in.

The program gets tables, strings and numbers to work with, and nothing that reaches the system. What
Prosody would read from files and variables is not read: the value says where it comes from. Only
`Include` reads, and only files that are themselves configuration. Instructions and memory are
limited, and so are functions of strings that could take long within one instruction.
"""

from pathlib import Path
from typing import Any, Final

from bridge.cli.prosody.section import GLOBAL, UNREAD, Section, Value

_MEMORY_BYTES: Final = 64 * 1024 * 1024
_INSTRUCTIONS: Final = 10_000_000
_FILES_LIMIT: Final = 200
_DEPTH_LIMIT: Final = 16
_LOCK: Final = """
local include, unread, instructions = ...
local current, order, sections = "*", {}, {}
local load, debug, setmetatable, rawset = load, debug, setmetatable, rawset

local function open(name, module)
    name = tostring(name)
    if not sections[name] then
        sections[name] = { options = {} }
        order[#order + 1] = name
    end
    sections[name].module = module
    return sections[name]
end
open("*", "")

local function fill(name, options)
    current = "*"
    for key, value in pairs(options) do sections[name].options[key] = value end
end

local function elsewhere(what)
    return function(place) return unread .. what .. " " .. tostring(place) end
end

local texts = { format = string.format, lower = string.lower, upper = string.upper,
    sub = string.sub, len = string.len }
getmetatable("").__index = texts

local names = {
    pairs = pairs, ipairs = ipairs, tostring = tostring, tonumber = tonumber, type = type,
    next = next, string = texts,
    table = { insert = table.insert, concat = table.concat, remove = table.remove },
    Include = function(pattern)
        local outer = current
        include(tostring(pattern))
        current = outer
    end,
    RunScript = function() error("RunScript runs another program, which is not done here", 0) end,
    FileContents = elsewhere("the file"), FileLine = elsewhere("the file"),
    FileLines = elsewhere("the file"), Credential = elsewhere("the credential"),
}
names.include = names.Include

function names.VirtualHost(name)
    open(name, nil)
    current = name
    return function(options) fill(name, options) end
end
names.Host, names.host = names.VirtualHost, names.VirtualHost

function names.Component(name)
    open(name, "component")
    current = name
    return function(module)
        if type(module) ~= "string" then return fill(name, module) end
        sections[name].module = module
        return function(options) fill(name, options) end
    end
end
names.component = names.Component

local environment = setmetatable({}, {
    __index = function(_, key)
        if type(key) == "string" and texts.sub(key, 1, 4) == "ENV_" then
            return unread .. "the variable " .. texts.sub(key, 5)
        end
        return names[key]
    end,
    __newindex = function(_, key, value) sections[current].options[key] = value end,
    __metatable = false,
})

local function run(text, name)
    local chunk, why = load(text, "=" .. name, "t", environment)
    if not chunk then error(why, 0) end
    chunk()
end
local function limit()
    debug.sethook(function() error("it runs for too long", 0) end, "", instructions)
end
return run, limit, order, sections
"""


class LuaMissing(Exception):
    """The extra `import` is not installed."""


class NotProsody(Exception):
    """The file cannot be read or evaluated; the message says why."""


def evaluate(path: Path) -> list[Section]:
    """Run a configuration file and the files that it includes; the global section is first.

    Raises:
        LuaMissing: without the extra `import`.
        NotProsody: if a file cannot be read, is not valid, or takes too much time or memory.
    """
    try:
        from lupa import LuaError, LuaRuntime
    except ImportError:
        raise LuaMissing from None
    return _Evaluation(LuaRuntime, LuaError).run(path)


class _Evaluation:
    def __init__(self, make_runtime: Any, lua_error: Any) -> None:
        def refuse(_: object, __: object, ___: bool) -> str:
            raise AttributeError("not available here")

        self._lua_error = lua_error
        self._runtime = make_runtime(
            unpack_returned_tuples=True,
            register_eval=False,
            register_builtins=False,
            attribute_filter=refuse,
            max_memory=_MEMORY_BYTES,
        )
        self._count = 0
        self._open: list[Path] = []  # the file that runs is the last, those that include it before
        lock = self._runtime.compile(_LOCK)
        self._run, self._limit, self._order, self._sections = lock(
            self._include, UNREAD, _INSTRUCTIONS
        )

    def run(self, path: Path) -> list[Section]:
        try:
            self._limit()
            self._load(path)
            return [self._section(name) for name in self._order.values()]
        except MemoryError:  # also Lua's
            raise NotProsody("it takes too much memory") from None
        except self._lua_error as error:
            raise NotProsody(_first_line(str(error))) from None
        except RecursionError:
            raise NotProsody("its tables are nested too deeply") from None

    def _load(self, path: Path) -> None:
        self._count += 1
        if self._count > _FILES_LIMIT:
            raise NotProsody(f"it includes more than {_FILES_LIMIT} files")
        if len(self._open) > _DEPTH_LIMIT:
            raise NotProsody(f"files include each other, more than {_DEPTH_LIMIT} deep")
        try:
            text = path.read_bytes().decode()
        except OSError as error:
            raise NotProsody(f"{path} cannot be read ({error.strerror})") from None
        except UnicodeDecodeError:
            raise NotProsody(f"{path} is not UTF-8 text") from None
        self._open.append(path)
        self._run(text, path.name)
        self._open.pop()

    def _include(self, pattern: str) -> None:
        directory = self._open[-1].parent
        if not any(wild in pattern for wild in "*?"):
            self._load(directory / pattern)
            return
        place = directory / pattern
        for file in sorted(place.parent.glob(place.name)):
            if not file.name.startswith("."):
                self._load(file)

    def _section(self, name: str) -> Section:
        section = self._sections[name]
        options = {str(key): self._plain(value) for key, value in section.options.items()}
        return Section(str(name), section.module if name != GLOBAL else None, options)

    def _plain(self, value: Any, depth: int = 0) -> Value:
        if isinstance(value, bool | str | None):
            return value
        if isinstance(value, int | float):
            return float(value)
        if not hasattr(value, "items"):
            return None  # a function
        if depth == _DEPTH_LIMIT:
            raise RecursionError
        pairs = [(key, self._plain(one, depth + 1)) for key, one in value.items()]
        if all(isinstance(key, int) for key, _ in pairs):
            return [one for _, one in sorted(pairs, key=lambda pair: pair[0])]
        return {str(key): one for key, one in pairs}


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
