"""Compiled functions that are kept as object code, and loaded without numba.

To import numba takes seconds, and what it keeps itself takes seconds more to load. So what it makes of an entry of
``ks_core.ks.kernels.counting.entries`` is written to a file once, for this processor and these versions, and later processes
hand that file to LLVM (``llvmlite``, which numba stands on), which is done in a tenth of a second. A file is used after
two looks: its checksum fits, and it counts some rows right (``proof``). Without a good file numba compiles, as it did
the first time.

Where files lie: ``NUMBA_CACHE_DIR`` if that is set, else beside the code in ``__pycache__``, else in the workspace.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ks_core.errors import KSLotteryError
from ks_core.store import workspace

log = logging.getLogger(__name__)

#: Files kept of an entry.
KEPT = 8
#: What object code may call: the C library's, which LLVM writes by itself for loops that fill and copy.
_CALLABLE = {"memset", "memcpy", "memmove"}
#: The name of an entry in its object code.
_SYMBOL = "ks_lottery_entry"
_HERE = Path(__file__).parent
_lock = threading.Lock()
_known: dict[str, Function] = {}
_engines: list[Any] = []  # LLVM's, which own the code: as long as the process


class Function:
    """A compiled function. Arguments are integers, and arrays, of which it gets the address. The GIL is released meanwhile."""

    def __init__(self, address: int, compiled: bool) -> None:
        self._call = ctypes.CFUNCTYPE(None)(address)
        #: Whether numba had to compile it in this process.
        self.compiled = compiled

    def __call__(self, *arguments: Any) -> None:
        self._call(*(ctypes.c_int64(x.ctypes.data if isinstance(x, np.ndarray) else x) for x in arguments))


def function(kind: str, proof: Callable[[Function], bool]) -> Function:
    """The compiled entry ``kind``, loaded or compiled when it is first asked for. ``proof`` says whether one counts right.

    Raises ``KSLotteryError`` when not even what numba compiled does.
    """
    with _lock:
        if kind not in _known:
            _known[kind] = _loaded(kind, proof) or _compiled(kind, proof)
        return _known[kind]


def _loaded(kind: str, proof: Callable[[Function], bool]) -> Function | None:
    """The entry from a file; ``None`` where there is none that is good."""
    name = _file_name(kind)
    for folder in _folders():
        with contextlib.suppress(OSError):
            kept = (folder / name).read_bytes()
            if hashlib.sha256(kept[32:]).digest() == kept[:32]:
                found = Function(_address(kept[32:]), compiled=False)
                if proof(found):
                    return found
            log.warning(
                "The compiled kernel %s is damaged, or of another machine; it is compiled again.", folder / name
            )
    return None


def _forget(folder: Path, kind: str) -> None:
    """Remove what an entry was in other versions, but for the newest: several kinds of machines may share a folder."""
    written = sorted(folder.glob(f"{kind}-{'[0-9a-f]' * 32}.kernel"), key=lambda file: file.stat().st_mtime)
    for file in written[:-KEPT]:
        file.unlink(missing_ok=True)


def _address(code: bytes) -> int:
    """Where object code stands in memory, once LLVM has put it there."""
    import llvmlite.binding as llvm

    machine = _machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return engine.get_function_address(_SYMBOL)


def _compiled(kind: str, proof: Callable[[Function], bool]) -> Function:
    """The entry, compiled by numba now, and kept where that goes."""
    import numba

    from ks_core.ks.kernels.counting.entries import ENTRIES

    body, signature = ENTRIES[kind]
    made = numba.cfunc(signature, error_model="numpy")(body)
    found = Function(made.address or 0, compiled=True)
    if not proof(found):
        raise KSLotteryError(
            f"The compiled kernel for {kind} counts wrong on this processor. Expected the integers that sorting gives. "
            "Install numba and llvmlite in the versions of requirements.txt; until then --device torch:cpu counts."
        )
    code = _object_code(made.inspect_llvm(), made.native_name)
    for folder in _folders() if code else ():
        with contextlib.suppress(OSError):
            workspace.write_atomically(folder / _file_name(kind), hashlib.sha256(code).digest() + code, durable=False)
            _forget(folder, kind)
            break
    _engines.append(made)
    return found


def _object_code(text: str, entry: str) -> bytes:
    """Object code of LLVM's text of a module, of which ``entry`` alone can be called; empty where it would need Python.

    Around what it compiles numba puts a report of exceptions, which needs Python and numba in memory. The entries raise none,
    so what it calls is left out; LLVM then finds that nothing leads there, or the code is not kept.
    """
    import llvmlite.binding as llvm

    def left_out(found: re.Match[str]) -> str:
        name = found["name"].strip('"')
        if name.startswith("llvm.") or name in _CALLABLE:
            return found[0]
        return f"define {found['rest']} {{\n  call void @llvm.trap()\n  unreachable\n}}"

    text = text.replace("@sqrt(", "@llvm.sqrt.f64(")  # the instruction, not the C library's
    # Nothing owns the arrays that an entry is given by address, so there is nobody to count references for.
    text = re.sub(
        r"^define [^@\n]*(@NRT_(?:inc|dec)ref)\(.*?^}$",
        r"define void \1(ptr %x) {\n  ret void\n}",
        text,
        flags=re.M | re.S,
    )
    text = re.sub(r'^declare (?P<rest>[^@\n]*@(?P<name>"[^"]+"|[\w.$]+)\([^\n]*)$', left_out, text, flags=re.M)
    if "@llvm.trap()" in text and "declare void @llvm.trap()" not in text:
        text += "\ndeclare void @llvm.trap()\n"
    machine = _machine()
    module = llvm.parse_assembly(text)
    for thing in (*module.functions, *module.global_variables):
        if not thing.is_declaration and thing.name != entry:
            thing.linkage = "internal"
    module.get_function(entry).name = _SYMBOL
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    module.verify()
    wanted = {f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")}
    wanted |= {v.name for v in module.global_variables if v.is_declaration}
    if not wanted <= _CALLABLE or "@llvm.trap" in str(module):
        log.warning(
            "The compiled kernel is not kept, as it would need Python: %s.", ", ".join(sorted(wanted)) or "trap"
        )
        return b""
    return machine.emit_object(module)


def _machine() -> Any:
    """LLVM's description of this processor, with all that it can do."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    fixed = "static" if llvm.get_process_triple().startswith(("x86", "i386", "i686")) else "default"
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3, reloc=fixed,
        codemodel="jitdefault", jit=True,
    )  # fmt: skip


def _file_name(kind: str) -> str:
    """The name of an entry's file, from all that decides what is in it: the code, the versions, the processor."""
    import llvmlite.binding as llvm

    digest = hashlib.sha256(
        "\n".join([
            metadata.version("numba"), metadata.version("llvmlite"), llvm.get_process_triple(), llvm.get_host_cpu_name(),
            llvm.get_host_cpu_features().flatten(),
        ]).encode()
    )  # fmt: skip
    for file in (Path(__file__), _HERE / "space.py", *sorted((_HERE / "counting").glob("*.py"))):
        digest.update(file.read_bytes())
    return f"{kind}-{digest.hexdigest()[:32]}.kernel"


def _folders() -> Iterator[Path]:
    """Where files are looked for, and written, the first that can be."""
    if named := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(named)
    yield _HERE / "__pycache__"
    yield workspace.home() / "kernels"
