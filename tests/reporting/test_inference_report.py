"""The report of an inference ablation, on a made-up tree whose multiples of AR's FLOPs are known."""

import csv
import io
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fake_trees import FakeTree, overfit_at_the_end
from report_pages import read_page
from rich.console import Console

from lab.ablation import Cell
from lab.config import RunConfig, make_config
from lab.evaluation.measurements import inference
from lab.reporting.inference import words
from lab.reporting.inference.findings import Match, analyse, compute_to_reach
from lab.reporting.report import write_report
from lab.reporting.results import read_tree
from lab.results import (
    Measured,
    MeasurementResult,
    PlanRecord,
    RunResult,
    StopReference,
    Task,
    Text,
    measurement_folder,
    read_result,
    write_record,
)

STEPS = (1, 2, 4, 8, 16)
DRAWS = (1, 4, 16)


@dataclass
class FakeInference(FakeTree):
    """Judge NLL and accuracy are linear in the logarithm of FLOPs, so interpolation is exact.

    AR costs 1 FLOP a token; the DLM with T passes T FLOPs, and its judge NLL falls by `slope` nats with
    each doubling from `dlm_nll_at_1`. With draws its accuracy rises by 0.05 a doubling from 0.4.
    """

    budgets: tuple[int, ...] = (20_000,)
    seeds: tuple[int, ...] = (0, 1, 2)
    analysis: str = "inference"
    arms: tuple[str, ...] = ("judge", "ar", "dlm", "any_order_ar")
    samplers: tuple[str, ...] = ("ancestral", "confidence")
    ar_judge_nll: float = 2.0
    dlm_nll_at_1: float = 2.5
    slope: float = 0.2
    ar_accuracy: float = 0.55
    shift: dict[int, float] = field(default_factory=lambda: {0: 0.0, 1: 0.1, 2: -0.1})

    def level(self, budget: int) -> dict[str, Any]:
        return {}

    def config(self, arm: str, budget: int, seed: int) -> RunConfig:
        made = super().config(arm, budget, seed).model_dump(mode="json")
        measured = {"prompt_share": 0.75, "samplers": self.samplers, "draws": DRAWS}
        return make_config(made, {"inference": measured})

    def data_hash(self, budget: int) -> str:
        return "data"

    def result(self, arm: str, budget: int, seed: int) -> RunResult:
        made = super().result(arm, budget, seed)
        if arm != "judge":
            return made
        return made.model_copy(update={"data": made.data.model_copy(update={"unique_tokens": 900_000})})

    def plan(self, cells: list[Cell]) -> PlanRecord:
        return super().plan(cells).model_copy(update={"measurements": {"inference": "judge"}})

    def values(self, arm: str, seed: int, task: Task) -> tuple[dict[str, float], float]:
        """What a task gives, and its FLOPs."""
        steps, draws = task.settings.get("steps", 0), task.settings.get("num_draws")
        if task.measurement == "choice":
            exact, flops = (0.6, 60.0) if arm == "dlm" else (self.ar_accuracy, 10.0)
            sampled = draws and (0.4 + 0.05 * math.log2(draws), 10.0 * draws)
            accuracy, flops = sampled or (exact, flops)
            values = {"choice_accuracy": accuracy, "choice_accuracy_standard_error": 0.04}
            return values | {"option_gap": 0.3, "option_gap_standard_error": 0.02}, flops
        nll, flops = self.ar_judge_nll + (0.4 if arm == "any_order_ar" else 0.0), 1.0
        if task.measurement == "real_text":
            nll = 1.8
        elif arm == "dlm":
            nll, flops = self.dlm_nll_at_1 - self.slope * math.log2(steps) + self.shift[seed], steps
        values = {"judge_nll": nll, "judge_nll_standard_error": 0.02, "distinct": 0.8, "repetition": 0.1}
        values |= {"repetition_standard_error": 0.01, "parse_rate": 0.5, "parse_rate_standard_error": 0.05}
        return values | {"lines": 90.0}, flops

    def rows(self, arm: str, seed: int) -> list[Measured]:
        config = self.config(arm, self.budgets[0], seed)
        result = self.result(arm, self.budgets[0], seed)
        rows = []
        for number, task in enumerate(inference(config)):
            values, flops = self.values(arm, seed, task)
            told = f"<b>{task.settings.get('sampler', '')} {task.settings.get('steps', '')}</b>"
            real, text = task.measurement == "real_text", Text(prompt="x = ", text=told)
            rows.append(
                Measured(
                    key=f"{arm}-{seed}-{number}",
                    task=task,
                    stops=(result.reference(result.best()),),
                    values=values,
                    costs={} if real else {"flops": flops, "flops_computed": 3 * flops},
                    texts=() if task.measurement == "choice" else (text,),
                )
            )
        return rows

    def write(self) -> "FakeInference":
        super().write()
        for arm in self.arms:
            for seed in self.seeds if arm != "judge" else ():
                self.measure(arm, seed)
        return self

    def measurement(self, arm: str, seed: int) -> Path:
        logdir = self.logdir(arm, self.budgets[0], seed).relative_to(self.path).as_posix()
        return self.path / measurement_folder(logdir, "inference") / "result.json"

    def best(self, arm: str, seed: int) -> StopReference:
        """The best stop of the result that is there."""
        result = read_result(self.logdir(arm, self.budgets[0], seed))
        return result.reference(result.best())

    def measure(self, arm: str, seed: int, **changes: Any) -> None:
        result = self.result(arm, self.budgets[0], seed)
        made = MeasurementResult(
            measurement="inference",
            wanted="all",
            code="feed",
            stops=(result.reference(result.best()),),
            tokens_seen=result.best().tokens_seen,
            epoch=result.best().epoch,
            process=result.process,
            wall_seconds=1.0,
            rows=tuple(self.rows(arm, seed)),
        )
        write_record(self.measurement(arm, seed), made.model_copy(update=changes))


@pytest.fixture
def fake(tmp_path):
    def make(**values):
        return FakeInference(tmp_path / "results" / "inference-compute" / "laptop", **values).write()

    return make


def curve_of(tree, kind, arm, sampler):
    found = analyse(read_tree(tree.path))
    return next(c for c in found.of(kind) if (c.arm, c.sampler) == (arm, sampler))


def test_the_multiple_of_ars_flops_is_the_known_one_at_each_seed(fake):
    """2.5 - 0.2 log2 T + move = 2 at T = 2 ** (2.5 + 5 move)."""
    match = curve_of(fake(), "generation", "dlm", "ancestral").match
    expected = {0: 2**2.5, 1: 2**3.0, 2: 2**2.0}
    assert match.by_seed == pytest.approx(expected)
    assert match.mean == pytest.approx(2**2.5)  # the geometric mean
    half = 4.302653 * 0.5 / math.sqrt(3)  # the t quantile of two degrees of freedom times the error of log2
    assert match.interval == pytest.approx((2 ** (2.5 - half), 2 ** (2.5 + half)), rel=1e-5)
    assert match.from_first == ()


def test_choices_match_where_accuracy_reaches_ars(fake):
    """0.4 + 0.05 log2 m = 0.55 at m = 8: 80 FLOPs against 10. Exactly scored, one amount suffices."""
    draws = curve_of(fake(), "choice", "dlm", "draws")
    assert draws.match.by_seed == pytest.approx({0: 8.0, 1: 8.0, 2: 8.0})
    assert draws.gain.mean == pytest.approx(0.05)  # 0.6 with 16 draws
    exact = curve_of(fake(), "choice", "dlm", "exact")
    assert exact.match.by_seed == {0: 6.0, 1: 6.0, 2: 6.0}
    assert exact.match.from_first == (0, 1, 2)


def test_gains_are_paired_and_positive_where_the_arm_is_better(fake):
    gain = curve_of(fake(), "generation", "dlm", "ancestral").gain
    assert gain.by_seed == pytest.approx({0: 0.3, 1: 0.2, 2: 0.4})  # 2.5 - 0.8 against 2 at 16 passes
    assert gain.window_standard_error == pytest.approx(0.02 * math.sqrt(2))
    assert curve_of(fake(), "generation", "any_order_ar", "left_to_right").gain.mean == pytest.approx(-0.4)


@pytest.mark.parametrize(
    ("target", "expected"), [(5.0, 1.0), (4.0, 1.0), (3.0, 2.0), (2.5, 2 * 2**0.5), (2.0, 4.0), (1.9, None)]
)
def test_compute_to_reach_a_target(target, expected):
    found = compute_to_reach([(1.0, 4.0), (2.0, 3.0), (4.0, 2.0), (8.0, 1.95)], target)
    assert found == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("target", "expected"), [(4.0, 1.0), (3.5, 4 * 4 ** (0.2 / 1.2)), (2.5, 16.0), (2.0, None), (1.0, None)]
)
def test_a_target_touched_in_passing_is_not_reached(target, expected):
    found = compute_to_reach([(1.0, 4.0), (2.0, 2.0), (4.0, 3.7), (16.0, 2.5)], target)
    assert found == (expected if expected is None else pytest.approx(expected))


def test_a_match_that_some_seeds_miss_has_no_mean():
    match = Match({0: 4.0, 1: None}, ())
    assert (match.reached, match.every_seed, match.mean, match.interval) == ([4.0], False, None, None)
    bound = Match({0: 1.0, 1: 4.0}, (0,))
    assert (bound.mean, bound.interval) == (pytest.approx(2.0), None)
    assert Match({0: 4.0}, ()).interval is None


def test_the_headline_says_how_many_times(fake):
    summary = write_report(fake().path).summary
    assert summary["headline"].startswith(
        "To match AR's text under an independent judge, the DLM needs 5.66 times AR's inference FLOPs "
        "(95 % interval 2.39 to 13.4), and it matches at every larger amount measured; to match AR's choice "
        "accuracy, the DLM needs 8 times"
    )
    row = summary["matches"][0]
    assert (row["arm"], row["sampler"], row["verdict"]) == ("dlm", "ancestral", "better (provisional)")
    assert row["flops_ratio"] == pytest.approx(2**2.5)


def test_the_headline_says_never(fake):
    headline = write_report(fake(slope=0.01, ar_accuracy=0.9).path).summary["headline"]
    assert (
        "The DLM does not match AR's text under an independent judge at any amount of compute, " in headline
    )
    assert "even with 16 passes its text's judge NLL is 0.460 nats/token higher (95 % interval" in headline
    assert "even with 16 draws its choice accuracy is 0.300 lower" in headline


def test_the_headline_says_in_how_many_seeds(fake):
    report = write_report(fake(slope=0.15, ar_judge_nll=1.85).path)  # at 16 passes 1.9, 2.0 and 1.8
    assert (
        "at every larger amount measured, in 1 of 3 seeds and does not in the others"
        in report.summary["headline"]
    )
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(report.verdict_table)
    assert "in 1 of 3 seeds" in console.export_text()


def test_a_match_in_passing_is_told_and_does_not_count(fake):
    tree = fake()

    def touched(row, seed):
        if row.task.measurement != "generation":
            return row
        place = (seed, row.task.settings["sampler"], row.task.settings["steps"])
        nll = 1.9 if place in ((0, "ancestral", 2), (1, "ancestral", 16)) else 2.3
        return row.model_copy(update={"values": row.values | {"judge_nll": nll}})

    for seed in tree.seeds:
        tree.measure("dlm", seed, rows=tuple(touched(row, seed) for row in tree.rows("dlm", seed)))
    match = curve_of(tree, "generation", "dlm", "ancestral").match
    assert (match.by_seed[0], match.in_passing) == (None, (0,))
    assert match.by_seed[1] == pytest.approx(8 * 2**0.75)
    report = write_report(tree.path)
    assert (
        "in 1 of 3 seeds and does not in the others (in 1 of 3 seeds only at less compute), even"
        in (report.summary["headline"])
    )
    for seed in tree.seeds[1:]:
        tree.measurement("dlm", seed).unlink()
    report = write_report(tree.path)
    assert report.summary["headline"].startswith(
        "The DLM does not match AR's text under an independent judge for good, only at less compute in 1 of "
        "1 seeds: even with 16 passes its text's judge NLL is 0.300 nats/token higher"
    )
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(report.verdict_table)
    assert "not for good" in console.export_text()


def test_an_arm_that_was_still_improving_is_told(fake):
    tree = fake()
    report = write_report(tree.path)
    assert report.summary["headline"].endswith(
        "; what is said of the DLM, still improving when its run ended, holds within this run length."
    )
    exact, said = report.summary["found"][2], report.summary["found"][-1]
    assert "FLOPs. At" in exact  # one amount: there is no larger one
    assert said.startswith("DLM (3 of 3 seeds) and any-order AR (3 of 3 seeds) were still improving when")
    for seed in tree.seeds:
        tree.edit("any_order_ar", 20_000, seed, overfit_at_the_end)
        tree.measure("any_order_ar", seed, stops=(tree.best("any_order_ar", seed),))
    matches = read_page(write_report(tree.path)).tables[0]
    within = {(row[1], "within this run length" in row[-1]) for row in matches[1:]}
    assert within == {("DLM", True), ("any-order AR", False)}


def test_the_uncertainty_of_text_is_over_prompts(fake):
    text = read_page(write_report(fake().path)).text
    assert "both arms share seed, data and prompts." in text
    assert "windows, which all seeds share" not in text


def test_the_headline_says_at_most_where_one_pass_suffices(fake):
    headline = write_report(fake(ar_judge_nll=3.0).path).summary["headline"]
    assert (
        "needs at most 1 times AR's inference FLOPs, and it matches at every larger amount measured;"
        in headline
    )


def test_the_page_shows_every_amount_of_compute_and_escapes_the_texts(fake):
    report = write_report(fake().path)
    html = report.page.read_text(encoding="utf-8")
    assert "<b>ancestral" not in html
    assert "&lt;b&gt;ancestral 16&lt;/b&gt;" in html
    assert html.count('<td class="left">ancestral</td>') == 1 + len(STEPS)
    assert "With one pass for each of 16 tokens after a prompt of 48, the DLM costs 16 times" in html
    assert "900,000 unique ones" in html
    assert "Trained but not measured" not in html
    assert not re.search(r"url\(|@import|https?://", html)
    rows = list(csv.DictReader(io.StringIO((report.page.parent / "generation.csv").read_text())))
    assert len(rows) == 3 * (2 + 2 * len(STEPS))
    assert {row["seed"] for row in rows} == {"0", "1", "2"}
    assert len(report.summary["generation"]) == 1 + 2 + 2 * len(STEPS)
    assert len(list(csv.DictReader(io.StringIO((report.page.parent / "choice.csv").read_text())))) == 3 * 9


def test_writing_twice_gives_the_same_bytes(fake):
    folder = write_report(fake().path).page.parent
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_report(folder.parent)
    assert first == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {"generation.png", "choice.svg", "generation.csv"} <= set(first)


OTHER = StopReference(run="0ther", reading="annealed", step=2500)


@pytest.mark.parametrize("change", [{"rows": ()}, {"stops": (OTHER,)}])
def test_an_incomplete_or_foreign_measurement_is_left_out_and_said(change, fake):
    tree = fake()
    tree.measure("dlm", 1, **change)
    report = write_report(tree.path)
    assert "Trained but not measured: dlm seed 1" in report.page.read_text(encoding="utf-8")
    assert report.summary["matches"][0]["seeds"] == 2


@pytest.mark.parametrize("text", ["", '{"schema": 3, "measure', '{"schema": 2}', "[]"])
def test_a_damaged_measurement_is_left_out_and_said(fake, text):
    tree = fake()
    tree.measurement("dlm", 1).write_text(text)
    found = analyse(read_tree(tree.path))
    assert [(cell.arm, cell.seed) for cell in found.unmeasured] == [("dlm", 1)]
    said = words.left_out(found)
    assert "Trained but not measured: dlm seed 1" in said
    assert f"{tree.measurement('dlm', 1)}: " in said
    assert said.endswith("The same command makes it again.")


def test_a_row_without_its_number_is_damage(fake):
    tree = fake()
    rows = [row.model_copy(update={"values": {"distinct": 0.5}}) for row in tree.rows("dlm", 1)]
    tree.measure("dlm", 1, rows=tuple(rows))
    (said,) = analyse(read_tree(tree.path)).damaged
    assert "a row of 'real_text' must have judge_nll, but has not." in said


def test_a_measurement_of_other_settings_than_planned_is_left_out(fake):
    tree = fake()
    tree.replan(lambda plan: plan["cells"][-1]["config"]["inference"].update(prompts=7))
    found = analyse(read_tree(tree.path))
    assert [(cell.arm, cell.seed) for cell in found.unmeasured] == [("any_order_ar", 2)]


def test_nothing_measured_makes_a_page_that_says_so(fake):
    tree = fake()
    for arm in tree.arms[1:]:
        for seed in tree.seeds:
            tree.measurement(arm, seed).unlink()
    report = write_report(tree.path)
    assert report.summary["headline"].startswith("Nothing is compared")


def test_without_ar_nothing_is_compared(fake):
    tree = fake()
    for seed in tree.seeds:
        tree.fail("ar", 20_000, seed, "lost")
    report = write_report(tree.path)
    assert report.summary["headline"].startswith("Nothing is compared")
    assert "3 failed" in report.page.read_text(encoding="utf-8")


def test_one_seed_has_no_interval(fake):
    headline = write_report(fake(seeds=(0,)).path).summary["headline"]
    assert "needs 5.66 times AR's inference FLOPs, and it matches at every larger" in headline


def test_a_text_without_parse_rate_has_two_panels(fake):
    tree = fake()
    for arm in tree.arms[1:]:
        for seed in tree.seeds:
            none = {"parse_rate": None, "parse_rate_standard_error": None, "lines": None}
            rows = [
                row.model_copy(update={"values": row.values | none}) if "lines" in row.values else row
                for row in tree.rows(arm, seed)
            ]
            tree.measure(arm, seed, rows=tuple(rows))
    report = write_report(tree.path)
    assert report.summary["generation"][0]["parse_rate"] is None
    assert "parse" not in read_page(report).text


def test_lines_that_parse_are_said_to_be_of_python(fake):
    report = write_report(fake().path)
    assert "Python lines that parse" in read_page(report).tables[1][0]
    assert b"Python lines that parse" in (report.page.parent / "generation.svg").read_bytes()


def test_arms_of_other_budgets_are_refused_but_the_judge_may_have_its_own(fake):
    tree = fake()
    tree.edit("dlm", 20_000, 0, lambda result: result["data"].update(unique_tokens=5))
    tree.edit("dlm", 20_000, 1, lambda result: result["data"].update(unique_tokens=5))
    tree.edit("dlm", 20_000, 2, lambda result: result["data"].update(unique_tokens=5))
    with pytest.raises(ValueError, match=r"all arms but judge must have the same unique tokens, but got"):
        analyse(read_tree(tree.path))


def test_measurements_on_another_backend_are_refused(fake):
    tree = fake()
    process = tree.result("dlm", 20_000, 1).process
    tree.measure("dlm", 1, process=process.model_copy(update={"backend": "torch"}))
    with pytest.raises(ValueError, match=r"inference must be measured with the same backend, .*'torch'"):
        analyse(read_tree(tree.path))


def test_measurements_by_other_code_are_refused(fake):
    tree = fake()
    tree.measure("dlm", 1, code="beef")
    with pytest.raises(ValueError, match=r"inference must be measured with the same code, .*'beef'.*again"):
        write_report(tree.path)


def test_levels_are_refused(fake):
    tree = fake()
    tree.replan(lambda plan: plan["cells"][0].update(level={"data.unique_tokens": 5}))
    with pytest.raises(ValueError, match=r"must have no levels, but .* varies \['data.unique_tokens'\]"):
        analyse(read_tree(tree.path))
