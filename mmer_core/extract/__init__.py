"""From recordings to a plain folder of features (extra `extract`): python -m mmer_core extract SOURCE OUT."""
