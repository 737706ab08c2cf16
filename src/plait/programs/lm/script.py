"""Programs in files: which function of a file is one, and how words of a command line become its arguments."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from plait.core.errors import NotFoundError, UserError

NAME = "main"
HINT = f"async def {NAME}(p, ...): the prompt, then what the command line gives"


class ProgramError(UserError):
    """What a program's file raised. cause: where it came from."""

    exit_code = 1


class Script(NamedTuple):
    """A program, and where it was read from."""

    path: Path
    program: Callable[..., Any]

    @property
    def usage(self) -> str:
        """Its arguments, for people."""
        return " ".join(map(_shown, _parameters(self.program)))

    @property
    def summary(self) -> str:
        """The first line of what the file, or its program, says of itself."""
        told = self.program.__doc__ or sys.modules[self.program.__module__].__doc__ or ""
        return told.strip().partition("\n")[0]

    def arguments(self, words: Sequence[str]) -> dict[str, Any]:
        """Words to arguments: in order, or as name=value, of the types that the function's signature names. Raises
        UserError for too many, too few, or one of another type."""
        parameters = {one.name: one for one in _parameters(self.program)}
        kinds, given = _kinds(self.program), dict[str, Any]()
        rest = iter(list(parameters))
        for word in words:
            name, equals, value = word.partition("=")
            if not equals or name not in parameters:
                name, value = next((n for n in rest if n not in given), ""), word
            if not name or name in given:
                wrong = f"{name} was given twice" if name else f"{word!r} is one argument too many"
                raise UserError(f"{self.path.name}: {wrong}", f"its arguments: {self._told}")
            given[name] = _value(name, value, kinds.get(name, str))
        missing = [
            n for n, one in parameters.items() if n not in given and one.default is one.empty
        ]
        if missing:
            raise UserError(
                f"{self.path.name}: {missing[0]} is missing", f"its arguments: {self._told}"
            )
        return given

    @property
    def _told(self) -> str:
        return self.usage or "none"


def load(path: Path) -> Script:
    """Read a file, which runs what stands in it. Raises NotFoundError, UserError for one that holds no program, and
    ProgramError for one that cannot be run."""
    if not path.is_file():
        raise NotFoundError(f"no file {path}", f"a Python file with {HINT}")
    module = _module(path)
    program = getattr(module, NAME, None)
    if program is None:
        raise UserError(f"{path} holds no program", HINT)
    if not inspect.iscoroutinefunction(program):
        raise UserError(f"{path}: {NAME} is no async function", HINT)
    kinds = {one.kind for one in inspect.signature(program).parameters.values()}
    is_open = kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    if not kinds or is_open:
        wrong = "takes whatever it is given" if is_open else "takes no prompt"
        raise UserError(f"{path}: {NAME} {wrong}", HINT)
    return Script(path, program)


def explained(error: BaseException, path: Path) -> ProgramError:
    """What a program raised, with the line of its file where it did."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame.lineno for frame in frames if Path(frame.filename) == path]
    place = f"{path}:{own[-1]}" if own else str(path)
    told = error.message if isinstance(error, UserError) else str(error)
    name = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    hint = error.hint if isinstance(error, UserError) else ""
    return ProgramError(f"{place}: {name}{told}", hint)


def _module(path: Path) -> ModuleType:
    # A file without the ending .py can be a program too, and its folder is where its own modules lie.
    name = f"plait_program_{path.stem}"
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        loader.exec_module(module)
    except SyntaxError as error:
        where = f"{error.filename or path}:{error.lineno or 0}"
        raise ProgramError(f"{where}: {error.msg}", "Python that can be read") from error
    except (Exception, SystemExit) as error:
        raise explained(error, path) from error
    return module


def _parameters(program: Callable[..., Any]) -> list[inspect.Parameter]:
    """All but the prompt."""
    return list(inspect.signature(program).parameters.values())[1:]


def _kinds(program: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(program)
    except NameError as error:
        raise UserError(
            f"{program.__name__}: a type of its signature is not known: {error}"
        ) from None


def _shown(one: inspect.Parameter) -> str:
    return one.name if one.default is one.empty else f"[{one.name}={one.default}]"


def _value(name: str, text: str, kind: Any) -> Any:
    """Raises UserError for a text that is none of this type, and for a type that no text can be."""
    if get_origin(kind) is Literal:
        named = {str(value): value for value in get_args(kind)}
        if text in named:
            return named[text]
        raise UserError(f"{name}: {text!r} is not known", f"one of: {', '.join(named)}")
    if get_origin(kind) is list and len(get_args(kind)) == 1:
        return [_value(name, part.strip(), get_args(kind)[0]) for part in text.split(",")]
    if kind is bool:
        return _value(name, text.lower(), Literal["true", "false"]) == "true"
    if kind not in (str, int, float, Path):
        raise UserError(
            f"{name}: a {kind} cannot come from a command line",
            "str, int, float, bool, Path, Literal or a list of them",
        )
    try:
        return kind(text)
    except ValueError:
        raise UserError(f"{name}: {text!r} is no {kind.__name__}") from None
