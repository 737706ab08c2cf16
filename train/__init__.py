"""Small diffusion models of our own, trained on a CPU: `python -m train NAME`."""
