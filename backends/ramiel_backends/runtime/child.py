"""What a child process runs: `python child.py CONTROL STATUS TASK WORKER`, four small numbers.

The parent starts it as a program, so nothing of the parent's `__main__` is imported again. CONTROL
is a pipe on which nothing is ever sent: its end says that the parent is gone, and ends this process
at once, whatever it is doing. On STATUS the child reports. TASK holds what there is to do.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def leave_with_parent(control: int) -> None:
    """End this process when the pipe ends."""
    os.read(control, 1)
    os._exit(0)


def load_runtime() -> None:
    """Import the package this file lies in as `runtime`, whatever its name is in the parent."""
    spec = importlib.util.spec_from_file_location(
        "runtime", HERE / "__init__.py", submodule_search_locations=[str(HERE)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["runtime"] = module
    spec.loader.exec_module(module)


def main() -> None:
    """Serve requests until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    control, status, task_fd, worker = map(int, sys.argv[1:5])
    threading.Thread(target=leave_with_parent, args=(control,), daemon=True).start()
    data = os.pread(task_fd, os.fstat(task_fd).st_size, 0)
    task: dict[str, Any] = json.loads(data.rstrip(b"\0"))
    # This folder's file names must not hide anybody's modules.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]
    sys.path += [entry for entry in task["sys_path"] if entry not in sys.path]
    load_runtime()
    serving: Any = importlib.import_module("runtime.serving")
    serving.serve(task, worker, status)


if __name__ == "__main__":
    main()
