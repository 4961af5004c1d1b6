# Runs one stage of dvc.yaml in the repository's environment: DVC itself starts whatever `python` is on the path.
# .venv comes first, because the results depend on its lock; a temporary experiment uses the repository's.
python=${PWD%%/.dvc/tmp/exps/*}/.venv/bin/python
[ -x "$python" ] || python=python
libraries='import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, ("dvc", "polars", "ruamel"))))'
if [ "$python" = python ] && ! python -c "$libraries" 2>/dev/null; then
    [ -z "$WORKBENCH_STAGE_EXIT" ] || printf 2 >"$WORKBENCH_STAGE_EXIT"
    echo "error: there is no .venv in the repository, and the python on the path lacks the libraries" >&2
    echo "  -> make repro   # installs .venv first" >&2
    exit 2
fi
exec "$python" -m workbench.pipeline.stages "$@"
