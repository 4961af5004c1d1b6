"""Code that could act otherwise when it is judged than in a job: found by name, with place and fix."""

from __future__ import annotations

import pytest

from tests.support import small_use_case
from workbench.notebooks import inspection, screening

BEGIN = "import workbench as wb\nws = wb.connect('answers')"
LOCK = b"polars==2.1.0\nnumpy==2.4.6\n"


@pytest.fixture
def screened(tmp_path):
    """Findings of a notebook with this code below the import of the workbench, but for imports around it."""

    def screen(code, *, tags=()):
        cells = (["parameters"], "inputs = ''"), ([], BEGIN), (list(tags), code)
        path = tmp_path / "n.ipynb"
        path.write_text(small_use_case.notebook(cells=cells))
        found = screening.screen(inspection.read(path), lock=LOCK)
        return [finding for finding in found if not finding.what.startswith("imports")]

    return screen


TASK = "@wb.task\ndef answer({}, case: wb.Question) -> wb.Answer:\n    {}"
ASKS = [
    "ws.execution",
    "ws.execution.publish is not None",
    "mine = ws.bind(tenant='a')\nif mine.execution.job: pass",
    "w = ws\nx = w\nx.execution",
    "(w := ws).execution; w.execution",
    "ws.bind(tenant='a').execution",
    "a, b = ws, 1\na.execution",
    "def helper(n, w): return w.execution\nhelper(1, ws)",
    "def helper(w, *, k): return k.execution\nhelper(1, k=ws)",
    "helper = lambda w: w.execution\nhelper(ws)",
    "def one(w): return two(w)\ndef two(v): return v.execution\none(ws)",
    "wb.connect('answers').execution",
    "from workbench import connect\nconnect('answers').execution",
    "getattr(ws, 'execution')",
    "hasattr(ws, 'execution')",
    "vars(ws)['execution']",
    "ws.__dict__",
    "ws._job_labels()",
    "import dataclasses\ndataclasses.asdict(ws)",
    "'job' in repr(ws)",
    "'job' in str(ws.context)",
    "f'{ws}'",
    TASK.format("w", "return w.execution"),
    TASK.format("here", "return here.context.purpose"),
    "def helper(w: wb.Workspace): return w.execution",
    "lambda w: w.execution.publish",
    "ws.context.purpose",
    "context = ws.context\nif context.purpose == 'job': pass",
    "getattr(ws.context, 'purpose')",
    "anything.context.purpose",
    "ws.boundary",
    "getattr(ws, 'boundary').handler",
    "ws.bind(purpose='x').boundary.stores",
    "from workbench.config import Execution\nExecution.current()",
    "from workbench.config import Execution as E\nE.current()",
    "from workbench import config\nconfig.Execution.current()",
    "import workbench.config\nworkbench.config.Execution.current()",
    "import workbench.config as c\nread = c.Execution.current",
    "from workbench.config import EXECUTION_VARIABLE\nimport os\nos.environ[EXECUTION_VARIABLE]",
    "import os\nos.environ['WORKBENCH_EXECUTION']",
    "import os\nos.getenv('WORKBENCH_MODE')",
    "from os import environ as e\ne.get('WORKBENCH_X', '')",
    "import os\n'WORKBENCH_EXECUTION' in os.environ",
    "import os\n[k for k in os.environ if k.startswith('WORKBENCH')]",
    "import os\nos.environ['WORKBENCH_' + 'EXECUTION']",
    "%env WORKBENCH_EXECUTION",
]
REPLACES = [
    "wb.contains = lambda **_: None",
    "wb.contains: object = None",
    "del wb.contains",
    "wb.x, wb.contains = 1, 2",
    "wb.n += 1",
    "for wb.contains in range(3): pass",
    "with open('x') as wb.contains: pass",
    "from workbench.models.handle import ModelHandle\nModelHandle.chat = print",
    "from workbench.experiments import scorers as s\ns.contains = print",
    "import workbench.experiments.scorers\nworkbench.experiments.scorers.contains = print",
    "type(ws).publish = print",
    "ws.__class__.publish = print",
    "model = ws.model()\ntype(model).chat = print",
    "ws.model().__class__.chat = print",
    "wb.__dict__['contains'] = print",
    "vars(wb)['contains'] = print",
    "vars(wb).update(contains=print)",
    "setattr(wb, 'contains', print)",
    "import builtins\nbuiltins.setattr(wb.Answer, 'x', print)",
    "delattr(wb, 'contains')",
    "object.__setattr__(ws, 'execution2', None)",
    "type.__setattr__(type(ws), 'publish', print)",
    TASK.format("ws", "return ws.model()") + "\nanswer.map = print",
    "from unittest.mock import patch\npatch('workbench.contains')",
    "from unittest import mock\n@mock.patch('workbench.contains', print)\ndef f(): ...",
    "import unittest.mock\nwith unittest.mock.patch.object(wb, 'contains'): pass",
    "from unittest.mock import patch as p\np.dict('workbench.x', {})",
    "from unittest.mock import patch\npatch.multiple(wb, contains=print)",
    "monkeypatch.setattr('workbench.contains', print)",
    "monkeypatch.setattr(wb, 'contains', print)",
    "import importlib\nimportlib.reload(wb)",
    "from importlib import reload\nreload(wb.experiments)",
    "import sys\nsys.modules['workbench']",
    "import sys\nsys.modules['workbench.experiments.scorers'].contains = print",
    "from sys import modules\nmodules['workbench'].x",
    "import sys\nsys.modules[name]",
    "import sys\nsys.modules.get('workbench')",
    "import sys\nsys.modules.get(name)",
    "import sys\nsys.modules['torch'] = wb",
    "import sys\nfor m in sys.modules: pass",
    "import sys\nm = sys.modules",
    "import sys\nlist(sys.modules.values())",
]
READS = [
    "ws.cases()",
    "cases = ws.cases\ncases()",
    "getattr(ws, 'cases')()",
    "ws.bind(tenant='a').cases('handbook')",
    TASK.format("w", "return w.cases()"),
    "wb.Dataset.from_file('data/q.jsonl')",
    "from workbench import Dataset as D\nD.from_file('data/q.jsonl')",
    "from workbench.experiments.dataset import Dataset\nDataset.from_file('data/q.jsonl')",
    "read = wb.Dataset.from_file",
    "D = wb.Dataset\nD.from_file('data/q.jsonl')",
    "open('results/answers/gate.json')",
    "open('./results/answers/gate.json')",
    "open('../results/answers/gate.json')",
    "import os\nos.listdir('results')",
    "from pathlib import Path\nPath('results').iterdir()",
    "from pathlib import Path\n(Path('results') / 'answers').iterdir()",
    "from pathlib import Path\nPath('.', 'results', 'answers')",
    "ws.root / 'results'",
    "ws.root / 'results' / 'answers'",
    "ws.root.joinpath('results', 'x')",
    "f'{ws.root}/results/answers/gate.json'",
    "str(ws.root) + '/results/x'",
    "import os\nos.path.join(ws.root, 'results', 'x')",
    "import polars as pl\npl.read_ndjson('results/answers/judged/run/cases.jsonl')",
    "import polars as pl\npl.scan_parquet('results/*/prepared/cases.parquet')",
    "open('pipelines/tapes/answers.jsonl')",
    "ws.root / 'pipelines' / 'tapes' / 'answers.jsonl'",
    "from pathlib import Path as P\nP('pipelines') / 'tapes'",
    "import numpy as np\nnp.fromfile('../pipelines/tapes/answers.judge.jsonl')",
    "import sqlite3\nsqlite3.connect('.workbench/state/jobs.db')",
    "ws.root / '.workbench'",
    "name = 'x'\nopen(f'.workbench/state/{name}')",
    "import glob\nglob.glob('/a/b/.workbench/cache/*')",
    r"open(r'results\answers\gate.json')",
    "open('.dvc/cache/files/md5/00/11')",
]


@pytest.mark.parametrize("code", ASKS)
def test_asking_where_it_runs_is_found(screened, code):
    found = [finding for finding in screened(code) if finding.what.startswith("asks where it runs")]
    assert found and found[0].where.startswith("cell 3, line ") and "or tag the cell" in found[0].fix
    assert screened(code, tags=["explore"]) == []


@pytest.mark.parametrize("code", REPLACES)
def test_replacing_a_part_of_the_workbench_is_found(screened, code):
    found = [finding for finding in screened(code) if finding.what.startswith("replaces")]
    assert found and found[0].where.startswith("cell 3, line ") and "or tag the cell" in found[0].fix
    assert screened(code, tags=["explore"]) == []


@pytest.mark.parametrize("code", READS)
def test_reading_what_is_expected_or_what_was_answered_is_found(screened, code):
    found = [finding for finding in screened(code) if finding.what.startswith("uses")]
    assert found and found[0].where.startswith("cell 3, line ") and "or tag the cell" in found[0].fix
    assert screened(code, tags=["explore"]) == []


@pytest.mark.parametrize(
    "code",
    [
        "execution = 1\nexecution.real",
        "sql.execution('select 1')",
        "boundary = shape.boundary",
        "purpose = row['purpose']\ndf.purpose",
        "context = 'text'\ncontext.purpose",
        "import polars as pl\npl.col('purpose', 'execution', 'results', 'cases')",
        "ws.context.tenant, ws.context.principal",
        "ws.bind(purpose='evaluation', tenant='a')",
        "import os\nos.environ['HOME'], os.environ.get('OPENAI_API_KEY')",
        "'set WORKBENCH_EXECUTION, then run it'",
        "'a workbench', 'MY_WORKBENCH_X', 'workbench_execution'",
        "contains = wb.contains",
        "wb = wb",
        "mine = {}\nmine['workbench'] = 1",
        "class A: pass\nA.chat = print\nsetattr(A, 'x', 1)\nA.__dict__",
        "import numpy as np\nnp.random.x = 1",
        "df = ws.calls()\ndf['x'] = 1\ndf.columns = []",
        "settings = dict(ws.settings)\nsettings['k'] = 3",
        "from unittest.mock import patch\npatch('numpy.load'); patch.object(df, 'x')",
        "client.patch('/items/1', json={})",
        "import importlib, json\nimportlib.reload(json)",
        "import sys\nsys.path, sys.version, 'torch' in sys.modules, sys.modules['json']",
        "import sys\nsys.modules.get('torch')",
        "cases = inputs\ncases.cases",
        "support.cases()",
        "Dataset.from_file('x')",
        "def helper(w): return w.execution\nhelper(1)",
        "import polars as pl\npl.DataFrame.from_dict({})",
        "results = {}\nresults['x'] = 'results'",
        "df['results'], df.select('results'), print('results')",
        "open('data/results/x.csv')",
        "open('data/my_results/x.csv'), open('results.csv'), open('results_2/x')",
        "'see results/answers for more'",
        "a = b = 1\na / b",
        "'https://example.org/results/'",
        "open('pipelines/tapes.md'), open('pipelines/prompts/answer/2.prompty')",
        "n = 1\nf'{n:.2f} {n!r} {ws.tenant} {ws.name}'",
        "str(ws.tenant), repr(inputs), vars()",
        "ws.publish(answer.map(ws.inputs(inputs)), 'answers')",
        "wb.load(ws.memory('handbook').spec.source)",
        "', '.join(['results']), df.join(df, on='results'), ws.model('results')",
    ],
)
def test_a_near_miss_is_no_finding(screened, code):
    assert screened(code) == []


def test_a_finding_names_line_and_code(screened):
    (found,) = screened("n = 1\n\nif ws.execution:\n    n = 2")
    assert (found.where, found.what) == ("cell 3, line 3", "asks where it runs: `ws.execution`")
    assert found.fix.startswith("let the task do the same wherever it runs")


def test_a_name_is_followed_through_all_frozen_cells_and_not_through_others(tmp_path):
    path = tmp_path / "n.ipynb"

    def findings(tags):
        cells = (["parameters"], "inputs = ''"), ([], BEGIN), (tags, "here = ws"), ([], "here.execution")
        path.write_text(small_use_case.notebook(cells=cells))
        return screening.screen(inspection.read(path), lock=LOCK)

    assert len(findings([])) == 1 and findings(["explore"]) == []


def test_the_notebook_of_the_small_use_case_can_be_frozen(tmp_path):
    path = tmp_path / "n.ipynb"
    path.write_text(small_use_case.notebook())
    assert screening.screen(inspection.read(path), lock=LOCK) == []
