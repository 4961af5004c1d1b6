"""Formats of documents, one file each: bytes to a title and text with headings, tables and page numbers."""
