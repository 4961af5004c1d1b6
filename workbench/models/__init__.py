"""Model endpoints: cards, and one adapter a file."""

from workbench.models.catalogue import ModelCard, card_names, load_card, open_model, read_card

__all__ = ["ModelCard", "card_names", "load_card", "open_model", "read_card"]
