"""One trainer for every network: its process, settings, checkpoints, loop, curve. What is trained is the caller's.

- `process`: the command line of a training module, launching it, the clock and the directory of one run;
- `settings`: configurations that survive JSON and the command line;
- `checkpoints`: which checkpoint is whole;
- `loop`: the torch side, Hugging Face's trainer with validation, patience and resumption; only the training process
  imports it;
- `curves`: loss and validation by step, as a table and a picture.

A training module has `add_arguments(parser)` and `run(arguments, progress) -> {"metrics", "curve", "timing"}`, and is
started by `python -m MODULE`, under torchrun, or by `resources.trainer` through Dagster Pipes.
"""
