"""Verbs of the command line: one file each with `add_arguments(parser)` and `run(settings, args) -> int`."""

VERBS: dict[str, str] = {
    "compile": "compile a model (the default: `qcompile MODEL` is `qcompile compile MODEL`)",
    "lint": "check a Q/DQ graph against a target's rules, without its runtime",
    "verify": "compare two models on the same inputs",
    "certify": "prove that two float models compute the same",
    "diff": "what changed between two models, bundles or plans, matched by structure",
    "show": "a model as text, for git's textconv",
    "analyze": "outliers of activations, and how much the calibration set matters",
    "sensitivity": "which layers lose most at low bits, and files that keep these at 8 bits or float",
    "bench": "latency here, and what a Jetson Orin could reach at best",
    "export": "export a torch module to ONNX, compared with torch at several sizes",
    "targets": "list targets and the rules that each enforces",
    "passes": "list passes",
}
