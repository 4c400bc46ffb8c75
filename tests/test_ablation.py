import ast
import pickle
import re
from dataclasses import replace

import pytest
import yaml
from ablation_bench import TINY, tiny_ablation

import lab.ablation
import lab.config
from lab.ablation import Scale, ablation_names, cells, load_ablation, parse_levels, start_of
from lab.arms import arm_values
from lab.models.sizes import SIZES
from lab.sections import (
    Against,
    Contrast,
    Curves,
    Differences,
    Factorial,
    Fit,
    Frontier,
    Interaction,
    Quantity,
    Texts,
    compare,
    pairs,
)

NEW_ABLATION = '''
"""Width: does a wider DLM need more data.

    make model-width                 in about a minute

Expected: nothing in particular.
"""

from lab.ablation import Ablation, Scale
from lab.arms import arm_values

ABLATION = Ablation(
    name="model-width",
    question="Does a wider DLM need more data?",
    paper="none",
    arms={"dlm": arm_values("dlm"), "dlm_dropout": {**arm_values("dlm"), "model": {"mlp_dropout": 0.1}}},
    scales={"tiny": Scale({"model.width": (32, 64)}, seeds=2, budget="a minute", values={"seed": 0})},
    metric="nll",
    expected="Nothing in particular.",
)
'''


@pytest.fixture
def presets(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tiny.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    monkeypatch.setattr(lab.config, "PRESETS_DIR", tmp_path / "configs")


def test_cells_cover_arms_levels_and_seeds_once_smallest_level_first(presets):
    made = cells(tiny_ablation(), "tiny", seeds=2)
    assert [(cell.level["data.unique_tokens"], cell.seed, cell.arm) for cell in made] == [
        (budget, seed, arm) for budget in (1000, 2000) for seed in (0, 1) for arm in ("ar", "dlm")
    ]
    assert made[1].logdir == "runs/dlm/unique_tokens=1000/seed=0"
    assert made[1].label == "dlm unique_tokens=1000 seed=0"
    for cell in made:
        assert (cell.config.arm, cell.config.seed) == (cell.arm, cell.seed)
        assert cell.config.data.unique_tokens == cell.level["data.unique_tokens"]
        assert (cell.version, cell.evaluation) == ("", "")  # until its data are known
    assert len({cell.logdir for cell in made}) == len(made)


def test_layers_lie_preset_scale_arm_level_overrides(presets):
    scale = Scale(
        {"training.warmup_steps": (3,)},
        seeds=1,
        budget="",
        values={"training": {"warmup_steps": 1, "total_steps": 7, "clip_norm": 2.0}},
    )
    arms = {"ar": {"training": {"warmup_steps": 2, "weight_decay": 0.5}}}
    overrides = {"training": {"clip_norm": 3.0}}
    (cell,) = cells(
        tiny_ablation(arms=arms, sections=(), scales={"tiny": scale}), "tiny", overrides=overrides
    )
    training = cell.config.training
    assert (training.warmup_steps, training.weight_decay, training.clip_norm) == (3, 0.5, 3.0)
    assert (training.total_steps, training.total_tokens) == (7, None)
    assert cell.config.data.length == 16


def test_without_levels_there_is_no_level_folder(presets):
    made = cells(tiny_ablation(scales={"tiny": Scale({}, seeds=1, budget="")}), "tiny")
    assert [cell.logdir for cell in made] == ["runs/ar/seed=0", "runs/dlm/seed=0"]


def test_logdirs_are_safe_paths(presets):
    levels = {"factors.order": ("fixed:4", "right_to_left:0.5"), "data.unique_tokens": (1000,)}
    ablation = tiny_ablation(arms={"a": {}}, sections=(), scales={"tiny": Scale(levels, seeds=1, budget="")})
    logdirs = [cell.logdir for cell in cells(ablation, "tiny")]
    assert logdirs[0] == "runs/a/order=fixed-4,unique_tokens=1000/seed=0"
    assert all(re.fullmatch(r"[A-Za-z0-9._=,/-]+", logdir) and ".." not in logdir for logdir in logdirs)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"data": {"unique_tokens": 500}}, "data.unique_tokens"),
        ({"factors": {"order": "any"}}, "factors.order"),
        ({"seed": 3}, "seed"),
        ({"arm": "x"}, "arm"),
    ],
)
def test_an_override_may_not_set_what_varies(presets, overrides, named):
    with pytest.raises(ValueError, match=rf"an override must not set what tiny varies, but got {named}[.;]"):
        cells(tiny_ablation(), "tiny", overrides=overrides)


def test_the_user_can_choose_other_levels(presets):
    levels = parse_levels(["data.unique_tokens=500,2000"])
    assert levels == {"data.unique_tokens": [500, 2000]}
    made = cells(tiny_ablation(), "tiny", levels=levels)
    assert [(cell.arm, cell.config.data.unique_tokens) for cell in made] == [
        ("ar", 500),
        ("dlm", 500),
        ("ar", 2000),
        ("dlm", 2000),
    ]
    with pytest.raises(
        ValueError, match=r"but got data.unique_tokens; --levels data.unique_tokens=\.\.\. sets"
    ):
        cells(tiny_ablation(), "tiny", overrides={"data": {"unique_tokens": 500}})
    message = (
        r"`levels` must be of what tiny varies, \['data.unique_tokens'\], but got model.width; --set sets"
    )
    with pytest.raises(ValueError, match=message):
        cells(tiny_ablation(), "tiny", levels={"model.width": [32]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data.unique_tokens", "levels must look like data.unique_tokens=5000,20000, but got 'data.unique"),
        ("x=", "levels must look like"),
        ("x=1,", "levels must look like"),
        ("x=1,,2", "levels must look like"),
        ("x=1 x=2", "the levels of 'x' are given twice"),
    ],
)
def test_levels_that_cannot_be_read_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_levels([text])


def test_equal_cells_are_refused(presets):
    ablation = tiny_ablation(
        scales={"tiny": Scale({"data.unique_tokens": (1000, 1000.0)}, seeds=1, budget="")}
    )
    with pytest.raises(ValueError, match="two cells must differ, but 'ar unique_tokens=1000 seed=0' is"):
        cells(ablation, "tiny")
    levels = parse_levels(["data.unique_tokens=1e3,1000"])
    with pytest.raises(ValueError, match="two cells must differ, but 'ar unique_tokens=1000 seed=0' is"):
        cells(tiny_ablation(), "tiny", levels=levels)


def test_a_level_is_what_the_configuration_reads_however_it_is_written(presets):
    first, _ = cells(tiny_ablation(), "tiny", levels=parse_levels(["data.unique_tokens=1e3"]))
    assert (first.level, first.logdir) == (
        {"data.unique_tokens": 1000},
        "runs/ar/unique_tokens=1000/seed=0",
    )
    assert isinstance(first.level["data.unique_tokens"], int)


def test_cells_in_one_folder_are_refused(presets):
    levels = {"factors.order": ("fixed:1", "fixed:01")}
    ablation = tiny_ablation(arms={"a": {}}, sections=(), scales={"tiny": Scale(levels, seeds=1, budget="")})
    assert len(cells(ablation, "tiny")) == 2
    levels = {"data.tokenizer": ("a:b", "a-b")}
    ablation = tiny_ablation(arms={"a": {}}, sections=(), scales={"tiny": Scale(levels, seeds=1, budget="")})
    with pytest.raises(ValueError, match="but 'a tokenizer=a-b seed=0' is there twice"):
        cells(ablation, "tiny")


def test_a_wrong_cell_is_refused_before_any_runs(presets):
    ablation = tiny_ablation(scales={"tiny": Scale({"model.width": (64, 65)}, seeds=1, budget="")})
    with pytest.raises(ValueError, match="`width / heads` must be a whole even number"):
        cells(ablation, "tiny")


def test_seeds_must_be_positive(presets):
    with pytest.raises(ValueError, match="`seeds` must be >= 1, but got seeds=0"):
        cells(tiny_ablation(), "tiny", seeds=0)


@pytest.mark.parametrize("seeds", [2501, 10**9, 10**30])
def test_more_runs_than_anyone_means_are_refused_at_once(presets, seeds):
    with pytest.raises(ValueError, match=rf"at most 10,000 runs, .*: {seeds:,} seeds of 2 arms at 2 levels"):
        cells(tiny_ablation(), "tiny", seeds)


def test_unknown_presets_are_refused(presets):
    with pytest.raises(
        ValueError, match=r"`preset` must be one of \['tiny'\] or a \.yaml file, but got preset='huge'\."
    ):
        cells(tiny_ablation(), "huge")
    other = tiny_ablation(scales={"huge": Scale({"data.unique_tokens": (1000,)}, seeds=1, budget="")})
    expected = (
        r"`preset` must be one of \['huge'\] for tiny, or a file with one .* `base`, but got preset='tiny'\."
    )
    with pytest.raises(ValueError, match=expected):
        cells(other, "tiny")


@pytest.mark.parametrize("name", ["Tiny", "tiny_one", "../tiny", "", "tiny-"])
def test_names_are_lower_case_with_dashes(name):
    with pytest.raises(ValueError, match="`name` must be lower case words joined by dashes, but got name="):
        tiny_ablation(name=name)


def test_an_empty_ablation_is_refused():
    with pytest.raises(ValueError, match=r"`arms` and `scales` must not be empty, but got arms=\[\]"):
        tiny_ablation(arms={})
    with pytest.raises(ValueError, match=r"and scales=\[\]"):
        tiny_ablation(scales={})


@pytest.mark.parametrize(
    "section",
    [
        Differences(contrasts=pairs({"dlm": "x"})),
        Differences(contrasts=pairs({"x": "ar"})),
        Curves(against={"x": "ar"}),
        Curves(against={"dlm": "x"}),
        Curves(panels={"both": ("ar", "x")}),
        Against(x="epoch", arms=("x",)),
        Quantity(names=("onset",), reference="x"),
        Texts(arms=("ar", "x")),
    ],
)
def test_sections_name_arms_that_there_are(section):
    message = rf"`sections` must name arms of \['ar', 'dlm'\], but a {type(section).__name__} names \['x'\]\."
    with pytest.raises(ValueError, match=message):
        tiny_ablation(sections=(*compare({"dlm": "ar"}), section))


@pytest.mark.parametrize(
    "section",
    [Curves(metric="beauty"), Factorial(metrics=("nll", "beauty")), Fit(y="beauty", x=("parameters",))],
)
def test_sections_name_metrics_that_there_are(section):
    assert tiny_ablation(sections=(Fit(y="onset", x=("parameters",)),)).sections
    with pytest.raises(ValueError, match=r"`metric` must be one of \[.* but got metric='beauty'"):
        tiny_ablation(sections=(section,))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (Against(x="data.length"), r"`x` of a Against must be one of .*, but got \['data.length'\]"),
        (Fit(y="nll", x=("parameters", "width")), r"`x` of a Fit must be one of .*, but got \['width'\]"),
        (Against(x="flops", measurement="choice"), r"a Against of what is measured .* needs `measurements`"),
        (
            Interaction(arm="ar", reference="dlm", key="data.length", level=64, reference_level=32),
            r"`key` of an Interaction must be one of \['data.unique_tokens'\], but got 'data.length'",
        ),
        (Frontier(reference="ar"), r"a Frontier of what is measured after the runs needs `measurements`"),
        (
            Quantity(names=("data_potential",), reference="ar"),
            r"a Quantity of data_potential needs levels of data.unique_tokens, but got \['parameters', ",
        ),
        (Texts(), r"a Texts of what is measured after the runs needs `measurements`, but got none"),
    ],
)
def test_sections_take_levels_and_measurements_that_there_are(section, message):
    assert tiny_ablation(sections=(Against(x="data.unique_tokens"), Against(x="parameters"))).sections
    levels = {} if isinstance(section, Quantity) else {"data.unique_tokens": (1000,)}
    with pytest.raises(ValueError, match=message):
        tiny_ablation(sections=(section,), scales={"tiny": Scale(levels, seeds=1, budget="")})


def test_a_contrast_is_between_two_arms_or_two_levels_of_one():
    levels = {"data.unique_tokens": 1000}
    assert Differences(contrasts=(Contrast(arm="ar", reference="ar", reference_level=levels),))
    with pytest.raises(ValueError, match="two arms, or two levels or stops of one, but got 'ar' with itself"):
        Differences(contrasts=pairs({"dlm": "ar", "ar": "ar"}))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Curves, {"x": ("tokens",)}),
        (Curves, {"mark": ("best",)}),
        (Differences, {"contrasts": (), "at": ("first",)}),
        (Against, {"x": "epoch", "matched": ("speed",)}),
        (Quantity, {"names": ("speed",)}),
    ],
)
def test_a_section_says_only_what_it_can(kind, values):
    with pytest.raises(ValueError, match=r"Input should be|Extra inputs"):
        kind(**values)


def test_what_is_tuned_is_one_of_the_arms():
    with pytest.raises(ValueError, match=r"`tuned` must be among the arms \['ar', 'dlm'\], but got \['x'\]"):
        tiny_ablation(tuned=("ar", "x"))


def test_what_is_measured_with_is_one_of_the_arms():
    assert tiny_ablation(measurements={"inference": "ar", "yardstick": ""}).measurements
    message = r"`measurements` must be made with one of the arms \['ar', 'dlm'\], but got \['x'\]"
    with pytest.raises(ValueError, match=message):
        tiny_ablation(measurements={"inference": "x"})


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match=r"`metric` must be one of \[.*'nll'.*but got metric='accuracy'"):
        tiny_ablation(metric="accuracy")


def test_a_file_runs_at_the_scale_of_its_base_and_wins_over_its_values(presets, tmp_path):
    values = {"training": {"total_steps": 7, "clip_norm": 2.0}}
    tiny = Scale({"data.unique_tokens": (1000,)}, seeds=2, budget="", values=values, tune=3)
    ablation = tiny_ablation(scales={"tiny": tiny})
    mine, other = tmp_path / "mine.yaml", tmp_path / "other.yaml"
    mine.write_text("base: tiny\ntraining:\n  total_tokens: 2048\ndata:\n  length: 32\n", encoding="utf-8")
    other.write_text("base: mine.yaml\ntraining:\n  warmup_steps: 1\n", encoding="utf-8")
    assert ablation.scale(str(other)) == tiny
    made = cells(ablation, str(other))
    assert [cell.label for cell in made] == [cell.label for cell in cells(ablation, "tiny")]
    assert {(cell.config.training.total_tokens, cell.config.training.total_steps) for cell in made} == {
        (2048, None)
    }
    assert {(cell.config.training.clip_norm, cell.config.training.warmup_steps) for cell in made} == {
        (2.0, 1)
    }
    assert {(cell.config.data.length, cell.config.model.width) for cell in made} == {
        (32, SIZES["0.1m"]["width"])
    }


def test_a_scale_of_the_files_own_name_goes_before_that_of_its_base(presets, tmp_path):
    scales = {
        "tiny": Scale({"data.unique_tokens": (1000,)}, seeds=2, budget=""),
        "my-own": Scale({"data.unique_tokens": (500,)}, 1, "", values={"training": {"total_tokens": 4096}}),
    }
    (tmp_path / "my_own.yaml").write_text("base: tiny\ntraining:\n  total_tokens: 2048\n", encoding="utf-8")
    made = cells(tiny_ablation(scales=scales), str(tmp_path / "my_own.yaml"))
    assert {(cell.config.data.unique_tokens, cell.config.training.total_tokens) for cell in made} == {
        (500, 4096)
    }
    assert len(made) == 2


def test_a_file_without_a_base_needs_a_scale_of_its_own_name(presets, tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"`preset` must be one of \['tiny'\] for tiny, or .* `base`.*mine\.yaml'"
    ):
        cells(tiny_ablation(), str(tmp_path / "mine.yaml"))
    scales = {"mine": Scale({"data.unique_tokens": (500,)}, seeds=1, budget="")}
    assert len(cells(tiny_ablation(scales=scales), str(tmp_path / "mine.yaml"))) == 2


def test_a_new_ablation_is_one_short_file(presets, tmp_path, monkeypatch):
    folder = tmp_path / "ablations"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "model_width.py").write_text(NEW_ABLATION, encoding="utf-8")
    monkeypatch.setattr(lab.ablation, "ABLATIONS_DIR", folder)
    assert len(NEW_ABLATION.splitlines()) < 60
    assert not any(isinstance(node, ast.For | ast.While) for node in ast.walk(ast.parse(NEW_ABLATION)))
    assert ablation_names() == ["model-width"]
    assert load_ablation("model_width") == load_ablation("model-width")
    made = cells(load_ablation("model-width"), "tiny")
    assert len(made) == 8
    assert {cell.config.model.mlp_dropout for cell in made if cell.arm == "dlm_dropout"} == {0.1}


def test_an_ablation_may_be_a_file_anywhere(tmp_path, monkeypatch):
    (tmp_path / "model_width.py").write_text(NEW_ABLATION, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    loaded = load_ablation("model_width.py")
    assert (loaded.name, list(loaded.arms)) == ("model-width", ["dlm", "dlm_dropout"])
    assert pickle.loads(pickle.dumps(loaded)) == loaded
    assert "model-width" not in ablation_names()
    assert list(tmp_path.iterdir()) == [tmp_path / "model_width.py"]


def test_an_ablation_of_the_labs_may_be_given_by_its_path():
    assert load_ablation(str(lab.ablation.ABLATIONS_DIR / "any_order.py")) == load_ablation("any-order")


def test_an_ablation_may_be_another_with_changes(presets, tmp_path):
    text = (
        "from dataclasses import replace\nfrom lab.ablation import load_ablation\n"
        "ABLATION = replace(load_ablation('crossover'), name='wide', arms={'ar': {}, 'dlm': {}})\n"
    )
    (tmp_path / "wide.py").write_text(text, encoding="utf-8")
    assert load_ablation(str(tmp_path / "wide.py")).scales == load_ablation("crossover").scales


@pytest.mark.parametrize(
    "name", ["cross", "crossover_", "mine.txt", "../crossover", "", "__init__", "configs"]
)
def test_unknown_ablation_lists_those_that_exist(name):
    expected = rf"`ablation` must be one of \[.*'crossover'.*\] or a \.py file, but got ablation={name!r}\."
    with pytest.raises(ValueError, match=expected):
        load_ablation(name)


def test_a_path_to_no_file_says_so(tmp_path):
    (tmp_path / "folder.py").mkdir()
    for name in ("none.py", "folder.py"):
        with pytest.raises(ValueError, match=rf"or a \.py file, but there is no file .*{name}\."):
            load_ablation(str(tmp_path / name))


@pytest.mark.parametrize("name", ["any_order.py", "any-order.py"])
def test_a_file_that_has_the_name_of_another_ablation_is_refused(tmp_path, name):
    (tmp_path / name).write_text(NEW_ABLATION, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"of another name than these, but got ablation='.*{name}'"):
        load_ablation(str(tmp_path / name))


@pytest.mark.parametrize("name", ["my ablation.py", "a.b.py", "ä.py", "-x.py"])
def test_a_file_must_have_a_name_that_a_folder_can_have(tmp_path, name):
    (tmp_path / name).write_text(NEW_ABLATION, encoding="utf-8")
    with pytest.raises(ValueError, match=r"named in letters, digits and dashes, but got ablation='"):
        load_ablation(str(tmp_path / name))


BROKEN = {
    "nothing": ("", "but got ABLATION=None."),
    "another thing": ("ABLATION = 3", "but got ABLATION=3."),
    "another name": (NEW_ABLATION, "but got name='model-width'."),
    "no Python": ("x = 1\nABLATION = (", r"but got SyntaxError: '(' was never closed (mine.py, line 2)"),
    "raises": ("\nABLATION = Ablation()", "but got NameError, line 2: name 'Ablation' is not defined"),
    "not valid": (
        NEW_ABLATION.replace('"nll"', '"loss"'),
        "but got ValueError, line 12: `metric` must be one of [",
    ),
}


@pytest.mark.parametrize(("text", "problem"), BROKEN.values(), ids=BROKEN.keys())
def test_a_module_must_declare_its_own_ablation(tmp_path, text, problem):
    path = tmp_path / "mine.py"
    path.write_text(text, encoding="utf-8")
    expected = f"{path} must declare ABLATION = Ablation(name='mine', ...), {problem}"
    with pytest.raises(ValueError, match=re.escape(expected)):
        load_ablation(str(path))


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        ({"dlm": "gpt"}, "`start_from` of dlm unique_tokens=1000 seed=0 must be one of ['ar', 'dlm'], but"),
        ({"ar": "ar"}, "`start_from` must not lead in a circle, but ar from ar does."),
        ({"ar": "dlm", "dlm": "ar"}, "`start_from` must not lead in a circle, but ar from dlm from ar does."),
    ],
)
def test_a_run_starts_from_an_arm_that_is_there_and_not_in_the_end_from_itself(presets, starts, message):
    layers = {arm: {"training": {"start_from": starts.get(arm, "")}} for arm in ("ar", "dlm")}
    arms = {arm: {**arm_values(arm), **layer} for arm, layer in layers.items()}
    with pytest.raises(ValueError, match=re.escape(message)):
        cells(tiny_ablation(arms=arms), "tiny")


def test_a_run_starts_from_that_of_its_level_and_seed(presets):
    arms = {"dlm": {**arm_values("dlm"), "training": {"start_from": "ar"}}, "ar": arm_values("ar")}
    made = cells(tiny_ablation(arms=arms), "tiny", seeds=2)
    starts = [start_of(cell, made) for cell in made]
    assert [start and start.arm for start in starts] == ["ar", None] * 4
    assert all(
        start is None or (start.level, start.seed) == (cell.level, cell.seed)
        for cell, start in zip(made, starts, strict=True)
    )


@pytest.mark.parametrize(("members", "twins"), [(1, 0), (3, 1)])
def test_members_and_twins_stand_beside_the_runs(presets, members, twins):
    scale = Scale({"data.unique_tokens": (1000, 2000)}, seeds=2, budget="", members=members, twins=twins)
    made = cells(tiny_ablation(scales={"tiny": scale}, ensembles={"ar_ensemble": "ar"}), "tiny")
    assert made[:8] == cells(tiny_ablation(), "tiny", seeds=2)
    beside = made[8:]
    assert {cell.label for cell in beside if cell.role == "member"} == {
        f"ar unique_tokens={budget} seed={seed},member={member}"
        for budget in (1000, 2000)
        for seed in (0, 1)
        for member in range(1, members)
    }
    assert (
        {cell.label for cell in beside if cell.role == "twin"}
        == {f"{arm} unique_tokens={budget} seed=0,twin" for budget in (1000, 2000) for arm in ("ar", "dlm")}
        if twins
        else not [cell for cell in beside if cell.role == "twin"]
    )
    for cell in beside:
        (first,) = (
            one for one in made[:8] if (one.arm, one.level, one.seed) == (cell.arm, cell.level, cell.seed)
        )
        same = cell.config.model_copy(update={"member": 0, "training": first.config.training})
        assert same == first.config
        assert (cell.config.member > 0) == (cell.role == "member")
        assert cell.config.training.perturbation == (1e-6 if cell.role == "twin" else 0)


def alone_ablation(**more):
    levels = {"data.unique_tokens": (1000, 2000), "model.width": (32, 64)}
    alone = {"ar": {"data.unique_tokens": (4000,)}}
    scale = Scale(levels, seeds=2, budget="", alone=alone, **more)
    return tiny_ablation(scales={"tiny": scale}, ensembles={"ar_ensemble": "ar"})


def test_an_arm_has_levels_alone_after_what_is_compared(presets):
    made = cells(alone_ablation(members=2, twins=1), "tiny")
    compared = [cell for cell in made if cell.level["data.unique_tokens"] < 4000]
    shared = replace(alone_ablation().scales["tiny"], alone={}, members=2, twins=1)
    assert compared == cells(tiny_ablation(scales={"tiny": shared}, ensembles={"ar_ensemble": "ar"}), "tiny")
    # Of the factors that are not its own it has all levels; neither members nor twins stand beside it.
    alone = [cell for cell in made if cell not in compared]
    assert [(cell.arm, cell.role, cell.level["model.width"], cell.seed) for cell in alone] == [
        ("ar", "run", width, seed) for width in (32, 64) for seed in (0, 1)
    ]
    assert made[16:20] == alone
    assert {cell.config.data.unique_tokens for cell in alone} == {4000}


@pytest.mark.parametrize(
    ("levels", "alone"), [("data.unique_tokens=500", []), ("model.width=128", [(4000, 128)] * 2)]
)
def test_levels_of_the_users_take_the_place_of_those_that_an_arm_has_alone(presets, levels, alone):
    made = cells(alone_ablation(), "tiny", levels=parse_levels([levels]))
    both = {str(cell.level) for cell in made if cell.arm == "dlm"}
    assert [tuple(cell.level.values()) for cell in made if str(cell.level) not in both] == alone


@pytest.mark.parametrize("alone", [{"x": {"data.unique_tokens": (1,)}}, {"ar": {"model.width": (1,)}}])
def test_what_an_arm_has_alone_is_of_arms_and_levels_that_there_are(alone):
    scale = Scale({"data.unique_tokens": (1000,)}, seeds=1, budget="", alone=alone)
    with pytest.raises(ValueError, match=r"`alone` must be of the arms .* and the levels .*, but got"):
        tiny_ablation(scales={"tiny": scale})


def test_what_is_best_for_single_arms_lies_between_preset_and_arm(presets):
    path = lab.config.PRESETS_DIR / "tiny.yaml"
    best = {"ar": {"training": {"weight_decay": 1.5}, "model": {"mlp_dropout": 0.4}}}
    path.write_text(yaml.safe_dump({**TINY, "arms": best}), encoding="utf-8")
    arms = {"ar": arm_values("ar"), "ar_wet": {**arm_values("ar"), "model": {"mlp_dropout": 0.1}}}
    made = cells(tiny_ablation(arms=arms, strong=("ar",), sections=()), "tiny", seeds=1)
    assert [(cell.config.training.weight_decay, cell.config.model.mlp_dropout) for cell in made[:2]] == [
        (1.5, 0.4),
        (0.1, 0.1),
    ]
    shared = cells(tiny_ablation(arms=arms, sections=()), "tiny", seeds=1)
    assert {cell.config.training.weight_decay for cell in shared} == {0.1}
    overridden = cells(
        tiny_ablation(arms=arms, strong=("ar",), sections=()),
        "tiny",
        seeds=1,
        overrides={"training": {"weight_decay": 0.2}},
    )
    assert {cell.config.training.weight_decay for cell in overridden} == {0.2}
    path.write_text(yaml.safe_dump({**TINY, "arms": ["ar"]}), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"`arms` of preset tiny must map arms to values, but got arms=\['ar'\]"
    ):
        cells(tiny_ablation(arms=arms, sections=()), "tiny", seeds=1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strong": ("dlm_x",)}, r"`strong` must be among the arms .*, but got \['dlm_x'\]"),
        ({"ensembles": {"many": "dlm_x"}}, r"`ensembles` must be among the arms .*, but got \['dlm_x'\]"),
        ({"ensembles": {"ar": "ar"}}, r"`ensembles` must have names that no arm has, but got \['ar'\]"),
    ],
)
def test_strong_arms_and_ensembles_are_of_arms_that_there_are(changes, said):
    with pytest.raises(ValueError, match=said):
        tiny_ablation(**changes)
