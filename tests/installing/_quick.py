"""Environments without venv and pip: a wheel is unpacked, its programs are written. For what is around installing."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

from infermux.installing.failures import CannotInstall

from ._project import build_wheel


def make_environment(folder: Path) -> None:
    (folder / "bin").mkdir(parents=True)
    (folder / "lib" / "python3" / "site-packages").mkdir(parents=True)


def install(python: str, requirement: str, *, again: str | None = None) -> None:
    """Of folders only."""
    project, environment = Path(requirement), Path(python).parent.parent
    if (project / "broken").exists():
        raise CannotInstall("installing it failed: pip ended with exit code 1, see above")
    library = environment / "lib" / "python3" / "site-packages"
    with zipfile.ZipFile(build_wheel(project, environment)) as wheel:
        wheel.extractall(library)
    (info,) = library.glob("*.dist-info")
    (info / "direct_url.json").write_text(json.dumps({"url": project.as_uri(), "dir_info": {}}))
    told = json.loads((project / "told.json").read_text())
    for name in told["scripts"]:
        program = environment / "bin" / name
        path = f"import sys; sys.path.insert(0, {str(library)!r})"
        program.write_text(f"#!{sys.executable} -S\n{path}\nfrom mine_provider import main\nmain()\n")
        program.chmod(0o755)
