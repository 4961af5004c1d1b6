"""Documents of each format, made by the tests themselves."""

from __future__ import annotations

import io
import json


def made_pdf(*texts, title=None, password=None):
    """A PDF with a page for each text; a page of "" has no text."""
    from pypdf import PdfReader, PdfWriter

    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    kids = []
    for text in texts:
        lines = "".join(f"({line}) Tj 0 -14 Td " for line in text.split("\n") if line)
        stream = f"BT /F1 12 Tf 72 720 Td {lines}ET" if text else ""
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        kids.append(f"{len(objects) + 1} 0 R")
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] "
            f"/Resources << /Font << /F1 3 0 R >> >> /Contents {len(objects)} 0 R >>"
        )
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    data, places = "%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(data))
        data += f"{number} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    data += f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R >>\n"
    data = (data + f"startxref\n{data.index('xref')}\n%%EOF\n").encode("latin-1")
    if title is None and password is None:
        return data
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    if title is not None:
        writer.add_metadata({"/Title": title})
    if password is not None:
        writer.encrypt(password, algorithm="AES-256")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def made_docx(*, title="", heading="Travel", rows=(("City", "Limit"), ("Lyon", "120"))):
    """A DOCX with a heading, a paragraph, a list, a table and a last paragraph."""
    import docx

    document = docx.Document()
    document.core_properties.title = title
    if heading:
        document.add_heading(heading, level=2)
    document.add_paragraph("Taxis are paid.")
    document.add_paragraph("Keep the receipt", style="List Bullet")
    table = document.add_table(rows=0, cols=2)
    for row in rows:
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    document.add_paragraph("The end.")
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def made_ipynb():
    """A notebook with Markdown, code and an output."""
    output = {"output_type": "stream", "name": "stdout", "text": "SECRET OUTPUT"}
    cells = [
        {"cell_type": "markdown", "source": ["# Fares\n", "\n", "What a taxi costs."], "metadata": {}},
        {
            "cell_type": "code",
            "source": "fare = 12",
            "outputs": [output],
            "metadata": {},
            "execution_count": 1,
        },
        {"cell_type": "raw", "source": "raw", "metadata": {}},
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


HTML = b"""<!doctype html><html><head><title>Travel &amp; costs</title><style>x{}</style></head><body>
<nav><a href="/">Home</a></nav><h1>Travel <em>rules</em><a class=headerlink>#</a></h1>
<p>Taxis are
 paid.<br>Keep the receipt.</p><ul><li>one</li><li>two <b>bold</b></li></ul>
<table><thead><tr><th>City</th><th>Limit</th></tr></thead><tbody><tr><td>Lyon</td><td>120 <b>EUR</b></td></tr>
</tbody></table><pre>def f():
    return 1</pre><script>alert(1)</script><p hidden>hidden</p>The end.</body></html>"""
