import pytest
from fake_measurements import STEPS, fake_inference
from fake_trees import set_nll, unmeasure

from lab.reporting import drawing
from lab.reporting.sections import against, texts
from lab.reporting.tree import read_tree
from lab.results import StopReference, Text
from lab.sections import Against, Texts

UNIQUE = "data.unique_tokens"
BUDGETS = Against(x=UNIQUE)
TEXT = Against(x="flops", metrics=("judge_nll", "parse_rate"), measurement="generation", reference="ar")
CHOICE = Against(x="num_draws", metrics=("choice_accuracy",), measurement="choice", reference="ar")
OTHER = StopReference(run="0ther", reading="annealed", step=2500)


def written(section, tree):
    return against.write(section, read_tree(tree.path), "against")


def axes(section, tree):
    return [panel.axes[0] for panel in written(section, tree).pictures[0].panels]


def rows(section, tree, arm="dlm", variant=""):
    return [r for r in written(section, tree).tables[0].rows if (r["arm"], r["variant"]) == (arm, variant)]


def means(ax, colour=drawing.COLOURS["ar"]):
    """Place -> height of the line of an arm."""
    (line,) = [one for one in ax.lines if one.get_color() == colour and one.get_linewidth() == 1.8]
    return dict(zip(line.get_xdata(), line.get_ydata(), strict=True))


def dotted(ax):
    """The heights of the dotted lines over the whole width."""
    return [round(line.get_ydata()[0], 3) for line in ax.lines if list(line.get_xdata()) == [0, 1]]


def relevel(tree, key, values):
    """Name the levels otherwise."""

    def change(plan):
        for cell in plan["cells"]:
            cell["level"] = {key: values[tree.budgets.index(cell["level"][UNIQUE])]}

    tree.replan(change)


def test_a_metric_of_the_test_split_is_drawn_over_every_stop(fake_tree):
    tree = fake_tree(budgets=(20_000, 80_000))
    section = Against(x="epoch", at="every")
    # On the test split only the best and the last stop are measured, unless a set of tasks asks for all.
    (ax,) = axes(section, tree)
    assert "at every stop" in written(section, tree).pictures[0].caption
    lines = [
        one for one in ax.lines if one.get_color() == drawing.COLOURS["ar"] and one.get_linewidth() == 1.8
    ]
    assert [list(line.get_xdata()) for line in lines] == [[16.0, 256.0], [16.0, 64.0]]
    assert {row["variant"] for row in written(section, tree).tables[0].rows} == {
        "20,000 unique tokens",
        "80,000 unique tokens",
    }
    with pytest.raises(ValueError, match=r"Against at every stop must have x of \['epoch', .*got x='flops'"):
        Against(x="flops", at="every")


def test_a_line_over_stops_is_of_the_same_seeds_throughout(fake_tree):
    tree = fake_tree(budgets=(20_000,), seeds=(0, 1, 2))
    for seed in (0, 1):
        tree.edit(
            "dlm", 20_000, seed, lambda result, seed=seed: [set_nll(result, n, 3 - 0.1 * n) for n in range(9)]
        )
    section = Against(x="epoch", at="every", arms=("dlm",))
    found = rows(section, tree, variant="20,000 unique tokens")
    assert [row["seeds"] for row in found] == [2] * 9
    assert [row["nll"] for row in found] == pytest.approx([3.03 - 0.1 * n for n in range(9)])
    (warning,) = written(section, tree).warnings
    assert warning.startswith("Trained but not measured: dlm seed 2")


def test_rows_count_the_seeds_that_were_measured(fake_tree):
    tree = fake_tree(budgets=(20_000, 80_000), seeds=(0, 1, 2))
    tree.edit("dlm", 20_000, 2, lambda result: unmeasure(result, "choice"))
    found = rows(Against(x=UNIQUE, metrics=("option_gap",)), tree)
    assert [row["seeds"] for row in found] == [2, 3]


def test_the_first_level_is_the_first_that_an_arm_has(fake_tree):
    tree = fake_tree(budgets=(20_000, 80_000), alone=(5_000,))
    section = Against(x="epoch", at="every", levels="first", arms=("dlm",))
    assert {row["variant"] for row in written(section, tree).tables[0].rows} == {"20,000 unique tokens"}


def test_only_the_first_level_is_shown_where_it_is_asked_for(tmp_path):
    tree = fake_inference(tmp_path, budgets=(20_000, 80_000), seeds=(0, 1))
    levels = {
        one: {row["level"] for row in rows(CHOICE.model_copy(update={"levels": one}), tree, variant="draws")}
        for one in ("every", "first")
    }
    assert (len(levels["every"]), levels["first"]) == (2, {"unique_tokens=20000"})


def test_runs_without_what_is_measured_after_them_are_named(fake_tree):
    section = Against(x="epoch", at="every", metrics=("nll", "nll_calibrated"))
    (warning,) = written(section, fake_tree(budgets=(20_000,), seeds=(0,))).warnings
    assert warning.startswith("Trained but not measured: ar seed 0")


def test_numbers_lie_on_a_logarithmic_axis_at_their_place(fake_tree):
    tree = fake_tree()
    content = written(BUDGETS, tree)
    (ax,) = axes(BUDGETS, tree)
    assert ax.get_xscale() == "log"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Unique tokens", "Test NLL (nats/token)")
    assert means(ax) == pytest.approx({20_000: 2.735, 80_000: 2.135, 320_000: 1.535})
    assert [ax.xaxis.get_major_formatter()(place) for place in means(ax)] == ["20,000", "80,000", "320,000"]
    assert content.title == "Against unique tokens"
    assert content.pictures[0].caption == (
        "Dots are seeds, lines their mean. On the test split, at the best stop. "
        "Bars: ± the standard error over held-out windows."
    )
    both = written(Against(x=UNIQUE, metrics=("nll", "choice_accuracy")), tree).pictures[0].caption
    assert "Bars: ± the standard error over held-out windows and held-out items." in both
    end = rows(Against(x=UNIQUE, at="end", arms=("ar",)), tree, "ar")
    assert end[0]["nll"] == pytest.approx(tree.ar_nll(5_120_000, 20_000, 0) + 0.005 + 0.03)


@pytest.mark.parametrize(
    ("key", "values", "told"),
    [
        ("model.size", ("0.1m", "0.8m", "3m"), ["0.1m", "0.8m", "3m"]),
        (UNIQUE, (5, 10, None), ["5", "10", "all"]),
    ],
)
def test_levels_that_are_no_numbers_stand_side_by_side(fake_tree, key, values, told):
    tree = fake_tree()
    relevel(tree, key, values)
    (ax,) = axes(Against(x=key), tree)
    assert ax.get_xscale() == "linear"
    assert means(ax) == pytest.approx({1: 2.735, 2: 2.135, 3: 1.535})
    assert [ax.xaxis.get_major_formatter()(place) for place in (1, 2, 3)] == told


def test_numbers_come_before_words(fake_tree):
    tree = fake_tree()
    relevel(tree, "factors.block", ("window", 1, 4))
    (ax,) = axes(Against(x="factors.block"), tree)
    assert list(means(ax)) == [1, 2, 3]
    assert means(ax) == pytest.approx({1: 2.135, 2: 1.535, 3: 2.735})
    assert [ax.xaxis.get_major_formatter()(place) for place in (1, 2, 3)] == ["1", "4", "window"]


def test_small_numbers_are_numbers(fake_tree):
    tree = fake_tree()
    relevel(tree, "training.learning_rate", (1e-5, 1e-4, 1e-3))
    (ax,) = axes(Against(x="training.learning_rate"), tree)
    assert ax.get_xscale() == "log"
    assert list(means(ax)) == [1e-5, 1e-4, 1e-3]


def test_a_cost_is_an_axis_and_parameters_may_differ_by_level(fake_tree):
    tree = fake_tree(budgets=(20_000, 80_000))
    for arm in tree.arms:
        for seed in tree.seeds:
            tree.edit(arm, 80_000, seed, lambda result: result.update(parameters=7_000_000))
    (ax,) = axes(Against(x="parameters"), tree)
    assert means(ax) == pytest.approx({853_504: 2.735, 7_000_000: 2.135})
    assert ax.get_xlabel() == "Parameters"
    (ax,) = axes(Against(x="flops"), tree)  # runs have none
    assert [text.get_text() for text in ax.texts] == ["inference FLOPs per generated token not known"]
    tree.edit("dlm", 80_000, 1, lambda result: result.update(parameters=8))
    with pytest.raises(ValueError, match=r"unique_tokens=80000 must have the same number of parameters"):
        written(BUDGETS, tree)


def test_an_axis_must_be_a_level_or_a_cost(fake_tree):
    message = r"`x` must be a level of .*\['data.unique_tokens'\], or one of .*, but got x='model.width'"
    with pytest.raises(ValueError, match=message):
        written(Against(x="model.width"), fake_tree())


def test_another_factor_parts_the_lines(fake_tree):
    tree = fake_tree(budgets=(20_000, 40_000, 80_000, 160_000), arms=("ar",))

    def change(plan):
        for cell in plan["cells"]:
            place = tree.budgets.index(cell["level"][UNIQUE])
            cell["level"] = {"model.size": ("0.1m", "0.8m")[place // 2], UNIQUE: (10, 20)[place % 2]}

    tree.replan(change)
    (ax,) = axes(BUDGETS, tree)
    drawn = [list(line.get_ydata()) for line in ax.lines if line.get_linewidth() == 1.8]
    assert drawn == [pytest.approx([2.735, 2.435]), pytest.approx([2.135, 1.835])]
    assert [text.get_text() for text in ax.texts] == ["AR, size=0.8m", "AR, size=0.1m"]


def test_a_factor_that_does_not_change_a_cost_parts_the_lines_too(fake_tree):
    tree = fake_tree(budgets=(20_000, 40_000, 80_000, 160_000), arms=("ar",))
    levels = [(size, tokens) for size in (7_000, 9_000) for tokens in (10, 20)]
    for budget, (parameters, _) in zip(tree.budgets, levels, strict=True):
        for seed in tree.seeds:
            tree.edit("ar", budget, seed, lambda result, count=parameters: result.update(parameters=count))

    def change(plan):
        for cell in plan["cells"]:
            parameters, tokens = levels[tree.budgets.index(cell["level"][UNIQUE])]
            cell["level"] = {"model.size": str(parameters), UNIQUE: tokens}

    tree.replan(change)
    (ax,) = axes(Against(x="parameters"), tree)
    drawn = [list(line.get_xdata()) for line in ax.lines if line.get_linewidth() == 1.8]
    assert drawn == [[7_000, 9_000], [7_000, 9_000]]
    assert {text.get_text() for text in ax.texts} == {"AR, 10 unique tokens", "AR, 20 unique tokens"}


def test_a_budget_of_one_arm_alone_at_one_point_is_no_line(fake_tree):
    tree = fake_tree(budgets=(20_000, 40_000, 80_000))
    levels = [("0.1m", 10), ("0.8m", 10), ("0.8m", 20)]

    def change(plan):
        for cell in plan["cells"]:
            size, tokens = levels[tree.budgets.index(cell["level"][UNIQUE])]
            cell["level"] = {"model.size": size, UNIQUE: tokens}
        plan["cells"] = [cell for cell in plan["cells"] if cell["arm"] == "ar" or cell["level"][UNIQUE] == 10]

    tree.replan(change)
    (ax,) = axes(Against(x="model.size"), tree)
    assert {text.get_text() for text in ax.texts} == {"AR, 10 unique tokens", "DLM, 10 unique tokens"}


def test_runs_are_compared_with_the_reference_at_their_own_level(fake_tree):
    section = Against(x=UNIQUE, reference="ar")
    tree = fake_tree(seeds=(0, 1, 2))
    found = rows(section, tree)
    assert [row["gain_mean"] for row in found] == pytest.approx([0.18, -0.42, -1.02])
    assert found[0]["gain_adjusted_p"] == pytest.approx(found[0]["gain_p_value"])
    assert found[2]["gain_adjusted_p"] == pytest.approx(3 * found[2]["gain_p_value"])
    assert [row["gain_verdict"] for row in found][1:] == ["worse", "worse"]
    assert {row["gain_mean"] for row in rows(section, tree, "ar")} == {None}
    assert dotted(axes(section, tree)[0]) == []
    assert "× AR" not in [heading for heading, *_ in written(section, tree).tables[0].headings]


def test_six_levels_are_compared_by_a_moderated_t_and_it_is_said(fake_tree):
    section = Against(x=UNIQUE, reference="ar")
    few = written(section, fake_tree(seeds=(0, 1, 2)))
    assert few.tables[0].caption.endswith("the plain t tests are corrected.")
    assert "moderated" not in few.terms
    budgets = tuple(20_000 * 2**n for n in range(6))
    many = written(section, fake_tree(seeds=(0, 1, 2), budgets=budgets))
    assert many.tables[0].caption.endswith("the moderated t tests are corrected.")
    assert "moderated" in many.terms


def test_every_amount_of_compute_is_compared_and_tested_at_the_most(tmp_path):
    tree = fake_inference(tmp_path)
    found = rows(TEXT, tree, variant="ancestral")
    assert [row["flops_ratio"] for row in found] == list(STEPS)
    # 2.5 - 0.2 log2 T against 2, each seed moved by its shift.
    assert [row["gain_mean"] for row in found] == pytest.approx([-0.5, -0.3, -0.1, 0.1, 0.3])
    assert found[-1]["gain_by_seed"] == pytest.approx({"0": 0.3, "1": 0.2, "2": 0.4})
    assert [row["gain_adjusted_p"] is None for row in found] == [True] * 4 + [False]
    # Twice: the other sampler gives the same; any-order AR has no spread and so no test.
    assert found[-1]["gain_adjusted_p"] == pytest.approx(2 * found[-1]["gain_p_value"])
    assert [row["gain_verdict"] for row in found] == [None] * 4 + ["undecided"]
    real, ar = (rows(TEXT, tree, *who)[0] for who in (("real text",), ("ar", "left_to_right")))
    assert (real["judge_nll"], real["flops_ratio"], real["gain_mean"]) == (pytest.approx(1.8), None, None)
    assert (ar["judge_nll"], ar["gain_mean"], ar["flops_ratio"]) == (2.0, None, 1.0)
    (ax,) = axes(TEXT, tree)  # nothing was parsed
    assert ax.get_xlabel() == "Inference FLOPs per generated token"
    assert dotted(ax) == [1.8, 2.0]
    told = {text.get_text() for text in ax.texts}
    assert told == {
        "real text", "AR, left to right", "DLM, ancestral", "DLM, confidence", "any-order AR, left to right"
    }  # fmt: skip
    styles = [line.get_linestyle() for line in ax.lines if line.get_color() == drawing.COLOURS["dlm"]]
    assert {"-", "--"} <= set(styles)  # a sampler each
    caption = written(TEXT, tree).pictures[0].caption
    assert caption.endswith("Dotted lines: AR at its most compute and real text.")
    assert written(TEXT, tree).warnings == ()


def test_choices_are_drawn_against_draws_beside_chance_and_no_real_text(tmp_path):
    tree = fake_inference(tmp_path)
    (ax,) = axes(CHOICE, tree)
    assert means(ax, drawing.COLOURS["dlm"]) == pytest.approx({1: 40, 4: 50, 16: 60})
    assert dotted(ax) == [55.0, 25.0]
    assert ax.get_xlabel() == "Monte Carlo draws an option"
    assert rows(CHOICE, tree, "real text") == []
    assert [row["gain_mean"] for row in rows(CHOICE, tree, variant="exact")] == pytest.approx([0.05])
    assert written(CHOICE, tree).pictures[0].caption.endswith("AR at its most compute and chance.")


def test_measured_runs_are_compared_with_the_reference_at_their_own_level(tmp_path):
    tree = fake_inference(tmp_path, budgets=(20_000, 40_000), samplers=("ancestral",))
    found = [row for row in rows(TEXT, tree, variant="ancestral") if row["steps"] in (1, 16)]
    assert [row["gain_mean"] for row in found] == pytest.approx([-0.5, 0.3, -0.6, 0.2])
    (ax,) = axes(TEXT, tree)
    assert sorted(dotted(ax)) == [1.8, 1.9, 2.0]
    assert "DLM, ancestral, 40,000 unique tokens" in [text.get_text() for text in ax.texts]


@pytest.mark.parametrize("change", [{"rows": ()}, {"stops": (OTHER,)}])
def test_an_incomplete_or_foreign_measurement_is_left_out_and_named(change, tmp_path):
    tree = fake_inference(tmp_path)
    tree.measure("dlm", 1, **change)
    content = written(TEXT, tree)
    assert content.warnings == (
        "Trained but not measured: dlm seed 1. The same command measures what is missing.",
    )
    assert {row["seeds"] for row in content.tables[0].rows if row["arm"] == "dlm"} == {2}


def test_a_damaged_measurement_or_one_of_other_settings_is_left_out_and_named(tmp_path):
    tree = fake_inference(tmp_path)
    tree.measurement("dlm", 1).write_text('{"schema": 4, "measure')
    (tree.measurement("dlm", 2)).write_text('{"schema": 2}')
    values = [row.model_copy(update={"values": {"distinct": 0.5}}) for row in tree.rows("ar", 0)]
    tree.measure("ar", 0, rows=tuple(values))
    tree.replan(lambda plan: plan["cells"][-1]["config"]["inference"].update(prompts=7))
    ar, *damaged, unmeasured = written(TEXT, tree).warnings
    assert "a row of 'real_text' must have judge_nll, but has not. The same command makes it again." in ar
    for seed, told in zip((1, 2), damaged, strict=True):
        assert told.startswith(f"{tree.measurement('dlm', seed)}: ")
        assert told.endswith("The same command makes it again.")
    assert "`schema` must be 4, but got 2" in damaged[1]
    names = "ar seed 0, dlm seed 1, dlm seed 2 and any_order_ar seed 2"
    assert unmeasured.startswith(f"Trained but not measured: {names}. ")


def test_without_measurements_there_is_nothing_to_show_but_why(tmp_path):
    tree = fake_inference(tmp_path, seeds=(0,))
    for arm in tree.arms[1:]:
        tree.measurement(arm, 0).unlink()
    content = written(TEXT, tree)
    assert (content.pictures, content.tables, len(content.warnings)) == ((), (), 1)
    assert texts.write(Texts(), read_tree(tree.path), "texts").samples == ()


def test_measurements_by_several_codes_backends_or_that_are_not_planned_are_refused(tmp_path):
    tree = fake_inference(tmp_path)
    tree.measure("dlm", 1, code="beef")
    with pytest.raises(ValueError, match=r"measured with the same code, .*'dlm seed 1': 'beef'.*again"):
        written(TEXT, tree)
    process = tree.result("dlm", 20_000, 1).process
    tree.measure("dlm", 1, process=process.model_copy(update={"backend": "torch"}))
    with pytest.raises(ValueError, match=r"measured with the same backend, .*'torch'"):
        written(TEXT, tree)
    tree.replan(lambda plan: plan.update(measurements={}))
    with pytest.raises(ValueError, match=r"must plan what is measured after its runs, but plans nothing"):
        written(TEXT, tree)


def test_arms_of_other_data_are_refused_but_the_judge_may_have_its_own(tmp_path):
    tree = fake_inference(tmp_path)
    written(TEXT, tree)  # the judge read 900,000 unique tokens
    tree.edit("any_order_ar", 20_000, 0, lambda result: result["data"].update(hash="other"))
    tree.measure("any_order_ar", 0)
    with pytest.raises(ValueError, match=r"must have the same data hash, but got data20000 for ar seed 0"):
        written(TEXT, tree)


def test_samples_are_of_the_first_seed_that_has_them(tmp_path):
    tree = fake_inference(tmp_path)
    content = texts.write(Texts(), read_tree(tree.path), "texts")
    assert [title for title, _ in content.samples] == [
        "real text",
        "AR, 16 passes",
        "DLM, 16 passes",
        "DLM, 4 passes",
        "DLM, 1 pass",
        "any-order AR, 16 passes",
    ]
    assert content.samples[2][1] == (("x = ", "ancestral of 0"),)
    tree.measurement("dlm", 0).unlink()
    content = texts.write(Texts(arms=("dlm",)), read_tree(tree.path), "texts")
    assert [title for title, _ in content.samples][1:] == ["DLM, 16 passes", "DLM, 4 passes", "DLM, 1 pass"]
    assert content.samples[1][1] == (("x = ", "ancestral of 1"),)
    assert len(content.warnings) == 1


@pytest.mark.parametrize(
    ("prompt", "text", "shown", "real"),
    [
        ("\ufffd\ufffd漢 a", "b\ufffd", ("漢 a", "b\ufffd"), None),
        ("a\ufffd", "\ufffdb", ("a\ufffd", "\ufffdb"), None),  # what is broken elsewhere was written so
        ("\ufffd" * 5, "b", ("\ufffd" * 2, "b"), None),  # a character has three such bytes at most
        ("", "\ufffdb", ("", "\ufffdb"), ("", "b")),  # an arm wrote the one, the text is sound
        ("\ufffd", "\ufffdb", ("", "\ufffdb"), ("", "b")),
    ],
)
def test_samples_begin_with_a_whole_character(prompt, text, shown, real, tmp_path):
    tree = fake_inference(tmp_path, seeds=(0,))
    changed = {"texts": (Text(prompt=prompt, text=text),)}
    for arm in tree.arms[1:]:
        tree.measure(arm, 0, rows=tuple(row.model_copy(update=changed) for row in tree.rows(arm, 0)))
    samples = dict(texts.write(Texts(arms=("dlm",)), read_tree(tree.path), "texts").samples)
    assert samples["DLM, 16 passes"] == (shown,)
    assert samples["real text"] == (real or shown,)
