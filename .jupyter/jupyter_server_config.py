"""JupyterLab's settings for this repository (`make lab`): notebooks are stored as `make check` expects.

Where jupyter-scheduler is installed, its panel runs promoted versions (docs/notebook-jobs.md).
"""

import importlib.util
from pathlib import Path

root = Path(__file__).resolve().parents[1]
c = get_config()  # noqa: F821  (Jupyter puts it here)
c.ServerApp.contents_manager_class = "workbench.notebooks.lab.NotebookManager"
c.NotebookManager.repository = str(root)
if importlib.util.find_spec("jupyter_scheduler"):
    from workbench.files import make_folder

    panel = root / ".workbench/state/panel"
    make_folder(panel)
    c.SchedulerApp.db_url = f"sqlite:///{panel}/panel.db"
    c.SchedulerApp.scheduler_class = "workbench.scheduler.panel.GovernedScheduler"
    c.Scheduler.execution_manager_class = "workbench.scheduler.panel.GovernedRun"
    c.Scheduler.staging_path = str(panel / "runs")
    c.Scheduler.output_directory = "published/_panel"  # no job has this name
