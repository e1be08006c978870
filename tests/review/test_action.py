"""The GitHub Action's own steps, run by bash in a scratch repository with real commits."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from qcompiler.review.changed import glob_expression
from qcompiler.review.summary import LONGEST, MARKER, summary
from tests.diffing.pairs import renamed
from tests.quantizing import quantized
from tests.review.github import Comments, serve
from tests.review.scratch import TEXT, WEIGHT, Scratch, bash, model, new_repository

pytestmark = pytest.mark.skipif(not (shutil.which("git") and shutil.which("bash")), reason="git or bash is missing")
ACTION = Path(__file__).parent.parent.parent / "action" / "action.yml"
PULL = 7


def steps() -> dict[str, str]:
    """Name to script of the steps that the action runs itself."""
    text = ACTION.read_text(encoding="utf-8")
    return dict(re.findall(r"name: (\w+)\n(?:      .*\n)*?      run: (.*)\n", text))


class Review:
    """One run of the action: the step "Review", then "Verdict" where that would run."""

    def __init__(self, scratch: Scratch, base: str, comments: Comments | None = None, **inputs: str) -> None:
        place = scratch.root.parent / "runner"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        event = {"pull_request": {"number": PULL, "base": {"sha": base}}}
        (place / "event.json").write_text(json.dumps(event), encoding="utf-8")
        environment = {
            "RUNNER_TEMP": str(place), "GITHUB_OUTPUT": str(place / "output"),
            "GITHUB_STEP_SUMMARY": str(place / "summary.md"), "GITHUB_EVENT_PATH": str(place / "event.json"),
            "GITHUB_REPOSITORY": "owner/models", "INPUT_BASE": base,
            **{f"INPUT_{name.upper()}": value for name, value in inputs.items()},
        }  # fmt: skip
        if comments is not None:
            environment |= {"GITHUB_API_URL": comments.url, "GITHUB_TOKEN": "secret"}
        done = bash(steps()["Review"], scratch.root, environment)
        assert done.returncode == 0, done.stderr
        self.lines = done.stdout.splitlines()
        pairs = (line.partition("=") for line in (place / "output").read_text(encoding="utf-8").splitlines())
        self.output = {name: value for name, _, value in pairs}
        self.status = 0
        if self.output.get("failed"):
            script = steps()["Verdict"].replace("${{ steps.review.outputs.failed }}", self.output["failed"])
            self.status = bash(script, scratch.root, {}).returncode
        summary_file = place / "summary.md"
        self.summary = summary_file.read_text(encoding="utf-8") if summary_file.exists() else ""
        self.pages = sorted(path.name for path in place.glob("qcompile-review/*"))


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    """A repository whose first commit has plain.onnx, far.onnx with far.onnx.data, kept.onnx by git-LFS."""
    found = new_repository(tmp_path / "repository")
    found.put("models/plain.onnx", model())
    found.put_external("models/far.onnx", model())
    found.put("models/kept.onnx", model())
    found.to_pointer("models/kept.onnx")
    found.put("notes.txt", b"one\n")
    found.commit("base")
    return found


def base_of(scratch: Scratch) -> str:
    return scratch.git("rev-parse", "HEAD")


def test_nothing_changed(scratch: Scratch) -> None:
    base = base_of(scratch)
    scratch.put("notes.txt", b"two\n")
    scratch.commit()
    found = Review(scratch, base)
    assert (found.status, found.output["status"], found.lines, found.pages) == (0, "0", [
        "::warning title=qcompile::no comment: there is no token"], [])  # fmt: skip
    assert "No model changed." in found.summary


def test_a_re_export_is_no_change(scratch: Scratch) -> None:
    base = base_of(scratch)
    scratch.put("models/plain.onnx", renamed(model()))
    scratch.commit()
    found = Review(scratch, base, fail_on="weights")
    assert found.status == 0
    assert found.lines[0].startswith("::notice file=models/plain.onnx,title=qcompile::the same graph and weights under")
    assert found.pages == ["models__plain.onnx.html"]


def test_every_kind_of_change_in_one_pull_request(scratch: Scratch) -> None:
    base = base_of(scratch)
    scratch.put("models/plain.onnx", model(text=TEXT.replace("Relu", "Tanh")))
    scratch.put_external("models/far.onnx", model(1.5))
    scratch.put("models/kept.onnx", model(2.0))
    scratch.to_pointer("models/kept.onnx")
    scratch.put("models/new.onnx", quantized(TEXT, w=WEIGHT, w2=WEIGHT)[0])
    scratch.put("elsewhere/other.onnx", model())
    scratch.commit()
    with serve(Comments(["hello"])) as comments:
        found = Review(scratch, base, comments, fail_on="weights", paths="models/**/*.onnx")
        assert found.status == 1
        errors = [line.partition("::")[2] for line in found.lines if line.startswith("::error")]
        weights = "w2 of fc2: 64x64, 100%25 of its elements changed, by up to"
        assert errors == [
            "error file=models/far.onnx,title=qcompile::differs in weights (weights 1)",
            f"error file=models/far.onnx,title=qcompile::weights: {weights} 0.5 of its largest magnitude",
            "error file=models/kept.onnx,title=qcompile::differs in weights (weights 1)",
            f"error file=models/kept.onnx,title=qcompile::weights: {weights} 1 of its largest magnitude",
            "error file=models/plain.onnx,title=qcompile::differs in structure (structure 1)",
            "error file=models/plain.onnx,title=qcompile::structure: Relu -> Tanh (act, behind fc1, before fc2)",
        ]
        assert any("models/new.onnx,title=qcompile::new; findings by the rules of orin" in line for line in found.lines)
        assert not any("other.onnx" in line for line in found.lines)
        assert found.pages == ["models__far.onnx.html", "models__kept.onnx.html", "models__plain.onnx.html"]
        assert comments.calls == [f"GET /repos/owner/models/issues/{PULL}/comments?per_page=100&page=1",
                                  f"POST /repos/owner/models/issues/{PULL}/comments"]  # fmt: skip
        assert comments.held[-1]["body"] == found.summary
        assert found.summary.startswith(MARKER)
        assert "| ❌ | models/plain.onnx | differs in structure (structure 1) |" in found.summary


def test_weights_alone_in_a_data_file(scratch: Scratch) -> None:
    base = base_of(scratch)
    graph = (scratch.root / "models/far.onnx").read_bytes()
    scratch.put_external("models/far.onnx", model(1.5))
    assert (scratch.root / "models/far.onnx").read_bytes() == graph
    scratch.to_pointer("models/far.onnx.data")
    scratch.commit()
    found = Review(scratch, base, fail_on="weights")
    assert found.status == 1
    assert found.lines[0] == "::error file=models/far.onnx,title=qcompile::differs in weights (weights 1)"


def test_one_comment_is_kept_up_to_date(scratch: Scratch) -> None:
    base = base_of(scratch)
    scratch.put("models/plain.onnx", model(1.5))
    scratch.commit()
    with serve(Comments([*["hello"] * 100, f"{MARKER}\nold"])) as comments:
        found = Review(scratch, base, comments)
        assert found.status == 0  # precision is the default
        assert comments.calls[-1] == "PATCH /repos/owner/models/issues/comments/101"
        assert len(comments.held) == 101
        assert "differs in weights" in comments.held[100]["body"]
        scratch.git("checkout", "-q", base)
        Review(scratch, base, comments)
        assert "No model changed." in comments.held[100]["body"]
    with serve(Comments([])) as comments:
        Review(scratch, base, comments)
        assert comments.held == []  # nothing to say, nothing said


def test_a_token_that_may_not_write_is_a_warning(scratch: Scratch) -> None:
    base = base_of(scratch)
    scratch.put("models/plain.onnx", model(1.5))
    scratch.commit()
    with serve(Comments([], refuse=403)) as comments:
        found = Review(scratch, base, comments)
        assert found.status == 0
        assert found.lines[-1].startswith("::warning title=qcompile::no comment: GitHub answers 403")
        Review(scratch, base, comments, comment="false")
        assert len([call for call in comments.calls if call.startswith("POST")]) == 1


def test_moved_deleted_and_damaged_models(scratch: Scratch) -> None:
    base = base_of(scratch)
    scratch.git("mv", "models/plain.onnx", "models/moved.onnx")
    scratch.git("rm", "-q", "models/far.onnx", "models/far.onnx.data")
    scratch.put("models/kept.onnx", b"no model at all")
    scratch.commit()
    found = Review(scratch, base)
    assert found.status == 3
    assert found.lines[:3] == [
        "::notice file=models/far.onnx,title=qcompile::deleted",
        "::error file=models/kept.onnx,title=qcompile::cannot be reviewed: this is a text file, not an ONNX model "
        "(name the .onnx file)",
        "::notice file=models/moved.onnx,title=qcompile::the same graph, weights and names",
    ]


def test_what_lfs_did_not_fetch_is_said(scratch: Scratch) -> None:
    base = base_of(scratch)
    scratch.put("models/kept.onnx", model(2.0))
    scratch.to_pointer("models/kept.onnx", held=False)
    scratch.commit()
    found = Review(scratch, base)
    assert found.status == 3
    assert "the git-LFS object behind it is missing or damaged (check out with `lfs: true`" in found.lines[0]


def test_models_over_the_limit_are_passed_over(scratch: Scratch) -> None:
    base = base_of(scratch)
    scratch.put("models/plain.onnx", model(1.5))
    scratch.put("models/kept.onnx", model(2.0))
    scratch.to_pointer("models/kept.onnx")
    scratch.commit()
    found = Review(scratch, base, max_size="0", fail_on="weights")
    assert found.status == 0
    assert [line.rpartition("::")[2] for line in found.lines[:2]] == ["not looked at: 0 MiB is over the limit of 0"] * 2


def test_lint_mode_and_targets(scratch: Scratch) -> None:
    base = base_of(scratch)
    scratch.put("models/plain.onnx", quantized(TEXT.replace("[N, 64]", "[N, 64]"), w=WEIGHT, w2=WEIGHT)[0])
    scratch.commit()
    found = Review(scratch, base, mode="lint", target="orin")
    assert found.lines[0].partition("findings")[2].startswith(" by the rules of orin: ")
    assert found.pages == []
    found = Review(scratch, base, mode="guess")
    assert (found.status, found.lines) == (2, ["::error title=qcompile::mode: unknown mode 'guess' (diff or lint)"])


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"fail_on": "all"}, "fail-on: unknown level 'all'"),
        ({"max_size": "large"}, "max-size: expected a number of MiB, got 'large'"),
        ({"base": "0" * 40}, "is not in this clone (let actions/checkout fetch it: `fetch-depth: 0`)"),
    ],
)
def test_wrong_settings_are_one_annotation(scratch: Scratch, inputs: dict[str, str], says: str) -> None:
    base = inputs.pop("base", base_of(scratch))
    found = Review(scratch, base, None, **inputs)
    assert found.status == 2
    assert len(found.lines) == 1
    assert found.lines[0].startswith("::error title=qcompile::")
    assert says in found.lines[0]


def test_a_branch_is_compared_with_where_it_began(scratch: Scratch) -> None:
    scratch.git("checkout", "-qb", "feature")
    scratch.put("notes.txt", b"three\n")
    scratch.commit()
    scratch.git("checkout", "-q", "main")
    scratch.put("models/plain.onnx", model(9.0))
    base = scratch.commit("main goes on")
    scratch.git("checkout", "-q", "feature")
    assert Review(scratch, base, fail_on="names").status == 0


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("**/*.onnx", "a.onnx", True), ("**/*.onnx", "a/b/c.onnx", True), ("models/*.onnx", "models/a/b.onnx", False),
        ("models/**/*.onnx", "models/b.onnx", True), ("m?.onnx", "m1.onnx", True), ("a+b.onnx", "aab.onnx", False),
    ],
)  # fmt: skip
def test_globs(pattern: str, name: str, matches: bool) -> None:
    assert bool(re.fullmatch(glob_expression(pattern), name)) is matches


def test_a_long_summary_is_cut_before_githubs_limit() -> None:
    from qcompiler.diagnostics import Diagnostic, Severity
    from qcompiler.review.judgement import Judgement

    finding = Diagnostic("QC501", Severity.ERROR, "x" * 3000, "zero")
    items = [Judgement(f"m{place}.onnx", "new", 0, findings=[finding]) for place in range(40)]
    text = summary(items)
    assert len(text) <= LONGEST + 100
    assert re.search(r"\d+ more: see the HTML artefact\.\n$", text)


def test_action_yml_is_valid_and_passes_every_input() -> None:
    yaml = pytest.importorskip("yaml")
    document = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    review = next(step for step in document["runs"]["steps"] if step.get("id") == "review")
    passed = {str(value) for value in review["env"].values()}
    own = {"artifact"}  # decides on a step
    assert {f"${{{{ inputs.{name} }}}}" for name in document["inputs"] if name not in own} == passed
    hooks = yaml.safe_load((ACTION.parent.parent / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert [hook["id"] for hook in hooks] == ["qcompile-lint", "qcompile-diff"]
