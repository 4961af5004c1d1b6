"""A small use case with two models, of which the second answers in place of the first."""

from __future__ import annotations

from small_use_case import small_repository

from workbench.workspace.save import save

CARD = """
name: {name}
provider: openai
model: wire-{name}
kind: {kind}
purpose: Tests.
licence: none
region: here
limits: {{context_tokens: 4096}}
price_per_million: {{input_usd: {price}, output_usd: {price}}}
base_url: {url}
defaults: {{temperature: 0.{price}, {own}: 1}}
"""


def repository(folder, *, model, down="http://127.0.0.1:9/v1", up="http://127.0.0.1:9/v1"):
    """A use case whose model is `model`, with the cards `first` (at `down`) and `second` (at `up`)."""
    root = small_repository(folder)
    for name, url, price, own in (("first", down, 1, "top_p"), ("second", up, 2, "seed")):
        path = root / f"pipelines/models/{name}/1.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(CARD.format(name=name, kind="chat", url=url, price=price, own=own).lstrip())
        save(root, f"model/{name}", reason="a test")
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("    model: smollm2-135m\n", f"    model: {model}\n"))
    return root
