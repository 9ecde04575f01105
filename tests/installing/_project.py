"""A project that is built without anything from anywhere: its build backend lies in it and writes a wheel."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""

# PEP 517, with no more in the wheel than installers ask for.
_BACKEND = """
import json, pathlib, zipfile

HERE = pathlib.Path(__file__).parent

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    told = json.loads((HERE / "told.json").read_text())
    name, version = told["name"], told["version"]
    info = f"{name}-{version}.dist-info"
    scripts = "".join(f"{script} = {name}_provider:main\\n" for script in told["scripts"])
    files = {
        f"{name}_provider.py": (HERE / "provider.py").read_text(),
        f"{info}/METADATA": f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{info}/entry_points.txt": "[console_scripts]\\n" + scripts,
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\\n" for path in (*files, f"{info}/RECORD"))
    wheel = f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory, wheel), "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel
"""

# Serves its models and nothing else: that is all that an installation asks for.
_PROVIDER = """
import json, os, socket, sys, tempfile, threading

MODELS = {models}

def main():
    if os.environ.get("WANTED", "") != {wanted!r}:
        sys.exit("WANTED is not set as it must be")
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "socket")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    print(path, flush=True)
    threading.Thread(target=until_left, args=(folder, path), daemon=True).start()
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection,), daemon=True).start()

def until_left(folder, path):
    sys.stdin.read()
    os._exit(0)

def answer(connection):
    for line in connection.makefile("rb"):
        kind = json.loads(line)["type"]
        if kind == "hello":
            said = {{"type": "hello", "version": 1, "capabilities": ["reuse"]}}
        elif kind == "list_models":
            said = {{"type": "models", "models": [{{"id": model}} for model in MODELS]}}
        else:
            said = {{"type": "error", "code": "unsupported", "message": "no"}}
        connection.sendall(json.dumps(said).encode() + b"\\n")
"""


def write_project(
    folder: Path,
    *,
    version: str = "1.0",
    models: tuple[str, ...] = ("small",),
    scripts: tuple[str, ...] = ("mine",),
    wanted: str = "",
) -> Path:
    """The project of a package `mine`; the provider does not start unless $WANTED is `wanted`."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    told = {"name": "mine", "version": version, "scripts": scripts}
    (folder / "told.json").write_text(json.dumps(told))
    (folder / "pyproject.toml").write_text(_PYPROJECT)
    (folder / "backend.py").write_text(_BACKEND)
    (folder / "provider.py").write_text(_PROVIDER.format(models=list(models), wanted=wanted))
    return folder


def build_wheel(project: Path, into: Path) -> Path:
    """Its wheel, as an index would have it."""
    spec = importlib.util.spec_from_file_location("backend", project / "backend.py")
    assert spec is not None
    assert spec.loader is not None
    backend = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(backend)
    into.mkdir(parents=True, exist_ok=True)
    return into / str(backend.build_wheel(str(into)))
