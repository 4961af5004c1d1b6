"""Data: tables of questions and tickets, their rules, their quality and their contamination."""
