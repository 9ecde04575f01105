"""Build the source distribution and the wheel from a clean copy, look inside, install into a fresh environment, import.

The three rooms reach a wheel through links, which is where build back ends go wrong silently: so what is inside is
compared with what is in the tree, the wheel from the tree with the wheel from the source distribution, and the
installed one is imported from `/`, where no checkout can help it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A stale build/ or egg-info in the tree would get into the wheel; the rest is only large.
LEFT_OUT = (".*", "build", "dist", "*.egg-info", "__pycache__")
MODULES = ("infermux", "infermux.actors.messages", "infermux.http.exchange", "infermux.providers.interface")


def run(*command: str | Path, cwd: Path | str) -> str:
    """The output of `command`; exits with all of it when the command fails."""
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}")
    return done.stdout.strip()


def build(source: Path, out: Path, *what: str) -> Path:
    """Build with an isolated back end; returns the wheel. Without `what`: an sdist, and the wheel from that sdist."""
    run(sys.executable, "-m", "build", *what, "--outdir", out, source, cwd=source)
    (wheel,) = out.glob("*.whl")
    return wheel


def names_in(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def expected() -> set[str]:
    """What the wheel must hold: all modules, the dashboard, the sources and scenarios of the bench, py.typed."""
    rooms = [ROOT / "actors", ROOT / "http", ROOT / "providers"]
    own = {str(path.relative_to(ROOT)) for path in (ROOT / "infermux").rglob("*.py")}
    linked = {f"infermux/{path.relative_to(ROOT)}" for room in rooms for path in room.rglob("*.py")}
    page = {f"infermux/{path.relative_to(ROOT)}" for path in (ROOT / "http" / "dashboard_files").iterdir()}
    bench = ROOT / "infermux" / "bench"
    tools = {str(path.relative_to(ROOT)) for path in (*(bench / "c").iterdir(), bench / "scenarios.yml")}
    return own | linked | page | tools | {"infermux/py.typed"}


def check_contents(wheel: Path, what: str) -> None:
    inside = names_in(wheel)
    if missing := sorted(expected() - inside):
        sys.exit(f"{what} lacks {', '.join(missing)}: is a folder missing from `packages` in pyproject.toml?")
    if foreign := sorted(name for name in inside if not name.startswith("infermux/")):
        sys.exit(f"{what} holds {', '.join(foreign)}, which is not infermux")


def check_installed(wheel: Path, folder: Path) -> str:
    """Install `wheel` with its own dependencies only; import and run it from `/`. Returns what --version says."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd="/")
    for module in MODULES:
        where = run(python, "-c", f"import {module} as m; print(m.__file__)", cwd="/")
        if not Path(where).is_relative_to(folder):
            sys.exit(f"{module} was imported from {where}, not from the wheel")
    return run(folder / "bin" / "infermux", "--version", cwd="/")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="infermux-wheel-") as name:
        temporary = Path(name).resolve()
        source = temporary / "source"
        shutil.copytree(ROOT, source, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
        from_sdist = build(source, temporary / "from-sdist")
        from_tree = build(source, temporary / "from-tree", "--wheel")
        check_contents(from_sdist, "the wheel from the source distribution")
        check_contents(from_tree, "the wheel from the tree")
        if differing := names_in(from_sdist) ^ names_in(from_tree):
            sys.exit(f"only one of the two wheels holds {', '.join(sorted(differing))}")
        version = check_installed(from_sdist, temporary / "installed")
    print(f"wheel: {len(expected())} files as in the tree, imported from /, {version}")


if __name__ == "__main__":
    main()
