"""Where the time of a training goes, an operation a file: `attention`, `gru`, `linear`, `dropout`, on `machinery`.

Each file holds the maths, the autograd function, a plain form in PyTorch for any device and, where it pays, a form for
the CPU that numba compiles; `on_gpu` holds those for NVIDIA cards. All give the same numbers but for rounding. The rows
of a batch may belong to G runs, each with its own weights of the GRU and its own seed of dropout: so `torch.vmap`
trains many runs at once.
"""
