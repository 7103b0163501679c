"""Runs the code of notebooks, cell by cell, in one process each and in a folder of its own; needs no Jupyter.

    run.py NOTEBOOK…

With `--save` the outputs are written back; that needs nbclient, nbformat and ipykernel.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

RUN = """
import json, sys
cells = json.load(open(sys.argv[1], encoding="utf-8"))["cells"]
names = {"__name__": "__main__"}
for i, cell in enumerate(c for c in cells if c["cell_type"] == "code"):
    exec(compile("".join(cell["source"]), f"{sys.argv[1]}, code cell {i + 1}", "exec"), names)
"""


def save(path):
    """Executes a notebook by Jupyter's client, and stores what its cells show."""
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": folder}}).execute()
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i}"
        cell.metadata.pop("execution", None)
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


paths = [pathlib.Path(a).resolve() for a in sys.argv[1:] if a != "--save"]
for path in paths:
    if "--save" in sys.argv:
        save(path)
        continue
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-c", RUN, str(path)], cwd=folder, stdout=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(f"{path.name}: a cell failed")
    print(f"{path.name}: all cells ran")
