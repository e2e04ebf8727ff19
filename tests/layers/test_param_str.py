"""The reader of param_str: three notations, no traps, errors that list what is known."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rloss_caffe.layers.param_str import Parameter, ParameterError, read_parameters

SCHEMA = [
    Parameter("bi_xy_std", "float", 15.0, above=0, doc="bandwidth"),
    Parameter("max_iter", "int", 10, minimum=0, maximum=1000),
    Parameter("output_probability", "bool", True),
    Parameter("label_type", "string", "IMAGE", choices=["NONE", "IMAGE", "PIXEL"]),
    Parameter("mean_value", "float", [], repeated=True),
]


def read(text, schema=SCHEMA):
    return read_parameters(text, schema, "MyLayer")


@pytest.mark.parametrize("text", ["", "  \n", "{}", "# nothing", "null", "None"])
def test_nothing_gives_the_defaults(text):
    parameters = read(text)
    assert parameters.bi_xy_std == 15.0 and parameters.max_iter == 10 and parameters.mean_value == []
    assert parameters.given == frozenset()


@pytest.mark.parametrize(
    "text",
    [
        "bi_xy_std: 1e-8\nmax_iter: 3\noutput_probability: false\nlabel_type: PIXEL\nmean_value: [104, 116.5, 122]",
        "bi_xy_std: 1.0e-8\nmax_iter: 3.0\noutput_probability: no\nlabel_type: 'PIXEL'\n"
        "mean_value:\n- 104\n- 116.5\n- 122",
        "{bi_xy_std: 1e-8, max_iter: 3, output_probability: false, label_type: PIXEL, mean_value: [104, 116.5, 122]}",
        '{"bi_xy_std": 1e-8, "max_iter": 3, "output_probability": false, "label_type": "PIXEL",'
        ' "mean_value": [104, 116.5, 122]}',
        "{'bi_xy_std': 1e-8, 'max_iter': 3, 'output_probability': False, 'label_type': 'PIXEL',"
        " 'mean_value': (104, 116.5, 122)}",
    ],
)
def test_three_notations(text):
    parameters = read(text)
    assert parameters.bi_xy_std == 1e-8 and isinstance(parameters.bi_xy_std, float)
    assert parameters.max_iter == 3 and isinstance(parameters.max_iter, int)
    assert parameters.output_probability is False and parameters.label_type == "PIXEL"
    assert parameters.mean_value == [104, 116.5, 122]
    assert parameters.given == {parameter.name for parameter in SCHEMA}


@pytest.mark.parametrize("text, value", [("1e-8", 1e-8), ("1E5", 1e5), ("+2.5e+3", 2500), (".5e1", 5), ("3.e0", 3)])
def test_numbers_with_exponents(text, value):
    assert read(f"bi_xy_std: {text}").bi_xy_std == value
    assert read(f"{{bi_xy_std: {text}}}").bi_xy_std == value


def test_one_value_stands_for_a_list():
    assert read("mean_value: 7").mean_value == [7.0]


@pytest.mark.parametrize(
    "text, problem",
    [
        ("bi_xystd: 3", "unknown parameter 'bi_xystd', did you mean 'bi_xy_std'?"),
        ("zzz: 3", "unknown parameter 'zzz'"),
        ("3: 3", "unknown parameter 3"),
        ("bi_xy_std: 0", "bi_xy_std must be float > 0, found 0"),
        ("bi_xy_std: -1e-3", "bi_xy_std must be float > 0, found -0.001"),
        ("bi_xy_std: true", "bi_xy_std must be float > 0, found True"),
        ("bi_xy_std: .inf", "bi_xy_std must be float > 0, found inf"),
        ("bi_xy_std: .nan", "bi_xy_std must be float > 0, found nan"),
        ("bi_xy_std: 'x'", "bi_xy_std must be float > 0, found 'x'"),
        ("bi_xy_std: [1]", "bi_xy_std must be float > 0, found [1]"),
        ("bi_xy_std: None", "bi_xy_std must be float > 0, found None"),
        ("max_iter: 1.5", "max_iter must be int >= 0 <= 1000, found 1.5"),
        ("max_iter: 1001", "max_iter must be int >= 0 <= 1000, found 1001"),
        ("output_probability: 1", "output_probability must be bool, found 1"),
        ("label_type: pixel", "label_type must be one of NONE, IMAGE, PIXEL, found 'pixel'"),
        ("mean_value: [1, a]", "mean_value must be list of float, found [1, 'a']"),
        ("max_iter: 1\nmax_iter: 2", "'max_iter' is given twice"),
        ("{'max_iter': 1, 'max_iter': 2}", "given twice"),
        ('{"max_iter": 1, "output_probability": true, "max_iter": 2}', "given twice"),
        ("just text", "expected 'name: value' pairs, found str"),
        ("[1, 2]", "expected 'name: value' pairs, found list"),
        ("{bi_xy_std: (1, 2)}", "neither a Python dict literal nor JSON"),
        ("{'bi_xy_std': __import__('os').getpid()}", "neither a Python dict literal nor JSON"),
        ("bi_xy_std: !!python/object/apply:os.getpid []", "cannot be read"),
        ("a: [", "cannot be read"),
    ],
)
def test_errors_say_what_was_found_and_what_is_known(text, problem):
    with pytest.raises(ParameterError) as caught:
        read(text)
    message = str(caught.value)
    assert message.startswith("MyLayer param_str: ") and problem in message
    assert "bi_xy_std (float > 0, default 15.0): bandwidth" in message and "label_type (one of" in message


def test_required_parameters():
    schema = [Parameter("source", "string", required=True)]
    assert read("source: list.txt", schema).source == "list.txt"
    with pytest.raises(ParameterError, match=r"source must be given\n.*\n.*source \(string, required\)"):
        read("", schema)


def test_a_layer_without_parameters():
    with pytest.raises(ParameterError, match="takes no parameters"):
        read("a: 1", [])


def test_text_only():
    with pytest.raises(ParameterError, match="expected text, found int"):
        read(3)


values = {
    "bi_xy_std": st.floats(1e-300, 1e300),
    "max_iter": st.integers(0, 1000),
    "output_probability": st.booleans(),
    "label_type": st.sampled_from(["NONE", "IMAGE", "PIXEL"]),
    "mean_value": st.lists(st.floats(allow_nan=False, allow_infinity=False)),
}


@given(st.fixed_dictionaries({}, optional=values))
def test_round_trip(mapping):
    for text in (json.dumps(mapping), repr(mapping), "\n".join(f"{k}: {json.dumps(v)}" for k, v in mapping.items())):
        parameters = read(text)
        assert parameters.given == set(mapping)
        for name, value in mapping.items():
            assert getattr(parameters, name) == value


@given(st.text(alphabet=st.sampled_from("{}[](),:'\"#&*!|>-%@`\n \tabx_1.e\\$0?~=")) | st.text())
def test_any_text_is_read_or_refused(text):
    try:
        read(text)
    except ParameterError as error:
        assert "known parameters" in str(error)


scalars = st.none() | st.booleans() | st.floats() | st.text()
trees = st.recursive(scalars, lambda children: st.lists(children) | st.dictionaries(st.text(), children))


@given(trees)
def test_any_value_is_read_or_refused(value):
    for text in (f"bi_xy_std: {json.dumps(value)}", repr({"bi_xy_std": value})):
        with contextlib.suppress(ParameterError):
            assert read(text).bi_xy_std > 0
