"""jinja2 for templates that nobody vouches for: no code runs, no attribute leaks, nothing is endless.

The sandbox of jinja2 keeps templates away from Python's insides. It does not keep them from looping or
from making strings of any size, so every construct that can is rewritten to pay for itself (`budget`).
"""

from __future__ import annotations

from collections.abc import Iterator
from types import BuiltinMethodType
from typing import Any, TypeVar, cast

from jinja2 import nodes, pass_context, runtime
from jinja2.exceptions import SecurityError, TemplateSyntaxError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from plait.text import operations
from plait.text.budget import (
    MAX_INTEGER_BITS,
    TooMuchWork,
    spend,
    spend_call,
    spend_size,
    spend_value,
)

_TEMPLATE_OBJECTS = (
    runtime.Macro,
    runtime.LoopContext,
    runtime.BlockReference,
    runtime.TemplateReference,
    runtime.Undefined,
    Namespace,
)
_NODES_PER_UNIT = 4

Expression = TypeVar("Expression", bound=nodes.Expr)


class GenerationTag(Extension):
    """{% generation %}...{% endgeneration %} marks what the model wrote, for training; it adds nothing."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """The statements between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment in which chat templates are compiled and run."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            cache_size=0,
            extensions=[LoopControlExtension, GenerationTag],
        )
        own = {
            "concatenate": _concatenate,
            "walk": _walk,
            "look": _look,
            "copy": _copy,
            "each": _each,
        }
        guards: dict[str, Any] = {f"guard {name}": own[name] for name in own}
        self.filters.clear()
        self.filters.update(guards | operations.all_filters())
        self.tests.clear()
        self.tests.update(operations.all_tests())
        self.globals = {"range": self.globals["range"], "dict": dict, "namespace": _Opaque}

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Only listed methods of data, and what jinja2's own objects show."""
        for kind, methods in operations.METHODS.items():
            if isinstance(obj, kind):
                return attr in methods
        return isinstance(obj, _TEMPLATE_OBJECTS) and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Any:
        """Format strings reach into objects and pad to any width, so there are none."""
        if isinstance(value, BuiltinMethodType) and value.__name__ in ("format", "format_map"):
            raise SecurityError("it uses str.format, which templates may not")
        return None

    def call_binop(self, context: runtime.Context, operator: str, left: Any, right: Any) -> Any:
        """An arithmetic operator."""
        spend(1)
        compute = operations.OPERATORS.get(operator, self.binop_table[operator])
        result = compute(left, right)
        if isinstance(result, int) and result.bit_length() > MAX_INTEGER_BITS:
            raise TooMuchWork("it computes a number of absurd size")
        return result

    def call(
        __self,  # plain names would clash with the template's keyword arguments
        __context: runtime.Context,
        __obj: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """A call of a function, method or macro."""
        for argument in (*args, *kwargs.values()):
            spend_size(argument)
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, tuple(operations.METHODS)):
            operations.pay_for_method(__obj.__name__, owner, args)
        else:
            spend_call()
            spend_value((args, kwargs))
        return super().call(__context, __obj, *args, **kwargs)

    def _generate(self, source: nodes.Template, *args: Any, **options: Any) -> str:
        return super()._generate(_Guards(self).visit(source), *args, **options)


class _Guards(NodeTransformer):
    """Rewrites a template so that what it prints, compares, cuts and loops over is paid for."""

    def __init__(self, environment: Sandbox) -> None:
        self._environment = environment

    def visit_Output(self, node: nodes.Output) -> nodes.Output:
        """Text and {{ ... }}."""
        self.generic_visit(node)
        node.nodes = [self._guarded("walk", self._text(child)) for child in node.nodes]
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        """a ~ b"""
        self.generic_visit(node)
        return self._guarded("concatenate", self._placed(nodes.List(node.nodes), node))

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        """a == b, a in b and so on."""
        self.generic_visit(node)
        node.expr = self._guarded("walk", node.expr)
        for operand in node.ops:
            name = "look" if operand.op in ("in", "notin") else "walk"
            operand.expr = self._guarded(name, operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Getitem:
        """a[1:2]"""
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = self._guarded("copy", node.node)
        return node

    def visit_For(self, node: nodes.For) -> nodes.For:
        """A round costs as much as its body is long."""
        if node.recursive:
            raise TemplateSyntaxError("recursive loops are not available", node.lineno)
        cost = nodes.Const(1 + num_nodes(node) // _NODES_PER_UNIT)
        self.generic_visit(node)
        node.iter = self._guarded("each", cast(nodes.Expr, node.iter), self._placed(cost, node))
        return node

    def _text(self, node: nodes.Expr) -> nodes.Expr:
        if isinstance(node, nodes.TemplateData):
            return self._placed(nodes.Const(node.data), node)
        return node

    def _guarded(self, name: str, node: nodes.Expr, *args: nodes.Expr) -> nodes.Expr:
        guard = nodes.Filter(node, f"guard {name}", list(args), [], None, None)
        return self._placed(guard, node)

    def _placed(self, new: Expression, old: nodes.Node) -> Expression:
        new.set_lineno(old.lineno)
        new.set_environment(self._environment)
        return new


def num_nodes(node: nodes.Node) -> int:
    """Number of syntax nodes below and including this one, and of letters of text over sixteen."""
    texts = sum(len(text.data) // 16 for text in node.find_all(nodes.TemplateData))
    return 1 + texts + sum(1 for _ in node.find_all(nodes.Node))


class _Opaque(Namespace):
    """What `namespace()` makes; printing it does not print what it holds, which would cost nothing."""

    def __repr__(self) -> str:
        return "<namespace>"


class _Each:
    """A sized collection whose elements are paid for as a loop takes them."""

    def __init__(self, items: Any, cost: int) -> None:
        self._items = items
        self._cost = cost

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        return operations.ticking(self._items, self._cost)


# They take the context so that jinja2 does not call them while it compiles.
@pass_context
def _walk(_context: runtime.Context, value: Any) -> Any:
    spend_value(value)
    return value


@pass_context
def _look(_context: runtime.Context, value: Any) -> Any:
    """For `in`: only the keys of a mapping are looked at, and not one by one."""
    if not isinstance(value, dict):
        spend_value(value)
    return value


@pass_context
def _copy(_context: runtime.Context, value: Any) -> Any:
    spend_size(value)
    return value


@pass_context
def _each(_context: runtime.Context, value: Any, cost: int) -> Any:
    return _Each(value, cost) if hasattr(value, "__len__") else operations.ticking(value, cost)


@pass_context
def _concatenate(_context: runtime.Context, values: list[Any]) -> str:
    return operations.concatenate(values)
