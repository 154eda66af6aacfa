"""What a plugin is to Python and to the compiler, whatever its kind: one frozen object of hooks with a type of its own.

The kinds are in `sim.policy`, which says how the seam works.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from numba import config, typeof, types
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError
from numba.extending import NativeValue, models, register_model, unbox

from sim.errors import InputError
from sim.hook_arguments import Context
from sim.kernels.compile import inlined
from sim.plugin_digest import digest_of, python_of


class PluginType(types.Type):
    """Numba's view of a plugin; equality, and so every cache key, is by kind, name and digest."""

    def __init__(self, kind: str, plugin_name: str, digest: str):
        self.kind, self.plugin_name, self.digest = kind, plugin_name, digest
        super().__init__(name=f"{type(self).__name__}:{kind}({plugin_name}@{digest})")


class StackedType(PluginType):
    """Numba's view of one plugin a level."""


register_model(PluginType)(models.OpaqueModel)
register_model(StackedType)(models.OpaqueModel)


@unbox(PluginType)
@unbox(StackedType)
def _unbox(typ, obj, c):
    return NativeValue(c.context.get_dummy_value())


by_type: dict[PluginType, Any] = {}  # how a type met by the compiler finds its hooks again


@dataclass(frozen=True, eq=False, kw_only=True)
class Plugin:
    """Base of all plugins. `init(context, **parameters)` returns the state; the parameters are its keyword arguments.

    needs: trace columns without which the plugin cannot work ("next_access"), "address", or "position" (of a block in
    its LLM call); over a trace without them it is refused. uses: those that it takes into account where the trace has
    them ("cost"); uses_if: those that it takes into account only where a parameter, by name, is set. plain: it is a
    Python class (`sim.plain_policy`), and cannot be compiled.
    Raises InputError where a hook is missing or takes the wrong number of arguments.
    """

    KIND: ClassVar[str] = ""
    HOOKS: ClassVar[Mapping[str, int]] = {}
    OPTIONAL: ClassVar[Mapping[str, Callable]] = {}

    name: str
    init: Callable
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    uses_if: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    doc: str = ""
    plain: bool = False
    _numba_type_: PluginType = field(init=False, repr=False, default=None)

    def __post_init__(self):
        for hook, arity in self.HOOKS.items():
            self._check_hook(hook, arity)
        compiled = {hook: _compiled(getattr(self, hook)) for hook in self.HOOKS if getattr(self, hook) is not None}
        digest = digest_of(tuple(python_of(function) for function in compiled.values()))
        for hook, function in compiled.items():
            object.__setattr__(self, hook, function)
        object.__setattr__(self, "_numba_type_", PluginType(self.KIND, self.name, digest))
        if not self.doc:
            object.__setattr__(self, "doc", _first_sentence(self.init))
        by_type[self._numba_type_] = self

    def _check_hook(self, hook: str, arity: int) -> None:
        function = getattr(self, hook)
        if function is None and hook in self.OPTIONAL:
            if self.OPTIONAL[hook] is not None:
                object.__setattr__(self, hook, self.OPTIONAL[hook])
            return
        if not callable(function):
            raise InputError(f"{self.KIND} policy {self.name!r}: {hook} is not a function", value=function)
        got = len(inspect.signature(python_of(function)).parameters)
        if got != arity:
            raise InputError(f"{self.KIND} policy {self.name!r}: {hook} takes {got} arguments", expected=str(arity))

    @property
    def digest(self) -> str:
        return self._numba_type_.digest

    def parameters(self) -> dict[str, Any]:
        """Name and default of each parameter."""
        declared = list(inspect.signature(self.init).parameters.values())[1:]
        return {p.name: p.default for p in declared if p.kind is not p.VAR_KEYWORD}

    def resolve(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """`given` over the defaults, each of its default's type. Raises InputError for what does not fit."""
        defaults = self.parameters()
        resolved = dict(defaults)
        for name, value in given.items():
            if name not in defaults:
                expected = None if defaults else f"no parameters: {self.name} has none"
                raise InputError(
                    f"{self.KIND} policy {self.name!r}: unknown parameter",
                    value=name,
                    expected=expected,
                    candidates=defaults,
                )
            resolved[name] = self._coerce(name, value, defaults[name])
        return resolved

    def _coerce(self, name: str, value: Any, default: Any) -> Any:
        if isinstance(default, bool):
            wanted, words = bool, {"true": True, "false": False}
            value = words.get(str(value).lower(), value)
        else:
            wanted = type(default)
        if isinstance(value, wanted) and isinstance(value, bool) == isinstance(default, bool):
            return value
        try:
            if wanted in (int, float) and not isinstance(value, bool):
                number = wanted(value)
                if wanted is float or number == float(value):
                    return number
        except (TypeError, ValueError, OverflowError):
            pass
        what = {int: "a whole number", float: "a number", bool: "true or false"}.get(wanted, wanted.__name__)
        problem = f"{self.KIND} policy {self.name!r}: parameter {name} is"
        raise InputError(problem, value=value, expected=f"{what} such as {default!r}")

    def check_needs(self, trace) -> None:
        """Raises InputError where the trace lacks a column without which the plugin cannot work."""
        for need in self.needs:
            if need not in trace.provides:
                what = "LLM calls" if need == "position" else f"the column {need!r}"
                problem = f"{self.KIND} policy {self.name!r} needs {what}, which trace {trace.name!r}"
                raise InputError(f"{problem} does not have")

    def reads(self, trace, parameters: Mapping[str, Any]) -> set[str]:
        """What the plugin, with these parameters, takes of a trace that has all that it needs."""
        more = {use for name, uses in self.uses_if.items() if parameters[name] for use in uses}
        return {*self.needs} | (({*self.uses} | more) & trace.provides)

    def make_state(self, context: Context, given: Mapping[str, Any] | None = None) -> NamedTuple:
        """The state before the first access. Raises InputError where a parameter's value is out of range."""
        parameters = self.resolve(given or {})
        try:
            return self.init(context, **parameters)
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"{self.KIND} policy {self.name!r}: {error}") from error


def explain_failure(plugin: Plugin, samples: Mapping[str, tuple]) -> InputError | None:
    """The one line that says which hook of `plugin` does not compile and why; None where all of them do.

    samples: hook name to arguments of the types that a kernel passes.
    """
    for hook, arguments in samples.items():
        function = getattr(plugin, hook)
        if function is None or not isinstance(function, Dispatcher):
            continue
        try:
            function.compile(tuple(typeof(argument) for argument in arguments))
        except NumbaError as cause:
            return _one_line(plugin, hook, cause)
    return None


def _one_line(plugin: Plugin, hook: str, cause: Exception) -> InputError:
    function = python_of(getattr(plugin, hook))
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    noise = ("Failed in", "During:", "File ", "There are", "Overload", "This error", "<source", "- ", "^")
    telling = [line for line in lines if not line.startswith(noise)] or lines
    file, line = inspect.getsourcefile(function), function.__code__.co_firstlineno
    problem = f"{plugin.KIND} policy {plugin.name!r}: hook {hook} does not compile: {telling[0]}"
    return InputError(problem, file=file, line=line)


def _compiled(function: Callable) -> Callable:
    return function if isinstance(function, Dispatcher) or config.DISABLE_JIT else inlined(function)


def _first_sentence(init: Callable) -> str:
    """What a list shows of a plugin: the first sentence of its module's docstring."""
    module = sys.modules.get(python_of(init).__module__)
    text = (getattr(module, "__doc__", None) or "").strip()
    return text.split("\n\n")[0].replace("\n", " ")
