"""The reader of param_str: three notations, no traps, errors that list what is known."""

import contextlib
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rloss_caffe.layers.param_str import Parameter, ParameterError, read_parameters

SCHEMA = [
    Parameter("bi_xy_std", "float", 15.0, above=0, doc="bandwidth"),
    Parameter("max_iter", "int", 10, minimum=0, maximum=1000),
    Parameter("output_probability", "bool", True),
    Parameter("label_type", "string", "IMAGE", choices=["NONE", "IMAGE", "PIXEL"]),
    Parameter("mean_value", "float", [], repeated=True),
    Parameter("count", "int", 0),
]


def read(text, schema=SCHEMA):
    return read_parameters(text, schema, "MyLayer")


@pytest.mark.parametrize("text", ["", "  \n", "\t", "{}", "# nothing", "null", "None"])
def test_nothing_gives_the_defaults(text):
    parameters = read(text)
    assert parameters.bi_xy_std == 15.0 and parameters.max_iter == 10 and parameters.mean_value == []
    assert parameters.given == frozenset()


@pytest.mark.parametrize(
    "text",
    [
        "bi_xy_std: 1e-8\nmax_iter: 3\noutput_probability: false\nlabel_type: PIXEL\nmean_value: [104, 116.5, 122]\n"
        "count: -2",
        "bi_xy_std: 1.0e-8\nmax_iter: 3.0\noutput_probability: no\nlabel_type: 'PIXEL'\n"
        "mean_value:\n- 104\n- 116.5\n- 122\ncount: -2",
        "{bi_xy_std: 1e-8, max_iter: 3, output_probability: false, label_type: PIXEL, mean_value: [104, 116.5, 122],"
        " count: -0x2}",
        '{"bi_xy_std": 1e-8, "max_iter": 3, "output_probability": false, "label_type": "PIXEL",'
        ' "mean_value": [104, 116.5, 122], "count": -2}',
        "{'bi_xy_std': 1e-8, 'max_iter': 3, 'output_probability': False, 'label_type': 'PIXEL',"
        " 'mean_value': (104, 116.5, 122), 'count': -2}",
    ],
)
def test_three_notations(text):
    parameters = read(text)
    assert parameters.bi_xy_std == 1e-8 and isinstance(parameters.bi_xy_std, float)
    assert parameters.max_iter == 3 and isinstance(parameters.max_iter, int)
    assert parameters.output_probability is False and parameters.label_type == "PIXEL"
    assert parameters.mean_value == [104, 116.5, 122]
    assert parameters.count == -2
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
        ("bi_xy_std: 1e-50", "bi_xy_std must be float > 0, found 1e-50"),  # 0 in single precision
        ("bi_xy_std: 1e39", "found 1e+39, beyond the range of single precision"),
        ("mean_value: [1, -1e39]", "mean_value must be list of float, found [1, -1e+39], beyond the range"),
        ("bi_xy_std: .inf", "bi_xy_std must be float > 0, found inf"),
        ("bi_xy_std: .nan", "bi_xy_std must be float > 0, found nan"),
        ("bi_xy_std: 'x'", "bi_xy_std must be float > 0, found 'x'"),
        ("bi_xy_std: [1]", "bi_xy_std must be float > 0, found [1]"),
        ("bi_xy_std: None", "bi_xy_std must be float > 0, found None"),
        ("max_iter: 1.5", "max_iter must be int from 0 to 1000, found 1.5"),
        ("max_iter: 1001", "max_iter must be int from 0 to 1000, found 1001"),
        ("max_iter: 010", "max_iter must be int from 0 to 1000, found '010'"),
        ("max_iter: 1:00", "found '1:00'"),
        ("count: 1e26", "count must be int, found 1e+26, too large for 32 bits"),
        ("count: -3000000000", "count must be int, found -3000000000, too small for 32 bits"),
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
    assert "bi_xy_std (float > 0, default 15): bandwidth" in message and "label_type (one of" in message


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


def test_a_date_is_text():
    assert read("source: 2012-11-05", [Parameter("source", "string")]).source == "2012-11-05"


def test_lists_are_the_callers_own():
    read("").mean_value.append(3.0)
    assert read("").mean_value == []


values = {
    "bi_xy_std": st.floats(1e-44, 3.4e38),
    "max_iter": st.integers(0, 1000),
    "output_probability": st.booleans(),
    "label_type": st.sampled_from(["NONE", "IMAGE", "PIXEL"]),
    "mean_value": st.lists(st.floats(-3.4e38, 3.4e38)),
    "count": st.integers(-(2**31), 2**31 - 1),
}


@settings(deadline=None)
@given(st.fixed_dictionaries({}, optional=values))
def test_round_trip(mapping):
    for text in (json.dumps(mapping), repr(mapping), "\n".join(f"{k}: {json.dumps(v)}" for k, v in mapping.items())):
        parameters = read(text)
        assert parameters.given == set(mapping)
        for name, value in mapping.items():
            assert getattr(parameters, name) == value


FRAGMENTS = [
    *("!!bool ", "!!int ", "!!float ", "!!timestamp ", "!!binary ", "!!set ", "!!omap ", "!!str ", "!!null ", "!!map "),
    *("!!seq ", "&a ", "*a", "<<: ", "max_iter: ", "count: ", "mean_value: ", "bi_xy_std: ", "label_type: "),
    *("[", "]", "{", "}", "(", ")", ",", ": ", "\n", "\n  ", "- ", "? ", "'", '"', "0x", "1e9", "1:00", "%YAML", "---"),
    *("...", "|", ">", "!", "@", "\\", "#", "~", "1", "9" * 50, "true", "None", "x", "\ud800", "\x00", "\ufeff", "é"),
]


@settings(deadline=None)
@given(st.text() | st.lists(st.sampled_from(FRAGMENTS)).map("".join), st.integers(1, 300), st.sampled_from(["", "{"]))
def test_any_text_is_read_or_refused(text, times, start):
    try:
        read(start + text * times)
    except ParameterError as error:
        problem, _, known = str(error).partition("known parameters")
        assert known and len(problem) < 1000


HOSTILE = {
    "a bool that is none": "output_probability: !!bool x",
    "an empty int": "max_iter: !!int ''",
    "a timestamp": "label_type: !!timestamp x",
    "binary": "label_type: !!binary x",
    "a set": "!!set [a]",
    "a mapping as list": "!!seq {a: b}",
    "a list as name": "? [1]\n: 2",
    "a mapping as name": "{{}: 2}",
    "deep lists": "count: " + "[" * 9000,
    "deep JSON": '{"a":' * 1900,
    "deep dicts": "{'a':" * 1900,
    "deep blocks": "- " * 4900,
    "deep names": "? " * 4900,
    "10^6 brackets": "[" * 10**6,
    "many hexadecimal digits": "count: 0x" + "f" * 5000,
    "many digits": "count: " + "9" * 5000,
    "many digits in a dict": "{'count': " + "9" * 5000 + "}",
    "many digits in JSON": '{"count": ' + "9" * 5000 + ', "output_probability": true}',
    "base 60": "count: 1" + ":00" * 3000,
    "base 60 with a fraction": "bi_xy_std: 1" + ":00" * 3000 + ".5",
    "an alias bomb": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi")),
    "an alias bomb as value": "mean_value: [&a [x,x,x,x,x,x,x,x,x],"
    + ",".join(f"&{b} [{','.join(['*' + a] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi"))
    + "]",
    "a list that holds itself": "count: &a [*a]",
    "a long sum": "{'count': " + "+".join(["1"] * 10**6) + "}",
    "a sum": "{'count': " + "+".join(["1"] * 4000) + "}",
    "a sum with spaces": "{'count': " + " -1" * 3000 + "}",
    "a sum of words and strings": "{'count': 'a'" + "+1" * 4000 + ", 'b': True" + "-1" * 500 + "}",
    "signs": "{'count': " + "-" * 9000 + "1}",
    "words": "{'count': " + "not " * 2000 + "1}",
    "a function": "{'count': " + "lambda:" * 1300 + "1}",
    "a long name": "'" + "y" * 900 + "': 1",
    "a long JSON name": '{"' + "y" * 9000 + '": 1}',
    "many names": "\n".join(f"a{n}: 1" for n in range(900)),
    "megabytes": "x" * 5_000_000,
}
CHILD = """
import json, resource, sys, time
from rloss_caffe.layers.param_str import ParameterError, read_parameters
sys.path.insert(0, {folder!r})
from test_param_str import HOSTILE, SCHEMA
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 100_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for name, text in HOSTILE.items():
    start = time.process_time()
    try:
        problem = str(read_parameters(text, SCHEMA, "MyLayer").given)
    except ParameterError as error:
        problem = str(error)
    print(json.dumps([name, problem, time.process_time() - start]), flush=True)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits its memory as Linux counts it")
def test_hostile_texts_end_in_an_error_within_a_second_and_100_megabytes():
    child = CHILD.format(folder=__file__.rpartition("/")[0])
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, timeout=120)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(results) == len(HOSTILE), (results[-1:], done.stderr[-2000:])
    for name, problem, seconds in results:
        assert problem.startswith("MyLayer param_str: "), name
        assert len(problem) < 1500 and seconds < 1, name


scalars = st.none() | st.booleans() | st.floats() | st.text()
trees = st.recursive(scalars, lambda children: st.lists(children) | st.dictionaries(st.text(), children))


@settings(deadline=None)
@given(trees)
def test_any_value_is_read_or_refused(value):
    for text in (f"bi_xy_std: {json.dumps(value)}", repr({"bi_xy_std": value})):
        with contextlib.suppress(ParameterError):
            assert read(text).bi_xy_std > 0
        with contextlib.suppress(ParameterError):
            assert read(text.replace("bi_xy_std", "label_type")).label_type in ("NONE", "IMAGE", "PIXEL")
