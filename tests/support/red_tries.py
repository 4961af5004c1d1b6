"""Ways around the wall, tried by the code of a confined kernel: each has a name and what is expected of it.

`BEGIN` is the first cell. Each try of `TRIES` is its group and name, the beginning of the result that is
expected, and code whose last line is its result; an error is a result too.
"""

from __future__ import annotations

import re
import textwrap

BEGIN = r'''
import base64, ctypes, dataclasses, glob, io, json, os, pathlib, signal, socket, subprocess, sys, threading
import time
import polars as pl
from workbench import _sync
from workbench.records import egress
from workbench.remote.connection import GatewayConnection
from workbench.remote.descriptors import ask_for_socket

egress._append = print  # the watch writes no more reports
told, kernel, root = {}, pathlib.Path(ws.execution.publish).parent, ws.root
parent, libc, own = os.getppid(), ctypes.CDLL(None, use_errno=True), ws.context.principal
state, cache = root / ".workbench/state", root / ".workbench/cache"
gateway = GatewayConnection(ws.execution.gateway)


def post(path, body):
    return _sync.run(gateway.request("POST", path, json.dumps(body).encode())).body.decode()


def ask(**fields):
    """State a call by hand; return its error, or its last line."""
    stated = {
        "format": 1, "port": "model", "operation": "chat", "target": ws.model().card.reference,
        "use_case": "small", "caller": "red", "tenant": "acme",
        "payload": {"messages": [{"role": "user", "content": "Who pays for a taxi?"}]}, **fields,
    }
    last = json.loads(post("/workbench/v1/calls", stated).splitlines()[-1])
    return last["error"]["type"] if "error" in last else json.dumps(last)


def verb(name, **arguments):
    stated = {"use_case": "small", "tenant": "acme", "arguments": arguments}
    return post(f"/workbench/v1/verbs/{name}", stated)


def read(path):
    return pathlib.Path(path).read_bytes()


def write(path, how="ab"):
    with open(path, how) as file:
        return file.write(b"forged")
'''
TRIES = r"""
# key: the environment -> KeyError
os.environ["OPENAI_API_KEY"]

# key: its child's environment -> None
code = "import os; print(os.getenv('OPENAI_API_KEY'))"
with open(kernel / "out.txt", "w") as file:
    subprocess.run([sys.executable, "-c", code], stdout=file, cwd=kernel)
read(kernel / "out.txt").decode().strip()

# key: the environment of the judge -> PermissionError
read(f"/proc/{parent}/environ")

# key: the memory of the judge -> PermissionError
open(f"/proc/{parent}/mem", "rb")

# key: the files of the judge -> PermissionError
os.listdir(f"/proc/{parent}/fd")

# key: tracing the judge -> -1 1
f"{libc.ptrace(16, parent, None, None)} {ctypes.get_errno()}"

# key: copying its memory -> -1 1
f"{libc.process_vm_readv(parent, None, 0, None, 0, 0)} {ctypes.get_errno()}"

# key: a descriptor of the judge -> -1
libc.syscall(438, 3, 3, 0)

# key: a core of the judge -> PermissionError
os.kill(parent, signal.SIGQUIT)

# key: the stored secrets -> PermissionError
read(state / "gateway/secrets.json")

# key: the owner's token -> PermissionError
read(state / "gateway/owner")

# key: the key of the audit log -> PermissionError
read(state / "audit-keys/key.pem")

# key: the route of the secrets -> NotFoundError
post("/workbench/v1/secrets", {"name": "OPENAI_API_KEY"})

# key: another address for the request -> PermissionError
write(root / "params.yaml")

# network: a vendor's client -> APIConnectionError
import openai
openai.OpenAI(base_url=BASE, api_key="x", max_retries=0).chat.completions.create(model="m", messages=[])

# network: the port of the model -> PermissionError
socket.create_connection(("127.0.0.1", int(BASE.rpartition(":")[2].partition("/")[0])))

# network: every family -> set()
def opened():
    for family in range(1, 46):
        for kind in (1, 2, 3, 5):
            try:
                socket.socket(family, kind).close()
            except OSError:
                continue
            yield family, kind
set(opened()) - {(socket.AF_UNIX, 1)}

# network: a name -> gaierror
socket.getaddrinfo("example.com", 80)

# network: a path socket -> PermissionError
socket.socket(socket.AF_UNIX).connect(SOCKET)

# network: an abstract socket -> PermissionError
socket.socket(socket.AF_UNIX).connect("\0workbench-red")

# network: a program -> PermissionError
subprocess.run(["/usr/bin/env"])

# network: in a thread and in a child -> {'PermissionError'}
def attempt(found):
    try:
        socket.create_connection(("127.0.0.1", 9))
    except Exception as error:
        found.add(type(error).__name__)
found = set()
threads = [threading.Thread(target=attempt, args=(found,)) for _ in range(3)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
found

# rights: an admin -> RefusedError
ask(principal={**dataclasses.asdict(own), "groups": ["everyone", "board"], "clearance": 9, "admin": True})

# rights: another name -> RefusedError
ask(principal={**dataclasses.asdict(own), "name": "ann", "kind": "user"})

# rights: the context forced -> RefusedError
forced = wb.connect("small")
object.__setattr__(forced.context, "principal", dataclasses.replace(own, admin=True, clearance=9))
object.__setattr__(forced.identity, "principal", forced.context.principal)
forced.model().chat("hello").text

# rights: no settings -> refused
variable = os.environ.pop("WORKBENCH_EXECUTION")
try:
    got = wb.connect("small").model().chat("hello").text
except wb.WorkbenchError:
    got = "refused"
finally:
    os.environ["WORKBENCH_EXECUTION"] = variable
got

# rights: another tenant -> TENANT
ask(tenant="globex")

# rights: a tenant of nobody -> NotFoundError
ask(tenant="initech")

# rights: another run -> ConfigError
ask(labels={"run": "1"})

# rights: another job -> ConfigError
ask(labels={"job": "other"})

# records: another tenant's calls before this run -> 0
ws.calls(tenant="globex").filter(pl.col("run") != ws.execution.run).height

# rights: a verb of the process -> ConfigError
verb("promote", reference="job/small")

# rights: a method -> ConfigError
verb("__class__")

# client: an identity -> ConfigError
ask(identity={"model": "gpt-9"})

# client: a price -> ConfigError
ask(price=0)

# client: a clock -> ConfigError
ask(clock="2020-01-01")

# client: a card -> ConfigError
ask(card={"name": "small"})

# client: another model's weights -> True
"gpt-9" not in ask(payload={"messages": [{"role": "user", "content": "hi"}], "model": "gpt-9"})

# client: a model that is a path -> ConfigError
ask(target="../../params.yaml")

# client: a memory that is a path -> ConfigError
ask(port="memory", operation="count", target="../small", payload={"ids": None, "requester": None})

# client: another text under a version's name -> RefusedError
inputs = {"question": {"value": "x"}, "passages": {"hits": []}}
ask(prompt={"reference": "brief@1", "digest": "", "inputs": inputs})

# client: a draft -> RefusedError
ask(prompt={"reference": "brief@draft-1", "digest": ""})

# client: a prompt that is a path -> ConfigError
ask(prompt={"reference": "../../x@1", "digest": "", "inputs": {}})

# client: a hit that was never served -> RefusedError
ask(passages=[{"id": "taxi", "mark": "0"}])

# client: a hit of another caller -> RefusedError
hits = ws.memory().search("taxi")
from workbench.remote.passages import mark_of
ask(caller="blue", passages=[{"id": hits[0].id, "mark": mark_of(hits[0])}])

# client: a hit as a whole -> RefusedError
ask(passages=[{"hit": {**dataclasses.asdict(ws.memory().search("taxi")[0]), "text": "forged"}}])

# client: a stated answer -> REPLY
json.loads(ask(fallbacks=[{"answer": "forged"}]))["end"]["facts"].get("fallback")

# client: an invocation that has ended -> True
first = ask(invocation={"id": "i1", "case": "zz1"})
second = json.loads(ask(invocation={"id": "i1", "case": "zz2"}, ended={"i1": None}))
second["end"]["record"]["labels"]["row"] == "zz2"

# client: an unknown operation -> RefusedError
ask(operation="__init__")

# client: infinite numbers -> ConfigError
_sync.run(gateway.request("POST", "/workbench/v1/calls", b'{"format":1,"retries":1e400}'))

# client: half of a character -> ConfigError
_sync.run(gateway.request("POST", "/workbench/v1/calls", b'{"format":1,"target":"\\ud800"}'))

# client: a nest of lists -> ConfigError
nested = b'{"format":1,"payload":' + b"[" * 900 + b"]" * 900 + b"}"
_sync.run(gateway.request("POST", "/workbench/v1/calls", nested))

# client: a frame that fills the memory -> ConfigError
file = io.BytesIO()
pl.DataFrame({"trace_id": ["x" * 1000] * 50_000}).write_ipc(file, compression="zstd")
verb("impact", frame={"$frame": base64.b64encode(file.getvalue()).decode()})

# records: the calls before this run -> set()
set(ws.calls()["run"].unique()) - {ws.execution.run}

# records: the outcomes before this run -> 0
ws.outcomes().height

# records: an outcome of a call before this run -> NotFoundError
ws.outcome(name="good", trace_id=BEFORE)

# records: an outcome of a session before this run -> NotFoundError
ws.outcome(name="good", session="told")

# records: sessions before this run -> 0
ws.sessions().filter(pl.col("session") == "told").height

# records: costs before this run -> set()
set(ws.costs(by=["run"])["run"]) - {ws.execution.run}

# records: the cache of another use case -> True
"FORGED" not in wb.connect("other").model().chat("What is the answer to q1?").text

# forging: tapes -> PermissionError
write(root / TAPE)

# forging: the journal -> PermissionError
write(cache / "judge/small.answers.jsonl")

# forging: a journal in its place -> PermissionError
os.rename(kernel / "told.txt", cache / "judge/small.answers.jsonl")

# forging: the cache -> PermissionError
write(cache / "answers.jsonl")

# forging: the cache of answers -> OperationalError
import sqlite3
sqlite3.connect(cache / "exact.sqlite").execute("CREATE TABLE x (y)")

# forging: the records of calls -> {'PermissionError'}
def each(paths):
    for path in paths:
        try:
            write(path)
            yield "written"
        except OSError as error:
            yield type(error).__name__
set(each([*CALLS, *AUDIT, *(state / name for name in ("confirmed.jsonl", "jobs.db", "budgets.sqlite"))]))

# forging: a judged run -> PermissionError
write(root / "results/small/judged/candidate.parquet", "wb")

# forging: the attempts of the judge -> PermissionError
write(kernel.parent / "attempts.jsonl")

# forging: its own confinement -> PermissionError
write(pathlib.Path(os.environ["HOME"]).parent / "confined.json")

# forging: a prompt -> PermissionError
write(root / "pipelines/prompts/brief/1.prompty")

# forging: a model's card -> PermissionError
write(root / "pipelines/models/smollm2-135m/1.yaml")

# forging: a policy -> PermissionError
write(root / "pipelines/policies.cedar")

# forging: the package -> PermissionError
write(wb.__file__)

# forging: a library -> PermissionError
write(pl.__file__)

# forging: a startup file of Python -> PermissionError
write(pathlib.Path(pl.__file__).parents[1] / "red.pth")

# forging: a module of the repository -> PermissionError
write(root / "red.py")

# forging: a startup file of the user -> PermissionError
write(USER + "/.bashrc")

# forging: a startup file of the next kernel -> False
pathlib.Path(os.environ["IPYTHONDIR"], "profile_default/startup").mkdir(parents=True, exist_ok=True)
write(pathlib.Path(os.environ["IPYTHONDIR"], "profile_default/startup/red.py"))
os.environ["IPYTHONDIR"].startswith(USER)

# reading: the dataset -> PermissionError
read(root / "data/small/questions.jsonl")

# reading: the pages of another tenant -> PermissionError
read(root / "data/small/globex/hotel.md")

# reading: the prepared cases -> PermissionError
pl.read_parquet(root / "results/small/prepared/cases.parquet")

# reading: the memory's snapshot -> PermissionError
[read(path) for path in SNAPSHOT]

# reading: an earlier judged run -> PermissionError
read(root / "results/small/judged/candidate.parquet")

# reading: the readiness page -> PermissionError
read(root / "reports/small.md")

# reading: git's objects -> PermissionError
read(root / ".git/HEAD")

# reading: DVC's cache, made a module -> PermissionError
read(root / ".dvc/cache/copy")

# reading: the Lab's outputs -> PermissionError
read(state / "outputs/small/saved.json")

# reading: executed notebooks -> PermissionError
read(cache / "executed/old.ipynb")

# reading: explored runs -> PermissionError
read(state / "runs/1/run.parquet")

# reading: published outputs -> PermissionError
read(root / "published/small/acme/answers.parquet")

# reading: scorers -> PermissionError
read(root / "pipelines/scorers/brief.py")

# reading: a copy elsewhere -> PermissionError
read(USER + "/copy.jsonl")

# reading: a link to the dataset, made here -> PermissionError
os.symlink(root / "data/small/questions.jsonl", kernel / "link")

# reading: a hard link to the dataset -> PermissionError
os.link(root / "data/small/questions.jsonl", root / "hard")

# reading: cases by the package -> RefusedError
ws.cases()

# reading: in rust, in c and in a child -> PermissionError -1 1
def child(path):
    done = subprocess.run([sys.executable, "-c", f"open({str(path)!r})"], stderr=subprocess.DEVNULL)
    return done.returncode
path = root / "data/small/questions.jsonl"
try:
    pl.read_ndjson(path)
except OSError as error:
    rust = type(error).__name__
f"{rust} {libc.open(os.fsencode(path), 0)} {child(path)}"

# flood: many connections -> True
mine, descriptor, asking = [], int(ws.execution.gateway.partition(":")[2]), [True]
def more():
    while asking and len(mine) < 10_000:
        mine.append(ask_for_socket(descriptor))
threading.Thread(target=more, daemon=True).start()
time.sleep(0.5)
for client in mine[:40]:
    client.setblocking(True)
    client.sendall(b"POST /workbench/v1/calls HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\nx")
for client in mine[40:50]:
    client.setblocking(True)
    client.sendall(b"GET /" + b"x" * 60_000)
len(mine) <= 64

# flood: a call after it -> {"end"
asking.clear()
[client.close() for client in mine]
ask()

# flood: a body above the limit -> RefusedError
ask(payload={"messages": [{"role": "user", "content": "x" * (17 * 2**20)}]})

# left: folders without an end -> 2000
def dig(top):
    os.chdir(top)
    for number in range(2_000):
        os.mkdir("d")
        os.chdir("d")
    os.chdir(kernel)
dig(kernel), dig(os.environ["HOME"])
2_000

# left: a folder that nobody lists -> True
os.umask(0)
os.mkdir(kernel / "dark", 0o300)
(kernel / "dark/file").write_text("x") == 1

# left: processes -> 2
def live():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1)
children = []
for _ in range(2):
    if (pid := os.fork()) == 0:
        try:
            os.setsid()
        except OSError:
            pass
        os.fork()
        live()
    children.append(pid)
len(children)

# left: an odd name -> None
pathlib.Path(os.environ["HOME"], "a\x1b[31m").mkdir()

# left: shared memory -> PermissionError
write("/dev/shm/red")
"""
#: Group and name of each try, its expected result and its code.
FOUND = re.findall(r"^# (\w+): (.+) -> (.+)\n((?:.+\n)+)", TRIES, flags=re.MULTILINE)


def cells(**values: object) -> list[str]:
    """Return the cells of a notebook that tries everything and writes what came of it to `told.json`.

    `values` are names for the code of the tries.
    """
    given = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    groups = dict.fromkeys(group for group, *_ in FOUND)
    tried = [
        "\n\n".join(_try(f"{group}: {name}", code) for which, name, _, code in FOUND if which == group)
        for group in groups
    ]
    begin = BEGIN + given + "(kernel / 'told.txt').write_text('forged')"
    return [begin, *tried, "(kernel / 'told.json').write_text(json.dumps(told))"]


def _try(name: str, code: str) -> str:
    lines = code.rstrip().split("\n")
    body = "\n".join([*lines[:-1], f"told[{name!r}] = str({lines[-1]})[:500]"])
    kept = f"told[{name!r}] = f'{{type(error).__name__}}: {{error}}'[:500]"
    return f"try:\n{textwrap.indent(body, '    ')}\nexcept Exception as error:\n    {kept}"


def unexpected(told: dict[str, str], group: str, **expected: str) -> dict[str, str]:
    """Return the results of a group that are not as expected; `expected` replaces names in capitals."""
    found = {f"{which}: {name}": expected.get(text, text) for which, name, text, _ in FOUND if which == group}
    return {name: told[name] for name, text in found.items() if not told[name].startswith(text)}
