"""Other flow libraries, each in an environment of its own, measured against ours.

`environments` makes the environments, `conductor` talks to one worker process per library,
`comparison` says what is measured. The files named `*_worker.py` run inside those environments and
know nothing of this package but `worker_loop` and `torch_library`, which lie beside them.
"""
