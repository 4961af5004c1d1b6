"""What a person touches in a notebook: views of Python objects, their text, and one front end for all."""
