"""A repository with one prompt, and surroundings of its editor without a workspace."""

from __future__ import annotations

from types import SimpleNamespace

from workbench import registry
from workbench.errors import ConfigError, UnavailableError
from workbench.experiments.dataset import Case, Dataset, Question
from workbench.experiments.experiment import Experiment
from workbench.experiments.scorers import contains
from workbench.experiments.task import Answer, task
from workbench.prompts import prompt as prompts
from workbench.prompts.editor import PromptEditor
from workbench.prompts.surroundings import CallPrice
from workbench.prompts.tokens import Counter
from workbench.types import Hit, Reply

TEXT = """---
name: answer
owner: me
reason: first
inputs:
  question: {type: string, data_class: internal}
  passages: {type: passages, data_class: internal}
---
system:
Answer.

user:
{{ passages[0].text if passages else "nothing" }}
Question: {{ question }}
"""


def hit(text, *, tenant="acme", n=1):
    """A passage."""
    return Hit(id=f"h{n}", text=text, source=f"{n}.md", title="t", version=1, score=0.5, tenant=tenant,
               as_of="2026-11-01", stale=False, digest="d", memory="m")  # fmt: skip


def dataset(n=40, question="What is asked in {}?"):
    """So many cases of two tenants; the answer of each is `short`."""
    return Dataset(name="cases", cases=tuple(
        Case(id=f"q{i:05d}", tenant="globex" if i % 2 else "acme", inputs={"question": question.format(i)},
             expected={"answers": ["short"]})
        for i in range(n)
    ))  # fmt: skip


@task
def answer(ws, case: Question) -> Answer:
    """Answer `short` where the system turn asks for it, and otherwise for every fourth case."""
    system = ws.prompt().render(question=case.question, passages=[]).messages[0].content
    return Answer(text="short" if "short" in system or int(case.id[1:]) % 4 == 0 else "long")


class Around:
    """Surroundings in a folder. `searched` and `counts` are what was asked; `fails` is raised by a search."""

    use_case, tenant, author, model, seed = "answers", "acme", "ada", "tiny", 7

    def __init__(self, root, *, cases=None, author="ada", text=TEXT):
        self.root, self.author, self._cases = root, author, dataset() if cases is None else cases
        self.searched, self.counts, self.fails, self.counting_fails = [], [], None, False
        self.text, self.clock = "the answer", 0
        if not (root / "pipelines/prompts/answer/asset.yaml").is_file():
            registry.save_version(root, "prompt", "answer", text.encode(), author="ada", reason="first",
                                  parent=None)  # fmt: skip

    @property
    def drafts(self):
        return self.root / ".workbench/state/drafts"

    def now(self):
        self.clock += 1
        return f"2026-11-01T12:00:{self.clock:02d}.000000+00:00"

    def newest(self, prompt):
        return max(registry.load(self.root, "prompt", prompt).versions)

    def version(self, reference):
        return prompts.load(self.root, reference, author=self.author)

    def cases(self):
        if isinstance(self._cases, Exception):
            raise self._cases
        return self._cases

    def counter(self, tenant):
        async def count(turns):
            self.counts.append(turns)
            if self.counting_fails:
                raise UnavailableError("it does not count")
            return 42

        return Counter(name="the model tiny", count=count)

    def price(self, rendered, tokens):
        return CallPrice(
            input_usd=tokens / 1000, most_usd=tokens / 500, most_tokens=48, source="card", hint=""
        )

    async def search(self, tenant, text, k):
        self.searched.append((tenant, text, k))
        if self.fails is not None:
            raise self.fails
        return [hit(f"passage {n} for {tenant}", tenant=tenant, n=n) for n in range(1, k + 1)]

    async def ask(self, tenant, rendered):
        return Reply(text=self.text, model=f"tiny of {tenant}", cost_usd=0.0)

    async def compare(self, task, cases, scorers, arms):
        experiment = Experiment(
            name="draft", use_case="answers", bind=self._bind, keep=lambda run: None,
            describe=lambda settings: {"prompt": str(settings["prompt"])}, concurrency=2,
        )  # fmt: skip
        used = [contains(name="accuracy")] if scorers is None else scorers
        return await experiment.compare_async(task, cases, scorers=used, arms=arms)

    def _bind(self, tenant, settings):
        chosen = settings["prompt"]
        if isinstance(chosen, str):
            chosen = self.version(chosen)
        return SimpleNamespace(tenant=tenant, prompt=lambda: chosen)


def editor(around, *, version="answer@1", task=answer, **options):
    """The editor of a version."""
    return PromptEditor(around.version(version), around, task=task, **options)


def no_cases():
    """Surroundings raise this where a job is given no cases."""
    return ConfigError("a job is given inputs", hint="tag the cell")
