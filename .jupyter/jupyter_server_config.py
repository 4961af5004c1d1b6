"""JupyterLab's settings for this repository (`make lab`): the page it opens on, and how it stores notebooks.

Where jupyter-scheduler is installed, its panel runs promoted versions (docs/notebook-jobs.md).
"""

import importlib.util
from pathlib import Path


def start_page(folder: Path) -> str:
    """Return the page on which the Lab opens; import what writes it when it is read."""
    from workbench.pipeline.start_page import start_page as written

    return written(folder)


root = Path(__file__).resolve().parents[1]
c = get_config()  # noqa: F821  (Jupyter puts it here)
c.ServerApp.contents_manager_class = "workbench.notebooks.lab.NotebookManager"
c.NotebookManager.repository = str(root)
c.NotebookManager.start_page = start_page
if importlib.util.find_spec("jupyter_scheduler"):
    from workbench.files import make_folder

    panel = root / ".workbench/state/panel"
    make_folder(panel)
    c.SchedulerApp.db_url = f"sqlite:///{panel}/panel.db"
    c.SchedulerApp.scheduler_class = "workbench.scheduler.panel.GovernedScheduler"
    c.Scheduler.execution_manager_class = "workbench.scheduler.panel.GovernedRun"
    c.Scheduler.staging_path = str(panel / "runs")
    c.Scheduler.output_directory = "published/_panel"  # no job has this name
