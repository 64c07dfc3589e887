"""Model specifications in TOML: the shipped ones, and refusals of what is wrong."""

import pytest

import hiercorr as hc
from hiercorr.specification import read_specification, shipped_models


def test_specifications(tmp_path):
    assert shipped_models() == [
        "across_cell_types",
        "bayesian",
        "bayesian_joint",
        "cell_types",
        "differential",
        "direct_partners",
        "module_differences",
        "module_traits",
        "modules",
        "pooled_cscore",
        "power",
        "pseudobulk",
        "pseudobulk_adjusted",
        "pseudobulk_interaction",
        "score",
        "signature",
        "within",
        "within_adjusted",
    ]
    for name in shipped_models():
        spec = read_specification(f"models/{name}.toml")
        assert spec.name == name
        assert spec.text["references"][0]["text"]
    assert read_specification("within").fit["estimator"] == "within"
    for text, message in (
        ("name = ", "not valid TOML"),
        ("nome = 'a'", "unknown key .*'nome'; did you mean 'name'"),
        ("model = 'CSCore'\n[fit]\nestimater = 'within'", "did you mean 'estimator'"),
        (
            "model = 'Magic'",
            "unknown model .*'Magic'; there are: 'AcrossCellTypes', 'Bayes",
        ),
        ("model = 'Pseudobulk'\n[fit]\nestimator = 'within'", "unknown key in .fit.*'estimator'"),
        ("title = 'no model'", "unknown model in .*None"),
    ):
        path = tmp_path / "m.toml"
        path.write_text(text)
        with pytest.raises(hc.InputError, match=message):
            read_specification(path)
    with pytest.raises(hc.InputError, match="unknown model specification"):
        read_specification("withim")
