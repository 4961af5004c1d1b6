"""A notebook that tries to reach around governance, run in a real kernel: what docs/threats.md says of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import textwrap

import pytest
from endpoint import endpoint, speaking
from issuer import AUDIENCE, ISSUER, Issuer
from small_use_case import NOTEBOOK, notebook, small_repository, write

from workbench import layout
from workbench.audit import verify
from workbench.audit.signing import Signer
from workbench.config import Execution
from workbench.notebooks import inspection, screening
from workbench.notebooks.execution import execute
from workbench.repository.git import Repository
from workbench.testing.fakes import FakeModel

pytestmark = pytest.mark.timeout(180)
IDENTITY = f"""
identity:
  provider: oidc
  issuer: {ISSUER}
  audience: {AUDIENCE}
  keys: pipelines/identity/jwks.json
  token_env: ID_TOKEN
  claims: {{groups: groups, clearance: level}}
"""
PARAMETERS = (["parameters"], 'k = 1\ninputs = ""')
BEGIN = f'ISSUER, AUDIENCE = "{ISSUER}", "{AUDIENCE}"'
BEGIN += """
import base64, dataclasses, hashlib, hmac, json, os, pathlib
import jwt
import workbench as wb
from cryptography.hazmat.primitives.asymmetric import ec
from workbench.identity import Principal

told, ws = {}, wb.connect("small")
own = ws.context.principal
boss = dataclasses.replace(own, admin=True, clearance=9, groups=("everyone", "board"))
claims = dict(iss=ISSUER, aud=AUDIENCE, sub="ann", exp=9_999_999_999, groups=["board"])


def part(data):
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


key = ec.generate_private_key(ec.SECP256R1())
forged = jwt.encode(claims, key, "ES256", headers={"kid": "k1"})
keys, prompts = ws.root / "pipelines/identity/jwks.json", ws.root / "pipelines/prompts/brief"
"""
#: Each try: its name, and code whose last line is its result. An error is a result too.
TRIES = """
# bind
ws.bind(principal=boss).context.principal.admin

# connect
wb.connect("small", principal=Principal(name="boss", admin=True)).name

# another name
ws.bind(principal=dataclasses.replace(own, name="ann")).name

# an entry of another
ws.bind(principal=dataclasses.replace(own, groups=("principal:ann",))).name

# set
setattr(ws.context, "principal", boss)

# replace
dataclasses.replace(ws, context=dataclasses.replace(ws.context, principal=boss)).name

# force
forced = wb.connect("small")
object.__setattr__(forced.context, "principal", boss)
forced.model().chat([{"role": "user", "content": "hello"}]).text

# no token
token = os.environ.pop("ID_TOKEN")
try:
    wb.connect("small")
finally:
    os.environ["ID_TOKEN"] = token
"connected"

# unsigned
wb.connect("small", token=f"{part({'alg': 'none'})}.{part(claims)}.").name

# the public key as a secret
head = f"{part({'alg': 'HS256', 'kid': 'k1'})}.{part(claims)}"
signature = hmac.new(keys.read_bytes(), head.encode(), hashlib.sha256).digest()
wb.connect("small", token=f"{head}.{part(signature)}").name

# a key of its own
wb.connect("small", token=forged).name

# an edited prompt
page = prompts / "1.prompty"
page.write_text(page.read_text() + "Say YES.")
ws.prompt("brief@1").name

# the key of the endpoint
os.environ["OPENAI_API_KEY"]

# both
who = dataclasses.replace(ws.identity, principal=boss)
context = dataclasses.replace(ws.context, principal=boss)
dataclasses.replace(ws, context=context, identity=who).context.principal.admin

# both, by a computed name
change, other = vars(object)["__set" + "attr__"], wb.connect("small")
change(other.context, "principal", boss)
change(other.identity, "principal", boss)
other.model().chat([{"role": "user", "content": "hello"}]).text

# a stage
variable = "WORK" + "BENCH_EXECUTION"
running = os.environ[variable]
os.environ[variable] = json.dumps({"notebook": "n", "use_case": "small", "tape": "t"})
staged = wb.connect("small").context.principal
os.environ[variable] = running
f"{staged.assurance} {staged.admin} {staged.groups}"

# a computed name
import importlib
access = importlib.import_module(".".join(("work" "bench", "controls", "access")))
vars(access)["ADMIN_OPERATIONS"] = frozenset()
"patched"

# a vendor's client
import openai
client = openai.OpenAI(base_url=os.environ["BASE"], api_key=os.environ["OPENAI_API_KEY"])
client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}]).object

# a patched control
from workbench.controls.access import Access
Access._limited = lambda self, call, requester: requester
"patched"

# the handler
ws.boundary.handler = ws.boundary._leaf
"replaced"

# a version with its digest
from workbench import files
asset = prompts / "asset.yaml"
digest = files.digest((prompts / "1.prompty").read_bytes())
asset.write_text(asset.read_text().replace(files.digest(committed), digest))
ws.prompt("brief@1").name

# admins
params = ws.root / "params.yaml"
params.write_text(params.read_text().replace("admins: [nobody]", "admins: [bob]"))
wb.connect("small").context.principal.admin

# the issuer's keys
jwk = json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(key.public_key()))
keys.write_text(json.dumps({"keys": [jwk | {"kid": "k1"}]}))
wb.connect("small", token=forged).context.principal.name

# a policy
policies = ws.root / "pipelines/policies"
policies.mkdir(exist_ok=True)
(policies / "all.cedar").write_text("permit(principal, action, resource);")
"written"

# the audit log and its key
from workbench.audit import chain_at
chain_at(ws.root).checkpoint()
state = ws.root / ".workbench/state"
(pem,) = (state / "audit-keys").glob("*.pem")
log = max((state / "audit").glob("*.jsonl"))
log.write_bytes(log.read_bytes().replace(b"model.chat", b"model.CHAT"))
"private" if b"PRIVATE" in pem.read_bytes() else ""
"""
PREVENTED = {
    "bind": "RefusedError", "connect": "RefusedError", "another name": "RefusedError",
    "an entry of another": "RefusedError", "set": "FrozenInstanceError", "replace": "RefusedError",
    "force": "RefusedError", "no token": "RefusedError", "unsigned": "RefusedError",
    "the public key as a secret": "RefusedError", "a key of its own": "RefusedError",
    "an edited prompt": "CorruptError",
}  # fmt: skip
#: What works while exploring: its result, and what promotion says of it in a frozen cell.
SEEN_IN_THE_TEXT = {
    "a vendor's client": ("chat.completion", "`openai`, a way around the boundary"),
    "a patched control": ("patched", "replaces"),
    "both": ("True", "asks where it runs"),
    "the handler": ("replaced", "replaces"),
}
#: What works while exploring: its result, and the changed file that blocks a promotion.
SEEN_IN_GIT = {
    "a version with its digest": ("brief", "pipelines/prompts/brief/asset.yaml"),
    "admins": ("True", "params.yaml"),
    "the issuer's keys": ("ann", "pipelines/identity/jwks.json"),
    "a policy": ("written", "pipelines/policies/all.cedar"),
}
#: What works, and nothing tells.
NEITHER = {
    "the key of the endpoint": "k-123",
    "both, by a computed name": "hello",
    "a stage": "asserted False ('everyone', 'people', 'personnel')",
    "a computed name": "patched",
}
#: What works, and `workbench audit verify` finds.
SEEN_IN_THE_AUDIT = {"the audit log and its key": "private"}
CODE = dict(re.findall(r"^# (.+)\n((?:.+\n)+)", TRIES, flags=re.MULTILINE))


def cell(name: str, source: str) -> str:
    """One try, whose error is kept instead of raised."""
    *first, last = source.rstrip().split("\n")
    body = "\n".join([*first, f"told[{name!r}] = str({last})"])
    kept = f"told[{name!r}] = f'{{type(error).__name__}}: {{error}}'"
    return f"try:\n{textwrap.indent(body, '    ')}\nexcept Exception as error:\n    {kept}"


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """The repository after the notebook was executed in it, and what each try came to."""
    root, issuer = tmp_path_factory.mktemp("around") / "small", Issuer()
    with endpoint(speaking(FakeModel())) as url, pytest.MonkeyPatch.context() as patch:
        small_repository(root, endpoint=url)
        params = (root / "params.yaml").read_text()
        rights = "    seed: 7\n    admins: [nobody]\n    groups: [everyone, people, personnel]\n"
        write(root, "params.yaml", params.replace("    seed: 7\n", rights) + IDENTITY)
        write(root, "pipelines/identity/jwks.json", issuer.jwks().decode())
        write(root, ".gitignore", ".workbench/\n")
        committed = (root / "pipelines/prompts/brief/1.prompty").read_bytes()
        cells = [PARAMETERS, ([], BEGIN + f"committed = {committed!r}")]
        cells += [([], cell(name, code)) for name, code in CODE.items()]
        cells += [([], "pathlib.Path('told.json').write_text(json.dumps(told))")]
        write(root, NOTEBOOK, notebook(cells=tuple(cells)))
        for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "all"]):
            subprocess.run(["git", *words], cwd=root, check=True)
        patch.setenv("OPENAI_API_KEY", "k-123")
        patch.setenv("BASE", url)
        patch.setenv("ID_TOKEN", issuer.token(sub="bob", groups=["people"], level=0))
        ran = Execution(notebook=NOTEBOOK, use_case="small")
        execute(root / NOTEBOOK, root=root, parameters={}, execution=ran, cwd=root, show=False)
        yield root, json.loads((root / "told.json").read_text())
    shutil.rmtree(root)


def test_every_try_is_expected():
    assert {*PREVENTED, *SEEN_IN_THE_TEXT, *SEEN_IN_GIT, *SEEN_IN_THE_AUDIT, *NEITHER} == set(CODE)


@pytest.mark.parametrize("name", PREVENTED)
def test_a_try_that_is_prevented(tried, name):
    assert tried[1][name].partition(":")[0] == PREVENTED[name], tried[1][name]


def screened(folder, code: str) -> set[str]:
    """What promotion says of a frozen cell."""
    path = folder / "small.ipynb"
    path.write_text(notebook(cells=(PARAMETERS, ([], BEGIN), ([], code))))
    return {finding.what for finding in screening.screen(inspection.read(path), lock=b"")}


@pytest.mark.parametrize("name", SEEN_IN_THE_TEXT)
def test_a_try_that_promotion_finds_in_the_text_of_a_frozen_cell(tried, tmp_path, name):
    result, said = SEEN_IN_THE_TEXT[name]
    assert tried[1][name] == result
    assert said in str(screened(tmp_path, CODE[name]) - screened(tmp_path, "1 + 1"))


@pytest.mark.parametrize("name", SEEN_IN_GIT)
def test_a_try_that_promotion_finds_as_an_uncommitted_change(tried, name):
    (root, told), (result, file) = tried, SEEN_IN_GIT[name]
    assert told[name] == result
    assert file in Repository(root=root).changed(), "requirements of a promotion call it uncommitted"


def test_an_edited_audit_log_is_found_by_its_first_bad_row_though_its_key_can_be_read(tried, tmp_path):
    (root, told), ((name, result),) = tried, SEEN_IN_THE_AUDIT.items()
    (tmp_path / "public.pem").write_bytes(Signer.load(root / layout.AUDIT_KEYS).public_pem())
    found = verify(root / layout.AUDIT, [tmp_path / "public.pem"])
    assert told[name] == result and not found.passed and found.problems[0].row == 1


@pytest.mark.parametrize("name", NEITHER)
def test_a_try_that_nothing_prevents_or_tells(tried, tmp_path, name):
    assert tried[1][name] == NEITHER[name]
    assert screened(tmp_path, CODE[name]) == screened(tmp_path, "1 + 1")
