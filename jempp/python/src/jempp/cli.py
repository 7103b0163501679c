"""The program jempp-cli, which the wheel carries, and training runs by it."""
from __future__ import annotations

import json
import os
import shutil
import sys
from collections import deque
from collections.abc import Mapping
from typing import IO, Any, Callable, Optional

from . import _toml
from .errors import DeviceError, Diverged, FormatError, InternalError
from .run import Run

Show = Callable[[dict[str, Any]], Any]


def executable() -> str:
    """The path of jempp-cli: the wheel's, or the one that the environment variable JEMPP_CLI names, or one on the PATH."""
    if named := os.environ.get("JEMPP_CLI"):
        return named
    from importlib import metadata

    try:
        for file in metadata.files("jempp") or []:
            if file.name == "jempp-cli":
                return os.path.realpath(os.fspath(file.locate()))
    except metadata.PackageNotFoundError:
        pass
    if found := shutil.which("jempp-cli"):
        return found
    raise FileNotFoundError("jempp-cli: not found; install the wheel, or name it in the environment variable JEMPP_CLI")


def train(
    *overrides: str,
    config: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: str | os.PathLike[str] | bool | None = None,
    device: str = "auto",
    threads: int = 0,
    precision: str = "f32",
    seed: Optional[int] = None,
    progress: Show | bool | None = None,
    options: tuple[str, ...] = (),
    **keys: Any,
) -> Run:
    """Trains by jempp-cli, in a process of its own, and returns the run. Without arguments: the built-in digits.

    `overrides` are as on the command line ("preset=jempp", "train.lr=0.05"); `keys` are whole sections (train={"lr": 0.05})
    or keys at the top level (preset="jempp"). `config` is that of `Trainer`. `out` is the folder to create, by default the
    next runs/train-NNN; `resume` a run to continue, or True for the newest unfinished one. `options` go to the command line
    as they are. `progress` is called with the metrics of a step every few seconds, a dict with "step", "of" and
    "seconds_left"; True shows them, in a notebook as a bar, elsewhere as a line on standard error; None does so in a
    notebook only. Messages go to the logger `jempp`.

    Ctrl-C saves a checkpoint and raises KeyboardInterrupt, with which `resume` continues. Raises ValueError for a wrong
    configuration or wrong data, Diverged, DeviceError, FormatError or OSError, with the program's message.
    """
    arguments = [executable(), "train", "--json", "--log-format", "json", "--device", device, "--precision", precision]
    arguments += ["--threads", str(threads), *options]
    arguments += [] if seed is None else ["--seed", str(seed)]
    arguments += [] if out is None else ["--out", os.fspath(out)]
    if resume is not None and resume is not False:
        arguments += ["--resume", "auto" if resume is True else os.fspath(resume)]
    arguments += [*overrides, *(f"{key}={_toml.value(v)}" for key, v in _toml.flat(keys).items())]
    show = _shown(progress)
    if config is None:
        return _run(arguments, show)
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8") as file:
        file.write(_toml.text(config))
        file.flush()
        return _run([*arguments, "--config", file.name], show)


def _run(arguments: list[str], show: Optional[Show]) -> Run:
    import subprocess
    import threading

    # A session of its own: Ctrl-C reaches the program through us alone, and so once.
    process = subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None and process.stderr is not None
    # Standard output is one line at the end; it is read beside the messages, so that neither pipe fills up.
    result: list[str] = []
    reader = threading.Thread(target=lambda out: result.append(out.read()), args=(process.stdout,))
    last: deque[str] = deque(maxlen=20)
    try:
        reader.start()
        _follow(process.stderr, show, last)
        code = process.wait()
    except BaseException:
        _stop(process)
        raise
    finally:
        if process.poll() is None:
            process.kill()
        reader.join()
        process.stdout.close()
        process.stderr.close()
    if code != 0:
        raise _failure(code, "\n".join(last))
    return Run(json.loads(result[0])["folder"])


def _stop(process: Any) -> None:
    """Asks the program to save and end, and waits for it; a second Ctrl-C ends it at once."""
    import signal

    process.send_signal(signal.SIGINT)
    # What it still says must be read, or it would wait for us.
    process.stderr.read()
    process.wait()


def _follow(lines: IO[str], show: Optional[Show], last: "deque[str]") -> None:
    import logging

    from ._log import logger as get

    logger = get()
    for line in lines:
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            last.append(line.rstrip("\n"))
        elif "step" in said:
            if show is not None:
                show(said)
        else:
            text = str(said.get("message", line)).strip()
            warning = text.startswith("warning:") or str(said.get("level", "")).upper() == "WARN"
            logger.log(logging.WARNING if warning else logging.INFO, "%s", text)


def _failure(code: int, message: str) -> BaseException:
    """The exception for an exit code of jempp-cli."""
    text = message.removeprefix("error: ") or f"jempp-cli ended with code {code}"
    kinds: dict[int, type[BaseException]] = {
        2: ValueError,
        3: ValueError,
        4: DeviceError,
        5: Diverged,
        6: FormatError,
        7: OSError,
        130: KeyboardInterrupt,
    }
    return kinds.get(code, InternalError)(text)


def _shown(progress: Show | bool | None) -> Optional[Show]:
    if callable(progress):
        return progress
    notebook = _in_notebook()
    if progress is False or (progress is None and not notebook):
        return None
    return _bar() if notebook else _line


def _in_notebook() -> bool:
    """Whether this runs in a kernel that shows HTML."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")


def _text(m: dict[str, Any]) -> str:
    def number(name: str, form: str) -> str:
        v = m.get(name)
        return "-" if v is None else format(v, form)

    return (
        f"{m['step']}/{m.get('of', '?')}  epoch {m.get('epoch', 0) + 1}  loss {number('loss', '.3f')}  "
        f"gap {number('gap', '+.2f')}  acc {number('accuracy', '.3f')}  {number('seconds_left', '.0f')} s left"
    )


def _line(m: dict[str, Any]) -> None:
    sys.stderr.write(_text(m) + "\n")


def _bar() -> Show:
    """A progress bar of a notebook, which each call updates."""
    from IPython.display import HTML, display

    handle = display(HTML(""), display_id=True)

    def show(m: dict[str, Any]) -> None:
        bar = f'<progress value="{m["step"]}" max="{m.get("of", m["step"])}"></progress>'
        handle.update(HTML(f"{bar} <code>{_text(m)}</code>"))

    return show
