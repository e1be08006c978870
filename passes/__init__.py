"""Graph passes: name to "module:class". Third parties add theirs with the entry-point group `qcompiler.passes`."""

if __name__ != "qcompiler.passes":
    raise ImportError("import qcompiler.passes; the folder passes/ is not a package of its own")

TABLE: dict[str, str] = {}
