"""The Lab of this repository (`make lab`): notebooks are stored as `make check` wants them."""

from workbench.notebooks.canonical import pre_save_hook

c = get_config()  # noqa: F821  (Jupyter puts it here)
c.ContentsManager.pre_save_hook = pre_save_hook
