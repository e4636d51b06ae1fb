#!/usr/bin/env python
"""Break the code in many places, one at a time, and see whether the tests find it.

    .venv/bin/python scripts/mutate.py --number 70 --json build/mutation.json

A mutant is a file with one small change: an operator exchanged, a number changed, a statement or a check removed. Its
tests run until the first failure, which kills it; a mutant that survives says that something is not tested, or that the
change makes no difference. Places are drawn at random, the same ones for the same `--seed`, and as evenly over the
files as possible. Mutants live in copies of the sources and of ``.venv`` (hard links) below ``build/mutate``, so the
working tree stays as it is; ``make setup`` comes first. A run may be stopped; called again, it leaves out what its JSON
file knows already. Where the tests of a file fail without any change, its mutants say nothing, and this is said.
"""

import argparse
import ast
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FORCES = ("forces_kernel_sets", "forces_coinciding_beads", "forces_cg_force", "potentials_compiled")
DEVICE = ("forces_gpu_engine", "forces_cg_force", "simulation_replicas", "forces_torchscript_on_device")
RUNS = ("simulation_run*", "state_of_runs", "reference_sampling*")

# Sources, and the tests that belong to them: the names of files, the quickest first.
TESTS: dict[str, tuple[str, ...]] = {
    "python/openmmcg/state/*.py": ("state", "state_of_runs", "state_of_files"),
    "python/openmmcg/simulation/resumable/*.py": RUNS,
    "python/openmmcg/simulation/run.py": ("simulation_run*", "state_of_runs"),
    "python/openmmcg/simulation/context.py": ("simulation_*",),
    "python/openmmcg/simulation/minimise.py": ("simulation_*",),
    "python/openmmcg/simulation/replicas.py": ("simulation_*",),
    "python/openmmcg/fitting/*.py": ("fitting_*",),
    "python/openmmcg/fitting/force_matching/*.py": ("state_of_force_matching", "fitting_force_matching*"),
    # not the figures
    "python/openmmcg/fitting/boltzmann_inversion/[!f]*.py": ("fitting_boltzmann_inversion*", "state_of_inversion"),
    "python/openmmcg/frames/*.py": ("frames*", "state_of_files"),
    "python/openmmcg/geometry/*.py": ("geometry_*", "mapping", "potentials_contract"),
    "cpp/network/*.cpp": FORCES,
    "cpp/neighbors/*.cpp": (*FORCES, "simulation_replicas"),
    "cpp/neighbors/P*.h": (*FORCES, "simulation_replicas"),
    "cpp/bonded/*.cpp": ("forces_tabulated_bonded_force", "potentials_tabulated"),
    "cpp/bonded/[!T]*.h": ("forces_tabulated_bonded_force", "potentials_tabulated"),  # those with code
    "cpp/force/*.cpp": ("forces_state", "forces_cg_force", "forces_torchscript", "simulation_replicas"),
    "cpp/inductor/*.cpp": ("forces_inductor_packages",),
    "cpp/libtorch/*.cpp": ("forces_inductor_packages", "forces_torchscript", "simulation_replicas"),
    "cpp/model/Z*.cpp": ("potentials_file", "forces_inductor_packages"),
    "cuda/kernels/*.cc": DEVICE,
    "cuda/Device*.cpp": DEVICE,
}
NUMBER = re.compile(r"(?<![\w.])(\d+\.\d*(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\d+)(?![\w.])")
EXCHANGES = [("+=", "-="), ("<=", "<"), (">=", ">"), ("==", "!="), ("&&", "||"), ("+", "-"), ("*", "/")]
EXCHANGED = {**dict(EXCHANGES), **{second: first for first, second in EXCHANGES}}
PYTHON = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
}


@dataclass(frozen=True)
class Mutant:
    """A stretch of a file's bytes, and what stands there instead."""

    file: str
    operator: str
    start: int
    stop: int
    replacement: str

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.replacement.encode() + source[self.stop :]

    def describe(self) -> dict[str, object]:
        """Of the lines before and after, and an identity that changes when the file does."""
        source = (ROOT / self.file).read_bytes()
        first = source.rfind(b"\n", 0, self.start) + 1
        last = source.find(b"\n", self.stop)
        after = self.apply(source)[first : last + len(self.replacement.encode()) - (self.stop - self.start)]
        identity = hashlib.sha256(source + repr(asdict(self)).encode()).hexdigest()[:16]
        return {
            "id": identity,
            "file": self.file,
            "line": source.count(b"\n", 0, self.start) + 1,
            "operator": self.operator,
            "before": source[first:last].decode(),
            "after": after.decode(),
        }


def changed_number(text: str) -> str:
    """Another number: the next integer, or one that is a tenth larger."""
    return str(int(text) + 1) if text.isdigit() else repr((1.1 * float(text)) or 0.1)


def python_mutants(file: str) -> Iterator[Mutant]:
    """All mutants of a Python file but those of messages, annotations and documentation."""
    source = (ROOT / file).read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def begin(node: ast.expr | ast.stmt) -> int:
        return starts[node.lineno - 1] + node.col_offset

    def end(node: ast.expr | ast.stmt) -> int:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return starts[node.end_lineno - 1] + node.end_col_offset

    def instead(node: ast.expr | ast.stmt, operator: str, text: str) -> Mutant:
        return Mutant(file, operator, begin(node), end(node), text)

    def between(left: ast.expr, operation: ast.AST, right: ast.expr) -> Iterator[Mutant]:
        before, after = PYTHON.get(type(operation), ("", ""))
        gap = source[end(left) : begin(right)].decode()
        place = re.search(rf"(?<!\w){re.escape(before)}(?!\w)", gap) if before else None
        if place:
            start = end(left) + place.start()
            yield Mutant(file, f"{before} to {after}", start, start + len(before), after)

    def text_of(node: ast.expr) -> str:
        return source[begin(node) : end(node)].decode()

    def visit(node: ast.AST) -> Iterator[Mutant]:
        match node:
            case ast.Raise() | ast.JoinedStr() | ast.Import() | ast.ImportFrom():
                return
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
                for child in [*defaults, *node.body]:
                    yield from visit(child)
                return
            case ast.AnnAssign():
                if node.value:
                    yield from visit(node.value)
                return
            case ast.Compare():
                for left, operation, right in zip(
                    [node.left, *node.comparators], node.ops, node.comparators, strict=False
                ):
                    yield from between(left, operation, right)
            case ast.ClassDef():
                for child in node.body:  # not the decorators
                    yield from visit(child)
                return
            case ast.keyword(arg="strict" | "progress" | "disable" | "leave"):
                return
            case (
                ast.BinOp(left=ast.Constant(value=str())) | ast.BinOp(right=ast.Constant(value=str()) | ast.JoinedStr())
            ):
                pass
            case ast.BinOp():
                yield from between(node.left, node.op, node.right)
            case ast.BoolOp():
                yield from between(node.values[0], node.op, node.values[1])
            case ast.UnaryOp(op=ast.Not() | ast.USub()) if not isinstance(node.operand, ast.Constant):
                yield instead(node, "sign or negation removed", f"({text_of(node.operand)})")
            case ast.AugAssign(op=ast.Add()):
                yield Mutant(file, "+= to -=", end(node.target), begin(node.value), " -= ")
            case ast.If() if len(node.body) == 1 and isinstance(node.body[0], ast.Raise):
                yield instead(node.test, "check removed", "False")
            case ast.Expr(value=ast.Call()):
                yield instead(node, "statement removed", "pass")
            case ast.Expr(value=ast.Constant()):
                return
            case ast.Subscript(slice=ast.Tuple(elts=[first, second])):
                yield instead(node.slice, "indices exchanged", f"{text_of(second)}, {text_of(first)}")
            case ast.Constant(value=bool()):
                yield instead(node, "truth exchanged", str(not node.value))
            case ast.Constant(value=int() | float()) if NUMBER.fullmatch(text_of(node)):
                yield instead(node, "number changed", changed_number(text_of(node)))
        for child in ast.iter_child_nodes(node):
            yield from visit(child)

    yield from visit(ast.parse(source))


def c_mutants(file: str) -> Iterator[Mutant]:
    """Mutants of C++ and device code, found line by line. Some do not compile; these are not counted."""
    source = (ROOT / file).read_bytes()

    def blank(match: re.Match[bytes]) -> bytes:
        return re.sub(rb"[^\n]", b" ", match[0])

    # Comments, strings and what is for the preprocessor are not code.
    code = re.sub(rb'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|^#(?:\\\n|[^\n])*', blank, source, flags=re.S | re.M)
    start = 0
    lines = code.splitlines(keepends=True)
    for index, line in enumerate(lines):
        text = line.decode("latin-1")  # a byte each

        def change(match: re.Match[str], group: int, operator: str, replacement: str, start: int = start) -> Mutant:
            return Mutant(file, operator, start + match.start(group), start + match.end(group), replacement)

        declares = re.match(r"\s*(template|using|namespace|class|struct|inline|DEVICE|KERNEL)\b", text)
        for match in re.finditer(r"(?<=[\w)\]])(?<!\de)( ?)([-+*/]|\+=|-=)(\1)(?=[\w(])", text) if not declares else ():
            yield change(match, 2, f"{match[2]} to {EXCHANGED[match[2]]}", EXCHANGED[match[2]])
        for match in re.finditer(r" (<=?|>=?|==|!=|&&|\|\|) ", text):
            yield change(match, 1, f"{match[1]} to {EXCHANGED[match[1]]}", EXCHANGED[match[1]])
        for match in NUMBER.finditer(text) if not declares else ():
            yield change(match, 1, "number changed", changed_number(match[1]))
        if whole := re.match(r"\s+([\w.>\[\]()-]+(?:\(.*\)| [-+*/]?= .*);)$", text.rstrip("\n")):
            yield change(whole, 1, "statement removed", ";")
        if (check := re.match(r"\s+if (\(.*\))(?: \{)?$", text.rstrip("\n"))) and b"throw" in lines[index + 1]:
            yield change(check, 1, "check removed", "(false)")
        for match in re.finditer(r"\[(\w+)\]\[(\w+)\]", text):
            yield Mutant(
                file, "indices exchanged", start + match.start(), start + match.end(), f"[{match[2]}][{match[1]}]"
            )
        start += len(line)


def draw(patterns: list[str], number: int, seed: int) -> list[Mutant]:
    """Mutants of the files that match, as many of each as possible; those of Python first, which are quicker."""
    files = sorted(
        {str(path.relative_to(ROOT)) for known in TESTS for path in ROOT.glob(known) if path.name != "__init__.py"}
    )
    if patterns:
        files = [file for file in files if any(Path(file).match(pattern) for pattern in patterns)]
    if not files:
        raise SystemExit(f"no file that has tests in scripts/mutate.py matches {', '.join(patterns)}")
    chance = random.Random(seed)
    left = {file: list((python_mutants if file.endswith(".py") else c_mutants)(file)) for file in files}
    for mutants in left.values():
        chance.shuffle(mutants)
    drawn: list[Mutant] = []
    while len(drawn) < number and any(left.values()):
        chance.shuffle(files)
        drawn += [left[file].pop() for file in files if left[file]][: number - len(drawn)]
    return sorted(drawn, key=lambda mutant: not mutant.file.endswith(".py"))


def tests_of(file: str) -> list[str]:
    """The test files of a source, as arguments of pytest."""
    names = next(names for pattern, names in TESTS.items() if file in map(str, relative_glob(pattern)))
    found = [sorted(Path("tests").joinpath(p.name) for p in ROOT.glob(f"tests/test_{name}.py")) for name in names]
    for name, paths in zip(names, found, strict=True):
        if not paths:
            raise SystemExit(f"there is no tests/test_{name}.py, which scripts/mutate.py names for {file}")
    return list(dict.fromkeys(str(path) for paths in found for path in paths))


def relative_glob(pattern: str) -> list[Path]:
    return [path.relative_to(ROOT) for path in ROOT.glob(pattern)]


class Workshop:
    """A copy of the sources and of the environment, in which one mutant at a time is tried."""

    #: How long tests take without any change, and a lock for whoever measures it first.
    seconds: dict[tuple[str, ...], float] = {}
    measuring = threading.Lock()

    def __init__(self, directory: Path) -> None:
        self.directory, self.tree, self.environment = directory, directory / "tree", directory / "venv"
        self.python = self.environment / "bin" / "python"
        self.built = False  # whether what is installed was compiled of a mutant
        if self.environment.exists():
            shutil.rmtree(self.environment)
        directory.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-al", ROOT / ".venv", self.environment], check=True)
        self._copy_tree()
        (self.package,) = self.environment.glob("lib/python*/site-packages/openmmcg")
        for source in (self.tree / "python" / "openmmcg").rglob("*.py"):
            self._put(str(source.relative_to(self.tree)), source.read_bytes())

    def _copy_tree(self) -> None:
        """Bring the copy up to date; only what differs, so that the next build does little."""
        listed = ["git", "ls-files", "-co", "--exclude-standard"]
        files = set(subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines())
        for file in files:
            source, copy = ROOT / file, self.tree / file
            if source.is_file() and not (copy.exists() and copy.read_bytes() == source.read_bytes()):
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, copy)
        for path in [path for path in self.tree.rglob("*") if path.is_file() or path.is_symlink()]:
            name = path.relative_to(self.tree)
            if name.parts[0] != "build" and str(name) not in files:
                path.unlink()

    def _run(self, *command: str | Path, limit: float | None = None) -> tuple[int | None, str]:
        """The return code, none where the time was up, and the output."""
        variables = {
            **os.environ,
            "PATH": f"{self.environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "OPENMM_CPU_THREADS": "1",
            "POCL_CACHE_DIR": str(self.directory / "pocl"),
            "POCL_EXTRA_BUILD_FLAGS": "-cl-opt-disable",  # as `make test` does
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=self.tree,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=limit)
            return process.returncode, output
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None, process.communicate()[0]

    def _install(self) -> str | None:
        """Build and install, as scripts/setup.sh does; returns the error, if there is one."""
        pip = ["-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--force-reinstall", "."]
        code, output = self._run(self.python, *pip)
        return output[-3000:] if code else None

    def _put(self, file: str, content: bytes) -> str | None:
        (self.tree / file).write_bytes(content)
        if not file.startswith("python/openmmcg/"):
            self.built = True
            return self._install()
        installed = self.package / Path(file).relative_to("python/openmmcg")
        installed.unlink(missing_ok=True)  # it may be a hard link to that of .venv
        installed.parent.mkdir(exist_ok=True)
        installed.write_bytes(content)
        return None

    def _test(self, tests: list[str], limit: float | None = None) -> tuple[int | None, str]:
        options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", "--no-header"]
        return self._run(self.python, "-m", "pytest", *options, *tests, limit=limit)

    def try_out(self, mutant: Mutant) -> dict[str, object]:
        tests = tests_of(mutant.file)
        key = tuple(tests)
        with self.measuring:
            if key not in self.seconds:
                if self.built:
                    self._install()
                began = time.monotonic()
                code, output = self._test(tests)
                if code != 0:
                    return {"outcome": "tests fail without it", "output": output[-2000:]}
                self.seconds[key] = time.monotonic() - began
        began = time.monotonic()
        original = (self.tree / mutant.file).read_bytes()
        try:
            error = self._put(mutant.file, mutant.apply(original))
            if error is not None:
                return {"outcome": "does not compile"}
            code, output = self._test(tests, limit=60 + 3 * self.seconds[key])
        finally:
            (self.tree / mutant.file).write_bytes(original)
            if mutant.file.startswith("python/"):
                self._put(mutant.file, original)
            # What was compiled is replaced by the next build.
        found = re.search(r"^(?:FAILED|ERROR) (\S+)", output, flags=re.M)
        by = found[1] if found else "no end in sight" if code is None else f"return code {code}"
        seconds = round(time.monotonic() - began, 1)
        return {"outcome": "survived"} if code == 0 else {"outcome": "killed", "by": by, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=70, help="mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", nargs="*", default=[], help="only of files that match, such as 'cpp/bonded/*'")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "mutation.json", help="where the results go")
    parser.add_argument("--workers", type=int, default=2, help="mutants at a time")
    parser.add_argument("--list", action="store_true", help="show the mutants and try none")
    options = parser.parse_args()
    mutants = draw(options.files, options.number, options.seed)
    if options.list:
        for mutant in mutants:
            about = mutant.describe()
            print(f"{about['file']}:{about['line']}: {mutant.operator}\n- {about['before']}\n+ {about['after']}")
        return
    results = {row["id"]: row for row in json.loads(options.json.read_text())} if options.json.exists() else {}
    waiting = [mutant for mutant in mutants if mutant.describe()["id"] not in results]
    print(f"{len(mutants)} mutants, {len(mutants) - len(waiting)} of them known", flush=True)
    if waiting:
        lock = threading.Lock()

        def work(number: int) -> None:
            workshop = Workshop(ROOT / "build" / "mutate" / str(number))
            while True:
                with lock:
                    if not waiting:
                        return
                    mutant = waiting.pop(0)
                row = {**mutant.describe(), **workshop.try_out(mutant)}
                with lock:
                    results[str(row["id"])] = row
                    options.json.parent.mkdir(parents=True, exist_ok=True)
                    part = options.json.with_suffix(".part")
                    part.write_text(json.dumps(list(results.values()), indent=1))
                    part.replace(options.json)
                    print(f"{row['outcome']}: {row['file']}:{row['line']}: {row['operator']}", flush=True)

        with ThreadPoolExecutor(options.workers) as pool:
            list(pool.map(work, range(options.workers)))
    rows = [results[str(mutant.describe()["id"])] for mutant in mutants]
    killed = sum(row["outcome"] == "killed" for row in rows)
    survivors = [row for row in rows if row["outcome"] == "survived"]
    for row in survivors:
        print(f"\nsurvived: {row['file']}:{row['line']}: {row['operator']}\n- {row['before']}\n+ {row['after']}")
    counted = killed + len(survivors)
    print(f"\n{killed} of {counted} killed; {len(rows) - counted} do not compile, or their tests fail without them")
    sys.exit(counted == 0)


if __name__ == "__main__":
    main()
