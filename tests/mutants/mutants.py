"""Changed modules: a sample of all the places where Cosmic Ray can change a line."""

from __future__ import annotations

import ast
import difflib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

# Options that change speed, what a terminal shows, or what mistakes of the program raise.
_UNSEEN_OPTIONS = frozenset({"frozen", "slots", "strict", "non_blocking", "show_progress"})


@dataclass(frozen=True)
class Mutant:
    """A module with one change.

    Attributes:
        module: path of the module from the repository's root.
        line: where the change is.
        operator: of Cosmic Ray, which made the change.
        code: the module with the change.
    """

    module: str
    line: int
    operator: str
    code: str

    def diff(self) -> str:
        """The change as a unified diff."""
        before = Path(self.module).read_text().splitlines()
        lines = difflib.unified_diff(
            before, self.code.splitlines(), self.module, self.operator, lineterm="", n=1
        )
        return "\n".join(lines)


def sample(modules: Sequence[str], size: int, seed: int) -> list[Mutant]:
    """Draw mutants: places at random, and for each place one of its possible changes.

    Args:
        modules: paths of the modules.
        size: number of mutants; fewer if the modules have no more places.
        seed: of the random choice.
    """
    chance = random.Random(seed)
    places = [place for module in sorted(modules) for place in _places(module)]
    chance.shuffle(places)
    found: list[Mutant] = []
    for module, line, changes in places:
        if len(found) == size:
            break
        chance.shuffle(changes)
        source = Path(module).read_text()
        for operator, occurrence in changes:
            code = mutate_code(source, get_operator(operator)(), occurrence)
            if _changes_behaviour(source, code):
                found.append(Mutant(module, line, operator, code))
                break
    return found


def _places(module: str) -> Iterator[tuple[str, int, list[tuple[str, int]]]]:
    """Every place of a module that can be changed: (module, line, [(operator, occurrence)])."""
    nodes = list(ast_nodes(get_ast(Path(module).read_text())))
    changes: dict[tuple[int, int], list[tuple[str, int]]] = {}
    for name in operator_names():
        if get_operator(name).arguments():
            continue
        operator = get_operator(name)()
        starts = [start for node in nodes for start, _ in operator.mutation_positions(node)]
        for occurrence, start in enumerate(starts):
            changes.setdefault(start, []).append((name, occurrence))
    for (line, _), at_place in sorted(changes.items()):
        yield module, line, at_place


def _changes_behaviour(source: str, code: str) -> bool:
    """Whether a changed module can be compiled and differs in more than what no test can see."""
    try:
        return _behaviour(code) != _behaviour(source)
    except SyntaxError:
        return False


def _behaviour(code: str) -> str:
    return ast.dump(_Behaviour().visit(ast.parse(code)))


class _Behaviour(ast.NodeTransformer):
    """Removes what changes no result: annotations, imports for type checkers, `*` and `/` between
    parameters, `@torch.inference_mode()`, and some options."""

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        self.generic_visit(node)
        node.args = [*node.posonlyargs, *node.args, *node.kwonlyargs]
        node.defaults = [*node.defaults, *filter(None, node.kw_defaults)]
        node.posonlyargs, node.kwonlyargs, node.kw_defaults = [], [], []
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        node.decorator_list = [
            decorator
            for decorator in node.decorator_list
            if "inference_mode" not in ast.unparse(decorator)
        ]
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        names = {n.id for n in ast.walk(node.test) if isinstance(n, ast.Name)}
        return None if "TYPE_CHECKING" in names else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.keywords = [keyword for keyword in node.keywords if keyword.arg not in _UNSEEN_OPTIONS]
        return self.generic_visit(node)
