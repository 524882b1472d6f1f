"""Where code opens a file for reading: what the test of the one door walks over, a module at a time."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

#: Functions and methods that open what they are given, by their last name. A part of an archive counts too.
OPENING = {
    "open", "read_text", "read_bytes", "memmap", "fromfile", "loadtxt", "genfromtxt", "safe_open", "load_file", "load_model",
    "from_pretrained", "from_file", "load_dataset", "load_from_disk", "ZipFile", "is_zipfile", "TarFile", "read_table", "read_csv",
    "read_parquet", "read_pickle", "read_feather", "read_excel", "ParquetFile", "OSFile", "memory_map", "copytree", "copyfile",
    "copy2", "make_archive", "unpack_archive", "getline", "getlines", "run_path", "GGUFReader", "mmap",
}  # fmt: skip
#: Names that say so only together with what stands before them.
TOGETHER = {
    ("np", "load"),
    ("numpy", "load"),
    ("torch", "load"),
    ("workspace", "read_json"),
    ("shutil", "copy"),
    ("pickle", "load"),
}
#: This project's own functions that are called so and open nothing by themselves.
OWN = {"load_model"}


@dataclass
class _Walk(ast.NodeVisitor):
    """``found``: (function, line, what opens), in the order of the lines."""

    found: list[tuple[str, int, str]] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)
    #: Files that the door opened, by the names that ``with`` or a parameter gives them.
    opened: list[str] = field(default_factory=list)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        before = len(self.opened)
        # What mypy holds to be an open file is no path.
        self.opened += [
            a.arg for a in node.args.args if isinstance(a.annotation, ast.Name) and a.annotation.id == "BinaryIO"
        ]
        self.inside.append(node.name)
        self.generic_visit(node)
        self.inside.pop()
        del self.opened[before:]

    def visit_With(self, node: ast.With) -> None:
        before = len(self.opened)
        for item in node.items:
            self.visit(item.context_expr)
            if _is_door(item.context_expr, "open_file") and isinstance(item.optional_vars, ast.Name):
                self.opened.append(item.optional_vars.id)
        for line in node.body:
            self.visit(line)
        del self.opened[before:]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self._note(
            node, next((a.name for a in node.names if a.asname and a.asname != a.name and a.name in OPENING), "")
        )

    def visit_Name(self, node: ast.Name) -> None:
        self._note(node, node.id if node.id in OPENING - OWN else "")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        before = node.value.id if isinstance(node.value, ast.Name) else ""
        opens = node.attr in OPENING - OWN - {"open"} or (before, node.attr) in TOGETHER
        self._note(node, node.attr if opens and before != "door" else "")
        self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if _writes(node, called) or self._from_the_door(node):
            # What it is called on and with is looked at all the same, the function itself is not.
            parts = [node.func.value] if isinstance(node.func, ast.Attribute) else []
            for part in [*parts, *node.args, *(k.value for k in node.keywords)]:
                self.visit(part)
        else:
            # Something is open without being opened, so as an attribute it counts where it is called.
            self._note(node, "open" if isinstance(node.func, ast.Attribute) and called == "open" else "")
            self.generic_visit(node)

    def _from_the_door(self, node: ast.Call) -> bool:
        """Whether the first thing that a call is given is a file that the door opened."""
        first = node.args[0] if node.args else None
        return (isinstance(first, ast.Name) and first.id in self.opened) or _is_door(first, "name_of")

    def _note(self, node: ast.expr | ast.stmt, what: str) -> None:
        if what:
            self.found.append((self.inside[-1] if self.inside else "", node.lineno, what))


def _is_door(node: ast.expr | None, name: str) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name
        and isinstance(node.func.value, ast.Name) and node.func.value.id == "door"
    )  # fmt: skip


def _writes(node: ast.Call, called: str) -> bool:
    """Whether a call opens a file to write alone: it says so with a mode that is no variable."""
    if called not in ("open", "ZipFile"):
        return False
    place = 0 if isinstance(node.func, ast.Attribute) and called == "open" else 1  # a path's own method, or a function
    modes = [*node.args[place : place + 1], *(k.value for k in node.keywords if k.arg == "mode")]
    said = [m.value for m in modes if isinstance(m, ast.Constant) and isinstance(m.value, str)]
    return any(mode and set(mode) <= set("wabx") for mode in said)


def readings(code: str) -> list[tuple[str, int, str]]:
    """Every place of a module that opens a file for reading by another way than ``ks_core.store.door``: the function it
    stands in, its line, and what opens.

    A file that the door opened may be handed on, within its ``with`` and as a parameter of this type.
    """
    walk = _Walk()
    walk.visit(ast.parse(code))
    return walk.found
