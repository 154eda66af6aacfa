"""A large state passed by reference: compiled code gets one word, and loads what it needs of it.

A named tuple is otherwise passed as all its parts, seven words for each array. For a state of a hundred arrays, every
mention of it in a function is then some seven hundred values for the compiler to look at, and half of its time goes
into that. Attributes of a reference are those of the tuple; a named tuple in it is a reference, too. The tuple itself
cannot be changed, of which the optimiser is told.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import config, typeof, types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    NativeValue,
    infer_getattr,
    lower_getattr_generic,
    models,
    register_model,
    typeof_impl,
    unbox,
)


class Reference:
    """Holds a state, for compiled code to refer to."""

    __slots__ = ("state",)

    def __init__(self, state: NamedTuple):
        self.state = state


class ReferenceType(types.Type):
    """Numba's view of a reference to a named tuple of type `of`."""

    def __init__(self, of: types.BaseNamedTuple):
        self.of = of
        super().__init__(name=f"Reference({of})")

    def part(self, attribute: str) -> tuple[int, types.Type]:
        """Number and type of a field."""
        place = self.of.fields.index(attribute)
        return place, tuple(self.of.types)[place]


def by_reference(state: NamedTuple) -> Any:
    """What to pass to a kernel in place of a state; the state itself where compilation is off."""
    return state if config.DISABLE_JIT else Reference(state)


@typeof_impl.register(Reference)
def _typeof(value, c):
    return ReferenceType(typeof(value.state))


@register_model(ReferenceType)
class _Model(models.PrimitiveModel):
    def __init__(self, manager, typ):
        super().__init__(manager, typ, ir.PointerType(manager.lookup(typ.of).get_value_type()))


@unbox(ReferenceType)
def _unbox(typ, obj, c):
    state = c.pyapi.object_getattr_string(obj, "state")  # borrowed from now on: the reference holds it
    native = c.unbox(typ.of, state)
    c.pyapi.decref(state)
    place = cgutils.alloca_once_value(c.builder, native.value)
    return NativeValue(place, is_error=native.is_error, cleanup=native.cleanup)


@infer_getattr
class _Attributes(AttributeTemplate):
    key = ReferenceType

    def generic_resolve(self, typ, attribute):
        if attribute not in typ.of.fields:
            return None
        _, part = typ.part(attribute)
        return ReferenceType(part) if isinstance(part, types.BaseNamedTuple) else part


@lower_getattr_generic(ReferenceType)
def _get(context, builder, typ, value, attribute):
    number, part = typ.part(attribute)
    place = cgutils.gep_inbounds(builder, value, 0, number)
    if isinstance(part, types.BaseNamedTuple):
        return place
    loaded = builder.load(place)
    loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
    return impl_ret_borrowed(context, builder, part, loaded)
