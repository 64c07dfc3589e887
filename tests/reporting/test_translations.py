"""The report in Chinese."""

import pytest

import hiercorr as hc

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.mark.usefixtures("undrawn")
def test_in_chinese(gbm, within, between, tmp_path):
    design = hc.check_design(gbm, "sample_id", depth="total_counts")
    found = hc.evidence("FTL", within=within, between=between)
    path = hc.report(
        tmp_path / "r.html",
        within,
        design=design,
        evidence=found,
        gene="FTL",
        n=30,
        language="zh",
    )
    text = path.read_text()
    words = (
        "FTL 的伙伴基因",
        "相关系数",
        "方法",
        "搜索",
        "来源与版本",
        "样本内相关系数",
        "样本间q 值",
        "未知",
        "分析须经同行评审",
    )
    for part in ('<html lang="zh">', *words, "每细胞基因数", "CS-CORE(样本内)"):
        assert part in text
    assert '<p lang="en">' in text
    with pytest.raises(hc.InputError, match="language must be one of"):
        hc.report(tmp_path / "r.html", within, language="xx")
