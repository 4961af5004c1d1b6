"""Model endpoints: cards, and one adapter a file."""

from workbench.models.card import ModelCard
from workbench.models.catalogue import load_card, open_model, read_card

__all__ = ["ModelCard", "load_card", "open_model", "read_card"]
