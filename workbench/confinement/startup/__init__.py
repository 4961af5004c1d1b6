"""The folder of confined Pythons' `sitecustomize`."""
