"""JupyterLab's settings for this repository (`make lab`): notebooks are stored as `make check` expects."""

from pathlib import Path

c = get_config()  # noqa: F821  (Jupyter puts it here)
c.ServerApp.contents_manager_class = "workbench.notebooks.lab.NotebookManager"
c.NotebookManager.repository = str(Path(__file__).resolve().parents[1])
