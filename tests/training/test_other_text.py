"""A finished run on any text, and what it writes: from Python and by the commands."""

import json

import numpy as np
import pytest
from rich.console import Console
from training_bench import write_corpus
from typer.testing import CliRunner

import lab.__main__
from lab.config import make_config
from lab.data.dataset import prepare
from lab.data.ngram import fit
from lab.data.tokenizers import ByteTokenizer


def invoke(*arguments):
    """A command that ends well."""
    said = CliRunner().invoke(lab.__main__.app, list(map(str, arguments)))
    assert said.exit_code == 0, said.output
    return said


def refused(*arguments):
    said = CliRunner().invoke(lab.__main__.app, list(map(str, arguments)))
    assert (said.exit_code, said.stdout) == (2, "")
    assert said.stderr.count("\n") == 1
    return said.stderr.removeprefix("error: ").strip()


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Three documents of words that the corpus has not."""
    folder = tmp_path_factory.mktemp("other")
    for number in range(3):
        words = np.random.default_rng(number).choice(["e", "ee", "1a", "b22", "3"], 30 + 40 * number)
        (folder / f"{number}.txt").write_text(" ".join(words))
    return folder


@pytest.fixture
def evaluated(undisturbed, text):
    def evaluated(arm, *arguments, data=text):
        run = undisturbed(arm)
        said = invoke("eval", run.logdir, "--data", data, "--cache", run.cache, "--json", *arguments)
        return run, json.loads(said.stdout), said.stderr

    return evaluated


def windows_of(text):
    """All that there are, cut by hand: as many as each document has places for apart."""
    documents = [[*path.read_bytes(), ByteTokenizer().end_id] for path in sorted(text.glob("*.txt"))]
    return [max(1, (len(document) - 15) // 16) for document in documents]


@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_all_of_a_text_is_measured_as_the_test_split_would_be(arm, evaluated, undisturbed, text):
    """Against the chain rule and an n-gram on windows that are drawn here."""
    from lab.data.held_out import document_means, held_out_windows
    from lab.evaluation.chain_rule import chain_rule_nll
    from lab.training.finished import load_arm

    run, found, _ = evaluated(arm)
    byte, files = ByteTokenizer(), sorted(text.glob("*.txt"))
    tokens = np.concatenate([[*path.read_bytes(), byte.end_id] for path in files])
    assert found["text"]["tokens"] == len(tokens) == found["text"]["bytes"] + 3
    count = sum(windows_of(text))
    settings = {task["measurement"]: task["settings"] for task in found["tasks"]}
    assert (settings["nll"]["windows"], settings["nll"]["positions"]) == (count, 0)
    assert set(settings) == {"nll", "choice"} | ({"nelbo"} if arm == "dlm" else set())
    held_out = held_out_windows(tokens, byte.end_id, count, 16, run.config.replicate)
    loaded = load_arm(run.logdir, run.result.reference(run.result.best()), 257, run.config)
    nll = chain_rule_nll(loaded.scorer, held_out.windows).mean(axis=1)
    means, _ = document_means(nll, held_out.documents)
    values = found["values"]
    assert values["nll"] == pytest.approx(means.mean(), rel=1e-5)
    assert values["nll_standard_error"] == pytest.approx(means.std(ddof=1) / np.sqrt(3), rel=1e-4)
    bytes_per_token, _ = document_means((held_out.windows < 256).mean(axis=1), held_out.documents)
    assert values["bits_per_byte"] == pytest.approx(
        means.mean() / np.log(2) / bytes_per_token.mean(), rel=1e-5
    )
    assert ("nelbo" in values) == (arm == "dlm")
    best = run.result.best()
    assert found["stop"] == {"reading": "annealed", "step": best.step, "epoch": best.epoch}
    # The n-gram counts the run's own unique tokens, in whatever order of its windows.
    ngram = found["baselines"]["n-gram"]
    assert ngram["settings"]["tokens"] == run.result.data.unique_tokens
    assert ngram["values"]["nll"] > found["baselines"]["unigram"]["values"]["nll"] * 0.5
    assert found["baselines"]["uniform"]["values"]["nll"] == pytest.approx(np.log(257))


def test_the_n_gram_counts_the_tokens_of_the_run(evaluated, undisturbed, text):
    from lab.data.budget import budget
    from lab.data.held_out import document_means, held_out_windows

    run, found, _ = evaluated("ar", "--set", "evaluation.test_windows=4")
    train = budget(prepare(run.config.data, run.cache).train, 960, 16, 0)
    counted = fit(np.asarray(train[np.arange(960)], np.int64), 257, 10)
    tokens = np.concatenate([[*path.read_bytes(), 256] for path in sorted(text.glob("*.txt"))])
    held_out = held_out_windows(tokens, 256, 4, 16, 0)
    order = found["baselines"]["n-gram"]["settings"]["order"]
    nll = counted.nll_by_order(held_out.windows)[order - 1].mean(axis=1)
    expected = document_means(nll, held_out.documents)[0].mean()
    assert found["baselines"]["n-gram"]["values"]["nll"] == pytest.approx(expected)
    assert found["tasks"][0]["settings"]["windows"] == 4


def test_the_training_text_is_measured_too_and_is_said_to_be(evaluated, undisturbed, tmp_path):
    _, found, said = evaluated("ar", data=write_corpus(tmp_path / "corpus"))
    assert found["text"]["seen_share"] > 0.5
    (note,) = found["notes"]
    assert said == f"note: {note}\n"
    assert note.endswith("that the training split holds too: there it measures memory")
    assert found["tasks"][0]["settings"]["windows"] > 400  # nothing of it is left out


def test_a_single_or_short_text_is_measured_as_far_as_it_goes(evaluated, tmp_path):
    (tmp_path / "a.txt").write_text("a" * 46)  # with its end, and with it places for two windows
    _, found, said = evaluated("ar", data=tmp_path)
    assert "nll_standard_error" not in found["values"]
    assert found["tasks"][0]["settings"]["windows"] == 2
    assert "note: one document gives no standard error: --set data.document_characters=N cuts it" in said
    (tmp_path / "a.txt").write_text("a" * 15)
    (tmp_path / "b.txt").write_text("b" * 15)
    _, found, said = evaluated("ar", data=tmp_path)
    assert [task["measurement"] for task in found["tasks"]] == ["nll"]
    assert said == "note: too short for multiple choice\n"


def test_the_noise_of_masks_is_not_shown_for_a_standard_error(undisturbed, tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("aa1 b22 " * 12)
    run = undisturbed("dlm")
    monkeypatch.setenv("COLUMNS", "160")
    said = invoke("eval", run.logdir, "--data", tmp_path, "--cache", run.cache).stdout
    (line,) = (line for line in said.splitlines() if "NELBO" in line)
    assert "±" not in line


def test_a_run_on_made_functions_is_measured_on_a_text_too(undisturbed, text, monkeypatch):
    """By a configuration that says so many functions; the weights and the corpus are those of the run."""
    from lab.training import other_text

    run = undisturbed("ar")
    layer = {"data": {"corpus": "functions", "functions": 500, "paths": []}}
    config = make_config(run.config.model_dump(mode="json", exclude_none=True), layer)
    result = run.result.model_copy(update={"config": config})
    monkeypatch.setattr(other_text, "finished_result", lambda logdir: result)
    monkeypatch.setattr(other_text, "corpus_of", lambda *_: prepare(run.config.data, run.cache))
    found = other_text.measure_other_text(run.logdir, "best", [str(text)], {}, run.cache)
    assert (found.config.data.functions, found.text.documents) == (500, 3)


def test_a_text_that_is_too_short_or_asked_too_much_of_is_refused(undisturbed, text, tmp_path):
    run = undisturbed("ar")
    command = ("eval", run.logdir, "--cache", run.cache, "--data")
    (tmp_path / "a.txt").write_text("a" * 45)
    message = (
        "the text must have room for 2 windows of 16 tokens, as one document of 47 tokens has, or two of 16, "
        "but it has 46 tokens in 1 document."
    )
    assert refused(*command, tmp_path) == message
    most = sum(windows_of(text))
    message = (
        f"`evaluation.test_windows` must be <= {most}, for which the text has room, but got {most + 1}: it"
    )
    assert refused(*command, text, "--set", f"evaluation.test_windows={most + 1}").startswith(message)
    assert "`evaluation.choice_items` must be <= " in refused(
        *command, text, "--set", "evaluation.choice_items=99"
    )
    for wrong in ("model.width=8", "data.tokenizer=bpe:300", "seed=3", "evaluation=3", "data=3"):
        message = "an override must be of evaluation, or one of data.document_characters and data.text_field"
        said = refused(*command, text, "--set", wrong)
        assert said.startswith(message)
        assert said.endswith(f"but got {wrong.partition('=')[0]}.")
    assert "there is no file or folder" in refused(*command, tmp_path / "none.txt")
    assert "`stop` must be best or last" in refused(*command, text, "--stop", "first")
    assert "must be the folder of a finished run, but there is none" in refused(
        "eval", "none", "--data", text
    )


def test_eval_prints_a_table_with_what_counting_gives_beside(undisturbed, text, monkeypatch):
    run = undisturbed("dlm")
    monkeypatch.setenv("COLUMNS", "160")
    said = invoke("eval", run.logdir, "--data", text, "--cache", run.cache, "--stop", "last").stdout
    head, rows = said.split("┡")
    for word in (
        "dlm",
        f"annealed stop {run.result.end().step}",
        "n-gram",
        "unigram",
        "uniform",
        "windows of 16",
    ):
        assert word in head
    for name in (
        "NLL (nats/token)",
        "bits per byte (bits/byte)",
        "NELBO (nats/token, a bound)",
        "choice accuracy",
    ):
        assert name in rows
    assert "±" in rows


def test_generate_writes_the_text_alone_and_takes_the_weights_of_the_stop(undisturbed, monkeypatch):
    from lab.evaluation.generation import sample_left_to_right
    from lab.training.finished import load_arm

    run = undisturbed("ar")
    options = ("--tokens", "6", "--samples", "2", "--seed", "7", "--temperature", "0.8", "--top-p", "0.9")
    for which in ("best", "last"):
        said = invoke("generate", run.logdir, "--prompt", "aa1 b", *options, "--stop-at", which)
        stop = run.result.best() if which == "best" else run.result.end()
        arm = load_arm(run.logdir, run.result.reference(stop), 257, run.config)
        prompts = [ByteTokenizer().encode("aa1 b")] * 2
        rows = sample_left_to_right(arm.scorer, prompts, 6, 7, temperature=0.8, top_p=0.9)
        assert said.stdout == "\n---\n".join(ByteTokenizer().decode(row) for row in rows) + "\n"
        assert said.stderr == ""


def test_generate_fills_gaps_and_says_what_it_cannot(undisturbed):
    dlm, ar = undisturbed("dlm").logdir, undisturbed("ar").logdir
    filled = invoke("generate", dlm, "--infill", "aa1 [MASK]b", "--tokens", "3", "--sampler", "confidence")
    assert (filled.stdout[:4], filled.stdout[-2:], filled.stderr) == ("aa1 ", "b\n", "")
    chosen = invoke("generate", ar, "--infill", "aa1 [MASK]b", "--tokens", "3", "--candidates", "4")
    assert "note: ar sees the left side alone: of 4 continuations" in chosen.stderr
    assert refused("generate", dlm, "--infill", "a [MASK]b", "--prompt", "a") == (
        "one of --prompt and --infill must be given, but got both."
    )
    for gapless in ("a b", ""):
        assert "`infill` must have one [MASK]" in refused("generate", dlm, "--infill", gapless)
    assert "but got both." in refused("generate", dlm, "--infill", "", "--prompt", "a")
    assert "`sampler` must be left_to_right for ar" in refused("generate", ar, "--sampler", "ancestral")
    assert "`top_p` must be in (0, 1]" in refused("generate", ar, "--top-p", "0")
    said = CliRunner().invoke(lab.__main__.app, ["generate", str(ar), "--tokens", "0"])
    assert said.exit_code == 2


def test_on_a_terminal_the_final_text_stays(undisturbed, monkeypatch):
    """What is given is dim, and the passes before it are taken away again."""
    import rich.console

    run, plain = undisturbed("dlm").logdir, ("--prompt", "aa1 b", "--tokens", "6")
    terminal = lambda **options: Console(force_terminal=True, width=80, **options)  # noqa: E731
    text = invoke("generate", run, *plain).stdout.strip("\n")
    monkeypatch.setattr(rich.console, "Console", terminal)
    shown = invoke("generate", run, *plain).stdout
    assert shown.count("\x1b[2maa1 b\x1b[0m") > 6  # passes, and the end
    assert shown.rstrip("\n").endswith(text.removeprefix("aa1 b"))
    assert "▒" in shown
