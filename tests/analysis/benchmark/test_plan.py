"""Which configurations an option list gives, and which of them are compared."""

import pytest

from ppcls_ext.analysis.benchmark.plan import Options, Selector, pairs, parse_selectors, parts, plan
from ppcls_ext.analysis.benchmark.results import Case, Row
from ppcls_ext.analysis.benchmark.targets import Target

ZERO = Target("Zero", "ppcls_ext", (224, 224))
BIG = Target("Big", "ppcls_ext", (384, 384))
EXPORT = Target("folder", "folder", (32, 48), folder="folder", precision="fp32")


def cases(targets, **options):
    return [job.case for job in plan(targets, Options(**options))]


def test_the_product_of_all_options():
    found = cases(
        [ZERO, BIG],
        engines=["eager", "paddle"],
        precisions=["fp32", "bf16"],
        batches=[1, 8],
        resolutions=[(32, 32), (32, 64)],
        threads=[1, 2],
        modes=["forward", "train"],
    )
    assert len(found) == len(set(found)) == 2 * 2 * 2 * 2 * 2 * 2 * 2


def test_what_is_not_said_is_the_models_own():
    assert [(c.engine, c.precision, c.resolution) for c in cases([ZERO, BIG, EXPORT])] == [
        ("eager", "fp32", "224"),
        ("eager", "fp32", "384"),
        ("auto", "fp32", "32x48"),
    ]


@pytest.mark.parametrize(
    "target, options, reason",
    [
        (EXPORT, {"engines": ["eager"]}, "runs in an engine, not in eager mode"),
        (EXPORT, {"modes": ["train"]}, "cannot be trained"),
        (EXPORT, {"precisions": ["bf16"]}, "the folder was exported in fp32"),
        (ZERO, {"engines": ["paddle"], "modes": ["train"]}, "cannot be trained"),
        (ZERO, {"engines": ["onnxruntime"], "precisions": ["fp16"]}, "exported in fp32; fp16 is for the engine eager"),
        (ZERO, {"precisions": ["int8"]}, "int8 is an export of its own"),
        (ZERO, {"precisions": ["bf16"], "modes": ["train"]}, None),
        (ZERO, {"engines": ["auto"], "modes": ["predict"]}, None),
        (EXPORT, {"engines": ["openvino"], "precisions": ["fp32"]}, None),
    ],
)
def test_what_cannot_be_says_why(target, options, reason):
    (job,) = plan([target], Options(**options))
    assert (job.refusal is None) == (reason is None)
    assert reason is None or reason in job.refusal


# ---- comparing ----------------------------------------------------------------------------------------------------

RUN = cases([ZERO, BIG], engines=["eager", "paddle"], batches=[1, 8], resolutions=[(8, 8)], threads=[2])


def compared(*words, run=RUN):
    return pairs(run, parse_selectors(words, run))


def test_two_models_are_compared_in_every_configuration():
    found = compared("Zero", "Big")
    assert len(found) == 4
    assert all(a.model == "Zero" and b == a.model_copy(update={"model": "Big"}) for a, b in found)


def test_fields_may_be_named_and_joined():
    assert [(a.batch, b.batch) for a, b in compared("batch_size=8", "batch_size=1")] == [(8, 1)] * 4
    (pair, other) = compared("Zero,eager", "model=Big,engine=paddle")
    assert [(a.engine, b.engine, a.batch) for a, b in (pair, other)] == [("eager", "paddle", 1), ("eager", "paddle", 8)]


def test_sizes_are_compared_by_what_they_are_called():
    run = cases([ZERO], resolutions=[(32, 32), (32, 64)])
    assert [(a.width, b.width) for a, b in compared("32x64", "resolution=32", run=run)] == [(64, 32)]


@pytest.mark.parametrize(
    "words, message",
    [
        (("Zeri", "Big"), "nothing in this run is called so; did you mean Zero?"),
        (("2", "Big"), None),
        (("8", "Big"), "say which is meant, batch_size=8 or resolution=8"),
        (("batch=8", "Big"), "there is no 'batch'; did you mean batch_size?"),
        (("batch_size=2", "Big"), "batch_size is 1 or 8 in this run"),
    ],
)
def test_mistakes_in_a_comparison(words, message):
    if message is None:
        assert parse_selectors(words, RUN)[0] == Selector((("threads", "2"),))
        return
    with pytest.raises(ValueError) as caught:
        compared(*words)
    assert message in str(caught.value)


def test_one_side_must_name_one_partner():
    run = cases([ZERO], engines=["eager", "paddle", "openvino"])
    with pytest.raises(ValueError, match="several partners"):
        pairs(run, (Selector((("engine", "eager"),)), Selector((("model", "Zero"),))))


def test_what_differs_otherwise_is_no_pair():
    with pytest.raises(ValueError, match="no two configurations"):
        compared("Zero", "Zero")
    with pytest.raises(ValueError, match="different sizes need --resolution"):
        compared("Zero", "Big", run=cases([ZERO, BIG]))


# ---- parts --------------------------------------------------------------------------------------------------------


def groups(targets, pair=(), at_once=4, **options):
    jobs = plan(targets, Options(**options))
    return [[job.case for job in part] for part in parts(jobs, pair, at_once)]


def test_engines_of_a_model_share_their_rounds():
    found = groups([ZERO, BIG], engines=["eager", "paddle", "openvino"], batches=[1, 8])
    assert [{(c.model, c.batch) for c in part} for part in found] == [
        {("Zero", 1)},
        {("Zero", 8)},
        {("Big", 1)},
        {("Big", 8)},
    ]


def test_parts_are_filled_up_and_lose_nothing():
    found = groups([ZERO, BIG], batches=[1, 2, 3, 4, 5], at_once=4)
    assert [len(part) for part in found] == [4, 4, 2]
    assert [case for part in found for case in part] == cases([ZERO, BIG], batches=[1, 2, 3, 4, 5])


def test_what_is_compared_shares_its_rounds():
    options = {"batches": [1, 8], "resolutions": [(32, 32)]}
    run = cases([ZERO, BIG], **options)
    found = groups([ZERO, BIG], compared("Zero", "Big", run=run), at_once=1, **options)
    assert [{(c.model, c.batch) for c in part} for part in found] == [
        {("Zero", 1), ("Big", 1)},
        {("Zero", 8), ("Big", 8)},
    ]


def test_labels():
    case = Case(model="A", batch=8, threads=2)
    assert str(case) == "A, eager, fp32, batch 8, 224, 2 threads, forward"
    assert case.label(["engine", "model"]) == "A, eager"
    assert str(Row(case=case).case) == str(case)
