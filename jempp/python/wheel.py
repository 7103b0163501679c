"""Build backend of the package (PEP 517), without dependencies: puts the Python files, libjempp and jempp-cli into a wheel.

The two come from the workspace's release build; JEMPP_BUILD names another folder that holds them. The wheel's tag says the
lowest glibc whose symbols they use. `packaging/python.sh` builds both and then the wheel.
"""
import base64
import hashlib
import os
import pathlib
import platform
import re
import subprocess
import sys
import tomllib
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Changed files alone change a wheel: all of its files have this time.
TIME = (1980, 1, 1, 0, 0, 0)


def built():
    """The folder with the release build's files."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
    return pathlib.Path(os.environ.get("JEMPP_BUILD", target))


def version():
    """The workspace's version, which is also the package's."""
    found = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]["package"]["version"]
    ours = re.search(r'^__version__ = "(.*)"', (HERE / "src/jempp/__init__.py").read_text(encoding="utf-8"), re.M)
    if ours is None or ours[1] != found:
        sys.exit(f"jempp/python/src/jempp/__init__.py: __version__ must be {found}, as in Cargo.toml")
    return found


def glibc(binaries):
    """The lowest version of glibc that has every symbol the binaries need, as in (2, 34)."""
    needed = set()
    for binary in binaries:
        table = subprocess.run(["objdump", "-T", str(binary)], capture_output=True, text=True, check=True).stdout
        needed |= {tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_(2\.\d+)", table)}
    return max(needed)


def tag(binaries):
    """The wheel's tag: any Python 3, this machine's architecture, the lowest glibc."""
    major, minor = glibc(binaries)
    return f"py3-none-manylinux_{major}_{minor}_{platform.machine()}"


def metadata():
    """The file METADATA, from pyproject.toml."""
    p = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {p['name']}",
        f"Version: {version()}",
        f"Summary: {p['description']}",
        f"License-Expression: {p['license']}",
        "License-File: LICENSE-MIT",
        "License-File: LICENSE-APACHE",
        f"Keywords: {','.join(p['keywords'])}",
        *(f"Classifier: {c}" for c in p["classifiers"]),
        f"Requires-Python: {p['requires-python']}",
        *(f"Requires-Dist: {d}" for d in p["dependencies"]),
    ]
    for extra, needs in p["optional-dependencies"].items():
        lines += [f"Provides-Extra: {extra}", *(f'Requires-Dist: {d}; extra == "{extra}"' for d in needs)]
    lines += ["Description-Content-Type: text/markdown", "", (HERE / p["readme"]).read_text(encoding="utf-8")]
    return "\n".join(lines).encode()


def stripped(path):
    """The file's bytes without symbols that are not needed at run time."""
    out = path.with_name(f"{path.name}.stripped.{os.getpid()}")
    try:
        subprocess.run(["strip", "-o", str(out), str(path)], check=True)
        return out.read_bytes()
    finally:
        out.unlink(missing_ok=True)


def contents(library, program):
    """The wheel's files: (name, bytes, mode)."""
    name = f"jempp-{version()}"
    for path in sorted((HERE / "src").rglob("*")):
        if path.suffix in (".py", ".typed"):
            yield path.relative_to(HERE / "src").as_posix(), path.read_bytes(), 0o644
    yield "jempp/libjempp.so", stripped(library), 0o755
    yield f"{name}.data/scripts/jempp-cli", stripped(program), 0o755
    for licence in ("LICENSE-MIT", "LICENSE-APACHE"):
        yield f"{name}.dist-info/licenses/{licence}", (ROOT / licence).read_bytes(), 0o644
    yield f"{name}.dist-info/METADATA", metadata(), 0o644
    wheel = f"Wheel-Version: 1.0\nGenerator: jempp\nRoot-Is-Purelib: false\nTag: {tag([library, program])}\n"
    yield f"{name}.dist-info/WHEEL", wheel.encode(), 0o644


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Writes the wheel into the folder, and returns its name."""
    library, program = built() / "libjempp_capi.so", built() / "jempp-cli"
    for path in (library, program):
        if not path.exists():
            sys.exit(f"{path}: not built; run cargo build --release -p jempp-cli -p jempp-capi, or packaging/python.sh")
    record = f"jempp-{version()}.dist-info/RECORD"
    wheel, lines = f"jempp-{version()}-{tag([library, program])}.whl", []

    def add(archive, name, data, mode):
        info = zipfile.ZipInfo(name, TIME)
        info.external_attr = (0o100000 | mode) << 16
        info.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(info, data)

    with zipfile.ZipFile(pathlib.Path(wheel_directory) / wheel, "w") as archive:
        for name, data, mode in contents(library, program):
            add(archive, name, data, mode)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(data)}\n")
        add(archive, record, "".join([*lines, f"{record},,\n"]).encode(), 0o644)
    return wheel


def build_sdist(sdist_directory, config_settings=None):
    """There is none: the library is built by cargo, from the whole workspace."""
    sys.exit("jempp has no source distribution for Python; build the wheel in the checkout with packaging/python.sh")


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    print(os.path.join(sys.argv[1], build_wheel(sys.argv[1])))
