"""Translations of the report; names and the Methods section stay in English."""

from __future__ import annotations

LANGUAGES = ("en", "zh")

_ZH = {
    "Design": "实验设计",
    "Traps of cell-level correlation": "细胞水平相关的陷阱",
    "Evidence at two levels": "两层证据",
    "Enrichment": "富集分析",
    "Figures": "图",
    "Methods": "方法",
    "Provenance": "来源与版本",
    "Samples": "样本",
    "Flags": "标记",
    "Session": "运行环境",
    "Pairs, strongest evidence first": "基因对(证据最强者在前)",
    "Volcano plot": "火山图",
    "exploratory": "探索性",
    "Criteria for a pseudobulk analysis (recommended if two or more are met)": "适用伪批量的条件(满足两条或以上则推荐)",
    "Cells per sample and cell type": "各样本各类型的细胞数",
    "Clustered correlations": "聚类相关矩阵",
    "Distribution of p-values": "p 值的分布",
    "QQ plot": "QQ 图",
    "Diagnostics: detection and flags": "诊断:检出率与标记",
    "Strongest partners in each sample": "各样本中证据最强的伙伴基因",
    "Correlation within and between samples": "样本内与样本间的相关",
    "Dropout, sequencing depth and pseudoreplication": "丢失、测序深度与伪重复",
    "Key findings": "主要发现",
    "Choices": "分析中的选择",
    "download CSV": "下载 CSV",
    "search": "搜索",
    "search in the table": "在表格中搜索",
    "rows shown": "行",
    "skip to content": "跳到正文",
    "sections": "章节",
    "sort by": "按此列排序",
    "scroll the table": "滚动表格",
    "plot": "图",
    "the numbers are in the table of this section": "数值见本节表格",
    "gene": "基因",
    "partner": "伙伴基因",
    "gene a": "基因 A",
    "gene b": "基因 B",
    "correlation": "相关系数",
    "correlation unclipped": "未截断的相关系数",
    "ci lower": "区间下限",
    "ci upper": "区间上限",
    "statistic": "统计量",
    "df": "自由度",
    "p value": "p 值",
    "q value": "q 值",
    "se": "标准误",
    "tau": "τ",
    "lfsr": "局部错误符号率",
    "shrunken correlation": "收缩后的相关系数",
    "shrunken difference": "收缩后的差异",
    "Largest shrunken estimates": "最大的收缩估计",
    "flag": "标记",
    "evidence": "证据",
    "n cells": "细胞数",
    "depth": "测序深度",
    "sample": "样本",
    "value": "值",
    "version": "版本",
    "met": "满足",
    "reason": "原因",
    "prediction lower": "预测下限",
    "prediction upper": "预测上限",
    "tau2": "τ²",
    "i2": "I²",
    "condition": "条件",
    "difference": "差异",
    "mean": "均值",
    "count": "数量",
    "median depth": "测序深度中位数",
    "genes per cell": "每细胞基因数",
    "total depth": "总测序深度",
    "library size": "文库大小",
    "pairs": "基因对数",
    "CS-CORE, within samples": "CS-CORE(样本内)",
    "CS-CORE, pooled over samples": "CS-CORE(合并各样本)",
    "Correlation between samples": "样本间相关",
    "Partial correlation, within samples": "偏相关(样本内)",
    "Difference of correlation within samples": "样本内相关的差异",
    "Decomposition of the correlation over pooled cells": "合并细胞相关的分解",
    "Bayesian correlation, within samples": "贝叶斯相关(样本内)",
    "Bayesian correlation, between samples": "贝叶斯相关(样本间)",
    "Bayesian correlation, within samples (empirical Bayes)": "贝叶斯相关(样本内,经验贝叶斯)",
    "Bayesian correlation, between samples (empirical Bayes)": "贝叶斯相关(样本间,经验贝叶斯)",
    "Exploratory: metacells, CS-CORE, within samples": "探索性:元细胞,CS-CORE(样本内)",
    "Exploratory: metacells, CS-CORE, pooled over samples": "探索性:元细胞,CS-CORE(合并各样本)",
    "Exploratory: cell-level Pearson correlation, within": "探索性:细胞水平 Pearson 相关(样本内)",
    "Exploratory: cell-level Spearman correlation, within": "探索性:细胞水平 Spearman 相关(样本内)",
    "Exploratory: cell-level Pearson correlation, pooled": "探索性:细胞水平 Pearson 相关(合并各样本)",
    "Exploratory: cell-level Spearman correlation, pooled": "探索性:细胞水平 Spearman 相关(合并各样本)",
}
_ZH_CELLS = {
    "yes": "是",
    "no": "否",
    "both levels": "两层皆有",
    "cell-state only": "仅样本内",
    "between-sample only": "仅样本间",
    "discordant": "方向相反",
    "insufficient": "证据不足",
    "not stated": "未说明",
    "unknown": "未知",
    "several samples": "有多个样本",
    "few samples but many cells": "样本少而细胞多",
    "the main claim requires a test": "主要结论需要检验",
    "differences between individuals or batches matter": "个体或批次差异不可忽视",
    "the analysis will be peer-reviewed": "分析须经同行评审",
}
_ZH_LAYERS = {
    "within ": "样本内",
    "between ": "样本间",
    "exploratory ": "探索性",
    "bayesian ": "贝叶斯",
}


def translate(text: str, language: str) -> str:
    """Translate a word or heading; names of genes and cells in a heading stay as they are."""
    if language == "en":
        return text
    if text in _ZH:
        return _ZH[text]
    titles = [t for t in _ZH if text.startswith((f"{t} (", f"{t}, "))]
    if titles:  # of a section, followed by its cells or a number
        title = max(titles, key=len)
        return _ZH[title] + text.removeprefix(title)
    if text.startswith("Partners of "):
        return f"{text.removeprefix('Partners of ')} 的伙伴基因"
    for layer, word in _ZH_LAYERS.items():
        if text.startswith(layer) and text.removeprefix(layer) in _ZH:
            return word + _ZH[text.removeprefix(layer)]
    return _ZH.get(text) or _ZH.get(text[:1].upper() + text[1:], text)


def translate_cell(text: str, language: str) -> str:
    """Translate a cell of a table: classes and answers; names stay as they are."""
    return text if language == "en" else _ZH_CELLS.get(text, text)
